"""``python -m scalars`` as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shlex
import subprocess
import sys
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import scalars
from scalars import CosineAnnealing, Linear, Schedule, Warmup, parse, to_config
from scalars.__main__ import main
from scalars.tools.peers import rows


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    main(arguments)
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def rows_of(text: str) -> list[str]:
    """Return the rows of a chart, right of the axis, as wide as the widest."""
    rows = [line for line in text.splitlines() if "┤" in line or "│" in line]
    rows = [row.partition("┤")[2] or row.partition("│")[2] for row in rows]
    return [row.ljust(max(map(len, rows))) for row in rows]


def dots_of(text: str) -> dict[int, list[int]]:
    """Return the dots of a chart by column, two in each character, numbered from above."""
    bits = {1: (0, 0), 8: (1, 0), 2: (0, 1), 16: (1, 1), 4: (0, 2), 32: (1, 2), 64: (0, 3)}
    bits[128] = (1, 3)
    found: dict[int, list[int]] = {}
    for i, row in enumerate(rows_of(text)):
        for j, sign in enumerate(row):
            for bit, (x, y) in bits.items():
                if 0x2800 <= ord(sign) <= 0x28FF and (ord(sign) - 0x2800) & bit:
                    found.setdefault(2 * j + x, []).append(4 * i + y)
    return found


def test_a_chart_falls_where_the_schedule_falls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    text = run("show", "Linear(3e-4, 0)", "--steps", "1000", capsys=capsys)
    lines = text.splitlines()
    assert lines[0] == "Linear(3e-4, 0)" + "0 to 0.0003".rjust(65)
    assert max(map(len, lines)) == 80
    assert "\x1b" not in text
    assert [line.split("┤")[0].strip() for line in lines if "┤" in line] == [
        "0.0003", "0.000225", "0.00015", "0.000075", "0",
    ]  # fmt: skip
    assert lines[-2].split() == ["0", "250", "500", "750", "1000"]
    assert lines[-1].strip() == "step"
    dots, rows = dots_of(text), len(rows_of(text))
    assert list(dots) == list(range(len(dots)))  # a dot in every column
    for column, ys in dots.items():  # on the line from the upper left to the lower right
        expected = (4 * rows - 1) * column / (len(dots) - 1)
        assert all(abs(y - expected) <= 1 for y in ys)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (60, 50)])
def test_each_scalar_has_a_panel_within_width_and_height(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    text = run(
        "show", "lr=Warmup(Linear(3e-4, 0), 0.5)",
        "ScalarGroup(dropout=Linear(0, 0.3), a_name_that_goes_on_and_on_and_on=0.5 * Linear(1, 1))",
        "--steps", "30", "--epochs", "3", capsys=capsys,
    )  # fmt: skip
    lines = text.splitlines()
    assert max(map(len, lines)) == width
    assert len(lines) < height
    titles = [line for line in lines if re.search(r" (always|\S+ to) \S+$", line)]
    assert [title.split()[0][:8] for title in titles] == ["lr", "dropout", "a_name_t"]
    assert [title.split()[-1] for title in titles] == ["0.0003", "0.3", "0.5"]
    assert all(len(title) == width for title in titles)
    assert ("warm-up" in text) is (height > 12)
    assert lines[-2].split() == ["0", "0.75", "1.5", "2.25", "3"][:: 1 if width > 48 else 4]
    assert lines[-1].strip() == "epoch"
    # The rate fills its panel, whatever the dropout rate is.
    rows = lines[lines.index(titles[0]) : lines.index(titles[1])]
    assert any(0x2800 < ord(sign) <= 0x28FF for sign in rows[-1])
    assert any(0x2800 < ord(sign) <= 0x28FF for sign in rows[2 if height > 12 else 1])


def test_a_jump_is_a_gap_in_a_chart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    dots = dots_of(run("show", "StepDecay(1, 0.5, 0.5)", "--steps", "8", capsys=capsys))
    levels = sorted({y for ys in dots.values() for y in ys})
    # 1, then 0.5, and 0.25 at the end as a small square, with nothing between them.
    assert levels[0] == 0
    assert levels[1] == pytest.approx(levels[-1] * 2 / 3, abs=1)
    assert levels[2:] == [levels[-1] - 1, levels[-1]]
    assert [x for x, ys in dots.items() if levels[-1] in ys] == [max(dots) - 1, max(dots)]


def test_a_logarithmic_chart(capsys: pytest.CaptureFixture[str]) -> None:
    text = run("show", "Exponential(1, 1e-4)", "--steps", "100", "--log", capsys=capsys)
    ticks = [line.split("┤")[0].strip() for line in text.splitlines() if "┤" in line]
    assert ticks == ["1", "0.1", "0.01", "0.001", "0.0001"]
    run("show", "CosineAnnealing(1)", "--steps", "100", "--log", capsys=capsys)  # ends at 0
    with pytest.raises(SystemExit):
        main(["show", "Linear(-1, 0)", "--steps", "100", "--log"])
    assert "the values must be above 0 for a logarithmic axis" in capsys.readouterr().err


def test_a_constant_has_a_chart(capsys: pytest.CaptureFixture[str]) -> None:
    assert "0.3┤" in run("show", "0.3", "--steps", "1", capsys=capsys)


def test_a_picture_is_saved_even_if_nobody_reads_the_values(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scalars", "show", "Linear(1, 0)", "--steps", "1000000"]
    picture = tmp_path / "run.png"
    with subprocess.Popen(
        [*command, "--csv", "--png", str(picture)], stdout=subprocess.PIPE
    ) as run_:
        assert run_.stdout is not None
        assert run_.stdout.readline() == b'step,"Linear(1, 0)"\n'
        run_.stdout.close()
        assert run_.wait() == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_values_as_csv(capsys: pytest.CaptureFixture[str]) -> None:
    schedule = "Warmup(CosineAnnealing(1e-3), 0.1)"
    text = run("show", schedule, "b=Linear(1, 0)", "--steps", "20", "--csv", capsys=capsys)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["step"]) for row in rows] == list(range(20))
    lr = Warmup(CosineAnnealing(1e-3), 0.1)
    assert [float(row[schedule]) for row in rows] == [lr.at(i / 20) for i in range(20)]
    assert [float(row["b"]) for row in rows] == pytest.approx([1 - i / 20 for i in range(20)])


def test_without_steps_the_progress_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run("show", "Linear(3, 1)", capsys=capsys).splitlines()
    assert lines[-2].split() == ["0", "0.25", "0.5", "0.75", "1"]
    assert lines[-1].strip() == "progress"
    rows = list(csv.DictReader(io.StringIO(run("show", "v=Linear(3, 1)", "--csv", capsys=capsys))))
    assert [float(row["progress"]) for row in rows] == [i / 100 for i in range(101)]
    assert [float(row["v"]) for row in rows] == pytest.approx([3 - 2 * i / 100 for i in range(101)])
    file = tmp_path / "lr.png"
    run("show", "Linear(1, 0)", "--png", str(file), capsys=capsys)
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_names_of_hugging_face_with_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(
        "show", "a=cosine(0.1, warmup_steps=5)", "b=2 * linear(0.1)", "--steps", "20", "--csv",
        capsys=capsys,
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(text)))
    # get_cosine_schedule_with_warmup(optimizer, 5, 20), and get_linear_... without a warm-up.
    cosine = [
        0.1 * (i / 5 if i < 5 else 0.5 * (1 + math.cos(math.pi * (i - 5) / 15))) for i in range(20)
    ]
    assert [float(row["a"]) for row in rows] == pytest.approx(cosine)
    assert [float(row["b"]) for row in rows] == pytest.approx(
        [0.2 * (1 - i / 20) for i in range(20)]
    )
    for name in ("cosine", "reduce_lr_on_plateau", "warmup_stable_decay"):
        assert name in run("list", capsys=capsys)
    with pytest.raises(ValueError, match="must be that of a schedule, got 'cosine'"):
        parse("cosine(0.1)")  # works only in the command line, which has the steps


OWN = """
from __future__ import annotations

from scalars import Linear, Schedule, register
from scalars.checks import Positive


class Parabola(Schedule):
    \"\"\"A parabola.\"\"\"

    start: Positive

    def value_at(self, progress):
        return self.start * (1 - progress) ** 2


class Bare(Parabola):
    end: Positive = 1


register("Parabola", Parabola)
register("Plain", Bare)
register("tent", lambda peak: Linear(0, peak) * Linear(4, 0))
"""


@pytest.mark.parametrize("by", ["file", "module"])
def test_schedules_of_ones_own(by: str, tmp_path: Path) -> None:
    (tmp_path / "my_schedules.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "json.py").write_text("")
    (tmp_path / "run.json").write_text(json.dumps({"name": "Parabola", "start": 2}))

    def scalars_of(*arguments: str, load: str) -> Any:
        own = ["--load", f"{load}.py" if by == "file" else load]
        command = [sys.executable, "-m", "scalars", *arguments, *own]
        environment = {**os.environ, "PYTHONPATH": str(Path(scalars.__file__).parents[1])}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
        )

    shown = scalars_of("show", "a=Parabola(4)", "b=tent(1)", "--csv", load="my_schedules")
    row = next(row for row in csv.reader(io.StringIO(shown.stdout)) if row[0] == "0.5")
    assert (shown.stderr, row) == ("", ["0.5", "1.0", "1.0"])
    listed = scalars_of("list", load="my_schedules").stdout
    assert "Parabola(start)\n    A parabola.\n" in listed
    assert "\nPlain(start, end=1)\n" in listed
    assert "Annotated" not in listed
    assert scalars_of("convert", "run.json", load="my_schedules").stdout == "Parabola(start=2)\n"
    broken = scalars_of("list", load="broken")
    assert (broken.returncode, broken.stdout) == (2, "")
    assert (
        "--load must be a module or a file that can be imported: ZeroDivisionError" in broken.stderr
    )
    assert broken.stderr.count("\n") == 1
    if by == "file":  # not another module of that name
        assert "json/__init__.py has the same name" in scalars_of("list", load="other/json").stderr


def test_help_has_examples_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    examples = [
        shlex.split(line)[1:] for line in text.splitlines() if line.startswith("  scalars ")
    ]
    assert len(examples) >= 7
    for arguments in examples:
        if not {"--load", "convert", "lora"} & set(arguments):
            run(*arguments[: arguments.index(">") if ">" in arguments else None], capsys=capsys)
    assert (tmp_path / "run.png").exists()


def test_the_version_is_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"scalars {scalars.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", scalars.__version__)
    assert metadata.version("mlx-scalars") == scalars.__version__


def test_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lr.png"
    assert run("show", "Linear(1, 0)", "--steps", "9", "--png", str(file), capsys=capsys) == (
        f"saved to {file}\n"
    )
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_list_names_every_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run("list", capsys=capsys).splitlines()
    listed = {line.partition("(")[0]: after for line, after in pairwise(lines)}
    for name in dir(scalars):
        value = getattr(scalars, name)
        if isinstance(value, type) and issubclass(value, Schedule) and value is not Schedule:
            assert name in listed or name == "LambdaValue"
    assert "CosineAnnealing(start, end=0.0, power=1.0)" in lines
    assert listed["CosineAnnealing"] == "    Anneal from start to end along half a cosine."
    assert all(len(line) <= 80 for line in lines)


CONVERTED: list[tuple[str, str, str]] = [
    ("a.json", json.dumps(to_config(Linear(1.0, 0.5) * 2)), "Linear(start=1.0, end=0.5) * 2"),
    ("a.json", '"Linear(1, 0)"', "Linear(start=1, end=0)"),
    (
        "a.yaml",
        "learning_rate: 1.0e-5\niters: 1000\nmodel: some\nlr_schedule:\n  name: cosine_decay\n"
        "  warmup: 99\n  warmup_init: 1.0e-7\n  arguments: [1.0e-5, 900, 1.0e-7]\n",
        "Sequence(schedules=(Linear(start=1e-07, end=1e-05), Constant(value=1e-05), "
        "CosineAnnealing(start=1e-05, end=1e-07)), boundaries=(0.099, 0.1))",
    ),
    ("a.yml", "learning_rate: 1.0e-5\nlr_schedule: null\n", "Constant(value=1e-05)"),
    (  # with accumulation the optimizer makes 250 steps
        "a.yaml",
        "learning_rate: 1e-5\niters: 1000\ngrad_accumulation_steps: 4\n"
        "lr_schedule:\n  name: cosine_decay\n  arguments: [1e-5, 1000]\n",
        "Truncated(schedule=CosineAnnealing(start=1e-05), end=0.25)",
    ),
    (
        "a.yaml",
        "learning_rate: 1e-5\niters: 1000\ngrad_accumulation_steps: 4\noptimizer: adamw\n"
        "lr_schedule:\n  name: linear_schedule\n  arguments: [1e-5, 0.0, 125]\n"
        "optimizer_config:\n  adamw:\n    weight_decay: Linear(0, 0.1)\n"
        '    betas: ["Linear(0.85, 0.95)", 0.999]\n  adam:\n    eps: Linear(0, 1)\n'
        'lora_parameters: {rank: 8, dropout: "Linear(0.1, 0)", scale: 10}\n',
        "learning_rate = Sequence(schedules=(Linear(start=1e-05, end=0.0), Constant(value=0.0)), boundaries=(0.5,))\n"
        "weight_decay = Linear(start=0, end=0.1)\nbetas.0 = Linear(start=0.85, end=0.95)\n"
        "dropout = Linear(start=0.1, end=0)",
    ),
    (
        "a.yaml",
        "iters: 10\nlr_schedule: Warmup(CosineAnnealing(1e-4, 1e-6), 0.1)\n",
        "Warmup(schedule=CosineAnnealing(start=0.0001, end=1e-06), fraction=0.1)",
    ),
    (
        "a.json",
        '{"lr": {"name": "Linear", "start": 1, "end": 0}, "wd": "Linear(0, 1)", "p": 0.5}',
        "lr = Linear(start=1, end=0)\nwd = Linear(start=0, end=1)\np = Constant(value=0.5)",
    ),
]


@pytest.mark.parametrize(("name", "text", "expected"), CONVERTED)
def test_convert(
    name: str, text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    printed = run("convert", str(tmp_path / name), capsys=capsys)
    assert printed == expected + "\n"
    for line in printed.splitlines():
        parse(line.rpartition(" = ")[2])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TOML came with Python 3.11")
def test_convert_toml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text('[lr]\nname = "Linear"\nstart = 1.0\nend = 0.0\n')
    assert run("convert", str(tmp_path / "a.toml"), capsys=capsys) == (
        "lr = Linear(start=1.0, end=0.0)\n"
    )


BAD: list[tuple[list[str], str]] = [
    ([], "the following arguments are required: COMMAND"),
    (["shw"], "invalid choice: 'shw'"),
    (["list", "Wramup"], "got 'Wramup'. Did you mean Warmup?"),
    (["show", "Linear(1, 0)", "--epochs", "2"], "--steps must be given with --epochs"),
    (
        ["show", "cosine"],
        "the name at column 1 must be called with its arguments, got 'cosine'. Write cosine(...)",
    ),
    (["show", "lr = Linear"], "text must be an expression"),
    (["show", "lr=Linear"], "Write Linear(...). Run 'scalars list' to see its arguments."),
    (["show", "cosine(1, warmup_steps=5)"], "--steps must be given for cosine with a number of"),
    (
        ["show", "inverse_sqrt(1, timescale=100)"],
        "--steps must be given for inverse_sqrt with a num",
    ),
    (["show", "inverse_sqrt(1)"], "--steps must be given for inverse_sqrt with a number of steps"),
    (
        ["show", "cosine_warmup_with_min_lr(1, end_ratio=0.1)"],
        "--steps must be given for cosine_warmup_with_min_lr with a number of steps",
    ),
    (["show", "lr=Linear(1, 0)", "lr=Linear(2, 0)"], "a name must be given once, and not that"),
    (["show", "step=Linear(1, 0)"], "not that of the first column, step or progress, got 'step'"),
    (["show", "2**2**2**2**9"], "must be computable, got 'Numerical result out of range'"),
    (["show", "cosine()"], "called as cosine(peak, warmup_steps=0, end_ratio=None, **options)"),
    (["show", "cosine(1, 20)", "--steps", "10"], "from 0 to total_steps, 10, got 20"),
    (["show", "triangle(1)"], "must be that of a schedule, got 'triangle'"),
    (["show", "1", "--load", "no_such"], "ModuleNotFoundError: No module named 'no_such'"),
    (["list", "--load", "no/such.py"], "ModuleNotFoundError: No module named 'such', got 'no/such"),
    (["show", "Linear(1, 0)", "--steps", "ten"], "invalid int value: 'ten'"),
    (["show", "Linear(1, 0)", "--steps", "0"], "--steps must be a whole number of at least 1"),
    (["show", "Linaer(1, 0)", "--steps", "9"], "got 'Linaer'. Did you mean Linear?"),
    (["show", "Linear(1,", "--steps", "9"], "text must be an expression: '(' was never closed"),
    (["show", "Linear(1, 'x')", "--steps", "9"], "end of Linear must be a finite real number"),
    (["show", "Linear(-1, 0)", "--steps", "9", "--log"], "must be above 0 for a logarithmic axis"),
    (["show", "Linear(1, 0)", "--steps", "9", "--epochs", "2"], "--steps must be a multiple of"),
    (["show", "Linear(1, 0)", "--steps", "9", "--epochs", "0"], "--epochs must be a whole number"),
    (["show", "Linear(1, 0)", "--steps", "9", "--png", "/no/where.png"], "No such file"),
    (["convert", "/no/where.json"], "No such file or directory"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: str(value)[:40])
def test_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert stopped.value.code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("scalars: ")
    assert message in captured.err


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"{", "Expecting property name"),
        ("a.json", b"[" * 100_000, "recursion"),
        ("a.json", b"\xff\xfe", "codec can't decode"),
        ("a.json", b" " * 1_000_001, "FILE must be at most 1000000 bytes"),
        ("a.json", b'{"name": "Linear", "start": NaN, "end": 1}', "start of Linear must be a fin"),
        ("a.yaml", b"a: [", "FILE must be YAML"),
        ("a.yaml", b"!!python/object/apply:os.system ['true']", "FILE must be YAML"),
        ("a.txt", b"Linear(1, 0)", "FILE must be a .json, .toml or .yaml file"),
        ("a.yaml", b"name: Linaer", "Did you mean Linear?"),
        ("a.yaml", b"iters: 9\nlr_schedule: Linaer(1, 0)", "lr_schedule: the name at column 1 must be"),
        ("a.yaml", b"iters: 9\nlearning_rate: [1]", "learning_rate: config must be a mapping, a text or a nu"),
        ("a.yaml", b"- 1\n", "config must be a mapping, a text or a number, got [1]"),
        (
            "a.yaml",
            b"a0: &a0 [1]\n"
            + b"".join(b"a%d: &a%d [*a%d, *a%d, *a%d]\n" % (i, i, i - 1, i - 1, i - 1) for i in range(1, 30)),
            "config must be at most 20000 items",
        ),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_bad_files(
    name: str, data: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(tmp_path / name)])
    captured = capsys.readouterr()
    assert (stopped.value.code, captured.out) == (2, "")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def process(*command: str, **environment: str) -> Any:
    return subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, **environment}, timeout=60
    )


def test_as_a_module_and_as_a_script() -> None:
    arguments = ["show", "Linear(1, 0)", "--steps", "9"]
    module = process(sys.executable, "-m", "scalars", *arguments, COLUMNS="80")
    script = process(str(Path(sys.executable).parent / "scalars"), *arguments, COLUMNS="80")
    assert module.returncode == script.returncode == 0
    assert module.stdout == script.stdout
    assert module.stdout.decode().startswith("Linear(1, 0)")
    assert module.stderr == script.stderr == b""
    failed = process(sys.executable, "-m", "scalars", "show", "x", "--steps", "9")
    assert (failed.returncode, failed.stdout) == (2, b"")
    assert failed.stderr.startswith(b"scalars: text at column 1 must be made of calls")


def test_nobody_reads_on() -> None:
    shell = f"'{sys.executable}' -m scalars show 'Linear(1, 0)' --steps 100000 --csv | head -1"
    ended = process("bash", "-o", "pipefail", "-c", shell)
    assert ended.stdout == b'step,"Linear(1, 0)"\n'
    assert b"Traceback" not in ended.stderr


def test_a_terminal_without_unicode() -> None:
    ended = process(
        sys.executable, "-m", "scalars", "show", "Linear(1, 0)", "--steps", "9",
        PYTHONIOENCODING="ascii", PYTHONUTF8="0",
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.isascii()
    assert ended.stdout.count(b"*") > 20


def test_mlx_lms_own_notation_of_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """YAML 1.1 reads 1e-5 as a text, so mlx-lm and this package add a resolver."""
    config = tmp_path / "lora.yaml"
    config.write_text(
        "iters: 1000\nlearning_rate: 1e-5\n"
        "lr_schedule:\n  name: cosine_decay\n  arguments: [1e-5, 1000, 1e-7]\n"
    )
    text = run("convert", str(config), capsys=capsys)
    assert text == "CosineAnnealing(start=1e-05, end=1e-07)\n"


@pytest.mark.parametrize("name", ["endless.json", "endless"])
def test_a_device_that_never_ends_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(SystemExit, match="2"):
        main(["convert", str(tmp_path / name)])
    assert "FILE must be" in capsys.readouterr().err


def test_with_standard_output_closed() -> None:
    command = f"{sys.executable} -m scalars list >&-"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color(
    no_color: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = run("show", "Linear(1, 0)", "--steps", "10", capsys=capsys)
    assert ("\x1b" in text) is (no_color == "")


def test_calls_of_other_libraries_are_wrapped_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    piped = run("from", "(", capsys=capsys)  # every row
    assert f"\n{rows()[0][0]}: {rows()[0][1]}\n    {rows()[0][2]}\n" in piped
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    wrapped = run("from", "(", capsys=capsys)
    assert max(map(len, piped.splitlines())) > 150
    assert max(map(len, wrapped.splitlines())) == 80
    assert wrapped.split() == piped.split()
    assert "\n        # n batches per epoch\n    Staircase(Linear(s, s * g), n / T)" in wrapped
    with_comma = [line for line in wrapped.splitlines() if line.endswith(",")]
    assert len(with_comma) > 50  # broken between arguments


def test_what_to_write_for_another_library(capsys: pytest.CaptureFixture[str]) -> None:
    header, more, *lines = run("from", "transformers get_wsd", capsys=capsys).splitlines()
    assert header.startswith("For T steps: ")
    assert more == "n = steps, g = factor, k = power"
    assert lines[:2] == [
        "transformers: get_wsd_schedule(opt, w, n, T)",
        '    WarmupStableDecay(s, w / T, n / T, curve="cosine")',
    ]
    assert len(lines) == 6
    found = run("from", "thinc", capsys=capsys).splitlines()[2:]
    assert {line.partition(":")[0] for line in found[::2]} == {"thinc"}
    assert len(run("from", "COSINE", "restart", capsys=capsys).splitlines()) > 10
    assert "Horizon(T, offset=1)" in run("from", "rex", capsys=capsys)
    assert run("from", "huggingface wsd", capsys=capsys).splitlines()[2] == lines[0]
    for words, library in (("yolo", "ultralytics"), ("SB3", "Stable-Baselines3")):
        assert f"\n{library}: " in run("from", words, capsys=capsys)
    path = "torch.optim.lr_scheduler.CosineAnnealingLR"
    assert "\nPyTorch: CosineAnnealingLR(opt, T, e)\n" in run("from", path, capsys=capsys)
    both = run("from", "tensorflow cosine", capsys=capsys)
    assert "\nKeras: CosineDecay(" in both
    assert "\nTensorFlow: tf.compat.v1.train.cosine_decay(" in both
    for words, name in (
        ("pytorch ReduceLROnPlateau", "ReduceOnPlateau"),
        ("keras earlystopping", "EarlyStopping"),
        ("newbob", "NewBob"),
        ("huggingface greedy", "Greedy"),
    ):
        assert run("from", words, capsys=capsys) == f"See help(scalars.{name}).\n"
    with pytest.raises(SystemExit):
        main(["from", "transformers", "nothing"])
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("scalars: the words must be part of a library and of one of its calls")
    assert "Choose from the libraries PyTorch, optax, MLX" in error


def test_some_of_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "Linear", "cosine", capsys=capsys) == (
        "Linear(start, end)\n    Move from start to end along a straight line.\n"
        "cosine(peak, warmup_steps=0, end_ratio=None, **options)\n"
    )
