"""Command-line flags for a learning rate, as in SambaFlow's trainers."""

from __future__ import annotations

import inspect
from argparse import ArgumentParser, Namespace
from collections.abc import Collection
from inspect import Parameter
from typing import Any

from .. import checks
from ..number.scalar import ScheduledScalar
from ..schedules.annealing import Constant
from ..schedules.base import Schedule
from ..schedules.composition import Warmup
from ..schedules.stepwise import StepDecay
from ..training.horizon import Horizon
from .names import NAMES, from_name, of_peak
from .parsing import parse
from .registry import REGISTERED

STEP = "step_schedule"
FLAGS: dict[str, tuple[Any, Any, str]] = {
    # type, default, help
    "learning_rate": (float, 1e-3, "the highest learning rate"),
    "lr_schedule": (str, "fixed_lr", "a name or an expression such as 'CosineAnnealing(1e-3)'"),
    "warmup_steps": (int, 0, "steps of the linear warm-up from 0"),
    "max_steps": (int, None, "steps of the whole run"),
    "end_lr_ratio": (float, None, "the last learning rate, as a fraction of the highest"),
    "decay_steps": (int, None, "steps between two decays, or steps of the decay at the end"),
    "decay_gamma": (float, None, "the factor of a decay"),
    "steps_this_run": (
        int,
        None,
        "steps until this process stops; --max_steps sets the schedule",
    ),
}


SHAPES = ("warmup_steps", "end_lr_ratio", "decay_steps", "decay_gamma")
"""The flags of the shape of a schedule, which not every schedule uses."""
CONSTANT = ("constant", "fixed_lr")
NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the flags of a learning rate schedule to a parser.

    The flags are ``--learning_rate`` (default 0.001), ``--lr_schedule`` (default "fixed_lr"),
    ``--warmup_steps`` (default 0), ``--max_steps``, ``--end_lr_ratio``, ``--decay_steps``,
    ``--decay_gamma`` and ``--steps_this_run``. ``parser.set_defaults`` changes the defaults.

    Args:
        parser: An ``argparse.ArgumentParser`` or an argument group.

    Raises:
        TypeError: ``parser`` has no ``add_argument``.

    Example:
        >>> from argparse import ArgumentParser
        >>> from scalars import add_arguments, from_arguments
        >>> parser = ArgumentParser()
        >>> add_arguments(parser)
        >>> flags = "--lr_schedule step_schedule --decay_steps 30 --decay_gamma 0.5"
        >>> from_arguments(parser.parse_args([*flags.split(), "--max_steps", "100"]))
        StepDecay(start=0.001, factor=0.5, every=0.3)
    """
    if not hasattr(parser, "add_argument"):
        way_out = "Pass an argparse.ArgumentParser."
        checks.fail("parser", "an ArgumentParser", parser, way_out, wrong_type=True)
    for name, (kind, default, text) in FLAGS.items():
        shown = "" if default is None else " (default: %(default)s)"
        parser.add_argument(f"--{name}", type=kind, default=default, help=text + shown)


def from_arguments(arguments: Namespace) -> ScheduledScalar:
    """Make the learning rate from the flags of ``add_arguments``.

    ``--lr_schedule`` is one of

    - a name of ``from_name``, such as "cosine", "fixed_lr", "cosine_schedule_with_warmup" or
      "polynomial_decay_schedule_with_warmup";
    - "step_schedule", which multiplies by ``--decay_gamma`` after every ``--decay_steps``;
    - a registered name;
    - an expression for ``parse``, which takes no other flag.

    The progress is step / ``max_steps``, whatever ``--steps_this_run`` is, so that a run that
    was stopped continues its schedule.

    Args:
        arguments: The result of ``parse_args`` of a parser with these flags.

    Raises:
        ValueError: A flag is missing, out of its range, or given although the schedule does not
            use it, or the name is unknown. ``--learning_rate`` has a default, and is not used by
            an expression.
        TypeError: A flag is of the wrong type, or ``arguments`` has none of the flags.

    Example:
        >>> from argparse import ArgumentParser
        >>> from scalars import add_arguments, from_arguments
        >>> parser = ArgumentParser()
        >>> add_arguments(parser)
        >>> lr = from_arguments(parser.parse_args(["--lr_schedule", "Linear(1, 0)"]))
        >>> float(lr.update(0.25))
        0.75
    """
    if not any(hasattr(arguments, name) for name in FLAGS):
        way_out = "Pass parser.parse_args() of a parser with the flags of add_arguments."
        checks.fail("arguments", "a Namespace with the flags", arguments, way_out, wrong_type=True)
    values = {name: getattr(arguments, name, default) for name, (_, default, _) in FLAGS.items()}
    if values["end_lr_ratio"] is not None:
        of_peak("--end_lr_ratio: end_ratio", values["end_lr_ratio"])
    if values["steps_this_run"] is not None:
        checks.count("--steps_this_run", values["steps_this_run"])
    name = values["lr_schedule"]
    _refuse_unused(name, values)
    if name in REGISTERED:
        return _registered(name, values)
    if not isinstance(name, str) or (name != STEP and name not in NAMES):
        return _expression(name)
    if values["max_steps"] is None and name not in CONSTANT:
        checks.fail("--max_steps", f"given for {name}", None, "Pass the length of the run.")
    total = 1 if values["max_steps"] is None else checks.count("--max_steps", values["max_steps"])
    horizon = Horizon(total)
    warmup = checks.count("--warmup_steps", values["warmup_steps"], least=0)
    if name == STEP:
        return _step_schedule(values, horizon, warmup)
    options = {}
    if "decay_steps" in inspect.signature(NAMES[name]).parameters:
        options = {"decay_steps": _given(values, "decay_steps")}
    ratio = values["end_lr_ratio"]
    return from_name(name, values["learning_rate"], horizon, warmup, ratio, **options)


def _refuse_unused(name: Any, values: dict[str, Any]) -> None:
    """Raise ``ValueError`` if a flag of the shape was given that the schedule does not use."""
    used: Collection[str] = ()
    if name == STEP:
        used = ("warmup_steps", "decay_steps", "decay_gamma")
    elif name in REGISTERED:
        used = inspect.signature(REGISTERED[name]).parameters
    elif name in NAMES and name not in CONSTANT:
        used = ("warmup_steps", "end_lr_ratio", *inspect.signature(NAMES[name]).parameters)
    for flag in SHAPES:
        if flag not in used and values[flag] != FLAGS[flag][1]:
            rule = f"left out with --lr_schedule {name}, which does not use it"
            where_set = f", or pass --{flag} 0 if the script sets it" if FLAGS[flag][1] == 0 else ""
            checks.fail(f"--{flag}", rule, values[flag], f"Remove it{where_set}.")


def _given(values: dict[str, Any], name: str) -> Any:
    if values.get(name) is None:
        checks.fail(f"--{name}", f"given for {values['lr_schedule']}", None, "Pass a number.")
    return values[name]


def _step_schedule(values: dict[str, Any], horizon: Horizon, warmup: int) -> Schedule:
    every = checks.count("--decay_steps", _given(values, "decay_steps"))
    gamma = checks.real("--decay_gamma", _given(values, "decay_gamma"))
    peak = checks.positive("--learning_rate", values["learning_rate"])
    if not 0 <= warmup < horizon.total_steps:
        rule = f"below --max_steps, {horizon.total_steps}"
        checks.fail("--warmup_steps", rule, warmup, "Lower it or raise --max_steps.")
    remaining = horizon.total_steps - warmup
    decayed = StepDecay(peak, gamma, every / remaining) if every < remaining else Constant(peak)
    return Warmup(decayed, horizon.fraction(steps=warmup)) if warmup else decayed


def _registered(name: str, values: dict[str, Any]) -> ScheduledScalar:
    factory = REGISTERED[name]
    known = inspect.signature(factory).parameters
    for key, parameter in known.items():
        if parameter.default is not parameter.empty or parameter.kind not in NAMED:
            continue
        if key not in FLAGS:
            rule, way_out = f"one of {', '.join(FLAGS)}, or one with a default", "Rename it."
            checks.fail(f"an argument of {name} without a default", rule, key, way_out)
        _given(values, key)
    given = {key: value for key, value in values.items() if key in known and value is not None}
    return _scalar(factory(**given))


def _expression(text: Any) -> ScheduledScalar:
    if isinstance(text, str) and text.isidentifier():
        names = (*NAMES, STEP, *REGISTERED)
        checks.one_of("--lr_schedule", text, names)
    return _scalar(parse(text))


def _scalar(made: Any) -> ScheduledScalar:
    if not isinstance(made, ScheduledScalar):
        way_out = "Write a schedule such as CosineAnnealing(1e-3)."
        checks.fail("--lr_schedule", "a scheduled scalar", made, way_out)
    return made
