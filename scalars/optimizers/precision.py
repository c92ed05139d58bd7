"""Views that give the scalars in a model's layers the model's dtype while attached."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .. import checks
from ..number.cell import Pair
from ..number.mlx_protocol import are_placeholders, dtype_of_input
from ..number.operations import VIEWS, Operation
from ..number.scalar import Expression, ScheduledScalar
from ..training.horizon import Horizon
from . import words
from .discover import record, replaced, viewed, within

KEEPING = "_p_1"
"""The attribute in which the dropout layers of MLX keep 1 - p."""
DROPOUTS = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)
CALLS = {dropout.__call__.__code__ for dropout in DROPOUTS}


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


class FloatingDtype:
    """The floating dtype of a module's parameters, if there is just one.

    It is looked for again when a small one of these parameters has another dtype, as after
    ``model.set_dtype``.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._look()

    def _look(self) -> None:
        places = sorted(_floating(self._module), key=lambda place: int(place[0][place[1]].size))
        dtypes = {container[key].dtype for container, key in places}
        self._dtype = dtypes.pop() if len(dtypes) == 1 else None
        self._place = places[0] if places else None
        self._seen: mx.array | None = None

    @property
    def now(self) -> mx.Dtype | None:
        """The dtype, or ``None`` if there is no single one."""
        if self._place is not None and self._dtype is not None:
            container, key = self._place
            if container[key].dtype != self._dtype:
                self._look()
        return self._dtype

    @property
    def captured(self) -> bool:
        """Whether a function is being traced that captures the parameters, as far as is known."""
        if self._place is None or (here := self._place[0][self._place[1]]) is self._seen:
            return False  # most reads: those of one pass have the same arrays
        self._seen = here
        return are_placeholders([here])


def _floating(container: Any) -> Iterator[tuple[Any, Any]]:
    """Yield container and key of each floating point parameter in a module."""
    items = container.items() if isinstance(container, dict) else enumerate(container)
    for key, value in items:
        if isinstance(key, str) and key.startswith("_"):  # as in Module.parameters
            continue
        if isinstance(value, mx.array):
            if mx.issubdtype(value.dtype, mx.floating):
                yield container, key
        elif isinstance(value, (dict, list, tuple)):
            yield from _floating(value)


class LayerView(Expression):
    """A view of the dtype of a model, with which an attachment replaces a scalar in a layer."""

    def __init__(self, scalar: ScheduledScalar, near: FloatingDtype, whole: FloatingDtype) -> None:
        self.operands = (scalar,)
        self._size = 1 + scalar._size
        self._near = near
        self._whole = whole

    @property
    def viewed(self) -> ScheduledScalar:
        """The scalar that was there before."""
        scalar: ScheduledScalar = self.operands[0]
        return scalar

    @property
    def own_dtype(self) -> mx.Dtype:  # type: ignore[override] # it may change
        """The dtype of the model; float32 if its parameters differ since."""
        return self._near.now or mx.float32

    @property
    def operation(self) -> Operation:  # type: ignore[override] # as the dtype
        """The operation of a view of this dtype."""
        return VIEWS[str(self.own_dtype)]

    def _read(self, use: bool = True) -> float | Pair:
        value = super()._read(use)
        if use and not isinstance(value, Pair) and self._whole.captured:
            raise ValueError(words.BLIND_FUNCTION.format(name=checks.shown(self.viewed)))
        return value

    @property
    def __mlx_array__(self) -> mx.array:
        """The current value for MLX."""
        self.__dict__.pop("_last", None)  # it may have another dtype
        return super().__mlx_array__


class KeepingView(LayerView):
    """The view of 1 - p in a dropout layer of MLX.

    The mask needs it in float32, and 1 / (1 - p) has the dtype of the layer's input.
    """

    @property
    def own_dtype(self) -> mx.Dtype:  # type: ignore[override] # it may change
        """The dtype of the input of the layer that is running, or of the model."""
        return dtype_of_input(CALLS) or super().own_dtype

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the array that MLX gets."""
        return mx.float32


class LayerViews:
    """Views that replace the scalars in the layers of some models until ``unlink`` is called.

    A Python float takes the dtype of the array that it is combined with, but MLX converts a
    scalar to an array without passing that dtype. If the model has one floating dtype, the view
    uses it. Otherwise it uses the dtype of the module that holds the scalar.
    """

    def __init__(self, models: Iterable[nn.Module] = ()) -> None:
        self._changes: list[tuple[Any, Any, Any, Any]] = []
        for model in models:
            whole = FloatingDtype(model)
            for module in model.modules():  # type: ignore[no-untyped-call]
                self._add(module, whole)

    def _add(self, module: nn.Module, whole: FloatingDtype) -> None:
        near = FloatingDtype(module) if whole.now is None else whole
        for container in (vars(module), module):
            for inside, key, value in _places(container):
                scalar = replaced(value, viewed)
                keeps = key == KEEPING and isinstance(module, DROPOUTS)
                if keeps or near.now is not None:
                    kind = KeepingView if keeps else LayerView
                    view = partial(_view, kind=kind, near=near, whole=whole)
                    self._changes.append((inside, key, scalar, replaced(scalar, view)))

    def link(self) -> None:
        """Replace the scalars by the views."""
        for container, key, _, view in self._changes:
            container[key] = view

    def unlink(self) -> None:
        """Put the scalars back, except where another value was assigned since."""
        for container, key, scalar, view in self._changes:
            if _at(container, key) is view:
                container[key] = scalar


def _places(container: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield container, key and value of each place with scalars, also in nested containers.

    The value is a scalar, or a tuple that contains scalars.
    """
    items = enumerate(container) if isinstance(container, list) else container.items()
    for key, value in list(items):
        scalars = isinstance(value, tuple) and any(within("", value))
        if scalars or isinstance(value, ScheduledScalar):
            yield container, key, value
        elif isinstance(value, (list, dict)) and not isinstance(value, nn.Module):
            yield from _places(value)
        elif (fields := record(value)) is not None:
            yield from _places(fields)


def _at(container: Any, key: Any) -> Any:
    if isinstance(container, list):
        return container[key] if key < len(container) else None
    return container.get(key)


def _view(
    scalar: ScheduledScalar, kind: type[LayerView], near: FloatingDtype, whole: FloatingDtype
) -> ScheduledScalar:
    return scalar if scalar.own_dtype is not None else kind(scalar, near, whole)
