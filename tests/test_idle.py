"""Scalars that are never updated, or that an attached optimizer does not know, are told of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest

from scalars import (
    CosineAnnealing,
    Horizon,
    LambdaValue,
    Linear,
    ReduceOnPlateau,
    ScheduledScalar,
    Warmup,
    attach,
)

X = mx.ones((2, 4))


def make_steps(
    optimizer: optim.Optimizer, count: int, compiled: bool = False, model: Any = None
) -> nn.Module:
    """Make steps with gradients of 1, as a trainer does that knows nothing of scalars."""
    model = nn.Linear(4, 4) if model is None else model
    loss_and_grad = nn.value_and_grad(model, lambda x: model(x).sum())
    state = [model.state, optimizer.state, mx.random.state]

    def step(x: mx.array) -> mx.array:
        loss, grads = loss_and_grad(x)
        optimizer.update(model, grads)
        return loss  # type: ignore[no-any-return]

    made: Callable[[mx.array], mx.array] = mx.compile(step, state, state) if compiled else step
    for _ in range(count):
        mx.eval(made(X), state)
    return model


def warmed_up() -> ScheduledScalar:
    return Warmup(CosineAnnealing(1.0), 0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.SGD(warmed_up()),
        lambda: optim.SGD(0.5 * warmed_up()),
        lambda: optim.SGD(
            optim.join_schedules([optim.linear_schedule(0, 1, 100), warmed_up()], [100])
        ),
    ],
)
def test_a_learning_rate_that_nobody_updates_warns(make: Callable[[], optim.Optimizer]) -> None:
    make_steps(make(), 28)
    with pytest.warns(RuntimeWarning, match="30 times as a learning rate but never updated"):
        make_steps(make(), 30)


@pytest.mark.parametrize(
    "make",
    [
        lambda: warmed_up().update(0),
        lambda: warmed_up().hold(0.1),
        lambda: ReduceOnPlateau(0.1),
        lambda: LambdaValue(lambda _: 0.1),
        lambda: Linear(0.1, 0.1),
    ],
)
@pytest.mark.parametrize("attached", [False, True])
def test_a_learning_rate_that_has_its_value_does_not_warn(
    make: Callable[[], ScheduledScalar], attached: bool
) -> None:
    optimizer = optim.SGD(make())
    if attached:
        attach(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_steps(optimizer, 40)


def test_a_learning_rate_that_is_read_after_compiled_steps_without_updates_warns() -> None:
    optimizer = optim.SGD(warmed_up())
    group = attach(optimizer)
    make_steps(optimizer, 40, compiled=True)
    with pytest.warns(RuntimeWarning, match="40 updates, but these scalars were never updated"):
        assert optimizer.learning_rate.item() == 0.0
    group.update(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_steps(optimizer, 40, compiled=True)
        assert optimizer.learning_rate.item() == 1.0


def with_dropout() -> tuple[nn.Module, ScheduledScalar]:
    rate = Linear(0.1, 0.9)
    return nn.Sequential(nn.Linear(4, 4), nn.Dropout(rate)), rate


@pytest.mark.parametrize("horizon", [None, Horizon(100)])
def test_a_layer_of_a_model_that_was_not_attached(horizon: Horizon | None) -> None:
    model, _ = with_dropout()
    optimizer = optim.SGD(CosineAnnealing(0.1))
    group = attach(optimizer, horizon=horizon)
    if horizon is None:
        group.update(0.5)
    with pytest.raises(ValueError, match=r"layers\.1\.p: these layers of the model hold scalars"):
        make_steps(optimizer, 1, compiled=True, model=model)
    mx.random.seed(0)  # MLX has left a placeholder in the random state
    optimizer = optim.SGD(CosineAnnealing(0.1))
    group = attach(optimizer, horizon=horizon)
    if horizon is None:
        group.update(0.5)
    with pytest.warns(RuntimeWarning, match=r"layers\.1\.p: the optimizer has made 30 updates"):
        make_steps(optimizer, 40, model=with_dropout()[0])


def test_a_layer_whose_scalar_is_captured_or_updated_by_itself() -> None:
    model, rate = with_dropout()
    optimizer = optim.SGD(CosineAnnealing(0.1))
    attach(optimizer).update(0.5)
    state = [model.state, optimizer.state, mx.random.state, rate.state]
    loss_and_grad = nn.value_and_grad(model, lambda x: model(x).sum())

    def step(x: mx.array) -> None:
        optimizer.update(model, loss_and_grad(x)[1])

    compiled = mx.compile(step, inputs=state, outputs=state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(40):
            rate.update(i / 40)
            compiled(X)
        make_steps(optimizer, 40, model=model)


def test_two_optimizers_of_one_model_in_one_compiled_step() -> None:
    model, _ = with_dropout()
    first, second = optim.SGD(Linear(0.1, 0.0)), optim.Adam(CosineAnnealing(0.1))
    groups = attach(first, model, Horizon(10)), attach(second, horizon=Horizon(10))
    loss_and_grad = nn.value_and_grad(model, lambda x: model(x).sum())
    state = [model.state, first.state, second.state, mx.random.state]

    def step(x: mx.array) -> None:
        grads = loss_and_grad(x)[1]
        first.update(model, grads)
        second.update(model, grads)

    compiled = mx.compile(step, inputs=state, outputs=state)
    for _ in range(3):
        compiled(X)
        mx.eval(state)
    assert [group.step for group in groups] == [3, 3]


@pytest.mark.parametrize(
    "settle",
    [
        lambda model, rate: rate.hold(0.5),
        lambda model, rate: rate.update(1.0),
        lambda model, rate: model.layers[1].eval(),
    ],
)
def test_a_layer_that_was_not_attached_but_has_its_value(settle: Any) -> None:
    for compiled in (False, True):
        model, rate = with_dropout()
        optimizer = optim.SGD(CosineAnnealing(0.1))
        attach(optimizer).update(0.5)
        settle(model, rate)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make_steps(optimizer, 40, compiled, model)


def test_a_rate_that_is_1_only_after_the_last_step() -> None:
    for horizon, refused in ((Horizon(10), False), (Horizon(10, endpoint=True), True)):
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(Linear(0.0, 1.0)))
        optimizer = optim.SGD(0.1)
        if refused:
            with pytest.raises(ValueError, match="from 0 to below 1, got"):
                attach(optimizer, model, horizon)
        else:
            attach(optimizer, model, horizon)


@pytest.mark.parametrize("start_and_end", [(0.0, 1.5), (0.5, 1.0), (-0.1, 0.5)])
def test_a_dropout_rate_that_leaves_its_range_is_refused(
    start_and_end: tuple[float, float],
) -> None:
    rate = Linear(0.2, 0.2) + Linear(*(x - 0.2 for x in start_and_end))
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(rate.update(0.5)))
    optimizer = optim.SGD(0.1)
    with pytest.raises(ValueError, match=r"the range of p in layers\.1 must be from 0 to below 1"):
        attach(optimizer, model)
    assert "scalars" not in optimizer.state
