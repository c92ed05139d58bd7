"""How to run the schedules of libraries that keep them in a trainer or in its configuration.

As in ``libraries.py``. Where a schedule reads a trainer or a configuration, it gets an object with
only the fields that it reads. fairseq needs Python 3.10 or older, and the module of AllenNLP's
optimizers, which its schedules use for annotations only, needs transformers 4.20.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from . import load
from .libraries import Library, Names, Values, by_formula, by_setting, by_stepping, optimizer


def tensorflow() -> tuple[Names, Values]:
    def run(text: str, names: Names, steps: int) -> list[float]:
        # Without a graph, the functions of TensorFlow 1 return a function.
        return [float(eval(text, {**names, "t": step})()) for step in range(steps)]

    return {"tf": load("tensorflow")}, run


def ultralytics() -> tuple[Names, Values]:
    """The trainer sets its scheduler up from its arguments, and warms up step by step.

    The comment in the call says that there are n batches per epoch, or names the value to read.
    """
    import numpy as np

    trainer = load("ultralytics.engine.trainer").BaseTrainer

    def run(text: str, names: Names, steps: int) -> list[float]:
        given = eval(text, {**names, "train": lambda **given: {"cos_lr": False, **given}})
        epochs, batches = given["epochs"], names["n"] if "batches" in text else 1
        opt = optimizer(given["lr0"])
        own = SimpleNamespace(args=SimpleNamespace(**given), epochs=epochs, optimizer=opt)
        trainer._setup_scheduler(own)
        own.args.warmup_epochs = given.get("warmup_epochs", 0)
        warmup = trainer._get_warmup_iterations(own, batches)
        values: list[float] = []
        for step in range(steps):
            epoch = step // batches
            if step and step % batches == 0:
                own.optimizer.step()
                own.scheduler.step()
            rate = opt.param_groups[0]["initial_lr"] * own.lf(epoch)
            first, last = 0.0, rate
            if text.endswith("# bias"):
                first = given["warmup_bias_lr"]
            elif text.endswith("# momentum"):
                first, last = given["warmup_momentum"], given["momentum"]
            else:
                assert rate == opt.param_groups[0]["lr"]
            # Read from the loop of BaseTrainer._do_train, which cannot be run alone.
            values.append(float(np.interp(step, [0, warmup], [first, last])) if warmup else last)
        return values

    return {}, run


def stable_baselines() -> tuple[Names, Values]:
    """Call a function of the progress that remains."""

    def run(text: str, names: Names, steps: int) -> list[float]:
        schedule = eval(text, names)
        return [float(schedule(1 - step / names["T"])) for step in range(steps)]

    return vars(load("stable_baselines3.common.utils")), run


def torchtitan() -> tuple[Names, Values]:
    module = load("torchtitan.components.optimizer.lr_scheduler")
    # The configuration only; the scheduler steps all optimizers of a list.
    return vars(module), by_setting(by_stepping)


def levanter() -> tuple[Names, Values]:
    import jax.numpy as jnp

    def run(text: str, names: Names, steps: int) -> list[float]:
        schedule = eval(text, names)
        return [float(schedule(jnp.array(step))) for step in range(steps)]

    return vars(load("levanter.optim.config")), run


def maxtext() -> tuple[Names, Values]:
    """The function is run without the module around it, which imports all of MaxText."""
    import jax.numpy as jnp
    import optax

    kinds = SimpleNamespace(COSINE="cosine", WSD="wsd")
    styles = SimpleNamespace(LINEAR="linear", COSINE="cosine")
    types = SimpleNamespace(LearningRateScheduleType=kinds, WsdDecayStyle=styles)
    given = {"jnp": jnp, "optax": optax, "types": types}
    create = functions("maxtext/utils/maxtext_utils.py", ["create_learning_rate_schedule"], given)

    def run(text: str, names: Names, steps: int) -> list[float]:
        config = {
            "learning_rate_schedule_steps": names["T"],
            "steps": names["T"],
            **eval(text, names),
        }
        config = {"lr_schedule_type": "cosine", "wsd_decay_style": "linear", **config}
        schedule = create["create_learning_rate_schedule"](SimpleNamespace(**config))
        return [float(schedule(step)) for step in range(steps)]

    return {}, run


def easylm() -> tuple[Names, Values]:
    def run(text: str, names: Names, steps: int) -> list[float]:
        call, _, scheduled = text.partition(" # ")
        information = eval(call, names)[1]
        schedule = information[f"{scheduled or 'learning_rate'}_schedule"]
        return [float(schedule(step)) for step in range(steps)]

    return vars(load("EasyLM.optimizers")), run


def allennlp() -> tuple[Names, Values]:
    """Schedulers step once per batch, and the cosine and the momentum once per epoch."""
    package = "allennlp.training.learning_rate_schedulers"
    names: Names = {}
    for name in ("polynomial_decay", "linear_with_warmup", "noam", "slanted_triangular", "cosine"):
        names |= vars(load(f"{package}.{name}"))
        vars(sys.modules[package]).setdefault("PolynomialDecay", names["PolynomialDecay"])
    names |= vars(load("allennlp.training.momentum_schedulers.inverted_triangular"))

    def move(schedule: Any, opt: Any, step: int) -> None:
        by_batch = type(schedule).__name__ in {"NoamLR", "PolynomialDecay", "LinearWithWarmup"}
        if by_batch or hasattr(schedule, "num_steps_per_epoch"):
            schedule.step_batch(step)
        elif step:
            schedule.step()

    return names, by_setting(move)


def fairseq() -> tuple[Names, Values]:
    names: Names = {}
    for name in (
        "cosine_lr_scheduler",
        "fixed_schedule",
        "inverse_square_root_schedule",
        "polynomial_decay_schedule",
        "step_lr_scheduler",
        "tri_stage_lr_scheduler",
        "triangular_lr_scheduler",
    ):
        names |= vars(load(f"fairseq.optim.lr_scheduler.{name}"))
    wrapper = names["FairseqLRScheduler"].__init__.__globals__["FairseqOptimizer"]

    def run(text: str, given: Names, steps: int) -> list[float]:
        opt = wrapper(None)
        opt._optimizer = optimizer(given["s"])
        schedule = eval(text, {**given, "opt": opt})
        schedule.step_begin_epoch(1)
        return [float(schedule.step_update(step)) for step in range(steps)]

    return names, run


def rllib() -> tuple[Names, Values]:
    names: Names = {}
    for name in ("constant", "linear", "polynomial", "exponential", "piecewise"):
        names |= vars(load(f"ray.rllib.utils.schedules.{name}_schedule"))
    names["Scheduler"] = load("ray.rllib.utils.schedules.scheduler").Scheduler

    def run(text: str, given: Names, steps: int) -> list[float]:
        schedule = eval(text, given)
        value = schedule.update if text.startswith("Scheduler(") else schedule.value
        return [float(value(step)) for step in range(steps)]

    return names, run


def mmcv() -> tuple[Names, Values]:
    """A configuration names a hook, which sets the rate before each step of a runner."""
    hooks = vars(load("mmcv.runner.hooks.lr_updater"))
    hooks = {**hooks, **vars(load("mmcv.runner.hooks.momentum_updater"))}

    def run(text: str, names: Names, steps: int) -> list[float]:
        config = {"by_epoch": False, **eval(text, names)}
        kind = "Momentum" if text.endswith("# momentum") else "Lr"
        policy = config.pop("policy")
        policy = policy.title() if policy.islower() else policy
        hook = hooks[f"{policy}{kind}UpdaterHook"](**config)
        opt = optimizer(names["s"])
        runner = SimpleNamespace(
            optimizer=opt, max_iters=int(names["T"]), iter=0, data_loader=[], epoch=0
        )
        hook.before_run(runner)
        values: list[float] = []
        for runner.iter in range(int(names["T"])):
            hook.before_train_iter(runner)
            values.append(float(opt.param_groups[0]["momentum" if kind == "Momentum" else "lr"]))
        return values

    return {}, run


def detectron2() -> tuple[Names, Values]:
    module = load("detectron2.solver.lr_scheduler")
    return {**vars(load("fvcore.common.param_scheduler")), **vars(module)}, by_setting(by_stepping)


def fastai() -> tuple[Names, Values]:
    def run(text: str, names: Names, steps: int) -> list[float]:
        schedule = eval(text, names)
        return [float(schedule(step / names["T"])) for step in range(int(names["T"]))]

    return vars(load("fastai.callback.schedule")), run


def functions(file: str, wanted: list[str], given: Names) -> Names:
    """Run only some functions and classes of a script on the path, with the names that they use."""
    import ast
    from pathlib import Path

    path = next(Path(folder) / file for folder in sys.path if (Path(folder) / file).exists())
    tree = ast.parse(path.read_text())
    kept: list[ast.stmt] = [node for node in tree.body if getattr(node, "name", "") in wanted]
    code = compile(ast.Module(kept, []), str(path), "exec")
    names = dict(given)
    exec(code, names)
    return names


LIBRARIES: dict[str, tuple[str, Library]] = {
    "TensorFlow": ("tensorflow-cpu", tensorflow),
    "ultralytics": ("ultralytics", ultralytics),
    "Stable-Baselines3": ("stable-baselines3", stable_baselines),
    "RLlib": ("ray", rllib),
    "torchtitan": ("torchtitan", torchtitan),
    "Levanter": ("marin-levanter", levanter),
    "MaxText": ("maxtext", maxtext),
    "EasyLM": ("commit fe5b2c3", easylm),
    "OLMo": ("ai2-olmo", lambda: (vars(load("olmo.optim")), by_formula)),
    "AllenNLP": ("allennlp", allennlp),
    "fairseq": ("fairseq", fairseq),
    "detectron2": ("commit 02b5c4e2", detectron2),
    "MMCV": ("mmcv", mmcv),
    "fastai": ("fastai", fastai),
    "diffusers": (
        "diffusers",
        lambda: (vars(load("diffusers.optimization")), by_setting(by_stepping)),
    ),
}
