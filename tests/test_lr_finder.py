"""The range test gives rates that train well, and restores everything."""

from __future__ import annotations

import io
import math
import re
import sys
import warnings
from itertools import pairwise
from typing import Any

import matplotlib
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten, tree_map
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from scalars import Horizon, Linear, OneCycle, Recorder, attach, find_learning_rate
from scalars.tools.lr_finder import LearningRateTest

from .helpers import MLX, Traced, assert_same

matplotlib.use("agg")
IMAGES, LABELS = load_digits(return_X_y=True)
SPLIT = train_test_split(IMAGES / 16, LABELS, test_size=0.25, random_state=0, stratify=LABELS)
X, X_HELD_OUT, Y, Y_HELD_OUT = (
    mx.array(part).astype(mx.float32 if part.dtype.kind == "f" else mx.int32) for part in SPLIT
)
BATCHES = [(X[i : i + 64], Y[i : i + 64]) for i in range(0, 1280, 64)]


def make_model() -> Any:
    mx.random.seed(2)
    layers = [nn.Linear(64, 64), nn.BatchNorm(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)]
    return nn.Sequential(*layers)


def loss_fn(model: Any, x: mx.array, y: mx.array) -> mx.array:
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda lr=0.1: optim.SGD(lr, momentum=0.9),
    "AdamW": lambda lr=1e-3: optim.AdamW(lr),
    "scheduled": lambda: optim.AdamW(Linear(1e-3, 0.0), weight_decay=Linear(0.0, 0.1)),
    "MLX's schedule": lambda: optim.Adam(optim.cosine_decay(1e-3, 100)),
}
if MLX >= (0, 32):  # if MLX can merge these trees
    OPTIMIZERS["several"] = lambda: optim.MultiOptimizer(
        [optim.SGD(0.1), optim.Adam(Linear(1e-3, 0.0))], [lambda path, _: "bias" in path]
    )


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_on_digits_every_suggestion_trains_above_96_percent(name: str, compile: bool) -> None:
    model = make_model()
    optimizer = OPTIMIZERS[name]()
    found = find_learning_rate(model, optimizer, loss_fn, BATCHES, end=100.0, compile=compile)
    rates = found.learning_rates
    assert rates[0] == 1e-7
    assert all(b / a == pytest.approx(1e9 ** (1 / 99)) for a, b in pairwise(rates))
    assert len(rates) == len(found.losses) == len(found.smoothed) < 100  # the loss diverged
    assert 1e-5 < found.valley < 1
    for rate in {found.valley, found.steepest, found.minimum}:
        assert accuracy(OPTIMIZERS[name](OneCycle(rate))) > 0.96


def accuracy(optimizer: Any, epochs: int = 12) -> float:
    model = make_model()
    model.train()
    group = attach(optimizer)
    loss_and_grad = nn.value_and_grad(model, loss_fn)
    batches = BATCHES * epochs
    for x, y in group.track(batches, Horizon(len(batches))):
        _, grads = loss_and_grad(model, x, y)
        optimizer.update(model, grads)
        mx.eval(model.state, optimizer.state)
    model.eval()
    return (model(X_HELD_OUT).argmax(axis=1) == Y_HELD_OUT).mean().item()  # type: ignore[no-any-return]


class BrokenError(Exception):
    """An error in a loss."""


def in_evaluation(name: str, trained: bool) -> tuple[Any, Any]:
    """Return a model with only one layer in training mode, and its optimizer."""
    model, optimizer = make_model(), OPTIMIZERS[name]()
    model.eval()
    model.layers[3].train()
    if trained:
        if name == "scheduled":
            attach(optimizer).update(0.25)
        one_step(model, optimizer)
    return model, optimizer


def random_key() -> Any:
    return next(iter(mx.random.state)).tolist()  # type: ignore[call-overload]


@pytest.mark.parametrize("fails_at", [None, 0, 5])
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_everything_is_put_back(
    name: str, trained: bool, compile: bool, fails_at: int | None
) -> None:
    model, optimizer = in_evaluation(name, trained)
    before = tree_map(lambda a: a + 0, (model.parameters(), optimizer.state))
    modes, key = [module.training for module in model.modules()], random_key()
    calls = 0

    def failing(model: Any, x: mx.array, y: mx.array) -> mx.array:
        nonlocal calls
        calls += 1
        assert model.training
        if calls - 1 == fails_at:
            raise BrokenError
        return loss_fn(model, x, y)

    if fails_at is None or (compile and fails_at):  # compiled, it is called only once
        find_learning_rate(model, optimizer, failing, BATCHES, steps=12, compile=compile)
    else:
        with pytest.raises(BrokenError):
            find_learning_rate(model, optimizer, failing, BATCHES, compile=compile)
    assert_same((model.parameters(), optimizer.state), before)
    assert modes == [module.training for module in model.modules()]
    assert key == random_key()
    # The next step is the same as without the test.
    other = in_evaluation(name, trained)
    for pair in ((model, optimizer), other):
        mx.random.seed(4)
        one_step(*pair)
    assert_same((model.parameters(), optimizer.state), (other[0].parameters(), other[1].state))


def one_step(model: Any, optimizer: Any) -> None:
    _, grads = nn.value_and_grad(model, loss_fn)(model, *BATCHES[0])
    optimizer.update(model, grads)
    mx.eval(model.state, optimizer.state)


def test_a_step_that_was_compiled_before_stays_live() -> None:
    model, optimizer = make_model(), OPTIMIZERS["scheduled"]()
    optimizer.init(model.trainable_parameters())
    group = attach(optimizer)
    state = [model.state, optimizer.state, mx.random.state]
    loss_and_grad = nn.value_and_grad(model, loss_fn)

    def body(x: mx.array, y: mx.array) -> mx.array:
        loss, grads = loss_and_grad(model, x, y)
        optimizer.update(model, grads)
        return loss  # type: ignore[no-any-return]

    counted = Traced(body)
    step = mx.compile(counted, inputs=state, outputs=state)
    step(*BATCHES[0])
    find_learning_rate(model, optimizer, loss_fn, BATCHES, steps=10)
    group.update(1.0)  # with a rate of 0 the weights do not change
    before = tree_map(lambda a: a + 0, model.trainable_parameters())
    step(*BATCHES[1])
    assert_same(model.trainable_parameters(), before)
    group.update(0.0)
    step(*BATCHES[1])
    assert counted.traces == 1
    assert any(
        not mx.array_equal(a, b)
        for (_, a), (_, b) in zip(tree_flatten(model.trainable_parameters()), tree_flatten(before))
    )


def test_suggestions_by_hand() -> None:
    """A valley from 1.0 down to 0.2 between rates 2 and 7, steepest between 4 and 5."""
    losses = [1.0, 1.1, 1.0, 0.9, 0.8, 0.4, 0.3, 0.2, 0.5, 2.0]
    found = LearningRateTest([10.0**i for i in range(10)], losses, losses)
    # The longest falling run has 7 losses, from 1.1 at 1 to 0.2 at 7: two thirds of it at
    # 1 + 2 + 1.
    assert found.valley == 1e4
    assert found.steepest == 1e4
    assert found.minimum == 1e6


def test_it_stops_at_the_first_loss_that_is_not_finite_or_far_above_the_best() -> None:
    model = nn.Linear(1, 1)
    losses = iter([1.0, 0.5, 1.9, math.nan, 1.0])
    found = find_learning_rate(
        model, optim.SGD(0.1), lambda m, x: m(x).sum() * 0 + next(losses), [mx.ones((1, 1))],
        smoothing=0.0, steps=5,
    )  # fmt: skip
    assert found.losses == pytest.approx([1.0, 0.5, 1.9])
    losses = iter([1.0, 0.5, 2.1, 1.0, 1.0])
    found = find_learning_rate(
        model, optim.SGD(0.1), lambda m, x: m(x).sum() * 0 + next(losses), [mx.ones((1, 1))],
        smoothing=0.0, steps=5,
    )  # fmt: skip
    assert found.losses == pytest.approx([1.0, 0.5, 2.1])


def test_smoothing_by_hand() -> None:
    losses = iter([1.0, 0.5, 0.25])
    found = find_learning_rate(
        nn.Linear(1, 1), optim.SGD(0.1), lambda m, x: m(x).sum() * 0 + next(losses),
        [mx.ones((1, 1))], smoothing=0.5, steps=3,
    )  # fmt: skip
    assert found.smoothed == pytest.approx([1.0, 2 / 3, 0.4375 / 0.875 * 0.857142857], rel=1e-6)


def test_batches_that_end() -> None:
    model, optimizer = make_model(), optim.SGD(0.1)
    assert len(find_learning_rate(model, optimizer, loss_fn, BATCHES[:3], steps=8).losses) == 8
    with pytest.warns(RuntimeWarning, match="came to an end after 3 of 100 rates"):
        found = find_learning_rate(model, optimizer, loss_fn, iter(BATCHES[:3]))
    assert len(found.losses) == 3
    message = "the number of finite losses must be at least 2, got"
    ends = pytest.warns(RuntimeWarning, match="came to an end after 1 of 100 rates")
    with ends, pytest.raises(ValueError, match=message):
        find_learning_rate(model, optimizer, loss_fn, iter(BATCHES[:1]))


def test_plot() -> None:
    found = find_learning_rate(make_model(), optim.SGD(0.1), loss_fn, BATCHES)
    ax = found.plot()
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "learning rate", "loss")
    marks = {line.get_label().split()[0]: line.get_xdata()[0] for line in ax.get_lines()[2:]}  # type: ignore[union-attr, index]
    assert marks == {n: getattr(found, n) for n in ("valley", "steepest", "minimum")}
    assert ax.get_lines()[0].get_ydata().tolist() == list(found.losses)  # type: ignore[union-attr]
    assert len({line.get_linestyle() for line in ax.get_lines()[2:]}) == 3  # visible when equal
    ax.figure.canvas.draw()
    assert {"0.001", "0.1"} <= {text.get_text() for text in ax.get_xticklabels()}


def test_losses_that_are_equal_have_a_picture() -> None:
    ax = LearningRateTest([1e-3, 1e-2], [0.5, 0.5], [0.5, 0.5]).plot()
    low, high = ax.get_ylim()
    assert low < 0.5 < high


@pytest.mark.parametrize(
    ("terminal", "term", "shown"),
    [(True, "xterm", True), (True, "dumb", False), (False, "xterm", False)],
)
def test_progress_is_shown_on_a_terminal_and_taken_away(
    terminal: bool, term: str, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("scalars.terminal.BETWEEN", 0.0)
    find_learning_rate(make_model(), optim.SGD(0.1), loss_fn, BATCHES, end=1e-3, steps=5)
    written = stream.getvalue()
    if not shown:
        assert written == ""
        return
    lines = written.split("\r\x1b[K")
    assert lines[0] == lines[-1] == ""
    assert [line.partition(",")[0] for line in lines[1:-1]] == [
        f"learning rate test: step {i} of 5" for i in range(1, 6)
    ]
    assert all(re.search(r", loss \d\.\d+$", line) for line in lines[2:-1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": 3}, TypeError, "model must be an mlx.nn.Module, got 3"),
        ({"optimizer": 3}, TypeError, "optimizer must be an MLX optimizer, got 3"),
        ({"loss_fn": 3}, TypeError, "loss_fn must be a function of the model and a batch, got 3"),
        ({"batches": 3}, TypeError, "batches must be iterable, got 3"),
        ({"start": 0}, ValueError, "start must be a finite real number above 0"),
        ({"end": 1e-8}, ValueError, "end must be above start, 1e-07, got 1e-08"),
        ({"steps": 1}, ValueError, "steps must be a whole number of at least 2"),
        ({"smoothing": 1.0}, ValueError, "smoothing must be at least 0 and below 1"),
        ({"compile": 1}, TypeError, "compile must be True or False"),
    ],
)
def test_bad_input(change: Any, error: type[Exception], message: str) -> None:
    good = {
        "model": make_model(), "optimizer": optim.SGD(0.1), "loss_fn": loss_fn, "batches": BATCHES,
    }  # fmt: skip
    with pytest.raises(error, match=message):
        find_learning_rate(**{**good, **change})


@pytest.mark.parametrize("fails", [False, True])
def test_the_group_of_an_attached_optimizer_tells_nobody(fails: bool) -> None:
    x = mx.random.normal((32, 4))
    model = nn.Linear(4, 1)
    optimizer = optim.SGD(Linear(0.1, 0.0))
    group = attach(optimizer, model, Horizon(20))
    recorder = Recorder(group)

    def loss(model: Any, x: mx.array) -> mx.array:
        if fails:
            raise RuntimeError("broken")
        return mx.square(model(x) - x[:, :1]).mean()

    if fails:
        with pytest.raises(RuntimeError, match="broken"):
            find_learning_rate(model, optimizer, loss, [x], start=1e-3, end=0.5, steps=5)
    else:
        find_learning_rate(model, optimizer, loss, [x], start=1e-3, end=0.5, steps=5)
    assert (len(recorder), group.step) == (0, 0)
    optimizer.update(model, {"weight": mx.zeros((1, 4)), "bias": mx.zeros((1,))})
    assert recorder["step"] == [1]


def test_the_updates_of_the_test_count_as_none_without_progress() -> None:
    x = mx.random.normal((32, 4))
    model = nn.Sequential(nn.Linear(4, 1), nn.Dropout(Linear(0.0, 0.3)))
    optimizer = optim.SGD(Linear(0.1, 0.0))
    attach(optimizer)

    def loss(model: Any, x: mx.array) -> mx.array:
        return mx.square(model(x) - x[:, :1]).mean()

    gradients = {"layers": [{"weight": mx.zeros((1, 4)), "bias": mx.zeros((1,))}, {}]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_learning_rate(model, optimizer, loss, [x], start=1e-3, end=2e-3, steps=40)
        for _ in range(29):
            optimizer.update(model, gradients)
    for name in ("learning_rate", r"layers\.1\.p"):
        with pytest.warns(RuntimeWarning, match=name):
            optimizer.update(model, gradients)
