"""What type checkers make of the package: mypy and pyright read this file, nothing runs it."""

import math
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
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
    attach,
    clip,
    exp,
    from_config,
    layer_scales,
    minimum,
    parse,
)
from scalars.number.scalar import Expression

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
assert_type(exp(-lr), Expression)
assert_type(exp(0.5), float)
assert_type(exp(x), mx.array)
assert_type(minimum(0.1, 0.2), float)
assert_type(lr.astype(mx.bfloat16), Expression)
assert_type(lr(mx.array(3)), mx.array)
assert_type(Horizon(10).progress(3), float)
assert_type(Horizon(10).progress(x), mx.array)
assert_type(lr.at(np.linspace(0, 1)), np.ndarray[Any, Any])

# A scalar goes wherever an annotation says float.
optim.AdamW(learning_rate=lr, betas=[0.9, 1 - lr], weight_decay=lr)
nn.Dropout(Linear(0.0, 0.1))
nn.Dropout(1 - lr)
mx.where(x > lr, x, lr)
math.sqrt(lr)
a_float: float = lr
assert_type(max(lr, 0.1), float)
assert_type(x * lr, mx.array)
assert_type(x + lr / 2, mx.array)
assert_type(x > lr, mx.array)
assert_type(2 * lr, Expression)
assert_type(2**lr, Expression)
assert_type(lr - 0.1, Expression)
assert_type(lr**0.5, Expression)
assert_type(lr**2, Expression)
assert_type(-lr, Expression)
assert_type(abs(lr), Expression)
assert_type(+lr, CosineAnnealing)
assert_type(lr < 1, bool)
assert_type(1 < lr, bool)
assert_type(lr == x, mx.array)
assert_type(float(lr), float)
assert_type(int(lr), int)
assert_type(round(lr), int)
assert_type(round(lr, 3), float)
sum([lr, lr])
assert_type(exp(lr), Expression)
assert_type(exp(x), mx.array)
assert_type(exp(2.0), float)
group_of_expressions = ScalarGroup(a=lr * 0.5, b=2 * lr, c=exp(lr))
group_of_expressions.observe(x.item()).observe(x)  # as loss.item() is annotated in MLX
attach(optim.SGD(lr), horizon=Horizon(2), extra=parse("Linear(0, 1)"), other=from_config(0.1))
assert_type(layer_scales(nn.Linear(1, 1), lr), dict[str, ScheduledScalar])
assert_type(layer_scales(nn.Linear(1, 1), 0.1), dict[str, float])


def double(value: float | ScheduledScalar) -> float:
    if isinstance(value, ScheduledScalar):
        return float(value.update(0.5)) * 2
    return value * 2


double(lr)
double(0.1)

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
