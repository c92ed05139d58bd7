"""The functions that a group calls after each update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Callback = Callable[[float, dict[str, float]], object]
Told = tuple[float, dict[str, float]]
"""The progress and the values by name, as arguments of a callback."""


class Callbacks:
    """Callbacks in the order of their subscription.

    Args:
        now: Returns the arguments of a callback, a new dict each time.
    """

    def __init__(self, now: Callable[[], Told]) -> None:
        self._now = now
        self._subscribed: list[tuple[Callback]] = []
        self._busy = False

    def add(self, callback: Callback) -> Callable[[], None]:
        """Add a callback, and return a function that removes it."""
        subscription = (callback,)  # a new object, because a callback may be added twice
        self._subscribed.append(subscription)

        def remove() -> None:
            self._subscribed = [one for one in self._subscribed if one is not subscription]

        return remove

    def call(self, again: bool) -> None:
        """Call all callbacks, each with the values that there are by then.

        Args:
            again: Whether to call those again that were called before another one has changed
                the values, as by ``hold`` or ``observe``.
        """
        if self._busy or not self._subscribed:
            return
        self._busy = True
        try:
            outdated = self._call(list(self._subscribed))
            if again:
                self._call(outdated)
        finally:
            self._busy = False

    def _call(self, callbacks: list[tuple[Callback]]) -> list[tuple[Callback]]:
        """Call callbacks, and return those that another one has then made outdated."""
        outdated: list[tuple[Callback]] = []
        told: Told | None = None
        for i, (callback,) in enumerate(callbacks):
            progress, values = self._now()
            if i and (progress, values) != told:
                outdated = callbacks[: i - 1]
            told = progress, dict(values)
            callback(progress, values)
        if len(callbacks) > 1 and self._now() != told:
            outdated = callbacks[:-1]
        return outdated

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Call nothing within a block, which undoes what it changes."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before
