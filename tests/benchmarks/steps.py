"""Training steps with all hyperparameters of AdamW scheduled, compared with plain floats."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from scalars import CosineAnnealing, Horizon, Linear, ScalarGroup, attach, detach
from scalars.table import Table

from .measure import alternating, microseconds, row

LAYERS, WIDTH, BATCH, STEPS = 50, 64, 64, 100_000
KINDS = ["floats", "not attached", "by the loop", "by the step"]


def hyperparameters(number: Callable[[float, float], Any]) -> dict[str, Any]:
    return {
        "learning_rate": number(1e-3, 1e-4),
        "betas": [number(0.9, 0.95), number(0.99, 0.999)],
        "eps": number(1e-8, 1e-7),
        "weight_decay": number(0.01, 0.1),
    }


def group_of(numbers: dict[str, Any]) -> ScalarGroup:
    """Return the scalars of an optimizer's arguments in a group."""
    flat = [
        x for value in numbers.values() for x in (value if isinstance(value, list) else [value])
    ]
    return ScalarGroup({str(i): scalar for i, scalar in enumerate(flat)})


def updater(
    optimizer: optim.Optimizer, numbers: dict[str, Any], kind: str
) -> tuple[Any, list[Any]]:
    """Return the function to call before a step, and what else its compiled form captures."""
    if kind == "floats":
        return (lambda: None), []
    if kind == "by the step":
        attach(optimizer, horizon=Horizon(STEPS))
        return (lambda: None), []
    points = itertools.cycle([i / STEPS for i in range(STEPS)])
    group = attach(optimizer) if kind == "by the loop" else group_of(numbers)
    return (lambda: group.update(next(points))), [] if kind == "by the loop" else [group.state]


def eager_update(kind: str, tensors: int = 2 * LAYERS) -> Callable[[], None]:
    """Return an update by AdamW without a model, which is only the work of the optimizer."""
    numbers = hyperparameters((lambda start, end: start) if kind == "floats" else Linear)
    optimizer = optim.AdamW(**numbers)
    update, _ = updater(optimizer, numbers, kind)
    mx.random.seed(0)
    weights = {f"w{i}": mx.random.normal((WIDTH, WIDTH)) for i in range(tensors)}
    gradients = {name: mx.random.normal((WIDTH, WIDTH)) for name in weights}

    def run() -> None:
        update()
        weights.update(optimizer.apply_gradients(gradients, weights))
        mx.eval(weights, optimizer.state)

    return run


def compiled_step(kind: str) -> Callable[[], None]:
    """Return a compiled step of training: forward, backward and update."""
    numbers = hyperparameters((lambda start, end: start) if kind == "floats" else Linear)
    optimizer = optim.AdamW(**numbers)
    mx.random.seed(0)
    model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)])
    optimizer.init(model.trainable_parameters())
    update, captured_too = updater(optimizer, numbers, kind)
    x = mx.random.normal((BATCH, WIDTH))
    loss_and_grad = nn.value_and_grad(model, lambda x: mx.square(model(x) - x).mean())
    captured: list[Any] = [model.state, optimizer.state]

    def step(x: mx.array) -> mx.array:
        loss, gradients = loss_and_grad(x)
        optimizer.update(model, gradients)
        return loss

    compiled = mx.compile(step, inputs=[*captured, *captured_too], outputs=captured)

    def run() -> None:
        update()
        mx.eval(compiled(x), captured)

    return run


def attaching() -> None:
    """Measure ``attach`` itself, on a model of 1,000 tensors."""
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(500)], nn.Dropout(Linear(0.0, 0.3)))
    optimizer = optim.AdamW(**hyperparameters(Linear))
    optimizer.init(model.trainable_parameters())

    def both() -> None:
        attach(optimizer, model)
        detach(optimizer)

    row(
        "attach and detach, a model of 1,000 tensors",
        f"{microseconds(both, number=5) / 1e3:.1f} ms",
    )


def compare(
    make: Callable[..., Callable[[], None]], holds: list[str], title: str, *of: int
) -> None:
    """Print the time of a step with floats, and those of the others as ratios to it."""
    runs = [make(kind, *of) for kind in KINDS]
    for run in runs * 3:
        run()
    floats, *others = alternating(runs, rounds=300)
    row(title, f"{floats * 1e3:.2f} ms")
    for kind, time, hold in zip(KINDS[1:], others, holds):
        row(f"  all scheduled, {kind}", f"{time / floats:.3f} x", hold)


def tables() -> None:
    """Measure the tables of values that follow the step."""
    for count, steps in ((1, 100_000), (5, 10_000), (5, 100_000)):
        schedules = [CosineAnnealing(1e-3, 10.0 ** -(i + 4)) for i in range(count)]
        make = partial(tables_of, schedules, Horizon(steps))
        hold = "hold: <= 0.5 s" if (count, steps) == (5, 100_000) else ""
        time = microseconds(make, number=1, repeat=3) / 1e6
        row(f"tables of {count} scalars over {steps:,} steps", f"{time:.3f} s", hold)
    size = sum(array.nbytes for array in make()[0])
    row("  memory of a table", f"{size / (steps + 1):.1f} bytes a step", "hold: <= 8")


def tables_of(schedules: list[CosineAnnealing], horizon: Horizon) -> list[Table]:
    progresses = horizon.progresses()
    return [Table.of(schedule, progresses) for schedule in schedules]


def main() -> None:
    holds = ["hold: <= 1.15 x", "hold: <= 1.03 x", "hold: <= 1.03 x"]
    for tensors in (10, 100, 300):
        title = f"eager update, AdamW, {tensors} tensors, floats"
        compare(eager_update, holds if tensors == 100 else [""] * 3, title, tensors)
    compare(compiled_step, ["hold: <= 1.02 x"] * 3, "compiled training step, 100 tensors, floats")
    attaching()
    tables()
