"""Plots: what the lines in the axes are, read back from matplotlib."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import matplotlib
import pytest

from scalars import (
    CosineAnnealing,
    Horizon,
    Linear,
    OneCycle,
    Phase,
    Phases,
    PiecewiseConstant,
    ReduceOnPlateau,
    ScalarGroup,
    Sequence,
    Warmup,
    WarmupStableDecay,
    plot,
)

matplotlib.use("agg")
from matplotlib import pyplot


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def lines_of(ax: Any) -> dict[str, list[tuple[float, float]]]:
    """The curves by name; the marks have none."""
    return {
        line.get_label(): [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in ax.get_lines()
        if not line.get_label().startswith("_")
    }


def marks_of(ax: Any) -> dict[float, str]:
    """Where the dotted lines are, and the texts above them."""
    at = [float(line.get_xdata()[0]) for line in ax.get_lines() if line.get_linestyle() == ":"]
    texts = {text.get_position()[0]: text.get_text() for text in ax.texts}
    return {x: texts.get(x, "") for x in at}


@pytest.mark.parametrize(
    ("horizon", "unit", "label", "end"),
    [
        (None, None, "fraction of the run", 1),
        (Horizon(1000), None, "step", 1000),
        (Horizon(1000, 50), None, "epoch", 20),
        (Horizon(1000, 50), "steps", "step", 1000),
        (Horizon(1000, 50), "fraction", "fraction of the run", 1),
    ],
)
def test_units(horizon: Horizon | None, unit: str | None, label: str, end: float) -> None:
    ax = plot(CosineAnnealing(1.0), horizon, unit=unit)
    (points,) = lines_of(ax).values()
    assert ax.get_xlabel() == label
    assert (points[0], points[-1]) == ((0, 1), (end, 0))
    lr = CosineAnnealing(1.0)
    assert all(y == lr.at(x / end) for x, y in points)


def test_names_and_nothing_changes() -> None:
    lr = CosineAnnealing(1.0).update(0.3)
    group = ScalarGroup(lr=lr, half=lr * 0.5)
    assert list(lines_of(plot(group))) == ["lr", "half"]
    assert list(lines_of(plot({"a": lr, "b": Linear(0, 1)}))) == ["a", "b"]
    assert list(lines_of(plot(lr))) == ["CosineAnnealing(start=1.0)"]
    assert lr.progress == 0.3


def test_jumps_are_upright() -> None:
    (points,) = lines_of(plot(PiecewiseConstant([1, 3], [0.4]), Horizon(10))).values()
    before, after = [p for p in points if p[0] < 4][-1], next(p for p in points if p[0] >= 4)
    assert (before[1], after) == (1, (4, 3))
    assert after[0] - before[0] < 1e-6


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
            Phases([Phase(1, lr=Linear(0, 1)), Phase(3, lr=Warmup(1.0, 0.2))]),
            {25: "phase 2", 40: "warm-up"},
        ),
    ],
    ids=repr,
)
def test_warmups_and_boundaries_are_marked(scalars: Any, marks: dict[float, str]) -> None:
    found = marks_of(plot(scalars, Horizon(100)))
    assert {round(at, 6): text for at, text in found.items()} == marks


def test_a_logarithmic_axis() -> None:
    ax = plot(CosineAnnealing(1.0), log=True)
    assert ax.get_yscale() == "log"
    (points,) = lines_of(ax).values()
    assert all(y > 0 for _, y in points[:-1])
    assert points[-1][1] != points[-1][1]  # 0 is left out


def test_in_the_users_axes() -> None:
    _, axes = pyplot.subplots(1, 2)
    assert plot(Linear(0, 1), ax=axes[1]) is axes[1]
    assert lines_of(axes[0]) == {}
    assert len(lines_of(axes[1])) == 1


def test_an_adaptive_scalar_as_it_would_go_on() -> None:
    plateau = ReduceOnPlateau(CosineAnnealing(1.0), 0.5, patience=0).observe(1.0).observe(1.0)
    (points,) = lines_of(plot(plateau)).values()
    assert points[0] == (0, 0.5)


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
