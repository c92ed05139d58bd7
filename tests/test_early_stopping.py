"""EarlyStopping decides when to stop and when to save, as in Keras and Lightning."""

from __future__ import annotations

import json
import math
import pickle

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest

from scalars import EarlyStopping, Horizon, Linear, ScalarGroup, attach

from .helpers import Traced, reloaded


class Keras:
    """The rule of ``keras.callbacks.EarlyStopping``, written from its documentation."""

    def __init__(self, patience: int, mode: str, min_delta: float) -> None:
        self.patience = patience
        self.sign = 1 if mode == "max" else -1
        self.min_delta = min_delta
        self.best, self.wait = math.nan, 0

    def __call__(self, metric: float) -> tuple[bool, bool]:
        """Return whether the metric is an improvement, and whether training stops."""
        better = self.sign * (metric - self.best) > self.min_delta
        improved = math.isfinite(metric) and (math.isnan(self.best) or better)
        if improved:
            self.best, self.wait = metric, 0
        else:
            self.wait += 1
        return improved, self.wait >= self.patience


@pytest.mark.parametrize("min_delta", [0.0, 0.25])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("patience", [1, 2, 7])
def test_it_is_the_rule_of_keras(patience: int, mode: str, min_delta: float) -> None:
    random = np.random.default_rng(patience)
    metrics = random.choice([*random.normal(size=40), math.nan, math.inf, -math.inf], 500)
    rule = Keras(patience, mode, min_delta)
    stop = EarlyStopping(patience, mode, min_delta)
    stopped = 0
    for metric in map(float, metrics):
        improved, stops = rule(metric)
        stop.observe(metric)
        assert (stop.improved, bool(stop), float(stop)) == (improved, stops, float(stops))
        assert stop.patience_left == max(patience - rule.wait, 0)
        stopped += stops
    assert 0 < stopped < 500


def test_before_the_first_metric() -> None:
    stop = EarlyStopping(2)
    assert (stop.improved, stop.best, bool(stop), stop.patience_left) == (False, None, False, 2)
    stop.observe(math.nan)
    assert (stop.improved, stop.best, stop.patience_left) == (False, None, 1)


def test_the_threshold_may_be_a_part_of_the_best() -> None:
    stop = EarlyStopping(3, threshold=0.1, threshold_mode="rel")
    assert [stop.observe(x).improved for x in (10.0, 9.1, 8.9, 8.1, 8.0)] == [1, 0, 1, 0, 1]


def test_it_is_saved_and_goes_on() -> None:
    stop = EarlyStopping(3).observe(1.0).observe(2.0)
    group = ScalarGroup(stop=EarlyStopping(3))
    group.load_state_dict(json.loads(json.dumps(ScalarGroup(stop=stop).state_dict())))
    for one in (group["stop"], pickle.loads(pickle.dumps(stop))):
        assert (one.best, one.patience_left, bool(one)) == (1.0, 2, False)
        assert [bool(one.observe(3.0)) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("by_step", [False, True])
def test_it_rides_in_an_optimizer_and_in_compiled_functions(by_step: bool) -> None:
    def start() -> tuple[optim.SGD, EarlyStopping, ScalarGroup]:
        optimizer, stop = optim.SGD(Linear(1.0, 0.0)), EarlyStopping(2)
        optimizer.init({"w": mx.zeros(1)})
        return (
            optimizer,
            stop,
            attach(optimizer, horizon=Horizon(9) if by_step else None, stop=stop),
        )

    optimizer, stop, group = start()
    body = Traced(lambda x: (1 - stop) * x)
    function = mx.compile(body, inputs=[optimizer.state])
    seen = []
    for metric in (3.0, 4.0, 5.0, 1.0):
        group.observe(metric)
        seen.append((function(mx.array(2.0)).item(), stop.improved))
    assert seen == [(2.0, True), (2.0, False), (0.0, False), (2.0, True)]
    assert body.traces == 1
    group.observe(2.0)
    other, resumed, _ = start()
    other.state = reloaded(optimizer.state)
    assert (resumed.best, resumed.patience_left) == (1.0, 1)
