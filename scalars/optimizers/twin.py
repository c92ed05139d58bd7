"""The twin of an optimizer, which makes one update with numbers in place of scalars."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
from mlx.optimizers import Optimizer
from mlx.utils import tree_flatten

from ..number.cell import Pair
from ..number.scalar import ScheduledScalar
from .discover import Kept, rates, replaced
from .stand_in import StandIn

WIDE = re.compile(r"decay_rate|beta(s|_?\d)")
"""The names of attributes that optimizers raise to the power of the step, in float32.

In ``mx.power(beta, step)`` MLX converts a Python float to float32, as the step is an integer. A
scalar has to do the same: in bfloat16, 0.999 would be rounded to 1.
"""


class Handed(StandIn):
    """A scalar in a traced update, which is read once and has the dtype of a parameter."""

    def __init__(self, scalar: ScheduledScalar, value: float | Pair, dtype: mx.Dtype) -> None:
        super().__init__(scalar)
        self.own_dtype = scalar.own_dtype or dtype
        self._value = value

    def _read(self, use: bool = True) -> float | Pair:
        return self._value

    def _asks_for_shortcut(self) -> bool:
        """Return ``True``, because only the code of the optimizer uses this scalar."""
        return True


class Numbers:
    """The values of an optimizer's scalars in one update, each of which is read once.

    Args:
        kept: What the optimizer and its members keep scalars in, by the ``id`` of each.
        traced: Whether a function that captures the values is being traced.
        gradients: The gradients, whose dtype the numbers have outside of ``apply_single``.
    """

    def __init__(self, kept: Mapping[int, Kept], traced: bool, gradients: Any) -> None:
        self.kept = kept
        self.traced = traced
        self.dtype = _floating_dtype(gradients) if traced else mx.float32
        self._known: dict[int, float | Pair] = {}
        self.twins: dict[int, Twin] = {}
        """One twin for each optimizer in this update, even if it is held in two places."""

    def of(self, scalar: ScheduledScalar) -> float | Pair:
        """Return the value of a scalar."""
        if id(scalar) not in self._known:
            self._known[id(scalar)] = scalar._read()
        return self._known[id(scalar)]


class Twin:
    """A temporary object of an optimizer's plain class, with the same state, for one update."""

    def __init__(self, member: Any, numbers: Numbers) -> None:
        self.member = member
        own, kept = vars(member), numbers.kept[id(member)]
        called = rates(member)
        scheduled = {name: own[name] for name in kept.scheduled if name in own}
        for name, rate in called.items():  # as MLX does with its schedulers
            value = numbers.of(rate)
            own["_state"][name] = value.value if isinstance(value, Pair) else mx.array(value)
        others = {n: f for n, f in own["_schedulers"].items() if n not in called}
        given: dict[str, Any] = {"_schedulers": others}
        self.twins: list[Twin] = []

        def twin_of(held: Any) -> Any:
            if id(held) not in numbers.kept:  # added since the optimizer was attached
                return held
            if id(held) not in numbers.twins:
                numbers.twins[id(held)] = Twin(held, numbers)
                self.twins.append(numbers.twins[id(held)])
            return numbers.twins[id(held)].optimizer

        holding = [name for name in kept.optimizers if name in own]
        given |= {name: replaced(own[name], twin_of, Optimizer) for name in holding}
        if numbers.traced and scheduled:
            given |= _handed(scheduled, numbers, numbers.dtype)
            given["_handed"] = lambda dtype: _handed(scheduled, numbers, dtype)
            plain = in_trace(member._plain)
        else:
            given |= {n: replaced(x, numbers.of) for n, x in scheduled.items()}
            plain = member._plain
        self.given = given
        self.before = {**own, **given}
        self.optimizer: Any = object.__new__(plain)
        vars(self.optimizer).update(self.before)

    def hand_over(self) -> None:
        """Copy the attributes that the twin has set to the optimizer."""
        for twin in self.twins:
            twin.hand_over()
        noted = vars(self.optimizer).items()
        before = self.before
        vars(self.member).update(
            {n: x for n, x in noted if n not in self.given and x is not before.get(n, self)}
        )


def _floating_dtype(gradients: Any) -> mx.Dtype:
    """Return the floating dtype of gradients, or float32 if it is not a single one."""
    dtypes = {array.dtype for array in dict(tree_flatten(gradients)).values()}
    floating = {dtype for dtype in dtypes if mx.issubdtype(dtype, mx.floating)}
    return floating.pop() if len(floating) == 1 else mx.float32


def _handed(scheduled: dict[str, Any], numbers: Numbers, dtype: mx.Dtype) -> dict[str, Any]:
    """Return the scheduled attributes for a parameter of a dtype in a trace."""
    handed = {}
    for name, value in scheduled.items():
        seen = mx.float32 if WIDE.fullmatch(name) else dtype
        handed[name] = replaced(value, lambda s, d=seen: Handed(s, numbers.of(s), d))  # type: ignore[misc]
    return handed


def in_trace(plain: Any) -> Any:
    """Return a subclass for twins that uses values of each parameter's dtype."""

    def apply_single(self: Any, gradient: mx.array, parameter: mx.array, state: Any) -> Any:
        vars(self).update(self._handed(gradient.dtype))
        return plain.apply_single(self, gradient, parameter, state)

    return type(plain.__name__, (plain,), {"apply_single": apply_single})
