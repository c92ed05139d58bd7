"""How scalars are stored in the state of an optimizer.

A compiled step captures ``optimizer.state``, and a checkpoint saves it. An attachment stores
the arrays of each scalar there, under the key ``scalars``. It changes the class of the optimizer
to a subclass, ``AttachedOptimizer``. For the time of an update the optimizer has its own class
again, and numbers in place of its scalars: Python floats, or traced scalars while a function is
traced. See ``lending.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Optimizer

from .. import checks
from ..number.mlx_protocol import is_tracing
from ..number.together import Loadable, load_all
from ..table import length
from ..training.group import ScalarGroup
from ..training.horizon import Horizon
from . import words
from .attached import KEY, AttachedOptimizer, attached_class, refuse_parameter
from .counting import Counting
from .discover import Kept, members
from .emptied import Emptied
from .idle import IdleWatch
from .lending import Loan, set_class
from .precision import LayerViews, check_rate, check_rates, dropout_rates
from .riding import Rider, is_zero, keyed
from .staying import Stays
from .steps import Steps, is_traced_tree


class Attachment:
    """The link between an optimizer, its members, a group of scalars and a model."""

    def __init__(
        self,
        optimizer: Optimizer,
        group: ScalarGroup,
        horizon: Horizon | None,
        models: tuple[nn.Module, ...],
    ) -> None:
        self.optimizer = optimizer
        self.group = group
        self.horizon = horizon
        self.models = models
        self.members = members(optimizer)
        self.counting = Counting(optimizer, self.members)
        # A MultiOptimizer has only the states of its members; the first one stores the scalars.
        self.carrier = self.counting.first
        self.steps = Steps(self._step, self.counting.put, horizon)
        self.entries: dict[str, Any] = {}
        self.as_one = False
        """Whether the callbacks are called only after several changes."""
        self.begun = False
        """Whether ``link`` was called."""
        self.emptied = Emptied(KEY)
        steps = None if horizon is None else self.steps
        self.kept = {id(member): Kept(member) for member in self.members}
        self.classes = [(one, attached_class(one, self)) for one in self.members]
        self.riders = {name: Rider(leaf, steps) for name, leaf in keyed(group).items()}
        self.leaves = {name.replace("/", "."): x.leaf for name, x in self.riders.items()}
        step = None if horizon else lambda: self.counting.step
        self.idle = IdleWatch(self.leaves, step)
        self.views = LayerViews()
        found = [one for model in models for one in dropout_rates(model)]
        self.stays = [Stays(name, rate, check_rate) for name, rate in found]

    # Linking --------------------------------------------------------------------

    def check(self, before: Attachment | None) -> list[Loadable]:
        """Check that all scalars can be linked, and return what to load from the state."""
        if any(KEY in model for model in self.models):
            refuse_parameter()
        if self.horizon is not None:
            length("total_steps of horizon", self.horizon.total_steps)
        for model in self.models:
            check_rates(model, self.horizon)
        own = [] if before is None else [*before.riders.values()]
        for name, rider in self.riders.items():
            rider.check_free(name, own)
        if before is not None:
            return []
        if KEY in self.carrier._state:
            return self.loadables(self.carrier._state)
        if self.horizon is None:
            self._refuse_restart()
        return []

    def _refuse_restart(self) -> None:
        """Raise ``ValueError`` if the optimizer has made steps without updates of the scalars."""
        if not (step := self.counting.step.item()):
            return
        leaves = self.leaves.items()
        if fresh := [n for n, x in leaves if x._cell.fresh and x.changes and not x.on_device]:
            rule = f"updated to the progress of the run, as the optimizer has made {step} steps"
            way_out = (
                "Load a state that was saved with the scalars, or call update(progress) first."
            )
            checks.fail(", ".join(fresh), rule, "progress 0.0", way_out)

    def prepare(self, loadables: list[Loadable]) -> None:
        """Load the scalars and compute the tables: everything that may fail before linking."""
        before = [one for leaf, _, _ in loadables for one in leaf.loadable(leaf.state_dict())]
        load_all(loadables)
        try:
            for one in self.stays:
                one.check()
            for rider in self.riders.values():
                if rider.driven:
                    rider.driven.start()
            if self.horizon is not None:
                self.group.check_finite(self.steps.progresses)
        except BaseException:
            load_all(before)
            raise

    def link(self) -> None:
        """Change the class of the optimizers and put the scalars into the state.

        Called again after an interrupt, it does the rest.
        """
        self.begun = True
        for member, attached in self.classes:
            set_class(member, attached)
        self.entries = {
            name: rider.join(partial(self._check, name)) for name, rider in self.riders.items()
        }
        state: dict[str, Any] = self.carrier._state
        state[KEY] = self.entries
        self.renew_views()
        for one in self.stays:
            one.register()
        self.group.follow(None if self.horizon is None else self.steps)

    def renew_views(self) -> None:
        """Make the scalars in the layers give arrays of the model's current dtype."""
        self.views.unlink()
        self.views = LayerViews(self.models)
        self.views.link()

    def unlink(self) -> None:
        """Undo ``link``; called again after an interrupt, it does the rest."""
        for rider in self.riders.values():
            rider.leave()
        self.views.unlink()
        for one in self.stays:
            one.unregister()
        self.group.follow(None)
        self.carrier._state.pop(KEY, None)
        for member in self.members:
            set_class(member, self.kept[id(member)].plain)

    def _step(self) -> mx.array:
        state: dict[str, Any] = self.carrier._state
        if state.get(KEY) is not self.entries:
            self.relink()
        return self.counting.step

    def _check(self, name: str) -> None:
        """Link the scalars again if an entry was replaced; called before each use of one."""
        self.idle.look()
        entries: Any = self.carrier._state.get(KEY)
        if entries is not self.entries or entries.get(name) is not self.riders[name].cell.arrays:
            self.relink()

    def relink(self) -> None:
        """Load entries that have replaced the scalars in the state, and link the scalars again.

        ``optimizer.state.update(loaded)`` replaces the entries without a call to this package.
        """
        if not isinstance(self.carrier, AttachedOptimizer):  # in an update, which may change it
            return
        state: dict[str, Any] = self.carrier._state
        entries = state.get(KEY)
        if entries is self.entries:
            for name, rider in self.riders.items():
                if entries.get(name) is not rider.cell.arrays:
                    break
            else:
                return
        if isinstance(entries, dict) and any(map(is_traced_tree, entries.values())):
            raise ValueError(words.CUT_OFF)
        loaded = dict(state)
        self.entries = state[KEY] = {name: rider.cell.arrays for name, rider in self.riders.items()}
        try:
            load_all(self.loadables(loaded))
        except BaseException:
            state[KEY] = entries
            raise
        self.group.loads += 1

    # A saved state --------------------------------------------------------------

    def loadables(self, state: Mapping[str, Any]) -> list[Loadable]:
        """Check a state and return what to load into the scalars, without changing anything."""
        if (saved := state.get(KEY)) is self.entries:
            return []  # they are in the scalars already
        if is_traced_tree(saved):
            raise ValueError(words.ASSIGNED_IN_TRACE)
        leaves = [rider.leaf for rider in self.riders.values()]
        if saved is None and self.horizon and not any(x.listeners or x.on_device for x in leaves):
            return []  # the progress follows from the step
        if saved is None:
            rule = f"a state that holds the scalars, under {KEY!r}"
            way_out = "Save it while the scalars are attached, or call detach() before loading it."
            checks.fail("optimizer.state", rule, sorted(state), way_out)
        if not isinstance(saved, dict) or not all(
            isinstance(entry, dict) and "value" in entry for entry in saved.values()
        ):
            refuse_parameter()
        if set(saved) != set(self.riders):
            rule = f"the scalars of this optimizer, {sorted(self.riders)}"
            way_out = "Attach the same scalars as when the state was saved."
            checks.fail(f"the state's {KEY!r}", rule, sorted(saved), way_out)
        # What is all zeros was not saved: some optimizers zero their state to reset it.
        kept = [(name, rider) for name, rider in self.riders.items() if not is_zero(saved[name])]
        return [one for name, rider in kept for one in rider.loadable(name, saved[name])]

    # An update ------------------------------------------------------------------

    def update(self, member: Any, gradients: Any, call: Callable[[], Any]) -> Any:
        """Make an update, during which the optimizers have numbers in place of the scalars.

        Args:
            member: The optimizer that makes the update.
            gradients: The gradients, or what the optimizer takes instead.
            call: Makes the update.
        """
        if isinstance(gradients, dict) and KEY in gradients:
            refuse_parameter()
        kept = self._in(member)
        for one in kept:
            self.emptied.check_complete(one.optimizer)
        self.relink()
        # Only with a horizon the number of the step is read, as it may be on the device.
        driven = self.horizon is not None
        traced, done = self.steps.traced, None
        if driven:
            done = self.steps.number_in(self.counting.step_of(member))
        if not traced and is_tracing() and is_traced_tree(gradients):
            raise ValueError(words.BLIND_STEP)
        before = self.counting.arrays()

        def make() -> Any:
            if done is not None:
                self.steps.stop_at(done)
            return self._lend(Loan(kept, traced, gradients, True), call)

        updated = copy_context().run(make)  # the context is discarded, also after an error
        counted = self.counting.counted(before, traced) if driven else True
        if not traced:
            if counted:  # the optimizer may have skipped this update
                by_one = self.counting.by_one and isinstance(done, int)
                self.steps.count(cast("int", done) + 1 if by_one else None)
            self.idle.updated(counted)
            if driven:
                self._stepped()
        return updated

    def _in(self, member: Any) -> list[Kept]:
        """Return what a member, and the members that it holds, keep."""
        several = members(member) if len(self.members) > 1 else [member]
        return [self.kept[id(one)] for one in several if id(one) in self.kept]

    def init(self, member: Any, arguments: Any, call: Callable[[], Any]) -> Any:
        """Initialize a member, which has numbers meanwhile; the arguments are as in ``update``."""
        return self._lend(Loan(self._in(member), self.steps.traced, arguments, False), call)

    def _lend(self, loan: Loan, call: Callable[[], Any]) -> Any:
        """Return ``call()``, during which a member and those in it are plain optimizers."""
        try:
            return loan.during(call)
        finally:
            self.carrier._state.setdefault(KEY, self.entries)  # its own code may replace the state

    def _stepped(self) -> None:
        """Tell the scalars, and the callbacks, that an update by the step was made."""
        for rider in self.riders.values():
            if rider.driven:
                rider.driven.stepped(rider.leaf)
        if not self.as_one:
            self.group.notify()
