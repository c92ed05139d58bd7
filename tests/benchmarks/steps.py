"""Training steps with all hyperparameters of AdamW scheduled, beside plain floats."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from scalars import Linear, ScalarGroup, attach, detach

from .measure import alternating, microseconds, row

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


def updater(
    optimizer: optim.Optimizer, numbers: dict[str, Any], kind: str
) -> tuple[Any, list[Any]]:
    """Return what to call before a step, and what its compiled form captures besides."""
    if kind == "floats":
        return (lambda: None), []
    points = itertools.cycle([i / 1000 for i in range(1000)])
    group = attach(optimizer) if kind == "attached" else group_of(numbers)
    return (lambda: group.update(next(points))), [] if kind == "attached" else [group.state]


def eager_update(kind: str) -> Callable[[], None]:
    """Return an update by AdamW, without a model: nothing but what the optimizer does."""
    numbers = hyperparameters((lambda start, end: start) if kind == "floats" else Linear)
    optimizer = optim.AdamW(**numbers)
    update, _ = updater(optimizer, numbers, kind)
    mx.random.seed(0)
    weights = {f"w{i}": mx.random.normal((WIDTH, WIDTH)) for i in range(2 * LAYERS)}
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

    row("attach and detach, a model of 1,000 tensors", f"{microseconds(both, 20) / 1e3:.1f} ms")


def main() -> None:
    kinds = ["floats", "scheduled", "attached"]
    for make, hold in ((eager_update, "hold: <= 1.15 x"), (compiled_step, "hold: <= 1.02 x")):
        runs = [make(kind) for kind in kinds]
        for run in runs * 3:
            run()
        floats, scheduled, attached = alternating(runs, rounds=300)
        row(f"{make.__name__}, AdamW, {2 * LAYERS} tensors, floats", f"{floats * 1e3:.2f} ms")
        row("  all scheduled", f"{scheduled / floats:.3f} x", hold)
        row("  all scheduled and attached", f"{attached / floats:.3f} x", hold)
    attaching()
