"""The numbers that an optimizer has in place of its scalars during an update.

An attached optimizer keeps its scalars. Its class has a property for each attribute that contains
some. During an update the property gives a number from a ``Loan``, which is in a context variable.
So the optimizer's own code computes with Python floats, other threads see the scalars, and nothing
has to be restored after an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..number.cell import Pair
from ..number.scalar import ScheduledScalar
from ..words import PACKAGE
from .containers import Copies
from .discover import Kept, rates
from .stand_in import StandIn

WIDE = re.compile(r"decay_rate|beta(s|_?\d)|b\d")
"""The names of attributes that optimizers raise to the power of the step, in float32.

In ``mx.power(beta, step)`` MLX converts a Python float to float32, as the step is an integer. A
scalar has to do the same: in bfloat16, 0.999 would be rounded to 1.
"""
SCHEDULERS = "_schedulers"


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


class Numbers:
    """The values of scalars in one update, each of which is read once."""

    def __init__(self) -> None:
        self._known: dict[int, float | Pair] = {}

    def of(self, scalar: ScheduledScalar) -> float | Pair:
        """Return the value of a scalar."""
        if id(scalar) not in self._known:
            self._known[id(scalar)] = scalar._read()
        return self._known[id(scalar)]


class Loan:
    """What one optimizer has in place of its scalars in one update.

    Args:
        optimizer: The optimizer.
        kept: The attributes that contain scalars.
        numbers: The values of the scalars.
        dtype: The dtype of the scalars outside of ``apply_single``, while a function that captures
            their values is being traced; ``None`` otherwise.
    """

    def __init__(
        self, optimizer: Any, kept: Kept, numbers: Numbers, dtype: mx.Dtype | None
    ) -> None:
        own = vars(optimizer)
        self.traced = dtype is not None
        self._own = own
        self._handed: list[Handed] = []
        self._containers: dict[str, tuple[Any, Copies]] = {}
        self.given: dict[str, Any] = {}
        """The attributes during the update, by name."""
        hand: Any = numbers.of
        for name in kept.containers:
            if dtype is not None:
                hand = partial(self._hand, numbers, name)
            copies = Copies(hand)
            self.given[name] = made = copies.of(own.get(name))
            kept.check(name, own.get(name), copies.scalars)
            self._containers[name] = made, copies
        for name in kept.direct:
            if dtype is not None:
                hand = partial(self._hand, numbers, name)
            self.given[name] = hand(own[name])
        called = rates(optimizer)
        for name, rate in called.items():  # as MLX does with its schedulers
            value = numbers.of(rate)
            own["_state"][name] = value.value if isinstance(value, Pair) else mx.array(value)
        self.given[SCHEDULERS] = {n: f for n, f in own[SCHEDULERS].items() if n not in called}
        if dtype is not None:
            self.use(dtype)

    def _hand(self, numbers: Numbers, name: str, scalar: ScheduledScalar) -> Handed:
        """Return what a traced update has in place of a scalar in an attribute."""
        handed = Handed(scalar, numbers.of(scalar))
        if WIDE.fullmatch(name):
            handed.take(mx.float32)
        else:
            self._handed.append(handed)
        return handed

    def use(self, dtype: mx.Dtype) -> None:
        """Give arrays of a dtype from now on, in a traced update."""
        for handed in self._handed:
            handed.take(dtype)

    def plain(self, optimizer: Any) -> Any:
        """Return an object of the plain class that has the numbers as its own attributes.

        MLX's ``apply_single``, which changes no attributes, is faster with it.
        """
        made: Any = object.__new__(optimizer._plain)
        vars(made).update(self._own, **self.given)
        return made

    def end(self) -> None:
        """Put what the update has changed in containers of scalars into the optimizer's own.

        A number that was assigned in place of a single scalar was for this update only.
        """
        for name, (made, copies) in self._containers.items():
            copies.hand_back()
            if (now := self.given.get(name)) is not made:
                self._own[name] = copies.restored(now)


LENT: ContextVar[Mapping[int, Loan]] = ContextVar("LENT", default=MappingProxyType({}))
"""The loans of the updates that are being made, by the ``id`` of the optimizer."""


def lend(kept: Mapping[Any, Kept], dtype: mx.Dtype | None, call: Callable[[], Any]) -> Any:
    """Return ``call()``, during which optimizers have numbers in place of their scalars.

    It is called in a context of its own, which is discarded afterwards.

    Args:
        kept: The attributes that contain scalars, by optimizer.
        dtype: The dtype of a ``Loan``.
        call: A function that makes an update.
    """
    numbers = Numbers()
    loans = {id(one): Loan(one, names, numbers, dtype) for one, names in kept.items()}
    LENT.set({**LENT.get(), **loans})
    try:
        return call()
    finally:
        for loan in loans.values():
            loan.end()


class Lent:
    """An attribute of an attached optimizer that is a number during an update."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _attributes(self, optimizer: Any) -> dict[str, Any]:
        loan = LENT.get().get(id(optimizer))
        return vars(optimizer) if loan is None else loan.given

    def __get__(self, optimizer: Any, owner: Any = None) -> Any:
        try:
            return self if optimizer is None else self._attributes(optimizer)[self.name]
        except KeyError:
            rule = f"{type(optimizer).__name__!r} object has no attribute {self.name!r}"
            raise AttributeError(rule) from None

    def __set__(self, optimizer: Any, value: Any) -> None:
        self._attributes(optimizer)[self.name] = value

    def __delete__(self, optimizer: Any) -> None:
        del self._attributes(optimizer)[self.name]


class ApplySingle:
    """``apply_single`` of an attached optimizer, which knows the parameter that it is called for.

    In a trace, the scalars have the dtype of its gradient. Otherwise, MLX's own classes are called
    with an object that has the numbers as attributes.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner: Any = owner

    def __get__(self, optimizer: Any, owner: Any) -> Any:
        if optimizer is None:
            return owner._plain.apply_single
        method: Any = getattr(super(self._owner, optimizer), "apply_single")  # noqa: B009 - mypy
        if (loan := LENT.get().get(id(optimizer))) is None:
            return method
        if not loan.traced:
            return loan.plain(optimizer).apply_single if is_ours(owner._plain) else method

        def apply_single(*arguments: Any, **named: Any) -> Any:
            loan.use(_dtype_for([*arguments, *named.values()]))
            return method(*arguments, **named)

        return apply_single


def is_ours(plain: type) -> bool:
    """Return whether a class is one of MLX's or of this package, whose code is known."""
    return plain.__module__.partition(".")[0] in ("mlx", PACKAGE)


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


def floating_dtype(gradients: Any) -> mx.Dtype:
    """Return the floating dtype of gradients, or float32 if it is not a single one."""
    arrays = dict(tree_flatten(gradients)).values()
    dtypes = {array.dtype for array in arrays if isinstance(array, mx.array)}
    floating = {dtype for dtype in dtypes if mx.issubdtype(dtype, mx.floating)}
    return floating.pop() if len(floating) == 1 else mx.float32
