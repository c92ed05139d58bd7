"""``python -m scalars lora``: mlx-lm's fine-tuning with schedules, against floats set by hand.

The model is tiny and made from a config, and the data are the sums in ``tests/sums``. A test
optimizer keeps the numbers of every update in its state, which the command saves and the test
reads.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import mlx_lm.lora
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner import trainer

from scalars import ScheduleFreeAdamW
from scalars.__main__ import main

from .helpers import assert_same, largest_difference
from .launching import launch
from .lora_runs import (
    BETA,
    DECAY,
    DROPOUT,
    FULL,
    ITERS,
    PLATEAU,
    SCALE,
    SCHEDULED,
    SUMS,
    adapters,
    arrays,
    by_hand,
    command,
    config_of,
    loaded,
    rate,
    rows,
)

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parent.parent / "examples" / "lora.yaml"
# The iterations are not a multiple of the accumulation, so the last two update nothing.
WAYS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"fine_tune_type": "dora"},
    "full": FULL,
    "accumulation": {"grad_accumulation_steps": 5},
    "checkpointing": {"grad_checkpoint": True},
    "everything": {"grad_accumulation_steps": 5, "grad_checkpoint": True, "steps_per_eval": 3},
}


class Noting(optim.AdamW):  # type: ignore[misc]
    """AdamW that keeps the rate, the decay and the first beta of each update in its state."""

    def __init__(self, learning_rate: Any, **settings: Any) -> None:
        super().__init__(learning_rate, **settings)
        self.state["noted"] = mx.zeros((ITERS, 3))

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        here = mx.arange(ITERS)[:, None] == self.step
        one = mx.array(1.0)
        decay, beta = self.weight_decay * one, self.betas[0] * one
        updated = super().apply_gradients(gradients, parameters)
        now = mx.stack([self.learning_rate, decay, beta])
        self.state["noted"] = mx.where(here, now, self.state["noted"])
        return updated


@pytest.mark.parametrize("way", list(WAYS))
def test_every_number_is_the_one_worked_out_by_hand(
    way: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "run.csv"
    config = {**config_of(tiny_model, tmp_path, **SCHEDULED), **WAYS[way], "record": str(record)}
    with monkeypatch.context() as patch:
        patch.setattr(optim, "AdamW", Noting)
        command(config)
    steps = ITERS // config.get("grad_accumulation_steps", 1)

    noted = np.array(arrays(tmp_path / "resume.safetensors")["optimizer.noted"])
    expected = [[rate(i / steps), DECAY(i / steps), BETA(i / steps)] for i in range(steps)]
    np.testing.assert_allclose(noted[:steps], expected, rtol=2e-7)
    assert not noted[steps:].any()
    check_record(record, config)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())["lora_parameters"]
    # The values at the end of the run, with which the adapters are used.
    end = {"rank": 4, "dropout": 0.4, "scale": 5.0}
    assert saved == (None if way == "full" else end)

    # Equal within the rounding of a compiled step, but far from the run with frozen layers.
    difference = largest_difference(adapters(tmp_path), by_hand(config))
    assert difference <= 1e-3
    if way != "full":
        frozen = largest_difference(adapters(tmp_path), by_hand(config, frozen=True))
        assert frozen > 50 * difference


def check_record(record: Path, config: dict[str, Any]) -> None:
    every = config.get("grad_accumulation_steps", 1)
    found = {row["iteration"]: row for row in rows(record)}
    assert list(found) == list(range(ITERS + 1))
    by_formula = {"learning_rate": rate, "weight_decay": DECAY, "betas.0": BETA}
    if config["lora_parameters"]:
        by_formula |= {"dropout": DROPOUT, "scale": SCALE}
    for iteration, row in found.items():  # the values of the next step
        for name, formula in by_formula.items():
            progress = (iteration // every) / (ITERS // every)
            assert row[name] == pytest.approx(formula(progress)), name
        assert ("train_loss" in row) == (iteration > 0)
    evaluates = config["steps_per_eval"]
    validated = {1, ITERS, *range(evaluates, ITERS, evaluates)}
    assert {i + 1 for i, row in found.items() if "val_loss" in row} == validated
    assert record.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("way", list(WAYS))
def test_eagerly_the_weights_are_those_of_floats_bit_for_bit(
    way: str, tiny_model: Path, tmp_path: Path
) -> None:
    config = {**config_of(tiny_model, tmp_path, **SCHEDULED), **WAYS[way]}
    mx.disable_compile()
    command(config)
    assert_same(adapters(tmp_path), by_hand(config))


MLX_LMS: dict[str, dict[str, Any]] = {
    "number": {"learning_rate": 1e-3, "optimizer": "adamw"},
    "cosine": {
        "lr_schedule": {"name": "cosine_decay", "warmup": 3, "arguments": [1e-2, 10, 1e-4]},
        "optimizer_config": {"sgd": {"momentum": 0.9}},
        "optimizer": "sgd",
    },
    "step": {
        "lr_schedule": {"name": "step_decay", "arguments": [1e-2, 0.5, 2]},
        "grad_accumulation_steps": 3,
        "lora_parameters": {"rank": 4, "dropout": 0.2, "scale": 10.0},
    },
}


@pytest.mark.parametrize("kind", list(MLX_LMS))
def test_mlx_lms_own_configs_train_what_mlx_lm_trains(
    kind: str, tiny_model: Path, tmp_path: Path
) -> None:
    record = tmp_path / "run.jsonl"
    ours = config_of(tiny_model, tmp_path / "ours", **MLX_LMS[kind])
    command(ours, "--record", str(record))

    theirs = {**mlx_lm.lora.CONFIG_DEFAULTS, **ours, "adapter_path": str(tmp_path / "theirs")}
    mlx_lm.lora.run(SimpleNamespace(**theirs))
    assert_same(adapters(tmp_path / "ours"), adapters(tmp_path / "theirs"))
    a, b = (
        json.loads((tmp_path / x / "adapter_config.json").read_text()) for x in ("ours", "theirs")
    )
    more = {"config", "record", "resume", "adapter_path"}
    assert {k: x for k, x in a.items() if k not in more} == {
        k: x for k, x in b.items() if k not in more
    }

    # The rate that mlx-lm makes itself is in the record, for the next step.
    every = ours.get("grad_accumulation_steps", 1)
    schedule: Any = lambda step: mx.array(1e-3)  # noqa: E731
    if kind != "number":
        schedule = mlx_lm.lora.build_schedule(ours["lr_schedule"])
    found = [json.loads(text) for text in record.read_text().splitlines()]
    assert len(found) == ITERS + 1
    for row in found:
        step = int(row["iteration"]) // every
        if step < ITERS // every:
            expected = schedule(mx.array(step)).item()
            assert row["learning_rate"] == pytest.approx(expected, rel=1e-5), row


def test_schedule_free_is_evaluated_and_saved_at_the_average(
    tiny_model: Path, tmp_path: Path
) -> None:
    settings = {"weight_decay": 0.01, "warmup_steps": 2}
    config = config_of(
        tiny_model,
        tmp_path,
        optimizer="schedule_free_adamw",
        learning_rate=1e-2,
        optimizer_config={"schedule_free_adamw": settings},
        lora_parameters={"rank": 8, "dropout": 0.0, "scale": 20.0},
        val_batches=-1,
        record=str(tmp_path / "run.csv"),
    )
    command(config)
    losses, averages = averaged_by_hand(config, settings, tmp_path / "part.safetensors")
    for iteration, average in averages.items():
        assert_same(arrays(tmp_path / f"{iteration:07d}_adapters.safetensors"), average)
    assert_same(adapters(tmp_path), averages[ITERS])
    recorded = {
        r["iteration"]: r["val_loss"] for r in rows(tmp_path / "run.csv") if "val_loss" in r
    }
    assert recorded == losses
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["optimizer"] == "schedule_free_adamw"
    assert saved["optimizer_config"] == {"schedule_free_adamw": settings}


def averaged_by_hand(
    config: dict[str, Any], settings: Any, file: Path
) -> tuple[dict[int, float], dict[int, Any]]:
    """Train with mlx-lm's trainer in parts, and switch to the average between them."""
    model, train_set, valid_set = loaded(config)
    optimizer = ScheduleFreeAdamW(1e-2, **settings)
    losses, averages = {}, {}
    args = trainer.TrainingArgs(batch_size=4, iters=1, adapter_file=str(file))
    batches = trainer.iterate_batches(train_set, 4, 2048, loop=True)
    for done in range(ITERS):
        batch = next(batches)  # the order of the batches is drawn before that of the validation
        if done in (0, 3, 7, 11):
            if done:
                optimizer.eval(model)
            losses[done] = trainer.evaluate(model, valid_set, 4, -1)
            optimizer.train(model)
        one = lambda *_, b=batch, **__: iter([b])  # noqa: E731
        # mlx-lm 0.28 always validates: here on the same batch, which draws and changes nothing.
        trainer.train(model, optimizer, train_set, valid_set, args, iterate_batches=one)
        if done + 1 in (4, 8, 12):
            averages[done + 1] = dict(tree_flatten(optimizer.eval_parameters(model)))
    return losses, averages


def plateau_by_hand(losses: list[float], patience: int, threshold: float) -> int:
    """Return how often PyTorch's rule has reduced, with a relative threshold."""
    best, bad, reductions = math.inf, 0, 0
    for loss in losses:
        best, bad = (loss, 0) if loss < best * (1 - threshold) else (best, bad + 1)
        if bad > patience:
            bad, reductions = 0, reductions + 1
    return reductions


def test_a_plateau_observes_the_validation_loss(tiny_model: Path, tmp_path: Path) -> None:
    record = tmp_path / "run.csv"
    config = config_of(tiny_model, tmp_path, lr_schedule=PLATEAU, steps_per_eval=1)
    command(config, "--record", str(record))
    found = rows(record)
    losses = [row["val_loss"] for row in found if "val_loss" in row]
    assert len(losses) == ITERS
    for i, row in enumerate(found[:-1]):  # observed before the next step
        warm = min(i / ITERS / 0.1, 1.0)
        # A plateau ignores metrics until its warm-up is over, so the second one counts first.
        observed = [loss for j, loss in enumerate(losses[: i + 1]) if j / ITERS >= 0.1]
        reductions = plateau_by_hand(observed, patience=0, threshold=0.05)
        assert row["learning_rate"] == pytest.approx(1e-2 * warm * 0.5**reductions)
    assert plateau_by_hand(losses[2:], patience=0, threshold=0.05) >= 2


def test_two_processes(tiny_model: Path, tmp_path: Path) -> None:
    """Two processes train like one, write the files once and resume from them."""
    given = {**SCHEDULED, "lora_parameters": {"rank": 4, "dropout": 0.0, "scale": "Linear(20, 5)"}}
    given |= {"lr_schedule": PLATEAU, "steps_per_eval": 2, "val_batches": -1}
    given |= {"optimizer": "sgd", "optimizer_config": {"sgd": {"momentum": "Linear(0.5, 0.9)"}}}
    given["data"] = str(texts_of_one_length(tmp_path))
    averaged = {"optimizer": "schedule_free_sgd", "optimizer_config": {}, "lr_schedule": "0.1"}
    kinds = {"scheduled": given, "averaged": {**given, **averaged}}
    runs = []
    for kind, of_kind in kinds.items():
        config = config_of(tiny_model, tmp_path / f"two-{kind}", **of_kind)
        (tmp_path / f"{kind}.json").write_text(json.dumps(config))
        record = str(tmp_path / f"two-{kind}.csv")
        runs.append(["lora", "-c", str(tmp_path / f"{kind}.json"), "--record", record])
    runs.append([*runs[0], "--resume"])
    # One launch for all, as a process takes long to import mlx-lm.
    script = f"from scalars.__main__ import main\nfor run in {runs}: main(run)"
    printed = launch(2, ["-c", script], tmp_path)
    assert printed.count("Schedules over 12 iterations") == 3, printed
    assert printed.count("Resuming after iteration 12 of 12") == 1

    for kind, of_kind in kinds.items():
        two, one = tmp_path / f"two-{kind}", tmp_path / f"one-{kind}"
        command(config_of(tiny_model, one, **of_kind), "--record", str(one.with_suffix(".csv")))
        # The mean of two halves is rounded in another order than the mean of the whole.
        assert largest_difference(adapters(two), adapters(one)) <= 1e-3
        both = (rows(path.with_suffix(".csv")) for path in (two, one))
        for ours, theirs in zip(*both, strict=True):
            for name in ("learning_rate", "scale", "iteration"):
                assert ours[name] == theirs[name], name
            for name in ("val_loss", "train_loss"):
                assert ours.get(name, 0.0) == pytest.approx(theirs.get(name, 0.0), rel=1e-3)
    # What was resumed has not been trained further.
    two = tmp_path / "two-scheduled"
    assert_same(adapters(two), arrays(two / "0000012_adapters.safetensors"))


def texts_of_one_length(folder: Path) -> Path:
    """Write data with equally many tokens per batch, as mlx-lm averages the means of the ranks."""
    for name in ("train", "valid"):
        texts = map(json.loads, (SUMS / f"{name}.jsonl").read_text().splitlines())
        lines = [json.dumps({"text": one["text"][:20].ljust(20, ".")}) for one in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def test_the_example(tiny_model: Path, tmp_path: Path) -> None:
    """Every number over 10 optimizer steps of 4 iterations each."""
    flags = (
        f"--model {tiny_model} --data {SUMS} --adapter-path {tmp_path} --num-layers 2 --iters 40"
    )
    flags += f" --steps-per-eval 4 --val-batches 3 --steps-per-report 4 --record {tmp_path}/run.csv"
    main(["lora", "--config", str(EXAMPLE), *flags.split()])
    found = rows(tmp_path / "run.csv")
    losses: list[float] = []
    for row in found:
        done = row["iteration"] // 4
        p = done / 10
        # It warms up over one step and ignores metrics until then.
        losses += [row["val_loss"]] if "val_loss" in row and p >= 0.1 else []
        q = (p - 0.1) / 0.9
        peak = (
            1e-6 + (1e-4 - 1e-6) * (1 + math.cos(math.pi * q)) / 2 if p >= 0.1 else 1e-4 * p / 0.1
        )
        reductions = plateau_by_hand(losses, patience=2, threshold=1e-4)
        assert row["learning_rate"] == pytest.approx(peak * 0.5**reductions)
        assert row["betas.0"] == pytest.approx(0.9 + 0.05 * p)
        assert row["weight_decay"] == pytest.approx(0.01 + 0.09 * p)
        assert row["dropout"] == (0.0 if p < 0.2 else 0.05 if p < 0.5 else 0.1)
        assert row["scale"] == pytest.approx(20 - 10 * p)
    assert len(losses) >= 9
    trained = [row["iteration"] for row in found if "train_loss" in row]
    assert trained == list(range(4, 41, 4))
    assert {path.name for path in tmp_path.iterdir()} == {
        "adapter_config.json", "adapters.safetensors", "resume.safetensors", "run.csv", "run.png",
    }  # fmt: skip
