"""How to run the schedules of each library: the names in its calls, and how it steps.

A library is imported only when it is used, so that the others need not be installed.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from typing import Any

from . import load

Names = dict[str, Any]
Values = Callable[[str, Names, int], list[float]]
Library = Callable[[], tuple[Names, Values]]


def optimizer(rate: float) -> Any:
    import torch
    import torch.optim.swa_utils

    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate, momentum=0.9)


def by_setting(move: Callable[[Any, Any, int], None]) -> Values:
    """Read what a scheduler sets in a PyTorch optimizer after ``move`` to a step.

    A comment in the call names the value to read if it is not the rate.
    """

    def run(text: str, names: Names, steps: int) -> list[float]:
        opt = optimizer(names["s"])
        schedule = eval(text, {**names, "opt": opt})
        scheduled = text.rpartition("# ")[2] if "# " in text else "lr"
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


def stepped_first(schedule: Any, opt: Any, step: int) -> None:
    schedule.step()


def by_call(text: str, names: Names, steps: int) -> list[float]:
    """Call a function of the step."""
    schedule = eval(text, names)
    return [float(schedule(step)) for step in range(steps)]


def by_formula(text: str, names: Names, steps: int) -> list[float]:
    """Call a schedule with the step t."""
    return [float(eval(text, {**names, "t": step})) for step in range(steps)]


def by_mlx(text: str, names: Names, steps: int) -> list[float]:
    import mlx.core as mx

    schedule = eval(text, names)
    return [float(mx.array(schedule(mx.array(step))).item()) for step in range(steps)]


def by_where(text: str, names: Names, steps: int) -> list[float]:
    """Call a function of the fraction of the run that is done, below 1."""
    schedule = eval(text, names)
    return [float(schedule(step / names["T"])) for step in range(int(names["T"]))]


def torch_library() -> tuple[Names, Values]:
    import torch
    import torch.optim.swa_utils

    swa = {"SWALR": torch.optim.swa_utils.SWALR}
    return {**vars(torch.optim.lr_scheduler), **swa}, by_setting(by_stepping)


def keras() -> tuple[Names, Values]:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    return vars(load("keras").optimizers.schedules), by_call


def timm() -> tuple[Names, Values]:
    return vars(load("timm.scheduler")), by_setting(lambda schedule, _, step: schedule.step(step))


def ignite() -> tuple[Names, Values]:
    return vars(load("ignite.handlers")), by_setting(lambda schedule, *_: schedule(None))


def composer() -> tuple[Names, Values]:
    """Schedulers return a factor for a state, of which they use only the time."""
    # The schedulers use only the time module of its core; the rest imports trainers.
    enum = load("composer.utils.string_enum").StringEnum
    vars(sys.modules["composer.utils"])["StringEnum"] = enum
    time = load("composer.core.time")
    core = vars(sys.modules["composer.core"])
    core.update({"Time": time.Time, "TimeUnit": time.TimeUnit})
    core.update(dict.fromkeys({"PyTorchScheduler", "State"} - set(core), object))
    module = load("composer.optim.scheduler")

    class State:
        """The part of Composer's state that schedulers use."""

        def __init__(self, step: int, total: int) -> None:
            self.timestamp = time.Timestamp(batch=step)
            self.max_duration = time.Time(total, "ba")
            self.dataloader_len = None

    def run(text: str, names: Names, steps: int) -> list[float]:
        schedule = eval(text, names)
        total = int(names["T"])
        return [names["s"] * schedule(State(step, total)) for step in range(steps)]

    return vars(module), run


def paddle() -> tuple[Names, Values]:
    def run(text: str, names: Names, steps: int) -> list[float]:
        schedule, values = eval(text, names), []
        for _ in range(steps):
            values.append(float(schedule()))
            schedule.step()
        return values

    return vars(load("paddle.optimizer.lr")), run


def pytorch_optimizer() -> tuple[Names, Values]:
    import pytorch_optimizer as library

    names = vars(library.lr_scheduler)
    after, before = by_setting(by_stepping), by_setting(stepped_first)

    def run(text: str, given: Names, steps: int) -> list[float]:
        # Its own schedulers have the rate of a step only after stepping.
        own = text.startswith(("LinearScheduler", "CosineScheduler", "REX"))
        return (before if own else after)(text, given, steps)

    return names, run


def speechbrain() -> tuple[Names, Values]:
    """Schedulers set or return the rate when they are called."""

    def run(text: str, names: Names, steps: int) -> list[float]:
        opt = optimizer(names["s"])
        schedule, values = eval(text, names), []
        for step in range(steps):
            if text.startswith("StepScheduler"):
                values.append(float(schedule(step)[1]))
            elif text.endswith(".clr"):
                values.append(float(schedule(step)))
            else:
                schedule(*([opt, step] if text.startswith("TriStage") else [opt]))
                values.append(float(opt.param_groups[0]["lr"]))
        return values

    return vars(load("speechbrain.nnet.schedulers")), run


def pytorch_warmup() -> tuple[Names, Values]:
    import pytorch_warmup as library

    def move(warmup: Any, opt: Any, step: int) -> None:
        if step:
            with warmup.dampening():
                pass

    return vars(library), by_setting(move)


def mmengine() -> tuple[Names, Values]:
    import mmengine.optim.scheduler

    return vars(mmengine.optim.scheduler), by_setting(by_stepping)


def megatron() -> tuple[Names, Values]:
    module = load("megatron.core.optimizer_param_scheduler")
    return vars(module), by_setting(lambda schedule, opt, step: schedule.step(int(step > 0)))


def bolts() -> tuple[Names, Values]:
    import torch

    names = vars(load("pl_bolts.optimizers.lr_scheduler"))
    lambda_lr = torch.optim.lr_scheduler.LambdaLR
    return {**names, "LambdaLR": lambda_lr}, by_setting(by_stepping)


def fairseq2() -> tuple[Names, Values]:
    names: Names = {}
    for name in ("cosine_annealing", "myle", "noam", "polynomial_decay", "tri_stage"):
        names |= vars(load(f"fairseq2.optim.lr_schedulers.{name}"))
    return names, by_setting(by_stepping)


def stepping(module: str) -> Library:
    return lambda: (vars(load(module)), by_setting(by_stepping))


# Each library: the package that it is in, and how it is run.
LIBRARIES: dict[str, tuple[str, Library]] = {
    "PyTorch": ("torch", torch_library),
    "optax": ("optax", lambda: (vars(load("optax")), by_call)),
    "MLX": ("mlx", lambda: (vars(load("mlx.optimizers")), by_mlx)),
    "Keras": ("keras", keras),
    "transformers": ("transformers", stepping("transformers.optimization")),
    "timm": ("timm", timm),
    "fvcore": ("fvcore", lambda: (vars(load("fvcore.common.param_scheduler")), by_where)),
    "ignite": ("pytorch-ignite", ignite),
    "Composer": ("mosaicml", composer),
    "DeepSpeed": ("deepspeed", stepping("deepspeed.runtime.lr_schedules")),
    "MMEngine": ("mmengine", mmengine),
    "pytorch_optimizer": ("pytorch_optimizer", pytorch_optimizer),
    "pytorch_warmup": ("pytorch-warmup", pytorch_warmup),
    "thinc": ("thinc", lambda: (vars(load("thinc.schedules")), by_call)),
    "PaddlePaddle": ("paddlepaddle", paddle),
    "torchtune": ("torchtune", stepping("torchtune.training.lr_schedulers")),
    "Lightning Bolts": ("lightning-bolts", bolts),
    "SpeechBrain": ("speechbrain", speechbrain),
    "NeMo": ("nemo-toolkit", stepping("nemo.core.optim.lr_scheduler")),
    "Megatron": ("megatron-core", megatron),
    "fairseq2": ("fairseq2", fairseq2),
    "lightly": ("lightly", lambda: (vars(load("lightly.utils.scheduler")), by_formula)),
    "OLMo-core": ("ai2-olmo-core", lambda: (vars(load("olmo_core.optim.scheduler")), by_formula)),
}


def version(package: str) -> str:
    """Return the version of an installed package, or the commit of a repository."""
    if package.startswith("commit "):
        return package
    return importlib.metadata.version(package) if package else "read from source"
