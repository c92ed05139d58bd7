"""The loop and the step as drivers give the same bits, eagerly and compiled."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest

from scalars import (
    ByStep,
    Constant,
    CosineAnnealing,
    DynamicLossScale,
    Horizon,
    LambdaValue,
    Linear,
    Phase,
    Phases,
    Recorder,
    ReduceOnPlateau,
    ScalarGroup,
    Schedule,
    ScheduledScalar,
    Sequence,
    Warmup,
    attach,
    detach,
)
from scalars.number.mlx_protocol import split

from .cases import CASES, Case
from .helpers import Traced, assert_same, pending, reloaded
from .test_every_optimizer import DTYPES, HYPERPARAMETERS, gradients, make, parameters

TOTAL = 37
ONE = mx.array(1.0)
DRIVEN = [case for case in CASES if not isinstance(case.make(), DynamicLossScale)]


def advance(optimizer: optim.Optimizer) -> None:
    optimizer.apply_gradients({"w": ONE}, {"w": ONE})


def values_seen(scalar: ScheduledScalar, by_step: bool, compiled: bool) -> list[tuple[float, ...]]:
    """Return the values of a scalar and 1 - scalar in a loss, at every step and after the last."""
    optimizer = optim.SGD(0.1)
    optimizer.init({"w": ONE})
    group = attach(optimizer, horizon=Horizon(TOTAL) if by_step else None, aux=scalar)
    body = Traced(lambda: (scalar * ONE, (1 - scalar) * ONE))
    step = mx.compile(body, inputs=[optimizer.state]) if compiled else body
    seen = []
    for i in range(TOTAL + 3):
        if not by_step:
            group.update(i / TOTAL)
        seen.append((*[array.item() for array in step()], float(scalar)))
        advance(optimizer)
    assert not compiled or body.traces == 1
    return seen


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", DRIVEN, ids=str)
def test_every_schedule_has_the_same_bits_by_both_drivers(case: Case, compiled: bool) -> None:
    by_loop = values_seen(case.make(), by_step=False, compiled=compiled)
    by_step = values_seen(case.make(), by_step=True, compiled=compiled)
    np.testing.assert_array_equal(by_step, by_loop)
    schedule = case.make()
    for i, (in_float32, _, in_double) in enumerate(by_step):
        expected = schedule.at(i / TOTAL)
        assert in_double == expected
        if isinstance(schedule, Schedule) or not compiled:  # a graph computes in float32
            assert in_float32 == split(expected)[0]


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("name", list(HYPERPARAMETERS))
def test_every_optimizer_has_the_same_bits_by_both_drivers(
    name: str, dtype: str, compiled: bool
) -> None:
    results = []
    for by_step in (False, True):
        optimizer, _ = make(name, "all")
        runs = list(gradients(dtype))
        total = len(runs)
        group = attach(optimizer, horizon=Horizon(total) if by_step else None)
        ours = parameters(dtype)
        optimizer.init(ours)
        captured = [optimizer.state]

        def body(g: Any, p: Any, o: Any = optimizer) -> Any:
            return o.apply_gradients(g, p)

        step = mx.compile(body, inputs=captured, outputs=captured) if compiled else body
        for i, (_, gradient) in enumerate(runs):
            if not by_step:
                group.update(i / total)
            ours = step(gradient, ours)
        state = {k: v for k, v in optimizer.state.items() if k != "scalars"}
        results.append((ours, state))
    assert_same(*[ours for ours, _ in results])
    assert_same(*[state for _, state in results])


def test_any_function_follows_the_step() -> None:
    """The function is not traced, so Python's math, branches and NumPy scalars work."""

    def function(progress: float) -> Any:
        if progress < 0.5:
            return math.exp(-3 * progress)
        return np.float32(0.25)

    for compiled in (False, True):
        seen = values_seen(LambdaValue(function), by_step=True, compiled=compiled)
        assert [double for _, _, double in seen[:TOTAL]] == [
            float(function(i / TOTAL)) for i in range(TOTAL)
        ]


# The step -----------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_that_is_set_or_loaded_gives_its_value_next(compiled: bool) -> None:
    lr = Linear(1.0, 0.0)
    optimizer = optim.SGD(lr)
    attach(optimizer, horizon=Horizon(8))
    captured = [optimizer.state]

    def body(w: Any) -> Any:
        return optimizer.apply_gradients({"w": ONE}, w)

    step = mx.compile(body, inputs=captured, outputs=captured) if compiled else body

    def moved() -> float:
        return -float(step({"w": mx.array(0.0)})["w"].item())

    assert [moved() for _ in range(3)] == [1.0, 0.875, 0.75]
    optimizer.state["step"] = mx.array(6, mx.uint64)
    assert (float(lr), moved(), float(lr)) == (0.25, 0.25, 0.125)
    saved = reloaded(optimizer.state)
    assert [moved() for _ in range(3)] == [0.125, 0.0, 0.0]
    assert lr.progress == 1.25
    optimizer.state = saved
    assert (float(lr), lr.progress) == (0.125, 0.875)
    captured[0] = optimizer.state
    assert [moved() for _ in range(2)] == [0.125, 0.0]


def test_eagerly_the_step_is_known_without_waiting_for_the_device() -> None:
    """The updates stay a graph that nobody evaluates; the step is none of its results."""
    lr = Linear(1.0, 0.0)
    optimizer = optim.SGD(lr)
    group = attach(optimizer, horizon=Horizon(8))
    weights = {"w": mx.array(0.0)}
    for i in range(5):
        assert group.progress == i / 8
        assert float(lr) == 1 - i / 8
        weights = optimizer.apply_gradients({"w": weights["w"] + 1}, weights)
    assert pending(weights) == {"Add": 5, "Multiply": 5, "Subtract": 5}
    assert pending(optimizer.state["step"]) == {}
    step: mx.array = optimizer.state["step"]
    assert (step.item(), step.dtype) == (5, mx.uint64)


def test_a_step_that_is_changed_in_place() -> None:
    """``+=`` changes an ``mx.array`` itself, so the state has the same object as before."""
    optimizer = optim.SGD(lr := Linear(1.0, 0.0))
    group = attach(optimizer, horizon=Horizon(8))
    advance(optimizer)
    optimizer.state["step"] += 3
    assert (group.step, float(lr)) == (4, 0.5)
    advance(optimizer)
    assert (group.step, float(lr), optimizer.step.item()) == (5, 0.375, 5)


def test_another_horizon_takes_effect_at_the_next_step() -> None:
    lr, aux = Linear(1.0, 0.0), CosineAnnealing(1.0)
    for compiled in (False, True):
        optimizer = optim.SGD(lr)
        optimizer.init({"w": ONE})
        horizon = Horizon(8)
        group = attach(optimizer, horizon=horizon, aux=aux)
        captured = [optimizer.state]

        def body(w: Any, o: Any = optimizer) -> Any:
            return o.apply_gradients({"w": aux * ONE}, w)

        counted = Traced(body)
        step = mx.compile(counted, inputs=captured, outputs=captured) if compiled else counted
        seen, expected, moved = [], [], []
        for i in range(12):
            if i == 4:
                horizon = horizon.extend(total_steps=12, at_step=4)
                assert attach(optimizer, horizon=horizon) is group
            progress = min(horizon.progress(i), 1.0)
            expected.append((lr.at(progress), aux.at(progress)))
            seen.append((float(lr), float(aux)))
            moved.append(-step({"w": mx.array(0.0)})["w"].item())
        assert seen == expected
        assert moved == [
            float(np.float32(np.float32(rate) * np.float32(weight))) for rate, weight in expected
        ]
        assert not compiled or counted.traces == 2  # again, as the tables have another shape
        detach(optimizer)


def test_a_state_saved_at_another_length_loads() -> None:
    def run(total: int) -> tuple[Any, Any]:
        plateau = ReduceOnPlateau(Linear(1.0, 0.0), 0.5, patience=0)
        optimizer = optim.SGD(plateau)
        return optimizer, attach(optimizer, horizon=Horizon(total))

    optimizer, group = run(10)
    for _ in range(4):
        advance(optimizer)
    group.observe(1.0).observe(2.0)
    saved = reloaded(optimizer.state)
    longer, longer_group = run(20)
    longer.state = saved
    assert longer_group.snapshot() == {"learning_rate": 0.5 * (1 - 4 / 20)}
    assert longer.state["scalars"]["learning_rate"]["value"].shape == (21,)


# A function of the step -----------------------------------------------------------------


@pytest.mark.parametrize("case", DRIVEN, ids=str)
def test_by_step_has_the_values_of_the_loop(case: Case) -> None:
    scalar = case.make()
    if any(leaf.listeners for leaf in scalar.leaves):
        with pytest.raises(ValueError, match="a function of the step alone"):
            scalar.by_step(TOTAL)
        return
    for horizon in (TOTAL, Horizon(TOTAL, endpoint=True)):
        schedule = scalar.by_step(horizon)
        progress = horizon.progress if isinstance(horizon, Horizon) else lambda i: i / TOTAL
        expected = [split(scalar.at(min(progress(i), 1.0)))[0] for i in range(TOTAL + 3)]
        assert [schedule(i).item() for i in range(TOTAL + 3)] == expected
        assert schedule(mx.arange(TOTAL + 3)).tolist() == expected
        steps = mx.arange(TOTAL + 3).astype(mx.uint64)
        assert mx.compile(schedule)(steps).tolist() == expected


def test_by_step_serves_an_optimizer_that_nothing_is_attached_to() -> None:
    lr = Warmup(CosineAnnealing(0.1), 0.3)
    schedule = lr.by_step(10)
    assert repr(schedule) == f"{lr!r}.by_step(10)"
    for make_schedule in (schedule, copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        optimizer = optim.SGD(make_schedule)
        captured = [optimizer.state]
        step = mx.compile(
            lambda w, o=optimizer: o.apply_gradients({"w": ONE}, w),
            inputs=captured,
            outputs=captured,
        )
        for i in range(12):
            moved = -step({"w": mx.array(0.0)})["w"].item()
            assert moved == optimizer.learning_rate.item() == split(lr.at(min(i / 10, 1)))[0]


def test_by_step_is_copied_with_its_formula_while_the_schedule_is_held() -> None:
    schedule = (lr := Linear(1.0, 0.0)).by_step(10)
    lr.hold(0.3)
    for copied in (
        copy.copy(schedule),
        copy.deepcopy(schedule),
        pickle.loads(pickle.dumps(schedule)),
    ):
        assert [copied(i).item() for i in (0, 5, 10)] == [1.0, 0.5, 0.0]
        assert repr(copied) == repr(schedule)


@pytest.mark.parametrize(
    ("total", "error", "message"),
    [
        (0, ValueError, "total_or_horizon must be a whole number of at least 1, got 0"),
        (10.0, TypeError, "total_or_horizon must be a whole number of at least 1, got 10.0"),
        (True, TypeError, "total_or_horizon must be a whole number"),
        (10_000_001, ValueError, "at most 10,000,000 steps"),
        (Horizon(10**8), ValueError, "at most 10,000,000 steps"),
        ("10", TypeError, "total_or_horizon must be a whole number"),
    ],
)
def test_bad_lengths(total: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Linear(0.0, 1.0).by_step(total)


@pytest.mark.parametrize("dtype", [mx.int8, mx.uint8, mx.int16, mx.int32, mx.uint64])
def test_by_step_takes_a_step_of_any_integer_dtype(dtype: mx.Dtype) -> None:
    assert Linear(0.0, 1.0).by_step(100_000)(mx.array(100, dtype)).item() == np.float32(0.001)


@pytest.mark.parametrize("make", [ByStep, lambda scalar, total: scalar.by_step(total)])
def test_by_step_needs_values_that_depend_on_the_step_alone(make: Any) -> None:
    for scalar, rule in [
        (ReduceOnPlateau(0.1), "a function of the step alone"),
        (2 * Linear(1.0, 0.0) * DynamicLossScale(), "a function of the step alone"),
        (1 - Linear(1.0, 0.0).hold(0.5), "released, as it is its formula, got 0.5"),
    ]:
        with pytest.raises(ValueError, match=f"the scalar of by_step must be {rule}"):
            make(scalar, 10)
    with pytest.raises(TypeError, match="scalar must be a scheduled scalar, got 0.1"):
        ByStep(0.1, 10)


# Logs -----------------------------------------------------------------------------------


def test_callbacks_are_called_after_each_eager_update() -> None:
    optimizer = optim.SGD(Linear(1.0, 0.0))
    group = attach(optimizer, horizon=Horizon(4))
    seen: list[tuple[float, dict[str, float]]] = []
    group.subscribe(lambda progress, values: seen.append((progress, values)))
    for _ in range(3):
        advance(optimizer)
    assert seen == [(i / 4, {"learning_rate": 1 - i / 4}) for i in (1, 2, 3)]
    detach(optimizer)
    assert group.step is None
    group.update(1)
    assert seen[-1] == (1, {"learning_rate": 0.0})


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_recorder_makes_the_row_of_the_step_that_is_reached(compiled: bool, first: bool) -> None:
    optimizer = optim.SGD(Linear(1.0, 0.0))
    group = attach(optimizer, horizon=Horizon(4))
    recorder = Recorder(group)
    captured = [optimizer.state]

    def body(w: Any) -> Any:
        return optimizer.apply_gradients({"w": ONE}, w)

    step = mx.compile(body, inputs=captured, outputs=captured) if compiled else body
    for i in range(4):
        assert (group.step, group.progress) == (i, i / 4)
        if first:
            recorder.log(loss=float(i))
        step({"w": mx.array(0.0)})
        if not first:
            recorder.log(loss=float(i))
    rows = {row["step"]: row for row in recorder}
    for i in range(4):
        at = i if first else i + 1
        assert rows[at] == {"step": at, "progress": at / 4, "learning_rate": 1 - at / 4, "loss": i}
    assert len(rows) == len(recorder)


def test_a_recorder_that_is_resumed_goes_on_at_its_step(tmp_path: Path) -> None:
    optimizer = optim.SGD(Linear(1.0, 0.0))
    group = attach(optimizer, horizon=Horizon(4))
    recorder = Recorder(group, every=2)
    for i in range(3):
        advance(optimizer)
        recorder.log(loss=float(i))
    recorder.save(tmp_path / "rows")
    again = Recorder(group, every=2).load(tmp_path / "rows")
    advance(optimizer)
    again.log(loss=3.0)
    assert [(row["step"], row["loss"]) for row in again] == [(2, 1.0), (4, 3.0)]


# No global state ------------------------------------------------------------------------


def test_threads_get_what_they_would_get_alone() -> None:
    """Two threads train in different dtypes while a third one reads arrays."""
    stop = Event()
    seen: set[Any] = set()
    lr = Linear(0.1, 0.3)

    def reading() -> None:
        while not stop.is_set():
            seen.add((lr.array.dtype, type(float(lr))))

    def training(dtype: mx.Dtype, expected: Any = None) -> Any:
        decay, w = Linear(0.0, 0.5), {"w": mx.ones((8,), dtype)}
        optimizer = optim.AdamW(Linear(0.1, 0.3), weight_decay=decay)
        group = attach(optimizer)
        for i in range(60):
            group.update(i / 60)
            assert type(optimizer.weight_decay) is Linear
            w = optimizer.apply_gradients({"w": mx.ones((8,), dtype)}, w)
            mx.eval(w)
        return w["w"]

    alone = {dtype: training(dtype) for dtype in (mx.float16, mx.bfloat16)}
    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(reading)
        runs = {dtype: pool.submit(training, dtype) for dtype in alone}
        try:
            for dtype, run in runs.items():
                assert run.result().dtype == dtype
                assert mx.array_equal(run.result(), alone[dtype])
        finally:
            stop.set()
        reader.result()
    assert seen == {(mx.float32, float)}


class InterruptError(Exception):
    """The exception of an interrupt."""


# From Python 3.12 on the error may also be raised where it cannot be caught.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_error_or_an_interrupt_at_any_line_of_an_update_changes_no_scalar() -> None:
    """Interrupt an update at every line; no float is left in place of a scalar."""

    def run(at: int) -> bool:
        lr, decay, beta = Linear(0.1, 0.3), Linear(0.0, 0.5), Linear(0.8, 0.9)
        optimizer = optim.AdamW(lr, betas=[beta, 0.999], weight_decay=decay)
        optimizer.init({"w": ONE})
        attach(optimizer, horizon=Horizon(10))
        lines = 0

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal lines
            if event == "line":
                lines += 1
                if lines == at:
                    raise InterruptError
            return trace

        sys.settrace(trace)
        try:  # noqa: SIM105 - the trace would see the lines of contextlib
            optimizer.apply_gradients({"w": ONE}, {"w": ONE})
        except InterruptError:
            pass
        sys.settrace(None)
        present = optimizer._schedulers["learning_rate"], optimizer.betas[0], optimizer.weight_decay
        assert all(a is b for a, b in zip(present, (lr, beta, decay)))
        done = int(optimizer.state["step"].item())
        assert (float(lr), lr.progress) == (lr.at(done / 10), done / 10)
        optimizer.apply_gradients({"w": ONE}, {"w": ONE})
        assert lr.progress == (done + 1) / 10
        return lines >= at

    at = 1
    while run(at):
        at += 1 if at < 50 else 7
    assert at > 100


# Half precision in layers -----------------------------------------------------------------


class Tempered(nn.Module):
    """A layer that divides by a scalar, and a dropout layer."""

    def __init__(self, rate: Any, temperature: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.dropout = nn.Dropout(rate)
        self.temperature = temperature
        self.scales = [temperature, 2.0]

    def __call__(self, x: mx.array) -> mx.array:
        return self.dropout(self.linear(x)) / self.temperature * self.scales[0]


def seeded(call: Any, x: mx.array) -> mx.array:
    mx.random.seed(1)
    return call(x)  # type: ignore[no-any-return]


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_layers_keep_the_dtype_of_the_model(dtype: mx.Dtype, compiled: bool) -> None:
    rate, temperature = Linear(0.1, 0.4), Linear(1.0, 3.0)
    mx.random.seed(1)
    model, plain = Tempered(rate, temperature), Tempered(0.0, 1.0)
    model.set_dtype(dtype)
    plain.update(model.parameters())
    optimizer = optim.SGD(0.1)
    group = attach(optimizer, model)
    x = mx.random.normal((4, 8)).astype(dtype)
    captured = [model.state, optimizer.state, mx.random.state]
    body = Traced(lambda x: model(x))
    step = mx.compile(body, inputs=captured, outputs=captured) if compiled else body
    for i in range(4):
        group.update(i / 4)
        plain.dropout._p_1 = 1 - rate.at(i / 4)
        plain.temperature = temperature.at(i / 4)
        plain.scales[0] = plain.temperature
        ours, theirs = (
            seeded(step, x),
            seeded(mx.compile(lambda x: plain(x)) if compiled else plain, x),
        )
        assert ours.dtype == dtype
        if compiled:  # MLX fuses constants and inputs differently
            assert mx.allclose(ours, theirs, rtol=2e-2, atol=1e-2)
            assert mx.array_equal(ours == 0, theirs == 0)
        else:
            assert mx.array_equal(ours, theirs)
    assert not compiled or body.traces == 1
    attach(optimizer, horizon=Horizon(4))
    assert model.temperature.dtype == model.scales[0].dtype == dtype
    detach(optimizer)
    assert model.temperature is temperature
    assert model.scales[0] is temperature
    assert repr(model.dropout._p_1) == "1 - Linear(start=0.1, end=0.4)"


def test_in_a_mixed_model_it_is_the_dtype_of_the_module_that_holds_the_scalar() -> None:
    temperature, own = Linear(1.0, 3.0), Linear(1.0, 3.0).astype(mx.float16)
    half, full = Tempered(0.0, temperature), Tempered(0.0, own)
    half.set_dtype(mx.bfloat16)
    model = nn.Sequential(half, full, nn.Dropout(Linear(0.1, 0.2)))
    optimizer = optim.SGD(0.1)
    attach(optimizer, model)
    assert half.temperature.dtype == mx.bfloat16
    assert full.temperature.dtype == mx.float16  # as the user has chosen
    assert model.layers[2]._p_1.dtype == mx.float32
    full.temperature = 2.0  # a value that was assigned since stays
    half.temperature = temperature
    detach(optimizer)
    assert half.temperature is temperature
    assert full.temperature == 2.0


def test_a_dropout_draws_the_numbers_that_a_float_draws() -> None:
    """The probability stays float32: 0.9 is 0.8984375 in bfloat16."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(Constant(0.1)))
    model.set_dtype(mx.bfloat16)
    attach(optim.SGD(Sequence([0.1, 0.2], [0.5])), model)
    dropout, plain = model.layers[1], nn.Dropout(0.1)
    x = mx.ones((200_000,), mx.bfloat16)
    mx.random.seed(3)
    ours = dropout(x)
    mx.random.seed(3)
    assert mx.array_equal(ours, plain(x))


# Common mistakes in loops -----------------------------------------------------------------


def test_a_number_assigned_to_what_is_scheduled_raises() -> None:
    lr, decay = Linear(0.1, 0.0), Linear(0.0, 0.1)
    optimizer = optim.AdamW(lr, betas=[Linear(0.8, 0.9), 0.99], weight_decay=decay)
    attach(optimizer)
    for name, value in {"learning_rate": 0.5, "weight_decay": 0.5, "betas": [0.9, 0.99]}.items():
        message = rf"optimizer.{name} must be left to its schedule .* detach\(optimizer\), assign"
        with pytest.raises(ValueError, match=message):
            setattr(optimizer, name, value)
    with pytest.raises(ValueError, match=r"optimizer.eps must be a number .* attach\(optimizer\)"):
        optimizer.eps = Linear(1e-8, 1e-6)  # type: ignore[assignment]
    optimizer.eps = 1e-6
    assert (optimizer.eps, optimizer.weight_decay) == (1e-6, decay)
    detach(optimizer)
    optimizer.weight_decay = 0.5
    optimizer.learning_rate = 0.25
    assert optimizer.weight_decay == 0.5

    fixed = optim.SGD(0.1, momentum=Linear(0.5, 0.9))
    attach(fixed)
    fixed.learning_rate = 0.25  # without a schedule, MLX allows changing it
    assert fixed.learning_rate.item() == 0.25
    many = optim.MultiOptimizer([optim.SGD(0.1), optim.SGD(lr)], [lambda name, _: name == "w"])
    attach(many)
    with pytest.raises(ValueError, match="optimizer.learning_rate must be left to its schedule"):
        many.learning_rate = 0.5
    assert many.optimizers[0].learning_rate.item() == pytest.approx(0.1)


@pytest.mark.parametrize("horizon", [None, Horizon(4)])
@pytest.mark.parametrize("new", [0.5, Linear(0.8, 0.9)])
def test_a_number_put_into_a_list_of_what_is_scheduled_raises(
    horizon: Horizon | None, new: Any
) -> None:
    betas = [Linear(0.8, 0.9), 0.99]
    optimizer = optim.AdamW(Linear(0.1, 0.0), betas=betas)  # type: ignore[arg-type]
    attach(optimizer, horizon=horizon)
    before, betas[0] = betas[0], new
    message = "optimizer.betas must be left to its schedules while attached"
    with pytest.raises(ValueError, match=message):
        advance(optimizer)
    betas[0] = before
    advance(optimizer)
    betas[0] = new
    state = [optimizer.state]
    with pytest.raises(ValueError, match=message):
        mx.compile(lambda: advance(optimizer), inputs=state, outputs=state)()


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_state_that_is_updated_in_place_is_linked_again(by_step: bool, compiled: bool) -> None:
    """``optimizer.state.update(loaded)`` silently replaces the entries of the scalars."""

    def run(scale: float) -> Any:
        optimizer = optim.SGD(Linear(scale, 0.0))
        optimizer.init({"w": ONE})
        group = attach(optimizer, horizon=Horizon(8) if by_step else None)
        captured = [optimizer.state]

        def body(w: Any) -> Any:
            return optimizer.apply_gradients({"w": ONE}, w)

        step = mx.compile(body, inputs=captured, outputs=captured) if compiled else body

        def moved(i: int) -> float:
            if not by_step:
                group.update(i / 8)
            return -float(step({"w": mx.array(0.0)})["w"].item())

        return optimizer, group, moved

    optimizer, group, moved = run(1.0)
    assert [moved(i) for i in range(3)] == [1.0, 0.875, 0.75]
    saved = reloaded(optimizer.state)
    assert [moved(i) for i in range(3, 6)] == [0.625, 0.5, 0.375]
    optimizer.state.update(saved)
    if by_step:
        assert group.progress == 3 / 8
    assert [moved(i) for i in range(3, 6)] == [0.625, 0.5, 0.375]
    optimizer.state["scalars"] = {"learning_rate": saved["scalars"]["learning_rate"]}
    assert [moved(i) for i in range(6, 8)] == [0.25, 0.125]
    optimizer.state["scalars"] = {"other": {}}
    with pytest.raises(ValueError, match="must be free of a parameter"):
        moved(8)


def test_the_state_of_a_group_that_the_step_drives_is_not_loaded_by_hand() -> None:
    optimizer = optim.SGD(ReduceOnPlateau(Linear(1.0, 0.0), 0.5, patience=0))
    group = attach(optimizer, horizon=Horizon(4))
    saved = group.observe(1.0).observe(2.0).state_dict()
    group.observe(3.0)
    with pytest.raises(ValueError, match="follows the step of an optimizer"):
        group.load_state_dict(saved)
    assert float(group["learning_rate"]) == 0.25


def test_what_is_attached_and_never_updated_warns_once() -> None:
    optimizer = optim.SGD(Linear(0.1, 0.0), momentum=Constant(0.5))
    attach(optimizer)
    for _ in range(29):
        advance(optimizer)
    with pytest.warns(
        RuntimeWarning, match=r"learning_rate: the optimizer has made 30 updates.*group.up"
    ):
        advance(optimizer)
    for _ in range(40):
        advance(optimizer)
    others = [optim.SGD(Linear(0.1, 0.0)), optim.SGD(Linear(0.1, 0.0))]
    attach(others[0]).update(0)
    attach(others[1], horizon=Horizon(100))
    for _ in range(40):
        advance(others[0])
        advance(others[1])


def test_an_update_in_a_step_that_captures_the_model_alone_raises() -> None:
    """MLX's own MNIST example captures only the model."""
    model = nn.Linear(2, 1)
    loss_and_grad = nn.value_and_grad(model, lambda x: model(x).mean())
    for horizon in (None, Horizon(10)):
        optimizer = optim.SGD(Linear(0.1, 0.0))
        attach(optimizer, horizon=horizon)

        def body(x: mx.array, o: Any = optimizer) -> mx.array:
            loss, grads = loss_and_grad(x)
            o.update(model, grads)
            return loss  # type: ignore[no-any-return]

        step = mx.compile(body, inputs=[model.state], outputs=[model.state])
        with pytest.raises(
            ValueError, match=r"without capturing optimizer.state, .*model.state, opt"
        ):
            step(mx.ones((1, 2)))

        def after(w: mx.array, o: Any = optimizer) -> mx.array:
            return o.apply_gradients({"w": 2 * w}, {"w": w})["w"].sum()  # type: ignore[no-any-return]

        assert mx.grad(after)(mx.ones((2,))).tolist() == pytest.approx([0.8, 0.8])


def test_a_multi_optimizer_is_attached_before_its_members() -> None:
    first, second = optim.SGD(Linear(0.1, 0.0)), optim.SGD(0.1)
    attach(first)
    many = optim.MultiOptimizer([first, second], [lambda name, _: name == "w"])
    with pytest.raises(ValueError, match=r"members that are not attached .* detach\(member\)"):
        attach(many)
    assert (type(many), type(second)) == (optim.MultiOptimizer, optim.SGD)
    detach(first)
    assert list(attach(many)) == ["optimizers.0.learning_rate"]


def test_names_that_are_found_twice() -> None:
    class Both(nn.Module):
        """A module with a public and a private name."""

        def __init__(self) -> None:
            super().__init__()
            self.temp, self._temp = Linear(0.0, 1.0), Linear(2.0, 3.0)
            self.plan = ScalarGroup(weight=Linear(4.0, 5.0))
            self.phases = Phases([Phase(1, aux=Linear(6.0, 7.0)), Phase(1, aux=8.0)])

    group = attach(optim.SGD(0.1), Both())
    assert group.snapshot() == {"temp": 0.0, "temp_2": 2.0, "weight": 4.0, "aux": 6.0}
    assert group.update(0.75)["aux"] == 8.0
    pair = Linear(0, 1) * Linear(0, 2)
    for others, taken in (
        ({"a.b": Linear(0, 1), "a/b": Linear(0, 1)}, "a/b"),
        ({"e": pair, "e.1": Linear(0, 1)}, "e/1"),
    ):
        message = f"must be a name that no other scalar has in the optimizer's state, got '{taken}'"
        with pytest.raises(ValueError, match=message):
            attach(optim.SGD(0.1), **others)
    # tree_unflatten makes a list of a dict whose names are all numbers.
    with pytest.raises(ValueError, match="given to attach must be one with a letter in it, got"):
        attach(optim.SGD(0.1), **{"0": Linear(0, 1), "1": Linear(0, 1)})
    for name in ("", "a b", "-1", "1.2", "value", "/"):
        optimizer = optim.SGD(Linear(0.1, 0.0))
        group = attach(optimizer, **{name: Linear(0.0, 1.0)}).update(0.25)
        saved = reloaded(optimizer.state)
        group.update(0.5)
        optimizer.state = saved
        assert group.snapshot() == {"learning_rate": 0.1 - 0.1 * 0.25, name: 0.25}


# Regressions ----------------------------------------------------------------------------


def test_a_second_attach_that_fails_leaves_the_first() -> None:
    rate = LambdaValue(lambda p: 1 / (0.5 - p))
    optimizer = optim.SGD(rate)
    group = attach(optimizer, horizon=Horizon(7))
    advance(optimizer)
    with pytest.raises(
        ValueError, match="at progress 0.5 must be a finite number, got ZeroDivision"
    ):
        attach(optimizer, horizon=Horizon(8))
    assert (group.step, group.progress) == (1, 1 / 7)
    for i in (1, 2, 3):
        advance(optimizer)
        assert optimizer.learning_rate.item() == split(1 / (0.5 - i / 7))[0]


def test_a_callback_that_fails_leaves_the_model_updated() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight = mx.array([[1.0]])
    optimizer = optim.SGD(Linear(1.0, 0.0))
    group = attach(optimizer, horizon=Horizon(4))
    stop = group.subscribe(lambda progress, values: [][0])
    with pytest.raises(IndexError, match="list index out of range"):
        optimizer.update(model, {"weight": mx.array([[0.5]])})
    assert (model.weight.item(), group.step) == (0.5, 1)
    stop()
    optimizer.update(model, {"weight": mx.array([[0.5]])})
    assert (model.weight.item(), group.step) == (0.125, 2)


@pytest.mark.parametrize("by_step", [False, True])
def test_attached_again_with_more_the_group_and_its_recorder_go_on(by_step: bool) -> None:
    optimizer = optim.SGD(Linear(1.0, 0.0))
    group = attach(optimizer, horizon=Horizon(6) if by_step else None)
    recorder = Recorder(group)
    for i in range(6):
        if i == 3:
            assert attach(optimizer, aux=Linear(0.0, 6.0)) is group
        if not by_step:
            group.update(i / 6)
        recorder.log(loss=float(i))
        advance(optimizer)
    assert recorder["loss"][:6] == [0, 1, 2, 3, 4, 5]
    assert recorder["aux"][:6] == [None, None, None, 3.0, 4.0, 5.0]


def test_views_follow_the_model() -> None:
    k, scales = Linear(0.3, 1.0), [Linear(0.5, 1.0), 2.0]
    model = Tempered(0.0, k)
    model.scales = scales
    optimizer = optim.SGD(Linear(0.1, 0.0))
    attach(optimizer, model)
    x = mx.ones((1, 8), mx.bfloat16)
    for dtype in (mx.bfloat16, mx.float16, mx.float32, mx.bfloat16):
        model.set_dtype(dtype)
        assert model(x.astype(dtype)).dtype == dtype
    scales[0] = 4.0  # the list belongs to the user
    assert model.scales[0] == 4.0
    other = optim.SGD(Linear(0.1, 0.0))
    attach(other, model)
    detach(optimizer)
    assert model(x).dtype == mx.bfloat16
    detach(other)
    assert model.temperature is k


@pytest.mark.parametrize("casts", [(mx.float32, mx.bfloat16), (mx.bfloat16, mx.float32)])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_that_is_cast_after_attach_computes_as_with_floats(
    casts: tuple[mx.Dtype, mx.Dtype], compiled: bool
) -> None:
    """In the dtype and with the digits of a Python float, as it is cast to when it is used."""
    outputs = []
    for rate in (0.3, Linear(0.3, 0.3)):
        mx.random.seed(0)
        model = nn.Sequential(nn.Linear(8, 64), nn.Dropout(rate), nn.Linear(64, 1))
        model.set_dtype(casts[0])
        optimizer = optim.SGD(Linear(0.1, 0.0))
        attach(optimizer, model)
        model.set_dtype(casts[1])
        captured = [model.state, optimizer.state, mx.random.state]
        forward = mx.compile(model, captured, captured) if compiled else model
        outputs.append(forward(mx.ones((4, 8), casts[1])))
    assert outputs[0].dtype == outputs[1].dtype == casts[1]
    # MLX 0.30 rounds the constants of a graph to seven digits.
    off = mx.abs(outputs[0] - outputs[1]).max().item()
    assert off == 0 if not compiled else off <= (1e-6 if casts[1] == mx.float32 else 2**-7)


def test_a_step_that_was_compiled_before_attach() -> None:
    for horizon in (None, Horizon(4)):
        optimizer = optim.SGD(Linear(1.0, 0.0))
        optimizer.init({"w": ONE})
        captured = [optimizer.state]
        step = mx.compile(
            lambda w, o=optimizer: o.apply_gradients({"w": mx.array(1.0)}, w), captured, captured
        )
        group = attach(optimizer, horizon=horizon)
        for i in range(3):
            if horizon is None:
                group.update(i / 4)
            assert step({"w": mx.array(0.0)})["w"].item() == -(1 - i / 4)


def test_compiled_functions_see_the_scalar_of_a_name_and_not_of_a_place() -> None:
    a, b = Constant(2.0), Constant(5.0)
    optimizer = optim.SGD(Linear(1.0, 0.0))
    attach(optimizer, a=a, b=b)
    step = mx.compile(lambda x: a * x, inputs=[optimizer.state])
    assert step(ONE).item() == 2
    detach(optimizer)
    attach(optimizer, b=b, a=a)
    assert step(ONE).item() == 2


@pytest.mark.parametrize("by_step", [False, True])
def test_after_a_failed_call_a_checkpoint_restores_everything(by_step: bool) -> None:
    optimizer = optim.SGD(Linear(1.0, 0.0), momentum=0.5)
    optimizer.init({"w": mx.zeros((2,))})
    group = attach(optimizer, horizon=Horizon(4) if by_step else None)
    captured = [optimizer.state]

    def body(w: Any, g: mx.array) -> Any:
        return optimizer.apply_gradients({"w": g @ mx.ones((2, 2))}, w)

    step = mx.compile(body, inputs=captured, outputs=captured)
    w = step({"w": mx.zeros((2,))}, mx.ones((2,)))
    saved = reloaded(optimizer.state)
    with pytest.raises(ValueError, match="matmul"):
        step({"w": mx.zeros((2,))}, mx.ones((3,)))
    with pytest.raises(ValueError, match="The step of the optimizer is lost"):
        optimizer.apply_gradients({"w": mx.ones((2,))}, w)
    optimizer.state = saved
    assert group.progress == (0.25 if by_step else 0)
    if not by_step:
        group.update(0.25)
    captured[0] = optimizer.state
    again = mx.compile(body, inputs=captured, outputs=captured)
    assert again(w, mx.ones((2,)))["w"].tolist() == [-2 - 0.75 * 3, -2 - 0.75 * 3]


def test_an_optimizer_that_is_held_twice_is_one() -> None:
    def run(number: Any) -> Any:
        one, other = optim.Adam(number), optim.SGD(number)
        filters = [lambda name, _: name == "a", lambda name, _: name == "b"]
        return optim.MultiOptimizer([one, other, one], filters), one

    ours, one = run(Linear(0.1, 0.0))
    theirs, _ = run(0.1)
    group = attach(ours)
    weights = by_hand = {name: mx.array(1.0) for name in "abc"}
    for optimizer in (ours, theirs):
        optimizer.init(weights)
    for i in range(3):
        group.update(i / 3)
        theirs.learning_rate = Linear(0.1, 0.0).at(i / 3)
        weights = ours.apply_gradients({name: mx.array(2.0) for name in "abc"}, weights)
        by_hand = theirs.apply_gradients({name: mx.array(2.0) for name in "abc"}, by_hand)
        assert_same(weights, by_hand)
    detach(ours)
    assert type(one) is optim.Adam
    assert type(ours) is optim.MultiOptimizer
