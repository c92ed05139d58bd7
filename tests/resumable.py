"""A training run that saves a checkpoint after every step, so that it may be killed.

``python -m tests.resumable FOLDER MODE TOTAL`` continues from the checkpoint in the folder, if
there is one, and trains to the end. MODE is ``eager`` or ``compiled``, then ``loop`` or ``step``.
"""

from __future__ import annotations

import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from scalars import CosineAnnealing, Horizon, LambdaValue, Linear, ScalarGroup, Warmup, attach


class Run:
    """A model with a dropout rate, an optimizer and a loss weight on schedules."""

    def __init__(self, mode: str, total: int) -> None:
        self.compiled = mode.startswith("compiled")
        self.horizon = Horizon(total)
        self.by_step = mode.endswith("step")
        mx.random.seed(0)
        self.model = nn.Sequential(
            nn.Linear(8, 16), nn.Tanh(), nn.Dropout(Linear(0.1, 0.3)), nn.Linear(16, 1)
        )
        self.aux = LambdaValue(lambda p: 1 - p * p)
        self.lr = Warmup(CosineAnnealing(0.05, 0.001), 0.1)
        self.optimizer = optim.AdamW(
            self.lr,
            betas=[Linear(0.8, 0.9), 0.999],
            weight_decay=self.lr * 0.5,
            bias_correction=True,
        )
        self.optimizer.init(self.model.trainable_parameters())
        self.group: ScalarGroup | None = None
        self.step = 0

    def attach(self) -> None:
        horizon = self.horizon if self.by_step else None
        self.group = attach(self.optimizer, self.model, horizon, aux=self.aux)

    def loss(self, x: mx.array) -> mx.array:
        y = self.model(x)
        return mx.square(y - x.sum(axis=1, keepdims=True)).mean() + self.aux * mx.abs(y).mean()

    @cached_property
    def state(self) -> list[Any]:
        return [self.model.state, self.optimizer.state, mx.random.state]

    @cached_property
    def body(self) -> Any:
        """The step, which is compiled once with the current state of the optimizer."""
        loss_and_grad = nn.value_and_grad(self.model, self.loss)

        def body(x: mx.array) -> None:
            _, grads = loss_and_grad(x)
            self.optimizer.update(self.model, grads)

        return mx.compile(body, inputs=self.state, outputs=self.state) if self.compiled else body

    def set_numbers(self) -> None:
        """Set the progress of the run."""
        assert self.group is not None
        if not self.by_step:
            self.group.update(self.horizon.progress(self.step))

    def train(self, until: int, folder: Path | None = None) -> None:
        while self.step < until:
            self.set_numbers()
            mx.random.seed(self.step)  # the masks of dropout too
            self.body(mx.random.normal((16, 8)))
            mx.eval(self.state)
            self.step += 1
            if folder is not None:
                self.save(folder)
                print(self.step, flush=True)

    def save(self, folder: Path) -> None:
        arrays = {
            **{f"model.{k}": v for k, v in tree_flatten(self.model.parameters())},
            **{f"optimizer.{k}": v for k, v in tree_flatten(self.optimizer.state)},
            "steps": mx.array(self.step),
        }
        path = folder / "next.safetensors"
        mx.save_safetensors(str(path), arrays)
        os.replace(path, folder / "checkpoint.safetensors")  # the complete file, or the one before

    def load(self, folder: Path) -> None:
        arrays = mx.load(str(folder / "checkpoint.safetensors"))
        assert isinstance(arrays, dict)
        tree: Any = tree_unflatten(list(arrays.items()))
        self.model.update(tree["model"])
        self.optimizer.state = tree["optimizer"]
        self.step = tree["steps"].item()

    def parameters(self) -> Any:
        return self.model.parameters()


def main() -> None:
    folder, mode, total = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    run = Run(mode, total)
    if (folder / "checkpoint.safetensors").exists():
        run.load(folder)
    run.attach()
    run.train(total, folder)


if __name__ == "__main__":
    main()
