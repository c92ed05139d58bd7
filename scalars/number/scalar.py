"""The scheduled scalar: a number that changes, for MLX and for Python.

A ``ScheduledScalar`` is a ``Leaf``, which has a value of its own, or an ``Expression``, the result
of an operation on scalars and numbers. These classes depend on each other, so they share this
file. Operators, ``__mlx_array__``, ``array`` and ``float`` all get the value from ``_read``, which
returns a float, or in a trace a ``Pair`` of arrays. An expression computes it from its leaves, and
a leaf reads it from its cell.
"""

from __future__ import annotations

import math
import operator
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import cached_property
from numbers import Real
from sys import _getframe
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

import mlx.core as mx

from .. import checks, functions, sketch, words
from ..appearance import written
from ..conversions import Conversions
from ..functions import HOST
from ..table import ByStep
from . import mlx_protocol, ranges, together
from .cell import Cell, Pair
from .mlx_protocol import ProtocolArray
from .operations import OPERATIONS, VIEWS, Operation

if TYPE_CHECKING:
    import numpy as np

R = TypeVar("R", covariant=True)


class _Method(Protocol[R]):  # also at run time, for typing.get_type_hints
    @overload
    def __call__(self, other: float | ScheduledScalar, /) -> R: ...
    @overload
    def __call__(self, other: mx.array, /) -> mx.array: ...


Self = TypeVar("Self", bound="ScheduledScalar")
LeafSelf = TypeVar("LeafSelf", bound="Leaf")


def is_number(value: Any) -> bool:
    """Return whether ``value`` can be an operand: a real number or a scalar."""
    return isinstance(value, (float, int, Real))


def _operator(name: str, reflected: bool = False) -> _Method[Expression]:
    operation = OPERATIONS[name]
    function = operation.function

    def method(self: ScheduledScalar, other: Any) -> Any:
        if isinstance(other, mx.array):
            return function(self._beside(other), other)
        return Expression(operation, self, other) if is_number(other) else NotImplemented

    def swapped(self: ScheduledScalar, other: Any) -> Any:
        kept = self._kept
        if kept[0] is operation and kept[1] is other:
            return kept[2]
        if not is_number(other):
            return NotImplemented
        made = Expression(operation, other, self)
        if isinstance(self, Leaf) and type(other) in HOST:
            self.__dict__["_kept"] = operation, other, made
        return made

    made = swapped if reflected else method
    made.__name__, made.__qualname__ = name, f"ScheduledScalar.{name}"
    return cast("_Method[Expression]", made)


def _comparison(compare: Callable[[Any, Any], Any]) -> _Method[bool]:
    def method(self: ScheduledScalar, other: Any) -> Any:
        if isinstance(other, mx.array):
            return compare(self._beside(other), other)
        return self._compare(compare, other) if is_number(other) else NotImplemented

    method.__name__ = method.__qualname__ = compare.__name__
    return cast("_Method[bool]", method)


class ScheduledScalar(Conversions):
    """A number that changes during training, accepted wherever MLX accepts a scalar.

    ``update(progress)`` sets the fraction of the run that is done, from 0 to 1. Every
    use of the scalar then sees the new value, in eager code and in ``mx.compile``
    (capture ``state`` there, or ``attach`` the scalar to an optimizer).
    ``float(scalar)`` is the current value and ``at(progress)`` the value at any progress.

    Arithmetic with scalars and numbers returns a scalar that follows its operands.
    Arithmetic with an array returns an array of the same dtype as with a Python float.

    Example:
        >>> import mlx.core as mx
        >>> from scalars import CosineAnnealing
        >>> lr = CosineAnnealing(start=0.1, end=0.01)
        >>> float(lr.update(0.5))
        0.055
        >>> lr * mx.array([1.0, 2.0], mx.bfloat16)
        array([0.0549316, 0.109863], dtype=bfloat16)
        >>> wd = 0.5 * lr
        >>> float(lr.update(1)), float(wd)
        (0.01, 0.005)
    """

    # The interface of subclasses ----------------------------------------------

    own_dtype: mx.Dtype | None = None
    """The dtype of a view, and of an expression with a view in it; ``None`` in other scalars."""
    _size = 0
    """The number of operations in an expression; a part that is used twice counts twice."""
    _last: tuple[float | None, Any] = (None, None)
    """The value that MLX was last given, and its array."""
    _kept: tuple[Any, Any, Any] = (None, None, None)
    """The last operation on a number and a leaf: optimizers write ``1 - beta`` for each array."""
    _calls = 0

    @property
    @abstractmethod
    def leaves(self) -> tuple[Leaf, ...]:
        """The scalars that hold a progress: the operands of an expression, at any depth."""

    @abstractmethod
    def value_at(self, progress: functions.P) -> functions.P:
        """Return the value of the formula at ``progress``, which is in [0, 1]."""

    def in_force(self, progress: functions.P) -> functions.P:
        """Return the value at ``progress``, with held values in place of the formula."""
        return self.value_at(progress)

    @abstractmethod
    def _read(self, use: bool = True) -> float | Pair:
        """Return the value, or a pair of arrays while a function that captures it is traced.

        Args:
            use: Whether a computation uses the value, rather than only showing it.
        """

    def __float__(self) -> float:
        """Return the current value in double precision."""
        value = self._read(use=False)
        if isinstance(value, Pair):
            raise ValueError(words.NO_FLOAT.format(name=checks.shown(self)))
        return float(value)

    # Progress -----------------------------------------------------------------

    def update(self: Self, progress: float) -> Self:
        """Set the progress of this scalar, or of all the scalars in this expression.

        Args:
            progress: The fraction of the run that is done, at least 0. Above 1 the
                value stays that at 1. If an error is raised, nothing has changed.

        Returns:
            The scalar itself.

        Raises:
            ValueError: ``progress`` is negative, infinite or NaN.
            TypeError: ``progress`` is not a real number.
        """
        together.update_all(self.leaves, progress)
        return self

    def observe(self: Self, metric: checks.Measured) -> Self:
        """Pass a metric to all adaptive scalars that this scalar contains.

        Args:
            metric: A number such as the validation loss. A metric that is infinite or NaN
                is not an improvement and meets no condition.

        Returns:
            The scalar itself.

        Raises:
            ValueError: The scalar contains no adaptive scalar, or a function that captures
                its state is being traced.
            TypeError: ``metric`` is not a real number.
        """
        together.observe_all(self, self.leaves, metric)
        return self

    @property
    def progress(self) -> float:
        """The progress of the last update; 0 in a new scalar."""
        return together.progress_of("an expression", self.leaves)

    def hold(self: Self, value: float) -> Self:
        """Hold the scalar at a value until ``release`` is called.

        The value applies from now on, also in compiled functions, without a retrace. If the
        scalar follows the step of an optimizer, it applies from the next step. ``update``
        still sets the progress. ``at``, and what ``by_step`` has returned, still use the
        formula. The held value is saved in ``state_dict``, in pickles, and in the state of an
        optimizer that the scalar is attached to.

        Args:
            value: A finite real number.

        Returns:
            The scalar itself.

        Raises:
            ValueError: ``value`` is infinite or NaN; a compiled function has taken a branch
                that would be wrong for it; an optimizer needs a value in another range; or the
                scalar is an expression or a loss scale.
            TypeError: ``value`` is not a real number.

        Example:
            >>> from scalars import Linear
            >>> lr = Linear(1.0, 0.0)
            >>> half = 0.5 * lr
            >>> float(lr.hold(0.2).update(0.5)), float(half), lr.at(0.5)
            (0.2, 0.1, 0.5)
            >>> float(lr.release())
            0.5
        """
        together.hold_all({self._to_hold("hold"): checks.real("value", value)})
        return self

    def release(self: Self) -> Self:
        """Undo ``hold``: return to the value of the formula at the current progress.

        A scalar that is not held stays as it is.

        Returns:
            The scalar itself.

        Raises:
            ValueError: The scalar is an expression: release the scalars in it.
        """
        together.hold_all({self._to_hold("release"): None})
        return self

    @property
    def held(self) -> float | None:
        """The held value, or ``None``; an expression is never held."""
        return None

    def _to_hold(self, verb: str) -> Leaf:
        """Return the leaf whose value ``hold`` or ``release`` changes."""
        way_out = f"Call {verb}() of the schedules in the expression."
        return checks.fail(f"the scalar of {verb}()", "a schedule", self, way_out)

    @overload
    def at(self, progress: float) -> float: ...
    @overload
    def at(self, progress: mx.array) -> mx.array: ...
    @overload
    def at(self, progress: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...
    def at(self, progress: Any) -> Any:
        """Return the value at a progress, and change nothing.

        Args:
            progress: A number, which gives a float; a NumPy array, which gives an array
                in double precision; or an ``mx.array``, which gives an ``mx.array`` and
                may be traced. Above 1 the value stays that at 1.

        Raises:
            ValueError: A number, or an element of a NumPy array, is negative,
                infinite or NaN. An ``mx.array`` is not checked but clipped to [0, 1].
            TypeError: ``progress`` is none of the three.

        Example:
            >>> import mlx.core as mx
            >>> from scalars import Linear
            >>> Linear(1.0, 2.0).at(0.25)
            1.25
            >>> Linear(1.0, 2.0).at(mx.array([0.0, 0.5, 1.0]))
            array([1, 1.5, 2], dtype=float32)
        """
        if isinstance(progress, mx.array):
            wide = progress if progress.dtype == mx.float64 else progress.astype(mx.float32)
            return self._over(mx.clip(wide, 0.0, 1.0))
        if hasattr(progress, "__array_ufunc__") and not isinstance(progress, Real):
            return functions.in_blocks(self._over, checks.progress_array(progress))
        return self._over(min(checks.progress(progress), 1.0))

    def _over(self, progress: functions.P) -> functions.P:
        return functions.broadcast(self.value_at(progress), progress)

    def by_step(self, total_or_horizon: Any) -> ByStep:
        """Return a function of the step, like the schedules of MLX, with the same values.

        Pass it to an optimizer as the learning rate; it works in any trainer, also compiled,
        without ``attach``. The first call computes the values of all steps on the host, by the
        formula: a later ``hold`` does not change them.

        Args:
            total_or_horizon: The number of optimizer steps in the run, from 1 to
                10,000,000, or a ``Horizon``. After the last step the value stays that at
                progress 1.

        Returns:
            A function of a step, an int or an integer ``mx.array``, that returns a float32
            ``mx.array``. It can be pickled if the scalar can.

        Raises:
            ValueError: There are too few steps or too many, or the value depends on
                metrics, gradients or ``hold``.
            TypeError: ``total_or_horizon`` is neither a whole number nor a ``Horizon``.

        Example:
            >>> from scalars import Linear
            >>> schedule = Linear(0.1, 0.0).by_step(100)  # optim.AdamW(schedule)
            >>> schedule
            Linear(start=0.1, end=0.0).by_step(100)
            >>> round(float(schedule(50)), 6)
            0.05
        """
        return ByStep(self, total_or_horizon)

    knots = cached_property(ranges.knots)
    samples = cached_property(ranges.samples)

    @cached_property
    def extent(self) -> tuple[float, float]:
        """The smallest and the largest value of the whole schedule, at its ``knots``."""
        return min(self.samples), max(self.samples)

    @property
    def bounds(self) -> tuple[float, float]:
        """A lower and an upper bound of the value, infinite if unknown."""
        return self.extent if self.monotone else (-math.inf, math.inf)

    @property
    def edges(self) -> tuple[float, ...]:
        """Increasing progresses between 0 and 1 where the value jumps or its formula changes."""
        return tuple(sorted({edge for leaf in self.leaves for edge in leaf.edges}))

    @property
    def monotone(self) -> bool:
        """Whether the value is monotone between any two edges, so that its range is known."""
        return False

    @property
    def steady(self) -> bool:
        """Whether the values at the ``knots`` show all that happens between them."""
        return self.monotone

    def state_dict(self) -> dict[str, Any]:
        """Return the progress and the rest of the state, in plain numbers for JSON."""
        return {str(i): leaf.state_dict() for i, leaf in enumerate(self.leaves)}

    def load_state_dict(self: Self, state: Mapping[str, Any]) -> Self:
        """Restore a state that ``state_dict`` returned.

        Raises:
            ValueError: ``state`` has other keys, or a progress out of range.
            TypeError: ``state`` is not a mapping, or a progress is not a number.
        """
        together.load_all(self.loadable(state))
        return self

    def loadable(self, state: Mapping[str, Any]) -> list[together.Loadable]:
        """Return the checked argument for ``load_all``; change nothing."""
        checks.keys(f"the state of {self!r}", state, [str(i) for i in range(len(self.leaves))])
        return [one for i, leaf in enumerate(self.leaves) for one in leaf.loadable(state[str(i)])]

    # MLX ----------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Any]:
        """The arrays for ``mx.compile(inputs=..., outputs=...)`` to capture.

        Example:
            >>> import mlx.core as mx
            >>> from scalars import Linear
            >>> scale = Linear(1.0, 3.0)
            >>> double = mx.compile(lambda x: 2 * scale * x, inputs=[scale.state])
            >>> double(mx.array(1.0)).item()
            2.0
            >>> _ = scale.update(0.5)
            >>> double(mx.array(1.0)).item()
            4.0
        """
        return {str(i): leaf.state for i, leaf in enumerate(self.leaves)}

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the array that MLX gets."""
        return self.own_dtype or mx.float32

    @property
    def array(self) -> mx.array:
        """The current value as a new ``mx.array``, for code that requires an array."""
        value = self._read()
        return mx.array(value.value if isinstance(value, Pair) else value, self.dtype)

    @property
    def __mlx_array__(self) -> mx.array:
        """The current value for MLX, which does not modify it: one array for each value."""
        if (asking := _getframe(1)).f_code.co_name == "learning_rate":  # checked here to be fast
            mlx_protocol.schedule_assigned(self, asking)
        try:
            value, (known, last) = self._read(), self._last
        except Exception as error:
            words.warn(words.NO_ARRAY.format(name=checks.shown(self), error=error))
            raise
        if isinstance(value, Pair):
            return ProtocolArray(value.value, self.dtype)
        if value is not known and (value != known or not value):  # -0.0 is not 0.0
            last = ProtocolArray(value, self.dtype)
            self.__dict__["_last"] = (value, last)
        array: mx.array = last
        return array

    def astype(self, dtype: mx.Dtype) -> Expression:
        """Return a live view that MLX sees as an array of ``dtype``.

        In ``array * scalar`` MLX converts the scalar to a float32 array, which promotes
        arrays in half precision. A view in half precision does not.

        Example:
            >>> import mlx.core as mx
            >>> from scalars import Linear
            >>> x = mx.ones((2,), mx.bfloat16)
            >>> (x * Linear(1, 2)).dtype, (x * Linear(1, 2).astype(mx.bfloat16)).dtype
            (mlx.core.float32, mlx.core.bfloat16)
        """
        if not isinstance(dtype, mx.Dtype) or str(dtype) not in VIEWS:
            way_out = "Pass mx.float32, mx.bfloat16 or mx.float16."
            checks.fail("dtype", "a floating point mx.Dtype", dtype, way_out, wrong_type=True)
        return Expression(VIEWS[str(dtype)], self)

    def __call__(self, step: Any = None) -> mx.array:
        """Return the current value, as MLX optimizers call their learning rate.

        Args:
            step: Ignored, as the training loop sets the progress.

        Raises:
            ValueError: An optimizer makes the call while ``mx.compile`` traces a function
                that does not capture the state, which would freeze the value.
        """
        if isinstance(step, mx.array):
            frozen = [leaf for leaf in self.leaves if not leaf._cell.is_traced()]
            if frozen and mlx_protocol.is_tracing() and mlx_protocol.is_placeholder(step):
                if any(leaf.changes for leaf in frozen):
                    raise ValueError(words.BLIND.format(name=checks.shown(self)))
                return mx.array(float(self))  # mx.compile cannot return an array from outside
            calls = self.__dict__["_calls"] = self._calls + 1
            if calls == words.UPDATES_UNTIL_IDLE and any(leaf.idle for leaf in frozen):
                words.warn(words.IDLE.format(name=checks.shown(self), calls=calls))
        return self.array

    def _beside(self, array: mx.array) -> float | mx.array:
        """Return the value as an operand of an operation with ``array``."""
        value = self._read()
        if isinstance(value, Pair):
            return value.value.astype(mlx_protocol.weak_dtype(array))
        return value

    def _compare(self, compare: Callable[[Any, Any], bool], other: Any) -> bool:
        """Return the answer of a comparison with a number or a scalar.

        In a trace the graph keeps the answer, so it must be right for the whole run. MLX
        compares to skip code without effect (``if self.weight_decay != 0``) and gets the
        answer for the inside of the range. Other code gets that answer, too, if the value
        equals the bound only at single points.
        """
        leaves = together.leaves_of(x for x in (self, other) if isinstance(x, ScheduledScalar))
        if not any(leaf._cell.is_traced() for leaf in leaves):
            for leaf in leaves:
                leaf._cell.watch.compared()
            return bool(compare(float(self), other))
        scalar, bound = (self - other, 0.0) if isinstance(other, ScheduledScalar) else (self, other)
        shortcut = self._asks_for_shortcut()
        answer = ranges.settled(scalar, compare, bound, shortcut)
        symbol = words.COMPARISONS[compare.__name__]
        if answer is None:
            shown = [checks.shown(x) for x in (self, other)]
            raise ValueError(words.UNSETTLED.format(s=shown[0], symbol=symbol, other=shown[1]))
        if not (shortcut and answer is (compare is operator.ne)):  # this branch fits any value
            text = f"{self!r} {symbol} {other!r}"
            taken = ranges.Answer(text, scalar, compare, bound, answer)
            taken.check()
            for leaf in leaves:
                leaf.answers[text] = taken
        return answer

    def _asks_for_shortcut(self) -> bool:
        """Return whether the comparing code only skips work without effect."""
        return mlx_protocol.asked_by_mlx()

    # Python -------------------------------------------------------------------

    __add__: _Method[Expression] = _operator("add")
    __sub__: _Method[Expression] = _operator("subtract")
    __mul__: _Method[Expression] = _operator("multiply")
    __truediv__: _Method[Expression] = _operator("divide")
    __floordiv__: _Method[Expression] = _operator("floor_divide")
    __mod__: _Method[Expression] = _operator("remainder")
    __pow__: _Method[Expression] = _operator("power")  # type: ignore[assignment] # no modulus

    __radd__: _Method[Expression] = _operator("add", reflected=True)
    __rsub__: _Method[Expression] = _operator("subtract", reflected=True)
    __rmul__: _Method[Expression] = _operator("multiply", reflected=True)
    __rtruediv__: _Method[Expression] = _operator("divide", reflected=True)
    __rfloordiv__: _Method[Expression] = _operator("floor_divide", reflected=True)
    __rmod__: _Method[Expression] = _operator("remainder", reflected=True)
    __rpow__: _Method[Expression] = _operator("power", reflected=True)  # type: ignore[assignment]

    __lt__: _Method[bool] = _comparison(operator.lt)
    __le__: _Method[bool] = _comparison(operator.le)
    __gt__: _Method[bool] = _comparison(operator.gt)
    __ge__: _Method[bool] = _comparison(operator.ge)
    __eq__: _Method[bool] = _comparison(operator.eq)  # type: ignore[assignment]
    __ne__: _Method[bool] = _comparison(operator.ne)  # type: ignore[assignment]
    # Hash by identity, like mx.array: equal values may belong to different scalars.
    __hash__ = object.__hash__

    def __neg__(self) -> Expression:
        """Return the scalar with its sign changed."""
        return Expression(OPERATIONS["negative"], self)

    def __pos__(self: Self) -> Self:
        """Return the scalar itself."""
        return self

    def __abs__(self) -> Expression:
        """Return the absolute value of the scalar."""
        return Expression(OPERATIONS["absolute"], self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply a NumPy function: to the value, or among scalars and numbers as an expression."""
        if any(isinstance(x, ScheduledScalar) for x in options.get("out", ())):
            way_out = "Omit the argument and use the returned value."
            checks.fail("out", "a NumPy array", options["out"], way_out, wrong_type=True)
        if method == "__call__" and not options and all(map(is_number, inputs)):
            operation = OPERATIONS.get(ufunc.__name__)
            if operation is not None:
                return Expression(operation, *inputs)
        floats = [float(x) if isinstance(x, ScheduledScalar) else x for x in inputs]
        return getattr(ufunc, method)(*floats, **options)

    def _repr_html_(self) -> str:
        return sketch.html(repr(self), self)

    def __copy__(self: Self) -> Self:
        """Return an independent scalar at the same progress."""
        return deepcopy(self)


class Leaf(ScheduledScalar):
    """A scalar with a progress and a value of its own, in a cell: the base of schedules."""

    _cell: Cell
    listeners: tuple[Any, ...] = ()
    """The adaptive scalars that this one contains, which observe metrics."""
    on_device = False
    """Whether compiled functions change the value, which then ignores the progress."""
    held: float | None = None
    """The value that ``hold`` has set in place of the formula, or ``None``."""

    @property
    def edges(self) -> tuple[float, ...]:
        """Increasing progresses between 0 and 1 where the value jumps or its formula changes."""
        return ()

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The scalar itself."""
        return (self,)

    def _read(self, use: bool = True) -> float | Pair:
        return self._cell.read(use)

    def update(self: LeafSelf, progress: float) -> LeafSelf:
        """Set the progress: see ``ScheduledScalar.update``."""
        if type(progress) is not float or not 0.0 <= progress < 2.0:
            progress = checks.new_progress(progress)
        value = self.prepare(progress)
        try:
            self._cell.set(self, progress, value)
        except BaseException:  # complete the update after an interrupt or a warning as an error
            self._cell.set(self, progress, value)
            raise
        return self

    def prepare(self, progress: float) -> float:
        """Return the value at the next progress; raise if there is none, and change nothing."""
        if self._cell.arrays:  # otherwise nothing captures the value
            self._cell.refuse_update(self)
        at = progress if progress < 1.0 else 1.0
        value = self.value_at(at) if self.held is None else self.held
        if type(value) is not float or value - value != 0.0:  # infinite, NaN or of another type
            value = checks.value(lambda: f"the value of {self!r} at progress {at:.6g}", value)
        return value

    def in_force(self, progress: functions.P) -> functions.P:
        """Return the held value, or else that of the formula."""
        return self.value_at(progress) if self.held is None else self.held  # type: ignore[return-value]

    def _to_hold(self, verb: str) -> Leaf:
        if self.on_device:
            way_out = "Set initial, minimum or growth_interval of the loss scale instead."
            checks.fail(f"the scalar of {verb}()", "a schedule", self, way_out)
        return self

    @cached_property
    def answers(self) -> dict[str, Any]:
        """What held values must keep true, such as the answers in a trace, by question."""
        return {}

    def check_held(self) -> None:
        """Raise ``ValueError`` if held values make one of the answers wrong."""
        for answer in self.answers.values():
            answer.check()

    def hearing(self, progress: float) -> tuple[Any, ...]:
        """Return the listeners that count a metric observed at ``progress``: all of them."""
        return self.listeners

    def keep_in(self, cell: Cell) -> None:
        """Keep the value in another cell: that of an optimizer's step, or its own again."""
        self.__dict__["_cell"] = cell

    @property
    def progress(self) -> float:
        """The progress of the last update; 0 in a new scalar."""
        self._cell.watch.read(use=False)
        return self.known_progress()

    def known_progress(self) -> float:
        """Return the progress, but do not record that it was read."""
        if self._cell.is_traced():
            raise ValueError(words.NO_PROGRESS)
        return self._cell.progress

    @property
    def changes(self) -> bool:
        """Whether the value may change during the run."""
        return not self.monotone or self.extent[0] != self.extent[1]

    @property
    def idle(self) -> bool:
        """Whether the value depends on the progress, which was never set, and is not held."""
        waits = self._cell.fresh and self.held is None and not self.on_device
        return waits and len({self.value_at(knot) for knot in self.knots}) > 1

    @property
    def state(self) -> dict[str, Any]:
        """The arrays for ``mx.compile(inputs=..., outputs=...)`` to capture."""
        return self._cell.capture()

    def state_dict(self) -> dict[str, Any]:
        """Return the progress and the rest of the state, in plain numbers for JSON."""
        state: dict[str, Any] = {"progress": self.progress}
        if self.listeners:
            state["observed"] = [dict(listener.memory) for listener in self.listeners]
        if self.held is not None:
            state["held"] = self.held
        return state

    def counted_in(self, arrays: Mapping[str, mx.array]) -> dict[str, Any]:
        """Return the counts of compiled functions in the arrays of a cell: none."""
        return {}

    def loadable(self, state: Mapping[str, Any]) -> list[together.Loadable]:
        """Return the checked argument for ``load_all``; change nothing."""
        expected = ["progress", "observed"] if self.listeners else ["progress"]
        checks.keys(f"the state of {self!r}", state, expected, optional=["held"])
        progress = checks.progress(state["progress"])
        held = checks.optional_real("held", state.get("held"))
        memories: list[tuple[Any, Any]] = [(together.Hand(self), {"held": held})]
        if self.listeners:
            observed = checks.sequence("observed", state["observed"])
            checks.as_many("observed", observed, self.listeners, "scalars that observe")
            pairs = zip(self.listeners, observed, strict=True)
            memories += [(one, one.checked(memory)) for one, memory in pairs]
        return [(self, progress, memories)]


LARGE = 1e308
SMALL = 32
"""The size up to which an expression is computed by recursion, which is fast."""


def _operand(value: Any) -> ScheduledScalar | float:
    """Return an operand with a plain repr: a Fraction or a NumPy scalar becomes a float."""
    if isinstance(value, ScheduledScalar):
        return value
    with suppress(OverflowError):
        if math.isfinite(number := float(value)):
            return number
    return checks.fail("an operand", "a number in the range of floats", value, checks.A_NUMBER)


class Expression(ScheduledScalar):
    """The result of an operation on scalars and numbers, which follows its operands.

    Arithmetic makes expressions; do not make one yourself. An expression has no progress of
    its own: updating it updates its scalars, and ``at`` combines their values.

    Example:
        >>> from scalars import Linear
        >>> beta = Linear(0.9, 0.99)
        >>> rest = 1 - beta
        >>> round(float(rest), 3), round(float(rest.update(1)), 3), float(beta)
        (0.1, 0.01, 0.99)
        >>> rest
        1 - Linear(start=0.9, end=0.99)
    """

    def __init__(self, operation: Operation, *operands: Any) -> None:
        self.operation = operation
        self.operands: tuple[Any, ...] = tuple(
            [x if type(x) in HOST and -LARGE < x < LARGE else _operand(x) for x in operands]
        )
        self._size, self.own_dtype = 1, operation.dtype
        for x in self.operands:
            if type(x) not in HOST:
                self._size += x._size
                self.own_dtype = self.own_dtype or x.own_dtype
        if operation.partial:
            self._refuse_infinite()

    def _refuse_infinite(self) -> None:
        """Raise ``ValueError`` if the result is not finite somewhere in the run."""
        bounds = [getattr(x, "bounds", (x, x)) for x in self.operands]
        known = all(math.isfinite(end) for pair in bounds for end in pair)  # not of LambdaValue
        if known and not all(map(math.isfinite, self.operation.bounds(bounds))):
            for knot in self.knots:
                checks.finite(self, knot)

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """A lower and an upper bound of the value, infinite if unknown."""
        low, high = self._fold(
            lambda scalar: scalar.bounds, lambda node, x: node.operation.bounds(x)
        )
        return low, high

    @property
    def steady(self) -> bool:
        """Whether the values at the ``knots`` show all that happens between them."""

        def of_node(node: Expression, x: list[Any]) -> tuple[bool, Any]:
            bounds = [one[1] if isinstance(one, tuple) else one for one in x]
            inside = all(one[0] for one in x if isinstance(one, tuple))
            return inside and node.operation.is_steady(bounds), node.operation.bounds(bounds)

        return bool(self._fold(lambda scalar: (scalar.steady, scalar.bounds), of_node)[0])

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """The scalars that hold a progress, each once."""
        found: dict[int, Leaf] = {}
        self._fold(lambda s: found.update({id(x): x for x in s.leaves}), lambda node, x: None)
        return tuple(found.values())

    def value_at(self, progress: functions.P) -> functions.P:
        """Return the operation on the operands' values at ``progress``."""
        return self._combine("value_at", progress)  # type: ignore[no-any-return]

    def in_force(self, progress: functions.P) -> functions.P:
        """Return the operation on the values of its operands at ``progress``, held or not."""
        return self._combine("in_force", progress)  # type: ignore[no-any-return]

    def _read(self, use: bool = True) -> float | Pair:
        return self._combine("_read", use)  # type: ignore[no-any-return]

    def _combine(self, method: str, argument: Any) -> Any:
        """Return the operation on the results of a method of the operands."""
        if self._size <= SMALL:
            of = [x if type(x) in HOST else getattr(x, method)(argument) for x in self.operands]
            return self.operation.of(of)
        call = operator.methodcaller(method, argument)
        return self._fold(call, lambda node, numbers: node.operation.of(numbers))

    def _fold(self, of_scalar: Callable[[Any], Any], of_node: Callable[..., Any]) -> Any:
        """Return the result of ``of_node`` for the expression, and of ``of_scalar`` for leaves.

        Each part is computed once, after its operands, so that the cost is linear in the number
        of parts and deep expressions do not recurse.
        """
        known: dict[int, Any] = {}
        waiting: list[ScheduledScalar] = [self]
        while waiting:
            node = waiting[-1]
            if isinstance(node, Expression) and id(node) not in known:
                scalars = [x for x in node.operands if isinstance(x, ScheduledScalar)]
                if missing := [x for x in scalars if id(x) not in known]:
                    waiting += reversed(missing)
                    continue
                values = [x if type(x) in HOST else known[id(x)] for x in node.operands]
                known[id(node)] = of_node(node, values)
            elif id(node) not in known:
                known[id(node)] = of_scalar(node)
            waiting.pop()
        return known[id(self)]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the operations as a flat list, so that pickle does not recurse."""
        found: dict[int, Expression] = {}
        self._fold(lambda scalar: None, lambda node, x: found.setdefault(id(node), node))
        nodes, places = [*found.values()], {key: Place(i) for i, key in enumerate(found)}
        operands = [[places.get(id(x), x) for x in node.operands] for node in nodes]
        return _rebuilt, ([node.operation.name for node in nodes], operands)

    def __repr__(self) -> str:
        """Return the expression as Python code."""
        return written(self, Expression)


class Place(int):
    """An operand in a pickled expression: the index of the operation that computes it."""


def _rebuilt(names: list[str], operands: list[list[Any]]) -> Expression:
    made: list[Expression] = []
    for name, of in zip(names, operands, strict=True):
        filled = [made[x] if isinstance(x, Place) else x for x in of]
        made.append(Expression(VIEWS.get(name) or OPERATIONS[name], *filled))
    return made[-1]
