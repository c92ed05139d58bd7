"""The updates of the Schedule-Free optimizers, compiled into two kernels per parameter."""

from __future__ import annotations

import mlx.core as mx

# mx.compile fuses an output with all its inputs, up to the arrays that mx.depends returns. With
# that cut most outputs reuse the memory of the arrays that they replace, and each CPU loop has
# few arrays, so that the C++ compiler can vectorize it.


@mx.compile
def sgd(g: mx.array, y: mx.array, z: mx.array, now: dict[str, mx.array]) -> tuple[mx.array, ...]:
    """Return z' and y' = y + c (z' - y) - k g, where k is rate (k - c) of the step."""
    dtype, wide = y.dtype, now["rate"].dtype
    if "decay" in now:
        g = g.astype(wide) + now["decay"] * y.astype(wide)
    kept = (z.astype(wide) - now["rate"] * g.astype(wide)).astype(dtype)
    z, g = mx.depends([kept, g], [kept])
    z, y, g = z.astype(wide), y.astype(wide), g.astype(wide)
    return kept, (y + now["c"] * (z - y) - now["k"] * g).astype(dtype)


@mx.compile
def adamw(
    g: mx.array, y: mx.array, z: mx.array, v: mx.array, now: dict[str, mx.array]
) -> tuple[mx.array, ...]:
    """Return v', z' and y' = y + c (z - y) + k (z' - z)."""
    dtype, wide = y.dtype, now["rate"].dtype
    second = now["beta"] * v.astype(wide) + now["rest"] * mx.square(g.astype(wide))
    known, g = mx.depends([second, g], [second])
    y, z = y.astype(wide), z.astype(wide)
    step = now["rate"] * g.astype(wide) / (mx.sqrt(known) + now["eps"])
    kept = (z - now["decay"] * y - step).astype(dtype)
    y = y + now["c"] * (z - y) + now["k"] * (kept.astype(wide) - z)
    return second.astype(v.dtype), kept, y.astype(dtype)
