"""The scalars that hold a progress: what schedules are, and expressions are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import mlx.core as mx

from . import checks, mlx_protocol
from .mlx_protocol import Cell
from .scalar import ScheduledScalar

Self = TypeVar("Self", bound="Leaf")

EVENLY = tuple(i / 512 for i in range(513))


class Leaf(ScheduledScalar):
    """A scalar that holds a progress and a value: a ``Cell``."""

    _cell: Cell

    @property
    def knots(self) -> tuple[float, ...]:
        """Increasing progresses from 0 to 1, close enough to draw the curve."""
        return EVENLY

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The scalar itself."""
        return (self,)

    def update(self: Self, progress: float) -> Self:
        """Set the progress: see ``ScheduledScalar.update``."""
        progress = checks.progress(progress)
        self._cell.set(self, progress, self.prepare(progress if progress < 1.0 else 1.0))
        return self

    def prepare(self, progress: float) -> float:
        """Return the next value, and change nothing, or say why there is none."""
        if self._cell.has_state and self._cell.traced:
            raise ValueError(mlx_protocol.NO_UPDATE.format(name=repr(self)))
        return self.value_at(progress)

    @property
    def progress(self) -> float:
        """The progress last given; 0 in a new scalar."""
        return self._cell.progress

    @property
    def state(self) -> dict[str, Any]:
        """The arrays that ``mx.compile(inputs=..., outputs=...)`` captures."""
        return self._cell.state

    @property
    def array(self) -> mx.array:
        """The value now as an ``mx.array``, for code that insists on one."""
        return self._cell.array

    def state_dict(self) -> dict[str, Any]:
        """Return where the scalar is, in plain numbers that JSON can hold."""
        return {"progress": self.progress}

    def load_state_dict(self: Self, state: Mapping[str, Any]) -> Self:
        """Put the scalar where it was when ``state_dict`` returned ``state``."""
        checks.keys(f"the state of {self!r}", state, ("progress",))
        return self.update(state["progress"])

    @property
    def __mlx_array__(self) -> mx.array:
        """The value now, for MLX: asked for at every use, so by the shortest way."""
        return self._cell.array

    @property
    def changes(self) -> bool:
        """Whether the schedule has more than one value."""
        return self.extent[0] != self.extent[1]

    def seen_traced(self) -> bool:
        """Return whether the value is a placeholder now; Python code looks at it."""
        if self._cell.traced:
            return True
        self._cell.notice()
        return False

    def _read(self) -> float | mx.array:
        return self._cell.read()

    def __float__(self) -> float:
        """Return the value now, in double precision."""
        if self._cell.has_state and self._cell.traced:
            raise ValueError(mlx_protocol.NO_FLOAT.format(name=repr(self)))
        return self._cell.value
