"""Checking that all ranks have the same state, and copying the state of rank 0 to the others.

A scalar is a function of the progress, so ranks with the same progress have the same values
without communication. These functions are for ranks whose states may differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from struct import unpack
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from .. import checks
from ..number.together import Loadable, load_all
from .group import ScalarGroup, check_group

NAMED = 10
"""The largest number of differing names that an error lists."""
AT_ONCE = 2**22
"""The number of 32-bit words that are concatenated and processed at once."""
DTYPES = {str(value): value for value in vars(mx).values() if isinstance(value, mx.Dtype)}
PLAIN = (bool, int, float, str, type(None))
FACTORS = tuple([mx.array(factor, mx.uint32) for factor in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35)])
"""Odd multipliers from MurmurHash3 and xxHash, which mix all bits."""


def check_ranks(group: ScalarGroup, model: Any = None) -> ScalarGroup:
    """Raise an error if the ranks differ, as described in ``ScalarGroup.check_ranks``."""
    alone = mx.distributed.init().size() == 1
    if alone and isinstance(model, (nn.Module, type(None))):
        return group
    arrays = _arrays(model)
    if alone:
        return group
    facts = _facts(group)
    for name, array in arrays.items():
        facts[f"model.{name}"] = f"{array.dtype} {array.shape}"
    sums = [_checksum(*[arrays[name] for name in batch]) for batch in _batches(arrays)]
    known = json.dumps([facts, mx.stack(sums).tolist() if sums else []])
    digest = unpack("4I", blake2b(known.encode(), digest_size=16).digest())
    first, *others = _gathered(mx.array(digest, mx.uint32))
    if any(other != first for other in others):
        for name, array in arrays.items():
            facts[f"model.{name}"] += f" {_checksum(array).item():08x}"
        _refuse_differences([json.loads(text) for text in _texts(json.dumps(facts))])
    return group


def _refuse_differences(tables: list[dict[str, Any]]) -> None:
    """Raise ``ValueError`` with the names of the entries that differ between the tables."""
    names = list(dict.fromkeys(name for table in tables for name in table))
    by_rank = {name: [table.get(name) for table in tables] for name in names}
    apart = {
        name: of for name, of in by_rank.items() if len({json.dumps(value) for value in of}) > 1
    }
    if apart:
        listed = ", ".join([*apart][:NAMED])
        more = f" and {len(apart) - NAMED} more" if len(apart) > NAMED else ""
        way_out = "Call sync_ranks(group, model, optimizer) to copy them from rank 0."
        rule = f"the same on all {len(tables)} ranks"
        checks.fail(listed + more, rule, apart, way_out)


def sync_ranks(group: ScalarGroup, model: Any = None, optimizer: Any = None) -> ScalarGroup:
    """Copy the scalars, the weights and the optimizer's state of rank 0 to every rank, bit for bit.

    Use it after rank 0 alone has loaded a checkpoint, or when the ranks started from different
    states. Every rank must call it. All containers are updated in place, so functions that
    were compiled before see the new values. On one rank it does nothing.

    Args:
        group: The scalars. If they are attached, the group that ``attach`` returned.
        model: The model, whose parameters are copied, also the frozen ones. Default: ``None``.
        optimizer: The optimizer, whose whole state is copied, with its step. Default: ``None``.

    Returns:
        The group itself.

    Raises:
        ValueError: The structure of a group or a model differs from rank 0, or ``group`` is
            not what ``attach(optimizer)`` returned. Every rank raises, and nothing changes.
        TypeError: An argument is of the wrong type.

    Example:
        >>> import mlx.core as mx
        >>> import mlx.nn as nn
        >>> from scalars import Linear, ScalarGroup, sync_ranks
        >>> group, model = ScalarGroup(lr=Linear(0.1, 0.0)), nn.Linear(2, 1)
        >>> if mx.distributed.init().rank() == 0:  # the checkpoint is on rank 0
        ...     _ = group.load_state_dict({"lr": {"progress": 0.5}})
        >>> sync_ranks(group, model).check_ranks(model).snapshot()
        {'lr': 0.05}
    """
    _check_types(group, model, optimizer)
    world = mx.distributed.init()
    if world.size() == 1:
        return group
    if optimizer is not None:  # link again what was replaced in the state
        optimizer.state = optimizer.state
    leaves = {id(leaf._cell.arrays) for scalar in group.values() for leaf in scalar.leaves}
    state = {} if optimizer is None else optimizer.state
    held = {
        "model": _named(_parameters(model), set()),
        "optimizer": _named(state, leaves),  # without the scalars in it
    }
    described = {part: {k: _described(v) for k, v in of.items()} for part, of in held.items()}
    mine = json.dumps({"scalars": group.state_dict(), **described})
    first = json.loads(_texts(mine if world.rank() == 0 else "")[0])
    loadables: list[Loadable] = []
    complaint = ""
    try:
        loadables = _loadables(group, first["scalars"])
        _check_fits(described["model"], first["model"])
    except (ValueError, TypeError) as error:
        complaint = str(error)
    for rank, text in enumerate(_texts(complaint)):
        if text:
            raise ValueError(f"sync_ranks on rank {rank}: {text}")
    model_given, state_given = [_given(held[part], first[part]) for part in held]
    if world.rank():
        if model is not None:
            model.update(model_given)
        if optimizer is not None:
            _put(state, state_given, leaves)
        load_all(loadables)
    return group


def _check_types(group: Any, model: Any, optimizer: Any) -> None:
    check_group(group)
    if model is not None and not isinstance(model, nn.Module):
        way_out = "Call sync_ranks(group, model, optimizer)."
        checks.fail("model", "an mlx.nn.Module", model, way_out, wrong_type=True)
    if optimizer is not None and not isinstance(getattr(optimizer, "state", None), dict):
        way_out = "Call sync_ranks(group, model, optimizer)."
        checks.fail("optimizer", "an MLX optimizer", optimizer, way_out, wrong_type=True)
    attachment = getattr(optimizer, "_attachment", None)
    if attachment is not None and attachment.group is not group:
        way_out = "Pass group = attach(optimizer)."
        checks.fail("group", "what attach returned for the optimizer", group, way_out)


# The state of a rank ------------------------------------------------------------


def _facts(group: ScalarGroup) -> dict[str, Any]:
    """Return everything that defines the scalars, by name, as data that JSON can store."""
    facts: dict[str, Any] = {}
    for name, scalar in group.items():
        known = {**scalar.state_dict(), "value": float(scalar)}
        facts.update(tree_flatten({name: known}))
        # The repr of a function contains its address, which differs between processes.
        made_of = [re.sub(r" at 0x[0-9a-fA-F]+", "", repr(leaf)) for leaf in scalar.leaves]
        facts[f"{name}.made_of"] = made_of
    if group.step is not None:
        facts.update({"step": group.step, "horizon": repr(group.horizon)})
    return facts


def _arrays(model: Any) -> dict[str, mx.array]:
    """Return the arrays of a model, or of a tree, by name."""
    if model is None:
        return {}
    arrays = {k: v for k, v in _named(_parameters(model), set()).items() if isinstance(v, mx.array)}
    if not arrays:
        way_out = "Pass the model, or a list such as [model.parameters(), optimizer.state]."
        checks.fail("model", "a model, or a tree of arrays", model, way_out, wrong_type=True)
    return arrays


def _parameters(model: Any) -> Any:
    """Return the parameters of a model, a tree unchanged, and an empty dict for ``None``."""
    if model is None:
        return {}
    return model.parameters() if isinstance(model, nn.Module) else model  # type: ignore[no-untyped-call]


def _named(tree: Any, but: set[int]) -> dict[str, Any]:
    """Return the arrays and plain values in a tree by name, leaving out some containers."""
    flat: Any = tree_flatten(tree, is_leaf=lambda node: id(node) in but)
    return {name: leaf for name, leaf in flat if isinstance(leaf, (mx.array, *PLAIN))}


def _described(leaf: Any) -> list[Any]:
    """Return the dtype and shape of an array, or an empty dtype and the plain value."""
    if isinstance(leaf, mx.array):
        return [str(leaf.dtype), list(leaf.shape)]
    return ["", leaf]


def _loadables(group: ScalarGroup, state: Mapping[str, Any]) -> list[Loadable]:
    """Check the state of rank 0 and return what to load, without changing anything."""
    checks.keys("the scalars of rank 0", state, group)
    found = [one for name, scalar in group.items() for one in scalar.loadable(state[name])]
    loadables = []
    for leaf, progress, memories in found:
        by_step = group.step is not None and not leaf.on_device  # the step is in the state
        if not by_step and progress is not None:
            leaf.prepare(progress)
        loadables.append((leaf, None if by_step else progress, memories))
    return loadables


def _check_fits(mine: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless the names and shapes of the parameters agree."""
    for name in {**first, **mine}:
        here, there = mine.get(name, [None, None])[1], first.get(name, [None, None])[1]
        if here != there:
            way_out = "Make the same model on all ranks."
            checks.fail(f"the shape of model.{name}", f"{there}, as on rank 0", here, way_out)


def _put(now: Any, given: Any, but: set[int]) -> None:
    """Set the contents of a dict or list in place, keeping the containers that are in both."""
    if isinstance(now, dict):
        for key in [key for key in now if key not in given and _named(now[key], but)]:
            del now[key]
    for key, value in given.items() if isinstance(given, dict) else enumerate(given):
        here: Any = now.get(key) if isinstance(now, dict) else now[key]
        both = [isinstance(here, kind) and isinstance(value, kind) for kind in (dict, list)]
        if both[0] or (both[1] and len(here) == len(value)):
            _put(here, value, but)
        else:
            now[key] = value


# Bits ---------------------------------------------------------------------------


def _words(array: mx.array) -> mx.array:
    """Return the bits of an array as 32-bit integers, padded with zero bytes."""
    if not array.size:
        return mx.zeros((0,), mx.uint32)
    octets = array.reshape(-1).view(mx.uint8)
    if rest := -octets.size % 4:
        octets = mx.pad(octets, (0, rest))
    return octets.view(mx.uint32)


def _given(mine: Mapping[str, Any], described: Mapping[str, Any]) -> Any:
    """Return the tree of rank 0 on every rank, given its description."""
    leaves = {name: value for name, (dtype, value) in described.items() if not dtype}
    of = {name: mx.zeros(x, DTYPES[kind]) for name, (kind, x) in described.items() if kind}
    for names in _batches(of):
        sizes = [-(-of[name].nbytes // 4) for name in names]
        words = mx.zeros((sum(sizes),), mx.uint32)
        if not mx.distributed.init().rank():
            words = mx.concatenate([_words(mine[name]) for name in names])
        # Only rank 0 contributes nonzero integers, so the sum keeps every bit.
        words = mx.distributed.all_sum(words)
        mx.eval(words)  # limits memory to one batch
        begin = 0
        for name, size in zip(names, sizes, strict=True):
            octets = words[begin : begin + size].view(mx.uint8)[: of[name].nbytes]
            if of[name].size:
                leaves[name] = octets.view(of[name].dtype).reshape(of[name].shape)
            begin += size
    return tree_unflatten([(name, leaves.get(name, of.get(name))) for name in described])


def _batches(arrays: Mapping[str, mx.array]) -> Iterator[list[str]]:
    """Yield the names of arrays in batches of limited size; a large array is a batch by itself."""
    batch: list[str] = []
    size = 0
    for name, array in arrays.items():
        batch.append(name)
        size += array.size
        if size >= AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _checksum(*arrays: mx.array) -> mx.array:
    """Return a checksum of all bits and their positions, independent of the order of summation."""
    words = mx.concatenate([_words(array) for array in arrays])
    total = mx.array(0, mx.uint32)
    for begin in range(0, words.size, AT_ONCE):
        total = total + mx.sum(_mixed(words[begin : begin + AT_ONCE], begin))
    return total


def _mixed(words: mx.array, begin: int) -> mx.array:
    """Mix each word with its position, as in the finalizer of MurmurHash3.

    It is not compiled, because ranks on one machine would build the same kernel at once.
    """
    places = mx.arange(begin, begin + words.size, dtype=mx.uint32)
    mixed = (words ^ (places * FACTORS[0])) * FACTORS[1]
    return (mixed ^ (mixed >> 16)) * FACTORS[2]


def _gathered(row: mx.array) -> list[list[int]]:
    """Return the rows of all ranks, which have the same length."""
    rows: Any = mx.distributed.all_gather(row[None]).tolist()
    return rows  # type: ignore[no-any-return]


def _texts(text: str) -> list[str]:
    """Return the text of each rank."""
    data = text.encode()
    lengths = [length for (length,) in _gathered(mx.array([len(data)], mx.uint32))]
    padded = mx.array(list(data.ljust(max(*lengths, 1), b" ")), mx.uint8)
    rows = zip(_gathered(padded), lengths, strict=True)
    return [bytes(row[:length]).decode() for row, length in rows]
