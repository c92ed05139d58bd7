"""A faster C++ compiler for the kernels that MLX builds on a Linux CPU.

MLX compiles each kernel of a compiled function with ``g++``. This takes 0.7 seconds, nearly all
of them for one header, and the tests build more than a thousand kernels. Here ``g++`` is a script
that uses a precompiled header, and that keeps what it has built: a kernel with the same source is
built once for all processes. Every worker and every rank has its own folder for kernels
nevertheless, because two processes that build the same kernel at once may read an incomplete file.
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
SCRIPT = """#!/bin/sh
# MLX calls: g++ FLAGS FOLDERS SOURCE -o LIBRARY. A library is complete when it gets its name.
case "$*" in *" -shared "*) ;; *) exec "{compiler}" -I "{home}" "$@" ;; esac
eval "source=\\${{$(($# - 2))}} library=\\${{$#}}"
sum=$(sha256sum <"$source") || exit
kept="{home}/built/${{sum%% *}}.so"
if [ ! -e "$kept" ]; then
  "{compiler}" -I "{home}" "$@" && cp "$library" "$kept.$$" && mv "$kept.$$" "$kept" || exit
else
  cp "$kept" "$library"
fi
"""


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
            (home / "built").mkdir(exist_ok=True)
            part = script.with_suffix(f".{os.getpid()}")
            part.write_text(SCRIPT.format(compiler=compiler, home=home))
            part.chmod(0o755)
            part.rename(script)
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
