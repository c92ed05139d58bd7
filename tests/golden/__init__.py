"""Values of other libraries, and the scripts that wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def write(name: str, versions: dict[str, str], values: dict[str, Any]) -> None:
    """Write a table of values, a line for each row, with the versions that gave them."""
    lines = ",\n".join(f"{json.dumps(row)}: {json.dumps(v)}" for row, v in values.items())
    text = f'{{"versions": {json.dumps(versions)},\n"values": {{\n{lines}\n}}}}\n'
    (FOLDER / name).write_text(text)


def read(name: str) -> dict[str, Any]:
    """Return the rows of a table."""
    values: dict[str, Any] = json.loads((FOLDER / name).read_text())["values"]
    return values
