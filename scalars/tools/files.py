"""Reading plain data from JSON, TOML and YAML files, and replacing files."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import mlx.core as mx

from .. import checks

LARGEST_FILE = 1_000_000
RANK = "{rank}"
"""The placeholder for the rank in file names."""
EXPONENT = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+")
"""A number with an exponent, with or without a decimal point."""


def read(path: Path) -> Any:
    """Read plain data from a file."""
    if path.suffix not in (".json", ".toml", ".yaml", ".yml"):
        checks.fail("FILE", "a .json, .toml or .yaml file", str(path), "Rename or convert it.")
    with path.open("rb") as file:  # limited, because a device may be endless
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        checks.fail("FILE", f"at most {LARGEST_FILE} bytes", str(path), "Shorten it.")
    text = content.decode("utf-8")
    readers: dict[str, Callable[[str], Any]] = {".json": json.loads, ".toml": _toml}
    return readers.get(path.suffix, _yaml)(text)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces ``path`` if no error occurs.

    If ``path`` is a symbolic link, the file that it leads to is replaced. A file keeps its
    permissions. What is no file, such as a pipe or a device, is written to directly.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        yield target
        return
    if not os.access(target.parent, os.W_OK):
        code = errno.EACCES if target.parent.is_dir() else errno.ENOENT
        raise OSError(code, "needs a folder in which files can be made", str(path))
    if target.exists() and not os.access(target, os.W_OK):
        raise OSError(errno.EACCES, "is write-protected", str(path))
    part = target.with_name(f"{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield part
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def of_rank(path: str | Path) -> Path:
    """Replace ``{rank}`` in a path by the number of this rank."""
    if not isinstance(path, (str, os.PathLike)):
        way_out = "Pass the name of a file."
        checks.fail("path", "a str or a Path", path, way_out, wrong_type=True)
    name = os.fspath(path)
    return Path(name.replace(RANK, str(mx.distributed.init().rank())) if RANK in name else name)


@contextmanager
def writing(path: str | Path) -> Iterator[IO[str]]:
    """Open a temporary file that replaces ``path`` if no error occurs.

    Only rank 0 writes a file whose name does not contain ``{rank}``.
    """
    target = of_rank(path)
    if target == Path(path) and mx.distributed.init().rank():
        with Path(os.devnull).open("w", encoding="utf-8") as nothing:
            yield nothing
        return
    with replacing(target) as part, part.open("w", newline="", encoding="utf-8") as file:
        yield file


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError("YAML files need PyYAML: pip install pyyaml") from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """A loader that reads 1e-5 as a number, as in mlx-lm; in YAML 1.1 it is a text."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"FILE must be YAML, got {error}") from error


def _toml(text: str) -> Any:
    try:
        from importlib import import_module

        return import_module("tomllib").loads(text)
    except ImportError as error:
        raise ImportError("TOML files need Python 3.11 or newer. Use JSON instead.") from error
