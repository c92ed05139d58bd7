"""Random sequences of all that is done to scalars, held to a model of plain floats."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mlx.utils import tree_flatten

import scalars
from scalars import (
    CosineAnnealing,
    Horizon,
    LambdaValue,
    Linear,
    ReduceOnPlateau,
    ScalarGroup,
    ScheduledScalar,
    StepDecay,
    ThresholdSwitch,
    Warmup,
    attach,
    detach,
)

from .helpers import Traced, assert_same, reloaded

pytestmark = pytest.mark.filterwarnings("ignore:The progress is 2 or more")

X = mx.array([1.0, -2.0])
DOUBLE, SINGLE = 1e-12, 2.0**-23

# The model ------------------------------------------------------------------------------


class Near:
    """A number of the model, with a bound for the rounding of whoever computes it too."""

    def __init__(self, value: float, unit: float, error: float = 0.0) -> None:
        self.value, self.unit, self.error = value, unit, error + unit * abs(value)

    def _with(self, other: Any) -> Near:
        return other if isinstance(other, Near) else Near(other, self.unit)

    def __add__(self, other: Any) -> Near:
        other = self._with(other)
        return Near(self.value + other.value, self.unit, self.error + other.error)

    def __sub__(self, other: Any) -> Near:
        other = self._with(other)
        return Near(self.value - other.value, self.unit, self.error + other.error)

    def __rsub__(self, other: Any) -> Near:
        return self._with(other) - self

    def __mul__(self, other: Any) -> Near:
        other = self._with(other)
        error = abs(self.value) * other.error + abs(other.value) * self.error
        return Near(self.value * other.value, self.unit, error)

    def __truediv__(self, other: Any) -> Near:
        other = self._with(other)
        value = self.value / other.value
        return Near(value, self.unit, (self.error + abs(value) * other.error) / abs(other.value))

    def assert_is(self, value: float) -> None:
        assert abs(value - self.value) <= self.error, (value, self.value, self.error)


def smaller(a: Any, b: Any) -> Any:
    if isinstance(a, ScheduledScalar) or isinstance(b, ScheduledScalar):
        return scalars.minimum(a, b)
    a, b = (a, a._with(b)) if isinstance(a, Near) else (b._with(a), b)
    return Near(min(a.value, b.value), a.unit, max(a.error, b.error))


def larger(a: Any, b: Any) -> Any:
    if isinstance(a, ScheduledScalar) or isinstance(b, ScheduledScalar):
        return scalars.maximum(a, b)
    a, b = (a, a._with(b)) if isinstance(a, Near) else (b._with(a), b)
    return Near(max(a.value, b.value), a.unit, max(a.error, b.error))


def chain(a: Any, b: Any) -> Any:
    for _ in range(600):
        a = smaller(a * 0.5 + b, 4.0)
    return a


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {  # from [-4, 4] into it
    "sum": lambda a, b: (a + b) * 0.5,
    "difference": lambda a, b: larger(a - b, -4.0) if a is not b else 0.5 - a * 0.5,
    "product": lambda a, b: larger(smaller(a * b, 4.0), -4.0),
    "ratio": lambda a, b: a * 0.5 / larger(b, 0.5),
    "smaller": smaller,
    "larger": larger,
    "chain": chain,
}
RECIPES: dict[str, Callable[[Any, Any, Any], Any]] = {  # each is a kernel, whatever it is used for
    "alone": lambda a, b, c: a,
    "rest": lambda a, b, c: 1 - a,
    "mixed": lambda a, b, c: a * b + c,
    "bounded": lambda a, b, c: smaller(a, b) / larger(c, 0.5),
}


class Plateau:
    """PyTorch's rule, in mode "min" with a relative threshold and no cooldown."""

    def __init__(self, factor: float, patience: int, least: float) -> None:
        self.factor, self.patience, self.least = factor, patience, least
        self.memory = (math.inf, 0, 0)

    def observe(self, metric: float) -> None:
        best, bad, reductions = self.memory
        first = best == math.inf and math.isfinite(metric)
        best, bad = (metric, 0) if first or metric < best * (1 - 1e-4) else (best, bad + 1)
        if bad > self.patience:
            bad, reductions = 0, reductions + 1
        self.memory = best, bad, reductions

    def __call__(self, value: float) -> float:
        return min(value, max(value * self.factor ** self.memory[2], self.least))


class Switch:
    """One that goes on, at most once."""

    def __init__(self, below: float) -> None:
        self.below = below
        self.memory = (0,)

    def observe(self, metric: float) -> None:
        if metric < self.below:
            self.memory = (1,)


@dataclass
class Leaf:
    """A schedule of the package, and what it is in plain floats."""

    scalar: Any
    formula: Callable[[float], float]
    watchers: tuple[Any, ...] = ()
    progress: float = 0.0
    fresh: bool = True
    warm: float = 0.0
    """How long the warm-up is, during which a plateau counts nothing."""
    held: float | None = None

    def hearing(self) -> list[Any]:
        over = self.scalar.progress >= self.warm - 1e-9
        return [one for one in self.watchers if over or not isinstance(one, Plateau)]

    def at(self, progress: float) -> float:
        return self.formula(min(progress, 1.0)) if self.held is None else self.held

    def __repr__(self) -> str:
        return repr(self.scalar)


def linear(start: float, end: float) -> Leaf:
    return Leaf(Linear(start, end), lambda p: start + (end - start) * p)


def cosine(start: float, end: float) -> Leaf:
    scalar = CosineAnnealing(start, end)
    return Leaf(scalar, lambda p: end + (start - end) * (1 + math.cos(math.pi * p)) / 2)


def steps(start: float, end: float) -> Leaf:
    return Leaf(StepDecay(start, 0.5, 0.25), lambda p: start * 0.5 ** math.floor(4 * p + 1e-9))


def square(progress: float) -> float:
    return 0.9 - 0.5 * progress**2


def broken(progress: float) -> float:
    return 0.25 if progress < 0.5 else 0.25 + math.exp(-progress)


def warmed(leaf: Leaf, fraction: float) -> Leaf:
    def formula(p: float) -> float:
        if p < fraction - 1e-9:
            return 0.125 + (leaf.formula(0.0) - 0.125) * p / fraction
        return leaf.formula(min(max((p - fraction) / (1 - fraction), 0.0), 1.0))

    scalar = Warmup(leaf.scalar, fraction, start=0.125)
    return Leaf(scalar, formula, leaf.watchers, warm=fraction)


def reduced(leaf: Leaf, patience: int) -> Leaf:
    rule = Plateau(0.5, patience, 0.01)
    scalar = ReduceOnPlateau(leaf.scalar, 0.5, patience, minimum=0.01)
    return Leaf(scalar, lambda p: rule(leaf.formula(p)), (rule, *leaf.watchers))


def switched(first: Leaf, second: Leaf) -> Leaf:
    rule = Switch(0.4)
    scalar = ThresholdSwitch([first.scalar, second.scalar], ["< 0.4"])
    pair = first, second
    watchers = rule, *first.watchers, *second.watchers
    return Leaf(scalar, lambda p: pair[rule.memory[0]].formula(p), watchers)


NUMBERS = st.lists(st.integers(5, 99), min_size=2, max_size=2, unique=True)
SIMPLE = st.one_of(
    st.builds(
        lambda kind, pair: kind(pair[0] / 100, pair[1] / 100),
        st.sampled_from([linear, cosine, steps]),
        NUMBERS,
    ),
    st.sampled_from([square, broken]).map(lambda function: Leaf(LambdaValue(function), function)),
)
ADAPTIVE = st.one_of(
    st.builds(reduced, SIMPLE, st.integers(0, 2)), st.builds(switched, SIMPLE, SIMPLE)
)
FRACTIONS = st.sampled_from([0.1, 0.25, 0.5])
LEAVES = st.one_of(
    SIMPLE,
    ADAPTIVE,
    st.builds(warmed, st.one_of(SIMPLE, ADAPTIVE), FRACTIONS),
    st.builds(reduced, st.builds(warmed, SIMPLE, FRACTIONS), st.integers(0, 2)),
)
PROGRESSES = st.one_of(
    st.integers(0, 40).map(lambda i: i / 32), st.integers(0, 10**6).map(lambda i: i / 1e6)
)
HELD = st.sampled_from([0.06, 0.3, 0.9])
METRICS = st.sampled_from([1.0, 0.5, 0.5, 0.45, 0.3, math.nan, math.inf])


def watchers_of(leaves: Iterable[Leaf]) -> list[Any]:
    return list({id(one): one for leaf in leaves for one in leaf.watchers}.values())


def observe(leaves: Iterable[Leaf], metric: float, all_leaves: Iterable[Leaf]) -> None:
    """Tell the model a metric that the watchers in some leaves were told."""
    told = list({id(one): one for leaf in leaves for one in leaf.hearing()}.values())
    for watcher in told:
        watcher.observe(metric)
    for leaf in all_leaves:
        leaf.fresh &= all(watcher not in told for watcher in leaf.watchers)


def memories(leaves: list[Leaf]) -> Any:
    return [watcher.memory for watcher in watchers_of(leaves)], [leaf.held for leaf in leaves]


def remember(leaves: list[Leaf], saved: Any) -> None:
    for watcher, memory in zip(watchers_of(leaves), saved[0]):
        watcher.memory = memory
    for leaf, held in zip(leaves, saved[1]):
        leaf.held = held


class OddError(Exception):
    """What a broken function raises."""


# Scalars --------------------------------------------------------------------------------


@dataclass
class Compiled:
    """A compiled function of three leaves, made at some time."""

    recipe: str
    leaves: list[Leaf]
    body: Traced
    function: Callable[[mx.array], mx.array]


class Scalars(RuleBasedStateMachine):
    """Schedules and expressions, with no optimizer.

    ``leaves`` and ``numbers``, the leaves and the expressions, each with how it is made of
    earlier ones, are in one list of scalars: an expression may be used again and again.
    """

    @initialize(leaves=st.lists(LEAVES, min_size=3, max_size=4), looking=st.booleans())
    def begin(self, leaves: list[Leaf], looking: bool) -> None:
        self.leaves = leaves
        self.made: list[tuple[str, int, int] | Leaf] = list(leaves)
        self.numbers = [leaf.scalar for leaf in leaves]
        self.functions: list[Compiled] = []
        self.looking = looking  # at everything, after each rule
        self.saved: Any = None

    def expected(self, unit: float) -> list[Near]:
        """Return what every scalar is now."""
        values: list[Near] = []
        for one in self.made:
            if isinstance(one, Leaf):
                values.append(Near(one.at(one.progress), unit))
            else:
                name, i, j = one
                values.append(OPERATIONS[name](values[i], values[j]))
        return values

    def leaves_in(self, i: int) -> list[Leaf]:
        one = self.made[i]
        if isinstance(one, Leaf):
            return [one]
        both = [leaf for j in one[1:] for leaf in self.leaves_in(j)]
        return list({id(leaf): leaf for leaf in both}.values())

    def chosen(self, i: int) -> int:
        return i % len(self.made)

    @invariant()
    def values_are_those_of_the_model(self) -> None:
        if self.looking:
            for scalar, expected in zip(self.numbers, self.expected(DOUBLE)):
                expected.assert_is(float(scalar))
            for leaf in self.leaves:
                assert leaf.scalar.progress == leaf.progress

    @precondition(lambda self: len(self.made) < 12)
    @rule(name=st.sampled_from(list(OPERATIONS)), i=st.integers(0, 11), j=st.integers(0, 11))
    def combine(self, name: str, i: int, j: int) -> None:
        i, j = self.chosen(i), self.chosen(j)
        self.made.append((name, i, j))
        self.numbers.append(OPERATIONS[name](self.numbers[i], self.numbers[j]))

    @precondition(lambda self: len(self.made) < 12)
    @rule(i=st.integers(0, 11), patience=st.integers(0, 2), warm=st.booleans())
    def nest(self, i: int, patience: int, warm: bool) -> None:
        """Make a schedule of one that there is: it has the formula and the memory of it."""
        leaf = self.leaves[i % len(self.leaves)]
        new = warmed(leaf, 0.5) if warm else reduced(leaf, patience)
        self.leaves.append(new)
        self.made.append(new)
        self.numbers.append(new.scalar)

    @rule(i=st.integers(0, 11), progress=PROGRESSES)
    def update(self, i: int, progress: float) -> None:
        i = self.chosen(i)
        self.numbers[i].update(progress)
        for leaf in self.leaves_in(i):
            leaf.progress = progress

    @rule(progress=PROGRESSES)
    def update_all(self, progress: float) -> None:
        self.group().update(progress)
        for leaf in self.leaves:
            leaf.progress = progress

    @rule(i=st.integers(0, 11), progress=st.sampled_from([-0.1, math.nan, math.inf]))
    def update_badly(self, i: int, progress: float) -> None:
        with pytest.raises(ValueError, match="progress"):
            self.numbers[self.chosen(i)].update(progress)

    @rule(i=st.integers(0, 11), metric=METRICS)
    def observe(self, i: int, metric: float) -> None:
        i = self.chosen(i)
        inside = self.leaves_in(i)
        if watchers_of(inside):
            self.numbers[i].observe(metric)
            observe(inside, metric, self.leaves)
        else:
            with pytest.raises(ValueError, match="adaptive"):
                self.numbers[i].observe(metric)

    @rule(i=st.integers(0, 11), value=st.none() | HELD)
    def hold(self, i: int, value: float | None) -> None:
        """Hold a leaf at a value, or release it; no expression is held."""
        i = self.chosen(i)
        if not isinstance(self.made[i], Leaf):
            with pytest.raises(ValueError, match="must be a schedule, got"):
                self.numbers[i].hold(0.5)
            return
        leaf = self.leaves_in(i)[0]
        leaf.held = value
        leaf.scalar.release() if value is None else leaf.scalar.hold(value)
        assert leaf.scalar.held == value

    @rule(i=st.integers(0, 11))
    def read(self, i: int) -> None:
        i = self.chosen(i)
        scalar, exact = self.numbers[i], self.expected(DOUBLE)[i]
        rounded = float(np.float32(scalar.item()))
        exact.assert_is(scalar.item())
        arrays = [scalar * X]
        if not self.is_deep(i):  # MLX asks a scalar on the right for its dtype: see below
            arrays.append(X * scalar)
        for array in arrays:
            assert array.dtype == mx.float32
            assert array.tolist() == [rounded, -2 * rounded]
        assert (scalar * mx.array(1.0, mx.bfloat16)).dtype == mx.bfloat16
        if not self.is_deep(i):  # Expression.own_dtype asks its operands: too deep for Python
            array = scalar.array
            assert array.item() == rounded
            array += 1.0  # it is the caller's
            assert scalar.array.item() == scalar(3).item() == rounded

    @rule(i=st.integers(0, 11))
    def read_in_a_gradient(self, i: int) -> None:
        i = self.chosen(i)
        scalar = self.numbers[i]
        slope = mx.grad(lambda x: (scalar * x).sum())(X)
        self.expected(SINGLE)[i].assert_is(slope[0].item())

    @rule(i=st.integers(0, 11))
    def capture(self, i: int) -> None:
        flat = tree_flatten(self.numbers[self.chosen(i)].state)
        assert flat
        assert all(isinstance(array, mx.array) for _, array in flat)

    @rule(
        recipe=st.sampled_from(list(RECIPES)),
        order=st.permutations(range(3)),
        captured=st.sampled_from(["each", "group", "expression"]),
        broken=st.booleans(),
    )
    def compile(self, recipe: str, order: list[int], captured: str, broken: bool) -> None:
        leaves = [self.leaves[i] for i in order]
        a, b, c = (leaf.scalar for leaf in leaves)
        states: dict[str, Any] = {
            "each": lambda: [a.state, b.state, c.state],
            "group": lambda: [self.group().state],
            "expression": lambda: [(a * b + c).state],
        }
        problems = [OddError()] if broken else []

        def body(x: mx.array) -> mx.array:
            result = RECIPES[recipe](a, b, c) * x
            if problems:
                raise problems.pop()
            return result

        counted = Traced(body)
        function = mx.compile(counted, inputs=states[captured]())
        if broken:
            with pytest.raises(OddError):
                function(X)
            counted.traces = 0
            self.group().snapshot()  # until it is read, a scalar has what MLX has left there
        self.functions.append(Compiled(recipe, leaves, counted, function))

    @precondition(lambda self: self.functions)
    @rule()
    def call(self) -> None:
        """Call every function that there is."""
        for one in self.functions:
            first, second = one.function(X).tolist()  # type: ignore[misc]
            numbers = [Near(leaf.at(leaf.progress), SINGLE) for leaf in one.leaves]
            near = RECIPES[one.recipe](*numbers)
            if one.recipe == "alone":
                rounded = float(np.float32(near.value))
                assert (first, second) == (rounded, -2 * rounded)
            near.assert_is(first)
            near.assert_is(-second / 2)
            assert one.body.traces == 1

    @rule(
        i=st.integers(0, 11),
        wrong=st.sampled_from(
            [
                float,
                lambda s: s.update(0.5),
                lambda s: s.load_state_dict(s.state_dict()),
                lambda s: s * 2 > -1.0 and s.item(),
            ]
        ),
    )
    def freeze(self, i: int, wrong: Callable[[Any], Any]) -> None:
        """Do in a trace what would make a constant of the value."""
        scalar = self.leaves[i % len(self.leaves)].scalar

        def body(x: mx.array) -> mx.array:
            wrong(scalar)
            return scalar * x

        with pytest.raises(ValueError, match="mx.compile"):
            mx.compile(body, inputs=[scalar.state])(X)
        float(scalar)  # as above

    def group(self) -> ScalarGroup:
        return ScalarGroup({f"leaf {i}": leaf.scalar for i, leaf in enumerate(self.leaves)})

    @rule()
    def save(self) -> None:
        progresses = [leaf.progress for leaf in self.leaves]
        text = json.dumps(self.group().state_dict())
        self.saved = text, progresses, memories(self.leaves)

    @precondition(lambda self: self.saved is not None)
    @rule()
    def load(self) -> None:
        text, progresses, remembered = self.saved
        assume(len(progresses) == len(self.leaves))
        self.group().load_state_dict(json.loads(text))
        for leaf, progress in zip(self.leaves, progresses):
            leaf.progress = progress
        remember(self.leaves, remembered)

    @rule(i=st.integers(0, 11), progress=PROGRESSES, pickled=st.booleans())
    def copy_one(self, i: int, progress: float, pickled: bool) -> None:
        """Make a copy, which is where the original is, and which is independent."""
        i = self.chosen(i)
        assume(not self.is_deep(i))
        scalar = self.numbers[i]
        other = pickle.loads(pickle.dumps(scalar)) if pickled else copy.deepcopy(scalar)
        self.expected(DOUBLE)[i].assert_is(float(other))
        other.update(progress)
        if watchers_of(self.leaves_in(i)):
            other.observe(1.0).observe(2.0).observe(2.0)

    @rule(pickled=st.booleans())
    def go_on_with_copies(self, pickled: bool) -> None:
        """Copy everything at once: what is shared stays shared."""
        assume(not any(map(self.is_deep, range(len(self.made)))))
        everything = self.numbers
        copies = pickle.loads(pickle.dumps(everything)) if pickled else copy.deepcopy(everything)
        self.numbers = copies
        for one, scalar in zip(self.made, copies):
            if isinstance(one, Leaf):
                one.scalar = scalar
        self.functions = []

    def is_deep(self, i: int) -> bool:
        """Return whether a chain is in it: Python copies and pickles no deep ones."""
        one = self.made[i]
        return not isinstance(one, Leaf) and (one[0] == "chain" or any(map(self.is_deep, one[1:])))


# Optimizers -----------------------------------------------------------------------------


KINDS = st.sampled_from(["step", "wide step", "loss", "own loss"])
WAYS = st.sampled_from(["horizon", "loop", "extend", "horizon", "detach"])


class Plan:
    """A horizon in plain numbers: the progress at some steps, and straight lines between."""

    def __init__(self, total: int) -> None:
        self.points = [(0, 0.0), (total, 1.0)]
        self.horizon = Horizon(total)

    @property
    def total(self) -> int:
        return self.points[-1][0]

    def extended(self, total: int, at: int) -> Plan:
        plan = Plan(total)
        before = [point for point in self.points[:-1] if point[0] < at]
        plan.points = [*before, (at, self.progress(at)), (total, 1.0)]
        plan.horizon = self.horizon.extend(total, at)
        return plan

    def progress(self, step: int) -> float:
        for (begin, done), (end, then) in zip(self.points, self.points[1:]):
            if step < end or end == self.total:
                return done + (then - done) * (step - begin) / (end - begin)
        raise AssertionError


@dataclass
class Step:
    """A compiled function of the training, made at some time."""

    kind: str
    captured: list[Any]
    body: Traced
    function: Callable[..., Any]
    layouts: set[Any] = field(default_factory=set)

    def check_traces(self, layout: Any) -> None:
        """Assert that there was one trace for each layout of what is captured."""
        self.layouts.add(layout)
        assert self.body.traces == len(self.layouts), self.layouts


class Training(RuleBasedStateMachine):
    """An optimizer whose scalars are attached, driven by the loop or the step, and detached."""

    @initialize(
        leaves=st.tuples(LEAVES, LEAVES, LEAVES),
        adam=st.booleans(),
        kinds=st.lists(KINDS, max_size=2),
        way=WAYS,
        looking=st.booleans(),
    )
    def begin(
        self,
        leaves: tuple[Leaf, Leaf, Leaf],
        adam: bool,
        kinds: list[str],
        way: str,
        looking: bool,
    ) -> None:
        self.leaves = list(leaves)
        a, b, c = (leaf.scalar for leaf in leaves)
        self.adam = adam
        if adam:
            self.optimizer: Any = optim.AdamW(a, [b, 0.99], weight_decay=c, bias_correction=True)
            self.reference: Any = optim.AdamW(0.1, [0.9, 0.99], bias_correction=True)
        else:
            self.optimizer = optim.SGD(smaller(a, b), momentum=b, weight_decay=a * 0.1)
            self.reference = optim.SGD(0.1, momentum=0.9, weight_decay=0.1)
        self.weights = {"w": mx.array([1.0, -0.5])}
        self.optimizer.init(self.weights)
        self.reference.init(self.weights)
        self.driver: Plan | str | None = None
        self.group: Any = ScalarGroup({f"leaf {i}": x.scalar for i, x in enumerate(leaves)})
        self.done = 0
        self.functions: list[Step] = []
        self.saved: list[Any] = []
        self.looking = looking  # at everything, after each rule
        for kind in kinds:
            self.compile(kind)
        self.change(way, 10)

    # What is expected -------------------------------------------------------------------

    def progress(self, leaf: Leaf) -> float:
        driven = isinstance(self.driver, Plan)
        return self.driver.progress(self.done) if driven else leaf.progress  # type: ignore[union-attr]

    def values(self) -> list[float]:
        return [leaf.at(self.progress(leaf)) for leaf in self.leaves]

    def layout(self) -> Any:
        """Return what the shapes of what compiled functions capture depend on."""
        return self.driver.total if isinstance(self.driver, Plan) else self.driver

    def set_by_hand(self) -> None:
        a, b, c = self.values()
        if self.adam:
            self.reference.learning_rate = a
            self.reference.betas = [b, 0.99]
            self.reference.weight_decay = c
        else:
            self.reference.learning_rate = min(a, b)
            self.reference.momentum = b
            self.reference.weight_decay = a * 0.1

    def gradient(self) -> dict[str, mx.array]:
        return {"w": mx.array([0.1 * (self.done % 5 - 1), 0.3])}

    def own_state(self) -> dict[str, Any]:
        state = self.optimizer._state  # nothing is captured by looking at it
        return {name: x for name, x in state.items() if name != "scalars"}

    @invariant()
    def values_are_those_of_the_model(self) -> None:
        if self.looking:
            for leaf, value in zip(self.leaves, self.values()):
                assert float(leaf.scalar) == pytest.approx(value, rel=1e-12, abs=0)
                assert leaf.scalar.progress == pytest.approx(self.progress(leaf), rel=1e-15)
            driven = isinstance(self.driver, Plan)
            assert self.group.step == (self.done if driven else None)
            assert ("scalars" in self.optimizer._state) == (self.driver is not None)

    # The loop ---------------------------------------------------------------------------

    @rule(progress=PROGRESSES)
    def update(self, progress: float) -> None:
        if isinstance(self.driver, Plan):
            with pytest.raises(ValueError, match="follows the step of an optimizer"):
                self.group.update(progress)
            return
        self.group.update(progress)
        for leaf in self.leaves:
            leaf.progress, leaf.fresh = progress, False

    @precondition(lambda self: not isinstance(self.driver, Plan))
    @rule(progress=PROGRESSES, i=st.integers(0, 2))
    def update_one(self, progress: float, i: int) -> None:
        leaf = self.leaves[i]
        leaf.scalar.update(progress)
        leaf.progress, leaf.fresh = progress, False

    @rule(metric=METRICS)
    def observe(self, metric: float) -> None:
        if watchers_of(self.leaves):
            self.group.observe(metric)
            observe(self.leaves, metric, self.leaves)

    @rule(i=st.integers(0, 2), value=st.none() | HELD)
    def hold(self, i: int, value: float | None) -> None:
        leaf = self.leaves[i]
        leaf.held = value
        leaf.scalar.release() if value is None else leaf.scalar.hold(value)

    # Steps ------------------------------------------------------------------------------

    @rule(count=st.integers(1, 3), progress=st.none() | PROGRESSES)
    def step(self, count: int, progress: float | None) -> None:
        """Make eager steps: the weights are those of floats set by hand, to the last bit."""
        if progress is not None:
            self.update(progress)
        for _ in range(count):
            theirs = {"w": mx.array(self.weights["w"])}
            self.weights = self.optimizer.apply_gradients(self.gradient(), self.weights)
            self.set_by_hand()
            assert_same(self.weights, self.reference.apply_gradients(self.gradient(), theirs))
            assert_same(self.own_state(), self.reference.state)
            self.done += 1

    @rule(step=st.integers(0, 20))
    def set_step(self, step: int) -> None:
        self.optimizer._state["step"] = mx.array(step, mx.uint64)
        self.reference.state["step"] = mx.array(step, mx.uint64)
        self.done = step

    @precondition(lambda self: len(self.functions) < 4)
    @rule(kind=KINDS)
    def compile(self, kind: str) -> None:
        """Compile a step, or a loss, that captures the state of the optimizer or the scalars.

        A wide step captures both: it serves while nothing is attached too.
        """
        scalars = [leaf.scalar for leaf in self.leaves]
        captured: list[Any] = [] if kind == "own loss" else [self.optimizer.state]
        if kind in ("wide step", "own loss"):
            captured += [scalar.state for scalar in scalars]
        if kind.endswith("step"):
            body = Traced(lambda g, w: self.optimizer.apply_gradients(g, w))
            function = mx.compile(body, inputs=captured, outputs=captured)
        else:
            body = Traced(lambda x: [s * x for s in scalars] + [(1 - scalars[0]) * x])
            function = mx.compile(body, inputs=captured)
        self.functions.append(Step(kind, captured, body, function))

    @precondition(lambda self: self.functions)
    @rule(progress=st.none() | PROGRESSES)
    def call(self, progress: float | None) -> None:
        """Call every function that there is, the one that is the oldest last."""
        if progress is not None:
            self.update(progress)
        for one in reversed(self.functions):
            if one.kind.endswith("step"):
                self.call_step(one)
            else:
                self.call_loss(one)

    def call_step(self, one: Step) -> None:
        if one.kind == "step" and self.driver is None:
            with pytest.raises(ValueError, match="the rate would never change"):
                self.failing(lambda: one.function(self.gradient(), self.weights))
            one.body.traces -= 1
            return
        self.set_by_hand()
        theirs = {"w": mx.array(self.weights["w"])}
        theirs = self.reference.apply_gradients(self.gradient(), theirs)
        self.weights = one.function(self.gradient(), self.weights)
        one.check_traces(self.layout())
        self.done += 1
        for ours, expected in ((self.weights, theirs), (self.own_state(), self.reference.state)):
            for (_, x), (_, y) in zip(tree_flatten(ours), tree_flatten(expected)):
                np.testing.assert_allclose(np.array(x), np.array(y), rtol=1e-5, atol=1e-6)
        self.reference.state = reloaded(self.own_state())  # without what the kernels have rounded

    def call_loss(self, one: Step) -> None:
        driven = isinstance(self.driver, Plan)
        if one.kind == "own loss" and driven:
            with pytest.raises(ValueError, match="Capture optimizer.state as a whole"):
                self.failing(lambda: one.function(X))
            one.body.traces -= 1
            return
        if one.kind == "loss" and self.driver is None:
            return  # the scalars would be constants of it
        *alone, rest = one.function(X)
        one.check_traces(self.layout())
        for array, value in zip(alone, self.values()):
            rounded = float(np.float32(value))
            assert array.tolist() == [rounded, -2 * rounded]
        (1 - Near(self.values()[0], SINGLE)).assert_is(rest[0].item())

    @rule(early=st.booleans(), loss=st.booleans())
    def break_off(self, early: bool, loss: bool) -> None:
        """Have a trace fail, before or after an update in it, and go on."""
        scalars = [leaf.scalar for leaf in self.leaves]

        def body(g: Any, w: Any) -> Any:
            total = sum(s * X for s in scalars)
            if not early and not loss:
                self.optimizer.apply_gradients(g, w)
            raise OddError(total)

        states = [scalar.state for scalar in scalars]
        own = loss and not isinstance(self.driver, Plan)
        captured = states if own else [self.optimizer.state, *states]
        function = mx.compile(body, captured, captured)
        with pytest.raises(OddError):
            self.failing(lambda: function(self.gradient(), self.weights))

    def failing(self, call: Callable[[], Any]) -> None:
        """Call what fails in a trace, and put back what MLX leaves in the optimizer's state.

        A scalar puts its own arrays back when it is read. A compiled function that is called
        before that computes with what the failed trace has left.
        """
        before = reloaded(self.own_state())
        try:
            call()
        finally:
            self.optimizer._state.update(before)
            self.group.snapshot()

    # Attaching --------------------------------------------------------------------------

    def attached(self, driver: Plan | str) -> Any:
        """Attach; the others always in one order.

        In another order a function that was compiled before takes one scalar for the other:
        for ``mx.compile`` the dicts of both have the same shapes.
        """
        was_attached = "scalars" in self.optimizer._state
        horizon = driver.horizon if isinstance(driver, Plan) else None
        _, b, c = (leaf.scalar for leaf in self.leaves)
        group = attach(self.optimizer, horizon=horizon, second=b, third=c)
        if not was_attached:
            _ = self.optimizer.state  # else what was compiled before finds no tables in it
        return group

    @rule(way=WAYS, steps=st.integers(1, 12))
    def change(self, way: str, steps: int) -> None:
        """Attach, attach again, or detach."""
        if way == "loop":
            self.attach_by_the_loop()
        elif way == "horizon":
            self.driver = Plan(steps)
            self.group = self.attached(self.driver)
        elif way == "extend" and isinstance(self.driver, Plan):
            self.extend(self.driver, steps)
        elif way == "detach" and self.driver is not None:
            for leaf in self.leaves:
                if isinstance(self.driver, Plan):
                    leaf.progress, leaf.fresh = self.progress(leaf), False
            detach(self.optimizer)
            self.driver = None

    def attach_by_the_loop(self) -> None:
        """Attach without a horizon, which leaves one that there is."""
        if self.driver is None and self.done and any(leaf.fresh for leaf in self.leaves):
            with pytest.raises(ValueError, match="updated to the progress of the run"):
                self.attached("loop")
            return
        self.group = self.attached("loop")
        self.driver = self.driver or "loop"

    def extend(self, plan: Plan, more: int) -> None:
        if not plan.points[-2][0] <= self.done < plan.total:
            return
        before = self.values()
        self.driver = plan.extended(self.done + more, self.done)
        assert self.attached(self.driver) is self.group
        assert self.group.progress == pytest.approx(self.driver.progress(self.done), rel=1e-15)
        assert self.values() == pytest.approx(before, rel=1e-12)

    # Checkpoints ------------------------------------------------------------------------

    @rule()
    def save(self) -> None:
        progresses = [self.progress(leaf) for leaf in self.leaves]
        state = reloaded(self.optimizer.state)
        self.saved.append((self.driver, state, self.done, progresses, memories(self.leaves)))

    def loaded(self, i: int) -> tuple[Any, Any, int, list[float], list[Any]]:
        driver, state, *rest = self.saved[i % len(self.saved)]
        return driver, reloaded(state), *rest  # type: ignore[return-value]

    def fits(self, driver: Any) -> bool:
        """Return whether a state that was saved at some time can be loaded now."""
        if driver is None:
            return isinstance(self.driver, Plan) and not watchers_of(self.leaves)
        return isinstance(driver, Plan) == isinstance(self.driver, Plan)

    def take(self, driver: Any, done: int, progresses: list[float], memory: list[Any]) -> None:
        """Have the model be where a state was saved."""
        self.done = done
        self.reference.state = reloaded(self.own_state())
        for one in self.functions:
            if one.kind != "own loss":
                one.captured[0] = self.optimizer.state
        if driver is not None:
            remember(self.leaves, memory)
        for leaf, progress in zip(self.leaves, progresses):
            if self.driver == "loop":
                leaf.progress, leaf.fresh = progress, False

    @precondition(lambda self: self.saved)
    @rule(i=st.integers(0, 99), total=st.integers(1, 12))
    def load(self, i: int, total: int) -> None:
        """Load a state while attached, or load it and attach."""
        driver, state, done, progresses, memory = self.loaded(i)
        if self.driver is None and driver is not None:
            self.optimizer.state = state
            driven = isinstance(driver, Plan)
            with pytest.raises(ValueError, match="with a horizon|without a horizon"):
                self.attached("loop" if driven else Plan(total))
            self.driver = Plan(total) if driven else "loop"
            self.group = self.attached(self.driver)
        elif self.driver is not None and not self.fits(driver):
            with pytest.raises(ValueError, match="state"):
                self.optimizer.state = state
            return
        else:
            self.optimizer.state = state
        self.take(driver, done, progresses, memory)

    @rule(further=st.integers(1, 3))
    def save_and_load_json(self, further: int) -> None:
        text = json.dumps(self.group.state_dict())
        before = memories(self.leaves)
        if isinstance(self.driver, Plan):
            with pytest.raises(ValueError, match="follows the step of an optimizer"):
                self.group.load_state_dict(json.loads(text))
            return
        for leaf in self.leaves:
            leaf.scalar.update(leaf.progress + further)
        for watcher in watchers_of(self.leaves)[:1]:
            self.group.observe(1e9)
            assert watcher in watchers_of(self.leaves)
        self.group.load_state_dict(json.loads(text))
        assert memories(self.leaves) == before
        for leaf in self.leaves:
            leaf.fresh = False

    @rule(i=st.integers(0, 2), progress=PROGRESSES, pickled=st.booleans())
    def copy_one(self, i: int, progress: float, pickled: bool) -> None:
        """A copy of a scalar that the step drives is free, at the same progress."""
        scalar = self.leaves[i].scalar
        other = pickle.loads(pickle.dumps(scalar)) if pickled else copy.deepcopy(scalar)
        assert (float(other), other.progress) == (float(scalar), scalar.progress)
        other.update(progress)


TestScalars = Scalars.TestCase
TestScalars.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestTraining = Training.TestCase
TestTraining.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
