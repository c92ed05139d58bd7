"""Schedules that reduce a value when a metric has stopped improving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from .. import checks
from ..checks import AtLeast0, CountFrom0, Factor
from ..functions import P, maximum, minimum
from ..schedules.composition import Nested
from .base import Memory, Mode, Reducing, ThresholdMode, improves


class ReduceOnPlateau(Reducing):
    r"""Reduce a value when a metric has stopped improving [1].

    .. math:: v(p) = \min(u, \max(f^n u, m)), \quad u = v_{value}(p)

    n is the number of reductions so far. As in PyTorch, ``observe(metric)`` adds one after
    more than ``patience`` metrics in a row without improvement, and the next ``cooldown``
    metrics are ignored. A metric that is infinite or NaN is never an improvement. ``update``
    changes only the value before the reductions, u. In a ``Warmup``, metrics are ignored
    during the warm-up, as in timm.

    A metric improves on the best so far, b, if it is below b (1 - threshold) in
    ``threshold_mode`` "rel", or below b - threshold in "abs"; in ``mode`` "max", above
    b (1 + threshold) or b + threshold. The first finite metric is an improvement.

    Args:
        value: The value to reduce: a number, a scalar, or an expression of scalars, of which
            only the formula is used.
        factor: The factor f of a reduction, above 0 and below 1. Default: ``0.1``.
        patience: The number of metrics without improvement that change nothing.
            Default: ``10``.
        mode: "min" if lower metrics are better, "max" if higher ones are. Default: ``"min"``.
        threshold: The least change that is an improvement, at least 0. Default: ``1e-4``.
        threshold_mode: "rel" for a fraction of the best, or "abs". Default: ``"rel"``.
        cooldown: The number of metrics to ignore after a reduction. Default: ``0``.
        minimum: The least value m of a reduction. Default: ``0.0``.
        best_in_cooldown: Whether a metric during the cooldown can become the best, as in
            PyTorch but not in PaddlePaddle. Default: ``True``.

    Raises:
        ValueError: A number is out of its range, or a mode is unknown.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import ReduceOnPlateau, Warmup
        >>> plateau = ReduceOnPlateau(0.1, factor=0.5, patience=1)
        >>> lr = Warmup(plateau, 0.1).update(0.3)
        >>> [float(lr.observe(loss)) for loss in (2.0, 1.0, 1.0, 1.0, 0.5)]
        [0.1, 0.1, 0.1, 0.05, 0.05]
        >>> plateau.memory
        {'best': 0.5, 'bad': 0, 'cooldown': 0, 'reductions': 1}

    On several ranks, observe the average of the metric over them, so that all ranks agree:

        >>> import mlx.core as mx
        >>> loss, ranks = mx.array(0.5), mx.distributed.init().size()
        >>> float(lr.observe(mx.distributed.all_sum(loss) / ranks))
        0.05

    [1]: PyTorch's ``ReduceLROnPlateau`` (with ``eps=0``) and optax's ``reduce_on_plateau``.
    Keras's counts are one higher: its ``patience=n, cooldown=m`` are n - 1 and m - 1 here. Its
    ``min_delta`` is a ``threshold`` in mode "abs".
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

    at_first: ClassVar[Mapping[str, int | None]] = {
        "best": None,
        "bad": 0,
        "cooldown": 0,
        "reductions": 0,
    }

    def value_at(self, progress: P) -> P:
        """Return the value at ``progress`` with the reductions so far."""
        value: Any = self.value
        whole: P = value.value_at(progress)
        if not self.count:
            return whole
        return minimum(whole, maximum(whole * self.factor**self.count, self.minimum))  # type: ignore[no-any-return]

    def after(self, metric: float) -> Memory:
        """Return the memory after a metric: compare, cool down and reduce in PyTorch's order."""
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


class NewBob(Reducing):
    r"""Reduce a value when a metric has improved too little on the previous one [1].

    .. math:: v(p) = f^n\, v_{value}(p)

    n is the number of reductions so far. The metric m improves too little on the previous
    one, l, if (l - m) / l < ``threshold``. ``observe(metric)`` adds one to n if this has
    happened more than ``patience`` times since the last reduction. Metrics must be at least 0,
    and lower is better, as for losses and error rates. A metric that is infinite or NaN is no
    improvement, and the next metric is compared with the last finite one. In a ``Warmup``,
    metrics are ignored during the warm-up.

    Args:
        value: The value to reduce: a number, a scalar, or an expression of scalars, of which
            only the formula is used.
        factor: The factor f of a reduction, above 0 and below 1. Default: ``0.5``.
        threshold: The least improvement, as a fraction of the previous metric.
            Default: ``0.0025``.
        patience: The number of small improvements that change nothing; a large one does not
            reset the count. Default: ``0``.

    Raises:
        ValueError: A number is out of its range.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import NewBob
        >>> lr = NewBob(1.0)
        >>> [float(lr.observe(loss)) for loss in (10.0, 2.0, 2.5, 1.0, 0.999)]
        [1.0, 1.0, 0.5, 0.5, 0.25]

    On several ranks, observe the average of the metric over them, so that all ranks agree.

    [1]: SpeechBrain's ``NewBobScheduler``; the rule comes from the QuickNet tools.
    """

    value: Nested
    factor: Factor = 0.5
    threshold: checks.Real = 0.0025
    patience: CountFrom0 = 0

    monotone_pieces = True

    at_first: ClassVar[Mapping[str, int | None]] = {"previous": None, "bad": 0, "reductions": 0}

    def value_at(self, progress: P) -> P:
        """Return the value at ``progress`` with the reductions so far."""
        value: Any = self.value
        return value.value_at(progress) * self.factor**self.count  # type: ignore[no-any-return]

    def after(self, metric: float) -> Memory:
        """Return the memory after a metric, which becomes the previous one if finite."""
        if -math.inf < metric < 0:
            way_out = "Observe a loss or an error rate, or use ReduceOnPlateau."
            checks.fail("metric of NewBob", "at least 0", metric, way_out)
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
