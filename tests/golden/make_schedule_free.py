"""Write schedule_free.json: the results of the PyPI package ``schedulefree`` for the small problem.

Run ``python -m tests.golden.make_schedule_free`` where it and PyTorch are installed.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import schedulefree
import torch

from ..schedule_free_cases import CONFIGURATIONS, NOISE, START, gradient
from . import write

SHOWN = (1, 2, 29, 30, 31, 100, 200)


def run(configuration: dict[str, Any]) -> list[dict[str, Any]]:
    """Return x and y after some of the steps, in double precision."""
    options = {**configuration, "lr": configuration["learning_rate"]}
    adam, beta = options.pop("adam"), options.pop("beta")
    del options["learning_rate"]
    options |= {"betas": (beta, 0.999)} if adam else {"momentum": beta}
    w = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    cls = schedulefree.AdamWScheduleFree if adam else schedulefree.SGDScheduleFree
    optimizer = cls([w], foreach=False, **options)
    optimizer.train()
    shown = []
    for k, noise in enumerate(NOISE, start=1):
        w.grad = gradient(w.detach(), torch.tensor(noise, dtype=torch.float64))
        optimizer.step()
        if k in SHOWN:
            y = w.tolist()
            optimizer.eval()
            shown.append({"k": k, "y": y, "x": w.tolist()})
            optimizer.train()
    return shown


if __name__ == "__main__":
    table = {str(c): run(c) for c in CONFIGURATIONS}
    versions = {name: version(name) for name in ("schedulefree", "torch")}
    write("schedule_free.json", versions, table)
