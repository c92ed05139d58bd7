"""The storage of a value: on the host, and in the arrays that compiled functions capture."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import mlx.core as mx

from .. import words
from ..checks import shown
from .mlx_protocol import is_placeholder, split
from .watch import Watch


class Pair(NamedTuple):
    """A number in a graph: its value in float32, and the remainder of the rounding.

    With the remainder ``1 - beta`` is as precise as with Python floats: ``(1 - value) - rest``.
    """

    value: mx.array
    rest: mx.array | float = 0.0


Arrays = dict[str, mx.array]


class Extra(Protocol):
    """What adds arrays to those of a cell, for checkpoints."""

    def check(self) -> None:
        """Load arrays that have replaced those of the cell, or raise; called before each use."""

    def saved(self) -> Arrays:
        """Return the arrays to add."""


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

    def __init__(self, value: float) -> None:
        self.progress = 0.0
        self.value = value
        self.fresh = True
        """Whether the progress was never set."""
        self.arrays: Arrays = {}
        self.extras: tuple[Extra, ...] = ()
        self.watch = Watch()
        self._ours: mx.array | None = None
        """The array in ``arrays`` that this cell has put there."""

    def read(self, use: bool = True) -> float | Pair:
        """Return the value, or placeholders while a function that captures it is traced.

        Args:
            use: Whether a computation uses the value, rather than only showing it.
        """
        # The conditions of the calls are here too, because this is called at every use.
        if self.extras or (self.arrays and self.arrays["value"] is not self._ours):
            if (pair := self._placeholders()) is not None:
                return pair
            if self.arrays["value"] is not self._ours:
                self.refresh()  # replaces what a call or a failed trace has left there
        if (watch := self.watch).examined_at != watch.updates:
            watch.read(use)
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
        if not self.arrays or (here := self.arrays["value"]) is self._ours:
            return None
        if not is_placeholder(here):
            return None
        self.watch.captured()
        return Pair(here, self.arrays["remainder"])

    def refuse_update(self, owner: object) -> None:
        """Raise ``ValueError`` while a function that captures the value is being traced."""
        if self.is_traced():
            raise ValueError(words.NO_UPDATE.format(name=shown(owner)))

    def prepare(self, owner: Any, same: bool) -> Any:
        """Return the value of a changed formula, for ``set`` without a progress.

        Args:
            owner: The scalar.
            same: Whether the values at every progress are those of before.
        """
        return owner.prepare(self.progress)

    def set(self, owner: object, progress: float | None, value: Any) -> None:
        """Set the progress and the value there.

        Args:
            owner: The scalar.
            progress: The progress, or ``None`` if only the formula has changed.
            value: The value, or what ``prepare`` returned.
        """
        changed = value != self.value
        if changed and self.arrays:
            self._ours = None  # until the arrays hold the value, even after an interrupt
        if progress is not None:
            self.progress, self.fresh = progress, False
        self.value = value
        if self.arrays and (self.extras or self.arrays["value"] is not self._ours):
            self.refresh()
        watch = self.watch
        watch.updates = count = watch.updates + 1
        if not count & (count - 1) and progress is not None:
            watch.look(owner, progress)
        if changed and watch.traced_at is not None:
            watch.warn_if_frozen(owner)

    def capture(self) -> Arrays:
        """Return the dict that ``mx.compile`` captures, and keep it up to date from now on."""
        if not self.arrays or (self.arrays["value"] is not self._ours and not self.is_traced()):
            self.refresh()
        return self.arrays

    def refresh(self) -> None:
        """Write the value and the extras into the dict."""
        rounded, remainder = split(self.value)
        self._ours = self.arrays["value"] = mx.array(rounded)
        self.arrays["remainder"] = mx.array(remainder)
        self.put_extras()

    def put_extras(self) -> None:
        """Write the extras for checkpoints into the dict."""
        for extra in self.extras:
            self.arrays.update(extra.saved())
