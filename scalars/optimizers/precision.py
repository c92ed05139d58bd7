"""Views that give the scalars in a model's layers the model's dtype while attached."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .. import checks
from ..number.cell import Pair
from ..number.mlx_protocol import (
    DROPOUTS,
    KEEPING,
    are_placeholders,
    dtype_of_input,
    is_tracing,
)
from ..number.scalar import Leaf, ScheduledScalar
from ..training.horizon import Horizon
from ..words import warn
from . import words
from .containers import Place, is_scheduled, places_in, replaced
from .discover import viewed, within
from .stand_in import StandIn


def dropout_rates(model: nn.Module) -> Iterator[tuple[str, ScheduledScalar]]:
    """Yield the scheduled rates of the dropout layers of a model, by name."""
    for path, module in model.named_modules():  # type: ignore[no-untyped-call]
        kept = vars(module).get(KEEPING) if isinstance(module, DROPOUTS) else None
        if isinstance(kept, ScheduledScalar):
            yield f"p in {path or 'the layer'}", 1 - viewed(kept)


def check_rate(name: str, rate: float) -> None:
    """Check that a dropout rate is in [0, 1)."""
    if rate < -1e-9 or rate >= 1:  # an expression may be just below 0
        way_out = "Choose a schedule whose values are in this range."
        checks.fail(name, "from 0 to below 1", rate, way_out)


def check_rates(model: nn.Module, horizon: Horizon | None) -> None:
    """Check that the scheduled dropout rates of a model are in [0, 1) at every step."""
    last = 1.0 if horizon is None else horizon.progress(horizon.total_steps - 1)
    for name, rate in dropout_rates(model):
        values = [rate.value_at(min(knot, last)) for knot in rate.knots]
        for value in (min(values), max(values)):
            check_rate(f"the range of {name}", value)


LINES_EXAMINED = 1000


class FloatingDtype:
    """The floating dtype of a module's parameters, if there is just one.

    It is determined again when the smallest of these parameters has changed its dtype, as after
    ``model.set_dtype``, or is not there any more.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._examined: set[int] = set()
        self._look()

    def _look(self) -> None:
        found = sorted(_floating(self._module), key=lambda one: int(one[1].size))
        dtypes = {array.dtype for _, array in found}
        self._dtype = dtypes.pop() if len(dtypes) == 1 else None
        self._path: tuple[Any, ...] = found[0][0] if found else ()
        self._seen: mx.array | None = None

    def _smallest(self) -> mx.array | None:
        """Return the parameter that was the smallest one, if it is still there."""
        here: Any = self._module
        try:
            for key in self._path:
                here = here[key]
        except (KeyError, IndexError, TypeError):
            return None
        return here if isinstance(here, mx.array) else None

    @property
    def now(self) -> mx.Dtype | None:
        """The dtype, or ``None`` if there is no single one."""
        if self._dtype is not None:
            here = self._smallest()
            if here is None or here.dtype != self._dtype:
                self._look()
        return self._dtype

    @property
    def captured(self) -> bool:
        """Whether a function is being traced that captures the parameters, as far as is known.

        Among reads with the same parameters, as those of one pass, only the first is told. MLX goes
        through all that is not evaluated yet to answer, so a line of a program that was found to
        compute a gradient is not examined again.
        """
        if (here := self._smallest()) is None:
            self._look()
            here = self._smallest()
        if here is None or here is self._seen:
            return False
        self._seen = here
        if not is_tracing() or (way := _way_here()) in self._examined:
            return False
        if len(self._examined) >= LINES_EXAMINED:  # as in a notebook that runs its cells again
            self._examined.clear()
        self._examined.add(way)
        return are_placeholders([here])


def _way_here() -> int:
    """Return a number that identifies the calls that have led here, and their lines."""
    way = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        way.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return hash(tuple(way))


def _floating(container: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, mx.array]]:
    """Yield path and array of each floating point parameter in a module."""
    items = container.items() if isinstance(container, dict) else enumerate(container)
    for key, value in items:
        if isinstance(key, str) and key.startswith("_"):  # as in Module.parameters
            continue
        if isinstance(value, mx.array):
            if mx.issubdtype(value.dtype, mx.floating):
                yield (*path, key), value
        elif isinstance(value, (dict, list, tuple)):
            yield from _floating(value, (*path, key))


class LayerView(StandIn):
    """A view of the dtype of a model, with which an attachment replaces a scalar in a layer.

    Everything else is that of the scalar, which copies of the layer have.
    """

    def __init__(
        self, scalar: ScheduledScalar, near: FloatingDtype, whole: FloatingDtype, views: LayerViews
    ) -> None:
        super().__init__(scalar)
        self._near = near
        self._whole = whole
        self.views = views

    @property
    def own_dtype(self) -> mx.Dtype | None:  # type: ignore[override] # it may change
        """The dtype of the model, or of the module, if there is a single one."""
        return self.viewed.own_dtype or self._near.now

    def _read(self, use: bool = True) -> float | Pair:
        value = self.viewed._read(use)
        if use and not isinstance(value, Pair) and self._whole.captured and may_freeze(self.viewed):
            warn(words.BLIND_FUNCTION.format(name=checks.shown(self.viewed)))
        return value

    @property
    def __mlx_array__(self) -> mx.array:
        """The current value for MLX."""
        self.__dict__.pop("_last", None)  # it may have another dtype
        return super().__mlx_array__

    @property
    def held(self) -> float | None:
        """The held value of the scalar."""
        return self.viewed.held

    def _to_hold(self, verb: str) -> Leaf:
        return self.viewed._to_hold(verb)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute that only the scalar has, such as ``memory``."""
        return getattr(self.viewed, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the scalar in place of the view."""
        return viewed, (self.viewed,)


class KeepingView(LayerView):
    """The view of 1 - p in a dropout layer of MLX.

    The mask needs it in float32, and 1 / (1 - p) has the dtype of the layer's input.
    """

    @property
    def own_dtype(self) -> mx.Dtype | None:  # type: ignore[override] # it may change
        """The dtype of the input of the layer that is running, or of the model."""
        return dtype_of_input() or super().own_dtype

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the array that MLX gets."""
        return mx.float32


def may_freeze(scalar: ScheduledScalar) -> bool:
    """Return whether a scalar, read as a constant now, may have another value later."""
    return any(x.changes and x.held is None and x._cell.progress < 1 for x in scalar.leaves)


class LayerViews:
    """Views that replace the scalars in the layers of some models until ``unlink`` is called.

    A Python float takes the dtype of the array that it is combined with, but MLX converts a
    scalar to an array without passing that dtype. If the model has one floating dtype, the view
    uses it. Otherwise it uses the dtype of the module that holds the scalar, if it has just one.
    """

    def __init__(self, models: Iterable[nn.Module] = ()) -> None:
        self._changes: list[tuple[Place, Any, Any, Any]] = []
        self._linked = False
        for model in models:
            whole = FloatingDtype(model)
            for module in model.modules():  # type: ignore[no-untyped-call]
                self._add(module, whole)

    def _add(self, module: nn.Module, whole: FloatingDtype) -> None:
        near = FloatingDtype(module) if whole.now is None else whole
        for container in (vars(module), module):
            for place in places_in(container):
                if not is_scheduled(value := place.item):
                    continue
                scalar = replaced(value, viewed)
                keeps = place.key == KEEPING and isinstance(module, DROPOUTS)
                kind = KeepingView if keeps else LayerView
                view = partial(kind, near=near, whole=whole, views=self)
                self._changes.append((place, value, scalar, replaced(scalar, view)))

    def link(self) -> None:
        """Replace the scalars by the views."""
        self._linked = True
        for place, _, _, view in self._changes:
            place.put(view)

    def unlink(self) -> None:
        """Put back the scalars, or the views that another attachment still has.

        Another value that was assigned since stays.
        """
        self._linked = False
        for place, before, scalar, view in self._changes:
            if place.item is view:
                place.put(before if _are_linked(before) else scalar)


def _are_linked(value: Any) -> bool:
    """Return whether all scalars in a value are views of attachments that are still there."""
    found = [one for _, one in within("", value)]
    return all(isinstance(one, LayerView) and one.views._linked for one in found)
