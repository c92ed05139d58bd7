"""Scalars in the layers of a model give arrays of the model's dtype while they are attached."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..number.scalar import ScheduledScalar, View
from .discover import holders, replaced

PROBABILITIES = {"_p_1": (nn.Dropout, nn.Dropout2d, nn.Dropout3d)}
"""What MLX draws random numbers with, in float32; what is computed from it has the dtype."""


class LayerViews:
    """Views of the scalars in the layers of a model, put in their place until they are undone.

    A Python float beside an array takes the array's dtype. Of a scalar MLX asks for an array
    without saying what it is for; in a model of one floating dtype it has to be that one. In a
    model of several it is the dtype of the parameters of the module that holds the scalar.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._changes: list[tuple[nn.Module, str, Any, Any]] = []
        whole = None if model is None else floating_dtype(model)
        for _, module, name, value in holders(model):
            dtype = whole or floating_dtype(module)
            if dtype is not None and dtype != mx.float32:
                wide = isinstance(module, PROBABILITIES.get(name, ()))
                seen = replaced(value, lambda s, d=dtype, w=wide: _view(s, d, w))  # type: ignore[misc]
                if not _same(seen, value):
                    self._changes.append((module, name, value, seen))

    def link(self) -> None:
        """Put the views in place of the scalars."""
        for module, name, _, view in self._changes:
            _set(module, name, view)

    def unlink(self) -> None:
        """Put the scalars back, but for what has been assigned since."""
        for module, name, scalar, view in self._changes:
            if (module if name in module else vars(module)).get(name) is view:
                _set(module, name, scalar)


def floating_dtype(module: nn.Module) -> mx.Dtype | None:
    """Return the one floating dtype of a module's parameters, or ``None`` if there is none."""
    parameters: Any = tree_flatten(module.parameters())  # type: ignore[no-untyped-call]
    dtypes = {array.dtype for _, array in parameters if mx.issubdtype(array.dtype, mx.floating)}
    return dtypes.pop() if len(dtypes) == 1 else None


def _view(scalar: ScheduledScalar, dtype: mx.Dtype, wide: bool) -> ScheduledScalar:
    return scalar if scalar.own_dtype is not None else View(scalar, dtype, wide)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)):
        return all(map(_same, a, b))
    if isinstance(a, dict) and not isinstance(a, nn.Module):
        return all(_same(a[key], b[key]) for key in a)
    return a is b


def _set(module: nn.Module, name: str, value: Any) -> None:
    if name in module:
        module[name] = value
    else:
        vars(module)[name] = value
