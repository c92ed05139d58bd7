"""``at`` over a million points, for every family."""

from __future__ import annotations

import numpy as np

from scalars import (
    Constant,
    CosineAnnealing,
    Exponential,
    LambdaValue,
    Linear,
    Polynomial,
    Sequence,
    Warmup,
)

from .measure import alternating, row

HOLD = "hold: <= 60 ms"
FAMILIES = [
    Constant(0.1),
    Linear(1.0, 0.1),
    Polynomial(1.0, 0.1),
    CosineAnnealing(1.0, 0.1),
    Exponential(1.0, 0.1),
    Sequence([Linear(0.0, 1.0), CosineAnnealing(1.0)], [0.1]),
    Warmup(CosineAnnealing(1.0), 0.1),
    1 - CosineAnnealing(1.0, 0.1) * 0.5,
    LambdaValue(lambda progress: (1 - progress) ** 2),
]


def main() -> None:
    points = np.linspace(0, 1, 1_000_000)
    for scalar in FAMILIES:
        (seconds,) = alternating([lambda s=scalar: s.at(points)], rounds=3)
        row(f"at, 1,000,000 points: {type(scalar).__name__}", f"{seconds * 1e3:.0f} ms", HOLD)
