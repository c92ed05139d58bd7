"""Data-parallel training by several processes, each with the same schedules.

On one machine, with two processes (``mlx.launch`` comes with MLX):

    mlx.launch -n 2 --backend ring --python $(which python) $(pwd)/examples/distributed.py

For several machines see ``examples/README.md``. Every process trains on its share of each batch
of scikit-learn's digits, and the gradients are averaged over the processes. A schedule is a
function of the progress, which is the same on all processes, so it needs no communication.
Adaptive scalars must observe the same metric everywhere, here the loss averaged over the
processes. From time to time, ``check_ranks`` checks that all processes have the same state. A
single process trains on the whole batches. The output shows one line per process with its
accuracy and its values, which are the same on all of them.

With ``--save run.safetensors --stop 75``, rank 0 saves a checkpoint after 75 steps. With
``--resume run.safetensors``, rank 0 loads the file, which only it needs, and copies the state to
the other ranks. The resumed run is identical bit for bit.
"""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten
from sklearn.datasets import load_digits

from scalars import (
    CosineAnnealing,
    Horizon,
    Linear,
    ReduceOnPlateau,
    ScalarGroup,
    ScheduleFreeAdamW,
    Warmup,
    attach,
    sync_ranks,
)

BATCH = 128
CHECK_EVERY = 25


def digits() -> tuple[mx.array, mx.array]:
    images, labels = load_digits(return_X_y=True)
    return mx.array(images).astype(mx.float32) / 16, mx.array(labels)


def save(path: Path, model: nn.Module, optimizer: optim.Optimizer) -> None:
    parts = {"model": model.parameters(), "optimizer": optimizer.state}
    mx.save_safetensors(str(path), dict(tree_flatten(parts)))


def load(path: Path, model: nn.Module, optimizer: optim.Optimizer) -> None:
    arrays: Any = mx.load(str(path))
    parts: Any = tree_unflatten(list(arrays.items()))
    model.update(parts["model"])
    optimizer.state = parts["optimizer"]


def build(schedule_free: bool) -> tuple[nn.Module, optim.Optimizer, ScalarGroup]:
    dropout = nn.Dropout(Linear(0.0, 0.2))
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), dropout, nn.Linear(64, 10))
    plateau = ReduceOnPlateau(CosineAnnealing(1e-2, 1e-4), 0.5, patience=10)
    make = ScheduleFreeAdamW if schedule_free else optim.AdamW
    optimizer = make(Warmup(plateau, fraction=0.1), weight_decay=Linear(0.0, 0.1))
    optimizer.init(model.trainable_parameters())
    return model, optimizer, attach(optimizer, model, smoothing=Linear(0.2, 0.01))


def train(
    model: nn.Module, optimizer: optim.Optimizer, group: ScalarGroup, steps: int, stop: int | None
) -> None:
    """Train from the optimizer's step to ``stop``, or else to the end of the run."""
    world = mx.distributed.init()
    x, y = digits()
    key = mx.random.key(1)  # the same batches on all ranks
    batches = list(mx.random.randint(0, len(y), (steps, BATCH), key=key))
    smoothing = group["smoothing"]

    def loss_of(x: mx.array, y: mx.array) -> mx.array:
        return nn.losses.cross_entropy(model(x), y, label_smoothing=smoothing, reduction="mean")

    loss_and_grad = nn.value_and_grad(model, loss_of)
    state = [model.state, optimizer.state, mx.random.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(x: mx.array, y: mx.array) -> mx.array:
        loss, grads = loss_and_grad(x, y)
        optimizer.update(model, nn.average_gradients(grads))
        return mx.distributed.all_sum(loss) / world.size()

    done = int(optimizer.step)
    for batch in group.track(batches[done:stop], Horizon(steps), done):
        # Each rank has its own dropout masks, which are the same in a resumed run.
        mx.random.seed(done * world.size() + world.rank())
        mine = batch[world.rank() :: world.size()]
        group.observe(step(x[mine], y[mine]))
        mx.eval(state)
        done += 1
        if done % CHECK_EVERY == 0:
            group.check_ranks([model.parameters(), optimizer.state])


def main(
    steps: int, stop: int | None, save_to: Path | None, resume: Path | None, schedule_free: bool
) -> None:
    # With strict=True, processes that fail to connect stop here. Otherwise each would train
    # alone as rank 0 of 1.
    launched = {"MLX_RANK", "OMPI_COMM_WORLD_RANK"} & os.environ.keys()
    world = mx.distributed.init(strict=bool(launched))
    mx.random.seed(0)  # the same weights on all ranks
    model, optimizer, group = build(schedule_free)
    if resume is not None:
        if world.rank() == 0:
            load(resume, model, optimizer)
        sync_ranks(group, model, optimizer)
    train(model, optimizer, group, steps, stop)
    if save_to is not None and world.rank() == 0:
        save(save_to, model, optimizer)

    if isinstance(optimizer, ScheduleFreeAdamW):
        optimizer.eval(model)
    model.eval()
    x, y = digits()
    accuracy = (model(x).argmax(axis=1) == y).mean().item()
    values = "  ".join(f"{name} {value:.2g}" for name, value in group.snapshot().items())
    print(f"rank {world.rank()} of {world.size()}: accuracy {accuracy:.2%}  {values}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--stop", type=int, help="stop after this number of steps")
    parser.add_argument("--save", type=Path, dest="save_to", help="the file that rank 0 saves")
    parser.add_argument("--resume", type=Path, help="the file that rank 0 loads for all ranks")
    parser.add_argument("--schedule-free", action="store_true", help="use ScheduleFreeAdamW")
    main(**vars(parser.parse_args()))
