"""A gradual switch from one loss to another, ``w * a + (1 - w) * b``, and a list of losses.

On scikit-learn's digits, the network first learns to reconstruct the image (a) and then,
gradually, to classify the digit (b). A third loss, on the size of the features, is added only
at the end. The weights are scalars, so one update changes all of them, also in the compiled
step. The output shows the three weights and the three losses every 60 steps.
"""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from sklearn.datasets import load_digits

from scalars import CosineAnnealing, Linear, Sequence, attach

STEPS, BATCH = 300, 128


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    x, y = mx.array(images).astype(mx.float32) / 16, mx.array(labels)
    mx.random.seed(0)
    body = nn.Sequential(nn.Linear(64, 64), nn.Tanh())
    model = nn.Sequential(body, nn.Linear(64, 64), nn.Linear(64, 10))
    redraw, name = model.layers[1], model.layers[2]

    w = CosineAnnealing(1.0, 0.0)
    weights = [w, 1 - w, Sequence([0.0, Linear(0.0, 1e-3)], [0.8])]
    optimizer = optim.Adam(2e-3)
    optimizer.init(model.trainable_parameters())
    group = attach(optimizer, w=w, late=weights[2])

    def losses(x: mx.array, y: mx.array) -> list[mx.array]:
        features = body(x)
        drawn = nn.losses.mse_loss(redraw(features), x)
        named = nn.losses.cross_entropy(name(features), y, reduction="mean")
        return [drawn, named, mx.square(features).sum(axis=1).mean()]

    def mixed(x: mx.array, y: mx.array) -> mx.array:
        a, b, c = (weight * loss for weight, loss in zip(weights, losses(x, y), strict=True))
        return a + b + c

    loss_and_grad = nn.value_and_grad(model, mixed)
    state = [model.state, optimizer.state]

    def step(x: mx.array, y: mx.array) -> mx.array:
        loss, grads = loss_and_grad(x, y)
        optimizer.update(model, grads)
        return loss

    compiled = mx.compile(step, inputs=state, outputs=state)
    for i in range(STEPS):
        group.update(i / STEPS)
        batch = mx.random.randint(0, len(labels), (BATCH,))
        mx.eval(compiled(x[batch], y[batch]), state)
        if i % 60 == 0 or i == STEPS - 1:
            drawn, named, size = (loss.item() for loss in losses(x, y))
            shown = "  ".join(f"{float(weight):.4f}" for weight in weights)
            print(
                f"{i:3}  weights {shown}  redraw {drawn:.4f}  name {named:.3f}  size {size:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
