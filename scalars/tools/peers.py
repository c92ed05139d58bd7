"""The table of schedules in other libraries and what to write here instead."""

from __future__ import annotations

from .. import checks

Row = tuple[str, str, str]


def rows() -> list[Row]:
    """Return (library, call there, call here) rows from ``help(scalars.schedules)``."""
    from .. import schedules

    lines = (schedules.__doc__ or "").splitlines()
    return [
        (cells[0], cells[1], cells[2])
        for cells in ([cell.strip() for cell in line.split(" | ")] for line in lines)
        if len(cells) == 3
    ]


def matching(words: str) -> list[Row]:
    """Return the rows whose library or call there contains every word, ignoring case."""
    table = rows()
    wanted = words.lower().split()
    found = [row for row in table if all(word in f"{row[0]} {row[1]}".lower() for word in wanted)]
    if not found:
        libraries = ", ".join(dict.fromkeys(library for library, _, _ in table))
        way_out = f"Choose from the libraries {libraries}."
        checks.fail("the words", "part of a library and of one of its calls", words, way_out)
    return found
