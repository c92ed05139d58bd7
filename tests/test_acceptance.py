"""Every place where MLX takes a Python float takes a scalar, eagerly and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest

from scalars import Linear

from .helpers import KERNELS_BY_DTYPE, MLX, Traced, assert_same, needs_cpu

V = mx.array([0.25, 0.5, -1.5, 3.0])
M = mx.array([[0.5, -1.0], [2.0, 0.25]])
LOGITS = mx.array([[2.0, -1.0, 0.5], [-1.0, 2.0, 0.0]])
LABELS = mx.array([0, 1])
WEIGHT = mx.array([1.0, 2.0])


UNARY = """
    abs arccos arcsin arctan ceil cos cosh erf exp expm1 floor isfinite isinf isnan log log10
    log1p log2 negative reciprocal round rsqrt sigmoid sign sin sinh sqrt square tan tanh
"""


def unary(name: str) -> Callable[[Any], Any]:
    return lambda s: getattr(mx, name)(s if not isinstance(s, float) else mx.array(s))


def layer(module: Callable[[Any], Any], x: mx.array) -> Callable[[Any], Any]:
    """Return the use of a layer that is made once for each number it is given."""
    made: dict[int, Any] = {}

    def use(s: Any) -> Any:
        mx.random.seed(7)
        if id(s) not in made:
            made[id(s)] = s, module(s)
        mx.random.seed(7)
        return made[id(s)][1](x)

    return use


# Uses of a Python float that must also work with a scalar, by name. The values of the scalar
# are in (0, 1), as for probabilities.
SITES: dict[str, Callable[[Any], Any]] = {
    # Operators, the scalar on either side
    "s + x": lambda s: s + V,
    "x + s": lambda s: V + s,
    "s - x": lambda s: s - V,
    "x - s": lambda s: V - s,
    "s * x": lambda s: s * V,
    "x * s": lambda s: V * s,
    "s / x": lambda s: s / V,
    "x / s": lambda s: V / s,
    "s // x": lambda s: s // V,
    "x // s": lambda s: V // s,
    "s % x": lambda s: s % mx.abs(V),
    "x % s": lambda s: V % s,
    "s ** x": lambda s: s**V,
    "x ** s": lambda s: mx.abs(V) ** s,
    "s < x": lambda s: s < V,
    "x < s": lambda s: V < s,
    "s <= x": lambda s: s <= V,
    "x <= s": lambda s: V <= s,
    "s > x": lambda s: s > V,
    "x > s": lambda s: V > s,
    "s >= x": lambda s: s >= V,
    "x >= s": lambda s: V >= s,
    "s == x": lambda s: s == V,
    "x == s": lambda s: V == s,
    "s != x": lambda s: s != V,
    "x != s": lambda s: V != s,
    "(1 - s) * x": lambda s: (1 - s) * V,
    "x * (1 - s)": lambda s: V * (1 - s),
    "x * -s": lambda s: V * -s,
    "s * integers": lambda s: s * mx.array([1, 2, 3]),
    "integers * s": lambda s: mx.array([1, 2, 3]) * s,
    "s ** integer step": lambda s: 1 - s ** mx.array(3, mx.uint64),
    "booleans * s": lambda s: mx.array([True, False]) * s,
    # Binary functions
    "mx.add": lambda s: mx.add(V, s),
    "mx.subtract": lambda s: mx.subtract(s, V),
    "mx.multiply": lambda s: mx.multiply(V, s),
    "mx.divide": lambda s: mx.divide(V, s),
    "mx.divmod": lambda s: mx.divmod(V, s),
    "mx.floor_divide": lambda s: mx.floor_divide(V, s),
    "mx.remainder": lambda s: mx.remainder(V, s),
    "mx.power": lambda s: mx.power(mx.abs(V), s),
    "mx.maximum": lambda s: mx.maximum(s, V),
    "mx.minimum": lambda s: mx.minimum(V, s),
    "mx.logaddexp": lambda s: mx.logaddexp(V, s),
    "mx.arctan2": lambda s: mx.arctan2(V, s),
    "mx.greater": lambda s: mx.greater(V, s),
    "mx.greater_equal": lambda s: mx.greater_equal(V, s),
    "mx.less": lambda s: mx.less(s, V),
    "mx.less_equal": lambda s: mx.less_equal(s, V),
    "mx.equal": lambda s: mx.equal(s, V),
    "mx.not_equal": lambda s: mx.not_equal(s, V),
    "mx.where condition": lambda s: mx.where(V > s, V, 0.0),
    "mx.where": lambda s: mx.where(V > 0, s, V),
    "mx.where, two": lambda s: mx.where(V > 0, s, 0.5),
    "mx.clip low": lambda s: mx.clip(V, s, 2.0),
    "mx.clip high": lambda s: mx.clip(V, None, s),
    "mx.outer": lambda s: mx.outer(V, V * s),
    # Unary functions and constructors: some accept a float, all accept an array
    **{f"mx.{name}": unary(name) for name in UNARY.split()},
    "mx.array": lambda s: mx.array(s),
    "mx.array with a dtype": lambda s: mx.array(s, mx.float16),
    "mx.full": lambda s: mx.full((2, 2), s),
    "mx.broadcast_to": lambda s: mx.broadcast_to(s, (3,)),
    "mx.pad": lambda s: mx.pad(V, 1, constant_values=s),
    "mx.stack of arrays": lambda s: mx.stack([V * s, V]),
    "x[i] = s": lambda s: assigned(s),
    "x.at[i].add": lambda s: V.at[1].add(s),
    "x.at[i].multiply": lambda s: V.at[1].multiply(s),
    "x += s": lambda s: augmented(s),
    # Random numbers
    "mx.random.bernoulli": lambda s: mx.random.bernoulli(s, (64,), key=mx.random.key(1)),
    "mx.random.uniform low": lambda s: mx.random.uniform(s, 2.0, (8,), key=mx.random.key(1)),
    "mx.random.uniform high": lambda s: mx.random.uniform(0.0, s, (8,), key=mx.random.key(1)),
    "mx.random.truncated_normal": lambda s: mx.random.truncated_normal(
        -1.0, s, (8,), key=mx.random.key(1)
    ),
    "mx.random.normal scale": lambda s: mx.random.normal((8,), key=mx.random.key(1)) * s,
    # Losses
    "label_smoothing": lambda s: nn.losses.cross_entropy(LOGITS, LABELS, label_smoothing=s),
    "smooth_l1_loss beta": lambda s: nn.losses.smooth_l1_loss(V, V * 0.5, beta=s),
    "huber_loss delta": lambda s: nn.losses.huber_loss(V, V * 0.5, delta=s),
    "triplet_loss margin": lambda s: nn.losses.triplet_loss(M, M + 0.1, M - 0.1, margin=s),
    "hinge * s": lambda s: s * nn.losses.hinge_loss(V, V),
    "margin_ranking_loss margin": lambda s: nn.losses.margin_ranking_loss(
        V, V * 0.5, mx.sign(V), margin=s
    ),
    "cosine_similarity_loss eps": lambda s: nn.losses.cosine_similarity_loss(M / 4, M / 8, eps=s),
    "gaussian_nll_loss eps": lambda s: nn.losses.gaussian_nll_loss(V, V * 0.5, V * V, eps=s),
    "kl temperature": lambda s: nn.losses.kl_div_loss(
        nn.log_softmax(LOGITS / s), nn.log_softmax(LOGITS)
    ),
    "w * a + (1 - w) * b": lambda s: s * mx.mean(V) + (1 - s) * mx.mean(V * V),
    # Layers and activations
    "nn.Dropout": layer(lambda s: nn.Dropout(p=s), mx.ones((64,))),
    "nn.Dropout2d": layer(lambda s: nn.Dropout2d(p=s), mx.ones((2, 4, 4, 8))),
    "nn.Dropout3d": layer(lambda s: nn.Dropout3d(p=s), mx.ones((2, 2, 2, 2, 8))),
    "nn.BatchNorm momentum": layer(
        lambda s: batch_norm(s), mx.ones((4, 3)) * mx.arange(4)[:, None]
    ),
    "nn.BatchNorm eps": layer(lambda s: nn.BatchNorm(3, eps=s), mx.arange(12).reshape(4, 3) * 1.0),
    "nn.GroupNorm eps": layer(lambda s: group_norm(s), mx.arange(8).reshape(1, 2, 4) * 1.0),
    "nn.softmax temperature": lambda s: nn.softmax(LOGITS / s),
    "nn.softmin temperature": lambda s: nn.softmin(LOGITS * s),
    "clip_grad_norm": lambda s: optim.clip_grad_norm({"w": V}, s)[0]["w"],
    "nn.init.constant": lambda s: nn.init.constant(s)(V),
    "nn.init.normal std": lambda s: seeded(lambda: nn.init.normal(0.0, 1.0)(V) * s),
}


def assigned(s: Any) -> mx.array:
    x = V + 0
    x[1] = s
    return x


def augmented(s: Any) -> mx.array:
    x = V + 0
    x += s
    return x


def seeded(function: Callable[[], mx.array]) -> mx.array:
    mx.random.seed(3)
    return function()


def batch_norm(s: Any) -> Callable[[mx.array], mx.array]:
    def use(x: mx.array) -> mx.array:
        norm = nn.BatchNorm(3, momentum=s)
        norm(x)
        return norm.running_mean

    return use


def group_norm(s: Any) -> nn.Module:
    norm = nn.GroupNorm(2, 4)
    norm.eps = s
    return norm


def takes_a_float(site: str) -> bool:
    """Return whether this version of MLX accepts a Python float here."""
    try:
        SITES[site](0.25)
    except TypeError:
        return False
    return True


TAKEN = [site for site in SITES if takes_a_float(site)]
every_site = pytest.mark.parametrize("site", TAKEN)


def test_the_newest_mlx_takes_a_float_everywhere() -> None:
    refused = set(SITES) - set(TAKEN)
    assert refused <= {"mx.arctan2"}
    assert not refused or MLX < (0, 32)


def leaves(result: Any) -> list[mx.array]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


@pytest.mark.gpu
@every_site
def test_eager(site: str) -> None:
    scalar = Linear(0.25, 0.75)
    for progress in (0, 0.3, 1):
        value = float(scalar.update(progress))
        assert_same(leaves(SITES[site](scalar)), leaves(SITES[site](value)))


@pytest.mark.gpu
@every_site
def test_compiled(site: str) -> None:
    if site in ("booleans * s", "integers * s") and not KERNELS_BY_DTYPE:
        pytest.skip("MLX before 0.31.2 takes the kernel of one dtype for that of another")
    scalar = Linear(0.25, 0.75)
    SITES[site](scalar)  # the layers are made outside of the trace
    body = Traced(lambda: SITES[site](scalar))
    compiled = mx.compile(body, inputs=[scalar.state, mx.random.state])
    results = []
    for progress in (0, 0.3, 1):
        value = float(scalar.update(progress))
        results.append(leaves(compiled()))
        for actual, expected in zip(results[-1], leaves(SITES[site](value)), strict=True):
            assert actual.dtype == expected.dtype
            assert actual.dtype != mx.complex64
            tolerance = 1e-3 if actual.dtype == mx.float16 else 2e-6
            np.testing.assert_allclose(np.array(actual), np.array(expected), tolerance, tolerance)
    assert body.traces == 1


INSENSITIVE = {f"mx.{name}" for name in ("isnan", "isinf", "isfinite", "ceil", "floor", "sign")}


@pytest.mark.parametrize("site", sorted(set(TAKEN) - INSENSITIVE))
def test_the_sites_depend_on_the_value(site: str) -> None:
    low, high = leaves(SITES[site](0.25)), leaves(SITES[site](0.75))
    assert not all(mx.array_equal(a, b) for a, b in zip(low, high, strict=True))


# Parameters that MLX reads as C++ floats: eagerly they work, in a trace they raise.
EAGER_ONLY: dict[str, Callable[[Any], Any]] = {
    "mx.addmm alpha": lambda s: mx.addmm(M, M, M, alpha=s),
    "mx.fast.rms_norm eps": lambda s: mx.fast.rms_norm(M, WEIGHT, s),
    "mx.fast.layer_norm eps": lambda s: mx.fast.layer_norm(M, WEIGHT, WEIGHT, s),
    "mx.fast.rope base": lambda s: mx.fast.rope(
        mx.ones((1, 1, 4, 8)), 8, traditional=False, base=s, scale=1.0, offset=1
    ),
    "mx.fast.scaled_dot_product_attention": lambda s: mx.fast.scaled_dot_product_attention(
        mx.ones((1, 1, 2, 4)),
        mx.arange(8).reshape(1, 1, 2, 4) * 1.0,
        mx.eye(2, 4)[None, None],
        scale=s,
    ),
    "mx.linspace": lambda s: mx.linspace(0, s, 4),
    "mx.nan_to_num": lambda s: mx.nan_to_num(mx.array([float("nan")]), s),
    "mx.isclose": lambda s: mx.isclose(V, V + 0.5, atol=s),
    "mx.hadamard_transform": lambda s: mx.hadamard_transform(V, scale=s),
    "mx.random.laplace": lambda s: mx.random.laplace((4,), scale=s, key=mx.random.key(1)),
    "mx.random.normal": lambda s: mx.random.normal((4,), loc=s, scale=s, key=mx.random.key(1)),
    "nn.RMSNorm eps": lambda s: nn.RMSNorm(2, eps=s)(M),
    "nn.LayerNorm eps": lambda s: nn.LayerNorm(2, eps=s)(M),
}


if MLX < (0, 32):  # before, MLX accepted any object with __int__ here
    del EAGER_ONLY["mx.linspace"]


@pytest.mark.parametrize("site", list(EAGER_ONLY))
def test_c_floats_are_live_eagerly(site: str) -> None:
    scalar = Linear(0.25, 0.75)
    for progress in (0, 0.3, 1):
        value = float(scalar.update(progress))
        assert_same([EAGER_ONLY[site](scalar)], [EAGER_ONLY[site](value)])


@pytest.mark.parametrize("site", list(EAGER_ONLY))
def test_c_floats_are_refused_or_live_while_traced(site: str) -> None:
    scalar = Linear(0.25, 0.75)
    compiled = mx.compile(lambda: EAGER_ONLY[site](scalar), inputs=[scalar.state])
    try:
        first = compiled()
    except (TypeError, ValueError):
        scalar.update(0.5)  # and a failed trace has no effect
        assert float(scalar) == 0.5
        return
    np.testing.assert_allclose(np.array(first), np.array(EAGER_ONLY[site](0.25)), rtol=1e-6)
    scalar.update(1)
    np.testing.assert_allclose(np.array(compiled()), np.array(EAGER_ONLY[site](0.75)), rtol=1e-6)


@pytest.mark.parametrize("function", [nn.leaky_relu, nn.elu, nn.celu, nn.step])
def test_functions_that_mlx_compiled_take_the_array(function: Callable[..., mx.array]) -> None:
    scalar = Linear(0.25, 0.75)
    with pytest.raises(ValueError, match="must be trees of arrays"):
        function(V, scalar)
    step = mx.compile(lambda x: function(x, scalar.array), inputs=[scalar.state])
    for progress, value in ((0, 0.25), (1, 0.75)):
        scalar.update(progress)
        assert_same([function(V, scalar.array)], [function(V, mx.array(value))])
        np.testing.assert_allclose(np.array(step(V)), np.array(function(V, mx.array(value))), 1e-6)


DTYPES = [mx.bool_, mx.int8, mx.uint8, mx.int32, mx.uint64, mx.float16, mx.bfloat16, mx.float32]


@pytest.mark.parametrize("dtype", [*DTYPES, mx.complex64], ids=str)
@pytest.mark.parametrize("value", [0.1, -3.0, 1e-5, 1 / 3, 12345.678])
def test_scalar_first_is_bitwise_a_python_float(dtype: mx.Dtype, value: float) -> None:
    x = mx.array([1, 2, 3]).astype(dtype)
    scalar = Linear(value, 2 * value)
    for expression, number in ((scalar, value), (1 - scalar, 1 - value), (scalar * 3, value * 3)):
        for actual, expected in (
            (expression * x, number * x),
            (expression + x, number + x),
            (expression - x, number - x),
            (expression / x, number / x),
        ):
            assert actual.dtype == expected.dtype
            assert mx.array_equal(actual, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_compiled_scalar_first_keeps_the_dtype(dtype: mx.Dtype) -> None:
    x = mx.array([1, 2, 3]).astype(dtype)
    scalar = Linear(0.1, 0.7)
    step = mx.compile(lambda x: (scalar * x, (1 - scalar) * x), inputs=[scalar.state])
    for progress in (0, 0.5, 1):
        value = float(scalar.update(progress))
        plain = mx.compile(lambda x, v=value: (v * x, (1 - v) * x))
        assert_same(list(step(x)), list(plain(x)))


@needs_cpu("float64")
def test_float64() -> None:
    x = mx.array([1.0, 2.0], mx.float64)
    scalar = Linear(0.1, 0.7)
    assert (scalar * x).dtype == mx.float64
    # In double precision from MLX 0.32 on, as the float is.
    assert [float(y.item()) for y in scalar * x] == [float(y.item()) for y in 0.1 * x]


@pytest.mark.parametrize("dtype", [mx.int8, mx.int32, mx.uint64, mx.bool_], ids=str)
def test_integer_arrays_give_float32_on_both_sides(dtype: mx.Dtype) -> None:
    x = mx.array([1, 0, 1]).astype(dtype)
    scalar = Linear(0.5, 1.0)
    for result in (x * scalar, scalar * x, mx.multiply(x, scalar), mx.maximum(scalar, x)):
        assert result.dtype == mx.float32
    assert (x * scalar).tolist() == [0.5, 0, 0.5]


def test_a_view_keeps_half_precision_with_the_array_first() -> None:
    x = mx.array([1.0, 2.0], mx.bfloat16)
    p = Linear(0.1, 0.7).astype(mx.bfloat16)
    assert_same(
        [x * p, x * (1 - p), x / (1 / p), mx.maximum(x, p)], [x * 0.1, x * (1 - 0.1), x / 10.0, x]
    )
    step = mx.compile(lambda x: x * (1 - p), inputs=[p.state])
    for progress in (0, 1):
        value = float(p.update(progress))
        assert_same([step(x)], [x * (1 - value)])


def test_gradients_flow_past_a_scalar() -> None:
    scalar = Linear(2.0, 4.0)
    gradient = mx.grad(lambda x: (scalar * x * x).sum() + (x * (1 - scalar)).sum())
    for progress, expected in ((0, [3.0, 7.0]), (1, [5.0, 13.0])):
        scalar.update(progress)
        assert gradient(mx.array([1.0, 2.0])).tolist() == expected
    assert mx.vmap(lambda x: x * scalar)(mx.array([1.0, 2.0])).tolist() == [4.0, 8.0]
