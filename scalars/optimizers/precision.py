"""Scalars in the layers of a model give arrays of the model's dtype while they are attached."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..number.scalar import ScheduledScalar, View
from .discover import replaced, within

PROBABILITIES = {"_p_1": (nn.Dropout, nn.Dropout2d, nn.Dropout3d)}
"""What MLX draws random numbers with, in float32; what is computed from it has the dtype."""


class LayerView(View):
    """A view that an attachment has put in the place of a scalar."""

    def __init__(self, scalar: ScheduledScalar, dtype: mx.Dtype, wide: bool = False) -> None:
        super().__init__(scalar, dtype)
        self._wide = wide

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype that MLX sees; a wide view gives it only to what is computed from it."""
        return mx.float32 if self._wide else self.own_dtype


class LayerViews:
    """Views of the scalars in the layers of a model, put in their place until they are undone.

    A Python float beside an array takes the array's dtype. Of a scalar MLX asks for an array
    without saying what it is for; in a model of one floating dtype it has to be that one. In a
    model of several it is the dtype of the parameters of the module that holds the scalar.
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
        """Put the views in place of the scalars."""
        for container, key, _, view in self._changes:
            container[key] = view

    def unlink(self) -> None:
        """Put the scalars back, but for what has been assigned since."""
        for container, key, scalar, view in self._changes:
            if _at(container, key) is view:
                container[key] = scalar


def floating_dtype(module: nn.Module) -> mx.Dtype | None:
    """Return the one floating dtype of a module's parameters, or ``None`` if there is none."""
    parameters: Any = tree_flatten(module.parameters())  # type: ignore[no-untyped-call]
    dtypes = {array.dtype for _, array in parameters if mx.issubdtype(array.dtype, mx.floating)}
    return dtypes.pop() if len(dtypes) == 1 else None


def _places(container: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield where scalars are, in lists and dicts too: container, key and what is there.

    What is there is a scalar, or a tuple with scalars in it.
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
    return scalar.scalar if isinstance(scalar, LayerView) else scalar
