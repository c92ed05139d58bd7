"""Horizons convert steps and epochs to progress, keep boundaries on their step, and do not jump."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
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
    WarmupStableDecay,
    attach,
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


def test_a_step_ahead() -> None:
    """As in libraries that count from 1, the last step has the end value."""
    ahead = Horizon(4, offset=1)
    assert [ahead.progress(step) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1.25]
    assert [Horizon(6, endpoint=True, offset=2).progress(s) for s in range(4)] == [0.4, 0.6, 0.8, 1]
    assert list(ahead.progresses()) == [0.25, 0.5, 0.75, 1, 1]
    assert ahead.progress(mx.arange(4)).tolist() == [0.25, 0.5, 0.75, 1]
    assert eval(repr(ahead), {"Horizon": Horizon}) == ahead
    assert Horizon(4, None, False, 1) == ahead
    # A boundary is at its step, and a warm-up of this many steps ends there.
    lr = Warmup(CosineAnnealing(1.0), ahead.fraction(steps=1))
    assert [lr.at(ahead.progress(step)) for step in (0, 1)] == [0.5, 1]
    for total in range(2, 60):
        for offset in range(total):
            horizon = Horizon(total, offset=offset)
            expected = [min((step + offset) / total, 1) for step in range(total + 1)]
            assert list(horizon.progresses()) == expected
            assert [min(horizon.progress(step), 1) for step in range(total + 1)] == expected
            for boundary in range(1, total - offset):
                assert switches_on(boundary, total, horizon) == [1, 2]


def test_a_step_ahead_and_extended() -> None:
    longer = Horizon(10, offset=2).extend(20, at_step=4)
    # At step 4 the progress is (4 + 2) / 10; the rest is spread over the 14 steps to 18.
    assert [longer.progress(s) for s in (0, 4, 11, 18)] == pytest.approx([0.2, 0.6, 0.8, 1])
    assert list(longer.progresses()) == [min(longer.progress(s), 1) for s in range(21)]
    at_once = Horizon(10, offset=2).extend(20, at_step=0)
    assert [at_once.progress(s) for s in (0, 9, 18)] == pytest.approx([0.2, 0.6, 1])
    with pytest.raises(ValueError, match="at_step must be before the end of the run, .* at step 8"):
        Horizon(10, offset=2).extend(20, at_step=8)
    with pytest.raises(ValueError, match="total_steps must be a whole number of at least 8"):
        Horizon(10, offset=2).extend(7, at_step=5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Horizon(4, offset=4), ValueError, "offset of Horizon must be below total_steps"),
        (lambda: Horizon(4, endpoint=True, offset=3), ValueError, "must be below total_steps"),
        (lambda: Horizon(4, offset=-1), ValueError, "offset of Horizon must be a whole number"),
        (lambda: Horizon(4, offset=0.5), TypeError, "offset of Horizon must be a whole number"),
        (
            lambda: Horizon(4).fraction(steps=5),
            ValueError,
            r"from 0 to total_steps, 4, got 5. If the schedule .* Truncated\(schedule, end\), "
            "or pass the total steps of the whole schedule and stop early",
        ),
    ],
)
def test_bad_horizons(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


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
    # The rest is stretched evenly over the remaining steps.
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


def test_a_jump_cools_down_now() -> None:
    """A long run that has to end early: every step by hand, with both drivers."""
    peak, warm, decay = 0.5, 0.05, 0.2
    lr = WarmupStableDecay(peak, warmup=warm, decay=decay)
    horizon = Horizon(1000)
    jumped = horizon.jump(lr.decay_begin, at_step=130, total_steps=150)

    def by_hand(step: int) -> float:
        if step < 50:
            return peak * step / 50
        return peak if step < 130 else peak * (1 - (min(step, 150) - 130) / 20)

    expected = [by_hand(step) for step in range(153)]
    looped = [lr.at((horizon if step < 130 else jumped).progress(step)) for step in range(153)]
    assert looped == pytest.approx(expected, rel=1e-12, abs=1e-15)
    past = [jumped.progress(step) for step in range(130)]
    assert past == pytest.approx([step / 1000 for step in range(130)], rel=1e-15)
    assert list(jumped.progresses()) == [min(jumped.progress(step), 1.0) for step in range(151)]
    for compiled in (False, True):
        optimizer = optim.SGD(WarmupStableDecay(peak, warmup=warm, decay=decay))
        optimizer.init({"w": mx.array(0.0)})
        attach(optimizer, horizon=horizon)
        step = optimizer.apply_gradients
        if compiled:
            step = mx.compile(step, inputs=optimizer.state, outputs=optimizer.state)
        seen = []
        for i in range(153):
            if i == 130:
                attach(optimizer, horizon=jumped)
            weights = step({"w": mx.array(-1.0)}, {"w": mx.array(0.0)})
            seen.append(weights["w"].item())
        assert seen == [float(np.float32(value)) for value in looped]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_extending_and_jumping_again_and_again(data: st.DataObject) -> None:
    """Straight lines between points, of which two may be at one step, computed step by step."""
    offset = data.draw(st.integers(0, 2))
    total = data.draw(st.integers(offset + 1, 60))
    horizon, at = Horizon(total, offset=offset), 0
    expected = [min((step + offset) / total, 1.0) for step in range(total + 1)]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(at, total - offset - 1))
        new = data.draw(st.integers(at + 1 + offset, 80))
        to = data.draw(st.none() | st.integers(0, 100).map(lambda i: i / 100))
        horizon = horizon.extend(new, at) if to is None else horizon.jump(to, at, new)
        begin = expected[at] if to is None else to
        steps = new - offset - at
        rest = [begin + (1 - begin) * min(i / steps, 1.0) for i in range(new - at + 1)]
        expected, total = expected[:at] + rest, new
    np.testing.assert_allclose(horizon.progresses(), expected, rtol=1e-12, atol=1e-15)
    each = [min(horizon.progress(step), 1.0) for step in range(total + 1)]
    np.testing.assert_allclose(each, expected, rtol=1e-12, atol=1e-15)
    in_graph = mx.minimum(horizon.progress(mx.arange(total + 1)), 1.0)
    np.testing.assert_allclose(np.array(in_graph), expected, rtol=1e-6, atol=1e-6)
    assert eval(repr(horizon), {"Horizon": Horizon}) == horizon


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((1.5, 50, 60), ValueError, "to must be a fraction of the run"),
        ((math.nan, 50, 60), ValueError, "to must be a fraction of the run"),
        (("0.8", 50, 60), TypeError, "to must be a fraction of the run"),
        ((0.8, 39, 60), ValueError, "at_step must be a whole number of at least 40"),
        ((0.8, 100, 160), ValueError, "at_step must be before the end"),
        ((0.8, 50, 50), ValueError, "total_steps must be a whole number of at least 51"),
    ],
)
def test_jumps_that_are_refused(arguments: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Horizon(80).extend(100, 40).jump(*arguments)


@pytest.mark.parametrize(
    ("past", "error", "message"),
    [
        (((5, 0.5), (3, 0.2)), ValueError, "steps in order, below the end of the run at step 10"),
        (((50, 0.5),), ValueError, "steps in order, below the end of the run at step 10"),
        (((5, 1.5),), ValueError, "item 0 of past of Horizon must be a fraction"),
        (((5, "a"),), TypeError, "item 0 of past of Horizon must be a fraction"),
        (((5,),), ValueError, "must be a step and a progress"),
        ((5, 0.5), TypeError, "must be a list or a tuple"),
    ],
)
def test_a_past_that_extend_and_jump_do_not_make(past: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Horizon(10, past=past)


def test_a_past_may_come_from_json() -> None:
    horizon = Horizon(10).jump(0.5, 3, 20)
    again = Horizon(20, past=[list(pair) for pair in horizon.past])  # type: ignore[arg-type]
    assert again == horizon
    assert hash(again) == hash(horizon)
