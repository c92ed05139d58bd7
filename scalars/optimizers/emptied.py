"""Optimizers whose state was taken away for a while, as some trainers do to free its memory."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from .. import checks


class Emptied:
    """The optimizers that lack what they keep for the parameters.

    Args:
        kept: The keys of the state that are never taken away.
    """

    def __init__(self, *kept: str) -> None:
        self._kept = kept
        self._optimizers: set[int] = set()

    def empty(self, optimizer: Any) -> None:
        """Take away what an optimizer keeps for the parameters.

        The step and the rate stay, as they may be read meanwhile.
        """
        for key in self._of_parameters(optimizer):
            del optimizer._state[key]
        optimizer._initialized = False
        self._optimizers.add(id(optimizer))

    def check_assigned(self, optimizer: Any, state: Any) -> None:
        """Raise ``ValueError`` if the dict that was emptied is assigned as the saved state."""
        if state is optimizer._state and id(optimizer) in self._optimizers:
            rule = "a copy of what it was, as its own dict was emptied"
            way_out = "Save it with tree_map(lambda x: x, optimizer.state) from mlx.utils."
            checks.fail("optimizer.state", rule, [*state], way_out)

    def check_complete(self, optimizer: Any) -> None:
        """Raise ``ValueError`` if the state is still missing before an update."""
        if id(optimizer) in self._optimizers:
            if not self._of_parameters(optimizer):
                way_out = "Assign the state that was saved, optimizer.state = loaded."
                checks.fail("optimizer.state", "complete before an update", {}, way_out)
            self.refilled(optimizer)

    def refilled(self, optimizer: Any) -> None:
        """Note that an optimizer has a state again."""
        self._optimizers.discard(id(optimizer))

    def _of_parameters(self, optimizer: Any) -> list[str]:
        state = optimizer._state.items()
        return [k for k, x in state if not isinstance(x, mx.array) and k not in self._kept]
