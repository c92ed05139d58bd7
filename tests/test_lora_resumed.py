"""Runs of ``python -m scalars lora`` that are stopped, killed and resumed."""

from __future__ import annotations

import inspect
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm.lora
import numpy as np
import pytest
from mlx_lm.tuner import trainer

from scalars import ReportCallback

from .helpers import assert_same
from .lora_runs import (
    FULL,
    PLATEAU,
    SCHEDULED,
    SUMS,
    adapters,
    arrays,
    command,
    config_of,
    rows,
)

pytestmark = pytest.mark.slow


class StopError(Exception):
    """A run that is stopped in a test."""


RESUMED: dict[str, tuple[dict[str, Any], int]] = {
    "everything scheduled": ({}, 9),
    "accumulating when it was saved": ({"grad_accumulation_steps": 3, "save_every": 4}, 10),
    "seldom saved": ({"grad_accumulation_steps": 3, "save_every": 5}, 11),
    "a plateau": ({"lr_schedule": PLATEAU, "steps_per_eval": 2}, 9),
    "full": (FULL, 6),
    "averaged": (
        {
            "optimizer": "schedule_free_adamw",
            "lr_schedule": "Linear(0.0, 1e-2)",
            "optimizer_config": {"schedule_free_adamw": {"weight_decay": "Linear(0, 0.5)"}},
        },
        9,
    ),
    "one batch": ({"batch_size": 60, "val_batches": 1}, 9),
}


@pytest.mark.parametrize("kind", list(RESUMED))
def test_a_run_that_is_resumed_is_one_that_never_stopped(
    kind: str,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # no pictures, which take longest
    given, at = RESUMED[kind]
    both = {**SCHEDULED, **given, "data": str(data_of_one_batch(tmp_path))}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    records = tmp_path / "parts.csv", tmp_path / "whole.csv"
    if kind != "one batch":
        both["data"] = str(SUMS)
    command(config_of(tiny_model, whole, **both), "--record", str(records[1]))
    config = config_of(tiny_model, parts, **both)
    with monkeypatch.context() as patch:
        patch.setattr(ReportCallback, "on_train_loss_report", stopping(at))
        with pytest.raises(StopError):
            command(config, "--record", str(records[0]))
    assert rows(records[0])[-1]["iteration"] == at  # written even after an error
    np.random.seed(99)  # the state of the generators is saved too
    mx.random.seed(99)
    before = set(parts.glob("0*"))
    command(config, "--record", str(records[0]), "--resume", "--save-every", "2")

    assert_same(adapters(parts), adapters(whole))
    assert_same(arrays(parts / "resume.safetensors"), arrays(whole / "resume.safetensors"))
    assert untimed(records[0]) == untimed(records[1])
    numbered = {path.name for path in set(parts.glob("0*")) - before}
    assert "0000012_adapters.safetensors" in numbered
    assert all(name > "0000004" for name in numbered)  # mlx-lm continues counting

    # Resuming a run that is over changes nothing.
    assert "Nothing is left to train" not in capsys.readouterr().out
    command(config, "--record", str(records[0]), "--resume", "--test")
    assert "the run has made all 12 iterations" in capsys.readouterr().out
    assert_same(adapters(parts), adapters(whole))
    assert untimed(records[0]) == untimed(records[1])


def data_of_one_batch(folder: Path) -> Path:
    for name in ("train", "valid", "test"):
        (folder / f"{name}.jsonl").write_text((SUMS / "train.jsonl").read_text())
    return folder


def stopping(at: int) -> Any:
    report = ReportCallback.on_train_loss_report

    def stop(self: ReportCallback, info: Any) -> None:
        report(self, info)
        if info["iteration"] == at:
            raise StopError

    return stop


def untimed(path: Path) -> list[dict[str, float]]:
    """Return the rows without measured times and counts that restart with mlx-lm."""
    others = ("time", "second", "memory", "tokens")
    return [{k: x for k, x in r.items() if not any(o in k for o in others)} for r in rows(path)]


def test_killed_and_resumed(tiny_model: Path, tmp_path: Path) -> None:
    """The process is killed during training, and another one continues."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command(config_of(tiny_model, whole, **SCHEDULED))
    config = config_of(tiny_model, parts, **SCHEDULED)
    parts.mkdir()
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = ["lora", "-c", str(tmp_path / "config.json")]
    killed = (
        "import os, signal\n"
        "from scalars import ReportCallback\n"
        "from scalars.__main__ import main\n"
        "report = ReportCallback.on_train_loss_report\n"
        "def kill(self, info):\n"
        "    report(self, info)\n"
        "    if info['iteration'] == 6:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "ReportCallback.on_train_loss_report = kill\n"
        f"main({arguments!r})\n"
    )
    first = subprocess.run([sys.executable, "-c", killed], capture_output=True, check=False)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert not (parts / "0000008_adapters.safetensors").exists()
    again = [sys.executable, "-m", "scalars", *arguments, "--resume"]
    second = subprocess.run(again, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert "Resuming after iteration 4 of 12" in second.stdout
    assert_same(adapters(parts), adapters(whole))


def test_what_is_saved_is_not_taken_for_another_run(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tiny_model, tmp_path, **SCHEDULED)
    command(config)
    for other, message in (
        ({"iters": 13}, "iters must be 12 as in the run that is resumed, got 13"),
        (
            {"lr_schedule": "1e-3"},
            "lr_schedule must be 'Warmup(CosineAnnealing(1e-2, 1e-4), 0.25)'",
        ),
        ({"seed": 1}, "seed must be 0 as in the run that is resumed, got 1"),
    ):
        with pytest.raises(SystemExit, match="2"):
            command({**config, **other}, "--resume")
        assert message in capsys.readouterr().err
    kept = (tmp_path / "resume.safetensors").read_bytes()
    for wrong in (b"", b"nothing", kept[:-100]):
        (tmp_path / "resume.safetensors").write_bytes(wrong)
        with pytest.raises(SystemExit, match="2"):
            command(config, "--resume")
        assert "resume.safetensors must be a file that a run has saved" in capsys.readouterr().err


def test_a_trainer_that_counts_otherwise_is_not_resumed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tiny_model, tmp_path)
    command(config)
    before = adapters(tmp_path)
    text = inspect.getsource(trainer.train)
    counting = "range(1, args.iters + 1)"
    assert counting in text
    monkeypatch.setattr(trainer, "train", trainer.train)  # restored at the end
    exec(text.replace(counting, "[i + 1 for i in range(args.iters)]"), vars(trainer))
    monkeypatch.setattr(mlx_lm.lora, "train", trainer.train)
    with pytest.raises(
        ImportError, match=r"relies on range\(1, iters \+ 1\) in mlx_lm.tuner.train"
    ):
        command(config, "--resume")
    assert_same(adapters(tmp_path), before)
