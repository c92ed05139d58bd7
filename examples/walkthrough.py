"""A walk through a run with pictures: plan it, find a rate, train, and look at what happened.

Cells begin with ``# %%``. Run one by one in Jupyter, VS Code or PyCharm, they show the learning
rate test, the plan and the run as pictures. Run all at once they print the losses, and

    python examples/walkthrough.py --pictures FOLDER

writes the three pictures into a folder too. It needs matplotlib: ``pip install matplotlib``.
"""

# %% The data, a model and its loss: scikit-learn's handwritten digits.
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

parser = argparse.ArgumentParser(description="A walk through a run with pictures.")
parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="where to write the pictures")
folder = parser.parse_known_args()[0].pictures  # a notebook has arguments of its own

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
    """Write the picture that was drawn last into the folder, if one was asked for."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        pyplot.savefig(folder / f"{name}.png", dpi=100)
        print(f"{name}.png is in {folder.name}", flush=True)


# %% Which learning rate? It grows from step to step until the loss diverges; nothing is changed.
found = find_learning_rate(model, optim.AdamW(1e-3), loss_fn, batches)
print(f"found a rate of {found.steepest:.2g}", flush=True)
found.plot()
write("rate")

# %% The plan: what each number will be at every step. The plateau waits for a metric.
horizon = Horizon(EPOCHS * len(batches), steps_per_epoch=len(batches))
plateau = ReduceOnPlateau(found.steepest, factor=0.5, patience=0)
lr = Warmup(plateau, horizon.fraction(epochs=1))
plan = ScalarGroup(lr=lr, weight_decay=Linear(0.01, 0.1), dropout=dropout)
plot(plan, horizon)
write("plan")

# %% The run: attach finds the numbers in the optimizer and the model, one call updates them all.
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

# %% What happened: the losses under the rate, which fell where the plateau was reached.
recorder.plot()
write("run")
