"""Cells of scalars that follow the step of an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import cached_property
from types import MappingProxyType
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..checks import shown
from ..number.cell import Cell, Pair
from ..number.mlx_protocol import are_placeholders, is_placeholder
from ..number.watch import Watch
from ..table import Table
from ..words import NO_PROGRESS, NO_UPDATE
from . import words

STOPPED: ContextVar[Mapping[int, Any]] = ContextVar("STOPPED", default=MappingProxyType({}))
"""The current step during an update, by the ``id`` of its ``Steps``."""


def is_traced_tree(tree: Any) -> bool:
    """Return whether an array of a tree depends on what is being traced; evaluate none."""
    return are_placeholders(list(dict(tree_flatten(tree)).values()))


class Steps:
    """The step of an optimizer: a number on the host, a placeholder in a trace.

    After an eager update the step array is replaced by an equal one that the host has made, so
    that reading it waits for the device only if it is the result of another computation, as in a
    compiled function, or after a loss scale may have skipped the last step.

    Args:
        read: Returns the step array in the state of the optimizer.
        put: Replaces it.
        horizon: The horizon of the run, or ``None`` if the steps need no numbers.
    """

    def __init__(
        self, read: Callable[[], mx.array], put: Callable[[mx.array], None], horizon: Any = None
    ) -> None:
        self._read = read
        self._put = put
        self.horizon = horizon
        self._seen: mx.array | None = None
        """The last array that was no placeholder."""
        self._progress = (-1, 0.0)
        self._was_traced = False

    @property
    def now(self) -> int | mx.array:
        """The number of steps done, which does not change during an update."""
        step: int | mx.array | None = STOPPED.get().get(id(self))
        return self.number_in(self._read()) if step is None else step

    def number_in(self, here: mx.array) -> int | mx.array:
        """Return the number in a step array, or the array itself if it is a placeholder."""
        if here is not self._seen and is_placeholder(here):
            return here
        try:
            count = int(here.item())  # type: ignore[arg-type]
        except RuntimeError as error:
            if "without a primitive" not in str(error):
                raise
            raise ValueError(words.LOST_STEP) from error
        if here is not self._seen and here is self._read():
            self._seen = here
        return count

    def stop_at(self, step: int | mx.array) -> None:
        """Keep the number of the step in the current context.

        The optimizer increments the step before it may call a function that reads a scalar.
        """
        STOPPED.set({**STOPPED.get(), id(self): step})

    @property
    def traced(self) -> bool:
        """Whether the step is a placeholder, without waiting for its number."""
        if (step := STOPPED.get().get(id(self))) is not None:
            return not isinstance(step, int)
        if (here := self._read()) is self._seen:
            return False
        if are_placeholders([here]):
            self._was_traced = True
            return True
        if self._was_traced:  # a call that has failed since may have left a placeholder
            self._was_traced = False
            self.number_in(here)
        return False

    def count(self, done: int | None) -> None:
        """Set the number of the step after an eager update; ``None`` keeps what is there."""
        if done is not None:
            self._put(mx.array(done, self._read().dtype))
        self._seen = self._read()

    @property
    def on_host(self) -> int:
        """The number of steps done; an error is raised if it is a placeholder."""
        if isinstance(step := self.now, int):
            return step
        raise ValueError(NO_PROGRESS)

    @property
    def progress(self) -> float:
        """The progress at the current step, which may be above 1."""
        step, (known, progress) = self.on_host, self._progress
        if step != known:
            progress = self.horizon.progress(step)
            self._progress = (step, progress)
        return progress

    @cached_property
    def progresses(self) -> Sequence[float]:
        """The progress at each step of the run, from 0 to 1."""
        progresses: Sequence[float] = self.horizon.progresses()
        return progresses


class StepCell(Cell):
    """The value of a scalar that follows the step of an optimizer.

    ``free`` is the cell that the scalar had before and gets back when it is detached.

    On the host the value is computed from the formula. In a graph it is looked up in a table
    of all steps, which ``prepare`` computes.
    """

    def __init__(self, free: Cell, leaf: Any, steps: Steps) -> None:
        self.free = free
        self.arrays = free.arrays  # functions that have captured the dict stay valid
        self.extras = ()
        self.fresh = False
        self._ours = None
        self._leaf = leaf
        self._steps = steps
        self._table: Table
        self._last: tuple[int, float] | None = None
        self.watch = Watch()

    def read(self, use: bool = True) -> float | Pair:
        """Return the value at the current step, from the table if the step is a placeholder."""
        step, traced = self._steps.now, self._is_traced()
        if isinstance(step, int) == traced:
            raise ValueError(words.HALF_CAPTURED)
        if isinstance(step, int):
            if (watch := self.watch).examined_at != watch.updates:
                watch.read(use)
            return self._at(step)
        self.watch.captured()
        index = mx.minimum(step, len(self._steps.progresses) - 1)
        return Pair(self.arrays["value"][index], self.arrays["remainder"][index])

    def stepped(self, owner: object) -> None:
        """Remember that an update was made, which has changed the value."""
        self.watch.updates += 1
        if self.watch.traced_at is not None:
            self.watch.warn_if_frozen(owner)

    def is_traced(self) -> bool:
        """Return whether a function that captures the value is being traced."""
        return isinstance(self.read(use=False), Pair)

    @property
    def progress(self) -> float:  # type: ignore[override] # read-only
        """The progress at the current step."""
        return self._steps.progress

    def refuse_update(self, owner: object) -> None:
        """Raise ``ValueError``, because the step of the optimizer sets the progress."""
        raise ValueError(words.DRIVEN.format(name=shown(owner)))

    def prepare(self, owner: Any, same: bool) -> Table:
        """Return the table of the current formula, which is the old one if it is the ``same``."""
        if self._is_traced():
            raise ValueError(NO_UPDATE.format(name=shown(owner)))
        return self._table if same else self._computed()

    def set(self, owner: object, progress: float | None, value: Any) -> None:
        """Take the table that ``prepare`` returned; the step sets the progress."""
        self._last, self._table = None, value
        self.refresh()

    def refresh(self) -> None:
        """Put the table and the arrays for checkpoints into the dict."""
        self.arrays.update(self._table._asdict())
        self._ours = self._table.value
        self.put_extras()

    def start(self) -> None:
        """Compute the table, which ``refresh`` puts into the dict."""
        self._table = self._computed()

    def _computed(self) -> Table:
        return Table.of(self._leaf, self._steps.progresses, in_force=True)

    def stop(self, progress: float) -> None:
        """Return the dict to the cell that the scalar had before."""
        free, value = self.free, float(self._leaf.in_force(min(progress, 1.0)))
        free.progress, free.value, free.fresh = progress, value, False
        free.refresh()

    def _is_traced(self) -> bool:
        if (here := self.arrays["value"]) is self._ours:
            return False
        if is_placeholder(here):
            return True
        self.refresh()  # replaces what a call or a failed trace has left there
        return False

    def _at(self, step: int) -> float:
        if (last := self._last) is None or last[0] != step:
            self._last = last = (step, float(self._leaf.in_force(min(self._steps.progress, 1.0))))
        return last[1]
