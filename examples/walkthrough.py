"""A run with plots: find a learning rate, plan the run, train, and look at the result.

Cells begin with ``# %%``. If you run them one by one in Jupyter, VS Code or PyCharm, they show
plots of the learning rate test, the plan and the run. As a script, it prints the losses, and

    python examples/walkthrough.py --pictures FOLDER

also saves the three plots to a folder. It needs matplotlib: ``pip install matplotlib``.
"""

# %% The data (scikit-learn's handwritten digits), the model and the loss.
import argparse
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from matplotlib import pyplot
from sklearn.datasets import load_digits

from scalars import (
    Horizon,
    Linear,
    Recorder,
    ReduceOnPlateau,
    ScalarGroup,
    Warmup,
    attach,
    find_learning_rate,
    plot,
)

parser = argparse.ArgumentParser(description="A run with plots.")
parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="where to save the plots")
folder = parser.parse_known_args()[0].pictures  # ignores the arguments of a notebook

images, labels = load_digits(return_X_y=True)
x, y = mx.array(images / 16).astype(mx.float32), mx.array(labels)
held_out, EPOCHS, BATCH = slice(1440, None), 10, 48
batches = [(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, 1440, BATCH)]

mx.random.seed(0)
dropout = Linear(0.0, 0.3)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 10))


def loss_fn(model: nn.Module, x: mx.array, y: mx.array) -> mx.array:
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


def write(name: str) -> None:
    """Save the last plot to the folder, if one was given."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        pyplot.savefig(folder / f"{name}.png", dpi=100)
        print(f"saved {folder.name}/{name}.png", flush=True)


# %% Find a learning rate. The rate grows until the loss diverges; then everything is restored.
found = find_learning_rate(model, optim.AdamW(1e-3), loss_fn, batches)
print(f"found a rate of {found.steepest:.2g}", flush=True)
found.plot()
write("rate")

# %% Plan the run, and plot each number at every step. The plateau has no metric yet.
horizon = Horizon(EPOCHS * len(batches), steps_per_epoch=len(batches))
plateau = ReduceOnPlateau(found.steepest, factor=0.5, patience=0)
lr = Warmup(plateau, horizon.fraction(epochs=1))
plan = ScalarGroup(lr=lr, weight_decay=Linear(0.01, 0.1), dropout=dropout)
plot(plan, horizon)
write("plan")

# %% Train. attach finds the scalars in the optimizer and the model, and track updates them all.
optimizer = optim.AdamW(learning_rate=plan["lr"], weight_decay=plan["weight_decay"])
group = attach(optimizer, model)
recorder = Recorder(group)
loss_and_grad = nn.value_and_grad(model, loss_fn)
for step, batch in enumerate(group.track(batches * EPOCHS, horizon), start=1):
    loss, grads = loss_and_grad(model, *batch)
    optimizer.update(model, grads)
    mx.eval(model.state, optimizer.state)
    recorder.log(loss=loss.item())
    if step % len(batches) == 0:
        model.eval()
        validation = loss_fn(model, x[held_out], y[held_out]).item()
        model.train()
        group.observe(validation)
        recorder.log(validation=validation)
        epoch = step // len(batches)
        print(f"epoch {epoch:2}  lr {lr:.5f}  held-out loss {validation:.3f}", flush=True)

# %% Plot the losses and the rate, which fell at each plateau of the held-out loss.
recorder.plot()
write("run")
