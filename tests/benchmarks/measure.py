"""Measuring and printing for the benchmarks."""

from __future__ import annotations

import statistics
import time
import timeit
from collections.abc import Callable, Sequence
from typing import Any


def microseconds(*functions: Callable[[], Any], number: int = 2_000, repeat: int = 50) -> Any:
    """Return the time of a call of each function: the best of several runs, made in turn.

    A machine that is slow for a while is then slow for all of them. One function gives one float.
    """
    timers = [timeit.Timer(function) for function in functions]
    runs = [[timer.timeit(number) for timer in timers] for _ in range(repeat)]
    best = [min(times) / number * 1e6 for times in zip(*runs, strict=True)]
    return best if len(best) > 1 else best[0]


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
