"""Fine-tuning with mlx-lm and scalars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ... import checks
from ...optimizers.attach import attach
from ...optimizers.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from ..files import replacing
from ..recording import Recorder
from ..report_callback import ReportCallback
from .numbers import Numbers
from .parts import Iterations, StandIn, replaced
from .saved import Order, Run, Saved, write
from .showing import write_record

SCHEDULE_FREE = {"schedule_free_adamw": ScheduleFreeAdamW, "schedule_free_sgd": ScheduleFreeSGD}


class Training:
    """Replacements for functions of mlx-lm; each calls the function that it replaces."""

    def __init__(
        self, lora: Any, trainer: Any, config: Mapping[str, Any], numbers: Numbers
    ) -> None:
        self.lora, self.trainer = lora, trainer
        self.own = SimpleNamespace(**vars(lora)), SimpleNamespace(**vars(trainer))
        self.config, self.numbers = config, numbers
        self.name = str(config["optimizer"]).lower()
        self.folder = Path(config["adapter_path"])
        self.every = config["grad_accumulation_steps"] or 1
        self.order = Order()
        self.saved: Saved | None = None
        self.first = mx.distributed.init().rank() == 0
        """Whether this process writes the files."""
        self.run_now: Run
        self.iterations: Iterations | None = None

    def run(self, saved: Saved | None) -> None:
        """Train and test as ``mlx_lm.lora`` does, from the start or from a saved state."""
        self.saved = saved
        ours = {name: getattr(self, name) for name in ("train_model", "save_config", "train")}
        with replaced(self.lora, **ours):
            self.lora.run(SimpleNamespace(**self.config))

    # Replacements in mlx_lm.lora ---------------------------------------------------

    def train_model(
        self, args: Any, model: nn.Module, train_set: Any, valid_set: Any, *others: Any
    ) -> None:
        """Pass the scalars to mlx-lm in place of numbers."""
        if not len(valid_set) and (names := self.numbers.adaptive):
            way_out = "Add valid.jsonl, as they observe the validation loss."
            checks.fail(", ".join(names), "given a validation set", "none", way_out)
        numbers, live = self.numbers, SimpleNamespace(**vars(args))
        live.lora_parameters = dict(numbers.lora)
        live.optimizer_config = {self.name: numbers.optimizer}
        if not numbers.rate_is_mlx_lms:
            live.lr_schedule, live.learning_rate = None, numbers.rate
        if self.name in SCHEDULE_FREE:
            live.optimizer, live.optimizer_config = StandIn(self.name), {}
        self.own[0].train_model(live, model, train_set, valid_set, *others)

    def save_config(self, _: Any, config_path: Any) -> None:
        """Save the config as plain data, from which mlx-lm can load the adapters."""
        plain = dict(self.config)
        if scheduled := self.numbers.in_layers:
            now = {name: float(scalar) for name, scalar in scheduled.items()}
            plain["scheduled_lora_parameters"] = {n: repr(x) for n, x in scheduled.items()}
            plain["lora_parameters"] = {**self.numbers.lora, **now}
        if plain["fine_tune_type"] == "full":
            plain["lora_parameters"] = None
        self.own[0].save_config(plain, config_path)

    def train(self, **given: Any) -> None:
        """Attach the scalars and train; at the end the model is ready for use."""
        model, args = given["model"], given["args"]
        if self.name in SCHEDULE_FREE:
            given["optimizer"] = self._schedule_free()
        optimizer, others = given["optimizer"], dict(self.numbers.in_layers)
        if self.numbers.rate_is_mlx_lms:
            others["learning_rate"] = self.numbers.rate  # attached only to be recorded
        group = attach(optimizer, model, self.numbers.horizon, **others)
        recorder = Recorder(group)
        self.run_now = Run(model, optimizer, group, recorder, self.order, self.config)
        given["training_callback"] = ReportCallback(group, recorder, given.get("training_callback"))
        given["iterate_batches"] = self.iterate_batches
        ours: dict[str, Any] = {"evaluate": self.evaluate} if self.name in SCHEDULE_FREE else {}
        if self.saved is not None:
            self.run_now.restore(self.saved)
            if self.first and self.saved.iteration >= args.iters:
                print(f"Nothing is left to train: the run has made all {args.iters} iterations.")
            ours["range"] = self.iterations = Iterations(self.saved.iteration, args.iters)
        try:
            with replaced(self.trainer, **ours):
                self.own[0].train(**given)
            self._save_adapters(args.iters)
            if self.first:
                self.run_now.save(self.folder, args.iters)
        finally:
            self._record(picture=True)
        if self.name in SCHEDULE_FREE and optimizer.step.item():
            optimizer.eval(model)

    def _schedule_free(self) -> Any:
        numbers, block = self.numbers, self.config["lr_schedule"]
        rate: Any = numbers.rate
        if numbers.rate_is_mlx_lms:
            own = self.lora.build_schedule
            rate = self.config["learning_rate"] if block is None else own(block)
        return SCHEDULE_FREE[self.name](rate, **numbers.optimizer)

    # Replacements in the trainer ----------------------------------------------------

    def evaluate(self, *args: Any, **named: Any) -> Any:
        """Evaluate at the average, if there is one yet."""
        optimizer: Any = self.run_now.optimizer
        with ExitStack() as after:
            if optimizer.step.item():
                optimizer.eval(self.run_now.model)
                after.callback(optimizer.train, self.run_now.model)
            return self.own[1].evaluate(*args, **named)

    def iterate_batches(self, *args: Any, loop: bool = False, **named: Any) -> Iterator[Any]:
        """Return the batches; during training, save what is due after each iteration."""
        batches: Iterator[Any] = self.own[1].iterate_batches(*args, loop=loop, **named)
        return self._training_batches(batches) if loop else batches

    def _training_batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        iteration = 0
        if self.iterations is not None:
            self.iterations.check()
            iteration = self.iterations.done
            self.order.find(batches)
        while True:
            yield self.order.take(batches)
            iteration += 1
            self._after(iteration)

    # Files -------------------------------------------------------------------------

    def _after(self, iteration: int) -> None:
        """Save what mlx-lm does not save.

        The state for ``--resume`` is saved only after a step of the optimizer, as the accumulated
        gradients are in the trainer. A resumed run computes them again.
        """
        every, saves = self.every, self.config["save_every"]
        if iteration % saves == 0:
            self._save_adapters(iteration)
            self._record()
        if iteration % every == 0 and -iteration % saves < every and self.first:
            self.run_now.save(self.folder, iteration)

    def _save_adapters(self, iteration: int) -> None:
        """Save the average in place of the weights, and the current numbers of the layers."""
        if not self.first:
            return
        if self.numbers.in_layers:
            with replacing(self.folder / "adapter_config.json") as part:
                self.save_config({}, part)
        optimizer: Any = self.run_now.optimizer
        if self.name in SCHEDULE_FREE and optimizer.step.item():
            average: Any = tree_flatten(optimizer.eval_parameters(self.run_now.model))
            files = ["adapters.safetensors"]
            if iteration % self.config["save_every"] == 0:
                files.append(f"{iteration:07d}_adapters.safetensors")
            for file in files:
                write(self.folder / file, dict(average))

    def _record(self, picture: bool = False) -> None:
        recorder, file = self.run_now.recorder, self.config["record"]
        if file is not None and self.first and len(recorder):
            write_record(recorder, self.run_now.group, Path(file), picture)
