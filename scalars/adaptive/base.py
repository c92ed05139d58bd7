"""The base class of scalars that observe metrics: a schedule with a memory."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar
from weakref import WeakSet

from .. import checks
from ..number.ranges import SUPPOSED
from ..number.scalar import Leaf
from ..schedules.base import Schedule

Memory = dict[str, Any]


Mode = Annotated[str, lambda name, value: checks.one_of(name, value, ("min", "max"))]
ThresholdMode = Annotated[str, lambda name, value: checks.one_of(name, value, ("rel", "abs"))]


def improves(
    metric: float, best: float | None, mode: str, threshold: float, threshold_mode: str
) -> bool:
    """Return whether a metric improves on the best so far, if any, by PyTorch's rule."""
    if not math.isfinite(metric) or best is None:
        return math.isfinite(metric)
    margin = threshold if mode == "max" else -threshold
    bound = best * (1 + margin) if threshold_mode == "rel" else best + margin
    return metric > bound if mode == "max" else metric < bound


class Adaptive(Schedule):
    """A schedule that metrics change: its value depends on the progress and on a memory.

    A subclass declares its arguments like a schedule, defines ``value_at``, which reads
    ``count``, and returns the next memory in ``after``. ``observe`` also updates the values
    of all scalars that contain it.
    """

    for_users: ClassVar[tuple[str, ...]] = ("memory",)
    at_first: ClassVar[Mapping[str, int | None]]
    """The memory before the first metric: counts, and ``None`` for numbers not known yet."""
    waits_for_warmup: ClassVar[bool] = False
    """Whether it ignores metrics during a ``Warmup`` that contains it."""
    counted: ClassVar[str]
    """The key in the memory that the value depends on, usually a count."""

    def __post_init__(self) -> None:
        self.memory: Memory = dict(self.at_first)
        """The state that results from the observed metrics, in plain numbers."""
        self.owners: WeakSet[Leaf] = WeakSet()
        """This schedule and all schedules that contain it."""
        super().__post_init__()

    @property
    def count(self) -> Any:
        """The number in the memory that the value depends on."""
        return SUPPOSED.get().get(id(self), self.memory)[self.counted]

    def counts(self, memory: Memory) -> Any:
        """Return the part of a memory that the value depends on."""
        return memory[self.counted]

    def _find_listeners(self) -> tuple[Any, ...]:
        return (self, *super()._find_listeners())

    @abstractmethod
    def after(self, metric: float) -> Memory:
        """Return the memory after a metric, and change nothing."""

    @property
    @abstractmethod
    def possible(self) -> Sequence[Memory]:
        """Memories whose values include the smallest and the largest one."""

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone: those of the scalars inside."""
        return tuple(sorted({edge for one in self.contained() for edge in one.edges}))

    def put(self, memory: Memory) -> None:
        """Set the memory, but not the values that depend on it: see ``load_all``."""
        self.memory.update(memory)

    def checked(self, memory: Any) -> Memory:
        """Check a saved memory: counts must be whole numbers, other numbers finite."""
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
        """Return the memory from the next ``numbers`` of an iterator, unchecked."""
        memory: Memory = {}
        for key, first in self.at_first.items():
            number = next(numbers, math.nan)
            whole = first is not None and number.is_integer()
            memory[key] = None if math.isnan(number) else int(number) if whole else number
        return memory


class Reducing(Adaptive):
    """An adaptive schedule whose value depends on the number of reductions so far."""

    counted: ClassVar[str] = "reductions"
    waits_for_warmup: ClassVar[bool] = True

    @property
    def possible(self) -> Sequence[Memory]:
        """No reduction, one reduction, and enough of them to reach the smallest value."""
        return [{**self.at_first, "reductions": n} for n in (0, 1, 100_000)]
