"""Functions of the user: one call for an array where that is right, else one for each float."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from scalars import LambdaValue

POINTS = np.linspace(0, 1, 1001)


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        (lambda p: (1 - p) ** 2 + 0.1, 1),
        (lambda p: np.exp(-3 * p), 1),
        (lambda p: math.exp(-3 * p), 1001),
        (lambda p: 1.0 if p < 0.5 else 0.1, 1001),
        (lambda p: max(p, 0.25), 1001),
        (lambda p: 0.3, 1001),
        (lambda p: float(np.sum(p)), 1001),
        (lambda p: p / np.max(p) if np.ndim(p) else p / max(p, 1), 1),
        (lambda p: p[::-1] if np.ndim(p) else p, 1001),
    ],
)
def test_an_array_gives_what_floats_give(function: Any, calls: int) -> None:
    seen = []

    def counted(progress: Any) -> Any:
        seen.append(progress)
        return function(progress)

    scalar = LambdaValue(counted)
    seen.clear()
    values = scalar.at(POINTS)
    assert values.tolist() == pytest.approx([function(p) for p in POINTS.tolist()], rel=1e-14)
    assert calls <= len(seen) <= calls + 6


def test_a_function_that_only_fails_for_arrays_is_not_asked_for_one() -> None:
    scalar = LambdaValue(lambda p: {0.0: 1.0, 0.5: 2.0, 1.0: 3.0}[p])
    assert scalar.at(np.array([0.0, 1.0, 0.5])).tolist() == [1, 3, 2]
    with pytest.raises(KeyError, match="0.25"):
        scalar.at(np.array([0.0, 0.25]))


def test_a_function_of_mlx_serves_floats_and_graphs() -> None:
    scalar = LambdaValue(lambda p: 0.1 * mx.cos(p))
    assert float(scalar.update(0.5)) == pytest.approx(0.1 * math.cos(0.5), rel=1e-6)
    assert type(float(scalar)) is float
    in_graph = mx.compile(scalar.at)(mx.array([0.25, 0.5]))
    np.testing.assert_allclose(np.array(in_graph), 0.1 * np.cos([0.25, 0.5]), rtol=1e-6)


def test_text() -> None:
    assert repr(LambdaValue(math.cos)) == "LambdaValue(function=cos)"
    assert repr(LambdaValue(lambda p: p)) == "LambdaValue(function=<lambda>)"
