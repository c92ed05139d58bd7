"""Groups: one update for many scalars, snapshots, subscriptions, tracking, state."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping

import mlx.core as mx
import mlx.optimizers as optim
import pytest

from scalars import (
    CosineAnnealing,
    Horizon,
    Linear,
    ReduceOnPlateau,
    ScalarGroup,
    Warmup,
    attach,
)


def make() -> ScalarGroup:
    lr = CosineAnnealing(1.0)
    return ScalarGroup(lr=lr, wd=Linear(0.0, 0.5), half=lr * 0.5)


def test_it_is_a_mapping() -> None:
    lr, wd = CosineAnnealing(1.0), Linear(0.0, 0.5)
    group = ScalarGroup({"weight decay": wd}, lr=lr)
    assert (list(group), len(group), "lr" in group, group["lr"] is lr) == (
        ["weight decay", "lr"],
        2,
        True,
        True,
    )
    assert dict(group) == {"weight decay": wd, "lr": lr}
    assert repr(make()) == (
        "ScalarGroup(lr=CosineAnnealing(start=1.0), wd=Linear(start=0.0, end=0.5), "
        "half=CosineAnnealing(start=1.0) * 0.5)"
    )
    assert repr(group) == f"ScalarGroup({{'weight decay': {wd!r}, 'lr': {lr!r}}})"
    assert list(
        eval(
            repr(group),
            {"ScalarGroup": ScalarGroup, "Linear": Linear, "CosineAnnealing": CosineAnnealing},
        )
    )


def test_one_update_for_all() -> None:
    group = make()
    assert group.update(0.5) is group
    assert group.snapshot() == pytest.approx({"lr": 0.5, "wd": 0.25, "half": 0.25}, rel=1e-15)
    assert all(type(value) is float for value in group.snapshot().values())


def test_subscribers_see_every_update_until_they_end() -> None:
    group, seen, order = make(), [], []
    end = group.subscribe(lambda progress, values: seen.append((progress, values)))
    group.subscribe(lambda progress, values: order.append(len(seen)))
    group.update(0)
    group.update(1)
    end()
    end()
    group.update(0.5)
    assert seen == [(0, {"lr": 1, "wd": 0, "half": 0.5}), (1, {"lr": 0, "wd": 0.5, "half": 0})]
    assert order == [1, 2, 2]


def test_track_is_the_loop_written_by_hand() -> None:
    tracked, by_hand = make(), make()
    horizon = Horizon(7)
    for step, item in enumerate(tracked.track("abcdefg", horizon)):
        by_hand.update(step / 7)
        assert item == "abcdefg"[step]
        assert tracked.snapshot() == by_hand.snapshot()
    resumed = make()
    for step, _ in enumerate(resumed.track("cdefg", horizon, start=2), start=2):
        assert float(resumed["lr"]) == make()["lr"].at(step / 7)


def test_track_takes_no_item_too_many() -> None:
    """A trainer with an endless iterator of batches stops at the end of the horizon."""
    source = itertools.count()
    batches = make().track(source, Horizon(3))
    assert [batch for _, batch in zip(range(3), batches)] == [0, 1, 2]
    assert next(source) == 3


def test_state_dict_resumes_exactly() -> None:
    group = make().update(1 / 3)
    saved = json.loads(json.dumps(group.state_dict()))
    assert saved == {
        "lr": {"progress": 1 / 3},
        "wd": {"progress": 1 / 3},
        "half": {"0": {"progress": 1 / 3}},
    }
    again = make()
    assert again.load_state_dict(saved) is again
    assert again.snapshot() == group.snapshot()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda s: s.pop("wd"),
            ValueError,
            r"the state of ScalarGroup must be .*'wd', 'half', got \['half', 'lr'\]",
        ),
        (
            lambda s: s.update(other={}),
            ValueError,
            r"the state of ScalarGroup must be a mapping with 'lr'",
        ),
        (
            lambda s: s.update(half={"0": {"progress": -1}}),
            ValueError,
            "progress must be .* got -1",
        ),
        (
            lambda s: s.update(half={"0": {"progress": None}}),
            TypeError,
            "progress must be .* got None",
        ),
        (
            lambda s: s.update(half={}),
            ValueError,
            r"the state of CosineAnnealing\(start=1.0\) \* 0.5 must be",
        ),
        (lambda s: s.update(half=3), TypeError, r"must be a mapping with '0', got 3"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, error, message) -> None:  # type: ignore[no-untyped-def]
    saved = make().update(0.75).state_dict()
    change(saved)
    group = make().update(0.25)
    before = group.snapshot()
    with pytest.raises(error, match=message):
        group.load_state_dict(saved)
    assert group.snapshot() == before
    assert group.state_dict() == make().update(0.25).state_dict()


def test_state_is_what_compile_captures() -> None:
    group = make()
    step = mx.compile(lambda x: x * group["half"] + group["wd"], inputs=[group.state])
    for progress in (0, 0.5, 1):
        group.update(progress)
        expected = float(group["half"]) + float(group["wd"])
        assert step(mx.array(1.0)).item() == pytest.approx(expected, rel=1e-6)


def test_a_scalar_of_two_names_is_updated_once() -> None:
    warm = Warmup(Linear(1.0, 0.0), 0.5)
    group = ScalarGroup(a=warm, b=warm, c=warm + warm)
    group.update(0.25)
    assert group.snapshot() == {"a": 0.5, "b": 0.5, "c": 1.0}


def test_items_tracked_again() -> None:
    """A second run may start again, but not a new iterator at each step."""
    group = ScalarGroup(lr=Linear(1.0, 0.0))
    for _ in range(2):
        assert [float(group["lr"]) for _ in group.track("abcd", Horizon(4))] == [1, 0.75, 0.5, 0.25]
    message = r"set by the items only, which are at 0, got 0.25. Pass start=step .* update\(0\)"
    first = group.track("abcd", Horizon(4))
    next(first)
    next(first)
    with pytest.raises(ValueError, match=message):
        next(group.track("abcd", Horizon(4)))
    assert [float(group["lr"]) for _ in group.track("cd", Horizon(4), start=2)] == [0.5, 0.25]
    with pytest.raises(ValueError, match="set by the items only, which are at 0.5, got 0.75"):
        next(first)
    group.update(0)
    assert len(list(group.track("abcd", Horizon(4)))) == 4


@pytest.mark.parametrize("count", [1, 2])
def test_items_that_end_before_the_run_are_no_run(count: int) -> None:
    """After one epoch or batch of a horizon of four, the next one needs ``start``."""
    group = ScalarGroup(lr=Linear(1.0, 0.0))
    assert [float(group["lr"]) for _ in group.track("ab", Horizon(4))] == [1, 0.75]
    with pytest.raises(
        ValueError, match=r"set by the items only, which are at 0, got 0.25. Pass start"
    ):
        list(group.track("ab"[:count], Horizon(4)))
    assert float(group["lr"]) == 0.75
    assert [float(group["lr"]) for _ in group.track("cd", Horizon(4), start=2)] == [0.5, 0.25]
    assert [float(group["lr"]) for _ in group.track("", Horizon(4))] == []
    assert [float(group["lr"]) for _ in group.track("abcd", Horizon(4))] == [1, 0.75, 0.5, 0.25]


def test_items_go_on_after_a_jump_back() -> None:
    group, horizon = ScalarGroup(lr=Linear(1.0, 0.0)), Horizon(10)
    assert len(list(group.track(range(5), horizon))) == 5
    jumped = horizon.jump(0.25, at_step=5, total_steps=8)
    assert [float(group["lr"]) for _ in group.track("fgh", jumped, start=5)] == [0.75, 0.5, 0.25]
    for _ in group.track("abc", horizon):
        pass
    with pytest.raises(ValueError, match="set by the items only"):  # they are further
        next(group.track("abc", horizon))


def test_a_callback_that_changes_values_is_called_once() -> None:
    optimizer = optim.SGD(
        ReduceOnPlateau(Linear(1.0, 0.0), 0.5, patience=100), momentum=Linear(0, 1)
    )
    optimizer.init(weights := {"w": mx.array(0.0)})
    group = attach(optimizer, horizon=Horizon(8))
    seen: list[tuple[str, float]] = []

    def first(progress: float, values: Mapping[str, float]) -> None:
        seen.append(("first", values["momentum"]))

    def observing(progress: float, values: Mapping[str, float]) -> None:
        seen.append(("observing", values["momentum"]))
        group.observe(1.0 - 0.1 * len(seen))

    def holding(progress: float, values: Mapping[str, float]) -> None:
        seen.append(("holding", values["momentum"]))
        group.hold(momentum=0.25 + progress / 10)

    for callback in (first, observing, holding):
        group.subscribe(callback)
    for step in range(1, 4):
        seen.clear()
        optimizer.apply_gradients({"w": mx.array(1.0)}, weights)
        old = 0.125 if step == 1 else 0.25 + (step - 1) / 80
        new = 0.25 + step / 80
        assert seen == [
            ("first", pytest.approx(old)),
            ("observing", pytest.approx(old)),
            ("holding", pytest.approx(old)),
            ("first", pytest.approx(new)),
            ("observing", pytest.approx(new)),
        ]
