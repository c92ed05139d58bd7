"""The numbers that optimizers have in place of their scalars during an update.

For the time of an update an attached optimizer is a plain one: it has its own class again, and
numbers where it has scalars otherwise, in attributes, containers and configs. So its own code
computes with Python floats, as if they had been set by hand. Afterwards, also after an error, the
scalars are put back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..number.cell import Pair
from ..number.scalar import ScheduledScalar
from .containers import Place, places, replaced, with_one
from .discover import Kept, rates
from .stand_in import StandIn

WIDE = re.compile(r"decay_rate|beta(s|_?\d)|b\d")
"""The names of attributes that optimizers raise to the power of the step, in float32.

In ``mx.power(beta, step)`` MLX converts a Python float to float32, as the step is an integer. A
scalar has to do the same: in bfloat16, 0.999 would be rounded to 1.
"""


class Handed(StandIn):
    """A scalar in a traced update, which is read once and has the dtype of a parameter."""

    passing = True

    def __init__(self, scalar: ScheduledScalar, value: float | Pair) -> None:
        super().__init__(scalar)
        self._value = value

    def take(self, dtype: mx.Dtype) -> None:
        """Give arrays of a dtype from now on, unless the scalar has its own."""
        self.own_dtype = self.viewed.own_dtype or dtype
        self.__dict__.pop("_last", None)

    def _read(self, use: bool = True) -> float | Pair:
        return self._value

    def _asks_for_shortcut(self) -> bool:
        """Return ``True``, because only the code of the optimizer uses this scalar."""
        return True


class Loan:
    """What optimizers have in place of their scalars in one update.

    Args:
        kept: The optimizers, and what they keep.
        traced: Whether a function that captures the values is being traced.
        arrays: Arrays whose dtype the scalars then have outside of ``apply_single``.
        is_step: Whether the optimizers make a step, with the rates of this step.
    """

    def __init__(self, kept: Iterable[Kept], traced: bool, arrays: Any, is_step: bool) -> None:
        self._kept = [*kept]
        self._dtype = _floating_dtype(arrays) if traced else None
        self._is_step = is_step
        self._values: dict[int, float | Pair] = {}
        self._numbers: dict[int, dict[bool, Any]] = {}
        """The numbers in the place of each scalar, by its ``id``, wide ones and others."""
        self._following: list[Handed] = []
        """The numbers that take the dtype of each parameter."""
        self._classes: list[tuple[Any, type]] = []
        self._lent: list[tuple[Place, Any, Any, int]] = []
        """Each place, what was there, the number there now, and the length of the container."""

    def during(self, call: Callable[[], Any]) -> Any:
        """Return ``call()``, during which the optimizers have numbers."""
        try:
            try:
                self._begin()
                return call()
            finally:
                self._end()
        except BaseException:  # an interrupt may have come before the end
            self._end()
            raise

    def _begin(self) -> None:
        """Put numbers in the place of the scalars."""
        found = [(one, one.scheduled()) for one in self._kept]
        for one, attributes in found:
            for name, scheduled in attributes.items():
                wide = self._dtype is not None and WIDE.fullmatch(name) is not None
                hand = partial(self._number, wide)
                for place, item in scheduled:
                    if place.item is item:  # or it is a place of two attributes
                        self._lend(place, item, replaced(item, hand))
            if self._is_step:
                self._set_rates(one.optimizer)
        if self._dtype is not None:
            self.use(self._dtype)
        for one in self._kept:
            plain = one.plain if self._dtype is None else _in_trace(one.plain, self.use)
            self._classes.append((one.optimizer, type(one.optimizer)))
            set_class(one.optimizer, plain)

    def _set_rates(self, optimizer: Any) -> None:
        """Set the scheduled rates in the state, as MLX does with its schedulers."""
        own, called = vars(optimizer), rates(optimizer)
        for name, rate in called.items():
            value = self._value_of(rate)
            own["_state"][name] = value.value if isinstance(value, Pair) else mx.array(value)
        others = {name: f for name, f in own["_schedulers"].items() if name not in called}
        self._lend(Place(own, "_schedulers"), own["_schedulers"], others)

    def _end(self) -> None:
        """Put the scalars back; called again after an interrupt, it does the rest.

        What the update has assigned in the place of a scalar was for this update. Where it has
        moved a number to another place, in a list or in a new container, its scalar is put there.
        """
        for optimizer, attached in self._classes:
            set_class(optimizer, attached)
        while self._lent:
            _put_back(*self._lent[-1])
            self._lent.pop()
        for one in self._kept:
            for attribute, key, scalar in one.missing():
                self._put_where_moved(attribute, key, scalar)

    def _put_where_moved(self, attribute: Place, key: Any, scalar: ScheduledScalar) -> None:
        """Put a scalar where its number is in an attribute, at the key that it had if possible."""
        found: list[tuple[bool, int, Place, Any]] = []
        for place in (attribute, *places(attribute.item)):
            for number in self._numbers.get(id(scalar), {}).values():
                changed = with_one(place.item, number, scalar)
                if changed is not place.item:
                    found.append((place.key != key, len(found), place, changed))
        if found:
            *_, place, changed = min(found, key=lambda one: one[:2])
            place.put(changed)

    def use(self, dtype: mx.Dtype) -> None:
        """Give arrays of a dtype from now on, in a traced update."""
        for handed in self._following:
            handed.take(dtype)

    def _lend(self, place: Place, before: Any, number: Any) -> None:
        self._lent.append((place, before, number, len(place.container)))
        place.put(number)

    def _value_of(self, scalar: ScheduledScalar) -> float | Pair:
        """Return the value of a scalar, which is read once."""
        if id(scalar) not in self._values:
            self._values[id(scalar)] = scalar._read()
        return self._values[id(scalar)]

    def _number(self, wide: bool, scalar: ScheduledScalar) -> Any:
        """Return a new object for the value, by which it is found if the update moves it.

        Args:
            wide: Whether it stays in float32 in a trace.
            scalar: The scalar.
        """
        known = self._numbers.setdefault(id(scalar), {})
        if wide not in known:
            value: Any = self._value_of(scalar)
            known[wide] = value * 1.0 if self._dtype is None else self._handed(scalar, value, wide)
        return known[wide]

    def _handed(self, scalar: ScheduledScalar, value: float | Pair, wide: bool) -> Handed:
        handed = Handed(scalar, value)
        if wide:
            handed.take(mx.float32)
        else:
            self._following.append(handed)
        return handed


def set_class(optimizer: Any, to: type) -> None:
    """Set the class of an object, whatever its own ``__setattr__`` does."""
    object.__setattr__(optimizer, "__class__", to)


class _Unlisted:
    def __init_subclass__(cls) -> None:
        """Do not tell the optimizer's own class, which may keep a list of its subclasses."""


def _in_trace(plain: type, use: Callable[[mx.Dtype], None]) -> type:
    """Return a subclass for a traced update, with scalars of each parameter's dtype."""

    def apply_single(self: Any, *arguments: Any, **named: Any) -> Any:
        use(_dtype_for([*arguments, *named.values()]))
        return super(made, self).apply_single(*arguments, **named)

    own = {"__module__": plain.__module__, "apply_single": apply_single}
    made: Any = type(plain.__name__, (_Unlisted, plain), own)
    return made  # type: ignore[no-any-return]


def _put_back(place: Place, before: Any, number: Any, length: int) -> None:
    """Put what was in a place back: there, or where its number is in the same list.

    A tuple in the place of another one is left, as it may have other numbers of the optimizer.
    """
    items, now = place.container, place.item
    is_other_tuple = isinstance(now, tuple) and isinstance(number, tuple) and now is not number
    if isinstance(items, dict):
        if not is_other_tuple:
            place.put(before)
        return
    moved = [i for i, item in enumerate(items) if item is number]
    if moved:
        Place(items, place.key if place.key in moved else moved[0]).put(before)
    elif len(items) == length and not is_other_tuple and all(x is not before for x in items):
        place.put(before)


def _dtype_for(arguments: Iterable[Any]) -> mx.Dtype:
    """Return the dtype of the numbers for a parameter, from the arguments of ``apply_single``.

    It is that of the gradient, or float32 if all that the state keeps in the shape of the
    parameter is float32, as in an optimizer with master weights.
    """
    arrays = [(x.dtype, x.shape) for x in arguments if isinstance(x, mx.array)]
    floating = [(dtype, shape) for dtype, shape in arrays if mx.issubdtype(dtype, mx.floating)]
    if not floating:
        return mx.float32
    dtype, shape = floating[0]
    states = [dict(tree_flatten(x)).values() for x in arguments if isinstance(x, dict)]
    kept_arrays = [x for state in states for x in state if isinstance(x, mx.array)]
    kept = {x.dtype for x in kept_arrays if x.shape == shape}
    return mx.float32 if kept == {mx.float32} else dtype


def _floating_dtype(gradients: Any) -> mx.Dtype:
    """Return the floating dtype of gradients, or float32 if it is not a single one."""
    arrays = dict(tree_flatten(gradients)).values()
    dtypes = {array.dtype for array in arrays if isinstance(array, mx.array)}
    floating = {dtype for dtype in dtypes if mx.issubdtype(dtype, mx.floating)}
    return floating.pop() if len(floating) == 1 else mx.float32
