"""The scheduled scalar: a number that changes, for MLX and for Python."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import product
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

import mlx.core as mx

from . import checks, functions, mlx_protocol, sketch, words
from .conversions import Conversions
from .mlx_protocol import ProtocolArray

if TYPE_CHECKING:
    import numpy as np

    from .expression import View
    from .leaf import Leaf

Self = TypeVar("Self", bound="ScheduledScalar")


class ScheduledScalar(Conversions):
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

    _last: tuple[float, mx.Dtype, ProtocolArray] | None = None
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

    def observe(self: Self, metric: float) -> Self:
        """Tell the adaptive scalars in this one, at any depth, a metric.

        Args:
            metric: What they are driven by, such as the loss on held-out data. One that
                is infinite or NaN counts as no improvement, and meets no condition.

        Returns:
            The scalar itself.

        Raises:
            ValueError: There is no adaptive scalar in it, or it cannot be changed now.
            TypeError: ``metric`` is not a real number.
        """
        observe_all(repr(self), self.leaves, metric)
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
        knots, states = self.knots, every_memory(listeners_of(self.leaves))
        values = [float(self.value_at(progress)) for _ in states for progress in knots]
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
        return self.own_dtype or mlx_protocol.weak()

    @property
    def own_dtype(self) -> mx.Dtype | None:
        """The dtype that a view asks for; ``None`` in any other scalar."""
        return None

    @property
    def array(self) -> mx.array:
        """The value now as an ``mx.array``, for code that insists on one."""
        value = self._read()
        if isinstance(value, mx.array):
            return ProtocolArray(value, self.dtype)
        last, dtype = self._last, self.dtype
        if last is None or last[0] != value or last[1] != dtype:
            self._last = last = (value, dtype, ProtocolArray(value, dtype))
        return last[2]

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
        array = self.array
        if isinstance(step, mx.array):
            frozen = [leaf for leaf in self.leaves if not leaf._cell.traced]
            if frozen and mlx_protocol.is_placeholder(step):
                if any(leaf.changes for leaf in frozen):
                    raise ValueError(words.BLIND.format(name=repr(self)))
                return mx.array(float(self))  # mx.compile returns no array from outside
        return array

    def _beside(self, array: mx.array) -> float | mx.array:
        value = self._read()
        if isinstance(value, mx.array):
            return value.astype(mlx_protocol.weak_dtype(array))
        return value

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
            symbol = words.COMPARISONS[compare.__name__]
            raise ValueError(words.UNSETTLED.format(s=repr(self), symbol=symbol, other=other))
        # The bound is outside of the range, or its edge: the answer of the inside.
        return compare((low + high) / 2, other)

    # Python -------------------------------------------------------------------

    def _repr_html_(self) -> str:
        return sketch.html(repr(self), self)

    def __copy__(self: Self) -> Self:
        """Return an independent scalar at the same progress."""
        from copy import deepcopy

        return deepcopy(self)


def leaves_of(scalars: Iterable[ScheduledScalar]) -> tuple[Leaf, ...]:
    """Return the leaves of several scalars, each once."""
    return tuple({id(leaf): leaf for scalar in scalars for leaf in scalar.leaves}.values())


def update_all(leaves: Iterable[Leaf], progress: float) -> float:
    """Update every leaf, or none if one of them fails; return the checked progress."""
    progress = checks.progress(progress)
    within = progress if progress < 1.0 else 1.0
    values = [(leaf, leaf.prepare(within)) for leaf in leaves]
    for leaf, value in values:
        leaf._cell.set(leaf, progress, value)
    return progress


def listeners_of(leaves: Iterable[Leaf]) -> tuple[Any, ...]:
    """Return the scalars in some leaves that observe metrics, each once."""
    return tuple({id(one): one for leaf in leaves for one in leaf.listeners}.values())


def observe_all(name: str, leaves: Iterable[Leaf], metric: float) -> None:
    """Tell every listener in some leaves a metric, or none if one of them fails."""
    if not (listeners := listeners_of(leaves)):
        way_out = "ReduceOnPlateau and ThresholdSwitch observe metrics."
        checks.fail("a scalar that observes a metric", "an adaptive one", name, way_out)
    metric = checks.metric(metric)
    for listener, memory in [(one, one.after(metric)) for one in listeners]:
        listener.remember(memory)


def every_memory(listeners: tuple[Any, ...]) -> Iterator[None]:
    """Give the listeners all the memories that matter to their range, then their own again."""
    kept = [dict(listener.memory) for listener in listeners]
    try:
        for memories in product(*[listener.possible for listener in listeners]):
            for listener, memory in zip(listeners, memories, strict=True):
                listener.memory.update(memory)
            yield
    finally:
        for listener, memory in zip(listeners, kept, strict=True):
            listener.memory.update(memory)


Real.register(ScheduledScalar)  # type: ignore[type-abstract]
