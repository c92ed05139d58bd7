"""Measuring and printing for the benchmarks."""

from __future__ import annotations

import statistics
import time
import timeit
from collections.abc import Callable, Sequence
from typing import Any


def microseconds(function: Callable[[], Any], number: int = 20_000, repeat: int = 7) -> float:
    """Return the time of a call: the best of several runs."""
    return min(timeit.repeat(function, number=number, repeat=repeat)) / number * 1e6


def alternating(functions: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Return the median time of each function in seconds, called in turn to share the load."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, measured in zip(functions, times, strict=True):
            begin = time.perf_counter()
            function()
            measured.append(time.perf_counter() - begin)
    return [statistics.median(measured) for measured in times]


def row(what: str, figure: str, hold: str = "") -> None:
    """Print a line of the report."""
    print(f"{what:<58} {figure:>18}   {hold}".rstrip(), flush=True)
