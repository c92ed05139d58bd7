"""What the command relies on in mlx-lm: all of it is named here, and looked for at its start.

mlx-lm reads the config, loads, trains, evaluates and saves. While it runs, functions of its own
modules are replaced in them, and put back; nothing on disk changes. Besides the names below:

- ``mlx_lm.lora.run`` calls its module's ``train_model``, which makes the LoRA layers and the
  optimizer of the numbers in its arguments, writes the config with ``save_config``, and calls
  ``train`` by keywords.
- ``train`` asks ``iterate_batches``, with ``loop=True``, for a batch before each iteration and
  for nothing after the last one; for validation it asks without. It validates with its
  module's ``evaluate``.
- Its iterations are ``range(1, iters + 1)``: where they begin is how a run is resumed. It is
  checked that the trainer asks for that range.
- Every ``steps_per_save`` iterations and in the end it saves the trainable parameters in
  ``adapter_file``, and beside it in ``0000100_adapters.safetensors``.
- The order of the batches is drawn from NumPy's global generator at the start of each epoch.
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
VERSIONS = "mlx-lm 0.28 to 0.32"


def mlx_lm_parts() -> tuple[Any, Any]:
    """Return the modules ``mlx_lm.lora`` and ``mlx_lm.tuner.trainer``, with all that is needed.

    Raises:
        ImportError: There is no mlx-lm, or one that has other parts.
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
        f"scalars lora relies on {missing}, which this mlx-lm {version} has not: "
        f"it was written for {VERSIONS}"
    )


@contextmanager
def replaced(module: Any, **functions: Any) -> Iterator[None]:
    """Have a module use other functions under these names, and put its own back."""
    before = {name: vars(module)[name] for name in functions if name in vars(module)}
    vars(module).update(functions)
    try:
        yield
    finally:
        for name in functions:
            del vars(module)[name]
        vars(module).update(before)


class Iterations:
    """A ``range`` for the trainer, whose iterations begin later."""

    def __init__(self, done: int, iters: int) -> None:
        self.done = done
        self.iters = iters
        self.found = False

    def __call__(self, *bounds: int) -> range:
        """Return the range; instead of that of all iterations, the rest of it."""
        if bounds == (1, self.iters + 1) and not self.found:
            self.found = True
            return builtins.range(self.done + 1, self.iters + 1)
        return builtins.range(*bounds)

    def check(self) -> None:
        """Raise if the trainer has begun without asking for its iterations."""
        if not self.found:
            _other("range(1, iters + 1) in mlx_lm.tuner.trainer.train")


class StandIn(str):
    """The name of an optimizer that mlx-lm does not know, and makes its AdamW for."""

    __slots__ = ()

    def lower(self) -> str:
        """Return what mlx-lm looks up; shown and saved is the name itself."""
        return "adamw"


def optimizer_class(lora: Any, name: str) -> Callable[..., Any]:
    """Return the class of MLX that mlx-lm makes for a name."""
    classes = {key.lower(): x for key, x in vars(lora.optim).items() if isinstance(x, type)}
    found: Callable[..., Any] = classes[checks.one_of("optimizer", name, classes)]
    return found
