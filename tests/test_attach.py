"""Attached scalars are found, current and exact in every dtype, with both drivers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

from scalars import (
    Constant,
    CosineAnnealing,
    Exponential,
    Horizon,
    LambdaValue,
    Linear,
    Polynomial,
    ScheduledScalar,
    Sequence,
    Warmup,
    attach,
    detach,
)

from .helpers import Traced, assert_same, largest_difference, reloaded
from .test_every_optimizer import (
    CHOICES,
    DTYPES,
    HYPERPARAMETERS,
    ROUNDING,
    STEPS,
    gradients,
    make,
    parameters,
    set_by_hand,
)


def dtypes(tree: Any) -> dict[str, mx.Dtype]:
    return {name: array.dtype for name, array in tree_flatten(tree)}


def without_scalars(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "scalars"}


# Exactness ------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize(("name", "scheduled"), CHOICES)
def test_eager_is_bitwise_that_of_floats_in_every_dtype(
    name: str, scheduled: str, dtype: str
) -> None:
    optimizer, _ = make(name, scheduled)
    reference, _ = make(name, "none")
    group = attach(optimizer)
    ours, theirs = parameters(dtype), parameters(dtype)
    again = gradients(dtype)
    for progress, gradient in gradients(dtype):
        group.update(progress)
        set_by_hand(reference, scheduled, progress)
        ours = optimizer.apply_gradients(gradient, ours)
        theirs = reference.apply_gradients(next(again)[1], theirs)
        assert_same(ours, theirs)
        assert_same(without_scalars(optimizer.state), reference.state)
    assert dtypes(ours) == dtypes(parameters(dtype))


def run_compiled(name: str, dtype: str, by_hand: bool, steps: int) -> tuple[Any, Any, int]:
    optimizer, _ = make(name, "none" if by_hand else "all")
    group = None if by_hand else attach(optimizer)
    ours = parameters(dtype)
    optimizer.init(ours)
    captured = [optimizer.state]  # as trainers do
    body = Traced(lambda g, p: optimizer.apply_gradients(g, p))
    step = mx.compile(body, inputs=captured, outputs=captured)
    for progress, gradient in list(gradients(dtype))[:steps]:
        if group is not None:
            group.update(progress)
        else:  # the floats are constants of the graph, so compile it again
            set_by_hand(optimizer, "all", progress)
            step = mx.compile(body, inputs=captured, outputs=captured)
        ours = step(gradient, ours)
    return ours, without_scalars(optimizer.state), body.traces


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("name", list(HYPERPARAMETERS))
def test_compiled_is_that_of_floats_in_every_dtype(name: str, dtype: str) -> None:
    ours, our_state, traces = run_compiled(name, dtype, by_hand=False, steps=3)
    theirs, their_state, _ = run_compiled(name, dtype, by_hand=True, steps=3)
    assert dtypes(ours) == dtypes(parameters(dtype))
    assert largest_difference(ours, theirs) <= ROUNDING[dtype]
    assert largest_difference(our_state, their_state) <= ROUNDING[dtype]
    assert traces == 1


def test_without_attach_bfloat16_becomes_float32() -> None:
    """The reason for ``attach``. If this fails, MLX has changed."""
    optimizer, _ = make("AdamW", "weight_decay")
    ours = optimizer.apply_gradients(next(gradients("bfloat16"))[1], parameters("bfloat16"))
    assert ours["w"].dtype == mx.float32


# Finding scalars ------------------------------------------------------------------


class Deep(nn.Module):
    """A model with scalars in layers, lists and expressions."""

    def __init__(self, rate: Any, a: Any, b: Any) -> None:
        super().__init__()
        self.blocks = [nn.Sequential(nn.Linear(4, 4), nn.Dropout(rate)), nn.Linear(4, 1)]
        self.temperature = a * b
        self.scales = [a, 1.0]

    def __call__(self, x: mx.array) -> mx.array:
        for block in self.blocks:
            x = block(x)
        return x / self.temperature * self.scales[0]


def test_everything_is_found() -> None:
    lr, rate, a, b, aux = (Linear(float(i), 1.0) for i in range(1, 6))
    rate = Linear(0.0, 0.5)
    betas = (Linear(0.8, 0.9), 0.99)
    optimizer = optim.AdamW(lr, betas=betas, weight_decay=lr * 0.1)  # type: ignore[arg-type]
    group = attach(optimizer, Deep(rate, a, b), aux=aux)
    expected = {
        "aux": aux,
        "betas.0": betas[0],
        "blocks.0.layers.1.p": rate,
        "learning_rate": lr,
        "temperature.0": a,  # also in the list "scales"
        "temperature.1": b,
        "weight_decay": optimizer.weight_decay,
    }
    assert sorted(group) == sorted(expected)
    assert all(group[name] is scalar for name, scalar in expected.items())
    assert set(optimizer.state["scalars"]) == {
        name.replace(".", "/") for name in group if name != "weight_decay"
    }
    group.update(1)
    assert {scalar.progress for scalar in group.values()} == {1}


def test_the_members_of_a_multi_optimizer_are_found() -> None:
    lr = Linear(0.1, 0.2)
    first, second = optim.SGD(lr, momentum=Linear(0.5, 0.9)), optim.AdamW(lr * 0.1)
    optimizer = optim.MultiOptimizer([first, second], [lambda name, _: name == "w"])
    group = attach(optimizer)
    assert set(group) == {
        "optimizers.0.learning_rate",
        "optimizers.0.momentum",
        "optimizers.1.learning_rate",
    }
    by_hand = optim.MultiOptimizer(
        [optim.SGD(0.1, 0.5), optim.AdamW(0.01)], [lambda n, _: n == "w"]
    )
    ours, theirs = parameters("mixed"), parameters("mixed")
    again = gradients("mixed")
    for progress, gradient in gradients("mixed"):
        group.update(progress)
        members = by_hand.optimizers
        members[0].learning_rate = lr.at(progress)
        members[0].momentum = Linear(0.5, 0.9).at(progress)
        members[1].learning_rate = lr.at(progress) * 0.1
        ours = optimizer.apply_gradients(gradient, ours)
        theirs = by_hand.apply_gradients(next(again)[1], theirs)
        assert_same(ours, theirs)
    saved = reloaded(optimizer.state)
    group.update(0)
    optimizer.state = saved
    assert lr.progress == (STEPS - 1) / STEPS
    detach(optimizer)
    assert type(first) is optim.SGD
    assert type(optimizer) is optim.MultiOptimizer


def test_the_members_of_a_multi_optimizer_follow_one_step() -> None:
    lr = Linear(1.0, 0.0)
    members = [optim.SGD(lr), optim.SGD(lr * 0.1)]
    optimizer = optim.MultiOptimizer(members, [lambda name, _: name == "w"])
    attach(optimizer, horizon=Horizon(4))
    ones = {"w": mx.array(1.0), "b": mx.array(1.0)}
    state: Any = [member.state for member in members]
    optimizer.init(ones)
    gradient = {name: mx.array(1.0) for name in ones}

    def make_step(p: Any) -> Any:
        return optimizer.apply_gradients(gradient, p)

    step = mx.compile(make_step, inputs=state, outputs=state)
    weights = [ones]
    for i in range(4):
        weights.append(make_step(weights[-1]) if i == 2 else step(weights[-1]))
    steps = [[a[k].item() - b[k].item() for k in "wb"] for a, b in pairwise(weights)]
    expected = [[rate, 0.1 * rate] for rate in (1, 0.75, 0.5, 0.25)]
    np.testing.assert_allclose(steps, expected, rtol=1e-5, atol=1e-6)


def test_the_names_that_the_user_gives_win() -> None:
    lr, rate = Linear(0.1, 0.0), Linear(0.0, 0.3)
    optimizer, model = optim.SGD(lr), nn.Sequential(nn.Dropout(rate))
    assert list(attach(optimizer, model, dropout=rate)) == ["learning_rate", "dropout"]
    assert list(attach(optimizer, model)) == ["learning_rate", "dropout"]
    assert list(attach(optimizer, lr=lr)) == ["lr", "dropout"]


def test_attaching_to_a_run_under_way_asks_how_far_it_is() -> None:
    optimizer = optim.SGD(0.1)
    optimizer.apply_gradients({"w": mx.array(1.0)}, {"w": mx.array(1.0)})
    aux, constant = Linear(0.0, 1.0), Constant(0.1)
    message = (
        "aux must be updated to the progress of the run, as the optimizer has made 1 steps, got"
    )
    with pytest.raises(ValueError, match=message):
        attach(optimizer, aux=aux, constant=constant)
    assert attach(optimizer, aux=aux.update(0.0), constant=constant).snapshot()["aux"] == 0


def test_attaching_again_is_idempotent_and_adds() -> None:
    optimizer = optim.SGD(Linear(0.1, 0.0))
    group = attach(optimizer)
    assert attach(optimizer) is group
    aux = Linear(1.0, 0.0)
    more = attach(optimizer, aux=aux)
    assert more is group
    assert list(more) == ["learning_rate", "aux"]
    assert attach(optimizer) is more
    assert attach(optimizer, aux=aux) is more
    more.update(0.5)
    assert group["learning_rate"].progress == 0.5
    assert set(optimizer.state["scalars"]) == {"learning_rate", "aux"}
    assert type(optimizer).__mro__[2] is optim.SGD


def test_one_scalar_in_two_optimizers() -> None:
    lr = Linear(0.1, 0.2)
    one, two = optim.SGD(lr), optim.AdamW(lr)
    groups = attach(one), attach(two)
    groups[0].update(0.5)
    assert one.state["scalars"]["learning_rate"] is two.state["scalars"]["learning_rate"]
    detach(one)
    assert set(two.state["scalars"]["learning_rate"]) == {"value", "remainder", "progress"}
    lr.update(0.75)
    two.state = dict(reloaded(two.state))
    assert lr.progress == 0.75


def test_the_optimizer_stays_what_it_was() -> None:
    optimizer = optim.AdamW(Linear(0.1, 0.0))
    attach(optimizer)
    assert isinstance(optimizer, optim.AdamW)
    assert type(optimizer).__name__ == "AdamW"
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"cannot be copied or pickled. Call detach"):
            copied(optimizer)
    detach(optimizer)
    assert type(optimizer) is optim.AdamW
    assert vars(optimizer).keys() == vars(optim.AdamW(0.1)).keys()


def test_adafactor_keeps_the_decay_rate_that_it_was_given() -> None:
    plain, view = Linear(-0.8, -0.6), Linear(-0.8, -0.6).astype(mx.bfloat16)
    for rate in (plain, view):
        optimizer = optim.Adafactor(0.01, relative_step=False, decay_rate=rate)
        group = attach(optimizer)
        assert group["decay_rate"] is rate
        assert attach(optimizer) is group
        assert optimizer.decay_rate.dtype == (mx.float32 if rate is plain else mx.bfloat16)
        detach(optimizer)
        assert optimizer.decay_rate is rate
        assert type(optimizer) is optim.Adafactor
    optimizer.decay_rate = -0.7
    assert optimizer.decay_rate == -0.7


def test_a_trainer_that_captures_the_optimizer_sees_all_scalars() -> None:
    # At 0 an eager Dropout draws no random numbers, unlike a compiled one.
    rate, temperature, aux = Linear(0.1, 0.5), Linear(1.0, 3.0), Linear(0.0, 1.0)

    def train(compiled: bool) -> tuple[Any, list[float], int]:
        mx.random.seed(0)
        model = Deep(rate, temperature, aux + 1)
        optimizer = optim.AdamW(CosineAnnealing(0.1), weight_decay=Linear(0.0, 0.5))
        group = attach(optimizer, model, aux=aux).update(0)
        loss_and_grad = nn.value_and_grad(model, lambda x: (model(x) ** 2).mean() * (1 + aux))

        def body(x: mx.array) -> mx.array:
            loss, grads = loss_and_grad(x)
            optimizer.update(model, grads)
            return loss

        counted = Traced(body)
        state = [model.state, optimizer.state, mx.random.state]
        step = mx.compile(counted, inputs=state, outputs=state) if compiled else counted
        losses = []
        for _, x in enumerate(group.track([mx.ones((8, 4))] * 12, Horizon(12))):
            losses.append(step(x).item())
        detach(optimizer)
        return model.parameters(), losses, counted.traces

    (ours, our_losses, traces), (theirs, their_losses, _) = train(True), train(False)
    assert largest_difference(ours, theirs) <= 2e-6
    assert our_losses == pytest.approx(their_losses, rel=1e-5)
    assert traces == 2  # the second starts from the state of the first


# Driven by the step ---------------------------------------------------------------

TOTAL = 50
VALUES = 1e-6  # of float32; test_drivers.py compares the bits
RATES: list[Callable[[], ScheduledScalar]] = [
    lambda: Warmup(CosineAnnealing(0.1, 0.001), 0.2),
    lambda: Linear(0.1, 0.0) * 0.5 + 0.01,
    lambda: Sequence([0.1, Exponential(0.1, 0.001)], [0.5]),
    lambda: Polynomial(0.1, 0.01, power=3),
    lambda: LambdaValue(
        lambda p: 0.1 * mx.exp(-3 * p) if isinstance(p, mx.array) else 0.1 * np.exp(-3 * p)
    ),
    lambda: LambdaValue(lambda p: (1 - p) * 0.09 + 0.01),
]


def trained(
    rate: Callable[[], Any], horizon: Horizon | None, compiled: bool
) -> tuple[Any, list[float], Any]:
    mx.random.seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    aux = Linear(0.0, 1.0)
    optimizer = optim.AdamW(rate(), betas=[Linear(0.8, 0.9), 0.999], weight_decay=Linear(0.0, 0.5))
    optimizer.init(model.trainable_parameters())
    group = attach(optimizer, model, horizon, aux=aux)
    seen: list[float] = []
    loss_and_grad = nn.value_and_grad(
        model, lambda x: (model(x) ** 2).mean() + aux * (model(x) - 1).mean()
    )

    def body(x: mx.array) -> tuple[mx.array, mx.array]:
        in_forward = aux * mx.array(1.0)
        loss, grads = loss_and_grad(x)
        optimizer.update(model, grads)
        return loss, in_forward

    counted = Traced(body)
    state = [model.state, optimizer.state]
    step = mx.compile(counted, inputs=state, outputs=state) if compiled else counted
    for i in range(TOTAL):
        if horizon is None:
            group.update(i / TOTAL)
        mx.random.seed(i)
        _, in_forward = step(mx.random.normal((8, 4)))
        mx.eval(state)
        seen.append(in_forward.item())
        assert optimizer.learning_rate.item() == pytest.approx(rate().at(i / TOTAL), rel=VALUES)
    assert not compiled or counted.traces == 1
    return model.parameters(), seen, group


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rate", RATES)
def test_driven_by_the_step_is_driven_by_the_loop(rate: Callable[[], Any], compiled: bool) -> None:
    ours, our_aux, group = trained(rate, Horizon(TOTAL), compiled)
    theirs, their_aux, _ = trained(rate, None, compiled)
    # The forward pass of step t uses the value at t, as the update does.
    assert our_aux == pytest.approx([i / TOTAL for i in range(TOTAL)], rel=1e-6)
    assert our_aux == pytest.approx(their_aux, rel=1e-6)
    # An expression is rounded differently, and AdamW divides by small numbers.
    assert largest_difference(ours, theirs) <= 50 * VALUES
    assert group.snapshot()["aux"] == 1  # the next step
    assert group["aux"].progress == 1


def test_values_for_logs_while_driven_by_the_step() -> None:
    lr = Linear(1.0, 0.0)
    optimizer = optim.SGD(lr)
    group = attach(optimizer, horizon=Horizon(4))
    weights = {"w": mx.array(0.0)}
    for step in range(6):
        assert (float(lr), lr.progress) == (max(0.0, 1 - step / 4), step / 4)
        assert group.snapshot() == {"learning_rate": float(lr)}
        assert float(1 - lr) == 1 - float(lr)
        assert (lr < 0.5) is (float(lr) < 0.5)
        optimizer.apply_gradients({"w": mx.array(1.0)}, weights)
    for update in (group.update, lr.update, (lr * 2).update):
        with pytest.raises(ValueError, match=r"follows the step of .* Remove the call"):
            update(0.5)
    detach(optimizer)
    assert float(lr.update(0.25)) == 0.75


@pytest.mark.parametrize("total", [3, 997, 99_991, 100_000])
def test_boundaries_fall_on_their_step_when_driven(total: int) -> None:
    rng = np.random.default_rng(total)
    boundaries = sorted({int(b) for b in rng.integers(1, total, 3)} | {1, total - 1})
    values = [float(i) for i in range(len(boundaries) + 1)]
    rate = Sequence(values, [b / total for b in boundaries])
    optimizer = optim.SGD(rate)
    attach(optimizer, horizon=Horizon(total))
    step = mx.compile(lambda: rate * mx.array(1.0), inputs=[optimizer.state])
    for i, boundary in enumerate(boundaries):
        for at, expected in ((boundary - 1, None), (boundary, i + 1)):
            optimizer.state["step"] = mx.array(at, mx.uint64)
            assert step().item() == rate.at(at / total)
            assert expected is None or step().item() == expected


def test_weight_decay_from_zero_takes_effect_when_driven() -> None:
    optimizer = optim.SGD(0.1, weight_decay=Linear(0.0, 0.5))
    ones = {"w": mx.ones((3,))}
    optimizer.init(ones)
    attach(optimizer, horizon=Horizon(2))
    captured = [optimizer.state]
    step = mx.compile(
        lambda p: optimizer.apply_gradients({"w": mx.zeros((3,))}, p), captured, captured
    )
    weights = []
    for _ in range(3):
        ones = step(ones)
        weights.append(ones["w"][0].item())
    assert weights == pytest.approx([1, 0.975, 0.975 * 0.95], rel=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_dropout_rate_follows_the_step_in_bfloat16(compiled: bool) -> None:
    rate = Linear(0.0, 0.5)
    dropout = nn.Dropout(rate.astype(mx.bfloat16))
    model = nn.Sequential(nn.Linear(4, 8), dropout)
    model.apply(lambda x: x.astype(mx.bfloat16))
    optimizer = optim.SGD(0.1)
    optimizer.init(model.trainable_parameters())
    assert list(attach(optimizer, model, Horizon(10))) == ["layers.1.p"]
    state = [model.state, optimizer.state, mx.random.state]

    def body(x: mx.array) -> mx.array:
        _, grads = nn.value_and_grad(model, lambda x: mx.square(model(x)).mean())(x)
        zeros = dropout(mx.ones((4000,), mx.bfloat16))
        optimizer.update(model, grads)
        return zeros

    step = mx.compile(body, inputs=state, outputs=state) if compiled else body
    for i in range(11):
        out = step(mx.ones((2, 4), mx.bfloat16))
        assert out.dtype == mx.bfloat16
        assert (out == 0).mean().item() == pytest.approx(i / 20, abs=0.03)


# Bad input ------------------------------------------------------------------------


def taken(name: str) -> optim.Optimizer:
    optimizer = optim.SGD(Linear(0.1, 0.0), momentum=0.9)
    optimizer.init({name: mx.ones((2,))})
    return optimizer


class Named(nn.Module):
    """A model with a parameter that has the name of the state's key."""

    def __init__(self) -> None:
        super().__init__()
        self.scalars = mx.ones((2,))


SHARED = Linear(0.1, 0.0)


def driven_elsewhere() -> Any:
    lr = Linear(0.1, 0.0)
    attach(optim.SGD(lr), horizon=Horizon(10))
    return attach(optim.SGD(lr))


def later_elsewhere() -> None:
    lr = Linear(0, 1)
    first, second = optim.SGD(lr), optim.SGD(lr)
    attach(first)
    attach(second)
    attach(first, horizon=Horizon(9))


def saved_elsewhere() -> Any:
    lr = Linear(0.1, 0.0)
    attach(optim.SGD(lr))
    return attach(optim.SGD(lr), horizon=Horizon(10))


def member() -> Any:
    inner = optim.SGD(Linear(0.1, 0.0))
    attach(optim.MultiOptimizer([inner]))
    return attach(inner)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: attach(nn.Linear(2, 2)),
            TypeError,
            "optimizer must be an MLX optimizer, got Linear",
        ),
        (lambda: attach(None), TypeError, "optimizer must be an MLX optimizer, got None"),
        (lambda: attach(optim.SGD(SHARED), 3), TypeError, "model must be an mlx.nn.Module, got 3"),
        (
            lambda: attach(optim.SGD(SHARED), horizon=10),
            TypeError,
            "horizon must be a Horizon, got 10",
        ),
        (
            lambda: attach(optim.SGD(0.1)),
            ValueError,
            "the optimizer must be given a scheduled scalar, got 'SGD'",
        ),
        (
            lambda: attach(optim.SGD(SHARED), aux=0.1),
            TypeError,
            "aux in ScalarGroup must be a scheduled scalar",
        ),
        (
            lambda: attach(optim.SGD(SHARED), learning_rate=Linear(0, 1)),
            ValueError,
            "a name given to attach must be a name that no other scalar has, got 'learning_rate'",
        ),
        (
            lambda: attach(taken("scalars")),
            ValueError,
            "the optimizer's state must be free of a parameter named 'scalars'",
        ),
        (
            lambda: attach(optim.SGD(SHARED), Named()),
            ValueError,
            "state must be free of a parameter",
        ),
        (
            lambda: detach(optim.SGD(SHARED)),
            ValueError,
            "the optimizer must be attached, got 'SGD'",
        ),
        (lambda: detach(3), TypeError, "optimizer must be an MLX optimizer, got 3"),
        (
            driven_elsewhere,
            ValueError,
            "learning_rate must be a scalar that no other optimizer drives",
        ),
        (
            later_elsewhere,
            ValueError,
            "learning_rate must be a scalar that no other optimizer drives",
        ),
        (
            saved_elsewhere,
            ValueError,
            "learning_rate must be a scalar that no other optimizer drives",
        ),
        (member, ValueError, "attached by itself, not as a member of a MultiOptimizer"),
        (
            lambda: attach(optim.SGD(Linear(0.1, 0.0)), horizon=Horizon(10_000_001)),
            ValueError,
            r"at most 10,000,000 steps for values that are looked up by step, got 10000001. "
            r"Attach without a horizon, and call group.update",
        ),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_failed_attach_changes_nothing() -> None:
    lr = Linear(0.1, 0.0)
    optimizer = optim.SGD(lr)
    before = dict(optimizer.state)
    with pytest.raises(TypeError, match="aux in ScalarGroup"):
        attach(optimizer, aux=0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 10,000,000 steps"):
        attach(optimizer, horizon=Horizon(10**9))
    late = LambdaValue(lambda p: 1.0 if p < 0.5 else float("nan"))
    late.state  # noqa: B018 - captured: the table of its values is made at once
    with pytest.raises(ValueError, match="a finite real number, got nan"):
        attach(optimizer, horizon=Horizon(10), late=late)
    assert (type(optimizer), dict(optimizer.state)) == (optim.SGD, before)
    lr.update(0.5)
    assert float(lr) == 0.05


def test_a_parameter_named_scalars_is_refused_at_init_too() -> None:
    optimizer = optim.SGD(Linear(0.1, 0.0), momentum=0.9)
    attach(optimizer)
    with pytest.raises(ValueError, match="must be free of a parameter"):
        optimizer.init({"scalars": mx.ones((2,))})
