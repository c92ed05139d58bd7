"""Views that give the scalars in a model's layers the model's dtype while attached."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .. import checks
from ..number.operations import VIEWS, Operation
from ..number.scalar import Expression, ScheduledScalar
from ..training.horizon import Horizon
from .discover import replaced, within

PROBABILITIES = {"_p_1": (nn.Dropout, nn.Dropout2d, nn.Dropout3d)}
"""Probabilities, which MLX needs in float32; results computed from them have the dtype."""


def check_probabilities(model: nn.Module, horizon: Horizon | None) -> None:
    """Check that the scheduled dropout rates of a model are in [0, 1) at every step."""
    last = 1.0 if horizon is None else horizon.progress(horizon.total_steps - 1)
    for path, module in model.named_modules():  # type: ignore[no-untyped-call]
        for key, kinds in PROBABILITIES.items():
            kept = vars(module).get(key) if isinstance(module, kinds) else None
            if isinstance(kept, ScheduledScalar):
                values = [1 - kept.value_at(min(knot, last)) for knot in kept.knots]
                rates = min(values), max(values)
                if rates[0] < -1e-9 or rates[1] >= 1:  # an expression may be just below 0
                    way_out = "Choose a schedule whose values are in this range."
                    name = f"the range of p in {path or 'the layer'}"
                    checks.fail(name, "from 0 to below 1", rates, way_out)


class FloatingDtype:
    """The floating dtype of a module's parameters, if there is just one.

    It is looked for again when the first of these parameters has another dtype, as after
    ``model.set_dtype``.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._first: tuple[Any, Any] | None = None
        self._dtype: mx.Dtype | None = None
        self._look()

    @property
    def now(self) -> mx.Dtype | None:
        """The dtype, or ``None`` if there is no single one."""
        if self._first is not None:
            container, key = self._first
            if container[key].dtype != self._dtype:
                self._look()
        return self._dtype

    def _look(self) -> None:
        places = list(_floating(self._module))
        dtypes = {container[key].dtype for container, key in places}
        self._dtype = dtypes.pop() if len(dtypes) == 1 else None
        self._first = places[0] if self._dtype is not None else None


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

    def __init__(self, scalar: ScheduledScalar, model: FloatingDtype, wide: bool) -> None:
        self.operands = (scalar,)
        self._size = 1 + scalar._size
        self._model = model
        self._wide = wide

    @property
    def own_dtype(self) -> mx.Dtype:  # type: ignore[override] # it may change
        """The dtype of the model; float32 if its parameters differ since."""
        return self._model.now or mx.float32

    @property
    def operation(self) -> Operation:  # type: ignore[override] # as the dtype
        """The operation of a view of this dtype."""
        return VIEWS[str(self.own_dtype)]

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype that MLX sees, which is float32 for a wide view."""
        return mx.float32 if self._wide else self.own_dtype

    @property
    def __mlx_array__(self) -> mx.array:
        """The current value for MLX."""
        self.__dict__.pop("_last", None)  # it may have another dtype
        return super().__mlx_array__


class LayerViews:
    """Views that replace the scalars in the layers of a model until ``unlink`` is called.

    A Python float takes the dtype of the array that it is combined with, but MLX converts a
    scalar to an array without passing that dtype. If the model has one floating dtype, the view
    uses it. Otherwise it uses the dtype of the module that holds the scalar.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._changes: list[tuple[Any, Any, Any, Any]] = []
        whole = None if model is None else FloatingDtype(model)
        for module in [] if model is None else model.modules():  # type: ignore[no-untyped-call]
            dtype = whole if whole and whole.now else FloatingDtype(module)
            wide = {name for name, kinds in PROBABILITIES.items() if isinstance(module, kinds)}
            for container in (vars(module), module):
                for inside, key, value in _places(container):
                    scalar = replaced(value, _unwrapped)
                    if dtype.now is not None:
                        view = partial(_view, model=dtype, wide=key in wide)
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
    """Yield container, key and value of each place with scalars, also in nested lists and dicts.

    The value is a scalar, or a tuple that contains scalars.
    """
    items = enumerate(container) if isinstance(container, list) else container.items()
    for key, value in list(items):
        scalars = isinstance(value, tuple) and any(within("", value))
        if scalars or isinstance(value, ScheduledScalar):
            yield container, key, value
        elif isinstance(value, (list, dict)) and not isinstance(value, nn.Module):
            yield from _places(value)


def _at(container: Any, key: Any) -> Any:
    if isinstance(container, list):
        return container[key] if key < len(container) else None
    return container.get(key)


def _view(scalar: ScheduledScalar, model: FloatingDtype, wide: bool) -> ScheduledScalar:
    return scalar if scalar.own_dtype is not None else LayerView(scalar, model, wide)


def _unwrapped(scalar: ScheduledScalar) -> ScheduledScalar:
    return scalar.operands[0] if isinstance(scalar, LayerView) else scalar
