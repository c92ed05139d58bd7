"""What every scalar that observes metrics is: a schedule with a memory."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar
from weakref import WeakSet

from .. import checks
from ..number.ranges import SUPPOSED
from ..number.scalar import Leaf
from ..number.together import remember
from ..schedules.base import Schedule

Memory = dict[str, Any]


Mode = Annotated[str, lambda name, value: checks.one_of(name, value, ("min", "max"))]
ThresholdMode = Annotated[str, lambda name, value: checks.one_of(name, value, ("rel", "abs"))]


def improves(
    metric: float, best: float | None, mode: str, threshold: float, threshold_mode: str
) -> bool:
    """Return whether a metric is better than the best so far, if there is one, as in PyTorch."""
    if not math.isfinite(metric) or best is None:
        return math.isfinite(metric)
    margin = threshold if mode == "max" else -threshold
    bound = best * (1 + margin) if threshold_mode == "rel" else best + margin
    return metric > bound if mode == "max" else metric < bound


class Adaptive(Schedule):
    """A schedule that metrics change: its value follows from the progress and a memory.

    A subclass declares its arguments as a schedule does, writes ``value_at``, which reads
    ``count``, and says in ``after`` what a metric makes of the memory. Wherever it is
    nested, ``observe`` changes the values of all that are made of it.
    """

    for_users: ClassVar[tuple[str, ...]] = ("memory",)
    at_first: ClassVar[Mapping[str, int | None]]
    """The memory before the first metric: counts, and ``None`` for what is no number yet."""
    waits_for_warmup: ClassVar[bool] = False
    """Whether a ``Warmup`` that it is in keeps it from counting metrics until it is over."""
    counted: ClassVar[str]
    """The key of the memory that the value follows from: mostly a count."""

    def __post_init__(self) -> None:
        self.memory: Memory = dict(self.at_first)
        """What is remembered of the metrics, in plain numbers."""
        self.owners: WeakSet[Leaf] = WeakSet()
        """The schedules that this one is in, at any depth, and itself."""
        super().__post_init__()

    @property
    def count(self) -> Any:
        """The number in the memory that the value follows from."""
        return SUPPOSED.get().get(id(self), self.memory)[self.counted]

    def counts(self, memory: Memory) -> Any:
        """Return what the value follows from: where it is the same, no value has changed."""
        return memory[self.counted]

    def _find_listeners(self) -> tuple[Any, ...]:
        return (self, *super()._find_listeners())

    @abstractmethod
    def after(self, metric: float) -> Memory:
        """Return the memory after a metric, and change nothing."""

    @property
    @abstractmethod
    def possible(self) -> Sequence[Memory]:
        """Memories between which all values lie."""

    def remember(self, memory: Memory) -> None:
        """Take a memory, and give new values to all that are made of this scalar."""
        now, before = self.memory, dict(self.memory)
        same = self.counts({**before, **memory}) == self.counts(before)
        remember(list(self.owners), lambda: now.update(memory), lambda: now.update(before), same)

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
        """Return the memory whose ``numbers`` come next, not checked."""
        memory: Memory = {}
        for key, first in self.at_first.items():
            number = next(numbers, math.nan)
            whole = first is not None and number.is_integer()
            memory[key] = None if math.isnan(number) else int(number) if whole else number
        return memory
