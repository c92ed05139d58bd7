"""The history of a run: what every scalar was at every update."""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import mlx.core as mx

from .. import checks
from ..training.group import ScalarGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
RANK = "{rank}"
"""What stands for the number of the rank in the name of a file."""


class Recorder:
    """Record the values of a group at every update, and what else the loop logs.

    A row is a dict: "step" counts the updates from 0, "progress" is that of the update,
    and then come the values by name. Without a group it records whatever it is
    subscribed to: ``group.subscribe(recorder)``.

    Where the step of an optimizer drives the group, "step" is the number of steps that the
    optimizer has made, and a row has the values of the step that comes next. A row is made
    after each update that is not in a compiled function, and by ``log``, if there is none
    of the present step: so ``log`` before ``optimizer.update`` puts a loss beside the values
    of the same step, and after it beside those of the next. What ``observe`` and ``hold`` of
    the group change is changed in the row of the step that comes next.

    On several ranks rank 0 writes a file, and the others write nothing; or each rank writes one
    of its own, where the name of the file has ``{rank}`` in it, such as "run-{rank}.csv".

    Args:
        group: The group to record from now on. Default: ``None``.
        every: Record only every n-th update, from the first. Default: ``1``.
        last: Keep only so many rows, the last ones. Default: ``None``, all.

    Raises:
        ValueError: ``every`` or ``last`` is below 1.
        TypeError: ``group`` is no ``ScalarGroup``, or another argument no whole number.

    Example:
        >>> from scalars import Linear, Recorder, ScalarGroup
        >>> group = ScalarGroup(lr=Linear(1.0, 0.0))
        >>> recorder = Recorder(group)
        >>> for step in range(2):
        ...     _ = group.update(step / 2)
        ...     recorder.log(loss=3.0 - step)
        >>> for row in recorder:
        ...     print(row)
        {'step': 0, 'progress': 0.0, 'lr': 1.0, 'loss': 3.0}
        {'step': 1, 'progress': 0.5, 'lr': 0.5, 'loss': 2.0}
    """

    def __init__(
        self, group: ScalarGroup | None = None, *, every: int = 1, last: int | None = None
    ) -> None:
        self.every = checks.count("every", every)
        self.last = None if last is None else checks.count("last", last)
        self._rows: deque[Row] = deque(maxlen=self.last)
        self._step = 0
        self._row: Row | None = None
        self._group = group
        self._stop: Callable[[], None] | None = None
        if group is not None:
            if not isinstance(group, ScalarGroup):
                way_out = "Pass what attach returned, or ScalarGroup(lr=lr)."
                checks.fail("group", "a ScalarGroup", group, way_out, wrong_type=True)
            self._refuse_columns(group)
            self._stop = group.subscribe(self)

    def __call__(self, progress: float, values: Mapping[str, float]) -> None:
        """Record the values of an update: what ``subscribe`` calls."""
        reached = self._reached()
        step = self._step if reached is None else reached
        again, self._step = self._step == step + 1, step + 1
        if step % self.every:
            self._row = None
            return
        self._refuse_columns(values)
        if again and self._row is not None:  # a metric or a hand has changed what comes next
            self.amend(values)
            return
        self._row = {"step": step, "progress": progress, **values}
        self._rows.append(self._row)

    def _refuse_columns(self, names: Iterable[str]) -> None:
        for name in names:
            if name in ("step", "progress"):
                way_out = "Give the scalar another name: a row has columns of its own under these."
                checks.fail("a name of a scalar in Recorder", "one of your own", name, way_out)

    def log(self, **values: checks.Measured) -> None:
        """Add values to the row of the last update, or of the step reached, if it is recorded.

        Args:
            values: Numbers by name, such as ``loss=loss.item()``.

        Raises:
            ValueError: Nothing was updated yet, or a name is "step", "progress" or that of a
                scalar in the group.
            TypeError: A value is not a real number.
        """
        numbers = {name: _number(name, value) for name, value in values.items()}
        if taken := [name for name in numbers if name in (self._group or ())]:
            way_out = "It is recorded already; choose another name for what you log."
            checks.fail("a name given to log", "that of no scalar in the group", taken[0], way_out)
        reached = self._reached()
        if self._group is not None and reached is not None and self._step != reached + 1:
            self(self._group.progress, self._group.snapshot())
        if not self._step:
            way_out = "Call group.update(progress) first."
            checks.fail("log", "called after an update", values, way_out)
        if self._row is not None:
            self._row.update(numbers)

    def new_row(self) -> None:
        """Have what comes next go into a row of its own, also where that of the step is there."""
        self._row = None

    def amend(self, values: Mapping[str, float]) -> None:
        """Put the values that scalars have now into the row of the last update."""
        if self._row is not None:
            self._row.update(values)

    def _reached(self) -> int | None:
        """Return the step of the optimizer that drives the group, if one does."""
        return None if self._group is None else self._group.step

    def stop(self) -> None:
        """End the recording of the group that the recorder was made with."""
        if self._stop is not None:
            self._stop()

    @property
    def rows(self) -> list[Row]:
        """The rows, oldest first."""
        return list(self._rows)

    def __repr__(self) -> str:
        """Return how much is recorded, and of what."""
        return f"<Recorder: {len(self)} rows of {', '.join(self._names()) or 'nothing yet'}>"

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> list[Any]:
        """Return a column: the values of a name, ``None`` where a row has none."""
        if name not in self._names():
            checks.fail("a name in Recorder", f"one of {self._names()}", name, "See the rows.")
        return [row.get(name) for row in self._rows]

    def _names(self) -> list[str]:
        """Return the names of all columns, in the order in which they came."""
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def to_csv(self, path: str | Path) -> None:
        """Write the rows as CSV, with a line of names; what a row has not is empty.

        A file that is there is replaced when all is written, and not before.
        """
        import csv

        with replacing(path) as file:
            writer = csv.DictWriter(file, self._names() or ["step", "progress"])
            writer.writeheader()
            writer.writerows(self._rows)

    def to_jsonl(self, path: str | Path) -> None:
        """Write the rows as JSON lines; infinity and NaN, which JSON has not, are null.

        A file that is there is replaced when all is written, and not before.
        """
        with replacing(path) as file:
            for row in self._rows:
                plain = {key: x if math.isfinite(x) else None for key, x in row.items()}
                file.write(json.dumps(plain) + "\n")

    def save(self, path: str | Path) -> None:
        """Write all that ``load`` needs to go on.

        A file that is there is replaced when all is written, and not before.
        """
        with replacing(path) as file:
            json.dump(self.state_dict(), file)

    def load(self, path: str | Path) -> Recorder:
        """Take the rows that were saved in place of those that are here, and go on after them.

        Args:
            path: A file that ``save`` wrote; with ``{rank}``, that of this rank.

        Returns:
            The recorder itself.

        Raises:
            ValueError: The file is not one of ``save``.
            TypeError: Something in it is of the wrong type.
            OSError: The file cannot be read.
        """
        path = of_rank(path)
        name, way_out = f"the file {str(path)!r}", "Load a file that Recorder.save wrote."
        text = path.read_bytes()
        try:
            data = json.loads(text.decode())
        except (ValueError, RecursionError) as error:
            checks.fail(name, f"JSON: {error}", text[:50], way_out)
        self._take(name, data)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return all that ``load_state_dict`` needs to go on, in plain data."""
        return {"step": self._step, "rows": [dict(row) for row in self._rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> Recorder:
        """Take the rows of a ``state_dict`` in place of those that are here, and go on after them.

        Args:
            state: What ``state_dict`` returned.

        Returns:
            The recorder itself.

        Raises:
            ValueError: The state is not one of ``state_dict``.
            TypeError: Something in it is of the wrong type.
        """
        self._take("the state of Recorder", state)
        return self

    def _take(self, name: str, state: Any) -> None:
        checks.keys(name, state, ("step", "rows"))
        step = checks.count(f"step in {name}", state["step"], least=0)
        rows = checks.each(f"rows in {name}", state["rows"], _row)
        self._rows = deque(rows, maxlen=self.last)
        last = rows[-1] if rows else None
        self._step, self._row = step, last if last and last["step"] == step - 1 else None

    def plot(
        self,
        *names: str,
        x: str = "step",
        ax: Axes | None = None,
        log: bool = False,
        panels: bool = True,
    ) -> Axes:
        """Draw columns, each in a panel of its own, and return the matplotlib axes.

        The ends of warm-ups are dotted lines, where the recorder knows the group. Where a value
        jumps there is a gap.

        Args:
            names: The columns. Default: all but the step and the progress.
            x: The column of the x axis, such as "progress". Default: ``"step"``.
            ax: The axes to draw everything in. Default: ``None``, new ones.
            log: Whether the y axes are logarithmic. Default: ``False``.
            panels: Whether each column has a panel of its own; or else all are in one, with a
                legend. Default: ``True``.

        Returns:
            The axes of the last panel: see ``scalars.plot``.

        Raises:
            ValueError: There are no rows, or no column of a name.
            ImportError: matplotlib is not installed.

        Example:
            >>> import matplotlib
            >>> matplotlib.use("agg")
            >>> from scalars import Linear, Recorder, ScalarGroup
            >>> recorder = Recorder(group := ScalarGroup(lr=Linear(3e-4, 0.0)))
            >>> for step in range(10):
            ...     _ = group.update(step / 10)
            ...     recorder.log(loss=1 / (1 + step))
            >>> [panel.get_title("left") for panel in recorder.plot().figure.axes]
            ['lr', 'loss']
        """
        from .lines import Curve, marks_of, recorded
        from .plotting import draw

        if not self._rows:
            checks.fail("Recorder", "given an update before plot", self.rows, "Update the group.")
        chosen = names or [name for name in self._names() if name not in ("step", "progress")]
        curves = {}
        for name in chosen:
            lines = recorded(zip(self[x], self[name], strict=True))
            group = self._group
            marks = marks_of(group[name]) if group is not None and name in group else ()
            passed = [(row[x], text) for at, text in marks if (row := self._first_after(at))]
            curves[name] = Curve(lines, passed)
        return draw(curves, x, ax, log, panels)

    def _first_after(self, progress: float) -> Row | None:
        """Return the row where a progress is reached, if that was recorded."""
        before = False
        for row in self._rows:
            if row["progress"] >= progress - 1e-9:
                return row if before else None
            before = True
        return None


def of_rank(path: str | Path) -> Path:
    """Return a path with the number of this rank in place of ``{rank}``."""
    if not isinstance(path, (str, os.PathLike)):
        way_out = "Pass the name of a file."
        checks.fail("path", "a str or a Path", path, way_out, wrong_type=True)
    name = os.fspath(path)
    return Path(name.replace(RANK, str(mx.distributed.init().rank())) if RANK in name else name)


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[str]]:
    """Open a file beside ``path``, which takes its place if nothing goes wrong.

    What is not a file of each rank is written by rank 0 alone.
    """
    target = of_rank(path)
    if target == Path(path) and mx.distributed.init().rank():
        with Path(os.devnull).open("w", encoding="utf-8") as nothing:
            yield nothing
        return
    part = Path(f"{target}.{os.getpid()}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _number(name: str, value: Any) -> float:
    if name in ("step", "progress"):
        checks.fail("a name given to log", "one of your own", name, "Choose another name.")
    return checks.metric(value, name)


def _row(name: str, value: Any) -> Row:
    if not isinstance(value, dict) or not {"step", "progress"} <= set(value):
        checks.fail(name, "a row", value, "Load a file that Recorder.save wrote.")
    checks.count(f"step of {name}", value["step"], least=0)
    return {key: value[key] if key == "step" else checks.metric(value[key], key) for key in value}
