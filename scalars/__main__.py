"""The command line: ``python -m scalars``, or ``scalars``."""

from __future__ import annotations

import csv
import importlib
import inspect
import re
import shutil
import sys
import textwrap
from argparse import REMAINDER, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__, checks
from .number.scalar import ScheduledScalar
from .terminal import code_lines, in_color
from .tools import plotting, registry
from .tools.chart import chart, print_text
from .tools.config import from_config
from .tools.files import read
from .tools.lines import curves_of
from .tools.lora.numbers import numbers_of
from .tools.names import NAMES, by_name
from .tools.parsing import parse
from .tools.peers import matching
from .training.group import ScalarGroup
from .training.horizon import Horizon
from .training.phases import Phases

EXAMPLES = """examples:
  scalars show "Warmup(CosineAnnealing(3e-4), 0.1)"
  scalars show "cosine(3e-4, warmup_steps=100)" --steps 1000
  scalars show "lr=CosineAnnealing(1e-3)" "wd=Linear(0, 0.1)" --steps 1000 --png run.png
  scalars show "Linear(1, 0)" --steps 100 --csv > values.csv
  scalars show "triangle(0.1)" --load my_schedules.py
  scalars list
  scalars from transformers get_wsd
  scalars convert config.yaml
  scalars lora --help
"""
NAMED = re.compile(r"(\w+)=(?!=)(.+)", re.DOTALL)


class _Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        _stop(message)


def _stop(message: str) -> NoReturn:
    print(f"scalars: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def _parser() -> ArgumentParser:
    parser = _Parser(
        prog="scalars",
        description="Draw, list and convert schedules.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"scalars {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="draw schedules, or print their values")
    text = (
        "a schedule such as 'Warmup(CosineAnnealing(1e-3), 0.1)' or "
        "'cosine(1e-3, warmup_steps=100)', or 'lr=...' with a name"
    )
    show.add_argument("expressions", nargs="+", metavar="EXPRESSION", help=text)
    text = "number of steps in the run (default: show progress from 0 to 1)"
    show.add_argument("--steps", type=int, metavar="N", help=text)
    text = "number of epochs in the run, to show epochs instead of steps"
    show.add_argument("--epochs", type=int, metavar="E", help=text)
    show.add_argument("--png", metavar="FILE", help="save a plot to FILE")
    show.add_argument("--csv", action="store_true", help="print the values at every step")
    show.add_argument("--log", action="store_true", help="use a logarithmic y axis")
    show.set_defaults(run=_show)
    listed = commands.add_parser("list", help="list all schedules, or some")
    listed.add_argument("names", nargs="*", metavar="NAME", help="the schedule to show")
    listed.set_defaults(run=_list)
    convert = commands.add_parser("convert", help="print the schedules in a config as expressions")
    convert.add_argument(
        "file", metavar="FILE", help="a TOML, JSON or YAML file, also a config of mlx-lm"
    )
    convert.set_defaults(run=_convert)
    text = "a module or file that registers your own schedules with register(name, factory)"
    for command in (show, listed, convert):
        command.add_argument("--load", action="append", default=[], metavar="MODULE", help=text)
    peers = commands.add_parser("from", help="show how to write a schedule of another library")
    words = "part of its name or library, such as 'transformers get_wsd'"
    peers.add_argument("words", nargs="+", metavar="WORD", help=words)
    peers.set_defaults(run=_from, load=[])
    about = "fine-tune like mlx_lm.lora, with schedules in its config"
    lora = commands.add_parser("lora", help=about, add_help=False, prefix_chars=" ")
    lora.add_argument("arguments", nargs=REMAINDER)  # parsed by mlx-lm's parser
    lora.set_defaults(run=_lora, load=[])
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; errors print one line to standard error and exit with status 2."""
    given = _parser().parse_args(arguments)
    training: Callable[[], None] | None = None
    try:
        for module in given.load:
            _load(module)
        training = given.run(given)
        if sys.stdout is not None:  # None if it is closed, as in: scalars list >&-
            sys.stdout.flush()
    except BrokenPipeError:  # as in: scalars list | head
        sys.stdout = None
    except (ValueError, TypeError, OSError, ImportError, RecursionError) as error:
        _stop(str(error))
    if training is not None:  # its errors keep their traceback
        training()


def _lora(given: Namespace) -> Callable[[], None]:
    from .tools.lora.command import prepare

    return prepare(given.arguments)


def _load(module: str) -> None:
    """Import a module of the user, by name or file, which registers schedules."""
    path = Path(module)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        loaded = importlib.import_module(path.stem if path.suffix == ".py" else module)
        if path.suffix == ".py" and not path.samefile(str(loaded.__file__)):
            raise ImportError(f"{loaded.__file__} has the same name")
    except (Exception, SystemExit) as error:
        rule = f"a module or a file that can be imported: {type(error).__name__}: {error}"
        checks.fail("--load", rule, module, "Pass a file such as my_schedules.py.")


def _horizon(given: Namespace) -> Horizon | None:
    epochs = None if given.epochs is None else checks.count("--epochs", given.epochs)
    if given.steps is None:
        if epochs is not None:
            checks.fail("--steps", "given with --epochs", None, "Pass the number of steps.")
        return None
    steps = checks.count("--steps", given.steps)
    if epochs and steps % epochs:
        checks.fail("--steps", f"a multiple of --epochs, {epochs}", steps, "Change one of them.")
    return Horizon(steps, steps // epochs if epochs else None)


def _show(given: Namespace) -> None:
    horizon = _horizon(given)
    with registry.known_too(by_name(horizon, "--steps")):
        made, scalars = _made(given.expressions)
    if given.png:
        ax = plotting.plot(made if len(given.expressions) == 1 else scalars, horizon, log=given.log)
        figure: Any = ax.figure
        figure.savefig(given.png, dpi=150)
        print(f"saved to {given.png}", file=sys.stderr if given.csv else sys.stdout)
    if given.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["progress" if horizon is None else "step", *scalars])
        for at, progress in _rows(horizon):
            writer.writerow([at, *[scalar.at(progress) for scalar in scalars.values()]])
    if not given.png and not given.csv:
        curves, label = curves_of(made if len(given.expressions) == 1 else scalars, horizon)
        columns, lines = shutil.get_terminal_size()
        size = (min(columns, 120), lines)
        print_text(chart(curves, label, given.log, in_color(sys.stdout), size))


def _rows(horizon: Horizon | None) -> Iterable[tuple[float, float]]:
    """Return the first column of the rows, and their progress."""
    if horizon is None:
        return ((i / 100, i / 100) for i in range(101))
    return ((step, horizon.progress(step)) for step in range(horizon.total_steps))


def _made(expressions: Sequence[str]) -> tuple[Any, dict[str, ScheduledScalar]]:
    """Return the value of the last expression, and the scalars of all, by name."""
    made: Any = None
    scalars: dict[str, ScheduledScalar] = {}
    for expression in expressions:
        named = NAMED.fullmatch(expression)
        name, text = named.groups() if named else (expression, expression)
        made = parse(text)
        if name in scalars or name in ("step", "progress"):
            rule = "given once, and not that of the first column, step or progress"
            checks.fail("a name", rule, name, "Name each schedule otherwise: other=...")
        if isinstance(made, (ScalarGroup, Phases)):
            scalars.update(made.group if isinstance(made, Phases) else made)
        else:
            scalars[name] = made
            made = {name: made}
    return made, scalars


def _list(given: Namespace) -> None:
    known = {**registry.SCHEDULES, **registry.REGISTERED}
    if given.names:
        with registry.known_too(by_name(None, "--steps")):
            known = {name: registry.find(name, "") for name in given.names}
    for name, schedule in known.items():
        call = registry.written(name, inspect.signature(schedule))
        print(textwrap.fill(call, 80, subsequent_indent=" " * (len(name) + 1)))
        first = (inspect.getdoc(schedule) or "").partition("\n")[0]
        written = f"{getattr(schedule, '__name__', name)}("  # the default docstring of a dataclass
        if first and not first.startswith(written):
            print(f"    {first.replace(' [1]', '').replace('``', '')}")
    if given.names:
        return
    print("\nNames of Hugging Face and SambaFlow: NAME(peak, warmup_steps=0, end_ratio=None)")
    indent = "    "
    names = ", ".join(NAMES)
    print(textwrap.fill(names, 80, initial_indent=indent, subsequent_indent=indent))


def _convert(given: Namespace) -> None:
    data = read(Path(given.file))
    kinds = {"name", "operation", "group", "phases", "lr_schedule", "arguments"}
    made: Any
    if isinstance(data, dict) and {"lr_schedule", "iters"} & set(data):
        scheduled = numbers_of(data).scalars  # mlx-lm's config
        made = ScalarGroup(scheduled) if len(scheduled) > 1 else scheduled["learning_rate"]
    elif isinstance(data, dict) and not kinds & set(data):
        made = from_config({"group": data})
    else:
        made = from_config(data)
    if isinstance(made, ScalarGroup):
        for name, scalar in made.items():
            print(f"{name} = {scalar!r}")
    else:
        print(repr(made))


def _from(given: Namespace) -> None:
    found, others = matching(" ".join(given.words))
    if found:
        print("For T steps: s = first or highest rate, e = last rate, w = warm-up steps,")
        print("n = steps, g = factor, k = power")
    for library, theirs, here in found:
        print(code_lines(f"{library}: {theirs}", " " * 8, sys.stdout))
        print(code_lines(f"    {here}", " " * 8, sys.stdout))
    for name in others:
        print(f"See help(scalars.{name}).")


if __name__ == "__main__":
    main()
