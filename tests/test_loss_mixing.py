"""Losses mixed by scalars, eagerly and compiled, against the weights as plain floats."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest

from scalars import CosineAnnealing, Linear, ScalarGroup, attach, detach

from .helpers import Traced, largest_difference

STEPS = 8


def two(w: Any, a: mx.array, b: mx.array) -> Any:
    return w * a + (1 - w) * b


def several(w: Any, a: mx.array, b: mx.array) -> Any:
    weights = [w, 1 - w, w * 0.5]
    return sum(weight * loss for weight, loss in zip(weights, [a, b, a * b]))


def train(w: Any, mix: Any, mode: str) -> tuple[Any, int]:
    """Train with a scalar (compiled or eager), or with its values as floats."""
    mx.random.seed(0)
    model = nn.Linear(4, 3)
    x, y = mx.random.normal((16, 4)), mx.random.normal((16, 3))
    optimizer = optim.SGD(0.1)
    optimizer.init(model.trainable_parameters())
    weight: Any = w
    group = ScalarGroup(w=w) if mode == "floats" else attach(optimizer, w=w)

    def loss(x: mx.array, y: mx.array) -> mx.array:
        out = model(x)
        mixed: mx.array = mix(weight, nn.losses.mse_loss(out, y), mx.abs(out - y).mean())
        return mixed

    def body(x: mx.array, y: mx.array) -> None:
        _, grads = nn.value_and_grad(model, loss)(x, y)
        optimizer.update(model, grads)

    counted = Traced(body)
    state = [model.state, optimizer.state]
    step = mx.compile(counted, inputs=state, outputs=state) if mode == "compiled" else counted
    for i in range(STEPS):
        group.update(i / STEPS)
        if mode == "floats":
            weight = float(w)
        step(x, y)
        mx.eval(state)
    if mode != "floats":
        detach(optimizer)
    return model.parameters(), counted.traces


@pytest.mark.parametrize("mix", [two, several])
def test_mixed_losses_are_those_of_floats(mix: Any) -> None:
    w = CosineAnnealing(1.0, 0.0)
    floats, _ = train(w, mix, "floats")
    eager, _ = train(w, mix, "eager")
    compiled, traces = train(w, mix, "compiled")
    assert largest_difference(eager, floats) == 0
    assert largest_difference(compiled, floats) <= 1e-6
    assert traces == 1
    frozen, _ = train(Linear(1.0, 1.0), mix, "eager")
    assert largest_difference(frozen, floats) > 1e-2
