"""Schedule-Free optimizers have the paper's iterates in all ways of training with MLX."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from sklearn.datasets import load_digits

from scalars import (
    Constant,
    CosineAnnealing,
    Horizon,
    Linear,
    ScalarGroup,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    Warmup,
    attach,
    detach,
    recompute_batch_norm,
)

from . import golden
from .helpers import (
    KERNELS_BY_DTYPE,
    MLX,
    Traced,
    assert_same,
    largest_difference,
    needs_cpu,
    reloaded,
)
from .reference.schedule_free import Reference
from .schedule_free_cases import CONFIGURATIONS, NOISE, START, STEPS, gradient

GOLDEN = golden.read("schedule_free.json")
# Before 0.32, MLX rounds a Python float beside an array of float64 to float32.
DOUBLE = 1e-12 if MLX >= (0, 32) else 1e-5
in_double_precision = needs_cpu("float64")
every_configuration = pytest.mark.parametrize(
    "configuration", CONFIGURATIONS, ids=lambda c: "-".join(map(str, c.values()))
)
both = pytest.mark.parametrize("cls", [ScheduleFreeSGD, ScheduleFreeAdamW])
IMAGES, LABELS = load_digits(return_X_y=True)
X, Y = mx.array(IMAGES / 16).astype(mx.float32), mx.array(LABELS)


def optimizer_of(configuration: dict[str, Any]) -> Any:
    options = dict(configuration)
    adam, beta = options.pop("adam"), options.pop("beta")
    if adam:
        return ScheduleFreeAdamW(betas=(beta, 0.999), **options)
    return ScheduleFreeSGD(momentum=beta, **options)


class Vector(nn.Module):
    """A model with a single vector."""

    def __init__(self, dtype: mx.Dtype) -> None:
        super().__init__()
        self.w = mx.array(START, dtype)


def close(actual: Any, expected: list[float], tolerance: float) -> None:
    for number, other in zip(actual, expected, strict=True):
        # MLX 0.30 cannot convert float64 to a list.
        assert math.isclose(number.item(), other, rel_tol=tolerance, abs_tol=tolerance)


@in_double_precision
@every_configuration
def test_the_paper_in_double_precision(configuration: dict[str, Any]) -> None:
    """X and y equal the plain reference to 1e-12 after each of 200 steps."""
    rate, beta = configuration["learning_rate"], configuration["beta"]
    reference = Reference(
        list(START), configuration["adam"], lambda k: rate, lambda k: beta,
        decay=configuration["weight_decay"], warmup_steps=configuration["warmup_steps"],
        r=configuration["r"], power=configuration["weight_lr_power"],
    )  # fmt: skip
    model, optimizer = Vector(mx.float64), optimizer_of(configuration)
    for noise in NOISE:
        optimizer.update(model, {"w": gradient(model.w, mx.array(noise, mx.float64))})
        reference.step([gradient(w, n) for w, n in zip(reference.y, noise)])
        close(model.w, reference.y, DOUBLE)
        close(optimizer.eval_parameters(model)["w"], reference.x, DOUBLE)
        close(optimizer.state["w"]["z"], reference.z, DOUBLE)


@in_double_precision
@every_configuration
def test_the_package_of_the_authors(configuration: dict[str, Any]) -> None:
    """X and y equal those of ``schedulefree`` on PyTorch in double precision."""
    expected = {entry["k"]: entry for entry in GOLDEN[str(configuration)]}
    model, optimizer = Vector(mx.float64), optimizer_of(configuration)
    for k, noise in enumerate(NOISE, start=1):
        optimizer.update(model, {"w": gradient(model.w, mx.array(noise, mx.float64))})
        if k in expected:
            close(model.w, expected[k]["y"], DOUBLE)
            close(optimizer.eval_parameters(model)["w"], expected[k]["x"], DOUBLE)
    assert k == STEPS


@pytest.mark.gpu
@every_configuration
def test_single_precision_compiled(configuration: dict[str, Any]) -> None:
    """They equal those of the package in float32 and in one compiled graph."""
    model, optimizer = Vector(mx.float32), optimizer_of(configuration)
    optimizer.init(model.trainable_parameters())
    state = [model.state, optimizer.state]
    body = Traced(lambda noise: optimizer.update(model, {"w": gradient(model.w, noise)}))
    step = mx.compile(body, inputs=state, outputs=state)
    for noise in NOISE:
        step(mx.array(noise))
        mx.eval(state)
    last = GOLDEN[str(configuration)][-1]
    close(model.w, last["y"], 1e-5)
    close(optimizer.eval_parameters(model)["w"], last["x"], 1e-5)
    assert body.traces == 1


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["scalars", "floats", "attached", "compiled"])
@both
def test_rate_decay_and_interpolation_change(cls: Any, way: str) -> None:
    """They change at every step, the decay from 0, and x is still the average of z."""
    adam = cls is ScheduleFreeAdamW
    rate, beta = Warmup(CosineAnnealing(2**-5, 2**-7), 0.25), Linear(0.5, 0.9375)
    decay = Linear(0.0, 0.25)
    reference = Reference(
        list(START), adam, lambda k: rate.at(k / 64), lambda k: beta.at(k / 64), r=1.0
    )
    model = Vector(mx.float32)
    name = {"betas": (beta, 0.999)} if adam else {"momentum": beta}
    optimizer = cls(rate, weight_decay=decay, r=1.0, **name)
    optimizer.init(model.trainable_parameters())
    if way in {"attached", "compiled"}:
        attach(optimizer)
    state = [model.state, optimizer.state]
    body = Traced(lambda noise: optimizer.update(model, {"w": gradient(model.w, noise)}))
    step = mx.compile(body, inputs=state, outputs=state) if way == "compiled" else body
    for k in range(64):
        for scalar in (rate, beta, decay):
            scalar.update(k / 64)
        if way == "floats":
            assign(optimizer, beta.at(k / 64), decay.at(k / 64))
        reference.decay = decay.at(k / 64)
        step(mx.array(NOISE[k]))
        reference.step([gradient(w, n) for w, n in zip(reference.y, NOISE[k])])
        close(model.w, reference.y, 1e-4)
        close(optimizer.eval_parameters(model)["w"], reference.x, 1e-4)
    assert body.traces == (1 if way == "compiled" else 64)


def assign(optimizer: Any, beta: float, decay: float) -> None:
    """Set other numbers of an optimizer."""
    optimizer.weight_decay = decay
    if isinstance(optimizer, ScheduleFreeAdamW):
        optimizer.betas = [beta, 0.999]
    else:
        optimizer.momentum = beta


@in_double_precision
def test_resumed_with_another_interpolation() -> None:
    """Changing beta at step 20 keeps the average, as in the reference."""
    reference = Reference(list(START), False, lambda k: 2**-4, lambda k: 0.75 if k < 20 else 0.9375)
    model, optimizer = Vector(mx.float64), ScheduleFreeSGD(2**-4, 0.75)
    for k in range(40):
        if k == 20:
            state = optimizer.state
            optimizer = ScheduleFreeSGD(2**-4, 0.9375)
            optimizer.state = reloaded(state)
        optimizer.update(model, {"w": gradient(model.w, mx.array(NOISE[k], mx.float64))})
        reference.step([gradient(w, n) for w, n in zip(reference.y, NOISE[k])])
        close(model.w, reference.y, DOUBLE)
        close(optimizer.eval_parameters(model)["w"], reference.x, DOUBLE)


# On real data --------------------------------------------------------------------


def make_model(dtype: mx.Dtype = mx.float32) -> Any:
    mx.random.seed(1)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    model.set_dtype(dtype)
    return model


def loss_fn(model: Any, x: mx.array, y: mx.array) -> mx.array:
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda: ScheduleFreeSGD(2.0, warmup_steps=5, weight_decay=1e-3),
    "AdamW": lambda: ScheduleFreeAdamW(1e-2, warmup_steps=5, weight_decay=1e-2, r=0.5),
    "scheduled": lambda: ScheduleFreeAdamW(
        Warmup(1e-2, 0.1), betas=(Linear(0.9, 0.95), 0.99), weight_decay=Linear(0.0, 0.1)
    ),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


class Run:
    """Train on digits, optionally with a switch every few steps."""

    def __init__(self, name: str, compiled: bool = False, dtype: mx.Dtype = mx.float32) -> None:
        self.model, self.optimizer = make_model(dtype), OPTIMIZERS[name]()
        self.optimizer.init(self.model.trainable_parameters())
        self.group = attach(self.optimizer) if name == "scheduled" else None
        self.compiled, self.body = compiled, Traced(self.step)

    def step(self, x: mx.array, y: mx.array) -> mx.array:
        loss, grads = nn.value_and_grad(self.model, loss_fn)(self.model, x, y)
        self.optimizer.update(self.model, grads)
        return loss  # type: ignore[no-any-return]

    def train(self, first: int, last: int, switch: int = 0) -> float:
        state = [self.model.state, self.optimizer.state]
        step = mx.compile(self.body, inputs=state, outputs=state) if self.compiled else self.body
        for i in range(first, last):
            if self.group is not None:
                self.group.update(i / 40)
            at = [(i * 64 + j) % len(Y) for j in range(64)]
            loss = step(X[at].astype(self.model.layers[0].weight.dtype), Y[at])
            mx.eval(loss, state)
            if switch and i % switch == 0:
                self.optimizer.eval(self.model)
                self.optimizer.eval(self.model)
                self.optimizer.train(self.model)
                self.optimizer.train(self.model)
        return loss.item()  # type: ignore[return-value]


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@every_optimizer
def test_switching_changes_nothing(name: str, compiled: bool) -> None:
    """A run that is evaluated every third step equals a run without evaluation, bit for bit."""
    plain, switched = Run(name, compiled), Run(name, compiled)
    plain.train(0, 40)
    loss = switched.train(0, 40, switch=3)
    assert loss < 0.8
    assert_same(switched.model.parameters(), plain.model.parameters())
    assert_same(switched.optimizer.state, plain.optimizer.state)
    if compiled:
        assert switched.body.traces == 1


@every_optimizer
def test_evaluation_is_at_the_average(name: str) -> None:
    run = Run(name)
    run.train(0, 40)
    at_y = loss_fn(run.model, X, Y).item()
    average = run.optimizer.eval_parameters(run.model)
    assert loss_fn(run.model, X, Y).item() == at_y
    run.optimizer.eval(run.model)
    assert_same(run.model.trainable_parameters(), average)
    assert_same(run.optimizer.eval_parameters(run.model), average)
    at_x = loss_fn(run.model, X, Y).item()
    assert at_x != at_y
    assert at_x < 1.1 * at_y


@pytest.mark.gpu
@pytest.mark.parametrize("evaluating", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
@every_optimizer
def test_resumed_in_either_position(
    name: str, compiled: bool, evaluating: bool, tmp_path: Path
) -> None:
    whole = Run(name, compiled)
    whole.train(0, 30)
    for at in (1, 4, 17):
        first, again = Run(name, compiled), Run(name, compiled)
        first.train(0, at)
        if evaluating:
            first.optimizer.eval(first.model)
        arrays = {"model": first.model.parameters(), "optimizer": first.optimizer.state}
        path = str(tmp_path / "run.safetensors")
        mx.save_safetensors(path, dict(tree_flatten(arrays)))
        loaded: Any = tree_unflatten(list(mx.load(path).items()))  # type: ignore[union-attr]
        again.model.update(loaded["model"])
        again.optimizer.state = loaded["optimizer"]
        if evaluating:
            with pytest.raises(ValueError, match="in the training position to be updated"):
                again.step(X[:4], Y[:4])
            again.optimizer.eval(again.model)
            assert_same(again.model.parameters(), first.model.parameters())
        again.optimizer.train(again.model)
        again.train(at, 30)
        assert_same(again.model.parameters(), whole.model.parameters())
        assert_same(again.optimizer.state, whole.optimizer.state)


@pytest.mark.gpu
@pytest.mark.skipif(
    not KERNELS_BY_DTYPE,
    reason="MLX before 0.31.2 takes the kernel of one dtype for that of another",
)
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
@every_optimizer
def test_half_precision_stays(name: str, dtype: mx.Dtype) -> None:
    run = Run(name, compiled=True, dtype=dtype)
    assert run.train(0, 40) < 1.2
    run.optimizer.eval(run.model)
    for tree in (run.model.parameters(), run.optimizer.state["layers"]):
        assert {array.dtype for _, array in tree_flatten(tree)} == {dtype}
    assert run.optimizer.state["weight_sum"].dtype == mx.float32
    assert run.optimizer.state["lr_max"].dtype == mx.float32
    assert run.body.traces == 1
    single = Run(name, compiled=True)
    single.train(0, 40)
    single.optimizer.eval(single.model)
    x = X.astype(dtype)
    losses = [loss_fn(run.model, x, Y).item(), loss_fn(single.model, X, Y).item()]
    assert losses[0] == pytest.approx(losses[1], rel=0.25)


def test_the_state_is_arrays_and_one_copy() -> None:
    for name, copies in (("SGD", 1), ("AdamW", 2)):  # z; and the second moment
        run = Run(name)
        run.train(0, 3)
        arrays = dict(tree_flatten(run.optimizer.state))
        assert all(isinstance(array, mx.array) for array in arrays.values())
        parameters = sum(a.size for _, a in tree_flatten(run.model.parameters()))
        assert sum(a.size for a in arrays.values()) - copies * parameters <= 6


@pytest.mark.gpu
def test_with_attach_it_is_the_run_with_floats() -> None:
    """Constant scalars equal floats bit for bit, with both drivers."""
    results = []
    for scheduled, horizon in ((False, None), (True, None), (True, Horizon(30))):
        model = make_model()
        rate: Any = Constant(0.015625) * 1 if scheduled else 0.015625
        decay: Any = Constant(0.25) if scheduled else 0.25
        optimizer = ScheduleFreeAdamW(rate, weight_decay=decay)
        optimizer.init(model.trainable_parameters())
        if scheduled:
            attach(optimizer, horizon=horizon)
        for i in range(30):
            _, grads = nn.value_and_grad(model, loss_fn)(
                model, X[i * 8 : i * 8 + 8], Y[i * 8 : i * 8 + 8]
            )
            optimizer.update(model, grads)
        results.append(model.parameters())
        if scheduled:
            detach(optimizer)
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_driven_by_the_step_is_driven_by_the_loop(compiled: bool) -> None:
    results = []
    for driven in (False, True):
        model = make_model()
        optimizer = ScheduleFreeSGD(Warmup(1.0, 0.5), momentum=Linear(0.8, 0.9))
        optimizer.init(model.trainable_parameters())
        group = attach(optimizer, horizon=Horizon(20) if driven else None)
        state = [model.state, optimizer.state]

        def body(x: mx.array, y: mx.array, model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.update(model, nn.value_and_grad(model, loss_fn)(model, x, y)[1])

        counted = Traced(body)
        step = mx.compile(counted, inputs=state, outputs=state) if compiled else counted
        for i in range(20):
            if not driven:
                group.update(i / 20)
            step(X[i * 8 : i * 8 + 8], Y[i * 8 : i * 8 + 8])
            mx.eval(state)
        optimizer.eval(model)
        results.append(model.parameters())
        assert counted.traces == (1 if compiled else 20)
    assert largest_difference(*results) < 1e-5


@pytest.mark.skipif(
    MLX < (0, 32), reason="MLX before 0.32 cannot merge trees without a common parameter"
)
def test_in_a_multi_optimizer() -> None:
    """Each member switches only its own parameters."""
    model = make_model()
    first, second = ScheduleFreeSGD(0.5), ScheduleFreeAdamW(1e-2)
    both = optim.MultiOptimizer([first, second], [lambda path, _: "weight" in path])
    state = [model.state]
    for _ in range(5):
        _, grads = nn.value_and_grad(model, loss_fn)(model, X[:32], Y[:32])
        both.update(model, grads)
        mx.eval(state, both.state)
    y = tree_map(mx.array, model.parameters())
    averages = [one.eval_parameters(model) for one in (first, second)]
    for one in (first, second):
        one.eval(model)
    for layer in (0, 2):
        for i, name in enumerate(("weight", "bias")):
            assert_same(model.layers[layer][name], averages[i]["layers"][layer][name])
    for one in (first, second):
        one.train(model)
    assert_same(model.parameters(), y)


def test_frozen_parameters_are_left_alone() -> None:
    model = make_model()
    model.layers[0].freeze()
    optimizer = ScheduleFreeSGD(0.5)
    frozen = tree_map(mx.array, model.layers[0].parameters())
    for _ in range(3):
        _, grads = nn.value_and_grad(model, loss_fn)(model, X[:32], Y[:32])
        optimizer.update(model, grads)
    optimizer.eval(model)
    assert_same(model.layers[0].parameters(), frozen)


# Errors --------------------------------------------------------------------------


@both
def test_positions_that_do_not_fit(cls: Any) -> None:
    model, optimizer = make_model(), cls(0.01)
    for call in (optimizer.eval, optimizer.eval_parameters):
        with pytest.raises(ValueError, match="must be updated before eval, got 'no update'. Make"):
            call(model)
    optimizer.init(model.trainable_parameters())
    with pytest.raises(ValueError, match="must be updated before eval"):
        optimizer.eval(model)
    optimizer.train(model)  # it is there already
    _, grads = nn.value_and_grad(model, loss_fn)(model, X[:4], Y[:4])
    optimizer.update(model, grads)
    optimizer.eval(model)
    before = tree_map(mx.array, (model.parameters(), optimizer.state))
    message = "must be in the training position to be updated, got 'the evaluation position'"
    with pytest.raises(ValueError, match=message):
        optimizer.update(model, grads)
    assert_same((model.parameters(), optimizer.state), before)
    optimizer.train(model)
    optimizer.update(model, grads)


def test_a_compiled_step_in_the_evaluation_position_is_refused() -> None:
    run = Run("SGD", compiled=True)
    state = [run.model.state, run.optimizer.state]
    step = mx.compile(run.body, inputs=state, outputs=state)
    step(X[:4], Y[:4])
    run.optimizer.eval(run.model)
    with pytest.raises(ValueError, match="must be in the training position to be updated"):
        step(X[:4], Y[:4])


@both
@pytest.mark.parametrize("switch", ["eval", "train", "eval_parameters"])
def test_another_model_is_refused(cls: Any, switch: str) -> None:
    model, optimizer = make_model(), cls(0.01)
    _, grads = nn.value_and_grad(model, loss_fn)(model, X[:4], Y[:4])
    optimizer.update(model, grads)
    if switch == "train":
        optimizer.eval(model)
    mx.random.seed(1)
    other_shape = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    shorter = nn.Sequential(nn.Linear(64, 32))
    before = tree_map(mx.array, optimizer.state)
    for other in (other_shape, shorter):
        with pytest.raises(
            ValueError, match=r"model must be the one that was updated, with layers"
        ):
            getattr(optimizer, switch)(other)
    with pytest.raises(TypeError, match="model must be an mlx.nn.Module, got 3"):
        getattr(optimizer, switch)(3)
    assert_same(optimizer.state, before)
    getattr(optimizer, switch)(model)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ScheduleFreeSGD(-1.0), ValueError, "learning_rate of ScheduleFreeSGD must be"),
        (lambda: ScheduleFreeSGD("a"), TypeError, "learning_rate of ScheduleFreeSGD must be"),
        (lambda: ScheduleFreeSGD(1, 0.0), ValueError, "momentum of ScheduleFreeSGD must be above 0"),
        (lambda: ScheduleFreeSGD(1, 1.0), ValueError, "momentum of ScheduleFreeSGD must be above 0"),
        (lambda: ScheduleFreeSGD(1, Linear(0.0, 0.9)), ValueError, "momentum of .* got Linear"),
        (lambda: ScheduleFreeSGD(1, weight_decay=-1), ValueError, "weight_decay of ScheduleFreeSGD"),
        (lambda: ScheduleFreeSGD(1, warmup_steps=-1), ValueError, "warmup_steps of ScheduleFreeSGD"),
        (lambda: ScheduleFreeSGD(1, warmup_steps=0.5), TypeError, "warmup_steps of ScheduleFreeSGD"),
        (lambda: ScheduleFreeSGD(1, r=-1), ValueError, "r of ScheduleFreeSGD must be"),
        (lambda: ScheduleFreeSGD(1, weight_lr_power=math.nan), ValueError, "weight_lr_power of"),
        (lambda: ScheduleFreeAdamW(1, (0.9,)), ValueError, "betas of ScheduleFreeAdamW must be two"),
        (lambda: ScheduleFreeAdamW(1, 0.9), TypeError, "betas of ScheduleFreeAdamW must be a list"),
        (lambda: ScheduleFreeAdamW(1, (0.9, 1.0)), ValueError, "item 1 of betas of ScheduleFreeA"),
        (lambda: ScheduleFreeAdamW(1, eps=-1), ValueError, "eps of ScheduleFreeAdamW must be"),
    ],
)  # fmt: skip
def test_bad_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


# Batch norm ----------------------------------------------------------------------


def test_batch_norm_is_recomputed_where_skipping_it_hurts() -> None:
    mx.random.seed(0)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.BatchNorm(64), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(64, 64), nn.BatchNorm(64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = ScheduleFreeSGD(1.0)
    for _ in range(20):
        at = mx.random.randint(0, 1400, (64,))
        optimizer.update(model, nn.value_and_grad(model, loss_fn)(model, X[at], Y[at])[1])
        mx.eval(model.state, optimizer.state)
    optimizer.eval(model)
    model.eval()
    stale = held_out(model)
    parameters = tree_map(mx.array, model.trainable_parameters())
    model.layers[3].train()
    recompute_batch_norm(model, [X[i : i + 100] for i in range(0, 1400, 100)])
    assert [layer.training for layer in model.layers] == [i == 3 for i in range(8)]
    model.layers[3].eval()
    fresh = held_out(model)
    assert fresh[0] < 0.7 * stale[0]
    assert fresh[1] > stale[1] + 0.02
    assert_same(model.trainable_parameters(), parameters)
    assert model.layers[1].momentum == 0.1
    # By hand: the first layer's statistics are those of its inputs.
    inputs = model.layers[0](X[:1400])
    assert mx.allclose(model.layers[1].running_mean, inputs.mean(axis=0), atol=1e-4).item()


def held_out(model: Any) -> Any:
    """Return the held-out loss and accuracy."""
    x, y = X[1400:], Y[1400:]
    return loss_fn(model, x, y).item(), (model(x).argmax(axis=1) == y).mean().item()


def test_a_batch_that_fails_leaves_the_statistics() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm(2))
    norm = model.layers[1]
    model(mx.array([[1.0, 2.0], [3.0, 5.0]]))
    before = [norm.running_mean.tolist(), norm.running_var.tolist()]
    with pytest.raises(ValueError, match="matmul|addmm"):
        recompute_batch_norm(model, [mx.ones((4, 2)), mx.ones((4, 3))])
    assert [norm.running_mean.tolist(), norm.running_var.tolist()] == before
    assert (norm.momentum, norm.training) == (0.1, True)


@pytest.mark.parametrize(
    ("model", "batches", "error", "message"),
    [
        (3, [X], TypeError, "model must be an mlx.nn.Module, got 3"),
        (nn.Linear(64, 2), [X], ValueError, "model must be one with nn.BatchNorm, got 'Linear'"),
        (nn.BatchNorm(64), [], ValueError, "batches must be at least one, got 0"),
    ],
)
def test_bad_input_of_recompute(
    model: Any, batches: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        recompute_batch_norm(model, batches)


@both
@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, 1.5])
def test_an_interpolation_is_held_in_its_range(cls: Any, by_step: bool, value: float) -> None:
    """At 0 the average would be lost, and every weight NaN."""
    beta = Linear(0.8, 0.9)
    argument = {"momentum": beta} if cls is ScheduleFreeSGD else {"betas": (beta, 0.99)}
    optimizer = cls(0.1, **argument)
    group = attach(optimizer, beta=beta, horizon=Horizon(4) if by_step else None)
    group.hold(beta=0.7)
    with pytest.raises(ValueError, match="as it is held, must be above 0 and below 1"):
        group.hold(beta=value)
    assert group.held == {"beta": 0.7}
    detach(optimizer)
    with pytest.raises(ValueError, match="as it is held, must be above 0 and below 1"):
        ScalarGroup(beta=beta).load_state_dict({"beta": {"progress": 0.0, "held": value}})
    assert beta.held == 0.7
