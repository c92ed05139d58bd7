"""The class of an optimizer while scalars are attached to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import mlx.nn as nn
from mlx.optimizers import MultiOptimizer, Optimizer
from mlx.utils import tree_map

from .. import checks
from ..number.together import load_all
from . import words
from .discover import PRIVATE, members, own_class, rates, within

KEY = "scalars"


def to_the_end(call: Callable[[], object]) -> None:
    """Call, and after an interrupt once more, as the call then does the rest."""
    try:
        call()
    except BaseException:
        call()
        raise


def _between_updates(method: Callable[..., Any]) -> Callable[..., Any]:
    """Call the optimizer's own method in place of one that was bound before the update."""

    @wraps(method)
    def called(self: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(self, AttachedOptimizer):
            return method(self, *arguments, **named)
        return getattr(type(self), method.__name__)(self, *arguments, **named)

    return called


class AttachedOptimizer(Optimizer):
    """The class that an optimizer's object has while scalars are attached to it, between updates.

    During an update it has its own class. See ``lending.py``.
    """

    _attachment: Any
    """Its ``Attachment``."""
    _plain: type[Optimizer]

    def __init_subclass__(cls) -> None:
        """Do not tell the optimizer's own class, which may keep a list of its subclasses."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        """Make an optimizer that is not attached, if code calls the class of one that is."""
        return cls._plain(*arguments, **named)

    @_between_updates
    def init(self, *arguments: Any, **named: Any) -> Any:
        """Initialize the state, in which the key of the scalars must be unused."""
        if any(isinstance(one, dict) and KEY in one for one in (*arguments, *named.values())):
            refuse_parameter()

        def call() -> Any:
            return type(self).init(self, *arguments, **named)  # of its own class

        return self._attachment.init(self, arguments, call)

    @_between_updates
    def apply_gradients(self, *arguments: Any, **named: Any) -> Any:
        """Apply gradients with the values of this step."""
        gradients = named.get("gradients", arguments[0] if arguments else None)

        def call() -> Any:
            return type(self).apply_gradients(self, *arguments, **named)  # of its own class

        return self._attachment.update(self, gradients, call)

    @_between_updates
    def update(self, *arguments: Any, **named: Any) -> Any:
        """Update a model with the values of this step."""
        model, gradients = [
            named.get(name, arguments[i] if i < len(arguments) else None)
            for i, name in enumerate(("model", "gradients"))
        ]
        link = self._attachment
        if isinstance(model, nn.Module):
            link.idle.check_layers(model, link.steps.traced)

        def call() -> Any:
            return type(self).update(self, *arguments, **named)  # of its own class

        return link.update(self, gradients, call)

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
            if any(name in rates(one) or name in kept[id(one)].names for one in of):
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
            link.emptied.empty(self)
            return
        inherited: Any = super(AttachedOptimizer, type(self)).state
        captured = self._state
        link.emptied.check_assigned(self, state)
        _check_state(self, state)
        if self is link.carrier:
            load_all(link.loadables(state))
            state = {**state, KEY: captured[KEY]}
        inherited.fset(self, state)
        if self._state is state:
            to_the_end(lambda: setattr(self, "_state", _put(state, captured)))
        link.emptied.refilled(self)
        link.counting.choose()
        link.group.loads += 1

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


def attached_class(optimizer: Any, attachment: Any) -> type:
    """Return the attached subclass of an optimizer's class."""
    plain = own_class(optimizer)
    own: dict[str, Any] = {"__module__": plain.__module__, "__doc__": plain.__doc__}
    own |= {"_plain": plain, "_attachment": attachment}
    return type(plain.__name__, (AttachedOptimizer, plain), own)


def refuse_parameter() -> None:
    """Raise ``ValueError`` because a parameter or an entry has the key of the scalars."""
    rule = f"free of a parameter named {KEY!r}, and of entries there that are no saved scalars"
    way_out = "Rename the parameter, or load the arrays as they were saved."
    checks.fail("the optimizer's state", rule, KEY, way_out)
