"""Scalars in the layers of attached models: their dtype, their names, and what captures them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_map

from scalars import Constant, Horizon, Linear, Recorder, ScheduledScalar, attach, detach
from scalars.number.mlx_protocol import are_placeholders
from scalars.optimizers import precision

X = mx.ones((4, 5))


def dropped(rate: Any, layer: Callable[[Any], nn.Module] = nn.Dropout) -> Any:
    return layer(rate)


class Mixed(nn.Module):
    """A model in bfloat16 whose norm is in float32, so that it has no single dtype."""

    def __init__(self, rate: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 8)
        self.dropout = nn.Dropout(rate)
        self.norm = nn.RMSNorm(8)
        self.set_dtype(mx.bfloat16)
        self.norm.set_dtype(mx.float32)

    def __call__(self, x: mx.array) -> Any:
        return self.dropout(self.linear(x))


class Divided(nn.Module):
    """A model with a scheduled number in one of its attributes."""

    def __init__(self, number: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 1)
        self.number = number

    def __call__(self, x: mx.array) -> Any:
        return self.linear(x) / self.number


# Dtypes -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d, nn.Dropout3d])
def test_dropout_has_the_dtype_of_its_input_in_any_model(kind: Any, dtype: mx.Dtype) -> None:
    """Bit for bit as with a float, also beside parameters of another dtype, or without any."""
    x = mx.random.normal((2, 3, 4, 5, 6)[: {nn.Dropout: 3, nn.Dropout2d: 4}.get(kind, 5)])
    outputs = []
    for rate in (0.3, Constant(0.3)):
        model = nn.Sequential(kind(rate))
        model.weight = mx.ones((2,), mx.bfloat16)
        model.bias = mx.ones((2,), mx.float32)
        attach(optim.SGD(Constant(0.1)), model)
        mx.random.seed(0)
        outputs.append(model(x.astype(dtype)))
    assert outputs[1].dtype == dtype
    assert mx.array_equal(*outputs)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("horizon", [None, Horizon(10)])
def test_dropout_in_a_mixed_model_trains_as_with_a_float(
    horizon: Horizon | None, compiled: bool
) -> None:
    weights = []
    for rate in (0.3, Constant(0.3)):
        mx.random.seed(1)
        model, optimizer = Mixed(rate), optim.SGD(Constant(0.1))
        attach(optimizer, model, horizon)
        loss_and_grad = nn.value_and_grad(model, lambda x, m=model: m(x).square().sum())
        state = [model.state, optimizer.state, mx.random.state]

        def body(x: mx.array, run: Any = loss_and_grad, o: Any = optimizer, m: Any = model) -> None:
            _, grads = run(x)
            o.update(m, grads)

        step = mx.compile(body, inputs=state, outputs=state) if compiled else body
        for _ in range(3):
            step(X.astype(mx.bfloat16))
        weights.append(model.linear.weight)
    assert weights[1].dtype == mx.bfloat16
    difference = mx.abs(weights[0] - weights[1]).max().item()
    assert difference <= (2**-8 if compiled else 0)


def test_models_that_are_attached_one_after_another() -> None:
    x = mx.ones((2, 4), mx.bfloat16)
    models = [nn.Sequential(nn.Linear(4, 4), Divided(Linear(1.0, 2.0))) for _ in range(2)]
    for model in models:
        model.layers[1].linear = nn.Linear(4, 1)
        model.set_dtype(mx.bfloat16)
    optimizer = optim.SGD(Linear(0.1, 0.0))
    group = attach(optimizer, models[0])
    assert attach(optimizer, models[1]) is group
    assert attach(optimizer, models[0]) is group
    assert sorted(group) == ["layers.1.number", "layers.1.number_2", "learning_rate"]
    group.update(0.5)
    assert [model(x).dtype for model in models] == [mx.bfloat16] * 2
    assert [float(model.layers[1].number) for model in models] == [1.5, 1.5]
    detach(optimizer)
    assert [type(model.layers[1].number) for model in models] == [Linear] * 2


# Names and values -------------------------------------------------------------------


def test_an_expression_in_a_layer_is_what_its_name_says() -> None:
    """Of the expression itself, not of the schedule in it."""
    rate, scale = 0.5 * Linear(0.1, 0.3), 2.0 * Linear(1.0, 3.0)
    model = nn.Sequential(nn.Linear(5, 5), nn.Dropout(rate), Divided(scale))
    group = attach(optim.SGD(Linear(0.1, 0.0)), model)
    recorder = Recorder(group)
    group.update(0.5)
    assert group["layers.1.p"] is rate
    assert group["layers.2.number"] is scale
    assert (recorder.rows[-1]["layers.1.p"], recorder.rows[-1]["layers.2.number"]) == (0.1, 4.0)
    mask = model.layers[1](mx.ones((200_000,))) == 0
    assert mask.mean().item() == pytest.approx(0.1, abs=0.005)
    with pytest.raises(ValueError, match=r"hold\(\) must be a schedule, got 0.5 \* Linear"):
        group.hold({"layers.1.p": 0.2})


@dataclass
class Config:
    """A config, as models keep one."""

    temperature: Any
    others: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Frozen:
    """One that cannot be changed."""

    temperature: Any


@pytest.mark.parametrize("make", [Config, Frozen, lambda t: SimpleNamespace(temperature=t)])
@pytest.mark.parametrize("horizon", [None, Horizon(4)])
def test_scalars_in_a_config_are_found(make: Any, horizon: Horizon | None) -> None:
    class Model(nn.Module):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.linear, self.config = nn.Linear(5, 1), config

        def __call__(self, x: mx.array) -> Any:
            return self.linear(x) / self.config.temperature

    temperature = Linear(1.0, 5.0)
    model, optimizer = Model(make(temperature)), optim.SGD(Linear(0.0, 0.0))
    model.set_dtype(mx.bfloat16)
    group = attach(optimizer, model, horizon)
    assert group["config.temperature"] is temperature
    state = [model.state, optimizer.state]
    compiled = mx.compile(model, inputs=state)
    x = X.astype(mx.bfloat16)
    plain = model.linear(x)
    for step in range(4):
        if horizon is None:
            group.update(step / 4)
        for function in (model, compiled):
            assert function(x).dtype == mx.bfloat16
            assert mx.allclose(function(x), plain / (1.0 + step), rtol=1e-2)
        optimizer.update(model, {"linear": {"bias": mx.zeros((1,), mx.bfloat16)}})
    detach(optimizer)
    assert model.config.temperature is temperature


def test_an_optimizer_with_a_config_is_handed_numbers() -> None:
    class Configured(optim.SGD):
        def __init__(self, config: Any) -> None:
            super().__init__(0.5)
            self.config = config

        def apply_single(self, gradient: mx.array, parameter: mx.array, state: Any) -> mx.array:
            seen.append(type(self.config.scale))
            return parameter - gradient * self.config.scale

    seen: list[type] = []
    config = Namespace(scale=Linear(1.0, 0.0), lists=[1, (Linear(2.0, 0.0), "text")])
    optimizer = Configured(config)
    group = attach(optimizer)
    assert sorted(group) == ["config.lists.1.0", "config.scale"]
    for step in range(4):
        group.update(step / 4)
        gradient = {"w": mx.array(1.0, mx.bfloat16)}
        after = optimizer.apply_gradients(gradient, {"w": mx.array(0.0, mx.bfloat16)})["w"]
        assert (after.item(), after.dtype) == (-(1 - step / 4), mx.bfloat16)
    assert seen == [float] * 4
    assert optimizer.config is config
    assert isinstance(config.scale, ScheduledScalar)
    config.scale = 0.5
    with pytest.raises(ValueError, match=r"optimizer.config must be left to its schedules"):
        optimizer.apply_gradients({"w": X}, {"w": X})


# Ranges -----------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1.0, 5.0, -0.5])
@pytest.mark.parametrize("horizon", [None, Horizon(10)])
def test_a_rate_that_is_held_stays_in_its_range(rate: float, horizon: Horizon | None) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Dropout(Linear(0.1, 0.5)))
    optimizer = optim.SGD(Linear(0.1, 0.0))
    group = attach(optimizer, model, horizon)
    saved = group.state_dict()
    message = "p in layers.1, as it is held, must be from 0 to below 1"
    with pytest.raises(ValueError, match=message):
        group.hold({"layers.1.p": rate, "learning_rate": 0.5})
    assert group.held == {}
    if horizon is None:
        with pytest.raises(ValueError, match=message):
            group.load_state_dict({**saved, "layers.1.p": {"progress": 0.5, "held": rate}})
    assert group.state_dict() == saved
    assert group.hold({"layers.1.p": 0.0}).held == {"layers.1.p": 0.0}


# Functions that do not capture them -------------------------------------------------


@pytest.mark.parametrize("horizon", [None, Horizon(40)])
@pytest.mark.parametrize("make", [Divided, lambda number: nn.Sequential(nn.Linear(5, 5), number)])
def test_a_compiled_function_that_captures_the_model_alone_is_reported(
    make: Any, horizon: Horizon | None
) -> None:
    scalar = Linear(0.1, 0.5)
    model = make(scalar if make is Divided else nn.Dropout(scalar))
    optimizer = optim.SGD(Linear(0.1, 0.0))
    attach(optimizer, model, horizon)
    evaluate = mx.compile(lambda x: model(x).sum(), inputs=[model.state])
    with pytest.warns(RuntimeWarning, match="captures the model but not optimizer.state"):
        evaluate(X)
    both = mx.compile(lambda x: model(x).sum(), inputs=[model.state, optimizer.state])
    assert both(X).shape == ()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", ["constant", "held", "finished"])
def test_a_value_that_cannot_change_may_be_compiled_alone(case: str) -> None:
    scalar = Constant(2.0) if case == "constant" else Linear(1.0, 2.0)
    model, optimizer = Divided(scalar), optim.SGD(Linear(0.01, 0.0))
    group = attach(optimizer, model).update(1.0 if case == "finished" else 0.5)
    if case == "held":
        group.hold(number=2.0)
    assert mx.allclose(mx.compile(model, inputs=[model.state])(X), model.linear(X) / 2, rtol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("checkpointed", [False, True])
def test_eager_gradients_and_evaluations_are_not_refused(checkpointed: bool) -> None:
    """Nor is anything evaluated to tell them from compiled functions."""
    model, optimizer = Divided(Linear(1.0, 2.0)), optim.SGD(Linear(0.01, 0.0))
    group = attach(optimizer, model)
    run = nn.utils.checkpoint(model, model.__call__) if checkpointed else model
    loss_and_grad = nn.value_and_grad(model, lambda x: run(x).square().sum())
    losses = []
    for step in range(6):
        group.update(step / 6)
        loss, grads = loss_and_grad(X)
        optimizer.update(model, grads)
        losses += [loss, model(X).square().sum(), mx.vmap(model)(X).square().sum()]
    assert all(mx.isfinite(loss).item() for loss in losses)


@pytest.mark.parametrize("first_detached", [0, 1])
def test_one_of_two_optimizers_of_a_model_is_detached(first_detached: int) -> None:
    """The scalars in the layers keep the dtype of the model, as long as one is attached."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(rate := Linear(0.0, 0.5)))
    model.set_dtype(mx.bfloat16)
    optimizers = [optim.SGD(Linear(0.1, 0.0)), optim.SGD(Linear(0.1, 0.0))]
    for optimizer in optimizers:
        attach(optimizer, model)
    detach(optimizers[first_detached])
    rate.update(0.5)
    assert model(mx.ones((1, 2), mx.bfloat16)).dtype == mx.bfloat16
    assert type(vars(model.layers[1])["_p_1"]).__name__ == "KeepingView"
    detach(optimizers[1 - first_detached])
    kept: Any = vars(model.layers[1])["_p_1"]
    assert type(kept).__name__ == "Expression"
    assert kept.leaves == (rate,)


def test_a_loop_that_runs_ahead_of_the_device_is_examined_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MLX goes through all steps that are not evaluated yet to tell what is traced."""
    asked: list[Any] = []

    def asking(arrays: Any) -> bool:
        asked.append(arrays)
        return are_placeholders(arrays)

    monkeypatch.setattr(precision, "are_placeholders", asking)
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(Linear(0.1, 0.5)), nn.Linear(2, 1))
    optimizer = optim.SGD(Linear(0.1, 0.0))
    group = attach(optimizer, model)
    loss_and_grad = nn.value_and_grad(model, lambda x: model(x).square().mean())
    for step in range(20):
        group.update(step / 20)
        _, gradients = loss_and_grad(mx.ones((1, 2)))
        optimizer.update(model, gradients)
    assert len(asked) <= 2
    frozen = mx.compile(lambda x: model(x), inputs=[model.state], outputs=[model.state])
    with pytest.warns(RuntimeWarning, match="captures the model but not optimizer.state"):
        frozen(mx.ones((1, 2)))


def test_a_line_that_calls_a_function_eagerly_and_compiled_warns() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(Linear(0.1, 0.5)))
    attach(optim.SGD(Linear(0.1, 0.0)), model)

    def evaluate(x: mx.array) -> Any:
        return model(x)

    compiled = mx.compile(evaluate, inputs=[model.state], outputs=[model.state])
    with pytest.warns(RuntimeWarning, match="captures the model but not optimizer.state"):
        for function in (evaluate, compiled):
            model.update(tree_map(lambda p: p + 0, model.parameters()))
            function(mx.ones((1, 2)))
