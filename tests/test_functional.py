"""User functions are called once for an array if that is correct, else once per float."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import scalars
from scalars import LambdaValue, Linear

POINTS = np.linspace(0, 1, 1001)


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        (lambda p: (1 - p) ** 2 + 0.1, 1),
        (lambda p: np.exp(-3 * p), 1),
        (lambda p: math.exp(-3 * p), 1001),
        (lambda p: 1.0 if p < 0.5 else 0.1, 1001),
        (lambda p: max(p, 0.25), 1001),
        (lambda p: 0.3, 1001),
        (lambda p: float(np.sum(p)), 1001),
        (lambda p: p / np.max(p) if np.ndim(p) else p / max(p, 1), 1),
        (lambda p: p[::-1] if np.ndim(p) else p, 1001),
    ],
)
def test_an_array_gives_what_floats_give(function: Any, calls: int) -> None:
    seen = []

    def counted(progress: Any) -> Any:
        seen.append(progress)
        return function(progress)

    scalar = LambdaValue(counted)
    seen.clear()
    values = scalar.at(POINTS)
    assert values.tolist() == pytest.approx([function(p) for p in POINTS.tolist()], rel=1e-14)
    assert calls <= len(seen) <= calls + 6


def test_a_function_that_only_fails_for_arrays_is_not_asked_for_one() -> None:
    scalar = LambdaValue(lambda p: {0.0: 1.0, 0.5: 2.0, 1.0: 3.0}[p])
    assert scalar.at(np.array([0.0, 1.0, 0.5])).tolist() == [1, 3, 2]
    with pytest.raises(KeyError, match="0.25"):
        scalar.at(np.array([0.0, 0.25]))


def test_a_function_of_mlx_serves_floats_and_graphs() -> None:
    scalar = LambdaValue(lambda p: 0.1 * mx.cos(p))
    assert float(scalar.update(0.5)) == pytest.approx(0.1 * math.cos(0.5), rel=1e-6)
    assert type(float(scalar)) is float
    in_graph = mx.compile(scalar.at)(mx.array([0.25, 0.5]))
    np.testing.assert_allclose(np.array(in_graph), 0.1 * np.cos([0.25, 0.5]), rtol=1e-6)


def test_text() -> None:
    assert repr(LambdaValue(math.cos)) == "LambdaValue(function=cos)"
    assert repr(LambdaValue(lambda p: p)) == "LambdaValue(function=<lambda>)"


NAMES = ["exp", "log", "sqrt", "sin", "cos", "tanh", "floor"]


@pytest.mark.parametrize("name", NAMES)
def test_one_function_serves_formulas_and_scalars(name: str) -> None:
    """Functions of floats (math), arrays (NumPy and MLX) and scalars agree."""
    ours, x = getattr(scalars, name), [0.3, 1.0, 2.7]
    reference = [float(getattr(math, name)(value)) for value in x]
    assert [ours(value) for value in x] == reference
    assert isinstance(ours(np.array(x)), np.ndarray)
    assert np.array_equal(ours(np.array(x)), getattr(np, name)(x))
    assert mx.array_equal(ours(mx.array(x)), getattr(mx, name)(mx.array(x)))
    scalar = Linear(0.3, 2.7)
    for made in (ours(scalar), getattr(np, name)(scalar)):
        assert repr(made) == f"{name}(Linear(start=0.3, end=2.7))"
        for progress in (0, 0.5, 0.75, 1):
            assert float(made.update(progress)) == getattr(math, name)(float(scalar))
    formula = LambdaValue(lambda p: ours(0.1 + p))
    grid = np.linspace(0, 1, 41)
    expected = [float(getattr(math, name)(0.1 + p)) for p in grid.tolist()]
    np.testing.assert_allclose(formula.at(grid), expected, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(np.array(formula.at(mx.array(grid))), expected, rtol=3e-6, atol=3e-7)


@pytest.mark.parametrize("name", NAMES)
def test_functions_in_a_compiled_function(name: str) -> None:
    """A compiled step computes in float32, and the range is known."""
    scalar = Linear(0.4, 7.4)
    made = getattr(scalars, name)(scalar)
    step = mx.compile(lambda x: made * x, inputs=[made.state])
    low, high = made.bounds
    for i in range(98):
        value = float(made.update(i / 97))
        assert step(mx.array(1.0)).item() == pytest.approx(value, rel=2e-6, abs=2e-6)
        assert low <= value <= high
    assert math.isfinite(high - low)


def test_floors_count_what_rounding_left_just_below() -> None:
    """As with ``//``: 0.1 * 3 * 10 is slightly above 3, and 0.3 / 0.1 slightly below."""
    steps = scalars.floor(Linear(0.0, 1.0) / 0.1)
    assert [steps.at(i / 10) for i in range(11)] == list(range(11))
    for total in (97, 1000, 99_991):
        exact = scalars.floor(Linear(0.0, total))
        assert [exact.at(i / total) for i in range(0, total + 1, 7)] == list(range(0, total + 1, 7))


def test_where_there_is_no_value() -> None:
    ours = scalars
    for make, message in (
        (lambda: ours.log(Linear(1.0, 0.0)), "at progress 1 must be a finite number.*above 0"),
        (lambda: ours.sqrt(Linear(1.0, -1.0)), "must be a finite number.*at least 0"),
        (lambda: ours.exp(Linear(0.0, 1000.0)), "must be a finite number.*math range error"),
        (lambda: np.log(Linear(-1.0, 1.0)), "must be a finite number"),
        (lambda: ours.log(-1.0), "the argument of log must be above 0, got -1.0"),
        (lambda: ours.sin(math.inf), "the argument of sin must be a finite number, got inf"),
        (lambda: ours.exp(1000.0), r"x of exp must be a number for which exp\(x\) is finite"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="exp must be given numbers, scalars or an mx.array"):
        ours.exp(None)  # type: ignore[call-overload]


def test_minimum_maximum_and_clip_serve_formulas() -> None:
    for x in (0.1, np.array([0.1, 0.5, 0.9]), mx.array([0.1, 0.5, 0.9])):
        expected = np.clip(np.array(x), 0.25, 0.75)
        np.testing.assert_allclose(np.array(scalars.clip(x, 0.25, 0.75)), expected, rtol=1e-7)
    assert np.array_equal(scalars.minimum(Linear(0.5, 1.0), np.array([0.2, 0.9])), [0.2, 0.5])
