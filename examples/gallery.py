"""Draw every schedule over a run: ``python examples/gallery.py`` writes examples/schedules.png.

It needs matplotlib: ``pip install -e ".[cpu,plot]"``. Another file may be given.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np

from scalars import (
    Constant,
    CosineAnnealing,
    CosineAnnealingWarmRestarts,
    Cyclic,
    Exponential,
    InverseSqrt,
    InverseTime,
    LambdaValue,
    Linear,
    MultiStepDecay,
    OneCycle,
    PiecewiseConstant,
    PiecewiseInterpolate,
    Polynomial,
    Repeat,
    Reversed,
    Rex,
    Sequence,
    StepDecay,
    Tanh,
    Truncated,
    Warmup,
    WarmupStableDecay,
    Warp,
)

SCHEDULES = [
    Constant(0.5), Linear(1, 0), Polynomial(1, 0, power=3), CosineAnnealing(1),
    Exponential(1, 0.01), InverseSqrt(1, 0.1), InverseTime(1, 9), Tanh(1), Rex(1),
    StepDecay(1, 0.5, 0.2), MultiStepDecay(1, 0.3, [0.5, 0.75]),
    PiecewiseConstant([0.2, 1, 0.5], [0.2, 0.6]),
    PiecewiseInterpolate([(0, 0), (0.3, 1), (0.5, 0.4), (1, 0.2)], "cosine"),
    CosineAnnealingWarmRestarts(1, first_cycle=1 / 7, cycle_mult=2, decay=0.8),
    Cyclic(0, 1, 0.25, rise=0.3), OneCycle(1),
    Sequence([Linear(0, 1), 1, CosineAnnealing(1)], [0.2, 0.6]), Warmup(CosineAnnealing(1), 0.1),
    WarmupStableDecay(1, 0.1, 0.3, curve="one_minus_sqrt"), Repeat(Linear(1, 0), 4, decay=0.7),
    Reversed(Exponential(1, 0.01)), Truncated(CosineAnnealing(1), 0.6), Warp(CosineAnnealing(1), 2),
    LambdaValue(lambda p: 4 * p * (1 - p)),
]  # fmt: skip


def main(file: Path) -> None:
    matplotlib.use("agg")
    from matplotlib import pyplot

    progress = np.linspace(0, 1, 2001)
    figure, grid = pyplot.subplots(6, 4, figsize=(12, 12), sharex=True, sharey=True)
    for axes, schedule in zip(grid.flat, SCHEDULES, strict=True):
        values = schedule.at(progress)
        values[1:][np.abs(np.diff(values)) > 0.05] = np.nan  # a jump is no line
        axes.plot(progress, values, linewidth=2)
        name, _, arguments = repr(schedule).partition("(")
        axes.set_title(name, fontsize=10, loc="left")
        shown = arguments.removesuffix(")")
        axes.text(
            0, 1.12, shown if len(shown) < 45 else f"{shown[:42]}...", fontsize=6.5, color="gray"
        )
        axes.set_ylim(-0.06, 1.24)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("progress")
    figure.tight_layout()
    figure.savefig(file, dpi=80)
    print(f"{len(SCHEDULES)} schedules drawn to {file.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "schedules.png")
