"""A plain training loop: ``update`` before each step, and ``float`` to log the value.

Fits a linear model to the diabetes data that ships with scikit-learn. The output shows the rate,
which warms up and then follows a cosine, and the loss, which falls to that of least squares.
"""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from sklearn.datasets import load_diabetes

from scalars import CosineAnnealing, Warmup

STEPS = 200


def main() -> None:
    x, y = map(mx.array, load_diabetes(return_X_y=True))
    x, y = x.astype(mx.float32) / x.std(axis=0), (y - y.mean()).astype(mx.float32) / y.std()
    mx.random.seed(0)
    model = nn.Linear(x.shape[1], 1)
    loss_and_grad = nn.value_and_grad(model, lambda x, y: nn.losses.mse_loss(model(x)[:, 0], y))
    lr = Warmup(CosineAnnealing(start=0.1, end=0.001), fraction=0.1)
    optimizer = optim.Adam(learning_rate=lr)

    for step in range(STEPS):
        lr.update(step / STEPS)
        loss, grads = loss_and_grad(x, y)
        optimizer.update(model, grads)
        mx.eval(model.state, optimizer.state)
        if step % 40 == 0 or step == STEPS - 1:
            print(f"step {step:3d}  lr {float(lr):.5f}  loss {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
