"""The state of MLX's global random numbers as a seed."""

import mlx.core as mx


def random_seed() -> int:
    """Return the seed with which ``mx.random.seed`` restores the current state."""
    (key,) = iter(mx.random.state)  # type: ignore[call-overload]
    high, low = key.tolist()
    return int(high << 32 | low)  # MLX makes a key from the two halves of the seed
