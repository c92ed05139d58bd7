"""mlx-lm's trainer as people use it: LoRA, accumulation, checkpoints, validation.

A test optimizer keeps the values of every update in its state, also in compiled steps. If only
the learning rate is scheduled, the reference is the same compiled trainer with the rate set by
hand before each step. MLX keeps the rate in the state, so the bits must be equal. Other floats are
constants of a compiled step, so their reference is an eager loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.models import llama
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.tuner.trainer import TrainingArgs, default_loss, grad_checkpoint, iterate_batches, train
from mlx_lm.tuner.utils import linear_to_lora_layers

from scalars import CosineAnnealing, Horizon, Linear, Warmup, attach

from .helpers import assert_same, largest_difference
from .test_mlx_lm import Rates, data, model_of, validation_data

pytestmark = pytest.mark.slow
ITERATIONS = 12
RATE = Warmup(CosineAnnealing(1e-2, 1e-4), 0.25)
DECAY, DROPOUT, SCALE = Linear(0.0, 0.5), Linear(0.1, 0.4), Linear(20.0, 5.0)

PLAIN_CALL = llama.TransformerBlock.__call__  # which ``grad_checkpoint`` replaces in the class

# The iterations are not a multiple of the accumulation, so the last two update nothing.
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"grad_accumulation_steps": 5},
    "checkpointing": {"grad_checkpoint": True},
    "validation": {"steps_per_eval": 3, "val_batches": 2},
    "all of them": {
        "grad_accumulation_steps": 5,
        "grad_checkpoint": True,
        "steps_per_eval": 3,
        "val_batches": 2,
    },
}


class Noting(optim.AdamW):  # type: ignore[misc]
    """AdamW that keeps the rate and the decay of each update in its state."""

    def __init__(self, learning_rate: Any, weight_decay: Any = 0.0) -> None:
        # With 1e-8 AdamW would amplify rounding errors in gradients near 0 to steps of 1e-2.
        super().__init__(learning_rate, eps=1e-2, weight_decay=weight_decay)
        self.state["noted"] = mx.zeros((ITERATIONS, 2))
        self.times = 0

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        self.times += 1
        here = mx.arange(ITERATIONS)[:, None] == self.step
        decay = self.weight_decay * mx.array(1.0)
        updated = super().apply_gradients(gradients, parameters)
        now = mx.stack([self.learning_rate, decay])
        self.state["noted"] = mx.where(here, now, self.state["noted"])
        return updated


def lora_model(dropout: Any = 0.0, scale: Any = 20.0) -> Any:
    llama.TransformerBlock.__call__ = PLAIN_CALL
    model = model_of(mx.float32)
    model.freeze()
    linear_to_lora_layers(model, 1, {"rank": 4, "dropout": dropout, "scale": scale})
    mx.eval(model.parameters())
    return model


def run(folder: Path, model: Any, optimizer: Any, batches: Any, **options: Any) -> list[float]:
    """Train with mlx-lm's trainer; return the learning rates that it reports."""
    np.random.seed(0)
    mx.random.seed(0)
    args = TrainingArgs(
        iters=ITERATIONS,
        steps_per_report=1,
        adapter_file=str(folder / "adapters.safetensors"),
        **options,
    )
    rates = Rates()
    train(
        model,
        optimizer,
        data(),
        validation_data(),
        args,
        iterate_batches=batches,
        training_callback=rates,
    )
    return rates.seen


def updates_of(options: dict[str, Any]) -> list[int]:
    """Return the iterations that end with an update, from 0."""
    every = options.get("grad_accumulation_steps", 1)
    return [i for i in range(ITERATIONS) if (i + 1) % every == 0]


def progresses(driver: str, options: dict[str, Any]) -> list[float]:
    """Return the progress of each update, computed by hand."""
    updates = updates_of(options)
    if driver == "loop":
        return [i / ITERATIONS for i in updates]
    return [i / len(updates) for i in range(len(updates))]


def driven(driver: str, optimizer: Any, model: Any, options: dict[str, Any], **others: Any) -> Any:
    """Attach the scalars, and return the function that gives the batches."""
    horizon = Horizon(len(updates_of(options)))
    group = attach(optimizer, model, horizon if driver == "step" else None, **others)
    if driver == "step":
        return iterate_batches

    def tracked(*args: Any, **kwargs: Any) -> Iterator[Any]:
        batches = iterate_batches(*args, **kwargs)
        # The trainer also calls it for validation, each time for one pass.
        return group.track(batches, Horizon(ITERATIONS)) if kwargs.get("loop") else batches

    return tracked


def with_rates_by_hand(optimizer: Any, rates: list[float], updates: list[int]) -> Any:
    def batches(*args: Any, **kwargs: Any) -> Iterator[Any]:
        rate_at = dict(zip(updates, rates)) if kwargs.get("loop") else {}
        for i, batch in enumerate(iterate_batches(*args, **kwargs)):
            if i in rate_at:
                optimizer.learning_rate = rate_at[i]
            yield batch

    return batches


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("driver", ["loop", "step", "by_step"])
def test_the_rate_is_bitwise_that_set_by_hand(driver: str, way: str, tmp_path: Path) -> None:
    options = WAYS[way]
    updates = updates_of(options)
    expected = [RATE.at(progress) for progress in progresses(driver, options)]

    model, batches = lora_model(), iterate_batches
    if driver == "by_step":
        optimizer = Noting(RATE.by_step(len(updates)))
    else:
        optimizer = Noting(Warmup(CosineAnnealing(1e-2, 1e-4), 0.25))
        batches = driven(driver, optimizer, None, options)
    reported = run(tmp_path, model, optimizer, batches, **options)

    by_hand, theirs = lora_model(), Noting(0.0)
    run(tmp_path, by_hand, theirs, with_rates_by_hand(theirs, expected, updates), **options)

    in_float32 = [float(np.float32(rate)) for rate in expected]
    assert optimizer.state["noted"][: len(updates), 0].tolist() == in_float32
    assert [reported[i] for i in updates] == in_float32
    assert_same(model.trainable_parameters(), by_hand.trainable_parameters())
    assert optimizer.step.item() == len(updates)


def eager_by_hand(driver: str, options: dict[str, Any]) -> Any:
    """Do what the trainer does, eagerly, with every float set by hand before each step."""
    model = lora_model(DROPOUT.at(0.0), SCALE.at(0.0))
    if options.get("grad_checkpoint"):
        grad_checkpoint(model.layers[0])
    optimizer = Noting(0.0)
    loss_and_grad = nn.value_and_grad(model, default_loss)
    np.random.seed(0)
    mx.random.seed(0)
    updates = updates_of(options)
    every = options.get("grad_accumulation_steps", 1)
    kept, done = None, 0
    model.train()
    for i, batch in zip(range(ITERATIONS), iterate_batches(data(), 4, 2048, loop=True)):
        if i in (0, ITERATIONS - 1) or (i + 1) % options.get("steps_per_eval", 200) == 0:
            next(iterate_batches(validation_data(), 4, 2048))  # draws the order
        progress = i / ITERATIONS if driver == "loop" else done / len(updates)
        optimizer.learning_rate = RATE.at(min(progress, 1.0))
        optimizer.weight_decay = DECAY.at(min(progress, 1.0))
        for _, module in model.named_modules():
            if isinstance(module, LoRALinear):
                module.scale = SCALE.at(min(progress, 1.0))
                module.dropout._p_1 = 1 - DROPOUT.at(min(progress, 1.0))
        _, grads = loss_and_grad(model, *batch)
        kept = grads if kept is None else tree_map(lambda x, y: x + y, grads, kept)
        if i in updates:
            kept = tree_map(lambda x: x / every, kept) if every > 1 else kept
            optimizer.update(model, kept)
            kept, done = None, done + 1
        mx.eval(model.state, optimizer.state, kept)
    return model, optimizer


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("driver", ["loop", "step"])
@pytest.mark.parametrize("compiled", [False, True])
def test_scheduled_layers_train_as_with_floats(
    compiled: bool, driver: str, way: str, tmp_path: Path
) -> None:
    """Rate, decay, dropout and scale of LoRA at once.

    Bitwise with compilation disabled; otherwise within the rounding of a compiled step, where
    1 / (1 - p) of the dropout is worked out in float32.
    """
    options = WAYS[way]
    dropout, scale = Linear(0.1, 0.4), Linear(20.0, 5.0)
    model = lora_model(dropout, scale)
    optimizer = Noting(Warmup(CosineAnnealing(1e-2, 1e-4), 0.25), Linear(0.0, 0.5))
    batches = driven(driver, optimizer, model, options)
    if not compiled:
        mx.disable_compile()
    run(tmp_path, model, optimizer, batches, **options)

    noted = optimizer.state["noted"][: len(updates_of(options))]
    expected = [[RATE.at(p), DECAY.at(p)] for p in progresses(driver, options)]
    np.testing.assert_array_equal(np.array(noted), np.array(expected, np.float32))

    assert compiled or optimizer.times == len(updates_of(options))

    by_hand, theirs = eager_by_hand(driver, options)
    assert_same(optimizer.state["noted"], theirs.state["noted"])
    ours, hand = model.trainable_parameters(), by_hand.trainable_parameters()
    assert largest_difference(ours, hand) <= (2e-6 if compiled else 0.0)


def test_batches_tracked_in_the_validation_too_raise(tmp_path: Path) -> None:
    """The trainer uses the same function for validation, which moves the progress back."""
    optimizer = Noting(Warmup(CosineAnnealing(1e-2, 1e-4), 0.25))
    group = attach(optimizer)

    def tracked(*args: Any, **kwargs: Any) -> Iterator[Any]:
        return group.track(iterate_batches(*args, **kwargs), Horizon(ITERATIONS))

    with pytest.raises(ValueError, match="progress"):
        run(tmp_path, lora_model(), optimizer, tracked, **WAYS["validation"])
