"""The range of a scalar over a whole run, and comparisons in a trace that depend on it.

A compiled function keeps the branch that Python took while it was traced. Therefore a
comparison in a trace is answered only if the answer is the same for the whole run, or if the
skipped branch has no effect.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from contextvars import ContextVar, copy_context
from itertools import pairwise, product
from types import MappingProxyType
from typing import Any, NamedTuple

from .. import words
from .together import listeners_of

Compare = Callable[[Any, Any], bool]
JUST_BEFORE = 4e-9
"""A distance before an edge at which the previous piece surely still applies."""
SUPPOSED: ContextVar[Mapping[int, Any]] = ContextVar("SUPPOSED", default=MappingProxyType({}))
"""Assumed memories of adaptive scalars by ``id``, used to find their range."""


def knots(scalar: Any) -> tuple[float, ...]:
    """Increasing progresses from 0 to 1, dense enough to draw the curve."""
    ends = (0.0, *scalar.edges, 1.0)
    points = max(2, min(256, 2048 // len(ends)))
    between = {a + (b - a) * i / points for a, b in pairwise(ends) for i in range(points)}
    before = {edge - JUST_BEFORE for edge in scalar.edges if edge > JUST_BEFORE}
    return tuple(sorted({*between, *before, 1.0}))


def samples(scalar: Any) -> tuple[float, ...]:
    """The values at the ``knots``, for all possible memories of adaptive scalars."""
    listeners = listeners_of(scalar.leaves)

    def values(*memories: Any) -> list[float]:
        SUPPOSED.set({id(one): memory for one, memory in zip(listeners, memories, strict=True)})
        return [float(scalar.value_at(knot)) for knot in scalar.knots]

    # The assumed memories are set in a copy of the context only.
    possible = product(*[listener.possible for listener in listeners])
    return tuple([value for m in possible for value in copy_context().run(values, *m)])


def settled(scalar: Any, compare: Compare, bound: float, shortcut: bool) -> bool | None:
    """Return the answer of a comparison for the whole run, or ``None`` if there is none.

    Args:
        scalar: The scalar on the left.
        compare: A function of the module ``operator``, such as ``operator.lt``.
        bound: The number on the right.
        shortcut: Whether the comparison only skips code without effect, as MLX's
            ``if self.weight_decay != 0``. The answer for the inside of the range is then
            enough.
    """
    low, high = scalar.bounds
    equality = compare in (operator.eq, operator.ne)
    outside = not low <= bound <= high or low == high
    if outside or (not equality and compare(low, bound) == compare(high, bound)):
        return compare(low, bound)
    low, high = scalar.extent
    certain = scalar.steady and scalar.bounds != (-math.inf, math.inf)
    if low < bound < high or (shortcut and equality and not certain):
        return compare is operator.ne if shortcut and equality else None
    stays = any(a == b == bound for a, b in pairwise(scalar.samples))
    if not shortcut and (stays or not certain):
        return None
    return compare((low + high) / 2, bound)


class Answer(NamedTuple):
    """The answer of a comparison in a trace, which the compiled function keeps."""

    question: str
    scalar: Any
    compare: Compare
    bound: float
    answer: bool

    def check(self) -> None:
        """Raise ``ValueError`` if the answer is wrong for held values."""
        held = [leaf for leaf in self.scalar.leaves if leaf.held is not None]
        if not held:
            return
        values = [float(self.scalar.in_force(knot)) for knot in self.scalar.knots]
        low, high, bound = min(values), max(values), self.bound
        if low < bound < high or self.compare((low + high) / 2, bound) is not self.answer:
            shown = ", ".join([f"{leaf!r} at {leaf.held}" for leaf in held])
            text = words.BRANCH.format(question=self.question, answer=self.answer, held=shown)
            raise ValueError(text)
