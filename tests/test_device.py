"""A training step on any device: nothing in it that a GPU cannot do, and nothing that waits.

What a GPU cannot do is float64, some of linear algebra, and what is on another device's
stream. What waits is an evaluation in the middle of a step: it holds up whoever makes the
graph of the next step while the device computes this one.
"""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten

import scalars
from scalars import (
    CosineAnnealing,
    DynamicLossScale,
    Horizon,
    Linear,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    Warmup,
    attach,
)

from .helpers import MLX, pending
from .test_every_optimizer import FIXED, HYPERPARAMETERS, convert

pytestmark = pytest.mark.gpu
HORIZON = Horizon(100, offset=50)  # in the middle of the run no hyperparameter is at 0
STEPS = 3
SCHEDULE_FREE: dict[str, Any] = {
    "ScheduleFreeSGD": {
        "learning_rate": (0.0, 0.1),
        "momentum": (0.8, 0.9),
        "weight_decay": (0.0, 0.1),
    },
    "ScheduleFreeAdamW": {
        "learning_rate": (0.0, 0.01),
        "betas": [(0.8, 0.9), (0.99, 0.999)],
        "eps": (1e-8, 1e-2),
        "weight_decay": (0.0, 0.1),
    },
}
OPTIMIZERS = {**HYPERPARAMETERS, **SCHEDULE_FREE}
CLASSES = {"ScheduleFreeSGD": ScheduleFreeSGD, "ScheduleFreeAdamW": ScheduleFreeAdamW}
every_optimizer = pytest.mark.parametrize("name", list(OPTIMIZERS))
both_drivers = pytest.mark.parametrize("driver", ["loop", "step"])
with_a_loss_scale = pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss-scale"])


def middle(start: float, end: float) -> float:
    """Return the float that a schedule has when the test begins."""
    return Linear(start, end).at(0.5)


class Net(nn.Module):
    """A classifier with a normalization and a dropout."""

    def __init__(self, rate: Any) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        self.norm, self.dropout = nn.LayerNorm(16), nn.Dropout(rate)

    def __call__(self, x: mx.array) -> mx.array:
        return self.last(self.dropout(nn.gelu(self.norm(self.first(x)))))


class Training:
    """A training step with scalars wherever there may be one, or with floats in their place.

    They are all hyperparameters of the optimizer, the rate of a dropout, the weight of a
    loss and the expression ``1 - weight``, a label smoothing, a number that is held by
    hand, the norm that gradients are clipped to, and a loss scale if it is asked for.
    """

    def __init__(
        self, name: str, driver: str, scaled: bool = False, dtype: mx.Dtype = mx.float32
    ) -> None:
        self.by_loop, self.scaled = driver == "loop", scaled
        number: Callable[..., Any] = middle if driver == "floats" else Linear
        self.model = Net(number(0.1, 0.3))
        self.model.set_dtype(dtype)
        numbers = {key: convert(span, number) for key, span in OPTIMIZERS[name].items()}
        cls = CLASSES.get(name) or getattr(optim, name)
        self.optimizer = cls(**numbers, **FIXED.get(name, {}))
        self.optimizer.init(self.model.trainable_parameters())
        self.smoothing, self.most, self.held = number(0.0, 0.2), number(1.0, 2.0), number(0.0, 1.0)
        weight = Warmup(CosineAnnealing(1.0), 0.2)
        self.scale: Any = DynamicLossScale(1024.0) if scaled else 1.0
        self.weight: Any = weight
        self.group: Any = None
        if driver == "floats":
            self.weight = weight.at(0.5)
        else:
            self.group = attach(
                self.optimizer, self.model, HORIZON if driver == "step" else None, weight=weight,
                smoothing=self.smoothing, most=self.most, held=self.held,
                **({"scale": self.scale} if scaled else {}),
            )  # fmt: skip
            self.group.hold(held=0.25)
        mx.random.seed(0)
        self.x, self.y = mx.random.normal((4, 8)).astype(dtype), mx.array([0, 1, 2, 3])
        self.loss_and_grad = nn.value_and_grad(self.model, self.loss)
        self.containers = [self.model.state, self.optimizer.state, mx.random.state]
        mx.eval(self.x, self.y, self.containers)

    def loss(self, x: mx.array) -> mx.array:
        logits = self.model(x)
        loss = nn.losses.cross_entropy(
            logits, self.y, label_smoothing=self.smoothing, reduction="mean"
        )
        penalty = self.held * mx.abs(logits).mean() + (1 - self.weight) * mx.square(logits).mean()
        return self.scale * (self.weight * loss + penalty)  # type: ignore[no-any-return]

    def step(self, x: mx.array) -> mx.array:
        loss, grads = self.loss_and_grad(x)
        finite = True
        if self.scaled:
            grads, finite = self.scale.unscale(grads)
        grads, _ = optim.clip_grad_norm(grads, self.most)
        if self.scaled:
            self.scale.apply(self.optimizer, self.model, grads, finite)
        else:
            self.optimizer.update(self.model, grads)
        return loss  # type: ignore[no-any-return]

    def operations_of_steps(self, compiled: bool) -> dict[str, int]:
        """Make some steps, evaluate nothing, and count what is left to be evaluated."""
        step: Any = self.step
        if compiled:
            step = mx.compile(step, inputs=self.containers, outputs=self.containers)
        losses = []
        for i in range(STEPS):
            if self.by_loop:
                self.group.update(HORIZON.progress(i))
            losses.append(step(self.x))
            # The number of steps in a graph, and a loss scale, are on the device.
            if self.group is not None and not self.scaled and (self.by_loop or not compiled):
                self.group.snapshot()
        return pending([losses, self.containers])


# What is in the graph ---------------------------------------------------------------

CPU_ONLY = {
    *("Cholesky", "Eig", "Eigh", "Inverse", "LUF", "QRF", "SVD"),  # not on Metal, or on CUDA
    *("BlockMaskedMM", "FFT", "Hadamard", "Load"),  # not on CUDA
}
EVERYWHERE = {mx.float32, mx.bfloat16, mx.float16, mx.uint64, mx.uint32, mx.int32, mx.bool_}


def put_into(container: Any, arrays: Iterator[mx.array]) -> None:
    """Put arrays in the place of those in a container, as ``mx.compile`` does."""
    items = container.items() if isinstance(container, dict) else enumerate(container)
    for key, value in list(items):
        if isinstance(value, mx.array):
            container[key] = next(arrays)
        elif isinstance(value, (dict, list)):
            put_into(value, arrays)


def graph_of(training: Training) -> tuple[Callable[..., Any], list[mx.array]]:
    """Return a step as a function of arrays alone, and what it is called with."""

    def arrays() -> list[mx.array]:
        flat = tree_flatten(training.containers)
        return [array for _, array in flat if isinstance(array, mx.array)]

    def step(x: mx.array, *state: mx.array) -> Any:
        put_into(training.containers, iter(state))
        return [training.step(x), *arrays()]

    return step, [training.x, *arrays()]


exported = pytest.mark.skipif(
    MLX < (0, 32), reason="MLX before 0.32 cannot export every operation of a step"
)


def operations(function: Callable[..., Any], *args: mx.array) -> list[dict[str, Any]]:
    """Return the operations in the graph of a function."""
    found: list[dict[str, Any]] = []
    mx.export_function(found.append, function, *args)
    return [each for each in found if each["type"] == "primitive"]


def dtypes_in(found: list[dict[str, Any]]) -> set[mx.Dtype]:
    return {dtype for each in found for _, _, dtype in each["outputs"]}


def streams_in(folder: Path, function: Callable[..., Any], *args: mx.array) -> set[tuple[int, ...]]:
    """Return the streams of the operations in a graph: a number, and the device of each.

    MLX tells nothing of them but in the file that a function is exported to, where that
    of an operation is in front of its name.
    """
    names = {each["name"] for each in operations(function, *args)}
    path = folder / "step.mlxfn"
    mx.export_function(str(path), function, *args)
    exported = path.read_bytes()
    streams = set()
    for name in names:
        field = struct.pack("<Q", len(name)) + name.encode()
        places = [found.start() for found in re.finditer(re.escape(field), exported)]
        assert places, name
        streams |= {struct.unpack("<3i", exported[at - 12 : at]) for at in places}
    return streams


@exported
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
@with_a_loss_scale
@both_drivers
@every_optimizer
def test_the_graph_of_a_step_has_nothing_that_a_gpu_cannot_do(
    name: str, driver: str, scaled: bool, dtype: mx.Dtype
) -> None:
    training = Training(name, driver, scaled, dtype)
    step, args = graph_of(training)
    found = operations(step, *args)
    assert len(found) > 100
    if driver == "step":  # a table, or two, for each scalar
        assert sum(each["name"] == "Gather" for each in found) >= len(training.group) - scaled
    assert dtypes_in(found) <= EVERYWHERE
    assert not CPU_ONLY & {each["name"] for each in found}


@exported
@with_a_loss_scale
@both_drivers
@every_optimizer
def test_all_of_a_step_is_on_the_default_stream(
    name: str, driver: str, scaled: bool, tmp_path: Path
) -> None:
    step, args = graph_of(Training(name, driver, scaled))
    default = streams_in(tmp_path, mx.exp, mx.array(1.0))
    assert len(default) == 1
    assert streams_in(tmp_path, step, *args) == default


@exported
def test_the_looks_at_the_graph_see_what_they_look_for(tmp_path: Path) -> None:
    # On the CPU, wherever this runs: no GPU takes these.
    double = operations(lambda x: x.astype(mx.float64, stream=mx.cpu), mx.array(1.0))
    assert mx.float64 in dtypes_in(double)
    inverse = operations(lambda x: mx.linalg.inv(x, stream=mx.cpu), mx.eye(2))
    assert CPU_ONLY & {each["name"] for each in inverse}
    other = mx.new_stream(mx.default_device())
    both = streams_in(tmp_path, lambda x: mx.exp(mx.sin(x, stream=other)), mx.array(1.0))
    assert len(both) == 2


def test_no_part_of_the_package_asks_for_a_stream_or_a_device() -> None:
    """What it computes is on MLX's default device, whichever that is."""
    package = Path(scalars.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("stream", "new_stream", "cpu", "gpu"), path
                assert not node.attr.startswith("set_default_"), path
            if isinstance(node, ast.keyword):
                assert node.arg != "stream", path


# What waits -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        *("eager, loop", "eager, step", "eager, loop, scaled"),  # "eager, step, scaled": see below
        *("compiled, loop", "compiled, step", "compiled, loop, scaled", "compiled, step, scaled"),
    ],
)
@every_optimizer
def test_a_step_evaluates_nothing(name: str, way: str) -> None:
    """After some steps all that floats leave to be evaluated is still to be evaluated."""
    compiled, scaled = way.startswith("compiled"), way.endswith("scaled")
    driver = "step" if "step" in way else "loop"
    with_floats = Training(name, "floats").operations_of_steps(compiled)
    ours = Training(name, driver, scaled).operations_of_steps(compiled)
    assert with_floats["Matmul"] >= STEPS * 3  # of which an evaluation would leave fewer
    assert ours["Matmul"] == with_floats["Matmul"]
    # By the step the host counts the steps, unless the update itself computes with the step.
    if way == "eager, step" and with_floats["Add"] - ours["Add"] == STEPS:
        with_floats["Add"] -= STEPS
    assert sum(ours.values()) >= sum(with_floats.values())
    if not (compiled or scaled):  # an optimizer computes with Python floats
        layers = {"Multiply", "Subtract", "Divide", "Minimum", "AsType", "Broadcast", "Greater"}
        assert {k: v for k, v in ours.items() if k not in layers} == {
            k: v for k, v in with_floats.items() if k not in layers
        }


def test_eagerly_the_step_waits_for_whether_the_one_before_was_skipped() -> None:
    """As the documentation of ``DynamicLossScale`` says: once for each step, and no more."""
    training = Training("AdamW", "step", scaled=True)
    before: mx.array = training.optimizer.state["step"]
    for done in range(STEPS):
        assert training.group.step == done
        training.step(training.x)
        assert pending(training.optimizer.state["step"])["Matmul"] >= 3
    assert before is not training.optimizer.state["step"]


def test_the_look_at_what_waits_sees_an_evaluation() -> None:
    x = mx.exp(mx.sin(mx.array(1.0)))
    assert pending([mx.cos(x)]) == {"Cos": 1, "Exp": 1, "Sin": 1}
    y = mx.cos(x)
    x.item()
    assert pending([y]) == {"Cos": 1}
