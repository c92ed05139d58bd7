"""Values that are reduced when a metric has stopped improving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from .. import checks
from ..checks import AtLeast0, CountFrom0, Factor
from ..functions import P, maximum, minimum
from ..schedules.composition import Nested
from .base import Adaptive, Memory, Mode, ThresholdMode, improves


class ReduceOnPlateau(Adaptive):
    r"""Reduce a value when a metric has not improved for some time [1].

    .. math:: v(p) = \min(u, \max(f^n u, m)), \quad u = v_{value}(p)

    n is the number of reductions so far: ``observe(metric)`` adds one when the metric has
    failed to improve more than ``patience`` times in a row, as PyTorch does. Then
    ``cooldown`` observations are not counted. A metric that is infinite or NaN is never
    an improvement. ``update`` moves only ``value``. In a ``Warmup`` nothing is counted until
    the warm-up is over, as in timm.

    A metric improves on the best so far, b, when it is below b (1 - threshold) in
    ``threshold_mode`` "rel", below b - threshold in "abs"; in ``mode`` "max", above
    b (1 + threshold) or b + threshold. The first finite metric is an improvement.

    Args:
        value: What is reduced: a number, a scalar, or an expression of scalars, of which
            only the formula is used.
        factor: The factor f of a reduction, above 0 and below 1. Default: ``0.1``.
        patience: How many observations without improvement are let pass. Default: ``10``.
        mode: "min" if a lower metric is better, "max" if a higher one. Default: ``"min"``.
        threshold: How much better is an improvement, at least 0. Default: ``1e-4``.
        threshold_mode: "rel", a part of the best, or "abs". Default: ``"rel"``.
        cooldown: How many observations after a reduction are not counted. Default: ``0``.
        minimum: The least value m that a reduction leads to. Default: ``0.0``.
        best_in_cooldown: Whether a metric that is not counted may become the best, as in
            PyTorch; not so in PaddlePaddle. Default: ``True``.

    Raises:
        ValueError: A number is out of its range, or a mode unknown.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import ReduceOnPlateau, Warmup
        >>> plateau = ReduceOnPlateau(0.1, factor=0.5, patience=1)
        >>> lr = Warmup(plateau, 0.1).update(0.3)
        >>> [float(lr.observe(loss)) for loss in (2.0, 1.0, 1.0, 1.0, 0.5)]
        [0.1, 0.1, 0.1, 0.05, 0.05]
        >>> plateau.memory
        {'best': 0.5, 'bad': 0, 'cooldown': 0, 'reductions': 1}

    On several ranks observe the metric averaged over them, so that all ranks do the same:

        >>> import mlx.core as mx
        >>> loss, ranks = mx.array(0.5), mx.distributed.init().size()
        >>> float(lr.observe(mx.distributed.all_sum(loss) / ranks))
        0.05

    [1]: PyTorch's ``ReduceLROnPlateau`` (with ``eps=0``); optax's ``reduce_on_plateau``. In
    Keras, whose counts are one higher, ``patience=n, cooldown=m`` are n - 1 and m - 1 here,
    and its ``min_delta`` is a ``threshold`` in the mode "abs".
    """

    value: Nested
    factor: Factor = 0.1
    patience: CountFrom0 = 10
    mode: Mode = "min"
    threshold: AtLeast0 = 1e-4
    threshold_mode: ThresholdMode = "rel"
    cooldown: CountFrom0 = 0
    minimum: checks.Real = 0.0
    best_in_cooldown: Annotated[bool, checks.flag] = True

    monotone_pieces = True

    at_first: ClassVar = {"best": None, "bad": 0, "cooldown": 0, "reductions": 0}
    counted: ClassVar = "reductions"
    waits_for_warmup: ClassVar = True

    def value_at(self, progress: P) -> P:
        """Return the value at ``progress``, reduced as often as it was until now."""
        value: Any = self.value
        whole: P = value.value_at(progress)
        if not self.count:
            return whole
        return minimum(whole, maximum(whole * self.factor**self.count, self.minimum))  # type: ignore[no-any-return]

    def after(self, metric: float) -> Memory:
        """Return the memory after a metric: compare, cool down, reduce, in PyTorch's order."""
        best, bad, cooldown, reductions = self.memory.values()
        counts = self.best_in_cooldown or not cooldown
        if counts and improves(metric, best, self.mode, self.threshold, self.threshold_mode):
            best, bad = metric, 0
        else:
            bad += 1
        if cooldown:
            cooldown, bad = cooldown - 1, 0
        if bad > self.patience:
            cooldown, bad, reductions = self.cooldown, 0, reductions + 1
        return dict(zip(self.memory, (best, bad, cooldown, reductions), strict=True))

    @property
    def possible(self) -> Sequence[Memory]:
        """Never reduced, reduced once, and so often that the minimum is reached."""
        return [{**self.at_first, "reductions": n} for n in (0, 1, 100_000)]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        value: Any = self.value
        return value.edges  # type: ignore[no-any-return]


class NewBob(Adaptive):
    r"""Reduce a value when a metric has improved too little since the one before [1].

    .. math:: v(p) = f^n\, v_{value}(p)

    n is the number of reductions so far: ``observe(metric)`` adds one when the part by which
    the metric m is below the one before, l, is too small, (l - m) / l < ``threshold``, once
    more than ``patience`` times since the last reduction. The metrics are above 0 and the
    lower the better: losses, error rates. One that is infinite or NaN is no improvement,
    and the next one is compared with the one before it. In a ``Warmup`` nothing is counted
    until the warm-up is over.

    Args:
        value: What is reduced: a number, a scalar, or an expression of scalars, of which
            only the formula is used.
        factor: The factor f of a reduction, above 0 and below 1. Default: ``0.5``.
        threshold: The least improvement, a part of the metric before. Default: ``0.0025``.
        patience: How many improvements that are too small are let pass; a large one between
            them does not set the count back. Default: ``0``.

    Raises:
        ValueError: A number is out of its range.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import NewBob
        >>> lr = NewBob(1.0)
        >>> [float(lr.observe(loss)) for loss in (10.0, 2.0, 2.5, 1.0, 0.999)]
        [1.0, 1.0, 0.5, 0.5, 0.25]

    On several ranks observe the metric averaged over them, so that all ranks do the same.

    [1]: SpeechBrain's ``NewBobScheduler``; the rule is that of the QuickNet tools.
    """

    value: Nested
    factor: Factor = 0.5
    threshold: checks.Real = 0.0025
    patience: CountFrom0 = 0

    monotone_pieces = True

    at_first: ClassVar = {"previous": None, "bad": 0, "reductions": 0}
    counted: ClassVar = "reductions"
    waits_for_warmup: ClassVar = True

    def value_at(self, progress: P) -> P:
        """Return the value at ``progress``, reduced as often as it was until now."""
        value: Any = self.value
        return value.value_at(progress) * self.factor**self.count  # type: ignore[no-any-return]

    def after(self, metric: float) -> Memory:
        """Return the memory after a metric, which becomes the previous one if it is finite."""
        previous, bad, reductions = self.memory.values()
        finite = math.isfinite(metric)
        if previous is not None or not finite:
            gained = (previous - metric) / previous if finite and previous else 0.0
            bad += not finite or gained < self.threshold
        if bad > self.patience:
            bad, reductions = 0, reductions + 1
        return {
            "previous": metric if finite else previous,
            "bad": bad,
            "reductions": reductions,
        }

    @property
    def possible(self) -> Sequence[Memory]:
        """Never reduced, reduced once, and so often that nothing is left."""
        return [{**self.at_first, "reductions": n} for n in (0, 1, 100_000)]

    @property
    def edges(self) -> tuple[float, ...]:
        """The progresses between which the value is monotone."""
        value: Any = self.value
        return value.edges  # type: ignore[no-any-return]
