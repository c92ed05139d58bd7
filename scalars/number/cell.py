"""Where the value of a scalar is kept: on the host, and in what compiled functions capture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mlx.core as mx

from .. import words
from ..words import warn
from . import mlx_protocol
from .mlx_protocol import is_placeholder, is_tracing


class Pair(NamedTuple):
    """A number in a graph: rounded to float32, and what the rounding left over.

    With the remainder ``1 - beta`` has the digits of Python floats: ``(1 - value) - rest``.
    """

    value: mx.array
    rest: mx.array | float = 0.0


Arrays = dict[str, mx.array]


class Extra(NamedTuple):
    """What else is put into the arrays of a cell, for checkpoints."""

    check: Callable[[], None]
    """Called before each update: raises if whoever captures the arrays was cut off."""
    saved: Callable[[], Arrays]


class Cell:
    """The progress and the value of a scalar, in one of three states.

    - Free: nobody has asked for ``arrays``, so a new value is a float and no more.
    - Captured: ``mx.compile`` looks into ``arrays``, so a new value is put there, as a
      ``Pair``, and with it what a checkpoint needs.
    - Traced: ``mx.compile`` has put placeholders into ``arrays``, and they are what is read.

    While a scalar follows the step of an optimizer it has a cell in a fourth state, driven:
    see ``optimizers/steps.py``.
    """

    KEYS = ("value", "remainder")
    """What is put into ``arrays``, besides ``extras``."""
    UPDATES_UNTIL_WARNING = 32
    """A compiled function reads once. What an eager gradient reads is read again before that."""

    def __init__(self, value: float) -> None:
        self.progress = 0.0
        self.value = value
        self.arrays: Arrays = {}
        self.extras: tuple[Extra, ...] = ()
        self.fresh = True
        self._ours: mx.array | None = None
        self.watch()

    def read(self, use: bool = True) -> float | Pair:
        """Return the value: a placeholder while it is traced.

        Args:
            use: Whether it is used in a computation, and not only looked at.
        """
        if (pair := self._placeholders()) is not None:
            return pair
        self.noticed(use)
        return self.value

    def is_traced(self) -> bool:
        """Return whether a function that captures the value is being traced."""
        return self._placeholders() is not None

    def _placeholders(self) -> Pair | None:
        if self.arrays and (here := self.arrays["value"]) is not self._ours:
            if is_placeholder(here):
                self._captured = True
                return Pair(here, self.arrays["remainder"])
            self.refresh()  # in place of what a call, or a failed trace, has left there
        return None

    def watch(self) -> None:
        """Begin to watch whether a compiled function has frozen the value."""
        self._updates = self._unread_from = 0
        self._read_at = -1
        self._read_in_trace = self._captured = False

    def noticed(self, use: bool) -> None:
        """Remember that the value was read since the last update: in a trace, or used outside."""
        if self._read_at != self._updates:
            tracing = is_tracing()
            if use or tracing:
                self._read_at = self._unread_from = self._updates
                self._read_in_trace = tracing

    def warn_if_frozen(self, owner: object) -> None:
        """Warn if only a trace that is over has read the value, and it changes again and again.

        Once some function captures the value, it is read there without Python.
        """
        updates = self._updates - self._unread_from
        if updates > self.UPDATES_UNTIL_WARNING and not self._captured:
            self._read_in_trace = False
            warn(words.FROZEN.format(name=repr(owner), updates=updates))

    def compared(self) -> None:
        """Remember that Python code decides something by the value: it is not frozen there."""
        self._unread_from = self._updates

    def refuse_update(self, owner: object) -> None:
        """Raise ``ValueError`` while a function that captures the value is traced."""
        if self.arrays and self.arrays["value"] is not self._ours and self.is_traced():
            raise ValueError(words.NO_UPDATE.format(name=repr(owner)))
        for extra in self.extras:
            extra.check()

    def renewed(self, owner: Any, same: bool) -> Any:
        """Return what ``renew`` takes after a metric, which left the formula the ``same`` or not.

        Nothing is changed.
        """
        return owner.prepare(self.progress)

    def renew(self, owner: Any, renewed: Any) -> None:
        """Take the value that the formula gives now, at the same progress."""
        self.set(owner, self.progress, renewed)

    def set(self, owner: object, progress: float, value: float) -> None:
        """Take the next progress, and the value at it."""
        changed = value != self.value
        if changed and self.arrays:
            self._ours = None  # until it is in the arrays, whatever comes in between
        self.progress, self.value, self.fresh = progress, value, False
        if self.arrays and (self.extras or self.arrays["value"] is not self._ours):
            self.refresh()
        self._updates = count = self._updates + 1
        if not count & (count - 1) and is_tracing():  # at the 1st, 2nd, 4th, 8th ...: it takes time
            warn(words.UPDATED_IN_TRACE.format(name=repr(owner)))
        if self._read_in_trace and changed:
            self.warn_if_frozen(owner)

    def capture(self) -> Arrays:
        """Return the dict that ``mx.compile`` captures, and keep it up to date from now on."""
        if not self.arrays:
            self.refresh()
        self.is_traced()  # what a failed trace has left there is replaced
        return self.arrays

    def refresh(self) -> None:
        """Put the value, and what a checkpoint needs, into the dict."""
        rounded, remainder = mlx_protocol.split(self.value)
        self._ours = self.arrays["value"] = mx.array(rounded)
        self.arrays["remainder"] = mx.array(remainder)
        self.put_extras()

    def put_extras(self) -> None:
        """Put what a checkpoint needs into the dict."""
        for extra in self.extras:
            self.arrays.update(extra.saved())
