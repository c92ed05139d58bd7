"""Helpers for several test files: exact comparison of trees, and runs of an optimizer."""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten, tree_unflatten

import scalars

MLX = tuple(int(part) for part in mx.__version__.split(".")[:3])
"""The version of MLX."""
KERNELS_BY_DTYPE = MLX >= (0, 31, 2)
"""Earlier versions name a compiled kernel without the dtypes of its inputs, and so confuse kernels
in the same process (ml-explore/mlx#3427)."""


def needs_cpu(reason: str) -> pytest.MarkDecorator:
    """Mark a test that only means something on a CPU: elsewhere it is skipped, and says why."""
    on_cpu = mx.default_device() == mx.cpu
    return pytest.mark.skipif(not on_cpu, reason=f"only on a CPU: {reason}")


def public_names() -> dict[str, Any]:
    """Return the public names of the package and their values."""
    return {name: getattr(scalars, name) for name in dir(scalars) if not name.startswith("_")}


def assert_same(actual: Any, expected: Any) -> None:
    """Assert that two trees of arrays have equal keys, dtypes and bits."""
    actual, expected = dict(tree_flatten(actual)), dict(tree_flatten(expected))
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        difference = mx.abs(actual[name].astype(mx.float32) - array.astype(mx.float32)).max().item()
        assert mx.array_equal(actual[name], array, equal_nan=True), f"{name}: {difference}"


def largest_difference(actual: Any, expected: Any) -> float:
    """Return the largest absolute difference between two trees of arrays."""
    actual, expected = dict(tree_flatten(actual)), dict(tree_flatten(expected))
    assert actual.keys() == expected.keys()
    differences = []
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        difference = mx.abs(actual[name].astype(mx.float32) - array.astype(mx.float32))
        differences.append(float(difference.max().item()))  # type: ignore[arg-type]
    assert all(math.isfinite(difference) for difference in differences)
    return max(differences)


def reloaded(state: Any) -> Any:
    """Return a copy of a state with new dicts and arrays, as if loaded from a file."""
    return tree_unflatten([(name, mx.array(array)) for name, array in tree_flatten(state)])


def pending(tree: Any) -> Counter[str]:
    """Count the operations that arrays wait for, by name.

    What has been evaluated, by whomever, waits for nothing any more.
    """
    arrays = [array for _, array in tree_flatten(tree) if isinstance(array, mx.array)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.dot"
        mx.export_to_dot(str(path), *arrays)
        return Counter(re.findall(r'label ="(\w+)"', path.read_text()))


class Traced:
    """A function that counts how often its Python body runs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.traces = 0

    def __call__(self, *args: Any) -> Any:
        self.traces += 1
        return self.function(*args)
