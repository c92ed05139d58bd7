"""``attach``, which puts scalars into the state of an optimizer, and ``detach``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any, cast

import mlx.nn as nn
from mlx.optimizers import Optimizer

from .. import checks
from ..number.scalar import ScheduledScalar
from ..training.group import ScalarGroup
from ..training.horizon import Horizon, check_horizon
from .attached import AttachedOptimizer, to_the_end
from .attachment import Attachment
from .discover import in_model, in_optimizer, members


def attach(
    optimizer: Optimizer,
    model: nn.Module | None = None,
    horizon: Horizon | None = None,
    **others: ScheduledScalar,
) -> ScalarGroup:
    """Store every scalar of an optimizer, a model and a loss in the optimizer's state.

    Afterwards a compiled step that captures ``optimizer.state`` uses the current values, a
    saved ``optimizer.state`` contains the progress, and every parameter is updated exactly
    as with Python floats, whatever its dtype. The forward pass and the update of a step use
    the values of the same progress.

    Calling ``attach`` again adds new scalars. A new ``horizon``, such as
    ``horizon.extend(...)``, takes effect at the next step, also in steps that are compiled
    already. A state may be loaded into the optimizer before or after ``attach``; in both
    cases the scalars continue from their saved progress.

    If all parameters of the model have the same floating dtype, the scalars in its layers
    give arrays of that dtype, as Python floats do. Otherwise they use the floating dtype of
    the module that holds the scalar, if its parameters have a single one.

    Args:
        optimizer: An MLX optimizer. All of its scalars are found, also in lists such as
            ``betas`` and in the members of a ``MultiOptimizer``.
        model: A model whose layers may have scalars, such as a dropout rate.
            Default: ``None``.
        horizon: The length of the run, at most 10,000,000 steps. With it, the progress follows
            the optimizer's own step: the loop calls no ``update``, and ``float(lr)`` is the
            value at the next step. A compiled step looks the values up in a table of all
            steps, which is computed once. Adaptive scalars still observe metrics.
            Default: ``None``.
        others: Scalars of the loss, by name.

    Returns:
        A group of all scalars, named by where they were found (``learning_rate``,
        ``betas.0``, ``layers.2.p``) and by the names of ``others``. Later calls return the
        same group with the new scalars added, so subscriptions to it stay valid.

    Raises:
        TypeError: ``optimizer``, ``model``, ``horizon`` or one of ``others`` is of the
            wrong type.
        ValueError: There are no scalars, a name is already used by another scalar or in the
            state, or the state was saved with other scalars. With a horizon, a scalar already
            follows another optimizer, or there are too many steps.

    Example:
        >>> import mlx.core as mx
        >>> import mlx.optimizers as optim
        >>> from scalars import CosineAnnealing, Linear, attach
        >>> optimizer = optim.AdamW(CosineAnnealing(0.1), weight_decay=Linear(0.0, 0.5))
        >>> group = attach(optimizer, aux=Linear(1.0, 0.0))
        >>> group.update(0.5).snapshot()
        {'learning_rate': 0.05, 'weight_decay': 0.25, 'aux': 0.5}
        >>> sorted(optimizer.state["scalars"])
        ['aux', 'learning_rate', 'weight_decay']
    """
    _check_types(optimizer, model, horizon)
    before = cast("Attachment | None", getattr(optimizer, "_attachment", None))
    for member in members(optimizer):
        if getattr(member, "_attachment", before) is not before:
            way_out = (
                "Call detach(member) first, then attach the optimizer that holds it; or make a "
                "member anew for each of two optimizers that would share it."
            )
            rule = "made of members that are not attached by another call"
            checks.fail("the optimizer", rule, type(member).__name__, way_out)
    attached: Mapping[str, ScheduledScalar] = {}
    if before is not None:
        before.relink()
        _check_again(before, optimizer)
        attached = before.group
        horizon = horizon or before.horizon
    models = _with(() if before is None else before.models, model)
    found = [*in_optimizer(optimizer), *[one for each in models for one in in_model(each)]]
    named = _each_once([*attached.items(), *found], others)
    if not named:
        name = type(optimizer).__name__
        way_out = "Pass it one, or name the scalars of the loss: attach(optimizer, aux=aux)."
        checks.fail("the optimizer", "given a scheduled scalar", name, way_out)
    group = ScalarGroup(named)
    if before is not None and _same(before, named, horizon, models):
        before.renew_views()
        return before.group
    attachment = Attachment(optimizer, group, horizon, models)
    attachment.prepare(attachment.check(before))
    to_the_end(lambda: _replace(before, attachment, group))
    return attachment.group.changed()


def _replace(before: Attachment | None, attachment: Attachment, group: ScalarGroup) -> None:
    """Link the scalars, in place of what an earlier call has linked."""
    if before is not None and not attachment.begun:
        before.unlink()
        attachment.group = before.group.become(group)
    attachment.link()


def detach(optimizer: Optimizer) -> None:
    """Remove the scalars from the optimizer's state, which undoes ``attach``.

    The optimizer keeps using the scalars, and their progress does not change.

    Args:
        optimizer: An optimizer that scalars were attached to.

    Raises:
        TypeError: ``optimizer`` is not an MLX optimizer.
        ValueError: No scalars are attached to it.

    Example:
        >>> import mlx.optimizers as optim
        >>> from scalars import Linear, attach, detach
        >>> optimizer = optim.SGD(Linear(0.1, 0.0))
        >>> group = attach(optimizer)
        >>> detach(optimizer)
        >>> "scalars" in optimizer.state
        False
    """
    _check_types(optimizer, None, None)
    if not isinstance(optimizer, AttachedOptimizer):
        name = type(optimizer).__name__
        checks.fail("the optimizer", "attached", name, "Call attach(optimizer) first.")
    attachment: Attachment = optimizer._attachment
    attachment.relink()
    to_the_end(attachment.unlink)


def _each_once(
    found: list[tuple[str, ScheduledScalar]], others: Mapping[str, ScheduledScalar]
) -> dict[str, ScheduledScalar]:
    """Name each scalar once: by the user's name, or else by where it was found first."""
    name_of = {id(scalar): name for name, scalar in reversed([*others.items()])}
    taken = set(others)
    for name, scalar in found:
        if id(scalar) not in name_of:
            if name in others:
                rule = "a name that no other scalar has"
                checks.fail("a name given to attach", rule, name, "Choose another name.")
            numbered = (f"{name}_{i}" for i in count(2))  # a module may have "temp" and "_temp"
            free = name if name not in taken else next(n for n in numbered if n not in taken)
            name_of[id(scalar)] = free
            taken.add(free)
    named: dict[str, ScheduledScalar] = {}
    for _, scalar in [*found, *others.items()]:
        named[name_of[id(scalar)]] = scalar
    return named


def _same(
    before: Attachment,
    named: Mapping[str, ScheduledScalar],
    horizon: Horizon | None,
    models: tuple[nn.Module, ...],
) -> bool:
    group = before.group
    same = set(group) == set(named) and all(group[name] is named[name] for name in named)
    return same and horizon == before.horizon and len(models) == len(before.models)


def _with(models: tuple[nn.Module, ...], model: nn.Module | None) -> tuple[nn.Module, ...]:
    """Return models, and one more unless it is among them."""
    return models if model is None or any(model is one for one in models) else (*models, model)


def _check_types(optimizer: Any, model: Any, horizon: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        way_out = (
            "Pass an optimizer such as optim.AdamW(lr). For one that is not based on MLX's, update "
            "a ScalarGroup in the loop."
        )
        checks.fail("optimizer", "an MLX optimizer", optimizer, way_out, wrong_type=True)
    if not hasattr(optimizer, "_state"):
        name, rule = type(optimizer).__name__, "initialized by super().__init__()"
        checks.fail("optimizer", rule, name, "Call it in the __init__ of the class.")
    if model is not None and not isinstance(model, nn.Module):
        way_out = "Name what is no model: attach(optimizer, horizon=horizon, aux=aux)."
        checks.fail("model", "an mlx.nn.Module", model, way_out, wrong_type=True)
    if horizon is not None:
        check_horizon(horizon)


def _check_again(before: Attachment, optimizer: Optimizer) -> None:
    if before.optimizer is not optimizer:
        way_out = "Call attach with the MultiOptimizer."
        rule = "attached by itself, not as a member of a MultiOptimizer"
        checks.fail("the optimizer", rule, type(optimizer).__name__, way_out)
