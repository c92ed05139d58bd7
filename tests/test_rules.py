"""Greedy, NewBob and plateaus give the rates of other libraries after every metric.

The rates in ``golden/rules.json`` were made by ``golden/make_rules.py``.
"""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import pytest

from scalars import (
    Greedy,
    Horizon,
    NewBob,
    ReduceOnPlateau,
    ScalarGroup,
    ScheduledScalar,
    Sequence,
    Warmup,
    attach,
    from_config,
    from_name,
    parse,
    to_config,
)

from . import golden
from .rule_cases import METRICS, RULES, SINGLE, seen

GOLDEN = golden.read("rules.json")
CASES = [(rule, theirs, ours) for rule, cases in RULES.items() for theirs, ours in cases]
OURS: dict[str, Callable[..., ScheduledScalar]] = dict(
    zip(RULES, (Greedy, NewBob, ReduceOnPlateau, ReduceOnPlateau), strict=True)
)


@pytest.mark.parametrize(("rule", "theirs", "ours"), CASES, ids=str)
def test_every_metric(rule: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """The same rate after each of hundreds of metrics, NaN among them."""
    name = f"{rule} {theirs}"
    changes, scalar = dict(map(tuple, GOLDEN[name])), OURS[rule](0.1, **ours)
    assert changes
    values, expected = seen(rule, theirs), 0.1
    assert len(values) >= METRICS * 0.9
    tolerance, least = (1e-6, 1e-38) if rule in SINGLE else (1e-12, 0)
    for i, metric in enumerate(values):
        expected = changes.get(i, expected)
        assert float(scalar.observe(metric)) == pytest.approx(expected, tolerance, least), i


def test_greedy_by_its_name() -> None:
    """Called as in transformers, with its options as ours."""
    theirs, ours = RULES["transformers GreedyLR"][4]
    expected, changes = 0.1, dict(map(tuple, GOLDEN[f"transformers GreedyLR {theirs}"]))
    lr = from_name("greedy", 0.1, 1000, **ours)
    for i, metric in enumerate(seen("transformers GreedyLR", theirs)):
        expected = changes.get(i, expected)
        assert float(lr.observe(metric)) == pytest.approx(expected, rel=1e-12, abs=0)
    assert repr(from_name("greedy", 0.1, 1000)) == "Greedy(start=0.1)"
    assert repr(from_name("greedy", 0.1, 1000, end_ratio=0.5)) == "Greedy(start=0.1, minimum=0.05)"
    warm = from_name("greedy", 0.1, 1000, warmup_steps=100, patience=0, factor=0.5)
    warm.update(0.05).observe(2.0).observe(1.0)  # not yet counted
    assert float(warm) == 0.05
    assert float(warm.update(0.5).observe(2.0)) == 0.2
    with pytest.raises(ValueError, match="an option must be one that 'greedy' takes: factor, pat"):
        from_name("greedy", 0.1, 1000, start=1.0)


MADE: list[Callable[[], ScheduledScalar]] = [
    lambda: Greedy(0.1, 0.5, patience=1, cooldown=1, warmup=2, minimum=0.02, reset_after=3),
    lambda: NewBob(0.1, 0.7, patience=2),
    lambda: ReduceOnPlateau(0.1, 0.7, patience=1, cooldown=3, best_in_cooldown=False),
    lambda: Warmup(Sequence([Greedy(0.1, patience=0), NewBob(2.0)], [0.5]) * NewBob(1.0), 0.1),
]
VALUES = [x for x in seen("transformers GreedyLR", {}) if math.isfinite(x)][:120] + [math.nan] * 3


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("way", ["state", "pickle", "deepcopy", "text", "config"])
def test_saved_in_mid_run(make: Callable[[], ScheduledScalar], way: str) -> None:
    """A copy that takes over after any metric gives the same rates."""
    whole = make().update(0.6)
    for i, metric in enumerate(VALUES):
        whole.observe(metric)
        if i % 17 == 0:
            state = json.loads(json.dumps(whole.state_dict()))
            again: Any = {
                "state": make,
                "pickle": lambda: pickle.loads(pickle.dumps(whole)),
                "deepcopy": lambda: copy.deepcopy(whole),
                "text": lambda: parse(repr(whole)),
                "config": lambda: from_config(to_config(whole)),
            }[way]()
            if way in ("state", "text", "config"):
                again.load_state_dict(state)
            assert float(again) == float(whole)
            assert again.state_dict() == state
            for later in VALUES[i + 1 : i + 40]:
                again.observe(later)
            expected = make().update(0.6)
            for earlier in VALUES[: i + 40]:
                expected.observe(earlier)
            assert float(again) == float(expected)


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("horizon", [None, Horizon(len(VALUES))])
def test_in_a_compiled_step_and_its_checkpoint(
    make: Callable[[], ScheduledScalar], horizon: Horizon | None
) -> None:
    """The weights equal those with floats set by hand, also after a checkpoint."""
    lr, rates = make(), make()
    optimizer = optim.SGD(lr)
    weights = {"w": mx.array([1.0, -2.0])}
    optimizer.init(weights)
    group = attach(optimizer, horizon=horizon)

    def step(weights: dict[str, mx.array]) -> dict[str, mx.array]:
        new: dict[str, mx.array] = optimizer.apply_gradients({"w": 0.01 * weights["w"]}, weights)
        return new

    compiled = mx.compile(step, inputs=optimizer.state, outputs=optimizer.state)
    by_hand, floats = dict(weights), optim.SGD(0.1)
    floats.init(by_hand)
    reference = mx.compile(
        lambda w: floats.apply_gradients({"w": 0.01 * w["w"]}, w),
        inputs=floats.state,
        outputs=floats.state,
    )
    for i, metric in enumerate(VALUES):
        progress = i / len(VALUES)
        if horizon is None:
            group.update(progress)
        floats.learning_rate = float(rates.update(progress))
        weights, by_hand = compiled(weights), reference(by_hand)
        assert mx.array_equal(weights["w"], by_hand["w"])
        group.observe(metric)
        if horizon is not None:  # after this step the warm-up may be over
            rates.update((i + 1) / len(VALUES))
        rates.observe(metric)
        if i == 60:  # loading undoes the observations since
            saved = {**optimizer.state["scalars"]}
            saved = {k: {n: mx.array(a) for n, a in v.items()} for k, v in saved.items()}
            group.observe(VALUES[0]).observe(VALUES[1])
            optimizer.state["scalars"] = saved


def test_what_is_not_finite() -> None:
    bob = NewBob(1.0, patience=1)
    for metric in (math.nan, 2.0, math.inf, 1.0, -math.inf):
        bob.observe(metric)
    assert bob.memory == {"previous": 1.0, "bad": 1, "reductions": 1}
    greedy = Greedy(0.5, patience=5).observe(1.0)
    for metric in (math.nan, math.inf, -math.inf):
        greedy.observe(metric)
    assert (greedy.memory["best"], greedy.memory["bad"]) == (1.0, 3)


def test_ranges_hold_all_they_may_become() -> None:
    greedy = Greedy(0.1, 0.5, patience=0, minimum=0.01, maximum=0.7)
    bob = NewBob(0.4, 0.5)
    assert greedy.bounds == (0.01, 0.7)
    assert bob.bounds == (0, 0.4)
    group = ScalarGroup(greedy=greedy, bob=bob)
    seen_values = []
    for metric in [*range(20, 0, -1), *[5] * 20]:
        group.observe(metric)
        seen_values.append(float(greedy))
        assert 0 <= float(bob) <= 0.4
    assert (min(seen_values), max(seen_values)) == (0.01, 0.7)


def test_new_bob_is_for_metrics_that_are_not_negative() -> None:
    bob = NewBob(1.0)
    bob.observe(0.0)
    with pytest.raises(ValueError, match="metric of NewBob must be at least 0, got -1.0"):
        bob.observe(-1.0)
    assert bob.memory == {"previous": 0.0, "bad": 0, "reductions": 0}
