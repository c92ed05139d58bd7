"""Plots of scalars over a run, of recorded values and of learning rate tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from .. import checks
from ..number.scalar import ScheduledScalar
from ..sketch import extent, written
from ..training.horizon import Horizon
from ..training.phases import Phases
from .lines import WARMUP, Curve, Marks, above_0, curves_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(  # noqa: PLR0913 - what is drawn, where and how
    scalars: ScheduledScalar | Mapping[str, ScheduledScalar] | Phases,
    horizon: Horizon | None = None,
    ax: Axes | None = None,
    *,
    unit: str | None = None,
    log: bool = False,
    panels: bool = True,
) -> Axes:
    """Plot the values of scalars over a whole run, and return the matplotlib axes.

    Each scalar has its own panel with its name and range, over a shared x axis. Dotted lines
    mark the ends of warm-ups and the boundaries between phases. A jump is drawn as a gap, and
    a value that is reached only at the end of the run as a dot. An adaptive scalar is drawn
    as if it observed no further metric. The scalars do not change.

    Args:
        scalars: A scalar, a ``ScalarGroup`` or another mapping from name to scalar, or
            ``Phases``.
        horizon: The length of the run. Default: ``None``, the x axis shows progress.
        ax: The axes to draw all scalars in. Default: ``None``, new axes.
        unit: The unit of the x axis, "steps", "epochs" or "fraction". Default: ``None``, which
            is epochs if the horizon has ``steps_per_epoch``, and else steps.
        log: Whether the y axes are logarithmic, without the values up to 0. A panel that has
            only such values stays linear. Default: ``False``.
        panels: Whether each scalar has its own panel. If not, all share one with a legend.
            Default: ``True``.

    Returns:
        The axes of the last panel. ``plot(...).figure.axes`` lists all axes. The figure is the
        current one of matplotlib, so ``pyplot.savefig(file)`` saves it.

    Raises:
        ValueError: There are no scalars, or the horizon lacks what the unit needs.
        TypeError: An argument is of the wrong type.
        ImportError: matplotlib is not installed.

    Example:
        >>> from scalars import CosineAnnealing, Horizon, Linear, Warmup, plot
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> lr, dropout = Warmup(CosineAnnealing(3e-4), 0.2), Linear(0.0, 0.3)
        >>> ax = plot({"lr": lr, "dropout": dropout}, Horizon(1000))
        >>> [(panel.get_title("left"), panel.get_title("right")) for panel in ax.figure.axes]
        [('lr', '0 to 0.0003'), ('dropout', '0 to 0.3')]
        >>> ax.get_xlabel()
        'step'
    """
    curves, label = curves_of(scalars, horizon, unit)
    return draw(curves, label, ax, log, panels)


def draw(curves: Mapping[str, Curve], label: str, ax: Any, log: bool, panels: bool = True) -> Axes:
    """Draw curves by name in matplotlib axes."""
    checks.flag("log", log)
    checks.flag("panels", panels)
    try:
        from matplotlib import pyplot
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'mlx-scalars[plot]'") from error
    if ax is not None and not hasattr(ax, "axvline"):
        way_out = "Pass axes from pyplot.subplots(), or leave out ax."
        checks.fail("ax", "matplotlib axes", ax, way_out, wrong_type=True)
    if ax is None and panels:
        ax = _draw_panels(pyplot, curves, log)
    else:
        if ax is None:
            _, ax = pyplot.subplots(figsize=(7, 4), layout="constrained")
        _draw_in(ax, curves, log)
        _mark(ax, [mark for curve in curves.values() for mark in curve.marks])
        _legend(ax)
    ax.set_xlabel(label)
    if label == "step":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 2.5, 5, 10]))
    _number_axis(ax.xaxis)
    return ax  # type: ignore[no-any-return]


def _draw_panels(pyplot: Any, curves: Mapping[str, Curve], log: bool) -> Any:
    """Draw each curve in its own panel, and return the axes of the last one."""
    count = len(curves)
    size = (7, 0.8 + 1.4 * max(count, 2))
    figure, grid = pyplot.subplots(
        count, sharex=True, squeeze=False, figsize=size, layout="constrained"
    )
    for i, (name, curve) in enumerate(curves.items()):
        ax = grid[i, 0]
        _draw_in(ax, {name: curve}, log, f"C{i}")
        low, high = extent(curve.lines) if curve.lines else (0.0, 0.0)
        if low == high:
            around = 0.5 * abs(low) or 1.0
            ax.set_ylim(low - around, low + around)
            ax.set_yticks([low] if curve.lines else [])
        elif count > 1 and ax.get_yscale() == "linear":
            ax.locator_params(axis="y", nbins=4, steps=[1, 2, 2.5, 5, 10])
        shown = "\n".join(_short(name, 74 - len(curve.range)))
        pad = 17 if any(text for _, text in curve.marks) else 5  # points, with room for labels
        ax.set_title(shown, loc="left", fontsize="medium", pad=pad, parse_math=False)
        ax.set_title(curve.range, loc="right", fontsize="small", alpha=0.7, pad=pad)
    if any(text for curve in curves.values() for _, text in curve.marks):
        figure.get_layout_engine().execute(figure)  # computes the room for the labels
    for ax, curve in zip(grid[:, 0], curves.values(), strict=True):
        _mark(ax, curve.marks)
    return ax


def draw_rates(
    rates: Sequence[float],
    losses: Mapping[str, Sequence[float]],
    suggestions: Mapping[str, float],
    ax: Any,
) -> Axes:
    """Draw the losses of a learning rate test, the smoothed ones last, and the suggestions."""
    lines = {name: [list(zip(rates, values, strict=True))] for name, values in losses.items()}
    curves = {name: Curve(line) for name, line in lines.items()}
    drawn: Any = draw(curves, "learning rate", ax, log=False, panels=False)
    drawn.get_lines()[-2].set_alpha(0.4)
    styles = ("-.", "--", ":")  # all remain visible where lines coincide
    for i, (name, rate) in enumerate(suggestions.items()):
        label = f"{name} {rate:.2g}"
        drawn.axvline(rate, color=f"C{i + 2}", linestyle=styles[i % len(styles)], label=label)
    drawn.set_xscale("log")
    _number_axis(drawn.xaxis)
    raw, smoothed = losses.values()
    low = min(raw)
    if (span := smoothed[0] - low) > 0:
        drawn.set_ylim(low - 0.1 * span, low + 2 * span)  # leaves out the divergence
    drawn.set_ylabel("loss")
    _legend(drawn)
    return drawn  # type: ignore[no-any-return]


def _legend(ax: Any) -> None:
    """Add a legend for all lines in the axes, also those of the user."""
    handles, names = ax.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "best"}
    room = 36
    if max(map(len, names), default=0) > room and ax.figure.get_layout_engine() is not None:
        # Inside the axes it would hide lines. The layout makes room for it above them.
        place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.06), "frameon": False}
        room = 72
    shown = ["\n".join(_short(name, room)) for name in names]
    for text in ax.legend(handles, shown, fontsize="small", **place).get_texts():
        text.set_parse_math(False)


def _short(name: str, room: int) -> list[str]:
    return wrap(name, room, max_lines=3, placeholder=" …", break_on_hyphens=False)


def _draw_in(ax: Any, curves: Mapping[str, Curve], log: bool, color: str | None = None) -> None:
    """Draw curves in one axes."""
    log = log and any(above_0(curve.lines) for curve in curves.values())
    for name, curve in curves.items():
        x: list[float] = []
        y: list[float] = []
        dots: list[int] = []
        for line in above_0(curve.lines) if log else curve.lines:
            if len(line) == 1:
                dots.append(len(x))
            # A NaN after each line separates it from the next.
            x += [at for at, _ in line] + [math.nan]
            y += [value for _, value in line] + [math.nan]
        style: dict[str, Any] = {"color": color} if color else {}
        if dots:
            style.update(marker="o", markersize=4, markevery=dots)
        ax.plot(x[:-1], y[:-1], label=name, **style)
    if log:
        ax.set_yscale("log")
    ax.margins(x=0.02)
    ax.grid(alpha=0.3)
    _number_axis(ax.yaxis)


def _number_axis(axis: Any) -> None:
    """Write the numbers of an axis in full, without powers or a common factor."""
    from matplotlib.ticker import Formatter, LogFormatter

    class Written(Formatter):
        def __call__(self, value: float, place: int | None = None) -> str:
            return f"{value:.4g}"

        def format_ticks(self, values: Sequence[float]) -> list[str]:
            return written(values) if len(values) else []

    class WrittenLog(LogFormatter):
        def __call__(self, value: float, place: int | None = None) -> str:
            return f"{value:.4g}" if super().__call__(value, place) else ""

    if axis.get_scale() == "log":
        axis.set_major_formatter(WrittenLog())
        axis.set_minor_formatter(WrittenLog())
    else:
        axis.set_major_formatter(Written())


def _mark(ax: Any, marks: Marks) -> None:
    """Draw dotted lines, with labels above them as far as they fit."""
    taken = -math.inf
    low, high = ax.get_xlim()
    for at, text in sorted(dict(marks).items()):
        ax.axvline(at, color="gray", linestyle=":", linewidth=1, zorder=1)
        if not text:
            continue
        place = ax.transAxes.transform(((at - low) / (high - low), 1.0))[0]
        shown = ax.text(0, 1.02, text, transform=ax.transAxes, size="small", color="gray")
        box, frame = shown.get_window_extent(), ax.get_window_extent()
        # The label of a warm-up is before its mark if it fits there, that of a phase after it.
        begin = max(place - box.width, frame.x0) if text == WARMUP else place
        if begin < taken or begin + box.width > frame.x1:
            shown.remove()
        else:
            shown.set_x((begin - frame.x0) / frame.width)
            taken = begin + box.width + 0.5 * box.height
