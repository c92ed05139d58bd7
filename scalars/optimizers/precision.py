"""Views that give the scalars in a model's layers the model's dtype while attached."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from .. import checks
from ..number.operations import VIEWS
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


class LayerView(Expression):
    """A view with which an attachment replaces a scalar in a layer."""

    def __init__(self, scalar: ScheduledScalar, dtype: mx.Dtype, wide: bool = False) -> None:
        super().__init__(VIEWS[str(dtype)], scalar)
        self._wide = wide

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype that MLX sees, which is float32 for a wide view."""
        return mx.float32 if self._wide else super().dtype


class LayerViews:
    """Views that replace the scalars in the layers of a model until ``unlink`` is called.

    A Python float takes the dtype of the array that it is combined with, but MLX converts a
    scalar to an array without passing that dtype. If the model has one floating dtype, the view
    uses it. Otherwise it uses the dtype of the module that holds the scalar.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._changes: list[tuple[Any, Any, Any, Any]] = []
        whole = None if model is None else floating_dtype(model)
        for module in [] if model is None else model.modules():  # type: ignore[no-untyped-call]
            dtype = whole or floating_dtype(module)
            wide = {name for name, kinds in PROBABILITIES.items() if isinstance(module, kinds)}
            for container in (vars(module), module):
                for inside, key, value in _places(container):
                    scalar = replaced(value, _unwrapped)
                    if dtype is not None and dtype != mx.float32:
                        view = partial(_view, dtype=dtype, wide=key in wide)
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


def floating_dtype(module: nn.Module) -> mx.Dtype | None:
    """Return the floating dtype of a module's parameters, or ``None`` unless there is just one."""
    parameters: Any = tree_flatten(module.parameters())  # type: ignore[no-untyped-call]
    dtypes = {array.dtype for _, array in parameters if mx.issubdtype(array.dtype, mx.floating)}
    return dtypes.pop() if len(dtypes) == 1 else None


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


def _view(scalar: ScheduledScalar, dtype: mx.Dtype, wide: bool) -> ScheduledScalar:
    return scalar if scalar.own_dtype is not None else LayerView(scalar, dtype, wide)


def _unwrapped(scalar: ScheduledScalar) -> ScheduledScalar:
    return scalar.operands[0] if isinstance(scalar, LayerView) else scalar
