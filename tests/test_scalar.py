"""A scalar is a real number for Python and NumPy."""

from __future__ import annotations

import fractions
import gc
import json
import math
import numbers
import operator
import statistics
import weakref
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from scalars import Constant, CosineAnnealing, Linear, ScheduledScalar, minimum

BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
NUMBERS = [
    2,
    0.3,
    -1.5,
    True,
    fractions.Fraction(1, 4),
    np.float64(0.7),
    np.float32(0.5),
    np.int64(3),
]


@pytest.mark.parametrize("operation", BINARY)
@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_arithmetic_is_that_of_floats_and_stays_live(operation: Any, number: Any) -> None:
    scalar = Linear(0.25, 4.0)
    right, left = operation(scalar, number), None
    if float(number) > 0 or operation is not operator.pow:
        left = operation(number, scalar)
    for progress in (0, 0.3, 1):
        value = float(scalar.update(progress))
        assert float(right) == operation(value, float(number))
        if left is not None:
            assert isinstance(left, ScheduledScalar)
            assert float(left) == operation(float(number), value)


@pytest.mark.parametrize("operation", [operator.neg, operator.pos, operator.abs])
def test_unary_arithmetic(operation: Any) -> None:
    scalar = Linear(-1.0, 1.0)
    result = operation(scalar)
    for progress in (0, 0.25, 1):
        value = float(scalar.update(progress))
        assert float(result) == operation(value)


@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("number", [0.25, 0.3, 1, -1.0, np.float64(0.25), fractions.Fraction(1, 4)])
def test_comparisons_answer_with_the_value_now(compare: Any, number: Any) -> None:
    scalar = Linear(0.25, 0.5)
    for progress in (0, 0.2, 1):
        value = float(scalar.update(progress))
        assert compare(scalar, number) is compare(value, float(number))
        assert bool(compare(number, scalar)) is compare(float(number), value)
    assert compare(scalar, Constant(0.5)) is compare(0.5, 0.5)


def test_other_types_are_refused_as_floats_refuse_them() -> None:
    scalar = Linear(0.25, 0.5)
    for other in ("x", None, [1.0]):
        for operation in (*BINARY, *COMPARISONS[:4]):
            with pytest.raises(
                TypeError, match="unsupported operand|not supported between|can't multiply"
            ):
                operation(scalar, other)
        assert (scalar == other) is False
        assert (scalar != other) is True
    with pytest.raises(TypeError, match="unsupported operand"):
        scalar * 1j
    with pytest.raises(ValueError, match="at progress 0 must be a finite number, got ZeroDivision"):
        1 / (scalar - 0.25)
    with pytest.raises(ValueError, match="base of a power must be at least 0"):
        float((scalar - 1) ** 0.5)


def test_numbers_protocol() -> None:
    scalar = Linear(2.7, 3.0)
    assert isinstance(scalar, numbers.Real)
    assert not isinstance(scalar, float)
    assert (int(scalar), round(scalar), round(scalar, 1)) == (2, 3, 2.7)
    assert (math.trunc(scalar), math.floor(scalar), math.ceil(scalar)) == (2, 2, 3)
    assert math.sqrt(scalar) == math.sqrt(2.7)
    assert math.isclose(scalar, 2.7)
    assert divmod(scalar, 2) == divmod(2.7, 2)
    assert divmod(10, scalar) == divmod(10, 2.7)
    assert scalar.as_integer_ratio() == (2.7).as_integer_ratio()
    assert (scalar.is_integer(), Constant(2).is_integer()) == (False, True)
    assert (scalar.real, scalar.imag, scalar.conjugate()) == (2.7, 0.0, 2.7)
    assert bool(scalar)
    assert not Linear(0, 1)
    with pytest.raises(TypeError, match=r"is real: write complex\(float\(scalar\)\)"):
        complex(scalar)


def test_text() -> None:
    lr = CosineAnnealing(start=1e-3, end=1e-5)
    assert repr(lr) == "CosineAnnealing(start=0.001, end=1e-05)"
    assert str(lr) == f"{lr}" == "0.001"
    assert (f"{lr:.2e}", f"{lr:>8.4f}", f"{lr:%}") == ("1.00e-03", "  0.0010", "0.100000%")
    assert repr(1 - lr * 2) == "1 - (CosineAnnealing(start=0.001, end=1e-05) * 2)"
    assert repr(abs(-lr)) == "abs(-CosineAnnealing(start=0.001, end=1e-05))"
    assert repr(lr * -1) == "CosineAnnealing(start=0.001, end=1e-05) * (-1)"
    assert repr(np.float64(0.5) * lr) == "0.5 * CosineAnnealing(start=0.001, end=1e-05)"


def test_builtins_and_statistics() -> None:
    a, b, c = Linear(3.0, 0.0), Linear(1.0, 0.0), Linear(2.0, 9.0)
    total = sum([a, b, c])
    assert float(total) == 6
    a.update(1)
    assert float(total) == 3
    a.update(0)
    assert [float(x) for x in sorted([a, b, c])] == [1, 2, 3]
    assert (min(a, b, c) is b, max(a, b, c) is a) == (True, True)
    assert statistics.fmean([a, b, c]) == 2
    assert statistics.median([a, b, c]) == 2
    assert math.fsum([a, b, c]) == 6
    assert json.loads(json.dumps({"lr": float(a)})) == {"lr": 3.0}
    assert len({a, b, a}) == 2


def test_numpy_takes_it_as_a_python_float() -> None:
    scalar = Linear(0.1, 0.5)
    assert np.asarray(scalar).dtype == np.float64
    assert float(np.asarray(scalar)) == 0.1
    assert np.asarray(scalar, dtype=np.float32) == np.float32(0.1)
    for dtype in (np.float16, np.float32, np.float64, np.int64):
        x = np.array([1, 2, 3], dtype)
        for operation in BINARY[:4]:
            for actual, expected in (
                (operation(scalar, x), operation(0.1, x)),
                (operation(x, scalar), operation(x, 0.1)),
            ):
                assert actual.dtype == expected.dtype
                assert np.array_equal(actual, expected)
        assert np.array_equal(np.multiply(x, scalar), x * 0.1)
        assert np.array_equal(np.maximum(scalar, x), x)
        assert np.array_equal(scalar < x, [True] * 3)
    assert np.exp(scalar) == np.exp(0.1)
    assert np.clip(np.array([0.0, 1.0]), 0.0, scalar).tolist() == [0.0, 0.1]


@pytest.mark.parametrize("function", [np.add, np.multiply, np.divide, np.minimum, np.power])
def test_a_numpy_number_does_not_freeze_a_scalar(function: Any) -> None:
    scalar = Linear(0.5, 4.0)
    for live in (function(np.float64(2.0), scalar), function(scalar, 2)):
        assert isinstance(live, ScheduledScalar)
    result = function(np.float64(2.0), scalar)
    for progress in (0, 1):
        value = float(scalar.update(progress))
        assert float(result) == function(2.0, value)


def test_expressions_follow_and_update_their_scalars() -> None:
    w1, w2 = Linear(1.0, 0.0), Linear(1.0, 3.0)
    share = w1 / (w1 + w2)
    assert share.leaves == (w1, w2)
    assert share.update(0.5) is share
    assert (w1.progress, w2.progress, share.progress) == (0.5, 0.5, 0.5)
    assert float(share) == 0.5 / 2.5
    w1.update(0)
    assert float(share) == 1 / 3
    assert share.at(1) == 0.0
    with pytest.raises(
        ValueError, match=r"progress of an expression must be the same .* \[0.0, 0.5\]"
    ):
        _ = share.progress


def test_an_expression_made_again_is_as_good_as_a_new_one() -> None:
    beta, one = Linear(0.9, 0.99), 1.0
    for _ in range(2):
        assert [repr(1 - beta), repr(one - beta), repr(2 - beta)] == [
            f"{x} - Linear(start=0.9, end=0.99)" for x in ("1", "1.0", "2")
        ]
        assert repr(1 + beta) == "1 + Linear(start=0.9, end=0.99)"
    assert [math.copysign(1, float(zero - Linear(0.0, 1.0))) for zero in (0.0, -0.0)] == [1, -1]
    zeros = Constant(0.0)
    assert [math.copysign(1, float(zero - zeros)) for zero in (0.0, -0.0)] == [1, -1]
    rest = 1 - beta
    beta.update(1)
    assert float(rest) == float(1 - beta) == 1 - 0.99


def test_expressions_are_not_kept_alive() -> None:
    beta, other = Linear(0.9, 0.99), Linear(0.0, 1.0)
    made = [weakref.ref(1 - (2 * beta)), weakref.ref(beta - other), weakref.ref(other)]
    del other
    gc.collect()
    assert [one() for one in made] == [None] * 3
    alone = weakref.ref(beta)
    _ = 1 - beta
    del beta, _
    gc.collect()
    assert alone() is None


def test_an_expression_of_shared_parts_costs_no_more_than_its_operations() -> None:
    """Written in full it would have 2**200 terms, as a message about it would have, too."""
    doubled: ScheduledScalar = Linear(1.0, 3.0)
    for _ in range(200):
        doubled = (doubled + doubled) * 0.5
    assert float(doubled.update(0.5)) == doubled.at(0.5) == 2.0
    assert 1e4 < len(repr(doubled)) < 1e7
    assert repr(doubled).endswith("...")
    with pytest.raises(ValueError, match="must be a schedule, got .{200}[.]{3}") as error:
        doubled.hold(1.0)
    assert len(str(error.value)) < 400
    with pytest.raises(ValueError, match="must be an adaptive one, got .{200}[.]{3}"):
        doubled.observe(1.0)
    deep: ScheduledScalar = Linear(0.0, 1.0)
    for i in range(2_000):
        deep = minimum(deep * 0.5 + i, 4.0)
    assert repr(deep).count("minimum(") == 2_000


def test_an_expression_updates_all_of_its_scalars_or_none() -> None:
    from scalars import LambdaValue

    fine, fails = Linear(1.0, 2.0), LambdaValue(lambda p: 1 / (0.5 - p))
    product = fine * fails
    with pytest.raises(ZeroDivisionError):
        product.update(0.5)
    assert (fine.progress, float(fine), float(fails)) == (0, 1, 2)


def test_schedules_cannot_be_changed_in_place() -> None:
    import dataclasses

    lr = Linear(1.0, 0.5)
    message = r"cannot change start of Linear: use dataclasses.replace"
    with pytest.raises(dataclasses.FrozenInstanceError, match=message):
        lr.start = 2.0  # type: ignore[misc]
    changed = dataclasses.replace(lr, start=2.0)  # type: ignore[type-var]
    assert (float(lr), float(changed)) == (1.0, 2.0)


def test_arrays() -> None:
    scalar = Linear(0.5, 1.0)
    for array in (scalar.array, scalar(), scalar(7), scalar(mx.array(7)), mx.array(scalar)):
        assert (array.dtype, array.shape, array.item()) == (mx.float32, (), 0.5)
    assert (1 - scalar).array.item() == 0.5
    assert scalar.dtype == mx.float32
    assert (scalar.astype(mx.float16) * 2).array.dtype == mx.float16
    with pytest.raises(TypeError, match="dtype must be a floating point mx.Dtype, got 'half'"):
        scalar.astype("half")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"dtype must be .*, got mlx.core.int32"):
        scalar.astype(mx.int32)


def test_arrays_for_mlx_have_no_dict() -> None:
    """MLX 0.30 does not clear the ``__dict__`` of array subclasses and crashed in a collection."""
    array = Linear(0.0, 1.0).array
    assert type(array).__dictoffset__ == mx.array.__dictoffset__ == 0
    assert not hasattr(array, "__dict__")
