"""``update`` of one schedule and of a group, beside what other libraries do in a step."""

from __future__ import annotations

import itertools

import mlx.core as mx
import mlx.optimizers as optim

from scalars import CosineAnnealing, ScalarGroup, Warmup

from .measure import microseconds, row

POINTS = [i / 1000 for i in range(1000)]


def main() -> None:
    points = itertools.cycle(POINTS)
    free, captured = CosineAnnealing(1e-3, 1e-5), CosineAnnealing(1e-3, 1e-5)
    warm = Warmup(CosineAnnealing(1e-3, 1e-5), 0.1)
    captured.state  # noqa: B018 - from now on every value is put into it
    own = microseconds(lambda: free.update(next(points)))
    own_captured = microseconds(lambda: captured.update(next(points)))
    row("update", f"{own:.2f} us")
    row("update, its state captured", f"{own_captured:.2f} us")
    row("update, Warmup of a cosine", f"{microseconds(lambda: warm.update(next(points))):.2f} us")

    cosine, steps = optim.cosine_decay(1e-3, 1000, 1e-5), itertools.count()
    theirs = microseconds(lambda: mx.eval(cosine(mx.array(next(steps)))), number=2000)
    row("MLX cosine_decay, evaluated / update", f"{theirs / own:.0f} x", "hold: >= 25 x")
    against_torch(own, own_captured)
    against_optax(own)
    for count in (1, 10, 100, 1000):
        group = ScalarGroup({f"s{i}": CosineAnnealing(1e-3, 1e-5) for i in range(count)})
        calls = max(20, 20_000 // count)
        each = microseconds(lambda g=group: g.update(next(points)), calls) / count
        row(f"update of a group of {count:,}, each scalar", f"{each:.2f} us", "hold: <= 1.5 us")


def against_torch(own: float, own_captured: float) -> None:
    """Compare with PyTorch, where it is installed."""
    try:
        import torch
    except ImportError:
        return row("PyTorch", "not installed")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    optimizer.step()
    theirs = microseconds(schedule.step)
    row(
        f"update / PyTorch CosineAnnealingLR.step, {theirs:.2f} us",
        f"{own / theirs:.2f} x",
        "hold: <= 0.5 x",
    )
    row("  its state captured", f"{own_captured / theirs:.2f} x", "hold: <= 1.2 x")
    return None


def against_optax(own: float) -> None:
    """Compare with optax, where it is installed."""
    try:
        import optax
    except ImportError:
        return row("optax", "not installed")
    schedule, steps = optax.cosine_decay_schedule(1e-3, 1000), itertools.count()
    theirs = microseconds(lambda: schedule(next(steps)).block_until_ready(), number=1000)
    row("optax cosine_decay_schedule, eager / update", f"{theirs / own:.0f} x")
    return None
