"""The public names, the import rule, and the size limits of the package."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from itertools import count, takewhile
from pathlib import Path
from rlcompleter import Completer
from typing import Any

import pytest

import scalars

from .helpers import public_names

PACKAGE = Path(scalars.__file__).parent
LAYERS = ["number", "schedules", "adaptive", "training", "optimizers", "tools"]
BASE = {"appearance", "checks", "conversions", "functions", "sketch", "table", "terminal", "words"}
"""Files at the top of the package, which every layer may import and which import no layer."""
MODULES = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))


def test_the_public_names() -> None:
    assert set(public_names()) - MODULES == {
        "ByStep",
        "Constant",
        "CosineAnnealing",
        "CosineAnnealingWarmRestarts",
        "Cyclic",
        "DynamicLossScale",
        "EarlyStopping",
        "Exponential",
        "Greedy",
        "Horizon",
        "InverseSqrt",
        "InverseTime",
        "LambdaValue",
        "LearningRateTest",
        "Linear",
        "MultiStepDecay",
        "NewBob",
        "OneCycle",
        "Phase",
        "Phases",
        "PiecewiseConstant",
        "PiecewiseInterpolate",
        "Polynomial",
        "Recorder",
        "ReduceOnPlateau",
        "Repeat",
        "ReportCallback",
        "Reversed",
        "Rex",
        "ScalarGroup",
        "Schedule",
        "ScheduleFreeAdamW",
        "ScheduleFreeSGD",
        "ScheduledScalar",
        "Sequence",
        "Staircase",
        "StepDecay",
        "Tanh",
        "ThresholdSwitch",
        "Truncated",
        "Warmup",
        "WarmupStableDecay",
        "Warp",
        "add_arguments",
        "attach",
        "clip",
        "cos",
        "detach",
        "exp",
        "find_learning_rate",
        "floor",
        "from_arguments",
        "from_config",
        "from_name",
        "layer_optimizer",
        "layer_scales",
        "log",
        "maximum",
        "minimum",
        "no_decay",
        "parse",
        "plot",
        "recompute_batch_norm",
        "register",
        "sin",
        "sqrt",
        "sync_ranks",
        "tanh",
        "to_config",
    }


@pytest.mark.parametrize(
    "name", sorted(n for n in dir(scalars) if n[0] != "_" and callable(getattr(scalars, n)))
)
def test_public_docstrings_say_what_to_know(name: str) -> None:
    text = inspect.getdoc(getattr(scalars, name)) or ""
    assert text.splitlines()[0].endswith(".") or text.splitlines()[0].endswith("[1].")
    assert "Example:" in text
    assert "    >>> " in text
    if inspect.isclass(getattr(scalars, name)) and name not in ("ScheduledScalar", "Schedule"):
        assert "Args:" in text
        assert "Raises:" in text


def imported_layers(path: Path) -> set[str]:
    """Return the folders of the package that a file imports at run time."""
    parts = path.relative_to(PACKAGE).parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parts[:-1][: len(parts) - node.level]
            target = (*base, *(node.module or "").split("."))
            found.add(target[0])
    return found & set(LAYERS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    if len(parts) > 1:
        height = LAYERS.index(parts[0])
        assert all(LAYERS.index(layer) <= height for layer in imported_layers(path))
    elif path.stem in BASE:
        assert not imported_layers(path)
    text = path.read_text()
    if not (parts[0] == "optimizers" or parts[-1] == "lr_finder.py"):
        assert "mlx.optimizers" not in text
    if parts[-1] not in ("mlx_protocol.py", "words.py", "lr_finder.py"):
        for quirk in ("mx.compile(", "std::", "nanobind"):
            code = "\n".join(
                line for line in text.splitlines() if ">>>" not in line and "``" not in line
            )
            assert quirk not in code.replace("mx.compile(inputs", "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_small(path: Path) -> None:
    # The classes that depend on each other are in one file, number/scalar.py.
    assert code_lines(path) <= (500 if path.name == "scalar.py" else 220)


def code_lines(path: Path) -> int:
    """Return the number of lines without docstrings, comments and blank lines."""
    tree = ast.parse(path.read_text())
    documented: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            documented.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(path.read_text().splitlines(), start=1)
    return sum(
        1
        for i, line in lines
        if i not in documented and line.strip() and not line.strip().startswith("#")
    )


def test_the_number_is_read_from_the_bottom_up() -> None:
    """Its files import in one direction only, also for type checkers."""
    order = "mlx_protocol watch cell operations together ranges scalar"
    files = order.split()
    assert {path.stem for path in (PACKAGE / "number").glob("*.py")} == {"__init__", *files}
    for name in files:
        for node in ast.walk(ast.parse((PACKAGE / "number" / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                if node.level == 2:
                    assert all(alias.name in BASE for alias in node.names) or node.module in BASE
                    continue
                used = [node.module] if node.module else [alias.name for alias in node.names]
                assert all(files.index(str(one)) < files.index(name) for one in used), name


def test_the_number_is_small() -> None:
    assert sum(code_lines(path) for path in (PACKAGE / "number").glob("*.py")) <= 875


def test_tools_and_schedules_are_loaded_when_they_are_used() -> None:
    imports = [
        node
        for block in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(block, ast.If)
        for node in block.body
    ]
    for_type_checkers = {
        node.names[0].name: str(node.module) for node in imports if isinstance(node, ast.ImportFrom)
    }
    assert for_type_checkers == scalars._LATER
    parts = "('scalars.tools', 'scalars.schedules.')"
    code = f"import scalars, sys; print([m for m in sys.modules if m.startswith({parts})])"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert loaded == "['scalars.schedules.base']\n"
    with pytest.raises(AttributeError, match="module 'scalars' has no attribute 'nothing'"):
        scalars.nothing  # noqa: B018
    misspelt = subprocess.run(
        [sys.executable, "-c", "import scalars; scalars.Recoder"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Did you mean: 'Recorder'?" in misspelt.stderr


def test_a_star_import_gives_every_public_name() -> None:
    names: dict[str, object] = {}
    exec("from scalars import *", names)
    assert set(names) - {"__builtins__"} == set(public_names()) - MODULES
    assert names["parse"] is scalars.parse


def test_help_names_everything_on_a_few_screens() -> None:
    documented = set(re.findall(r"\w+", scalars.__doc__ or ""))
    assert set(public_names()) <= documented
    code = "import scalars; help(scalars)"
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(shown.splitlines()) <= 100
    assert "find_learning_rate" in shown


def test_dir_shows_what_a_user_calls() -> None:
    """Check instances and classes, as completion in Python and IPython uses both."""
    numbers = {"as_integer_ratio", "conjugate", "imag", "is_integer", "item", "real"}
    calls = {"array", "astype", "at", "by_step", "dtype", "load_state_dict", "observe"}
    calls |= {"held", "hold", "progress", "release", "state", "state_dict", "update"} | numbers
    lr = scalars.Warmup(scalars.CosineAnnealing(1e-3), 0.1)
    assert shown(lr) == calls | {"curve", "fraction", "schedule", "start"}
    assert shown(type(lr)) == shown(1 - lr) == calls
    plateau = scalars.ReduceOnPlateau(0.1)
    assert shown(plateau) - calls - set(plateau._arguments()) == {"memory"}
    scale = scalars.DynamicLossScale()
    assert shown(scale) - calls - set(scale._arguments()) == {"apply", "unscale"}

    class Own(scalars.Schedule):
        peak: float
        monotone_pieces = True

        def value_at(self, progress: Any) -> Any:
            return self.peak * progress

        def half(self) -> float:
            return self.peak / 2

    assert shown(Own(1.0)) == calls | {"peak", "half"}
    stopping = scalars.EarlyStopping()
    fields = set(stopping._arguments())
    assert shown(stopping) - calls - fields == {"best", "improved", "memory", "patience_left"}
    for owned in (lr, 1 - lr, plateau, scale, stopping, Own(1.0)):
        assert all(hasattr(owned, name) for name in dir(owned))
    offered = Completer({"lr": lr})
    lines = list(takewhile(bool, (offered.complete("lr.", i) for i in count())))
    assert {line[3:].rstrip("()") for line in lines if line} == shown(lr)
    mapping = {"get", "items", "keys", "values"}
    group = {"observe", "progress", "snapshot", "state", "state_dict", "load_state_dict"}
    group |= {
        "check_ranks",
        "held",
        "hold",
        "horizon",
        "release",
        "step",
        "subscribe",
        "track",
        "update",
    } | mapping
    assert shown(scalars.ScalarGroup(lr=lr)) == group


SCALARS = {
    name: value
    for name, value in public_names().items()
    if inspect.isclass(value) and issubclass(value, scalars.ScheduledScalar)
}


@pytest.mark.parametrize("name", SCALARS)
def test_dir_shows_what_the_docstring_uses(name: str) -> None:
    """Attributes that are shown in an example are offered at a prompt."""
    examples = "\n".join(re.findall(r"(?:>>>|\.\.\.) (.*)", SCALARS[name].__doc__ or ""))
    used = set(re.findall(r"\.([a-z]\w*)", examples)) & set(vars(SCALARS[name]))
    assert used <= set(dir(SCALARS[name]))


def shown(value: object) -> set[str]:
    """Return the names that ``dir`` shows, without special names."""
    return {name for name in dir(value) if not name.startswith("_")}


def test_what_is_returned_has_a_short_repr() -> None:
    recorder = scalars.Recorder(group := scalars.ScalarGroup(lr=scalars.Linear(0.1, 0.0)))
    assert repr(recorder) == "<Recorder: 0 rows of nothing yet>"
    group.update(0.5)
    recorder.log(loss=1.0)
    assert repr(recorder) == "<Recorder: 1 rows of step, progress, lr, loss>"
    assert repr(group) == "ScalarGroup(lr=Linear(start=0.1, end=0.0))"
    horizon = scalars.Horizon(10)
    assert repr(horizon) == "Horizon(total_steps=10)"
    extended = scalars.Horizon(10, endpoint=True).extend(20, 5)
    assert eval(repr(extended), vars(scalars)) == extended
    assert repr(group["lr"].by_step(horizon)) == (
        "Linear(start=0.1, end=0.0).by_step(Horizon(total_steps=10))"
    )
    rates = [10.0 ** (i / 20 - 6) for i in range(100)]
    losses = [2.0 - i / 100 for i in range(100)]
    test = scalars.LearningRateTest(rates, losses, losses)
    assert repr(test).startswith("<LearningRateTest: 100 rates from 1e-06 to 0.089; valley ")
    assert len(repr(test)) < 120


def test_importing_pulls_in_nothing_else() -> None:
    code = (
        "import sys, mlx.core; before = set(sys.modules); import scalars; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(new & {'numpy', 'matplotlib', 'sklearn', 'rich', 'mlx_lm', 'yaml'})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
