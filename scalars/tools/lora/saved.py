"""What a run saves to be resumed: one file beside the adapters, replaced as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from ... import checks
from ...optimizers.attached import AttachedOptimizer
from ...training.group import ScalarGroup
from ..randomness import random_seed
from ..recording import Recorder

FILE = "resume.safetensors"
VERSION = 1
MAY_DIFFER = {
    "adapter_path", "clear_cache_threshold", "config", "grad_checkpoint", "project_name",
    "record", "report_to", "resume", "resume_adapter_file", "save_every", "steps_per_report",
    "test", "test_batches", "trust_remote_code",
}  # fmt: skip
"""What may be another way when a run is resumed: it changes no number of the training."""


class Order:
    """Where a run is in the order of its batches, which NumPy draws at the start of each epoch.

    An epoch has begun where taking a batch has moved NumPy's global generator. An epoch of one
    batch moves nothing, and goes on for ever here: it has the same batch all the time.
    """

    def __init__(self) -> None:
        self.epoch: list[Any] = numpy_state()
        self.taken = 0

    def take(self, batches: Iterator[Any]) -> Any:
        """Return the next batch."""
        before = numpy_state()
        batch = next(batches)
        if numpy_state() != before:
            self.epoch, self.taken = before, 0
        self.taken += 1
        return batch

    def find(self, batches: Iterator[Any]) -> None:
        """Take again what was taken in this epoch; NumPy's generator stays where it is."""
        now, epoch, taken = numpy_state(), self.epoch, self.taken
        set_numpy_state(epoch)
        for _ in range(taken):
            self.take(batches)
        self.epoch, self.taken = epoch, taken
        set_numpy_state(now)


def numpy_state() -> list[Any]:
    """Return the state of NumPy's global generator, as JSON can hold it."""
    name, keys, *rest = np.random.get_state()
    return [name, np.asarray(keys).tolist(), *rest]


def set_numpy_state(state: list[Any]) -> None:
    """Put NumPy's global generator into a state."""
    np.random.set_state((state[0], np.array(state[1], np.uint32), *state[2:]))


@dataclass
class Run:
    """What is saved, and what it is restored into."""

    model: nn.Module
    optimizer: AttachedOptimizer
    group: ScalarGroup
    recorder: Recorder
    order: Order
    config: Mapping[str, Any]

    def save(self, folder: Path, iteration: int) -> None:
        """Write the file; the one that is there is replaced when all is written."""
        weights: Any = self.model.trainable_parameters()  # type: ignore[no-untyped-call]
        arrays = dict(tree_flatten({"weights": weights, "optimizer": self.optimizer.state}))
        run = {
            "version": VERSION,
            "iteration": iteration,
            "config": deciding(self.config),
            "seed": random_seed(),
            "numpy": numpy_state(),
            "epoch": self.order.epoch,
            "taken": self.order.taken,
            "recorder": self.recorder.state_dict(),
        }
        write(folder / FILE, arrays, {"run": json.dumps(run)})

    def restore(self, saved: Saved) -> None:
        """Put everything where it was."""
        weights: Any = self.model.trainable_parameters()  # type: ignore[no-untyped-call]
        expected = {name: (x.shape, x.dtype) for name, x in _flat(weights).items()}
        found = {name: (x.shape, x.dtype) for name, x in _flat(saved.weights).items()}
        if found != expected:
            differ = [n for n in {**expected, **found} if expected.get(n) != found.get(n)]
            way_out = "Resume with the model and the layers that it was saved with."
            rule = "that of the parameters that are trained"
            checks.fail(f"{FILE}", rule, f"other ones, such as {differ[0]}", way_out)
        self.model.update(saved.weights)
        self.optimizer.state = saved.state
        self.optimizer.init(self.model.trainable_parameters())  # type: ignore[no-untyped-call]
        self.recorder.load_state_dict(saved.run["recorder"])
        self.order.epoch, self.order.taken = saved.run["epoch"], saved.run["taken"]
        mx.random.seed(saved.run["seed"])
        set_numpy_state(saved.run["numpy"])


@dataclass
class Saved:
    """What a file holds."""

    weights: Any
    state: Any
    run: dict[str, Any]

    @property
    def iteration(self) -> int:
        """The iterations that are done."""
        return int(self.run["iteration"])


def load(folder: Path, config: Mapping[str, Any]) -> Saved:
    """Read the file of a run with the same config.

    Raises:
        ValueError: There is none, it is not of this program, or the config is another one.
    """
    path, way_out = folder / FILE, "Leave out --resume to begin anew."
    if not path.exists():
        checks.fail("--resume", f"given where a run has saved {FILE}", str(folder), way_out)
    try:
        loaded: Any = mx.load(str(path), return_metadata=True)
        arrays, metadata = loaded
        run = json.loads(metadata["run"])
        trees: Any = tree_unflatten(list(arrays.items()))
        saved = Saved(trees["weights"], trees["optimizer"], run)
    except (RuntimeError, ValueError, KeyError) as error:
        checks.fail(str(path), "a file that a run has saved", str(error), way_out)
    if run["version"] != VERSION:
        checks.fail(str(path), f"of version {VERSION}", run["version"], way_out)
    before, now = run["config"], deciding(config)
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            rule = f"{before.get(name)!r} as in the run that is resumed"
            checks.fail(name, rule, now.get(name), way_out)
    return saved


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a resumed run must have in common with the one that it goes on with."""
    same = {name: value for name, value in config.items() if name not in MAY_DIFFER}
    same["processes"] = mx.distributed.init().size()
    data: dict[str, Any] = json.loads(json.dumps(same, default=str))
    return data


def write(path: Path, arrays: dict[str, mx.array], metadata: dict[str, str] | None = None) -> None:
    """Write arrays into a file, which is replaced when all is written."""
    save: Callable[[Path], None] = lambda part: mx.save_safetensors(str(part), arrays, metadata)  # noqa: E731
    replace(path, save)


def replace(path: Path, save: Callable[[Path], None]) -> None:
    """Have a file written beside ``path``, which takes its place if nothing goes wrong."""
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        save(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _flat(tree: Any) -> dict[str, mx.array]:
    return dict(tree_flatten(tree))
