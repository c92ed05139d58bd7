"""Time and memory of the Schedule-Free optimizers and of those that they replace."""

from __future__ import annotations

import statistics
import time
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim

from scalars import ScheduleFreeAdamW, ScheduleFreeSGD

from .measure import row

TENSORS, SIZE, STEPS, ROUNDS = 24, 256, 15, 15
HOLDS = {"eager": 1.0, "compiled": 1.3}
PAIRS = {
    "ScheduleFreeSGD / SGD(momentum)": (
        lambda: ScheduleFreeSGD(0.1, momentum=0.9),
        lambda: optim.SGD(0.1, momentum=0.9),
    ),
    "ScheduleFreeAdamW / AdamW": (
        lambda: ScheduleFreeAdamW(1e-3, weight_decay=0.01),
        lambda: optim.AdamW(1e-3, weight_decay=0.01),
    ),
}


class Run:
    """Measure the time and memory of updates of some matrices."""

    def __init__(self, optimizer: Any, compiled: bool) -> None:
        self.optimizer = optimizer
        self.parameters = {f"w{i}": mx.random.normal((SIZE, SIZE)) for i in range(TENSORS)}
        self.gradients = {k: mx.random.normal(w.shape) for k, w in self.parameters.items()}
        optimizer.init(self.parameters)
        mx.eval(self.parameters, self.gradients, optimizer.state)
        state = [self.parameters, optimizer.state]
        self.step = mx.compile(self.body, inputs=state, outputs=state) if compiled else self.body

    def body(self) -> None:
        self.parameters.update(self.optimizer.apply_gradients(self.gradients, self.parameters))

    def milliseconds(self) -> float:
        begin = time.perf_counter()
        for _ in range(STEPS):
            self.step()
            mx.eval(self.parameters, self.optimizer.state)
        return (time.perf_counter() - begin) / STEPS * 1e3

    def bytes(self) -> tuple[int, int]:
        """Return the bytes of the state, and the peak of additional memory in a step."""
        kept = sum(array.nbytes for array in _arrays(self.optimizer.state))
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        self.step()
        mx.eval(self.parameters, self.optimizer.state)
        return kept, mx.get_peak_memory() - before


def _arrays(tree: Any) -> list[mx.array]:
    from mlx.utils import tree_flatten

    return list(dict(tree_flatten(tree)).values())


def main() -> None:
    weights = TENSORS * SIZE * SIZE * 4
    for name, (ours, theirs) in PAIRS.items():
        for mode, hold in HOLDS.items():
            pair = [Run(make(), mode == "compiled") for make in (ours, theirs)]
            for run in pair:
                run.milliseconds()
            times = [[run.milliseconds() for run in pair] for _ in range(ROUNDS)]
            ratio = statistics.median(a / b for a, b in times)
            own = statistics.median(a for a, _ in times)
            what = f"{name}, {mode}, a step of {own:.1f} ms"
            row(what, f"{ratio:.2f} x", f"hold: <= {hold} x")
            (kept, peak), (their_kept, their_peak) = (run.bytes() for run in pair)
            shown = f"{kept / weights:.1f} / {their_kept / weights:.1f} copies of the weights"
            row("  state", shown, f"peak of a step {peak / their_peak:.2f} x")
