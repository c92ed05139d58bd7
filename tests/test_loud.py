"""Values that would freeze in a compiled function are updated, raise an error or warn."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import pickle
import sys
import threading
import typing
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from matplotlib import pyplot
from mlx.utils import tree_map

import scalars
from scalars import (
    CosineAnnealing,
    CosineAnnealingWarmRestarts,
    Cyclic,
    DynamicLossScale,
    Exponential,
    Horizon,
    LambdaValue,
    Linear,
    PiecewiseConstant,
    ReduceOnPlateau,
    Repeat,
    ScalarGroup,
    Schedule,
    ScheduledScalar,
    StepDecay,
    Warmup,
    WarmupStableDecay,
    attach,
    clip,
    cos,
    find_learning_rate,
    floor,
    from_name,
    minimum,
    no_decay,
    plot,
    recompute_batch_norm,
    register,
    sin,
    tanh,
)
from scalars.optimizers.riding import bits_of

from .cases import CASES, Case
from .helpers import reloaded

X = mx.array([1.0, 2.0])

# Gradients that are recomputed ------------------------------------------------------

S = Linear(1.0, 3.0)


def squares(z: mx.array) -> mx.array:
    return (S * z * z).sum()


@mx.custom_function
def by_hand(z: mx.array) -> mx.array:
    return (S * z * z).sum()


@by_hand.vjp
def by_hand_vjp(primal: mx.array, cotangent: mx.array, _: mx.array) -> mx.array:
    return 2 * S * primal * cotangent


GRADIENTS: dict[str, Callable[[mx.array], Any]] = {
    "checkpoint": mx.grad(mx.checkpoint(squares)),
    "beside its use outside": mx.grad(lambda z: S * mx.checkpoint(squares)(z) * S),
    "nested": mx.grad(mx.checkpoint(lambda z: S * mx.checkpoint(squares)(z))),
    "custom vjp": mx.grad(lambda z: S * by_hand(z)),
    "used after a gradient": lambda x: mx.grad(squares)(x) * S,
    "second order": mx.grad(lambda y: (S * mx.grad(squares)(y)).sum()),
    "jvp": lambda x: S * mx.jvp(mx.checkpoint(lambda z: S * z * z), [x], [x])[1][0],
    "vmap": lambda x: mx.vmap(lambda z: S * z)(x),
}


@pytest.mark.parametrize("name", list(GRADIENTS))
def test_recomputed_gradients_see_the_value_of_now(name: str) -> None:
    step = mx.compile(GRADIENTS[name], inputs=[S.state])
    for progress in (0, 0.5, 1):
        S.update(progress)
        compiled = step(X).tolist()
        assert compiled == GRADIENTS[name](X).tolist()
    S.update(0)
    assert step(X).tolist() != compiled


def test_a_checkpointed_layer_with_a_dropout_that_follows_the_step() -> None:
    layer = nn.Sequential(nn.Linear(8, 8), nn.Dropout(Linear(0.1, 0.6)))
    checkpointed = nn.utils.checkpoint(layer)
    loss_and_grad = nn.value_and_grad(layer, lambda x: checkpointed(x).sum())
    optimizer = optim.SGD(0.0)
    optimizer.init(layer.trainable_parameters())
    group = attach(optimizer, layer, Horizon(4))
    state = [layer.state, optimizer.state, mx.random.state]

    def body(x: mx.array) -> Any:
        loss, grads = loss_and_grad(x)
        optimizer.update(layer, grads)
        return loss, grads["layers"][0]["bias"]

    step = mx.compile(body, inputs=state, outputs=state)
    x = mx.ones((512, 8))
    for _ in range(4):
        kept = 1 - float(group["layers.1.p"])
        _, gradient = step(x)
        # Each column of the gradient is the number of rows kept, each counted 1 / kept times.
        rows = gradient * kept
        assert mx.allclose(rows, mx.round(rows), atol=1e-2)
        assert abs(float(rows.mean().item()) / 512 - kept) < 0.05


def test_a_checkpointed_transformer_with_a_dropout_rate() -> None:
    """A compiled ``nn.TransformerEncoder(checkpoint=True)`` trains as in eager mode."""
    rate = Linear(0.1, 0.6)
    model = nn.TransformerEncoder(1, 8, 2, 16, dropout=rate, checkpoint=True)
    loss_and_grad = nn.value_and_grad(model, lambda x: (model(x, None) ** 2).sum())
    optimizer = optim.SGD(0.0)
    optimizer.init(model.trainable_parameters())
    group = attach(optimizer, model)
    state = [model.state, optimizer.state, mx.random.state]

    def body(x: mx.array) -> Any:
        loss, grads = loss_and_grad(x)
        optimizer.update(model, grads)
        return loss, grads["layers"][0]["linear1"]["weight"]

    step = mx.compile(body, inputs=state, outputs=state)
    x = mx.random.normal((2, 4, 8))
    for progress in (0, 0.5, 1):
        group.update(progress)
        results = []
        for call in (step, body):
            mx.random.seed(0)
            results.append(call(x))
            mx.eval(state)
        for compiled, eager in zip(*results):
            assert mx.allclose(compiled, eager, rtol=1e-4, atol=1e-8)


# Warnings -----------------------------------------------------------------------------


def run_frozen(scalar: ScheduledScalar, before: Callable[[], Any]) -> None:
    before()
    step = mx.compile(lambda x: scalar * x)
    for i in range(60):
        scalar.update(i / 60)
        f"{scalar:.2f}"  # logging does not count as use
        step(X)


@pytest.mark.parametrize(
    "before",
    [
        lambda s: None,
        lambda s: nn.Dropout(s),
        lambda s: (nn.Dropout(s), s.update(0)),
        lambda s: optim.SGD(s),
        lambda s: print(float(s), f"{s}"),
        lambda s: s.update(0).update(0),
        lambda s: [mx.grad(lambda x: (s * x).sum())(X) for _ in range(3)],
        lambda s: s * X,
    ],
)
def test_a_frozen_scalar_warns_whatever_happened_before(before: Callable[[Any], Any]) -> None:
    scalar = Linear(0.1, 0.9)
    with pytest.warns(RuntimeWarning, match=r"was last read while a function .* Capture its state"):
        run_frozen(scalar, lambda: before(scalar))


@pytest.mark.parametrize("by_step", [False, True])
def test_a_loss_that_captures_the_model_alone_warns_while_attached(by_step: bool) -> None:
    """The optimizer is updated outside the compiled function, which does not capture its state."""
    model, aux = nn.Linear(2, 1), Linear(0.1, 0.9)
    optimizer = optim.SGD(Linear(0.1, 0.0))
    group = attach(optimizer, horizon=Horizon(60) if by_step else None, aux=aux)
    loss_and_grad = nn.value_and_grad(model, lambda x: (aux * model(x)).sum())
    step = mx.compile(loss_and_grad, inputs=[model.state], outputs=[model.state])
    with pytest.warns(RuntimeWarning, match="was last read while .* and capture optimizer.state"):
        for i in range(60):
            if not by_step:
                group.update(i / 60)
            optimizer.update(model, step(X[None])[1])


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    "read",
    [
        lambda s: s,
        lambda s: float(s),
        lambda s: s.progress,
        lambda s: s.state_dict()["progress"],
        lambda s: copy.deepcopy(s),
        lambda s: s.at(s.progress),
    ],
)
def test_reads_outside_of_a_compiled_function_do_not_hide_those_in_it(
    read: Callable[[ScheduledScalar], Any], first: bool
) -> None:
    """As in training that is compiled, with an eager validation before it or now and then."""
    scalar = Linear(0.1, 0.9)
    step = mx.compile(lambda x: read(scalar) * x)
    with pytest.warns(RuntimeWarning, match="was last read while a function was being traced"):
        for i in range(60):
            scalar.update(i / 60)
            if first or i % 20 == 10:
                scalar * X
            step(X)


@pytest.mark.parametrize("by_step", [False, True])
def test_a_function_that_captures_nothing_warns_beside_one_that_captures(by_step: bool) -> None:
    """Two compiled steps, as in a GAN, share a scalar; only the first one captures it.

    The first step is traced again, because the first update changes the state of the optimizer.
    """
    scalar, optimizer = Linear(0.1, 0.9), optim.SGD(0.1)
    group = attach(optimizer, horizon=Horizon(60) if by_step else None, scalar=scalar)
    right = mx.compile(lambda x: scalar * x, inputs=[optimizer.state])
    wrong = mx.compile(lambda x: scalar * x)
    with pytest.warns(RuntimeWarning, match="was last read while a function was being traced"):
        for i in range(60):
            if not by_step:
                group.update(i / 60)
            assert mx.allclose(right(X), scalar.at(i / 60) * X)
            wrong(X)
            optimizer.apply_gradients({"w": X}, {"w": X})


@pytest.mark.parametrize(
    ("captured", "frozen"),
    [
        (lambda s, o: dict(s.state), True),
        (lambda s, o: s.state["value"], True),
        (lambda s, o: tree_map(lambda array: array, o.state), True),
        (lambda s, o: {**o.state}, False),  # the state contains the dicts of the scalars
    ],
)
def test_what_captures_copies_of_arrays_is_frozen_and_warns(captured: Any, frozen: bool) -> None:
    scalar, optimizer = Linear(0.1, 0.9), optim.SGD(0.1)
    group = attach(optimizer, scalar=scalar)
    step = mx.compile(lambda x: scalar * x, inputs=[captured(scalar, optimizer)])
    expected = pytest.warns(RuntimeWarning, match="keeps its first value forever")
    with expected if frozen else contextlib.nullcontext():
        for i in range(60):
            group.update(i / 60)
            step(X)
    assert (step(X).tolist() != (scalar * X).tolist()) is frozen


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("captured", [False, True])
def test_what_is_attached_and_used_gives_no_reason_to_warn(by_step: bool, captured: bool) -> None:
    """Use it in an eager gradient at every tenth step, or once before a compiled function."""
    scalar, optimizer = Linear(0.1, 0.9), optim.SGD(0.1)
    group = attach(optimizer, horizon=Horizon(100) if by_step else None, scalar=scalar)
    step = mx.compile(lambda x: scalar * x, inputs=[optimizer.state])
    for i in range(100):
        if not by_step:
            group.update(i / 100)
        if i == 0 or (i % 10 == 0 and not captured):
            mx.grad(lambda x: (scalar * x).sum())(X)
        if captured:
            step(X)
        optimizer.apply_gradients({"w": X}, {"w": X})


def test_a_frozen_rate_of_a_function_warns_too() -> None:
    """All samples are equal although the value changes, so this cannot be detected."""
    rate = LambdaValue(lambda p: 1.0 if p < 0.99999 else 0.0)
    assert rate.extent == (0.0, 1.0)
    hidden = LambdaValue(lambda p: 0.0 if 0.61 < p < 0.6101 else 1.0)
    assert hidden.extent == (1.0, 1.0)
    assert hidden.changes
    optimizer = optim.SGD(hidden)
    step = mx.compile(
        lambda w: optimizer.apply_gradients(w, w), [optimizer.state], [optimizer.state]
    )
    with pytest.raises(ValueError, match="called as a learning rate inside a function"):
        step({"w": X})


@pytest.mark.parametrize("transform", [mx.grad, lambda f: lambda x: mx.vmap(f)(x[None])])
def test_what_is_used_at_every_tenth_step_is_no_reason_to_warn(transform: Any) -> None:
    scalar = Linear(0.1, 0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(200):
            scalar.update(i / 200)
            if i % 10 == 0:
                transform(lambda x: (scalar * x).sum())(X)


def test_a_rate_in_a_step_that_captures_the_model_alone_warns() -> None:
    """Without ``attach`` a compiled function cannot be recognized at once."""
    model, rate = nn.Linear(2, 1), Linear(0.1, 0.0)
    optimizer = optim.SGD(rate)
    loss_and_grad = nn.value_and_grad(model, lambda x: model(x).mean())

    def body(x: mx.array) -> None:
        optimizer.update(model, loss_and_grad(x)[1])

    step = mx.compile(body, inputs=[model.state], outputs=[model.state])
    with pytest.warns(RuntimeWarning, match="keeps its first value forever"):
        for i in range(60):
            rate.update(i / 60)
            step(mx.ones((1, 2)))


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("change", [lambda s: s.update(0.5), lambda s: s.observe(1.0)])
def test_an_update_in_a_function_that_does_not_capture_it_warns(
    change: Any, attached: bool
) -> None:
    scalar = ReduceOnPlateau(Linear(1.0, 0.0))
    if attached:
        attach(optim.SGD(scalar))

    def body(x: mx.array) -> mx.array:
        change(scalar)
        return scalar * x

    with pytest.warns(RuntimeWarning, match="inside a function that is being traced"):
        mx.compile(body)(X)


def test_steps_in_place_of_progress_warn() -> None:
    lr = Linear(1.0, 0.0)
    with pytest.warns(RuntimeWarning, match=r"The progress is 2 or more: .* not a number of steps"):
        lr.update(2)
    with pytest.warns(RuntimeWarning, match="2 or more"):
        ScalarGroup(lr=lr).update(37)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lr.update(1.9)


# Host numbers in a trace ----------------------------------------------------------------


@pytest.mark.parametrize(
    "take",
    [
        lambda s: s.progress,
        lambda s: s.at(s.progress),
        lambda s: s.state_dict(),
        lambda s: copy.copy(s),
        lambda s: copy.deepcopy(s),
        lambda s: pickle.dumps(s),
        lambda s: (2 * s).progress,
        lambda s: ScalarGroup(s=s).progress,
        lambda s: ScalarGroup(s=s).snapshot(),
    ],
)
@pytest.mark.parametrize("by_step", [False, True])
def test_numbers_that_a_trace_would_keep_are_refused(take: Any, by_step: bool) -> None:
    scalar = Linear(0.0, 1.0)
    optimizer = optim.SGD(0.1)
    attach(optimizer, horizon=Horizon(10) if by_step else None, scalar=scalar)

    def body(x: mx.array) -> mx.array:
        take(scalar)
        return x

    take(scalar)
    with pytest.raises(ValueError, match="would become a constant of the graph"):
        mx.compile(body, inputs=[optimizer.state])(X)
    if by_step:  # MLX leaves placeholders in the captured arrays of a failed call
        optimizer.state["step"] = mx.array(0, mx.uint64)
    take(scalar)


def test_a_step_that_is_lost_in_a_failed_call_says_so() -> None:
    lr = Linear(0.0, 1.0)
    optimizer = optim.SGD(lr)
    attach(optimizer, horizon=Horizon(10))

    def fails(x: mx.array) -> mx.array:
        raise TypeError("in the trace")

    with pytest.raises(TypeError, match="in the trace"):
        mx.compile(fails, inputs=[optimizer.state])(X)
    with pytest.raises(ValueError, match="step of the optimizer is lost, because MLX has left"):
        float(lr)
    optimizer.state["step"] = mx.array(5, mx.uint64)
    assert float(lr) == 0.5


# Comparisons ------------------------------------------------------------------------------


def branch(scalar: ScheduledScalar, ask: Callable[[Any], bool]) -> bool:
    answers: list[bool] = []

    def body(x: mx.array) -> mx.array:
        answers.append(bool(ask(scalar)))
        return x

    mx.compile(body, inputs=[scalar.state])(X)
    return answers[-1]


WSD = WarmupStableDecay(1.0, 0.1, 0.2)
COSINE = Warmup(CosineAnnealing(1.0), 0.25)
STAIRS = PiecewiseConstant([0, 1], [0.5])
ANY = LambdaValue(lambda p: 0.5)
FAST = Linear(0.0, 256.0)  # what has a period of 1 is the same at all knots


@pytest.mark.parametrize(
    ("scalar", "ask"),
    [
        (STAIRS, lambda s: s >= 1),
        (STAIRS, bool),
        (STAIRS, lambda s: s > 0),
        (WSD, lambda s: s >= 1.0),
        (WSD, lambda s: s < 1.0),
        (clip(Linear(0.0, 1.0), high=0.5), lambda s: s >= 0.5),
        (minimum(Linear(0.0, 1.0), 0.5), lambda s: s == 0.5),
        (Warmup(Linear(0.0, 1.0), 0.5), lambda s: s > 0),  # held at 0 for half of the run
        (ANY, lambda s: s > 0),
        (ANY, lambda s: s == 0.5),
        (1 - ANY, lambda s: s < 7),
        (Repeat(PiecewiseConstant([0.0, 1.0, 0.0], [0.602, 0.604]), 2), lambda s: s > 0),
        (Linear(0.0, 1.0), lambda s: s > 0.3),
        (Linear(0.0, 1.0), lambda s: s > Linear(0.5, 0.5)),
        (sin(FAST * 2 * math.pi), lambda s: s > 0.5),
        (1 + abs(cos(FAST * math.pi)), lambda s: s < 2),
        (clip(FAST % 1.0, 0, 1), lambda s: s > 0.5),
        (tanh(LambdaValue(lambda p: sin(512 * math.pi * p))), lambda s: s > 0.5),
        (floor(Linear(0.0, 3000.0)), lambda s: s > 0),  # for a while 0, between two knots
    ],
)
def test_a_question_without_one_answer_is_refused(scalar: Any, ask: Any) -> None:
    with pytest.raises(ValueError, match=r"has different answers during the run.* mx.where"):
        branch(scalar, ask)


@pytest.mark.parametrize(
    ("scalar", "ask", "answer"),
    [
        (COSINE, lambda s: s < 1.0, True),  # it reaches its peak at one point
        (COSINE, lambda s: s > 0, True),
        (COSINE, bool, True),
        (WSD, lambda s: s <= 1.0, True),
        (WSD, lambda s: s > 1.5, False),
        (Linear(0.0, 1.0) * 2, lambda s: s < 3, True),
        (Cyclic(0.0, 1.0, 0.1), lambda s: s >= 1.0, False),
        (2 - Linear(0.0, 1.0), lambda s: s > 0, True),
        (STAIRS, lambda s: s < 10**400, True),
        (sin(Linear(0.0, 2.0)), lambda s: s > 0, True),
        (sin(FAST * 2 * math.pi), lambda s: s > 1.5, False),
    ],
)
def test_a_question_with_one_answer_gets_it(scalar: Any, ask: Any, answer: bool) -> None:
    assert branch(scalar, ask) is answer


def test_shortcuts_of_mlx_take_the_general_branch() -> None:
    for rate in (STAIRS * 0.5, LambdaValue(lambda p: 0.0 if p < 0.5 else 0.5)):
        dropout = nn.Dropout(rate)
        state = [rate.state, mx.random.state]
        step = mx.compile(lambda x, d=dropout: d(x), inputs=state, outputs=[mx.random.state])
        dropped = []
        for progress in (0, 0.4, 0.5, 1):
            rate.update(progress)
            dropped.append((step(mx.ones((2000,))) == 0).mean().item())
        assert dropped == pytest.approx([0, 0, 0.5, 0.5], abs=0.05)
    for decay in (STAIRS * 0.5, Linear(0.0, 0.5)):
        optimizer = optim.SGD(0.1, weight_decay=decay)
        optimizer.init({"w": X})
        group = attach(optimizer).update(0)
        captured = [optimizer.state]
        step = mx.compile(
            lambda w, o=optimizer: o.apply_gradients({"w": X * 0}, w), captured, captured
        )
        assert step({"w": X + 0})["w"].tolist() == X.tolist()
        group.update(1)
        assert step({"w": X + 0})["w"].tolist() == pytest.approx((X * 0.95).tolist())


@pytest.mark.parametrize(
    "decay", [LambdaValue(lambda p: 0.5 if 0.502 < p < 0.503 else 0.0), FAST % 1.0]
)
def test_a_decay_that_is_short_is_not_left_out(decay: ScheduledScalar) -> None:
    optimizer = optim.SGD(0.1, weight_decay=decay)
    optimizer.init({"w": X})
    group = attach(optimizer).update(0)
    captured = [optimizer.state]
    step = mx.compile(lambda w: optimizer.apply_gradients({"w": X * 0}, w), captured, captured)
    assert step({"w": X + 0})["w"].tolist() == X.tolist()
    group.update(0.5025)
    left = 1 - 0.1 * float(decay)
    assert step({"w": X + 0})["w"].tolist() == pytest.approx((X * left).tolist())


# Ranges -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scalar", "extent"),
    [
        (Repeat(PiecewiseConstant([0.0, 1.0, 0.0], [0.602, 0.604]), 2), (0, 1)),
        (Repeat(Cyclic(0, 1, 1.0), 512), (0, 1)),
        (Repeat(Linear(0.0, 1.0), 1000, decay=0.5), (0, 1)),
        (Cyclic(0.0, 1.0, 1e-6), (0, 1)),
        (CosineAnnealingWarmRestarts(1.0, 0.0, 1 / 20_000), (0, 1)),
        (PiecewiseConstant([1.0, 5.0, 1.0], [0.3, 0.300001]), (1, 5)),
    ],
)
def test_ranges_are_exact_and_quick(scalar: ScheduledScalar, extent: tuple[float, float]) -> None:
    assert scalar.extent == pytest.approx(extent, abs=1e-5)
    assert len(scalar.knots) < 5_000


def test_the_range_of_nested_warm_ups_takes_no_time() -> None:
    lr: ScheduledScalar = Linear(1.0, 0.5)
    for _ in range(30):
        lr = Warmup(lr, 0.01)
    assert lr.extent == (0.0, 1.0)
    assert len(lr.knots) < 5_000


def test_the_range_of_a_plateau_is_found_without_changing_it() -> None:
    """Another thread reads it while its range is determined."""
    begun = threading.current_thread()
    seen: list[float] = []

    def function(progress: float) -> float:
        if looking and threading.current_thread() is begun:
            reader = threading.Thread(target=lambda: seen.append(lr.at(0.5)))
            reader.start()
            reader.join()
        return 1 - progress / 2

    looking = False
    lr = ReduceOnPlateau(LambdaValue(function), minimum=0.1)
    looking = True
    assert lr.extent == (0.1, 1.0)
    assert set(seen) == {0.75}


# Expressions --------------------------------------------------------------------------------


def test_deep_and_shared_expressions() -> None:
    lr = Linear(0.0, 1.0)
    deep: Any = lr
    for _ in range(3000):
        deep = deep + 1
    assert float(deep.update(0.5)) == 3000.5
    assert deep.at(1) == float(deep.update(1)) == 3001
    assert len(repr(deep)) > 10_000
    assert (X * deep).tolist() == (X * 3001).tolist()
    assert deep.array.item() == 3001
    for again in (copy.deepcopy(deep), pickle.loads(pickle.dumps(deep))):
        assert float(again) == 3001
        assert again.leaves[0] is not lr
    total = sum([Linear(0.0, float(i)) for i in range(1000)], start=lr)
    assert float(total.update(1)) == sum(range(1000)) + 1
    shared: Any = lr
    for _ in range(60):
        shared = shared + shared
    assert float(shared.update(1)) == 2.0**60
    assert shared.leaves == (lr,)
    assert mx.compile(lambda: shared * mx.array(1.0), inputs=[lr.state])().item() == 2.0**60


def test_arrays_are_the_callers() -> None:
    scalar = Linear(1.0, 2.0)
    for take in (lambda: scalar.array, lambda: mx.array(scalar), lambda: scalar(mx.array(0))):
        array: Any = take()
        array += 1
        assert (scalar * X).tolist() == X.tolist()
        assert scalar.array.item() == mx.multiply(mx.array(1.0), scalar).item() == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Repeat(Linear(0, 1), 10**18),
            ValueError,
            "times of Repeat must be at most",
        ),
        (lambda: LambdaValue(Linear(0, 1)), TypeError, "Use the scalar itself"),
        (lambda: Horizon(100, endpoint=20), TypeError, "endpoint of Horizon must be True or False"),
        (lambda: Horizon(100, endpoint=math.nan), TypeError, "endpoint of Horizon must be"),
        (lambda: Linear(0, 1) * math.nan, ValueError, "an operand must be a number in the range"),
        (lambda: minimum(Linear(0, 1), math.nan), ValueError, "an operand must be a number in"),
        (lambda: Linear(0, 1) + 10**400, ValueError, "an operand must be a number in the range"),
        (lambda: Linear(0, 1) * Fraction(10**400), ValueError, "an operand must be a number"),
        (lambda: Linear(0, Fraction(10**400)), ValueError, "end of Linear must be a finite real"),
        (lambda: Exponential(1e-300, 1e300), ValueError, "in the range of floats, got inf"),
        (lambda: Exponential(-1e300, -1e-300), ValueError, "in the range of floats, got 0.0"),
    ],
)
def test_bad_numbers(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "text",
    [
        "StepDecay(1, 1e308, 0.1)",
        "Linear(0, 10) ** -0.5",
        "2.5 ** Linear(0, 1000)",
        "1 / Linear(0, 1)",
        "1 / (Linear(0, 1) - 0.5)",
        "Linear(0, 1) // Linear(1, 0)",
        "Linear(-1, 1) ** 0.5",
        "Linear(1e308, -1e308)",
    ],
)
def test_what_is_not_finite_somewhere_in_the_run_is_refused_when_it_is_made(text: str) -> None:
    names = {name: getattr(scalars, name) for name in ("Exponential", "StepDecay", "Linear")}
    with pytest.raises(ValueError, match=r" at progress .* must be a finite number, got"):
        eval(text, names)


def test_equal_factors_over_almost_the_whole_range_of_floats() -> None:
    large = Exponential(1e308, 0.1)
    for p in (0, 0.25, 0.5, 0.75, 1):
        assert large.at(p) == pytest.approx(10 ** (308 - 309 * p), rel=1e-12)
    for start, end in ((1e-20, 1e20), (1e20, 1e-20), (1e-30, 1.0)):  # end / start is beyond float32
        on_device = Exponential(start, end).at(mx.array([0.0, 0.5, 1.0])).tolist()
        assert on_device == pytest.approx([start, (start * end) ** 0.5, end], rel=1e-5)


@pytest.mark.parametrize("total", [23, 97, 1000])
@pytest.mark.parametrize("every", [3, 13])
def test_a_count_of_steps_is_exact_at_every_step(total: int, every: int) -> None:
    count = Linear(0, total)
    epochs, within = count // every, count % every
    on_host = [(epochs.at(t / total), within.at(t / total)) for t in range(total + 1)]
    expected = [(t // every, t % every) for t in range(total + 1)]
    assert [a for a, _ in on_host] == [a for a, _ in expected]
    assert [b for _, b in on_host] == pytest.approx([b for _, b in expected], abs=1e-9)
    points = np.arange(total + 1) / total
    assert epochs.at(points).tolist() == [a for a, _ in expected]
    assert epochs.at(mx.array(points.tolist())).tolist() == [a for a, _ in expected]
    one = mx.array(1.0)
    step = mx.compile(lambda: (epochs * one, within * one), inputs=[count.state])
    for t in range(0, total + 1, 7):
        count.update(t / total)
        assert step()[0].item() == t // every
        assert step()[1].item() == pytest.approx(t % every, abs=1e-3)


def test_the_beginning_of_a_decay_has_all_digits() -> None:
    wsd = WarmupStableDecay(1.0, 0.1, 0.77, curve="one_minus_sqrt")
    assert wsd.at(0.23) == 1.0
    assert wsd.at(0.23 + 1e-6) == pytest.approx(1 - math.sqrt(1e-6 / 0.77), rel=1e-9)


def test_comparisons_with_numbers_beyond_floats_are_answered() -> None:
    s = Linear(0.0, 1.0)
    assert s < 10**400
    assert s > -(10**400)
    assert s != Fraction(10**400)
    assert s <= np.float64(1.0)


def test_a_callback_that_is_subscribed_twice_is_two() -> None:
    seen: list[float] = []
    group = ScalarGroup(s=Linear(0.0, 1.0))

    def callback(progress: float, values: Any) -> None:
        seen.append(progress)

    first, second = group.subscribe(callback), group.subscribe(callback)
    group.update(0.1)
    first()
    first()
    group.update(0.2)
    second()
    group.update(0.3)
    assert seen == [0.1, 0.1, 0.2]


def test_a_warning_points_at_the_line_of_the_user() -> None:
    with pytest.warns(RuntimeWarning) as caught:
        line = sys._getframe().f_lineno + 1
        Linear(0.0, 1.0).update(5)
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


# Arguments --------------------------------------------------------------------------------


def test_a_plateau_counts_nothing_while_it_is_warmed_up() -> None:
    """As in timm, whose PlateauLRScheduler ignores metrics until the warm-up is over."""
    lr = Warmup(ReduceOnPlateau(1.0, 0.5, patience=0), 0.5)
    group = ScalarGroup(lr=lr)
    for i, loss in enumerate([5.0, 6.0, 7.0, 8.0, 9.0]):
        group.update(i / 10).observe(loss)
    (plateau,) = lr.listeners
    assert plateau.memory["best"] is None
    assert float(lr.update(0.5)) == 1.0
    lr.observe(9.0).observe(9.5)
    assert (plateau.memory["best"], float(lr)) == (9.0, 0.5)


def test_a_loss_scale_of_whole_numbers() -> None:
    scale = DynamicLossScale(2**63)
    assert (scale.state["value"].dtype, float(scale)) == (mx.float32, 2.0**63)
    assert float(scale.observe(False)) == 2.0**62
    assert DynamicLossScale(4).state["value"].dtype == mx.float32
    with pytest.raises(ValueError, match="growth_interval of DynamicLossScale must be at most"):
        DynamicLossScale(growth_interval=2**40)
    with pytest.raises(ValueError, match=r"must be at most 2\*\*53, got"):
        DynamicLossScale(growth_interval=2**70)


@pytest.mark.parametrize(
    "function",
    [
        lambda p: np.float32(0.5),
        lambda p: np.where(p < 2, 0.5, 0.1),
        lambda p: np.array(0.5),
        lambda p: mx.array(0.5),
    ],
)
def test_a_function_may_give_a_number_of_numpy(function: Any) -> None:
    scalar = LambdaValue(function)
    assert float(scalar.update(0.3)) == scalar.at(0.7) == 0.5
    optimizer = optim.SGD(scalar)
    attach(optimizer, horizon=Horizon(4))
    assert optimizer.apply_gradients({"w": X}, {"w": X})["w"].tolist() == [0.5, 1.0]


class Branching(Schedule):
    """A user's schedule that cannot compute the values at an array."""

    start: float

    def value_at(self, progress: Any) -> Any:
        return 1.0 if progress < self.start else 2.0


class OfMath(Schedule):
    """A user's schedule with a function of Python floats."""

    start: float

    def value_at(self, progress: Any) -> Any:
        return self.start * math.exp(progress)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: StepDecay(1.0, 0.5, np.array([0.1])), TypeError, "every of StepDecay must be"),
        (lambda: Horizon(np.array([1, 2])), TypeError, "total_steps of Horizon must be a whole"),
        (lambda: Horizon(mx.array([1, 2])), TypeError, "total_steps of Horizon must be a whole"),
        (lambda: plot(Linear(0, 1), ax=3), TypeError, "ax must be matplotlib axes, got 3"),
        (lambda: DynamicLossScale().unscale({"w": 3}), TypeError, "grads must be a tree of arr"),
        (lambda: recompute_batch_norm(nn.BatchNorm(1), 3), TypeError, "batches must be iterable"),
        (lambda: no_decay("w", 3), TypeError, "array must be a parameter, an mx.array, got 3"),
        (lambda: np.add(1.0, 1.0, out=Linear(0, 1)), TypeError, "out|return arrays must be of"),
        (lambda: delattr(Linear(0, 1), "start"), AttributeError, "cannot delete start of Linear"),
        (
            lambda: attach(optim.SGD(Linear(0, 1)), Horizon(9)),
            TypeError,
            "attach.optimizer, horizo",
        ),
        (lambda: ScalarGroup(s=Linear(0, 1)).hold(0.1), TypeError, "values must be a mapping"),
        (lambda: Horizon(100).fraction(0.1), ValueError, "steps must be 0, or at least 1, got 0.1"),
        (lambda: from_name("cosine", 1.0, 100, 0.1), ValueError, "steps must be 0, or at least 1"),
        (lambda: register("cosine", Linear), ValueError, "name must be unused, got 'cosine'"),
        (lambda: Branching(1.0).at(np.ones(2)), TypeError, r"Branching\(start=1.0\) at an array"),
        (lambda: OfMath(1.0).at(mx.ones(2)), TypeError, "Write scalars.exp for math.exp"),
    ],
)
def test_errors_name_the_argument(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_type_hints_can_be_read() -> None:
    for schedule in (Linear, Warmup, ReduceOnPlateau, LambdaValue, DynamicLossScale):
        assert "start" in typing.get_type_hints(schedule) or schedule is not Linear


def test_the_learning_rate_test_says_when_batches_run_out() -> None:
    model = nn.Linear(2, 1)
    batches = iter([(mx.ones((4, 2)),)] * 8)

    def loss(model: Any, x: mx.array) -> Any:
        return (model(x) ** 2).mean(), mx.array(4)  # with the number of tokens, as in mlx-lm

    with pytest.warns(RuntimeWarning, match="came to an end after 8 of 100 rates"):
        found = find_learning_rate(model, optim.SGD(0.1), loss, batches)
    assert len(found.losses) == 8


JUNK: list[Any] = [
    None, "x", [], {}, (), object(), True, math.nan, math.inf, -1, 10**400, 1j, b"", {1, 2},
    mx.array([1.0, 2.0]), np.array([1.0, 2.0]), np.float16(3), Fraction(1, 3), lambda p: "x",
    Linear(0.0, 1.0), [[]], [0.5, "x"], [1, 0.5], float, nn.Linear(1, 1), range(3),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_argument_with_wrong_values(case: Case) -> None:
    """Each is accepted, or raises a ValueError or TypeError with its name."""
    made = case.make()
    if not isinstance(made, Schedule):
        return
    given = made.given()
    for name in (field.name for field in dataclasses.fields(made)):  # type: ignore[arg-type]
        for junk in JUNK:
            said = name
            try:
                type(made)(**{**given, name: junk})
            except (ValueError, TypeError) as error:
                said = str(error)
            assert type(made).__name__ in said or name in said
    for call in (made.update, made.at, made.observe, made.load_state_dict, made.by_step):
        before = made.state_dict()
        for junk in JUNK:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    call(junk)
            except (ValueError, TypeError):
                assert made.state_dict() == before
            before = made.state_dict()


class Unchecked(Schedule):
    """A user's schedule with an unchecked field that uses a function of MLX."""

    start: float

    def value_at(self, progress: Any) -> Any:
        return 1 + self.start * mx.exp(-progress)


class Added(Schedule):
    """A user's schedule whose field may be a text from YAML."""

    start: float

    def value_at(self, progress: Any) -> Any:
        return self.start + progress


def test_a_schedule_of_a_user() -> None:
    scalar = Unchecked(2.0)
    for progress in (0, 0.5, 1):
        assert float(scalar.update(progress)) == pytest.approx(1 + 2 * math.exp(-progress))
        assert type(float(scalar)) is float
    optimizer = optim.SGD(scalar)
    attach(optimizer, horizon=Horizon(2))
    assert (float(scalar), type(float(scalar))) == (3.0, float)
    assert scalar.monotone is False
    with pytest.raises(TypeError, match=r"the value of Added\(start='1e-5'\) must be a number at"):
        Added("1e-5")  # type: ignore[arg-type]


class Failing(Schedule):
    """A user's schedule whose second half has another value."""

    later: Any

    def value_at(self, progress: Any) -> Any:
        return 1.0 if progress < 0.5 else self.later


@pytest.mark.parametrize(
    ("later", "error"),
    [
        (math.nan, ValueError),
        (-math.inf, ValueError),
        (10**400, ValueError),
        ("0.1", TypeError),
        (None, TypeError),
        (1j, TypeError),
        (True, TypeError),
        (Linear(0.0, 1.0), TypeError),
    ],
)
@pytest.mark.parametrize("make", [Failing, lambda x: LambdaValue(Failing(x).value_at)])
def test_a_formula_of_a_user_must_return_finite_numbers(
    make: Any, later: Any, error: type[Exception]
) -> None:
    scalar, optimizer = make(later), optim.SGD(Linear(0.1, 0.0))
    scalar.update(0.25)
    for call in (
        lambda: scalar.update(0.75),
        lambda: ScalarGroup(other=Linear(0.0, 1.0), scalar=scalar).update(0.75),
        lambda: attach(optimizer, horizon=Horizon(4), scalar=scalar),
        lambda: scalar.by_step(4)(0),
    ):
        with pytest.raises(error, match="must be a finite"):
            call()
        assert (scalar.progress, float(scalar)) == (0.25, 1.0)
    assert list(optimizer.state) == ["step", "learning_rate"]


@pytest.mark.parametrize("horizon", [None, Horizon(10)])
def test_an_expression_without_a_value_at_a_step_is_refused(horizon: Horizon | None) -> None:
    scalar = 1 / LambdaValue(lambda p: p - 0.3)
    optimizer = optim.SGD(scalar)
    with pytest.raises(ValueError, match=r"1 / Lambda.* at progress 0.3 must be a finite number"):
        attach(optimizer, horizon=horizon).update(0.3)
    with pytest.raises(ValueError, match=r"1 / Lambda.* at progress 0.3 must be a finite number"):
        scalar.by_step(10)(0)


@pytest.mark.parametrize("name", ["state", "progress", "update", "edges", "held"])
def test_a_field_of_a_user_does_not_hide_what_a_schedule_has(name: str) -> None:
    def value_at(self: Any, progress: Any) -> Any:
        return 1.0

    body = {"__annotations__": {name: float}, "value_at": value_at, "__module__": __name__}
    with pytest.raises(ValueError, match=f"a field of Own must be named otherwise.*'{name}'"):
        type("Own", (Schedule,), body)


def test_a_schedule_with_an_init_of_its_own_declares_its_arguments_as_fields() -> None:
    with pytest.raises(ValueError, match="the arguments of Own must be declared as fields.*start"):

        class Own(Schedule):
            def __init__(self, start: float) -> None:
                vars(self).update(start=start)

            def value_at(self, progress: Any) -> Any:
                return progress


def test_a_schedule_whose_init_leaves_out_the_checks_is_named_at_its_first_use() -> None:
    class Halved(Schedule):
        start: float

        def __init__(self, double: float, complete: bool = True) -> None:
            vars(self).update(start=double / 2)
            if complete:
                self.__post_init__()

        def value_at(self, progress: Any) -> Any:
            return self.start * (1 - progress)

    assert float(Halved(4.0).update(0.5)) == 1.0
    for use in (float, lambda halved: halved.update(0.5), lambda halved: halved * mx.ones(2)):
        with pytest.raises(ValueError, match="Halved must be initialized.*__post_init__"):
            use(Halved(4.0, complete=False))


class Percent(Schedule):
    """A user's schedule whose ``__init__`` takes other arguments than its fields."""

    peak: float
    part: float

    def __init__(self, peak: float, *, percent: float) -> None:
        vars(self).update(peak=peak, part=percent / 100)
        self.__post_init__()

    def value_at(self, progress: Any) -> Any:
        return minimum(self.peak, self.peak * progress / self.part)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_schedule_with_an_init_of_its_own_is_copied_as_it_is(copied: Any) -> None:
    scalar = Percent(1.0, percent=50.0).update(0.25)
    for one in (scalar, Warmup(scalar, 0.0).update(0.25), 1 * scalar):
        other = copied(one)
        assert (float(one), float(other), other.progress) == (0.5, 0.5, 0.25)
        assert float(other.update(1)) == 1.0
    assert float(scalar) == 0.5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python 3.13
def test_an_expression_without_a_value_names_the_cause_when_mlx_hides_it() -> None:
    weight = Linear(1.0, 2.0)
    inverse = 1 / weight
    weight.hold(0.0)
    with (
        pytest.warns(RuntimeWarning, match="1 / Linear.* has no value .* division by zero"),
        pytest.raises(ValueError, match="Cannot perform multiplication"),
    ):
        mx.ones((2,)) * inverse


def test_bounds_that_are_infinite_are_none() -> None:
    scalar = Linear(1.0, 2.0)
    assert clip(scalar, -math.inf, math.inf) is scalar
    assert repr(clip(scalar, 0.0, math.inf)) == "maximum(Linear(start=1.0, end=2.0), 0.0)"
    for make in (lambda: scalar + math.inf, lambda: math.inf / scalar, lambda: scalar * math.nan):
        with pytest.raises(ValueError, match="an operand must be a number in the range of floats"):
            make()


class Decaying(Schedule):
    """A user's schedule that uses a function of NumPy, which does not accept MLX arrays."""

    rate: float

    def value_at(self, progress: Any) -> Any:
        return np.exp(-self.rate * progress)


@pytest.mark.parametrize("scalar", [Decaying(2.0), LambdaValue(lambda p: np.float32(0.5))])
def test_what_numpy_computes_comes_back_as_the_type_that_was_asked_for(scalar: Any) -> None:
    expected = [scalar.value_at(p) for p in (0.25, 0.5)]
    one, many = scalar.at(mx.array(0.5)), scalar.at(np.array([0.25, 0.5]))
    assert (type(one), one.dtype, type(many)) == (mx.array, mx.float32, np.ndarray)
    assert one.item() == pytest.approx(expected[1], rel=1e-6)
    assert many.tolist() == pytest.approx(expected)
    assert type(scalar.at(0.5)) is float
    follow = mx.compile(lambda x: scalar * x, inputs=[scalar.state])
    for progress, value in zip((0.25, 0.5), expected):
        scalar.update(progress)
        assert follow(X).tolist() == pytest.approx([value, 2 * value], rel=1e-6)


CALLS: list[Any] = [
    getattr(scalars, name)
    for name in scalars.__all__
    if not (
        isinstance(getattr(scalars, name), type) and issubclass(getattr(scalars, name), Schedule)
    )
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_every_public_name_with_wrong_values(call: Any) -> None:
    arguments = [(junk,) for junk in JUNK] + [(optim.SGD(0.1), junk) for junk in JUNK]
    arguments += [(Linear(0.0, 1.0), junk) for junk in JUNK] + [("lr", junk) for junk in JUNK]
    for given in arguments:
        with contextlib.suppress(ValueError, TypeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(*given)
    pyplot.close("all")


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("progress", lambda a: bits_of([math.nan]), "progress must be a finite real number"),
        ("progress", lambda a: bits_of([math.inf]), "progress must be a finite real number"),
        ("progress", lambda a: bits_of([-0.5]), "progress must be a finite real number of at lea"),
        ("progress", lambda a: a.astype(mx.float32), "kept as uint32, got"),
        ("observed", lambda a: a.astype(mx.bfloat16), "kept as uint32, got"),
        ("observed", lambda a: a[:4], "must be a whole number of at least 0, got None"),
        ("observed", lambda a: bits_of([math.inf, 0, 0, 0]), "best in .* must be a finite real"),
        ("observed", lambda a: bits_of([1.0, 0, 0, -3]), "reductions in .* at least 0, got -3"),
        ("observed", lambda a: bits_of([1.0, 0, 0, 1e300]), r"reductions in .* at most 2\*\*53"),
    ],
)
def test_a_checkpoint_with_bad_numbers_changes_nothing(key: str, change: Any, message: str) -> None:
    plateau = ReduceOnPlateau(Linear(1.0, 0.0), 0.5, patience=0)
    optimizer = optim.SGD(plateau)
    group = attach(optimizer).update(0.25).observe(1.0).observe(2.0)
    saved = reloaded(optimizer.state)
    entry = saved["scalars"]["learning_rate"]
    entry[key] = change(entry[key])
    state, value = optimizer.state, float(plateau)
    with pytest.raises((ValueError, TypeError), match=message):
        optimizer.state = saved
    assert optimizer.state is state
    assert (float(plateau), plateau.progress) == (value, 0.25)
    group.update(0.5)
    assert state["scalars"]["learning_rate"]["value"].item() == 0.25  # linked again


@pytest.mark.parametrize("by_step", [False, True])
def test_metrics_below_0_are_saved(by_step: bool) -> None:
    """The bits of a negative number are an integer that MLX cannot convert to an array."""

    def run() -> Any:
        optimizer = optim.SGD(ReduceOnPlateau(Linear(1.0, 0.0), 0.5, patience=0))
        return optimizer, attach(optimizer, horizon=Horizon(4) if by_step else None)

    (optimizer, group), (again, loaded) = run(), run()
    group.observe(-1.5).observe(-1e-300).observe(-2.5)
    again.state = reloaded(optimizer.state)
    (ours,), (theirs,) = (g["learning_rate"].listeners for g in (group, loaded))
    assert ours.memory == theirs.memory
    assert ours.memory["best"] == -2.5


def test_a_state_with_one_bad_part_is_loaded_not_at_all() -> None:
    lr, wd = Linear(1.0, 0.0).update(0.5), ReduceOnPlateau(Linear(0.0, 1.0)).update(0.5)
    both, group = lr * wd, ScalarGroup(lr=lr, wd=wd)
    for target in (both, group):
        good: Any = target.state_dict()
        names = list(good)
        for bad in ({"progress": -1.0}, {"observed": [{**wd.memory, "reductions": 10**400}]}):
            state = {name: dict(good[name]) for name in names}
            state[names[0]]["progress"] = 0.75
            state[names[1]].update(bad)
            with pytest.raises(ValueError, match="must be"):
                target.load_state_dict(state)
            assert (lr.progress, wd.progress, wd.memory["reductions"]) == (0.5, 0.5, 0)


def test_a_group_with_an_expression_that_has_no_value_there_is_not_updated() -> None:
    """The range of a function is unknown when the expression is made."""
    share, lr = LambdaValue(lambda p: p), Linear(1.0, 0.0)
    group = ScalarGroup(lr=lr, share=share, rest=1 / (share - 0.5))
    seen: list[float] = []
    group.update(0.25).subscribe(lambda progress, values: seen.append(progress))
    with pytest.raises(ValueError, match=r"1 / \(LambdaValue.* at progress 0.5 must be a finite"):
        group.update(0.5)
    assert group.snapshot() == {"lr": 0.75, "share": 0.25, "rest": -4.0}
    assert group.update(0.75)["rest"] == 4.0
    assert seen == [0.75]
