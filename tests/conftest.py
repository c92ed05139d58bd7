"""The state that every test starts from."""

from collections.abc import Iterator

import mlx.core as mx
import pytest


@pytest.fixture(autouse=True, scope="session")
def warm_mlx() -> None:
    """Evaluate once: before that, MLX traces a compiled function twice."""
    mx.eval(mx.array(1.0) + 1)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Seed MLX's random numbers."""
    mx.random.seed(0)
    yield
    mx.enable_compile()
