"""Runs of ``python -m scalars lora`` for tests, and the same training with floats set by hand."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import llama
from mlx_lm.tuner import trainer
from mlx_lm.tuner.datasets import CacheDataset, load_dataset
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load

from scalars.__main__ import main

SUMS = Path(__file__).parent / "sums"
ITERS = 12
PLAIN_CALL = llama.TransformerBlock.__call__  # which ``grad_checkpoint`` replaces in the class
SCHEDULED = {
    "optimizer": "adamw",
    "lr_schedule": "Warmup(CosineAnnealing(1e-2, 1e-4), 0.25)",
    "optimizer_config": {
        "adamw": {
            "weight_decay": "Linear(0.0, 0.5)",
            "betas": [{"name": "Linear", "start": 0.8, "end": 0.9}, 0.999],
            "eps": 1e-2,
        }
    },
    "lora_parameters": {"rank": 4, "dropout": "Linear(0.1, 0.4)", "scale": "Linear(20, 5)"},
}
FULL = {**SCHEDULED, "fine_tune_type": "full", "lora_parameters": None}
PLATEAU = "Warmup(ReduceOnPlateau(1e-2, factor=0.5, patience=0, threshold=0.05), 0.1)"


def line(start: float, end: float) -> Callable[[float], float]:
    return lambda p: start + (end - start) * p


def rate(p: float) -> float:
    if p < 0.25:
        return 1e-2 * p / 0.25
    return 1e-4 + (1e-2 - 1e-4) * (1 + math.cos(math.pi * (p - 0.25) / 0.75)) / 2


DECAY, BETA = line(0.0, 0.5), line(0.8, 0.9)
DROPOUT, SCALE = line(0.1, 0.4), line(20, 5)


def config_of(model: Path, folder: Path, **given: Any) -> dict[str, Any]:
    return {
        "model": str(model),
        "data": str(SUMS),
        "adapter_path": str(folder),
        "train": True,
        "num_layers": 2,
        "batch_size": 4,
        "iters": ITERS,
        "steps_per_report": 1,
        "steps_per_eval": 4,
        "val_batches": 2,
        "save_every": 4,
        **given,
    }


def command(config: dict[str, Any], *flags: str) -> None:
    """Run the command with a config in a file; JSON is YAML."""
    llama.TransformerBlock.__call__ = PLAIN_CALL
    folder = Path(config["adapter_path"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(json.dumps(config))
    main(["lora", "--config", str(folder / "config.yaml"), *flags])


def arrays(path: Path, prefix: str = "") -> dict[str, mx.array]:
    loaded = mx.load(str(path), format="safetensors")
    assert isinstance(loaded, dict)
    return {n.removeprefix(prefix): x for n, x in loaded.items() if n.startswith(prefix)}


def adapters(folder: Path) -> dict[str, mx.array]:
    return arrays(folder / "adapters.safetensors")


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{k: float(x) for k, x in row.items() if x} for row in csv.DictReader(file)]


def loaded(config: dict[str, Any]) -> tuple[Any, CacheDataset, CacheDataset]:
    """Return the model with LoRA layers and the two data sets that mlx-lm makes from a config."""
    llama.TransformerBlock.__call__ = PLAIN_CALL
    kind = config.get("fine_tune_type", "lora")
    np.random.seed(0)
    model, tokenizer = load(config["model"])
    files = SimpleNamespace(data=config["data"], train=True, test=False)
    train_set, valid_set, _ = load_dataset(files, tokenizer)
    mx.random.seed(0)
    model.freeze()
    if kind == "full":
        for layer in model.layers:
            layer.unfreeze()
    else:
        numbers = {"rank": config["lora_parameters"]["rank"], "dropout": 0.0, "scale": 20.0}
        linear_to_lora_layers(model, 2, numbers, use_dora=kind == "dora")
    return model, CacheDataset(train_set), CacheDataset(valid_set)


def by_hand(config: dict[str, Any], frozen: bool = False) -> dict[str, mx.array]:
    """Train as mlx-lm does, eagerly, with every float set by hand before each step.

    With ``frozen``, the floats of the layers keep their first values.
    """
    every, evaluates = config.get("grad_accumulation_steps", 1), config["steps_per_eval"]
    model, train_set, valid_set = loaded(config)
    if config.get("grad_checkpoint"):
        trainer.grad_checkpoint(model.layers[0])
    optimizer = optim.AdamW(0.0, eps=1e-2)
    loss_and_grad = nn.value_and_grad(model, trainer.default_loss)
    kept, done = None, 0
    model.train()
    batches = trainer.iterate_batches(train_set, 4, 2048, loop=True)
    for it, batch in zip(range(1, ITERS + 1), batches):
        if it in (1, ITERS) or it % evaluates == 0:  # for the order of the batches
            list(zip(range(config["val_batches"]), trainer.iterate_batches(valid_set, 4, 2048)))
        p = done / (ITERS // every)
        set_floats(model, optimizer, p, 0.0 if frozen else p)
        _, grads = loss_and_grad(model, *batch)
        kept = grads if kept is None else tree_map(lambda x, y: x + y, grads, kept)
        if it % every == 0:
            kept = tree_map(lambda x: x / every, kept) if every > 1 else kept
            optimizer.update(model, kept)
            kept, done = None, done + 1
        mx.eval(model.state, optimizer.state, kept)
    return dict(tree_flatten(model.trainable_parameters()))


def set_floats(model: Any, optimizer: Any, p: float, in_layers: float) -> None:
    optimizer.learning_rate, optimizer.weight_decay = rate(p), DECAY(p)
    optimizer.betas = [BETA(p), 0.999]
    for _, module in model.named_modules():
        if isinstance(module, (LoRALinear, DoRALinear)):
            module.scale, module.dropout._p_1 = SCALE(in_layers), 1 - DROPOUT(in_layers)
