"""Pictures of scalars: before training, and of what was recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import checks
from ..number.scalar import ScheduledScalar
from ..schedules.composition import Sequence as Joined
from ..schedules.composition import Warmup, WarmupStableDecay
from ..schedules.cyclic import OneCycle
from ..training.horizon import Horizon
from ..training.phases import Phases

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNITS = ("steps", "epochs", "fraction")
Marks = list[tuple[float, str]]


def plot(
    scalars: ScheduledScalar | Mapping[str, ScheduledScalar] | Phases,
    horizon: Horizon | None = None,
    ax: Axes | None = None,
    *,
    unit: str | None = None,
    log: bool = False,
) -> Axes:
    """Draw the values of scalars over a whole run, and return the matplotlib axes.

    The ends of warm-ups and the boundaries between phases are dotted lines. Nothing is
    changed. An adaptive scalar is drawn as it would go on without another metric.

    Args:
        scalars: A scalar, a ``ScalarGroup`` or another mapping from name to scalar, or
            ``Phases``.
        horizon: The run. Default: ``None``, which leaves fractions of the run.
        ax: The axes to draw in. Default: ``None``, new ones.
        unit: What the x axis counts: "steps", "epochs" or "fraction". Default: ``None``,
            epochs if the horizon has ``steps_per_epoch``, or else steps.
        log: Whether the y axis is logarithmic; values up to 0 are left out then.
            Default: ``False``.

    Raises:
        ValueError: There are no scalars, or the horizon does not know the unit.
        TypeError: An argument is of the wrong type.
        ImportError: matplotlib is not installed.

    Example:
        >>> from scalars import CosineAnnealing, Horizon, Warmup, plot
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> ax = plot({"lr": Warmup(CosineAnnealing(0.1), 0.2)}, Horizon(1000))
        >>> ax.get_xlabel(), ax.get_legend_handles_labels()[1]
        ('step', ['lr'])
    """
    named = named_scalars(scalars)
    scale, label = x_axis(horizon, unit)
    curves = {}
    for name, scalar in named.items():
        knots = scalar.knots
        curves[name] = ([scale * knot for knot in knots], [scalar.at(knot) for knot in knots])
    marks = marks_of(scalars, named.values())
    return draw(curves, label, ax, log, [(scale * at, text) for at, text in marks])


def named_scalars(scalars: Any) -> dict[str, ScheduledScalar]:
    """Return the scalars by name; one alone has the name of its class."""
    if isinstance(scalars, Phases):
        return dict(scalars.group)
    if isinstance(scalars, ScheduledScalar):
        return {repr(scalars) if len(repr(scalars)) <= 60 else type(scalars).__name__: scalars}
    way_out = "Pass a schedule, or {name: schedule}."
    if not isinstance(scalars, Mapping):
        rule = "a scalar, a mapping from name to scalar, or Phases"
        checks.fail("scalars", rule, scalars, way_out, wrong_type=True)
    for name, scalar in scalars.items():
        if not isinstance(scalar, ScheduledScalar):
            checks.fail(f"scalars[{name!r}]", "a scalar", scalar, way_out, wrong_type=True)
    if not scalars:
        checks.fail("scalars", "at least one", scalars, way_out)
    return {str(name): scalar for name, scalar in scalars.items()}


def x_axis(horizon: Horizon | None, unit: str | None) -> tuple[float, str]:
    """Return the length of a run in a unit, and the label of the axis."""
    if horizon is not None and not isinstance(horizon, Horizon):
        way_out = "Write Horizon(total_steps)."
        checks.fail("horizon", "a Horizon", horizon, way_out, wrong_type=True)
    per_epoch = None if horizon is None else horizon.steps_per_epoch
    if unit is None:
        unit = "fraction" if horizon is None else "steps" if per_epoch is None else "epochs"
    checks.one_of("unit", unit, UNITS)
    if unit == "fraction":
        return 1.0, "fraction of the run"
    if horizon is None:
        checks.fail("unit", "'fraction' without a horizon", unit, "Pass Horizon(total_steps).")
    if unit == "steps":
        return float(horizon.total_steps), "step"
    if per_epoch is None:
        way_out = "Pass Horizon(total_steps, steps_per_epoch)."
        checks.fail("unit", "'steps' without steps_per_epoch", unit, way_out)
    return horizon.total_steps / per_epoch, "epoch"


def marks_of(scalars: Any, parts: Iterable[ScheduledScalar]) -> Marks:
    """Return where something ends and something begins, and what, each place once."""
    marks = [mark for scalar in parts for mark in _marks(scalar, 0.0, 1.0)]
    if isinstance(scalars, Phases):
        marks += [(at, f"phase {i}") for i, at in enumerate(scalars.boundaries, start=2)]
    named: dict[float, str] = {}
    for at, text in marks:
        named[round(at, 9)] = text or named.get(round(at, 9), "")
    return sorted(named.items())


def _marks(scalar: ScheduledScalar, begin: float, end: float) -> Marks:
    found: Marks = []
    for leaf in scalar.leaves:
        edges: Sequence[float] = ()
        inside: Sequence[Any] = ()
        text = ""
        if isinstance(leaf, Warmup):
            edges, inside, text = (leaf.fraction,), (None, leaf.schedule), "warm-up"
        elif isinstance(leaf, Joined):
            edges, inside = leaf.boundaries, leaf.schedules
        elif isinstance(leaf, WarmupStableDecay):
            edges, text = (leaf.warmup, 1 - leaf.decay), "warm-up"
        elif isinstance(leaf, OneCycle):
            edges, text = (leaf.warmup,), "warm-up"
        whole = (0.0, *edges, 1.0)
        length = end - begin
        for i, edge in enumerate(edges):
            if 0 < edge < 1:
                found.append((begin + length * edge, "" if i else text))
        for i, part in enumerate(inside):
            if part is not None:
                found += _marks(part, begin + length * whole[i], begin + length * whole[i + 1])
    return found


def draw(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    label: str,
    ax: Any,
    log: bool,
    marks: Marks,
) -> Axes:
    """Draw curves by name in matplotlib axes."""
    checks.flag("log", log)
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'mlx-scalars[plot]'") from error
    if ax is not None and not hasattr(ax, "axvline"):
        way_out = "Pass what pyplot.subplots() returned, or leave it out."
        checks.fail("ax", "matplotlib axes", ax, way_out, wrong_type=True)
    if ax is None:
        _, ax = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, (x, y) in curves.items():
        ax.plot(x, [value if value > 0 or not log else float("nan") for value in y], label=name)
    for at, text in marks:
        ax.axvline(at, color="gray", linestyle=":", linewidth=1)
        if text:
            top = ax.get_xaxis_transform()
            ax.text(at, 1.01, text, transform=top, size="small", color="gray", ha="center")
    if log:
        ax.set_yscale("log")
    ax.set_xlabel(label)
    ax.grid(alpha=0.3)
    ax.legend(loc="best", fontsize="small")
    return ax  # type: ignore[no-any-return]
