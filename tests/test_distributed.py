"""Several processes under ``mlx.launch``: the same schedules, the same weights."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from .helpers import assert_same

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parent.parent / "examples" / "distributed.py"
STEPS = 80


def load(path: Path) -> dict[str, mx.array]:
    arrays = mx.load(str(path.with_suffix(".safetensors")), format="safetensors")
    assert isinstance(arrays, dict)
    return arrays


@pytest.mark.parametrize("kind", ["schedules", "schedule-free"])
def test_two_processes_train_as_one(kind: str, tmp_path: Path) -> None:
    arguments = [str(SCRIPT), "--steps", str(STEPS), "--save", str(tmp_path)]
    arguments += ["--schedule-free"] if kind == "schedule-free" else []
    launcher = str(Path(sys.executable).parent / "mlx.launch")
    # MLX 0.30.0 puts its own Python before a first argument that is a file; "env" is none here.
    launch = [launcher, "-n", "2", "--backend", "ring", "env", sys.executable, *arguments]
    two = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=120)
    assert two.returncode == 0, two.stderr
    assert sorted(re.findall(r"rank (\d of \d)", two.stdout)) == ["0 of 2", "1 of 2"]
    reductions = re.findall(r"reduced (\d+) times", two.stdout)
    assert reductions[0] == reductions[1] != "0"
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)

    first, second = load(tmp_path / "rank0of2"), load(tmp_path / "rank1of2")
    alone = load(tmp_path / "rank0of1")
    assert_same(first, second)
    schedules = {name: array for name, array in first.items() if name.startswith("scalars")}
    # Three scalars: value, remainder, progress; and what the first has observed.
    assert len(schedules) == 10
    given = [name for name in schedules if "learning_rate" not in name]  # not by the losses
    assert_same({name: first[name] for name in given}, {name: alone[name] for name in given})
    for name, array in alone.items():
        if name not in schedules:
            # The mean of two halves and the mean of the whole: rounded in another order,
            # and then divided by small numbers by AdamW.
            assert mx.allclose(first[name], array, rtol=1e-3, atol=2e-4).item(), name
