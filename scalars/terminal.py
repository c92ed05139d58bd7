"""What is shown on a terminal only: colors, and the progress of long work."""

from __future__ import annotations

import os
import shutil
import sys
import time
from types import TracebackType
from typing import Any

BETWEEN = 0.1
"""Seconds from one line of progress to the next."""


def in_color(stream: Any) -> bool:
    """Return whether colors can be shown, and are wanted: see https://no-color.org."""
    return _is_terminal(stream) and not os.environ.get("NO_COLOR")


def _is_terminal(stream: Any) -> bool:
    """Return whether somebody sees lines that are written over: not in a file or a pipe."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


class Progress:
    """A line on standard error that is written over while work goes on, and then taken away.

    There is none where standard error is no terminal.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr if _is_terminal(sys.stderr) else None
        self._next = time.monotonic() + BETWEEN
        self._shown = False

    def show(self, text: str) -> None:
        """Show how far the work is, if the last line has been there for a moment."""
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
        """Take the line away."""
        if self._shown:
            self._write("")
