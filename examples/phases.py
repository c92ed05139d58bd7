"""A run in phases, in which the batch size and the learning rate change together.

The loop reads the batch size of the current phase. The learning rate is one scalar over the
whole run, which is passed to the optimizer. The model is trained on scikit-learn's digits. The
output shows the batch size, rate, held-out accuracy and phase after each epoch.
"""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from scalars import CosineAnnealing, Linear, Phase, Phases, attach

PLAN = Phases(
    [
        Phase(2, lr=Linear(0.0, 0.01), batch_size=32, label="warm up, small batches"),
        Phase(6, batch_size=64, label="keep the rate, larger batches"),
        Phase(4, lr=CosineAnnealing(0.01, 1e-4), batch_size=256, label="anneal, large batches"),
    ]
)  # durations in epochs


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.25, random_state=0, stratify=labels)
    x, x_held_out, y, y_held_out = map(mx.array, parts)
    x, x_held_out = x.astype(mx.float32), x_held_out.astype(mx.float32)
    mx.random.seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 10))
    optimizer = optim.AdamW(PLAN.group["lr"])
    attach(optimizer)
    loss_and_grad = nn.value_and_grad(
        model, lambda x, y: nn.losses.cross_entropy(model(x), y, reduction="mean")
    )

    for epoch in range(int(PLAN.total)):
        PLAN.update(epoch / PLAN.total)
        order, batch_size = mx.random.permutation(len(y)), PLAN.current["batch_size"]
        starts = range(0, len(y) - batch_size + 1, batch_size)
        for i, start in enumerate(starts):
            PLAN.update((epoch + i / len(starts)) / PLAN.total)
            batch = order[start : start + batch_size]
            _, grads = loss_and_grad(x[batch], y[batch])
            optimizer.update(model, grads)
            mx.eval(model.state, optimizer.state)
        accuracy = (model(x_held_out).argmax(axis=1) == y_held_out).mean().item()
        print(
            f"epoch {epoch + 1:2}  batch size {batch_size:3}  lr {PLAN.group['lr']:.4f}  "
            f"held-out accuracy {accuracy:.2%}  {PLAN.current['label']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
