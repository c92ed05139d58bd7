"""``at`` over a million points, for every family, beside NumPy's cosine of as many numbers."""

from __future__ import annotations

import numpy as np

from ..cases import CASES
from .measure import microseconds, row

HOLD = "hold: <= 60 ms"


def main() -> None:
    points = np.linspace(0, 1, 1_000_000)
    slowest: dict[str, tuple[float, float]] = {}
    for case in CASES:
        scalar = case.make()
        scalar.at(points[:1000])
        functions = [lambda s=scalar: s.at(points), lambda: np.cos(points)]
        own, cosine = microseconds(*functions, number=1, repeat=5)
        name = type(scalar).__name__
        slowest[name] = max((own / 1e3, own / cosine), slowest.get(name, (0.0, 0.0)))
    for name, (milliseconds, ratio) in slowest.items():
        what = f"at, 1,000,000 points, the slowest {name}"
        row(what, f"{milliseconds:.0f} ms, {ratio:.1f} cos", HOLD)
