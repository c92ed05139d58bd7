"""The callback for trainers with mlx-lm's interface observes, records and forwards reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, train

from scalars import (
    Horizon,
    Linear,
    Recorder,
    ReduceOnPlateau,
    ReportCallback,
    ScalarGroup,
    attach,
)

from .test_mlx_lm import data, model_of


class Kept(TrainingCallback):  # type: ignore[misc]
    """Keep the reports."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    def on_train_loss_report(self, info: dict[str, Any]) -> None:
        self.reports.append(info)

    def on_val_loss_report(self, info: dict[str, Any]) -> None:
        self.reports.append(info)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_in_mlx_lms_trainer(accumulation: int, tmp_path: Path) -> None:
    """The record has every report with the values at its step, including reductions."""
    steps = 12 // accumulation
    model = model_of(mx.float32)
    # The threshold is so large that each validation after the first reduces.
    rate = ReduceOnPlateau(Linear(1e-2, 0.0), factor=0.5, patience=0, threshold=0.9)
    optimizer = optim.AdamW(rate, weight_decay=Linear(0.0, 0.5))
    group = attach(optimizer, model, Horizon(steps))
    recorder, kept = Recorder(group), Kept()
    args = TrainingArgs(
        batch_size=4,
        iters=12,
        steps_per_report=1,
        steps_per_eval=4,
        val_batches=2,
        grad_accumulation_steps=accumulation,
        adapter_file=str(tmp_path / "adapters.safetensors"),
    )
    callback = ReportCallback(group, recorder, kept)
    np.random.seed(0)
    train(model, optimizer, data(), data()[:8], args, training_callback=callback)

    rows = {row["iteration"]: row for row in recorder}
    assert list(rows) == list(range(13))
    assert len(recorder) == 13
    for report in kept.reports:
        for name in ("train_loss", "val_loss", "tokens_per_second", "val_time"):
            assert rows[report["iteration"]].get(name) == report.get(name) or name not in report
    # Validated before the iterations 1, 4, 8 and 12; the first observation is the best.
    validated = [0, 3, 7, 11]
    assert [i for i in rows if "val_loss" in rows[i]] == validated
    for iteration, row in rows.items():
        done = iteration // accumulation
        reductions = sum(i <= iteration for i in validated[1:])
        assert row["step"] == done
        assert row["learning_rate"] == pytest.approx(1e-2 * (1 - done / steps) * 0.5**reductions)
        assert row["weight_decay"] == pytest.approx(0.5 * done / steps)
    # mlx-lm reports the rate of the step before.
    reported = {r["iteration"]: r["learning_rate"] for r in kept.reports if "learning_rate" in r}
    for iteration in range(accumulation, 13, accumulation):
        used = iteration // accumulation - 1
        reductions = sum(i < iteration for i in validated[1:])
        expected = 1e-2 * (1 - used / steps) * 0.5**reductions
        assert reported[iteration] == pytest.approx(expected, rel=1e-6)


def test_a_group_that_the_loop_drives() -> None:
    group = ScalarGroup(lr=Linear(1.0, 0.0))
    recorder = Recorder(group)
    callback = ReportCallback(group, recorder)
    for step in range(4):
        group.update(step / 4)
        if step % 2:
            callback.on_train_loss_report({"iteration": step + 1, "train_loss": 3.0 - step})
    assert recorder.rows == [
        {"step": 0, "progress": 0.0, "lr": 1.0},
        {"step": 1, "progress": 0.25, "lr": 0.75, "iteration": 2, "train_loss": 2.0},
        {"step": 2, "progress": 0.5, "lr": 0.5},
        {"step": 3, "progress": 0.75, "lr": 0.25, "iteration": 4, "train_loss": 0.0},
    ]


def test_reports_without_an_iteration_are_rows_too() -> None:
    """In mlx-vlm the iteration is optional."""
    group = ScalarGroup(lr=Linear(1.0, 0.0))
    recorder = Recorder(group)
    callback = ReportCallback(group, recorder)
    for loss in (3.0, 2.0):
        callback.on_train_loss_report({"train_loss": loss})
        callback.on_val_loss_report({"val_loss": loss + 1})
    assert recorder["train_loss"] == [3.0, 2.0]
    assert recorder["val_loss"] == [4.0, 3.0]


def test_only_numbers_are_recorded() -> None:
    group = ScalarGroup(lr=Linear(1.0, 0.0))
    recorder = Recorder(group)
    info = {
        "train_loss": mx.array(2.0), "tokens": np.int64(3), "name": "a", "best": True, "lr": 9.0,
        "step": 7, "all": mx.zeros(3),
    }  # fmt: skip
    ReportCallback(group, recorder).on_train_loss_report(info)
    expected = {"step": 0, "progress": 0.0, "lr": 1.0, "train_loss": 2.0, "tokens": 3.0}
    assert recorder.rows == [expected]


def test_without_a_recorder_it_observes_and_passes_on() -> None:
    group, kept = ScalarGroup(lr=ReduceOnPlateau(1.0, factor=0.5, patience=0)), Kept()
    callback = ReportCallback(group, wrapped_callback=kept)
    for loss in (1.0, 2.0):
        callback.on_val_loss_report({"val_loss": loss})
    callback.on_train_loss_report({"train_loss": 1.0})
    assert float(group["lr"]) == 0.5
    assert kept.reports == [{"val_loss": 1.0}, {"val_loss": 2.0}, {"train_loss": 1.0}]


def test_wrong_arguments() -> None:
    group = ScalarGroup(lr=ReduceOnPlateau(1.0))
    with pytest.raises(TypeError, match="group must be a ScalarGroup"):
        ReportCallback({"lr": Linear(1.0, 0.0)})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="recorder must be a Recorder"):
        ReportCallback(group, Kept())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a callback with on_train_loss_report"):
        ReportCallback(group, wrapped_callback=print)
    with pytest.raises(ValueError, match="val_info must be a mapping with 'val_loss', got"):
        ReportCallback(group).on_val_loss_report({"loss": 1.0})


def test_the_state_of_a_recorder() -> None:
    group = ScalarGroup(lr=Linear(1.0, 0.0))
    recorder = Recorder(group)
    group.update(0.25)
    recorder.log(loss=float("nan"))
    state = recorder.state_dict()
    group.update(0.5)
    other = Recorder().load_state_dict(state)
    assert [row["lr"] for row in other] == [0.75]
    assert np.isnan(other["loss"][0])
    other.log(more=1.0)  # the last row continues
    assert "more" not in state["rows"][0]
    with pytest.raises(ValueError, match="the state of Recorder must be a mapping with 'step'"):
        other.load_state_dict({"rows": []})
