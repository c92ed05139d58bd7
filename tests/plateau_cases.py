"""Random metrics, and ways to observe them, for PyTorch's plateau and ours."""

from __future__ import annotations

import math
import random
from itertools import product
from typing import Any

LENGTH = 1000
CONFIGURATIONS: list[dict[str, Any]] = [
    {
        "factor": factor,
        "patience": patience,
        "mode": mode,
        "threshold": threshold,
        "threshold_mode": threshold_mode,
        "cooldown": cooldown,
        "minimum": minimum,
    }
    for mode, threshold_mode, threshold, cooldown, (patience, factor, minimum) in product(
        ("min", "max"),
        ("rel", "abs"),
        (1e-4, 0.05),
        (0, 5),
        ((10, 0.5, 0.0), (0, 0.9, 1e-3), (3, 0.1, 1e-6)),
    )
]


def metrics(seed: str) -> list[float]:
    """Return metrics that improve in bursts, both ways, with some that are NaN."""
    chosen = random.Random(seed)
    values, level = [], 5.0
    for i in range(LENGTH):
        if chosen.random() < 0.2:
            level *= 1 + chosen.gauss(0, 0.05) + (0.02 if (i // 250) % 2 else -0.02)
        noise = level * (1 + chosen.gauss(0, 0.01))
        values.append(math.nan if chosen.random() < 0.02 else noise)
    return values
