"""Schedules by the names of Hugging Face and SambaFlow."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scalars import Horizon, from_name
from scalars.tools.names import NAMES

from .test_parity import GOLDEN, PARAMETERS

# The name, its arguments, and the row of the golden table with its values.
HUGGING_FACE = [
    ("constant", {}, "get_constant_schedule(opt)"),
    ("constant_with_warmup", {"warmup_steps": "w"}, "get_constant_schedule_with_warmup(opt, w)"),
    ("linear", {"warmup_steps": "w"}, "get_linear_schedule_with_warmup(opt, w, T)"),
    ("cosine", {"warmup_steps": "w"}, "get_cosine_schedule_with_warmup(opt, w, T)"),
    (
        "cosine_with_restarts",
        {"warmup_steps": "w", "num_cycles": 3},
        "get_cosine_with_hard_restarts_schedule_with_warmup(opt, w, T, 3)",
    ),
    (
        "cosine_with_min_lr",
        {"warmup_steps": "w", "end_ratio": "e / s"},
        "get_cosine_with_min_lr_schedule_with_warmup(opt, w, T, min_lr=e)",
    ),
    (
        "polynomial",
        {"warmup_steps": "w", "end_ratio": "e / s", "power": "k"},
        "get_polynomial_decay_schedule_with_warmup(opt, w, T, e, k)",
    ),
    ("inverse_sqrt", {"warmup_steps": "w"}, "get_inverse_sqrt_schedule(opt, w)"),
    (
        "warmup_stable_decay",
        {"warmup_steps": "w", "decay_steps": "n"},
        "get_wsd_schedule(opt, w, n, T)",
    ),
    (
        "cosine_warmup_with_min_lr",
        {"warmup_steps": "w", "end_ratio": "e / s"},
        "get_cosine_with_min_lr_schedule_with_warmup_lr_rate(opt, w, T, min_lr=e)",
    ),
]


@pytest.mark.parametrize(("name", "arguments", "row"), HUGGING_FACE)
@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda p: f"T={p['T']}")
def test_hugging_face(
    name: str, arguments: dict[str, Any], row: str, parameters: dict[str, Any]
) -> None:
    given = {k: eval(v, {}, parameters) if isinstance(v, str) else v for k, v in arguments.items()}
    total = parameters["T"]
    schedule = from_name(name, parameters["s"], total, **given)
    values = GOLDEN["values"].get(f"transformers | {row}")
    values = by_hand(parameters) if values is None else values[PARAMETERS.index(parameters)]
    for step in range(total + 1 if name != "cosine_warmup_with_min_lr" else total):
        assert schedule.at(step / total) == pytest.approx(values[step], rel=1e-12, abs=0), step


def by_hand(parameters: dict[str, Any]) -> list[float]:
    """The formula of cosine_warmup_with_min_lr, from its source."""
    total, warmup, s, least = parameters["T"], parameters["w"], parameters["s"], parameters["e"]
    values = []
    for step in range(total):
        if step < warmup:
            values.append(s * (step + 1) / warmup)
        else:
            done = (step - warmup + 1) / (total - warmup)
            values.append(least + (s - least) * (1 + math.cos(math.pi * done)) / 2)
    return values


def test_sambaflow() -> None:
    """Cosine ends at a tenth of the peak, polynomial is linear and ends at 0, fixed is fixed."""
    cosine = from_name("cosine_schedule_with_warmup", 2.0, 100, warmup_steps=20)
    assert [cosine.at(p) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 1, 2, 1.1, 0.2])
    line = from_name("polynomial_decay_schedule_with_warmup", 2.0, 100, warmup_steps=20)
    assert [line.at(p) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 1, 2, 1, 0])
    other = from_name("polynomial_decay_schedule_with_warmup", 2.0, Horizon(100), end_ratio=0.5)
    assert [other.at(p) for p in (0, 0.5, 1)] == pytest.approx([2, 1.5, 1])
    assert [from_name("fixed_lr", 2.0, 100).at(p) for p in (0, 1)] == [2, 2]


def test_reduce_lr_on_plateau() -> None:
    """Hugging Face uses PyTorch's plateau; the warm-up is an addition."""
    plain = from_name("reduce_lr_on_plateau", 0.1, 100, factor=0.5, patience=1, end_ratio=0.3)
    assert (
        repr(plain)
        == "ReduceOnPlateau(value=Constant(value=0.1), factor=0.5, patience=1, minimum=0.03)"
    )
    assert [float(plain.observe(1.0)) for _ in range(5)] == [0.1, 0.1, 0.05, 0.05, 0.03]
    warm = from_name("reduce_lr_on_plateau", 0.1, 100, warmup_steps=10)
    assert float(warm.update(0.05)) == 0.05


def test_every_name_is_tested() -> None:
    tested = {name for name, _, _ in HUGGING_FACE} | {
        "reduce_lr_on_plateau",
        "greedy",  # in test_rules.py
        "fixed_lr",
        "cosine_schedule_with_warmup",
        "polynomial_decay_schedule_with_warmup",
    }
    assert tested == set(NAMES)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("cosin", 1.0, 10), ValueError, "name must be one of 'constant', .*, got 'cosin'"),
        ((3, 1.0, 10), TypeError, "name must be one of"),
        (("cosine", 0.0, 10), ValueError, "peak must be a finite real number above 0, got 0.0"),
        (("cosine", 1.0, 0), ValueError, "total_steps of Horizon must be"),
        (("cosine", 1.0, 10, 11), ValueError, "steps must be from 0 to total_steps, 10, got 11"),
        (("cosine", 1.0, 10, 0, 1.5), ValueError, "end_ratio must be a fraction"),
        (("fixed_lr", 1.0, 10, 5), ValueError, "must be left out for 'fixed_lr'"),
        (("cosine_with_min_lr", 1.0, 10), ValueError, "end_ratio must be given"),
        (
            ("constant_with_warmup", 1.0, 10, 2, 0.5),
            ValueError,
            "end_ratio must be left out for 'cons",
        ),
        (
            ("inverse_sqrt", 1.0, 10, 2, 0.5),
            ValueError,
            "end_ratio must be left out for 'inverse_sq",
        ),
        (("warmup_stable_decay", 1.0, 10), ValueError, "decay_steps must be given"),
    ],
)
def test_bad_input(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_name(*arguments)


def test_unknown_options() -> None:
    message = "an option must be one that 'polynomial' takes: power, got 'num_cycles'"
    with pytest.raises(ValueError, match=message):
        from_name("polynomial", 1.0, 10, num_cycles=2)
