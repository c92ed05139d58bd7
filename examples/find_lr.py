"""The learning rate range test, and training with each rate that it suggests.

The test trains a classifier on scikit-learn's digits with a rate that grows at every step
until the loss diverges, and then restores everything. Each suggestion becomes the peak of a
1cycle schedule. The output shows the three suggestions and the accuracy with each of them.
``--png FILE`` saves a plot of the losses over the rates.
"""

import argparse
import copy
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from scalars import Horizon, OneCycle, attach, find_learning_rate

EPOCHS, BATCH = 30, 32


def loss_fn(model: nn.Module, x: mx.array, y: mx.array) -> mx.array:
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


def train(model: nn.Module, lr: OneCycle, batches: list[tuple[mx.array, mx.array]]) -> None:
    optimizer = optim.AdamW(lr)
    group = attach(optimizer)
    loss_and_grad = nn.value_and_grad(model, loss_fn)
    for batch in group.track(batches * EPOCHS, Horizon(len(batches) * EPOCHS)):
        loss, grads = loss_and_grad(model, *batch)
        optimizer.update(model, grads)
        mx.eval(loss, model.state, optimizer.state)


def main(png: Path | None) -> None:
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.25, random_state=0, stratify=labels)
    x, x_held_out, y, y_held_out = (mx.array(part) for part in parts)
    x, x_held_out = x.astype(mx.float32), x_held_out.astype(mx.float32)
    starts = range(0, len(y) - BATCH + 1, BATCH)
    batches = [(x[i : i + BATCH], y[i : i + BATCH]) for i in starts]

    mx.random.seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    found = find_learning_rate(model, optim.AdamW(1e-3), loss_fn, batches, compile=True)
    print(f"valley {found.valley:.2g}  steepest {found.steepest:.2g}  minimum {found.minimum:.2g}")
    print(
        f"the loss fell from {found.losses[0]:.2f} to {min(found.losses):.2f} and then diverged",
        flush=True,
    )
    if png is not None:
        from matplotlib import pyplot

        figure, ax = pyplot.subplots()
        found.plot(ax)
        figure.savefig(png, dpi=150)

    for name in ("valley", "steepest", "minimum"):
        trained = copy.deepcopy(model)
        train(trained, OneCycle(getattr(found, name)), batches)
        accuracy = (trained(x_held_out).argmax(axis=1) == y_held_out).mean().item()
        print(f"1cycle up to {name}: held-out accuracy {accuracy:.1%}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--png", type=Path, help="where to save a plot of the losses")
    main(**vars(parser.parse_args()))
