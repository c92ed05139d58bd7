"""The table of schedules, with at least one row for each class.

``test_properties.py`` checks every property for every row. A new schedule is one class and one
row here: a factory, its smallest and largest value, and some of its values, computed by hand
from the formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import mlx.core as mx

from scalars import (
    Constant,
    CosineAnnealing,
    CosineAnnealingWarmRestarts,
    Cyclic,
    DynamicLossScale,
    EarlyStopping,
    Exponential,
    Greedy,
    InverseSqrt,
    InverseTime,
    LambdaValue,
    Linear,
    MultiStepDecay,
    NewBob,
    OneCycle,
    PiecewiseConstant,
    PiecewiseInterpolate,
    Polynomial,
    ReduceOnPlateau,
    Repeat,
    Reversed,
    Rex,
    ScheduledScalar,
    Sequence,
    Staircase,
    StepDecay,
    Tanh,
    ThresholdSwitch,
    Truncated,
    Warmup,
    WarmupStableDecay,
    Warp,
    clip,
    cos,
    exp,
    floor,
    log,
    maximum,
    minimum,
    sin,
    sqrt,
    tanh,
)


def quadratic(progress: float) -> float:
    """Fall from 1 to 0, as a function that can be pickled."""
    return (1 - progress) ** 2


def wave(progress: mx.array) -> mx.array:
    """Return a wave computed with MLX, also for a float."""
    return 1 + mx.sin(10 * mx.array(progress))


@dataclass(frozen=True)
class Case:
    """A schedule, its range, and some values computed by hand."""

    make: Callable[[], ScheduledScalar]
    bounds: tuple[float, float]
    points: dict[float, float] = field(default_factory=dict)
    jumps: bool = False
    """Whether the value jumps somewhere."""
    tolerance: float = 1e-12
    """The tolerance of the points relative to the largest bound; float32 needs more."""

    def __str__(self) -> str:
        return repr(self.make())


CASES = [
    Case(lambda: Constant(0.3), (0.3, 0.3), {0: 0.3, 0.7: 0.3, 1: 0.3}),
    Case(lambda: Constant(-2), (-2, -2), {0.5: -2}),
    Case(lambda: Linear(1.0, 0.2), (0.2, 1.0), {0: 1.0, 0.25: 0.8, 0.5: 0.6, 1: 0.2}),
    Case(lambda: Linear(0, 1), (0, 1), {0: 0, 1 / 3: 1 / 3, 1: 1}),
    Case(lambda: Linear(-1.0, 1.0), (-1, 1), {0: -1, 0.5: 0, 1: 1}),
    Case(lambda: Linear(0.1, 0.1), (0.1, 0.1), {0: 0.1, 0.3: 0.1, 0.77: 0.1, 1: 0.1}),
    Case(lambda: Linear(1e-3, 1e-30), (1e-30, 1e-3), {0: 1e-3, 0.5: 5e-4, 1: 1e-30}),
    Case(lambda: Polynomial(1.0, 0.0), (0, 1), {0: 1, 0.25: 0.5625, 0.5: 0.25, 1: 0}),
    Case(lambda: Polynomial(1.0, 3.0, power=0.5), (1, 3), {0: 1, 0.75: 2, 0.84: 2.2, 1: 3}),
    Case(lambda: Polynomial(2.0, 1.0, power=1), (1, 2), {0: 2, 0.3: 1.7, 1: 1}),
    Case(  # 1 - p / 0.4, then 1 - p / 0.8, then 1 - p / 1.2
        lambda: Polynomial(1.0, 0.0, power=0.5, cycle=0.4),
        (0, 1),
        {0: 1, 0.3: 0.5, 0.4: 0, 0.6: 0.5, 0.8: 0, 0.9: 0.5, 1: (1 / 6) ** 0.5},
        jumps=True,
    ),
    Case(
        lambda: CosineAnnealing(0.1, end=0.01),
        (0.01, 0.1),
        {
            0: 0.1,
            1 / 3: 0.0775,
            0.25: 0.055 + 0.045 * math.sqrt(0.5),
            0.5: 0.055,
            2 / 3: 0.0325,
            1: 0.01,
        },
    ),
    Case(lambda: CosineAnnealing(1e-3), (0, 1e-3), {0: 1e-3, 0.5: 5e-4, 2 / 3: 2.5e-4, 1: 0}),
    Case(lambda: CosineAnnealing(0.0, 1.0), (0, 1), {0: 0, 1 / 3: 0.25, 0.5: 0.5, 1: 1}),
    Case(lambda: CosineAnnealing(1.0, power=2.0), (0, 1), {0: 1, 1 / 3: 0.5625, 0.5: 0.25, 1: 0}),
    Case(lambda: Exponential(1.0, 0.01), (0.01, 1), {0: 1, 0.25: 10**-0.5, 0.5: 0.1, 1: 0.01}),
    Case(lambda: Exponential(-1.0, -16.0), (-16, -1), {0: -1, 0.25: -2, 0.5: -4, 0.75: -8, 1: -16}),
    Case(lambda: LambdaValue(quadratic), (0, 1), {0: 1, 0.25: 0.5625, 1: 0}),
    Case(
        lambda: LambdaValue(wave),
        (0, 2),
        {0: 1, 0.5: 1 + math.sin(5), 1: 1 + math.sin(10)},
        tolerance=1e-6,
    ),
    Case(
        lambda: Sequence([Linear(0, 1), 1, CosineAnnealing(1.0)], [0.1, 0.5]),
        (0, 1),
        {0: 0, 0.05: 0.5, 0.1: 1, 0.3: 1, 0.5: 1, 0.75: 0.5, 1: 0},
    ),
    Case(
        lambda: Sequence([0.1, 0.01, Sequence([Linear(5.0, 3.0), 2.0], [0.5])], [0.25, 0.5]),
        (0.01, 5),
        {0: 0.1, 0.2: 0.1, 0.25: 0.01, 0.49: 0.01, 0.5: 5, 0.625: 4, 0.75: 2, 1: 2},
        jumps=True,
    ),
    # Spans of length 0: at 0, at 1, and a repeated boundary.
    Case(lambda: Sequence([9.0, Linear(1.0, 0.0)], [0.0]), (0, 1), {0: 1, 0.5: 0.5, 1: 0}),
    Case(
        lambda: Sequence([Linear(0.0, 1.0), Linear(5.0, 7.0)], [1.0]),
        (0, 5),
        {0: 0, 0.5: 0.5, 0.99: 0.99, 1: 5},
        jumps=True,
    ),
    Case(
        lambda: Sequence([1.0, Linear(8.0, 9.0), Linear(2.0, 3.0)], [0.5, 0.5]),
        (1, 3),
        {0: 1, 0.49: 1, 0.5: 2, 0.75: 2.5, 1: 3},
        jumps=True,
    ),
    Case(
        lambda: PiecewiseConstant([1, 2, 3, 4, 5], [0.0, 0.25, 0.25, 1.0]),
        (2, 5),
        {0: 2, 0.24: 2, 0.25: 4, 0.99: 4, 1: 5},
        jumps=True,
    ),
    Case(
        lambda: MultiStepDecay(1.0, 0.5, [0.0, 0.0, 0.5, 1.0]),
        (0.0625, 0.25),
        {0: 0.25, 0.49: 0.25, 0.5: 0.125, 0.99: 0.125, 1: 0.0625},
        jumps=True,
    ),
    Case(
        lambda: PiecewiseInterpolate([(0, 9), (0, 0), (0.5, 1), (0.5, 3), (1, 2), (1, 7)]),
        (0, 7),
        {0: 0, 0.25: 0.5, 0.49: 0.98, 0.5: 3, 0.75: 2.5, 0.99: 2.02, 1: 7},
        jumps=True,
    ),
    Case(
        lambda: OneCycle(1.0, 0.1, 0.0, warmup=0.0, curve="linear"), (0, 1), {0: 1, 0.5: 0.5, 1: 0}
    ),
    Case(
        lambda: OneCycle(1.0, 0.0, 0.5, warmup=1.0, curve="linear"), (0, 1), {0: 0, 0.5: 0.5, 1: 1}
    ),
    Case(
        lambda: Cyclic(0.0, 1.0, 0.5, rise=0.0),
        (0, 1),
        {0: 1, 0.25: 0.5, 0.5: 1, 0.75: 0.5, 1: 0},
        jumps=True,
    ),
    Case(
        lambda: Cyclic(0.0, 1.0, 0.5, rise=1.0),
        (0, 1),
        {0: 0, 0.25: 0.5, 0.5: 0, 0.75: 0.5, 1: 1},
        jumps=True,
    ),
    Case(
        lambda: Warmup(CosineAnnealing(1.0), 0.2),
        (0, 1),
        {0: 0, 0.05: 0.25, 0.2: 1, 0.6: 0.5, 1: 0},
    ),
    Case(
        lambda: Warmup(2.0, 0.5, start=1.0, curve="cosine"), (1, 2), {0: 1, 0.25: 1.5, 0.5: 2, 1: 2}
    ),
    Case(lambda: Warmup(4.0, 0.5, start=1.0, curve="exponential"), (1, 4), {0: 1, 0.25: 2, 0.6: 4}),
    Case(
        lambda: Warmup(1.0, 0.5, curve="exponential"),
        (0, 1),
        {0: 0, 0.25: (1 - math.sqrt(0.1)) / 0.9, 0.5: 1},
    ),
    Case(lambda: Warmup(1.0, 0.5, curve="one_minus_sqrt"), (0, 1), {0: 0, 0.125: 0.5, 0.5: 1}),
    Case(
        lambda: Warmup(1.0, 0.5, curve="smoothstep"),
        (0, 1),
        {0: 0, 0.125: 0.15625, 0.25: 0.5, 1: 1},
    ),
    Case(lambda: Warmup(1.0, 0.5, curve="polynomial"), (0, 1), {0: 0, 0.125: 0.4375, 0.5: 1}),
    Case(lambda: Warmup(Linear(1.0, 0.0), 0.0), (0, 1), {0: 1, 0.5: 0.5, 1: 0}),
    Case(lambda: Warmup(Linear(1.0, 0.0), 1), (0, 1), {0: 0, 0.5: 0.5, 1: 1}),
    Case(lambda: InverseSqrt(1.0, 0.25), (5**-0.5, 1), {0: 1, 0.75: 0.5, 1: 5**-0.5}),
    Case(lambda: InverseTime(1.0, 3.0), (0.25, 1), {0: 1, 1 / 3: 0.5, 1: 0.25}),
    Case(lambda: InverseTime(-2.0, -0.5), (-4, -2), {0: -2, 0.5: -8 / 3, 1: -4}),
    Case(
        lambda: Tanh(1.0, 0.0),
        ((1 - math.tanh(3)) / 2, 1),
        {
            0: (1 + math.tanh(7)) / 2,
            0.6: (1 + math.tanh(1)) / 2,
            0.7: 0.5,
            1: 1 / (1 + math.exp(6)),
        },
    ),
    Case(
        lambda: Tanh(3.0, 1.0, lower=0.0, upper=1.0),
        (2 - math.tanh(1), 2),
        {0: 2, 1: 2 - math.tanh(1)},
    ),
    Case(lambda: Rex(1.0), (0, 1), {0: 1, 0.5: 2 / 3, 0.8: 1 / 3, 1: 0}),
    Case(lambda: Rex(0.1, 0.3), (0.1, 0.3), {0: 0.1, 0.5: 0.3 - 0.4 / 3, 1: 0.3}),
    Case(
        lambda: StepDecay(1.0, 0.5, 0.25),
        (0.0625, 1),
        {0: 1, 0.2: 1, 0.25: 0.5, 0.7: 0.25, 0.75: 0.125, 0.9: 0.125, 1: 0.0625},
        jumps=True,
    ),
    Case(lambda: StepDecay(1.0, -1.0, 0.3), (-1, 1), {0: 1, 0.3: -1, 0.6: 1, 0.9: -1}, jumps=True),
    Case(
        lambda: MultiStepDecay(1.0, 0.1, [0.25, 0.5, 0.5]),
        (0.001, 1),
        {0: 1, 0.2: 1, 0.25: 0.1, 0.49: 0.1, 0.5: 0.001, 1: 0.001},
        jumps=True,
    ),
    Case(
        lambda: PiecewiseConstant([16, 32, -8.5], [0.25, 0.75]),
        (-8.5, 32),
        {0: 16, 0.24: 16, 0.25: 32, 0.74: 32, 0.75: -8.5, 1: -8.5},
        jumps=True,
    ),
    Case(lambda: PiecewiseConstant([3], []), (3, 3), {0: 3, 1: 3}),
    Case(
        lambda: PiecewiseInterpolate([(0.0, 0.0), (0.2, 1.0), (1.0, 0.5)]),
        (0, 1),
        {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.75, 1: 0.5},
    ),
    Case(
        lambda: PiecewiseInterpolate([(0.25, 1.0), (0.5, 4.0), (0.75, 4.0)], curve="exponential"),
        (1, 4),
        {0: 1, 0.25: 1, 0.375: 2, 0.5: 4, 0.6: 4, 1: 4},
    ),
    Case(
        lambda: CosineAnnealingWarmRestarts(1.0, 0.1, first_cycle=0.25),
        (0.1, 1),
        {0: 1, 0.125: 0.55, 0.25: 1, 0.625: 0.55, 0.75: 1, 1: 0.1},
        jumps=True,
    ),
    Case(
        lambda: CosineAnnealingWarmRestarts(1.0, first_cycle=0.25, cycle_mult=3.0, decay=0.5),
        (0, 1),
        {0: 1, 0.125: 0.5, 0.25: 0.5, 0.625: 0.25, 1: 0},
        jumps=True,
    ),
    Case(
        lambda: CosineAnnealingWarmRestarts(2.0, first_cycle=0.4, cycle_mult=2.0),
        (0, 2),
        {0: 2, 0.2: 1, 0.4: 2, 0.8: 1, 1: 2 * (1 + math.cos(math.pi * 0.75)) / 2},
        jumps=True,
    ),
    Case(
        lambda: Cyclic(0.0, 1.0, cycle=0.5, mode="triangular2"),
        (0, 1),
        {0: 0, 0.125: 0.5, 0.25: 1, 0.375: 0.5, 0.5: 0, 0.75: 0.5, 0.875: 0.25, 1: 0},
    ),
    Case(
        lambda: Cyclic(1.0, 3.0, cycle=0.4, rise=0.25),
        (1, 3),
        {0: 1, 0.05: 2, 0.1: 3, 0.25: 2, 0.4: 1, 0.9: 3, 1: 1 + 2 * 2 / 3},
    ),
    Case(
        lambda: Cyclic(0.0, 1.0, cycle=1.0, mode="exp_range", gamma=0.25),
        (0, 0.5),
        {0: 0, 0.25: 0.5 * 0.25**0.25, 0.5: 0.5, 1: 0},
    ),
    Case(
        lambda: OneCycle(1.0),
        (4e-6, 1),
        {0: 0.04, 0.15: 0.52, 0.3: 1, 0.65: (1 + 4e-6) / 2, 1: 4e-6},
    ),
    Case(
        lambda: OneCycle(0.85, start=0.95, end=0.95, curve="linear"),
        (0.85, 0.95),
        {0: 0.95, 0.15: 0.9, 0.3: 0.85, 0.65: 0.9, 1: 0.95},
    ),
    Case(
        lambda: OneCycle(1.0, 0.5, 0.1, warmup=0.25, curve="linear", three_phase=True),
        (0.1, 1),
        {0: 0.5, 0.125: 0.75, 0.25: 1, 0.375: 0.75, 0.5: 0.5, 0.75: 0.3, 1: 0.1},
    ),
    Case(
        lambda: WarmupStableDecay(1.0, warmup=0.1, decay=0.2, end=0.1),
        (0, 1),
        {0: 0, 0.05: 0.5, 0.1: 1, 0.5: 1, 0.8: 1, 0.9: 0.55, 1: 0.1},
    ),
    Case(
        lambda: WarmupStableDecay(2.0, 0, 0.5, curve="one_minus_sqrt"),
        (0, 2),
        {0: 2, 0.5: 2, 0.625: 1, 1: 0},
    ),
    Case(
        lambda: WarmupStableDecay(1.0, 0.5, 0.5, end=0.0, curve="exponential"),
        (0, 1),
        {0: 0, 0.25: 0.5, 0.5: 1, 0.75: (math.sqrt(0.1) - 0.1) / 0.9, 1: 0},
    ),
    Case(
        lambda: WarmupStableDecay(1.0, 0.3, 0.7, curve="cosine"),
        (0, 1),
        {0: 0, 0.3: 1, 0.65: 0.5, 1: 0},
    ),
    Case(
        lambda: Repeat(Linear(1.0, 0.0), 2, decay=0.5),
        (0, 1),
        {0: 1, 0.25: 0.5, 0.5: 0.5, 0.75: 0.25, 1: 0},
        jumps=True,
    ),
    Case(lambda: Repeat(3, 7), (3, 3), {0: 3, 0.5: 3, 1: 3}),
    Case(
        lambda: Repeat(Linear(1.0, 0.0), 2.5, decay=0.5),
        (0, 1),
        {0: 1, 0.2: 0.5, 0.4: 0.5, 0.6: 0.25, 0.8: 0.25, 0.9: 0.1875, 1: 0.125},
        jumps=True,
    ),
    Case(
        lambda: Repeat(CosineAnnealing(1.0), 0.5),
        (0.5, 1),
        {0: 1, 2 / 3: 0.75, 1: 0.5},
    ),
    Case(  # of the lengths 1, 2, 4 and a half of 8, in elevenths
        lambda: Repeat(Linear(1.0, 0.0), 3.5, growth=2.0, decay=-1.0),
        (-1, 1),
        {
            0: 1,
            1 / 11: -1,
            2 / 11: -0.5,
            3 / 11: 1,
            5 / 11: 0.5,
            7 / 11: -1,
            9 / 11: -0.75,
            1: -0.5,
        },
        jumps=True,
    ),
    Case(  # of the lengths 9, 3 and 1, in thirteenths
        lambda: Repeat(Cyclic(0.0, 1.0, 1.0), 3, growth=1 / 3),
        (0, 1),
        {0: 0, 4.5 / 13: 1, 9 / 13: 0, 10.5 / 13: 1, 12 / 13: 0, 12.25 / 13: 0.5, 1: 0},
    ),
    Case(lambda: Reversed(Exponential(1.0, 0.01)), (0.01, 1), {0: 0.01, 0.5: 0.1, 1: 1}),
    Case(lambda: Warp(CosineAnnealing(1.0), 2), (0, 1), {0: 1, 0.5**0.5: 0.5, 1: 0}),
    Case(lambda: Truncated(CosineAnnealing(1.0), 0.5), (0.5, 1), {0: 1, 2 / 3: 0.75, 1: 0.5}),
    Case(
        lambda: Truncated(Warmup(1.0, 0.2), 0.4),
        (0, 1),
        {0: 0, 0.25: 0.5, 0.5: 1, 0.75: 1, 1: 1},
    ),
    Case(
        lambda: Truncated(Sequence([Linear(0.0, 1.0), 3.0], [0.5]), end=0.75, begin=0.25),
        (0.5, 3),
        {0: 0.5, 0.25: 0.75, 0.49: 0.99, 0.5: 3, 1: 3},
        jumps=True,
    ),
    Case(
        lambda: Warmup(Truncated(Linear(1.0, 0.0), begin=0.2), 0.2),
        (0, 0.8),
        {0: 0, 0.1: 0.4, 0.2: 0.8, 0.6: 0.4, 1: 0},
    ),
    Case(
        lambda: Warmup(Truncated(Linear(1.0, 0.5), begin=1.0), 1.0), (0, 0.5), {0.5: 0.25, 1: 0.5}
    ),
    Case(
        lambda: Staircase(CosineAnnealing(1.0), 0.25),
        (0, 1),
        {
            0: 1,
            0.24: 1,
            0.25: (2 + 2**0.5) / 4,
            0.5: 0.5,
            0.75: (2 - 2**0.5) / 4,
            0.99: (2 - 2**0.5) / 4,
            1: 0,
        },
        jumps=True,
    ),
    Case(
        lambda: Staircase(Sequence([Linear(0, 1), Linear(1, 0)], [0.5]) * 2, 0.3),
        (0, 1.6),
        {0: 0, 0.29: 0, 0.3: 1.2, 0.6: 1.6, 0.89: 1.6, 0.9: 0.4, 1: 0.4},
        jumps=True,
    ),
    Case(lambda: Warp(Linear(0.0, 1.0) * 2, 0.5), (0, 2), {0: 0, 0.25: 1, 1: 2}),
    Case(
        lambda: Warmup(Repeat(Cyclic(0.5, 1.0, 0.5) * 2, 2), 0.2),
        (0, 2),
        {0: 0, 0.1: 0.5, 0.2: 1, 0.3: 2, 0.4: 1, 1: 1},
    ),
    Case(lambda: CosineAnnealing(0.1) * 0.5 + 1, (1, 1.05), {0: 1.05, 0.5: 1.025, 1: 1}),
    Case(lambda: 1 - Linear(0.9, 0.99), (0.01, 0.1), {0: 0.1, 0.5: 0.055, 1: 0.01}),
    Case(lambda: -(abs(Linear(-1.0, 1.0)) ** 2), (-1, 0), {0: -1, 0.25: -0.25, 0.5: 0, 1: -1}),
    Case(lambda: Linear(1, 2) / (Linear(1, 2) + Linear(3, 2)), (0.25, 0.5), {0: 0.25, 0.5: 0.375}),
    Case(lambda: 2 ** Linear(0, 3), (1, 8), {0: 1, 1 / 3: 2, 2 / 3: 4, 1: 8}),
    Case(lambda: clip(Linear(0.0, 1.0), 0.2, 0.6), (0.2, 0.6), {0: 0.2, 0.5: 0.5, 1: 0.6}),
    Case(
        lambda: maximum(Linear(1.0, 0.0), Linear(0.0, 1.0)), (0.5, 1), {0: 1, 0.5: 0.5, 0.75: 0.75}
    ),
    Case(lambda: minimum(3, Linear(1.0, 5.0)), (1, 3), {0: 1, 0.25: 2, 0.75: 3, 1: 3}),
    Case(
        lambda: exp(Linear(-2.0, 0.0)), (math.exp(-2), 1), {0: math.exp(-2), 0.5: 1 / math.e, 1: 1}
    ),
    Case(  # DeepSpeed's warm-up
        lambda: Warmup(1.0, 0.0) * log(Linear(1.0, 16.0)) / math.log(16),
        (0, 1),
        {0: 0, 1 / 15: 0.25, 0.2: 0.5, 7 / 15: 0.75, 1: 1},
    ),
    Case(lambda: sqrt(Linear(0.0, 4.0)), (0, 2), {0: 0, 0.25: 1, 0.5: 2**0.5, 1: 2}),
    Case(
        lambda: 3 * sin(Linear(0.0, 2 * math.pi)), (-3, 3), {0: 0, 1 / 12: 1.5, 0.25: 3, 0.75: -3}
    ),
    Case(lambda: cos(Linear(0.0, math.pi)), (-1, 1), {0: 1, 1 / 3: 0.5, 0.5: 0, 1: -1}),
    Case(
        lambda: tanh(Linear(-math.log(3), math.log(3))),
        (-0.8, 0.8),
        {0: -0.8, 0.5: 0, 0.75: 0.5, 1: 0.8},
    ),
    Case(
        lambda: floor(10 * Linear(-0.3, 0.3)),
        (-3, 3),
        {0: -3, 0.16: -3, 1 / 6: -2, 0.49: -1, 0.5: 0, 2 / 3: 1, 5 / 6: 2, 0.99: 2, 1: 3},
        jumps=True,
    ),
    Case(  # a sigmoid
        lambda: 1 / (1 + exp(math.log(9) * Linear(-1.0, 1.0))),
        (0.1, 0.9),
        {0: 0.9, 0.25: 0.75, 0.5: 0.5, 1: 0.1},
    ),
    Case(
        lambda: Warmup(CosineAnnealing(1.0) * 2 + 1, 0.5),
        (0, 3),
        {0: 0, 0.25: 1.5, 0.5: 3, 0.75: 2, 1: 1},
    ),
    Case(lambda: Linear(1.0, 3.0).astype(mx.bfloat16), (1, 3), {0: 1, 0.5: 2, 1: 3}),
    # Adaptive schedules before any observation. The range covers all observations.
    Case(lambda: ReduceOnPlateau(0.5, patience=3, minimum=0.1), (0.1, 0.5), {0: 0.5, 1: 0.5}),
    Case(lambda: ReduceOnPlateau(Linear(1.0, 0.5), 0.5, mode="max"), (0, 1), {0: 1, 0.5: 0.75}),
    Case(lambda: Warmup(ReduceOnPlateau(1.0), 0.5), (0, 1), {0: 0, 0.25: 0.5, 0.5: 1, 1: 1}),
    Case(lambda: ReduceOnPlateau(1.0) * CosineAnnealing(2.0), (0, 2), {0: 2, 0.5: 1, 1: 0}),
    Case(lambda: NewBob(Linear(1.0, 0.5), 0.9), (0, 1), {0: 1, 0.5: 0.75, 1: 0.5}),
    Case(lambda: Greedy(0.1, patience=2), (1e-3, 1), {0: 0.1, 0.5: 0.1, 1: 0.1}),
    Case(
        lambda: Warmup(Greedy(2.0, maximum=0.5) * Linear(1.0, 0.5), 0.5),
        (0, 2),
        {0: 0, 0.25: 1, 0.5: 2, 1: 1},
    ),
    Case(lambda: ThresholdSwitch([Linear(0.0, 1.0), 3.0], ["< 0.5"]), (0, 3), {0: 0, 0.5: 0.5}),
    Case(lambda: EarlyStopping(patience=3), (0, 1), {0: 0, 0.5: 0, 1: 0}),
    Case(lambda: DynamicLossScale(1024.0), (1, 2.0**127), {0: 1024, 0.5: 1024, 1: 1024}),
]
