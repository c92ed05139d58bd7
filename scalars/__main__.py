"""The command line: ``python -m scalars``, or ``scalars``."""

from __future__ import annotations

import csv
import inspect
import json
import os
import re
import shutil
import sys
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import checks
from .number.scalar import ScheduledScalar
from .tools import plotting, registry
from .tools.chart import chart
from .tools.config import from_config
from .tools.parsing import parse
from .training.group import ScalarGroup
from .training.horizon import Horizon
from .training.phases import Phases

NAMED = re.compile(r"(\w+)=(?!=)(.+)", re.DOTALL)
POINTS = 400
LARGEST_FILE = 1_000_000
EXPONENT = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+")
"""A number with an exponent, whether or not it has a point."""


class _Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        _stop(message)


def _stop(message: str) -> NoReturn:
    print(f"scalars: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def _parser() -> ArgumentParser:
    parser = _Parser(prog="scalars", description="Schedules, drawn, listed and converted.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="draw schedules, or print their values")
    text = "such as 'Warmup(CosineAnnealing(1e-3), 0.1)', or 'lr=...' to name it"
    show.add_argument("expressions", nargs="+", metavar="EXPRESSION", help=text)
    show.add_argument("--steps", type=int, required=True, metavar="N", help="steps of the run")
    show.add_argument("--epochs", type=int, metavar="E", help="count these epochs instead")
    show.add_argument("--png", metavar="FILE", help="draw a picture into FILE")
    show.add_argument("--csv", action="store_true", help="print the values at every step")
    show.add_argument("--log", action="store_true", help="draw a logarithmic axis")
    show.set_defaults(run=_show)
    commands.add_parser("list", help="name every schedule").set_defaults(run=_list)
    convert = commands.add_parser("convert", help="print the expressions that a config stands for")
    convert.add_argument("file", metavar="FILE", help="TOML, JSON or YAML; mlx-lm's configs too")
    convert.set_defaults(run=_convert)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error is one line on standard error, and exit status 2."""
    given = _parser().parse_args(arguments)
    try:
        given.run(given)
        if sys.stdout is not None:  # it may be closed: scalars list >&-
            sys.stdout.flush()
    except BrokenPipeError:  # as in "scalars list | head": nobody reads on
        sys.stdout = None
    except (ValueError, TypeError, OSError, ImportError, RecursionError) as error:
        _stop(str(error))


def _show(given: Namespace) -> None:
    steps = checks.count("--steps", given.steps)
    epochs = None if given.epochs is None else checks.count("--epochs", given.epochs)
    if epochs and steps % epochs:
        checks.fail("--steps", f"a multiple of --epochs, {epochs}", steps, "Change one of them.")
    horizon = Horizon(steps, steps // epochs if epochs else None)
    made, scalars = _made(given.expressions)
    if given.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["step", *scalars])
        for step in range(steps):
            progress = horizon.progress(step)
            writer.writerow([step, *[scalar.at(progress) for scalar in scalars.values()]])
    if given.png:
        ax = plotting.plot(made if len(given.expressions) == 1 else scalars, horizon, log=given.log)
        figure: Any = ax.figure
        figure.savefig(given.png, dpi=150)
        print(f"drawn to {given.png}", file=sys.stderr if given.csv else sys.stdout)
    elif not given.csv:
        scale, label = plotting.x_axis(horizon, None)
        points = sorted({round(steps * i / POINTS) / steps for i in range(POINTS + 1)})
        curves = {
            name: ([scale * p for p in points], [scalar.at(p) for p in points])
            for name, scalar in scalars.items()
        }
        columns = min(shutil.get_terminal_size().columns, 120)
        color = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        text = chart(curves, label, given.log, color, columns)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding))  # a terminal may know ASCII only


def _made(expressions: Sequence[str]) -> tuple[Any, dict[str, ScheduledScalar]]:
    """Return what the last expression made, and the scalars of all, by name."""
    made: Any = None
    scalars: dict[str, ScheduledScalar] = {}
    for expression in expressions:
        named = NAMED.fullmatch(expression)
        name, text = named.groups() if named else (expression, expression)
        made = parse(text)
        if isinstance(made, (ScalarGroup, Phases)):
            scalars.update(made.group if isinstance(made, Phases) else made)
        else:
            scalars[name] = made
            made = {name: made}
    return made, scalars


def _list(_: Namespace) -> None:
    for name, schedule in {**registry.SCHEDULES, **registry.REGISTERED}.items():
        parameters = inspect.signature(schedule).parameters.values()
        shown = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
        indent = " " * (len(name) + 1)
        print("\n".join(textwrap.wrap(f"{name}({', '.join(shown)})", 80, subsequent_indent=indent)))
        first = (inspect.getdoc(schedule) or "").partition("\n")[0]
        print(f"    {first.replace(' [1]', '').replace('``', '')}")


def _convert(given: Namespace) -> None:
    data = _read(Path(given.file))
    kinds = {"name", "operation", "group", "phases", "lr_schedule", "arguments"}
    if isinstance(data, dict) and not kinds & set(data):
        data = {"group": data}
    made = from_config(data)
    if isinstance(made, ScalarGroup):
        for name, scalar in made.items():
            print(f"{name} = {scalar!r}")
    else:
        print(repr(made))


def _read(path: Path) -> Any:
    """Read plain data from a file."""
    if path.suffix not in (".json", ".toml", ".yaml", ".yml"):
        checks.fail("FILE", "a .json, .toml or .yaml file", str(path), "Rename it.")
    with path.open("rb") as file:  # a device may never end
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        checks.fail("FILE", f"at most {LARGEST_FILE} bytes", str(path), "Write a shorter one.")
    text = content.decode("utf-8")
    readers: dict[str, Callable[[str], Any]] = {".json": json.loads, ".toml": _toml}
    return readers.get(path.suffix, _yaml)(text)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError("YAML needs PyYAML: pip install pyyaml") from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """A loader that reads 1e-5 as a number, as mlx-lm's does; in YAML 1.1 it is a text."""

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
        raise ImportError("TOML needs Python 3.11; write JSON instead") from error


if __name__ == "__main__":
    main()
