"""The trainer of mlx-lm with Schedule-Free AdamW, evaluated and saved at the average.

The trainer evaluates and saves the weights that it trains, but the weights of a Schedule-Free
optimizer should be evaluated and saved at their average. So the run is split into parts. After
each part the model is switched to the average, evaluated with mlx-lm's ``evaluate``, saved and
switched back, which does not affect the training. The length of the run need not be fixed:
continue as long as the loss falls. The output shows the held-out loss at the training weights
and at the average.
"""

import argparse
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, evaluate, train
from mlx_lm_finetune import dataset, tiny_llama

from scalars import ScheduleFreeAdamW

HELD_OUT = 60


def main(parts: int, steps: int) -> None:
    model = tiny_llama()
    model.set_dtype(mx.float32)
    optimizer = ScheduleFreeAdamW(1e-2, weight_decay=0.01, warmup_steps=steps)
    data = dataset()
    texts, held_out = data[:-HELD_OUT], data[-HELD_OUT:]
    np.random.seed(0)  # the order of the batches
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "adapters.safetensors"
        args = TrainingArgs(
            batch_size=8,
            iters=steps,
            val_batches=1,
            steps_per_report=10 * steps,
            adapter_file=str(file),
        )
        for _ in range(parts):
            train(model, optimizer, texts, held_out, args, training_callback=TrainingCallback())
            at_y = evaluate(model, held_out, batch_size=8, num_batches=-1)
            optimizer.eval(model)
            at_x = evaluate(model, held_out, batch_size=8, num_batches=-1)
            mx.save_safetensors(str(file), dict(tree_flatten(model.trainable_parameters())))
            optimizer.train(model)
            step = optimizer.step.item()
            print(f"step {step:3}  held-out loss {at_y:.3f}, at the average {at_x:.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40, help="number of steps in each part")
    main(**vars(parser.parse_args()))
