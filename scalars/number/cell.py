"""The storage of a value: on the host, and in the arrays that compiled functions capture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mlx.core as mx

from .. import words
from ..words import warn
from . import mlx_protocol
from .mlx_protocol import is_placeholder, is_tracing


class Pair(NamedTuple):
    """A number in a graph: its value in float32, and the remainder of the rounding.

    With the remainder ``1 - beta`` is as precise as with Python floats: ``(1 - value) - rest``.
    """

    value: mx.array
    rest: mx.array | float = 0.0


Arrays = dict[str, mx.array]


class Extra(NamedTuple):
    """Arrays that are added to those of a cell, for checkpoints."""

    check: Callable[[], None]
    """Called before each use: loads the arrays that have replaced those of the cell, or raises."""
    saved: Callable[[], Arrays]


class Cell:
    """The progress and the value of a scalar, in one of three states.

    - Free: ``arrays`` has not been requested, and a new value is only a float.
    - Captured: a compiled function captures ``arrays``. A new value is written there as a
      ``Pair``, together with ``extras`` for checkpoints.
    - Traced: ``mx.compile`` has put placeholders into ``arrays``, and reading returns them.

    There is a fourth state, driven: while a scalar follows the step of an optimizer, its cell
    is a ``StepCell`` of ``optimizers/steps.py``, which looks the value up by the step.
    """

    KEYS = ("value", "remainder")
    """The keys in ``arrays``, besides those of ``extras``."""
    UPDATES_UNTIL_WARNING = 32
    """An eager gradient reads the value again before this many updates; a compiled one does not."""
    READS_EXAMINED = 64
    """The reads of which each is examined, as examining one takes longer than reading it."""

    def __init__(self, value: float) -> None:
        self.progress = 0.0
        self.value = value
        self.arrays: Arrays = {}
        self.extras: tuple[Extra, ...] = ()
        self.fresh = True
        self._ours: mx.array | None = None
        self.watch()

    def read(self, use: bool = True) -> float | Pair:
        """Return the value, or placeholders while a function that captures it is traced.

        Args:
            use: Whether a computation uses the value, rather than only showing it.
        """
        # The conditions of the calls are here too, because this is called at every use.
        look = self.extras or (self.arrays and self.arrays["value"] is not self._ours)
        if look and (pair := self._placeholders()) is not None:
            return pair
        if self._read_at != self._updates:
            self.noticed(use)
        return self.value

    def is_traced(self) -> bool:
        """Return whether a function that captures the value is being traced."""
        return self._placeholders() is not None

    def check_link(self) -> None:
        """Call the checks of the extras."""
        for extra in self.extras:
            extra.check()

    def _placeholders(self) -> Pair | None:
        self.check_link()
        if self.arrays and (here := self.arrays["value"]) is not self._ours:
            if is_placeholder(here):
                self.seen_by_a_trace()
                return Pair(here, self.arrays["remainder"])
            self.refresh()  # replace what a call or a failed trace has left there
        return None

    def watch(self) -> None:
        """Start to watch whether a compiled function has frozen the value."""
        self._updates = self._reads = 0
        self._read_at = -1
        self._traced_at: int | None = None
        self._captured = False

    def noticed(self, use: bool) -> None:
        """Record a read in a trace: of the first reads each, later the first after an update."""
        tracing = is_tracing()
        if tracing:
            self._traced_at = self._updates
        self._reads += 1
        if (use or tracing) and self._reads > self.READS_EXAMINED:
            self._read_at = self._updates

    def seen_by_a_trace(self) -> None:
        """Record that a function that captures the value is being traced."""
        if not self._captured:
            self._captured, self._traced_at = True, None

    def warn_if_frozen(self, owner: object) -> None:
        """Warn if the value was read in a trace, but not again for many updates.

        There is no warning for reads before the first trace that captures the value: they may
        have been those of an eager gradient.
        """
        traced_at = self._traced_at  # once, as another thread may change it
        updates = 0 if traced_at is None else self._updates - traced_at
        if updates > self.UPDATES_UNTIL_WARNING:
            self._traced_at = None
            warn(words.FROZEN.format(name=repr(owner), updates=updates))

    def compared(self) -> None:
        """Record that Python code compares the value, where it cannot be frozen."""
        self._traced_at = None if self._traced_at is None else self._updates

    def refuse_update(self, owner: object) -> None:
        """Raise ``ValueError`` while a function that captures the value is being traced."""
        if self.is_traced():
            raise ValueError(words.NO_UPDATE.format(name=repr(owner)))

    def renewed(self, owner: Any, same: bool) -> Any:
        """Return the argument for ``renew`` after a metric, and change nothing.

        Args:
            owner: The scalar.
            same: Whether the metric has left the value at every progress unchanged.
        """
        return owner.prepare(self.progress)

    def renew(self, owner: Any, renewed: Any) -> None:
        """Set the new value of the formula, at the same progress."""
        self.set(owner, self.progress, renewed)

    def set(self, owner: object, progress: float, value: float) -> None:
        """Set the progress and the value there."""
        changed = value != self.value
        if changed and self.arrays:
            self._ours = None  # until the arrays hold the value, even after an interrupt
        self.progress, self.value, self.fresh = progress, value, False
        if self.arrays and (self.extras or self.arrays["value"] is not self._ours):
            self.refresh()
        self._updates = count = self._updates + 1
        if not count & (count - 1) and is_tracing():  # slow: only at updates 1, 2, 4, 8, ...
            warn(words.UPDATED_IN_TRACE.format(call="update", name=repr(owner)))
        if self._traced_at is not None and changed:
            self.warn_if_frozen(owner)

    def capture(self) -> Arrays:
        """Return the dict that ``mx.compile`` captures, and keep it up to date from now on."""
        if not self.arrays:
            self.refresh()
        self.is_traced()  # replaces what a failed trace has left there
        return self.arrays

    def refresh(self) -> None:
        """Write the value and the extras into the dict."""
        rounded, remainder = mlx_protocol.split(self.value)
        self._ours = self.arrays["value"] = mx.array(rounded)
        self.arrays["remainder"] = mx.array(remainder)
        self.put_extras()

    def put_extras(self) -> None:
        """Write the extras for checkpoints into the dict."""
        for extra in self.extras:
            self.arrays.update(extra.saved())
