"""Every schedule of the table has every property."""

from __future__ import annotations

import copy
import math
import pickle
import re
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalars
from scalars import Schedule, ScheduledScalar
from scalars.sketch import HEIGHT, MARGIN, WIDTH

from .cases import CASES, Case, quadratic, wave
from .helpers import MLX, Traced, public_names

every_case = pytest.mark.parametrize("case", CASES, ids=str)
NAMES = {**public_names(), "mlx": __import__("mlx.core"), "quadratic": quadratic, "wave": wave}
GRID = [i / 97 for i in range(98)]


def scale(case: Case) -> float:
    return max(map(abs, case.bounds))


@every_case
def test_points(case: Case) -> None:
    for progress, value in case.points.items():
        expected = pytest.approx(value, rel=case.tolerance, abs=case.tolerance * scale(case))
        assert float(case.make().update(progress)) == expected
        assert case.make().at(progress) == expected


@every_case
def test_ends_are_exact(case: Case) -> None:
    for progress in {0, 1} & set(case.points):
        value = case.points[progress]
        if value in case.bounds and case.tolerance == 1e-12:
            assert case.make().at(progress) == pytest.approx(value, rel=2e-15, abs=0)


@every_case
def test_update_is_at(case: Case) -> None:
    scalar = case.make()
    for progress in GRID:
        assert scalar.update(progress) is scalar
        assert float(scalar) == scalar.item() == scalar.at(progress)
        assert scalar.progress == progress
        assert type(float(scalar)) is type(scalar.at(progress)) is float


@every_case
def test_at_changes_nothing(case: Case) -> None:
    scalar = case.make().update(0.25)
    before = float(scalar)
    scalar.at(0.75)
    scalar.at(np.array([0.5]))
    scalar.at(mx.array([0.5]))
    assert (float(scalar), scalar.progress) == (before, 0.25)


@every_case
def test_the_value_at_1_holds(case: Case) -> None:
    scalar = case.make()
    end = scalar.at(1)
    for progress in (1, 1.0000001, 1.9):
        assert scalar.at(progress) == end == float(scalar.update(progress))
        assert scalar.progress == progress
    assert scalar.at(1e300) == end


@every_case
def test_numpy_is_double_precision(case: Case) -> None:
    progress = np.array([*GRID, 0.1, 0.25, 0.5, 1.0, 1.5]).reshape(-1, 1)
    values = case.make().at(progress)
    assert values.dtype == np.float64
    assert values.shape == progress.shape
    expected = [case.make().at(p) for p in progress.ravel().tolist()]
    np.testing.assert_allclose(values.ravel(), expected, rtol=1e-14, atol=1e-15 * scale(case))


@every_case
def test_numpy_in_blocks(case: Case) -> None:
    progress = np.linspace(0, 1, 40_000)
    scalar = case.make()
    values = scalar.at(progress)
    for i in (0, 1, 16_383, 16_384, 20_000, 39_999):
        expected = scalar.at(float(progress[i]))
        assert values[i] == pytest.approx(expected, rel=1e-14, abs=1e-15 * scale(case))


@every_case
def test_mlx_is_single_precision_and_traceable(case: Case) -> None:
    scalar = case.make()
    progress = mx.array([p for p in GRID if p not in case.points])
    expected = np.array([scalar.at(p) for p in progress.tolist()])  # type: ignore[union-attr, arg-type]
    tolerance = 2e-6 * (expected.max() - expected.min() + scale(case))
    try:
        compiled = mx.compile(scalar.at)(progress)
    except IndexError:
        if MLX >= (0, 31):
            raise
        pytest.skip("MLX 0.30 cannot compile so many operations")
    for values in (scalar.at(progress), compiled):
        assert values.dtype == mx.float32
        np.testing.assert_allclose(np.array(values), expected, rtol=1e-6, atol=tolerance)
    assert scalar.at(mx.array(0.5)).shape == ()
    assert scalar.at(mx.array([0, 1])).dtype == mx.float32


@every_case
def test_bounds(case: Case) -> None:
    scalar = case.make()
    low, high = case.bounds
    margin = case.tolerance * scale(case)
    values = [scalar.at(i / 2000) for i in range(2001)]
    assert low - margin <= min(values)
    assert max(values) <= high + margin
    assert scalar.extent == pytest.approx((low, high), rel=1e-3, abs=1e-3 * (high - low) + margin)
    assert list(scalar.knots) == sorted(set(scalar.knots))
    assert (scalar.knots[0], scalar.knots[-1]) == (0, 1)


@every_case
def test_continuous(case: Case) -> None:
    """At 100,001 places for NumPy; for a float at some of them, and at all near the knots."""
    if not case.jumps:
        scalar, steps = case.make(), 100_000
        values = scalar.at(np.arange(steps + 1) / steps)
        assert np.abs(np.diff(values)).max() <= 0.01 * scale(case)
        near = {int(knot * steps) + i for knot in scalar.knots for i in range(-5, 7)}
        places = sorted({*range(0, steps + 1, 100), *near} & set(range(steps + 1)))
        floats = [scalar.at(place / steps) for place in places]
        np.testing.assert_allclose(values[places], floats, rtol=1e-12, atol=1e-12 * scale(case))


@every_case
def test_repr_evaluates_to_an_equal_schedule(case: Case) -> None:
    scalar = case.make()
    again = eval(repr(scalar), NAMES)
    assert repr(again) == repr(scalar)
    assert [again.at(p) for p in GRID] == [scalar.at(p) for p in GRID]
    assert again == scalar
    assert hash(again) != hash(scalar)


@every_case
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_copies_are_independent(case: Case, copied: Any) -> None:
    scalar = case.make().update(0.3)
    _ = scalar.state, scalar.array, scalar.extent
    again = copied(scalar)
    assert repr(again) == repr(scalar)
    assert (float(again), again.progress) == (float(scalar), 0.3)
    again.update(0.9)
    assert scalar.progress == 0.3
    assert float(scalar) == scalar.at(0.3)
    assert again.state is not scalar.state


@every_case
def test_state_dict_is_json(case: Case) -> None:
    import json

    saved = json.loads(json.dumps(case.make().update(0.3).state_dict()))
    again = case.make().load_state_dict(saved)
    assert float(again) == case.make().at(0.3)


@every_case
def test_live_in_a_compiled_function(case: Case) -> None:
    scalar = case.make()
    x = mx.array([1.0, -2.0])
    body = Traced(lambda x: (scalar * x, x - scalar))
    function = mx.compile(body, inputs=[scalar.state])
    for progress in GRID[::8]:
        scalar.update(progress)
        value = np.float32(scalar.at(progress))
        # x - scalar has the dtype of the view.
        tolerance = (1e-6 if scalar.dtype == mx.float32 else 1e-2) * scale(case)
        for result, expected in zip(function(x), (value * np.array([1, -2]), [1, -2] - value)):
            np.testing.assert_allclose(
                np.array(result.astype(mx.float32)), expected, 1e-6, tolerance
            )
    assert body.traces == 1


@every_case
@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_update_forgets_the_past(case: Case, first: float, second: float) -> None:
    scalar = case.make()
    assert float(scalar.update(first).update(second)) == case.make().at(second)


@every_case
def test_html_has_a_curve(case: Case) -> None:
    """Its height is that of the value, from the least at the bottom to the largest on top."""
    schedule = case.make()
    text = schedule._repr_html_()
    lines = re.findall(r'points="([^"]*)"', text)
    points = [tuple(map(float, point.split(","))) for line in lines for point in line.split()]
    assert len(points) > 2
    values = [schedule.at(i / 1000) for i in range(1001)]
    low, high = min(values), max(values)
    for x, y in points:
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    if high - low > 1e-9:
        share = (schedule.at(0.0) - low) / (high - low)
        assert 1 - (points[0][1] - MARGIN) / (HEIGHT - 2 * MARGIN) == pytest.approx(share, abs=0.02)
        assert points[0][0] == MARGIN


def test_every_schedule_has_a_row() -> None:
    def schedules(scalar: ScheduledScalar) -> set[type]:
        return {type(leaf) for leaf in scalar.leaves}

    covered = set().union(*(schedules(case.make()) for case in CASES))
    public = {
        value
        for value in public_names().values()
        if isinstance(value, type) and issubclass(value, Schedule)
    }
    assert public - {Schedule} <= covered


@pytest.mark.parametrize(
    "curve", ["linear", "cosine", "one_minus_sqrt", "smoothstep", "polynomial"]
)
def test_rising_curves_are_falling_curves_upside_down(curve: str) -> None:
    rising = scalars.Warmup(3.0, 1.0, start=1.0, curve=curve)
    falling = scalars.Warmup(1.0, 1.0, start=3.0, curve=curve)
    for p in GRID:
        assert rising.at(p) + falling.at(p) == pytest.approx(4.0, rel=1e-15)


@settings(max_examples=300, deadline=None)
@given(
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 1e6),
    st.floats(0, 1),
    st.sampled_from([scalars.Linear, scalars.CosineAnnealing, scalars.Polynomial]),
)
def test_between_the_ends(start: float, end: float, progress: float, schedule: Any) -> None:
    scalar = schedule(start, end)
    margin = 4e-16 * max(abs(start), abs(end))
    assert min(start, end) - margin <= scalar.at(progress) <= max(start, end) + margin
    assert (scalar.at(0), scalar.at(1)) == (start, end)


@settings(max_examples=300, deadline=None)
@given(st.floats(1e-12, 1e6), st.floats(1e-12, 1e6), st.floats(0, 1))
def test_exponential_is_geometric(start: float, end: float, progress: float) -> None:
    expected = math.exp(math.log(start) + (math.log(end) - math.log(start)) * progress)
    assert scalars.Exponential(start, end).at(progress) == pytest.approx(expected, rel=1e-12)
    assert scalars.Exponential(start, end).at(1) == end
