"""Scalars ride in the state of an optimizer: how.

A compiled step captures ``optimizer.state``, and a checkpoint saves it. An attachment puts
what each scalar keeps in arrays there, under the key ``scalars``. It gives the optimizer's
object a subclass of its class, ``AttachedOptimizer``, whose update is made by a twin: another
object of the plain class with the same state, which is handed numbers in place of scalars and
is thrown away. So the optimizer's own code computes with Python floats, nothing has to be put
back whatever happens, and nothing is global. In a trace the numbers are live scalars.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_flatten

from .. import checks
from ..number.mlx_protocol import is_placeholder, is_tracing
from ..number.together import Loadable, load_all
from ..table import length
from ..training.group import ScalarGroup
from ..training.horizon import Horizon
from ..words import warn
from . import words
from .attached import KEY, become_attached, become_plain, refuse_parameter
from .discover import members
from .precision import LayerViews
from .riding import Rider, keyed
from .steps import Steps
from .twin import Numbers, Twin

UPDATES_UNTIL_WARNING = 30


class Attachment:
    """What ``attach`` links: an optimizer, its members, a group of scalars, and a model."""

    def __init__(
        self,
        optimizer: Optimizer,
        group: ScalarGroup,
        horizon: Horizon | None,
        model: nn.Module | None,
    ) -> None:
        self.optimizer = optimizer
        self.group = group
        self.horizon = horizon
        self.model = model
        self.members = members(optimizer)
        # The state of a MultiOptimizer is made of those of its members: the first carries.
        self.carrier = next(one for one in self.members if "step" in one._state)
        self.steps = Steps(self._step, horizon)
        self.entries: dict[str, Any] = {}
        self._updates = 0
        self.updating_model = False
        """Whether callbacks wait until the model has its new parameters."""
        steps = None if horizon is None else self.steps
        self.riders = {name: Rider(leaf, steps) for name, leaf in keyed(group).items()}
        self.views = LayerViews(None)

    # Linking --------------------------------------------------------------------

    def check(self, before: Attachment | None) -> list[Loadable]:
        """Check that all can be linked; return what is to be loaded from the state."""
        if self.model is not None and KEY in self.model:
            refuse_parameter()
        if self.horizon is not None:
            length("total_steps of horizon", self.horizon.total_steps)
        known = [] if before is None else [rider.leaf for rider in before.riders.values()]
        for name, rider in self.riders.items():
            other = all(rider.leaf is not leaf for leaf in known)
            used = rider.leaf._cell is not rider.free or (rider.driven and rider.free.extras)
            if other and used:
                rule = "a scalar that no other optimizer drives or saves, with a horizon"
                way_out = "detach() it there, or attach both without a horizon."
                checks.fail(name, rule, rider.leaf, way_out)
        if before is not None:
            return []
        if KEY in self.carrier._state:
            return self.loadables(self.carrier._state)
        if self.horizon is None:
            self._refuse_restart()
        return []

    def _refuse_restart(self) -> None:
        """Raise if the optimizer is under way, and the scalars know nothing of it."""
        if not (step := self.carrier.step.item()):
            return
        if fresh := self._never_updated():
            rule = f"told how far the run is, as the optimizer has made {step} steps"
            way_out = (
                "Load a state that was saved with the scalars, or update(progress) them first."
            )
            checks.fail(", ".join(fresh), rule, "progress 0.0", way_out)

    def _never_updated(self) -> list[str]:
        leaves = {name: rider.leaf for name, rider in self.riders.items()}
        return [n for n, x in leaves.items() if x._cell.fresh and x.changes and not x.on_device]

    def prepare(self, loadables: list[Loadable]) -> None:
        """Do all that may fail, and what takes time: the scalars are loaded, nothing is linked."""
        before = [one for leaf, _, _ in loadables for one in leaf.loadable(leaf.state_dict())]
        load_all(loadables)
        try:
            for rider in self.riders.values():
                if rider.driven:
                    rider.driven.prepare()
        except BaseException:
            load_all(before)
            raise

    def link(self) -> None:
        """Give the optimizers their class, and put the scalars into the state."""
        for member in self.members:
            become_attached(member, self)
        self.entries = {
            name: rider.join(partial(self._check, name)) for name, rider in self.riders.items()
        }
        state: dict[str, Any] = self.carrier._state
        state[KEY] = self.entries
        self.renew_views()
        self.group.follow(None if self.horizon is None else self.steps)

    def renew_views(self) -> None:
        """Have the scalars in the layers give arrays of the dtype that the model has now."""
        self.views.unlink()
        self.views = LayerViews(self.model)
        self.views.link()

    def unlink(self) -> None:
        """Undo ``link``."""
        self._relink()
        for rider in self.riders.values():
            rider.leave()
        self.views.unlink()
        self.group.follow(None)
        self.carrier._state.pop(KEY, None)
        for member in self.members:
            become_plain(member)

    def _step(self) -> mx.array:
        state: dict[str, Any] = self.carrier._state
        if state.get(KEY) is not self.entries:
            self._relink()
        step: mx.array = state["step"]
        return step

    def _check(self, name: str) -> None:
        """Link the scalars again if an entry is not that of its scalar: asked at each update."""
        entries: Any = self.carrier._state.get(KEY)
        if entries is not self.entries or entries.get(name) is not self.riders[name].cell.arrays:
            self._relink()

    def _relink(self) -> None:
        """Load what somebody has put in the place of the scalars in the state, and link them.

        ``optimizer.state.update(loaded)`` replaces their entries without a word.
        """
        state: dict[str, Any] = self.carrier._state
        entries = state.get(KEY)
        if entries is self.entries and all(
            entries.get(name) is rider.cell.arrays for name, rider in self.riders.items()
        ):
            return
        if isinstance(entries, dict) and any(map(_is_traced, entries.values())):
            raise ValueError(words.CUT_OFF)
        loaded = dict(state)
        self.entries = state[KEY] = {name: rider.cell.arrays for name, rider in self.riders.items()}
        try:
            load_all(self.loadables(loaded))
        except BaseException:
            state[KEY] = entries
            raise

    # A saved state --------------------------------------------------------------

    def loadables(self, state: Mapping[str, Any]) -> list[Loadable]:
        """Return what to load into the scalars from a state; checked, and nothing changed."""
        saved = state.get(KEY)
        leaves = [rider.leaf for rider in self.riders.values()]
        if saved is None and self.horizon and not any(x.listeners or x.on_device for x in leaves):
            return []  # all that there is to know is the step
        if saved is None:
            rule = f"a state that holds the scalars, under {KEY!r}"
            way_out = "Save it while they are attached; or detach() before loading it."
            checks.fail("optimizer.state", rule, sorted(state), way_out)
        if not isinstance(saved, dict) or not all(
            isinstance(entry, dict) and "value" in entry for entry in saved.values()
        ):
            refuse_parameter()
        if set(saved) != set(self.riders):
            rule = f"the scalars of this optimizer, {sorted(self.riders)}"
            way_out = "Attach the scalars that it was saved with."
            checks.fail(f"the state's {KEY!r}", rule, sorted(saved), way_out)
        riders = self.riders.items()
        return [one for name, rider in riders for one in rider.loadable(name, saved[name])]

    # An update ------------------------------------------------------------------

    def update(self, member: Optimizer, gradients: Any, parameters: Any) -> Any:
        """Have a twin apply the gradients, with numbers in place of the scalars."""
        if isinstance(gradients, dict) and KEY in gradients:
            refuse_parameter()
        self._relink()
        done = self.steps.now
        traced = not isinstance(done, int)
        if not traced and is_tracing() and _is_traced(gradients):
            raise ValueError(words.BLIND_STEP)
        twin = Twin(member, Numbers(), traced)
        try:
            apply = partial(twin.optimizer.apply_gradients, gradients, parameters)
            updated = self.steps.stopped(done, apply)
        finally:
            twin.hand_over()
        if isinstance(done, int):
            self.steps.count(done + 1)
            for rider in self.riders.values():
                if rider.driven:
                    rider.driven.stepped(rider.leaf)
            if self.horizon is None:
                self._warn_if_idle()
            elif not self.updating_model:
                self.group.notify()
        return updated

    def _warn_if_idle(self) -> None:
        """Warn when the scalars were never updated over a number of eager updates."""
        self._updates += 1
        if self._updates == UPDATES_UNTIL_WARNING and (idle := self._never_updated()):
            names = ", ".join(idle)
            warn(words.NEVER_UPDATED.format(names=names, updates=self._updates))


def _is_traced(tree: Any) -> bool:
    arrays: list[mx.array] = list(dict(tree_flatten(tree)).values())
    return bool(arrays) and is_placeholder(arrays[0])
