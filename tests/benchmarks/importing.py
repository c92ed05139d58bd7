"""The time that importing the package adds to importing MLX."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from .measure import row

CODE = """
import time, mlx.core, mlx.nn, mlx.optimizers
begin = time.perf_counter()
import scalars
print(time.perf_counter() - begin)
"""


def main() -> None:
    # The first run writes the bytecode, as an installation does.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as cache:
        environment["PYTHONPYCACHEPREFIX"] = cache
        command = [sys.executable, "-c", CODE]
        runs = [
            float(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
            for _ in range(8)
        ][1:]
    row("import scalars, after MLX", f"{statistics.median(runs) * 1e3:.1f} ms", "hold: <= 15 ms")
