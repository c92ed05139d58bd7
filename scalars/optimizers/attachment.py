"""Scalars ride in the state of an optimizer: how.

A compiled step captures ``optimizer.state``, and a checkpoint saves it. An attachment puts
the state of every scalar there, under the key ``scalars``; so compiled steps see them and
checkpoints hold them. It gives the optimizer's object a subclass of its class,
``AttachedOptimizer``, which does three things more: while it updates a parameter, scalars
give arrays of that parameter's dtype; a state that is assigned is linked to the scalars;
and while it counts the step, scalars that follow the step keep the one being made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Adafactor, MultiOptimizer, Optimizer

from ..number import checks, mlx_protocol
from ..number.cell import Clock
from ..number.leaf import Leaf
from ..number.scalar import ScheduledScalar, listeners_of
from ..training.group import ScalarGroup
from ..training.horizon import Horizon
from .discover import members

KEY = "scalars"


RIDING = {"count", "memory"}
Saved = Mapping[str, Mapping[str, Any]]
"""What ``state_dict`` of each scalar was when the optimizer's state was saved."""


@dataclass(eq=False)
class Attachment:
    """What ``attach`` has linked: an optimizer, its members, and a group of scalars."""

    optimizer: Optimizer
    group: ScalarGroup
    horizon: Horizon | None
    model: nn.Module | None
    clock: Clock | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.members = list(members(self.optimizer))
        # The state of a MultiOptimizer is made of those of its members: the first carries.
        self.carrier = next(o for o in self.members if not isinstance(o, MultiOptimizer))
        self.leaves: dict[str, Leaf] = {}
        for name, scalar in self.group.items():
            for i, leaf in enumerate(scalar.leaves):
                # tree_unflatten takes a name apart at its dots.
                key = (name if len(scalar.leaves) == 1 else f"{name}.{i}").replace(".", "/")
                if all(leaf is not known for known in self.leaves.values()):
                    self.leaves[key] = leaf
        listeners = listeners_of(self.leaves.values())
        self.listeners = {f"observed_{i}": one for i, one in enumerate(listeners)}
        if self.horizon is not None:
            self.clock = Clock(lambda: self.carrier.state["step"], self.horizon.progress)

    def check(self, before: Attachment | None) -> Saved:
        """Check that all can be linked; return where the scalars are in the state."""
        if self.model is not None and KEY in self.model:
            self.refuse_parameter()
        known = () if before is None else tuple(before.leaves.values())
        for name, leaf in self.leaves.items():
            if all(leaf is not other for other in known):
                cell = leaf._cell
                if cell.clock is not None or (self.clock is not None and cell.savers):
                    rule = "a scalar that no other optimizer drives or saves, with a horizon"
                    way_out = "detach() it there, or attach both without a horizon."
                    checks.fail(name, rule, leaf, way_out)
            if self.clock is not None:
                if leaf.on_device:
                    rule = "a scalar that can follow from the step, with a horizon"
                    way_out = "Leave it out, and capture its state beside that of the optimizer."
                    checks.fail(name, rule, leaf, way_out)
                mlx_protocol.refuse_untraceable(leaf.at, repr(leaf))
        if before is not None:
            return {}
        saved = self.saved_in(self.carrier.state)
        if not saved and self.clock is None:
            self.refuse_restart()
        return saved

    def refuse_restart(self) -> None:
        """Raise if the optimizer is under way, and the scalars know nothing of it."""
        if not (step := self.carrier.step.item()):
            return
        fresh = [name for name, leaf in self.leaves.items() if leaf._cell.fresh and leaf.changes]
        if fresh:
            rule = f"told how far the run is, as the optimizer has made {step} steps"
            way_out = (
                "Load a state that was saved with the scalars, or update(progress) them first."
            )
            checks.fail(", ".join(fresh), rule, "progress 0.0", way_out)

    def link(self, saved: Saved) -> None:
        """Give the optimizers their class, and put the scalars into the state."""
        for member in self.members:
            _become(member, self)
        for leaf in self.leaves.values():
            leaf._cell.follow(self.clock)
        if self.clock is None:
            states = {name: leaf._cell.save_progress() for name, leaf in self.leaves.items()}
            self.put(saved, states)
        elif self.listeners:
            self.put(saved, {name: one.ride() for name, one in self.listeners.items()})

    def saved_in(self, state: Mapping[str, Any]) -> Saved:
        """Return where the scalars are in a state, checked to be ours."""
        if KEY not in state:
            return {}
        saved = state[KEY]
        shaped = isinstance(saved, dict) and all(
            isinstance(entry, dict)
            and ({"value", "progress"} <= set(entry) or set(entry) == RIDING)
            for entry in saved.values()
        )
        if not shaped:
            self.refuse_parameter()
        if self.clock is not None:
            return self.remembered_in(saved)
        if set(saved) != set(self.leaves):
            rule = f"the scalars of this optimizer, {sorted(self.leaves)}"
            way_out = "Attach the scalars that it was saved with."
            checks.fail(f"the state's {KEY!r}", rule, sorted(saved), way_out)
        for name, leaf in self.leaves.items():
            if set(saved[name]) != leaf._cell.saved:
                rule = f"saved from a scalar such as {leaf!r}, with {sorted(leaf._cell.saved)}"
                way_out = "Attach the scalars that it was saved with."
                checks.fail(f"{name} in the state", rule, sorted(saved[name]), way_out)
        return {name: leaf.saved_state(saved[name]) for name, leaf in self.leaves.items()}

    def remembered_in(self, saved: Mapping[str, Any]) -> Saved:
        """Return what scalars that follow the step have observed."""
        fits = set(saved) == set(self.listeners)
        if not fits or any(set(entry) != RIDING for entry in saved.values()):
            rule = "without scalars, which follow the step here, but for what they observed"
            way_out = "Attach without a horizon to go on with it, or remove the key."
            checks.fail(f"the state's {KEY!r}", rule, sorted(saved), way_out)
        numbers = {name: mlx_protocol.numbers_of(saved[name]["memory"]) for name in saved}
        return {name: one.memory_of(iter(numbers[name])) for name, one in self.listeners.items()}

    def refuse_parameter(self) -> None:
        """Raise because the key of the state is that of a parameter."""
        rule = f"free of a parameter or an entry named {KEY!r}"
        way_out = "Rename it: the scalars ride in the state under that name."
        checks.fail("the optimizer's state", rule, KEY, way_out)

    def put(self, saved: Saved, states: Mapping[str, dict[str, mx.array]]) -> None:
        """Put the scalars' own states into the carrier's, where they were when saved."""
        for name, state in saved.items():
            if self.clock is None:
                self.leaves[name].load_state_dict(state)
            else:
                self.listeners[name].remember(state)
        self.carrier.state[KEY] = dict(states)

    def unlink(self) -> None:
        """Undo ``link``."""
        for leaf in self.leaves.values():
            progress = leaf.progress
            if self.clock is None:
                leaf._cell.forget_progress()
            leaf._cell.follow(None)
            leaf.update(progress)
        for listener in self.listeners.values():
            listener.in_graph.clear()
        self.carrier.state.pop(KEY, None)
        for member in self.members:
            _become(member, None)


class AttachedOptimizer(Optimizer):
    """What an optimizer does more while scalars are attached to it."""

    _attachment: Attachment

    def init(self, parameters: dict[str, Any]) -> None:
        """Initialize the state, in which the name of the scalars must be free."""
        if KEY in parameters:
            self._attachment.refuse_parameter()
        super().init(parameters)

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        """Apply the gradients; scalars keep the step being made while it is counted."""
        if self._attachment.clock is None:
            return super().apply_gradients(gradients, parameters)
        with self._attachment.clock.held():
            return super().apply_gradients(gradients, parameters)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Any) -> Any:
        """Update a parameter; scalars give arrays of its dtype."""
        before = mlx_protocol.give_arrays_of(gradient.dtype)
        try:
            return super().apply_single(gradient, parameter, state)
        finally:
            mlx_protocol.give_arrays_of(before)

    @property
    def state(self) -> Any:
        """The state of the optimizer, with that of the scalars in it."""
        return super().state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        attachment = self._attachment
        inherited: Any = super(AttachedOptimizer, type(self)).state
        if self is not attachment.carrier:
            inherited.fset(self, state)
            return
        rides = attachment.clock is None or attachment.listeners
        if rides and KEY not in state:
            rule = f"a state that holds the scalars, under {KEY!r}"
            way_out = "Save it while they are attached; or detach() before loading it."
            checks.fail("optimizer.state", rule, sorted(state), way_out)
        saved = attachment.saved_in(state)
        states = self.state.get(KEY)
        inherited.fset(self, state)
        if rides:
            attachment.put(saved, states)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be copied or pickled: the copy's scalars would be linked to nothing."""
        raise TypeError(
            "an optimizer with scalars attached cannot be copied or pickled; detach(optimizer) "
            "first, or save optimizer.state"
        )


class AttachedAdafactor(AttachedOptimizer):
    """Adafactor raises an integer step to ``decay_rate``: a Python float gives float32 there.

    So does the scalar, whatever the dtype of the gradient.
    """

    @property
    def decay_rate(self) -> Any:
        """The decay rate, as a float32 view if it is a scalar."""
        rate = self.__dict__["decay_rate"]
        weak = isinstance(rate, ScheduledScalar) and rate.own_dtype is None
        return rate.astype(mx.float32) if weak else rate

    @decay_rate.setter
    def decay_rate(self, rate: Any) -> None:
        self.__dict__["decay_rate"] = rate


def _become(member: Any, attachment: Attachment | None) -> None:
    """Give an optimizer the subclass that is attached, or its own class again."""
    if attachment is None:
        member.__class__ = type(member).__bases__[1]
        del member._attachment
        return
    plain = type(member)
    attached = AttachedAdafactor if issubclass(plain, Adafactor) else AttachedOptimizer
    names = {"__module__": plain.__module__, "__doc__": plain.__doc__}
    member.__class__ = type(plain.__name__, (attached, plain), names)
    member._attachment = attachment
