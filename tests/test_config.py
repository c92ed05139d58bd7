"""Conversion to plain data, as in JSON, TOML and YAML, and back."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.tuner.utils import build_schedule

from scalars import (
    Constant,
    CosineAnnealing,
    Horizon,
    LambdaValue,
    Linear,
    Phase,
    Phases,
    ScalarGroup,
    Schedule,
    ScheduledScalar,
    Sequence,
    ThresholdSwitch,
    Warmup,
    Warp,
    from_config,
    register,
    to_config,
)
from scalars.checks import Real
from scalars.tools.registry import known_too

from .cases import CASES, Case
from .test_parsing import Bump

GRID = [i / 97 for i in range(98)]
PLAIN = [case for case in CASES if "LambdaValue" not in str(case)]


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_every_schedule_comes_back_through_json(case: Case) -> None:
    scalar = case.make()
    config = json.loads(json.dumps(to_config(scalar), allow_nan=False))
    again: Any = from_config(config)
    assert repr(again) == repr(scalar)
    assert [again.at(p) for p in GRID] == [scalar.at(p) for p in GRID]
    assert to_config(again) == config


def test_the_form() -> None:
    """Configs as a user writes them by hand."""
    assert to_config(1 - Warmup(CosineAnnealing(0.1, end=0.01), 0.2)) == {
        "operation": "subtract",
        "operands": [
            1,
            {
                "name": "Warmup",
                "schedule": {"name": "CosineAnnealing", "start": 0.1, "end": 0.01},
                "fraction": 0.2,
            },
        ],
    }


def test_groups_and_plans() -> None:
    group = ScalarGroup({"lr": Linear(0.1, 0.0) * 2, "layers.0.p": CosineAnnealing(0.1)})
    assert repr(from_config(json.loads(json.dumps(to_config(group))))) == repr(group)
    settings: dict[str, Any] = {"size": [8, 8], "data": "train", "augment": {"flip": True, "x": 0}}
    plan = Phases([Phase(1.5, lr=Linear(0.0, 0.1), **settings), Phase(2, batch=64, none=None)])
    again = from_config(json.loads(json.dumps(to_config(plan))))
    assert repr(again) == repr(plan)
    assert isinstance(again, Phases)
    assert again.update(0).current == settings
    written = from_config({"group": {"lr": "Linear(0.1, 0.0)", "wd": 0.5}})
    assert repr(written) == "ScalarGroup(lr=Linear(start=0.1, end=0.0), wd=Constant(value=0.5))"


def test_texts_and_numbers() -> None:
    assert repr(from_config("Linear(1, 0) * 2")) == "Linear(start=1, end=0) * 2"
    assert from_config(0.5) == Constant(0.5)


def test_the_users_own() -> None:
    with pytest.raises(ValueError, match="a schedule must be one that has a name, got Bump"):
        to_config(Bump(2.0))
    register("Bump", Bump)
    config = to_config(Warmup(Bump(2.0), 0.5))
    assert config["schedule"] == {"name": "Bump", "height": 2.0}
    assert from_config(config).at(0.75) == 2.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("scalar", "error", "message"),
    [
        (LambdaValue(lambda p: p), ValueError, "one that has a name, got LambdaValue"),
        (ThresholdSwitch([1, 2], [lambda m: True]), ValueError, "must be plain data, got <func"),
        (Phases([Phase(1, lr=Linear(0, 1), data=object())]), ValueError, "must be plain data"),
        (3, TypeError, "scalar must be made of schedules, got 3"),
    ],
)
def test_what_data_cannot_hold(scalar: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_config(scalar)


LINEAR = {"name": "Linear", "start": 0, "end": 1}


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (None, TypeError, "config must be a mapping, a text or a number, got None"),
        (True, TypeError, "config must be a mapping, a text or a number, got True"),
        ([LINEAR], TypeError, "config must be a mapping"),
        ({}, ValueError, "config must be a mapping with 'name', 'operation', 'group' or 'phases'"),
        ({"start": 1}, ValueError, "config must be a mapping with 'name'"),
        ({"name": 3}, ValueError, "config must be a mapping with 'name'"),
        ({"name": "Linaer"}, ValueError, "the name in the config must be .* Did you mean Linear?"),
        ({"name": "Linear"}, ValueError, "Linear in the config must be called as Linear"),
        ({**LINEAR, "more": 1}, ValueError, "unexpected keyword argument 'more'"),
        ({**LINEAR, "end": "1"}, TypeError, "end of Linear must be a finite real number"),
        ({1: 2}, ValueError, "a key in a config must be a string, got 1"),
        ({"operation": "add"}, ValueError, "config must be a mapping with"),
        ({"operation": "plus", "operands": [1, LINEAR]}, ValueError, "operation .* must be one of"),
        ({"operation": "add", "operands": 3}, TypeError, "operands in the config must be a list"),
        ({"operation": "add", "operands": [1, 2]}, ValueError, "at least one schedule"),
        ({"operation": "add", "operands": [LINEAR]}, ValueError, "2 schedules or numbers"),
        ({"operation": "exp", "operands": [LINEAR, 1]}, ValueError, "1 schedules or numbers"),
        ({"operation": "log", "operands": [LINEAR]}, ValueError, "must be a finite number"),
        ({"operation": "add", "operands": [LINEAR, "1"]}, TypeError, "an operand in the config"),
        ({"operation": "astype", "operands": [LINEAR, "int8"]}, ValueError, "a schedule and 'flo"),
        ({"group": 3}, ValueError, "group in the config must be a mapping"),
        ({"group": {}}, ValueError, "ScalarGroup must be given at least one scalar"),
        ({"group": {"a": None}}, ValueError, "an item of a config must be a schedule"),
        ({"phases": 3}, TypeError, "phases in the config must be a list"),
        ({"phases": [3]}, TypeError, "a phase in the config must be a mapping"),
        ({"phases": [{"duration": 1}]}, ValueError, "a phase in the config must be a mapping with"),
        ({"phases": [{"duration": 1, "settings": 2}]}, ValueError, "settings of a phase must be"),
        ({"phases": []}, ValueError, "phases must be at least one Phase"),
        ({"name": "Phase", "duration": 1}, ValueError, "Phase in the config must be called as"),
        ({"name": "abs", "x": 1}, ValueError, "abs in the config must be called as abs"),
    ],
)
def test_bad_configs(config: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_config(config)


@pytest.mark.parametrize(
    "made",
    [
        Phases([Phase(1, lr=Linear(0, 1), name="first")]),
        Phases([Phase(1, lr=Linear(0, 1), data={"name": "Linear", "start": 1})]),
        Phases([Phase(1, lr=Linear(0, 1), data={"group": 1})]),
        ScalarGroup(group=Linear(0, 1)),
        ScalarGroup(phases=Linear(0, 1)),
    ],
    ids=repr,
)
def test_data_that_would_be_read_as_a_schedule_is_refused(made: Any) -> None:
    with pytest.raises(ValueError, match="the keys of a mapping in a config must be other than"):
        to_config(made)


class Halved(Schedule):
    """A schedule whose ``__init__`` takes something else than its field."""

    start: Real

    def __init__(self, double: float) -> None:
        self.start = double / 2
        self.note = [double]
        self.__post_init__()

    def value_at(self, progress: Any) -> Any:
        return self.start + 0 * progress


def test_a_schedule_whose_init_does_not_take_its_fields() -> None:
    made = Halved(4.0)
    for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made)), copy.copy(made)):
        assert (float(copied), copied.note) == (2.0, [4.0])
        assert copied.note is not made.note
    with known_too({"Halved": Halved}):
        with pytest.raises(ValueError, match=r"what __init__ has set must be a field of Halved"):
            to_config(made)
        made.others.clear()  # type: ignore[attr-defined]
        rule = r"a field in a config must be an argument of Halved\(...\) other .* got 'start'"
        with pytest.raises(ValueError, match=rule):
            to_config(made)


def test_deep_configs() -> None:
    config: Any = LINEAR
    for _ in range(5000):
        config = {"name": "Reversed", "schedule": config}
    with pytest.raises(ValueError, match="config must be nested at most 50 deep"):
        from_config(config)


MLX_LM: list[tuple[dict[str, Any], int]] = [
    # The block and the number of steps. The first is from mlx-lm's lora_config.yaml.
    ({"name": "cosine_decay", "warmup": 100, "warmup_init": 1e-7, "arguments": [1e-5, 1000, 1e-7]}, 1000),
    ({"name": "cosine_decay", "arguments": [1e-5, 1000]}, 1000),
    ({"name": "cosine_decay", "arguments": [1e-5, 300, 1e-6]}, 1000),
    ({"name": "cosine_decay", "arguments": [1e-5, 1500, 1e-6]}, 777),
    ({"name": "cosine_decay", "warmup": 7, "arguments": [1e-5, 31]}, 100),
    ({"name": "linear_schedule", "warmup": 9, "arguments": [1e-3, 1e-4, 90]}, 100),
    ({"name": "linear_schedule", "arguments": [1e-4, 1e-3, 250]}, 100),
    ({"name": "exponential_decay", "warmup": 10, "arguments": [1e-3, 0.99]}, 200),
    ({"name": "exponential_decay", "arguments": [1e-3, 0.9]}, 50),
    ({"name": "step_decay", "warmup": 3, "arguments": [1e-3, 0.5, 40]}, 201),
    ({"name": "step_decay", "arguments": [1e-3, 0.5, 400]}, 201),
    # Runs that end during or at the end of their warm-up.
    ({"name": "cosine_decay", "warmup": 10, "warmup_init": 1e-6, "arguments": [1e-5, 31]}, 5),
    ({"name": "cosine_decay", "warmup": 10, "arguments": [1e-5, 31]}, 10),
    ({"name": "cosine_decay", "warmup": 10, "arguments": [1e-5, 31]}, 11),
    ({"name": "cosine_decay", "warmup": 10, "arguments": [1e-5, 31]}, 12),
]  # fmt: skip


@pytest.mark.parametrize(("block", "iters"), MLX_LM, ids=lambda value: str(value))
def test_mlx_lm(block: dict[str, Any], iters: int) -> None:
    """Every step of the run has the value of the schedule that mlx-lm itself builds."""
    theirs = build_schedule(block)
    for config, horizon in (
        (block, Horizon(iters)),
        ({"iters": iters, "lr_schedule": block, "learning_rate": 1.0}, None),
    ):
        scalar = from_config(config, horizon)
        assert isinstance(scalar, ScheduledScalar)
        for step in range(iters):
            value = theirs(mx.array(step)) if callable(theirs) else theirs
            expected = float(value)
            assert scalar.at(step / iters) == pytest.approx(expected, rel=1e-5, abs=1e-11), step
        assert repr(from_config(repr(scalar))) == repr(scalar)


@pytest.mark.parametrize("accumulation", [3, 7, 100])
def test_mlx_lm_counts_the_steps_of_the_optimizer(accumulation: int) -> None:
    block = {"name": "cosine_decay", "warmup": 5, "arguments": [1e-5, 60]}
    theirs: Any = build_schedule(block)
    config = {"iters": 100, "grad_accumulation_steps": accumulation, "lr_schedule": block}
    scalar: Any = from_config(config)
    steps = 100 // accumulation  # optimizer steps, in mlx-lm's trainer
    for step in range(steps):
        expected = float(theirs(mx.array(step)))
        assert scalar.at(step / steps) == pytest.approx(expected, rel=1e-5, abs=1e-11), step


@pytest.mark.parametrize(
    "written",
    ["Warmup(Linear(1e-4, 0.0), 0.1)", to_config(Warmup(Linear(1e-4, 0.0), 0.1))],
    ids=["text", "data"],
)
def test_mlx_lms_config_may_have_any_schedule(written: Any) -> None:
    config = {"iters": 100, "grad_accumulation_steps": 4, "learning_rate": 1.0}
    scalar: Any = from_config({**config, "lr_schedule": written})
    assert [scalar.at(p) for p in (0, 0.05, 0.1, 1)] == pytest.approx([0, 0.5e-4, 1e-4, 0])
    assert repr(from_config({**config, "lr_schedule": None})) == "Constant(value=1.0)"
    assert repr(from_config({"lr_schedule": None, "learning_rate": "Linear(1, 0)"})) == (
        "Linear(start=1, end=0)"
    )


BLOCK = {"name": "cosine_decay", "warmup": 10, "arguments": [1e-5, 100]}


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (BLOCK, ValueError, "horizon must be given for a schedule of mlx-lm"),
        ({"lr_schedule": BLOCK}, ValueError, "horizon must be given"),
        ({"lr_schedule": [3], "iters": 10}, TypeError, "lr_schedule must be a mapping or a text"),
        ({"lr_schedule": None, "iters": 10}, TypeError, "lr_schedule must be a mapping or a text"),
        ({"lr_schedule": BLOCK, "iters": 0}, ValueError, "iters must be a whole number of at least 1"),
        ({"lr_schedule": BLOCK, "iters": 9, "grad_accumulation_steps": 10}, ValueError, "iters must be at least grad_accumulation_steps, 10, got 9"),
        ({"lr_schedule": BLOCK, "iters": 9, "grad_accumulation_steps": 0}, ValueError, "grad_accumulation_steps must be"),
        ({"lr_schedule": {**BLOCK, "name": "cos"}, "iters": 99}, ValueError, "must be one of 'cos"),
        ({"lr_schedule": {**BLOCK, "arguments": [1]}, "iters": 99}, ValueError, "as many as cosi"),
        ({"lr_schedule": {**BLOCK, "arguments": 1}, "iters": 99}, TypeError, "must be a list"),
        ({"lr_schedule": {**BLOCK, "arguments": [1, "a"]}, "iters": 99}, TypeError, "item 1 of"),
        ({"lr_schedule": {**BLOCK, "arguments": [1, 0.5]}, "iters": 99}, TypeError, "whole number"),
        ({"lr_schedule": {**BLOCK, "warmup": -1}, "iters": 99}, ValueError, "warmup in lr_schedule"),
        ({"lr_schedule": {**BLOCK, "more": -1}, "iters": 99}, ValueError, "must be a mapping of"),
    ],
)  # fmt: skip
def test_bad_blocks(config: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_config(config)
    with pytest.raises(TypeError, match="horizon must be a Horizon"):
        from_config(BLOCK, 100)  # type: ignore[arg-type]


def nested(depth: int) -> ScheduledScalar:
    scalar: ScheduledScalar = Linear(0.0, 1.0)
    for _ in range(depth):
        scalar = Warp(scalar, 1.0)
    return scalar


@pytest.mark.parametrize(
    ("make", "deepest"),  # 50 nested lists and mappings
    [
        (lambda n: sum([Linear(0.0, 1.0)] * n, start=Linear(0.0, 1.0)), 24),
        (lambda n: nested(n), 49),
        (lambda n: Sequence([nested(n), Linear(0.0, 1.0)], [0.5]), 47),
        (lambda n: ScalarGroup(lr=nested(n) * 2.0), 45),
        (lambda n: Phases([Phase(1, lr=nested(n))]), 45),
    ],
)
def test_what_is_written_can_be_read(make: Any, deepest: int) -> None:
    """``to_config`` rejects data that is nested too deeply for ``from_config``."""
    data = to_config(make(deepest))
    assert to_config(from_config(json.loads(json.dumps(data)))) == data
    for depth in (deepest + 1, 200):
        with pytest.raises(ValueError, match="scalar must be nested at most 50 deep"):
            to_config(make(depth))
