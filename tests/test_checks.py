"""Bad input raises an error at once, with the argument, the rule, the value and the way out."""

from __future__ import annotations

import dataclasses
import inspect
import math
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import scalars
from scalars import (
    Constant,
    CosineAnnealing,
    CosineAnnealingWarmRestarts,
    Cyclic,
    DynamicLossScale,
    EarlyStopping,
    Exponential,
    Greedy,
    Horizon,
    InverseSqrt,
    InverseTime,
    LambdaValue,
    Linear,
    MultiStepDecay,
    NewBob,
    OneCycle,
    PiecewiseConstant,
    PiecewiseInterpolate,
    Polynomial,
    ReduceOnPlateau,
    Repeat,
    Reversed,
    Rex,
    ScalarGroup,
    Schedule,
    Sequence,
    Staircase,
    StepDecay,
    Tanh,
    ThresholdSwitch,
    Truncated,
    Warmup,
    WarmupStableDecay,
    Warp,
    clip,
    from_config,
    maximum,
    minimum,
    parse,
    to_config,
)

from .helpers import public_names

BAD_PROGRESS = [
    (math.nan, ValueError, "got nan"),
    (math.inf, ValueError, "got inf"),
    (-math.inf, ValueError, "got -inf"),
    (-1e-9, ValueError, "got -1e-09"),
    (-1, ValueError, "got -1"),
    (10**400, ValueError, r"got 1000.*\.\.\."),
    (1j, TypeError, r"got 1j"),
    ("0.5", TypeError, "got '0.5'"),
    (None, TypeError, "got None"),
    (True, TypeError, "got True"),
    ([0.5], TypeError, r"got \[0.5\]"),
    (np.array([0.1, 0.2]), TypeError, r"got array\(\[0.1, 0.2\]\)"),
    (mx.array([0.1, 0.2]), TypeError, r"got array\(\[0.1, 0.2\]"),
    (np.array(math.nan), ValueError, "got nan"),
    (Linear(0.0, 1.0), TypeError, r"got Linear\(start=0.0, end=1.0\). A scheduled scalar changes"),
]


@pytest.mark.parametrize(("progress", "error", "got"), BAD_PROGRESS, ids=repr)
def test_bad_progress_changes_nothing(progress: Any, error: type[Exception], got: str) -> None:
    message = rf"^progress must be a finite real number of at least 0, {got}"
    a, b = Linear(1.0, 2.0).update(0.25), CosineAnnealing(1.0).update(0.25)
    group = ScalarGroup(a=a, b=b)
    calls: list[float] = []
    group.subscribe(lambda progress, values: calls.append(progress))
    for update in (a.update, (a * b).update, group.update):
        with pytest.raises(error, match=message):
            update(progress)
        assert (a.progress, float(a), b.progress, float(b)) == (0.25, 1.25, 0.25, b.at(0.25))
    assert calls == []


@pytest.mark.parametrize(
    "progress",
    [0, 1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(1), np.array(0.5), mx.array(0.5)],
)
def test_good_progress(progress: Any) -> None:
    scalar = Linear(0.0, 2.0).update(progress)
    assert float(scalar) == 2 * float(progress)
    assert type(scalar.progress) is float


@pytest.mark.parametrize(
    ("progress", "error", "message"),
    [
        (
            np.array([0.1, -0.1]),
            ValueError,
            "progress must be an array of finite numbers of at least 0",
        ),
        (
            np.array([math.nan]),
            ValueError,
            "progress must be an array of finite numbers of at least 0",
        ),
        (np.array([1j]), TypeError, "progress must be an array of real numbers"),
        (np.array(["a"]), TypeError, "progress must be an array of real numbers"),
        (-0.1, ValueError, "progress must be a finite real number of at least 0, got -0.1"),
        ([0.1], TypeError, r"progress must be a finite real number of at least 0, got \[0.1\]"),
    ],
)
def test_bad_progress_of_at(progress: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Linear(1.0, 2.0).at(progress)


# For every field of every schedule, valid arguments and some wrong values.
# ``test_every_field_is_swept`` checks that none is missing.
GOOD: dict[type[Schedule], dict[str, Any]] = {
    Constant: {"value": 1.0},
    Linear: {"start": 1.0, "end": 2.0},
    Polynomial: {"start": 1.0, "end": 2.0, "power": 2.0, "cycle": 0.5},
    CosineAnnealing: {"start": 1.0, "end": 2.0, "power": 2.0},
    Exponential: {"start": 1.0, "end": 2.0},
    LambdaValue: {"function": lambda p: p},
    InverseSqrt: {"start": 1.0, "timescale": 0.1},
    InverseTime: {"start": 1.0, "rate": 2.0},
    Tanh: {"start": 1.0, "end": 2.0, "lower": -7.0, "upper": 3.0},
    Rex: {"start": 1.0, "end": 2.0},
    StepDecay: {"start": 1.0, "factor": 0.5, "every": 0.1},
    MultiStepDecay: {"start": 1.0, "factor": 0.5, "milestones": [0.5]},
    PiecewiseConstant: {"values": [1, 2], "boundaries": [0.5]},
    PiecewiseInterpolate: {"points": [(0.0, 1.0), (1.0, 2.0)], "curve": "linear"},
    CosineAnnealingWarmRestarts: {
        "start": 1.0,
        "end": 0.0,
        "first_cycle": 0.1,
        "cycle_mult": 2.0,
        "decay": 0.5,
    },
    Cyclic: {
        "low": 0.0,
        "high": 1.0,
        "cycle": 0.1,
        "rise": 0.5,
        "mode": "triangular",
        "gamma": 1.0,
    },
    OneCycle: {
        "peak": 1.0,
        "start": 0.1,
        "end": 0.0,
        "warmup": 0.3,
        "curve": "linear",
        "three_phase": True,
    },
    WarmupStableDecay: {
        "peak": 1.0,
        "warmup": 0.1,
        "decay": 0.2,
        "start": 0.0,
        "end": 0.0,
        "curve": "linear",
    },
    Repeat: {"schedule": Linear(1.0, 2.0), "times": 3, "decay": 1.0, "growth": 2.0},
    Reversed: {"schedule": Linear(1.0, 2.0)},
    Truncated: {"schedule": Linear(1.0, 2.0), "end": 0.5, "begin": 0.25},
    Staircase: {"schedule": Linear(1.0, 2.0), "every": 0.25},
    Warp: {"schedule": Linear(1.0, 2.0), "power": 2.0},
    Sequence: {"schedules": [Linear(1.0, 2.0), 3.0], "boundaries": [0.5]},
    Warmup: {"schedule": Linear(1.0, 2.0), "fraction": 0.1, "start": 0.0, "curve": "linear"},
    ReduceOnPlateau: {
        "value": Linear(1.0, 2.0),
        "factor": 0.5,
        "patience": 0,
        "mode": "max",
        "threshold": 0.0,
        "threshold_mode": "abs",
        "cooldown": 0,
        "minimum": -1.0,
        "best_in_cooldown": False,
    },
    NewBob: {"value": Linear(1.0, 2.0), "factor": 0.5, "threshold": 0.0, "patience": 3},
    Greedy: {
        "start": 0.1,
        "factor": 0.5,
        "patience": 0,
        "mode": "max",
        "threshold": 0.0,
        "threshold_mode": "abs",
        "cooldown": 0,
        "warmup": 0,
        "minimum": 0.01,
        "maximum": 2.0,
        "eps": 0.0,
        "reset_after": 1,
    },
    EarlyStopping: {"patience": 3, "mode": "max", "threshold": 0.1, "threshold_mode": "rel"},
    ThresholdSwitch: {"scalars": [1.0, Linear(1.0, 2.0)], "conditions": [" <= -1e-3 "]},
    DynamicLossScale: {"initial": 8.0, "factor": 1.5, "growth_interval": 1, "minimum": 8.0},
}
NOT_NUMBERS = [
    "1.0",
    None,
    1j,
    True,
    [1.0],
    math.nan,
    math.inf,
    -math.inf,
    Linear(0, 1),
    mx.ones((2,)),
]
NOT_SCALARS = ["1.0", None, 1j, True, math.nan, math.inf, np.ones(2)]
OUT_OF_RUN = [*NOT_NUMBERS, -0.1, 1.1, 10]
BAD: dict[str, list[Any]] = {
    "timescale": [*NOT_NUMBERS, 0, -1.0],
    "rate": [*NOT_NUMBERS, -1, -2.0],
    "lower": NOT_NUMBERS,
    "upper": NOT_NUMBERS,
    "factor": NOT_NUMBERS,
    "every": [*OUT_OF_RUN, 0, 1e-9],
    "milestones": [None, 0.5, "ab", [], [0.5, 0.4], [1.1], [-0.1], [math.nan], ["0.5"], [True]],
    "values": [None, 1.0, [], [1.0, math.nan], [1.0, "2"], [1.0, None], [1.0, Linear(0, 1)]],
    "points": [
        None,
        [],
        [(0.0, 1.0)],
        [0.0, 1.0],
        [(0.5, 1.0), (0.4, 2.0)],
        [(0.0, 1.0), (1.0,)],
        [(0.0, 1.0), (1.1, 2.0)],
        [(0.0, 1.0), (1.0, math.inf)],
        [(0.0, 1.0), (1.0, "2")],
    ],
    "first_cycle": [*OUT_OF_RUN, 0, 1e-9],
    "cycle_mult": [*NOT_NUMBERS, 0, -1.0, 0.1],
    "low": NOT_NUMBERS,
    "high": NOT_NUMBERS,
    "cycle": [*OUT_OF_RUN, 0, 1e-9],
    "rise": OUT_OF_RUN,
    "mode": [None, 1, "", "triangle"],
    "gamma": [*NOT_NUMBERS, 0, -1.0],
    "peak": NOT_NUMBERS,
    "warmup": [*OUT_OF_RUN],
    "three_phase": [None, 1, "yes"],
    "best_in_cooldown": [None, 1, "yes"],
    "maximum": NOT_NUMBERS,
    "eps": [*NOT_NUMBERS, -1e-4],
    "reset_after": [None, 0, 1.5, "2", True],
    "times": [*NOT_NUMBERS, 0, -1, 10_001, 2_000_000],
    "growth": [*NOT_NUMBERS, 0, -1.0, 1e-5, 1e200],
    "begin": [*OUT_OF_RUN, 0.51],
    "value": NOT_NUMBERS,
    "start": NOT_NUMBERS,
    "end": NOT_NUMBERS,
    "power": [*NOT_NUMBERS, 0, -1.0],
    "function": [None, 1.0, "lambda p: p"],
    "schedules": [None, 1.0, Linear(0, 1), [], "ab", *([bad, 1.0] for bad in NOT_SCALARS)],
    "boundaries": [
        None,
        0.5,
        "0.5",
        [],
        [0.2, 0.4],
        *([bad] for bad in (-0.1, 1.1, 10, math.nan, math.inf, "0.5", None, 1j, True)),
    ],
    "schedule": [*NOT_SCALARS, [1.0]],
    "fraction": OUT_OF_RUN,
    "patience": [None, -1, 1.5, "2", True],
    "cooldown": [None, -1, 1.5, "2", True],
    "threshold": [*NOT_NUMBERS, -1e-4],
    "threshold_mode": [None, 1, "", "relative"],
    "minimum": NOT_NUMBERS,
    "scalars": [None, 1.0, Linear(0, 1), [], *([bad, 1.0] for bad in NOT_SCALARS)],
    "conditions": [
        None,
        "< 0.5",
        [],
        ["< 0.5", "< 0.4"],
        *([bad] for bad in (0.5, None, "0.5", "< x", "== 1", "< 1 < 2", "< nan", "< inf", "")),
    ],
    "initial": [*NOT_NUMBERS, 0, -1.0, 2.0**128, 7.0],
    "growth_interval": [None, 0, 1.5, True],
    "curve": [None, 1, "", "Linear", "quadratic"],
}
BAD_IN: dict[tuple[type[Schedule], str], list[Any]] = {
    (CosineAnnealingWarmRestarts, "decay"): NOT_NUMBERS,
    (Repeat, "decay"): NOT_NUMBERS,
    (Truncated, "end"): [*OUT_OF_RUN, 0, 1e-9],
    (ReduceOnPlateau, "value"): [*NOT_SCALARS, [1.0]],
    (NewBob, "value"): [*NOT_SCALARS, [1.0]],
    (NewBob, "factor"): [*NOT_NUMBERS, 0, 1, -0.1, 10],
    (NewBob, "threshold"): NOT_NUMBERS,
    (Greedy, "factor"): [*NOT_NUMBERS, 0, 1, -0.1, 10],
    (Greedy, "warmup"): [None, -1, 1.5, "2", True],
    (Greedy, "minimum"): [*NOT_NUMBERS, 2.5],
    (ReduceOnPlateau, "factor"): [*NOT_NUMBERS, 0, 1, -0.1, 10],
    (EarlyStopping, "patience"): [None, "3", 0, -1, 1.5, True],
    (DynamicLossScale, "factor"): [*NOT_NUMBERS, 0, 1, 0.5],
    (DynamicLossScale, "minimum"): [*NOT_NUMBERS, 0, -1.0],
    (WarmupStableDecay, "decay"): [*OUT_OF_RUN, 0.95],
    (OneCycle, "start"): [bad for bad in NOT_NUMBERS if bad is not None],
    (OneCycle, "end"): [bad for bad in NOT_NUMBERS if bad is not None],
    (OneCycle, "warmup"): [*OUT_OF_RUN, 1, 0.51],
}
SWEEP = [
    pytest.param(schedule, field, bad, id=f"{schedule.__name__}({field}={bad!r})")
    for schedule, arguments in GOOD.items()
    for field in arguments
    for bad in BAD_IN.get((schedule, field)) or BAD[field]
]


@pytest.mark.parametrize(("schedule", "field", "bad"), SWEEP)
def test_bad_arguments(schedule: Callable[..., Schedule], field: str, bad: Any) -> None:
    good = GOOD[schedule]  # type: ignore[index]
    schedule(**good)
    with pytest.raises((TypeError, ValueError)) as raised:
        schedule(**{**good, field: bad})
    message = str(raised.value)
    name, _, rest = message.partition(" must be ")
    assert field in name
    assert name.endswith(f" of {schedule.__name__}")  # type: ignore[attr-defined]
    rule, _, rest = rest.partition(", got ")
    got, _, way_out = rest.partition(". ")
    assert rule
    assert got
    assert way_out.endswith(".")


def test_every_field_is_swept() -> None:
    for name, schedule in public_names().items():
        if (
            isinstance(schedule, type)
            and issubclass(schedule, Schedule)
            and schedule is not Schedule
        ):
            fields = {field.name for field in dataclasses.fields(schedule)}  # type: ignore[arg-type]
            assert fields == set(GOOD[schedule]), name


# Steps in place of a fraction, or a schedule that continues after the run.
WAYS_OUT = (
    r"Horizon.fraction\(steps=...\) converts steps and epochs. If the schedule is longer than this "
    r"run, cut it with Truncated\(schedule, end\), or pass the total steps of the whole schedule "
    r"and stop early.$"
)
TOO_LONG: list[tuple[Callable[[], Any], str, str, str]] = [
    (lambda: Warmup(1.0, 10), "fraction of Warmup", "fraction of the run", "10"),
    (lambda: WarmupStableDecay(1.0, 0, 1.5), "decay of W.*", "fraction of the run", "1.5"),
    (lambda: Sequence([1, 2], [30]), "item 0 of boundaries of Se.*", "fraction of the run", "30"),
    (lambda: PiecewiseConstant([1, 2], [3]), "item 0 of b.*", "fraction of the run", "3"),
    (lambda: MultiStepDecay(1.0, 0.1, [60]), "item 0 of mil.*", "fraction of the run", "60"),
    (lambda: StepDecay(1.0, 0.1, every=30), "every of StepDecay", "fraction of the run", "30"),
    (lambda: Cyclic(0, 1, 2000), "cycle of Cyclic", "fraction of the run", "2000"),
    (lambda: OneCycle(1.0, warmup=300), "warmup of OneCycle", "fraction of the run", "300"),
]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Exponential(0.0, 1.0),
            "start of Exponential must be other than 0, got 0",
        ),
        (lambda: Exponential(1.0, 0.0), "end of Exponential must be other than 0"),
        (
            lambda: Exponential(1.0, -1.0),
            r"end of Exponential must be of the same sign as start, 1.0, got -1.0",
        ),
        (
            lambda: Sequence([1.0, 2.0, 3.0], [0.6, 0.4]),
            r"boundaries of Sequence must be fractions of the run in increasing order, got \[0.6, ",
        ),
        (
            lambda: Truncated(1.0, 0.25, 0.5),
            r"begin of Truncated must be at most end, 0.25, got 0.5. .* Reversed\(Truncated",
        ),
        (
            lambda: Repeat(1.0, 60, growth=2.0),
            "growth of Repeat must be such that each repetition takes at least 1e-09 of the run",
        ),
        (lambda: Repeat(1.0, 10_001, growth=2.0), "at most 10,000 if growth is not 1, got 10001"),
        (lambda: Warmup(InverseSqrt(1.0, 0.0), 0.0), "timescale of .* that of 10,000 steps"),
        (
            lambda: Sequence([1.0, 2.0], [0.4, 0.6]),
            r"boundaries of Sequence must be one fewer than the schedules, 1, got \(0.4, 0.6\)",
        ),
        (lambda: Sequence([1.0], [0.4]), "one fewer than the schedules, 0"),
        (
            lambda: Sequence([1.0, math.nan], [0.4]),
            r"item 1 of schedules of Sequence must be a finite real number, got nan",
        ),
        *[
            (make, f"{name} must be a {rule}, from .*, got {got}. {WAYS_OUT}")
            for make, name, rule, got in TOO_LONG
        ],
        (
            lambda: Warmup(1.0, 0.1, curve="lin"),
            "curve of Warmup must be one of 'linear', 'cosine', .*'lin'",
        ),
    ],
)
def test_rules_between_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("result", "error", "got"),
    [
        (None, TypeError, "a finite real number, got None"),
        ("x", TypeError, "a finite real number, got 'x'"),
        (True, TypeError, "a finite real number, got True"),
        (1j, TypeError, "a finite real number, got 1j"),
        (mx.ones((2,)), TypeError, r"a finite real number, got array\(\[1, 1\], dtype=float32\)"),
        (np.ones(2), TypeError, r"a finite real number, got array\(\[1., 1.\]\)"),
        (math.nan, ValueError, "a finite real number, got nan"),
        (math.inf, ValueError, "a finite real number, got inf"),
    ],
)
def test_lambda_values_are_checked(result: Any, error: type[Exception], got: str) -> None:
    with pytest.raises(
        error, match=rf"of LambdaValue at progress 0.0 must be {got}. Return a number"
    ):
        LambdaValue(lambda p: result)
    later = LambdaValue(lambda p: result if p >= 0.5 else 1.0)
    other = Linear(0.0, 1.0)
    for update in (
        later.update,
        ScalarGroup(other=other, later=later).update,
        (other * later).update,
    ):
        with pytest.raises(error, match=rf"of LambdaValue at progress 0.5 must be {got}"):
            update(0.5)
        assert (later.progress, float(later), other.progress) == (0, 1, 0)
    with pytest.raises(error, match="of LambdaValue at progress 0.75"):
        later.at(np.array([0.25, 0.75]))


def test_an_error_in_the_users_function_comes_through() -> None:
    with pytest.raises(ZeroDivisionError, match="division"):
        LambdaValue(lambda p: 1 / p)
    import math as host

    with pytest.raises((TypeError, ValueError), match=r"array|convert|conversion"):
        LambdaValue(lambda p: host.cos(p)).at(mx.array([0.1, 0.2]))
    with pytest.raises(TypeError, match=r"function\(progress\) must be an mx.array, got 'x'"):
        LambdaValue(lambda p: 1.0 if isinstance(p, float) else "x").at(mx.array([0.1, 0.2]))


@pytest.mark.parametrize("function", [minimum, maximum])
def test_bad_operands_of_functions(function: Any) -> None:
    with pytest.raises(
        TypeError, match="imum must be given numbers, scalars or an mx.array, got 'x'"
    ):
        function(Linear(0, 1), "x")
    with pytest.raises(
        TypeError, match="imum must be given numbers, scalars or an mx.array, got None"
    ):
        function(None, Linear(0, 1))
    with pytest.raises(TypeError, match="got 'x'"):
        clip(Linear(0, 1), "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ScalarGroup(), ValueError, "ScalarGroup must be given at least one scalar"),
        (
            lambda: ScalarGroup(lr=0.1),
            TypeError,
            r"lr in ScalarGroup must be a scheduled scalar, got 0.1.*Constant",
        ),
        (
            lambda: ScalarGroup({"lr": Linear(0, 1)}, lr=Linear(0, 1)),
            ValueError,
            "unique, got 'lr'",
        ),
        (
            lambda: ScalarGroup([Linear(0, 1)]),
            TypeError,
            "scalars must be a mapping from name to scalar",
        ),
        (
            lambda: ScalarGroup({1: Linear(0, 1)}),
            TypeError,
            "a name in ScalarGroup must be a string, got 1",
        ),
        (
            lambda: ScalarGroup(a=Linear(0, 1)).subscribe(3),
            TypeError,
            "callback must be a function, got 3",
        ),
        (
            lambda: ScalarGroup(a=Linear(0, 1)).track([1], 5),
            TypeError,
            "horizon must be a Horizon, got 5",
        ),
        (
            lambda: ScalarGroup(a=Linear(0, 1)).track(5, Horizon(2)),
            TypeError,
            "items must be iterable, got 5",
        ),
        (
            lambda: ScalarGroup(a=Linear(0, 1)).track([1], Horizon(2), start=2),
            ValueError,
            "start must be below the steps in the horizon, 2, got 2",
        ),
        (
            lambda: ScalarGroup(a=Linear(0, 1)).track([1], Horizon(2), start=-1),
            ValueError,
            "start must be a whole",
        ),
        (
            lambda: list(ScalarGroup(a=Linear(0, 1)).track(range(3), Horizon(2))),
            ValueError,
            "the number of items must be at most the steps in the horizon, 2, got 3",
        ),
        (
            lambda: Horizon(0),
            ValueError,
            "total_steps of Horizon must be a whole number of at least 1, got 0",
        ),
        (
            lambda: Horizon(1, endpoint=True),
            ValueError,
            "total_steps of Horizon must be .* at least 2, got 1",
        ),
        (
            lambda: Horizon(10.0),
            TypeError,
            "total_steps of Horizon must be a whole number .*, got 10.0",
        ),
        (
            lambda: Horizon(True),
            TypeError,
            "total_steps of Horizon must be a whole number .*, got True",
        ),
        (
            lambda: Horizon(10, 0),
            ValueError,
            "steps_per_epoch of Horizon must be .* at least 1, got 0",
        ),
        (lambda: Horizon(10).progress(-1), ValueError, "step must be at least 0, got -1"),
        (
            lambda: Horizon(10).progress(math.nan),
            ValueError,
            "step must be a finite real number, got nan",
        ),
        (
            lambda: Horizon(10).progress("1"),
            TypeError,
            "step must be a finite real number, got '1'",
        ),
        (
            lambda: Horizon(10).fraction(steps=11),
            ValueError,
            "steps must be from 0 to total_steps, 10, got 11",
        ),
        (
            lambda: Horizon(10).fraction(steps=-1),
            ValueError,
            "steps must be from 0 to total_steps, 10, got -1",
        ),
        (
            lambda: Horizon(10).fraction(epochs=1),
            ValueError,
            "steps_per_epoch of Horizon must be given",
        ),
        (
            lambda: Horizon(10).extend(5, at_step=5),
            ValueError,
            "total_steps must be .* at least 6, got 5",
        ),
        (
            lambda: Horizon(10).extend(20, at_step=10),
            ValueError,
            "at_step must be before the end of the run",
        ),
        (
            lambda: Horizon(10).extend(20, at_step=-1),
            ValueError,
            "at_step must be a whole number of at least 0",
        ),
        (
            lambda: Horizon(10).extend(20, at_step=5).extend(30, at_step=4),
            ValueError,
            "at_step must be a whole number of at least 5, got 4",
        ),
    ],
)
def test_bad_groups_and_horizons(
    make: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_warmup_is_a_name_of_the_length_of_every_warm_up() -> None:
    lr = Warmup(CosineAnnealing(1.0), warmup=0.2, curve="cosine")
    assert repr(lr) == "Warmup(schedule=CosineAnnealing(start=1.0), fraction=0.2, curve='cosine')"
    assert [lr.at(p) for p in (0.1, 0.2, 0.6)] == pytest.approx([0.5, 1.0, 0.5])
    assert repr(pickle.loads(pickle.dumps(lr))) == repr(parse(repr(lr))) == repr(lr)
    assert repr(dataclasses.replace(lr, fraction=0.5)) == repr(lr).replace("0.2", "0.5")
    assert (
        repr(parse("Warmup(1.0, warmup=0.2)"))
        == "Warmup(schedule=Constant(value=1.0), fraction=0.2)"
    )
    config = {"name": "Warmup", "schedule": 1.0, "warmup": 0.2}
    assert repr(from_config(config)) == "Warmup(schedule=Constant(value=1.0), fraction=0.2)"
    assert to_config(from_config(config))["fraction"] == 0.2
    for arguments in ({}, {"fraction": 0.1, "warmup": 0.1}):
        with pytest.raises(TypeError, match=r"fraction of Warmup must be given once, got \("):
            Warmup(1.0, **arguments)
    with pytest.raises(ValueError, match="fraction of Warmup must be a fraction of the run"):
        Warmup(1.0, warmup=1.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosineAnnealing(0.1, eta_min=0.0), "'eta_min' is called 'end' here. The call is Cos"),  # type: ignore[call-arg]
        (lambda: CosineAnnealing(0.1, T_max=100), "'T_max' is not given to a schedule: call update"),  # type: ignore[call-arg]
        (lambda: StepDecay(0.1, step_size=30, gamma=0.1), "'step_size' is called 'every' here, in fractions of the run, as Horizon.*'gamma' is called 'factor'"),  # type: ignore[call-arg]
        (lambda: Warmup(0.1, warmup_steps=5), r"'warmup_steps' is called 'fraction' here, in fractions"),  # type: ignore[call-arg]
        (lambda: OneCycle(max_lr=0.1, pct_start=0.3), "'max_lr' is called 'peak' here. 'pct_start' is called 'warmup'"),  # type: ignore[call-arg]
        (lambda: Linear(0.1), r"missing 1 required .* 'end'. The call is Linear\(start, end\)"),  # type: ignore[call-arg]
        (lambda: Linear(0.1, 0.2, 0.3), r"The call is Linear\(start, end\)"),  # type: ignore[call-arg]
    ],
)  # fmt: skip
def test_a_wrong_call_says_what_to_write(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


FRACTIONS = "in fractions of the run, as Horizon"
RUN_LENGTHS = [
    "CosineAnnealing(T_max=9, lr=1)",
    "Linear(total_iters=9)",
    "Polynomial(decay_steps=9)",
]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        # What the argument of each library means, by its documentation.
        ("OneCycle(max_lr=1, div_factor=25, final_div_factor=1e4)", {"max_lr": "peak"}),
        ("OneCycle(max_lr=1, pct_start=0.3)", {"max_lr": "peak", "pct_start": "warmup"}),
        ("WarmupStableDecay(lr=1, num_warmup_steps=5, num_decay_steps=9)", {"lr": "peak", "num_warmup_steps": "warmup", "num_decay_steps": "decay"}),
        ("WarmupStableDecay(base_lr=1, decay_steps=9)", {"base_lr": "peak"}),
        ("OneCycle(max_lr=1, base_lr=0.1)", {"max_lr": "peak"}),
        ("Exponential(initial_learning_rate=1, decay_steps=9, decay_rate=0.9)", {"initial_learning_rate": "start"}),
        ("InverseTime(initial_learning_rate=1, decay_steps=9)", {"initial_learning_rate": "start"}),
        ("Exponential(init_value=1, transition_steps=9, decay_rate=0.9)", {"init_value": "start"}),
        ("Warmup(0.1, steps=9)", {"steps": "fraction"}),
        ("Warmup(0.1, total_iters=9)", {"total_iters": "fraction"}),
        ("OneCycle(learning_rate=1)", {"learning_rate": "peak"}),
        ("Warmup(lr=1, warmup_steps=5)", {"lr": "schedule", "warmup_steps": "fraction"}),
        ("Warmup(init_value=0)", {"init_value": "start"}),
        ("Cyclic(base_lr=0, max_lr=1, step_size_up=5)", {"base_lr": "low", "max_lr": "high"}),
        ("StepDecay(lr=1, decay_steps=9, decay_rate=0.5)", {"lr": "start", "decay_steps": "every", "decay_rate": "factor"}),
        ("Greedy(lr=1, warmup_steps=5, min_lr=0, pct_start=0.1)", {"lr": "start", "warmup_steps": "warmup", "min_lr": "minimum"}),
        ("Repeat(num_cycles=3, num_decay_steps=9)", {"num_cycles": "times"}),
        ("CosineAnnealingWarmRestarts(T_0=5, T_mult=2, eta_min=0, num_decay_steps=9)", {"T_0": "first_cycle", "T_mult": "cycle_mult", "eta_min": "end"}),
        ("ReduceOnPlateau(lr=1, min_delta=0.1, min_lr=0)", {"lr": "value", "min_delta": "threshold", "min_lr": "minimum"}),
        ("NewBob(lr=1, min_delta=0.1)", {"lr": "value"}),
        ("DynamicLossScale(decay_rate=0.5, gamma=0.5, min_lr=0, lr=1)", {}),
        ("Truncated(eta_min=0, end_value=0, lr=1)", {"lr": "schedule"}),
        ("Constant(lr=1)", {"lr": "value"}),
        ("CosineAnnealing(T_max=9, lr=1)", {"lr": "start"}),
        ("Linear(total_iters=9)", {}),
        ("Polynomial(decay_steps=9)", {}),
    ],
)  # fmt: skip
def test_each_hint_for_an_argument_of_another_library(call: str, told: dict[str, str]) -> None:
    names = {name: getattr(scalars, name) for name in scalars.__all__}
    with pytest.raises(TypeError, match="The call is") as caught:
        eval(call, names)
    message = str(caught.value)
    assert dict(re.findall(r"'(\w+)' is called '(\w+)' here", message)) == told
    schedule = names[call.partition("(")[0]]
    assert ("not given" in message) == (call in RUN_LENGTHS)
    lengths = {"fraction", "decay", "every", "first_cycle"}
    lengths |= set() if schedule is scalars.Greedy else {"warmup"}
    for there, here in told.items():
        hint = message.partition(f"{there!r} is called {here!r} here")[2].partition("is called")[0]
        assert (FRACTIONS in hint.partition(". ")[0]) == (here in lengths), there
        assert ('threshold_mode="abs"' in hint) == (there == "min_delta")


def test_the_names_of_other_libraries_lead_to_arguments_that_there_are() -> None:
    from scalars.schedules.peers import CALLED

    taken = {
        parameter
        for name in scalars._LATER
        if isinstance(getattr(scalars, name), type) and issubclass(getattr(scalars, name), Schedule)
        for parameter in inspect.signature(getattr(scalars, name)).parameters
    }
    assert {one for names in CALLED.values() for one in names} <= taken


@pytest.mark.parametrize(
    "make",
    [
        lambda: CosineAnnealing(0.1, 100),
        lambda: StepDecay(0.1, 30, 0.1),
        lambda: OneCycle(0.1, 1000),
    ],
)
def test_a_number_of_steps_for_a_value_is_told(make: Any) -> None:
    with pytest.warns(RuntimeWarning, match="far above 0.1. If it is meant as a number of steps"):
        make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CosineAnnealing(0.1, 100.0), CosineAnnealing(16, 512), StepDecay(0.1, 2, 0.1), OneCycle(0.1)


def test_a_progress_that_stays_0_is_told() -> None:
    lr, constant = Linear(1.0, 0.0), Constant(1.0)
    with pytest.warns(
        RuntimeWarning, match="updated 256 times and is still at progress 0.*step //"
    ):
        for step in range(300):
            lr.update(step // 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = Linear(1.0, 0.0)
        for step in range(1000):
            constant.update(0)
            other.update(step // 100 / 10)


def test_an_unknown_name_of_the_package() -> None:
    with pytest.raises(AttributeError, match="'ReduceLROnPlateau'. Did you mean 'ReduceOnPlateau'"):
        scalars.ReduceLROnPlateau  # noqa: B018
