"""Conversion of scalars to and from plain data, as in JSON, TOML and YAML."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import mlx.core as mx

from .. import checks
from ..number.operations import OPERATIONS, VIEWS
from ..number.scalar import Expression, ScheduledScalar
from ..schedules.annealing import Constant
from ..training.group import ScalarGroup
from ..training.horizon import Horizon, check_horizon
from ..training.phases import Phase, Phases
from . import mlx_lm, registry
from .parsing import DEEPEST, parse

LARGEST = 20_000
Made = ScheduledScalar | ScalarGroup | Phases


def to_config(scalar: Made) -> dict[str, Any]:
    """Convert a scalar, a group or phases to plain data for ``from_config``.

    The data contains the arguments that differ from their defaults, but not the progress,
    which ``state_dict`` returns.

    Args:
        scalar: A schedule, an expression of schedules, a ``ScalarGroup`` or ``Phases``.

    Raises:
        ValueError: It contains a function, a schedule that is not registered, or a setting of
            a phase that JSON cannot store, or it is nested too deeply for ``from_config``.
        TypeError: ``scalar`` is none of these.

    Example:
        >>> from scalars import CosineAnnealing, Warmup, from_config, to_config
        >>> to_config(Warmup(CosineAnnealing(0.1), 0.2) * 2)["operation"]
        'multiply'
        >>> to_config(CosineAnnealing(0.1, end=0.01))
        {'name': 'CosineAnnealing', 'start': 0.1, 'end': 0.01}
    """
    if not isinstance(scalar, (ScheduledScalar, ScalarGroup, Phases)):
        way_out = "Pass a schedule, a ScalarGroup or Phases."
        checks.fail("scalar", "made of schedules", scalar, way_out, wrong_type=True)
    return _config(scalar, 0)


def _config(scalar: Any, depth: int) -> dict[str, Any]:
    """Return the plain data of a part that is nested ``depth`` levels deep."""
    if isinstance(scalar, ScalarGroup):
        return {"group": _plain(dict(scalar), depth + 1)}
    if isinstance(scalar, Phases):
        return {"phases": [_of_phase(phase, depth + 2) for phase in scalar]}
    if isinstance(scalar, Expression):
        operation = scalar.operation.name
        dtype = [operation.rpartition(".")[2]] if operation in VIEWS else []
        operands = _plain([*scalar.operands, *dtype], depth + 1)
        return {"operation": "astype" if dtype else operation, "operands": operands}
    if (name := registry.name_of(scalar)) is None:
        way_out = "Define a class for it and call register(name, class)."
        checks.fail("a schedule", "one that has a name", scalar, way_out)
    given = scalar.given()
    if scalar.others:
        way_out = "Declare it as a field, or pickle the schedule."
        rule = f"a field of {type(scalar).__name__}, as from_config gives the fields alone"
        checks.fail("what __init__ has set", rule, [*scalar.others], way_out)
    taken = inspect.signature(type(scalar)).parameters
    if unfit := [one for one in given if one == "name" or one not in taken]:
        rule = f"an argument of {type(scalar).__name__}(...) other than 'name'"
        way_out = "Accept it in __init__ under another name, or pickle the schedule."
        checks.fail("a field in a config", rule, unfit[0], way_out)
    return {"name": name, **{key: _plain(x, depth + 1) for key, x in given.items()}}


def _of_phase(phase: Phase, depth: int) -> dict[str, Any]:
    return {"duration": phase.duration, "settings": _plain(phase.settings, depth + 1)}


def _plain(value: Any, depth: int) -> Any:
    """Convert a value to plain data."""
    if depth > DEEPEST:
        checks.fail("scalar", f"nested at most {DEEPEST} deep", "more", "Simplify or pickle it.")
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, ScheduledScalar):
        return _config(value, depth)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        if isinstance(value.get("name"), str) or tuple(sorted(value)) in KINDS:
            rule = "other than those that describe a schedule"
            checks.fail("the keys of a mapping in a config", rule, [*value], "Rename one.")
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    way_out = "Use numbers, texts, lists, mappings or schedules instead."
    return checks.fail("an argument in a config", "plain data", value, way_out)


def from_config(config: Any, horizon: Horizon | None = None) -> ScheduledScalar | Any:
    """Make a scalar, a group or phases from plain data.

    The data is what ``to_config`` returns, such as ``{"name": "CosineAnnealing", "start":
    0.1}``, where arguments may be nested data. It may also be

    - a text for ``parse``, or a number;
    - mlx-lm's ``lr_schedule`` with a ``horizon``: ``{"name": "cosine_decay", "arguments":
      [1e-5, 1000], "warmup": 100}``;
    - a whole config of mlx-lm, which gives its learning rate. Its ``lr_schedule`` may be any
      data in this list, and its horizon is ``iters // grad_accumulation_steps``, as mlx-lm's
      schedules count optimizer steps.

    Args:
        config: The data.
        horizon: The length of the run, for mlx-lm's schedules. Default: ``None``.

    Returns:
        A scalar, or a ``ScalarGroup`` or ``Phases`` if the data describes one.

    Raises:
        ValueError: The data has another form, a name is unknown, an argument is out of its
            range, or the horizon of an mlx-lm schedule is missing.
        TypeError: The data or an argument is of the wrong type.

    Example:
        >>> from scalars import Horizon, from_config
        >>> from_config({"name": "CosineAnnealing", "start": 0.1, "end": 0.01})
        CosineAnnealing(start=0.1, end=0.01)
        >>> from_config({"name": "cosine_decay", "arguments": [0.1, 500]}, Horizon(1000))
        Sequence(schedules=(CosineAnnealing(start=0.1), Constant(value=0.0)), boundaries=(0.5,))
    """
    if horizon is not None:
        check_horizon(horizon)
    if isinstance(config, str):
        return parse(config)
    if isinstance(config, (int, float)) and not isinstance(config, bool):
        return Constant(config)
    if not isinstance(config, Mapping):
        way_out = "Pass the result of to_config."
        checks.fail("config", "a mapping, a text or a number", config, way_out, wrong_type=True)
    if "lr_schedule" in config:
        return _rate(config, horizon)
    if "arguments" in config:
        return mlx_lm.schedule(config, horizon)
    made = _value(config, 0, count())
    if not isinstance(made, (ScheduledScalar, ScalarGroup, Phases)):
        known = "'name', 'operation', 'group' or 'phases'"
        checks.fail("config", f"a mapping with {known}", made, "Pass the result of to_config.")
    return made


def _rate(config: Mapping[str, Any], horizon: Horizon | None) -> Made:
    """Return the learning rate of a whole config of mlx-lm."""
    block = config["lr_schedule"]
    if block is None and "learning_rate" in config:
        block = config["learning_rate"]
    if isinstance(block, bool) or not isinstance(block, (Mapping, str, int, float)):
        way_out = "Write name, arguments and warmup, or a text such as 'Linear(1e-4, 0.0)'."
        checks.fail("lr_schedule", "a mapping or a text", block, way_out, wrong_type=True)
    return from_config(block, mlx_lm.horizon_of(config) if "iters" in config else horizon)


def _value(value: Any, depth: int, seen: Iterator[int]) -> Any:
    """Make what plain data describes."""
    if next(seen) > LARGEST:
        checks.fail("config", f"at most {LARGEST} items", "more", "Shorten it.")
    if depth > DEEPEST:
        checks.fail("config", f"nested at most {DEEPEST} deep", "more", "Simplify it.")
    if isinstance(value, (list, tuple)):
        return [_value(item, depth + 1, seen) for item in value]
    if not isinstance(value, Mapping):
        return value
    for key in value:
        if not isinstance(key, str):
            checks.fail("a key in a config", "a string", key, "Pass the result of to_config.")
    inside = {key: _value(item, depth + 1, seen) for key, item in value.items()}
    if isinstance(inside.get("name"), str):
        name = inside.pop("name")
        return registry.call(name, (), inside, " in the config")
    make = KINDS.get(tuple(sorted(inside)))
    return inside if make is None else make(**inside)


def _group(group: Any) -> ScalarGroup:
    if not isinstance(group, Mapping):
        checks.fail("group in the config", "a mapping", group, "Write {name: schedule}.")
    return ScalarGroup({name: _scalar(one) for name, one in group.items()})


def _scalar(value: Any) -> ScheduledScalar:
    made: Any = from_config(value) if isinstance(value, (str, int, float)) else value
    if not isinstance(made, ScheduledScalar):
        checks.fail("an item of a config", "a schedule", made, "Pass the result of to_config.")
    return made


def _phases(phases: Any) -> Phases:
    made = []
    for phase in checks.sequence("phases in the config", phases):
        checks.keys("a phase in the config", phase, ("duration", "settings"))
        settings = phase["settings"]
        if not isinstance(settings, Mapping):
            checks.fail("settings of a phase", "a mapping", settings, "Write {name: value}.")
        made.append(Phase(phase["duration"], **settings))
    return Phases(made)


def _operation(operation: Any, operands: Any) -> ScheduledScalar:
    names = (*OPERATIONS, "astype")
    checks.one_of("operation in the config", operation, names)
    given = list(checks.sequence("operands in the config", operands))
    if operation == "astype":
        if len(given) != 2 or given[1] not in ("float32", "float16", "bfloat16"):
            rule = "a schedule and 'float32', 'float16' or 'bfloat16'"
            checks.fail("operands in the config", rule, given, "Pass the result of to_config.")
        return _scalar(given[0]).astype(getattr(mx, given[1]))
    expected = OPERATIONS[operation].operands
    numbers = [
        one if isinstance(one, ScheduledScalar) else checks.real("an operand in the config", one)
        for one in given
    ]
    if len(given) != expected or not any(isinstance(one, ScheduledScalar) for one in given):
        rule = f"{expected} schedules or numbers, at least one schedule"
        checks.fail("operands in the config", rule, given, "Pass the result of to_config.")
    return Expression(OPERATIONS[operation], *numbers)


KINDS: dict[tuple[str, ...], Callable[..., Any]] = {
    ("group",): _group,
    ("operands", "operation"): _operation,
    ("phases",): _phases,
}
"""The functions for mappings without a name, by their sorted keys."""
