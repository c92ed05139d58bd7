"""Run the schedules of other libraries and write their values: ``python -m tests.golden.make``.

The rows are those of the table in ``scalars.schedules``. It needs torch, optax, keras (with
the JAX backend), transformers, timm, fvcore and pytorch-ignite; their versions are recorded.
"""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import write

os.environ["KERAS_BACKEND"] = "jax"
FILE = Path(__file__).parent / "peers.json"
PACKAGES = {
    "PyTorch": "torch",
    "optax": "optax",
    "MLX": "mlx",
    "Keras": "keras",
    "transformers": "transformers",
    "timm": "timm",
    "fvcore": "fvcore",
    "ignite": "pytorch-ignite",
}
# Awkward totals: primes, for which no boundary falls on a round fraction.
PARAMETERS: list[dict[str, float]] = [
    {"T": 7, "s": 0.1, "e": 0.001, "w": 2, "n": 2, "g": 0.5, "k": 2.0},
    {"T": 31, "s": 3e-4, "e": 1e-5, "w": 5, "n": 5, "g": 0.9, "k": 0.5},
    {"T": 97, "s": 1.0, "e": 0.25, "w": 10, "n": 13, "g": 0.1, "k": 3.0},
]
BEYOND = 3  # steps after the last
Values = Callable[[str, dict[str, Any], int], list[float]]


def rows() -> list[tuple[str, str, str]]:
    """Return (library, call there, call here) from the table in the package's docstring."""
    import scalars.schedules

    lines = (scalars.schedules.__doc__ or "").splitlines()
    return [
        (cells[0], cells[1], cells[2])
        for cells in ([cell.strip() for cell in line.split(" | ")] for line in lines)
        if len(cells) == 3
    ]


def optimizer(rate: float) -> Any:
    import torch
    import torch.optim.swa_utils

    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate, momentum=0.9)


def by_setting(move: Callable[[Any, Any, int], None]) -> Values:
    """Read what a scheduler sets in a PyTorch optimizer, once ``move`` is made to a step."""

    def run(text: str, names: dict[str, Any], steps: int) -> list[float]:
        opt = optimizer(names["s"])
        schedule = eval(text, {**names, "opt": opt})
        scheduled = "momentum" if text.endswith("# momentum") else "lr"
        values: list[float] = []
        for step in range(steps):
            try:
                move(schedule, opt, step)
            except ValueError:  # OneCycleLR counts its steps
                break
            values.append(float(opt.param_groups[0][scheduled]))
        return values

    return run


def by_stepping(schedule: Any, opt: Any, step: int) -> None:
    if step:
        opt.step()
        schedule.step()


def by_call(text: str, names: dict[str, Any], steps: int) -> list[float]:
    """Call a function of the step."""
    schedule = eval(text, names)
    return [float(schedule(step)) for step in range(steps)]


def by_mlx(text: str, names: dict[str, Any], steps: int) -> list[float]:
    import mlx.core as mx

    schedule = eval(text, names)
    return [float(mx.array(schedule(mx.array(step))).item()) for step in range(steps)]


def by_where(text: str, names: dict[str, Any], steps: int) -> list[float]:
    """Call a function of the part of the run that is done, below 1."""
    schedule = eval(text, names)
    return [float(schedule(step / names["T"])) for step in range(int(names["T"]))]


def libraries() -> dict[str, tuple[dict[str, Any], Values]]:
    import fvcore.common.param_scheduler
    import ignite.handlers
    import keras
    import mlx.optimizers
    import optax
    import timm.scheduler
    import torch
    import torch.optim.swa_utils
    import transformers

    return {
        "PyTorch": (
            {**vars(torch.optim.lr_scheduler), "SWALR": torch.optim.swa_utils.SWALR},
            by_setting(by_stepping),
        ),
        "optax": (vars(optax), by_call),
        "MLX": (vars(mlx.optimizers), by_mlx),
        "Keras": (vars(keras.optimizers.schedules), by_call),
        "transformers": (vars(transformers.optimization), by_setting(by_stepping)),
        "timm": (
            vars(timm.scheduler),
            by_setting(lambda schedule, opt, step: schedule.step(step)),
        ),
        "fvcore": (vars(fvcore.common.param_scheduler), by_where),
        "ignite": (
            vars(ignite.handlers),
            by_setting(lambda schedule, opt, step: schedule(None)),
        ),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    known = libraries()
    versions = {name: importlib.metadata.version(package) for name, package in PACKAGES.items()}
    values: dict[str, list[list[float]]] = {}
    for library, theirs, _ in rows():
        names, run = known[library]
        values[f"{library} | {theirs}"] = [
            run(theirs, {**names, **parameters}, int(parameters["T"]) + 1 + BEYOND)
            for parameters in PARAMETERS
        ]
    write(FILE.name, versions, values)
    print(f"{len(values)} rows, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
