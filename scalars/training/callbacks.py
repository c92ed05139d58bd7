"""The functions that a group calls after each update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Callback = Callable[[float, dict[str, float]], object]
Told = tuple[float, dict[str, float]]
"""The progress and the values by name, as arguments of a callback."""


class Subscription:
    """A callback of a group, which can be called to end it."""

    def __init__(self, callbacks: Callbacks, callback: Callback) -> None:
        self._callbacks = callbacks
        self.callback = callback

    def __call__(self) -> None:
        """End the subscription."""
        self._callbacks.remove(self)


class Callbacks:
    """The callbacks of a group, in the order of their subscription."""

    def __init__(self) -> None:
        self._subscribed: list[Subscription] = []
        self._busy = False

    def add(self, callback: Callback) -> Subscription:
        """Add a callback; a second time it is called twice."""
        self._subscribed.append(added := Subscription(self, callback))
        return added

    def remove(self, subscription: Subscription) -> None:
        """Remove a callback, if it is there."""
        self._subscribed = [one for one in self._subscribed if one is not subscription]

    def call(self, now: Callable[[], Told], again: bool) -> None:
        """Call all callbacks, each with the values that there are by then.

        Args:
            now: Returns the arguments of a callback, a new dict each time.
            again: Whether to call those again that were called before another one has changed
                the values, as by ``hold`` or ``observe``.
        """
        if self._busy or not self._subscribed:
            return
        self._busy = True
        try:
            outdated = self._call_each(list(self._subscribed), now)
            if again:
                self._call_each(outdated, now)
        finally:
            self._busy = False

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Call nothing within a block, which undoes what it changes."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    def _call_each(
        self, callbacks: list[Subscription], now: Callable[[], Told]
    ) -> list[Subscription]:
        """Call callbacks, and return those that another one has then made outdated.

        One that has changed the values itself is not among them: it would change them twice.
        """
        outdated: list[Subscription] = []
        changing: list[Subscription] = []
        told: Told | None = None
        for i, subscription in enumerate(callbacks):
            progress, values = now()
            if i and (progress, values) != told:
                changing.append(callbacks[i - 1])
                outdated = callbacks[: i - 1]
            told = progress, dict(values)
            if subscription in self._subscribed:  # another callback may have ended it
                subscription.callback(progress, values)
        if len(callbacks) > 1 and now() != told:
            outdated = callbacks[:-1]
        return [one for one in outdated if one not in changing]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out that callbacks are being called, as a copy calls none."""
        return {**vars(self), "_busy": False}
