"""Every example of the README and of the folder ``examples`` runs as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_readme_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    assert len(blocks("python")) >= 3
    printed = []
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
        printed.append(capsys.readouterr().out)
    # By hand: wd is 0.1 - 0.09 * 0.99, aux 0.99e-3; cosine half-way, at 3e-4 / 2.
    assert "'wd': '0.011', 'aux': '0.00099'" in printed[0]
    assert printed[1] == "1.50e-04 1.50e-05\n"
    assert printed[2].replace("array", "").replace(", dtype=float32", "") == "(0)\n(1)\n(2)\n"


def test_readme_is_short_and_its_files_exist() -> None:
    assert len(README.splitlines()) <= 120
    for path in re.findall(r"`(examples/\S+?)`", README):
        assert (ROOT / path).exists()


def test_readme_commands_are_the_two_of_the_project() -> None:
    (commands,) = blocks("bash")
    assert commands.splitlines() == [
        'pip install -e ".[cpu,examples]" && python examples/digits.py',
        'pip install -e ".[cpu,test]" && pytest',
    ]


def run(script: str, *arguments: str) -> str:
    """Run an example as a user would, at 80 columns, and return what it prints."""
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_every_example_is_tested() -> None:
    tested = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))
    assert {path.name for path in (ROOT / "examples").glob("*.py")} <= tested


def test_plain_loop() -> None:
    lines = run("plain_loop.py").splitlines()
    rates = [float(re.findall(r"lr (\S+)", line)[0]) for line in lines]
    losses = [float(re.findall(r"loss (\S+)", line)[0]) for line in lines]
    # The warm-up ends at step 20 of 200; the cosine is 0.1 to 0.001 over the other 180.
    import math

    steps = [40, 80, 120, 160, 199]
    expected = [0.001 + 0.099 * (1 + math.cos(math.pi * (step - 20) / 180)) / 2 for step in steps]
    assert rates == pytest.approx([0.0, *expected], abs=1e-5)
    assert losses[0] > 1
    assert losses[-1] < 0.483  # the least squares fit is at 0.4823


@pytest.mark.slow
def test_digits() -> None:
    output = run("digits.py")
    result = r"^(\w+, \w+): held-out accuracy (\S+)%"
    accuracy = dict(re.findall(result, output, flags=re.MULTILINE))
    assert set(accuracy) == {
        f"{name}, {mode}" for name in ("scheduled", "constant") for mode in ("eager", "compiled")
    }
    assert all(float(value) > 96 for value in accuracy.values())
    # At the last of 840 steps: wd 0.01 + 0.09 * 839/840 and so on, as the bar shows them.
    assert output.count("wd 0.1 ") == output.count("dropout 0.3 ") == 2
    assert all(len(line) <= 80 for line in output.splitlines())
