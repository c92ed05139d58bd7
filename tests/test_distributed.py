"""The example for several processes trains, saves on one rank and resumes on all, bit for bit."""

from __future__ import annotations

import re
from pathlib import Path

import mlx.core as mx
import pytest

from .helpers import assert_same
from .launching import launch

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parent.parent / "examples" / "distributed.py"
STEPS = 60


def trained(ranks: int, path: Path, *options: str) -> dict[str, mx.array]:
    """Run the example, which checks its ranks, and return the checkpoint of rank 0."""
    arguments = [str(SCRIPT), "--steps", str(STEPS), "--save", str(path), *options]
    printed = launch(ranks, arguments, path.parent)
    lines = re.findall(r"rank (\d) of (\d): (.*)", printed)
    assert sorted(line[0] for line in lines) == [str(rank) for rank in range(ranks)], printed
    assert {line[1:] for line in lines} == {(str(ranks), lines[0][2])}, printed
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    return arrays


def test_two_processes_train_save_and_resume(tmp_path: Path) -> None:
    whole = trained(2, tmp_path / "whole.safetensors")
    half = tmp_path / "half.safetensors"
    assert trained(2, half, "--stop", "30")["optimizer.step"].item() == 30
    assert_same(trained(2, tmp_path / "resumed.safetensors", "--resume", str(half)), whole)


def test_two_processes_train_schedule_free(tmp_path: Path) -> None:
    arrays = trained(2, tmp_path / "whole.safetensors", "--schedule-free", "--stop", "30")
    assert "optimizer.layers.0.weight.z" in arrays
