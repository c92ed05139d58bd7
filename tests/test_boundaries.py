"""A change at step b of T happens at step b, for T up to a million (100,000 in a graph)."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalars import (
    CosineAnnealingWarmRestarts,
    Cyclic,
    InverseSqrt,
    Linear,
    MultiStepDecay,
    PiecewiseConstant,
    Polynomial,
    Repeat,
    ScheduledScalar,
    Staircase,
    StepDecay,
)
from scalars.schedules.spans import reached


def test_every_boundary_of_every_run_up_to_2000_steps() -> None:
    for total in range(2, 2001):
        stairs = PiecewiseConstant(range_list(total), [b / total for b in range(1, total)])
        seen = [stairs.value_at(step / total) for step in range(total)]
        assert seen == range_list(total)


def range_list(n: int) -> list[int]:
    return list(range(n))


def test_every_multiple_of_every_part_up_to_2000_steps() -> None:
    for total in range(2, 2001):
        steps = np.arange(total + 1)
        for every in {1, 2, 3, 7, total // 3 or 1, total // 2, total - 1, total}:
            assert np.array_equal(reached(steps / total, every / total), steps // every)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_long_runs_on_the_host(data: st.DataObject) -> None:
    total = data.draw(st.integers(2, 1_000_000))
    every = data.draw(st.integers(1, total))
    step = data.draw(st.integers(0, total))
    assert reached(step / total, every / total) == step // every
    first = step // every * every
    for at in {first, max(first - 1, 0), first + 1} & set(range(total + 1)):
        assert reached(at / total, every / total) == at // every
    if total // every < 900:
        assert StepDecay(1.0, 0.5, every / total).at(step / total) == 0.5 ** (step // every)
    if step:
        milestones = [step / total, step / total]
        decay = MultiStepDecay(1.0, 0.5, milestones)
        assert [decay.at(at / total) for at in (step - 1, step)] == [1, 0.25]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_long_runs_in_a_graph(data: st.DataObject) -> None:
    total = data.draw(st.integers(2, 100_000))
    every = data.draw(st.integers(1, total))
    steps = np.arange(total + 1)
    progress = mx.array(steps).astype(mx.float32) / total
    assert np.array_equal(np.array(reached(progress, every / total)), steps // every)
    boundaries = sorted(data.draw(st.sets(st.integers(1, total - 1), min_size=1, max_size=5)))
    stairs = PiecewiseConstant(range_list(len(boundaries) + 1), [b / total for b in boundaries])
    expected = np.searchsorted(boundaries, steps, side="right")
    assert np.array_equal(np.array(stairs.at(progress)), expected)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_cycles_and_stairs_of_any_schedule(data: st.DataObject) -> None:
    """Staircase and Polynomial's cycle, on the host up to a million steps."""
    total = data.draw(st.integers(2, 1_000_000))
    every = data.draw(st.integers(1, total))
    stairs = Staircase(Linear(0.0, total), every / total)
    fall = Polynomial(1.0, 0.0, 1, cycle=every / total)
    first = data.draw(st.integers(0, total)) // every * every
    for step in {first, max(first - 1, 0), first + 1, total} & set(range(total + 1)):
        assert stairs.at(step / total) == pytest.approx(step // every * every, rel=1e-12)
        cycles = max(1, -(-step // every))
        expected = 1 - step / (cycles * every)
        assert fall.at(step / total) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_cycles_and_stairs_in_a_graph(data: st.DataObject) -> None:
    total = data.draw(st.integers(2, 100_000))
    every = data.draw(st.integers(1, total))
    steps = np.arange(total + 1)
    progress = mx.array(steps).astype(mx.float32) / total
    stairs = np.array(Staircase(Linear(0.0, 1.0), every / total).at(progress))
    np.testing.assert_allclose(stairs, steps // every * every / total, rtol=1e-6, atol=1e-7)
    fall = np.array(Polynomial(1.0, 0.0, 1, cycle=every / total).at(progress))
    cycles = np.maximum(1, -(-steps // every))
    np.testing.assert_allclose(fall, 1 - steps / (cycles * every), atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.floats(0.1, 3))
def test_growing_repeats_begin_on_their_step(times: int, growth: int, cut: float) -> None:
    """Cycles of first, first * growth, ... steps, in a run that ends within the last cycle."""
    lengths = [3 * growth**i for i in range(times)]
    begins = [sum(lengths[:i]) for i in range(times)]
    total = sum(lengths[:-1]) + max(1, round(lengths[-1] * min(cut, 1)))
    if total > 1_000_000:
        return
    given_times = times - 1 + (total - begins[-1]) / lengths[-1]
    schedule = Repeat(Linear(1.0, 0.0), given_times, growth=growth)
    in_graph = np.array(schedule.at(mx.array([b / total for b in begins])))
    on_host = [schedule.at(begin / total) for begin in begins]
    assert on_host == pytest.approx([1.0] * times, abs=1e-9)
    for i, begin in enumerate(begins[1:]):
        assert schedule.at((begin - 1) / total) == pytest.approx(1 / lengths[i], rel=1e-6)
    if total <= 100_000:
        np.testing.assert_allclose(in_graph, 1.0, atol=1e-5)


@pytest.mark.parametrize(
    "schedule",
    [
        CosineAnnealingWarmRestarts(0.1, 0.0, 0.1, 0.9),
        Repeat(Linear(1.0, 0.0), 150, growth=0.9),
        Repeat(InverseSqrt(1.0, 0.1), 20, growth=0.4),
    ],
)
def test_spans_that_are_empty_in_float32(schedule: ScheduledScalar) -> None:
    """The last spans are shorter than the distance of two numbers in float32."""
    near = np.float32(1) - np.arange(64, dtype=np.float32) * np.float32(2**-24)
    values = np.array(schedule.at(mx.array(near)))
    assert values[0] == np.float32(schedule.at(1.0))
    assert np.isfinite(values).all()


@pytest.mark.parametrize("total", [1211, 1500, 3640, 99_991])
def test_restarts_are_counted_in_integers(total: int) -> None:
    """PyTorch's and timm's logarithm misses the restart at step 1210: 10 (3^5 - 1) / 2."""
    schedule = CosineAnnealingWarmRestarts(1.0, first_cycle=10 / total, cycle_mult=3)
    restarts = [10 * (3**i - 1) // 2 for i in range(9)]
    assert 1210 in restarts
    for restart in [restart for restart in restarts if 0 < restart < total]:
        before, at = restart - 1, restart
        assert schedule.at(at / total) == 1
        assert schedule.at(before / total) < 0.03
        in_graph = schedule.at(mx.array([before, at]).astype(mx.float32) / total)
        np.testing.assert_allclose(np.array(in_graph), [schedule.at(before / total), 1], atol=2e-3)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_equal_restarts(cycles: int, steps: int) -> None:
    total = cycles * steps
    schedule = CosineAnnealingWarmRestarts(1.0, first_cycle=steps / total)
    repeated = Repeat(Linear(1.0, 0.0), cycles)
    for step in {0, 1, steps - 1, steps, total // 2, total - 1} & set(range(total)):
        x = step % steps / steps
        assert schedule.at(step / total) == pytest.approx((1 + math.cos(math.pi * x)) / 2, abs=1e-9)
        assert repeated.at(step / total) == pytest.approx(1 - x, abs=1e-9)
    # A cycle that ends with the run does not restart.
    assert schedule.at(1) == repeated.at(1) == 0
    assert Cyclic(0.0, 1.0, cycle=1 / cycles).at(1) == 0


def test_decimal_fractions_are_boundaries() -> None:
    """0.3 / 0.1 is 2.9999999999999996, and 0.1 * 3 is 0.30000000000000004."""
    decay = StepDecay(1.0, 0.5, 0.1)
    assert [decay.at(i / 10) for i in range(11)] == [0.5**i for i in range(11)]
    assert [decay.at(0.1 * i) for i in range(11)] == [0.5**i for i in range(11)]


@pytest.mark.parametrize("kind", ["mlx", "numpy"])
@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_progress_in_single_precision_reaches_its_boundary(
    kind: str, data: st.DataObject
) -> None:
    """``optimizer.step / total`` is rounded to float32, to either side of the boundary."""
    total = data.draw(st.integers(2, 1_000_000))
    step = data.draw(st.integers(1, total - 1))
    lr = PiecewiseConstant([1.0, 2.0], [step / total])
    divide = (lambda t: mx.array(t) / total) if kind == "mlx" else (lambda t: np.float32(t / total))
    values = [float(lr.update(divide(t))) for t in (step - 1, step)]
    assert values == [1.0, 2.0]
    array = np.array([step - 1, step], np.float32) / np.float32(total)
    assert lr.at(array).tolist() == [1.0, 2.0]
    assert lr.at(np.float32(step / total)) == 2.0


def test_a_progress_that_is_exact_in_its_dtype_is_kept() -> None:
    lr = Linear(1.0, 0.0)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5):
        for progress in (mx.array(value), np.float32(value), mx.array(value, mx.bfloat16)):
            assert lr.update(progress).progress == value
    assert lr.update(np.float64(0.7)).progress == 0.7
    assert lr.update(mx.array(0.7)).progress == pytest.approx(0.7, rel=1e-7)
