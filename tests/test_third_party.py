"""The optimizers of ``mlx-optimizers``, with every float scheduled, against plain floats.

They are other people's code, written for numbers. The reference is the same optimizer whose
floats are set by hand before each step.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten

from scalars import Horizon, Linear, ScheduledScalar, attach, detach

from .helpers import Traced, assert_same, largest_difference
from .test_every_optimizer import ROUNDING, STEPS, arrays, convert, flat

theirs = pytest.importorskip("mlx_optimizers", reason="mlx-optimizers is not installed")

CLASSES: dict[str, type[optim.Optimizer]] = {
    name: value
    for name, value in vars(theirs).items()
    if isinstance(value, type) and issubclass(value, optim.Optimizer)
}
DRIVERS = ["loop", "step"]
DTYPES = ["float32", "bfloat16", "mixed"]

# For each optimizer its float hyperparameters: from, to. What an optimizer keeps besides:
# - Shampoo takes ``eps`` when it makes its state: that of the first step is what holds. It is
#   large here: with a small one, inverses of matrices would magnify rounding, and MLX 0.30
#   rounds the constants of a graph to seven digits. It makes a buffer then, if the momentum
#   is not 0: so a momentum that starts at 0 fails later, with floats too.
# - MADGRAD keeps the parameters of the first step at which the momentum is not 0.
# - QHAdam keeps weights that are sums over ``betas``, as Python floats.
# - Kron makes its method ``_do_update_balance`` a schedule, which reads
#   ``precond_update_prob`` of the attached optimizer and calls it: the scalar, not a number.
# - Muon hands what is not a matrix to ``alternate_optimizer``, whose step stays 0; ``attach``
#   does not look for scalars in there.
# - MARS has a second learning rate in its state.
HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "ADOPT": {
        "learning_rate": (0.02, 0.0),
        "betas": [(0.8, 0.9), (0.99, 0.999)],
        "weight_decay": (0.0, 0.1),
        "eps": (1e-6, 2.0),
    },
    "DiffGrad": {
        "learning_rate": (0.02, 0.0),
        "betas": [(0.8, 0.9), (0.9, 0.99)],
        "weight_decay": (0.0, 0.1),
        "eps": (1e-8, 1e-2),
    },
    "Kron": {
        "learning_rate": (0.02, 0.0),
        "b1": (0.8, 0.9),
        "weight_decay": (0.0, 0.1),
        "precond_update_prob": (1.0, 0.2),
    },
    "Lamb": {
        "learning_rate": (0.02, 0.0),
        "betas": [(0.8, 0.9), (0.99, 0.999)],
        "weight_decay": (0.0, 0.1),
        "eps": (1e-8, 1e-2),
    },
    "MADGRAD": {
        "learning_rate": (0.02, 0.0),
        "momentum": (0.5, 0.9),
        "weight_decay": (0.0, 0.1),
        "eps": (1e-6, 1e-2),
    },
    "MARS": {
        "learning_rate": (0.02, 0.0),
        "betas": [(0.8, 0.95), (0.9, 0.99)],
        "eps": (1e-8, 1e-2),
        "weight_decay": (0.0, 0.1),
        "gamma": (0.0, 0.5),
        "learning_rate_1d": (0.01, 0.0),
        "betas_1d": [(0.8, 0.9), (0.9, 0.95)],
        "weight_decay_1d": (0.1, 0.0),
    },
    "Muon": {"learning_rate": (0.02, 0.0), "momentum": (0.85, 0.95)},
    "QHAdam": {
        "learning_rate": (0.02, 0.0),
        "betas": [(0.8, 0.9), (0.99, 0.999)],
        "nus": [(1.0, 0.7), (0.9, 1.0)],
        "weight_decay": (0.0, 0.1),
        "eps": (0.0, 1e-2),
    },
    "Shampoo": {
        "learning_rate": (0.02, 0.0),
        "momentum": (0.5, 0.9),
        "weight_decay": (0.0, 0.1),
        "eps": (1.0, 2.0),
    },
}
CHOICES = [
    (name, hyperparameter)
    for name, hyperparameters in HYPERPARAMETERS.items()
    for hyperparameter in [*hyperparameters, "all"]
]
# Other paths through their code, with everything scheduled.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("ADOPT", {"decouple": True}),
    ("ADOPT", {"clip_lambda": None}),
    ("Kron", {"momentum_into_precond_update": False}),
    ("MARS", {"amsgrad": True}),
    ("MARS", {"optimize_1d": True}),
    ("MARS", {"mars_type": "mars-lion"}),
    ("MARS", {"mars_type": "mars-shampoo"}),
    ("Muon", {"nesterov": False}),
    ("QHAdam", {"decouple_weight_decay": True}),
    ("Shampoo", {"update_freq": 2}),
]
TAKEN_ONCE = {("Shampoo", "eps")}
FLOAT32_ONLY = {"Kron"}  # it inverts matrices, which MLX does in float32 and float64 only


def make(name: str, scheduled: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Return an optimizer, and its scalars by hyperparameter; the same randomness each time."""
    if hasattr(CLASSES[name], "rng"):
        CLASSES[name].rng.seed(5)
    mx.random.seed(5)
    numbers = {
        key: convert(span, Linear if scheduled in (key, "all") else lambda start, end: start)
        for key, span in HYPERPARAMETERS[name].items()
    }
    if name == "Muon":  # the default is one object for all: what it is given, it keeps
        options = {"alternate_optimizer": optim.AdamW(0.01), **options}
    scalars = {k: v for k, v in numbers.items() if isinstance(flat(v)[0], ScheduledScalar)}
    return CLASSES[name](**numbers, **options), scalars


def attached(optimizer: Any, driver: str, **others: Any) -> Any:
    horizon = Horizon(STEPS) if driver == "step" else None
    return attach(optimizer, horizon=horizon, **others)


def set_by_hand(optimizer: Any, scheduled: str, progress: float) -> None:
    for key, span in HYPERPARAMETERS[type(optimizer).__name__].items():
        if scheduled in (key, "all"):
            value = convert(span, lambda start, end: Linear(start, end).at(progress))
            setattr(optimizer, key, value)


def without_scalars(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state with arrays alone, but for those that ``attach`` has put there."""
    return arrays_in({key: value for key, value in state.items() if key != "scalars"})


def arrays_in(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: arrays_in(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [arrays_in(item) for item in value]
    return mx.array(0) if isinstance(value, str) else mx.array(value)


def run_eagerly(
    name: str, scheduled: str, dtype: str, driver: str | None, **options: Any
) -> list[Any]:
    """Return the weights and the state after each step; without a driver, floats by hand."""
    optimizer, scalars = make(name, scheduled if driver else "none", **options)
    group = attached(optimizer, driver) if driver else None
    weights, seen = arrays(1, dtype), []
    for step in range(STEPS):
        if driver == "loop":
            group.update(step / STEPS)
        elif driver is None:
            set_by_hand(optimizer, scheduled, step / STEPS)
        weights = optimizer.apply_gradients(arrays(100 + step, dtype), weights)
        mx.eval(weights)
        seen.append((weights, without_scalars(optimizer.state)))
    if driver:
        for key, value in scalars.items():
            kept = optimizer._schedulers if key in optimizer._schedulers else vars(optimizer)
            assert all(a is b for a, b in zip(flat(kept[key]), flat(value), strict=True))
        detach(optimizer)
        assert type(optimizer) is CLASSES[name]
    return seen


@cache
def eagerly_by_hand(name: str, scheduled: str, dtype: str) -> list[Any]:
    return run_eagerly(name, scheduled, dtype, None)


def test_the_table_has_every_optimizer_and_every_float() -> None:
    assert set(CLASSES) == set(HYPERPARAMETERS)
    for name, hyperparameters in HYPERPARAMETERS.items():
        signature = inspect.signature(CLASSES[name].__init__, eval_str=True).parameters
        floats = {
            key for key, parameter in signature.items() if "float" in str(parameter.annotation)
        }
        assert floats == set(hyperparameters), name


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "scheduled"), CHOICES)
def test_eager_is_bitwise_that_of_floats(
    name: str, scheduled: str, dtype: str, driver: str
) -> None:
    if name in FLOAT32_ONLY and dtype != "float32":
        with pytest.raises(ValueError, match="must have type float32"):
            run_eagerly(name, scheduled, dtype, None)
        return
    ours = run_eagerly(name, scheduled, dtype, driver)
    assert_same(ours, eagerly_by_hand(name, scheduled, dtype))
    # And it matters: with the values of the first step the weights are elsewhere.
    constant = eagerly_by_hand(name, "none", dtype)
    moved = any(largest_difference(a, b) > 0 for (a, _), (b, _) in zip(ours, constant))
    assert moved == ((name, scheduled) not in TAKEN_ONCE)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_their_other_ways_too(name: str, options: dict[str, Any], driver: str) -> None:
    ours = run_eagerly(name, "all", "float32", driver, **options)
    assert_same(ours, run_eagerly(name, "all", "float32", None, **options))


# Compiled ---------------------------------------------------------------------------

# Not with floats either:
# - Kron draws with Python's ``random`` whether to update, which is a constant of the graph.
# - QHAdam keeps Python floats in its state, of which a graph sees the first.
# - Shampoo with ``update_freq`` above 1 asks a Python number whether to update.
# ADOPT and Shampoo make their first step another way, by a Python number: it is eager here.
COMPILED = sorted(set(CLASSES) - {"Kron", "QHAdam"})


def run_compiled(name: str, dtype: str, driver: str | None, **options: Any) -> tuple[Any, int]:
    """Return weights and state, and the traces; without a driver, floats are set by hand."""
    optimizer, _ = make(name, "all" if driver else "none", **options)
    group = attached(optimizer, driver) if driver else None
    body = Traced(lambda gradients, weights: optimizer.apply_gradients(gradients, weights))
    weights = arrays(1, dtype)
    for step in range(STEPS):
        if driver == "loop":
            group.update(step / STEPS)
        elif driver is None:
            set_by_hand(optimizer, "all", step / STEPS)
        gradients = arrays(100 + step, dtype)
        if step == 0:
            weights = optimizer.apply_gradients(gradients, weights)
            continue
        if step == 1 or driver is None:  # floats are constants of the graph: compile it anew
            function = mx.compile(body, inputs=optimizer.state, outputs=optimizer.state)
        weights = function(gradients, weights)
        mx.eval(weights)
    state = without_scalars(optimizer.state)
    counts = {"update_step", "c"}  # of traces, in a graph
    kept = {k: v for k, v in tree_flatten(state) if k.split(".")[-1] not in counts}
    return {"weights": weights, "state": kept}, body.traces


@cache
def compiled_by_hand(name: str, dtype: str) -> tuple[Any, int]:
    return run_compiled(name, dtype, None)


@cache
def traces_of_floats(name: str, dtype: str) -> int:
    """Return how often it is traced with floats: again where it changes a dtype of its state."""
    optimizer, _ = make(name, "none")
    weights = optimizer.apply_gradients(arrays(100, dtype), arrays(1, dtype))
    set_by_hand(optimizer, "all", 0.5)
    body = Traced(lambda gradients, weights: optimizer.apply_gradients(gradients, weights))
    function = mx.compile(body, inputs=optimizer.state, outputs=optimizer.state)
    for step in range(1, STEPS):
        weights = function(arrays(100 + step, dtype), weights)
        mx.eval(weights)
    return body.traces


@pytest.mark.slow
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", ["float32", "mixed"])
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_is_that_of_floats(name: str, dtype: str, driver: str) -> None:
    ours, traces = run_compiled(name, dtype, driver)
    by_hand, _ = compiled_by_hand(name, dtype)
    assert traces == traces_of_floats(name, dtype) == (1 if dtype == "float32" else traces)
    # Where a half-precision gradient meets state in float32, what stands to the right of an
    # array, such as ``eps``, is rounded to the dtype of the gradient.
    # A preconditioner of Shampoo is a sum of about 3.
    one = ROUNDING["float32"]
    rounding, of_weights = (2 * one, one) if dtype == "float32" else (5e-4, 5e-6)
    assert largest_difference(ours, by_hand) <= rounding
    assert largest_difference(ours["weights"], by_hand["weights"]) <= of_weights


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", ["Lamb", "MARS", "DiffGrad"])
def test_a_power_of_the_step_is_not_rounded_to_half_precision(name: str, driver: str) -> None:
    """In bfloat16 0.999 is 1, and 1 - beta ** step would be 0: nothing would be trained."""
    results = []
    for scheduled in (True, False):
        betas = [Linear(0.9, 0.95), Linear(0.999, 0.9999)] if scheduled else [0.9, 0.999]
        optimizer = CLASSES[name](0.01, betas=betas)
        weights = {"w": mx.ones((4, 3), mx.bfloat16)}
        gradients = {"w": arrays(100, "bfloat16")["w"]}
        if scheduled:
            attached(optimizer, driver)
        optimizer.init(weights)
        captured = optimizer.state
        function = mx.compile(optimizer.apply_gradients, inputs=captured, outputs=captured)
        results.append(function(gradients, weights))
    assert largest_difference(*results) <= 1e-5
    assert largest_difference(results[0], {"w": mx.ones((4, 3))}) >= 1e-3


# What reads a scalar while the optimizer updates ------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_function_given_to_an_optimizer_reads_the_value_of_now(
    driver: str, compiled: bool
) -> None:
    """ADOPT calls ``clip_lambda`` when its own step is already counted up."""
    optimizer, _ = make("ADOPT", "none")
    clip = Linear(1e-3, 1e-2)
    optimizer.clip_lambda = lambda step: clip * mx.array(1.0)
    group = attached(optimizer, driver, clip=clip)
    reference, _ = make("ADOPT", "none")
    ours = hand = arrays(1, "float32")
    function = optimizer.apply_gradients
    for step in range(STEPS):
        if driver == "loop":
            group.update(step / STEPS)
        reference.clip_lambda = lambda _, step=step: mx.array(clip.at(step / STEPS))
        gradients = arrays(100 + step, "float32")
        if compiled and step == 1:
            captured = optimizer.state
            function = mx.compile(function, inputs=captured, outputs=captured)
        ours = function(gradients, ours)
        hand = reference.apply_gradients(gradients, hand)
        assert largest_difference(ours, hand) <= (1e-7 if compiled else 0.0)


def test_a_rate_in_an_optimizer_within_an_optimizer_follows_or_raises() -> None:
    lr = Linear(0.1, 0.0)
    optimizer = theirs.Muon(lr, alternate_optimizer=optim.SGD(lr))
    try:
        attach(optimizer, horizon=Horizon(2))
    except ValueError:
        return
    weights = {"b": mx.zeros((1,))}  # no matrix: that of the alternate optimizer
    for moved in (-0.1, -0.15):
        weights = optimizer.apply_gradients({"b": mx.ones((1,))}, weights)
        assert weights["b"].item() == pytest.approx(moved)
