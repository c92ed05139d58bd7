"""Optimizers of all kinds against the same ones with floats that are set by hand before each step.

Eagerly every parameter is the same bit for bit: an optimizer may delete, replace and change its
attributes, keep numbers in containers and configs, and call itself in any way.
"""

from __future__ import annotations

import types
import warnings
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten, tree_map

from scalars import Constant, Horizon, Linear, ScalarGroup, attach, detach

from .helpers import MLX

STEPS = 8
WAYS = ["loop", "step", "compiled loop", "compiled step"]
X = mx.random.normal((16, 4), key=mx.random.key(0))
Y = mx.random.normal((16, 2), key=mx.random.key(1))


class Accumulating(optim.SGD):
    """One that keeps gradients in an attribute, and deletes it."""

    def update(self, model: Any, gradients: Any) -> None:
        if not hasattr(self, "last"):
            self.last = gradients
            return
        total = tree_map(lambda a, b: (a + b) / 2, self.last, gradients)
        del self.last
        super().update(model, total)


class Groups(optim.Optimizer):
    """One with a list of dicts of settings and counters, as in PyTorch."""

    def __init__(self, rate: Any, decay: Any) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", rate)
        self.groups: Any = [{"betas": [0.9, 0.99], "decay": decay, "t": 0, "seen": []}]

    def set(self, rate: float, decay: float) -> None:
        self.learning_rate = rate
        self.groups[0]["decay"] = decay

    def init_single(self, parameter: mx.array, state: Any) -> None:
        state["m"] = mx.zeros_like(parameter)

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        group = self.groups[0]
        group["t"] += 1
        group["seen"].append(group["t"])
        return super().apply_gradients(gradients, parameters)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Any) -> mx.array:
        group = self.groups[0]
        assert len(group["seen"]) == group["t"]
        state["m"] = 0.9 * state["m"] + 0.1 * gradient
        corrected = state["m"] / (1 - 0.9 ** group["t"])
        rate = self.learning_rate.astype(gradient.dtype)
        return parameter - rate * (corrected + group["decay"] * parameter)


class Renewed(Groups):
    """One that makes a new list of settings at each step."""

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        updated = super().apply_gradients(gradients, parameters)
        self.groups = [{**group, "t": group["t"] + 1} for group in self.groups]
        self.groups[0]["seen"].append(None)
        return updated


@dataclass
class Config:
    """Settings with a note."""

    decay: Any
    calls: int = 0
    notes: list[Any] = field(default_factory=list)


class Pair(NamedTuple):
    """Settings that do not change."""

    decay: Any
    other: Any


class Attributes(dict):  # type: ignore[type-arg]
    """A dict with its items as attributes."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__  # type: ignore[assignment]


class Settings(optim.SGD):
    """One with its settings in a container or a config."""

    def __init__(self, rate: Any, decay: Any, kind: str) -> None:
        super().__init__(rate)
        self.kind = kind
        self.settings = self.made(decay)

    def made(self, decay: Any) -> Any:
        if self.kind == "defaultdict":
            return defaultdict(lambda: 1.0, decay=decay)
        kinds: Any = {"config": Config, "attributes": Attributes, "names": types.SimpleNamespace}
        if self.kind in kinds:
            return kinds[self.kind](decay=decay, calls=0)
        return Pair(decay, 1.0)

    def set(self, rate: float, decay: float) -> None:
        self.learning_rate = rate
        if isinstance(self.settings, tuple):
            self.settings = self.made(decay)
        elif self.kind == "defaultdict":
            self.settings["decay"] = decay
        else:
            self.settings.decay = decay

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        scale = 1.0
        if self.kind == "defaultdict":
            decay, scale = self.settings["decay"], self.settings["other"]
        elif self.kind == "pair":
            decay, scale = self.settings.decay, self.settings.other
        else:
            decay = self.settings.decay
            self.settings.calls += 1
            scale = 1.0 / self.settings.calls
        scaled = tree_map(lambda g, p: scale * (g + decay * p), gradients, parameters)
        return super().apply_gradients(scaled, parameters)


class Ruled(optim.Optimizer):
    """One whose rule is a method of its own, kept in an attribute."""

    def __init__(self, rate: Any, decay: Any) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", rate)
        self.decay, self.seen = decay, 0
        self.rules = {"first": self.rule}
        self.hook = self.rule

    def rule(self, gradient: mx.array, parameter: mx.array) -> mx.array:
        self.seen += 1
        rate = self.learning_rate.astype(gradient.dtype)
        return parameter - rate * (gradient + parameter * self.decay)

    def init_single(self, parameter: mx.array, state: Any) -> None:
        """Keep nothing."""

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Any) -> mx.array:
        rule = self.hook if self.seen % 2 else self.rules["first"]
        return rule(gradient, parameter)


class Turns(optim.Optimizer):
    """One that takes turns between two others, by rotating a list."""

    def __init__(self, rate: Any, decay: Any) -> None:
        super().__init__()
        self.queue: list[Any] = [optim.Adam(rate), optim.SGD(rate, weight_decay=decay)]
        self.pair = list(self.queue)

    def set(self, rate: float, decay: float) -> None:
        for one in self.pair:
            one.learning_rate = rate
        self.pair[1].weight_decay = decay

    def init(self, parameters: Any) -> None:
        for one in self.pair:
            one.init(parameters)

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        self.state["step"] = self.step + 1
        self.queue.append(self.queue.pop(0))
        return self.queue[0].apply_gradients(gradients, parameters)


class Inner(optim.Optimizer):
    """One that holds another one in a config."""

    def __init__(self, rate: Any, decay: Any) -> None:
        super().__init__()
        self.parts = Config(optim.AdamW(rate, weight_decay=decay))
        self.parts.notes.append(self.parts)  # a config that contains itself

    def set(self, rate: float, decay: float) -> None:
        self.parts.decay.learning_rate = rate
        self.parts.decay.weight_decay = decay

    def init(self, parameters: Any) -> None:
        self.parts.decay.init(parameters)

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        self.state["step"] = self.step + 1
        return self.parts.decay.apply_gradients(gradients, parameters)


class Locked(optim.SGD):
    """One that refuses unknown attributes."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__") or name == "_attachment":
            raise AttributeError(f"{name} is locked")
        super().__setattr__(name, value)


class Fluent(optim.SGD):
    """One whose ``update`` returns itself, and takes its arguments by name."""

    def update(self, model: Any, gradients: Any) -> Any:
        super().update(gradients=gradients, model=model)
        return self


class Keyed(optim.SGD):
    """One whose ``apply_single`` has other names for its arguments, and one more."""

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        if not self._initialized:
            self.init(gradients)
        for name, schedule in self._schedulers.items():
            self.state[name] = schedule(self.step)
        self.state["step"] = self.step + 1
        return tree_map(
            lambda g, p, s: self.apply_single(0.5, grad=g, param=p, st=s),
            gradients, parameters, self.state,
        )  # fmt: skip

    def apply_single(self, scale: float, grad: Any, param: Any, st: Any) -> mx.array:  # type: ignore[override]
        return super().apply_single(scale * grad, param, st)  # type: ignore[no-any-return]


class Small(optim.MultiOptimizer):
    """One that makes two small steps with the same gradients."""

    def __init__(self, rate: Any, decay: Any) -> None:
        super().__init__([optim.Adam(rate, bias_correction=True)])

    def set(self, rate: float, decay: float) -> None:
        self.optimizers[0].learning_rate = rate

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        once = super().apply_gradients(gradients, parameters)
        return super().apply_gradients(gradients, once)


class Same(Small):
    """One that holds the same optimizer in two places."""

    def __init__(self, rate: Any, decay: Any) -> None:
        adam = optim.Adam(rate, bias_correction=True)
        optim.MultiOptimizer.__init__(self, [adam, adam], [lambda path, _: "bias" in path])

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        return optim.MultiOptimizer.apply_gradients(self, gradients, parameters)


class Master(optim.Optimizer):
    """One with weights and momentum in float32, for parameters in half precision."""

    def __init__(self, rate: Any, decay: Any) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", rate)
        self.momentum = decay

    def set(self, rate: float, decay: float) -> None:
        self.learning_rate, self.momentum = rate, decay  # type: ignore[assignment]

    def init_single(self, parameter: mx.array, state: Any) -> None:
        state["w"] = parameter.astype(mx.float32)
        state["m"] = mx.zeros(parameter.shape)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Any) -> mx.array:
        wide = gradient.astype(mx.float32)
        state["m"] = state["m"] * self.momentum + wide * (1 - self.momentum)
        state["w"] = state["w"] - state["m"] * self.learning_rate
        return state["w"].astype(parameter.dtype)


class Reset(optim.SGD):
    """One that replaces its state from time to time, eagerly."""

    def update(self, model: Any, gradients: Any) -> None:
        if int(self.step.item()) % 3 == 2:
            self.state = {"step": self.step, "learning_rate": self.learning_rate}
            self.init(gradients)
        super().update(model, gradients)


def sgd(kind: Any) -> Callable[..., Any]:
    return lambda rate, decay: kind(rate, momentum=0.9, weight_decay=decay)


def settings(kind: str) -> Callable[..., Any]:
    return lambda rate, decay: Settings(rate, decay, kind)


MAKERS: dict[str, Callable[..., Any]] = {
    "accumulating": sgd(Accumulating),
    "groups": Groups,
    "renewed groups": Renewed,
    **{kind: settings(kind) for kind in ("config", "pair", "attributes", "names", "defaultdict")},
    "rules": Ruled,
    "turns": Turns,
    "inner": Inner,
    "locked": sgd(Locked),
    "fluent": sgd(Fluent),
    "keyed": sgd(Keyed),
    "small steps": Small,
    "the same one twice": Same,
    "master weights": Master,
    "reset": sgd(Reset),
}
HALF = ["groups", "rules", "keyed", "master weights", "pair"]
# What these count on the host is a constant in a graph, or the state of an optimizer in a config is
# not captured; with floats too.
EAGER = ["groups", "renewed groups", "config", "attributes", "names", "turns", "inner", "reset"]
WAYS_OF = {
    "accumulating": ["loop"],  # its step counts every second update
    "small steps": ["loop", "compiled loop"],  # these make two steps in an update
    "the same one twice": ["loop", "compiled loop"],
    **{name: ["loop", "step"] for name in EAGER},
}
CASES = [
    (name, way, dtype)
    for name in MAKERS
    if name != "the same one twice" or MLX >= (0, 32)  # MLX can merge the trees of both
    for way in WAYS_OF.get(name, WAYS)
    for dtype in ([None, mx.bfloat16] if name in HALF else [None])
]


def rate_at(step: int) -> tuple[float, float]:
    """Return the values at a step, by hand."""
    return 0.1 + (0.01 - 0.1) * step / STEPS, 0.3 + (0.7 - 0.3) * step / STEPS


def model_of(dtype: mx.Dtype | None) -> nn.Module:
    mx.random.seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    model.set_dtype(dtype or mx.float32)
    return model


def set_by_hand(optimizer: Any, step: int) -> None:
    rate, decay = rate_at(step)
    if hasattr(optimizer, "set"):
        optimizer.set(rate, decay)
    else:
        optimizer.learning_rate = rate
        name = "decay" if hasattr(optimizer, "decay") else "weight_decay"
        setattr(optimizer, name, decay)


def train(optimizer: Any, before: Callable[[int], object], way: str, dtype: Any) -> dict[str, Any]:
    """Train for some steps, and return the parameters."""
    model = model_of(dtype)
    x, y = X.astype(dtype or mx.float32), Y.astype(dtype or mx.float32)
    loss_and_grad = nn.value_and_grad(model, lambda x, y: ((model(x) - y) ** 2).mean())

    def step(x: mx.array, y: mx.array) -> mx.array:
        loss, gradients = loss_and_grad(x, y)
        optimizer.update(model, gradients)
        return loss  # type: ignore[no-any-return]

    made: Any = step
    optimizer.init(model.trainable_parameters())
    if way.startswith("compiled"):
        state = [model.state, optimizer.state]
        made = mx.compile(step, inputs=state, outputs=state)
    for i in range(STEPS):
        before(i)
        mx.eval(made(x, y), model.parameters())
    return dict(tree_flatten(model.parameters()))


@pytest.mark.parametrize(("name", "way", "dtype"), CASES)
def test_every_parameter_is_that_of_floats_set_by_hand(name: str, way: str, dtype: Any) -> None:
    compiled = way.startswith("compiled")
    make = MAKERS[name]
    floats = make(*rate_at(0))
    expected = train(floats, lambda i: set_by_hand(floats, i), "loop", dtype)
    optimizer = make(Linear(0.1, 0.01), Linear(0.3, 0.7))
    if "loop" in way:
        group = attach(optimizer)
        found = train(optimizer, lambda i: group.update(i / STEPS), way, dtype)
    else:
        attach(optimizer, horizon=Horizon(STEPS))
        found = train(optimizer, lambda i: None, way, dtype)
    for path, array in expected.items():
        assert found[path].dtype == array.dtype
        if not compiled:
            assert mx.array_equal(found[path], array), path
        else:
            near = 1e-5 if dtype is None else 2e-2
            assert mx.allclose(found[path], array, rtol=near, atol=near), path
    detach(optimizer)
    for way_back in (vars(optimizer), vars(floats)):
        assert "_attachment" not in way_back
    assert {*vars(optimizer)} == {*vars(floats)}


@pytest.mark.parametrize("name", ["small steps", "the same one twice"])
@pytest.mark.parametrize("compiled", [False, True])
def test_an_update_that_makes_two_steps_counts_two(name: str, compiled: bool) -> None:
    optimizer = MAKERS[name](Linear(1.0, 0.0), None)
    group = attach(optimizer, horizon=Horizon(8))
    parameters = {"weight": mx.zeros((1,)), "bias": mx.zeros((1,))}
    gradients = tree_map(mx.ones_like, parameters)
    optimizer.init(parameters)

    def step() -> Any:
        return optimizer.apply_gradients(gradients, parameters)

    made = (
        mx.compile(step, inputs=[optimizer.state], outputs=[optimizer.state]) if compiled else step
    )
    for updates in range(1, 4):
        mx.eval(made())
        assert (group.step, optimizer.optimizers[0].step.item()) == (2 * updates, 2 * updates)
        assert group.snapshot() == {next(iter(group)): 1 - 2 * updates / 8}


def test_what_an_update_leaves_in_containers_stays_there() -> None:
    optimizer = Groups(Linear(0.1, 0.01), decay := Linear(0.3, 0.7))
    group = attach(optimizer)
    train(optimizer, lambda i: group.update(i / STEPS), "loop", None)
    settings = optimizer.groups[0]
    assert (settings["t"], settings["seen"], settings["decay"]) == (8, [*range(1, 9)], decay)


def test_a_number_that_an_update_assigns_is_for_this_update() -> None:
    class Stopping(optim.SGD):
        def update(self, model: Any, gradients: Any) -> None:
            if self.step.item() == 1:
                self.weight_decay = 0.0
            self.used = self.weight_decay
            super().update(model, gradients)

    optimizer = Stopping(0.1, weight_decay=(decay := Linear(0.5, 0.0)))
    group = attach(optimizer)
    model, used = nn.Linear(1, 1), []
    for i in range(4):
        group.update(i / 4)
        optimizer.update(model, tree_map(mx.zeros_like, model.parameters()))
        used.append(optimizer.used)
        assert optimizer.weight_decay is decay
    assert used == [0.5, 0.0, 0.25, 0.125]


class Cfg(NamedTuple):
    """Settings that are replaced at each step."""

    decay: Any
    count: int = 0


@dataclass(frozen=True)
class Fixed:
    """Settings that are replaced at each step."""

    decay: Any
    previous: Any = 0.0


class Keeping(optim.SGD):
    """One that keeps numbers in ``c``, in ways given by functions."""

    def __init__(self, decay: Any, make: Any, use: Any, after: Any) -> None:
        super().__init__(0.1)
        self.c, self.use, self.after = make(decay), use, after

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        used = self.use(self)
        updated = tree_map(lambda g, p: g + used * p, gradients, parameters)
        updated = super().apply_gradients(updated, parameters)
        self.after(self)
        return updated


def set_item(key: Any) -> Any:
    return lambda o, value: o.c.__setitem__(key, value)


def renew(o: Any, **changes: Any) -> None:
    o.c = {**o.c, **changes}


KEEPING = {
    "a named tuple that counts": (
        Cfg,
        lambda o: o.c.decay * (1 + o.c.count),
        lambda o: setattr(o, "c", o.c._replace(count=o.c.count + 1)),
        lambda o, value: setattr(o, "c", o.c._replace(decay=value)),
    ),
    "a tuple with the last value": (
        lambda d: (d, 0.0),
        lambda o: o.c[0] + o.c[1],
        lambda o: setattr(o, "c", (o.c[0], o.c[0])),
        lambda o, value: setattr(o, "c", (value, o.c[1])),
    ),
    "a tuple in a list": (
        lambda d: [(d, 0.0), 1],
        lambda o: o.c[0][0] + o.c[0][1],
        lambda o: o.c.__setitem__(0, (o.c[0][0], o.c[0][0])),
        lambda o, value: o.c.__setitem__(0, (value, o.c[0][1])),
    ),
    "a frozen config with the last value": (
        Fixed,
        lambda o: o.c.decay + o.c.previous,
        lambda o: setattr(o, "c", replace(o.c, previous=o.c.decay)),
        lambda o, value: setattr(o, "c", replace(o.c, decay=value)),
    ),
    "a new list with the last value": (
        lambda d: {"decay": d, "last": [0.0]},
        lambda o: o.c["decay"] + o.c["last"][0],
        lambda o: o.c.__setitem__("last", [o.c["decay"]]),
        set_item("decay"),
    ),
    "a new dict with the last value": (
        lambda d: {"last": 0.0, "decay": d},
        lambda o: o.c["decay"] + o.c["last"],
        lambda o: renew(o, last=o.c["decay"]),
        set_item("decay"),
    ),
    "a history that grows": (
        lambda d: {"decay": d, "all": [0.0]},
        lambda o: o.c["decay"] + sum(o.c["all"]),
        lambda o: renew(o, all=o.c["all"] + [o.c["decay"]]),
        set_item("decay"),
    ),
    "an ordered dict": (
        lambda d: OrderedDict(a=1.0, decay=d),
        lambda o: o.c.pop("decay") * o.c["a"],
        lambda o: None,
        set_item("decay"),
    ),
    "a list whose item is None": (
        lambda d: [d, 1.0],
        lambda o: o.c[0] * o.c[1],
        lambda o: o.c.__setitem__(0, None),
        set_item(0),
    ),
}


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("by_step", [False, True])
def test_what_an_optimizer_makes_of_its_numbers(name: str, by_step: bool) -> None:
    make, use, after, set_value = KEEPING[name]
    results = []
    for decay in (0.3, Linear(0.3, 0.7)):
        optimizer: Any = Keeping(decay, make, use, after)
        if isinstance(decay, Linear):
            group = attach(optimizer, horizon=Horizon(8) if by_step else None)
        parameters = {"w": mx.ones(2)}
        for i in range(6):
            if not isinstance(decay, Linear):
                set_value(optimizer, 0.3 + (0.7 - 0.3) * (i / 8))
            elif not by_step:
                group.update(i / 8)
            parameters = optimizer.apply_gradients({"w": mx.zeros(2)}, parameters)
        results.append(parameters["w"].tolist())
        if isinstance(decay, OrderedDict):
            assert list(optimizer.c) == ["a", "decay"]
    assert results[1] == results[0]


def test_a_checkpoint_after_a_trace_that_failed() -> None:
    class Failing(optim.SGD):
        fails = False

        def apply_single(self, gradient: Any, parameter: Any, state: Any) -> Any:
            if self.fails:
                raise KeyError("broken")
            return super().apply_single(gradient, parameter, state)

    failing = Failing(Linear(0.1, 0.2))
    members = [failing, optim.SGD(0.3, momentum=0.9)]
    optimizer = optim.MultiOptimizer(members, [lambda path, _: path == "a"])
    attach(optimizer)
    ones = {"a": mx.ones(1), "b": mx.ones(1)}
    optimizer.init(ones)
    optimizer.apply_gradients(ones, ones)
    saved = tree_map(mx.array, optimizer.state)
    captured = [optimizer.state]
    step = mx.compile(
        lambda p: optimizer.apply_gradients(ones, p), inputs=captured, outputs=captured
    )
    failing.fails = True
    with pytest.raises(KeyError, match="broken"):
        step(ones)
    failing.fails = False
    optimizer.state = tree_map(mx.array, saved)
    assert optimizer.apply_gradients(ones, ones)["b"].item() == pytest.approx(1 - 0.3 * 1.9)


def test_two_optimizers_that_share_a_config_count_in_the_same_one() -> None:
    class Counting(optim.SGD):
        def __init__(self, rate: Any, config: Any) -> None:
            super().__init__(rate)
            self.config, self.groups = config, [config]
            self.count = lambda: config["t"]

        def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
            self.config["t"] += 1
            assert self.count() == self.groups[0]["t"] == config["t"]
            assert type(self.groups[0]["decay"]) is float
            return super().apply_gradients(gradients, parameters)

    config = {"decay": (decay := Linear(0.1, 0.2)), "t": 0}
    members = [Counting(0.1, config), Counting(0.1, config)]
    attach(optimizer := optim.MultiOptimizer(members, [lambda path, _: "bias" in path]))
    for _ in range(5):
        ones = {"weight": mx.ones(1), "bias": mx.ones(1)}
        optimizer.apply_gradients(ones, ones)
    assert config == {"decay": decay, "t": 10}


def test_code_that_looks_at_its_class_and_at_its_attributes() -> None:
    class Looking(optim.SGD):
        def __init__(self, rate: Any, decay: Any) -> None:
            super().__init__(rate)
            self.decay = decay

        @property
        def decay(self) -> Any:
            return self.__dict__["decay"] * 0.5

        @decay.setter
        def decay(self, value: Any) -> None:
            self.__dict__["decay"] = value

        def update(self, model: Any, gradients: Any) -> None:
            assert type(self) is Looking
            assert vars(self)["decay"] == 0.25
            assert type(vars(self)["decay"]) is float
            self.trial = type(self)(0.5, 0.0)
            super(self.__class__, self).update(model, gradients)

        def apply_single(self, gradient: Any, parameter: Any, state: Any) -> Any:
            return super().apply_single(gradient + self.decay * parameter, parameter, state)

    attach(optimizer := Looking(1.0, decay := Linear(0.25, 0.5)))
    model = nn.Linear(1, 1)
    before = model.weight.item()
    optimizer.update(model, tree_map(mx.zeros_like, model.parameters()))
    assert model.weight.item() == pytest.approx(before * (1 - 0.125))
    assert vars(optimizer)["decay"] is decay
    made = type(optimizer)(0.5, 0.0)
    assert type(made) is type(optimizer.trial) is Looking


def test_methods_that_are_replaced_after_attach() -> None:
    optimizer = optim.Adam(Linear(0.1, 0.01), bias_correction=True)
    group = attach(optimizer, horizon=Horizon(10))
    once = optimizer.apply_gradients
    optimizer.apply_gradients = lambda g, p: once(g, once(g, p))  # type: ignore[method-assign]
    model = nn.Linear(1, 1)
    for updates in range(1, 4):
        optimizer.update(model, tree_map(mx.ones_like, model.parameters()))
        assert (group.step, optimizer.step.item()) == (2 * updates, 2 * updates)
    ones = {"weight": mx.ones((1, 1)), "bias": mx.ones(1)}
    optimizer.apply_gradients(ones, ones)
    assert (group.step, optimizer.step.item()) == (8, 8)


def test_an_optimizer_that_sets_its_step_is_followed() -> None:
    class Restarting(optim.Adam):
        def apply_single(self, gradient: Any, parameter: Any, state: Any) -> Any:
            if int(self.step.item()) == 3:
                self.state["step"] = mx.array(1, mx.uint64)
            return super().apply_single(gradient, parameter, state)

    optimizer = Restarting(Linear(1.0, 0.0))
    group, seen = attach(optimizer, horizon=Horizon(10)), []
    for _ in range(5):
        optimizer.apply_gradients({"w": mx.ones(1)}, {"w": mx.ones(1)})
        seen.append((optimizer.step.item(), group.step, float(group["learning_rate"])))
    assert seen == [(i, i, pytest.approx(1 - i / 10)) for i in (1, 2, 1, 2, 1)]


def test_an_optimizer_that_counts_no_steps_warns_with_a_horizon() -> None:
    class Uncounted(optim.Optimizer):
        def __init__(self, rate: Any) -> None:
            super().__init__()
            self.rate = rate

        def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
            return tree_map(lambda g, p: p - self.rate * g, gradients, parameters)

    optimizer = Uncounted(Linear(0.1, 0.0))
    attach(optimizer, horizon=Horizon(1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(299):
            optimizer.apply_gradients({"w": mx.ones(1)}, {"w": mx.ones(1)})
    with pytest.warns(RuntimeWarning, match="has made 300 updates without counting them"):
        optimizer.apply_gradients({"w": mx.ones(1)}, {"w": mx.ones(1)})


def test_init_has_numbers_too() -> None:
    class Decayed(optim.SGD):
        def __init__(self, rate: Any, decay: Any) -> None:
            super().__init__(rate)
            self.decay = decay

        def init_single(self, parameter: mx.array, state: Any) -> None:
            state["v"] = parameter * self.decay

    attach(optimizer := Decayed(0.1, Linear(0.5, 1.0)))
    optimizer.init({"w": mx.ones(2, mx.bfloat16)})
    assert mx.array_equal(optimizer.state["w"]["v"], mx.full(2, 0.5, mx.bfloat16))
    assert optimizer.state["w"]["v"].dtype == mx.bfloat16


def test_an_attach_that_fails_leaves_all_members_as_they_are() -> None:
    class Strict(type):
        def __new__(cls, name: str, bases: Any, own: Any, *, kind: str) -> Any:
            return super().__new__(cls, name, bases, own)

        def __init__(cls, name: str, bases: Any, own: Any, *, kind: str) -> None:
            super().__init__(name, bases, own)

    class Kind(optim.SGD, metaclass=Strict, kind="x"):
        """One whose subclasses need an argument."""

    rate = Linear(0.1, 0.0)
    member = optim.SGD(rate)
    optimizer = optim.MultiOptimizer([member, Kind(rate)], [lambda path, _: "bias" in path])
    with pytest.raises(TypeError, match="kind"):
        attach(optimizer)
    assert (type(optimizer), type(member)) == (optim.MultiOptimizer, optim.SGD)
    assert "scalars" not in member.state


def test_dataclasses_proxies_and_containers_of_all_kinds() -> None:
    class Two(tuple[Any, Any]):
        def __new__(cls, first: Any, second: Any) -> Two:
            return super().__new__(cls, (first, second))

    class Closed(dict[str, Any]):
        def update(self, *_: Any, **__: Any) -> None:
            raise TypeError("closed")

    @dataclass
    class Options(optim.SGD):
        rate: Any
        decay: Any

        def __post_init__(self) -> None:
            super().__init__(self.rate)
            self.two, self.closed = Two(self.decay, 1.0), Closed(decay=self.decay)
            self.queue = deque([self.decay, 2.0])
            self.deep: Any = [0.5]
            for _ in range(30):
                self.deep = [self.deep, self.deep]

        def update(self, model: Any, gradients: Any) -> None:
            kinds = [self.two[0], self.closed["decay"], self.queue[0], self.decay]
            assert {type(one) for one in kinds} == {float}
            assert type(self.two) is Two
            self.queue.rotate(1)
            super().update(model, gradients)
            self.queue.rotate(1)

    optimizer = Options(0.1, decay := Linear(0.1, 0.2))
    optimizer.parent = weakref.proxy(outer := optim.SGD(0.1))
    attach(optimizer)
    model = nn.Linear(1, 1)
    for _ in range(3):
        optimizer.update(model, tree_map(mx.zeros_like, model.parameters()))
    assert type(outer) is optim.SGD
    kept = [optimizer.two[0], optimizer.closed["decay"], optimizer.queue[0], optimizer.decay]
    assert all(one is decay for one in kept)


def test_an_update_that_replaces_its_state_and_notes_numbers() -> None:
    class Fresh(optim.SGD):
        def __init__(self, rate: Any, decay: Any) -> None:
            super().__init__(rate, momentum=0.5)
            self.config: dict[str, Any] = {"decay": decay, "before": None}

        def update(self, model: Any, gradients: Any) -> None:
            self._state = {"step": self.step, "learning_rate": self.learning_rate}
            self.init(gradients)
            self.config["before"] = self.config["decay"]
            self.config["decay"] *= 0.5
            super().update(model, gradients)

    optimizer = Fresh(Linear(0.1, 0.0), decay := Linear(0.25, 0.75))
    group, model = attach(optimizer), nn.Linear(1, 1)
    for i in range(3):
        group.update(i / 4)
        optimizer.update(model, tree_map(mx.zeros_like, model.parameters()))
        assert optimizer.config == {"before": 0.25 + i / 8, "decay": decay}
    assert "scalars" in optimizer.state
    assert group.progress == 0.5


def test_the_other_class_is_not_told_to_those_who_list_subclasses() -> None:
    known = []

    class Listed(optim.SGD):
        def __init_subclass__(cls, name: str) -> None:
            known.append(name)

    class Named(Listed, name="named"):
        """One with a name."""

    attach(optimizer := Named(Linear(0.1, 0.0)))
    assert known == ["named"]
    assert isinstance(optimizer, Named)


def test_an_optimizer_is_itself_during_an_update() -> None:
    class Hooked(optim.SGD):
        def update(self, model: Any, gradients: Any) -> Any:
            self.seen = self
            super().update(model, gradients)
            return self

    attach(optimizer := Hooked(Linear(0.1, 0.0)))
    model = nn.Linear(1, 1)
    result = optimizer.update(model, tree_map(mx.zeros_like, model.parameters()))
    assert result is optimizer.seen is optimizer


def test_what_a_traced_update_notes_is_no_schedule() -> None:
    class Noting(optim.SGD):
        def apply_single(self, gradient: Any, parameter: Any, state: Any) -> Any:
            self.noted = self.weight_decay
            return super().apply_single(gradient, parameter, state)

    optimizer = Noting(Linear(0.1, 0.0), weight_decay=Linear(0.5, 0.1))
    attach(optimizer, horizon=(horizon := Horizon(10)))
    model = nn.Linear(1, 1)
    optimizer.init(model.trainable_parameters())
    state = [model.state, optimizer.state]
    zeros = tree_map(mx.zeros_like, model.parameters())
    step = mx.compile(lambda: optimizer.update(model, zeros), inputs=state, outputs=state)
    step(), step()
    group = attach(optimizer, horizon=horizon.extend(20, at_step=2))
    assert group.snapshot() == {"learning_rate": 0.08, "weight_decay": pytest.approx(0.42)}


def test_an_optimizer_that_keeps_a_group_of_its_own() -> None:
    class Grouped(optim.SGD):
        def __init__(self, rate: Any, decay: Any) -> None:
            super().__init__(rate)
            self.group = ScalarGroup(decay=decay)

        def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
            scaled = tree_map(lambda g: float(self.group["decay"]) * g, gradients)
            return super().apply_gradients(scaled, parameters)

    optimizer = Grouped(0.5, Linear(1.0, 0.0))
    group = attach(optimizer)
    assert [*group] == ["decay"]
    for progress in (0.0, 0.5):
        group.update(progress)
        moved = optimizer.apply_gradients({"w": mx.array(1.0)}, {"w": mx.array(1.0)})["w"]
        assert moved.item() == 1 - 0.5 * (1 - progress)


@pytest.mark.parametrize("name", ["beta_2", "beta1", "b2", "decay_rate"])
@pytest.mark.parametrize("by_step", [False, True])
def test_a_decay_near_1_in_half_precision(name: str, by_step: bool) -> None:
    """The guide says how to name it and to write it."""

    class Corrected(optim.Optimizer):
        def __init__(self, rate: Any, decay: Any) -> None:
            super().__init__()
            self._maybe_schedule("learning_rate", rate)
            setattr(self, name, decay)

        def init_single(self, parameter: mx.array, state: Any) -> None:
            state["m"] = mx.zeros_like(parameter)

        def apply_single(self, gradient: mx.array, parameter: mx.array, state: Any) -> mx.array:
            decay = getattr(self, name)
            state["m"] = decay * state["m"] + (1 - decay) * gradient
            corrected = state["m"] / (1 - mx.power(decay, self.step))
            return parameter - (self.learning_rate * corrected).astype(parameter.dtype)

    seen = []
    for decay in (0.999, Linear(0.999, 0.9991)):
        optimizer, parameters = Corrected(0.1, decay), {"w": mx.ones(2, mx.bfloat16)}
        optimizer.init(parameters)
        if isinstance(decay, Linear):
            group = attach(optimizer, horizon=Horizon(1000) if by_step else None)
        captured = [optimizer.state]
        step = mx.compile(
            lambda p, o=optimizer: o.apply_gradients({"w": mx.ones(2, mx.bfloat16)}, p),
            inputs=captured,
            outputs=captured,
        )
        for i in range(4):
            if isinstance(decay, Linear) and not by_step:
                group.update(i / 1000)
            parameters = step(parameters)
        seen.append((parameters["w"].dtype, parameters["w"].tolist()))
        assert optimizer.state["w"]["m"].dtype == mx.bfloat16
    assert seen[0] == (mx.bfloat16, seen[0][1])
    assert seen[1] == (mx.bfloat16, pytest.approx(seen[0][1], abs=0.02))
    assert seen[0][1] == pytest.approx([0.6, 0.6], abs=0.02)


def test_a_number_that_is_also_elsewhere_stays_there() -> None:
    number = 0.25

    class Rotating(optim.SGD):
        def __init__(self, rate: Any, decay: Any) -> None:
            super().__init__(rate)
            self.numbers = [number, decay, 1.0]

        def update(self, model: Any, gradients: Any) -> None:
            self.numbers = [*self.numbers[1:], self.numbers[0]]
            super().update(model, gradients)

    attach(optimizer := Rotating(0.1, decay := Constant(number)))
    model = nn.Linear(1, 1)
    optimizer.update(model, tree_map(mx.zeros_like, model.parameters()))
    assert optimizer.numbers == [decay, 1.0, number]
    assert optimizer.numbers[0] is decay
    assert type(optimizer.numbers[2]) is float
