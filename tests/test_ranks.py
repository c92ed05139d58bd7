"""Several ranks equal one process that simulates them, and differences are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import pytest

from scalars import Linear, Recorder, ScalarGroup, sync_ranks
from scalars.training.ranks import _batches, _checksum

from . import on_ranks
from .launching import launch

Found = dict[str, Any]


class Run(NamedTuple):
    """Return the results of all ranks, and of a process that simulates them."""

    ranks: list[Found]
    alone: Found
    folder: Path

    def of(self, start: str) -> tuple[list[Found], Found]:
        """Return the results whose names begin with a prefix."""
        *ranks, alone = [
            {name: value for name, value in found.items() if name.startswith(start)}
            for found in (*self.ranks, self.alone)
        ]
        assert ranks[0]
        return ranks, alone


def loaded(path: Path) -> Found:
    arrays: Any = mx.load(str(path.with_suffix(".safetensors")))
    return {**json.loads(path.with_suffix(".json").read_text()), **arrays}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_several_ranks(ranks: int, tmp_path: Path) -> None:
    printed = launch(ranks, ["-m", "tests.on_ranks", str(tmp_path)], tmp_path)
    written = [tmp_path / f"{rank}.safetensors" for rank in range(ranks)]
    assert all(path.exists() for path in written), printed
    on_ranks.save(on_ranks.played(range(ranks), ranks), tmp_path / "alone.safetensors")
    run = Run([loaded(path) for path in written], loaded(tmp_path / "alone"), tmp_path)
    every_rank_skips_what_overflows_on_one(run)
    shards_of_the_gradients_share_one_answer(run)
    all_ranks_have_what_rank_0_has(run)
    what_is_not_made_alike_is_refused_on_every_rank(run)
    for kind in on_ranks.KINDS:
        what_parts_the_ranks_is_named_on_every_rank(run, kind)
    the_range_test_is_one_test(run)
    the_range_test_ends_where_the_batches_of_one_rank_do(run)
    files_are_kept_apart(run)


def assert_equal(found: Found, expected: Found) -> None:
    """Assert that two findings have the same bits."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, mx.array):
            assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
            same = [x.reshape(-1).view(mx.uint8) for x in (found[name], value) if x.size]
            assert not same or mx.array_equal(*same).item(), name
        else:
            assert json.dumps(found[name]) == json.dumps(value), name


def every_rank_skips_what_overflows_on_one(run: Run) -> None:
    found, alone = run.of("loss scale")
    for rank in found:
        assert_equal(rank, alone)
    flags = {name: value for name, value in alone.items() if name.endswith("finites")}
    assert len(flags) == (3 if len(found) == 2 else 2)
    for flag in flags.values():
        assert flag == [at not in on_ranks.OVERFLOWS for at in range(len(flag))]


def shards_of_the_gradients_share_one_answer(run: Run) -> None:
    found, alone = run.of("sharded")
    ranks = len(found)
    # Each shard overflows in turn, then none.
    assert alone["sharded/finites"] == [False] * ranks + [True]
    for rank in found:
        assert_equal(rank, alone)


def all_ranks_have_what_rank_0_has(run: Run) -> None:
    found, alone = run.of("synchronized")
    kinds = {name.split("/")[0] for name in alone}
    assert len(kinds) == 4
    for kind in kinds:
        first = part(found[0], f"{kind}/before")
        assert {array.dtype for array in first.values() if isinstance(array, mx.array)} >= {
            mx.bfloat16,
            mx.bool_,
            mx.int64,
            mx.int8,
        }
        for rank in found[1:]:
            before = part(rank, f"{kind}/before")
            assert before["state_dict.scale.scale"] != first["state_dict.scale.scale"]
        for rank in found:
            assert_equal(part(rank, f"{kind}/after"), first)
            assert_equal(part(rank, f"{kind}/last"), part(alone, f"{kind}/last"))
            assert rank[f"{kind}/seen"] == alone[f"{kind}/seen"]
            assert rank[f"{kind}/same"] is True


def part(found: Found, start: str) -> Found:
    start += "."
    return {k.removeprefix(start): value for k, value in found.items() if k.startswith(start)}


def what_is_not_made_alike_is_refused_on_every_rank(run: Run) -> None:
    for rank in run.of("refused")[0]:
        assert rank["refused/model untouched"] is True
        assert rank["refused/group untouched"] is True
        assert rank["refused/model"].startswith(
            "sync_ranks on rank 1: the shape of model.weight must be [2, 2], as on rank 0, got"
        )
        assert "the scalars of rank 0 must be a mapping with 'lr', 'wd'" in rank["refused/group"]


NAMES = {
    "nothing": [],
    "trainable": [],
    "progress": ["learning_rate.progress", "learning_rate.value", "scale.progress"],
    "loaded": [
        "learning_rate.observed.0.best",
        "learning_rate.observed.0.reductions",
        "learning_rate.value",
    ],
    "metric": [
        "learning_rate.observed.0.best",
        "learning_rate.observed.0.reductions",
        "learning_rate.value",
    ],
    "overflow": ["scale.scale", "scale.streak", "scale.value"],
    "zero": ["model.layers.0.bias"],
    "swapped": ["model.layers.0.bias"],
    "batches": ["learning_rate.progress", "learning_rate.value", "scale.progress"],
    "statistics": ["model.layers.1.running_mean", "model.layers.1.running_var"],
    "missing": ["model.layers.2.weight", "model.layers.2.bias"],
    "argument": ["lr.made_of"],
    "horizon": ["horizon"],
    "optimizer_state": ["model.layers.0.bias.m"],
}


def what_parts_the_ranks_is_named_on_every_rank(run: Run, kind: str) -> None:
    texts = {rank[f"differences/{kind}"] for rank in run.ranks}
    assert len(texts) == 1
    (text,) = texts
    named = text.partition(" must be")[0]
    assert named.split(", ") == (NAMES[kind] or [""])
    assert (f"the same on all {len(run.ranks)} ranks" in text) == bool(NAMES[kind])


def the_range_test_is_one_test(run: Run) -> None:
    found, alone = run.of("range test")
    for rank in found:
        assert_equal(rank, found[0])
        for name, value in alone.items():
            if name.endswith("rates"):  # float32, as in the optimizer
                assert rank[name] == pytest.approx(value, rel=1e-7)
            elif name.endswith("losses") and len(found) == 2 and "compile=False" in name:
                assert rank[name] == value
            elif name.endswith("losses"):  # sums of four and kernels may use another order
                assert rank[name] == pytest.approx(value, rel=1e-5)
            else:
                assert rank[name] is value is True
    rates = [value for name, value in alone.items() if name.endswith("rates")]
    assert all(5 < len(rate) < 25 for rate in rates)  # the loss of one rank was infinite


def the_range_test_ends_where_the_batches_of_one_rank_do(run: Run) -> None:
    for rank in run.of("few batches")[0]:
        assert rank["few batches/tried"] == 6
        assert "came to an end after 6 of 20 rates" in rank["few batches/told"][0]


def files_are_kept_apart(run: Run) -> None:
    def losses(name: str) -> list[list[float]]:
        rows = list(csv.DictReader((run.folder / f"{name}.csv").read_text().splitlines()))
        lines = (run.folder / f"{name}.jsonl").read_text().splitlines()
        saved = Recorder().load(run.folder / f"{name}.json")
        assert [row["step"] for row in rows] == ["0", "1", "2"]
        return [
            [float(row["loss"]) for row in rows],
            [json.loads(line)["loss"] for line in lines],
            saved["loss"],
        ]

    assert losses("shared") == [[0.0, 1.0, 2.0]] * 3  # of rank 0
    for i, rank in enumerate(run.ranks):
        own = [10.0 * i, 10.0 * i + 1, 10.0 * i + 2]
        assert losses(f"rank-{i}") == [own] * 3
        assert rank["recorded/loaded"] == own
    assert not list(run.folder.glob("*.part*"))
    assert not list(run.folder.glob("*{rank}*"))


# On one rank ------------------------------------------------------------------


def test_one_rank_communicates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("all_sum", "all_gather", "all_max", "all_min"):
        monkeypatch.setattr(mx.distributed, name, None)
    group, model = ScalarGroup(lr=Linear(1.0, 0.0)), nn.Linear(2, 1)
    assert group.check_ranks() is group.check_ranks(model) is group
    assert sync_ranks(group, model) is group


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda group: group.check_ranks(3),
            TypeError,
            "model must be a model, or a tree of arrays, got 3",
        ),
        (lambda group: group.check_ranks({}), TypeError, "model must be a model, or a tree"),
        (lambda group: sync_ranks(Linear(0.0, 1.0)), TypeError, "group must be a ScalarGroup"),  # type: ignore[arg-type]
        (lambda group: sync_ranks(group, {}), TypeError, "model must be an mlx.nn.Module"),
        (
            lambda group: sync_ranks(group, None, 0.1),
            TypeError,
            "optimizer must be an MLX optimizer, got 0.1",
        ),
        (
            lambda group: sync_ranks(group, None, on_ranks.Training(range(1), 1).optimizer),
            ValueError,
            "group must be what attach returned for the optimizer",
        ),
    ],
)
def test_wrong_arguments(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(ScalarGroup(lr=Linear(1.0, 0.0)))


def murmur(words: list[int]) -> int:
    """The checksum by hand, in Python's integers."""
    total = 0
    for place, word in enumerate(words):
        mixed = (word ^ (place * 0x9E3779B1 % 2**32)) * 0x85EBCA6B % 2**32
        total += (mixed ^ (mixed >> 16)) * 0xC2B2AE35 % 2**32
    return total % 2**32


def test_the_checksum_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalars.training.ranks.AT_ONCE", 64)  # in several batches
    matrix = mx.random.normal((30, 7))
    words: Any = matrix.view(mx.uint32).T.reshape(-1).tolist()
    assert _checksum(matrix.T).item() == murmur(words)
    half = mx.array([1.0, 2.0, 3.0], mx.float16)  # 3 times 2 bytes, padded
    assert _checksum(half, matrix.T).item() == murmur([0x40003C00, 0x4200, *words])
    arrays = {"a": mx.zeros((60,)), "b": mx.zeros((3,)), "c": mx.zeros((2,)), "d": mx.zeros((1,))}
    assert list(_batches(arrays)) == [["a", "b", "c"], ["d"]]


def test_a_swap_of_powers_of_two_is_seen() -> None:
    """A sum of words times odd numbers would miss differences in high bits only."""
    ones, twos = mx.ones((4096,)), mx.full((4096,), 2.0)
    sums = set()
    for i in range(0, 4096, 64):
        places = mx.arange(4096) == i
        sums.add(_checksum(mx.where(places, twos, ones)).item())
    assert len(sums) == 64
