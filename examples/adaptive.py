"""Adaptive scalars: a plateau, a switch between losses and a loss scale in one run.

Trains a classifier on scikit-learn's digits in float16. The learning rate warms up and is
halved when the held-out loss stops improving. The first loss reconstructs the image. When it
is small enough, a ``ThresholdSwitch`` replaces it by the second loss, which classifies the
digit. The loss scale starts too high, so the first steps overflow: they are skipped, and the
scale decreases automatically. All scalars are stored in ``optimizer.state``.

The output shows the rate, the switch, the scale, both losses and the number of skipped steps,
every 100 steps.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map
from sklearn.datasets import load_digits

from scalars import DynamicLossScale, ReduceOnPlateau, ThresholdSwitch, Warmup, attach

STEPS, BATCH, EVERY = 600, 128, 20
Parameters = dict[str, Any]


class Model(nn.Module):
    """A hidden layer with two heads: one reconstructs the image, one classifies the digit."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.image, self.name = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)

    def losses(self, x: mx.array, y: mx.array) -> tuple[mx.array, mx.array]:
        features = mx.tanh(self.hidden(x))
        image, name = (part(features).astype(mx.float32) for part in (self.image, self.name))
        redraw = nn.losses.mse_loss(image, x.astype(mx.float32))
        return redraw, nn.losses.cross_entropy(name, y, reduction="mean")

    def losses_in_float16(
        self, parameters: Parameters, *data: mx.array
    ) -> tuple[mx.array, mx.array]:
        self.update(tree_map(lambda array: array.astype(mx.float16), parameters))
        losses = self.losses(*data)
        self.update(parameters)
        return losses


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    x, y = mx.array(images / 16).astype(mx.float16), mx.array(labels)
    held_out = x[1400:], y[1400:]
    mx.random.seed(0)
    model = Model()
    plateau = ReduceOnPlateau(4e-3, 0.5, patience=2, minimum=1e-4)
    switch = ThresholdSwitch([1.0, 0.0], ["< 0.01"])
    scale = DynamicLossScale(2.0**24, growth_interval=100)
    optimizer = optim.Adam(Warmup(plateau, 0.1))
    optimizer.init(model.trainable_parameters())
    group = attach(optimizer, switch=switch, scale=scale)

    def loss(parameters: Parameters, *data: mx.array) -> mx.array:
        redraw, name = model.losses_in_float16(parameters, *data)
        return scale * (switch * redraw + (1 - switch) * name)

    def step(x: mx.array, y: mx.array) -> mx.array:
        grads = mx.grad(loss)(model.trainable_parameters(), x, y)
        grads, finite = scale.unscale(grads)
        scale.apply(optimizer, model, grads, finite)
        return finite

    state, skipped = [model.state, optimizer.state], 0
    compiled = mx.compile(step, inputs=state, outputs=state)
    for i in range(STEPS):
        group.update(i / STEPS)
        batch = mx.random.randint(0, 1400, (BATCH,))
        skipped += not compiled(x[batch], y[batch]).item()
        if (i + 1) % EVERY == 0:
            redraw, name = (float(loss) for loss in model.losses(*held_out))
            switch.observe(redraw)
            if not float(switch):
                plateau.observe(name)
            if (i + 1) % 100 == 0:
                values = "  ".join(f"{n} {value:.3g}" for n, value in group.snapshot().items())
                print(
                    f"{i + 1}  {values}  redraw {redraw:.4f}  name {name:.3f}  skipped {skipped}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
