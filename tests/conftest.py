"""The state in which every test starts."""

import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, settings

from scalars.tools.registry import REGISTERED

from . import compiler


def pytest_configure(config: pytest.Config) -> None:
    """Speed up the compilation of MLX's kernels in this process and its children."""
    compiler.install(getattr(config, "workerinput", {}).get("workerid"))


def pytest_report_header(config: pytest.Config) -> str:
    """Say which device the tests run on: it is MLX's default."""
    device = mx.default_device()
    more = "; nothing here runs on a GPU" if device == mx.cpu else ""
    return f"MLX {mx.__version__}, default device: {device}{more}"


# New examples at every run by hand; the same ones where a run decides about a change.
settings.register_profile(
    "scalars", derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("scalars")


@pytest.fixture(autouse=True, scope="session")
def warm_mlx() -> None:
    """Evaluate once, as before that MLX traces a compiled function twice."""
    mx.eval(mx.array(1.0) + 1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the tiny language model of the examples in a folder, as mlx-lm loads it."""
    example = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "tiny_model.py"))
    folder: Path = example["save_tiny_model"](tmp_path_factory.mktemp("model"))
    return folder


@pytest.fixture(autouse=True)
def undisturbed() -> Iterator[None]:
    """Seed MLX's random numbers, and forget afterwards what a test has registered."""
    registered = dict(REGISTERED)
    mx.random.seed(0)
    yield
    mx.enable_compile()
    REGISTERED.clear()
    REGISTERED.update(registered)
