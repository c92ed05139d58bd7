"""DynamicLossScale: float16 training that overflows, skips the step and recovers."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from sklearn.datasets import load_digits

from scalars import DynamicLossScale, Horizon, Linear, Recorder, ScalarGroup, attach

from .helpers import Traced, assert_same, reloaded

IMAGES, LABELS = load_digits(return_X_y=True)
X, Y = mx.array(IMAGES / 16).astype(mx.float32), mx.array(LABELS)


def gradscaler(finite: list[bool], scale: float, interval: int, minimum: float) -> list[float]:
    """PyTorch's rule: grow after ``interval`` finite steps in a row, shrink after an overflow."""
    values, streak = [], 0
    for good in finite:
        if not good:
            scale, streak = max(scale / 2, minimum), 0
        else:
            streak += 1
            if streak == interval:
                scale, streak = scale * 2, 0
        values.append(scale)
    return values


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_the_rule(compiled: bool) -> None:
    finite = [bool((i * i + i // 7) % 5) for i in range(200)]
    scale = DynamicLossScale(64.0, growth_interval=3, minimum=4.0)
    observe: Any = scale.observe
    if compiled:
        body = Traced(lambda finite: scale.observe(finite) * mx.array(1.0))
        observe = mx.compile(body, inputs=[scale.state], outputs=[scale.state])
    values = []
    for good in finite:
        observe(mx.array(good))
        values.append(float(scale))
    assert values == gradscaler(finite, 64.0, 3, 4.0)
    assert {4.0, 8.0, 128.0} & set(values)
    if compiled:
        assert body.traces == 1


def test_it_stays_finite() -> None:
    scale = DynamicLossScale(2.0**126, growth_interval=1)
    assert [float(scale.observe(True)) for _ in range(3)] == [2.0**127] * 3


@pytest.mark.gpu
def test_unscale() -> None:
    scale = DynamicLossScale(1024.0)
    grads = {"a": [mx.array([2048.0, -512.0])], "b": mx.array([1024.0], mx.float16)}
    unscaled, finite = scale.unscale(grads)
    assert_same(unscaled, {"a": [mx.array([2.0, -0.5])], "b": mx.array([1.0], mx.float16)})
    assert finite.item() is True
    for bad in (math.inf, -math.inf, math.nan):
        assert scale.unscale({**grads, "c": mx.array([0.0, bad])})[1].item() is False
    with pytest.raises(ValueError, match="grads must be a tree of arrays"):
        scale.unscale({})


@pytest.mark.gpu
def test_dtypes_beside_arrays() -> None:
    scale = DynamicLossScale(8.0)
    for dtype in (mx.float16, mx.bfloat16, mx.float32):
        assert (scale * mx.array(2.0, dtype)).dtype == dtype
        assert (scale * mx.array(2.0, dtype)).item() == 16.0
    assert (scale * mx.array(2)).dtype == mx.float32
    assert float(1 / scale) == 0.125
    assert (1 / scale * mx.array(8.0)).item() == 1.0
    assert f"{scale:.1f}" == "8.0"


class Run:
    """A classifier of digits whose loss is computed in float16."""

    def __init__(self, compiled: bool) -> None:
        mx.random.seed(3)
        self.scale = DynamicLossScale(2.0**24, growth_interval=25)
        self.model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.optimizer = optim.AdamW(Linear(1e-2, 1e-3), weight_decay=0.1)
        self.optimizer.init(self.model.trainable_parameters())
        self.group = attach(self.optimizer, scale=self.scale)
        self.compiled, self.body = compiled, Traced(self.step)

    def loss(self, parameters: Any, x: mx.array, y: mx.array) -> mx.array:
        """The scaled loss of the float16 copy of the float32 parameters."""
        kept = self.model.parameters()
        self.model.update(tree_map(lambda p: p.astype(mx.float16), parameters))
        logits = self.model(x.astype(mx.float16)).astype(mx.float32)
        self.model.update(kept)
        return self.scale * nn.losses.cross_entropy(logits, y, reduction="mean")

    def step(self, x: mx.array, y: mx.array) -> Any:
        parameters = self.model.trainable_parameters()
        loss, grads = mx.value_and_grad(self.loss)(parameters, x, y)
        grads, finite = self.scale.unscale(grads)
        loss = loss / self.scale.array
        self.scale.apply(self.optimizer, self.model, grads, finite)
        return loss, finite

    def train(self, first: int, last: int) -> list[tuple[float, bool, float]]:
        history = []
        state = [self.model.state, self.optimizer.state]
        step = mx.compile(self.body, inputs=state, outputs=state) if self.compiled else self.body
        for i in range(first, last):
            self.group["learning_rate"].update(i / 1000)
            at = [(i * 64 + j) % len(Y) for j in range(64)]
            before = tree_map(lambda a: a + 0, (self.model.parameters(), self.own_state()))
            loss, finite = step(X[at], Y[at])
            mx.eval(loss, self.model.state, self.optimizer.state)
            history.append((loss.item(), finite.item(), float(self.scale)))
            if not finite.item():
                assert_same((self.model.parameters(), self.own_state()), before)
        return history

    def own_state(self) -> dict[str, Any]:
        return {k: v for k, v in self.optimizer.state.items() if k != "scalars"}


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_float16_training_overflows_and_recovers(compiled: bool) -> None:
    run = Run(compiled)
    history = run.train(0, 150)
    finite = [good for _, good, _ in history]
    assert not finite[0]  # 2**24 times the gradients is beyond float16
    assert sum(not good for good in finite) >= 5
    assert all(finite[-10:]) or sum(finite[-50:]) >= 45
    assert [value for _, _, value in history] == gradscaler(finite, 2.0**24, 25, 1.0)
    assert run.optimizer.step.item() == sum(finite)  # skipped steps do not count
    assert history[-1][0] < 0.2 < history[0][0]
    assert all(p.dtype == mx.float32 for _, p in tree_flatten(run.model.parameters()))
    if compiled:
        assert run.body.traces == 1


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_resumed_it_is_the_same_run(compiled: bool) -> None:
    whole = Run(compiled)
    expected = whole.train(0, 40)
    for at in (0, 3, 20):
        first = Run(compiled)
        first.train(0, at)
        again = Run(compiled)
        again.model.update(reloaded(first.model.parameters()))
        again.optimizer.state = reloaded(first.optimizer.state)
        assert float(again.scale) == float(first.scale)
        assert again.train(at, 40) == expected[at:]
        assert_same(again.model.parameters(), whole.model.parameters())
        assert_same(again.optimizer.state, whole.optimizer.state)


def test_attached_after_loading_it_is_resumed_too() -> None:
    first = Run(compiled=False)
    first.train(0, 5)
    scale = DynamicLossScale(2.0**24, growth_interval=25)
    optimizer = optim.AdamW(Linear(1e-2, 1e-3), weight_decay=0.1)
    optimizer.state = reloaded(first.optimizer.state)
    attach(optimizer, scale=scale)
    assert float(scale) == float(first.scale) < 2.0**24
    assert scale.state_dict() == first.scale.state_dict()


def test_state_dict_copies_and_pickle() -> None:
    scale = DynamicLossScale(64.0, growth_interval=10).update(0.5)
    for finite in (True, False, True, True):
        scale.observe(finite)
    saved = json.loads(json.dumps(scale.state_dict()))
    assert saved == {"progress": 0.5, "scale": 32.0, "streak": 2}
    loaded = DynamicLossScale(64.0, growth_interval=10).load_state_dict(saved)
    for again in (loaded, copy.deepcopy(scale), pickle.loads(pickle.dumps(scale))):
        assert again.state_dict() == saved
        again.observe(False)
        assert (float(again), float(scale)) == (16.0, 32.0)
    for change, message in (
        ({"scale": 0.0}, "scale in the state of Dyn.* above 0, got 0.0"),
        ({"streak": -1}, "streak in the state of Dyn.* at least 0, got -1"),
        ({"progress": math.nan}, "progress must be"),
        ({"more": 1}, "a mapping with"),
    ):
        with pytest.raises(ValueError, match=message):
            loaded.load_state_dict({**saved, **change})
    assert float(loaded) == 16.0


def test_update_does_not_change_or_read_it() -> None:
    scale = DynamicLossScale(64.0)
    group = ScalarGroup(scale=scale, lr=Linear(0.0, 1.0))
    poison = mx.array(64.0)
    scale.state["value"] = poison
    group.update(0.5)
    assert scale.state["value"] is poison
    assert scale.progress == 0.5
    assert (float(scale), scale.at(0.1)) == (64.0, 64.0)
    group.update(0.7)
    with pytest.raises(ValueError, match="adaptive one, got ScalarGroup"):
        group.observe(1.0)  # a loss scale does not observe a loss


def test_a_compiled_step_that_does_not_capture_it_is_refused() -> None:
    scale = DynamicLossScale()
    with pytest.raises(ValueError, match="the scale would never change. Capture scale.state"):
        mx.compile(lambda x: scale.observe(True) * x)(mx.array(1.0))
    assert float(scale) == 2.0**15


@pytest.mark.parametrize("finite", [1.0, None, "yes", mx.array(1.0), mx.array([True, False])])
def test_bad_finite(finite: Any) -> None:
    scale = DynamicLossScale()
    with pytest.raises(TypeError, match="finite must be True or False, got"):
        scale.observe(finite)


def test_float_while_traced_is_refused() -> None:
    scale = DynamicLossScale()
    with pytest.raises(ValueError, match="has no float value while mx.compile traces"):
        mx.compile(lambda x: float(scale) * x, inputs=[scale.state])(mx.array(1.0))


def test_with_a_horizon_it_rides_beside_what_follows_the_step() -> None:
    scale = DynamicLossScale(64.0, growth_interval=2)
    optimizer = optim.SGD(Linear(1.0, 0.0))
    group = attach(optimizer, horizon=Horizon(4), scale=scale)
    weights = {"w": mx.array(0.0)}
    optimizer.init(weights)

    def body(w: Any) -> Any:
        grads, finite = scale.unscale({"w": scale * mx.array(1.0)})
        scale.observe(finite)
        return optimizer.apply_gradients(grads, w)

    captured = [optimizer.state]
    step = mx.compile(body, inputs=captured, outputs=captured)
    seen = []
    for _ in range(4):
        weights = step(weights)
        seen.append((weights["w"].item(), float(scale), group.progress))
    assert seen == [(-1, 64, 0.25), (-1.75, 128, 0.5), (-2.25, 128, 0.75), (-2.5, 256, 1.0)]
    saved = tree_unflatten([(k, mx.array(a)) for k, a in tree_flatten(optimizer.state)])
    again = optim.SGD(Linear(1.0, 0.0))
    scale = DynamicLossScale(64.0, growth_interval=2)
    attach(again, horizon=Horizon(4), scale=scale)
    again.state = saved
    assert (float(scale), again.step.item()) == (256, 4)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_record_has_the_scale_and_the_rate_of_each_step_that_was_made(compiled: bool) -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight = mx.zeros((1, 1))
    optimizer, scale = optim.SGD(Linear(1.0, 0.0)), DynamicLossScale(8.0, growth_interval=2)
    group = attach(optimizer, scale=scale, horizon=Horizon(8))
    recorder = Recorder(group)
    optimizer.init(model.trainable_parameters())
    told: list[float] = []
    group.subscribe(lambda progress, values: told.append(progress))

    def step(gradient: mx.array) -> None:
        grads, finite = scale.unscale({"weight": gradient.reshape(1, 1)})
        scale.apply(optimizer, model, grads, finite)

    state = [model.state, optimizer.state]
    update = mx.compile(step, inputs=state, outputs=state) if compiled else step
    made = []
    for gradient in (1.0, math.inf, math.inf, 1.0, 1.0, 1.0, math.inf, 1.0):
        now = group.snapshot()
        recorder.log(loss=gradient)
        update(mx.array(gradient))
        if math.isfinite(gradient):
            made.append((len(made), now["learning_rate"], now["scale"], gradient))
    recorder.log()
    names = ("step", "learning_rate", "scale", "loss")
    assert [tuple(row.get(name) for name in names) for row in recorder][: len(made)] == made
    assert len(recorder) == len(made) + 1
    assert told == sorted(told)


def test_what_is_observed_after_a_state_was_replaced_counts_for_that_state() -> None:
    def prepare() -> Any:
        scale, optimizer = DynamicLossScale(1024.0, growth_interval=2), optim.SGD(0.1)
        attach(optimizer, scale=scale)
        return scale, optimizer

    scale, optimizer = prepare()
    for _ in range(3):
        scale.observe(True)
    assert float(scale) == 2048.0
    saved = reloaded(optimizer.state)
    scale, optimizer = prepare()
    optimizer.state.update(saved)
    assert float(scale.observe(True)) == 4096.0  # the second step without an overflow
