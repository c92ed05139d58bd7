"""The parts of mlx-lm that the command relies on, and the check that they exist.

mlx-lm reads the config, loads, trains, evaluates and saves. While it runs, some functions in its
modules are replaced and then restored; nothing on disk changes. Besides the names below, the
command relies on the following:

- ``mlx_lm.lora.run`` calls its module's ``train_model``, which makes the LoRA layers and the
  optimizer from the numbers in its arguments, writes the config with ``save_config``, and calls
  ``train`` with keyword arguments.
- ``train`` takes a batch from ``iterate_batches(..., loop=True)`` before each iteration and none
  after the last one. For validation it calls its module's ``evaluate``, which leaves ``loop`` out.
- Its iterations are ``range(1, iters + 1)``. A resumed run replaces this range, and it is checked
  that the trainer has used it.
- Every ``steps_per_save`` iterations and at the end it saves the trainable parameters in
  ``adapter_file``, and next to it in ``0000100_adapters.safetensors``.
- The order of the batches comes from NumPy's global generator at the start of each epoch.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ... import checks

NAMES = {
    "mlx_lm.lora": (
        "CONFIG_DEFAULTS",
        "build_parser",
        "build_schedule",
        "optim",
        "run",
        "save_config",
        "train",
        "train_model",
        "yaml_loader",
    ),
    "mlx_lm.tuner.trainer": ("evaluate", "iterate_batches", "train"),
}
PARAMETERS = {
    "run": ("args",),
    "save_config": ("config", "config_path"),
    "train": ("model", "optimizer", "args", "iterate_batches", "training_callback"),
    "train_model": ("args", "model", "train_set", "valid_set"),
    "iterate_batches": ("loop",),
    "evaluate": ("model",),
}
VERSIONS = "mlx-lm 0.28.4 to 0.32"


def mlx_lm_parts() -> tuple[Any, Any]:
    """Return the modules ``mlx_lm.lora`` and ``mlx_lm.tuner.trainer`` after checking their parts.

    Raises:
        ImportError: mlx-lm is not installed, or a part is missing.
    """
    try:
        modules = {name: import_module(name) for name in NAMES}
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mlx_lm":
            raise
        raise ImportError("scalars lora needs mlx-lm: pip install mlx-lm") from error
    for where, module in modules.items():
        for name in NAMES[where]:
            if not hasattr(module, name):
                _other(f"{where}.{name}")
            taken = _parameters(getattr(module, name)) if name in PARAMETERS else ()
            for parameter in PARAMETERS.get(name, ()):
                if parameter not in taken:
                    _other(f"{parameter} of {where}.{name}")
    lora, trainer = modules.values()
    return lora, trainer


def _parameters(function: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _other(missing: str) -> None:
    version = getattr(import_module("mlx_lm"), "__version__", "")
    raise ImportError(
        f"scalars lora relies on {missing}, which mlx-lm {version} does not have. "
        f"Install {VERSIONS}."
    )


@contextmanager
def replaced(module: Any, **functions: Any) -> Iterator[None]:
    """Replace functions of a module by name, and restore them afterwards."""
    before = {name: vars(module)[name] for name in functions if name in vars(module)}
    vars(module).update(functions)
    try:
        yield
    finally:
        for name in functions:
            del vars(module)[name]
        vars(module).update(before)


class Iterations:
    """A ``range`` for the trainer that skips the iterations that are done."""

    def __init__(self, done: int, iters: int) -> None:
        self.done = done
        self.iters = iters
        self.found = False

    def __call__(self, *bounds: int) -> range:
        """Return the range, or the remaining iterations in place of the range of all iterations."""
        if bounds == (1, self.iters + 1) and not self.found:
            self.found = True
            return builtins.range(self.done + 1, self.iters + 1)
        return builtins.range(*bounds)

    def check(self) -> None:
        """Raise ``ImportError`` if the trainer has not used the range of all iterations."""
        if not self.found:
            _other("range(1, iters + 1) in mlx_lm.tuner.trainer.train")


class StandIn(str):
    """The name of an optimizer that mlx-lm does not know, for which it makes AdamW."""

    __slots__ = ()

    def lower(self) -> str:
        """Return the name that mlx-lm looks up; it shows and saves the original name."""
        return "adamw"


def optimizer_class(lora: Any, name: str) -> Callable[..., Any]:
    """Return the optimizer class that mlx-lm uses for a name."""
    classes = {key.lower(): x for key, x in vars(lora.optim).items() if isinstance(x, type)}
    found: Callable[..., Any] = classes[checks.one_of("optimizer", name, classes)]
    return found
