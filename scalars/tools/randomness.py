"""Where MLX's global random numbers are, as a seed that goes on from there."""

import mlx.core as mx


def random_seed() -> int:
    """Return the seed with which ``mx.random.seed`` leads to the present state."""
    (key,) = iter(mx.random.state)  # type: ignore[call-overload]
    high, low = key.tolist()
    return int(high << 32 | low)  # the key of a seed is its two halves
