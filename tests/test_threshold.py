"""ThresholdSwitch: on to the next when a condition holds, and never back."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from scalars import Linear, ScalarGroup, ThresholdSwitch, Warmup


def test_one_step_at_a_time_and_never_back() -> None:
    switch = ThresholdSwitch([1.0, 2.0, 3.0], ["< 0.5", "< 0.5"])
    metrics = (0.5, 0.4, 9.0, 0.1, 0.1, 9.0)
    assert [float(switch.observe(metric)) for metric in metrics] == [1, 2, 2, 3, 3, 3]
    assert switch.memory == {"index": 2}


@pytest.mark.parametrize(
    ("condition", "meets", "misses"),
    [
        ("< 0.5", 0.4999, 0.5),
        ("<= 0.5", 0.5, 0.50001),
        (">0.9", 0.91, 0.9),
        (">=-1e-3", -1e-3, -2e-3),
        (lambda metric: metric == 3, 3, 2),
        (lambda metric: np.bool_(metric > 1), 1.5, 0.5),
        (lambda metric: mx.array(metric) > 1, 1.5, 0.5),
    ],
)
def test_conditions(condition: Any, meets: float, misses: float) -> None:
    switch = ThresholdSwitch([1.0, 2.0], [condition])
    assert [float(switch.observe(metric)) for metric in (misses, meets)] == [1.0, 2.0]


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_meets_no_condition(metric: float) -> None:
    switch = ThresholdSwitch([1.0, 2.0], [lambda metric: True])
    assert float(switch.observe(metric)) == 1.0
    assert float(switch.observe(0.0)) == 2.0


def test_an_error_in_the_users_condition_changes_nothing() -> None:
    first = ThresholdSwitch([1.0, 2.0], ["> 0"])
    second = ThresholdSwitch([1.0, 2.0], [lambda metric: 1 / 0])
    for observer in (second, first * second, ScalarGroup(a=first, b=second)):
        with pytest.raises(ZeroDivisionError):
            observer.observe(1.0)
        assert (float(first), float(second)) == (1.0, 1.0)


def test_all_run_over_the_whole_run() -> None:
    switch = ThresholdSwitch([Linear(0.0, 1.0), Linear(2.0, 4.0)], ["< 1"])
    assert float(switch.update(0.25)) == 0.25
    assert float(switch.observe(0.0)) == 2.5
    assert [switch.at(p) for p in (0, 0.5, 1)] == [2, 3, 4]


def test_the_next_loss_when_the_criterion_is_met() -> None:
    """fast.ai: two loss weights that change over, in a compiled loss with one trace."""
    first = ThresholdSwitch([1.0, 0.0], ["< 0.5"])
    second = 1 - first
    x = mx.array([3.0, 4.0])
    traces = 0

    def loss(x: mx.array) -> mx.array:
        nonlocal traces
        traces += 1
        return first * x.sum() + second * x.max()

    compiled = mx.compile(loss, inputs=[first.state])
    assert [compiled(x).item()] + [
        (second.observe(metric), compiled(x).item())[1] for metric in (0.6, 0.4, 0.6)
    ] == [7.0, 7.0, 4.0, 4.0]
    assert traces == 1


def test_state_and_copies() -> None:
    switch = Warmup(ThresholdSwitch([1.0, 3.0], ["< 0.5"]), 0.5).update(0.25).observe(0.1)
    saved = json.loads(json.dumps(switch.state_dict()))
    assert saved == {"progress": 0.25, "observed": [{"index": 1}]}
    again = Warmup(ThresholdSwitch([1.0, 3.0], ["< 0.5"]), 0.5).load_state_dict(saved)
    for one in (again, copy.copy(switch), pickle.loads(pickle.dumps(switch))):
        assert (float(one), one.progress) == (1.5, 0.25)
    saved["observed"][0]["index"] = 2
    with pytest.raises(ValueError, match="index in the memory of ThresholdSwitch must be below"):
        again.load_state_dict(saved)


def test_repr_shows_functions_by_name() -> None:
    def low(metric: float) -> bool:
        return metric < 1

    switch = ThresholdSwitch([1, 2, 3], ["< 0.5", low])
    assert repr(switch) == (
        "ThresholdSwitch(scalars=(Constant(value=1), Constant(value=2), Constant(value=3)), "
        "conditions=('< 0.5', low))"
    )
