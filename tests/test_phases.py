"""Phases give one continuous scalar per name, and the current settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from scalars import CosineAnnealing, Horizon, Linear, Phase, Phases

PLAN = [
    Phase(10, lr=Linear(0.0, 1.0), batch_size=32, size=96),
    Phase(30, batch_size=64, wd=Linear(0.1, 0.3)),
    Phase(40, lr=CosineAnnealing(1.0, 0.1), wd=0.5, size=128),
    Phase(20, momentum=Linear(0.9, 0.8)),
]


def test_every_scalar_over_the_whole_run() -> None:
    phases = Phases(PLAN)
    assert phases.total == 100
    assert phases.boundaries == (0.1, 0.4, 0.8)
    assert list(phases.group) == ["lr", "wd", "momentum"]
    expected: dict[int, tuple[float, float, float]] = {
        0: (0.0, 0.1, 0.9),  # not yet scheduled, so its start value
        5: (0.5, 0.1, 0.9),
        10: (1.0, 0.1, 0.9),
        25: (1.0, 0.2, 0.9),  # the learning rate stays where phase 0 left it
        39: (1.0, 0.1 + 0.2 * 29 / 30, 0.9),
        40: (1.0, 0.5, 0.9),
        60: (0.55, 0.5, 0.9),
        80: (0.1, 0.5, 0.9),
        90: (0.1, 0.5, 0.85),
        100: (0.1, 0.5, 0.8),
    }
    for step, values in expected.items():
        assert list(phases.update(step / 100).group.snapshot().values()) == pytest.approx(values)


def test_phases_of_no_length_are_passed_over() -> None:
    """Phases without a warm-up, a hold or an end."""
    plan = Phases(
        [
            Phase(0, lr=Linear(0.0, 1.0), size=1),
            Phase(5, lr=Linear(1.0, 3.0)),
            Phase(0, wd=Linear(0.0, 0.5), size=2),
            Phase(5, batch=8),
            Phase(0, lr=9.0),
        ]
    )
    assert plan.boundaries == (0, 0.5, 0.5, 1)
    for progress, lr, wd, current in (
        (0, 1, 0, {"size": 1}),
        (0.25, 2, 0, {"size": 1}),
        (0.5, 3, 0.5, {"size": 2, "batch": 8}),
        (0.99, 3, 0.5, {"size": 2, "batch": 8}),
        (1, 9, 0.5, {"size": 2, "batch": 8}),
    ):
        plan.update(progress)
        assert plan.group.snapshot() == {"lr": lr, "wd": wd}
        assert plan.current == current
    with pytest.raises(ValueError, match="phases must be longer than 0 together"):
        Phases([Phase(0, lr=Linear(0, 1))])


def test_the_settings_of_the_moment() -> None:
    phases = Phases(PLAN)
    for step, index, settings in (
        (0, 0, {"batch_size": 32, "size": 96}),
        (9, 0, {"batch_size": 32, "size": 96}),
        (10, 1, {"batch_size": 64, "size": 96}),
        (40, 2, {"batch_size": 64, "size": 128}),
        (99, 3, {"batch_size": 64, "size": 128}),
        (150, 3, {"batch_size": 64, "size": 128}),
    ):
        phases.update(step / 100)
        assert (phases.index, phases.current) == (index, settings)


def test_the_group_may_be_tracked_and_loaded() -> None:
    phases = Phases(PLAN)
    seen = [phases.current["batch_size"] for _ in phases.group.track(range(100), Horizon(100))]
    assert seen == [32] * 10 + [64] * 90
    saved = phases.group.state_dict()
    again = Phases(PLAN)
    again.group.load_state_dict(saved)
    assert again.index == phases.index == 3


@pytest.mark.parametrize("unit", [1, 3, 7, 0.1, 1 / 3])
def test_the_unit_does_not_matter(unit: float) -> None:
    plan = [Phase(phase.duration * unit, **phase.settings) for phase in PLAN]
    phases, reference = Phases(plan), Phases(PLAN)
    for step in range(101):
        found = phases.update(step / 100).group.snapshot()
        assert found == pytest.approx(reference.update(step / 100).group.snapshot(), rel=1e-9)
        assert phases.index == reference.index


def test_it_is_a_sequence_and_prints_itself() -> None:
    phases = Phases(PLAN[:2])
    assert (len(phases), phases[0], list(phases)) == (2, PLAN[0], PLAN[:2])
    names = {"Phases": Phases, "Phase": Phase, "Linear": Linear}
    again = eval(repr(phases), names)
    assert repr(again) == repr(phases)
    assert again.update(0.6).group.snapshot() == phases.update(0.6).group.snapshot()
    alone = Phases([Phase(1, lr=Linear(0.0, 1.0))])
    assert (float(alone.update(0.25).group["lr"]), alone.index, alone.current) == (0.25, 0, {})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Phase(-1),
            ValueError,
            "duration of Phase must be a finite real number of at least 0, got -1",
        ),
        (lambda: Phase(math.nan), ValueError, "duration of Phase must be"),
        (lambda: Phase("1"), TypeError, "duration of Phase must be .* got '1'"),
        (lambda: Phases([]), ValueError, r"phases must be at least one Phase, got \[\]"),
        (lambda: Phases(PLAN[0]), TypeError, "phases must be a list or a tuple"),
        (lambda: Phases([PLAN[0], 3]), TypeError, "item 1 of phases must be a Phase, got 3"),
        (lambda: Phases([Phase(1, lr=0.1)]), ValueError, "phases must be given a schedule"),
        (
            lambda: Phases([Phase(1, lr=Linear(0, 1)), Phase(1, lr="fast")]),
            TypeError,
            "value of Constant must be a finite real number, got 'fast'",
        ),
        (lambda: Phases(PLAN).update(-1), ValueError, "progress must be"),
    ],
)
def test_bad_input(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
