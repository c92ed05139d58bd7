"""Operations on the leaves of several scalars, which change all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from .. import checks, words
from . import mlx_protocol

Loadable = tuple[Any, float | None, list[tuple[Any, Any]]]
"""A leaf, the progress to load (or ``None``), and pairs of a listener and its memory."""


def leaves_of(scalars: Iterable[Any]) -> tuple[Any, ...]:
    """Return the leaves of several scalars, each once."""
    return tuple({id(leaf): leaf for scalar in scalars for leaf in scalar.leaves}.values())


def update_all(leaves: Iterable[Any], progress: float) -> None:
    """Update every leaf, or none if one of them fails."""
    progress = checks.new_progress(progress)
    values = [(leaf, progress, leaf.prepare(progress)) for leaf in leaves]
    try:
        _set_all(values)
    except BaseException:  # complete the update after an interrupt or a warning as an error
        _set_all(values)
        raise


def _set_all(values: list[tuple[Any, float, float]]) -> None:
    for leaf, progress, value in values:
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


def load_all(loadables: Iterable[Loadable]) -> None:
    """Load everything, or nothing if one of the values cannot be computed."""
    loadables = list(loadables)
    remembered = [pair for _, _, memories in loadables for pair in memories]
    before = [(one, dict(one.memory)) for one, _ in remembered]
    moved = [(leaf, progress) for leaf, progress, _ in loadables if progress is not None]
    for leaf, _ in moved:
        leaf._cell.refuse_update(leaf)
    stood = [(leaf, leaf._cell.progress, leaf._cell.value, leaf._cell.fresh) for leaf, _ in moved]
    try:
        for one, memory in remembered:
            one.remember(memory)
        _set_all([(leaf, progress, leaf.prepare(progress)) for leaf, progress in moved])
    except BaseException:
        for one, memory in before:
            one.remember(memory)
        for leaf, progress, value, fresh in stood:
            leaf._cell.set(leaf, progress, value)
            leaf._cell.fresh = fresh
        raise


def remember(
    leaves: Iterable[Any],
    put: Callable[[], None],
    back: Callable[[], None],
    same: bool = False,
) -> None:
    """Change a memory that the values of some leaves depend on, or nothing at all.

    Args:
        leaves: The leaves, which get new values.
        put: Makes the change.
        back: Undoes the change, if the new value of a leaf cannot be computed.
        same: Whether the change leaves all values as they are.
    """
    renewed: list[tuple[Any, Any]] | None = None
    try:
        put()
        renewed = [(leaf, leaf._cell.renewed(leaf, same)) for leaf in leaves]
        for leaf, value in renewed:
            leaf._cell.renew(leaf, value)
    except BaseException:
        if renewed is None:
            back()
        else:  # complete the change after an interrupt
            for leaf, value in renewed:
                leaf._cell.renew(leaf, value)
        raise


class Hand(NamedTuple):
    """The held value of a leaf as a memory; ``None`` if the leaf is not held."""

    leaf: Any

    @property
    def memory(self) -> dict[str, float | None]:
        """The held value."""
        return {"held": self.leaf.held}

    def remember(self, memory: Mapping[str, float | None]) -> None:
        """Hold a value, or release the leaf."""
        leaf, before, fresh = self.leaf, self.leaf.held, self.leaf._cell.fresh
        if memory["held"] != before:
            put, back = partial(leaf.keep_held, memory["held"]), partial(leaf.keep_held, before)
            remember((leaf,), put, back)
            leaf._cell.fresh = fresh  # holding a value is not an update


def hold_all(held: Mapping[Any, float | None]) -> None:
    """Hold each leaf at its value, or release it for ``None``; on an error change none."""
    load_all((leaf, None, [(Hand(leaf), {"held": value})]) for leaf, value in held.items())
    for leaf, value in held.items() if mlx_protocol.is_tracing() else ():
        call = "release" if value is None else "hold"
        words.warn(words.UPDATED_IN_TRACE.format(call=call, name=repr(leaf)))


def listeners_of(leaves: Iterable[Any]) -> tuple[Any, ...]:
    """Return the scalars that observe metrics in some leaves, each once."""
    return tuple({id(one): one for leaf in leaves for one in leaf.listeners}.values())


def observe_all(name: str, leaves: Iterable[Any], metric: checks.Measured) -> None:
    """Pass a metric to every listener in some leaves, or to none if one of them fails."""
    leaves = tuple(leaves)
    if not listeners_of(leaves):
        way_out = "Use one that observes metrics, such as ReduceOnPlateau."
        checks.fail("a scalar that observes a metric", "an adaptive one", name, way_out)
    number = checks.metric(metric)
    hearing = [one for leaf in leaves for one in leaf.hearing(min(leaf.progress, 1.0))]
    after = [(one, one.after(number)) for one in {id(one): one for one in hearing}.values()]
    load_all((None, None, [(listener, memory)]) for listener, memory in after)
    if mlx_protocol.is_tracing():
        words.warn(words.UPDATED_IN_TRACE.format(call="observe", name=name))
