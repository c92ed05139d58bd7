"""Recomputing the running statistics of batch norms for averaged weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .. import checks
from ..terminal import Progress


def recompute_batch_norm(model: nn.Module, batches: Iterable[Any]) -> None:
    """Recompute the running statistics of batch norms for the current parameters.

    The statistics from training belong to the training point y, so call this after
    ``optimizer.eval(model)``. The mean and the variance become the averages over the
    batches. Nothing else in the model changes. Other layers, such as dropout, are in
    evaluation mode during the call.

    Args:
        model: The model, called with each batch.
        batches: Inputs of the model: arrays, or tuples of arrays. Some dozens of batches
            of training data are enough.

    Raises:
        ValueError: The model has no ``nn.BatchNorm`` that keeps statistics, or there are
            no batches.
        TypeError: ``model`` is not a module, or ``batches`` is not iterable.

    Example:
        >>> import mlx.core as mx
        >>> import mlx.nn as nn
        >>> from scalars import recompute_batch_norm
        >>> model = nn.Sequential(nn.BatchNorm(1))
        >>> recompute_batch_norm(model, [mx.array([[1.0], [3.0]]), mx.array([[5.0], [7.0]])])
        >>> model.layers[0].running_mean
        array([4], dtype=float32)
    """
    if not isinstance(model, nn.Module):
        checks.fail("model", "an mlx.nn.Module", model, "Pass the trained model.", wrong_type=True)
    if not isinstance(batches, Iterable):
        way_out = "Pass a list of inputs of the model."
        checks.fail("batches", "iterable", batches, way_out, wrong_type=True)
    modules: list[Any] = model.modules()  # type: ignore[no-untyped-call]
    norms = [one for one in modules if isinstance(one, nn.BatchNorm) and "running_mean" in one]
    if not norms:
        way_out = "Remove the call, as other norms keep no running statistics."
        checks.fail("model", "one with nn.BatchNorm", type(model).__name__, way_out)
    count = 0
    with _as_before(modules, norms):
        model.eval()
        with Progress() as progress:
            for batch in batches:
                count += 1
                progress.show(f"statistics of batch norms: batch {count}")
                for norm in norms:
                    norm.train()
                    norm.momentum = 1 / count  # gives every batch the same weight
                model(*(batch if isinstance(batch, (list, tuple)) else (batch,)))
                mx.eval([(norm.running_mean, norm.running_var) for norm in norms])
    if not count:
        checks.fail("batches", "at least one", count, "Pass some inputs of the model.")


@contextmanager
def _as_before(modules: list[Any], norms: list[Any]) -> Iterator[None]:
    """Restore modes and momenta at the end, and after an error also the statistics."""
    modes = [(one, one._training) for one in modules]
    kept = [(one, one.momentum, one.running_mean, one.running_var) for one in norms]
    try:
        yield
    except BaseException:
        for one, _, mean, variance in kept:
            one.running_mean, one.running_var = mean, variance
        raise
    finally:
        for one, momentum, _, _ in kept:
            one.momentum = momentum
        for one, mode in modes:
            one._training = mode
