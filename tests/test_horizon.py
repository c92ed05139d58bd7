"""Horizons: steps and epochs as progress, boundaries on their step, no jump."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalars import (
    CosineAnnealing,
    CosineAnnealingWarmRestarts,
    Horizon,
    Linear,
    Sequence,
    Warmup,
)


def test_progress() -> None:
    assert [Horizon(4).progress(step) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1.25]
    assert [Horizon(5, endpoint=True).progress(step) for step in range(6)] == [
        0,
        0.25,
        0.5,
        0.75,
        1,
        1.25,
    ]
    assert Horizon(4).progress(0.5) == 0.125


@pytest.mark.parametrize("total", [1, 7, 1000, 99_991, 1_000_000])
def test_progress_is_step_over_total(total: int) -> None:
    for step in (0, 1, total // 3, total - 1, total, 2 * total):
        assert Horizon(total).progress(step) == step / total


def test_fractions() -> None:
    horizon = Horizon(1000, steps_per_epoch=100)
    assert horizon.fraction(steps=50) == 0.05
    assert horizon.fraction(epochs=2) == 0.2
    assert horizon.fraction(steps=50, epochs=1.5) == 0.2
    assert (horizon.fraction(), horizon.fraction(steps=1000)) == (0, 1)
    assert Horizon(101, endpoint=True).fraction(steps=50) == 0.5
    assert Horizon(101, endpoint=True).fraction(steps=101) == 1


def switches_on(boundary: int, total: int, horizon: Horizon) -> list[float]:
    schedule = Sequence([1.0, 2.0], [horizon.fraction(steps=boundary)])
    return [schedule.at(horizon.progress(step)) for step in (boundary - 1, boundary)]


def test_every_boundary_of_every_short_run() -> None:
    for total in range(2, 200):
        horizon = Horizon(total)
        for boundary in range(1, total):
            assert switches_on(boundary, total, horizon) == [1, 2]


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_boundaries_fall_on_their_step(data: st.DataObject) -> None:
    total = data.draw(st.integers(3, 1_000_000))
    endpoint = data.draw(st.booleans())
    boundary = data.draw(st.integers(1, total - 1 - endpoint))
    assert switches_on(boundary, total, Horizon(total, endpoint=endpoint)) == [1, 2]
    schedule = Sequence([1.0, 2.0], [boundary / total])
    assert [schedule.at(step / total) for step in (boundary - 1, boundary)] == [1, 2]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_boundaries_fall_on_their_step_in_the_graph(data: st.DataObject) -> None:
    total = data.draw(st.integers(2, 100_000))
    boundaries = sorted(data.draw(st.sets(st.integers(1, total - 1), max_size=5)))
    horizon = Horizon(total)
    schedule = Sequence(
        list(range(len(boundaries) + 1)), [horizon.fraction(steps=b) for b in boundaries]
    )
    steps = np.arange(total)
    expected = np.searchsorted(boundaries, steps, side="right")
    assert np.array_equal(np.array(schedule.at(horizon.progress(mx.array(steps)))), expected)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_nested_boundaries_fall_on_their_step(data: st.DataObject) -> None:
    total = data.draw(st.integers(4, 1_000_000))
    warmup = data.draw(st.integers(1, total - 3))
    boundary = data.draw(st.integers(warmup + 1, total - 1))
    inner = Sequence([1.0, 2.0], [(boundary - warmup) / (total - warmup)])
    schedule = Warmup(inner, warmup / total)
    assert [schedule.at(step / total) for step in (boundary - 1, boundary)] == [1, 2]
    assert schedule.at(warmup / total) == 1


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nested_boundaries_fall_on_their_step_in_the_graph(data: st.DataObject) -> None:
    total = data.draw(st.integers(100, 50_000))
    warmup = data.draw(st.integers(1, total // 2))
    boundary = data.draw(st.integers(warmup + 1, total - 1))
    inner = Sequence([1.0, 2.0], [(boundary - warmup) / (total - warmup)])
    schedule = Warmup(inner, warmup / total)
    steps = mx.array([warmup, boundary - 1, boundary])
    values = schedule.at(Horizon(total).progress(steps)).tolist()
    assert values == [1 if warmup < boundary else 2, 1, 2]


def test_sums_of_fractions_are_boundaries_too() -> None:
    schedule = Sequence(
        [1.0, 2.0, 3.0], [0.1 + 0.2, 0.1 * 7]
    )  # 0.30000000000000004, 0.7000000000000001
    assert [schedule.at(step / 10) for step in (2, 3, 6, 7)] == [1, 2, 2, 3]


def test_a_cosine_over_a_horizon_by_hand() -> None:
    """Five steps, with and without the end value: MLX's and linspace's conventions."""
    import mlx.optimizers as optim

    lr = CosineAnnealing(1.0, 0.1)
    theirs = optim.cosine_decay(1.0, 5, end=0.1)
    for step in range(6):
        expected = theirs(mx.array(step)).item()
        assert lr.at(Horizon(5).progress(step)) == pytest.approx(expected, rel=1e-6)
    ends = [lr.at(Horizon(5, endpoint=True).progress(step)) for step in range(5)]
    assert ends == pytest.approx([0.1 + 0.45 * (1 + np.cos(x)) for x in np.linspace(0, np.pi, 5)])


@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize(
    "steps", [mx.arange(8), mx.arange(8).astype(mx.uint32), mx.array(3, mx.uint64)]
)
def test_steps_in_the_graph(endpoint: bool, steps: mx.array) -> None:
    horizon = Horizon(6, endpoint=endpoint).extend(9, at_step=2)
    expected = [horizon.progress(step) for step in np.array(steps).ravel().tolist()]
    for progress in (horizon.progress(steps), mx.compile(horizon.progress)(steps)):
        assert progress.dtype == mx.float32
        np.testing.assert_allclose(np.array(progress).ravel(), expected, rtol=1e-6)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_extend_does_not_jump(data: st.DataObject) -> None:
    total = data.draw(st.integers(2, 10_000))
    at_step = data.draw(st.integers(0, total - 1))
    longer = data.draw(st.integers(at_step + 1, 20_000))
    before = Horizon(total)
    after = before.extend(longer, at_step)
    for step in {0, at_step // 2, max(at_step - 1, 0), at_step}:
        assert after.progress(step) == pytest.approx(before.progress(step), rel=1e-15)
    # What remains is stretched evenly over the steps that remain.
    middle = (at_step + longer) / 2
    assert after.progress(middle) == pytest.approx((before.progress(at_step) + 1) / 2, rel=1e-12)
    assert after.progress(longer) == 1
    assert after.total_steps == longer
    for schedule in (
        Warmup(CosineAnnealing(1.0, 0.1) * 2 + 1, 0.1),
        Sequence([Linear(0.0, 1.0), CosineAnnealing(1.0)], [0.5]),
        CosineAnnealingWarmRestarts(1.0, first_cycle=0.1, cycle_mult=2.0) * 0.5 + 0.1,
    ):
        assert schedule.at(after.progress(at_step)) == schedule.at(before.progress(at_step))


def test_extend_again_and_again() -> None:
    horizon = Horizon(100).extend(200, at_step=50).extend(110, at_step=100).extend(110, at_step=100)
    assert [horizon.progress(s) for s in (25, 50, 75, 100, 105, 110)] == pytest.approx(
        [0.25, 0.5, 0.5 + 1 / 12, 2 / 3, 5 / 6, 1]
    )
    assert horizon.fraction(steps=105) == pytest.approx(5 / 6)
    assert Horizon(10).extend(20, at_step=0) == Horizon(20)
    assert eval(repr(horizon), {"Horizon": Horizon}) == horizon
    steps = [horizon.progress(s) for s in range(111)]
    assert steps == sorted(steps)
