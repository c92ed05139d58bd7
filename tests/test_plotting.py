"""Plots: the tests read the contents of matplotlib axes and SVG lines."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import matplotlib
import pytest

from scalars import (
    Constant,
    CosineAnnealing,
    DynamicLossScale,
    Exponential,
    Horizon,
    LambdaValue,
    Linear,
    MultiStepDecay,
    OneCycle,
    Phase,
    Phases,
    PiecewiseConstant,
    Polynomial,
    Recorder,
    ReduceOnPlateau,
    Repeat,
    Reversed,
    ScalarGroup,
    ScheduledScalar,
    Sequence,
    StepDecay,
    ThresholdSwitch,
    Warmup,
    WarmupStableDecay,
    plot,
)
from scalars.sketch import polylines, written
from scalars.tools.lines import curves_of, recorded

from .cases import CASES, Case

matplotlib.use("agg")
from matplotlib import pyplot


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def lines_of(ax: Any) -> dict[str, list[tuple[float, float]]]:
    """Return the curves by name; marks have no name."""
    return {
        line.get_label(): [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in ax.get_lines()
        if not line.get_label().startswith("_")
    }


def panels_of(ax: Any) -> dict[str, str]:
    """Return the names and ranges of all panels."""
    return {one.get_title("left"): one.get_title("right") for one in ax.figure.axes}


def marks_of(ax: Any) -> dict[float, str]:
    """Return the places of dotted lines, and where the labels above them begin or end."""
    low, high = ax.get_xlim()
    at = [float(line.get_xdata()[0]) for line in ax.get_lines() if line.get_linestyle() == ":"]
    ax.figure.canvas.draw()
    found = dict.fromkeys(at, "")
    for text in ax.texts:
        box = text.get_window_extent().transformed(ax.transAxes.inverted())
        place = box.x1 if text.get_text() == "warm-up" else box.x0
        nearest = min(at, key=lambda x: abs((x - low) / (high - low) - place))
        found[nearest] = text.get_text()
    return found


def seen(ticks: Any, axis: int, limits: tuple[float, float]) -> list[Any]:
    return [tick for tick in ticks if limits[0] <= tick.get_position()[axis] <= limits[1]]


def boxes_of(figure: Any) -> list[Any]:
    """Return the boxes of all visible texts."""
    figure.canvas.draw()
    texts = []
    for ax in figure.axes:
        titles = [ax.title, ax._left_title, ax._right_title, ax.xaxis.label]
        ticks = seen(ax.get_yticklabels(), 1, ax.get_ylim())
        if ax is figure.axes[-1]:
            ticks += seen(ax.get_xticklabels(), 0, ax.get_xlim())
        texts += [text for text in (*titles, *ticks, *ax.texts) if text.get_text()]
    return [text.get_window_extent() for text in texts]


@pytest.mark.parametrize(
    ("horizon", "unit", "label", "end"),
    [
        (None, None, "progress", 1),
        (Horizon(1000), None, "step", 1000),
        (Horizon(1000, 50), None, "epoch", 20),
        (Horizon(1000, 50), "steps", "step", 1000),
        (Horizon(1000, 50), "fraction", "progress", 1),
    ],
)
def test_units(horizon: Horizon | None, unit: str | None, label: str, end: float) -> None:
    ax = plot(CosineAnnealing(1.0), horizon, unit=unit)
    (points,) = lines_of(ax).values()
    assert ax.get_xlabel() == label
    assert (points[0], points[-1]) == ((0, 1), (end, 0))
    lr = CosineAnnealing(1.0)
    assert all(y == lr.at(x / end) for x, y in points)


def test_a_panel_for_each_scalar_with_its_name_and_range() -> None:
    lr = Warmup(CosineAnnealing(3e-4, 3e-6), 0.1).update(0.3)
    group = ScalarGroup(lr=lr, dropout=Linear(0.0, 0.3), decay=Constant(0.1), down=Linear(-1, -2))
    ax = plot(group, Horizon(1000))
    assert panels_of(ax) == {
        "lr": "0 to 0.0003", "dropout": "0 to 0.3", "decay": "always 0.1", "down": "-2 to -1",
    }  # fmt: skip
    axes: Any = ax.figure.axes
    assert [list(lines_of(one)) for one in axes] == [["lr"], ["dropout"], ["decay"], ["down"]]
    assert [one.get_xlabel() for one in axes] == ["", "", "", "step"]
    # The rate fills most of its panel, whatever the dropout rate is.
    low, high = axes[0].get_ylim()
    assert 3e-4 < high < 4e-4
    assert -4e-5 < low < 0
    assert lr.progress == 0.3


def test_one_axes_on_request() -> None:
    lr = CosineAnnealing(1.0)
    ax = plot({"lr": lr, "half": lr * 0.5}, panels=False)
    assert list(lines_of(ax)) == ["lr", "half"]
    assert ax.figure.axes == [ax]
    legend: Any = ax.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["lr", "half"]


def test_one_scalar_is_named_by_what_it_is_given_as() -> None:
    assert list(panels_of(plot(CosineAnnealing(1.0)))) == ["CosineAnnealing(start=1.0)"]
    assert list(panels_of(plot({"lr": CosineAnnealing(1.0)}))) == ["lr"]
    (name,) = panels_of(plot(Warmup(CosineAnnealing(3e-4, 3e-6), 0.1)))
    whole = "Warmup(schedule=CosineAnnealing(start=0.0003, end=3e-06), fraction=0.1)"
    assert name.replace("\n", " ") == whole


JUMPS: list[tuple[ScheduledScalar, list[float]]] = [
    (Linear(0, 1), []),
    (CosineAnnealing(1), []),
    (Constant(0.3), []),
    (Constant(0.1) * 3 - 0.3, []),  # not rounded to 0 everywhere
    (Exponential(1, 1e-12), []),
    (Polynomial(1, 0, power=0.5), []),
    (WarmupStableDecay(1, 0.1, 0.3, curve="one_minus_sqrt"), []),
    (Reversed(WarmupStableDecay(1, 0.1, 0.3, curve="one_minus_sqrt")), []),
    (OneCycle(1), []),
    (Warmup(1.0, 1e-3), []),
    (PiecewiseConstant([1, 3], [0.4]), [0.4]),
    (StepDecay(1, 0.5, 0.3), [0.3, 0.6, 0.9]),
    (StepDecay(1, 0.5, 0.25), [0.25, 0.5, 0.75, 1.0]),
    (MultiStepDecay(1, 0.1, [0.0, 0.5]), [0.5]),
    (Repeat(Linear(1, 0), 3), [1 / 3, 2 / 3]),
    (Sequence([Linear(0, 1), Linear(0.999, 0)], [0.5]), [0.5]),
    (1 - StepDecay(1, 0.5, 0.3), [0.3, 0.6, 0.9]),
    (Linear(1, 0.5) * StepDecay(1, 0.9995, 0.5), [0.5, 1.0]),
    (LambdaValue(lambda p: 1.0 if p < 0.37 else 0.5 - 0.1 * p), [0.37]),
    (LambdaValue(lambda p: float(p > 0)), [0.0]),
    (LambdaValue(lambda p: math.tanh(1000 * (p - 0.37))), []),
    (5 * Linear(0, 1) // 1, [0.2, 0.4, 0.6, 0.8, 1.0]),
]


@pytest.mark.parametrize(("scalar", "jumps"), JUMPS, ids=repr)
def test_a_jump_is_a_gap_and_nothing_else_is(scalar: ScheduledScalar, jumps: list[float]) -> None:
    lines = polylines(scalar)
    assert [line[0][0] for line in lines[1:]] == pytest.approx(jumps, abs=2e-8)
    for before, after in pairwise(lines):
        assert 0 < after[0][0] - before[-1][0] < 2e-8
    points = [point for line in lines for point in line]
    assert points == sorted(set(points), key=lambda point: point[0])
    assert all(value == scalar.at(p) for p, value in points)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_schedule_that_jumps_has_gaps_and_no_other(case: Case) -> None:
    lines = polylines(case.make())
    assert (len(lines) > 1) is case.jumps
    assert (lines[0][0][0], lines[-1][-1][0]) == (0, 1)


def test_a_jump_is_a_gap_in_the_axes_and_what_holds_from_the_end_on_is_a_dot() -> None:
    ax = plot(StepDecay(1.0, 0.1, 0.5), Horizon(10))
    (points,) = lines_of(ax).values()
    gaps = [i for i, (_, y) in enumerate(points) if math.isnan(y)]
    assert [points[i + 1] for i in gaps] == [(5, 0.1), (10, pytest.approx(0.01))]
    assert {y for _, y in points[: gaps[0]]} == {1.0}
    line: Any = ax.get_lines()[0]
    assert (line.get_marker(), line.get_markevery()) == ("o", [len(points) - 1])
    assert plot(Linear(0, 1)).get_lines()[0].get_marker() == "None"


@pytest.mark.parametrize(
    ("numbers", "texts"),
    [
        ([0, 5e-5, 1e-4], ["0", "0.00005", "0.0001"]),
        ([1e-8, 1], ["1e-08", "1"]),
        ([0.9990, 0.9995, 1.0], ["0.999", "0.9995", "1"]),
        ([-0.1 - 2e-17, 5e-17, 0.1], ["-0.1", "0", "0.1"]),
        ([32768, 65536], ["32768", "65536"]),
        ([0.0], ["0"]),
        ([1 / 3, 1 / 3], ["0.333", "0.333"]),
        ([3e-6, 1e-6], ["3e-06", "1e-06"]),
        ([1e9, 2e9], ["1e+09", "2e+09"]),
    ],
)
def test_numbers_are_written_as_people_do(numbers: list[float], texts: list[str]) -> None:
    assert written(numbers) == texts


@pytest.mark.parametrize(
    ("scalars", "marks"),
    [
        (Linear(0, 1), {}),
        (Warmup(CosineAnnealing(1.0), 0.2), {20: "warm-up"}),
        (2 * Warmup(CosineAnnealing(1.0), 0.2) + Warmup(1.0, 0.3), {20: "warm-up", 30: "warm-up"}),
        (WarmupStableDecay(1.0, 0.1, 0.3), {10: "warm-up", 70: ""}),
        (OneCycle(1.0, warmup=0.25), {25: "warm-up"}),
        (Sequence([Linear(0, 1), Warmup(1.0, 0.5)], [0.6]), {60: "", 80: "warm-up"}),
        (Warmup(Sequence([1.0, 2.0], [0.5]), 0.2), {20: "warm-up", 60: ""}),
        (
            Phases([Phase(1, lr=Linear(0, 1)), Phase(3, lr=Warmup(1.0, 0.4))]),
            {25: "phase 2", 55: "warm-up"},
        ),
        (ReduceOnPlateau(Warmup(CosineAnnealing(1.0), 0.2)), {20: "warm-up"}),
        (ThresholdSwitch([1.0, Sequence([1.0, 2.0], [0.5])], ["< 1"]), {50: ""}),
    ],
    ids=repr,
)
def test_warmups_and_boundaries_are_marked(scalars: Any, marks: dict[float, str]) -> None:
    found = marks_of(plot(scalars, Horizon(100)))
    assert {round(at, 6): text for at, text in found.items()} == marks


@pytest.mark.parametrize(
    "horizon",
    [
        Horizon(100, offset=10),
        Horizon(11, endpoint=True),
        Horizon(100).extend(250, at_step=50),
        Horizon(100, steps_per_epoch=7).extend(60, at_step=50),
        Horizon(1000).jump(0.8, at_step=400, total_steps=500),
        Horizon(100).jump(0.1, at_step=50, total_steps=150),
        Horizon(100).jump(1.0, at_step=50, total_steps=60),
        Horizon(100, offset=5).extend(200, at_step=30).jump(0.4, at_step=60, total_steps=90),
    ],
    ids=repr,
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_plot_shows_the_value_at_each_step_of_the_horizon(horizon: Horizon, case: Case) -> None:
    scalar = case.make()
    scale = horizon.steps_per_epoch or 1
    curves, _ = curves_of({"x": scalar}, horizon)
    known = [(x * scale, y) for line in curves["x"].lines for x, y in line]
    assert (known[0][0], known[-1][0]) == (0, pytest.approx(horizon.total_steps))
    low, high = min(y for _, y in known), max(y for _, y in known)
    for step in range(horizon.total_steps):
        progress = min(horizon.progress(step), 1.0)
        near = {float(scalar.at(min(max(progress + d, 0.0), 1.0))) for d in (-2e-8, 0, 2e-8)}
        if max(near) - min(near) > 1e-4 * (high - low):
            continue  # a jump
        before = [(i, x, y) for i, (x, y) in enumerate(known) if x <= step]
        i, x, y = before[-1]
        x_next, y_next = known[min(i + 1, len(known) - 1)]
        share = 0.0 if x_next == x else (step - x) / (x_next - x)
        drawn = y + share * (y_next - y)
        assert drawn == pytest.approx(near.pop(), abs=0.03 * (high - low) + 1e-12)


def test_the_marks_of_a_horizon_that_was_extended() -> None:
    lr = WarmupStableDecay(1.0, 0.1, 0.2)
    for horizon, marks in (
        (Horizon(100).extend(250, at_step=50), {10: "warm-up", 170: ""}),
        (Horizon(1000).jump(0.8, at_step=400, total_steps=500), {100: "warm-up", 400: ""}),
        (Horizon(100, offset=20), {60: ""}),
    ):
        found = marks_of(plot(lr, horizon))
        assert {round(at, 6): text for at, text in found.items()} == marks


def test_texts_do_not_overlap() -> None:
    phases = [Phase(1 + i % 3, lr=Warmup(CosineAnnealing(1.0), 0.3), wd=0.1 * i) for i in range(30)]
    many = Phases([Phase(1, wd=Linear(0, 1)), *phases])
    long = {f"{'layers.12.self_attention.' * 4}{i}": Linear(-i, 1e-5) for i in range(8)}
    early = {"lr": Warmup(CosineAnnealing(3e-4), 0.01), "pause": OneCycle(1e-3, warmup=0.99)}
    for scalars in (many, long, early, Linear(0, 1)):
        boxes = boxes_of(plot(scalars, Horizon(1000)).figure)
        assert len(boxes) > 5
        width = 700  # of the picture, in pixels
        assert all(0 <= box.x0 < box.x1 <= width for box in boxes)
        overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
        assert overlaps == []


def test_a_logarithmic_axis() -> None:
    ax = plot({"lr": CosineAnnealing(1.0), "negative": Linear(-1, 0)}, log=True)
    lr, negative = ax.figure.axes
    assert (lr.get_yscale(), negative.get_yscale()) == ("log", "linear")
    (points,) = lines_of(lr).values()
    assert all(1e-6 < y <= 1 for _, y in points)  # 0 and values near 0 are left out
    assert 0.98 < points[-1][0] < 1
    assert lines_of(negative)["negative"][0] == (0, -1)
    (points,) = lines_of(plot(Repeat(CosineAnnealing(1.0), 3), log=True)).values()
    assert min(y for _, y in points if not math.isnan(y)) > 1e-6  # also before it jumps up
    ax.figure.canvas.draw()
    texts = [text.get_text() for text in lr.get_yticklabels()]
    # Every other power of ten, even or odd, as matplotlib chooses.
    assert set(texts) > {"0.01", "0.0001"} or set(texts) > {"0.1", "0.001"}


def test_in_the_users_axes() -> None:
    _, axes = pyplot.subplots(1, 2)
    assert plot(Linear(0, 1), ax=axes[1]) is axes[1]
    assert lines_of(axes[0]) == {}
    plot({"a": Linear(1, 2), "b": Linear(2, 3)}, ax=axes[1])
    assert list(lines_of(axes[1])) == ["Linear(start=0, end=1)", "a", "b"]
    assert len(axes[1].get_legend().get_texts()) == 3


def test_an_adaptive_scalar_as_it_would_go_on() -> None:
    plateau = ReduceOnPlateau(CosineAnnealing(1.0), 0.5, patience=0).observe(1.0).observe(1.0)
    ax = plot({"lr": plateau, "scale": DynamicLossScale(2.0**15)})
    assert lines_of(ax.figure.axes[0])["lr"][0] == (0, 0.5)
    assert panels_of(ax) == {
        "lr": "0 to 0.5, as observed so far",
        "scale": "always 32768, as observed so far",
    }


@pytest.mark.parametrize("total", [7, 30, 97, 1000])
@pytest.mark.parametrize("every", [1, 20])
def test_recorded_jumps_are_gaps_and_steep_parts_are_not(total: int, every: int) -> None:
    """At the first step after them; between rows more than a step apart, where they are."""
    steps = list(range(0, total + 1, every))

    def begins(scalar: ScheduledScalar) -> list[float]:
        rows = [(i, scalar.at(i / total), i / total, i) for i in steps]
        return [line[0][0] for line in recorded(rows, scalar)]

    boundaries = [0.25, 0.5, 0.75, 1.0]
    first_after = [next((i for i in steps if i / total >= b - 1e-9), None) for b in boundaries]
    found: list[float] = [i for i in dict.fromkeys(first_after) if i is not None]
    if every > 1:
        found = [b * total for b in boundaries if b * total <= steps[-1]]
    expected = pytest.approx([0, *found], abs=1e-5 * total)
    assert begins(StepDecay(1, 0.5, 0.25)) == expected
    assert begins(Warmup(CosineAnnealing(1.0), 0.1)) == [0]
    assert begins(Linear(0.0, 1.0) ** 64) == [0]


def test_between_rows_far_apart_the_formula_is_drawn_where_the_rows_follow_it() -> None:
    scalar = Warmup(CosineAnnealing(1.0), 0.25)
    rows = [(10 * step, scalar.at(step / 40), step / 40, step) for step in (0, 20, 40)]
    (line,) = recorded(rows, scalar)
    assert max(line) == (400, pytest.approx(0.0))
    top = max(line, key=lambda point: point[1])
    assert top == (pytest.approx(100), pytest.approx(1.0))
    assert all(value == pytest.approx(scalar.at(x / 400), abs=1e-6) for x, value in line)
    held = [(x, 0.5, progress, step) for x, _, progress, step in rows]
    assert recorded(held, scalar) == [[(x, 0.5) for x, *_ in rows]]
    assert recorded(rows) == [[(x, value) for x, value, *_ in rows]]


@pytest.mark.parametrize(("every", "last"), [(1, None), (15, None), (7, 10)])
def test_the_marks_of_a_record_are_at_the_steps_of_the_schedule(
    every: int, last: int | None
) -> None:
    group = ScalarGroup(lr=Warmup(CosineAnnealing(1.0), 0.1))
    recorder = Recorder(group, every=every, last=last)
    for step in range(41):
        group.update(step / 40)
    panel = recorder.plot()
    marks = [line.get_xdata()[0] for line in panel.get_lines() if line.get_linestyle() == ":"]
    assert marks == pytest.approx([4.0])


def test_a_recorded_metric_is_split_only_where_it_is_not_finite() -> None:
    loss = [(0, 100.0, 0.0), (1, 1.0, 0.1), (2, 1.0, 0.2), (3, 1.0, 0.3), (4, 9.0, 0.4)]
    assert recorded([(*row, row[0]) for row in loss]) == [[row[:2] for row in loss]]
    values = [1.0, None, 2.0, math.nan, 3.0, math.inf]
    missing = [(i, value, i / 6, i) for i, value in enumerate(values)]
    assert recorded(missing) == [[(0, 1.0), (2, 2.0)], [(4, 3.0)]]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((3,), {}, TypeError, "scalars must be a scalar, a mapping from name to scalar, or Phases"),
        (({"a": 3},), {}, TypeError, r"scalars\['a'\] must be a scalar, got 3"),
        (({},), {}, ValueError, "scalars must be at least one"),
        ((Linear(0, 1), 100), {}, TypeError, "horizon must be a Horizon, got 100"),
        ((Linear(0, 1),), {"unit": "steps"}, ValueError, "unit must be 'fraction' without"),
        ((Linear(0, 1), Horizon(9)), {"unit": "epochs"}, ValueError, "without steps_per_epoch"),
        ((Linear(0, 1),), {"unit": "days"}, ValueError, "unit must be one of 'steps'"),
        ((Linear(0, 1),), {"log": 1}, TypeError, "log must be True or False"),
        ((Linear(0, 1),), {"panels": 1}, TypeError, "panels must be True or False"),
    ],
)
def test_bad_input(arguments: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plot(*arguments, **options)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="plots need matplotlib: pip install 'mlx-scalars"):
        plot(Linear(0, 1))


def test_the_notebook_representation_of_a_group() -> None:
    html = ScalarGroup(lr=Linear(1.0, 0.0), wd=Linear(0.0, 1.0))._repr_html_()
    assert html.count("<polyline") == 2
    assert "lr = Linear(start=1.0, end=0.0)" in html
    assert html.index("lr = ") < html.index("wd = ")


def test_the_notebook_representation_of_a_scalar() -> None:
    html = StepDecay(1.0, 0.5, 0.5)._repr_html_()
    lines = [
        [tuple(map(float, point.split(","))) for point in points.split()]
        for points in re.findall(r'points="([^"]+)"', html)
    ]
    # The plot is 180 wide and 48 high with a margin of 3; 1 is at the top, 0.25 at the bottom.
    assert [{y for _, y in line} for line in lines] == [{3}, {31}]
    assert [(line[0][0], line[-1][0]) for line in lines] == [(3, 90), (90, 177)]
    assert 'cx="177.0" cy="45.0"' in html
    assert re.findall(r">([^<>]+)</text>", html) == ["1", "0.25", "0", "progress", "1"]
    flat = Constant(0.1)._repr_html_()
    assert re.findall(r">([^<>]+)</text>", flat) == ["0.1", "0", "progress", "1"]
    assert 'points="3.0,24.0' in flat
    assert "&lt;lambda&gt;" in LambdaValue(lambda p: p)._repr_html_()
