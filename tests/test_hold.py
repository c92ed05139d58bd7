"""Held values apply everywhere, are saved, and are rejected where they would be wrong."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest

from scalars import (
    Constant,
    CosineAnnealing,
    DynamicLossScale,
    Horizon,
    Linear,
    Recorder,
    ReduceOnPlateau,
    ScalarGroup,
    Warmup,
    attach,
    detach,
    log,
)

from .helpers import Traced, assert_same, reloaded

TOTAL = 12
HOLDS: dict[int, dict[str, float | None]] = {
    2: {"learning_rate": 0.5, "weight_decay": 0.0},
    5: {"learning_rate": None},
    7: {"betas.0": 0.25, "weight_decay": 0.2},
    9: {"betas.0": None, "weight_decay": None},
}
"""The steps at which scalars are held at a value, or released."""


def by_hand(step: int) -> dict[str, float]:
    """Return the numbers of a step: the held values, or else the formulas."""
    p = step / TOTAL
    values = {
        "learning_rate": 0.1 + (0.01 - 0.1) * p,
        "betas.0": 0.9 + (0.5 - 0.9) * p,
        "weight_decay": 0.01 + (0.1 - 0.01) * p,
    }
    held: dict[str, float | None] = {}
    for at, changes in HOLDS.items():
        if at <= step:
            held |= changes
    return {**values, **{name: value for name, value in held.items() if value is not None}}


def scheduled() -> optim.AdamW:
    return optim.AdamW(
        Linear(0.1, 0.01), betas=[Linear(0.9, 0.5), 0.99], weight_decay=Linear(0.01, 0.1)
    )


def gradient(step: int) -> dict[str, mx.array]:
    return {"w": mx.array([0.1 * step - 0.3, 0.2])}


def stepper(optimizer: Any, compiled: bool) -> tuple[Callable[..., Any], Traced]:
    optimizer.init({"w": mx.zeros(2)})
    body = Traced(optimizer.apply_gradients)
    if not compiled:
        return body, body
    return mx.compile(body, inputs=optimizer.state, outputs=optimizer.state), body


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("by_step", [False, True])
def test_training_with_held_values_is_that_of_floats_by_hand(by_step: bool, compiled: bool) -> None:
    optimizer, reference = scheduled(), optim.AdamW(0.1, betas=[0.9, 0.99], weight_decay=0.01)
    optimizer.init({"w": mx.zeros(2)})
    group = attach(optimizer, horizon=Horizon(TOTAL) if by_step else None)
    step, body = stepper(optimizer, compiled)
    reference.init({"w": mx.zeros(2)})
    ours = theirs = {"w": mx.array([1.0, -1.0])}
    for i in range(TOTAL):
        if not by_step:
            group.update(i / TOTAL)
        for name, value in HOLDS.get(i, {}).items():
            group.release(name) if value is None else group.hold({name: value})
        expected = by_hand(i)
        assert group.snapshot() == pytest.approx(expected, rel=1e-15)
        assert group.progress == i / TOTAL
        ours = step(gradient(i), ours)
        reference.learning_rate = expected["learning_rate"]
        reference.betas = [expected["betas.0"], 0.99]
        reference.weight_decay = expected["weight_decay"]
        theirs = reference.apply_gradients(gradient(i), theirs)
        if compiled:
            assert mx.allclose(ours["w"], theirs["w"], rtol=1e-5, atol=1e-6)
        else:
            assert_same(ours, theirs)
    assert group.held == {}
    assert not compiled or body.traces == 1


def test_a_held_value_is_live_in_expressions_and_compiled_functions() -> None:
    lr = CosineAnnealing(1.0)
    half = 0.5 * lr
    body = Traced(lambda x: (lr * x, half * x, (1 - lr) * x))
    function = mx.compile(body, inputs=[lr.state])
    for hold, expected in ((None, 1.0), (0.25, 0.25), (4.0, 4.0), (None, 1.0)):
        lr.release() if hold is None else lr.hold(hold)
        assert [x.item() for x in function(mx.array(1.0))] == [expected, expected / 2, 1 - expected]
        assert (float(lr), float(half), lr.at(0.0), lr.held) == (expected, expected / 2, 1.0, hold)
    assert body.traces == 1


def test_progress_goes_on_underneath() -> None:
    lr = Linear(1.0, 0.0).hold(0.3)
    group = ScalarGroup(lr=lr, tenth=lr * 0.1)
    assert group.update(0.5).snapshot() == {"lr": 0.3, "tenth": 0.03}
    assert (group.progress, group.held) == (0.5, {"lr": 0.3})
    assert group.release().snapshot() == {"lr": 0.5, "tenth": 0.05}
    assert lr.release().held is None  # a second call has no effect


def test_a_plateau_counts_while_it_is_held() -> None:
    lr = Warmup(ReduceOnPlateau(1.0, factor=0.5, patience=0), 0.1).update(0.5).hold(3.0)
    lr.observe(1.0).observe(1.0)
    assert float(lr) == 3.0
    assert float(lr.release()) == 0.5


def test_states_pickles_and_copies_hold_it() -> None:
    lr = Linear(1.0, 0.0).update(0.25).hold(0.1)
    for same in (
        pickle.loads(pickle.dumps(lr)),
        copy.deepcopy(lr),
        Linear(1.0, 0.0).load_state_dict(json.loads(json.dumps(lr.state_dict()))),
    ):
        assert (float(same), same.held, same.progress) == (0.1, 0.1, 0.25)
        assert float(same.release()) == 0.75
    free = Linear(1.0, 0.0).state_dict()
    assert float(lr.load_state_dict(free)) == 1.0  # saved while it was not held
    assert lr.held is None


@pytest.mark.parametrize("by_step", [False, True])
def test_the_state_of_an_optimizer_holds_it(by_step: bool) -> None:
    horizon = Horizon(TOTAL) if by_step else None

    def start() -> tuple[Any, ScalarGroup]:
        optimizer = scheduled()
        optimizer.init({"w": mx.zeros(2)})
        return optimizer, attach(optimizer, horizon=horizon)

    optimizer, group = start()
    weights = {"w": mx.array([1.0, -1.0])}
    if not by_step:
        group.update(1 / TOTAL)
    group.hold(learning_rate=1e-300, weight_decay=0.0)
    weights = optimizer.apply_gradients(gradient(0), weights)
    saved = reloaded(optimizer.state)
    other, resumed = start()
    other.state = saved
    assert resumed.held == {"learning_rate": 1e-300, "weight_decay": 0.0}
    assert resumed.snapshot() == group.snapshot()
    for one in (optimizer, other):
        one.apply_gradients(gradient(1), weights)
    assert_same(other.state, optimizer.state)
    without = reloaded(saved)  # as version 0.1.0 wrote it
    for entry in without["scalars"].values():
        if "progress" in entry:
            entry["progress"] = entry["progress"][:2]
        entry.pop("held", None)
    other.state = without
    assert resumed.held == {}
    detach(optimizer)
    assert group["learning_rate"].held == 1e-300
    assert float(group["weight_decay"]) == 0.0


@pytest.mark.parametrize(
    ("error", "match", "wrong"),
    [
        (ValueError, "must be a schedule, got 1 - Linear", lambda g: (1 - g["lr"]).hold(0.5)),
        (ValueError, "must be a schedule, got 1 - Linear", lambda g: (1 - g["lr"]).release()),
        (ValueError, "Set initial, minimum or growth_interval", lambda g: g["scale"].hold(2.0)),
        (ValueError, "value must be a finite real", lambda g: g["lr"].hold(float("nan"))),
        (TypeError, "value must be a finite real", lambda g: g["lr"].hold("0.1")),
        (TypeError, "this argument is constant", lambda g: g["lr"].hold(Linear(0, 1))),
        (ValueError, "one of 'lr', 'wd', 'half', 'scale', got 'rate'", lambda g: g.hold(rate=1.0)),
        (ValueError, "wd must be a finite real", lambda g: g.hold(lr=0.5, wd=float("inf"))),
        (ValueError, r"Call hold\(\) of the schedules in the", lambda g: g.hold(lr=0.5, half=0.1)),
        (ValueError, "one of 'lr'", lambda g: g.release("lr", "rate")),
    ],
)
def test_what_cannot_be_held_changes_nothing(
    error: type[Exception], match: str, wrong: Callable[[Any], Any]
) -> None:
    lr = Linear(1.0, 0.0)
    group = ScalarGroup(lr=lr, wd=Linear(0.1, 0.2), half=lr * 0.5, scale=DynamicLossScale())
    group.hold(wd=0.7).update(0.5)
    before = group.snapshot(), group.held, group.state_dict()
    with pytest.raises(error, match=match):
        wrong(group)
    assert (group.snapshot(), group.held, group.state_dict()) == before


def test_a_branch_that_a_compiled_function_has_taken_stays_true() -> None:
    decay, offset = Linear(0.1, 0.2), Constant(0.0)

    def penalty(x: mx.array) -> mx.array:
        return x * decay + offset if decay > 0 and offset < 1 else x

    function = mx.compile(penalty, inputs=[decay.state, offset.state])
    assert function(mx.array(1.0)).item() == pytest.approx(0.1)
    group = ScalarGroup(decay=decay, offset=offset)
    with pytest.raises(ValueError, match=r"> 0 was answered with True.*Linear\(.*\) at -1\.0"):
        group.hold(offset=0.5, decay=-1.0)
    assert group.held == {}
    assert group.snapshot() == {"decay": 0.1, "offset": 0.0}
    group.hold(offset=0.5, decay=7.0)
    assert function(mx.array(1.0)).item() == 7.5
    decay.release()
    decay = Linear(0.1, 0.2).hold(-1.0)  # held before the trace
    with pytest.raises(ValueError, match="would be wrong while a value is held"):
        mx.compile(lambda x: x * decay if decay > 0 else x, inputs=[decay.state])(mx.array(1.0))


def test_what_mlx_leaves_out_may_be_held_at_any_value() -> None:
    """``if self.weight_decay != 0`` has the general branch in the graph."""
    optimizer = optim.SGD(0.1, weight_decay=Linear(0.01, 0.1))
    optimizer.init({"w": mx.zeros(2)})
    group = attach(optimizer)
    step, _ = stepper(optimizer, compiled=True)
    plain = optim.SGD(0.1, weight_decay=0.0)
    step(gradient(1), {"w": mx.ones(2)})
    group.hold(weight_decay=0.0)
    assert_same(
        step(gradient(1), {"w": mx.ones(2)}), plain.apply_gradients(gradient(1), {"w": mx.ones(2)})
    )


def test_holding_in_a_trace_is_loud() -> None:
    lr = Linear(1.0, 0.0)

    def hold(x: mx.array) -> mx.array:
        lr.hold(0.5)
        return lr * x

    with pytest.raises(ValueError, match="cannot be updated while mx.compile traces"):
        mx.compile(hold, inputs=[lr.state])(mx.array(1.0))
    assert lr.held is None
    free = Linear(1.0, 0.0)
    with pytest.warns(RuntimeWarning, match="inside a function that is being traced"):
        mx.compile(lambda x: (free.hold(0.5), x)[1])(mx.array(1.0))


@pytest.mark.parametrize("logged", [False, True])
@pytest.mark.parametrize("by_step", [False, True])
def test_records_show_the_value_in_force(by_step: bool, logged: bool) -> None:
    optimizer = optim.SGD(Linear(0.1, 0.0))
    optimizer.init({"w": mx.zeros(2)})
    group = attach(optimizer, horizon=Horizon(4) if by_step else None)
    recorder = Recorder(group)
    weights = {"w": mx.zeros(2)}
    for i in range(4):
        if i == 2:
            group.hold(learning_rate=0.7)
        if i == 3:
            group.release()
        if not by_step:
            group.update(i / 4)
        if logged:
            recorder.log(loss=float(i))
        weights = optimizer.apply_gradients(gradient(i), weights)
    rates = {row["step"]: row["learning_rate"] for row in recorder.rows}
    first = 1 if by_step and not logged else 0  # rows are added after an update or by log
    expected = [0.1, 0.075, 0.7, 0.025][first:]
    assert [rates[i] for i in range(first, 4)] == pytest.approx(expected)
    assert len(recorder) == len(rates)


def test_assigning_to_a_scheduled_number_names_hold() -> None:
    optimizer = optim.SGD(Linear(0.1, 0.0))
    attach(optimizer)
    with pytest.raises(ValueError, match=r"group\.hold\(name=value\)"):
        optimizer.learning_rate = 0.3


def test_a_resume_is_still_refused_after_holding() -> None:
    """The progress of the run was never set."""
    optimizer = optim.SGD(Linear(0.1, 0.0).hold(0.05))
    optimizer.init({"w": mx.zeros(2)})
    partial(optimizer.apply_gradients, gradient(0), {"w": mx.zeros(2)})()
    with pytest.raises(ValueError, match="has made 1 steps"):
        attach(optimizer)


def test_what_by_step_has_returned_is_the_formula() -> None:
    """It is worked out once: a scalar that is held then would be another number for ever."""
    lr = Linear(1.0, 0.0).hold(0.25)
    for scalar in (lr, 0.5 * lr):
        with pytest.raises(ValueError, match=r"must be released, .* got 0\.25\. Call release\(\)"):
            scalar.by_step(4)
    schedule = lr.release().by_step(4)
    lr.hold(0.25)
    assert schedule(1).item() == 0.75


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_an_expression_keeps_a_finite_value(by_step: bool, value: float) -> None:
    """Compiled it would be infinite or NaN without a word, and by a float an error."""
    scale = Linear(1.0, 2.0)
    optimizer = optim.SGD(log(scale) if value else 1 / scale)
    group = attach(optimizer, scale=scale, horizon=Horizon(4) if by_step else None)
    group.hold(scale=4.0)
    before = group.snapshot()
    for held in (value, value):
        with pytest.raises(ValueError, match="must be a finite number|above 0"):
            group.hold(scale=held)
        assert group.snapshot() == before
        assert group.held == {"scale": 4.0}


def test_release_is_for_what_is_held_in_expressions_too() -> None:
    lr, wd = Linear(1.0, 0.0), Linear(0.1, 0.0)
    group = ScalarGroup(half=0.5 * lr, wd=wd)
    lr.hold(0.25)
    wd.hold(0.5)
    assert group.release().snapshot() == {"half": 0.5, "wd": 0.1}
    assert lr.held is wd.held is None


def test_a_dropout_rate_is_checked_as_long_as_it_is_attached() -> None:
    rate = Linear(0.0, 0.5)
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(2 * rate * 0.9))
    optimizer = optim.SGD(Linear(0.1, 0.0))
    attach(optimizer, model)
    with pytest.raises(ValueError, match="p in layers.1, as it is held, must be from 0 to below 1"):
        rate.hold(0.6)
    detach(optimizer)
    rate.hold(0.6)
    with pytest.raises(ValueError, match="p in layers.1, as it is held, must be from 0 to below 1"):
        attach(optimizer, model)
    assert type(optimizer) is optim.SGD


def test_a_dropout_rate_stays_checked_for_the_other_of_two_optimizers() -> None:
    rate = Linear(0.0, 0.5)
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(2 * rate * 0.9))
    optimizers = [optim.SGD(Linear(0.1, 0.0)), optim.SGD(Linear(0.1, 0.0))]
    for optimizer in optimizers:
        attach(optimizer, model)
    detach(optimizers[1])
    with pytest.raises(ValueError, match="p in layers.1, as it is held, must be from 0 to below 1"):
        rate.hold(0.6)
