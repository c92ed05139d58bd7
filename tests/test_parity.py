"""The numbers of other libraries, at every step: the table in ``scalars.schedules``.

The values in ``golden/peers.json`` were made by ``golden/make.py``, with the versions that the
file records.
"""

from __future__ import annotations

import json
import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import scalars
from scalars import Horizon
from scalars.adaptive.base import Adaptive
from scalars.tools.peers import rows

from .golden.make import BEYOND, FILE, PARAMETERS
from .helpers import public_names

GOLDEN = json.loads(FILE.read_text())
ROWS = rows()
# The beginnings of the rows that are computed in float32.
SINGLE = (
    *(f"{library} | " for library in ("optax", "MLX", "Keras", "TensorFlow", "Levanter")),
    *(f"{library} | " for library in ("MaxText", "EasyLM", "BYOL")),
    "fastai | comb",
)
# Libraries that have no value at step T, or another one, by what they do there.
AT_T = {
    "OneCycleLR": "ends at step T - 1",
    "TanhLRScheduler": "jumps to its end",
    "CosineAnnealingScheduler": "starts again: it never gives its end",
    "_warmup(opt, w, T, 1.5)": "is 0",
}
# Schedules that continue after step T. The others keep their last value, as here.
AFTER_T = {
    **AT_T,
    "CosineAnnealingLR": "rises again",
    "CosineAnnealingWarmRestarts": "goes on",
    "CyclicLR": "goes on",
    "ExponentialLR": "goes on",
    "StepLR(": "goes on",
    "ChainedScheduler": "goes on",
    "warmup_exponential_decay": "goes on",
    "LambdaLR": "goes on",
    "MultiplicativeLR": "goes on",
    "exponential_decay": "goes on",
    "step_decay": "goes on",
    "CosineDecayRestarts": "goes on",
    "ExponentialDecay": "goes on",
    "InverseTimeDecay": "goes on",
    "get_cosine_schedule": "rises again",
    "get_cosine_with_min_lr": "rises again",
    "get_inverse_sqrt": "goes on",
    "cycle_limit=9": "goes on",
    "StepLRScheduler(opt, n": "goes on",
    "LinearCyclicalScheduler": "goes on",
    "cycle=True": "goes on",
}


def matches(row: str, table: dict[str, str]) -> bool:
    return any(part in row for part in table)


def ours(text: str, parameters: dict[str, Any]) -> tuple[scalars.ScheduledScalar, Horizon]:
    """Return the scalar of a row, and the horizon in its comment."""
    formula, _, horizon = text.partition(" # ")
    names = {**public_names(), "pi": math.pi, **parameters}
    return eval(formula, names), eval(horizon or "Horizon(T)", names)


every_row = pytest.mark.parametrize(("library", "theirs", "here"), ROWS, ids=lambda x: x)


@every_row
@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda p: f"T={p['T']}")
def test_every_step(library: str, theirs: str, here: str, parameters: dict[str, Any]) -> None:
    total = parameters["T"]
    values = GOLDEN["values"][f"{library} | {theirs}"][PARAMETERS.index(parameters)]
    schedule, horizon = ours(here, parameters)
    last = total - 1 if library not in BEYOND or matches(theirs, AT_T) else total
    if library in BEYOND and not matches(theirs, AFTER_T):
        last = total + 3
    compared = values[: last + 1]
    assert len(compared) >= total
    top = max(map(abs, compared))
    for step, value in enumerate(compared):
        # In double precision 1e-12 of the value, plus the rounding error of the largest value
        # where two values nearly cancel. In single precision 5e-7 of the largest value.
        single = f"{library} | {theirs}".startswith(SINGLE)
        tolerance = 5e-7 * top if single else 1e-12 * abs(value) + 2e-16 * top
        found = schedule.at(horizon.progress(step))
        assert found == pytest.approx(value, rel=0, abs=tolerance), step


@every_row
def test_every_step_in_a_graph(library: str, theirs: str, here: str) -> None:
    parameters = PARAMETERS[2]
    values = GOLDEN["values"][f"{library} | {theirs}"][2][: int(parameters["T"])]
    schedule, horizon = ours(here, parameters)
    graph = np.array(schedule.at(horizon.progress(mx.arange(len(values)))))
    np.testing.assert_allclose(graph, values, rtol=2e-5, atol=2e-6 * max(map(abs, values)))


def test_the_golden_file_is_that_of_the_table() -> None:
    assert list(GOLDEN["values"]) == [f"{library} | {theirs}" for library, theirs, _ in ROWS]
    assert set(GOLDEN["versions"]) == {library for library, _, _ in ROWS}


def test_every_schedule_is_in_the_table_or_has_no_counterpart() -> None:
    text = " ".join(here for _, _, here in ROWS)
    alone = {"Reversed", "ScheduledScalar", "Schedule"}
    for name, value in public_names().items():
        if isinstance(value, type) and issubclass(value, scalars.Schedule):
            if issubclass(value, (Adaptive, scalars.DynamicLossScale)):
                continue  # adaptive scalars have other tests
            assert name in alone or f"{name}(" in text, name
