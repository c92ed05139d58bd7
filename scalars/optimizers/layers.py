"""Optimizer settings that differ between the layers of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, overload

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import MultiOptimizer, Optimizer
from mlx.utils import tree_flatten, tree_unflatten

from .. import checks
from ..number.scalar import ScheduledScalar

Filter = str | int | Callable[[str, mx.array], bool]
Rule = tuple[Filter, Mapping[str, Any]]


def no_decay(path: str, array: mx.array) -> bool:
    """Return whether a parameter should not be decayed: biases and the weights of norms.

    Args:
        path: The path of the parameter, which is not used.
        array: The parameter. The result is ``True`` if it has at most one dimension.

    Raises:
        TypeError: ``array`` is not an ``mx.array``.

    Example:
        >>> import mlx.core as mx
        >>> from scalars import no_decay
        >>> no_decay("norm.weight", mx.ones((8,))), no_decay("fc.weight", mx.ones((8, 8)))
        (True, False)
    """
    if not isinstance(array, mx.array):
        way_out = "Pass no_decay as a filter: (no_decay, {'weight_decay': 0.0})."
        checks.fail("array", "a parameter, an mx.array", array, way_out, wrong_type=True)
    return array.ndim < 2


@overload
def layer_scales(
    model: nn.Module, lr: ScheduledScalar, decay: float = 2.6
) -> dict[str, ScheduledScalar]: ...
@overload
def layer_scales(model: nn.Module, lr: float, decay: float = 2.6) -> dict[str, float]: ...
def layer_scales(model: nn.Module, lr: Any, decay: float = 2.6) -> dict[str, Any]:
    r"""Return a learning rate for each layer, which falls from the last layer to the first [1].

    .. math:: r_d = \frac{r}{decay^d}, \quad d = 0 \text{ in the last layer}

    A layer is an item in a list of modules, such as ``layers.3``, or else a module with
    parameters. Layers are in the order in which the model defines them. If ``lr`` is a
    scalar, the rates are expressions of it and change with it.

    Args:
        model: The model. Only trainable parameters count.
        lr: The rate r of the last layer, a scalar or a number.
        decay: The factor by which a layer's rate is smaller than that of the next layer, above
            0. timm's ``layer_decay=0.8`` is ``decay=1 / 0.8``. Default: ``2.6``.

    Raises:
        ValueError: ``decay`` is not above 0, or the model has no trainable parameters.
        TypeError: An argument is of the wrong type.

    Example:
        >>> import mlx.nn as nn
        >>> from scalars import Constant, layer_scales
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
        >>> rates = layer_scales(model, Constant(0.26))
        >>> {path: round(float(rate), 3) for path, rate in rates.items()}
        {'layers.0': 0.1, 'layers.2': 0.26}

    [1]: Howard, J. and Ruder, S., 2018. Universal language model fine-tuning for text
    classification. ACL 2018.
    """
    if not isinstance(lr, ScheduledScalar):
        checks.real("lr", lr)
    checks.positive("decay", decay)
    paths = layers_of(model)
    depths = range(len(paths) - 1, -1, -1)
    return {path: lr / decay**d if d else lr for path, d in zip(paths, depths, strict=True)}


def layer_optimizer(
    make: Callable[..., Optimizer],
    model: nn.Module,
    rules: Sequence[Rule] = (),
    **settings: Any,
) -> MultiOptimizer:
    """Make an optimizer whose settings differ between groups of parameters.

    Every parameter starts with ``settings``, and each matching rule overrides some of them,
    in order. Parameters with the same settings share an optimizer.

    Args:
        make: An optimizer class, such as ``optim.AdamW``.
        model: The model whose parameters are grouped.
        rules: Pairs of a filter and a dict of settings. A filter is a path such as
            ``"layers.0"``, a pattern such as ``"*.bias"``, the index of a layer (negative
            indices count from the last layer), or a function of the path and the array, such
            as ``no_decay``. Default: ``()``.
        settings: The arguments of ``make``. A dict gives one value for each layer, such as
            the result of ``layer_scales``.

    Returns:
        A ``MultiOptimizer``, which ``attach`` accepts.

    Raises:
        ValueError: A rule matches no parameter, or a dict lacks a layer.
        TypeError: An argument is of the wrong type.

    Example:
        >>> import mlx.nn as nn
        >>> import mlx.optimizers as optim
        >>> from scalars import CosineAnnealing, attach, layer_optimizer, layer_scales, no_decay
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
        >>> lr = CosineAnnealing(0.1)
        >>> optimizer = layer_optimizer(
        ...     optim.AdamW, model, [(no_decay, {"weight_decay": 0.0})],
        ...     learning_rate=layer_scales(model, lr), weight_decay=0.01,
        ... )
        >>> len(optimizer.optimizers)  # two layers, each with and without decay
        4
        >>> group = attach(optimizer).update(0.5)
        >>> float(lr)
        0.05
    """
    if not callable(make):
        way_out = "Pass a class such as optim.AdamW."
        checks.fail("make", "an optimizer class", make, way_out, wrong_type=True)
    layers = layers_of(model)
    known = [_checked(i, rule, layers) for i, rule in enumerate(checks.sequence("rules", rules))]
    groups: dict[Any, tuple[dict[str, Any], set[str]]] = {}
    matched: set[int] = set()
    for path, array in _parameters(model):
        own = {name: _of_layer(name, value, path) for name, value in settings.items()}
        for i, (which, changes) in enumerate(known):
            if _matches(which, path, array, layers):
                matched.add(i)
                own.update(changes)
        key = tuple(sorted((name, _identity(value)) for name, value in own.items()))
        groups.setdefault(key, (own, set()))[1].add(path)
    for i, (which, _) in enumerate(known):
        if i not in matched:
            way_out = f"Use one of the layers {', '.join(layers)}."
            checks.fail(f"rule {i}", "one that matches a parameter", which, way_out)
    # The optimizer with the most parameters also gets those that are added to the model later.
    *others, last = sorted(groups.values(), key=lambda group: len(group[1]))
    filters = [lambda path, _, paths=paths: path in paths for _, paths in others]
    return _LayerOptimizer([make(**own) for own, _ in (*others, last)], filters)


class _LayerOptimizer(MultiOptimizer):
    """A ``MultiOptimizer`` whose members may split a list of layers between them.

    MLX merges the trees of the members, which fails if a layer is missing in one of them and
    empty in another.
    """

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        """Apply each gradient with the optimizer of its group."""
        updated: dict[str, mx.array] = {}
        for optimizer, part in zip(self.optimizers, self._split_dictionary(gradients), strict=True):
            updated.update(tree_flatten(optimizer.apply_gradients(part, parameters)))
        return tree_unflatten(list(updated.items()))


def layers_of(model: nn.Module) -> list[str]:
    """Return the paths of the layers of a model, in the order in which they are defined."""
    return list(dict.fromkeys(_layer_of(path) for path, _ in _parameters(model)))


def _parameters(model: nn.Module) -> list[tuple[str, mx.array]]:
    if not isinstance(model, nn.Module):
        way_out = "Pass the trained model."
        checks.fail("model", "an mlx.nn.Module", model, way_out, wrong_type=True)
    parameters: Any = tree_flatten(model.trainable_parameters())  # type: ignore[no-untyped-call]
    if not parameters:
        checks.fail("model", "one with trainable parameters", model, "Call unfreeze() first.")
    return parameters  # type: ignore[no-any-return]


def _layer_of(path: str) -> str:
    """Return the path up to its first number, or without the parameter's name if it has none."""
    parts = path.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1] if numbers else parts[:-1] or parts)


def _of_layer(name: str, value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    layer = _layer_of(path)
    if layer not in value:
        way_out = "Pass the result of layer_scales for this model."
        checks.fail(name, f"given for the layer {layer!r}", sorted(value), way_out)
    return value[layer]


def _checked(i: int, rule: Any, layers: list[str]) -> Rule:
    if not isinstance(rule, (tuple, list)) or len(rule) != 2 or not isinstance(rule[1], Mapping):
        way_out = 'Write ("*.bias", {"weight_decay": 0.0}).'
        checks.fail(f"rule {i}", "a pair of a filter and settings", rule, way_out, wrong_type=True)
    which = rule[0]
    if isinstance(which, bool) or not (isinstance(which, (str, int)) or callable(which)):
        way_out = "Pass a path, an index, or a function of the path and the array."
        checks.fail(f"rule {i}", "for a path, an index or a function", which, way_out, True)
    if isinstance(which, int) and not -len(layers) <= which < len(layers):
        rule_text = f"of an index from {-len(layers)} to {len(layers) - 1}"
        checks.fail(f"rule {i}", rule_text, which, f"Choose from the layers {', '.join(layers)}.")
    return which, rule[1]


def _matches(which: Filter, path: str, array: mx.array, layers: list[str]) -> bool:
    if isinstance(which, int):
        return _layer_of(path) == layers[which]
    if isinstance(which, str):
        return path == which or path.startswith(f"{which}.") or fnmatchcase(path, which)
    return bool(which(path, array))


def _identity(value: Any) -> Any:
    """Return a key that identifies a setting: numbers and texts by value, others by identity."""
    return (
        ("value", repr(value)) if isinstance(value, (int, float, str)) else ("id", str(id(value)))
    )
