"""Every example in the README and in ``examples`` runs as written."""

from __future__ import annotations

import ast
import csv
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from scalars import Linear, ScalarGroup
from scalars.tools.peers import rows

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "examples" / "guide.md").read_text()
PROSE = " ".join(f"{README} {GUIDE}".split())


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def printed_by(text: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run the code blocks of a page one after another, and return what each prints."""
    names: dict[str, Any] = {}
    printed = []
    for block in blocks("python", text):
        exec(compile(block, "a page", "exec"), names)
        printed.append(capsys.readouterr().out)
    return printed


def test_readme_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    first, anywhere, attached, driven, logged, captured, own = printed_by(README, capsys)
    # The warm-up ends at step 10 of 100; the cosine is 0.1 to 0.001 over the other 90.
    by_hand = [0.001 + 0.099 * (1 + math.cos(math.pi * (s - 10) / 90)) / 2 for s in (25, 50, 75)]
    rates = [float(rate) for rate in re.findall(r"learning rate (\S+),", first)]
    assert rates == pytest.approx([0.0, *by_hand], abs=5e-4)
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", first)]
    assert losses[0] > 1
    assert losses[-1] < 0.01
    # At the end of the warm-up, a tenth of it, at the end of the run, and not below 0.01.
    assert [float(x) for x in anywhere.split()] == pytest.approx([0.1, 0.01, 0.001, 0.01])
    # At 99 of 100 steps: 0.1 - 0.09 * 0.99, 0.3 * 0.99, 0.99e-3.
    assert "'weight_decay': '0.011', 'layers.1.p': '0.3', 'aux': '0.00099'" in attached
    # The warm-up to 3e-4 takes 50 steps: 6e-6 each.
    assert driven.splitlines()[-1] == "3 steps done, next learning rate 1.8e-05"
    row = ast.literal_eval(logged)
    rate = 0.1 * (1 + math.cos(math.pi * 0.75)) / 2
    expected = {"step": 3, "progress": 0.75, "learning_rate": rate, "weight_decay": 0.025}
    assert row == pytest.approx({**expected, "loss": 0.25})
    assert captured.replace("array", "").replace(", dtype=float32", "") == "(0)\n(1)\n(2)\n"
    assert own == "0.055 0.025 Quadratic(start=0.1)\n"


def test_guide_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    resumed, metrics, held, text, free = printed_by(GUIDE, capsys)
    assert resumed == "3 {'learning_rate': {'progress': 0.003}}\n"
    # The loss reaches 0.2 in epoch 8: reduced after 3 epochs, stopped after 5.
    assert metrics == "stopped after epoch 13, best epoch 8, learning rate 0.0005\n"
    assert held == ""
    assert ast.literal_eval(text)["schedule"] == {"name": "CosineAnnealing", "start": 0.001}
    assert free == "True\n"


def test_what_is_said_of_layers_in_half_precision() -> None:
    p = Linear(0.001, 0.001)
    assert (1 - p.astype(mx.bfloat16)).array.item() == 1.0
    assert (1 - p.astype(mx.float32)).array.item() == pytest.approx(0.999)
    assert mx.stack([p.array, 1 - p.array]).tolist() == pytest.approx([0.001, 0.999])
    with pytest.raises(ValueError, match="Invalid type"):
        mx.array([p, 1 - p])


def test_readme_is_short_and_its_files_exist() -> None:
    assert len(README.splitlines()) <= 310
    for path in re.findall(r"`((?:examples|\.github)/\S+?)`", README + GUIDE):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [README, GUIDE])
def test_links_within_a_page_lead_to_its_headings(page: str) -> None:
    headings = [heading.lower() for heading in re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)]
    anchors = {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#(.*?)\)", page)
    assert links
    assert set(links) <= anchors


def test_readme_counts_the_rows_of_the_table() -> None:
    (counts,) = re.findall(r"(\d+) calls\s+of (\d+) libraries", README)
    assert counts == (str(len(rows())), str(len({library for library, _, _ in rows()})))


def test_readme_commands_are_the_two_of_the_project() -> None:
    (commands,) = blocks("bash")
    assert commands.splitlines() == [
        'pip install -e ".[cpu,examples]" && python examples/digits.py',
        'pip install -e ".[cpu,test]" && pytest',
    ]


def run(script: str, *arguments: str, folder: Path | None = None) -> str:
    """Run an example as a user would, at 80 columns, and return what it prints."""
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / script, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80", "TQDM_DISABLE": "1"},  # no progress bars of mlx-lm
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_every_example_is_tested() -> None:
    tested = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))
    assert {path.name for path in (ROOT / "examples").glob("*.py")} <= tested


def test_plain_loop() -> None:
    lines = run("plain_loop.py").splitlines()
    rates = [float(re.findall(r"lr (\S+)", line)[0]) for line in lines]
    losses = [float(re.findall(r"loss (\S+)", line)[0]) for line in lines]
    # The warm-up ends at step 20 of 200; the cosine is 0.1 to 0.001 over the other 180.
    steps = [40, 80, 120, 160, 199]
    expected = [0.001 + 0.099 * (1 + math.cos(math.pi * (step - 20) / 180)) / 2 for step in steps]
    assert rates == pytest.approx([0.0, *expected], abs=1e-5)
    assert losses[0] > 1
    assert losses[-1] < 0.483  # the least squares fit is at 0.4823


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 5])
def test_mlx_lm_finetune(accumulation: int) -> None:
    output = run("mlx_lm_finetune.py", "--iterations", "24", "--accumulation", str(accumulation))
    shown = (
        r"^iteration +(\d+)  loss (\S+)  learning_rate (\S+)  weight_decay (\S+)  z_weight (\S+)$"
    )
    lines = [list(map(float, line)) for line in re.findall(shown, output, flags=re.MULTILINE)]
    assert [line[0] for line in lines] == list(range(3, 25, 3))
    assert lines[-1][1] < lines[0][1]
    for iteration, _, _, decay, weight in lines:  # values of the next step
        progress = (iteration // accumulation) / (24 // accumulation)
        assert decay == pytest.approx(0.1 * progress, rel=0.05)
        assert weight == pytest.approx(1e-3 * progress, rel=0.05)
    assert len(re.findall(r"^validation loss \S+$", output, flags=re.MULTILINE)) == 3
    assert "dtypes: {'mlx.core.bfloat16'}" in output


@pytest.mark.slow
def test_distributed_alone() -> None:
    output = run("distributed.py")
    assert output.startswith("rank 0 of 1: accuracy 9")
    assert "weight_decay 0.099  layers.2.p 0.2  smoothing 0.011\n" in output


def test_log_values(tmp_path: Path) -> None:
    lines = run("log_values.py", "--folder", str(tmp_path / "runs")).splitlines()
    names = "step, progress, learning_rate, weight_decay, loss"
    assert lines[0] == f"200 rows in runs: {names}"
    assert (tmp_path / "runs" / "values.csv").read_text().splitlines()[0] == names.replace(" ", "")
    first, last = re.findall(r"[\d.]+", lines[1])
    assert float(first) > 0.9
    assert float(last) < 0.49


def test_an_example_leaves_nothing_behind_unless_asked(tmp_path: Path) -> None:
    assert run("log_values.py", folder=tmp_path).startswith("200 rows in values: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_walkthrough(tmp_path: Path) -> None:
    lines = run("walkthrough.py", "--pictures", str(tmp_path / "a")).splitlines()
    pictures = [line.removeprefix("saved a/") for line in lines if line.startswith("saved")]
    assert pictures == ["rate.png", "plan.png", "run.png"]
    first, *epochs = [line for line in lines if not line.startswith("saved")]
    rate = float(re.fullmatch(r"found a rate of (\S+)", first)[1])  # type: ignore[index]
    shown = r"epoch +\d+  lr (\S+)  held-out loss (\S+)"
    rates, losses = zip(*[map(float, re.fullmatch(shown, line).groups()) for line in epochs])  # type: ignore[union-attr]
    # At the last step of the first epoch, the 30th, the warm-up is 29 steps old.
    assert rates[0] == pytest.approx(rate * 29 / 30, rel=0.05)
    # A loss that is no better than the best so far halves the rate, after the warm-up.
    worse = [i for i in range(1, 10) if losses[i] >= min(losses[:i]) * (1 - 1e-4)]
    halved = [i for i in range(2, 10) if rates[i] < 0.6 * rates[i - 1]]
    assert halved == worse
    assert losses[-1] < 0.5
    assert all((tmp_path / "a" / name).stat().st_size > 20_000 for name in pictures)


@pytest.mark.slow
def test_find_lr(tmp_path: Path) -> None:
    lines = run("find_lr.py", "--png", str(tmp_path / "a.png")).splitlines()
    assert re.fullmatch(r"valley \S+  steepest \S+  minimum \S+", lines[0])
    accuracies = [float(line.split()[-1].rstrip("%")) for line in lines[2:]]
    assert len(accuracies) == 3
    assert min(accuracies) > 96
    assert (tmp_path / "a.png").stat().st_size > 20_000


@pytest.mark.slow
def test_layers() -> None:
    each, one, last = run("layers.py").splitlines()
    # 0.01, and three layers before it: divided by 2.6, 2.6**2 and 2.6**3.
    assert each.startswith("a rate for each layer (at most 0.00057, 0.0015, 0.0038, 0.01): ")
    assert one.startswith("one rate (at most 0.01): ")
    accuracies = [float(line.split()[-1].rstrip("%")) for line in (each, one, last)]
    assert min(accuracies[:2]) > accuracies[2] + 5


@pytest.mark.slow
def test_train_cli(tmp_path: Path) -> None:
    text = "--lr_schedule step_schedule --decay_steps 100 --decay_gamma 0.5 --max_steps 300"
    flags = text.split()
    whole = run("train_cli.py", *flags).splitlines()
    assert [line.split()[4] for line in whole] == [
        "0.100000", "0.100000", "0.050000", "0.050000", "0.025000", "0.025000",
    ]  # fmt: skip
    saved = ["--checkpoint", str(tmp_path / "run")]
    first = run("train_cli.py", *flags, *saved, "--steps_this_run", "121").splitlines()
    second = run("train_cli.py", *flags, *saved).splitlines()
    assert [*first, *second] == whole  # the same losses, to the last printed digit
    own = run("train_cli.py", "--lr_schedule", "warm_restarts", "--decay_steps", "100")
    # Two thirds of the run are two cycles: step 240 is 40 % through the third one.
    assert f"{0.05 * (1 + math.cos(math.pi * 0.4)):.6f}" in own.splitlines()[-2]


@pytest.mark.slow
def test_adaptive() -> None:
    lines = run("adaptive.py").splitlines()
    rates, switches, scales, skipped = (
        [float(re.findall(rf" {name} (\S+)", line)[0]) for line in lines]
        for name in ("learning_rate", "switch", "scale", "skipped")
    )
    # The rate was halved, the first loss is done, the scale is 2**24 / 2**5 after five overflows,
    # doubled after every 100 steps without one.
    assert [rate / 4e-3 for rate in rates[:2]] == [1, 1]
    assert rates[-1] == 1e-4
    assert switches[-1] == 0
    assert skipped[0] >= 3
    assert scales[0] == pytest.approx(2.0 ** (24 - skipped[0]), rel=0.01)
    assert max(scales) > scales[0]
    assert float(re.findall(r" name (\S+)", lines[-1])[0]) < 0.5


@pytest.mark.slow
def test_schedule_free(tmp_path: Path) -> None:
    short = ["--epochs", "5", "--seeds", "2"]
    header, *rows = run("schedule_free.py", *short, "--png", str(tmp_path / "a.png")).splitlines()
    assert header.split()[:2] == ["method", "rate"]
    names = [row.split()[0] for row in rows]
    assert names == ["constant", "cosine", "1cycle", "schedule-free"]
    for row in rows:
        cells = [float(cell) for cell in re.findall(r"([\d.]+) ±", row)]
        assert len(cells) == 6
        assert cells[2] < cells[0]  # the loss falls
        assert cells[5] > 80  # the accuracy at the end
    assert (tmp_path / "a.png").stat().st_size > 20_000


@pytest.mark.slow
def test_schedule_free_mlx_lm() -> None:
    text = run("schedule_free_mlx_lm.py", "--parts", "3")
    found = re.findall(r"step +(\d+)  held-out loss ([\d.]+), at the average ([\d.]+)", text)
    assert [int(step) for step, _, _ in found] == [40, 80, 120]
    averages = [float(average) for _, _, average in found]
    assert averages == sorted(averages, reverse=True)
    assert averages[-1] < 2.4
    assert all(at_y != average for _, at_y, average in found)


@pytest.mark.slow
def test_tiny_model(tmp_path: Path) -> None:
    command = run("tiny_model.py", str(tmp_path)).split()
    assert command[0] == "python"
    subprocess.run([sys.executable, *command[1:]], capture_output=True, check=True)
    rows = [*csv.DictReader((tmp_path / "run.csv").read_text().splitlines())]
    losses = [float(row["train_loss"]) for row in rows if row["train_loss"]]
    assert len(losses) == 10
    assert losses[-1] < losses[0] - 0.2
    for row in rows:
        assert float(row["weight_decay"]) == pytest.approx(0.01 + 0.09 * int(row["step"]) / 100)
    assert (tmp_path / "run.png").stat().st_size > 20_000


@pytest.mark.slow
def test_gallery(tmp_path: Path) -> None:
    file = tmp_path / "drawn.png"
    *names, last = run("gallery.py", str(file)).splitlines()
    assert last == "25 schedules drawn to drawn.png"
    assert names[13].startswith("14 of 25: CosineAnnealingWarmRestarts(1, first_cycle=1/7, ")
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (ROOT / "examples" / "schedules.png").stat().st_size > 50_000


@pytest.mark.slow
def test_phases() -> None:
    lines = run("phases.py").splitlines()
    sizes = [int(re.findall(r"batch size +(\d+)", line)[0]) for line in lines]
    rates = [float(re.findall(r"lr (\S+)", line)[0]) for line in lines]
    assert sizes == [32] * 2 + [64] * 6 + [256] * 4
    assert rates[2:8] == [0.01] * 6
    assert rates[-1] < 0.001
    assert float(re.findall(r"accuracy (\S+)%", lines[-1])[0]) > 96


@pytest.mark.slow
def test_loss_mixing() -> None:
    lines = run("loss_mixing.py").splitlines()
    rows = [[float(number) for number in re.findall(r"\d+\.?\d*", line)] for line in lines]
    steps, w, rest, late, _, named, _ = map(list, zip(*rows))
    assert w == pytest.approx(
        [(1 + math.cos(math.pi * step / 300)) / 2 for step in steps], abs=1e-4
    )
    assert rest == pytest.approx([1 - weight for weight in w], abs=2e-4)
    assert late[:-1] == [0] * 5
    assert late[-1] == pytest.approx(1e-3, abs=1e-4)
    assert named[0] > 2
    assert named[-1] < 0.1


@pytest.mark.slow
def test_digits() -> None:
    output = run("digits.py", "--epochs", "12")
    result = r"^(\w+, \w+): held-out accuracy (\S+)%"
    accuracy = dict(re.findall(result, output, flags=re.MULTILINE))
    assert set(accuracy) == {
        f"{name}, {mode}" for name in ("scheduled", "constant") for mode in ("eager", "compiled")
    }
    assert all(float(value) > 96 for value in accuracy.values())
    # At the last of 252 steps: wd 0.01 + 0.09 * 251/252 and so on, as the bar shows them.
    assert output.count("wd 0.1 ") == output.count("dropout 0.3 ") == 2
    assert all(len(line) <= 80 for line in output.splitlines())


def test_what_mlx_says_of_what_it_cannot_take() -> None:
    """The guide quotes both messages."""
    x = mx.array([[1.0, 2.0]])
    scalar = Linear(1e-5, 1e-2)
    norm = mx.compile(lambda x: mx.fast.rms_norm(x, None, scalar), inputs=[scalar.state])
    with pytest.raises(TypeError, match="incompatible function arguments"):
        norm(x)
    assert 'compiled, MLX says "incompatible function arguments"' in PROSE
    with pytest.raises(ValueError, match="Function arguments must be trees of arrays"):
        nn.leaky_relu(x, scalar)
    assert '`nn.leaky_relu(x, s)`, say "must be trees of arrays"' in PROSE
    assert mx.array_equal(nn.leaky_relu(x, scalar.array), x)


def test_the_check_of_liveness_tells_a_frozen_scalar() -> None:
    """The README compares two losses at two progresses, with the same weights."""
    lines = "group.update(0); a = loss(x, y); group.update(1); b = loss(x, y)"
    assert f"`{lines}`" in PROSE
    model, weight = nn.Linear(2, 1), Linear(0.0, 1.0)
    group = ScalarGroup(weight=weight)
    for captured, live in (([group.state], True), (None, False)):
        loss = mx.compile(lambda x, y: weight * ((model(x) - y) ** 2).mean(), inputs=captured)
        names = {"group": group, "loss": loss, "x": mx.ones((4, 2)), "y": mx.zeros((4, 1)) + 9}
        exec(lines, names)
        assert (names["a"].item() != names["b"].item()) is live
