"""The CPU time that importing the package adds to importing MLX, as a ratio to the latter."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from .measure import row

CODE = """
import time
begin = time.process_time()
import mlx.core, mlx.nn, mlx.optimizers
between = time.process_time()
import scalars
then = time.process_time()
from scalars import CosineAnnealing, LambdaValue, Linear, attach
print(between - begin, then - between, time.process_time() - between)
"""


def main() -> None:
    # The first run writes the bytecode, as an installation does.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as cache:
        environment["PYTHONPYCACHEPREFIX"] = cache
        command = [sys.executable, "-c", CODE]
        outputs = [
            subprocess.run(command, capture_output=True, check=True, env=environment).stdout
            for _ in range(12)
        ][1:]
    columns = zip(*[map(float, x.split()) for x in outputs], strict=True)
    mlx, own, used = map(statistics.median, columns)
    what = f"import scalars, {own * 1e3:.0f} ms / import MLX, {mlx * 1e3:.0f} ms"
    row(what, f"{own / mlx:.2f} x", "hold: <= 1 x")
    what = f"  with the names of the first example, {used * 1e3:.0f} ms"
    row(what, f"{used / mlx:.2f} x")
