"""A scalar in the state of an optimizer: its cell there, and what a checkpoint holds of it."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import mlx.core as mx

from .. import checks
from ..number.cell import Arrays, Extra
from ..number.scalar import Leaf
from ..number.together import Loadable
from ..training.group import ScalarGroup
from .steps import StepCell, Steps


class Rider:
    """A scalar that rides in the state of an optimizer, driven by the loop or by the step.

    Its entry in the state is the dict of its cell, which compiled functions capture, with
    two more arrays for checkpoints: the bits of the progress, unless the step tells it, and
    those of what its adaptive scalars have observed.
    """

    def __init__(self, leaf: Leaf, steps: Steps | None) -> None:
        self.leaf = leaf
        present = leaf._cell
        self.free = present.free if isinstance(present, StepCell) else present
        follows = steps is not None and not leaf.on_device
        self.driven = StepCell(self.free, leaf.in_force, cast("Steps", steps)) if follows else None
        self.cell = self.driven or self.free

    def join(self, check: Callable[[], None]) -> Arrays:
        """Have the value kept in the cell; return the entry.

        Args:
            check: What is called before an update: whether the entry is still in the state.
        """
        self._extra = Extra(check, self._saved)
        if self.driven:
            self.leaf.keep_in(self.driven)
            self.cell.arrays.pop("progress", None)
        self.cell.extras += (self._extra,)
        self.cell.refresh()
        return self.cell.arrays

    def leave(self) -> None:
        """Undo ``join``; the scalar stays where it is in the run."""
        progress = self.leaf.progress
        self.cell.extras = tuple([one for one in self.cell.extras if one is not self._extra])
        if not self.cell.extras:
            for key in ("progress", "held", "observed"):
                self.cell.arrays.pop(key, None)
        if self.driven:
            self.driven.stop(progress)
            self.leaf.keep_in(self.free)

    def loadable(self, name: str, entry: Mapping[str, mx.array]) -> list[Loadable]:
        """Return what to load from a saved entry; checked, and nothing changed."""
        if ("progress" in entry) == bool(self.driven):
            rule = f"saved {'with' if self.driven else 'without'} a horizon, as it is attached now"
            way_out = "Attach as it was when the state was saved."
            checks.fail(f"{name} in the state", rule, sorted(entry), way_out)
        keys = {*self.cell.KEYS, *self._saved()}
        if set(entry) != keys and {*entry, "held"} != keys:  # version 0.1.0 wrote none
            rule = f"saved from a scalar such as {self.leaf!r}, with {sorted(keys)}"
            way_out = "Attach the scalars that it was saved with."
            checks.fail(f"{name} in the state", rule, sorted(entry), way_out)
        loadable = self.leaf.loadable(self._state_in(entry))
        return [(one, None if self.driven else at, memory) for one, at, memory in loadable]

    def _saved(self) -> Arrays:
        """Return what a checkpoint needs besides the value."""
        held = math.nan if self.leaf.held is None else self.leaf.held
        if self.driven:
            arrays = {"held": bits_of((held,))}
        else:
            arrays = {"progress": bits_of((self.cell.progress, held))}
        if listeners := self.leaf.listeners:
            arrays["observed"] = bits_of([x for one in listeners for x in one.numbers])
        return arrays

    def _state_in(self, entry: Mapping[str, mx.array]) -> dict[str, Any]:
        """Return what ``state_dict`` was when an entry was saved."""
        if self.driven:  # the step tells the progress
            progress, held = 0.0, [*numbers_of(entry["held"])] if "held" in entry else []
        else:
            progress, *held = numbers_of(entry["progress"])
        state: dict[str, Any] = {"progress": progress}
        if held and not math.isnan(held[0]):
            state["held"] = held[0]
        if self.leaf.listeners:
            numbers = iter(numbers_of(entry["observed"]))
            state["observed"] = [one.memory_of(numbers) for one in self.leaf.listeners]
        return {**state, **self.leaf.counted_in(entry)}


def keyed(group: ScalarGroup) -> dict[str, Leaf]:
    """Return the leaves of a group, each once, by their names in the state."""
    leaves: dict[str, Leaf] = {}
    for name, scalar in group.items():
        for i, leaf in enumerate(scalar.leaves):
            # tree_unflatten takes a name apart at its dots.
            key = (name if len(scalar.leaves) == 1 else f"{name}.{i}").replace(".", "/")
            if all(leaf is not known for known in leaves.values()):
                if key in leaves:
                    rule = "a name that no other scalar has in the optimizer's state"
                    checks.fail("a name given to attach", rule, key, "Choose another name.")
                leaves[key] = leaf
    if leaves and all(key.isdecimal() for key in leaves):  # tree_unflatten would make a list
        way_out = "Choose one such as 'scale_0'."
        checks.fail("a name given to attach", "one with a letter in it", min(leaves), way_out)
    # mx.compile tells captured arrays apart by their places, not by their names.
    return dict(sorted(leaves.items()))


_float64, _halves = struct.Struct("d"), struct.Struct("2I")


def bits_of(numbers: Sequence[float]) -> mx.array:
    """Return numbers as an array of their bits, two integers for each: no GPU has float64.

    MLX makes no array of a Python integer of 2**63 or more: the bits of a number below 0.
    """
    halves = [half for number in numbers for half in _halves.unpack(_float64.pack(number))]
    return mx.array(halves, mx.uint32)


def numbers_of(bits: mx.array) -> tuple[float, ...]:
    """Return the numbers that ``bits_of`` made an array of.

    Raises:
        ValueError: The array was cast to another dtype, or does not hold whole numbers.
    """
    code = {mx.uint32: "I", mx.uint64: "Q"}.get(bits.dtype)  # version 0.1.0 wrote uint64 too
    packed = b""
    if code is not None:
        packed = struct.pack(f"{bits.size}{code}", *cast("list[int]", bits.reshape(-1).tolist()))
    if code is None or len(packed) % 8:
        way_out = "Save and load it as it is, without casting the state to another dtype."
        checks.fail("a number in the saved state", "kept as uint32", bits, way_out)
    return struct.unpack(f"{len(packed) // 8}d", packed)
