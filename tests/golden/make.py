"""Run the schedules of other libraries and write their values: ``python -m tests.golden.make``.

The rows are those of the table in ``scalars.schedules``. The arguments are the libraries to run,
or "new" for the rows without values; the default is all. The values of other libraries are kept.
Each library needs its package, or a checkout of its repository on the path (see
``libraries.py``, ``trainers.py`` and ``scripts.py``), whose version or commit is recorded.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path

from scalars.tools.peers import rows

from . import libraries, scripts, trainers, write

LIBRARIES = {**libraries.LIBRARIES, **trainers.LIBRARIES, **scripts.LIBRARIES}

FILE = Path(__file__).parent / "peers.json"
# Prime totals, for which no boundary falls on a round fraction.
PARAMETERS: list[dict[str, float]] = [
    {"T": 7, "s": 0.1, "e": 0.001, "w": 2, "n": 2, "g": 0.5, "k": 2.0},
    {"T": 31, "s": 3e-4, "e": 1e-5, "w": 5, "n": 5, "g": 0.9, "k": 0.5},
    {"T": 97, "s": 1.0, "e": 0.25, "w": 10, "n": 13, "g": 0.1, "k": 3.0},
]
# For these, values after the last step are recorded too.
BEYOND = dict.fromkeys(
    ("PyTorch", "optax", "MLX", "Keras", "transformers", "timm", "fvcore", "ignite"), 4
)


def main(chosen: list[str]) -> None:
    warnings.simplefilter("ignore")
    known = json.loads(FILE.read_text())
    values: dict[str, list[list[float]]] = {}
    for library, theirs, _ in rows():
        row = f"{library} | {theirs}"
        if library not in chosen and row in known["values"]:
            values[row] = known["values"][row]
            continue
        package, names_and_run = LIBRARIES[library]
        known["versions"][library] = libraries.version(package)
        names, run = names_and_run()
        for parameters in PARAMETERS:
            steps = int(parameters["T"]) + BEYOND.get(library, 0)
            given = {"math": math, **names, **parameters}
            shorter = [float(f"{x:.14g}") for x in run(theirs, given, steps)]
            values.setdefault(row, []).append(shorter)
    order = dict.fromkeys(library for library, _, _ in rows())
    write(FILE.name, {library: known["versions"][library] for library in order}, values)
    print(f"{len(values)} rows, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:] or list(LIBRARIES))
