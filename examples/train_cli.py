r"""A trainer with command-line flags for the learning rate that can be stopped and resumed.

    python train_cli.py --lr_schedule step_schedule --decay_steps 100 --decay_gamma 0.5 \
        --learning_rate 0.1 --max_steps 300 --checkpoint run --steps_this_run 120

makes 120 of the 300 steps. The same command without --steps_this_run makes the remaining ones.
The schedule continues, as its progress is saved in the state of the optimizer. --lr_schedule
takes the names of ``scalars``, the name "warm_restarts" that this script registers, and
expressions such as "Warmup(CosineAnnealing(0.1), 0.1)". The output shows the rate and the loss
every 60 steps.
"""

import argparse
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten
from sklearn.datasets import load_digits

from scalars import (
    CosineAnnealingWarmRestarts,
    Horizon,
    ScheduledScalar,
    add_arguments,
    attach,
    from_arguments,
    register,
)

BATCH = 64


def warm_restarts(learning_rate: float, max_steps: int, decay_steps: int) -> ScheduledScalar:
    """Restart every ``decay_steps`` steps, for ``--lr_schedule warm_restarts``."""
    return CosineAnnealingWarmRestarts(learning_rate, first_cycle=decay_steps / max_steps)


def flags() -> tuple[argparse.Namespace, ScheduledScalar]:
    """Return the arguments and the learning rate that they define."""
    register("warm_restarts", warm_restarts)
    parser = argparse.ArgumentParser(description="Train on digits.")
    add_arguments(parser)
    parser.add_argument("--checkpoint", type=Path, help="the file that saves the run, to resume it")
    parser.set_defaults(learning_rate=0.1, max_steps=300)
    args = parser.parse_args()
    try:
        return args, from_arguments(args)
    except (TypeError, ValueError) as error:
        parser.error(str(error))


def main() -> None:
    args, lr = flags()
    images, labels = load_digits(return_X_y=True)
    x, y = mx.array(images).astype(mx.float32) / 16, mx.array(labels)
    mx.random.seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = optim.SGD(lr, momentum=0.9)
    optimizer.init(model.trainable_parameters())
    file = args.checkpoint and args.checkpoint.with_suffix(".safetensors")
    if file and file.exists():
        arrays: Any = mx.load(str(file))
        saved: Any = tree_unflatten(list(arrays.items()))
        model.update(saved["model"])
        optimizer.state = saved["optimizer"]
    group = attach(optimizer)

    horizon, first = Horizon(args.max_steps), int(optimizer.step)
    last = min(first + (args.steps_this_run or args.max_steps), args.max_steps)
    loss_and_grad = nn.value_and_grad(
        model, lambda x, y: nn.losses.cross_entropy(model(x), y, reduction="mean")
    )
    for step in range(first, last):
        group.update(horizon.progress(step))
        batch = mx.random.randint(0, len(y), (BATCH,), key=mx.random.key(step))
        loss, grads = loss_and_grad(x[batch], y[batch])
        optimizer.update(model, grads)
        mx.eval(loss, model.state, optimizer.state)
        if step % 60 == 0 or step == last - 1:
            print(
                f"step {step:3}  learning rate {float(lr):.6f}  loss {loss.item():.4f}", flush=True
            )
    if file:
        arrays = {"model": model.parameters(), "optimizer": optimizer.state}
        mx.save_safetensors(str(file), dict(tree_flatten(arrays)))


if __name__ == "__main__":
    main()
