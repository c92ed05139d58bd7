"""Tables of the values at all steps of a run, computed once on the host."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from contextlib import suppress
from operator import sub
from typing import Any, NamedTuple

import mlx.core as mx

from . import checks

MOST_STEPS = 10_000_000


def length(name: str, steps: Any) -> int:
    """Check that a run of ``steps`` is short enough for a table of its values."""
    if (count := checks.count(name, steps)) > MOST_STEPS:
        rule = f"at most {MOST_STEPS:,} steps for values that are looked up by step"
        way_out = "Attach without a horizon, and call group.update(step / total) in the loop."
        checks.fail(name, rule, count, way_out)
    return count


class Table(NamedTuple):
    """The values at steps 0 to T: rounded to float32, and the remainders of the rounding."""

    value: mx.array
    remainder: mx.array

    @classmethod
    def of(cls, scalar: Any, progresses: Sequence[float], in_force: bool = False) -> Table:
        """Compute the values at these progresses; ``in_force`` includes held values.

        Raises:
            ValueError: The scalar has no finite value at one of them.
            TypeError: A value is not a real number.
        """
        for progress in {progresses[0], progresses[len(progresses) // 2], progresses[-1]}:
            checks.finite(scalar, progress, in_force)  # also checks the type
        formula = scalar.in_force if in_force else scalar.value_at
        values: array[float] | None = None
        with suppress(ArithmeticError, TypeError):
            values = array("d", map(formula, progresses))
        if values is None or not all(map(math.isfinite, values)):  # name the progress
            values = array("d", [checks.finite(scalar, p, in_force) for p in progresses])
        rounded = array("f", values)
        rest = array("f", map(sub, values, rounded))
        if not math.isfinite(sum(rest)):  # a value beyond float32 is infinite, as in MLX
            rest = array("f", [x if math.isfinite(x) else 0.0 for x in rest])
        buffers: tuple[Any, Any] = memoryview(rounded), memoryview(rest)
        return cls(mx.array(buffers[0]), mx.array(buffers[1]))


class ByStep:
    """A function of the step, like the schedules of MLX: what ``by_step`` returns.

    Args:
        scalar: The scalar whose values it returns.
        horizon: The number of steps in the run, or a ``Horizon``.

    Raises:
        ValueError: There are too few steps or too many, or the value depends on metrics,
            gradients or ``hold``.
        TypeError: ``scalar`` is not a scalar, or ``horizon`` is neither a whole number nor a
            ``Horizon``.

    Example:
        >>> import mlx.core as mx
        >>> from scalars import Linear
        >>> schedule = Linear(1.0, 0.0).by_step(4)
        >>> schedule(mx.array([0, 1, 4, 9]))
        array([1, 0.75, 0, 0], dtype=float32)
    """

    def __init__(self, scalar: Any, horizon: Any) -> None:
        if not hasattr(scalar, "leaves"):
            way_out = "Write schedule.by_step(total_steps)."
            checks.fail("scalar", "a scheduled scalar", scalar, way_out, wrong_type=True)
        if any(leaf.listeners or leaf.on_device for leaf in scalar.leaves):
            way_out = "Use attach(optimizer, horizon=...), which supports such scalars."
            checks.fail("the scalar of by_step", "a function of the step alone", scalar, way_out)
        if held := [leaf.held for leaf in scalar.leaves if leaf.held is not None]:
            way_out = "Call release() first, or use attach(optimizer), which follows hold() too."
            checks.fail("the scalar of by_step", "released, as it is its formula", held[0], way_out)
        self._scalar = scalar
        self._horizon = horizon
        self._table: mx.array | None = None
        if hasattr(horizon, "progresses"):
            length("total_steps of horizon", horizon.total_steps)
        else:
            length("total_or_horizon", horizon)

    def __call__(self, step: Any) -> mx.array:
        """Return the value at a step, or at each step of an integer array, as float32."""
        if (table := self._table) is None:
            self._table = table = Table.of(self._scalar, self._progresses()).value
        if not isinstance(step, mx.array) or mx.issubdtype(step.dtype, mx.floating):
            step = checks.count("step", step, least=0)
        elif step.dtype.size < 4:  # too small for the number of the last step
            step = step.astype(mx.uint32)
        last = table.size - 1
        return table[mx.minimum(mx.maximum(step, 0), last).astype(mx.uint32)]

    def _progresses(self) -> Sequence[float]:
        if hasattr(self._horizon, "progresses"):
            return self._horizon.progresses()  # type: ignore[no-any-return]
        return [step / self._horizon for step in range(self._horizon + 1)]

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle the scalar and the horizon, but not the table."""
        return {**vars(self), "_table": None}

    def __repr__(self) -> str:
        """Return the call that made it."""
        return f"{self._scalar!r}.by_step({self._horizon!r})"
