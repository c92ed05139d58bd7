"""Groups of scalars that one call updates together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from .. import checks, sketch
from ..number.scalar import Expression, ScheduledScalar
from ..number.together import hold_all, leaves_of, load_all, observe_all, progress_of, update_all
from .callbacks import Callback, Callbacks
from .horizon import Horizon, check_horizon

T = TypeVar("T")


class ScalarGroup(Mapping[str, ScheduledScalar]):
    """A mapping from names to scalars that one call updates together.

    Args:
        scalars: A mapping from name to scalar, for names that are not Python identifiers.
        named: Scalars by name.

    Raises:
        ValueError: There are no scalars, or two of them have the same name.
        TypeError: A value is not a scalar, or a name is not a string.

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
                way_out = "Rename one of the two."
                checks.fail("a name in ScalarGroup", "unique", name, way_out)
        self._scalars = {**scalars, **named}
        for name, scalar in self._scalars.items():
            if not isinstance(name, str):
                checks.fail(
                    "a name in ScalarGroup", "a string", name, "Write lr=lr.", wrong_type=True
                )
            if not isinstance(scalar, ScheduledScalar):
                way_out = "Wrap a plain number in Constant(number)."
                checks.fail(
                    f"{name} in ScalarGroup", "a scheduled scalar", scalar, way_out, wrong_type=True
                )
        if not self._scalars:
            checks.fail(
                "ScalarGroup", "given at least one scalar", named, "Write ScalarGroup(lr=lr)."
            )
        self._leaves = leaves_of(self._scalars.values())
        self._uncertain = [one for one in self._scalars.values() if _is_uncertain(one)]
        self.callbacks = Callbacks()
        self.loads = 0
        """How many times the state of an optimizer that drives the group was loaded."""
        self._steps: Any = None
        self._left: int | None = None
        """The last step of ``track``; ``None`` if it reached the end of its horizon."""

    def __getitem__(self, name: str) -> ScheduledScalar:
        if name not in self._scalars:
            raise KeyError(f"{name!r} is none of the names in the group: {', '.join(self)}")
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
        """Leave out the methods that only ``attach`` calls."""
        internal = {"become", "callbacks", "changed", "check_finite", "follow", "loads", "notify"}
        return sorted({*super().__dir__()} - internal)

    def _repr_html_(self) -> str:
        return "".join(sketch.html(f"{name} = {scalar!r}", scalar) for name, scalar in self.items())

    def update(self, progress: float) -> ScalarGroup:
        """Set the progress of every scalar; if one of them fails, none of them changes.

        Args:
            progress: The fraction of the run that is done, at least 0.

        Returns:
            The group itself.

        Raises:
            ValueError: ``progress`` is negative, infinite or NaN, or an expression has no
                finite value there.
            TypeError: ``progress`` is not a real number.
        """
        if self._uncertain:
            self.check_finite([checks.progress(progress)])
        update_all(self._leaves, progress)
        self.notify()
        return self

    def check_finite(self, progresses: Iterable[float]) -> None:
        """Raise ``ValueError`` if an expression of unknown range has no finite value at one."""
        for scalar in self._uncertain:
            for progress in progresses:
                checks.finite(scalar, min(progress, 1.0), in_force=True)

    def notify(self) -> None:
        """Call the subscribed callbacks with the current progress and values.

        ``update`` calls this. An optimizer that is attached with a horizon calls it after
        each update outside a compiled function. If a callback changes the values, by ``hold`` or
        ``observe``, the later ones get the new values, and with a horizon the earlier ones, which
        have changed nothing, are called again.
        """
        self.callbacks.call(lambda: (self.progress, self.snapshot()), again=self._steps is not None)

    @property
    def progress(self) -> float:
        """The progress of the run, as last set or as given by the optimizer's step.

        Raises:
            ValueError: The scalars were updated separately and differ in progress.
        """
        return progress_of("the group", self._leaves)

    def observe(self, metric: checks.Measured) -> ScalarGroup:
        """Pass a metric to every adaptive scalar; if one of them fails, none of them changes.

        On several ranks, pass the average over all ranks, so that every rank makes the same
        decision: ``mx.distributed.all_sum(loss) / mx.distributed.init().size()``.

        Args:
            metric: The metric, such as the loss on held-out data.

        Returns:
            The group itself.

        Raises:
            ValueError: The group has no adaptive scalar.
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
        observe_all(self, self._leaves, metric)
        return self.changed()

    def hold(self, values: Mapping[str, float] | None = None, /, **named: float) -> ScalarGroup:
        """Hold scalars at fixed values until ``release`` is called; on an error, change none.

        Args:
            values: A mapping from name to value, for names that are not Python identifiers.
            named: Values by name, each a finite real number.

        Returns:
            The group itself.

        Raises:
            ValueError: A name is unknown or names an expression, ``ScheduledScalar.hold``
                rejects a value, or an expression in the group would have no finite value.
            TypeError: A value is not a real number.

        Example:
            >>> from scalars import Linear, ScalarGroup
            >>> group = ScalarGroup(lr=Linear(1.0, 0.0), wd=Linear(0.1, 0.0))
            >>> group.hold(lr=0.2).update(0.5).snapshot()
            {'lr': 0.2, 'wd': 0.05}
            >>> group.held, group.release().snapshot()
            ({'lr': 0.2}, {'lr': 0.5, 'wd': 0.05})
        """
        if not isinstance(values, (Mapping, type(None))):
            way_out = "Write hold(name=value)."
            checks.fail("values", "a mapping from name to value", values, way_out, wrong_type=True)
        held = {**(values or {}), **named}
        given = {
            self._named(name)._to_hold("hold"): checks.real(name, value)
            for name, value in held.items()
        }
        before = {leaf: leaf.held for leaf in given}
        hold_all(given)
        try:
            self._check_expressions()
        except ValueError:
            hold_all(before)
            raise
        return self.changed()

    def _check_expressions(self) -> None:
        """Raise ``ValueError`` if a held value gives an expression no finite value."""
        for scalar in self._scalars.values():
            held = any(leaf.held is not None for leaf in scalar.leaves)
            if held and isinstance(scalar, Expression) and not _is_uncertain(scalar):
                for knot in scalar.knots:
                    checks.finite(scalar, knot, in_force=True)

    def release(self, *names: str) -> ScalarGroup:
        """Release the named scalars, or all of them, also in expressions, if no names are given.

        Args:
            names: Names in the group.

        Returns:
            The group itself.

        Raises:
            ValueError: A name is unknown or names an expression.
        """
        leaves = [self._named(name)._to_hold("release") for name in names]
        if not names:
            leaves = [leaf for leaf in self._leaves if leaf.held is not None]
        hold_all(dict.fromkeys(leaves))
        return self.changed()

    @property
    def held(self) -> dict[str, float]:
        """The values of the held scalars, by name."""
        return {name: x.held for name, x in self._scalars.items() if x.held is not None}

    def changed(self) -> ScalarGroup:
        """Call the callbacks again, as the values of the next step have changed."""
        if self._steps is not None:
            self.notify()
        return self

    def _named(self, name: str) -> ScheduledScalar:
        if name not in self._scalars:
            rule = f"one of {', '.join(map(repr, self._scalars))}"
            checks.fail("a name", rule, name, "Use a name that is in the group.")
        return self._scalars[name]

    def become(self, other: ScalarGroup) -> ScalarGroup:
        """Take over the scalars of another group and keep the callbacks; called by ``attach``."""
        self._scalars, self._leaves = other._scalars, other._leaves
        self._uncertain = other._uncertain
        return self

    def follow(self, steps: Any) -> None:
        """Follow the step of an optimizer, or none; called by ``attach``."""
        self._steps = steps

    @property
    def step(self) -> int | None:
        """The number of steps done if an optimizer drives the group, else ``None``."""
        return None if self._steps is None else self._steps.on_host

    @property
    def horizon(self) -> Horizon | None:
        """The horizon of the run if an optimizer drives the group, else ``None``."""
        return None if self._steps is None else self._steps.horizon

    def snapshot(self) -> dict[str, float]:
        """Return the current values as floats, by name, for logging."""
        return {name: float(scalar) for name, scalar in self._scalars.items()}

    @property
    def state(self) -> dict[str, Any]:
        """The arrays that ``mx.compile(inputs=..., outputs=...)`` captures.

        Capture ``optimizer.state`` instead if the scalars are attached to an optimizer: with a
        horizon they need its step, too.
        """
        return {name: scalar.state for name, scalar in self._scalars.items()}

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback(progress, snapshot)`` after every update.

        If the step of an optimizer drives the group, the callback is called after each
        optimizer update outside a compiled function, with the progress and the values of the
        next step. It is called again if ``observe``, ``hold``, ``release``, or ``attach`` with
        another horizon, changes them. If a callback raises an error, what it was called for has
        been done.

        Args:
            callback: A function of the progress and of a dict of the values by name.

        Returns:
            A function that ends the subscription.

        Raises:
            TypeError: ``callback`` is not callable.

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
        return self.callbacks.add(callback)

    def track(self, items: Iterable[T], horizon: Horizon, start: int = 0) -> Iterator[T]:
        """Yield the items and update the group before each of them; each item is one step.

        It also works with a trainer that takes an iterable of batches and offers no place to
        call ``update``.

        Args:
            items: The batches of the run, or the remaining ones when a run is resumed.
            horizon: The length of the run.
            start: The step of the first item. Set it to resume a run. Default: ``0``.

        Raises:
            ValueError: There are more items than steps in the horizon, ``start`` is not one
                of its steps, an unfinished ``track`` had reached a later step, or other code
                updates the group at the same time.
            TypeError: ``items`` is not iterable, or ``horizon`` is not a ``Horizon``.

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
        check_horizon(horizon)
        if not isinstance(items, Iterable):
            checks.fail("items", "iterable", items, "Pass an iterable of batches.", wrong_type=True)
        if checks.count("start", start, least=0) >= horizon.total_steps:
            rule = f"below the steps in the horizon, {horizon.total_steps}"
            checks.fail("start", rule, start, "Pass the number of steps that are done.")
        return self._tracked(items, horizon, start)

    def _tracked(self, items: Iterable[T], horizon: Horizon, start: int) -> Iterator[T]:
        reached = 0.0
        for step, item in enumerate(items, start):
            if step >= horizon.total_steps:
                rule = f"at most the steps in the horizon, {horizon.total_steps}"
                way_out = "Pass fewer items, or extend the run with Horizon.extend()."
                checks.fail("the number of items", rule, step + 1, way_out)
            progress = horizon.progress(step)
            left = self._left is not None and step <= self._left  # or else the horizon jumps back
            back = left and progress < self.progress
            if back if step == start else self.progress != reached:
                rule = f"set by the items only, which are at {progress:.4g}"
                way_out = (
                    "Pass start=step to resume, or call update(0) to start again. If the trainer "
                    "also iterates for evaluation, use attach(optimizer, horizon=horizon)."
                )
                checks.fail("the progress of the group", rule, self.progress, way_out)
            self.update(progress)
            reached, self._left = self.progress, step
            yield item
        if reached == horizon.progress(horizon.total_steps - 1):
            self._left = None

    def check_ranks(self, model: Any = None) -> ScalarGroup:
        """Raise an error on every rank if the state of the ranks differs.

        The check compares the scalars (their arguments, progress, values and observed
        metrics), the step and the horizon of the optimizer that drives them, and the
        parameters of a model by 32-bit checksums of all their bits. All ranks must call it at
        the same point. It waits for the device and communicates a few bytes, so call it every
        hundred steps, for example. On one rank it does nothing.

        Args:
            model: A model, or a tree of arrays such as ``optimizer.state`` or
                ``model.trainable_parameters()``, which leaves out the statistics of batch norms
                (they differ between ranks). Default: ``None``, only the scalars.

        Returns:
            The group itself.

        Raises:
            ValueError: The ranks differ. The error names what differs and its value on each rank.
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
        """Return the state of every scalar as plain data that JSON can store.

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
        """Restore every scalar; if the state does not fit, nothing changes.

        Args:
            state: The ``state_dict`` of a group with the same names.

        Returns:
            The group itself.

        Raises:
            ValueError: Names are missing or unknown, or a progress is out of range.
            TypeError: ``state`` is not a mapping, or a progress is not a number.
        """
        checks.keys("the state of ScalarGroup", state, self._scalars)
        scalars = self._scalars.items()
        load_all(one for name, scalar in scalars for one in scalar.loadable(state[name]))
        return self


class Grouped:
    """The base of objects other than groups whose scalars ``attach`` finds, such as ``Phases``."""

    group: ScalarGroup


def check_group(value: Any) -> None:
    """Raise ``TypeError`` if an argument ``group`` is no ``ScalarGroup``."""
    if not isinstance(value, ScalarGroup):
        way_out = "Pass what attach returned, or ScalarGroup(lr=lr)."
        checks.fail("group", "a ScalarGroup", value, way_out, wrong_type=True)


def _is_uncertain(scalar: ScheduledScalar) -> bool:
    """Return whether a scalar is an expression of unknown range, whose value may not be finite."""
    return isinstance(scalar, Expression) and not all(map(math.isfinite, scalar.bounds))
