"""Values of other libraries, and the scripts that write them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parent


def write(name: str, versions: dict[str, str], values: dict[str, Any]) -> None:
    """Write a table of values, one line per row, with the versions of the libraries."""
    lines = ",\n".join(f"{json.dumps(row)}: {json.dumps(v)}" for row, v in values.items())
    text = f'{{"versions": {json.dumps(versions)},\n"values": {{\n{lines}\n}}}}\n'
    (FOLDER / name).write_text(text)


def read(name: str) -> dict[str, Any]:
    """Return the rows of a table."""
    values: dict[str, Any] = json.loads((FOLDER / name).read_text())["values"]
    return values


def load(module: str) -> ModuleType:
    """Import a module of an installed package, if necessary without the imports of its parents.

    So the schedules of a large library run without all of its dependencies.
    """
    try:
        return importlib.import_module(module)
    except Exception:
        pass
    package = ""
    for part in module.split(".")[:-1]:
        above, package = package, f"{package}.{part}".strip(".")
        if package not in sys.modules:
            if above:
                places = [str(Path(sys.modules[above].__path__[0]) / part)]
            else:
                spec = importlib.util.find_spec(package)
                places = list((spec and spec.submodule_search_locations) or [])
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = places
    return importlib.import_module(module)
