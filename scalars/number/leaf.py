"""The scalars that hold a progress: what schedules are, and expressions are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import mlx.core as mx

from . import checks, mlx_protocol, words
from .cell import Cell, Clock
from .mlx_protocol import ProtocolArray
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
        if self._cell.has_state:
            self._cell.refuse_update(self)
        return self.value_at(progress)

    @property
    def progress(self) -> float:
        """The progress last given; 0 in a new scalar."""
        cell = self._cell
        return cell.progress if cell.clock is None else cell.clock.on_host()

    @property
    def listeners(self) -> tuple[Any, ...]:
        """The scalars that observe metrics, in this one at any depth: see ``adaptive``."""
        return self._cell.listeners

    @property
    def on_device(self) -> bool:
        """Whether compiled functions change the value, whatever the progress is."""
        return False

    @property
    def state(self) -> dict[str, Any]:
        """The arrays that ``mx.compile(inputs=..., outputs=...)`` captures."""
        return self._cell.state

    @property
    def array(self) -> mx.array:
        """The value now as an ``mx.array``, for code that insists on one."""
        if self._cell.clock is not None:
            return ProtocolArray(self._at_step(self._cell.clock), mlx_protocol.weak())
        return self._cell.array

    def state_dict(self) -> dict[str, Any]:
        """Return where the scalar is, in plain numbers that JSON can hold."""
        state: dict[str, Any] = {"progress": self.progress}
        if self.listeners:
            state["observed"] = [dict(listener.memory) for listener in self.listeners]
        return state

    def saved_state(self, arrays: Mapping[str, mx.array]) -> dict[str, Any]:
        """Return what ``state_dict`` was when the state of the cell was ``arrays``."""
        state: dict[str, Any] = {"progress": mlx_protocol.progress_of_bits(arrays["progress"])}
        if self.listeners:
            numbers = iter(mlx_protocol.numbers_of(arrays["observed"]))
            state["observed"] = [listener.memory_of(numbers) for listener in self.listeners]
        return state

    def load_state_dict(self: Self, state: Mapping[str, Any]) -> Self:
        """Put the scalar where it was when ``state_dict`` returned ``state``."""
        checks.keys(f"the state of {self!r}", state, self.state_dict())
        if not self.listeners:
            return self.update(state["progress"])
        checks.progress(state["progress"])
        remembered = checks.sequence("observed", state["observed"])
        checks.as_many("observed", remembered, self.listeners, "scalars that observe")
        pairs = zip(self.listeners, remembered, strict=True)
        memories = [one.checked(memory) for one, memory in pairs]
        before = [dict(one.memory) for one in self.listeners]
        try:
            for one, memory in zip(self.listeners, memories, strict=True):
                one.remember(memory)
            return self.update(state["progress"])
        except BaseException:
            for one, memory in zip(self.listeners, before, strict=True):
                one.remember(memory)
            raise

    @property
    def __mlx_array__(self) -> mx.array:
        """The value now, for MLX: asked for at every use, so by the shortest way."""
        return self._cell.array if self._cell.clock is None else self.array

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
        cell = self._cell
        return cell.read() if cell.clock is None else self._at_step(cell.clock)

    def _beside(self, array: mx.array) -> float | mx.array:
        cell = self._cell  # as in the base class, by a shorter way: asked for at every use
        value = cell.read() if cell.clock is None else self._at_step(cell.clock)
        return value if isinstance(value, float) else value.astype(mlx_protocol.weak_dtype(array))

    def _at_step(self, clock: Clock) -> mx.array:
        """Return the value at the clock's step, rounded to float32."""
        return self._parts_at_step(clock)[1]

    def _parts_at_step(self, clock: Clock) -> tuple[mx.array, mx.array, mx.array]:
        """Return the step, the value and what its rounding left over: made once for each step."""
        parts = self._cell.stepped
        if parts is None or parts[0] is not clock.step:
            with clock.in_graph() as progress:  # all digits, few operations
                value = self._over(progress)
                rounded = value.astype(mx.float32)
                remainder = (value - rounded).astype(mx.float32)
            self._cell.stepped = parts = (clock.step, rounded, remainder)
        return parts

    @property
    def remainder(self) -> mx.array | None:
        """What rounding the value to float32 has left over, where it is an array."""
        clock = self._cell.clock
        return self._cell.remainder if clock is None else self._parts_at_step(clock)[2]

    def __float__(self) -> float:
        """Return the value now, in double precision."""
        cell = self._cell
        if cell.has_state and cell.traced:
            raise ValueError(words.NO_FLOAT.format(name=repr(self)))
        return cell.value if cell.clock is None else self.at(cell.clock.on_host())
