"""Training steps with all hyperparameters of AdamW scheduled, beside plain floats."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from scalars import Linear, ScalarGroup

from .measure import alternating, row

LAYERS, WIDTH, BATCH = 50, 64, 64


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


def eager_update(scheduled: bool) -> Callable[[], None]:
    """Return an update by AdamW, without a model: nothing but what the optimizer does."""
    numbers = hyperparameters(Linear if scheduled else lambda start, end: start)
    optimizer = optim.AdamW(**numbers)
    group, calls = group_of(numbers) if scheduled else None, itertools.count()
    mx.random.seed(0)
    weights = {f"w{i}": mx.random.normal((WIDTH, WIDTH)) for i in range(2 * LAYERS)}
    gradients = {name: mx.random.normal((WIDTH, WIDTH)) for name in weights}

    def run() -> None:
        if group is not None:
            group.update(next(calls) % 1000 / 1000)
        weights.update(optimizer.apply_gradients(gradients, weights))
        mx.eval(weights, optimizer.state)

    return run


def compiled_step(scheduled: bool) -> Callable[[], None]:
    """Return a compiled step of training: forward, backward and update."""
    numbers = hyperparameters(Linear if scheduled else lambda start, end: start)
    optimizer = optim.AdamW(**numbers)
    group, calls = group_of(numbers) if scheduled else None, itertools.count()
    mx.random.seed(0)
    model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)])
    optimizer.init(model.trainable_parameters())
    x = mx.random.normal((BATCH, WIDTH))
    loss_and_grad = nn.value_and_grad(model, lambda x: mx.square(model(x) - x).mean())
    captured: list[Any] = [model.state, optimizer.state]

    def step(x: mx.array) -> mx.array:
        loss, gradients = loss_and_grad(x)
        optimizer.update(model, gradients)
        return loss

    inputs = captured if group is None else [*captured, group.state]
    compiled = mx.compile(step, inputs=inputs, outputs=captured)

    def run() -> None:
        if group is not None:
            group.update(next(calls) % 1000 / 1000)
        mx.eval(compiled(x), captured)

    return run


def main() -> None:
    for make, hold in ((eager_update, "hold: <= 1.15 x"), (compiled_step, "hold: <= 1.02 x")):
        runs = [make(True), make(False)]
        for run in runs * 3:
            run()
        scheduled, floats = alternating(runs, rounds=300)
        what = f"{make.__name__}, AdamW, {2 * LAYERS} tensors, {floats * 1e3:.2f} ms"
        row(what, f"{scheduled / floats:.3f} x", hold)
