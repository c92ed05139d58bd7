"""Output for terminals only: colors, lines of its width, and the progress of long computations."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
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


def code_lines(code: str, indent: str, stream: Any) -> str:
    """Return a line of code, wrapped to the width of the terminal that ``stream`` is.

    It is broken after commas and before comments where possible, and ``indent`` begins the next
    lines. For a file or a pipe it stays one line, which ``grep`` finds as a whole.
    """
    if not _is_terminal(stream):
        return code
    width = max(shutil.get_terminal_size().columns, 40)
    kept = re.sub(r"(?<!,) (?!#)", "\xa0", code.strip())  # textwrap does not break at \xa0
    first = code[: len(code) - len(code.lstrip())]
    lines = []
    for line in _fill(kept, width, first, indent):
        begin = line[: len(line) - len(line.lstrip(" "))]
        lines += _fill(line.strip(" ").replace("\xa0", " "), width, begin, indent)
    return "\n".join(lines)


def _fill(text: str, width: int, first: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


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
