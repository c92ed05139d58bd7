"""``at`` over a million points, for every family."""

from __future__ import annotations

import numpy as np

from ..cases import CASES
from .measure import alternating, row

HOLD = "hold: <= 60 ms"


def main() -> None:
    points = np.linspace(0, 1, 1_000_000)
    slowest: dict[str, float] = {}
    for case in CASES:
        scalar = case.make()
        scalar.at(points[:1000])
        (seconds,) = alternating([lambda s=scalar: s.at(points)], rounds=3)
        name = type(scalar).__name__
        slowest[name] = max(seconds, slowest.get(name, 0.0))
    for name, seconds in slowest.items():
        row(f"at, 1,000,000 points, the slowest {name}", f"{seconds * 1e3:.0f} ms", HOLD)
