"""ReduceOnPlateau follows PyTorch's rule wherever a scalar can be used."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from scalars import (
    CosineAnnealing,
    Horizon,
    LambdaValue,
    Linear,
    Phase,
    Phases,
    ReduceOnPlateau,
    ScalarGroup,
    ScheduledScalar,
    Sequence,
    ThresholdSwitch,
    Warmup,
    attach,
    detach,
)

from . import golden
from .helpers import Traced
from .plateau_cases import CONFIGURATIONS, LENGTH, metrics

GOLDEN = golden.read("plateau.json")


@pytest.mark.parametrize(
    "configuration", CONFIGURATIONS, ids=lambda c: "-".join(map(str, c.values()))
)
def test_pytorch(configuration: dict[str, Any]) -> None:
    """Every rate over 1,000 metrics, NaN among them, in every mode."""
    plateau = ReduceOnPlateau(1.0, **configuration)
    changes = dict(map(tuple, GOLDEN[str(configuration)]))
    assert len(changes) >= 1
    expected = 1.0
    for i, metric in enumerate(metrics(str(configuration))):
        expected = changes.get(i, expected)
        assert float(plateau.observe(metric)) == pytest.approx(expected, rel=1e-12, abs=0), i
    assert i == LENGTH - 1


def test_patience_is_pytorchs() -> None:
    """With patience 2 and a constant metric, the fourth call reduces, as in PyTorch."""
    plateau = ReduceOnPlateau(1.0, factor=0.5, patience=2)
    assert [float(plateau.observe(1.0)) for _ in range(8)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_improvement(mode: str, metric: float) -> None:
    plateau = ReduceOnPlateau(1.0, 0.5, patience=1, mode=mode)
    assert [float(plateau.observe(metric)) for _ in range(2)] == [1.0, 0.5]
    assert plateau.memory["best"] is None
    plateau.observe(3.0).observe(metric)
    assert plateau.memory == {"best": 3.0, "bad": 1, "cooldown": 0, "reductions": 1}


def test_metrics_of_other_types() -> None:
    plateau = ReduceOnPlateau(1.0)
    for metric in (3, np.float32(2.5), mx.array(2.0), np.array(1.5), mx.array([1.0])):
        assert plateau.observe(metric) is plateau  # type: ignore[arg-type]
        assert plateau.memory["best"] == float(metric)  # type: ignore[arg-type]
        assert type(plateau.memory["best"]) is float


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("1.0", "metric must be a real number, got '1.0'. Pass a number such as loss.item()."),
        (None, "metric must be a real number, got None"),
        (True, "metric must be a real number, got True"),
        (1j, "metric must be a real number, got 1j"),
        (mx.array([1.0, 2.0]), r"metric must be a real number, got array\(\[1, 2\]"),
        (Linear(0.0, 1.0), "metric must be a real number, got Linear"),
    ],
)
def test_bad_metrics_change_nothing(metric: Any, message: str) -> None:
    plateau = ReduceOnPlateau(1.0, patience=0).observe(1.0)
    before = dict(plateau.memory)
    group = ScalarGroup(lr=plateau, wd=Linear(0.0, 1.0))
    for observe in (plateau.observe, (plateau * 2).observe, group.observe):
        with pytest.raises(TypeError, match=message):
            observe(metric)
        assert plateau.memory == before


def test_only_adaptive_scalars_observe() -> None:
    for scalar in (Linear(0.0, 1.0), 2 * Linear(0.0, 1.0), ScalarGroup(a=Linear(0.0, 1.0))):
        with pytest.raises(ValueError, match="must be an adaptive one, got .* observes metrics"):
            scalar.observe(1.0)


def test_minimum_never_raises_a_value() -> None:
    plateau = ReduceOnPlateau(Linear(0.0, 1.0), 0.1, patience=0, minimum=0.4)
    plateau.observe(1.0).observe(1.0)
    assert [plateau.at(p) for p in (0, 0.25, 0.5, 1)] == [0, 0.25, 0.4, 0.4]


def by_hand_in_a_sequence(p: float, x: float) -> float:
    return 3 * x * min(2 * p / 0.5, 1) if p < 0.5 else 1.0


COMPOSED: list[tuple[str, Callable[[Any], ScheduledScalar], Callable[[float, float], float]]] = [
    # A schedule, and its value at a progress by hand when the plateau gives x.
    ("warm-up", lambda x: Warmup(x, 0.05), lambda p, x: min(p / 0.05, 1) * x),
    (
        "factor of a cosine",
        lambda x: x * CosineAnnealing(2.0),
        lambda p, x: x * (1 + math.cos(math.pi * p)),
    ),
    ("in a sequence", lambda x: Sequence([1.0, x], [0.5]), lambda p, x: x if p >= 0.5 else 1.0),
    (
        "deeper",
        lambda x: Sequence([Warmup(x, 0.5) * 3, 1.0], [0.5]),
        by_hand_in_a_sequence,
    ),
    ("a switch", lambda x: ThresholdSwitch([x, 9.0], ["< -1"]), lambda p, x: x),
    ("a power", lambda x: 1 - x**2, lambda p, x: 1 - x**2),
]
composed = pytest.mark.parametrize(
    ("make", "expected"), [c[1:] for c in COMPOSED], ids=[c[0] for c in COMPOSED]
)


@composed
def test_composed(make: Callable[[Any], ScheduledScalar], expected: Any) -> None:
    """Every scalar made from the plateau follows an observation by any of them, at any progress."""
    plateau = ReduceOnPlateau(0.8, 0.5, patience=0)
    scalar = make(plateau)
    body = Traced(lambda: scalar * mx.array(1.0))
    step = mx.compile(body, inputs=[scalar.state])
    values = []
    for observer in (plateau, scalar, ScalarGroup(a=scalar)):
        for progress in (0.1, 0.4, 0.7, 1):
            scalar.update(progress)
            value = expected(progress, float(plateau))
            assert float(scalar) == pytest.approx(value, rel=1e-12)
            assert scalar.at(progress) == float(scalar)
            assert step().item() == pytest.approx(value, rel=1e-6)
            observer.observe(1.0)  # only the first is an improvement
            value = expected(progress, float(plateau))
            assert float(scalar) == pytest.approx(value, rel=1e-12)
            assert step().item() == pytest.approx(value, rel=1e-6)
        values.append(float(plateau))
    assert values == [0.8 * 0.5**3, 0.8 * 0.5**7, 0.8 * 0.5**11]
    assert body.traces == 1


@composed
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_remember_and_are_independent(make: Any, expected: Any, copied: Any) -> None:
    scalar = make(ReduceOnPlateau(0.8, 0.5, patience=1)).update(0.7)
    for metric in (3.0, 2.0, 2.0, 2.0, 1.5):
        scalar.observe(metric)
    again = copied(scalar)
    assert again.state_dict() == scalar.state_dict()
    assert float(again) == float(scalar) == pytest.approx(expected(0.7, 0.4), rel=1e-12)
    again.observe(5.0).observe(5.0)
    assert float(again) == pytest.approx(expected(0.7, 0.2), rel=1e-12)
    assert float(scalar) == pytest.approx(expected(0.7, 0.4), rel=1e-12)


@composed
def test_a_run_resumed_from_its_state_dict_is_the_run(make: Any, expected: Any) -> None:
    """Save and load as JSON at each of 60 metrics; all later values are equal."""
    observed = metrics("resume")[:60]
    whole, values, states = make(ReduceOnPlateau(0.8, 0.7, 2, cooldown=1)), [], []
    for i, metric in enumerate(observed):
        states.append(json.loads(json.dumps(whole.state_dict(), allow_nan=False)))
        values.append(float(whole.update(i / 60).observe(metric)))
    assert len(set(values)) > 4
    for at in range(60):
        again = make(ReduceOnPlateau(0.8, 0.7, 2, cooldown=1)).load_state_dict(states[at])
        rest = [float(again.update(i / 60).observe(observed[i])) for i in range(at, 60)]
        assert rest == values[at:]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"observed": []}, ValueError, "as many as the scalars that observe, 1, got"),
        ({"observed": [{}]}, ValueError, "a mapping with 'best', 'bad', 'cooldown', 'reductions'"),
        ({"observed": 3}, TypeError, "observed must be a list or a tuple, got 3"),
        ({"progress": -1}, ValueError, "progress must be"),
        ({"bad": -1}, ValueError, "bad in the memory of ReduceOnPlateau must be a whole number"),
        ({"reductions": 0.5}, TypeError, "reductions in the memory .* whole number"),
        ({"best": math.nan}, ValueError, "best in the memory of ReduceOnPlateau must be a finite"),
        ({"best": "1"}, TypeError, "best in the memory of ReduceOnPlateau must be a finite"),
    ],
)
def test_bad_states_change_nothing(change: Any, error: type[Exception], message: str) -> None:
    lr = Warmup(ReduceOnPlateau(1.0, patience=0), 0.5).update(0.75).observe(1.0).observe(1.0)
    before = lr.state_dict()
    bad = json.loads(json.dumps(before))
    target = bad if set(change) & set(bad) else bad["observed"][0]
    target.update(change)
    with pytest.raises(error, match=message):
        lr.load_state_dict(bad)
    assert lr.state_dict() == before
    assert float(lr) == pytest.approx(0.1)


def attached(warm: bool = True) -> tuple[Any, Any, Any]:
    plateau = ReduceOnPlateau(0.1, 0.5, patience=1, cooldown=1)
    lr: Any = Warmup(plateau, 0.3) if warm else plateau
    optimizer = optim.AdamW(lr, weight_decay=0.1 * plateau)
    optimizer.init({"w": mx.ones((3,), mx.bfloat16)})
    return optimizer, attach(optimizer), plateau


Values = list[tuple[float, float]]


def train(optimizer: Any, before: Callable[[int], None], compiled: bool) -> tuple[Any, int]:
    """Make 20 steps in bfloat16; return the parameter at the end, and how often it was traced."""
    w = mx.array([1.0, 2.0, 3.0], mx.bfloat16)
    body = Traced(lambda w: optimizer.apply_gradients({"w": w * w}, {"w": w})["w"])
    state = [optimizer.state]
    step = mx.compile(body, inputs=state, outputs=state) if compiled else body
    for i in range(20):
        before(i)
        w = step(w)
        mx.eval(w, optimizer.state)
    assert w.dtype == mx.bfloat16
    return w.tolist(), body.traces


@pytest.mark.parametrize("compiled", [False, True])
def test_attached_it_is_the_run_with_floats(compiled: bool) -> None:
    """Bit for bit, and compiled with one trace."""
    optimizer, group, plateau = attached()
    values: Values = []

    def scheduled(i: int) -> None:
        group.update(i / 20).observe(metrics("attached")[i])
        values.append((float(group["learning_rate"]), float(group["weight_decay"])))

    result, traces = train(optimizer, scheduled, compiled)
    assert plateau.memory["reductions"] >= 2
    plain = optim.AdamW(0.1, weight_decay=0.1)
    plain.init({"w": mx.ones((3,), mx.bfloat16)})

    def by_hand(i: int) -> None:
        plain.learning_rate, plain.weight_decay = values[i]

    expected, _ = train(plain, by_hand, compiled=False)
    assert traces == (1 if compiled else 20)
    assert result == (pytest.approx(expected, rel=0.01) if compiled else expected)


@pytest.mark.parametrize("attach_first", [False, True])
def test_checkpoints_hold_the_memory(attach_first: bool, tmp_path: Path) -> None:
    observed = metrics("checkpoint")[:30]
    optimizer, group, _ = attached()
    states, values = [], []
    for i, metric in enumerate(observed):
        path = str(tmp_path / f"{i}.safetensors")
        mx.save_safetensors(path, dict(tree_flatten(optimizer.state)))
        states.append(path)
        group.update(i / 30).observe(metric)
        values.append(group.snapshot())
    for at in range(0, 30, 3):
        again, resumed, _ = attached()
        if not attach_first:
            detach(again)
        loaded = mx.load(states[at])
        assert isinstance(loaded, dict)
        again.state = tree_unflatten(list(loaded.items()))
        resumed = resumed if attach_first else attach(again)
        rest = [resumed.update(i / 30).observe(observed[i]).snapshot() for i in range(at, 30)]
        assert rest == values[at:]


def test_a_checkpoint_of_a_plain_schedule_does_not_fit() -> None:
    optimizer, _, _ = attached(warm=False)
    state = dict(optimizer.state)
    other = optim.AdamW(Linear(0.1, 0.0), weight_decay=0.1 * Linear(0.1, 0.0))
    other.init({"w": mx.ones((3,))})
    plain = attach(other)
    names = {name.replace("/", ".") for name in state["scalars"]}
    assert set(plain) >= {name for name in names if "." not in name} - {"weight_decay"}
    with pytest.raises(
        ValueError, match="the scalars of this optimizer|must be saved from a scalar"
    ):
        other.state = state


def driven(compiled: bool, horizon: Horizon | None = None) -> Any:
    """Return an optimizer with adaptive rate, decay and momentum, its step and its group."""
    plateau = ReduceOnPlateau(CosineAnnealing(0.25), 0.5, patience=1, minimum=1e-3)
    switch = ThresholdSwitch([0.5, Linear(0.25, 0.75), 0.0], ["< 4", "< 3"])
    optimizer = optim.AdamW(Warmup(plateau, 0.3), betas=[0.5 + 0.25 * switch, 0.99])
    optimizer.weight_decay = 0.1 * plateau  # type: ignore[assignment]
    optimizer.init({"w": mx.ones((3,))})
    group = attach(optimizer, horizon=horizon, switch=switch)
    return optimizer, group, *step_of(optimizer, switch, compiled)


def step_of(optimizer: Any, switch: Any, compiled: bool) -> Any:
    """Return a step with the switch in its gradient, and the same counting its traces."""
    body = Traced(lambda w: optimizer.apply_gradients({"w": (2 - switch) * w}, {"w": w})["w"])
    state = [optimizer.state]
    return mx.compile(body, inputs=state, outputs=state) if compiled else body, body


METRICS = [5.0, 4.5, 4.6, 4.7, 3.5, 3.6, 2.9, 3.1, 3.2, 3.3, math.nan, 3.5, 2.0, 2.5, 2.6, 2.7]


@pytest.mark.parametrize("compiled", [False, True])
def test_driven_by_the_step_it_is_driven_by_the_loop(compiled: bool) -> None:
    """With a horizon nothing is updated; a metric changes the next step without a new trace."""
    total, results = len(METRICS), []
    for horizon in (None, Horizon(total)):
        _, group, step, body = driven(compiled, horizon)
        w, values = mx.array([1.0, 0.5, 0.25]), []
        for i, metric in enumerate(METRICS):
            if horizon is None:
                group.update(i / total)
            values.append(group.snapshot())
            w = step(w)
            mx.eval(w)
            group.observe(metric)
        results.append((w.tolist(), values))
        assert body.traces == (1 if compiled else total)
    (by_loop, values), (by_step, driven_values) = results
    assert by_step == pytest.approx(by_loop, rel=1e-5)
    for ours, theirs in zip(driven_values, values):
        assert ours == pytest.approx(theirs, rel=1e-12)
    assert len({value["learning_rate"] for value in values}) > 10
    assert values[-1]["switch"] == 0


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("attach_first", [False, True])
def test_driven_by_the_step_it_is_resumed(compiled: bool, attach_first: bool) -> None:
    horizon = Horizon(len(METRICS))

    def go_on(run: Any, w: mx.array, first: int, last: int) -> mx.array:
        for i in range(first, last):
            w = run[2](w)
            mx.eval(w, run[0].state)
            run[1].observe(METRICS[i])
        return w

    start = mx.array([1.0, 0.5, 0.25])
    whole = driven(compiled, horizon)
    expected = go_on(whole, start, 0, len(METRICS))
    for at in (0, 1, 4, 9):
        first, again = driven(compiled, horizon), driven(compiled, horizon)
        w = go_on(first, start, 0, at)
        saved = tree_unflatten([(k, mx.array(a)) for k, a in tree_flatten(first[0].state)])
        if attach_first:
            again[0].state = saved
        else:
            detach(again[0])
            again[0].state = saved
            again = (again[0], attach(again[0], horizon=horizon, switch=again[1]["switch"]))
        assert again[1].snapshot() == first[1].snapshot()
        step, _ = step_of(again[0], again[1]["switch"], compiled)
        w = go_on((again[0], again[1], step), w, at, len(METRICS))
        assert mx.array_equal(w, expected)


def test_driven_by_the_step_a_metric_counts_at_once() -> None:
    """The loss uses the logged value, also if a metric is observed between two steps."""
    _, group, step, _ = driven(False, Horizon(16))
    step(mx.array([1.0, 0.5, 0.25]))
    one = mx.array(1.0)
    assert (group["switch"] * one).item() == float(group["switch"]) == 0.5
    group.observe(3.9)
    assert float(group["switch"]) == 0.25 + 0.5 / 16
    assert (group["switch"] * one).item() == 0.25 + 0.5 / 16


def test_driven_by_the_step_and_detached() -> None:
    optimizer, group, step, _ = driven(False, Horizon(16))
    w = mx.array([1.0, 0.5, 0.25])
    for metric in (5.0, 5.0, 5.0, 3.5):
        w = step(w)
        group.observe(metric)
    values = group.snapshot()
    observed = {k for k, entry in optimizer.state["scalars"].items() if "observed" in entry}
    assert observed == {"learning_rate", "betas/0", "weight_decay"}
    with pytest.raises(ValueError, match="follows the step of an optimizer"):
        group.update(0.5)
    detach(optimizer)
    assert "scalars" not in optimizer.state
    assert group.snapshot() == values
    assert group["switch"].update(0.5).observe(2.0).at(0.1) == 0.0


def test_a_state_without_what_was_observed_is_refused() -> None:
    optimizer, _, _, _ = driven(False, Horizon(16))
    state = {k: v for k, v in optimizer.state.items() if k != "scalars"}
    with pytest.raises(ValueError, match="a state that holds the scalars"):
        optimizer.state = state
    for scalars in (
        {"betas/0": optimizer.state["scalars"]["betas/0"]},
        {"a": {"value": 1, "remainder": 2}},
    ):
        with pytest.raises(ValueError, match="must be the scalars of this optimizer"):
            optimizer.state = {**state, "scalars": scalars}


def test_observing_in_a_compiled_step_that_drives_it_is_refused() -> None:
    optimizer, group, _, _ = driven(False, Horizon(16))

    def step(w: mx.array) -> mx.array:
        group.observe(1.0)
        return w

    with pytest.raises(ValueError, match="while mx.compile traces a function that captures"):
        mx.compile(step, inputs=[optimizer.state])(mx.array(1.0))


def test_observing_while_traced_is_refused() -> None:
    plateau = ReduceOnPlateau(1.0, patience=0)
    lr = Warmup(plateau, 0.1).update(0.5)

    def step(x: mx.array) -> mx.array:
        plateau.observe(1.0)
        return lr * x

    before = dict(plateau.memory)
    with pytest.raises(ValueError, match="cannot be updated while mx.compile traces"):
        mx.compile(step, inputs=[lr.state])(mx.array(1.0))
    assert plateau.memory == before
    with pytest.raises(ValueError, match="metric must be known while tracing.*observe"):
        mx.compile(lambda x: plateau.observe(x) * x)(mx.array(1.0))
    assert plateau.memory == before


def test_comparisons_while_traced_answer_for_all_it_may_become() -> None:
    """The value is 1 and may fall to 0.25, so a comparison with 0.5 raises."""
    lr = Warmup(ReduceOnPlateau(1.0, minimum=0.25), 0.1, start=1.0)

    def compare(bound: float) -> Any:
        return mx.compile(lambda x: x if lr > bound else -x, inputs=[lr.state])(
            mx.array(1.0)
        ).item()

    assert (compare(0.2), compare(1.0), compare(2.0)) == (1, -1, -1)
    for bound in (0.25, 0.5):  # it may fall to them and stay there
        with pytest.raises(ValueError, match="different answers during the run"):
            compare(bound)
    assert lr.extent == (0.25, 1.0)
    assert float(lr) == 1.0


def test_in_a_plan_of_phases() -> None:
    plateau = ReduceOnPlateau(0.1, 0.5, patience=0)
    phases = Phases([Phase(1, lr=Linear(0.0, 0.1)), Phase(3, lr=plateau)])
    assert float(phases.update(0.5).group["lr"]) == 0.1
    phases.group.observe(1.0).observe(1.0)
    assert float(phases.group["lr"]) == 0.05


def test_in_a_plan_it_holds_on_in_later_phases() -> None:
    """In a later phase without a value, the end value continues to be reduced."""
    plateau = ReduceOnPlateau(Linear(0.2, 0.1), 0.5, patience=0)
    phases = Phases([Phase(1, lr=plateau), Phase(1, batch=2), Phase(1, batch=3)])
    phases.update(0.5)
    assert float(phases.group["lr"]) == pytest.approx(0.1)
    phases.group.observe(1.0).observe(1.0)
    assert float(phases.group["lr"]) == pytest.approx(0.05)
    phases.update(0.9)
    assert float(phases.group["lr"]) == pytest.approx(0.05)


def test_a_state_that_the_value_cannot_take_changes_nothing() -> None:
    """The progress and the memory are valid, and then a user's function fails."""

    def fragile(progress: float) -> float:
        if progress > 0.5:
            raise OSError("no more")
        return 1.0

    lr = ReduceOnPlateau(LambdaValue(fragile), 0.5, patience=0).observe(1.0)
    before = lr.state_dict()
    bad = {"progress": 0.9, "observed": [{**lr.memory, "reductions": 3}]}
    with pytest.raises(OSError, match="no more"):
        lr.load_state_dict(bad)
    assert lr.state_dict() == before
    assert float(lr) == 1.0


def test_dead_owners_are_forgotten() -> None:
    import gc

    plateau = ReduceOnPlateau(1.0)
    for _ in range(100):
        Warmup(plateau, 0.1)
    gc.collect()
    assert len(plateau.owners) == 1  # itself
