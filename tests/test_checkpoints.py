"""A saved optimizer state contains the scalars, and a resumed run equals the original run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from scalars import EarlyStopping, Horizon, Linear, ReduceOnPlateau, attach, detach

from .helpers import assert_same, reloaded
from .resumable import Run

MODES = ["eager-loop", "compiled-loop", "eager-step", "compiled-step"]
TOTAL = 12


def uninterrupted(mode: str, total: int = TOTAL) -> Run:
    run = Run(mode, total)
    run.attach()
    run.train(total)
    return run


@pytest.mark.gpu
@pytest.mark.parametrize("loaded", ["before attach", "after attach", "after some steps"])
@pytest.mark.parametrize("mode", MODES)
def test_resumed_at_any_step_it_is_the_same_run(mode: str, loaded: str, tmp_path: Path) -> None:
    whole = uninterrupted(mode)
    for at in range(TOTAL) if not mode.startswith("compiled") else (0, 1, 5, TOTAL - 1):
        first = Run(mode, TOTAL)
        first.attach()
        first.train(at)
        first.save(tmp_path)
        again = Run(mode, TOTAL)
        if loaded == "before attach":
            again.load(tmp_path)
            again.attach()
        else:
            again.attach()
            again.train(0 if loaded == "after attach" else 3)
            again.load(tmp_path)
        assert again.step == at
        assert again.group is not None
        assert first.group is not None
        assert again.group.snapshot() == first.group.snapshot()
        again.train(TOTAL)
        assert_same(again.parameters(), whole.parameters())
        assert_same(again.optimizer.state, whole.optimizer.state)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_killed_again_and_again_it_is_the_same_run(mode: str, tmp_path: Path) -> None:
    total = 40
    command = [sys.executable, "-m", "tests.resumable", str(tmp_path), mode, str(total)]
    chosen = random.Random(mode)
    kills, done = 0, 0
    while done < total:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        last = min(done + chosen.randint(1, 15), total) if kills < 4 else total
        for line in process.stdout:
            done = int(line)
            if done == last < total:
                process.send_signal(signal.SIGKILL)  # during the next step
                kills += 1
                break
        code = process.wait()
        process.stdout.close()
        assert code == (0 if done == total else -signal.SIGKILL)
    assert kills >= 2
    whole = uninterrupted(mode, total)
    run = Run(mode, total)
    run.load(tmp_path)
    assert run.step == total
    assert_same(run.parameters(), whole.parameters())


def make(**numbers: Any) -> tuple[Any, Any]:
    optimizer = optim.SGD(**{"learning_rate": Linear(0.1, 0.0), "momentum": 0.9, **numbers})
    optimizer.init({"w": mx.ones((2,))})
    return optimizer, attach(optimizer)


def test_the_state_holds_the_progress_to_the_last_bit(tmp_path: Path) -> None:
    for progress in (0.0, 1 / 3, 0.1 + 0.2, 1.0, 1.5, 5e-324):
        optimizer, group = make()
        group.update(progress)
        path = str(tmp_path / "state.safetensors")
        mx.save_safetensors(path, dict(tree_flatten(optimizer.state)))
        again, resumed = make()
        loaded = mx.load(path)
        assert isinstance(loaded, dict)
        again.state = tree_unflatten(list(loaded.items()))
        assert resumed["learning_rate"].progress == progress
        assert resumed.snapshot() == group.snapshot()


def test_an_assigned_state_is_linked_at_once() -> None:
    optimizer, group = make()
    group.update(0.75)
    state = reloaded(optimizer.state)
    group.update(0.25)
    optimizer.state = state
    assert group["learning_rate"].progress == 0.75
    assert optimizer.state.keys() == state.keys()
    step = mx.compile(lambda: group["learning_rate"] * mx.array(1.0), inputs=[optimizer.state])
    for progress, value in ((0.5, 0.05), (1, 0.0)):
        group.update(progress)
        assert step().item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("scalars"),
            "optimizer.state must be a state that holds the scalars, under 'scalars'",
        ),
        (
            lambda s: s["scalars"].pop("momentum"),
            r"the state's 'scalars' must be the scalars of this optimizer, \['learning_rate', 'momentum'\], got",
        ),
        (
            lambda s: s["scalars"].update(other=s["scalars"]["momentum"]),
            r"got \['learning_rate', 'momentum', 'other'\]. Attach the same scalars as when",
        ),
        (
            lambda s: s["scalars"]["momentum"].pop("progress"),
            "momentum in the state must be saved without a horizon, as it is attached now",
        ),
        (
            lambda s: s.update(scalars=mx.ones((2,))),
            "must be free of a parameter named 'scalars'",
        ),
    ],
)
def test_a_state_of_other_scalars_is_refused_and_nothing_changes(change: Any, message: str) -> None:
    optimizer, group = make(momentum=Linear(0.5, 0.9))
    group.update(0.75)
    state = reloaded(optimizer.state)
    change(state)
    group.update(0.25)
    before = optimizer.state
    with pytest.raises(ValueError, match=message):
        optimizer.state = state
    assert optimizer.state is before
    assert group["learning_rate"].progress == 0.25
    if "scalars" in state:
        fresh = optim.SGD(Linear(0.1, 0.0), momentum=Linear(0.5, 0.9))
        fresh.state = state
        with pytest.raises(ValueError, match=message):
            attach(fresh)
        assert type(fresh) is optim.SGD


def test_a_state_saved_by_hand_is_refused_by_a_run_driven_by_the_step() -> None:
    optimizer, group = make()
    group.update(0.5)
    state = reloaded(optimizer.state)
    by_step = optim.SGD(Linear(0.1, 0.0), momentum=0.9)
    attach(by_step, horizon=Horizon(10))
    with pytest.raises(ValueError, match="must be saved with a horizon, as it is attached now"):
        by_step.state = state
    del state["scalars"]
    by_step.state = state


def two_optimizers() -> Any:
    first, second = optim.SGD(Linear(0.1, 0.0), momentum=0.9), optim.Adam(Linear(0.2, 0.1))
    optimizer = optim.MultiOptimizer([first, second], [lambda path, _: path == "w"])
    attach(optimizer, horizon=Horizon(20))
    return optimizer


def test_states_of_several_optimizers_are_loaded_into_a_compiled_step() -> None:
    optimizer, weights = two_optimizers(), {"w": mx.zeros(2), "v": mx.zeros(2)}
    optimizer.init(weights)
    state = [weights, optimizer.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step() -> None:
        weights.update(optimizer.apply_gradients(tree_map(mx.ones_like, weights), weights))

    def steps(count: int) -> Any:
        for _ in range(count):
            step()
            mx.eval(state)
        return tree_map(mx.array, optimizer.state), tree_map(mx.array, weights)

    saved, weights_then = steps(5)
    _, expected = steps(5)
    optimizer.state = tree_unflatten([*reversed(tree_flatten(saved))])  # files sort the names
    weights.update(weights_then)
    assert_same(steps(5)[1], expected)


class Holder(optim.Optimizer):
    """An optimizer of a user that holds another one, and has no step of its own."""

    def __init__(self, inner: optim.Optimizer) -> None:
        super().__init__()
        self._state = {}
        self.inner = inner

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        return self.inner.apply_gradients(gradients, parameters)

    @property
    def state(self) -> Any:
        return {"inner": self.inner.state}

    @state.setter
    def state(self, state: Any) -> None:
        self.inner.state = state["inner"]


def test_the_state_of_an_optimizer_that_holds_another_one() -> None:
    optimizer = Holder(optim.Adam(Linear(0.1, 0.0)))
    group = attach(optimizer).update(0.5)
    optimizer.apply_gradients({"w": mx.ones(2)}, {"w": mx.zeros(2)})
    saved = {"inner": reloaded(optimizer.state["inner"])}
    group.update(0.75)
    optimizer.apply_gradients({"w": mx.ones(2)}, {"w": mx.zeros(2)})
    optimizer.state = saved
    assert group.progress == 0.5
    assert optimizer.state["inner"]["step"].item() == 1


@pytest.mark.parametrize("used", [False, True])
def test_a_loaded_state_is_not_changed_by_later_steps(used: bool) -> None:
    weights = {"w": mx.zeros(2), "v": mx.zeros(2)}
    gradients = tree_map(mx.ones_like, weights)
    first, second = two_optimizers(), two_optimizers()
    for one in (first, second) if used else (first,):
        one.apply_gradients(gradients, weights)
    given = first.state
    saved = tree_map(mx.array, given)
    second.state = given
    second.apply_gradients(gradients, weights)
    assert_same(first.state, saved)
    assert_same(given, saved)


@pytest.mark.parametrize("replace", ["assigned", "updated"])
def test_what_is_read_after_a_state_was_replaced_is_that_state(replace: str) -> None:
    def prepare() -> Any:
        lr, stop = ReduceOnPlateau(0.1, 0.5, patience=0), EarlyStopping(patience=3)
        optimizer, aux = optim.SGD(lr, momentum=0.9), Linear(0.0, 1.0)
        optimizer.init({"w": mx.zeros(2)})
        return optimizer, attach(optimizer, aux=aux, stop=stop)

    optimizer, group = prepare()
    for i, loss in enumerate([1.0, 2.0, 3.0, 4.0]):
        group.update(i / 8).observe(loss)
    saved = reloaded(optimizer.state)

    def resumed() -> Any:
        optimizer, group = prepare()
        if replace == "assigned":
            optimizer.state = saved
        else:
            optimizer.state.update(reloaded(saved))
        return optimizer, group

    expected = {"learning_rate": 0.1 * 0.5**3, "aux": 3 / 8, "stop": 1.0}
    assert resumed()[1].snapshot() == expected
    assert resumed()[1].progress == 3 / 8
    assert (resumed()[1]["aux"] * mx.array(2.0)).item() == 0.75
    assert float(resumed()[1].observe(9.0)["learning_rate"]) == 0.1 * 0.5**4
    optimizer, group = resumed()
    assert attach(optimizer) is group
    assert group.state_dict()["stop"] == {
        "progress": 3 / 8,
        "observed": [{"best": 1.0, "since": 3}],
    }


@pytest.mark.parametrize(
    ("state", "error"),
    [(None, TypeError), ([1], TypeError), ((("step", 1),), TypeError), ({}, ValueError)],
)
def test_a_state_of_other_containers_is_refused_and_nothing_changes(
    state: Any, error: type[Exception]
) -> None:
    weights = {"w": mx.zeros(2), "v": mx.zeros(2)}
    whole = two_optimizers()
    whole.apply_gradients(tree_map(mx.ones_like, weights), weights)
    before = tree_map(mx.array, whole.state)
    for given in (state, {"states": [before["states"][0], state]}):
        with pytest.raises(error, match=r"optimizer\.state must be"):
            whole.state = given
        assert_same(whole.state, before)


def test_detached_the_state_is_plain() -> None:
    optimizer, group = make()
    group.update(0.5)
    detach(optimizer)
    assert set(optimizer.state) == {"step", "learning_rate", "w"}
    assert group["learning_rate"].progress == 0.5
    assert set(group["learning_rate"].state) == {"value", "remainder"}
    optimizer.state = reloaded(optimizer.state)
