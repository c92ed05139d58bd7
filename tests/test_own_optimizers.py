"""Optimizers and trainers that do more than MLX's: own methods, arguments, members and states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from scalars import CosineAnnealing, Horizon, Linear, attach, detach

from .helpers import assert_same

STEPS = 4
WAYS = ["loop", "step"]
GRADIENTS = {"weight": mx.ones((1, 1)), "bias": mx.ones((1,))}
Run = Callable[[optim.Optimizer, nn.Module, Callable[[float], Any]], list[Any]]


def model_of_zeros() -> nn.Linear:
    model = nn.Linear(1, 1)
    model.update({"weight": mx.zeros((1, 1)), "bias": mx.zeros((1,))})
    return model


def changes(optimizer: Any, update: Callable[[float], Any], **named: Any) -> list[tuple[Any, Any]]:
    """Make some steps, and return how much each has changed the weight and the bias."""
    model, seen = model_of_zeros(), []
    for step in range(STEPS):
        update(step / STEPS)
        before = model.weight.item(), model.bias.item()
        optimizer.update(model, GRADIENTS, **named)
        seen.append((before[0] - model.weight.item(), before[1] - model.bias.item()))
    return seen


def nothing(progress: float) -> None:
    """Update nothing, as the step does it."""


def attached(optimizer: Any, way: str) -> Callable[[float], Any]:
    if way == "loop":
        return attach(optimizer).update
    attach(optimizer, horizon=Horizon(STEPS))
    return nothing


class Split(optim.SGD):
    """One that overrides ``update``, counts its step first, and has another one for biases."""

    def __init__(self, rate: Any, decay: Any = 0.0) -> None:
        super().__init__(rate, weight_decay=decay)
        self.fallback = optim.SGD(rate, weight_decay=decay)

    def update(self, model: Any, gradients: Any) -> None:
        if not self._initialized:
            self.init(gradients)
        for name, schedule in self._schedulers.items():
            self.state[name] = schedule(self.step)
        self.state["step"] = self.step + 1
        weight = self.apply_single(gradients["weight"], model.weight, self.state["weight"])
        rest = {"bias": gradients["bias"]}, {"bias": model.bias}
        model.update({"weight": weight, **self.fallback.apply_gradients(*rest)})


class Scaled(optim.SGD):
    """One whose methods take more arguments, and return something."""

    def init(self, parameters: Any, scale: float = 1.0) -> str:
        super().init(parameters)
        return f"initialized with {scale}"

    def apply_gradients(self, gradients: Any, parameters: Any, *, scale: float = 1.0) -> Any:
        scaled = {name: scale * array for name, array in gradients.items()}
        return super().apply_gradients(scaled, parameters)

    def update(self, model: Any, gradients: Any, scale: float = 1.0) -> str:
        model.update(self.apply_gradients(gradients, model, scale=scale))
        return f"scaled by {scale}"


class Skipping(optim.SGD):
    """One that skips every other update, on the host or within the graph."""

    def __init__(self, rate: Any, in_graph: bool) -> None:
        super().__init__(rate)
        self.in_graph, self.calls = in_graph, 0

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        self.calls += 1
        skip, before = self.calls % 2 == 0, self.step
        if skip and not self.in_graph:
            return {name: parameters[name] for name in gradients}
        updated = super().apply_gradients(gradients, parameters)
        if skip:
            self.state["step"] = mx.where(mx.array(True), before, self.step)
            return {name: parameters[name] for name in gradients}
        return updated


@pytest.mark.parametrize("way", WAYS)
def test_one_that_overrides_update_and_holds_another(way: str) -> None:
    """Both follow the value of the step that is being made, before and after it is counted."""
    optimizer = Split(Linear(1.0, 0.0))
    expected = [(rate, rate) for rate in (1.0, 0.75, 0.5, 0.25)]
    assert changes(optimizer, attached(optimizer, way)) == expected
    assert optimizer.state["step"].item() == STEPS


@pytest.mark.parametrize("way", WAYS)
def test_one_that_overrides_update_is_handed_numbers_in_half_precision(way: str) -> None:
    by_hand, ours = Split(0.0, 0.0), Split(Linear(0.5, 0.1), Linear(0.1, 0.4))
    update, weights = attached(ours, way), []
    for optimizer in (by_hand, ours):
        model = nn.Linear(3, 3)
        model.update(tree_unflatten([("weight", mx.eye(3)), ("bias", mx.ones((3,)))]))
        model.set_dtype(mx.bfloat16)
        for step in range(STEPS):
            for one in (by_hand, by_hand.fallback):
                one.learning_rate = Linear(0.5, 0.1).at(step / STEPS)
                one.weight_decay = Linear(0.1, 0.4).at(step / STEPS)
            update(step / STEPS)
            optimizer.update(model, {"weight": model.weight * 3, "bias": model.bias * 3})
        weights.append(dict(tree_flatten(model.parameters())))
    assert weights[1]["weight"].dtype == mx.bfloat16
    assert_same(weights[0], weights[1])


@pytest.mark.parametrize("way", WAYS)
def test_more_arguments_and_results_are_passed_on(way: str) -> None:
    optimizer, model = Scaled(Linear(1.0, 0.0)), model_of_zeros()
    update = attached(optimizer, way)
    assert optimizer.init(model.parameters(), scale=3.0) == "initialized with 3.0"
    expected = [(0.5 * rate, 0.5 * rate) for rate in (1.0, 0.75, 0.5, 0.25)]
    assert changes(optimizer, update, scale=0.5) == expected
    assert optimizer.update(model, GRADIENTS, 2.0) == "scaled by 2.0"
    parameters = optimizer.apply_gradients(GRADIENTS, model_of_zeros(), scale=0.0)
    assert parameters["weight"].item() == 0.0


@pytest.mark.parametrize("in_graph", [False, True])
def test_one_that_skips_updates_is_at_the_step_that_it_has_made(in_graph: bool) -> None:
    optimizer = Skipping(Linear(1.0, 0.0), in_graph)
    group = attach(optimizer, horizon=Horizon(STEPS))
    seen = changes(optimizer, nothing)
    assert seen == [(1.0, 1.0), (0.0, 0.0), (0.75, 0.75), (0.0, 0.0)]
    assert (group.step, float(group["learning_rate"])) == (2, 0.5)


class Clipped(optim.Optimizer):
    """One that passes its updates on to another one, and does not count them."""

    def __init__(self, inner: optim.Optimizer) -> None:
        super().__init__()
        self.inner = inner
        self.state["inner"] = inner.state

    def init(self, parameters: Any) -> None:
        self.inner.init(parameters)

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        gradients, _ = optim.clip_grad_norm(gradients, 100.0)
        return self.inner.apply_gradients(gradients, parameters)


@pytest.mark.parametrize("done", [0, 1])
@pytest.mark.parametrize("way", WAYS)
def test_one_that_passes_its_updates_on_follows_the_step_of_the_other(way: str, done: int) -> None:
    inner = optim.SGD(Linear(1.0, 0.0))
    inner.state["step"] = mx.array(done, mx.uint64)
    optimizer = Clipped(inner)
    if way == "loop":
        inner._schedulers["learning_rate"].update(done / STEPS)  # type: ignore[attr-defined]
    update = attached(optimizer, way)
    rates = [1 - step / STEPS for step in range(STEPS)]
    if way == "step":
        rates = [*rates[done:], *[0.0] * done]
    assert changes(optimizer, update) == [(rate, rate) for rate in rates]
    assert inner.step.item() == STEPS + done


@pytest.mark.parametrize("eager_first", [False, True])
def test_one_that_passes_its_updates_on_is_refused_if_it_was_traced_first(
    eager_first: bool,
) -> None:
    optimizer, model = Clipped(optim.SGD(Linear(1.0, 0.0))), model_of_zeros()
    group = attach(optimizer, horizon=Horizon(STEPS))
    captured = [model.state, optimizer.state]

    def body() -> None:
        optimizer.update(model, GRADIENTS)

    step = mx.compile(body, inputs=captured, outputs=captured)
    if not eager_first:
        message = "Clipped does not count its updates in its own step, .* but SGD in it does"
        with pytest.raises(ValueError, match=message):
            step()
        return
    body()
    weights = [model.weight.item()]
    for _ in range(STEPS - 1):
        step()
        weights.append(model.weight.item())
    assert weights == [-1.0, -1.75, -2.25, -2.5]
    assert group.step == STEPS


@pytest.mark.parametrize("compiled", [False, True])
def test_members_that_are_updated_one_by_one_follow_their_own_steps(compiled: bool) -> None:
    rate = Linear(1.0, 0.0)
    members = [optim.SGD(rate), optim.SGD(rate)]
    both = optim.MultiOptimizer(members, [lambda name, _: name == "weight"])
    attach(both, horizon=Horizon(STEPS))
    both.init(model_of_zeros().parameters())
    captured = [both.state]

    def body(parameters: Any) -> Any:
        weight = members[0].apply_gradients({"weight": GRADIENTS["weight"]}, parameters)
        return {**weight, **members[1].apply_gradients({"bias": GRADIENTS["bias"]}, parameters)}

    step = mx.compile(body, captured, captured) if compiled else body
    for expected in (1.0, 0.75, 0.5, 0.25):
        after = step(dict(model_of_zeros().parameters()))
        assert [after[name].item() for name in ("weight", "bias")] == [-expected, -expected]


@pytest.mark.parametrize("way", WAYS)
def test_gradients_flow_through_an_update(way: str) -> None:
    """As for meta-learning: d/dw (w - r 3 w**2) is 1 - 6 r at w = 1."""
    optimizer = optim.SGD(Linear(0.1, 0.5))
    attached(optimizer, way)

    def outer(w: mx.array) -> mx.array:
        loss = mx.grad(lambda w: w["b"] ** 3 + 0 * w["a"])({"a": w, "b": w})
        return optimizer.apply_gradients(loss, {"a": w, "b": w})["b"]  # type: ignore[no-any-return]

    assert mx.grad(outer)(mx.array(1.0)).item() == pytest.approx(1 - 6 * 0.1)
    twice = mx.grad(lambda w: mx.grad(outer)(w))(mx.array(1.0)).item()
    rate = 0.1 if way == "loop" else optimizer._schedulers["learning_rate"].at(1 / STEPS)  # type: ignore[attr-defined]
    assert twice == pytest.approx(-6 * rate)


@pytest.mark.parametrize("way", WAYS)
def test_an_update_that_is_compiled_without_its_state_is_refused(way: str) -> None:
    """Also if only some gradients depend on what is traced; nothing is evaluated for it."""
    optimizer, model = optim.SGD(Linear(0.1, 0.5)), model_of_zeros()
    attached(optimizer, way)
    pending = mx.exp(mx.ones((1, 1)))

    def step(x: mx.array) -> None:
        optimizer.update(model, {"weight": pending, "bias": x})

    with pytest.raises(ValueError, match="traces without capturing optimizer.state"):
        mx.compile(step, inputs=[model.state], outputs=[model.state])(mx.ones((1,)))


@pytest.mark.parametrize("way", WAYS)
def test_an_optimizer_that_is_added_to_an_attached_one_is_left_alone(way: str) -> None:
    optimizer = Split(Linear(1.0, 0.0))
    update = attached(optimizer, way)
    vars(optimizer)["fallback"] = optim.SGD(0.125)
    assert changes(optimizer, update) == [(rate, 0.125) for rate in (1.0, 0.75, 0.5, 0.25)]


class Momentum(optim.Optimizer):
    """One with arrays on the left of its numbers, and with numbers in ``apply_gradients``."""

    def __init__(self, rate: Any, beta: Any, factor: Any) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", rate)
        self.beta, self.factor = beta, factor

    def init_single(self, parameter: mx.array, state: Any) -> None:
        state["m"] = mx.zeros_like(parameter)

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        scaled = {name: array * self.factor for name, array in gradients.items()}
        return super().apply_gradients(scaled, parameters)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Any) -> mx.array:
        state["m"] = state["m"] * self.beta + gradient * (1 - self.beta)
        return parameter - self.learning_rate.astype(gradient.dtype) * state["m"]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_one_with_arrays_on_the_left_keeps_the_dtype(
    dtype: mx.Dtype, way: str, compiled: bool
) -> None:
    by_hand = Momentum(0.0, 0.0, 0.0)
    ours = Momentum(Linear(0.5, 0.1), Linear(0.75, 0.875), Linear(1.0, 2.0))
    update, weights = attached(ours, way), []
    for optimizer in (by_hand, ours):
        w = {"w": mx.arange(1.0, 5.0).astype(dtype)}
        optimizer.init(w)
        captured = [optimizer.state]
        step: Any = optimizer.apply_gradients
        if compiled and optimizer is ours:
            step = mx.compile(step, inputs=captured, outputs=captured)
        for i in range(STEPS):
            progress = i / STEPS
            by_hand.learning_rate = Linear(0.5, 0.1).at(progress)
            by_hand.beta = Linear(0.75, 0.875).at(progress)
            by_hand.factor = Linear(1.0, 2.0).at(progress)
            update(progress)
            w = step({"w": w["w"] * 0.5}, w)
        weights.append(w["w"])
    assert weights[1].dtype == dtype
    bound = (1e-6 if dtype == mx.float32 else 2**-6) if compiled else 0
    assert mx.abs(weights[0] - weights[1]).max().item() <= bound


# Assigned rates ---------------------------------------------------------------------


class Own(optim.Optimizer):
    """One of a user, who assigns the rate instead of calling ``_maybe_schedule``."""

    def __init__(self, rate: Any) -> None:
        super().__init__()
        self.learning_rate = rate

    def init_single(self, parameter: mx.array, state: Any) -> None:
        """Keep nothing."""

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Any) -> mx.array:
        return parameter - self.learning_rate.astype(gradient.dtype) * gradient


def assigned(rate: Any) -> optim.Optimizer:
    optimizer = optim.SGD(0.25)
    optimizer.learning_rate = rate
    return optimizer


def assigned_again(rate: Any) -> optim.Optimizer:
    optimizer = optim.SGD(CosineAnnealing(8.0))
    attach(optimizer)
    detach(optimizer)
    optimizer.learning_rate = rate
    return optimizer


def assigned_to_several(rate: Any) -> optim.Optimizer:
    optimizer = optim.MultiOptimizer(
        [optim.SGD(0.25), optim.SGD(0.5)], [lambda name, _: name == "bias"]
    )
    optimizer.learning_rate = rate
    return optimizer


@pytest.mark.parametrize("way", ["alone", *WAYS])
@pytest.mark.parametrize("make", [assigned, assigned_again, assigned_to_several, Own])
def test_a_scalar_that_is_assigned_as_the_rate_is_live(
    make: Callable[[Any], optim.Optimizer], way: str
) -> None:
    rate = Linear(1.0, 0.0)
    optimizer = make(rate)
    update = rate.update if way == "alone" else attached(optimizer, way)
    expected = [(rate, rate) for rate in (1.0, 0.75, 0.5, 0.25)]
    assert changes(optimizer, update) == expected


def test_a_function_of_a_user_that_has_the_name_of_the_property() -> None:
    scalar = Linear(1.0, 0.0)

    def learning_rate(self: Any) -> mx.array:
        return mx.array(scalar)

    assert learning_rate(None).item() == 1.0


def test_a_rate_is_no_function() -> None:
    """Code of others asks ``callable`` to tell a schedule from a number."""
    scalar = CosineAnnealing(0.5)
    arrays = [scalar.array, scalar(1), scalar(mx.array(1)), optim.Adam(scalar).learning_rate]
    inside: list[mx.array] = []
    mx.compile(lambda: inside.append(scalar.array) or scalar * 1.0, inputs=[scalar.state])
    for array in [*arrays, *inside]:
        assert type(array) is mx.array
        assert not callable(array)
    assert optim.Adam(scalar.array).learning_rate.item() == 0.5


# States -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("empty", [{}, []])
def test_a_state_that_is_taken_away_for_a_while(way: str, empty: Any) -> None:
    """Trainers do so to free memory, for example while they generate something."""
    parameters = []
    for interrupted in (False, True):
        optimizer = optim.AdamW(CosineAnnealing(0.1), weight_decay=Linear(0.1, 0.4))
        update, model = attached(optimizer, way), model_of_zeros()
        captured = optimizer.state
        for step in range(STEPS):
            update(step / STEPS)
            rate = float(optimizer._schedulers["learning_rate"])  # type: ignore[arg-type]
            if interrupted and step == 2:
                saved = dict(tree_flatten(optimizer.state))
                optimizer.state = empty
                assert {*optimizer.state} <= {"step", "learning_rate", "scalars"}
                assert float(optimizer._schedulers["learning_rate"]) == rate  # type: ignore[arg-type]
                message = "optimizer.state must be complete before an update.*optimizer.state = l"
                with pytest.raises(ValueError, match=message):
                    optimizer.update(model, GRADIENTS)
                optimizer.state = tree_unflatten(list(saved.items()))
                assert optimizer.state is captured
            optimizer.update(model, GRADIENTS)
        parameters.append(model.parameters())
    assert_same(parameters[0], parameters[1])


@pytest.mark.parametrize("way", WAYS)
def test_a_state_that_was_taken_away_comes_back_in_other_ways(way: str) -> None:
    optimizer = optim.AdamW(CosineAnnealing(0.1))
    update, model = attached(optimizer, way), model_of_zeros()
    update(0.0)
    optimizer.update(model, GRADIENTS)
    kept, saved = optimizer.state, dict(tree_flatten(optimizer.state))
    optimizer.state = {}
    with pytest.raises(ValueError, match="must be a copy of what it was, as its own dict was empt"):
        optimizer.state = kept
    optimizer.state.update(tree_unflatten(list(saved.items())))
    optimizer.update(model, GRADIENTS)
    assert optimizer.state["weight"]["m"].item() != 0
    optimizer.state = {}
    optimizer.init(model.trainable_parameters())  # begins anew, as with plain MLX
    optimizer.update(model, GRADIENTS)
    assert optimizer.state["weight"]["m"].item() == pytest.approx(0.1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("whole", [False, True])
def test_a_state_that_is_zeroed_leaves_the_scalars_alone(way: str, whole: bool) -> None:
    """Some loops, and some optimizers, reset the momentum so."""
    optimizer, model = optim.SGD(Linear(1.0, 0.0), momentum=Linear(0.5, 0.9)), model_of_zeros()
    update = attached(optimizer, way)
    for step in range(2):
        update(step / STEPS)
        optimizer.update(model, GRADIENTS)
    if whole:
        kept = {name: optimizer.state[name] for name in ("step", "learning_rate")}
        optimizer.state = {**tree_map(mx.zeros_like, optimizer.state), **kept}
    else:
        for name in [*optimizer.state]:
            if name not in ("step", "learning_rate"):
                optimizer.state[name] = tree_map(mx.zeros_like, optimizer.state[name])
    update(2 / STEPS)
    before = model.weight.item()
    optimizer.update(model, GRADIENTS)
    assert before - model.weight.item() == 0.5  # the rate of step 2, and no velocity
    group = attach(optimizer)
    assert group.held == {}


@pytest.mark.parametrize("step", [2, np.int64(2), mx.array(2)])
def test_a_step_that_is_assigned_as_a_number(step: Any) -> None:
    optimizer, model = optim.SGD(Linear(1.0, 0.0)), model_of_zeros()
    group = attach(optimizer, horizon=Horizon(STEPS))
    optimizer.state["step"] = step
    assert (group.step, group.progress, float(group["learning_rate"])) == (2, 0.5, 0.5)
    optimizer.state["step"] = step
    optimizer.update(model, GRADIENTS)
    assert (model.weight.item(), group.step) == (-0.5, 3)
    optimizer.state["step"] = -1
    with pytest.raises(ValueError, match=r'optimizer.state\["step"\] must be a whole number'):
        group.snapshot()


def test_a_state_that_is_an_argument_of_a_compiled_function_is_refused() -> None:
    model = model_of_zeros()
    optimizer = optim.Adam(Linear(1.0, 0.0), eps=Linear(1e-8, 1e-7))
    optimizer.init(model.parameters())
    attach(optimizer)

    def step(state: Any, gradients: Any) -> Any:
        optimizer.state = state
        return optimizer.apply_gradients(gradients, model), optimizer.state

    with pytest.raises(ValueError, match="assigned inside a function that is being traced.*by_st"):
        mx.compile(step)(optimizer.state, GRADIENTS)


def test_a_state_that_is_passed_around_eagerly_keeps_the_progress_of_the_loop() -> None:
    optimizer, model, seen = optim.SGD(Linear(1.0, 0.0)), model_of_zeros(), []
    group = attach(optimizer)
    state: Any = optimizer.state
    for step in range(STEPS):
        group.update(step / STEPS)
        optimizer.state = state
        before = model.weight.item()
        optimizer.update(model, GRADIENTS)
        seen.append(before - model.weight.item())
        state = optimizer.state
    assert seen == [1.0, 0.75, 0.5, 0.25]
