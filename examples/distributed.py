"""Data-parallel training by several processes, each with the same schedules.

On one machine, with two processes (``mlx.launch`` comes with MLX):

    mlx.launch -n 2 --backend ring $(which python) $(pwd)/examples/distributed.py

Every process trains on its share of each batch of scikit-learn's digits and averages the
gradients with the others. A schedule is a function of the progress, and all processes have
the same progress: the scalars need no communication. What observes a metric must be told the
same one everywhere: the loss averaged over the processes. Run by one process it trains on
the whole batches, with the same result up to rounding.
"""

import argparse
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten
from sklearn.datasets import load_digits

from scalars import (
    CosineAnnealing,
    Horizon,
    Linear,
    ReduceOnPlateau,
    ScheduleFreeAdamW,
    Warmup,
    attach,
)

BATCH = 128


def digits() -> tuple[mx.array, mx.array]:
    images, labels = load_digits(return_X_y=True)
    return mx.array(images).astype(mx.float32) / 16, mx.array(labels)


def main(steps: int, save: Path | None, schedule_free: bool) -> None:
    world = mx.distributed.init()
    x, y = digits()
    mx.random.seed(0)  # the same weights and the same batches everywhere
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    plateau = ReduceOnPlateau(CosineAnnealing(1e-2, 1e-4), 0.5, patience=3)
    make = ScheduleFreeAdamW if schedule_free else optim.AdamW
    optimizer = make(Warmup(plateau, fraction=0.1), weight_decay=Linear(0.0, 0.1))
    optimizer.init(model.trainable_parameters())
    smoothing = Linear(0.2, 0.01)
    group = attach(optimizer, smoothing=smoothing)

    def loss_of(x: mx.array, y: mx.array) -> mx.array:
        return nn.losses.cross_entropy(model(x), y, label_smoothing=smoothing, reduction="mean")

    loss_and_grad = nn.value_and_grad(model, loss_of)
    state = [model.state, optimizer.state]

    def step(x: mx.array, y: mx.array) -> mx.array:
        loss, grads = loss_and_grad(x, y)
        optimizer.update(model, nn.average_gradients(grads))
        return mx.distributed.all_sum(loss) / world.size()

    compiled = mx.compile(step, inputs=state, outputs=state)
    batches = [mx.random.randint(0, len(y), (BATCH,)) for _ in range(steps)]
    for batch in group.track(batches, Horizon(steps)):
        mine = batch[world.rank() :: world.size()]
        group.observe(compiled(x[mine], y[mine]))
        mx.eval(state)

    if isinstance(optimizer, ScheduleFreeAdamW):
        optimizer.eval(model)
    accuracy = (model(x).argmax(axis=1) == y).mean().item()
    values = "  ".join(f"{name} {value:.2g}" for name, value in group.snapshot().items())
    values += f"  reduced {plateau.memory['reductions']} times"
    print(f"rank {world.rank()} of {world.size()}: accuracy {accuracy:.2%}  {values}", flush=True)
    if save is not None:
        arrays = {**dict(tree_flatten(model.parameters())), **dict(tree_flatten(optimizer.state))}
        mx.save_safetensors(str(save / f"rank{world.rank()}of{world.size()}"), arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--schedule-free", action="store_true", help="use ScheduleFreeAdamW")
    main(**vars(parser.parse_args()))
