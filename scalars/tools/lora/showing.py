"""The overview of a run before it starts, and its record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...number.scalar import ScheduledScalar
from ...training.group import ScalarGroup
from ..recording import Recorder
from .numbers import Numbers

BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 60


def shown(config: Mapping[str, Any], numbers: Numbers) -> str:
    """Return lines that show each schedule of a run, with its curve and values."""
    every = config["grad_accumulation_steps"] or 1
    steps = numbers.horizon.total_steps if numbers.horizon else 0
    lines = [f"Schedules over {steps} steps of the optimizer, {every} iterations each:"]
    if every == 1:
        lines = [f"Schedules over {steps} iterations:"]
    for name, scalar in numbers.scalars.items():
        first, middle, last = (scalar.at(step / steps) for step in (0, steps // 2, steps - 1))
        lines.append(f"  {name} = {scalar!r}")
        values = f"{first:.3g} at first, {middle:.3g} half-way, {last:.3g} at last"
        lines.append(f"    {_course(scalar)}  {values}")
    return "\n".join(lines)


def _course(scalar: ScheduledScalar) -> str:
    values = [scalar.at(i / (COLUMNS - 1)) for i in range(COLUMNS)]
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)


def write_record(recorder: Recorder, group: ScalarGroup, path: Path, picture: bool) -> None:
    """Write the rows of a recorder, and a plot next to them if matplotlib is installed."""
    (recorder.to_csv if path.suffix == ".csv" else recorder.to_jsonl)(path)
    if not picture:
        return
    drawn = path.with_suffix(".png")
    names = list(dict.fromkeys(name for row in recorder for name in row))
    panels = [*[name for name in names if name.endswith("_loss")], *group]
    try:
        figure: Any = recorder.plot(*panels, x="iteration").figure
        from matplotlib import pyplot
    except ImportError:
        print(f"Saved {path}. {drawn} needs matplotlib: pip install 'mlx-scalars[plot]'")
        return
    figure.savefig(drawn, dpi=150)
    pyplot.close(figure)
    print(f"Saved {path} and {drawn}")
