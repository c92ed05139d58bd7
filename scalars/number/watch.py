"""The warning for a value that a compiled function has frozen."""

from __future__ import annotations

from typing import Any

from .. import words
from ..checks import shown
from ..words import warn
from .mlx_protocol import is_tracing


class Watch:
    """Watches whether a value is read in a trace, and then updated but not read again.

    A compiled function that does not capture a value reads it only while it is traced. An eager
    gradient reads it in a trace, too, but does so again.
    """

    UPDATES_UNTIL_WARNING = 32
    """An eager gradient reads the value again before this many updates; a compiled one does not."""
    GUARDED = 10
    """It takes so many times as long if other code compares the value, as a guard does."""
    UPDATES_AT_0 = 256
    """The number of updates after which the progress is expected to be above 0."""
    READS_EXAMINED = 64
    """The reads of which each is examined, as examining one takes longer than reading it."""

    def __init__(self) -> None:
        self.updates = 0
        """The number of updates so far."""
        self.examined_at = -1
        """The number of updates at the last read that no other read needs to be examined after."""
        self.traced_at: int | None = None
        """The number of updates at the last read, if that was in a trace."""
        self._reads = 0
        self._guarded = False
        self._captured = False

    def read(self, use: bool) -> None:
        """Record a read: of the first reads each, later only the first one after an update.

        Args:
            use: Whether a computation uses the value, rather than only showing it.
        """
        tracing = is_tracing()
        if tracing:
            self.traced_at, self._guarded = self.updates, False
        self._reads += 1
        if (use or tracing) and self._reads > self.READS_EXAMINED:
            self.examined_at = self.updates

    def captured(self) -> None:
        """Record that a function that captures the value is being traced.

        Earlier reads in a trace may have been those of an eager gradient, so they are forgotten.
        """
        if not self._captured:
            self._captured, self.traced_at = True, None

    def compared(self) -> None:
        """Record that Python code compares the value: in a trace it is then not frozen."""
        if self.traced_at is None:
            return
        if is_tracing():
            self.traced_at = self.updates
        else:
            self._guarded = True

    def look(self, owner: Any, progress: float) -> None:
        """Warn of a likely mistake; called at the updates 1, 2, 4, 8 and so on, as it is slow."""
        if is_tracing():
            warn(words.UPDATED_IN_TRACE.format(call="update", name=shown(owner)))
        stays = self.updates == self.UPDATES_AT_0 and progress == 0
        if stays and len({owner.value_at(knot) for knot in owner.knots}) > 1:
            warn(words.ALWAYS_0.format(name=shown(owner), updates=self.updates))

    def warn_if_frozen(self, owner: object) -> None:
        """Warn if many updates were made since the value was read in a trace."""
        traced_at = self.traced_at  # once, as another thread may change it
        updates = 0 if traced_at is None else self.updates - traced_at
        if updates > self.UPDATES_UNTIL_WARNING * (self.GUARDED if self._guarded else 1):
            self.traced_at = None
            warn(words.FROZEN.format(name=shown(owner), updates=updates))
