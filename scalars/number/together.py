"""Operations on the leaves of several scalars, which change all of them or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .. import checks, words
from . import mlx_protocol

Change = tuple[Any, float | None, Any]
"""A leaf, its new progress or ``None``, and its new value, as arguments of ``Cell.set``."""
Loadable = tuple[Any, float | None, list[tuple[Any, Any]]]
"""A leaf, the progress to load (or ``None``), and pairs of what remembers and its memory."""


def leaves_of(scalars: Iterable[Any]) -> tuple[Any, ...]:
    """Return the leaves of several scalars, each once."""
    return tuple({id(leaf): leaf for scalar in scalars for leaf in scalar.leaves}.values())


def update_all(leaves: Iterable[Any], progress: float) -> None:
    """Update every leaf, or none if one of them fails."""
    progress = checks.new_progress(progress)
    changes: list[Change] = [(leaf, progress, leaf.prepare(progress)) for leaf in leaves]
    try:
        _set_all(changes)
    except BaseException:  # complete the update after an interrupt or a warning as an error
        _set_all(changes)
        raise


def load_all(loadables: Iterable[Loadable]) -> None:
    """Set memories and progresses, or nothing if the value of a leaf cannot be computed.

    What remembers is an adaptive scalar or a ``Hand``. It has a ``memory``; ``put(memory)``, which
    replaces it; ``counts(memory)``, the part of a memory that values depend on; and ``owners``, the
    leaves whose values these are.
    """
    loadables = list(loadables)
    memories = [pair for _, _, pairs in loadables for pair in pairs]
    progresses = {leaf: progress for leaf, progress, _ in loadables if progress is not None}
    before = [(one, dict(one.memory)) for one, _ in memories]
    changes: list[Change] | None = None
    try:
        changes = _changes(memories, progresses)
        _set_all(changes)
    except BaseException:
        if changes is None:
            for one, memory in before:
                one.put(memory)
        else:  # complete the change after an interrupt or a warning as an error
            _set_all(changes)
        raise


def _changes(memories: list[tuple[Any, Any]], progresses: Mapping[Any, float]) -> list[Change]:
    """Set the memories, and return what this and the progresses change."""
    same: dict[Any, bool] = {}
    for one, memory in memories:
        kept = one.counts(memory) == one.counts(one.memory)
        one.put(memory)
        same.update({leaf: kept and same.get(leaf, True) for leaf in one.owners})
    for leaf in same:
        leaf.check_held()
    moved = [(leaf, progress, leaf.prepare(progress)) for leaf, progress in progresses.items()]
    rest = {leaf: kept for leaf, kept in same.items() if leaf not in progresses}
    return moved + [(leaf, None, leaf._cell.prepare(leaf, kept)) for leaf, kept in rest.items()]


def _set_all(changes: list[Change]) -> None:
    for leaf, progress, value in changes:
        leaf._cell.set(leaf, progress, value)


def progress_of(what: str, leaves: tuple[Any, ...]) -> float:
    """Return the common progress of some leaves, or 0 if there are none."""
    following = [leaf for leaf in leaves if not leaf.on_device] or leaves
    # To record the read of one is enough, as it takes longer than the read itself.
    known: set[float] = {leaf.known_progress() for leaf in following[1:]}
    found = known | {leaf.progress for leaf in following[:1]} or {0.0}
    first, *others = found
    if others:
        name, rule = f"the progress of {what}", "the same in all of its scalars"
        way_out = "Update the expression itself, or put all of its scalars into one ScalarGroup."
        checks.fail(name, rule, sorted([first, *others]), way_out)
    return first


class Hand(NamedTuple):
    """The held value of a leaf as a memory; ``None`` if the leaf is not held."""

    leaf: Any

    @property
    def memory(self) -> dict[str, float | None]:
        """The held value."""
        return {"held": self.leaf.held}

    @property
    def owners(self) -> tuple[Any, ...]:
        """The leaf."""
        return (self.leaf,)

    def counts(self, memory: Mapping[str, float | None]) -> float | None:
        """Return the held value."""
        return memory["held"]

    def put(self, memory: Mapping[str, float | None]) -> None:
        """Hold the value, or release the leaf."""
        self.leaf.__dict__["held"] = memory["held"]


def hold_all(held: Mapping[Any, float | None]) -> None:
    """Hold each leaf at its value, or release it for ``None``; on an error change none."""
    load_all((leaf, None, [(Hand(leaf), {"held": value})]) for leaf, value in held.items())
    for leaf, value in held.items() if mlx_protocol.is_tracing() else ():
        call = "release" if value is None else "hold"
        words.warn(words.UPDATED_IN_TRACE.format(call=call, name=checks.shown(leaf)))


def listeners_of(leaves: Iterable[Any]) -> tuple[Any, ...]:
    """Return the scalars that observe metrics in some leaves, each once."""
    return tuple({id(one): one for leaf in leaves for one in leaf.listeners}.values())


def observe_all(what: object, leaves: Iterable[Any], metric: checks.Measured) -> None:
    """Pass a metric to every listener in some leaves, or to none if one of them fails."""
    leaves = tuple(leaves)
    if not listeners_of(leaves):
        way_out = "Use one that observes metrics, such as ReduceOnPlateau."
        checks.fail("a scalar that observes a metric", "an adaptive one", what, way_out)
    number = checks.metric(metric)
    hearing = [one for leaf in leaves for one in leaf.hearing(min(leaf.progress, 1.0))]
    after = [(one, one.after(number)) for one in {id(one): one for one in hearing}.values()]
    load_all((None, None, [(listener, memory)]) for listener, memory in after)
    for leaf in [leaf for listener, _ in after for leaf in listener.owners]:
        leaf._cell.fresh = False
    if mlx_protocol.is_tracing():
        name = checks.shown(what)
        words.warn(words.UPDATED_IN_TRACE.format(call="observe", name=name))
