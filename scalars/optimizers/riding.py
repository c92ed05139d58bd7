"""A scalar in the state of an optimizer: its cell, and the arrays that checkpoints need."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import mlx.core as mx

from .. import checks
from ..number.cell import Arrays
from ..number.scalar import Leaf
from ..number.together import Loadable
from ..training.group import ScalarGroup
from .steps import StepCell, Steps


class Rider:
    """A scalar that is stored in the state of an optimizer, driven by the loop or by the step.

    Its entry in the state is the dict of its cell, which compiled functions capture. For
    checkpoints the entry also has the bits of the progress, unless it follows from the step,
    of a held value, and of what its adaptive scalars have observed.
    """

    def __init__(self, leaf: Leaf, steps: Steps | None) -> None:
        self.leaf = leaf
        present = leaf._cell
        self.free = present.free if isinstance(present, StepCell) else present
        follows = steps is not None and not leaf.on_device
        self.driven = StepCell(self.free, leaf, cast("Steps", steps)) if follows else None
        self.cell = self.driven or self.free

    def check_free(self, name: str, before: Sequence[Rider]) -> None:
        """Raise ``ValueError`` if the scalar follows another optimizer, or would from now on.

        Args:
            name: Its name.
            before: The riders of the same optimizer until now.
        """
        follows = self.leaf._cell is not self.free
        saved = any(one not in before for one in self.free.extras)
        known = any(self.leaf is one.leaf for one in before)
        if (follows and not known) or (self.driven and saved):
            rule = "a scalar that no other optimizer drives or saves, with a horizon"
            way_out = (
                "Make the schedule anew for this optimizer, call detach(other) first, or "
                "attach both without a horizon."
            )
            checks.fail(name, rule, self.leaf, way_out)

    def join(self, check: Callable[[], None]) -> Arrays:
        """Store the value in the cell and return its entry.

        Args:
            check: Called before an update, to check that the entry is still in the state.
        """
        self.check = check
        if self.driven:
            self.leaf.keep_in(self.driven)
            self.cell.arrays.pop("progress", None)
        if self not in self.cell.extras:
            self.cell.extras += (self,)
        self.cell.refresh()
        return self.cell.arrays

    def leave(self) -> None:
        """Undo ``join``; the progress of the scalar does not change."""
        progress = self.leaf.progress
        self.cell.extras = tuple([one for one in self.cell.extras if one is not self])
        if not self.cell.extras:
            for key in ("progress", "held", "observed"):
                self.cell.arrays.pop(key, None)
        if self.driven:
            self.driven.stop(progress)
            self.leaf.keep_in(self.free)

    def loadable(self, name: str, entry: Mapping[str, mx.array]) -> list[Loadable]:
        """Check a saved entry and return what to load, without changing anything."""
        if ("progress" in entry) == bool(self.driven):
            rule = f"saved {'with' if self.driven else 'without'} a horizon, as it is attached now"
            way_out = "Attach in the same way as when the state was saved."
            checks.fail(f"{name} in the state", rule, sorted(entry), way_out)
        keys = {*self.cell.KEYS, *self.saved()}
        for key, value in entry.items():
            if not isinstance(value, mx.array):
                way_out = "Load the arrays as they were saved, for example with mx.load."
                where = f"{key} of {name} in the state"
                checks.fail(where, "an mx.array", value, way_out, wrong_type=True)
        if set(entry) != keys and {*entry, "held"} != keys:  # version 0.1.0 wrote none
            rule = f"saved from a scalar such as {self.leaf!r}, with {sorted(keys)}"
            way_out = "Attach the same scalars as when the state was saved."
            checks.fail(f"{name} in the state", rule, sorted(entry), way_out)
        loadable = self.leaf.loadable(self._state_in(entry))
        return [(one, None if self.driven else at, memory) for one, at, memory in loadable]

    def saved(self) -> Arrays:
        """Return the arrays that a checkpoint needs besides the value."""
        held = math.nan if self.leaf.held is None else self.leaf.held or -0.0
        if self.driven:
            arrays = {"held": bits_of((held,))}
        else:
            arrays = {"progress": bits_of((self.cell.progress, held))}
        if listeners := self.leaf.listeners:
            arrays["observed"] = bits_of([x for one in listeners for x in one.numbers])
        return arrays

    def _state_in(self, entry: Mapping[str, mx.array]) -> dict[str, Any]:
        """Return the ``state_dict`` of the scalar when an entry was saved."""
        if self.driven:  # the progress follows from the step
            progress, held = 0.0, [*numbers_of(entry["held"])] if "held" in entry else []
        else:
            progress, *held = numbers_of(entry["progress"])
        state: dict[str, Any] = {"progress": progress}
        if held and not math.isnan(held[0]):
            state["held"] = held[0] + 0.0  # -0.0 becomes 0.0
        if self.leaf.listeners:
            numbers = iter(numbers_of(entry["observed"]))
            state["observed"] = [one.memory_of(numbers) for one in self.leaf.listeners]
        return {**state, **self.leaf.counted_in(entry)}


def is_zero(entry: Mapping[str, Any]) -> bool:
    """Return whether the bits of an entry are all 0, as in no state that was saved.

    Those of a held value are not: they are the bits of NaN if none is held, and of -0.0 for 0.0.
    """
    bits = entry.get("held", entry.get("progress"))
    has_held = isinstance(bits, mx.array) and ("held" in entry or bits.size == 4)
    return has_held and not bits.any().item()


def keyed(group: ScalarGroup) -> dict[str, Leaf]:
    """Return each leaf of a group once, by its name in the state."""
    leaves: dict[str, Leaf] = {}
    for name, scalar in group.items():
        for i, leaf in enumerate(scalar.leaves):
            # tree_unflatten splits a name at its dots.
            key = (name if len(scalar.leaves) == 1 else f"{name}.{i}").replace(".", "/")
            if all(leaf is not known for known in leaves.values()):
                if key in leaves:
                    rule = "a name that no other scalar has in the optimizer's state"
                    checks.fail("a name given to attach", rule, key, "Choose another name.")
                leaves[key] = leaf
    if leaves and all(key.lstrip("-").isdecimal() for key in leaves):  # tree_unflatten: a list
        way_out = "Choose a name such as 'scale_0'."
        checks.fail("a name given to attach", "one with a letter in it", min(leaves), way_out)
    # mx.compile identifies captured arrays by position, so the order is fixed by name.
    return dict(sorted(leaves.items()))


def bits_of(numbers: Sequence[float]) -> mx.array:
    """Return the bits of numbers as an array of two integers each, as GPUs have no float64.

    One 64-bit integer each would not do: MLX cannot convert a Python integer of 2**63 or more,
    which the bits of negative numbers are.
    """
    packed = struct.pack(f"{len(numbers)}d", *numbers)
    return mx.array(struct.unpack(f"{2 * len(numbers)}I", packed), mx.uint32)


def numbers_of(bits: mx.array) -> tuple[float, ...]:
    """Return the numbers whose bits ``bits_of`` stored in an array.

    Raises:
        ValueError: The array was cast to another dtype, or the bits of a number are incomplete.
    """
    code = {mx.uint32: "I", mx.uint64: "Q"}.get(bits.dtype)  # version 0.1.0 also wrote uint64
    packed = b""
    if code is not None:
        packed = struct.pack(f"{bits.size}{code}", *cast("list[int]", bits.reshape(-1).tolist()))
    if code is None or len(packed) % 8:
        way_out = "Do not cast the state to another dtype when you save or load it."
        checks.fail("a number in the saved state", "kept as uint32", bits, way_out)
    return struct.unpack(f"{len(packed) // 8}d", packed)
