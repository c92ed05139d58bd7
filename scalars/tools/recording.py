"""Recording the values of scalars at every update of a run."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import checks
from ..training.group import ScalarGroup, check_group
from .files import of_rank, writing
from .rows import Row, by_formula, checked_row, is_on_device

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Recorder:
    """Record the values of a group at every update, and other values that the loop logs.

    A row is a dict of the "step", which counts updates from 0, the "progress", and the values
    by name. Without a group, subscribe it with ``group.subscribe(recorder)``.

    If the step of an optimizer drives the group, "step" is the number of steps done, and a row
    has the values of the next step. A row is added after each optimizer update outside a
    compiled function, and by ``log`` if the current step has no row. So ``log`` before
    ``optimizer.update`` adds a loss to the values of the same step, as ``log_done`` does after it,
    also after a compiled step. If ``observe`` or ``hold`` of the group, or ``attach`` with another
    horizon, changes the values of the next step, its row changes too. ``log`` updates the row
    after any other change.

    On several ranks only rank 0 writes a file, unless the file name contains ``{rank}``, as in
    "run-{rank}.csv". Then each rank writes its own file.

    Args:
        group: The group to record. Default: ``None``.
        every: Record only every n-th update, beginning with the first. Default: ``1``.
        last: The number of rows to keep, the latest ones. With a horizon, the latest row is that
            of the next step. Default: ``None``, all.

    Raises:
        ValueError: ``every`` or ``last`` is below 1.
        TypeError: ``group`` is not a ``ScalarGroup``, or another argument is not a whole number.

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
        self._reached = -1
        """The step of the optimizer that drives the group, when the recorder was called last."""
        self._loads = 0
        """How many states had been loaded into the group then; -1 after ``load``."""
        self._went_back: Row | None = None
        """The last row before the run went back to an earlier step."""
        self._next: Row = {}
        """The step and the values of the next step, as ``log_done`` left them."""
        self._done = -1
        """The last step that ``log_done`` was called for."""
        if group is not None:
            check_group(group)
            self._refuse_columns(group)
            self._stop = group.subscribe(self)
            self._note_next(group)

    def __call__(self, progress: float, values: Mapping[str, float]) -> None:
        """Record the values of an update, as a callback of ``subscribe``."""
        reached = self._reached_step()
        step = self._step if reached is None else reached
        again, self._step = self._step == step + 1, step + 1
        if step % self.every:
            self._row = None
            return
        self._refuse_columns(values)
        if again and self._row is not None:  # the values of the next step have changed
            self.amend({"progress": progress, **values})
            return
        self._row = {"step": step, "progress": progress, **values}
        self._rows.append(self._row)

    def _refuse_columns(self, names: Iterable[str]) -> None:
        for name in names:
            if name in ("step", "progress"):
                way_out = "Rename the scalar."
                rule = "other than 'step' and 'progress'"
                checks.fail("a name of a scalar in Recorder", rule, name, way_out)

    def log(self, **values: checks.Measured) -> None:
        """Add values to the row of the last update or current step, if that step is recorded.

        Args:
            values: Numbers by name, such as ``loss=loss.item()``.

        Raises:
            ValueError: There was no update yet, or a name is "step", "progress" or the name of a
                scalar in the group.
            TypeError: A value is not a real number.
        """
        numbers = self._checked(values)
        reached = self._reached_step()
        if self._group is not None and reached is not None:  # the values may have changed
            self(self._group.progress, self._group.snapshot())
        if not self._step:
            way_out = "Call group.update(progress) first."
            checks.fail("log", "called after an update", values, way_out)
        if self._row is not None:
            self._row.update(numbers)

    def _checked(self, values: Mapping[str, Any]) -> Row:
        """Check values that are to be logged."""
        numbers = {name: _number(name, value) for name, value in values.items()}
        if taken := [name for name in numbers if name in (self._group or ())]:
            way_out = "Choose another name, as the scalar is recorded under this one."
            checks.fail("a name given to log", "no name of the group", taken[0], way_out)
        return numbers

    def log_done(self, **values: checks.Measured) -> None:
        """Add values, such as the loss, to the row of the step that was made last.

        In a loop that calls ``group.update`` before each step, or for a recorder without a group,
        this is ``log``. Call ``hold`` before ``update`` there, or after ``log_done``, so that the
        row has the values of the step.

        If the step of an optimizer drives the group, the group already has the values of the next
        step after ``optimizer.update``, or after a compiled step. The row of the step before then
        has, or gets, the values that this step has used. Call ``log_done`` after every step, or
        ``observe`` and ``hold`` after it: the values of an earlier step follow from the formulas
        of the scalars and from what adaptive scalars have observed by then. A step that a
        ``DynamicLossScale`` has skipped has no row of its own, and its loss is not recorded.

        Args:
            values: Numbers by name, such as ``loss=loss.item()``.

        Raises:
            ValueError: No step was made yet, or a name is "step", "progress" or the name of a
                scalar in the group.
            TypeError: A value is not a real number.

        Example:
            >>> from scalars import Linear, Recorder, ScalarGroup
            >>> group = ScalarGroup(lr=Linear(1.0, 0.0))
            >>> recorder = Recorder(group)
            >>> for step in range(2):  # or, with a horizon, without group.update
            ...     _ = group.update(step / 2)
            ...     recorder.log_done(loss=3.0 - step)  # the loss of the step
            >>> recorder["lr"], recorder["loss"]
            ([1.0, 0.5], [3.0, 2.0])
        """
        if self._group is None or (reached := self._reached_step()) is None:
            self.log(**values)
            return
        numbers = self._checked(values)
        may_skip = any(is_on_device(scalar) for scalar in self._group.values())
        if not reached and not may_skip:
            way_out = "Call optimizer.update(model, gradients) first."
            checks.fail("log_done", "called after a step", values, way_out)
        step = reached - 1
        if reached and step % self.every == 0:
            row = self._row_of(step, self._group)
            skipped = may_skip and step == self._done
            row.update({n: x for n, x in numbers.items() if not (skipped and n in row)})
        self._done = step
        self._note_next(self._group)

    def _note_next(self, group: ScalarGroup) -> None:
        """Keep the values of the next step, if the step of an optimizer drives the group."""
        if (reached := self._reached_step()) is not None:
            self._next = {"step": reached, "progress": group.progress, **group.snapshot()}

    def _row_of(self, step: int, group: ScalarGroup) -> Row:
        """Return the row of a step, which is made if it is not there."""
        rows = self._rows
        place = len(rows)
        while place and rows[place - 1] is not self._went_back and rows[place - 1]["step"] >= step:
            place -= 1
        if place < len(rows) and rows[place]["step"] == step:
            return rows[place]
        row = dict(self._next) if self._next.get("step") == step else by_formula(step, group)
        after = [rows.pop() for _ in range(len(rows) - place)]
        rows.extend([row, *reversed(after)])
        if not after:
            self._step, self._row = step + 1, row
        return row

    def new_row(self) -> None:
        """Put the next values into a new row, even if the current step has one."""
        self._row = None

    def amend(self, values: Mapping[str, float]) -> None:
        """Replace values in the row of the last update."""
        if self._row is not None:
            self._row.update(values)

    def _reached_step(self) -> int | None:
        """Return the step of the optimizer that drives the group, or ``None``.

        If the run has gone back to an earlier step, later rows do not belong to the rows so far.
        """
        group = self._group
        if group is None or (reached := group.step) is None:
            return None
        last = self._rows[-1] if self._rows else None
        # Whether the last row is of a step that was not made when the recorder was called last.
        waits = last is not None and last["step"] >= self._reached and not self._is_logged(last)
        loaded = group.loads != self._loads
        if reached < self._reached or (reached == self._reached and loaded):
            if waits:
                self._rows.pop()
            self._went_back = self._rows[-1] if self._rows else None
            self._next, self._row, self._step, self._done = {}, None, -1, -1
        elif self._loads < 0 and waits and last and last["step"] == reached - 1:
            last.update(by_formula(reached - 1, group))  # made after the record was loaded
        self._reached, self._loads = reached, group.loads
        return reached

    def _is_logged(self, row: Row) -> bool:
        """Return whether a row has more than the values of the group."""
        return not row.keys() <= {"step", "progress", *(self._group or ())}

    def stop(self) -> None:
        """Stop recording the group that was passed to the constructor."""
        if self._stop is not None:
            self._stop()

    @property
    def rows(self) -> list[Row]:
        """The rows, oldest first."""
        return list(self._rows)

    def __repr__(self) -> str:
        """Return the number of rows and the names of the columns."""
        return f"<Recorder: {len(self)} rows of {', '.join(self._names()) or 'nothing yet'}>"

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> list[Any]:
        """Return the values of a column, with ``None`` for rows without it."""
        if name not in self._names():
            way_out = "Choose one of these columns."
            checks.fail("a name in Recorder", f"one of {self._names()}", name, way_out)
        return [row.get(name) for row in self._rows]

    def _names(self) -> list[str]:
        """Return the names of all columns, in order of appearance."""
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def to_csv(self, path: str | Path) -> None:
        """Write the rows as CSV with a header; missing values are empty.

        An existing file is replaced only after all rows are written.
        """
        import csv

        with writing(path) as file:
            writer = csv.DictWriter(file, self._names() or ["step", "progress"])
            writer.writeheader()
            writer.writerows(self._rows)

    def to_jsonl(self, path: str | Path) -> None:
        """Write the rows as JSON lines, with null for infinity and NaN.

        An existing file is replaced only after all rows are written.
        """
        with writing(path) as file:
            for row in self._rows:
                plain = {key: x if math.isfinite(x) else None for key, x in row.items()}
                file.write(json.dumps(plain) + "\n")

    def save(self, path: str | Path) -> None:
        """Save the rows and the step to a file for ``load``.

        An existing file is replaced only after all rows are written.
        """
        with writing(path) as file:
            json.dump(self.state_dict(), file)

    def load(self, path: str | Path) -> Recorder:
        """Replace the rows by those of a file, and continue recording after them.

        Args:
            path: A file from ``save``. ``{rank}`` stands for the number of this rank.

        Returns:
            The recorder itself.

        Raises:
            ValueError: The file was not written by ``save``.
            TypeError: A value in the file is of the wrong type.
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
        """Return the rows and the step as plain data for ``load_state_dict``."""
        return {"step": self._step, "rows": [dict(row) for row in self._rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> Recorder:
        """Replace the rows by those of a ``state_dict``, and continue recording after them.

        Args:
            state: The result of ``state_dict``.

        Returns:
            The recorder itself.

        Raises:
            ValueError: The state does not come from ``state_dict``.
            TypeError: A value in the state is of the wrong type.
        """
        self._take("the state of Recorder", state)
        return self

    def _take(self, name: str, state: Any) -> None:
        checks.keys(name, state, ("step", "rows"))
        step = checks.count(f"step in {name}", state["step"], least=0)
        rows = checks.each(f"rows in {name}", state["rows"], checked_row)
        self._rows = deque(rows, maxlen=self.last)
        last = rows[-1] if rows else None
        self._step, self._row = step, last if last and last["step"] == step - 1 else None
        self._next, self._went_back, self._done, self._loads = {}, None, -1, -1
        self._reached = -1 if last is None else last["step"] + self._is_logged(last)

    def plot(
        self,
        *names: str,
        x: str = "step",
        ax: Axes | None = None,
        log: bool = False,
        panels: bool = True,
    ) -> Axes:
        """Plot columns, each in its own panel, and return the matplotlib axes.

        If the recorder was made with the group, dotted lines mark the ends of warm-ups, and a jump
        of a schedule is drawn as a gap.

        Args:
            names: The columns. Default: all except the step and the progress.
            x: The column of the x axis, such as "progress". Default: ``"step"``.
            ax: The axes to draw all columns in. Default: ``None``, new axes.
            log: Whether the y axes are logarithmic. Default: ``False``.
            panels: Whether each column has its own panel. If not, all share one with a legend.
                Default: ``True``.

        Returns:
            The axes of the last panel, as in ``scalars.plot``.

        Raises:
            ValueError: There are no rows, or a name is not a column.
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
        from .lines import Curve, recorded, recorded_marks
        from .plotting import draw

        if not self._rows:
            checks.fail("Recorder", "given an update before plot", self.rows, "Call update first.")
        for name in names:
            if str(name).endswith((".png", ".pdf", ".svg", ".jpg")):
                way_out = f"To save the picture, write recorder.plot().figure.savefig({name!r})."
                checks.fail("a name given to plot", "the name of a column", name, way_out)
        chosen = names or [name for name in self._names() if name not in ("step", "progress")]
        for name in (x, *chosen):
            self[name]  # raises if there is no such column
        curves = {}
        scalars: Mapping[str, Any] = {} if self._group is None else self._group
        horizon = None if self._group is None else self._group.horizon
        for name in chosen:
            scalar = scalars.get(name)
            rows = [(row.get(x), row.get(name), row["progress"], row["step"]) for row in self._rows]
            marks = [] if scalar is None else recorded_marks(rows, scalar, horizon)
            curves[name] = Curve(recorded(rows, scalar, horizon), marks)
        return draw(curves, x, ax, log, panels)


def _number(name: str, value: Any) -> float:
    if name in ("step", "progress"):
        checks.fail("a name given to log", "a new column", name, "Choose another name.")
    return checks.metric(value, name)
