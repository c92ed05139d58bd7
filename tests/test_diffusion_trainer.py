"""The trainer of ``mlx-diffuser``, with all of its numbers scheduled, against plain floats.

It compiles a step that captures the state of the model and of the optimizer, clips gradients and
averages the weights. As with mlx-lm's trainer, the rate is compared bit for bit with the same
compiled trainer whose rate is set by hand before each step. Other floats are constant in a
compiled step, so their reference is the trainer without compilation.

It needs Python 3.11 and MLX 0.31, and neither Metal nor downloaded weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest

from scalars import CosineAnnealing, Horizon, Linear, ScheduledScalar, Warmup, attach

from .helpers import assert_same, largest_difference

theirs = pytest.importorskip("mlx_diffuser", reason="mlx-diffuser is not installed")
pytestmark = pytest.mark.slow

STEPS, EPOCHS = 5, 3
TOTAL = STEPS * EPOCHS
SCHEDULES: dict[str, Any] = {
    "learning_rate": lambda: Warmup(CosineAnnealing(1e-2, 1e-4), 0.25),
    "weight_decay": lambda: Linear(0.0, 0.5),
    "grad_clip": lambda: Linear(1.0, 0.1),
    "class_dropout_prob": lambda: Linear(0.1, 0.6),
    "ema_decay": lambda: Linear(0.5, 0.9),
}


class Batches:
    """Batches of images and labels, one epoch per iteration, with a callback before each step."""

    def __init__(self, before: Any = None) -> None:
        self.before = before
        self.done = 0

    def __iter__(self) -> Iterator[Any]:
        for _ in range(STEPS):
            if self.before is not None:
                self.before(self.done / TOTAL)
            key = mx.random.key(self.done)
            yield mx.random.normal((4, 8, 8, 1), key=key), mx.random.randint(0, 3, (4,), key=key)
            self.done += 1


def trainer_of(compiled: bool, learning_rate: Any, **numbers: Any) -> Any:
    mx.random.seed(0)
    config = theirs.DiTConfig(
        in_channels=1, patch_size=4, hidden_size=16, depth=1, num_heads=2, num_classes=3
    )
    model = theirs.DiT(config)
    mx.eval(model.parameters())
    decay = numbers.pop("weight_decay", 0.0)
    # With 1e-8 AdamW would amplify rounding errors in gradients near 0 to steps of 1e-2.
    optimizer = optim.AdamW(learning_rate, eps=1e-2, weight_decay=decay)
    optimizer.init(model.trainable_parameters())
    scheduler = theirs.FlowMatchEulerScheduler()
    made: Any = lambda: theirs.DiffusionTrainer(  # noqa: E731
        model, scheduler, optimizer=optimizer, compile=compiled, **numbers
    )
    return model, optimizer, made


def losses(trainer: Any, before: Any = None) -> list[float]:
    return trainer.fit(Batches(before), epochs=EPOCHS)  # type: ignore[no-any-return]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("driver", ["loop", "step", "by_step"])
def test_the_rate_is_bitwise_that_set_by_hand(driver: str, compiled: bool) -> None:
    rate: ScheduledScalar = SCHEDULES["learning_rate"]()
    given = rate.by_step(TOTAL) if driver == "by_step" else rate
    model, optimizer, made = trainer_of(compiled, given)
    before = None
    if driver != "by_step":
        group = attach(optimizer, horizon=Horizon(TOTAL) if driver == "step" else None)
        before = group.update if driver == "loop" else None
    ours = losses(made(), before)

    plain, by_hand, make = trainer_of(compiled, 0.0)

    def set_rate(progress: float) -> None:
        by_hand.learning_rate = rate.at(progress)

    assert ours == losses(make(), set_rate)
    assert_same(model.parameters(), plain.parameters())
    assert np.std(ours) > 0


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("driver", ["loop", "step"])
def test_all_of_its_numbers_are_scheduled(driver: str, compiled: bool) -> None:
    """Clipping norm, rate of dropped labels and decay of the average are scheduled too."""
    scalars = {name: make() for name, make in SCHEDULES.items()}
    model, optimizer, made = trainer_of(compiled, **scalars)
    others = {n: scalars[n] for n in ("grad_clip", "class_dropout_prob", "ema_decay")}
    group = attach(optimizer, horizon=Horizon(TOTAL) if driver == "step" else None, **others)
    trainer = made()
    ours = losses(trainer, group.update if driver == "loop" else None)

    plain, by_hand, make = trainer_of(False, **dict.fromkeys(SCHEDULES, 0.5))
    reference = make()

    def set_numbers(progress: float) -> None:
        now = {name: scalar.at(progress) for name, scalar in scalars.items()}
        by_hand.learning_rate, by_hand.weight_decay = now["learning_rate"], now["weight_decay"]
        reference.grad_clip = now["grad_clip"]
        reference.class_dropout_prob = now["class_dropout_prob"]
        # It is used after the update, when the optimizer's step is already incremented.
        later = min(progress + (driver == "step") / TOTAL, 1.0)
        reference.ema.decay = scalars["ema_decay"].at(later)

    expected = losses(reference, set_numbers)
    if compiled:
        np.testing.assert_allclose(ours, expected, rtol=1e-5)
        assert largest_difference(model.parameters(), plain.parameters()) < 2e-6
        assert largest_difference(trainer.ema.shadow, reference.ema.shadow) < 2e-6
    else:
        assert ours == expected
        assert_same(model.parameters(), plain.parameters())
        assert_same(trainer.ema.shadow, reference.ema.shadow)
