"""What a type checker makes of the package: mypy checks this file, nothing runs it."""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
from typing_extensions import assert_type

from scalars import (
    CosineAnnealing,
    Horizon,
    Linear,
    ScalarGroup,
    ScheduledScalar,
    Sequence,
    Warmup,
    clip,
    minimum,
)
from scalars.number.scalar import Expression, View

lr = CosineAnnealing(1e-3, end=1e-5)
x = mx.array(1.0)
assert_type(lr.start, float)
assert_type(lr.update(0.5), CosineAnnealing)
assert_type(lr * 0.1, Expression)
assert_type(1 - lr, Expression)
assert_type(lr * lr, Expression)
assert_type(lr * x, mx.array)
assert_type(lr > 0.1, bool)
assert_type(lr > x, mx.array)
assert_type(lr.at(0.5), float)
assert_type(lr.at(x), mx.array)
assert_type(minimum(lr, 0.1), Expression)
assert_type(minimum(lr, x), mx.array)
assert_type(clip(lr, 0.1, lr), ScheduledScalar)
assert_type(lr.astype(mx.bfloat16), View)
assert_type(lr(mx.array(3)), mx.array)
assert_type(Horizon(10).progress(3), float)
assert_type(Horizon(10).progress(x), mx.array)
lr.at(np.linspace(0, 1))
Sequence([Linear(0, 1), 0.5, lr * 2], [0.1, 0.5])
Warmup(0.5, 0.1, curve="cosine")
group = ScalarGroup(lr=lr, half=lr / 2)
assert_type(group["lr"], ScheduledScalar)
assert_type(group.track([1, 2], Horizon(2)), Iterator[int])
assert_type(group.snapshot(), dict[str, float])

lr + "x"  # type: ignore[call-overload]
CosineAnnealing()  # type: ignore[call-arg]
CosineAnnealing("x")  # type: ignore[arg-type]
ScalarGroup(lr=0.1)  # type: ignore[arg-type]
