"""All schedules in one picture: ``python examples/gallery.py schedules.png``.

The picture shows the curve of each schedule over a run, from progress 0 to 1, with the call
that makes it. A gap is a jump, and a dot is a value that is reached only at the end of the run.
The README shows ``examples/schedules.png``. Matplotlib is needed:
``pip install -e ".[cpu,plot]"``.
"""

import argparse
from pathlib import Path
from textwrap import wrap

import matplotlib

from scalars import LambdaValue, ScheduledScalar, parse, plot

WRITTEN = """
Constant(0.5)
Linear(1, 0)
Polynomial(1, 0, power=1, cycle=0.4)
CosineAnnealing(1)
Exponential(1, 0.01)
InverseSqrt(1, 0.1)
InverseTime(1, 9)
Tanh(1)
Rex(1)
StepDecay(1, 0.5, every=0.2)
MultiStepDecay(1, 0.3, [0.5, 0.75])
PiecewiseConstant([0.2, 1, 0.5], [0.2, 0.6])
PiecewiseInterpolate([(0, 0), (0.3, 1), (0.5, 0.4), (1, 0.2)], "cosine")
CosineAnnealingWarmRestarts(1, first_cycle=1/7, cycle_mult=2, decay=0.8)
Cyclic(0, 1, cycle=0.25, rise=0.3)
OneCycle(1)
Sequence([Linear(0, 1), 1, CosineAnnealing(1)], [0.2, 0.6])
Warmup(CosineAnnealing(1), 0.1)
WarmupStableDecay(1, warmup=0.1, decay=0.3, curve="one_minus_sqrt")
Repeat(Linear(1, 0), times=3.5, decay=0.8, growth=1.5)
Reversed(Exponential(1, 0.01))
Truncated(CosineAnnealing(1), end=0.8, begin=0.3)
Warp(CosineAnnealing(1), power=2)
Staircase(CosineAnnealing(1), every=0.125)
"""
SCHEDULES: dict[str, ScheduledScalar] = {text: parse(text) for text in WRITTEN.strip().split("\n")}
SCHEDULES["LambdaValue(lambda p: 4 * p * (1 - p))"] = LambdaValue(lambda p: 4 * p * (1 - p))


def main(file: Path) -> None:
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        5, 5, figsize=(14, 11.5), sharex=True, sharey=True, layout="constrained"
    )
    for i, (axes, (text, schedule)) in enumerate(
        zip(grid.flat, SCHEDULES.items(), strict=True), start=1
    ):
        print(f"{i:2} of {len(SCHEDULES)}: {text}", flush=True)
        plot(schedule, ax=axes)
        axes.get_legend().remove()
        name, _, arguments = text.partition("(")
        lines = wrap(f"({arguments}", 40)
        axes.set_title("\n".join([name, *lines]), fontsize=9, loc="left", pad=14)
        axes.set_ylim(-0.06, 1.06)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[:-1].flat:
        axes.set_xlabel("")
    figure.savefig(file, dpi=80)
    print(f"{len(SCHEDULES)} schedules drawn to {file.name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to save the picture")
    main(parser.parse_args().file)
