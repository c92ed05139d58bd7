"""Fine-tuning with a learning rate for each layer, and no decay on biases and norms.

A classifier learns the digits 0 to 4 of scikit-learn's digits. Then it gets a new last layer
for all ten digits and is fine-tuned on a few images. The last layer has the full rate, and each
layer before it a rate that is smaller by a factor of 2.6. All rates follow one schedule. For
comparison, all layers are trained with one rate, which does as well on such a small task, and
only the new layer is trained. The output shows the held-out accuracy of each variant.
"""

import copy

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from scalars import (
    CosineAnnealing,
    Horizon,
    Warmup,
    attach,
    layer_optimizer,
    layer_scales,
    no_decay,
)

FEW = 100  # images to fine-tune with


def loss_fn(model: nn.Module, x: mx.array, y: mx.array) -> mx.array:
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


def train(
    model: nn.Module, optimizer: optim.Optimizer, x: mx.array, y: mx.array, steps: int
) -> None:
    group = attach(optimizer)
    loss_and_grad = nn.value_and_grad(model, loss_fn)
    batches = [mx.random.randint(0, len(y), (32,)) for _ in range(steps)]
    for batch in group.track(batches, Horizon(steps)):
        _, grads = loss_and_grad(model, x[batch], y[batch])
        optimizer.update(model, grads)
        mx.eval(model.state, optimizer.state)


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.5, random_state=0, stratify=labels)
    x, x_held_out, y, y_held_out = (mx.array(part) for part in parts)
    x, x_held_out = x.astype(mx.float32), x_held_out.astype(mx.float32)
    low = mx.array([i for i, label in enumerate(parts[2]) if label < 5])

    mx.random.seed(0)
    body = [nn.Linear(64, 64), nn.LayerNorm(64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()]
    trained = nn.Sequential(*body, nn.Linear(64, 5))
    train(trained, optim.Adam(CosineAnnealing(3e-3)), x[low], y[low], steps=300)

    for title in ("a rate for each layer", "one rate", "the last layer only"):
        mx.random.seed(1)
        model = copy.deepcopy(trained)
        model.layers[-1] = nn.Linear(64, 10)
        if title == "the last layer only":
            model.freeze()
            model.layers[-1].unfreeze()
        lr = Warmup(CosineAnnealing(1e-2), 0.1)
        rates = layer_scales(model, lr, 2.6) if title == "a rate for each layer" else lr
        rules = [(no_decay, {"weight_decay": 0.0})]
        optimizer = layer_optimizer(
            optim.AdamW, model, rules, learning_rate=rates, weight_decay=0.05
        )
        train(model, optimizer, x[:FEW], y[:FEW], steps=200)
        peaks = rates.values() if isinstance(rates, dict) else [rates]
        shown = ", ".join(f"{peak.at(0.1):.2g}" for peak in peaks)
        accuracy = (model(x_held_out).argmax(axis=1) == y_held_out).mean().item()
        print(f"{title} (at most {shown}): held-out accuracy {accuracy:.1%}", flush=True)


if __name__ == "__main__":
    main()
