"""A value that increases while a metric improves, and decreases while it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from .. import checks
from ..checks import AtLeast0, Count, CountFrom0, Factor, Real
from ..functions import P
from .base import Adaptive, Memory, Mode, ThresholdMode, improves


class Greedy(Adaptive):
    r"""Increase a value while a metric improves, or else decrease it: GreedyLR [1].

    .. math:: v \leftarrow \min(v / f, b) \quad \text{or} \quad v \leftarrow \max(f v, a)

    when ``observe(metric)`` has received more than ``patience`` metrics in a row that improve
    on the best, or that do not. The next ``warmup`` metrics after an increase, or ``cooldown``
    metrics after a decrease, are ignored. After ``reset_after`` decreases at the minimum,
    without an increase between them, the value restarts from ``start``, and the best is
    forgotten. The value does not depend on the progress. A metric that is infinite or NaN is
    never an improvement. In a ``Warmup``, metrics are ignored during the warm-up.

    Args:
        start: The value before the first metric, often 10 times that of other schedules.
        factor: The factor f, above 0 and below 1. Default: ``0.95``.
        patience: The number of metrics in a row that change nothing. Default: ``10``.
        mode: "min" if lower metrics are better, "max" if higher ones are. Default: ``"min"``.
        threshold: The least change that is an improvement, at least 0. Default: ``1e-6``.
        threshold_mode: "abs", or "rel" for a fraction of the best. Default: ``"abs"``.
        cooldown: The number of metrics to ignore after a decrease. Default: ``0``.
        warmup: The number of metrics to ignore after an increase. Default: ``0``.
        minimum: The least value a of a decrease. Default: ``1e-3``.
        maximum: The largest value b of an increase. Default: ``1.0``.
        eps: A change must be larger than this to be made. Default: ``1e-8``.
        reset_after: The number of decreases at the minimum after which the value restarts,
            at least 1. Default: ``500``.

    Raises:
        ValueError: A number is out of its range, a mode is unknown, or ``minimum`` is above
            ``maximum``.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import Greedy
        >>> lr = Greedy(0.1, factor=0.5, patience=1)
        >>> [float(lr.observe(loss)) for loss in (3.0, 2.0, 1.0, 1.0, 1.0, 1.0)]
        [0.1, 0.2, 0.2, 0.2, 0.1, 0.1]

    On several ranks, observe the average of the metric over them, so that all ranks agree.

    [1]: "greedy" in Hugging Face's transformers. Balasubramanian, S. et al., 2025. GreedyLR: A
    novel adaptive learning rate scheduler. arXiv:2512.14527. For its ``smooth=True``, observe
    the average of the last metrics.
    """

    start: Real
    factor: Factor = 0.95
    patience: CountFrom0 = 10
    mode: Mode = "min"
    threshold: AtLeast0 = 1e-6
    threshold_mode: ThresholdMode = "abs"
    cooldown: CountFrom0 = 0
    warmup: CountFrom0 = 0
    minimum: Real = 1e-3
    maximum: Real = 1.0
    eps: AtLeast0 = 1e-8
    reset_after: Count = 500

    monotone_pieces = True

    at_first: ClassVar[Mapping[str, int | None]] = {
        "best": None,
        "good": 0,
        "bad": 0,
        "cooldown": 0,
        "warmup": 0,
        "at_minimum": 0,
        "value": None,
    }
    counted: ClassVar[str] = "value"
    waits_for_warmup: ClassVar[bool] = True

    def check_together(self) -> None:
        """Check that the minimum is not above the maximum."""
        if self.minimum > self.maximum:
            rule = f"at most maximum, {self.maximum}"
            checks.fail("minimum of Greedy", rule, self.minimum, "Pass a smaller minimum.")

    def value_at(self, progress: P) -> P:
        """Return the value that results from the metrics so far."""
        value = self.start if self.count is None else self.count
        return value + 0 * progress

    def after(self, metric: float) -> Memory:
        """Return the memory after a metric, computed in the same order as in transformers."""
        now = dict(self.memory)
        for pause in ("cooldown", "warmup"):
            if now[pause]:
                return {**now, pause: now[pause] - 1, "good": 0, "bad": 0}
        if improves(metric, now["best"], self.mode, self.threshold, self.threshold_mode):
            now.update(best=metric, good=now["good"] + 1, bad=0)
        else:
            now.update(good=0, bad=now["bad"] + 1)
        value = self.start if now["value"] is None else now["value"]
        if now["good"] > self.patience:
            raised = min(value / self.factor, self.maximum)
            value = raised if raised - value > self.eps else value
            now.update(value=value, good=0, warmup=self.warmup, at_minimum=0)
        elif now["bad"] > self.patience:
            lowered = max(value * self.factor, self.minimum)
            value = lowered if value - lowered > self.eps else value
            now.update(value=value, bad=0, cooldown=self.cooldown)
            now["at_minimum"] += value <= self.minimum
            if now["at_minimum"] >= self.reset_after:
                now = {**self.at_first, "cooldown": self.cooldown}
        return now

    @property
    def possible(self) -> Sequence[Memory]:
        """The memories of the start value and of the bounds that it may reach."""
        ends = (min(self.start, self.minimum), max(self.start, self.maximum))
        return [{**self.at_first, "value": value} for value in (None, *ends)]
