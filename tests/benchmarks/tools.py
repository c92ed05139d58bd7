"""The time that a Recorder adds to an update, and the time to parse a text."""

from __future__ import annotations

import itertools

from scalars import CosineAnnealing, Recorder, ScalarGroup, Warmup, parse

from .measure import microseconds, row

POINTS = [i / 1000 for i in range(1000)]
TEXT = "Warmup(CosineAnnealing(1e-3, end=1e-5), 0.1) * 0.5"


def main() -> None:
    points = itertools.cycle(POINTS)
    for count in (1, 10, 100):
        calls = 2_000 // count
        plain, recorded = (
            ScalarGroup({f"s{i}": CosineAnnealing(1e-3, 1e-5) for i in range(count)})
            for _ in range(2)
        )
        recorder = Recorder(recorded, last=1000)
        updates = [lambda g=g: g.update(next(points)) for g in (plain, recorded)]
        without, with_it = microseconds(*updates, number=calls)
        what = f"a Recorder adds to an update of {count} scalars, each"
        row(what, f"{(with_it - without) / count:.2f} us", "hold: <= 2 us")
        assert len(recorder) == 1000
    make = lambda: Warmup(CosineAnnealing(1e-3, end=1e-5), 0.1) * 0.5  # noqa: E731
    made, parsed = microseconds(make, lambda: parse(TEXT), number=100)
    row("parse a text of two calls", f"{parsed:.0f} us", f"{parsed / made:.1f} x of making it")
