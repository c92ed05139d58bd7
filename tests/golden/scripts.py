"""How to run the schedules in training scripts, and those of libraries in other languages.

As in ``libraries.py``. Of a script on the path only the functions are run, with its arguments as a
row gives them. ParameterSchedulers.jl and Burn are written in Julia and Rust: their formulas are
written here in Python, from their source.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from .libraries import Library, Names, Values, by_call, by_formula, optimizer
from .trainers import functions


def script(file: str, wanted: list[str], arguments: dict[str, str]) -> Library:
    """Run functions of a script, whose arguments are formulas of the parameters."""

    def run(text: str, names: Names, steps: int) -> list[float]:
        made = {name: eval(formula, dict(names)) for name, formula in arguments.items()}
        given = {"math": math, "args": SimpleNamespace(**made), **made}
        found = functions(file, wanted, given)
        return by_formula(text, {**names, **found}, steps)

    return lambda: ({}, run)


def modded_nanogpt() -> tuple[Names, Values]:
    import torch

    wanted = ["TrainingStage", "TrainingSchedule", "get_muon_momentum"]
    given = {"dataclass": dataclass, "device": "cpu", "torch": torch}
    given |= {"accumulate": itertools.accumulate, "pairwise": itertools.pairwise}
    found = functions("modded-nanogpt/train_gpt.py", wanted, given)

    def stage(rate: float) -> Any:
        empty = {"batch_size": 1, "window_sizes": (1, 1), "train_max_seq_len": 1}
        weights = {"mtp_weights_start": [1.0], "mtp_weights_end": [1.0]}
        return found["TrainingStage"](rate, duration=1 / 3, **empty, **weights)

    def run(text: str, names: Names, steps: int) -> list[float]:
        found["training_schedule"] = SimpleNamespace(total_steps=names["T"])
        return by_formula(text, {**names, **found, "stage": stage}, steps)

    return {}, run


def byol() -> tuple[Names, Values]:
    import jax.numpy as jnp

    wanted = ["target_ema", "learning_schedule", "_cosine_decay"]
    found = functions("byol/utils/schedules.py", wanted, {"jnp": jnp})

    def run(text: str, names: Names, steps: int) -> list[float]:
        return [
            float(eval(text, {**names, **found, "t": jnp.array(step)})) for step in range(steps)
        ]

    return {}, run


def moco() -> tuple[Names, Values]:
    found = functions("moco/main_moco.py", ["adjust_learning_rate"], {"math": math})

    def run(text: str, names: Names, steps: int) -> list[float]:
        opt, values = optimizer(names["s"]), []
        for step in range(steps):
            given = {**names, **found, "opt": opt, "t": step, "args": SimpleNamespace}
            eval(text, given)
            values.append(float(opt.param_groups[0]["lr"]))
        return values

    return {}, run


def dino() -> tuple[Names, Values]:
    import numpy as np

    found = functions("dino/utils.py", ["cosine_scheduler"], {"np": np})

    def run(text: str, names: Names, steps: int) -> list[float]:
        return [float(value) for value in eval(text, {**names, **found})[:steps]]

    return {}, run


def wave(curve: Callable[[float], float], factor: Callable[..., float]) -> Any:
    """Return a factory of waves between two values, as in ``cyclic.jl``."""

    def make(l0: float, l1: float, n: int, decay: float = 1.0) -> Any:
        low, height = min(l0, l1), abs(l0 - l1)
        return lambda t: height * factor(t, n, decay) * curve(math.pi * (t - 1) / n) + low

    return make


def triangle(x: float) -> float:
    return 2 / math.pi * abs(math.asin(math.sin(x)))


def sine(x: float) -> float:
    return abs(math.sin(x))


def julia_cosine(l0: float, l1: float, n: int, restart: bool = True) -> Any:
    low, height = min(l0, l1), abs(l0 - l1)

    def value(t: int) -> float:
        done = (t - 1) % n if restart else t - 1
        return height * (1 + math.cos(math.pi * done / n)) / 2 + low

    return value


def julia_one_cycle(total: int, peak: float) -> Any:
    rise = math.ceil(total * 0.25)
    up = julia_cosine(peak, peak / 25, rise, False)
    down = julia_cosine(peak, peak / 1e5, total - rise, False)
    return lambda t: up(t + rise) if t <= rise else down(t - rise)


def julia_step(start: float, decay: float, sizes: Any) -> Any:
    if isinstance(sizes, int):
        return lambda t: start * decay ** (math.ceil(t / sizes) - 1)
    ends = list(itertools.accumulate(sizes))
    return lambda t: start * decay ** sum(t > end for end in ends)


def parameter_schedulers() -> tuple[Names, Values]:
    """Functions of the iteration, which is counted from 1: ``decay.jl`` and ``cyclic.jl``."""

    def unchanged(t: int, n: int, decay: float) -> float:
        return 1.0

    def halves(t: int, n: int, decay: float) -> float:
        return 0.5 ** (math.ceil(t / n) - 1)

    def decays(t: int, n: int, decay: float) -> float:
        return float(decay ** (t - 1))

    names: Names = {
        "Step": julia_step,
        "Exp": lambda start, decay: lambda t: start * decay ** (t - 1),
        "Poly": lambda start, degree, n: lambda t: start * (1 - (t - 1) / n) ** degree,
        "Inv": lambda start, decay, degree: lambda t: start / (1 + (t - 1) * decay) ** degree,
        "CosAnneal": julia_cosine,
        "OneCycle": julia_one_cycle,
    }
    for name, curve in (("Triangle", triangle), ("Sin", sine)):
        names[name] = wave(curve, unchanged)
        names[f"{name}Decay2"] = wave(curve, halves)
        names[f"{name}Exp"] = wave(curve, decays)

    def run(text: str, given: Names, steps: int) -> list[float]:
        schedule = eval(text, given)
        return [float(schedule(step + 1)) for step in range(steps)]

    return names, run


def burn() -> tuple[Names, Values]:
    """Functions of the number of calls before, as in ``burn-optim/src/lr_scheduler``."""

    def cosine(rate: float, n: int, end: float = 0.0) -> Any:
        return lambda t: end + 0.5 * (rate - end) * (1 + math.cos(t / n * math.pi))

    def linear(rate: float, end: float, n: int) -> Any:
        change = (end - rate) / n
        return lambda t: end - change * max(n - t, 0)

    def noam(factor: float, warmup: int, size: int) -> Any:
        return lambda t: factor * size**-0.5 * min((t + 1) ** -0.5, (t + 1) * warmup**-1.5)

    names: Names = {
        "CosineAnnealingLrScheduler": cosine,
        "LinearLrScheduler": linear,
        "ExponentialLrScheduler": lambda rate, gamma: lambda t: rate * gamma**t,
        "StepLrScheduler": lambda rate, n, gamma: lambda t: rate * gamma ** (t // n),
        "NoamLrScheduler": noam,
        "ComposedLrScheduler": lambda *parts: lambda t: math.prod(part(t) for part in parts),
    }
    return names, by_call


NANOCHAT = {
    "warmup_steps": "w",
    "warmdown_ratio": "n / T",
    "final_lr_frac": "g",
    "num_iterations": "T",
    "weight_decay_scaled": "s",
}
NANOGPT = {
    "learning_rate": "s",
    "warmup_iters": "w",
    "lr_decay_iters": "T",
    "min_lr": "e",
}

LIBRARIES: dict[str, tuple[str, Library]] = {
    "nanoGPT": ("commit 3adf61e1", script("nanoGPT/train.py", ["get_lr"], NANOGPT)),
    "nanochat": (
        "commit 92d63d4",
        script(
            "nanochat/scripts/base_train.py", ["get_lr_multiplier", "get_weight_decay"], NANOCHAT
        ),
    ),
    "modded-nanogpt": ("commit f411b3d3", modded_nanogpt),
    "DINO": ("commit 7c446df", dino),
    "BYOL": ("commit 8457046", byol),
    "MoCo": ("commit 0102427", moco),
    "ParameterSchedulers.jl": ("", parameter_schedulers),
    "Burn": ("", burn),
}
