"""The twin of an optimizer, which makes an update with numbers in place of scalars."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.optimizers import Adafactor, MultiOptimizer

from ..number.cell import Pair
from ..number.scalar import Handed, ScheduledScalar
from .discover import attributes, rates, replaced

WIDE = {"decay_rate": Adafactor}
"""What an optimizer raises an integer step to: beside it a Python float is float32."""


class Numbers:
    """The values of the scalars of an optimizer in one update: each is read once."""

    def __init__(self) -> None:
        self._known: dict[int, float | Pair] = {}

    def of(self, scalar: ScheduledScalar) -> float | Pair:
        """Return the value of a scalar."""
        if id(scalar) not in self._known:
            self._known[id(scalar)] = scalar._read()
        return self._known[id(scalar)]


class Twin:
    """Another object of an optimizer's plain class, with the same state, for one update."""

    def __init__(self, member: Any, numbers: Numbers, traced: bool) -> None:
        self.member = member
        own = vars(member)
        given: dict[str, Any]
        self.twins: list[Twin] = []
        if isinstance(member, MultiOptimizer):
            self.twins = [Twin(one, numbers, traced) for one in member.optimizers]
            given = {"optimizers": [twin.optimizer for twin in self.twins]}
        else:
            called = rates(member)
            for name, rate in called.items():  # as MLX does with what it calls at each step
                value = numbers.of(rate)
                own["_state"][name] = value.value if isinstance(value, Pair) else mx.array(value)
            others = {n: f for n, f in own["_schedulers"].items() if n not in called}
            given = {"_schedulers": others}
        scheduled = {} if self.twins else attributes(member)
        if traced and scheduled:
            given |= _handed(scheduled, numbers, mx.float32)
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
        """Give the optimizer what its twin has noted on itself."""
        for twin in self.twins:
            twin.hand_over()
        noted = vars(self.optimizer).items()
        before = self.before
        vars(self.member).update(
            {n: x for n, x in noted if n not in self.given and x is not before.get(n, self)}
        )


def _handed(scheduled: dict[str, Any], numbers: Numbers, dtype: mx.Dtype) -> dict[str, Any]:
    """Return the scheduled attributes of an optimizer for a parameter of a dtype, in a trace."""
    return {
        name: replaced(
            value,
            lambda s, wide=name in WIDE: Handed(s, numbers.of(s), mx.float32 if wide else dtype),  # type: ignore[misc]
        )
        for name, value in scheduled.items()
    }


def in_trace(plain: Any) -> Any:
    """Return a class whose objects take the numbers of each parameter's dtype: of a twin."""

    def apply_single(self: Any, gradient: mx.array, parameter: mx.array, state: Any) -> Any:
        vars(self).update(self._handed(gradient.dtype))
        return plain.apply_single(self, gradient, parameter, state)

    return type(plain.__name__, (plain,), {"apply_single": apply_single})
