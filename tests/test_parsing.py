"""``parse`` reads every repr and rejects everything outside the language."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from scalars import (
    CosineAnnealing,
    Linear,
    Phase,
    Phases,
    ScalarGroup,
    Schedule,
    parse,
    register,
)
from scalars.checks import Real
from scalars.tools.registry import REGISTERED

from .cases import CASES, Case

GRID = [i / 97 for i in range(98)]
WRITTEN = [case for case in CASES if "LambdaValue" not in str(case) and ".astype" not in str(case)]


@pytest.mark.parametrize("case", WRITTEN, ids=str)
def test_every_repr_comes_back(case: Case) -> None:
    scalar, again = case.make(), parse(repr(case.make()))
    assert repr(again) == repr(scalar)
    assert isinstance(again, type(scalar))
    assert [again.at(p) for p in GRID] == [scalar.at(p) for p in GRID]


def test_groups_and_plans_come_back() -> None:
    group = ScalarGroup({"lr": Linear(0.1, 0.0) * 2, "layers.0.p": CosineAnnealing(0.1)})
    assert repr(parse(repr(group))) == repr(group)
    plan = Phases([Phase(1, lr=Linear(0.0, 0.1), size=[8, 8], name="a"), Phase(2, batch=64)])
    again = parse(repr(plan))
    assert repr(again) == repr(plan)
    assert isinstance(again, Phases)
    assert again.update(0.5).current == {"size": [8, 8], "name": "a", "batch": 64}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        # By hand, at 0, 1/2 and 1.
        ("0.1", [0.1, 0.1, 0.1]),
        ("-3", [-3, -3, -3]),
        ("100 / 1000 + 2**-1", [0.6, 0.6, 0.6]),
        ("Linear(1, 0)", [1, 0.5, 0]),
        (" Linear(end=0, start=2 * 3)\n", [6, 3, 0]),
        ("1 - Linear(0, 1) ** 2", [1, 0.75, 0]),
        ("-Linear(1, 2) / 4 + 7 % 4", [2.75, 2.625, 2.5]),
        ("3 // 2 * abs(Linear(-1, 1))", [1, 0, 1]),
        ("clip(Linear(0, 1), 0.2, 0.4)", [0.2, 0.4, 0.4]),
        ("maximum(Linear(0, 1), 0.25) + minimum(1, Linear(0, 4))", [0.25, 1.5, 2]),
        ("exp(Linear(0, 2)) - exp(1)", [1 - math.e, 0, math.e**2 - math.e]),
        ("log(Linear(1, 3)) / log(3) + sqrt(4)", [2, 2 + math.log(2) / math.log(3), 3]),
        ("floor(Linear(0, 3)) + tanh(0) + cos(Linear(0, 0)) * sin(0)", [0, 1, 3]),
        ("Sequence([Linear(0, 1), 1.0], [200 / 400])", [0, 1, 1]),
        ("Warmup(1.0, fraction=0.5, curve='cosine')", [0, 1, 1]),
        ("Repeat(Linear(1, 0), 2 * 2)", [1, 1, 0]),
        ("ThresholdSwitch([Linear(0, 1), 2], ['< 0.5'])", [0, 0.5, 1]),
    ],
)
def test_the_language(text: str, values: list[float]) -> None:
    scalar: Any = parse(text)
    assert [scalar.at(p) for p in (0, 0.5, 1)] == pytest.approx(values, rel=1e-12)


REFUSED = "must be made of calls by name, numbers, texts, lists and arithmetic, got"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "text must be an expression: .* Write it as repr"),
        ("Linear(1, 0", ValueError, "text must be an expression: .*at column"),
        ("Linear(1, 0))", ValueError, "text must be an expression"),
        ("Linaer(1, 0)", ValueError, "that of a schedule, got 'Linaer'. Did you mean Linear?"),
        ("1 + nothing(2)", ValueError, "the name at column 5 must be that of a schedule"),
        ("nothing", ValueError, "text at column 1 must be made of calls by name.*got 'nothing'"),
        ("LambdaValue(3)", ValueError, "that of a schedule without functions, got 'LambdaValue'"),
        ("Linear(1)", ValueError, r"called as Linear\(start, end\), got .missing a required argument: 'end'"),
        ("Linear(1, 0, ende=2)", ValueError, "got an unexpected keyword argument 'ende'"),
        ("log(0)", ValueError, "the argument of log must be above 0, got 0"),
        ("exp(1000)", ValueError, r"x of exp must be a number for which exp\(x\) is finite, got 1"),
        ("sqrt(Linear(1, -1))", ValueError, r"sqrt\(Linear.* at progress 0.5.* must be a finite"),
        ("exp('a')", TypeError, "exp must be given numbers, scalars or an mx.array, got 'a'"),
        ("1 + Linear(start=1, start=2, end=0)", ValueError,
         "text at column 5 must be written with each argument once, got 'start, start, end'"),
        ("Linear(1, 'a')", TypeError, "end of Linear must be a finite real number, got 'a'"),
        ("Linear(1, True)", TypeError, "end of Linear must be a finite real number, got True"),
        ("Linear(1, 1e999)", ValueError, "end of Linear must be a finite real number, got inf"),
        ("Warmup(1.0, 2)", ValueError, "fraction of Warmup must be a fraction"),
        ("Linear(0, 1).at(0.5)", ValueError, r"got 'Linear\(0, 1\).at\(0.5\)'"),
        ("Linear.__class__", ValueError, REFUSED),
        ("(lambda: 1)()", ValueError, REFUSED),
        ("Linear(*[1, 2])", ValueError, REFUSED),
        ("Linear(**{'start': 1})", ValueError, REFUSED),
        ("[x for x in (1, 2)]", ValueError, REFUSED),
        ("__import__('os').system('true')", ValueError, REFUSED),
        ("__import__('os')", ValueError, "that of a schedule, got '__import__'"),
        ("eval('1')", ValueError, "that of a schedule, got 'eval'"),
        ("open('x')", ValueError, "that of a schedule, got 'open'"),
        ("f'{1}'", ValueError, REFUSED),
        ("b'1'", ValueError, REFUSED),
        ("1j", ValueError, REFUSED),
        ("Linear(0, 1)[0]", ValueError, REFUSED),
        ("Linear(0, 1) if 1 else 2", ValueError, REFUSED),
        ("Linear(0, 1) @ 2", ValueError, REFUSED),
        ("~Linear(0, 1)", ValueError, REFUSED),
        ("{1: 2}", ValueError, REFUSED),
        ("{**{}}", ValueError, REFUSED),
        ("x := 1", ValueError, "an expression"),
        ("import os", ValueError, "an expression"),
        ("Linear(0, 1); 2", ValueError, "an expression"),
        ("1 / 0", ValueError, "text at column 1 must be computable, got 'division by zero'"),
        ("1e300 * 1e300 * Linear(0, 1)", ValueError, "an operand at column 1 must be a finite"),
        ("9 ** 9 ** 9 ** 9", ValueError, "computable|finite"),
        ("(-8) ** 0.5", ValueError, "the base of a power must be at least 0"),
        ("'a' + 'b'", TypeError, "an operand at column 1 must be a finite real number, got 'a'"),
        ("[1] * 3", TypeError, "an operand at column 1 must be"),
        ("'Linear(0, 1)'", ValueError, "text must be a schedule, got"),
        ("None", ValueError, "text must be a schedule"),
        ("True", ValueError, "text must be a schedule"),
        ("[Linear(0, 1)]", ValueError, "text must be a schedule"),
        ("Phase(1, lr=Linear(0, 1))", ValueError, "text must be a schedule"),
        ("Warmup(1 / Linear(0, 1), 0.5)", ValueError, "at progress 0 must be a finite number, got Zero"),
        ("1" * 5000, ValueError, "text must be an expression"),
        ("Linear(0, 1)\0", ValueError, "text must be an expression"),
        ("Linear * 2", ValueError, "the name at column 1 must be called with its arguments, got 'Linear'. Write Linear"),
        ("cosine(0.1)", ValueError, r"got 'cosine'. Call from_name\('cosine', peak, total_steps\)"),
        (3, TypeError, "text must be a string, got 3"),
        (b"Linear(0, 1)", TypeError, "text must be a string"),
    ],
)  # fmt: skip
def test_everything_else_is_refused(text: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "1 + " * 3_000_000 + "1",
        "(" * 10_000_000,
        "-" * 19_000 + "1",
        "1 + " * 4000 + "1",
        "[" * 9_000,
        "Warmup(" * 60 + "1" + ", 0.1)" * 60,
        "Reversed(" * 1500 + "1" + ")" * 1500,
    ],
    ids=lambda text: f"{text[:9]}x{len(text)}",
)
def test_long_and_deep_texts_are_refused_at_once(text: str) -> None:
    begin = time.perf_counter()
    with pytest.raises(ValueError, match="text must be (at most|nested|an expression)"):
        parse(text)
    assert time.perf_counter() - begin < 5  # any result, but it must not hang


def test_fifty_levels_are_fine() -> None:
    assert parse("Reversed(" * 40 + "Linear(0, 1)" + ")" * 40).at(0.25) == 0.25


class Bump(Schedule):
    """A user's schedule."""

    height: Real

    def value_at(self, progress: Any) -> Any:
        """Return height 4 p (1 - p)."""
        return self.height * 4 * progress * (1 - progress)


@pytest.fixture
def registered() -> None:
    register("Bump", Bump)
    register("halves", lambda peak=1.0: Linear(peak, peak / 2))
    register("wrong", lambda: "text")


@pytest.mark.usefixtures("registered")
def test_the_users_own() -> None:
    assert parse("Bump(height=3) + halves(2)").at(0.5) == 4.5
    assert repr(parse("Bump(2)")) == "Bump(height=2)"
    register("Bump", Bump)
    with pytest.raises(ValueError, match="wrong at column 1 must be a factory of scalars, got 'te"):
        parse("wrong()")
    for name, factory, error, message in (
        ("Linear", Bump, ValueError, "name must be unused, got 'Linear'"),
        ("Bump", Linear, ValueError, "name must be unused, got 'Bump'"),
        ("a b", Bump, ValueError, "name must be a Python identifier, got 'a b'"),
        (3, Bump, TypeError, "name must be a string, got 3"),
        ("other", 3, TypeError, "factory must be a function, got 3"),
    ):
        with pytest.raises(error, match=message):
            register(name, factory)  # type: ignore[arg-type]
    assert set(REGISTERED) == {"Bump", "halves", "wrong"}
