"""A training run that is interrupted by SIGINT many times, continues, and checks its state.

``python -m tests.interrupted FOLDER MODE INTERRUPTS`` trains, in a mode of ``resumable.py``, until
it was interrupted INTERRUPTS times. After each interrupt it asserts that the state is consistent
and that the next steps are equal, bit for bit, to those of a run without interrupts. In compiled
modes that run uses scalars, in eager modes plain floats that are set by hand.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np

from scalars import Linear, Recorder, ReduceOnPlateau, ScheduledScalar

from .helpers import assert_same, reloaded
from .resumable import Run

TOTAL = 100_000
MORE = 3
"""The steps that are compared after each interrupt."""


class ByHand(Run):
    """The same run with plain floats in place of scalars, set before each step."""

    def __init__(self, total: int) -> None:
        super().__init__("eager", total)
        self.rate, self.loss_weight = Linear(0.1, 0.3), self.aux
        self.beta, self.decay = self.optimizer.betas[0], self.optimizer.weight_decay
        self.optimizer = optim.AdamW(
            0.0, betas=[0.0, 0.999], weight_decay=0.0, bias_correction=True
        )
        self.optimizer.init(self.model.trainable_parameters())

    def set_numbers(self) -> None:
        progress, optimizer = self.horizon.progress(self.step), self.optimizer
        optimizer.learning_rate = self.lr.at(progress)
        optimizer.betas = [self.beta.at(progress), 0.999]
        optimizer.weight_decay = self.decay.at(progress)
        self.model.layers[2]._p_1 = 1 - self.rate.at(progress)
        self.aux = self.loss_weight.at(progress)


class Interrupted:
    """A run, its checkpoint, and a handler of SIGINT that raises while it is armed."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.run = Run(mode, TOTAL)
        self.run.aux = self.run.aux * ReduceOnPlateau(1.0, 0.9999, patience=3)
        self.run.attach()
        assert self.run.group is not None
        self.group = self.run.group
        self.recorder = Recorder(self.group, last=20)
        self.rows = folder / "rows.json"
        self.armed = self.raised = False
        self.train(1)  # trace everything first, as an error in a trace needs a checkpoint
        self.reference = Run(mode, TOTAL) if self.run.compiled else ByHand(TOTAL)
        if self.run.compiled:
            self.reference.aux = self.reference.aux * ReduceOnPlateau(1.0, 0.9999, patience=3)
            self.reference.attach()
            self.reference.train(1)
        signal.signal(signal.SIGINT, self.interrupt)

    def interrupt(self, *_: Any) -> None:
        if self.armed:
            self.armed, self.raised = False, True
            raise KeyboardInterrupt

    def train(self, steps: int) -> None:
        """Train, observe, record, save and load."""
        for _ in range(steps):
            self.run.train(self.run.step + 1)
            self.recorder.log(loss=float(self.run.step))
            self.group.observe(1.0)
            self.recorder.save(self.rows)
            if not self.run.by_step:
                self.group.load_state_dict(self.group.state_dict())

    def until_interrupted(self) -> None:
        self.raised, self.armed = False, True
        try:
            print("ready", flush=True)
            while not self.raised:  # MLX drops an error that is raised while it converts a scalar,
                self.train(1)
        except KeyboardInterrupt:
            pass
        except ValueError:  # or reports that it is not a number
            assert self.raised
        self.run.step = int(self.run.optimizer.step.item())

    def look(self) -> None:
        """Assert that the state is consistent."""
        leaves = list({id(x): x for one in self.group.values() for x in one.leaves}.values())
        one = mx.array(1.0)
        state = [self.run.optimizer.state]
        compiled = mx.compile(lambda: [leaf * one for leaf in leaves], inputs=state)()
        progress = self.group.progress
        assert not self.run.by_step or progress == self.run.step / TOTAL
        for leaf, array in zip(leaves, compiled):
            assert leaf.progress == progress, leaf
            assert float(leaf) == leaf.at(progress), leaf
            assert array.item() == np.float32(float(leaf)), leaf
        optimizer = self.run.optimizer
        numbers = optimizer._schedulers["learning_rate"], optimizer.betas[0], optimizer.weight_decay
        assert all(isinstance(number, ScheduledScalar) for number in numbers)
        assert isinstance(self.run.model.layers[2]._p_1, ScheduledScalar)
        assert len(Recorder().load(self.rows)) > 0

    def compare(self) -> None:
        """Assert that the run continues like one without interrupts."""
        ours, theirs = self.run, self.reference
        theirs.step = ours.step
        theirs.model.update(reloaded(ours.parameters()))
        state = reloaded(ours.optimizer.state)
        if isinstance(theirs, ByHand):
            del state["scalars"]
            factor = ours.aux.leaves[1].value_at(0.0)
            theirs.loss_weight = Run("eager", TOTAL).aux * factor
        theirs.optimizer.state.update(state)
        for run in (ours, theirs):
            run.train(run.step + MORE)
        assert_same(ours.parameters(), theirs.parameters())
        own = {k: v for k, v in ours.optimizer.state.items() if k != "scalars"}
        assert_same(own, {k: v for k, v in theirs.optimizer.state.items() if k != "scalars"})


def main() -> None:
    interrupted = Interrupted(Path(sys.argv[1]), sys.argv[2])
    for _ in range(int(sys.argv[3])):
        interrupted.until_interrupted()
        interrupted.look()
        interrupted.compare()
    print("whole", flush=True)


if __name__ == "__main__":
    main()
