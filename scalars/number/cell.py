"""Where the value of a scalar is kept: on the host, and in the containers of compiled functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import mlx.core as mx

from . import mlx_protocol, words
from .mlx_protocol import ProtocolArray, is_placeholder, is_tracing

if TYPE_CHECKING:
    from .scalar import ScheduledScalar


class Clock:
    """A progress that is read off an array, such as the step of an optimizer.

    It gives values to the scalars that follow it in the graph, so that a compiled
    function computes them. ``held`` keeps the time while the step is being counted.
    """

    running: ClassVar[int] = 0
    """How many values are being computed in the graph: from arrays, not from numbers."""

    def __init__(self, step: Callable[[], mx.array], progress: Callable[[Any], Any]) -> None:
        self._step = step
        self._progress = progress
        self._held: mx.array | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the present step until the end of the block; the outermost block counts."""
        before = self._held
        self._held = self.step
        try:
            yield
        finally:
            self._held = before

    @property
    def step(self) -> mx.array:
        """The step now."""
        return self._step() if self._held is None else self._held

    @property
    def traced(self) -> bool:
        """Whether a function that captures the step is being traced."""
        return is_placeholder(self.step)

    def on_host(self) -> float:
        """Return the progress as a float."""
        return float(self._progress(self.step.item()))

    @contextmanager
    def in_graph(self) -> Iterator[mx.array]:
        """Give the progress as a float64 array, at most 1, and all that it gives rise to.

        It is a block on the CPU: there MLX has float64.
        """
        Clock.running += 1
        try:
            with mx.stream(mx.cpu):
                yield mx.minimum(self._progress(self.step.astype(mx.float64)), 1.0)
        finally:
            Clock.running -= 1


class Cell:
    """A number on the host that compiled functions can follow.

    ``mx.compile`` looks into the containers it was given: before it traces a
    function it puts placeholders into them, which make whatever reads them live.
    ``state`` is such a container. It is made when it is first asked for; from then
    on every new value is put into it, as two float32 arrays: the value and what
    its rounding left over, so that ``1 - beta`` loses no digits in the graph. With
    ``save_progress`` the bits of the progress go with them, for checkpoints, and
    those of what the scalar has observed.
    """

    __slots__ = (
        "_array",
        "_changes_unread",
        "_dtype",
        "_put",
        "_read_in_trace",
        "_state",
        "clock",
        "fresh",
        "has_state",
        "listeners",
        "progress",
        "savers",
        "stepped",
        "value",
    )

    CHANGES_UNTIL_WARNING = 5

    def __init__(self, progress: float, value: float, listeners: tuple[Any, ...] = ()) -> None:
        self.progress = progress
        self.value = value
        self.listeners = listeners
        self.clock: Clock | None = None
        self.stepped: tuple[mx.array, mx.array, mx.array] | None = None
        self.fresh = True
        self.savers = 0
        self.has_state = False
        self._state: dict[str, mx.array] = {}
        self._array: ProtocolArray | None = None
        self._dtype: mx.Dtype | None = None
        self._put: ProtocolArray | None = None
        self._changes_unread = 1
        self._read_in_trace = False

    @property
    def state(self) -> dict[str, mx.array]:
        """The dict that ``mx.compile`` captures."""
        if not self.has_state:
            self._put_value()
        return self._state

    def save_progress(self) -> dict[str, mx.array]:
        """Return the same dict, with the progress in it until ``forget_progress``."""
        self.savers += 1
        self._put_value()
        return self._state

    def forget_progress(self) -> None:
        """Leave the progress out of the state, if nobody else saves it."""
        self.savers -= 1
        if not self.savers:
            del self._state["progress"]
            self._state.pop("observed", None)

    @property
    def saved(self) -> frozenset[str]:
        """The keys of the state while the progress is saved."""
        observed = ["observed"] if self.listeners else []
        return frozenset(["value", "remainder", "progress", *observed])

    def follow(self, clock: Clock | None) -> None:
        """Follow a clock from now on, or none."""
        if not self.has_state:
            self._put_value()
        self.clock = clock

    def refuse_update(self, owner: ScheduledScalar) -> None:
        """Raise ``ValueError`` if there can be no next value now."""
        if self.clock is not None:
            raise ValueError(words.DRIVEN.format(name=repr(owner)))
        value = self._state["value"]
        if value is not self._put and is_placeholder(value):
            raise ValueError(words.NO_UPDATE.format(name=repr(owner)))

    def set(self, owner: ScheduledScalar, progress: float, value: float) -> None:
        """Take the next progress, and the value at it."""
        self.progress = progress
        self.fresh = False
        changed = value != self.value
        if changed:
            self.value = value
            self._array = None
        if self.has_state:
            if changed or self.savers or self._state["value"] is not self._put:
                self._put_value()
        elif changed:
            self._changes_unread += 1
            if self._read_in_trace and self._changes_unread >= self.CHANGES_UNTIL_WARNING:
                self._read_in_trace = False
                text = words.FROZEN.format(name=repr(owner), updates=self._changes_unread)
                warnings.warn(text, RuntimeWarning, stacklevel=4)

    def _put_value(self) -> None:
        self.has_state = True
        rounded, remainder = mlx_protocol.split(self.value)
        self._put = self._state["value"] = ProtocolArray(rounded)
        self._state["remainder"] = mx.array(remainder)
        if self.savers:
            self._state["progress"] = mlx_protocol.progress_bits(self.progress)
            if self.listeners:
                observed = [number for one in self.listeners for number in one.numbers]
                self._state["observed"] = mlx_protocol.bits_of(observed)

    @property
    def traced(self) -> bool:
        """Whether a function that captures the value is being traced."""
        if self.clock is not None:
            return self.clock.traced
        # Not the array that was put there: a placeholder of the trace under way, or
        # what a finished (or failed) call of a compiled function left behind.
        return (
            self.has_state
            and self._state["value"] is not self._put
            and is_placeholder(self._state["value"])
        )

    def read(self) -> float | mx.array:
        """Return the value for use beside an array: a placeholder while traced."""
        if self.has_state and self._state["value"] is not self._put:
            if self.traced:
                return self._state["value"]
            self._put_value()
        if self._changes_unread:
            self.notice()
        return self.value

    def notice(self) -> None:
        """Remember that Python code has used the value since it changed."""
        if self._changes_unread:
            self._changes_unread = 0
            self._read_in_trace = not self.has_state and is_tracing()

    @property
    def remainder(self) -> mx.array | None:
        """What rounding a value that was put into the state has left over, while traced."""
        return self._state["remainder"] if self.traced else None

    @property
    def array(self) -> ProtocolArray:
        """The value as an array, made once for each value."""
        value, dtype = self.read(), mlx_protocol.weak()
        if value is not self.value:
            return ProtocolArray(value, dtype)  # a placeholder
        if self._array is None or self._dtype != dtype:
            self._array, self._dtype = ProtocolArray(value, dtype), dtype
        return self._array
