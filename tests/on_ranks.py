"""Tests that several ranks run together, and that a single process runs for all ranks.

Under ``mlx.launch`` every rank runs all of them and writes its results.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map

from scalars import (
    CosineAnnealing,
    DynamicLossScale,
    Horizon,
    Linear,
    Recorder,
    ReduceOnPlateau,
    ScalarGroup,
    Warmup,
    attach,
    find_learning_rate,
    sync_ranks,
)

STEPS = 8
OVERFLOWS = (2, 5)
"""The steps at which the share of rank 1 overflows."""
Found = dict[str, Any]


def share(step: int, rank: int) -> list[mx.array]:
    """Return the batch of a rank at a step."""
    x = mx.random.normal((8, 6), key=mx.random.key(100 * step + rank))
    return [x, mx.sin(x[:, :1])]


def averaged(shares: list[Any], ranks: int) -> Any:
    """Return the mean over the ranks: of the own share, or of all simulated shares."""
    if len(shares) < ranks:
        return nn.average_gradients(shares[0])
    return tree_map(lambda *arrays: sum(arrays[1:], arrays[0]) / ranks, *shares)


def rounded(tree: Any, quantum: float) -> Any:
    """Return arrays of few digits, so that their sum is exact in any order."""
    return tree_map(lambda array: mx.round(array / quantum) * quantum, tree)


class Training:
    """A small model with an optimizer whose arguments are all scheduled."""

    def __init__(self, mine: range, ranks: int, horizon: bool = False, seed: int = 0) -> None:
        mx.random.seed(seed)
        self.mine, self.ranks = mine, ranks
        self.model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 1))
        self.scale = DynamicLossScale(2.0**8, growth_interval=3)
        plateau = ReduceOnPlateau(CosineAnnealing(1e-2, 1e-4), 0.5, patience=1)
        self.optimizer = optim.AdamW(Warmup(plateau, 0.1), weight_decay=Linear(0.0, 0.1))
        self.horizon = Horizon(2 * STEPS) if horizon else None
        self.group = attach(self.optimizer, horizon=self.horizon, scale=self.scale)

    @property
    def state(self) -> list[Any]:
        return [self.model.state, self.optimizer.state]

    def gradients(self, x: mx.array, y: mx.array, factor: mx.array) -> Any:
        """Return the loss and its gradients, scaled, from a forward pass in float16."""
        kept = self.model.parameters()

        def loss(parameters: Any) -> mx.array:
            self.model.update(tree_map(lambda p: p.astype(mx.float16), parameters))
            out = self.model(x.astype(mx.float16)).astype(mx.float32)
            self.model.update(kept)
            return self.scale * mx.square((out - y) * factor).mean()

        return mx.value_and_grad(loss)(self.model.trainable_parameters())

    def step(self, batches: list[list[mx.array]], unscale_first: bool) -> tuple[mx.array, mx.array]:
        """Make a step; return the loss and whether it was finite."""
        quantum = 2.0**-12 if unscale_first else 2.0**-4
        losses, shares, finites = [], [], []
        for batch in batches:
            loss, grads = self.gradients(*batch)
            if unscale_first:
                grads, finite = self.scale.unscale(grads)
                finites.append(finite)
            losses.append(rounded(loss / self.scale.array, 2.0**-8))
            shares.append(rounded(grads, quantum))
        grads = averaged(shares, self.ranks)
        if not unscale_first:
            grads, finite = self.scale.unscale(grads)
            finites.append(finite)
        finite = mx.stack(finites).all()
        self.scale.apply(self.optimizer, self.model, grads, finite)
        return averaged(losses, self.ranks), finite

    def train(self, first: int, last: int, unscale_first: bool, compiled: bool) -> list[bool]:
        """Train; return which steps were finite."""
        step = partial(self.step, unscale_first=unscale_first)
        run = mx.compile(step, inputs=self.state, outputs=self.state) if compiled else step
        finites = []
        for at in range(first, last):
            if self.horizon is None:
                self.group.update(at / (2 * STEPS))
            factors = [1e30 if at in OVERFLOWS and rank == 1 else 1.0 for rank in self.mine]
            shares = [share(at, rank) for rank in self.mine]
            loss, finite = run([[*one, mx.array(f)] for one, f in zip(shares, factors)])
            mx.eval(self.state)
            self.group.observe(loss)
            finites.append(finite.item())
        return finites

    def train_alone(self, last: int) -> None:
        """Train in float32 without any reduction over ranks."""
        loss_and_grad = nn.value_and_grad(self.model, lambda x, y: mx.abs(self.model(x) - y).mean())
        for at in range(last):
            if self.horizon is None:
                self.group.update(at / (2 * STEPS))
            _, grads = loss_and_grad(*share(at, 0))
            self.optimizer.update(self.model, grads)
            self.group.observe(1.0 + at)
            self.scale.observe(at % 2 == 0)


def arrays_of(training: Training) -> Found:
    """Return the whole state of a training run."""
    flat = dict(tree_flatten([training.model.parameters(), training.optimizer.state]))
    return {**flat, "state_dict": training.group.state_dict()}


# Loss scales ------------------------------------------------------------------


def loss_scale(
    mine: range, ranks: int, unscale_first: bool, compiled: bool, horizon: bool
) -> Found:
    training = Training(mine, ranks, horizon)
    if compiled:
        training.optimizer.init(training.model.trainable_parameters())  # one trace
    finites = training.train(0, STEPS, unscale_first, compiled)
    training.group.check_ranks([training.model.parameters(), training.optimizer.state])
    return {**arrays_of(training), "finites": finites}


def sharded(mine: range, ranks: int) -> Found:
    """Every rank has gradients of different parameters, and one of them is infinite."""
    scale = DynamicLossScale(4.0)
    finites = []
    for at in range(ranks + 1):
        of_rank = [{f"w{r}": mx.array([4.0, mx.inf if r == at else 8.0])} for r in range(ranks)]
        found = [scale.unscale(of_rank[rank])[1] for rank in mine]
        finite = mx.stack(found).all()
        scale.observe(finite)
        finites.append(finite.item())
    return {"finites": finites, "scale": float(scale)}


# Copying the state of one rank ----------------------------------------------------


def odd_arrays(rank: int) -> dict[str, mx.array]:
    """Return arrays of many dtypes, with bits that arithmetic would change."""
    numbers = [-0.0, mx.nan, mx.inf, 1e-40, 3.0 + rank, 0.1]
    return {
        "float32": mx.array(numbers),
        "payload": mx.array([0x7FC01234, 0xFFC00001, 0x80000000], mx.uint32).view(mx.float32),
        "bfloat16": mx.array(numbers[: 5 - 2 * (rank > 0)], mx.bfloat16)[:3],
        "float16": mx.array(numbers[:3], mx.float16) * (1 + rank),
        "bool": mx.array([True, rank == 0, False]),
        "int8": mx.array([-128, 127, rank], mx.int8),
        "int64": mx.array(np.array([-(2**62), rank])),
        "scalar": mx.array(-0.0 if rank == 0 else 0.0),
        "nothing": mx.zeros((0, 3)),
        "matrix": mx.arange(6 + rank)[:6].reshape(2, 3).T + 0.5 * rank,
    }


def synchronized(mine: range, ranks: int, horizon: bool, first_is_fresh: bool) -> Found:
    """Only rank 0 has trained, or all except rank 0; then all continue with the same state."""
    rank = mine[0] if len(mine) == 1 else 0
    alone = Training(range(1), 1, horizon, seed=rank)
    if (rank > 0) == first_is_fresh:
        alone.train_alone(2 if rank == 0 else 4)
    module = nn.Module()
    module.odd, module.inner = odd_arrays(rank), [alone.model]
    before = dict(tree_flatten([module.parameters(), alone.optimizer.state]))
    before["state_dict"] = alone.group.state_dict()
    captured = alone.state

    def decayed() -> mx.array:  # compiled before the states are copied
        return alone.group["learning_rate"] * mx.array(1.0) + alone.model.layers[0].bias.sum()

    inputs = [alone.model.state, alone.optimizer.state]
    compiled = mx.compile(decayed, inputs=inputs)
    compiled()
    if len(mine) == 1:
        sync_ranks(alone.group, module, alone.optimizer)
        alone.group.check_ranks([module.parameters(), alone.optimizer.state])
    after = dict(tree_flatten([module.parameters(), alone.optimizer.state]))
    after["state_dict"] = alone.group.state_dict()
    alone.mine, alone.ranks = mine, ranks
    seen = compiled().item()
    same = all(a is b for a, b in zip(captured, alone.state))
    done = 0 if first_is_fresh else 2
    alone.train(done, done + 3, unscale_first=True, compiled=False)
    last = arrays_of(alone)
    found = {"before": before, "after": after, "last": last, "seen": seen, "same": same}
    return dict(tree_flatten(found))


def refused(rank: int) -> Found:
    """The errors of ``sync_ranks`` if the ranks have different structures."""
    found = {}
    width = nn.Linear(2, 2 + (rank == 1))
    more = ScalarGroup(lr=Linear(0.0, 1.0), **({"wd": Linear(0.0, 1.0)} if rank == 1 else {}))
    for name, group, model in (
        ("model", ScalarGroup(lr=Linear(0.0, 1.0)).update(rank / 8), width),
        ("group", more.update(rank / 8), nn.Linear(2, 2)),
    ):
        weights = mx.array(model.weight)
        found[name] = message(lambda g=group, m=model: sync_ranks(g, m))  # type: ignore[misc]
        untouched = mx.array_equal(weights, model.weight).item() and group.progress == rank / 8
        found[f"{name} untouched"] = untouched
    return found


# Differences without an error ---------------------------------------------------


def message(call: Callable[[], Any]) -> str:
    try:
        call()
    except (ValueError, TypeError) as error:
        return str(error)
    return ""


class Differences:
    """Training runs in which the last rank silently does something else, one per method."""

    def __init__(self, rank: int, ranks: int) -> None:
        self.first, self.last = rank == 0, rank == ranks - 1
        mx.random.seed(0)
        plateau = ReduceOnPlateau(Linear(1e-2, 0.0), patience=0)
        self.optimizer = optim.AdamW(Warmup(plateau, 0.1))
        self.model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm(4))
        self.group = attach(self.optimizer, self.model, scale=DynamicLossScale(2.0**8))
        self.group.update(0.5)
        self.compared: Any = self.model

    def nothing(self) -> None:
        """Do nothing."""

    def progress(self) -> None:
        self.group.update(0.75 if self.last else 0.5)

    def loaded(self) -> None:
        if self.first:  # a checkpoint, on rank 0 alone
            self.group.load_state_dict({**self.group.state_dict(), "learning_rate": SAVED})

    def metric(self) -> None:
        for loss in (1.0, 2.0 if self.last else 0.5):  # not averaged
            self.group["learning_rate"].observe(loss)

    def overflow(self) -> None:
        scale: Any = self.group["scale"]
        scale.observe(not self.last)

    def zero(self) -> None:
        self.model.layers[0].bias = mx.array([0.0, 0.0, -0.0 if self.last else 0.0, 1.0])

    def swapped(self) -> None:
        order = [0, 2, 1, 3] if self.last else [0, 1, 2, 3]
        self.model.layers[0].bias = mx.array([1.0, 2.0, 4.0, 8.0])[mx.array(order)]

    def batches(self) -> None:
        list(self.group.track(range(3), Horizon(10 + self.last)))

    def statistics(self) -> None:
        self.model(mx.random.normal((8, 4), key=mx.random.key(self.last)))

    def trainable(self) -> None:
        self.statistics()
        self.compared = self.model.trainable_parameters()

    def missing(self) -> None:
        if self.last:
            self.model.layers.append(nn.Linear(2, 1))

    def argument(self) -> None:
        self.group = ScalarGroup(lr=Linear(1.0, 0.5 if self.last else 0.25))

    def horizon(self) -> None:
        self.group = attach(optim.SGD(Linear(1.0, 0.0)), horizon=Horizon(10 + self.last))

    def optimizer_state(self) -> None:
        self.optimizer.init(self.model.trainable_parameters())
        self.optimizer.state["layers"][0]["bias"]["m"] += 0.5 * self.last
        self.compared = self.optimizer.state


KINDS = [name for name in vars(Differences) if name[0] != "_"]


def differences(rank: int, ranks: int) -> Found:
    """Return the error of ``check_ranks`` for each."""
    found = {}
    for kind in KINDS:
        one = Differences(rank, ranks)
        getattr(one, kind)()
        found[kind] = message(lambda one=one: one.group.check_ranks(one.compared))  # type: ignore[misc]
    return found


SAVED = {"progress": 0.5, "observed": [{"best": 0.5, "bad": 0, "cooldown": 0, "reductions": 1}]}


# The learning rate test, and files ----------------------------------------------


def range_test(mine: range, ranks: int, compile: bool) -> Found:
    """The loss of rank 1 is infinite where that of the others is not."""
    mx.random.seed(0)
    model, optimizer = nn.Linear(6, 1), optim.SGD(0.0)

    def loss_fn(model: Any, x: mx.array, y: mx.array, bad: mx.array) -> mx.array:
        large = mx.stop_gradient(mx.abs(model.weight).max()) > 5
        return mx.square(model(x) - y).mean() * mx.where(large, bad, 1.0)

    def batch(at: int, rank: int) -> list[mx.array]:
        return [*share(at, rank), mx.array(mx.inf if rank == 1 else 1.0)]

    if len(mine) == 1:
        weights = mx.array(model.weight)
        batches = [batch(at, mine[0]) for at in range(30)]
        test = find_learning_rate(
            model, optimizer, loss_fn, batches, start=1e-3, steps=25, compile=compile
        )
        same = mx.array_equal(weights, model.weight).item()
        return {"rates": test.learning_rates, "losses": test.losses, "put back": same}
    rates, losses = [], []  # by hand
    for at in range(25):
        optimizer.learning_rate = 1e-3 * 1e4 ** (at / 24)
        of = [nn.value_and_grad(model, loss_fn)(model, *batch(at, rank)) for rank in mine]
        loss, grads = averaged(of, ranks)
        if not mx.isfinite(loss).item():
            break
        rates.append(optimizer.learning_rate.item())
        losses.append(loss.item())
        optimizer.update(model, grads)
    return {"rates": rates, "losses": losses, "put back": True}


def few_batches(rank: int) -> Found:
    """A rank has fewer batches than the others."""
    import warnings

    model, batches = nn.Linear(6, 1), iter([share(at, rank) for at in range(6 + 2 * (rank != 1))])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        test = find_learning_rate(
            model,
            optim.SGD(0.0),
            lambda model, x, y: mx.square(model(x) - y).mean(),
            batches,
            steps=20,
        )
    return {"tried": len(test.learning_rates), "told": [str(one.message) for one in told]}


def recorded(rank: int, folder: Path) -> Found:
    """All ranks write a shared file and their own files."""
    group = ScalarGroup(lr=Linear(1.0, 0.0))
    recorder = Recorder(group)
    for at in range(3):
        group.update(at / 4)
        recorder.log(loss=10.0 * rank + at)
    for name in ("shared", "rank-{rank}"):
        recorder.to_csv(folder / f"{name}.csv")
        recorder.to_jsonl(str(folder / f"{name}.jsonl"))
        recorder.save(folder / f"{name}.json")
    return {"loaded": Recorder().load(folder / "rank-{rank}.json")["loss"]}


# All results ----------------------------------------------------------------------


def played(mine: range, ranks: int) -> Found:
    """Return the results that must be equal on several ranks and in a single process."""
    found: Found = {}
    kinds = [(True, False, False), (False, False, True), (True, True, False)]
    for unscale_first, compiled, horizon in kinds if ranks == 2 else kinds[:2]:
        name = f"loss scale, {unscale_first=} {compiled=} {horizon=}"
        found[name] = loss_scale(mine, ranks, unscale_first, compiled, horizon)
    found["sharded"] = sharded(mine, ranks)
    for horizon in (False, True):
        for fresh in (False, True):
            found[f"synchronized {horizon=} {fresh=}"] = synchronized(mine, ranks, horizon, fresh)
    for compile in (False, True) if ranks == 2 else (False,):
        found[f"range test {compile=}"] = range_test(mine, ranks, compile)
    return found


def save(found: Found, path: Path) -> None:
    flat = {f"{name}/{key}": value for name, of in found.items() for key, value in of.items()}
    arrays = {key: value for key, value in flat.items() if isinstance(value, mx.array)}
    # MLX 0.30 cannot save empty arrays.
    mx.save_safetensors(str(path), {key: value for key, value in arrays.items() if value.size})
    rest = {key: value for key, value in flat.items() if key not in arrays}
    path.with_suffix(".json").write_text(json.dumps(rest))


def main(folder: Path) -> None:
    faulthandler.dump_traceback_later(270, exit=True)  # if a rank hangs
    world = mx.distributed.init(strict=True)
    rank, ranks = world.rank(), world.size()
    found = played(range(rank, rank + 1), ranks)
    found["refused"] = refused(rank)
    found["differences"] = differences(rank, ranks)
    found["few batches"] = few_batches(rank)
    found["recorded"] = recorded(rank, folder)
    save(found, folder / f"{rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
