"""The scheduled scalar: a number that changes, for MLX and for Python."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

import mlx.core as mx

from . import checks, functions, mlx_protocol, sketch
from .mlx_protocol import Cell, ProtocolArray
from .operators import OPERATIONS, Arithmetic, is_number

if TYPE_CHECKING:
    import numpy as np

    from .expression import View

Self = TypeVar("Self", bound="ScheduledScalar")

EVENLY = tuple(i / 512 for i in range(513))


class ScheduledScalar(Arithmetic):
    """A number that changes during training, accepted wherever MLX takes a scalar.

    ``update(progress)`` says how much of the run is done, from 0 to 1, and every
    place that uses the scalar sees its new value, eagerly and in ``mx.compile``
    (capture ``state`` there, or ``attach`` the scalar to an optimizer).
    ``float(scalar)`` is the value now and ``at(progress)`` the value at any progress.

    Arithmetic between scalars and numbers gives a scalar that follows its operands;
    with an array it gives an array, of the dtype that a Python float would give.

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

    _dtype: mx.Dtype | None = None
    _last: tuple[float, ProtocolArray] | None = None
    _view: ClassVar[Callable[..., View]]

    # What a scalar is made of -------------------------------------------------

    @property
    @abstractmethod
    def leaves(self) -> tuple[Leaf, ...]:
        """The scalars that hold a progress: the operands of an expression, at any depth."""

    @abstractmethod
    def value_at(self, progress: functions.P) -> functions.P:
        """Return the value at ``progress``, which is in [0, 1]: the formula and no more."""

    @abstractmethod
    def _read(self) -> float | mx.array:
        """Return the value now: a traced array while a function that captures it is traced."""

    @abstractmethod
    def __float__(self) -> float:
        """Return the value now, in double precision."""

    # Progress -----------------------------------------------------------------

    def update(self: Self, progress: float) -> Self:
        """Set the progress of this scalar, or of all the scalars in this expression.

        Args:
            progress: The fraction of the run that is done, at least 0. Above 1 the
                value at 1 holds. Whatever is wrong with it, nothing is changed.

        Returns:
            The scalar itself.

        Raises:
            ValueError: ``progress`` is negative, infinite or NaN.
            TypeError: ``progress`` is not a real number.
        """
        update_all(self.leaves, progress)
        return self

    @property
    def progress(self) -> float:
        """The progress last given; 0 in a new scalar."""
        first, *others = {leaf.progress for leaf in self.leaves} or {0.0}
        if others:
            name, rule = "the progress of an expression", "the same in all of its scalars"
            way_out = "Update the expression, or all of its scalars in one ScalarGroup."
            checks.fail(name, rule, sorted([first, *others]), way_out)
        return first

    @overload
    def at(self, progress: float) -> float: ...
    @overload
    def at(self, progress: mx.array) -> mx.array: ...
    @overload
    def at(self, progress: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...
    def at(self, progress: Any) -> Any:
        """Return the value at a progress, and change nothing.

        Args:
            progress: A number, for a float in double precision; a NumPy array, for
                an array in double precision; or an ``mx.array``, for an ``mx.array``
                that can be traced. Above 1 the value at 1 holds.

        Raises:
            ValueError: A number, or an element of a NumPy array, is negative,
                infinite or NaN. An ``mx.array`` is clipped to [0, 1] unseen.
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

    @cached_property
    def extent(self) -> tuple[float, float]:
        """The smallest and the largest value of the whole schedule."""
        values = [float(self.value_at(progress)) for progress in self.knots]
        return min(values), max(values)

    @property
    def knots(self) -> tuple[float, ...]:
        """Increasing progresses from 0 to 1, close enough to draw the curve."""
        return tuple(sorted({knot for leaf in self.leaves for knot in leaf.knots}))

    def state_dict(self) -> dict[str, Any]:
        """Return where the scalar is, in plain numbers that JSON can hold."""
        return {str(i): leaf.state_dict() for i, leaf in enumerate(self.leaves)}

    def load_state_dict(self: Self, state: Mapping[str, Any]) -> Self:
        """Put the scalar where it was when ``state_dict`` returned ``state``.

        Raises:
            ValueError: ``state`` has other keys, or a progress out of range.
            TypeError: ``state`` is not a mapping, or a progress not a number.
        """
        checks.keys(f"the state of {self!r}", state, [str(i) for i in range(len(self.leaves))])
        for i, leaf in enumerate(self.leaves):
            leaf.load_state_dict(state[str(i)])
        return self

    # MLX ----------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Any]:
        """The arrays that ``mx.compile(inputs=..., outputs=...)`` captures.

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
        """The dtype that MLX sees when it asks for an array."""
        return self._dtype or mx.float32

    @property
    def array(self) -> mx.array:
        """The value now as an ``mx.array``, for code that insists on one."""
        value = self._read()
        if isinstance(value, mx.array):
            return ProtocolArray(value.astype(self.dtype))
        if self._last is None or self._last[0] != value:
            self._last = (value, ProtocolArray(value, self.dtype))
        return self._last[1]

    @property
    def __mlx_array__(self) -> mx.array:
        """The value now, for MLX."""
        return self.array

    def astype(self, dtype: mx.Dtype) -> View:
        """Return a live view that MLX sees as an array of ``dtype``.

        An array with the scalar on its right has MLX ask for an array, and a float32
        one promotes half precision; a view does not.

        Example:
            >>> import mlx.core as mx
            >>> from scalars import Linear
            >>> x = mx.ones((2,), mx.bfloat16)
            >>> (x * Linear(1, 2)).dtype, (x * Linear(1, 2).astype(mx.bfloat16)).dtype
            (mlx.core.float32, mlx.core.bfloat16)
        """
        return self._view(self, dtype)

    def __call__(self, step: Any = None) -> mx.array:
        """Return the value now: MLX optimizers call their learning rate.

        Args:
            step: Not used: the progress belongs to the training loop.

        Raises:
            ValueError: An optimizer calls it while ``mx.compile`` traces a function
                that does not capture the state, which would freeze the value.
        """
        if isinstance(step, mx.array) and not all(leaf.is_live for leaf in self.leaves):
            mlx_protocol.refuse_placeholder(step, self)
        return self.array

    def _beside(self, array: mx.array) -> float | mx.array:
        value = self._read()
        return (
            value.astype(mlx_protocol.weak_dtype(array)) if isinstance(value, mx.array) else value
        )

    # Python -------------------------------------------------------------------

    def item(self) -> float:
        """Return the value now, in double precision."""
        return float(self)

    def _compare(self, compare: Callable[[Any, Any], bool], other: Any) -> bool:
        leaves = (
            self.leaves if not isinstance(other, ScheduledScalar) else self.leaves + other.leaves
        )
        traced = [leaf.seen_traced() for leaf in leaves]
        if not any(traced):
            return compare(float(self), float(other))
        if isinstance(other, ScheduledScalar):
            return (self - other)._compare(compare, 0.0)
        low, high = self.extent
        if low == high:
            return compare(low, other)
        if low < other < high:
            symbol = mlx_protocol.COMPARISONS[compare.__name__]
            raise ValueError(
                mlx_protocol.UNSETTLED.format(s=repr(self), symbol=symbol, other=other)
            )
        # The bound is outside of the range, or its edge: the answer of the inside.
        return compare((low + high) / 2, other)

    def __bool__(self) -> bool:
        """Return whether the value is not 0."""
        return self != 0

    def __int__(self) -> int:
        """Return the value, cut to an int."""
        return int(float(self))

    def __trunc__(self) -> int:
        """Return the value, cut to an int."""
        return math.trunc(float(self))

    def __floor__(self) -> int:
        """Return the greatest int that is not above the value."""
        return math.floor(float(self))

    def __ceil__(self) -> int:
        """Return the least int that is not below the value."""
        return math.ceil(float(self))

    def __round__(self, digits: int | None = None) -> float:
        """Return the value rounded, as a number."""
        return round(float(self), digits)

    def __complex__(self) -> complex:
        """Refuse: MLX would take the scalar for a complex number."""
        raise TypeError("a scheduled scalar is real; complex(float(scalar)) converts its value")

    def __str__(self) -> str:
        """Return the value, as a float prints."""
        return str(float(self))

    def __format__(self, spec: str) -> str:
        """Format the value, as a float: ``f"{lr:.2e}"``."""
        return format(float(self), spec)

    def as_integer_ratio(self) -> tuple[int, int]:
        """Return the value as a fraction of two integers."""
        return float(self).as_integer_ratio()

    def is_integer(self) -> bool:
        """Return whether the value is a whole number."""
        return float(self).is_integer()

    def conjugate(self: Self) -> Self:
        """Return the scalar itself, as real numbers do."""
        return self

    @property
    def real(self: Self) -> Self:
        """The scalar itself, as with real numbers."""
        return self

    imag: ClassVar[float] = 0.0

    # NumPy and notebooks ------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Return the value now as a NumPy array."""
        import numpy

        return numpy.array(float(self), dtype=dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Take part in a NumPy function as a Python float, or as a scalar among numbers."""
        if method == "__call__" and not options and all(map(is_number, inputs)):
            operation = OPERATIONS.get(ufunc.__name__)
            if operation is not None:
                return self._node(operation, *inputs)
        floats = [float(x) if isinstance(x, ScheduledScalar) else x for x in inputs]
        return getattr(ufunc, method)(*floats, **options)

    def _repr_html_(self) -> str:
        return sketch.html(repr(self), [self.value_at(i / 120) for i in range(121)])

    def __copy__(self: Self) -> Self:
        """Return an independent scalar at the same progress."""
        return copy.deepcopy(self)


Real.register(ScheduledScalar)  # type: ignore[type-abstract]


class Leaf(ScheduledScalar):
    """A scalar that holds a progress and a value: a ``Cell``."""

    _cell: Cell

    @property
    def knots(self) -> tuple[float, ...]:
        """Increasing progresses from 0 to 1, close enough to draw the curve."""
        return EVENLY

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The scalar itself."""
        return (self,)

    def update(self: Self, progress: float) -> Self:
        """Set the progress: see ``ScheduledScalar.update``."""
        leaf: Any = self
        progress = checks.progress(progress)
        leaf._cell.set(self, progress, leaf.prepare(progress if progress < 1.0 else 1.0))
        return self

    def prepare(self, progress: float) -> float:
        """Return the next value, and change nothing, or say why there is none."""
        if self._cell.has_state and self._cell.traced:
            raise ValueError(mlx_protocol.NO_UPDATE.format(name=repr(self)))
        return self.value_at(progress)

    @property
    def progress(self) -> float:
        """The progress last given; 0 in a new scalar."""
        return self._cell.progress

    @property
    def state(self) -> dict[str, Any]:
        """The arrays that ``mx.compile(inputs=..., outputs=...)`` captures."""
        return self._cell.state

    @property
    def array(self) -> mx.array:
        """The value now as an ``mx.array``, for code that insists on one."""
        return self._cell.array

    def state_dict(self) -> dict[str, Any]:
        """Return where the scalar is, in plain numbers that JSON can hold."""
        return {"progress": self.progress}

    def load_state_dict(self: Self, state: Mapping[str, Any]) -> Self:
        """Put the scalar where it was when ``state_dict`` returned ``state``."""
        checks.keys(f"the state of {self!r}", state, ("progress",))
        return self.update(state["progress"])

    @property
    def __mlx_array__(self) -> mx.array:
        """The value now, for MLX: asked for at every use, so by the shortest way."""
        return self._cell.array

    @property
    def is_live(self) -> bool:
        """Whether a compiled function can follow the value: it is captured, or constant."""
        return self._cell.traced or self.extent[0] == self.extent[1]

    def seen_traced(self) -> bool:
        """Return whether the value is a placeholder now; Python code looks at it."""
        if self._cell.traced:
            return True
        self._cell.notice()
        return False

    def _read(self) -> float | mx.array:
        return self._cell.read()

    def __float__(self) -> float:
        """Return the value now, in double precision."""
        if self._cell.has_state and self._cell.traced:
            raise ValueError(mlx_protocol.NO_FLOAT.format(name=repr(self)))
        return self._cell.value


def update_all(leaves: Iterable[Leaf], progress: float) -> float:
    """Update every leaf, or none if one of them fails; return the checked progress."""
    progress = checks.progress(progress)
    within = progress if progress < 1.0 else 1.0
    values = [(leaf, leaf.prepare(within)) for leaf in leaves]
    for leaf, value in values:
        leaf._cell.set(leaf, progress, value)
    return progress
