"""Many scalars, one update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from .. import checks, sketch
from ..number.scalar import Expression, ScheduledScalar, View
from ..number.together import hold_all, leaves_of, load_all, observe_all, progress_of, update_all
from .horizon import Horizon

T = TypeVar("T")
Callback = Callable[[float, dict[str, float]], object]


class ScalarGroup(Mapping[str, ScheduledScalar]):
    """Named scalars that are updated by one call: a mapping from name to scalar.

    Args:
        scalars: A mapping from name to scalar, for names that are no Python names.
        named: Scalars by name.

    Raises:
        ValueError: There are no scalars, or two of one name.
        TypeError: A value is not a scalar, or a name not a string.

    Example:
        >>> from scalars import CosineAnnealing, Linear, ScalarGroup
        >>> lr, wd = CosineAnnealing(1.0), Linear(0.1, 0.0)
        >>> group = ScalarGroup(lr=lr, wd=wd, half=lr * 0.5)
        >>> group.update(0.5).snapshot()
        {'lr': 0.5, 'wd': 0.05, 'half': 0.25}
    """

    def __init__(
        self, scalars: Mapping[str, ScheduledScalar] | None = None, /, **named: ScheduledScalar
    ) -> None:
        scalars = {} if scalars is None else scalars
        if not isinstance(scalars, Mapping):
            checks.fail(
                "scalars", "a mapping from name to scalar", scalars, "Write lr=lr.", wrong_type=True
            )
        for name in scalars:
            if name in named:
                way_out = "Give one of them another name."
                checks.fail("a name in ScalarGroup", "that of one scalar", name, way_out)
        self._scalars = {**scalars, **named}
        for name, scalar in self._scalars.items():
            if not isinstance(name, str):
                checks.fail(
                    "a name in ScalarGroup", "a string", name, "Write lr=lr.", wrong_type=True
                )
            if not isinstance(scalar, ScheduledScalar):
                way_out = "A fixed number may be given as Constant(number)."
                checks.fail(
                    f"{name} in ScalarGroup", "a scheduled scalar", scalar, way_out, wrong_type=True
                )
        if not self._scalars:
            checks.fail(
                "ScalarGroup", "given at least one scalar", named, "Write ScalarGroup(lr=lr)."
            )
        self._leaves = leaves_of(self._scalars.values())
        self._uncertain = [one for one in self._scalars.values() if _is_uncertain(one)]
        self._callbacks: list[tuple[Callback]] = []
        self._steps: Any = None
        self._finished = True
        """Whether the items that were tracked last were tracked to the end of their horizon."""

    def __getitem__(self, name: str) -> ScheduledScalar:
        return self._scalars[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scalars)

    def __len__(self) -> int:
        return len(self._scalars)

    def __repr__(self) -> str:
        """Return the call that makes the group."""
        if all(name.isidentifier() for name in self):
            return (
                f"ScalarGroup({', '.join(f'{name}={scalar!r}' for name, scalar in self.items())})"
            )
        return f"ScalarGroup({self._scalars!r})"

    def __dir__(self) -> list[str]:
        """Return what a user calls, and not what ``attach`` does."""
        return sorted({*super().__dir__()} - {"become", "follow", "notify"})

    def _repr_html_(self) -> str:
        return "".join(sketch.html(f"{name} = {scalar!r}", scalar) for name, scalar in self.items())

    def update(self, progress: float) -> ScalarGroup:
        """Set the progress of every scalar, or of none if one of them cannot take it.

        Args:
            progress: The fraction of the run that is done, at least 0.

        Returns:
            The group itself.

        Raises:
            ValueError: ``progress`` is negative, infinite or NaN, or an expression of
                functions has no finite value there.
            TypeError: ``progress`` is not a real number.
        """
        for scalar in self._uncertain:
            checks.finite(scalar, min(checks.progress(progress), 1.0), in_force=True)
        update_all(self._leaves, progress)
        self.notify()
        return self

    def notify(self) -> None:
        """Call the subscribed callbacks with the progress and the values now.

        ``update`` does so, and an optimizer that was attached with a horizon after each
        update that is not in a compiled function.
        """
        if self._callbacks:
            progress, values = self.progress, self.snapshot()
            for (callback,) in tuple(self._callbacks):
                callback(progress, values)

    @property
    def progress(self) -> float:
        """How far the run is: the progress last given, or that of the optimizer's step.

        Raises:
            ValueError: The scalars were updated apart, and have no progress in common.
        """
        return progress_of("the group", self._leaves)

    def observe(self, metric: checks.Measured) -> ScalarGroup:
        """Tell every adaptive scalar in the group a metric, or none if one of them fails.

        On several ranks observe the metric averaged over them, so that all ranks do the
        same: ``mx.distributed.all_sum(loss) / mx.distributed.init().size()``.

        Args:
            metric: What they are driven by, such as the loss on held-out data.

        Returns:
            The group itself.

        Raises:
            ValueError: There is no adaptive scalar in the group.
            TypeError: ``metric`` is not a real number.

        Example:
            >>> import mlx.core as mx
            >>> from scalars import ReduceOnPlateau, ScalarGroup
            >>> group = ScalarGroup(lr=ReduceOnPlateau(1.0, factor=0.5, patience=0))
            >>> group.observe(0.3).observe(0.4).snapshot()
            {'lr': 0.5}
            >>> loss, ranks = mx.array(0.5), mx.distributed.init().size()
            >>> group.observe(mx.distributed.all_sum(loss) / ranks).snapshot()
            {'lr': 0.25}
        """
        observe_all("the group", self._leaves, metric)
        return self._changed()

    def hold(self, values: Mapping[str, float] | None = None, /, **named: float) -> ScalarGroup:
        """Hold scalars at values, by hand, until ``release`` is called; or change none of them.

        Args:
            values: A mapping from name to value, for names that are no Python names.
            named: Values by name, each a finite real number.

        Returns:
            The group itself.

        Raises:
            ValueError: A name is unknown, or that of an expression; or see
                ``ScheduledScalar.hold``.
            TypeError: A value is not a real number.

        Example:
            >>> from scalars import Linear, ScalarGroup
            >>> group = ScalarGroup(lr=Linear(1.0, 0.0), wd=Linear(0.1, 0.0))
            >>> group.hold(lr=0.2).update(0.5).snapshot()
            {'lr': 0.2, 'wd': 0.05}
            >>> group.held, group.release().snapshot()
            ({'lr': 0.2}, {'lr': 0.5, 'wd': 0.05})
        """
        held = {**({} if values is None else values), **named}
        hold_all(
            {
                self._named(name)._to_hold("hold"): checks.real(name, value)
                for name, value in held.items()
            }
        )
        return self._changed()

    def release(self, *names: str) -> ScalarGroup:
        """Undo ``hold`` of some scalars, or of all if no names are given.

        Args:
            names: Names of the group.

        Returns:
            The group itself.

        Raises:
            ValueError: A name is unknown, or that of an expression.
        """
        scalars = [self._named(name) for name in names or self.held]
        hold_all({scalar._to_hold("release"): None for scalar in scalars})
        return self._changed()

    @property
    def held(self) -> dict[str, float]:
        """The values of the scalars that are held, by name."""
        return {name: x.held for name, x in self._scalars.items() if x.held is not None}

    def _changed(self) -> ScalarGroup:
        """Tell the callbacks that the step that comes next has other values than they know."""
        if self._steps is not None:
            self.notify()
        return self

    def _named(self, name: str) -> ScheduledScalar:
        if name not in self._scalars:
            rule = f"one of {', '.join(map(repr, self._scalars))}"
            checks.fail("a name", rule, name, "Use a name of the group.")
        return self._scalars[name]

    def become(self, other: ScalarGroup) -> ScalarGroup:
        """Take the scalars of another group, and keep the callbacks: what ``attach`` calls."""
        self._scalars, self._leaves = other._scalars, other._leaves
        self._uncertain = other._uncertain
        return self

    def follow(self, steps: Any) -> None:
        """Follow the step of an optimizer from now on, or none: what ``attach`` calls."""
        self._steps = steps

    @property
    def step(self) -> int | None:
        """The steps that are done, where an optimizer drives the group; or else ``None``."""
        return None if self._steps is None else self._steps.on_host

    @property
    def horizon(self) -> Horizon | None:
        """The length of the run, where an optimizer drives the group; or else ``None``."""
        return None if self._steps is None else self._steps.horizon

    def snapshot(self) -> dict[str, float]:
        """Return the values now, as floats by name: what to log."""
        return {name: float(scalar) for name, scalar in self._scalars.items()}

    @property
    def state(self) -> dict[str, Any]:
        """The arrays that ``mx.compile(inputs=..., outputs=...)`` captures."""
        return {name: scalar.state for name, scalar in self._scalars.items()}

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback(progress, snapshot)`` after every update.

        Where the step of an optimizer drives the group, that is after each update by the
        optimizer that is not in a compiled function, with the progress and the values of
        the step that comes next; and again if ``observe``, ``hold`` or ``release`` of the
        group has changed them.

        Args:
            callback: A function of the progress and of the values by name.

        Returns:
            A function that ends the subscription.

        Raises:
            TypeError: ``callback`` cannot be called.

        Example:
            >>> from scalars import Linear, ScalarGroup
            >>> group = ScalarGroup(lr=Linear(1.0, 0.0))
            >>> unsubscribe = group.subscribe(lambda progress, values: print(progress, values))
            >>> _ = group.update(0.25)
            0.25 {'lr': 0.75}
            >>> unsubscribe()
        """
        if not callable(callback):
            way_out = "Pass a function such as lambda progress, values: print(values)."
            checks.fail("callback", "a function", callback, way_out, wrong_type=True)
        subscription = (callback,)  # an object of its own: a callback may be subscribed twice
        self._callbacks.append(subscription)

        def unsubscribe() -> None:
            self._callbacks = [one for one in self._callbacks if one is not subscription]

        return unsubscribe

    def track(self, items: Iterable[T], horizon: Horizon, start: int = 0) -> Iterator[T]:
        """Yield the items, and update the group before each: an item is a step.

        It also drives a trainer that takes an iterable of batches and has no place
        for an update.

        Args:
            items: The batches of the run, or of what remains of it.
            horizon: The length of the run.
            start: The step of the first item, when a run is resumed. Default: ``0``.

        Raises:
            ValueError: There are more items than steps in the horizon, ``start`` is not one
                of its steps, the group was left in the middle of other items that were further,
                or it is updated by somebody else meanwhile.
            TypeError: ``items`` cannot be iterated, or ``horizon`` is no ``Horizon``.

        Example:
            >>> from scalars import Horizon, Linear, ScalarGroup
            >>> group = ScalarGroup(lr=Linear(1.0, 0.0))
            >>> for batch in group.track("abcd", Horizon(4)):
            ...     print(batch, float(group["lr"]))
            a 1.0
            b 0.75
            c 0.5
            d 0.25
        """
        if not isinstance(horizon, Horizon):
            way_out = "Write Horizon(total_steps)."
            checks.fail("horizon", "a Horizon", horizon, way_out, wrong_type=True)
        if not isinstance(items, Iterable):
            checks.fail("items", "iterable", items, "Pass the batches.", wrong_type=True)
        if checks.count("start", start, least=0) >= horizon.total_steps:
            rule = f"below the steps in the horizon, {horizon.total_steps}"
            checks.fail("start", rule, start, "A run that is over has no items.")
        return self._tracked(items, horizon, start)

    def _tracked(self, items: Iterable[T], horizon: Horizon, start: int) -> Iterator[T]:
        reached = 0.0
        for step, item in enumerate(items, start):
            if step >= horizon.total_steps:
                rule = f"no more than the steps in the horizon, {horizon.total_steps}"
                way_out = "Take the first ones, or Horizon.extend() the run."
                checks.fail("the number of items", rule, step + 1, way_out)
            progress = horizon.progress(step)
            back = progress < self.progress and not self._finished
            if back if step == start else self.progress != reached:
                rule = f"left to the items, which are at {progress:.4g}"
                way_out = (
                    "Pass start=step to resume, or update(0) to begin again. A trainer that also "
                    "iterates for evaluation needs attach(optimizer, horizon=horizon) instead."
                )
                checks.fail("the progress of the group", rule, self.progress, way_out)
            self.update(progress)
            reached, self._finished = self.progress, False
            yield item
        if reached == horizon.progress(horizon.total_steps - 1):
            self._finished = True

    def check_ranks(self, model: Any = None) -> ScalarGroup:
        """Raise, on every rank, if the ranks do not hold the same.

        Compared are the scalars: their arguments, progress and values, what they have observed,
        and the step and the horizon of the optimizer that drives them; and all bits of a
        model's parameters, by checksums of 32 bits. Every rank must call it, at the same
        place, such as every hundredth step: it waits for the device and reduces some bytes. On
        one rank nothing is done.

        Args:
            model: A model, or a tree of arrays such as ``model.trainable_parameters()`` (the
                statistics of a batch norm are each rank's own) or ``optimizer.state``.
                Default: ``None``, only the scalars.

        Returns:
            The group itself.

        Raises:
            ValueError: Something differs. The error names it, and says what each rank has.
            TypeError: ``model`` is neither a model nor a tree of arrays.

        Example:
            >>> import mlx.nn as nn
            >>> from scalars import Linear, ScalarGroup
            >>> group, model = ScalarGroup(lr=Linear(1.0, 0.0)), nn.Linear(2, 1)
            >>> group.update(0.25).check_ranks(model).snapshot()
            {'lr': 0.75}
        """
        from .ranks import check_ranks

        return check_ranks(self, model)

    def state_dict(self) -> dict[str, Any]:
        """Return where every scalar is, in plain numbers that JSON can hold.

        Example:
            >>> from scalars import Linear, ScalarGroup
            >>> group = ScalarGroup(lr=Linear(1.0, 0.0)).update(0.25)
            >>> saved = group.state_dict()
            >>> saved
            {'lr': {'progress': 0.25}}
            >>> ScalarGroup(lr=Linear(1.0, 0.0)).load_state_dict(saved).snapshot()
            {'lr': 0.75}
        """
        return {name: scalar.state_dict() for name, scalar in self._scalars.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> ScalarGroup:
        """Put every scalar where it was, or change nothing if the state does not fit.

        Args:
            state: What ``state_dict`` of a group of the same names returned.

        Returns:
            The group itself.

        Raises:
            ValueError: Names are missing or unknown, or a progress is out of range.
            TypeError: ``state`` is not a mapping, or a progress not a number.
        """
        checks.keys("the state of ScalarGroup", state, self._scalars)
        scalars = self._scalars.items()
        load_all(one for name, scalar in scalars for one in scalar.loadable(state[name]))
        return self


def _is_uncertain(scalar: ScheduledScalar) -> bool:
    """Return whether an expression may have no finite value, as its range is not known."""
    while isinstance(scalar, View):
        scalar = scalar.scalar
    return isinstance(scalar, Expression) and not all(map(math.isfinite, scalar.bounds))
