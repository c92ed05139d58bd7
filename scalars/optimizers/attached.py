"""The class of an optimizer while scalars are attached to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.nn as nn
from mlx.optimizers import MultiOptimizer, Optimizer
from mlx.utils import tree_map

from .. import checks
from ..number.together import load_all
from . import words
from .discover import PRIVATE, members, rates, within

KEY = "scalars"


class AttachedOptimizer(Optimizer):
    """The class that an optimizer's object has while scalars are attached to it."""

    _attachment: Any
    """Its ``Attachment``."""
    _plain: type[Optimizer]

    def init(self, parameters: dict[str, Any], *more: Any, **named: Any) -> Any:
        """Initialize the state, in which the key of the scalars must be unused."""
        if KEY in parameters:
            refuse_parameter()
        return super().init(parameters, *more, **named)

    def apply_gradients(self, gradients: Any, parameters: Any, *more: Any, **named: Any) -> Any:
        """Apply the gradients with the values of this step."""

        def apply(twin: Any) -> Any:
            return twin.apply_gradients(gradients, parameters, *more, **named)

        return self._attachment.update(self, gradients, apply)

    def update(self, model: nn.Module, gradients: Any, *more: Any, **named: Any) -> Any:
        """Update a model with the values of this step."""

        def update(twin: Any) -> Any:
            return twin.update(model, gradients, *more, **named)

        link = self._attachment
        link.idle.check_layers(model, link.steps.traced)
        return link.update(self, gradients, update)

    @contextmanager
    def _as_one(self) -> Iterator[None]:
        """Call the callbacks only after the block, in which a loss scale may skip the step."""
        link = self._attachment
        traced, waiting = link.steps.traced, link.as_one
        link.as_one = True
        try:
            yield
        finally:
            link.as_one = waiting
        if not waiting and link.horizon is not None and not traced:
            link.group.notify()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a scheduled attribute cannot be set while attached."""
        if name not in PRIVATE:
            kept = self._attachment.kept
            of = members(self) if name == "learning_rate" else [self]
            of = [one for one in of if id(one) in kept]  # others were added since
            if any(name in rates(one) or name in kept[id(one)].scheduled for one in of):
                checks.fail(
                    f"optimizer.{name}", "left to its schedule while attached", value, words.AGAIN
                )
            if any(within(name, value)):
                checks.fail(f"optimizer.{name}", "a number while attached", value, words.AGAIN)
        super().__setattr__(name, value)

    @property
    def state(self) -> Any:
        """The state of the optimizer, which includes the scalars."""
        self._attachment.idle.look()
        return super().state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        link = self._attachment
        if state in ({}, []) and not isinstance(self, MultiOptimizer):
            link.empty(self)
            return
        inherited: Any = super(AttachedOptimizer, type(self)).state
        captured = self._state
        _check_state(self, state)
        if self is link.carrier:
            load_all(link.loadables(state))
            state = {**state, KEY: captured[KEY]}
        inherited.fset(self, state)
        if self._state is state:
            try:
                self._state = _put(state, captured)
            except BaseException:  # complete the assignment after an interrupt
                self._state = _put(state, captured)
                raise
        link.emptied.discard(id(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Raise ``TypeError``: the scalars of a copy would not be linked to its state."""
        raise TypeError(
            "an optimizer with scalars attached cannot be copied or pickled. Call "
            "detach(optimizer) first, or save optimizer.state."
        )


def _check_state(optimizer: Any, state: Any) -> None:
    """Check the containers of a state that is assigned, before a part of it is."""
    way_out = "Assign what optimizer.state was when it was saved."
    several = isinstance(optimizer, MultiOptimizer)
    needed = "states" if several else "step"
    if not isinstance(state, dict):
        checks.fail("optimizer.state", "a dict", state, way_out, wrong_type=True)
    # Another optimizer that holds optimizers has no step of its own.
    if needed not in state and (several or needed in optimizer._state):
        checks.fail("optimizer.state", f"a state with {needed!r}", sorted(state), way_out)
    if several:
        for member, part in zip(optimizer.optimizers, state["states"], strict=False):
            _check_state(member, part)


def _put(new: Any, captured: Any) -> Any:
    """Put a tree into the containers of another one, so that compiled functions see it.

    Keys keep their order, by which MLX before 0.32 identifies the arrays of a captured dict. The
    containers of the new tree are copied, so that later steps do not change it.
    """
    if isinstance(new, dict) and isinstance(captured, dict):
        for key in [key for key in captured if key not in new]:
            del captured[key]
        captured.update({key: _put(value, captured.get(key)) for key, value in new.items()})
        return captured
    if isinstance(new, list) and isinstance(captured, list):
        before = [*captured, *new[len(captured) :]]
        captured[:] = [_put(value, old) for value, old in zip(new, before, strict=False)]
        return captured
    return tree_map(lambda leaf: leaf, new)


def become_attached(member: Any, attachment: Any) -> None:
    """Change the class of an optimizer to its attached subclass."""
    plain = type(member)
    names = {"__module__": plain.__module__, "__doc__": plain.__doc__, "_plain": plain}
    member.__class__ = type(plain.__name__, (AttachedOptimizer, plain), names)
    member._attachment = attachment


def become_plain(member: Any) -> None:
    """Change the class of an optimizer back to its own."""
    member.__class__ = member._plain
    del member._attachment


def refuse_parameter() -> None:
    """Raise ``ValueError`` because a parameter or an entry has the key of the scalars."""
    rule = f"free of a parameter named {KEY!r}, and of entries there that are no saved scalars"
    way_out = "Rename the parameter, or load the arrays as they were saved."
    checks.fail("the optimizer's state", rule, KEY, way_out)
