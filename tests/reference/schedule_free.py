"""Schedule-Free SGD and AdamW as the paper writes them: x, y and z are all kept.

Defazio, A. et al., 2024. The road less scheduled. arXiv:2405.15682, equations 6 to 8 and
algorithm 1. It uses plain Python floats, which have double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Reference:
    """A run; ``step(gradients)`` takes the gradients at ``y``."""

    z: list[float]
    adam: bool
    rate: Callable[[int], float]
    beta: Callable[[int], float]
    beta2: float = 0.999
    eps: float = 1e-8
    decay: float = 0.0
    warmup_steps: int = 0
    r: float = 0.0
    power: float = 2.0
    k: int = 0
    highest: float = 0.0
    total: float = 0.0
    x: list[float] = field(init=False)
    y: list[float] = field(init=False)
    v: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.x, self.y, self.v = list(self.z), list(self.z), [0.0] * len(self.z)

    def step(self, gradients: list[float]) -> None:
        rate = self.rate(self.k)
        if self.k < self.warmup_steps:
            rate *= (self.k + 1) / self.warmup_steps
        self.highest = max(self.highest, rate)
        weight = (self.k + 1) ** self.r * self.highest**self.power
        self.total += weight
        c = weight / self.total if self.total else 0.0
        beta = self.beta(self.k)
        for i, gradient in enumerate(gradients):
            direction = gradient
            if self.adam:
                self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * gradient * gradient
                corrected = self.v[i] / (1 - self.beta2 ** (self.k + 1))
                direction = gradient / (math.sqrt(corrected) + self.eps)
            self.z[i] -= rate * (direction + self.decay * self.y[i])
            self.x[i] = (1 - c) * self.x[i] + c * self.z[i]
            self.y[i] = (1 - beta) * self.z[i] + beta * self.x[i]
        self.k += 1
