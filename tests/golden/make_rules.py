"""Write rules.json: the rates of other libraries' metric rules, over random metrics.

Run ``python -m tests.golden.make_rules`` where PyTorch, transformers, SpeechBrain,
PaddlePaddle and Keras are installed.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from typing import Any

from ..rule_cases import RULES, seen
from . import load, write

PACKAGES = ("transformers", "speechbrain", "paddlepaddle", "keras")
Rate = Callable[[float], float]


def greedy(arguments: dict[str, Any]) -> Rate:
    import torch
    from transformers.optimization import GreedyLR

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = GreedyLR(optimizer, **arguments)

    def rate(metric: float) -> float:
        scheduler.step(metric)
        return float(optimizer.param_groups[0]["lr"])

    return rate


def new_bob(arguments: dict[str, Any]) -> Rate:
    scheduler = load("speechbrain.nnet.schedulers").NewBobScheduler(0.1, **arguments)
    return lambda metric: float(scheduler(metric)[1])


def paddle(arguments: dict[str, Any]) -> Rate:
    from paddle.optimizer.lr import ReduceOnPlateau

    scheduler = ReduceOnPlateau(0.1, **arguments)

    def rate(metric: float) -> float:
        scheduler.step(metric)
        return float(scheduler())

    return rate


def keras(arguments: dict[str, Any]) -> Rate:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras as library

    model = library.Sequential([library.Input((1,)), library.layers.Dense(1)])
    model.compile(library.optimizers.SGD(0.1), "mse")
    callback = library.callbacks.ReduceLROnPlateau("loss", **arguments)
    callback.set_model(model)
    callback.on_train_begin()

    def rate(metric: float) -> float:
        callback.on_epoch_end(0, {"loss": metric})
        return float(model.optimizer.learning_rate.numpy())

    return rate


MAKERS = dict(zip(RULES, (greedy, new_bob, paddle, keras), strict=True))


def changes(rate: Rate, values: list[float]) -> list[tuple[int, float]]:
    """Return the steps at which the rate changes, and the new rates."""
    rates = [rate(metric) for metric in values]
    pairs = zip([0.1, *rates], rates, strict=False)
    return [(i, now) for i, (before, now) in enumerate(pairs) if now != before]


if __name__ == "__main__":
    table = {
        f"{rule} {arguments}": changes(MAKERS[rule](arguments), seen(rule, arguments))
        for rule, configurations in RULES.items()
        for arguments, _ in configurations
    }
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    write("rules.json", versions, table)
