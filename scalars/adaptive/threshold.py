"""A schedule that switches to the next scalar when a metric meets a condition."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from .. import checks
from ..functions import P
from ..schedules.composition import Several
from .base import Adaptive, Memory

Condition = str | Callable[[float], bool]

COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
WRITTEN = re.compile(r"\s*(<=|>=|<|>)\s*(\S+)\s*")


def condition(name: str, value: Any) -> Condition:
    """Check that ``value`` is a comparison, such as "< 0.5", or a function of the metric."""
    way_out = 'Write "< 0.5" or lambda metric: metric < 0.5.'
    rule = "a comparison with a number, or a function of the metric"
    if isinstance(value, str):
        try:
            checks.real(name, float(WRITTEN.fullmatch(value)[2]))  # type: ignore[index]
        except (TypeError, ValueError):
            checks.fail(name, rule, value, way_out)
        return value
    if not callable(value):
        checks.fail(name, rule, value, way_out, wrong_type=True)
    return value  # type: ignore[no-any-return]


def _conditions(name: str, value: Any) -> tuple[Condition, ...]:
    return checks.each(name, value, condition)


class ThresholdSwitch(Adaptive):
    r"""Switch to the next scalar when a metric meets a condition [1].

    .. math:: v(p) = v_i(p)

    i is 0 at first. ``observe(metric)`` adds one to i if the metric meets condition i. There
    is at most one switch for each metric, and none back. A metric that is infinite or NaN
    meets no condition. Each scalar is defined over the whole run: at progress p the value is
    that of the current scalar at p.

    Args:
        scalars: Scalars, expressions of scalars, or numbers. Only their formulas are used.
        conditions: The conditions to switch to the next scalar, one fewer than scalars:
            comparisons of the metric with a number, such as "< 0.5" (or <=, >, >=), or
            functions of the metric that return a bool.

    Raises:
        ValueError: ``conditions`` has the wrong length, or a str in it is no comparison.
        TypeError: An item of ``scalars`` is neither a scalar nor a number, or a condition
            is neither a str nor a function.

    Example:
        >>> from scalars import Linear, ThresholdSwitch
        >>> weight = ThresholdSwitch([0.0, Linear(0.0, 1.0)], ["< 0.5"]).update(0.25)
        >>> [float(weight.observe(loss)) for loss in (2.0, 0.4, 2.0)]
        [0.0, 0.25, 0.25]

    On several ranks, observe the average of the metric over them, so that all ranks agree:

        >>> import mlx.core as mx
        >>> loss, ranks = mx.array(0.3), mx.distributed.init().size()
        >>> float(weight.observe(mx.distributed.all_sum(loss) / ranks))
        0.25

    [1]: fast.ai moves to the next loss when a criterion is met.
    """

    scalars: Several
    conditions: Annotated[Sequence[Condition], _conditions]

    monotone_pieces = True

    at_first: ClassVar[Mapping[str, int | None]] = {"index": 0}
    counted: ClassVar[str] = "index"

    def check_together(self) -> None:
        """Check that there is a condition between each two scalars."""
        name = "conditions of ThresholdSwitch"
        checks.one_fewer(name, self.conditions, self.scalars, "scalars", "condition")

    def value_at(self, progress: P) -> P:
        """Return the value of the current scalar."""
        scalars: Any = self.scalars
        return scalars[self.count].value_at(progress)  # type: ignore[no-any-return]

    def after(self, metric: float) -> Memory:
        """Return the memory after a metric."""
        index = self.memory["index"]
        met = (
            index < len(self.conditions)
            and math.isfinite(metric)
            and _holds(self.conditions[index], metric)
        )
        return {"index": index + met}

    def checked(self, memory: Any) -> Memory:
        """Check a saved memory: its index must be that of a scalar."""
        index = super().checked(memory)["index"]
        if index >= len(self.scalars):
            rule = f"below the number of scalars, {len(self.scalars)}"
            way_out = "Load the state into the same scalars that it was saved from."
            checks.fail("index in the memory of ThresholdSwitch", rule, index, way_out)
        return {"index": index}

    @property
    def possible(self) -> Sequence[Memory]:
        """The memory for each of the scalars."""
        return [{"index": i} for i in range(len(self.scalars))]


def _holds(condition: Condition, metric: float) -> bool:
    if not isinstance(condition, str):
        return bool(condition(metric))
    symbol, bound = WRITTEN.fullmatch(condition).groups()  # type: ignore[union-attr]
    return bool(COMPARISONS[symbol](metric, float(bound)))
