"""Several processes on this machine, under ``mlx.launch`` with the ring backend."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TIMEOUT = 300
ALONE = 'export TMPDIR="$1/$MLX_RANK"; mkdir -p "$TMPDIR"; shift; exec "$@"'
"""Each rank has its own folder for kernels, as two builds of a kernel would conflict."""


def launch(ranks: int, arguments: Sequence[str], folder: Path) -> str:
    """Run Python on several ranks and return their output, including errors.

    ``mlx.launch`` always exits with 0, so failures must be seen in the output or in files. All
    processes have ended when this returns or raises.
    """
    launcher = str(Path(sys.executable).parent / "mlx.launch")
    options = ["-n", str(ranks), "--backend", "ring", "--starting-port", str(free_ports(ranks))]
    # MLX 0.30.0 puts its own Python before a first argument that is a file; "sh" is none here.
    command = ["sh", "-c", ALONE, "sh", str(folder), sys.executable, *arguments]
    printed = folder / "printed"
    silent, kept_open = os.pipe()  # at the end of its input mlx.launch would loop
    with printed.open("w") as file:
        process = subprocess.Popen(
            [launcher, *options, *command],
            stdin=silent,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parent.parent,
            start_new_session=True,
        )
    try:
        process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        raise TimeoutError(printed.read_text()) from None
    finally:
        os.close(silent)
        os.close(kept_open)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # also ends the ranks
            process.wait()
    return printed.read_text()


def free_ports(count: int) -> int:
    """Return the first of a number of consecutive free ports."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        if first + count < 2**16 and all(map(is_free, range(first, first + count))):
            return first


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
