"""The numbers in a config of mlx-lm, any of which may be a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ... import checks
from ...number.scalar import ScheduledScalar
from ...optimizers.discover import within
from ...training.horizon import Horizon
from ..config import from_config
from ..mlx_lm import horizon_of
from ..names import by_name
from ..registry import known_too

QUOTES = 'In a list of YAML, quote a text with commas: ["Linear(0.9, 0.95)", 0.999].'
IN_LAYERS = ("dropout", "scale")
"""The LoRA parameters that the layers use at every step."""


@dataclass
class Numbers:
    """The numbers of a run, with scalars where the config has schedules."""

    horizon: Horizon | None
    """The optimizer steps of the run, if the config gives the number of iterations."""
    rate: ScheduledScalar
    rate_is_mlx_lms: bool
    """Whether mlx-lm makes the rate itself, from a number or one of its own schedules."""
    optimizer: dict[str, Any]
    """The settings of the optimizer except the rate."""
    lora: dict[str, Any]

    @property
    def in_layers(self) -> dict[str, ScheduledScalar]:
        """The scheduled parameters of the layers, by name."""
        return {k: x for k, x in self.lora.items() if isinstance(x, ScheduledScalar)}

    @property
    def scalars(self) -> dict[str, ScheduledScalar]:
        """The rate and all other scheduled numbers, by name."""
        found = [one for name, x in self.optimizer.items() for one in within(name, x)]
        return {"learning_rate": self.rate, **dict(found), **self.in_layers}

    @property
    def adaptive(self) -> list[str]:
        """The names of the scalars that observe a metric."""
        found = self.scalars.items()
        return [name for name, scalar in found if any(leaf.listeners for leaf in scalar.leaves)]


def numbers_of(config: Mapping[str, Any]) -> Numbers:
    """Make the scalars of a config; an error names the key that caused it."""
    horizon = horizon_of(config) if config.get("iters") is not None else None
    block = config.get("lr_schedule")
    name = "learning_rate" if block is None else "lr_schedule"
    given = config.get(name)
    mlx_lms = "arguments" in given if isinstance(given, Mapping) else block is None
    return Numbers(
        horizon,
        _scalar(name, given, horizon),
        mlx_lms and not isinstance(given, str),
        _of_optimizer(config, horizon),
        _of_lora(config, horizon),
    )


def _of_optimizer(config: Mapping[str, Any], horizon: Horizon | None) -> dict[str, Any]:
    name = str(config.get("optimizer") or "adam").lower()
    everyones = _mapping("optimizer_config", config.get("optimizer_config"))
    where = f"optimizer_config.{name}"
    settings = _mapping(where, everyones.get(name))
    if "learning_rate" in settings:
        way_out = "Write learning_rate or lr_schedule at the top level."
        checks.fail(where, "free of the learning rate", settings, way_out)
    return {key: _made(f"{where}.{key}", value, horizon) for key, value in settings.items()}


def _of_lora(config: Mapping[str, Any], horizon: Horizon | None) -> dict[str, Any]:
    settings = dict(_mapping("lora_parameters", config.get("lora_parameters")))
    for key in IN_LAYERS:
        if isinstance(settings.get(key), (str, Mapping)):
            where = f"lora_parameters.{key}"
            if config.get("fine_tune_type") == "full":
                way_out = "Write a number, or set fine_tune_type to lora or dora."
                checks.fail(where, "no schedule in full fine-tuning", settings[key], way_out)
            settings[key] = _scalar(where, settings[key], horizon)
    _check_dropout(settings.get("dropout"), horizon)
    if "rank" in settings:
        checks.count("lora_parameters.rank", settings["rank"])
    return settings


def _check_dropout(dropout: Any, horizon: Horizon | None) -> None:
    """Check a dropout rate at every step, as MLX checks it only when a layer is made."""
    if isinstance(dropout, ScheduledScalar) and horizon is not None:
        values = map(dropout.at, horizon.progresses()[:-1])
    else:
        values = map(float, [dropout] if isinstance(dropout, (int, float)) else [])
    for step, value in enumerate(values):
        if not 0 <= value < 1:
            rule = f"at least 0 and below 1 at every step, as at step {step}"
            checks.fail("lora_parameters.dropout", rule, value, "Lower it.")


def _made(name: str, value: Any, horizon: Horizon | None) -> Any:
    """Replace texts and mappings in a value by the scalars that they describe."""
    if isinstance(value, list):
        return [_made(f"{name}.{i}", item, horizon) for i, item in enumerate(value)]
    return _scalar(name, value, horizon) if isinstance(value, (str, Mapping)) else value


def _scalar(name: str, value: Any, horizon: Horizon | None) -> ScheduledScalar:
    """Make a scalar from a number, a text or a mapping."""
    try:
        with known_too(by_name(horizon, "iters")):
            made = from_config(value, horizon)
    except (ValueError, TypeError) as error:
        in_list = name.rpartition(".")[2].isdigit() and isinstance(value, str)
        hint = f" {QUOTES}" if in_list and value.count("(") != value.count(")") else ""
        raise type(error)(f"{name}: {error}{hint}") from error
    if not isinstance(made, ScheduledScalar):
        checks.fail(
            name, "a number or one schedule", made, "Write a text such as 'Linear(0.1, 0.0)'."
        )
    return made


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        checks.fail(name, "a mapping", value, "Write name: value below it.", wrong_type=True)
    return value
