"""An interrupt at any time leaves a consistent state."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest

import scalars
from scalars import (
    CosineAnnealing,
    Horizon,
    LambdaValue,
    Linear,
    Recorder,
    ReduceOnPlateau,
    ScheduledScalar,
    Warmup,
    attach,
    detach,
)

from .helpers import reloaded
from .test_checkpoints import MODES

PACKAGE = str(Path(scalars.__file__).parent)
ONE = mx.array(1.0)
INTERRUPTS = 60


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_process_that_is_interrupted_at_random_moments(mode: str, tmp_path: Path) -> None:
    """See ``interrupted.py``: each interrupt comes up to 20 ms after the process is ready."""
    command = [sys.executable, "-m", "tests.interrupted", str(tmp_path), mode, str(INTERRUPTS)]
    moments = random.Random(mode)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1] == "ready":
            time.sleep(moments.random() * 0.02)
            process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait() == 0
    assert lines == ["ready"] * INTERRUPTS + ["whole"]


# At every line of the package -------------------------------------------------------------


class InterruptError(BaseException):
    """The exception of the interrupt."""


def interrupted_at(count: int, call: Callable[[], object]) -> bool:
    """Call, with an interrupt at the n-th line of the package; return whether it came."""
    lines = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            lines += 1
            if lines == count:
                raise InterruptError
        return trace

    sys.settrace(trace)
    try:  # noqa: SIM105 - the trace would see the lines of contextlib
        call()
    except InterruptError:
        pass
    sys.settrace(None)
    return lines >= count


class Run:
    """An optimizer in the middle of a run, with a scalar of each kind attached."""

    def __init__(self, by_step: bool) -> None:
        lr = Warmup(ReduceOnPlateau(CosineAnnealing(0.1, 0.01), 0.5, patience=0), 0.1)
        self.decay = Linear(0.0, 0.1)
        beta = LambdaValue(lambda p: 0.8 + 0.1 * p)
        self.optimizer = optim.AdamW(lr, betas=[beta, 0.99], weight_decay=self.decay)
        self.optimizer.init({"w": ONE})
        horizon = Horizon(10) if by_step else None
        self.group = attach(self.optimizer, horizon=horizon, aux=Linear(1.0, 2.0) * self.decay)
        self.leaves = {id(leaf): leaf for one in self.group.values() for leaf in one.leaves}
        self.recorder = Recorder(self.group)
        if not by_step:
            self.group.update(0.2)
        self.advance()
        self.group.observe(2.0)
        self.saved = self.group.state_dict()
        self.state = reloaded(self.optimizer.state)
        if not by_step:
            self.group.update(0.7)
        self.advance()
        self.group.observe(3.0)

    def advance(self) -> None:
        self.optimizer.apply_gradients({"w": ONE}, {"w": ONE})

    def assert_whole(self) -> None:
        leaves = list(self.leaves.values())
        compiled = mx.compile(lambda: [leaf * ONE for leaf in leaves], [self.optimizer.state])()
        for leaf, array in zip(leaves, compiled):
            assert leaf.progress == self.group.progress
            assert float(leaf) == leaf.in_force(leaf.progress)
            assert array.item() == np.float32(float(leaf))
        numbers = [*self.optimizer._schedulers.values(), self.optimizer.betas[0]]
        numbers.append(self.optimizer.weight_decay)
        assert all(isinstance(number, ScheduledScalar) for number in numbers)
        again = Run(by_step=self.group.step is not None)  # a checkpoint has the current state
        again.optimizer.state = reloaded(self.optimizer.state)
        assert again.group.snapshot() == self.group.snapshot()
        self.advance()
        self.group.observe(4.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("by_step", "change"),
    [
        (False, lambda run, path: run.group.update(0.9)),
        (False, lambda run, path: run.decay.update(0.7).hold(0.05)),
        (False, lambda run, path: run.group.hold(weight_decay=0.05)),
        (False, lambda run, path: run.group.observe(9.0)),
        (True, lambda run, path: run.group.observe(9.0)),
        (False, lambda run, path: run.group.load_state_dict(run.saved)),
        (False, lambda run, path: setattr(run.optimizer, "state", run.state)),
        (True, lambda run, path: setattr(run.optimizer, "state", run.state)),
        (False, lambda run, path: run.advance()),
        (True, lambda run, path: run.advance()),
        (False, lambda run, path: run.recorder.save(path)),
        (True, lambda run, path: run.recorder.to_csv(path)),
    ],
)
def test_an_interrupt_at_any_line_changes_all_or_nothing(
    by_step: bool, change: Any, tmp_path: Path
) -> None:
    path = tmp_path / "rows"
    run = Run(by_step)
    run.recorder.save(path)
    old = path.read_text()
    change(run, path)
    new, at, came = path.read_text(), 1, True
    while came:
        path.write_text(old)
        run = Run(by_step)
        came = interrupted_at(at, lambda r=run: change(r, path))
        run.assert_whole()
        assert path.read_text() in (old, new)
        at += 1 if at < 50 else 11
    assert at > 12


class Moving(optim.SGD):
    """One that moves its numbers within containers, and into new ones."""

    def __init__(self, decay: ScheduledScalar) -> None:
        super().__init__(0.1)
        self.queue, self.items, self.pair = deque([decay, 5.0]), [decay, 1.0], (decay, 0.0)
        self.config: dict[str, Any] = {"decay": decay, "count": [0]}

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        self.queue.rotate(1)
        self.items.reverse()
        self.pair = (self.pair[0], self.pair[1] + 1)
        self.config = {**self.config, "count": [*self.config["count"], 1]}
        return super().apply_gradients(gradients, parameters)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("by_step", [False, True])
def test_an_interrupt_leaves_each_scalar_once_in_its_container(by_step: bool) -> None:
    at, came = 1, True
    while came:
        optimizer = Moving(decay := Linear(0.0, 0.1))
        attach(optimizer, horizon=Horizon(10) if by_step else None)
        for _ in range(2):
            came = interrupted_at(at, lambda o=optimizer: o.apply_gradients({"w": ONE}, {"w": ONE}))
            assert type(optimizer).__mro__[2] is Moving
            assert [x for x in optimizer.queue if x is not decay] == [5.0]
            assert [x for x in optimizer.items if x is not decay] == [1.0]
            assert len(optimizer.queue) == len(optimizer.items) == 2
            assert optimizer.pair[0] is optimizer.config["decay"] is decay
            assert optimizer.pair[1] in (0.0, 1.0, 2.0)
        at += 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("change", ["attach", "attach again", "detach"])
def test_an_interrupt_attaches_and_detaches_all_or_nothing(by_step: bool, change: str) -> None:
    """Afterwards the call can be made again, and the optimizer has been attached or not."""
    horizon = Horizon(10) if by_step else None
    at, came, whole = 1, True, set()
    while came:
        rate, decay, dropout = Linear(0.1, 0.0), Linear(0.0, 0.1), nn.Dropout(Linear(0.0, 0.5))
        optimizer = optim.AdamW(rate, betas=[Linear(0.8, 0.9), 0.99], weight_decay=decay)
        optimizer.init({"w": ONE})
        if change != "attach":
            attach(optimizer, horizon=horizon)
        calls: dict[str, Callable[[], object]] = {
            "attach": lambda o=optimizer, d=dropout: attach(o, d, horizon),
            "attach again": lambda o=optimizer, d=dropout: attach(o, d, horizon),
            "detach": lambda o=optimizer: detach(o),
        }
        came = interrupted_at(at, calls[change])
        plain = type(optimizer) is optim.AdamW
        assert plain == ("scalars" not in optimizer._state)
        assert plain == (not hasattr(optimizer, "_attachment"))
        viewed = type(vars(dropout)["_p_1"]).__name__ == "KeepingView"
        assert not (viewed and plain)
        leaves = [rate, decay, optimizer.betas[0]]
        kinds = {type(leaf._cell).__name__ for leaf in leaves}
        assert kinds == {"StepCell" if by_step and not plain else "Cell"}
        whole.add((plain, viewed))
        if not plain:
            detach(optimizer)
        group = attach(optimizer, dropout, horizon)
        optimizer.apply_gradients({"w": ONE}, {"w": ONE})
        assert group.progress == (0.1 if by_step else 0.0)
        at += 1 if at < 50 else 11
    assert at > 12
    assert len(whole) == 2  # before and after the call
