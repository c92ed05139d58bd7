"""Metric rules of other libraries, with their arguments and ours."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from .plateau_cases import metrics

# For each library, the arguments of its class and of ours.
RULES: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "transformers GreedyLR": [
        (
            {**both, "min_lr": least, "max_lr": most, "reset_start": resets},
            {**both, "minimum": least, "maximum": most, "reset_after": resets},
        )
        for both, (least, most, resets) in product(
            (
                {"patience": 2, "factor": 0.8},
                {"patience": 0, "factor": 0.9, "cooldown": 3, "warmup": 2, "mode": "max"},
                {"patience": 1, "factor": 0.5, "threshold": 0.01, "threshold_mode": "rel"},
                {"patience": 3, "factor": 0.7, "threshold": 0.02, "cooldown": 1, "mode": "max"},
            ),
            ((1e-3, 1.0, 500), (0.05, 0.2, 4), (0.08, 0.3, 2)),
        )
    ],
    "SpeechBrain NewBobScheduler": [
        (
            {"annealing_factor": factor, "improvement_threshold": threshold, "patient": patience},
            {"factor": factor, "threshold": threshold, "patience": patience},
        )
        for factor, (threshold, patience) in product(
            (0.5, 0.9), ((0.0025, 0), (-0.01, 5), (0.02, 2))
        )
    ],
    "PaddlePaddle ReduceOnPlateau": [
        (
            {**both, "min_lr": least, "epsilon": 0.0},
            {**both, "minimum": least, "best_in_cooldown": False},
        )
        for both, least in product(
            (
                {"factor": 0.5, "patience": 3, "cooldown": 7, "threshold": 0.01},
                {"factor": 0.9, "patience": 0, "cooldown": 2, "mode": "max"},
                {"factor": 0.8, "patience": 1, "threshold": 0.05, "threshold_mode": "abs"},
            ),
            (0.0, 0.01),
        )
    ],
    "Keras ReduceLROnPlateau": [
        (
            {
                "factor": factor,
                "patience": patience,
                "cooldown": cooldown,
                "min_delta": delta,
                "mode": mode,
                "min_lr": least,
            },
            {
                "factor": factor,
                "patience": patience - 1,
                "cooldown": cooldown - 1,
                "threshold": delta,
                "threshold_mode": "abs",
                "mode": mode,
                "minimum": least,
            },
        )
        for (factor, least), (patience, cooldown), (delta, mode) in product(
            ((0.5, 0.0), (0.9, 0.02)), ((4, 8), (1, 1), (2, 3)), ((0.05, "min"), (0.0, "max"))
        )
    ],
}
SINGLE = {"Keras ReduceLROnPlateau"}
"""Rules that keep the rate in single precision."""
METRICS = 400


def seen(rule: str, arguments: dict[str, Any]) -> list[float]:
    """Return the metrics for a rule; SpeechBrain's rule does not support NaN."""
    values = metrics(rule + str(arguments))[:METRICS]
    return [x for x in values if not (rule.startswith("SpeechBrain") and math.isnan(x))]
