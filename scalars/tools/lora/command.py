"""The command line of ``python -m scalars lora``, which extends that of mlx-lm."""

from __future__ import annotations

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import mlx.core as mx

from ... import checks
from ...optimizers.attach import attach
from ..chart import print_text
from .numbers import Numbers, numbers_of
from .parts import mlx_lm_parts, optimizer_class
from .saved import load
from .showing import shown
from .training import SCHEDULE_FREE, Training

DESCRIPTION = """\
mlx_lm.lora with schedules. It has all of its flags, configs and outputs.

In the config, a text such as "Warmup(CosineAnnealing(1e-4, 1e-6), 0.1)" may
replace a number: learning_rate or lr_schedule, any number in optimizer_config
(weight_decay, betas, momentum, ...), and dropout and scale in lora_parameters.
Schedules end at the end of the run, take gradient accumulation into account,
and are shown before the run starts. "python -m scalars list" lists all of them.
ReduceOnPlateau(1e-4) observes the validation loss. The optimizer may also be
schedule_free_adamw or schedule_free_sgd, which are evaluated and saved at the
average.
"""
EXAMPLE = """\
example:
  python -m scalars lora --train --model Qwen/Qwen3-0.6b --data data \\
      --iters 600 --lr-schedule "Warmup(CosineAnnealing(1e-4, 1e-6), 0.1)" \\
      --record run.csv
  To continue a run that was stopped, repeat the command with --resume.
"""
SCHEDULED = (
    "learning_rate, lr_schedule, the numbers in optimizer_config, and dropout and scale in "
    "lora_parameters may be schedules."
)
KNOWN = {
    "chat_feature", "completion_feature", "hf_dataset", "prompt_feature", "record", "resume",
    "text_feature",
}  # fmt: skip
"""Keys of a config that have no default in mlx-lm."""


def prepare(arguments: Sequence[str]) -> Callable[[], None]:
    """Check what can be checked before the model is loaded, and return the run as a function.

    Raises:
        ValueError: An argument or a value in the config is out of its range.
        TypeError: An argument or a value in the config is of the wrong type.
        ImportError: mlx-lm is not installed, or its version is not supported.
        OSError: A file cannot be read.
    """
    lora, trainer = mlx_lm_parts()
    config = _config(lora, arguments)
    if not config["train"]:
        if not config["test"] or config["resume"]:
            checks.fail("--train", "given, or --test alone", "neither", "Add --train.")
        return partial(lora.run, SimpleNamespace(**config))
    numbers = _numbers(lora, config)
    _check_files(config, numbers)
    saved = load(Path(config["adapter_path"]), config) if config["resume"] else None

    def run() -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "true"  # as mlx-lm does
        if mx.distributed.init().rank() == 0:
            print_text(shown(config, numbers))
            if saved is not None:
                print(f"Resuming after iteration {saved.iteration} of {config['iters']}")
        Training(lora, trainer, config, numbers).run(saved)

    return run


class _Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _parser(lora: Any) -> ArgumentParser:
    """Return mlx-lm's parser with additional options and one-line errors."""
    parser = _Parser(
        prog="scalars lora",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        parents=[lora.build_parser()],
        add_help=False,  # the parent parser has it
        conflict_handler="resolve",  # replaces options of the parent parser
        formatter_class=RawDescriptionHelpFormatter,
    )
    names = [*lora.CONFIG_DEFAULTS["optimizer_config"], *SCHEDULE_FREE]
    text = f"Optimizer to use for training: {', '.join(names)}."
    parser.add_argument("--optimizer", choices=names, metavar="NAME", help=text)
    parser.add_argument(
        "--learning-rate", type=_number_or_text, help="A number, or a text as in --lr-schedule."
    )
    parser.add_argument("--lr-schedule", metavar="TEXT", help="The schedule of the learning rate.")
    record = "Write all reported scalars and losses to a .csv or .jsonl file, and a plot."
    parser.add_argument("--record", metavar="FILE", help=record)
    resume = (
        "Continue a run that was stopped, with the weights, optimizer, scalars, random numbers and "
        "order of batches of the last save."
    )
    parser.add_argument("--resume", action="store_true", default=None, help=resume)
    return parser


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _config(lora: Any, arguments: Sequence[str]) -> dict[str, Any]:
    """Merge the arguments, the config file and mlx-lm's defaults, as mlx-lm does."""
    config = vars(_parser(lora).parse_args(arguments))
    allowed = {*lora.CONFIG_DEFAULTS, *KNOWN}
    rate = config["learning_rate"]
    if config["config"]:
        written = _yaml(config["config"], lora.yaml_loader)
        for name, value in written.items():
            # mlx-lm ignores unknown keys, but a key that is close to a known one is a mistake.
            if name not in allowed and (close := get_close_matches(str(name), allowed, 1, 0.8)):
                way_out = f"Did you mean {close[0]}?"
                checks.fail("a key of the config", "one that mlx-lm knows", name, way_out)
            if config.get(name) is None:
                config[name] = value
    for name, value in lora.CONFIG_DEFAULTS.items():
        if config.get(name) is None:
            config[name] = value
    if rate is not None and config["lr_schedule"] is not None:
        way_out = "Remove it, or remove lr_schedule, which is used instead of it."
        checks.fail("--learning-rate", "left out with lr_schedule", rate, way_out)
    return config


def _yaml(file: str, loader: Any) -> dict[str, Any]:
    import yaml

    with Path(file).open(encoding="utf-8") as text:
        try:
            data = yaml.load(text, loader)
        except yaml.YAMLError as error:
            raise ValueError(f"{file} must be YAML, got {error}") from error
    if not isinstance(data, dict):
        way_out = "Write lines of the form name: value."
        checks.fail(file, "a mapping", data, way_out, wrong_type=True)
    return data


def _numbers(lora: Any, config: dict[str, Any]) -> Numbers:
    """Make the numbers of a run, and check that the optimizer accepts them."""
    for name in ("batch_size", "iters", "save_every", "steps_per_eval", "steps_per_report"):
        checks.count(name, config[name])
    for name, default in lora.CONFIG_DEFAULTS.items():
        number = isinstance(default, (int, float)) and not isinstance(default, bool)
        if number and name != "learning_rate" and isinstance(config[name], str):
            way_out = f"Write a number. {SCHEDULED}"
            checks.fail(name, "a number", config[name], way_out, wrong_type=True)
    checks.one_of("fine_tune_type", config["fine_tune_type"], ("lora", "dora", "full"))
    name = str(config["optimizer"]).lower()
    names = [*lora.CONFIG_DEFAULTS["optimizer_config"], *SCHEDULE_FREE]
    checks.one_of("optimizer", name, names)
    if config["fine_tune_type"] != "full":
        missing = {"rank", "dropout", "scale"} - set(config["lora_parameters"] or {})
        if missing:
            way_out = "Write rank, dropout and scale."
            rule = f"given {', '.join(sorted(missing))} too"
            checks.fail("lora_parameters", rule, config["lora_parameters"], way_out)
    tried = numbers_of(config)
    make: Any = SCHEDULE_FREE.get(name) or optimizer_class(lora, name)
    try:
        attach(make(tried.rate, **tried.optimizer), horizon=tried.horizon)
    except (ValueError, TypeError) as error:
        raise type(error)(f"optimizer_config.{name}: {error}") from error
    return numbers_of(config)  # new scalars, not attached to the tried optimizer


def _check_files(config: dict[str, Any], numbers: Numbers) -> None:
    if config["record"] is not None:
        record = Path(str(config["record"]))
        if record.suffix not in (".csv", ".jsonl"):
            checks.fail("--record", "a .csv or a .jsonl file", str(record), "Change the extension.")
        if not record.parent.is_dir():
            way_out = "Create the folder first."
            checks.fail("--record", "a file in a folder that exists", str(record), way_out)
    data = Path(str(config["data"]))
    if numbers.adaptive and data.is_dir() and not (data / "valid.jsonl").exists():
        way_out = "Add valid.jsonl to the data."
        rule = "given a validation loss to observe"
        checks.fail(", ".join(numbers.adaptive), rule, str(data), way_out)
