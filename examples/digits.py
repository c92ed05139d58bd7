"""Handwritten digits with a scheduled rate, weight decay, dropout and loss weight.

Trains a classifier on scikit-learn's digits (1,797 real images that ship with scikit-learn)
four times: with schedules and with constant values, each eagerly and compiled. One call
updates all schedules before each step. The auxiliary loss reconstructs the image from the
features, and its weight falls to 0. The output shows a progress bar with all values, and the
accuracy on held-out images after each run.
"""

import argparse
from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from rich.progress import BarColumn, Progress, TextColumn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from scalars import Constant, CosineAnnealing, Horizon, Linear, ScalarGroup, Warmup, attach

BATCH = 64


class Classifier(nn.Module):
    """Two hidden layers, with one head for the class and one that reconstructs the image."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.hidden = [nn.Linear(64, 128), nn.Linear(128, 128)]
        self.dropout = nn.Dropout(dropout)
        self.classes, self.image = nn.Linear(128, 10), nn.Linear(128, 64)

    def __call__(self, x: mx.array) -> tuple[mx.array, mx.array]:
        for layer in self.hidden:
            x = self.dropout(nn.relu(layer(x)))
        return self.classes(x), self.image(x)


def digits() -> list[mx.array]:
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.25, random_state=0, stratify=labels)
    return [mx.array(part) for part in parts]


def batches(x: mx.array, y: mx.array, epochs: int) -> Iterator[tuple[mx.array, mx.array]]:
    for _ in range(epochs):
        order = mx.random.permutation(x.shape[0])
        for i in range(0, x.shape[0] - BATCH + 1, BATCH):
            yield x[order[i : i + BATCH]], y[order[i : i + BATCH]]


def train(
    group: ScalarGroup, data: list[mx.array], epochs: int, compiled: bool, title: str
) -> float:
    mx.random.seed(0)
    x, x_held_out, y, y_held_out = data
    x, x_held_out = x.astype(mx.float32), x_held_out.astype(mx.float32)
    model = Classifier(dropout=group["dropout"])
    optimizer = optim.AdamW(learning_rate=group["lr"], weight_decay=group["wd"])
    optimizer.init(model.trainable_parameters())
    group = attach(optimizer, model, horizon=None, **group)

    def loss_of(x: mx.array, y: mx.array) -> mx.array:
        classes, image = model(x)
        redrawn = nn.losses.mse_loss(image, x)
        return nn.losses.cross_entropy(classes, y, reduction="mean") + group["aux"] * redrawn

    loss_and_grad = nn.value_and_grad(model, loss_of)
    state = [model.state, optimizer.state, mx.random.state]

    def step(x: mx.array, y: mx.array) -> mx.array:
        loss, grads = loss_and_grad(x, y)
        optimizer.update(model, grads)
        return loss

    if compiled:
        step = mx.compile(step, inputs=state, outputs=state)

    horizon = Horizon(epochs * (x.shape[0] // BATCH), steps_per_epoch=x.shape[0] // BATCH)
    columns = [TextColumn(text) for text in ("{task.description}", "{task.fields[values]}")]
    with Progress(columns[0], BarColumn(10), columns[1]) as bar:
        task = bar.add_task(title, total=horizon.total_steps, values="")
        for x_batch, y_batch in group.track(batches(x, y, epochs), horizon):
            loss = step(x_batch, y_batch)
            mx.eval(loss, state)
            values = "  ".join(f"{name} {value:.2g}" for name, value in group.snapshot().items())
            bar.update(task, advance=1, values=f"{values}  loss {loss.item():.3f}")
    model.eval()
    return float(mx.equal(model(x_held_out)[0].argmax(axis=1), y_held_out).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    epochs = parser.parse_args().epochs
    data = digits()
    scheduled = ScalarGroup(
        lr=Warmup(CosineAnnealing(start=4e-3, end=4e-5), fraction=0.1),
        wd=Linear(0.01, 0.1),
        dropout=Linear(0.0, 0.3),
        aux=Linear(1.0, 0.0),
    )
    constant = ScalarGroup(
        lr=Constant(4e-3), wd=Constant(0.01), dropout=Constant(0.15), aux=Constant(0.5)
    )
    for name, group in (("scheduled", scheduled), ("constant", constant)):
        for mode in ("eager", "compiled"):
            accuracy = train(group, data, epochs, mode == "compiled", f"{name:9} {mode:8}")
            print(f"{name}, {mode}: held-out accuracy {accuracy:.2%}", flush=True)


if __name__ == "__main__":
    main()
