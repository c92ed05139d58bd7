"""mlx-lm's own trainer, unchanged, with a rate, a decay and a loss weight on schedules.

Trains a tiny Llama from random weights, in bfloat16, on the documentation that ships with
Python. The trainer compiles its step and knows nothing of schedules. ``--driver loop``
updates them through the iterator of batches; ``--driver step`` has them follow the
optimizer's own step. The two give the same run; after a step the values shown are those of
that step in the first, and of the step to come in the second.
"""

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial
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
from mlx_lm.tuner.trainer import TrainingArgs, default_loss, iterate_batches, train

from scalars import CosineAnnealing, Horizon, Linear, ScalarGroup, Warmup, attach

TEXT = "\n".join(topics.values())
CHARACTERS = sorted(set(TEXT))  # a token is a character


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


class Report(TrainingCallback):  # type: ignore[misc]
    """Print what the trainer reports beside the values of the schedules."""

    def __init__(self, group: ScalarGroup) -> None:
        self.group = group

    def on_train_loss_report(self, info: dict[str, Any]) -> None:
        values = "  ".join(f"{name} {value:.2g}" for name, value in self.group.snapshot().items())
        print(f"step {info['iteration']:3}  loss {info['train_loss']:.3f}  {values}", flush=True)


def run(driver: str, steps: int) -> None:
    model, horizon = tiny_llama(), Horizon(steps)
    z_weight = Linear(0.0, 1e-3)
    lr = Warmup(CosineAnnealing(1e-2, 1e-4), fraction=0.1)
    optimizer = optim.AdamW(learning_rate=lr, weight_decay=Linear(0.0, 0.1))
    group = attach(optimizer, horizon=horizon if driver == "step" else None, z_weight=z_weight)

    def loss(model: nn.Module, batch: mx.array, lengths: mx.array) -> tuple[mx.array, mx.array]:
        cross_entropy, tokens = default_loss(model, batch, lengths)
        z = mx.logsumexp(model(batch[:, :-1]).astype(mx.float32), axis=-1)
        return cross_entropy + z_weight * mx.square(z).mean(), tokens

    def tracked(*args: Any, **kwargs: Any) -> Iterator[Any]:
        return group.track(iterate_batches(*args, **kwargs), horizon)

    np.random.seed(0)  # the order of the batches
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "adapters.safetensors")
        args = TrainingArgs(
            batch_size=8, iters=steps, steps_per_report=max(steps // 8, 1), adapter_file=file
        )
        batches = {"iterate_batches": tracked} if driver == "loop" else {}
        go = partial(train, model, optimizer, dataset(), args=args, loss=loss, **batches)
        go(training_callback=Report(group))
    print("dtypes:", {str(array.dtype) for _, array in tree_flatten(model.parameters())})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", choices=["loop", "step"], default="loop")
    parser.add_argument("--steps", type=int, default=96)
    run(**vars(parser.parse_args()))
