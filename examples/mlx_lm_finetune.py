"""The unchanged trainer of mlx-lm with a scheduled rate, weight decay and loss weight.

Trains a tiny Llama from random weights, in bfloat16, on the documentation that ships with
Python, with a validation set. The trainer compiles its step and has no code for these schedules.
They follow the optimizer's own step, which works in every trainer without wrapping or updating
anything. (Updates in the iterator of batches would be wrong, as the trainer also iterates for
validation.) With ``--accumulation N``, the optimizer makes one step in N iterations, so the
horizon is ``iterations // N``. The output shows the losses and the values of the next step.
"""

import argparse
import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, default_loss, train

from scalars import CosineAnnealing, Horizon, Linear, ScalarGroup, Warmup, attach

TEXT = "\n".join(topics.values())
CHARACTERS = sorted(set(TEXT))  # each character is a token


def dataset(length: int = 64, count: int = 400) -> list[tuple[list[int], int]]:
    index = {character: i for i, character in enumerate(CHARACTERS)}
    tokens = [index[character] for character in TEXT[: length * count]]
    return [(tokens[i : i + length], 0) for i in range(0, len(tokens), length)]


def tiny_llama() -> Model:
    mx.random.seed(0)
    model = Model(
        ModelArgs(
            model_type="llama", hidden_size=64, num_hidden_layers=2, intermediate_size=128,
            num_attention_heads=4, rms_norm_eps=1e-5, vocab_size=len(CHARACTERS),
        )
    )  # fmt: skip
    model.set_dtype(mx.bfloat16)
    return model


class Report(TrainingCallback):
    """Print the trainer's reports with the values of the schedules."""

    def __init__(self, group: ScalarGroup) -> None:
        self.group = group

    def on_val_loss_report(self, val_info: dict[str, Any]) -> None:
        print(f"validation loss {val_info['val_loss']:.3f}", flush=True)

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        values = "  ".join(f"{name} {value:.2g}" for name, value in self.group.snapshot().items())
        iteration, loss = train_info["iteration"], train_info["train_loss"]
        print(f"iteration {iteration:3}  loss {loss:.3f}  {values}", flush=True)


def run(iterations: int, accumulation: int) -> None:
    model, data = tiny_llama(), dataset()
    z_weight = Linear(0.0, 1e-3)
    lr = Warmup(CosineAnnealing(1e-2, 1e-4), fraction=0.1)
    optimizer = optim.AdamW(learning_rate=lr, weight_decay=Linear(0.0, 0.1))
    group = attach(optimizer, horizon=Horizon(iterations // accumulation), z_weight=z_weight)

    def loss(model: nn.Module, batch: mx.array, lengths: mx.array) -> tuple[mx.array, mx.array]:
        cross_entropy, tokens = default_loss(model, batch, lengths)
        z = mx.logsumexp(model(batch[:, :-1]).astype(mx.float32), axis=-1)
        return cross_entropy + z_weight * mx.square(z).mean(), tokens

    np.random.seed(0)  # the order of the batches
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "adapters.safetensors")
        args = TrainingArgs(
            batch_size=8,
            iters=iterations,
            val_batches=4,
            steps_per_eval=max(iterations // 2, 1),
            steps_per_report=max(iterations // 8, 1),
            grad_accumulation_steps=accumulation,
            adapter_file=file,
        )
        report = Report(group)
        train(model, optimizer, data[40:], data[:40], args, loss, training_callback=report)
    arrays = dict(tree_flatten(model.parameters())).values()
    print("dtypes:", {str(array.dtype) for array in arrays})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=96)
    parser.add_argument("--accumulation", type=int, default=1)
    run(**vars(parser.parse_args()))
