"""A faster C++ compiler for the kernels that MLX builds on a Linux CPU.

MLX compiles each kernel of a compiled function with ``g++``. This takes 0.7 seconds, nearly all
of them for one header, and the tests build more than a thousand kernels. Here ``g++`` is a script
that uses a precompiled header. Every worker has its own folder for kernels, because two processes
that build the same kernel at once may read an incomplete file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx

HEADER = Path("mlx/backend/cpu/compiled_preamble.h")
FLAGS = ["-std=c++17", "-O3", "-Wall", "-fPIC"]  # the flags of MLX, as others would not match
HOME = "SCALARS_TESTS_HOME"


def install(worker: str | None) -> None:
    """Set the environment of this process and its children."""
    if worker is None:
        name = f"scalars-tests-mlx-{mx.__version__}-{os.getuid()}"
        os.environ[HOME] = str(Path(tempfile.gettempdir()) / name)
    home = Path(os.environ[HOME])
    include = Path(mx.__file__).parent / "include"
    compiler = shutil.which("g++")
    if worker is None and sys.platform == "linux" and compiler and (include / HEADER).exists():
        header = home / HEADER.with_suffix(".h.gch")
        if header.exists() or precompiled(compiler, include, header):
            script = home / "g++"
            script.write_text(f'#!/bin/sh\nexec "{compiler}" -I "{home}" "$@"\n')
            script.chmod(0o755)
            os.environ["PATH"] = f"{home}{os.pathsep}{os.environ['PATH']}"
    folder = home / (worker or "main")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


def precompiled(compiler: str, include: Path, target: Path) -> bool:
    """Precompile the header; if this fails, MLX uses the ordinary compiler."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}")
    source = ["-I", str(include), "-x", "c++-header", str(include / HEADER), "-o", str(part)]
    if subprocess.run([compiler, *FLAGS, "-w", *source], check=False).returncode:
        return False
    part.rename(target)
    return True
