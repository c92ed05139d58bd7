"""Training runs described as a list of phases with schedules and settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .. import checks
from ..functions import P
from ..number.scalar import ScheduledScalar
from ..number.together import listeners_of
from ..schedules.annealing import Constant
from ..schedules.base import Schedule
from ..schedules.composition import Nested
from ..schedules.composition import Sequence as Joined
from ..schedules.spans import span_at
from .group import Grouped, ScalarGroup


class Phase:
    """A part of a run, with a duration, schedules and settings.

    Args:
        duration: The length, at least 0, in the same unit as in the other ``Phases``.
        settings: Values by name: schedules, which run from progress 0 to 1 within the phase,
            numbers, and anything else that the loop reads, such as a batch size or a data set.

    Raises:
        ValueError: ``duration`` is below 0, infinite or NaN.
        TypeError: ``duration`` is not a real number.

    Example:
        >>> from scalars import Linear, Phase
        >>> Phase(2, lr=Linear(0.0, 0.1), batch_size=64)
        Phase(2, lr=Linear(start=0.0, end=0.1), batch_size=64)
    """

    def __init__(self, duration: float, /, **settings: Any) -> None:
        self.duration = checks.at_least_0("duration of Phase", duration)
        self.settings = settings

    def __repr__(self) -> str:
        """Return the call that makes the phase."""
        settings = [f"{name}={value!r}" for name, value in self.settings.items()]
        return f"Phase({', '.join([repr(self.duration), *settings])})"


def _phase(name: str, value: Any) -> Phase:
    if not isinstance(value, Phase):
        way_out = "Write Phase(duration, lr=...)."
        checks.fail(name, "a Phase", value, way_out, wrong_type=True)
    return value


class _AtItsEnd(Schedule):
    """The end value of a scalar that can still observe metrics."""

    scalar: Nested
    monotone_pieces = True

    def value_at(self, progress: P) -> P:
        """Return scalar(1)."""
        scalar: Any = self.scalar
        return scalar.value_at(1.0 + 0 * progress)  # type: ignore[no-any-return]


class Phases(Grouped):
    """A run as a sequence of phases, like the training phases of fast.ai.

    Each name that has a schedule in some phase becomes one scalar of ``group``. Within a
    phase it follows the schedule or the number that the phase gives. In a phase that does not
    give the name, it keeps the value at the end of the phase before; before the first phase
    that gives the name, it has the value at the start of that phase. All other settings are
    in ``current`` and stay the same until a phase changes them. A boundary belongs to the
    phase that begins there.

    Args:
        phases: The phases. All durations have the same unit: steps, epochs or parts of the
            run. ``total`` is their sum, and progress is the part of it that is done. A phase
            of duration 0 is skipped, but its last values and its settings apply; one at the end
            of the run gives its first values.

    Raises:
        ValueError: There are no phases, all durations are 0, or no phase has a schedule.
        TypeError: An item is not a ``Phase``.

    Example:
        >>> from scalars import CosineAnnealing, Linear, Phase, Phases
        >>> phases = Phases([
        ...     Phase(1, lr=Linear(0.0, 0.1), batch_size=32),
        ...     Phase(2, batch_size=64),
        ...     Phase(1, lr=CosineAnnealing(0.1)),
        ... ])
        >>> for epochs in (0, 0.5, 1, 2.5, 3.5, 4):
        ...     _ = phases.update(epochs / phases.total)
        ...     print(epochs, phases.current, round(float(phases.group["lr"]), 3))
        0 {'batch_size': 32} 0.0
        0.5 {'batch_size': 32} 0.05
        1 {'batch_size': 64} 0.1
        2.5 {'batch_size': 64} 0.1
        3.5 {'batch_size': 64} 0.05
        4 {'batch_size': 64} 0.0
    """

    group: ScalarGroup
    """One scalar for each name that has a schedule in some phase."""

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._phases = checks.each("phases", phases, _phase)
        if not self._phases:
            checks.fail("phases", "at least one Phase", phases, "Write [Phase(1, lr=...)].")
        self.total = sum(phase.duration for phase in self._phases)
        if not self.total:
            way_out = "Give one of them a duration above 0."
            checks.fail("phases", "longer than 0 together", phases, way_out)
        done = 0.0
        self.boundaries = tuple(
            [(done := done + phase.duration) / self.total for phase in self._phases[:-1]]
        )
        scheduled = [
            name
            for phase in self._phases
            for name, value in phase.settings.items()
            if isinstance(value, ScheduledScalar)
        ]
        if not scheduled:
            way_out = "Add a schedule to one of them: Phase(1, lr=Linear(0.0, 0.1))."
            checks.fail("phases", "given a schedule", list(self._phases), way_out)
        self.group = ScalarGroup({name: self._joined(name) for name in dict.fromkeys(scheduled)})

    def _joined(self, name: str) -> ScheduledScalar:
        """Return one scalar for a name over the whole run."""
        given = [phase.settings.get(name) for phase in self._phases]
        first = next(value for value in given if value is not None)
        value = first.at(0) if isinstance(first, ScheduledScalar) else first
        parts: list[ScheduledScalar] = []
        for here in given:
            if here is None and parts and listeners_of(parts[-1].leaves):
                here = _AtItsEnd(parts[-1])  # so that later observations count
            part = Constant(value) if here is None else here
            parts.append(part if isinstance(part, ScheduledScalar) else Constant(part))
            value = parts[-1].at(1)
        return Joined(parts, self.boundaries) if self.boundaries else parts[0]

    def __getitem__(self, index: Any) -> Any:
        return self._phases[index]

    def __len__(self) -> int:
        return len(self._phases)

    def __iter__(self) -> Iterator[Phase]:
        return iter(self._phases)

    def __repr__(self) -> str:
        """Return the call that makes the phases."""
        return f"Phases({list(self._phases)!r})"

    def update(self, progress: float) -> Phases:
        """Set the progress of the group, which also selects the phase.

        Args:
            progress: The fraction of the run that is done: steps or epochs divided by ``total``.

        Returns:
            The phases themselves.

        Raises:
            ValueError: ``progress`` is negative, infinite or NaN.
            TypeError: ``progress`` is not a real number.
        """
        self.group.update(progress)
        return self

    @property
    def index(self) -> int:
        """The index of the current phase, from 0."""
        return span_at(next(iter(self.group.values())).progress, self.boundaries)

    @property
    def current(self) -> dict[str, Any]:
        """The current settings, without the scheduled ones."""
        settings: dict[str, Any] = {}
        for phase in self._phases[: self.index + 1]:
            settings.update(phase.settings)
        return {name: value for name, value in settings.items() if name not in self.group}
