"""The README, the examples and ``typed_usage.py`` as type checkers see them: mypy and pyright.

Pyright comes from PyPI with a Node.js of its own (``pyright[nodejs]``).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LEFT_TO_MLX = ("no-untyped-call", "no-any-return", "no-untyped-def", "import-untyped")
"""What mypy's strict mode says of code that MLX, scikit-learn or a README leave without types."""
MODULES = """
[mypy]
[mypy-mlx.*]
implicit_reexport = true
[mypy-transformers.*,torch.*]
follow_imports = skip
"""
"""MLX as in ``pyproject.toml``; of what mlx-lm imports, mypy would read thousands of files."""
WRONG = """
import mlx.optimizers as optim
from scalars import Linear, ScalarGroup

lr = Linear(0.1, 0.0)
optim.AdamW(learning_rate=lr, weight_decay=lr)
lr.momentum
lr + "1"
Linear()
Linear("0.1", 0.0)
ScalarGroup(lr=0.1)
lr.update("half")
optim.AdamW(1e-3, weight_decay=ScalarGroup(lr=lr))
"""
"""From line 7 on every line is wrong."""


def readme(folder: Path) -> Path:
    """Write the code of the README, as it is read from the top, into a file."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    path = folder / "readme.py"
    path.write_text("\n".join(blocks))
    return path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )


def mypy(folder: Path, *paths: Path) -> list[str]:
    """Return the errors, each with its file and line."""
    config = folder / "mypy.ini"
    config.write_text(MODULES)
    disabled = [f"--disable-error-code={code}" for code in LEFT_TO_MLX]
    options = ["--strict", "--no-warn-unused-ignores", "--allow-redefinition", *disabled]
    files = [f"--config-file={config}", f"--cache-dir={folder}", *map(str, paths)]
    result = run("mypy", *options, *files)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return re.findall(r"^\S+:\d+: error: .*$", result.stdout, re.MULTILINE)


def pyright(folder: Path, *paths: Path) -> list[str]:
    """Return the errors, each with its file and line."""
    config = {"include": list(map(str, paths)), "reportUnnecessaryTypeIgnoreComment": "error"}
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps({**config, "pythonVersion": "3.10", "extraPaths": [str(ROOT)]}))
    result = run(
        "pyright", "--outputjson", "--project", str(project), "--pythonpath", sys.executable
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)["generalDiagnostics"]
    return [
        f"{one['file']}:{one['range']['start']['line'] + 1}: error: {one['message']}"
        for one in found
        if one["severity"] == "error"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_what_is_right_is_accepted_and_what_is_wrong_is_found(checker: Any, tmp_path: Path) -> None:
    usage, wrong = ROOT / "tests" / "typed_usage.py", tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    errors = checker(tmp_path, readme(tmp_path), ROOT / "examples", usage, wrong)
    assert [error for error in errors if not error.startswith(f"{wrong}:")] == []
    assert {int(error.split(":")[1]) for error in errors} == set(range(7, 14))
