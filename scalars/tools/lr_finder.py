"""The learning rate range test, which suggests a learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Optimizer

from .. import checks, words
from ..optimizers.discover import members
from ..schedules.annealing import Exponential
from ..terminal import Progress
from .randomness import random_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")
SUGGESTIONS = ("valley", "steepest", "minimum")
DIVERGED = 4.0
"""The test stops when the smoothed loss exceeds its minimum by this factor."""
FEW_BATCHES = """\
The batches of the learning rate test came to an end after {tried} of {steps} rates, so the \
higher rates were not tried. Pass a list or a data set, which can be iterated again, or lower \
steps."""


@dataclass(frozen=True)
class LearningRateTest:
    """The result of a learning rate range test: rates, losses and suggested rates.

    The suggestions are those of fast.ai. They use the smoothed losses and, if there are at
    least 20, leave out the first tenth and the last five.

    Args:
        learning_rates: The rates that were tried, increasing.
        losses: The loss at each rate, before the step with it.
        smoothed: The running average of the losses at each rate.

    Raises:
        ImportError: ``plot`` is called, and matplotlib is not installed.

    Example:
        >>> from scalars import LearningRateTest
        >>> LearningRateTest([0.01, 0.1, 1.0, 10.0], [3, 2.5, 1, 4], [3, 2.5, 1, 4])
        <LearningRateTest: 4 rates from 0.01 to 10; valley 0.01, steepest 0.1, minimum 0.1>
    """

    learning_rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]

    @property
    def valley(self) -> float:
        """The rate half-way along the longest descent of the loss, a cautious choice."""
        rates, losses = self._middle()
        lengths = [1] * len(losses)
        for i, loss in enumerate(losses):
            longer = [lengths[j] + 1 for j in range(i) if loss < losses[j]]
            lengths[i] = max([1, *longer])
        end = lengths.index(max(lengths))
        begin = end - max(lengths) + 1
        third = (end - begin) / 3
        return rates[begin + int(third) + int(third / 2)]

    @property
    def steepest(self) -> float:
        """The rate at which the loss falls fastest over the logarithm of the rate."""
        rates, losses = self._middle()
        slopes = [after - before for before, after in pairwise(losses)]
        return rates[slopes.index(min(slopes))]

    @property
    def minimum(self) -> float:
        """A tenth of the rate at which the loss is smallest."""
        rates, losses = self._middle()
        return rates[losses.index(min(losses))] / 10

    def __repr__(self) -> str:
        """Return the range of the rates and the suggestions."""
        rates = self.learning_rates
        found = [f"{name} {getattr(self, name):.2g}" for name in SUGGESTIONS]
        tried = f"{len(rates)} rates from {rates[0]:.2g} to {rates[-1]:.2g}"
        return f"<LearningRateTest: {tried}; {', '.join(found)}>"

    def _middle(self) -> tuple[Sequence[float], Sequence[float]]:
        count = len(self.smoothed)
        kept = slice(count // 10, count - 5) if count >= 20 else slice(None)
        return self.learning_rates[kept], self.smoothed[kept]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot the losses over the rates with the suggestions, and return the matplotlib axes.

        Args:
            ax: The axes to draw in. Default: ``None``, new axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from .plotting import draw_rates

        losses = {"loss": self.losses, "smoothed": self.smoothed}
        suggestions = {name: getattr(self, name) for name in SUGGESTIONS}
        return draw_rates(self.learning_rates, losses, suggestions, ax)


def find_learning_rate(  # noqa: PLR0913, PLR0917 - the arguments of a whole training run
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[..., mx.array],
    batches: Iterable[Any],
    start: float = 1e-7,
    end: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.98,
    compile: bool = False,
) -> LearningRateTest:
    r"""Run the learning rate range test: train with a rate that grows at every step [1].

    .. math:: r_t = s \left(\frac{e}{s}\right)^{t / (T - 1)}, \quad t = 0, ..., T - 1

    The test stops when the loss is not finite, or when the smoothed loss exceeds four times
    its minimum. Then everything is restored, also after an error: the parameters and other
    arrays of the model, the mode of its modules, the optimizer with its state, and MLX's
    random state. During the test, the tried rate replaces a scheduled rate and all rates of a
    ``MultiOptimizer``. On several ranks, all of which must call it, losses and gradients are
    averaged. All ranks try the same rates and stop together, at the latest when the batches of
    one of them end. On a terminal, a line shows the progress of the test.

    Args:
        model: The model. It is in training mode during the test.
        optimizer: The optimizer of the model.
        loss_fn: The loss function, called as ``loss_fn(model, *batch)``. If it returns a tuple,
            such as mlx-lm's loss and number of tokens, the first item is the loss.
        batches: Batches, such as tuples ``(x, y)``. If there are too few, they are iterated
            again if possible. A warning is given if they end before all rates are tried.
        start: The first rate s, above 0. Default: ``1e-7``.
        end: The last rate e, above ``start``. Default: ``10.0``.
        steps: The number of steps T, at least 2. Default: ``100``.
        smoothing: The weight of past losses in the smoothed loss, at least 0 and below 1.
            Default: ``0.98``.
        compile: Whether the step is compiled. Default: ``False``.

    Returns:
        The rates and losses, with the suggestions ``valley``, ``steepest`` and ``minimum``,
        and ``plot()``.

    Raises:
        ValueError: A number is out of its range, or there are fewer than two finite losses.
        TypeError: An argument is of the wrong type.

    Example:
        >>> import mlx.core as mx
        >>> import mlx.nn as nn
        >>> import mlx.optimizers as optim
        >>> from scalars import find_learning_rate
        >>> x = mx.random.normal((64, 4), key=mx.random.key(0))
        >>> model = nn.Linear(4, 1)
        >>> loss = lambda model, x, y: ((model(x) - y) ** 2).mean()
        >>> found = find_learning_rate(model, optim.SGD(0.0), loss, [(x, x[:, :1])], start=1e-4)
        >>> 0.01 < found.valley < found.minimum < 1
        True

    [1]: Smith, L. N., 2017. Cyclical learning rates for training neural networks. WACV
    2017. The suggestions are those of fast.ai's ``lr_find``.
    """
    _check(model, optimizer, loss_fn, batches)
    rates = _rates(start, end, checks.count("steps", steps, least=2))
    if not 0 <= checks.real("smoothing", smoothing) < 1:
        checks.fail("smoothing", "at least 0 and below 1", smoothing, "Pass a number such as 0.98.")
    checks.flag("compile", compile)
    with _silent(optimizer), _put_back(model, optimizer):
        step = _step(model, optimizer, loss_fn, compile)
        pairs = _on_all_ranks(zip(rates, _again(batches), strict=False))
        tried, losses, smoothed, over = _run(optimizer, step, pairs, smoothing, steps)
        over = over and len(tried) < steps
    if over:
        words.warn(FEW_BATCHES.format(tried=len(tried), steps=steps))
    if len(losses) < 2:
        way_out = "Pass more batches or a lower start."
        checks.fail("the number of finite losses", "at least 2", losses, way_out)
    return LearningRateTest(tried, losses, smoothed)


def _check(model: Any, optimizer: Any, loss_fn: Any, batches: Any) -> None:
    wrong = {
        "model": (isinstance(model, nn.Module), "an mlx.nn.Module", model),
        "optimizer": (isinstance(optimizer, Optimizer), "an MLX optimizer", optimizer),
        "loss_fn": (callable(loss_fn), "a function of the model and a batch", loss_fn),
        "batches": (isinstance(batches, Iterable), "iterable", batches),
    }
    for name, (right, rule, value) in wrong.items():
        if not right:
            way_out = "Call find_learning_rate(model, optimizer, loss_fn, batches)."
            checks.fail(name, rule, value, way_out, wrong_type=True)


def _rates(start: float, end: float, steps: int) -> list[float]:
    if checks.positive("end", end) <= checks.positive("start", start):
        checks.fail("end", f"above start, {start}", end, "Pass a larger number.")
    growing = Exponential(start, end)
    return [growing.at(i / (steps - 1)) for i in range(steps)]


def _again(batches: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the batches, repeatedly if they can be iterated again."""
    seen = True
    while seen:
        seen = False
        for batch in batches:
            seen = True
            yield tuple(batch) if isinstance(batch, (list, tuple)) else (batch,)


def _on_all_ranks(items: Iterator[T]) -> Iterator[T]:
    """Yield the items as long as every rank has one."""
    ranks = mx.distributed.init().size()
    while True:
        item = next(items, None)
        there: Any = mx.distributed.all_sum(mx.array(int(item is not None))).item()
        if item is None or there < ranks:
            return
        yield item


def _step(
    model: nn.Module, optimizer: Optimizer, loss_fn: Callable[..., mx.array], compile: bool
) -> Callable[..., float]:
    """Return a function that makes a step and returns the loss before the step."""
    loss_and_grad = nn.value_and_grad(model, loss_fn)
    ranks = mx.distributed.init().size()

    def step(*batch: Any) -> mx.array:
        loss, grads = loss_and_grad(model, *batch)
        loss = loss[0] if isinstance(loss, tuple) else loss
        if ranks > 1:
            loss = mx.distributed.all_sum(loss.astype(mx.float32)) / ranks
            grads = nn.average_gradients(grads)
        optimizer.update(model, grads)
        return loss  # type: ignore[no-any-return]

    state: Any = [model.state, optimizer.state, mx.random.state]
    function: Any = step
    if compile:
        parameters: Any = model.trainable_parameters()  # type: ignore[no-untyped-call]
        optimizer.init(parameters)
        function = mx.compile(step, inputs=state, outputs=state)

    def loss_of(*batch: Any) -> float:
        loss = function(*batch)
        mx.eval(loss, state)
        return float(loss.item())

    return loss_of


def _run(
    optimizer: Optimizer,
    step: Callable[..., float],
    pairs: Iterable[tuple[float, tuple[Any, ...]]],
    smoothing: float,
    steps: int,
) -> tuple[list[float], list[float], list[float], bool]:
    """Return rates, losses and smoothed losses, and whether the batches came to an end."""
    tried: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    average = 0.0
    with Progress() as progress:
        for rate, batch in pairs:
            loss = f", loss {losses[-1]:.3g}" if losses else ""
            progress.show(f"learning rate test: step {len(tried) + 1} of {steps}{loss}")
            optimizer.learning_rate = rate
            value = step(*batch)
            if not math.isfinite(value):
                return tried, losses, smoothed, False
            average = smoothing * average + (1 - smoothing) * value
            tried.append(rate)
            losses.append(value)
            smoothed.append(average / (1 - smoothing ** len(losses)))
            if smoothed[-1] > DIVERGED * min(smoothed) > 0:
                return tried, losses, smoothed, False
    return tried, losses, smoothed, True


@contextmanager
def _silent(optimizer: Optimizer) -> Iterator[None]:
    """Tell nobody of the updates of the test, if the optimizer is attached."""
    attachment = getattr(optimizer, "_attachment", None)
    if attachment is None:
        yield
    else:
        with attachment.group.callbacks.silent(), attachment.idle.paused():
            yield


@contextmanager
def _put_back(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Restore everything at the end; until then no rate is scheduled."""
    modules: list[Any] = model.modules()  # type: ignore[no-untyped-call]
    modes = [(module, module._training) for module in modules]
    optimizers: list[Any] = list(members(optimizer))
    attributes = [(one, dict(vars(one))) for one in optimizers]
    seed = random_seed()
    containers = [*_containers(model), *_containers([one._state for one in optimizers])]
    try:
        for one in optimizers:
            one._schedulers = {k: v for k, v in one._schedulers.items() if k != "learning_rate"}
        model.train()
        yield
    finally:
        for container, contents in containers:
            _refill(container, contents)
        for one, kept in attributes:
            vars(one).clear()
            vars(one).update(kept)
        for module, mode in modes:
            module._training = mode
        mx.random.seed(seed)


def _containers(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every dict, list and module in a tree, with a copy of its contents."""
    if isinstance(value, (dict, list)):
        yield value, value.copy() if isinstance(value, list) else dict(value)
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _containers(item)


def _refill(container: Any, contents: Any) -> None:
    if isinstance(container, list):
        container[:] = contents
    else:
        dict.clear(container)  # nn.Module overrides update
        dict.update(container, contents)
