"""``update`` of a schedule and of a group, compared with a step of schedules in other libraries."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim

from scalars import (
    CosineAnnealing,
    CosineAnnealingWarmRestarts,
    Cyclic,
    Exponential,
    LambdaValue,
    Linear,
    MultiStepDecay,
    OneCycle,
    Polynomial,
    Repeat,
    ScalarGroup,
    ScheduledScalar,
    Staircase,
    StepDecay,
    Truncated,
    Warmup,
)

from .measure import microseconds, row

POINTS = [i / 1000 for i in range(1000)]


def main() -> None:
    points = itertools.cycle(POINTS)
    free, captured = CosineAnnealing(1e-3, 1e-5), CosineAnnealing(1e-3, 1e-5)
    warm = Warmup(CosineAnnealing(1e-3, 1e-5), 0.1)
    captured.state  # noqa: B018 - from now on every value is put into it
    updates = [lambda s=s: s.update(next(points)) for s in (free, captured, warm)]
    own, own_captured, own_warm, *theirs = microseconds(*updates, *torch_step())
    row("update", f"{own:.2f} us")
    row("update, its state captured", f"{own_captured:.2f} us")
    row("update, Warmup of a cosine", f"{own_warm:.2f} us")
    for step in theirs:
        what = f"update / PyTorch CosineAnnealingLR.step, {step:.2f} us"
        row(what, f"{own / step:.2f} x", "hold: <= 0.5 x")
        row("  its state captured", f"{own_captured / step:.2f} x", "hold: <= 1.2 x")

    cosine, steps = optim.cosine_decay(1e-3, 1000, 1e-5), itertools.count()
    mlx = microseconds(lambda: mx.eval(cosine(mx.array(next(steps)))), number=200)
    row("MLX cosine_decay, evaluated / update", f"{mlx / own:.0f} x", "hold: >= 25 x")
    families_against_torch()
    against_optax(own)
    for count in (1, 10, 100, 1000):
        group = ScalarGroup({f"s{i}": CosineAnnealing(1e-3, 1e-5) for i in range(count)})
        calls = max(2, 2_000 // count)
        each = microseconds(lambda g=group: g.update(next(points)), number=calls) / count
        row(f"update of a group of {count:,}, each scalar", f"{each:.2f} us", "hold: <= 1.5 us")


def torch_step() -> list[Callable[[], None]]:
    """Return a step of PyTorch's cosine schedule, if PyTorch is installed."""
    try:
        import torch
    except ImportError:
        row("PyTorch", "not installed")
        return []
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    optimizer.step()
    return [schedule.step]


def families_against_torch() -> None:
    """Compare every family with PyTorch's counterpart."""
    try:
        import torch
    except ImportError:
        return
    step, total = torch.optim.lr_scheduler, 10_000_000  # they do less after the last step
    pairs: list[tuple[ScheduledScalar, Any]] = [
        (Linear(1e-4, 1e-3), lambda o: step.LinearLR(o, 0.1, 1.0, total)),
        (Polynomial(1e-3, 0.0), lambda o: step.PolynomialLR(o, total, 2.0)),
        (Polynomial(1e-3, 0.0, cycle=0.25), lambda o: step.PolynomialLR(o, total, 2.0)),
        (Exponential(1e-3, 1e-5), lambda o: step.ExponentialLR(o, 0.995)),
        (StepDecay(1e-3, 0.5, 0.1), lambda o: step.StepLR(o, 100, 0.5)),
        (MultiStepDecay(1e-3, 0.1, [0.5, 0.8]), lambda o: step.MultiStepLR(o, [500, 800])),
        (
            CosineAnnealingWarmRestarts(1e-3, first_cycle=0.1, cycle_mult=2),
            lambda o: step.CosineAnnealingWarmRestarts(o, 100, 2),
        ),
        (Cyclic(1e-4, 1e-3, 0.2), lambda o: step.CyclicLR(o, 1e-4, 1e-3, 100)),
        (OneCycle(1e-3), lambda o: step.OneCycleLR(o, 1e-3, 10_000_000)),
        (LambdaValue(lambda p: 1 - p), lambda o: step.LambdaLR(o, lambda t: 1 - t / total)),
        (
            Warmup(CosineAnnealing(1e-3), 0.1),
            lambda o: step.SequentialLR(
                o, [step.LinearLR(o, 0.1), step.CosineAnnealingLR(o, total)], [100]
            ),
        ),
    ]
    # PyTorch has no such compositions: a function that its users would write, with its own cosine.
    cosine = CosineAnnealing(1e-3)
    half = lambda t: (1 + math.cos(math.pi * t / total)) / 2  # noqa: E731
    pairs += [
        (Truncated(cosine, 0.5), lambda o: step.LambdaLR(o, lambda t: half(t / 2))),
        (Staircase(cosine, 0.1), lambda o: step.LambdaLR(o, lambda t: half(t // 1000 * 1000))),
        (
            Repeat(cosine, 4, decay=0.5),
            lambda o: step.LambdaLR(o, lambda t: 0.5 ** (4 * t // total) * half(4 * t % total)),
        ),
    ]
    for scalar, make in pairs:
        points = itertools.cycle(POINTS)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3, momentum=0.9)
        schedule = make(optimizer)
        optimizer.step()
        update = lambda s=scalar, p=points: s.update(next(p))  # noqa: E731
        ours, theirs = microseconds(update, schedule.step)
        what = f"  {type(scalar).__name__}, {ours:.2f} us / {type(schedule).__name__}"
        row(what, f"{ours / theirs:.2f} x")


def against_optax(own: float) -> None:
    """Compare with optax, if it is installed."""
    try:
        import optax
    except ImportError:
        return row("optax", "not installed")
    schedule, steps = optax.cosine_decay_schedule(1e-3, 1000), itertools.count()
    theirs = microseconds(lambda: schedule(next(steps)).block_until_ready(), number=100)
    row("optax cosine_decay_schedule, eager / update", f"{theirs / own:.0f} x")
    return None
