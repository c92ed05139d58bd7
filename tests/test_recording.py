"""Recorder: the rows have the values of the run, also when thinned out, saved or resumed."""

from __future__ import annotations

import copy
import csv
import json
import math
import os
import pickle
import stat
from pathlib import Path
from random import Random
from typing import Any

import matplotlib
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary import Writer

from examples.log_values import STEPS, train
from scalars import (
    CosineAnnealing,
    DynamicLossScale,
    Horizon,
    Linear,
    Recorder,
    ReduceOnPlateau,
    ScalarGroup,
    StepDecay,
    Warmup,
    attach,
)

from .helpers import reloaded

matplotlib.use("agg")


def make() -> ScalarGroup:
    return ScalarGroup(lr=Linear(1.0, 0.0), wd=Linear(0.0, 8.0))


def drive(group: ScalarGroup, recorder: Recorder, first: int, last: int) -> None:
    for step in range(first, last):
        group.update(step / 10)
        recorder.log(loss=100 - step)


def expected(steps: Any) -> list[dict[str, Any]]:
    """Return the rows by hand."""
    return [
        {"step": i, "progress": i / 10, "lr": 1 - i / 10, "wd": i / 10 * 8, "loss": 100.0 - i}
        for i in steps
    ]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, range(10)),
        ({"every": 3}, [0, 3, 6, 9]),
        ({"last": 4}, range(6, 10)),
        ({"every": 4, "last": 2}, [4, 8]),
    ],
)
def test_rows(options: dict[str, int], steps: Any) -> None:
    group = make()
    recorder = Recorder(group, **options)
    drive(group, recorder, 0, 10)
    assert recorder.rows == list(recorder) == expected(steps)
    assert len(recorder) == len(steps)
    assert recorder["wd"] == [i / 10 * 8 for i in steps]


def test_as_a_callback() -> None:
    group, recorder = make(), Recorder()
    unsubscribe = group.subscribe(recorder)
    drive(group, recorder, 0, 3)
    unsubscribe()
    group.update(0.9)
    assert recorder.rows == expected(range(3))
    other = Recorder(group)
    group.update(0.5)
    other.stop()
    group.update(0.6)
    assert [row["progress"] for row in other] == [0.5]


def test_csv_and_json_lines(tmp_path: Path) -> None:
    group = make()
    recorder = Recorder(group)
    group.update(0.0)
    group.update(0.5)
    recorder.log(loss=math.nan, accuracy=0.75)
    recorder.to_csv(tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"step": "0", "progress": "0.0", "lr": "1.0", "wd": "0.0", "loss": "", "accuracy": ""},
        {
            "step": "1",
            "progress": "0.5",
            "lr": "0.5",
            "wd": "4.0",
            "loss": "nan",
            "accuracy": "0.75",
        },
    ]
    recorder.to_jsonl(tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        {"step": 0, "progress": 0.0, "lr": 1.0, "wd": 0.0},
        {"step": 1, "progress": 0.5, "lr": 0.5, "wd": 4.0, "loss": None, "accuracy": 0.75},
    ]  # fmt: skip
    Recorder().to_csv(tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "step,progress\n"


@pytest.mark.parametrize("options", [{}, {"every": 3}, {"last": 4}])
def test_resumed_at_any_step_it_is_the_same_record(options: Any, tmp_path: Path) -> None:
    group = make()
    whole = Recorder(group, **options)
    drive(group, whole, 0, 10)
    for at in range(10):
        group = make()
        first = Recorder(group, **options)
        drive(group, first, 0, at)
        first.save(tmp_path / "rows.json")
        group = make()
        second = Recorder(group, **options)
        assert second.load(tmp_path / "rows.json") is second
        drive(group, second, at, 10)
        assert second.rows == whole.rows


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", ValueError),
        ("[" * 100_000, ValueError),
        ("3", TypeError),
        ("{}", ValueError),
        ('{"step": -1, "rows": []}', ValueError),
        ('{"step": "1", "rows": []}', TypeError),
        ('{"step": 1, "rows": 3}', TypeError),
        ('{"step": 1, "rows": [3]}', ValueError),
        ('{"step": 1, "rows": [{"step": 0}]}', ValueError),
        ('{"step": 1, "rows": [{"step": 0, "progress": "a"}]}', TypeError),
        ('{"step": 1, "rows": [{"step": 0, "progress": 0, "lr": null}]}', TypeError),
    ],
)
def test_bad_files_change_nothing(text: str, error: type[Exception], tmp_path: Path) -> None:
    group = make()
    recorder = Recorder(group)
    drive(group, recorder, 0, 2)
    (tmp_path / "a").write_text(text)
    with pytest.raises(error, match="must be"):
        recorder.load(tmp_path / "a")
    assert recorder.rows == expected(range(2))
    with pytest.raises(OSError, match="No such file"):
        recorder.load(tmp_path / "b")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Recorder(every=0), ValueError, "every must be a whole number of at least 1"),
        (lambda: Recorder(last=0), ValueError, "last must be a whole number of at least 1"),
        (lambda: Recorder({"a": 1}), TypeError, "group must be a ScalarGroup"),
        (lambda: Recorder().log(loss=1.0), ValueError, "log must be called after an update"),
        (lambda: Recorder().plot(), ValueError, "Recorder must be given an update before plot"),
        (lambda: one().log(loss="a"), TypeError, "loss must be a real number, got 'a'"),
        (lambda: one().log(step=1), ValueError, "a name given to log must be a new column"),
        (lambda: one()["loss"], ValueError, "a name in Recorder must be one of .'step', 'progr"),
        (lambda: one().plot("loss"), ValueError, "a name in Recorder must be one of"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def one() -> Recorder:
    recorder = Recorder(group := make())
    group.update(0.5)
    recorder.log(x=mx.array(2.0))
    assert recorder["x"] == [2.0]
    return recorder


def test_plot() -> None:
    group = ScalarGroup(lr=Warmup(Linear(1.0, 0.0), 0.2), wd=StepDecay(8.0, 0.5, 0.5))
    recorder = Recorder(group)
    drive(group, recorder, 0, 9)
    group.update(0.9)  # a row without a loss
    ax = recorder.plot()
    panels = {one.get_title("left"): one for one in ax.figure.axes}
    assert list(panels) == ["lr", "wd", "loss"]
    found = {name: one.get_lines()[0].get_xydata().tolist() for name, one in panels.items()}  # type: ignore[union-attr]
    assert found["loss"] == [[i, 100 - i] for i in range(9)]
    assert found["lr"][:3] == [[0, 0], [1, 0.5], [2, 1]]
    assert [y for x, y in found["wd"] if x in (4, 5)] == [8, 4]
    assert [i for i, (_, y) in enumerate(found["wd"]) if math.isnan(y)] == [5]  # a gap
    (mark,) = [line for line in panels["lr"].get_lines() if line.get_linestyle() == ":"]
    assert mark.get_xdata()[0] == 2  # type: ignore[index]
    assert panels["loss"].get_title("right") == "92 to 100"
    assert ax.get_xlabel() == "step"


def test_plot_of_some_columns() -> None:
    recorder = Recorder(group := make())
    drive(group, recorder, 0, 10)
    recorder.log(diverged=math.nan)
    ax = recorder.plot("lr", x="progress", log=True)
    assert ax.get_lines()[0].get_xydata().tolist()[-1] == [0.9, pytest.approx(0.1)]  # type: ignore[union-attr]
    assert (ax.get_xlabel(), ax.get_yscale()) == ("progress", "log")
    ax = recorder.plot("lr", "loss", panels=False)
    assert ax.get_legend_handles_labels()[1] == ["lr", "loss"]
    axes: Any = recorder.plot().figure.axes
    assert len(axes) == 4
    assert (axes[-1].get_title("left"), axes[-1].get_title("right")) == (
        "diverged",
        "no finite number",
    )


def test_real_tensorboard_files_hold_every_value(tmp_path: Path) -> None:
    writer, recorder = Writer(str(tmp_path)), Recorder()
    train(writer, recorder)
    writer.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    lr = Warmup(CosineAnnealing(0.1, 0.001), 0.1)
    assert set(events.Tags()["tensors"]) == {"learning_rate", "weight_decay", "loss"}
    for name in ("learning_rate", "weight_decay", "loss"):
        sent = [(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors(name)]
        assert [step for step, _ in sent] == list(range(STEPS))
        assert [value for _, value in sent] == pytest.approx(recorder[name], rel=1e-6)
    rates = [lr.at(step / STEPS) for step in range(STEPS)]
    assert recorder["learning_rate"] == rates
    assert recorder["loss"][-1] < 0.49 < recorder["loss"][0]


def test_memory_is_bounded() -> None:
    import tracemalloc

    group = make()
    recorder = Recorder(group, last=100)
    for step in range(1000):
        group.update(step / 20_000)
    tracemalloc.start()
    for step in range(1000, 20_000):
        group.update(step / 20_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(recorder) == 100
    assert grown < 100_000


@pytest.mark.parametrize("name", ["step", "progress"])
def test_names_of_columns_are_refused(name: str) -> None:
    message = (
        f"a name of a scalar in Recorder must be other than 'step' and 'progress', got '{name}'"
    )
    with pytest.raises(ValueError, match=message):
        Recorder(ScalarGroup({name: Linear(0.0, 1.0)}))
    group = ScalarGroup({name: Linear(0.0, 1.0)})
    group.subscribe(Recorder())
    with pytest.raises(ValueError, match=message):
        group.update(0.5)


def test_what_is_logged_takes_no_column_of_a_scalar() -> None:
    group = ScalarGroup(lr=Linear(0.0, 1.0), loss=Linear(1.0, 0.0))
    recorder = Recorder(group)
    group.update(0.25)
    with pytest.raises(ValueError, match="log must be no name of the group, got 'loss'"):
        recorder.log(accuracy=0.5, loss=3.0)
    assert recorder.rows == [{"step": 0, "progress": 0.25, "lr": 0.25, "loss": 0.75}]


@pytest.mark.parametrize("method", ["save", "to_csv", "to_jsonl"])
def test_a_file_is_replaced_whole_or_not_at_all(method: str, tmp_path: Path) -> None:
    group = ScalarGroup(lr=Linear(0.0, 1.0))
    recorder = Recorder(group)
    group.update(0.5)
    path = tmp_path / "rows"
    getattr(recorder, method)(path)
    before = path.read_text()
    recorder._rows.append({"step": 1, "progress": 1.0, "lr": object()})
    if method == "to_csv":
        recorder._names = lambda: ["step"]  # type: ignore[method-assign]
    with pytest.raises((TypeError, ValueError)):
        getattr(recorder, method)(path)
    assert path.read_text() == before
    assert [one.name for one in tmp_path.iterdir()] == ["rows"]
    with pytest.raises(TypeError, match="path must be a str or a Path, got True"):
        getattr(recorder, method)(True)


@pytest.mark.parametrize("logged", [False, True])
def test_a_jump_of_the_horizon_is_in_the_row_of_the_step_that_it_changes(logged: bool) -> None:
    optimizer = optim.SGD(Linear(1.0, 0.0))
    horizon = Horizon(8)
    group = attach(optimizer, horizon=horizon)
    recorder = Recorder(group)
    weights = {"w": mx.zeros(1)}
    used = []
    for step in range(6):
        if step == 2:
            horizon = horizon.jump(0.5, step, 10)
            attach(optimizer, horizon=horizon)
        if step == 4:
            horizon = horizon.extend(20, step)
            attach(optimizer, horizon=horizon)
        if logged:
            recorder.log(loss=0.0)
        before = weights["w"].item()
        weights = optimizer.apply_gradients({"w": mx.ones(1)}, weights)
        used.append(before - weights["w"].item())
    rows = {row["step"]: row for row in recorder}
    assert len(rows) == len(recorder)
    for step in range(0 if logged else 1, 6):
        assert rows[step]["progress"] == horizon.progress(step)
        assert rows[step]["learning_rate"] == pytest.approx(used[step], rel=1e-6)


def test_log_has_the_value_of_a_scalar_that_was_held_by_itself() -> None:
    """The group is not told: the row of the step that comes next was there already."""
    lr = Linear(1.0, 0.0)
    optimizer = optim.SGD(lr)
    recorder = Recorder(attach(optimizer, horizon=Horizon(4)))
    weights = {"w": mx.zeros(1)}
    for step in range(4):
        if step == 2:
            lr.hold(0.125)
        recorder.log(loss=float(step))
        weights = optimizer.apply_gradients({"w": mx.ones(1)}, weights)
    assert recorder["learning_rate"][:4] == [1.0, 0.75, 0.125, 0.125]
    assert recorder["loss"] == [0.0, 1.0, 2.0, 3.0, None]


def test_a_link_keeps_leading_to_its_file_and_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    recorder = one()
    (tmp_path / "real.csv").write_text("old\n")
    (tmp_path / "real.csv").chmod(0o600)
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    recorder.to_csv(tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert "progress" in (tmp_path / "real.csv").read_text()
    assert (tmp_path / "real.csv").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"real.csv", "link.csv"}


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    one().to_csv(pipe)
    assert os.read(reader, 1000).startswith(b"step,progress")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    rule = r"needs a folder in which files can be made: .*run\.csv"
    with pytest.raises(FileNotFoundError, match=rule):
        one().to_csv(tmp_path / "missing" / "run.csv")


@pytest.mark.parametrize("pickled", [False, True])
def test_a_copy_of_a_recorder_records_the_copy_of_its_group(pickled: bool) -> None:
    group = make()
    recorder = Recorder(group)
    group.update(0.25)
    pair = group, recorder
    own, copied = pickle.loads(pickle.dumps(pair)) if pickled else copy.deepcopy(pair)
    own.update(0.5)
    assert [row["progress"] for row in copied.rows] == [0.25, 0.5]
    copied.stop()
    own.update(0.75)
    group.update(1.0)
    assert [row["progress"] for row in copied.rows] == [0.25, 0.5]
    assert [row["progress"] for row in recorder.rows] == [0.25, 1.0]


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_callback_that_changes_the_values(by_step: bool, first: bool) -> None:
    """Records have what is used, whether they are subscribed before the change or after it."""
    optimizer = optim.SGD(Linear(1.0, 0.0))
    group = attach(optimizer, horizon=Horizon(10) if by_step else None)
    seen: list[float] = []
    before = Recorder(group) if by_step or first else Recorder()

    def hold(progress: float, values: dict[str, float]) -> None:
        seen.append(values["learning_rate"])
        if values["learning_rate"] < 0.85:
            group.hold(learning_rate=0.85)
        values["learning_rate"] = math.nan  # the dict is the callback's own

    group.subscribe(hold)
    after = Recorder(group)
    for step in range(4):
        if not by_step:
            group.update((step + 1) / 10)
        optimizer.apply_gradients({"w": mx.array(1.0)}, {"w": mx.array(0.0)})
    expected = [0.9, 0.85, 0.85, 0.85]
    assert after["learning_rate"] == pytest.approx(expected)
    assert seen == pytest.approx([0.9, 0.8, 0.85, 0.85])
    if by_step:
        assert before["learning_rate"] == pytest.approx(expected)


def test_a_callback_that_observes_is_called_once_for_each_step() -> None:
    plateau = ReduceOnPlateau(1.0, factor=0.5, patience=0)
    optimizer = optim.SGD(plateau)
    group = attach(optimizer, horizon=Horizon(10))
    recorder = Recorder(group)
    group.subscribe(lambda progress, values: group.observe(1.0))
    for _ in range(4):
        optimizer.apply_gradients({"w": mx.array(1.0)}, {"w": mx.array(0.0)})
    assert plateau.memory["reductions"] == 3
    assert recorder["learning_rate"] == [1.0, 0.5, 0.25, 0.125]


def test_a_name_that_is_not_in_the_group() -> None:
    group = ScalarGroup(lr=Linear(1.0, 0.0), wd=Linear(0.1, 0.0))
    with pytest.raises(KeyError, match="'dropout' is none of the names in the group: lr, wd"):
        group["dropout"]
    assert "dropout" not in group
    assert group.get("dropout") is None


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("every", [1, 3])
def test_the_loss_of_a_step_beside_the_values_that_it_used(compiled: bool, every: int) -> None:
    optimizer = optim.SGD(Linear(1.0, 0.0))
    optimizer.init({"w": mx.array(0.0)})
    group = attach(optimizer, horizon=Horizon(8))
    recorder = Recorder(group, every=every)
    captured = [optimizer.state]

    def body(w: Any) -> Any:
        return optimizer.apply_gradients({"w": mx.array(1.0)}, w)

    step = mx.compile(body, inputs=captured, outputs=captured) if compiled else body
    with pytest.raises(ValueError, match="log_done must be called after a step"):
        recorder.log_done(loss=0.0)
    for i in range(8):
        used = -step({"w": mx.array(0.0)})["w"].item()
        recorder.log_done(loss=10.0 - i, used=used)
    rows = [row for row in recorder if "loss" in row]
    assert [row["step"] for row in rows] == [*range(0, 8, every)]
    for row in rows:
        assert row["loss"] == 10.0 - row["step"]
        assert row["learning_rate"] == row["used"] == 1 - row["progress"] == 1 - row["step"] / 8
    assert [row["step"] for row in recorder] == sorted({row["step"] for row in recorder})
    recorder.log(note=1.0)  # the row of the next step is another one
    assert "note" not in rows[-1]


class Skipping:
    """A weight that a scaled gradient of 1 moves by the rate, unless a step is skipped."""

    def __init__(self, compiled: bool) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        self.model.weight = mx.zeros((1, 1))
        self.scale = DynamicLossScale(8.0, growth_interval=2)
        self.optimizer = optim.SGD(Linear(1.0, 0.0))
        self.group = attach(self.optimizer, scale=self.scale, horizon=Horizon(8))
        self.optimizer.init(self.model.trainable_parameters())
        state = [self.model.state, self.optimizer.state]
        self.step = mx.compile(self.body, inputs=state, outputs=state) if compiled else self.body

    def body(self, gradient: mx.array) -> None:
        grads, finite = self.scale.unscale({"weight": gradient.reshape(1, 1)})
        self.scale.apply(self.optimizer, self.model, grads, finite)


@pytest.mark.parametrize("compiled", [False, True])
def test_log_done_leaves_out_the_steps_that_a_loss_scale_skips(compiled: bool) -> None:
    run = Skipping(compiled)
    recorder = Recorder(run.group)
    made = []
    for gradient in (math.inf, 1.0, math.inf, math.inf, 2.0, 3.0, 4.0, math.inf):
        used = run.group.snapshot()
        run.step(mx.array(gradient))
        recorder.log_done(loss=gradient)
        recorder.log_done(again=1)
        if math.isfinite(gradient):
            made.append((len(made), used["learning_rate"], used["scale"], gradient, 1.0))
    names = ("step", "learning_rate", "scale", "loss", "again")
    rows = [tuple(row.get(name) for name in names) for row in recorder if "loss" in row]
    assert rows == made
    assert [row[2] for row in made] == [4.0, 1.0, 1.0, 2.0]  # halved 3 times, doubled twice


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_held_and_observed_before_log_done_is_of_the_next_step(compiled: bool) -> None:
    lr = ReduceOnPlateau(Linear(1.0, 0.0), factor=0.5, patience=0)
    optimizer = optim.SGD(lr, momentum=Linear(0.0, 0.8))
    optimizer.init(weights := {"w": mx.array(0.0)})
    group = attach(optimizer, horizon=Horizon(8))
    recorder = Recorder(group)
    captured = [optimizer.state]

    def body(w: Any) -> Any:
        return optimizer.apply_gradients({"w": mx.array(1.0)}, w)

    step = mx.compile(body, inputs=captured, outputs=captured) if compiled else body
    used = []
    for i, metric in enumerate((3.0, 4.0, 5.0, 1.0, 6.0)):
        used.append((i, *group.snapshot().values(), float(i)))
        weights = step(weights)
        group.observe(metric)
        if i == 2:
            group.hold(momentum=0.9)
        recorder.log_done(loss=float(i))
    names = ("step", *group, "loss")
    assert [tuple(r[n] for n in names) for r in recorder if "loss" in r] == used
    rates = [row[1] for row in used]
    assert rates == [1.0, 7 / 8, 6 / 8 / 2, 5 / 8 / 4, 4 / 8 / 4]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_that_goes_back_begins_new_rows(compiled: bool) -> None:
    optimizer = optim.SGD(Linear(1.0, 0.0))
    optimizer.init(weights := {"w": mx.array(0.0)})
    recorder = Recorder(attach(optimizer, horizon=Horizon(10)))
    captured = [optimizer.state]

    def body(w: Any) -> Any:
        return optimizer.apply_gradients({"w": mx.array(1.0)}, w)

    step = mx.compile(body, inputs=captured, outputs=captured) if compiled else body
    made = []
    for first, last in ((0, 8), (3, 6), (4, 7), (0, 2)):
        optimizer.state["step"] = mx.array(first, mx.uint64)
        for i in range(first, last):
            step(weights)
            made.append((i, 1 - i / 10, float(len(made))))
            recorder.log_done(loss=made[-1][-1])
    rows = [(r["step"], r["learning_rate"], r["loss"]) for r in recorder if "loss" in r]
    assert rows == made
    (panel,) = recorder.plot("loss").figure.axes
    (line,) = panel.get_lines()
    assert sum(math.isnan(y) for y in line.get_ydata()) == 3  # one gap for each time it went back


class Wandering:
    """A run that goes back to checkpoints, and observes, holds and releases between steps."""

    def __init__(self, compiled: bool, scale: float = 1.0) -> None:
        lr = ReduceOnPlateau(Linear(scale, 0.0), factor=0.5, patience=0)
        self.optimizer = optim.SGD(lr)
        self.optimizer.init({"w": mx.array(0.0)})
        self.group = attach(self.optimizer, horizon=Horizon(100))
        captured = [self.optimizer.state]

        def body(w: mx.array) -> Any:
            return self.optimizer.apply_gradients({"w": mx.array(1.0)}, {"w": w})["w"]

        self.body = mx.compile(body, inputs=captured, outputs=captured) if compiled else body

    def step(self) -> float:
        """Make a step, and return the learning rate that it has used."""
        return float(-self.body(mx.array(0.0)).item())

    def save(self) -> Any:
        return reloaded(self.optimizer.state)

    def load(self, state: Any) -> None:
        self.optimizer.state = reloaded(state)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_each_loss_is_beside_the_rate_of_its_step_wherever_the_run_goes(
    compiled: bool, every: int, seed: int
) -> None:
    random = Random(seed)
    run = Wandering(compiled)
    recorder = Recorder(run.group, every=every)
    saved, logged = [run.save()], []
    for i in range(60):
        if random.random() < 0.2:
            saved.append(run.save())
        if random.random() < 0.15:
            run.load(random.choice(saved))
        if random.random() < 0.1:
            run.group.observe(random.random())
        if random.random() < 0.1:
            run.group.hold(learning_rate=random.random())
        elif random.random() < 0.1:
            run.group.release()
        made = run.group.step
        used = run.step()
        recorder.log_done(loss=float(i), used=used)
        if made is not None and made % every == 0:
            logged.append((made, float(i)))
    rows = [row for row in recorder if "loss" in row]
    assert [(row["step"], row["loss"]) for row in rows] == logged
    for row in rows:
        assert row["learning_rate"] == pytest.approx(row["used"], rel=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("checkpoint", [2, 4, 5])
def test_a_record_that_is_ahead_of_the_checkpoint(compiled: bool, checkpoint: int) -> None:
    run = Wandering(compiled)
    recorder = Recorder(run.group)
    states = []
    for i in range(5):
        states.append(run.save())
        recorder.log_done(loss=float(i), used=run.step())
    states.append(run.save())
    again = Wandering(compiled, scale=0.1)
    again.load(states[checkpoint])
    resumed = Recorder(again.group).load_state_dict(recorder.state_dict())
    for i in range(checkpoint, 7):
        resumed.log_done(loss=10.0 * i, used=again.step())
    rows = [row for row in resumed if "loss" in row]
    first = [(i, float(i)) for i in range(5)]
    assert [(r["step"], r["loss"]) for r in rows] == first + [
        (i, 10.0 * i) for i in range(checkpoint, 7)
    ]
    for row in rows:
        assert row["learning_rate"] == pytest.approx(row["used"], rel=1e-6)
    unlogged = [row["step"] for row in resumed if "loss" not in row]
    assert unlogged == ([] if compiled else [7])


def test_a_horizon_that_jumps_between_two_recorded_rows() -> None:
    """The picture shows the values that the steps have used, also between the rows."""
    lr = Warmup(CosineAnnealing(1.0), 0.1)
    optimizer = optim.SGD(lr)
    optimizer.init(weights := {"w": mx.array(0.0)})
    group = attach(optimizer, horizon=(horizon := Horizon(100)))
    recorder, used = Recorder(group, every=10), []
    for step in range(60):
        if step == 15:
            attach(optimizer, horizon=horizon.jump(0.7, at_step=15, total_steps=100))
        used.append(float(lr))
        optimizer.apply_gradients({"w": mx.array(1.0)}, weights)
    (panel,) = recorder.plot("learning_rate").figure.axes
    (line, *_) = panel.get_lines()
    x, y = (list(map(float, data)) for data in line.get_data())
    for step in range(10, 50):
        before = max(i for i in range(len(x)) if x[i] <= step + 1e-5)
        share = (step - x[before]) / (x[before + 1] - x[before]) if before + 1 < len(x) else 0.0
        near = y[before] + share * (y[before + 1] - y[before]) if abs(share) > 1e-6 else y[before]
        assert near == pytest.approx(used[step], abs=0.01), step


def test_logging_takes_the_same_time_after_many_steps() -> None:
    optimizer = optim.SGD(Linear(1.0, 0.0))
    optimizer.init(weights := {"w": mx.array(0.0)})
    recorder = Recorder(attach(optimizer, horizon=Horizon(3000)))
    looked = 0

    class Counted(dict):  # type: ignore[type-arg]
        def __getitem__(self, key: str) -> Any:
            nonlocal looked
            looked += 1
            return super().__getitem__(key)

    for _ in range(1000):
        optimizer.apply_gradients({"w": mx.array(1.0)}, weights)
        recorder._rows[-1] = Counted(recorder._rows[-1])
        recorder.log_done(loss=1.0)
    assert looked <= 10 * 1000


def test_after_an_update_of_the_loop_log_done_is_log() -> None:
    group = make()
    recorders = Recorder(group), Recorder(group)
    for i in range(3):
        group.update(i / 3)
        recorders[0].log(loss=float(i))
        recorders[1].log_done(loss=float(i))
    assert recorders[0].rows == recorders[1].rows


def test_a_file_name_for_a_column() -> None:
    with pytest.raises(ValueError, match=r"write recorder.plot\(\).figure.savefig\('run.png'\)"):
        one().plot("run.png")
