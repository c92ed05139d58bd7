"""The ``lr_schedule`` in mlx-lm's configs, and the length of their runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import checks
from ..number.scalar import ScheduledScalar
from ..schedules.annealing import Constant, CosineAnnealing, Linear
from ..schedules.composition import Sequence, Truncated
from ..schedules.stepwise import StepDecay
from ..training.horizon import Horizon


def _over(steps: float, remaining: int, schedule: ScheduledScalar, end: float) -> list[Any]:
    """Return (part, steps) pairs: a schedule over ``steps``, then its end; cut to what remains."""
    if steps > remaining:
        return [(Truncated(schedule, remaining / steps), remaining)]
    held: list[Any] = [(end, remaining - steps)] if steps < remaining else []
    return [(schedule, steps), *held]


def _cosine(remaining: int, init: Any, decay_steps: Any, end: Any = 0.0) -> list[Any]:
    return _over(decay_steps, remaining, CosineAnnealing(init, end), end)


def _linear(remaining: int, init: Any, end: Any, steps: Any) -> list[Any]:
    return _over(steps, remaining, Linear(init, end), end)


def _exponential(remaining: int, init: Any, decay_rate: Any) -> list[Any]:
    rate = checks.positive("decay_rate in arguments", decay_rate)
    falling = rate ** Linear(0, remaining)
    return [(checks.positive("init in arguments", init) * falling, remaining)]


def _step(remaining: int, init: Any, decay_rate: Any, step_size: Any) -> list[Any]:
    if step_size >= remaining:
        return [(checks.real("init in arguments", init), remaining)]
    return [(StepDecay(init, decay_rate, step_size / remaining), remaining)]


MAKERS: dict[str, tuple[Callable[..., list[Any]], int, int]] = {
    # The maker, and the smallest and largest number of its arguments.
    "cosine_decay": (_cosine, 2, 3),
    "linear_schedule": (_linear, 3, 3),
    "exponential_decay": (_exponential, 2, 2),
    "step_decay": (_step, 3, 3),
}
COUNTS = {"cosine_decay": 1, "linear_schedule": 2, "step_decay": 2}
"""The index of the argument that is a number of steps."""


def horizon_of(config: Mapping[str, Any]) -> Horizon:
    """Return the optimizer steps of an mlx-lm run, which may span several iterations each."""
    iters = checks.count("iters", config["iters"])
    name, given = "grad_accumulation_steps", config.get("grad_accumulation_steps")
    every = 1 if given is None else checks.count(name, given)
    if iters < every:
        way_out = "Raise iters, as the optimizer would make no step."
        checks.fail("iters", f"at least {name}, {every}", iters, way_out)
    return Horizon(iters // every)


def schedule(block: Mapping[str, Any], horizon: Horizon | None) -> ScheduledScalar:
    """Make the schedule that mlx-lm makes from an ``lr_schedule``."""
    if horizon is None:
        way_out = "Pass horizon=Horizon(iters)."
        checks.fail("horizon", "given for a schedule of mlx-lm, which counts steps", None, way_out)
    allowed = ("name", "arguments", "warmup", "warmup_init")
    if not set(block) <= set(allowed):
        way_out = f"Use only {', '.join(allowed)}."
        checks.fail("lr_schedule", f"a mapping of {allowed}", sorted(map(str, block)), way_out)
    name = checks.one_of("name in lr_schedule", block.get("name"), MAKERS)
    arguments = _arguments(name, block.get("arguments"))
    warmup = checks.count("warmup in lr_schedule", block.get("warmup", 0), least=0)
    start = checks.real("warmup_init in lr_schedule", block.get("warmup_init", 0.0))
    # mlx-lm warms up over the steps 0 to warmup and begins the schedule one step later.
    total, peak = horizon.total_steps, arguments[0]
    parts = _over(warmup, min(total, warmup + 1), Linear(start, peak), peak) if warmup else []
    if remaining := total - sum(steps for _, steps in parts):
        parts += MAKERS[name][0](remaining, *arguments)
    return _joined(parts, horizon)


def _arguments(name: str, value: Any) -> list[Any]:
    _, least, most = MAKERS[name]
    arguments = list(checks.sequence("arguments in lr_schedule", value))
    if not least <= len(arguments) <= most:
        rule = f"as many as {name} takes, {least} to {most}"
        way_out = f"Pass the arguments of MLX's {name}."
        checks.fail("arguments in lr_schedule", rule, arguments, way_out)
    for i, argument in enumerate(arguments):
        checks.real(f"item {i} of arguments", argument)
    if name in COUNTS:
        checks.count(f"item {COUNTS[name]} of arguments", arguments[COUNTS[name]])
    return arguments


def _joined(parts: list[Any], horizon: Horizon) -> ScheduledScalar:
    """Join (part, steps) pairs into one schedule."""
    first, done, boundaries = parts[0][0], 0, []
    for _, steps in parts[:-1]:
        done += steps
        boundaries.append(horizon.fraction(steps=done))
    if boundaries:
        return Sequence([part for part, _ in parts], boundaries)
    return first if isinstance(first, ScheduledScalar) else Constant(first)
