"""A comparison of constant, cosine, 1cycle and Schedule-Free training on digits.

Every method trains the same network on scikit-learn's digits with SGD, momentum 0.9 and weight
decay 0.001. The learning rate of each method is the one in a grid with the lowest validation
loss at the end of the run, as a mean over two seeds. Then it trains with five other seeds. The
table shows mean and standard deviation of the loss and the accuracy on held-out images after
25, 50 and 100 % of the run. A cosine is best at its end, while Schedule-Free does not depend on
where the end is. ``--png FILE`` saves a plot of the losses.
"""

import argparse
import math
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from rich.progress import Progress
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from scalars import Constant, CosineAnnealing, Horizon, OneCycle, ScheduleFreeSGD, attach

BATCH, DECAY = 32, 1e-3
GRID = [0.03, 0.1, 0.3, 1.0, 3.0]
METHODS = {
    "constant": lambda rate: optim.SGD(Constant(rate), 0.9, DECAY),
    "cosine": lambda rate: optim.SGD(CosineAnnealing(rate), 0.9, DECAY),
    "1cycle": lambda rate: optim.SGD(OneCycle(rate), 0.9, DECAY),
    "schedule-free": lambda rate: ScheduleFreeSGD(Constant(rate), 0.9, DECAY, warmup_steps=30),
}


def digits() -> list[mx.array]:
    """Return the images and labels for training, validation and testing."""
    images, labels = load_digits(return_X_y=True)
    split = partial(train_test_split, random_state=0)
    x, x_rest, y, y_rest = split(images / 16, labels, test_size=0.5, stratify=labels)
    parts = split(x_rest, y_rest, test_size=0.5, stratify=y_rest)
    x_val, x_test, y_val, y_test = parts
    arrays = [mx.array(part) for part in (x, y, x_val, y_val, x_test, y_test)]
    return [a.astype(mx.float32) if a.ndim == 2 else a for a in arrays]


def loss_fn(model: nn.Module, x: mx.array, y: mx.array) -> mx.array:
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


def train(
    method: str, rate: float, seed: int, epochs: int, data: list[mx.array]
) -> list[tuple[float, float]]:
    """Return held-out loss and accuracy after 25, 50 and 100 % of the run."""
    x, y, x_held_out, y_held_out = data
    mx.random.seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer: Any = METHODS[method](rate)
    optimizer.init(model.trainable_parameters())
    group, state = attach(optimizer), [model.state, optimizer.state]
    loss_and_grad = nn.value_and_grad(model, loss_fn)

    @partial(mx.compile, inputs=state, outputs=state)
    def step(x: mx.array, y: mx.array) -> None:
        optimizer.update(model, loss_and_grad(model, x, y)[1])

    total, shown = epochs * (len(y) // BATCH), []
    batches = [mx.random.randint(0, len(y), (BATCH,)) for _ in range(total)]
    for i, batch in enumerate(group.track(batches, Horizon(total)), start=1):
        step(x[batch], y[batch])
        mx.eval(state)
        if i in (total // 4, total // 2, total):
            if method == "schedule-free":
                optimizer.eval(model)
            logits = model(x_held_out)
            loss = nn.losses.cross_entropy(logits, y_held_out, reduction="mean")
            accuracy = (logits.argmax(axis=1) == y_held_out).mean()
            shown.append((float(loss), float(accuracy)))
            if method == "schedule-free":
                optimizer.train(model)
    return shown


def at_end(runs: list[list[tuple[float, float]]]) -> float:
    """Return the mean final loss of runs, or infinity if one of them diverged."""
    losses = [run[-1][0] for run in runs]
    return statistics.mean(losses) if all(map(math.isfinite, losses)) else math.inf


def best_and_others(
    method: str, epochs: int, seeds: int, data: list[mx.array]
) -> tuple[float, list[list[tuple[float, float]]]]:
    """Return the rate with the best validation loss, and runs at this rate with other seeds."""
    x, y, x_val, y_val, x_test, y_test = data
    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task(method, total=2 * len(GRID) + seeds)

        def trained(rate: float, seed: int, *held_out: mx.array) -> list[tuple[float, float]]:
            bar.update(task, description=f"{method} at {rate:g}")
            run = train(method, rate, seed, epochs, [x, y, *held_out])
            bar.advance(task)
            return run

        ends = {rate: at_end([trained(rate, s, x_val, y_val) for s in (100, 101)]) for rate in GRID}
        best = min(ends, key=ends.__getitem__)
        return best, [trained(best, seed, x_test, y_test) for seed in range(seeds)]


def main(png: Path | None, epochs: int, seeds: int) -> None:
    data = digits()
    print("method         rate   loss (25, 50, 100 %)                      accuracy, %", flush=True)
    curves = {}
    for method in METHODS:
        best, runs = best_and_others(method, epochs, seeds, data)
        cells: list[list[str]] = [[], []]
        for point in range(3):
            for kind, scale, digits_shown in ((0, 1, 3), (1, 100, 1)):
                values = [scale * run[point][kind] for run in runs]
                mean, spread = statistics.mean(values), statistics.stdev(values)
                cells[kind].append(f"{mean:.{digits_shown}f} ± {spread:.{digits_shown}f}")
        curves[method] = [statistics.mean(run[point][0] for run in runs) for point in range(3)]
        shown = [f"{method:13}  {best:<4g}", *map("  ".join, cells)]
        print("   ".join(shown), flush=True)
    if png is not None:
        from matplotlib import pyplot

        figure, ax = pyplot.subplots(figsize=(6, 4), layout="constrained")
        for method, losses in curves.items():
            ax.plot([25, 50, 100], losses, marker="o", label=method)
        ax.set(xlabel="part of the run, %", ylabel=f"held-out loss, mean of {seeds} seeds")
        ax.legend()
        figure.savefig(png, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=5, help="number of runs of each method")
    parser.add_argument("--png", type=Path, help="where to save a plot of the losses")
    main(**vars(parser.parse_args()))
