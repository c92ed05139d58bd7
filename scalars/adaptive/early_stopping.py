"""A signal to stop training when a metric has stopped improving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ..checks import AtLeast0, Count
from ..functions import P
from .base import Adaptive, Memory, Mode, ThresholdMode, improves


class EarlyStopping(Adaptive):
    r"""Signal with 1 that a metric has stopped improving; the value is 0 before [1].

    .. math:: v(p) = \begin{cases} 1 & n \ge \text{patience} \\ 0 & \text{else} \end{cases}

    n is the number of calls of ``observe(metric)`` since the last improvement. The value is
    the same at every progress. Test it with ``if stop:``. ``improved`` is whether the last
    metric was an improvement, ``best`` is the best metric so far, and ``patience_left`` counts
    down to 0. An improvement resets n, so that a value of 1 can return to 0.

    The rule for an improvement is that of ``ReduceOnPlateau``. The first finite metric is an
    improvement; a metric that is infinite or NaN never is.

    Args:
        patience: The number of metrics in a row without improvement after which to stop, at
            least 1. Default: ``10``.
        mode: "min" if lower metrics are better, "max" if higher ones are. Default: ``"min"``.
        threshold: The least change that is an improvement, at least 0. Default: ``0.0``.
        threshold_mode: "abs", or "rel" for a fraction of the best. Default: ``"abs"``.

    Raises:
        ValueError: A number is out of its range, or a mode is unknown.
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import EarlyStopping, ScalarGroup
        >>> stop = EarlyStopping(patience=2)
        >>> group = ScalarGroup(stop=stop)  # or attach(optimizer, stop=stop), to be saved with it
        >>> for epoch, loss in enumerate([3.0, 2.0, 2.5, 2.1, 1.0]):
        ...     _ = group.observe(loss)
        ...     if stop.improved:
        ...         print("save the weights of epoch", epoch)
        ...     if stop:
        ...         break
        save the weights of epoch 0
        save the weights of epoch 1
        >>> epoch, stop.best, stop.patience_left
        (3, 2.0, 0)

    On several ranks, observe the average of the metric over them, so that all ranks stop together.

    [1]: ``EarlyStopping`` of Keras and PyTorch Lightning, with ``min_delta=threshold``.
    """

    patience: Count = 10
    mode: Mode = "min"
    threshold: AtLeast0 = 0.0
    threshold_mode: ThresholdMode = "abs"

    monotone_pieces = True

    for_users = ("best", "improved", "patience_left")
    at_first: ClassVar[Mapping[str, int | None]] = {"best": None, "since": 0}
    counted: ClassVar[str] = "since"

    def value_at(self, progress: P) -> P:
        """Return 1 to stop, or else 0."""
        return 0 * progress + float(self.count >= self.patience)

    def after(self, metric: float) -> Memory:
        """Return the memory after a metric."""
        best, since = self.memory.values()
        if improves(metric, best, self.mode, self.threshold, self.threshold_mode):
            return {"best": metric, "since": 0}
        return {"best": best, "since": since + 1}

    def counts(self, memory: Memory) -> bool:
        """Return whether to stop."""
        stop: bool = memory["since"] >= self.patience
        return stop

    @property
    def best(self) -> float | None:
        """The best metric so far; ``None`` before the first finite one."""
        best: float | None = self.memory["best"]
        return best

    @property
    def improved(self) -> bool:
        """Whether the last metric was an improvement."""
        return self.best is not None and self.memory["since"] == 0

    @property
    def patience_left(self) -> int:
        """The number of further metrics without improvement until the value is 1."""
        since: int = self.memory["since"]
        return max(self.patience - since, 0)

    @property
    def possible(self) -> Sequence[Memory]:
        """The memories of the values 0 and 1."""
        return [{**self.at_first, "since": n} for n in (0, self.patience)]
