"""The horizon of a run, which converts steps and epochs to progress."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import pairwise
from typing import Any, overload

import mlx.core as mx

from .. import checks
from ..functions import where

Past = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Horizon:
    """The length of a run, which converts steps to progress.

    The progress at a step is ``step / total_steps``: 0 at the first step, step 0, and 1 one
    step after the last. With ``endpoint=True`` it is ``step / (total_steps - 1)``, so that
    the last step has the schedule's end value. With ``offset=1`` it is
    ``(step + 1) / total_steps``, as in libraries that count steps from 1.

    Args:
        total_steps: Optimizer steps in the run, at least 1, or 2 with ``endpoint``.
        steps_per_epoch: Optimizer steps in an epoch, for ``fraction(epochs=...)``.
            Default: ``None``, the run has no epochs.
        endpoint: Whether the last step has progress 1. Default: ``False``.
        offset: The number of steps that is added to the step, below ``total_steps``, or below
            ``total_steps - 1`` with ``endpoint``. Default: ``0``.
        past: The (step, progress) pairs at which the run was extended or jumped, as made by
            ``extend`` and ``jump``. Default: ``()``.

    Raises:
        ValueError: A count is out of its range.
        TypeError: A count is not a whole number.

    Example:
        >>> from scalars import CosineAnnealing, Horizon, Warmup
        >>> horizon = Horizon(total_steps=1000, steps_per_epoch=100)
        >>> horizon.progress(250), Horizon(1000, offset=1).progress(249)
        (0.25, 0.25)
        >>> horizon.fraction(epochs=1)
        0.1
        >>> lr = Warmup(CosineAnnealing(1e-3), horizon.fraction(steps=50))

    On several ranks all ranks make each step together. If some ranks have more batches than
    others, use the smallest number on all of them, so that their progress agrees.

        >>> import mlx.core as mx
        >>> batches = range(250)  # of this rank
        >>> steps = int(mx.distributed.all_min(mx.array(len(batches))).item())
        >>> horizon, batches = Horizon(steps), batches[:steps]
    """

    total_steps: int
    steps_per_epoch: int | None = None
    endpoint: bool = False
    offset: int = 0
    past: Past = field(default=(), kw_only=True)

    def __repr__(self) -> str:
        """Return the call that makes the horizon, without default values."""
        values = [(f, getattr(self, f.name)) for f in fields(self)]
        shown = [f"{f.name}={value!r}" for f, value in values if value != f.default]
        return f"Horizon({', '.join(shown)})"

    def __post_init__(self) -> None:
        checks.flag("endpoint of Horizon", self.endpoint)
        least = {"total_steps": 2 if self.endpoint else 1, "steps_per_epoch": 1}
        for name, at_least in least.items():
            if (value := getattr(self, name)) is not None or name == "total_steps":
                value = checks.count(f"{name} of Horizon", value, at_least)
                object.__setattr__(self, name, value)  # converts NumPy integers
        object.__setattr__(self, "offset", checks.count("offset of Horizon", self.offset, least=0))
        if self._end < 1:
            way_out = "Pass 1 for a progress of (step + 1) / total_steps."
            checks.fail("offset of Horizon", "below total_steps", self.offset, way_out)
        object.__setattr__(self, "past", checks.each("past of Horizon", self.past, _pair))
        steps = [0, *[step for step, _ in self.past], self._end - 1]
        if steps != sorted(steps):
            way_out = "Use extend() and jump(), which make it."
            rule = f"of steps in order, below the end of the run at step {self._end}"
            checks.fail("past of Horizon", rule, self.past, way_out)

    @property
    def _end(self) -> int:
        """The step at which the progress is 1."""
        return self.total_steps - self.endpoint - self.offset

    @overload
    def progress(self, step: float) -> float: ...
    @overload
    def progress(self, step: mx.array) -> mx.array: ...
    def progress(self, step: Any) -> Any:
        """Return the progress at a step, which is above 1 after the end of the run.

        Args:
            step: The number of steps done, at least 0. An ``mx.array``, such as
                ``optimizer.step``, gives an array, also in a traced function.

        Raises:
            ValueError: A number is negative, infinite or NaN.
            TypeError: ``step`` is neither a number nor an ``mx.array``.

        Example:
            >>> import mlx.core as mx
            >>> from scalars import Horizon
            >>> Horizon(5, endpoint=True).progress(4)
            1.0
            >>> Horizon(4).progress(mx.array([0, 1, 2]))
            array([0, 0.25, 0.5], dtype=float32)
        """
        if not isinstance(step, mx.array):
            step = checks.real("step", step, way_out="Pass the number of steps done.")
            if step < 0:
                checks.fail("step", "at least 0", step, "Count steps from 0.")
        else:
            step = step.astype(mx.float32)
        progress: Any = None
        for begin, _, stretch in self._stretches():
            here = stretch(step)
            progress = here if progress is None else where(step < begin, progress, here)
        return progress

    def progresses(self) -> array[float]:
        """Return the progress at every step from 0 to ``total_steps``, at most 1 each."""
        found = array("d")
        for begin, end, stretch in self._stretches():
            found.extend(map(stretch, range(max(begin, 0), end)))
        found.extend([1.0] * (self.total_steps + 1 - len(found)))
        return found

    def _stretches(self) -> Iterator[tuple[int, int, Callable[[Any], Any]]]:
        """Yield the bounds of each stretch and its progress as a function of the step."""
        begin, done = -self.offset, 0.0
        for end, done_at_end in (*self.past, (self._end, 1.0)):
            if end > begin:  # a jump adds a second pair at the same step, of length 0
                yield begin, end, partial(_along, begin, done, end - begin, done_at_end - done)
            begin, done = end, done_at_end

    def fraction(self, steps: float = 0, epochs: float = 0) -> float:
        """Convert steps and epochs to a fraction of the run, for a boundary or a warm-up.

        It is the progress at step ``b``, so a boundary at ``fraction(steps=b)`` is reached,
        and a warm-up of that length ends, exactly at step ``b``. With an ``offset``, a length
        that does not begin at step 0 is ``steps / total_steps`` instead.

        Args:
            steps: Steps, from 0 to the length of the run. Default: ``0``.
            epochs: Epochs, which are added to the steps. Default: ``0``.

        Raises:
            ValueError: ``steps`` is between 0 and 1, the sum is negative or longer than the run,
                or epochs are given and the horizon has no ``steps_per_epoch``.
            TypeError: An argument is not a number.
        """
        total = checks.real("steps", steps)
        if 0 < total < 1:
            way_out = "Pass the number of steps, epochs=..., or use this fraction as it is."
            checks.fail("steps", "0, or at least 1", steps, way_out)
        if checks.real("epochs", epochs):
            if self.steps_per_epoch is None:
                name, rule = "steps_per_epoch of Horizon", "given to convert epochs"
                checks.fail(name, rule, None, "Write Horizon(total_steps, steps_per_epoch=...).")
            total += epochs * self.steps_per_epoch
        if not 0 <= total <= self.total_steps:
            rule = f"from 0 to total_steps, {self.total_steps}"
            checks.fail("the fraction's steps", rule, total, checks.LONGER)
        return min(self.progress(total), 1.0)

    def extend(self, total_steps: int, at_step: int) -> Horizon:
        """Return the horizon of a run that becomes longer or shorter at a step.

        Up to ``at_step`` nothing changes. From there on, the rest of every schedule is
        stretched over the remaining steps, so that no value jumps.

        Args:
            total_steps: The new length of the run, more than ``at_step``.
            at_step: The number of steps done, from 0 to below the current length.

        Raises:
            ValueError: A count is out of its range.
            TypeError: A count is not a whole number.

        Example:
            >>> from scalars import Horizon
            >>> horizon = Horizon(100)
            >>> longer = horizon.extend(total_steps=250, at_step=50)
            >>> longer.progress(50), longer.progress(150), longer.progress(250)
            (0.5, 0.75, 1.0)
        """
        past = self._past_until(at_step, total_steps)
        return replace(self, total_steps=total_steps, past=_each_once(past))

    def jump(self, to: float, at_step: int, total_steps: int) -> Horizon:
        """Return the horizon of a run whose progress jumps at a step.

        Up to ``at_step`` nothing changes. At that step the progress becomes ``to``, and from
        there it grows linearly to the end of the run. To start the cooldown now, jump to the
        progress at which the schedule's decay begins.

        Args:
            to: The progress at ``at_step``, from 0 to 1.
            at_step: The number of steps done, from 0 to below the current length.
            total_steps: The new length of the run, more than ``at_step``.

        Raises:
            ValueError: A number is out of its range.
            TypeError: ``to`` is not a number, or a count is not a whole number.

        Example:
            >>> from scalars import Horizon, WarmupStableDecay
            >>> lr = WarmupStableDecay(1e-3, warmup=0.01, decay=0.2)
            >>> horizon = Horizon(1_000_000)  # the length is not known yet
            >>> horizon = horizon.jump(lr.decay_begin, at_step=40_000, total_steps=45_000)
            >>> [round(lr.at(horizon.progress(step)), 6) for step in (39_999, 40_000, 42_500)]
            [0.001, 0.001, 0.0005]
        """
        to = float(checks.fraction("to", to))
        past = self._past_until(at_step, total_steps)
        return replace(self, total_steps=total_steps, past=_each_once((*past, (at_step, to))))

    def _past_until(self, at_step: int, total_steps: int) -> Past:
        """Check the counts and return ``past`` with the pair of ``at_step`` added."""
        checks.count("at_step", at_step, least=self.past[-1][0] if self.past else 0)
        checks.count("total_steps", total_steps, least=at_step + 1 + self.endpoint + self.offset)
        if at_step >= self._end:
            rule = f"before the end of the run, which is at step {self._end}"
            checks.fail("at_step", rule, at_step, "Make a new Horizon for a new run.")
        return *self.past, (at_step, self.progress(at_step))


def check_horizon(value: Any) -> None:
    """Raise ``TypeError`` if an argument ``horizon`` is no ``Horizon``."""
    if not isinstance(value, Horizon):
        way_out = "Write Horizon(total_steps)."
        checks.fail("horizon", "a Horizon", value, way_out, wrong_type=True)


def path(horizon: Horizon) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return the linear parts of the progress over a run, each from one (step, progress) on.

    The last part, in which the progress stays 1, is there with an ``endpoint`` or an ``offset``.
    """
    parts: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for begin, end, stretch in horizon._stretches():
        if end > (first := max(begin, 0)):
            parts.append(((first, stretch(first)), (end, stretch(end))))
    if horizon._end < horizon.total_steps:
        parts.append(((horizon._end, 1.0), (horizon.total_steps, 1.0)))
    return parts


def _pair(name: str, value: Any) -> tuple[int, float]:
    """Check that ``value`` is a step and the progress there."""
    if len(checks.sequence(name, value)) != 2:
        checks.fail(name, "a step and a progress", value, "Use extend() and jump().")
    step, done = value
    return checks.count(f"the step in {name}", step, least=0), checks.fraction(name, done)


def _each_once(past: Past) -> Past:
    """Return (step, progress) pairs without repetitions, and without the beginning, (0, 0.0)."""
    pairs = pairwise(((0, 0.0), *past))
    return tuple([pair for before, pair in pairs if pair != before])


def _along(begin: int, done: float, steps: int, share: float, step: Any) -> Any:
    # Without extensions this is 0 + 1 * (step / total), which is exact.
    return done + share * ((step - begin) / steps)
