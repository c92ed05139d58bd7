"""Recording all values of a run, writing them as CSV and sending them to TensorBoard.

A group calls its subscribers after each update. A ``Recorder`` keeps the values as rows, and a
function of three lines sends them to any writer with ``add_scalar(tag, value, step)``, such as
those of TensorBoard, PyTorch and tensorboardX.

    pip install tensorboard
    python examples/log_values.py --folder runs && tensorboard --logdir runs

The output shows what was recorded and how the loss fell. Without ``--folder``, the files are
written to a temporary folder, which is deleted at the end.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from sklearn.datasets import load_diabetes

from scalars import CosineAnnealing, Linear, Recorder, Warmup, attach

STEPS = 200


def to_writer(writer: Any, horizon: int) -> Callable[[float, dict[str, float]], None]:
    """Return a callback for ``subscribe`` that sends all values to a writer."""

    def send(progress: float, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, round(progress * horizon))

    return send


def train(writer: Any, recorder: Recorder) -> None:
    x, y = (mx.array(part).astype(mx.float32) for part in load_diabetes(return_X_y=True))
    x, y = x / x.std(axis=0), (y - y.mean()) / y.std()
    mx.random.seed(0)
    model = nn.Linear(10, 1)
    optimizer = optim.SGD(Warmup(CosineAnnealing(0.1, 0.001), 0.1), weight_decay=Linear(0.0, 0.01))
    group = attach(optimizer)
    group.subscribe(recorder)
    group.subscribe(to_writer(writer, STEPS))
    loss_and_grad = nn.value_and_grad(model, lambda: ((model(x)[:, 0] - y) ** 2).mean())
    for step in range(STEPS):
        group.update(step / STEPS)
        loss, grads = loss_and_grad()
        optimizer.update(model, grads)
        recorder.log(loss=loss)
        writer.add_scalar("loss", loss.item(), step)


def main(folder: Path) -> None:
    from tensorboard.summary import Writer

    recorder = Recorder()
    writer = Writer(str(folder))
    train(writer, recorder)
    writer.close()
    recorder.to_csv(folder / "values.csv")
    print(f"{len(recorder)} rows in {folder.name}: {', '.join(recorder.rows[-1])}")
    print(f"the loss went from {recorder['loss'][0]:.3f} to {recorder['loss'][-1]:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to keep the files")
    asked = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        main(asked or Path(temporary) / "values")
