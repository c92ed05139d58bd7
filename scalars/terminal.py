"""Output for terminals only: colors, and the progress of long computations."""

from __future__ import annotations

import os
import shutil
import sys
import time
from types import TracebackType
from typing import Any

BETWEEN = 0.1
"""The least number of seconds between two lines of progress."""


def in_color(stream: Any) -> bool:
    """Return whether to write in color: see https://no-color.org."""
    return _is_terminal(stream) and not os.environ.get("NO_COLOR")


def _is_terminal(stream: Any) -> bool:
    """Return whether ``stream`` is a terminal that can overwrite a line."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


class Progress:
    """A line of progress on standard error, which is overwritten and erased at the end.

    Nothing is written if standard error is not a terminal.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr if _is_terminal(sys.stderr) else None
        self._next = time.monotonic() + BETWEEN
        self._shown = False

    def show(self, text: str) -> None:
        """Show ``text``, at most once in ``BETWEEN`` seconds."""
        if self._stream is not None and time.monotonic() >= self._next:
            self._write(text[: shutil.get_terminal_size().columns - 1])
            self._next, self._shown = time.monotonic() + BETWEEN, True

    def _write(self, text: str) -> None:
        assert self._stream is not None
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Erase the line."""
        if self._shown:
            self._write("")
