"""A small problem and ways to solve it, shared by MLX, the reference and PyTorch.

The gradient at w is w**3 - w + noise, elementwise. It uses only operators, so floats, MLX arrays
and PyTorch tensors compute it in the same order.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

STEPS, SIZE = 200, 5
chosen = random.Random(0)
START = [chosen.uniform(-2, 2) for _ in range(SIZE)]
NOISE = [[chosen.gauss(0, 0.3) for _ in range(SIZE)] for _ in range(STEPS)]


def gradient(w: Any, noise: Any) -> Any:
    return w * w * w - w + noise


CONFIGURATIONS: list[dict[str, Any]] = [
    {
        "adam": adam,
        # Rates that float32 holds exactly: MLX keeps the learning rate in float32.
        "learning_rate": 2**-7 if adam else 2**-4,
        "beta": beta,
        "weight_decay": decay,
        "warmup_steps": warmup,
        "r": r,
        "weight_lr_power": power,
    }
    for adam, (beta, decay), warmup, (r, power) in product(
        (False, True),
        ((0.9, 0.0), (0.9, 0.1), (0.75, 0.01)),
        (0, 30),
        ((0.0, 2.0), (1.0, 2.0), (0.5, 0.0)),
    )
]
