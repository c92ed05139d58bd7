"""Training steps of a transformer on MLX's default device, whichever it is.

Scalars are in all that may change: the optimizer, the dropout of every layer, the weight of
the loss. With an evaluation after each step the host waits for the device, as loops do that
print the loss; with one after several steps it runs ahead, and whatever waits in between
would show.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from scalars import CosineAnnealing, Horizon, Linear, attach

from ..helpers import pending
from .measure import alternating, row
from .steps import hyperparameters

KINDS = ["floats", "by the loop", "by the step"]
HOLDS = {False: 1.03, True: 1.02}
HORIZON = Horizon(100_000)
AHEAD = 8
"""The steps that the host makes before it evaluates them."""
ON_CPU = mx.default_device() == mx.cpu
WIDTH, BATCH, LENGTH = (64, 4, 32) if ON_CPU else (1024, 16, 256)
LONG_ENOUGH = 0.02
"""The large model has as many layers as take so many seconds for a step."""
LITTLE, NARROW = 2, 16
READS = ("item", "tolist", "__float__", "__int__", "__bool__", "__index__")


class Step:
    """A training step, with scalars or with floats in their place."""

    def __init__(self, kind: str, layers: int, width: int, compiled: bool) -> None:
        number: Callable[..., Any] = Linear if kind != "floats" else lambda start, end: start
        mx.random.seed(0)
        self.model = nn.TransformerEncoder(layers, width, 4, 4 * width, dropout=number(0.1, 0.2))
        self.weight: Any = 1.0 if kind == "floats" else CosineAnnealing(1.0, 0.5)
        self.optimizer = optim.AdamW(**hyperparameters(number))
        self.optimizer.init(self.model.trainable_parameters())
        self.update: Callable[[], Any] = lambda: None
        if kind != "floats":
            horizon = HORIZON if kind == "by the step" else None
            group = attach(self.optimizer, self.model, horizon, weight=self.weight)
            if horizon is None:
                steps = itertools.count()
                self.update = lambda: group.update(HORIZON.progress(next(steps)))
        self.x = mx.random.normal((BATCH, LENGTH, width))
        self.loss_and_grad = nn.value_and_grad(self.model, self.loss)
        self.state = [self.model.state, self.optimizer.state, mx.random.state]
        mx.eval(self.x, self.state)
        self.made = mx.compile(self.make, self.state, self.state) if compiled else self.make

    def loss(self, x: mx.array) -> mx.array:
        return self.weight * mx.square(self.model(x, None) - x).mean()  # type: ignore[no-any-return]

    def make(self, x: mx.array) -> mx.array:
        loss, grads = self.loss_and_grad(x)
        self.optimizer.update(self.model, grads)
        return loss  # type: ignore[no-any-return]

    def run(self, steps: int) -> None:
        """Make some steps, and evaluate the last of them, and so all."""
        for _ in range(steps):
            self.update()
            loss = self.made(self.x)
        mx.eval(loss, self.state)


@contextmanager
def waits() -> Iterator[list[str]]:
    """Yield a list of what evaluates arrays, from Python, that are not evaluated yet."""
    seen: list[str] = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            waiting = bool(pending(list(args)))
            result = function(*args)  # an error in a trace: nothing was evaluated
            seen.extend([name] * waiting)
            return result

        return noted

    evaluate, reads = mx.eval, {name: getattr(mx.array, name) for name in READS}
    mx.eval = noting("eval", evaluate)
    for name, function in reads.items():
        setattr(mx.array, name, noting(name, function))
    try:
        yield seen
    finally:
        mx.eval = evaluate
        for name, function in reads.items():
            setattr(mx.array, name, function)


def count(compiled: bool) -> None:
    """Print how often the steps of each kind wait for the device, and their operations."""
    counted, operations = [], []
    for kind in KINDS:
        step = Step(kind, LITTLE, NARROW, compiled)
        step.run(2)
        with waits() as seen:
            for _ in range(AHEAD):
                step.update()
                step.made(step.x)
        counted.append(len(seen))
        operations.append(sum(pending(step.state).values()) / AHEAD)
    title = f"evaluations in {AHEAD} {'compiled' if compiled else 'eager'} steps"
    row(f"{title}, floats", f"{counted[0]}")
    for kind, number in zip(KINDS[1:], counted[1:]):
        row(f"  all scheduled, {kind}", f"{number}", f"hold: {counted[0]}")
    row(f"operations in a step, {LITTLE} layers, floats", f"{operations[0]:.0f}")
    for kind, number in zip(KINDS[1:], operations[1:]):
        row(f"  all scheduled, {kind}", f"{number - operations[0]:+.0f}")


def compare(layers: int, width: int, compiled: bool) -> None:
    """Print the time of a step with floats, and those of the others as ratios to it."""
    title = f"{layers} layers of {width}, {'compiled' if compiled else 'eager'}"
    steps = [Step(kind, layers, width, compiled) for kind in KINDS]
    for step in steps * 3:
        step.run(1)
    for ahead in (1, AHEAD):
        (once,) = alternating([partial(steps[0].run, 1)], rounds=3)
        rounds = min(max(int(3.0 / (once * ahead)), 7), 200)
        runs = [partial(step.run, ahead) for step in steps]
        floats, *others = alternating(runs, rounds)
        every = "each" if ahead == 1 else f"after {ahead}"
        row(f"{title}, evaluated {every}, floats", f"{floats / ahead * 1e3:.2f} ms")
        for kind, time in zip(KINDS[1:], others):
            row(
                f"  all scheduled, {kind}",
                f"{time / floats:.3f} x",
                f"hold: <= {HOLDS[compiled]} x",
            )


def long_enough() -> int:
    """Return the layers of a model whose eager step takes a while on this device."""
    layers = 2
    while layers < 64:
        step = Step("floats", layers, WIDTH, compiled=False)
        step.run(2)
        (time,) = alternating([partial(step.run, 1)], rounds=3)
        if time >= LONG_ENOUGH:
            break
        layers *= 2
    return layers


def main() -> None:
    more = "; nothing of this ran on a GPU" if ON_CPU else ""
    print(f"MLX {mx.__version__}, {mx.default_device()}{more}")
    large = long_enough()
    for compiled in (False, True):
        count(compiled)
    for layers, width in ((LITTLE, NARROW), (large, WIDTH)):
        for compiled in (False, True):
            compare(layers, width, compiled)
