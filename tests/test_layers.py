"""Rates and decays by layer: the settings of each parameter, and training with them."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten, tree_map

from scalars import (
    CosineAnnealing,
    Horizon,
    Linear,
    attach,
    detach,
    layer_optimizer,
    layer_scales,
    no_decay,
)
from scalars.optimizers.layers import layers_of

from .helpers import Traced, assert_same, reloaded


class Block(nn.Module):
    """A layer of a small transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(4), nn.Linear(4, 8), nn.Linear(8, 4)

    def __call__(self, x: mx.array) -> mx.array:
        return x + self.down(nn.relu(self.up(self.norm(x))))  # type: ignore[no-any-return]


class Model(nn.Module):
    """An embedding, two blocks, a norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.blocks = [Block(), Block()]
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 10)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))  # type: ignore[no-any-return]


def make() -> Any:
    mx.random.seed(5)
    return Model()


LAYERS = ["embed", "blocks.0", "blocks.1", "norm", "head"]
TOKENS = mx.array([[1, 2, 3, 4], [5, 6, 7, 8]])


def loss_fn(model: Any) -> mx.array:
    logits = model(TOKENS)
    return nn.losses.cross_entropy(logits[:, :-1], TOKENS[:, 1:], reduction="mean")


def settings_of(optimizer: Any, model: Any) -> dict[str, Any]:
    """Which optimizer a parameter goes to, by asking the filters as MLX does."""
    found = {}
    for path, array in tree_flatten(model.trainable_parameters()):
        member = next(i for i, one in enumerate(optimizer.filters) if one(path, array))
        found[path] = optimizer.optimizers[member]
    return found


def test_layers_are_in_the_order_of_definition() -> None:
    assert layers_of(make()) == LAYERS
    sequential = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Sequential(nn.Linear(2, 1)))
    assert layers_of(sequential) == ["layers.0", "layers.2"]


def test_rates_are_live_expressions_of_one() -> None:
    lr = CosineAnnealing(1.0)
    rates = layer_scales(make(), lr, 2.0)
    assert list(rates) == LAYERS
    assert rates["head"] is lr
    for progress in (0, 0.5, 1):
        lr.update(progress)
        expected = [lr.at(progress) / 2**depth for depth in (4, 3, 2, 1, 0)]
        assert [float(rate) for rate in rates.values()] == expected
    assert list(layer_scales(make(), 1.0, 2.0).values()) == [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]


def test_every_parameter_gets_its_settings() -> None:
    model, lr, wd = make(), CosineAnnealing(1.0), Linear(0.1, 0.2)
    rates = layer_scales(model, lr, 2.0)
    optimizer = layer_optimizer(
        optim.AdamW,
        model,
        [
            (no_decay, {"weight_decay": 0.0}),
            ("embed", {"weight_decay": 0.5}),
            ("*.up.*", {"betas": (0.8, 0.9)}),
            (-1, {"eps": 1e-3}),
            (0, {"eps": 1e-4}),
        ],
        learning_rate=rates,
        weight_decay=wd,
    )
    for path, member in settings_of(optimizer, model).items():
        layer = next(name for name in LAYERS if path.startswith(f"{name}."))
        assert member._schedulers["learning_rate"] is rates[layer], path
        vector = path.endswith("bias") or "norm" in path
        assert member.weight_decay is wd or member.weight_decay == (
            0.5 if layer == "embed" else 0.0
        )
        assert (member.weight_decay is wd) == (not vector and layer != "embed"), path
        assert member.betas == ((0.8, 0.9) if ".up." in path else [0.9, 0.999])
        assert member.eps == {"head": 1e-3, "embed": 1e-4}.get(layer, 1e-8)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_training_is_that_of_each_group_alone(compiled: bool) -> None:
    """Each parameter is updated bit for bit as by its own AdamW with floats set by hand."""
    model, lr = make(), CosineAnnealing(0.1)
    rules: list[Any] = [(no_decay, {"weight_decay": 0.0})]
    optimizer = layer_optimizer(
        optim.AdamW, model, rules, learning_rate=layer_scales(model, lr, 2.6), weight_decay=0.3
    )
    optimizer.init(model.trainable_parameters())
    group = attach(optimizer)
    state = [model.state, optimizer.state]
    loss_and_grad = nn.value_and_grad(model, loss_fn)

    def body() -> mx.array:
        _, grads = loss_and_grad(model)
        optimizer.update(model, grads)
        return tree_map(lambda g: g, grads)  # type: ignore[no-any-return]

    counted = Traced(body)
    step = mx.compile(counted, inputs=state, outputs=state) if compiled else counted
    alone = {path: (array + 0, optim.AdamW(0.0)) for path, array in flat(model)}
    for i in range(5):
        group.update(i / 5)
        grads = dict(tree_flatten(step()))
        mx.eval(state, grads)
        for path, (array, own) in alone.items():
            depth = 4 - next(d for d, name in enumerate(LAYERS) if path.startswith(f"{name}."))
            own.learning_rate = lr.at(i / 5) / 2.6**depth if depth else lr.at(i / 5)
            own.weight_decay = 0.0 if array.ndim < 2 else 0.3
            alone[path] = (own.apply_gradients({"a": grads[path]}, {"a": array})["a"], own)
    assert counted.traces == (1 if compiled else 5)
    for path, array in flat(model):
        if compiled:
            assert mx.allclose(array, alone[path][0], rtol=1e-4, atol=1e-6).item(), path
        else:
            assert mx.array_equal(array, alone[path][0]), path


def flat(model: Any) -> Any:
    return tree_flatten(model.trainable_parameters())


def test_a_checkpoint_resumes() -> None:
    def run(steps: int) -> tuple[Any, Any, Any]:
        model, lr = make(), CosineAnnealing(0.1)
        optimizer = layer_optimizer(optim.Adam, model, learning_rate=layer_scales(model, lr))
        optimizer.init(model.trainable_parameters())
        group = attach(optimizer)
        train(model, optimizer, group, 0, steps)
        return model, optimizer, group

    def train(model: Any, optimizer: Any, group: Any, first: int, last: int) -> None:
        for i in range(first, last):
            group.update(i / 8)
            optimizer.update(model, nn.value_and_grad(model, loss_fn)(model)[1])

    whole, half, again = run(8), run(4), run(0)
    again[0].update(reloaded(half[0].parameters()))
    again[1].state = reloaded(half[1].state)
    assert again[2].snapshot() == half[2].snapshot()
    train(*again, 4, 8)
    assert_same(again[0].parameters(), whole[0].parameters())
    detach(again[1])


def test_driven_by_the_step() -> None:
    model, lr = make(), CosineAnnealing(0.1)
    optimizer = layer_optimizer(optim.SGD, model, learning_rate=layer_scales(model, lr, 2.0))
    optimizer.init(model.trainable_parameters())
    group = attach(optimizer, horizon=Horizon(4))
    optimizer.update(model, nn.value_and_grad(model, loss_fn)(model)[1])
    values = sorted(float(scalar) for scalar in group.values())
    expected = [CosineAnnealing(0.1).at(0.25) / 2**depth for depth in (4, 3, 2, 1, 0)]
    assert values == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: layer_scales(3, 0.1), TypeError, "model must be an mlx.nn.Module, got 3"),
        (lambda m: layer_scales(m, "a"), TypeError, "lr must be a finite real number, got 'a'"),
        (lambda m: layer_scales(m, 0.1, 0), ValueError, "decay must be a finite real number abo"),
        (lambda m: layer_optimizer(3, m), TypeError, "make must be an optimizer class"),
        (lambda m: layer_optimizer(optim.SGD, 3), TypeError, "model must be an mlx.nn.Module"),
        (lambda m: rules(m, 3), TypeError, "rules must be a list or a tuple, got 3"),
        (lambda m: rules(m, [3]), TypeError, "rule 0 must be a pair of a filter and settings"),
        (lambda m: rules(m, [(1.5, {})]), TypeError, "rule 0 must be for a path, an index or a f"),
        (lambda m: rules(m, [("embed", {}), (5, {})]), ValueError, "rule 1 must be of an index"),
        (lambda m: rules(m, [("head.w", {})]), ValueError, "rule 0 must be one that matches a par"),
        (
            lambda m: layer_optimizer(optim.SGD, m, learning_rate={"head": 0.1}),
            ValueError,
            "learning_rate must be given for the layer 'embed', got .'head'.",
        ),
        (lambda m: frozen(m), ValueError, "model must be one with trainable parameters"),
    ],
)  # fmt: skip
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(make())


def rules(model: Any, given: Any) -> Any:
    return layer_optimizer(optim.SGD, model, given, learning_rate=0.1)


def frozen(model: Any) -> Any:
    model.freeze()
    return layer_scales(model, 0.1)
