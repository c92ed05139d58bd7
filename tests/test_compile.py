"""Scalars in compiled functions are updated if they are captured, and raise an error if not."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest

from scalars import Constant, CosineAnnealing, Linear, ScalarGroup, ScheduledScalar
from scalars.number import mlx_protocol

from .helpers import Traced

ONE = mx.array(1.0)


def test_ten_thousand_updates_and_one_trace() -> None:
    lr, beta = CosineAnnealing(1.0, 0.1), Linear(0.9, 0.99)
    body = Traced(lambda x: lr * x + (1 - beta))
    step = mx.compile(body, inputs=[lr.state, (1 - beta).state])
    for i in range(10_000):
        expected = np.float32(lr.at(i / 10_000)) + np.float32(1 - beta.at(i / 10_000))
        lr.update(i / 10_000)
        beta.update(i / 10_000)
        assert step(ONE).item() == pytest.approx(float(expected), rel=3e-7)
    assert body.traces == 1


def test_200_000_updates_take_no_memory() -> None:
    import tracemalloc

    captured, free = Linear(0.0, 1.0), Linear(0.0, 1.0)
    captured.state  # noqa: B018 - from now on every value is put into it
    for scalar in (captured, free, 1 - captured):
        scalar.update(0.5)
    gc.collect()
    arrays = mx.get_active_memory()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for i in range(100_000):
        captured.update(i / 100_000)
        free.update(i / 100_000)
    gc.collect()
    assert tracemalloc.get_traced_memory()[0] - before < 2_000
    tracemalloc.stop()
    assert mx.get_active_memory() - arrays < 1_000


@pytest.mark.gpu
@pytest.mark.parametrize("value", [0.9, 0.99, 0.999, 0.9999, 0.987654321, 2 / 3, 0.5, 0.0, 1.0])
def test_one_minus_beta_loses_no_digits(value: float) -> None:
    beta = Linear(value, 0.5)
    step = mx.compile(lambda: ((1 - beta) * ONE, (beta - 1) * ONE), inputs=[beta.state])
    for result, number in zip(step(), (1 - value, value - 1), strict=True):
        assert result.item() == float(np.float32(number))


def test_the_sum_of_two_scalars_loses_no_digits() -> None:
    a, b = Linear(0.3, 0.0), Linear(0.299999, 0.0)
    step = mx.compile(lambda: (a - b) * ONE, inputs=[a.state, b.state])
    assert step().item() == pytest.approx(0.3 - 0.299999, rel=1e-7)  # float32 alone: 3e-3


def test_outputs_may_be_captured_too() -> None:
    lr = Linear(1.0, 2.0)
    body = Traced(lambda x: lr * x)
    step = mx.compile(body, inputs=[lr.state], outputs=[lr.state])
    for progress in (0, 0.25, 0.5, 1):
        lr.update(progress)
        assert step(ONE).item() == 1 + progress
        assert float(lr) == 1 + progress
        assert (lr * ONE).item() == 1 + progress
    assert body.traces == 1


def test_the_state_holds_arrays_only() -> None:
    lr, wd = Linear(1.0, 2.0), Linear(0.0, 0.1)
    for state in (lr.state, (lr * wd).state, ScalarGroup(lr=lr, both=lr * wd).state):
        from mlx.utils import tree_flatten

        assert all(isinstance(leaf, mx.array) for _, leaf in tree_flatten(state))
    assert lr.state is lr.state
    assert lr.state["value"].item() == 1


def test_two_functions_and_nested_functions() -> None:
    lr = Linear(1.0, 2.0)
    inner = mx.compile(lambda x: lr * x, inputs=[lr.state])
    outer = mx.compile(lambda x: inner(x) + lr, inputs=[lr.state])
    for progress in (0, 0.5, 1):
        lr.update(progress)
        assert inner(ONE).item() == 1 + progress
        assert outer(ONE).item() == 2 + 2 * progress


def test_gradients_in_a_compiled_function() -> None:
    weight = Linear(1.0, 3.0)
    step = mx.compile(mx.value_and_grad(lambda x: weight * x * x), inputs=[weight.state])
    for progress in (0, 0.5, 1):
        weight.update(progress)
        value, gradient = step(mx.array(2.0))
        assert (value.item(), gradient.item()) == (4 * (1 + 2 * progress), 4 * (1 + 2 * progress))


def test_a_failed_trace_leaves_nothing_behind() -> None:
    lr = Linear(1.0, 2.0)

    def fails(x: mx.array) -> mx.array:
        _ = lr * x
        raise RuntimeError("in the trace")

    with pytest.raises(RuntimeError, match="in the trace"):
        mx.compile(fails, inputs=[lr.state])(ONE)
    assert float(lr) == 1
    assert (lr * ONE).item() == 1
    lr.update(0.5)
    assert float(lr) == 1.5
    assert mx.compile(lambda x: x * lr, inputs=[lr.state])(ONE).item() == 1.5


def test_without_compilation() -> None:
    lr = Linear(1.0, 2.0)
    mx.disable_compile()
    step = mx.compile(lambda x: lr * x, inputs=[lr.state])
    for progress in (0, 0.5, 1):
        lr.update(progress)
        assert step(ONE).item() == 1 + progress


class Net(nn.Module):
    """A model with a scheduled dropout rate deep inside."""

    def __init__(self, p: Any) -> None:
        super().__init__()
        self.blocks = [nn.Sequential(nn.Linear(8, 8), nn.Dropout(p=p)), nn.Linear(8, 2)]
        self.temperature = p

    def __call__(self, x: mx.array) -> mx.array:
        for block in self.blocks:
            x = block(x)
        return x


def test_in_a_module_it_is_no_parameter_and_stays_live() -> None:
    rate = Linear(0.0, 0.5)
    model = Net(rate)
    plain = Net(0.1)
    from mlx.utils import tree_flatten

    names = [name for name, _ in tree_flatten(model.parameters())]
    assert names == [name for name, _ in tree_flatten(plain.parameters())]
    assert model.temperature is rate
    x = mx.ones((4, 8))
    body = Traced(lambda x: model(x))
    step = mx.compile(
        body, inputs=[model.state, rate.state, mx.random.state], outputs=[mx.random.state]
    )
    for progress in (0.2, 0.6, 1):
        value = float(rate.update(progress))
        mx.random.seed(5)
        compiled = step(x)
        mx.random.seed(5)
        model.blocks[0].layers[1]._p_1 = 1 - value
        np.testing.assert_allclose(np.array(compiled), np.array(model(x)), rtol=1e-5, atol=1e-6)
        model.blocks[0].layers[1]._p_1 = 1 - rate
    assert body.traces == 1
    assert rate.progress == 1


@pytest.mark.gpu
def test_dropout_from_zero_takes_effect_when_compiled() -> None:
    rate = Linear(0.0, 0.5)
    dropout = nn.Dropout(rate)
    x = mx.ones((1000,))
    step = mx.compile(
        lambda x: dropout(x), inputs=[rate.state, mx.random.state], outputs=[mx.random.state]
    )
    zeros = []
    for progress in (0, 0.5, 1):
        rate.update(progress)
        zeros.append((step(x) == 0).mean().item())
    assert zeros[0] == 0
    assert zeros[1] == pytest.approx(0.25, abs=0.05)
    assert zeros[2] == pytest.approx(0.5, abs=0.05)


# Comparisons while traced ---------------------------------------------------------


def answer_while_traced(scalar: ScheduledScalar, ask: Callable[[], bool]) -> bool:
    answers: list[bool] = []

    def body(x: mx.array) -> mx.array:
        answers.append(ask())
        return x

    mx.compile(body, inputs=[scalar.state])(ONE)
    return answers[-1]


RISING, FALLING = Linear(0.0, 0.1), Linear(0.1, 0.0)


@pytest.mark.parametrize(
    ("scalar", "ask", "answer"),
    [
        # The same result over the whole schedule
        (RISING, lambda s: s < 1, True),
        (RISING, lambda s: s >= 0, True),
        (RISING, lambda s: s < 0, False),
        (RISING, lambda s: s == 0.5, False),
        (RISING, lambda s: 0.0 <= s < 1.0, True),
        (Constant(0.0), lambda s: s <= 0, True),
        (Constant(0.0), lambda s: s != 0, False),
        (Linear(0.3, 0.3), lambda s: s > 0.3, False),
        # The bound is reached only at the edge of the range, so the result inside holds.
        (RISING, lambda s: s > 0, True),
        (RISING, lambda s: s <= 0, False),
        (RISING, lambda s: s == 0, False),
        (RISING, lambda s: s != 0, True),
        (RISING, bool, True),
        (FALLING, lambda s: s > 0, True),
        (RISING, lambda s: s >= 0.1, False),
        (1 - RISING, lambda s: s == 1, False),
        (RISING, lambda s: s < s + 1, True),
        (RISING, lambda s: s - 0.1 * s > 0, True),
    ],
)
@pytest.mark.parametrize("progress", [0, 0.4, 1])
def test_settled_comparisons(
    scalar: ScheduledScalar, ask: Any, answer: bool, progress: float
) -> None:
    scalar.update(progress)
    assert answer_while_traced(scalar, lambda: ask(scalar)) is answer


@pytest.mark.parametrize("compare", ["<", "<=", ">", ">=", "==", "!="])
def test_a_comparison_that_depends_on_the_schedule_raises(compare: str) -> None:
    scalar = Linear(0.0, 0.1)
    expression = f"s {compare} 0.05"
    message = rf"Linear\(start=0.0, end=0.1\) {compare} 0.05 has different answers .* mx.where"
    with pytest.raises(ValueError, match=message):
        answer_while_traced(scalar, lambda: eval(expression, {"s": scalar}))
    scalar.update(0.75)
    assert eval(expression, {"s": scalar}) is eval(expression, {"s": float(scalar)})


# Errors in place of stale values --------------------------------------------------


def test_float_of_a_captured_scalar_raises_while_traced() -> None:
    lr = Linear(0.5, 1.0)
    half = lr / 2
    for convert in (float, lambda s: s.item(), int, round, "{:.2f}".format, np.asarray):
        for scalar in (lr, half):
            with pytest.raises(ValueError, match=r"has no float value while mx.compile .* attach"):
                answer_while_traced(scalar, lambda c=convert, s=scalar: bool(c(s)))
    assert float(lr) == 0.5


def test_update_of_a_captured_scalar_raises_while_traced() -> None:
    a, b = Linear(0.5, 1.0), Linear(0.5, 1.0)
    for update in (b.update, (a * b).update, ScalarGroup(a=a, b=b).update):
        with pytest.raises(ValueError, match="cannot be updated while mx.compile traces"):
            answer_while_traced(b, lambda u=update: bool(u(0.5)))
    assert (a.progress, float(a), float(b)) == (0, 0.5, 0.5)
    with pytest.raises(ValueError, match="progress must be known while tracing"):
        mx.compile(lambda x: a.update(x / 10) * x)(ONE)


@pytest.mark.parametrize("initialized", [False, True])
def test_a_rate_called_by_an_optimizer_that_does_not_capture_it_raises(initialized: bool) -> None:
    for rate in (Linear(0.5, 1.0), 0.1 * Linear(0.5, 1.0)):
        optimizer = optim.SGD(rate)
        weights = {"w": mx.ones((2,))}
        if initialized:
            optimizer.init(weights)
        step = mx.compile(
            lambda w, o=optimizer: o.apply_gradients(w, w), [optimizer.state], [optimizer.state]
        )
        with pytest.raises(ValueError, match=r"called as a learning rate .* attach\(optimizer\)"):
            step(weights)
        optimizer.state = {"step": mx.array(0, mx.uint64)}
        optimizer.apply_gradients(weights, weights)  # eagerly it works


def test_a_constant_rate_may_be_a_constant_of_the_graph() -> None:
    optimizer = optim.SGD(Constant(0.5))
    step = mx.compile(
        lambda w: optimizer.apply_gradients(w, w), [optimizer.state], [optimizer.state]
    )
    assert step({"w": ONE})["w"].item() == 0.5


def test_an_eager_gradient_through_an_optimizer_is_no_reason_to_raise() -> None:
    optimizer = optim.SGD(Linear(0.5, 1.0))

    def after_a_step(w: mx.array) -> mx.array:
        return optimizer.apply_gradients({"w": w}, {"w": w})["w"].sum()

    assert mx.grad(after_a_step)(mx.array([2.0])).tolist() == [0.5]


def test_a_frozen_loss_weight_warns_once() -> None:
    weight = Linear(0.0, 1.0)
    step = mx.compile(lambda x: weight * x)
    updates = 0
    with pytest.warns(
        RuntimeWarning, match=r"Linear\(start=0.0, end=1.0\) was last read while .* attach"
    ):
        for i in range(100):
            weight.update(i / 100)
            step(ONE)
            updates += 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(10):
            weight.update(i / 10)
            step(ONE)


def test_a_frozen_weight_that_is_logged_warns_too() -> None:
    weight = Linear(0.0, 1.0)
    step = mx.compile(lambda x: weight * x)
    with pytest.warns(RuntimeWarning, match="has been updated 33 times since then"):
        for i in range(50):
            weight.update(i / 50)
            step(ONE)
            f"{weight:.2f}"


def test_a_frozen_weight_that_other_code_compares_warns_later() -> None:
    """A loop that compares it, as for a log line, does not say that it is no constant."""
    weight = Linear(0.0, 1.0)
    step = mx.compile(lambda x: weight * x)
    with pytest.warns(RuntimeWarning, match="has been updated 321 times since then"):
        for i in range(400):
            weight.update(i / 400)
            step(ONE)
            assert (weight > 0.5) is (i > 200)


def loss(x: mx.array, weight: ScheduledScalar) -> mx.array:
    return (weight * x * x).sum()


def test_no_warning_in_eager_loops() -> None:
    """Gradients, accumulation, pauses and guards do not freeze a value."""
    weight, decay = Linear(0.0, 1.0), Linear(0.0, 0.1)
    gradient = mx.value_and_grad(loss)
    optimizer = optim.AdamW(Linear(0.1, 0.0), weight_decay=decay)
    weights = {"w": mx.ones((2,))}
    group = ScalarGroup(weight=weight, decay=decay)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(40):
            group.update(step / 40)
            _, g = gradient(weights["w"], weight)
            if step % 8 == 7:  # gradient accumulation
                weights = optimizer.apply_gradients({"w": g}, weights)
            if step == 20:  # evaluation
                [loss(weights["w"], weight).item() for _ in range(20)]
        for step in range(40):  # a guard leaves the term out for many steps
            weight.update(1 - step / 40)
            if weight > 0.9:
                gradient(weights["w"], weight)


def test_no_warning_when_captured_or_constant() -> None:
    captured, constant = Linear(0.0, 1.0), Constant(2.0)
    step = mx.compile(lambda x: captured * x * constant, inputs=[captured.state])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(20):
            captured.update(i / 20)
            constant.update(i / 20)
            assert step(ONE).item() == pytest.approx(i / 10, rel=1e-6)


# The facts about MLX that mlx_protocol.py relies on ---------------------------------


def test_mlx_reads_the_array_as_an_attribute_and_by_a_call() -> None:
    """If one of the two fails, MLX has changed: ProtocolArray may become simpler."""

    class Method:
        def __mlx_array__(self) -> mx.array:
            return ONE

    class Property:
        __mlx_array__ = ONE

    with pytest.raises(RuntimeError, match="bad_cast"):
        mx.multiply(ONE, Method())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not callable"):
        ONE * Property()  # type: ignore[operator]


def test_mlx_takes_whatever_has_float_for_a_complex_number() -> None:
    """If this fails, MLX has changed: imag and __complex__ may go."""

    class Number:
        __mlx_array__ = mlx_protocol.ProtocolArray(1.0)

        def __float__(self) -> float:
            return 1.0

    assert (ONE * Number()).dtype == mx.complex64  # type: ignore[operator]


def test_tracing_is_told() -> None:
    seen: dict[str, bool] = {}

    def body(name: str) -> Callable[[mx.array], mx.array]:
        def run(x: mx.array) -> mx.array:
            seen[name] = mlx_protocol.is_tracing()
            seen[f"{name}, its input"] = mlx_protocol.is_placeholder(x)
            seen[f"{name}, a constant"] = mlx_protocol.is_placeholder(ONE)
            return x * 2

        return run

    assert not mlx_protocol.is_tracing()
    mx.compile(body("compile"))(ONE)
    mx.compile(mx.grad(body("compiled grad")))(ONE)
    mx.grad(body("grad"))(mx.array(1.0))
    mx.vmap(body("vmap"))(mx.ones((2,)))
    body("eager")(ONE)
    assert not mlx_protocol.is_tracing()
    assert {name for name, yes in seen.items() if yes} == {
        "compile",
        "compile, its input",
        "compiled grad",
        "grad",
        "vmap",
        "vmap, its input",
        *({"compiled grad, its input"} if seen["compiled grad, its input"] else ()),
    }


def test_tracing_is_told_in_threads_and_without_compilation() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        assert not any(pool.map(lambda _: mlx_protocol.is_tracing(), range(8)))
    mx.disable_compile()
    assert not mlx_protocol.is_tracing()


def test_a_trace_is_known_after_compilation_was_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of tracing is first read while it is unavailable, and then again."""
    monkeypatch.setattr(mlx_protocol, "_probe", None)
    mx.disable_compile()
    assert not mlx_protocol.is_tracing()
    mx.enable_compile()
    traced = []
    mx.compile(lambda x: [traced.append(mlx_protocol.is_tracing()), x][1])(mx.array(1.0))
    assert traced == [True]
    assert not mlx_protocol.is_tracing()
