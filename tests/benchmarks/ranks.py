"""Training steps on several processes with scalars and with floats, and the checks of ranks."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from scalars import Linear, attach

from ..launching import launch
from .measure import alternating, row
from .steps import hyperparameters

STEPS = 100_000


def measure() -> None:
    """Print the times of rank 0, in milliseconds: floats, scheduled, the check without and with."""
    world = mx.distributed.init()
    x, runs = mx.random.normal((64, 64), key=mx.random.key(world.rank())), []
    for number in ((lambda start, end: start), Linear):
        mx.random.seed(0)
        model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(50)])
        optimizer = optim.AdamW(**hyperparameters(number))
        group = attach(optimizer) if number is Linear else None
        loss_and_grad = nn.value_and_grad(model, lambda x, model=model: mx.square(model(x)).mean())

        def run(model=model, optimizer=optimizer, group=group, of=loss_and_grad) -> None:  # type: ignore[no-untyped-def]
            if group is not None:
                group.update(optimizer.step.item() / STEPS)
            _, grads = of(x)
            optimizer.update(model, nn.average_gradients(grads))
            mx.eval(model.state, optimizer.state)

        runs.append(run)
    runs += [group.check_ranks, lambda: group.check_ranks(model)]
    for run in runs * 3:
        run()
    times = alternating(runs, rounds=40)
    if world.rank() == 0:
        print("milliseconds:", *[f"{1e3 * time:.3f}" for time in times])


def main() -> None:
    command = ["-m", "tests.benchmarks.ranks"]
    for ranks in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            if ranks > 1:
                printed = launch(ranks, command, Path(folder))
            else:  # which mlx.launch cannot start
                alone = [sys.executable, *command]
                printed = subprocess.run(alone, capture_output=True, text=True, check=True).stdout
        found = re.search(r"milliseconds: (.*)", printed)
        if found is None:
            raise RuntimeError(printed)
        floats, scheduled, scalars, model = map(float, found[1].split())
        row(f"eager step, AdamW, 100 tensors, {ranks} ranks, floats", f"{floats:.1f} ms")
        row("  all scheduled", f"{scheduled / floats:.3f} x", "hold: <= 1.03 x")
        row("  check_ranks, without and with the model", f"{scalars:.2f}, {model:.2f} ms")


if __name__ == "__main__":
    measure()
