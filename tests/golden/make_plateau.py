"""Write plateau.json: the learning rates of PyTorch's ReduceLROnPlateau over random metrics.

Run ``python -m tests.golden.make_plateau`` where PyTorch is installed.
"""

from __future__ import annotations

import torch

from ..plateau_cases import CONFIGURATIONS, metrics
from . import write


def rates(configuration: dict[str, object]) -> list[float]:
    """Return the learning rate after each metric."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    arguments = {**configuration, "eps": 0.0}
    arguments["min_lr"] = arguments.pop("minimum")
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **arguments)
    values = []
    for metric in metrics(str(configuration)):
        scheduler.step(metric)
        values.append(optimizer.param_groups[0]["lr"])
    return values


def changes(values: list[float]) -> list[tuple[int, float]]:
    """Return the steps at which the learning rate changes, and the new rates."""
    pairs = zip([1.0, *values], values, strict=False)
    return [(i, now) for i, (before, now) in enumerate(pairs) if now != before]


if __name__ == "__main__":
    table = {str(c): changes(rates(c)) for c in CONFIGURATIONS}
    write("plateau.json", {"torch": torch.__version__}, table)
