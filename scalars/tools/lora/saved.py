"""Saving and restoring a run, in one file next to the adapters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
from ..files import replacing
from ..randomness import random_seed
from ..recording import Recorder

FILE = "resume.safetensors"
VERSION = 1
MAY_DIFFER = {
    "adapter_path", "clear_cache_threshold", "config", "grad_checkpoint", "project_name",
    "record", "report_to", "resume", "resume_adapter_file", "save_every", "steps_per_report",
    "test", "test_batches", "trust_remote_code",
}  # fmt: skip
"""Keys that may change when a run is resumed, as they do not affect the training."""


class Order:
    """The position in the order of batches, which NumPy draws at the start of each epoch.

    An epoch begins when taking a batch changes the state of NumPy's global generator. If an epoch
    has one batch, the state does not change and the epoch never ends, which makes no difference.
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
        """Skip the batches taken in this epoch, without changing NumPy's generator."""
        now, epoch, taken = numpy_state(), self.epoch, self.taken
        set_numpy_state(epoch)
        for _ in range(taken):
            self.take(batches)
        self.epoch, self.taken = epoch, taken
        set_numpy_state(now)


def numpy_state() -> list[Any]:
    """Return the state of NumPy's global generator as data that JSON can store."""
    name, keys, *rest = np.random.get_state()
    return [name, np.asarray(keys).tolist(), *rest]


def set_numpy_state(state: list[Any]) -> None:
    """Set the state of NumPy's global generator."""
    np.random.set_state((state[0], np.array(state[1], np.uint32), *state[2:]))


@dataclass
class Run:
    """The parts of a run that are saved and restored."""

    model: nn.Module
    optimizer: AttachedOptimizer
    group: ScalarGroup
    recorder: Recorder
    order: Order
    config: Mapping[str, Any]

    def save(self, folder: Path, iteration: int) -> None:
        """Write the file; an existing file is replaced only when all is written."""
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
        """Restore the run."""
        weights: Any = self.model.trainable_parameters()  # type: ignore[no-untyped-call]
        expected = {name: (x.shape, x.dtype) for name, x in _flat(weights).items()}
        found = {name: (x.shape, x.dtype) for name, x in _flat(saved.weights).items()}
        if found != expected:
            differ = [n for n in {**expected, **found} if expected.get(n) != found.get(n)]
            way_out = "Resume with the same model and layers."
            rule = "a file with the trained parameters"
            checks.fail(f"{FILE}", rule, f"different ones, such as {differ[0]}", way_out)
        self.model.update(saved.weights)
        self.optimizer.state = saved.state
        self.optimizer.init(self.model.trainable_parameters())  # type: ignore[no-untyped-call]
        self.recorder.load_state_dict(saved.run["recorder"])
        self.order.epoch, self.order.taken = saved.run["epoch"], saved.run["taken"]
        mx.random.seed(saved.run["seed"])
        set_numpy_state(saved.run["numpy"])


@dataclass
class Saved:
    """The contents of a file."""

    weights: Any
    state: Any
    run: dict[str, Any]

    @property
    def iteration(self) -> int:
        """The number of iterations done."""
        return int(self.run["iteration"])


def load(folder: Path, config: Mapping[str, Any]) -> Saved:
    """Read the file of a run with the same config.

    Raises:
        ValueError: The file does not exist or is not valid, or the config differs.
    """
    path, way_out = folder / FILE, "Remove --resume to start a new run."
    if not path.exists():
        checks.fail("--resume", f"used with a folder that contains {FILE}", str(folder), way_out)
    try:
        loaded: Any = mx.load(str(path), return_metadata=True)
        arrays, metadata = loaded
        _check_complete(path, arrays)
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


def _check_complete(path: Path, arrays: Mapping[str, mx.array]) -> None:
    """Check that a file is not cut short, where older versions of MLX read arbitrary numbers."""
    with path.open("rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    expected, found = header + sum(x.nbytes for x in arrays.values()), path.stat().st_size
    if found < expected:
        raise ValueError(f"{found} of {expected} bytes")


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that must be the same when a run is resumed."""
    same = {name: value for name, value in config.items() if name not in MAY_DIFFER}
    same["processes"] = mx.distributed.init().size()
    data: dict[str, Any] = json.loads(json.dumps(same, default=str))
    return data


def write(path: Path, arrays: dict[str, mx.array], metadata: dict[str, str] | None = None) -> None:
    """Write arrays to a file, which is replaced only when all are written."""
    with replacing(path) as part:
        mx.save_safetensors(str(part), arrays, metadata)


def _flat(tree: Any) -> dict[str, mx.array]:
    return dict(tree_flatten(tree))
