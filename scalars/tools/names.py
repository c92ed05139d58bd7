"""Schedules by the names of Hugging Face and SambaFlow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .. import checks
from ..adaptive.greedy import Greedy
from ..adaptive.plateau import ReduceOnPlateau
from ..schedules.annealing import Constant, CosineAnnealing, InverseSqrt, Linear, Polynomial
from ..schedules.base import Schedule
from ..schedules.composition import Repeat, Sequence, Warmup, WarmupStableDecay
from ..training.horizon import Horizon


class _Run:
    """The peak, warm-up and end of a run, which all makers below take."""

    def __init__(
        self, peak: float, horizon: Horizon, warmup_steps: float, end: float | None
    ) -> None:
        self.peak, self.horizon, self.end = peak, horizon, end
        self.warmup = horizon.fraction(steps=warmup_steps)
        self.warmup_steps = warmup_steps

    def end_or(self, ratio: float) -> float:
        """Return the given end value, or else this fraction of the peak."""
        return self.peak * ratio if self.end is None else self.end

    def warm(self, schedule: Schedule | float) -> Schedule:
        return Warmup(schedule, self.warmup)


def _constant(run: _Run) -> Schedule:
    return Constant(run.peak)


def _constant_with_warmup(run: _Run) -> Schedule:
    return run.warm(run.peak)


def _linear(run: _Run) -> Schedule:
    return run.warm(Linear(run.peak, run.end_or(0.0)))


def _cosine(run: _Run) -> Schedule:
    return run.warm(CosineAnnealing(run.peak, run.end_or(0.0)))


def _cosine_to_a_tenth(run: _Run) -> Schedule:
    return run.warm(CosineAnnealing(run.peak, run.end_or(0.1)))


def _cosine_with_restarts(run: _Run, num_cycles: int = 1) -> Schedule:
    return run.warm(Repeat(CosineAnnealing(run.peak, run.end_or(0.0)), num_cycles))


def _polynomial(run: _Run, power: float = 1.0) -> Schedule:
    end = 1e-7 if run.end is None else run.end
    return run.warm(Polynomial(run.peak, end, power))


def _polynomial_to_0(run: _Run, power: float = 1.0) -> Schedule:
    return run.warm(Polynomial(run.peak, run.end_or(0.0), power))


def _inverse_sqrt(run: _Run, timescale: float | None = None) -> Schedule:
    steps = timescale if timescale is not None else run.warmup_steps or 10_000
    remaining = run.horizon.total_steps - run.warmup_steps
    return run.warm(InverseSqrt(run.peak, steps / max(remaining, 1)))


def _cosine_with_min_lr(run: _Run) -> Schedule:
    if run.end is None:
        way_out = "Pass the smallest rate as a fraction of the peak: end_ratio=0.1."
        checks.fail("end_ratio", "given for this name", None, way_out)
    return _cosine(run)


def _cosine_warmup_with_min_lr(run: _Run) -> Schedule:
    # One step ahead of the others: it starts at peak / warmup_steps and ends at the last step.
    _cosine_with_min_lr(run)
    total, warmup, end = run.horizon.total_steps, run.warmup_steps, run.end_or(0.0)
    parts: list[Schedule | float] = [CosineAnnealing(run.peak, end), end]
    boundaries = [(total - 1) / total]
    if warmup > 1:
        parts.insert(0, Linear(run.peak / warmup, run.peak))
        boundaries.insert(0, (warmup - 1) / total)
    return Sequence(parts, boundaries)


def _warmup_stable_decay(run: _Run, decay_steps: float, curve: str = "cosine") -> Schedule:
    decay = run.horizon.fraction(steps=decay_steps)
    return WarmupStableDecay(run.peak, run.warmup, decay, 0.0, run.end_or(0.0), curve)


def _reduce_on_plateau(
    run: _Run,
    factor: float = 0.1,
    patience: int = 10,
    mode: str = "min",
    threshold: float = 1e-4,
) -> Schedule:
    least = run.end_or(0.0)
    plateau = ReduceOnPlateau(run.peak, factor, patience, mode, threshold, minimum=least)
    return run.warm(plateau) if run.warmup else plateau


def _greedy(run: _Run, **options: Any) -> Schedule:
    if run.end is not None:
        options.setdefault("minimum", run.end)
    greedy = Greedy(run.peak, **options)
    return run.warm(greedy) if run.warmup else greedy


# from_name reads the options of a maker from its signature.
_greedy.__signature__ = inspect.signature(Greedy)  # type: ignore[attr-defined]


NAMES: dict[str, Callable[..., Schedule]] = {
    # Hugging Face
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "cosine_warmup_with_min_lr": _cosine_warmup_with_min_lr,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "warmup_stable_decay": _warmup_stable_decay,
    "reduce_lr_on_plateau": _reduce_on_plateau,
    "greedy": _greedy,
    # SambaFlow
    "fixed_lr": _constant,
    "cosine_schedule_with_warmup": _cosine_to_a_tenth,
    "polynomial_decay_schedule_with_warmup": _polynomial_to_0,
}


COUNTING = (_cosine_warmup_with_min_lr, _inverse_sqrt, _warmup_stable_decay)
"""The makers that count steps even if there is no warm-up."""
WITHOUT_END = (_constant_with_warmup, _inverse_sqrt)
of_peak = checks.bounded(
    "a fraction of the peak, from 0 to 1", lambda x: 0 <= x <= 1, "Pass a number such as 0.1."
)


def from_name(
    name: str,
    peak: float,
    total_steps: int | Horizon,
    warmup_steps: float = 0,
    end_ratio: float | None = None,
    **options: Any,
) -> Schedule:
    """Make a schedule by its name in Hugging Face or SambaFlow.

    Steps are converted to fractions of the run by a ``Horizon``. The values at every step and
    the defaults are those of the library: most schedules end at 0, "polynomial" at 1e-7 and
    "cosine_schedule_with_warmup" at a tenth of the peak.

    Args:
        name: "constant", "constant_with_warmup", "linear", "cosine",
            "cosine_with_restarts", "cosine_with_min_lr", "cosine_warmup_with_min_lr",
            "polynomial", "inverse_sqrt", "warmup_stable_decay",
            "reduce_lr_on_plateau", "greedy" (call ``observe(metric)``); or SambaFlow's
            "fixed_lr", "cosine_schedule_with_warmup",
            "polynomial_decay_schedule_with_warmup".
        peak: The highest value, usually the learning rate.
        total_steps: The number of steps in the run, or its ``Horizon``.
        warmup_steps: The number of steps of the linear warm-up from 0. Default: ``0``.
        end_ratio: The value at the end, as a fraction of the peak. Default: ``None``, the
            default of the library.
        options: Further options of the schedule: ``num_cycles`` (restarts), ``power``
            (polynomial), ``timescale`` (inverse square root), ``decay_steps`` and ``curve``
            (warmup_stable_decay), and those of ``ReduceOnPlateau`` and ``Greedy``.

    Raises:
        ValueError: The name is unknown, a number is out of its range, an option is unknown or
            missing, or the schedule has no warm-up or no end.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import from_name
        >>> from_name("cosine", 1e-3, total_steps=100, warmup_steps=10)
        Warmup(schedule=CosineAnnealing(start=0.001), fraction=0.1)
    """
    make = NAMES[checks.one_of("name", name, NAMES)]
    checks.positive("peak", peak)
    horizon = total_steps if isinstance(total_steps, Horizon) else Horizon(total_steps)
    end = None if end_ratio is None else peak * of_peak("end_ratio", end_ratio)
    known = list(inspect.signature(make).parameters.values())[1:]
    names = [parameter.name for parameter in known]
    for option in options:
        if option not in names:
            rule = f"one that {name!r} takes: {', '.join(names) or 'it takes none'}"
            checks.fail("an option", rule, option, "Remove it.")
    for parameter in known:
        if parameter.default is parameter.empty and parameter.name not in options:
            checks.fail(parameter.name, f"given for {name!r}", None, "Pass a number of steps.")
    if make is _constant and (warmup_steps or end_ratio is not None):
        way_out = "Use 'constant_with_warmup', or a schedule that ends elsewhere."
        checks.fail("warmup_steps and end_ratio", f"left out for {name!r}", warmup_steps, way_out)
    if make in WITHOUT_END and end_ratio is not None:
        way_out = "Remove it, or use a schedule that ends elsewhere."
        checks.fail("end_ratio", f"left out for {name!r}, which has no end", end_ratio, way_out)
    return make(_Run(peak, horizon, warmup_steps, end), **options)


def by_name(horizon: Horizon | None, missing: str) -> dict[str, Callable[..., Schedule]]:
    """Return factories for texts such as ``cosine(3e-4, warmup_steps=100)``, by name.

    Args:
        horizon: The run, or ``None`` if its length is not known.
        missing: What gives the length of the run, for an error.
    """
    return {name: _factory(name, horizon, missing) for name in NAMES}


def _factory(name: str, horizon: Horizon | None, missing: str) -> Callable[..., Schedule]:
    def make(
        peak: float, warmup_steps: float = 0, end_ratio: float | None = None, **options: Any
    ) -> Schedule:
        if horizon is None and (warmup_steps or NAMES[name] in COUNTING):
            way_out = "Pass the number of steps in the run."
            checks.fail(missing, f"given for {name} with a number of steps", None, way_out)
        return from_name(name, peak, horizon or 1, warmup_steps, end_ratio, **options)

    return make
