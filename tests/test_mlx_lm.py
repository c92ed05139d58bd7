"""The unchanged trainer of mlx-lm uses every scalar at every compiled step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, default_loss, iterate_batches, train

from scalars import CosineAnnealing, Horizon, Linear, Warmup, attach

from .helpers import largest_difference

pytestmark = pytest.mark.slow
STEPS, VOCABULARY = 12, 50
RATE = lambda: Warmup(CosineAnnealing(1e-2, 1e-4), 0.25)  # noqa: E731
DECAY = lambda: Linear(0.0, 2.0)  # noqa: E731
WEIGHT = lambda: Linear(0.0, 1e-1)  # noqa: E731


def model_of(dtype: mx.Dtype) -> Model:
    mx.random.seed(0)
    model = Model(
        ModelArgs(
            model_type="llama",
            hidden_size=16,
            num_hidden_layers=1,
            intermediate_size=32,
            num_attention_heads=2,
            rms_norm_eps=1e-5,
            vocab_size=VOCABULARY,
        )
    )
    model.set_dtype(dtype)
    mx.eval(model.parameters())
    return model


def data() -> list[tuple[list[int], int]]:
    numbers = np.random.default_rng(0).integers(0, VOCABULARY, (40, 16))
    return [(row.tolist(), 0) for row in numbers]


def validation_data() -> list[tuple[list[int], int]]:
    """Return a part of the data; before mlx-lm 0.30.7 the trainer cannot do without."""
    return data()[:12]


def loss_with(weight: Any) -> Callable[..., tuple[mx.array, mx.array]]:
    def loss(model: Model, batch: mx.array, lengths: mx.array) -> tuple[mx.array, mx.array]:
        cross_entropy, tokens = default_loss(model, batch, lengths)
        z = mx.logsumexp(model(batch[:, :-1]).astype(mx.float32), axis=-1)
        return cross_entropy + weight * mx.square(z).mean(), tokens

    return loss


class Rates(TrainingCallback):  # type: ignore[misc]
    """Keep the learning rates that the trainer reports."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_loss_report(self, info: dict[str, Any]) -> None:
        self.seen.append(info["learning_rate"])


def by_trainer(
    folder: Path, driver: str, dtype: mx.Dtype, numbers: tuple[Any, Any, Any], **options: Any
) -> tuple[Any, list[float]]:
    rate, decay, weight = numbers
    model, horizon = model_of(dtype), Horizon(STEPS)
    optimizer = optim.AdamW(rate, weight_decay=decay)
    batches: dict[str, Any] = {}
    if driver != "none":
        group = attach(optimizer, horizon=horizon if driver == "step" else None, weight=weight)
    if driver == "loop":

        def tracked(*args: Any, **kwargs: Any) -> Iterator[Any]:
            batches = iterate_batches(*args, **kwargs)
            # The trainer also calls it for validation, each time for one pass.
            return group.track(batches, horizon) if kwargs.get("loop") else batches

        batches = {"iterate_batches": tracked}
    np.random.seed(0)
    args = TrainingArgs(
        batch_size=4,
        iters=STEPS,
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
        loss_with(weight),
        **batches,
        training_callback=rates,
    )
    return model.parameters(), rates.seen


def by_hand(dtype: mx.Dtype) -> Any:
    """Train with plain floats that are set before each eager step."""
    model = model_of(dtype)
    optimizer = optim.AdamW(0.0)
    np.random.seed(0)
    batches = iterate_batches(data(), 4, 2048, loop=True)
    for step, batch in zip(range(STEPS), batches):
        if step in (0, STEPS - 1):
            next(iterate_batches(validation_data(), 4, 2048))  # draws the order, as validation does
        optimizer.learning_rate = RATE().at(step / STEPS)
        optimizer.weight_decay = DECAY().at(step / STEPS)
        weight = WEIGHT().at(step / STEPS)
        _, grads = nn.value_and_grad(model, loss_with(weight))(model, *batch)
        optimizer.update(model, grads)
        mx.eval(model.state, optimizer.state)
    return model.parameters()


@pytest.mark.gpu
@pytest.mark.parametrize("driver", ["loop", "step"])
def test_every_value_reaches_the_weights(driver: str, tmp_path: Path) -> None:
    ours, rates = by_trainer(tmp_path, driver, mx.float32, (RATE(), DECAY(), WEIGHT()))
    assert rates == pytest.approx([RATE().at(step / STEPS) for step in range(STEPS)], rel=1e-6)
    assert largest_difference(ours, by_hand(mx.float32)) <= 1e-4
    # Each scalar matters: with any of them at its mean, the weights differ.
    for i, mean in enumerate((5e-3, 1.0, 5e-2)):
        numbers = [RATE(), DECAY(), WEIGHT()]
        numbers[i] = Linear(mean, mean)
        others, _ = by_trainer(tmp_path, driver, mx.float32, tuple(numbers))
        assert largest_difference(others, ours) > 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("driver", ["loop", "step"])
def test_bfloat16_stays_bfloat16(driver: str, tmp_path: Path) -> None:
    ours, _ = by_trainer(tmp_path, driver, mx.bfloat16, (RATE(), DECAY(), WEIGHT()))
    assert {array.dtype for _, array in tree_flatten(ours)} == {mx.bfloat16}
    theirs = by_hand(mx.bfloat16)
    # A few units in the last place of bfloat16, after twelve steps of about 1e-2.
    assert largest_difference(ours, theirs) <= 0.03


@pytest.mark.gpu
def test_gradient_accumulation_and_checkpointing(tmp_path: Path) -> None:
    ours, rates = by_trainer(
        tmp_path,
        "loop",
        mx.float32,
        (RATE(), DECAY(), WEIGHT()),
        grad_accumulation_steps=2,
        grad_checkpoint=True,
    )
    # Every second iteration makes an update, with the values of that step.
    expected = [RATE().at((step if step % 2 else step - 1) / STEPS) for step in range(1, STEPS)]
    assert rates[1:] == pytest.approx(expected, rel=1e-6)
    assert all(mx.isfinite(array).all().item() for _, array in tree_flatten(ours))


def test_without_attach_the_trainer_raises_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"called as a learning rate .* attach\(optimizer\)"):
        by_trainer(tmp_path, "none", mx.float32, (RATE(), DECAY(), WEIGHT()))
