"""What every scalar that observes metrics is: a schedule with a memory."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar
from weakref import WeakSet

import mlx.core as mx

from ..number import checks, mlx_protocol, words
from ..number.cell import Cell, Clock
from ..number.leaf import Leaf
from ..schedules.base import Schedule

Memory = dict[str, Any]


class Adaptive(Schedule):
    """A schedule that metrics change: its value follows from the progress and a memory.

    A subclass declares its arguments as a schedule does, writes ``value_at``, which reads
    ``live_count``, and says in ``after`` what a metric makes of the memory. Wherever it
    is nested, ``observe`` changes the values of all that are made of it.
    """

    at_first: ClassVar[Mapping[str, int | None]]
    """The memory before the first metric: counts, and ``None`` for a number not known yet."""

    def __post_init__(self) -> None:
        self.memory: Memory = dict(self.at_first)
        """What is remembered of the metrics, in plain numbers."""
        self.owners: WeakSet[Leaf] = WeakSet()
        """The schedules that this one is in, at any depth, and itself."""
        self.in_graph: dict[str, mx.array] = {}
        """The memory as arrays, while the step of an optimizer drives the value."""
        super().__post_init__()

    def _make_cell(self) -> Cell:
        cell = super()._make_cell()
        cell.listeners = (self, *cell.listeners)
        return cell

    @property
    @abstractmethod
    def count(self) -> int:
        """The number in the memory that the value follows from."""

    @property
    def live_count(self) -> Any:
        """The count: an array while a step's value is computed in the graph."""
        if self.in_graph and Clock.running:
            return self.in_graph["count"].astype(mx.float64)
        return self.count

    @abstractmethod
    def after(self, metric: float) -> Memory:
        """Return the memory after a metric, and change nothing."""

    @property
    @abstractmethod
    def possible(self) -> Sequence[Memory]:
        """Memories between which all values lie."""

    def remember(self, memory: Memory) -> None:
        """Take a memory, and give new values to all that are made of this scalar."""
        if self.in_graph and mlx_protocol.is_placeholder(self.in_graph["count"]):
            raise ValueError(words.NO_UPDATE.format(name=repr(self)))
        owners = [leaf for leaf in self.owners if leaf._cell.clock is None]
        before = dict(self.memory)
        self.memory.update(memory)
        try:
            values = [(leaf, leaf.prepare(min(leaf.progress, 1.0))) for leaf in owners]
        except BaseException:
            self.memory.update(before)
            raise
        for leaf, value in values:
            leaf._cell.set(leaf, leaf.progress, value)
        if self.in_graph:
            self.ride()

    def ride(self) -> dict[str, mx.array]:
        """Put the memory into arrays, which a compiled function may capture; return them."""
        self.in_graph["count"] = mx.array(float(self.count))
        self.in_graph["memory"] = mlx_protocol.bits_of(self.numbers)
        for leaf in self.owners:
            leaf._cell.stepped = None
        return self.in_graph

    def checked(self, memory: Any) -> Memory:
        """Check a memory that was saved: counts stay whole, other numbers finite."""
        name = f"the memory of {type(self).__name__}"
        checks.keys(name, memory, self.at_first)
        return {
            key: checks.optional_real(f"{key} in {name}", memory[key])
            if first is None
            else checks.count(f"{key} in {name}", memory[key], least=0)
            for key, first in self.at_first.items()
        }

    @property
    def numbers(self) -> list[float]:
        """The memory as numbers, for a checkpoint."""
        return [math.nan if value is None else value for value in self.memory.values()]

    def memory_of(self, numbers: Iterator[float]) -> Memory:
        """Return the memory whose ``numbers`` come next."""
        memory: Memory = {}
        for key, first in self.at_first.items():
            number = next(numbers)
            unknown = None if math.isnan(number) else number
            memory[key] = unknown if first is None else int(number)
        return memory
