"""The command line of ``python -m scalars lora``, and the parts of mlx-lm that it needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlx_lm.lora
import pytest
from mlx_lm.tuner import trainer

from scalars import from_name
from scalars.__main__ import main
from scalars.tools.lora.numbers import numbers_of
from scalars.tools.lora.parts import mlx_lm_parts

from .lora_runs import SCHEDULED, SUMS, command, config_of

slow = pytest.mark.slow

BAD: list[tuple[dict[str, Any], list[str], str]] = [
    ({"lr_schedule": "Linaer(1, 0)"}, [], "lr_schedule: the name at column 1 must be that of a schedule, got 'Linaer'. Did you mean Linear?"),
    ({"lr_schedule": {"name": "cosine", "arguments": [1]}}, [], "name in lr_schedule must be one of 'cosine_decay'"),
    ({"lr_schedule": "ScalarGroup(a=Linear(1, 0))"}, [], "lr_schedule must be a number or one schedule"),
    ({"learning_rate": [1e-4]}, [], "learning_rate: config must be a mapping, a text or a number"),
    ({"lr_schedule": "Linear(1, 0)"}, ["--learning-rate", "1e-5"], "--learning-rate must be left out with lr_schedule, got 1e-05"),
    ({}, ["--learning-rate", "Linear(1)"], "learning_rate: Linear at column 1 must be called as"),
    ({}, ["--lr-schedule", "Linear(1, x)"], "lr_schedule: text at column 11 must be made of calls"),
    ({"optimizer": "lion"}, [], "optimizer must be one of 'adam', 'adamw'"),
    ({}, ["--optimizer", "lion"], "argument --optimizer: invalid choice: 'lion'"),
    ({"optimizer_config": {"adam": {"weight_decay": "Linear(0, 1)"}}}, [], "optimizer_config.adam: "),
    ({"optimizer_config": {"adam": {"betas": ["Linear(0.9)", 0.9]}}}, [], "optimizer_config.adam.betas.0: Linear at col"),
    ({"optimizer_config": {"adam": {"betas": ["Linear(0.9", "0.95)", 0.9]}}}, [], 'quote a text with commas: ["Linear(0.9, 0.95)", 0.999]'),
    ({"max_seq_length": "Linear(64, 128)"}, [], "max_seq_length must be a number, got 'Linear(64, 128)'. Write a number. learning_rate, lr_schedule, the numbers in optimizer_config"),
    ({}, ["--lr-schedule", "cosine(1e-3, warmup_steps=100)"], "lr_schedule: the fraction's steps must be from 0 to total_steps, 12"),
    ({"optimizer_config": {"adam": {"learning_rate": 1}}}, [], "optimizer_config.adam must be free of the learning rate"),
    ({"optimizer_config": {"adam": [1]}}, [], "optimizer_config.adam must be a mapping"),
    ({"lora_parameters": {"rank": 8, "dropout": "Linear(0, 2)", "scale": 20}}, [], "lora_parameters.dropout must be at least 0 and below 1 at every step, as at step 6, got 1.0"),
    ({"lora_parameters": {"rank": 8, "dropout": 1.5, "scale": 20}}, [], "lora_parameters.dropout must be at least 0 and below 1"),
    ({"lora_parameters": {"rank": "Linear(2, 8)", "dropout": 0, "scale": 20}}, [], "lora_parameters.rank must be a whole number of at least 1, got 'Linear(2, 8)'"),
    ({"lora_parameters": {"rank": 8, "alpha": 16, "dropout": 0}}, [], "lora_parameters must be given scale too"),
    ({"lora_parameters": {"rank": 8, "dropout": 0, "scale": "Linear(1, 2)"}, "fine_tune_type": "full"}, [], "lora_parameters.scale must be no schedule in full"),
    ({"fine_tune_type": "ia3"}, [], "fine_tune_type must be one of 'lora', 'dora', 'full'"),
    ({"iters": 0}, [], "iters must be a whole number of at least 1"),
    ({"iters": 3, "grad_accumulation_steps": 4}, [], "iters must be at least grad_accumulation_steps, 4"),
    ({"save_every": 0}, [], "save_every must be a whole number of at least 1"),
    ({"lr_scheduler": "Linear(1, 0)"}, [], "a key of the config must be one that mlx-lm knows, got 'lr_scheduler'. Did you mean lr_schedule?"),
    ({}, ["--record", "run.txt"], "--record must be a .csv or a .jsonl file, got 'run.txt'"),
    ({}, ["--record", "/no/where/run.csv"], "--record must be a file in a folder that exists"),
    ({}, ["--resume"], "--resume must be used with a folder that contains resume.safetensors"),
    ({"train": False}, [], "--train must be given, or --test alone"),
    ({"train": False}, ["--resume", "--test"], "--train must be given, or --test alone"),
    ({}, ["--iters", "many"], "argument --iters: invalid int value: 'many'"),
    ({}, ["--nothing"], "unrecognized arguments: --nothing"),
    ({}, ["-c", "/no/where.yaml"], "No such file or directory"),
    ({"optimizer": "schedule_free_sgd", "optimizer_config": {"schedule_free_sgd": {"momentum": 2}}}, [], "optimizer_config.schedule_free_sgd: momentum of ScheduleFreeSGD"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "flags", "message"), BAD, ids=lambda x: str(x)[:50])
def test_bad_input_is_one_line_before_the_model_is_loaded(
    given: dict[str, Any], flags: list[str], message: str, tmp_path: Path, request: Any
) -> None:
    capsys = request.getfixturevalue("capsys")
    # loading the model would raise another error
    request.getfixturevalue("monkeypatch").setattr(mlx_lm.lora, "load", None)
    with pytest.raises(SystemExit) as stopped:
        command(config_of(tmp_path / "none", tmp_path, **given), *flags)
    captured = capsys.readouterr()
    assert (stopped.value.code, captured.out) == (2, "")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "must be a mapping, got None"), ("- 1", "must be a mapping"), ("a: [", "must be YAML")],
)
def test_bad_configs(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        main(["lora", "-c", str(tmp_path / "a.yaml")])
    assert message in capsys.readouterr().err


def test_a_plateau_without_a_validation_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.jsonl").write_text((SUMS / "train.jsonl").read_text())
    config = config_of(tmp_path, tmp_path, data=str(tmp_path), lr_schedule="ReduceOnPlateau(1e-3)")
    with pytest.raises(SystemExit, match="2"):
        command(config)
    assert "learning_rate must be given a validation loss to observe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "name"),
    [(mlx_lm.lora, "train_model"), (mlx_lm.lora, "save_config"), (trainer, "evaluate")],
)
def test_an_mlx_lm_without_a_part_is_named(
    module: Any, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(module, name)
    with pytest.raises(SystemExit, match="2"):
        main(["lora", "--train"])
    error = capsys.readouterr().err
    assert f"scalars lora relies on {module.__name__}.{name}, which mlx-lm" in error
    monkeypatch.setattr(module, name, lambda nothing: None, raising=False)
    with pytest.raises(ImportError, match=f"relies on .* of {module.__name__}.{name}, which"):
        mlx_lm_parts()


@slow
def test_mlx_lm_is_left_as_it_was(tiny_model: Path, tmp_path: Path) -> None:
    before = [dict(vars(module)) for module in (mlx_lm.lora, trainer)]
    command(config_of(tiny_model, tmp_path, **SCHEDULED))
    command(config_of(tiny_model, tmp_path, **SCHEDULED), "--resume")
    with pytest.raises(ValueError, match="Requested to train 9 layers"):
        command(config_of(tiny_model, tmp_path, **SCHEDULED, num_layers=9))
    assert [dict(vars(module)) for module in (mlx_lm.lora, trainer)] == before


@slow
def test_testing_alone_is_mlx_lms(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The adapters of a scheduled run are loaded with its final numbers."""
    command(config_of(tiny_model, tmp_path, **SCHEDULED, test=True))
    trained = re.findall(r"Test loss \S+", capsys.readouterr().out)
    command(config_of(tiny_model, tmp_path, train=False, test=True))
    assert re.findall(r"Test loss \S+", capsys.readouterr().out) == trained != []


def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(["lora", "--help"])
    text = capsys.readouterr().out
    for part in (
        "--lr-schedule TEXT",
        "--record FILE",
        "--resume",
        "--grad-checkpoint",
        "example:",
        "schedule_free_adamw",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


def test_names_with_numbers_of_steps_are_those_of_from_name() -> None:
    config = {"iters": 40, "grad_accumulation_steps": 2}
    optimizer = {"optimizer_config": {"adam": {"eps": "linear(1.0, warmup_steps=4)"}}}
    made = numbers_of({**config, "lr_schedule": "0.5 * cosine(1e-3, warmup_steps=5)", **optimizer})
    cosine, linear = from_name("cosine", 1e-3, 20, 5), from_name("linear", 1.0, 20, 4)
    for step in range(21):
        assert made.rate.at(step / 20) == 0.5 * cosine.at(step / 20)
        assert made.optimizer["eps"].at(step / 20) == linear.at(step / 20)
