"""Undocumented behavior of MLX with objects that it accepts as scalars.

MLX accepts an object with ``__mlx_array__``, but uses it in different ways, and a compiled
function keeps the values that it saw while it was traced. All code of the package that
depends on this is in this file:

- ``ProtocolArray``: the array that ``__mlx_array__`` returns.
- ``schedule_assigned``: a scalar that is assigned to ``optimizer.learning_rate``.
- ``dtype_of_input``: the dtype in which a dropout layer computes.
- ``is_placeholder``, ``are_placeholders``, ``is_tracing``: whether Python only builds a graph.
- ``weak_dtype``: the dtype of a Python float in an operation with an array.
- ``split``: a double as the sum of two float32 numbers, which every device supports.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import mlx.core as mx
import mlx.nn as nn

PACKAGE = __name__.partition(".")[0]


class ProtocolArray(mx.array):
    """An array that returns itself when it is called.

    MLX reads ``__mlx_array__`` as an attribute in functions (``mx.multiply``) and
    calls it in operators (``x * s``); a callable array supports both. It has no ``__dict__``,
    as MLX 0.30 does not clear that of a subclass, and garbage collection then crashes.
    """

    __slots__ = ()

    def __call__(self) -> ProtocolArray:
        """Return the array itself."""
        return self


def schedule_assigned(scalar: Any, frame: FrameType) -> None:
    """Make a scalar the schedule of the optimizer to whose ``learning_rate`` it is assigned.

    MLX converts what is assigned there to an array once, and calls only what it was constructed
    with at each step. ``frame`` is the code that converts the scalar.
    """
    if frame.f_code.co_name == "learning_rate" and _package_of(frame) == "mlx":
        frame.f_locals["self"]._schedulers["learning_rate"] = scalar


DROPOUTS = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)
KEEPING = "_p_1"
"""The attribute in which these layers keep 1 - p."""
_CALLS = {layer.__call__.__code__ for layer in DROPOUTS}


def dtype_of_input() -> mx.Dtype | None:
    """Return the floating dtype of the input of the dropout layer that is asking, if one is."""
    frame = _caller()
    x = frame.f_locals.get("x") if frame.f_code in _CALLS else None
    return x.dtype if isinstance(x, mx.array) and mx.issubdtype(x.dtype, mx.floating) else None


class _TraceProbe:
    """Detects whether a function is being traced.

    A compiled function that gets a tracer as its argument is inlined while a function is
    being traced, so that its Python body runs; otherwise the body does not run. The probe
    keeps a tracer from a finished trace, passes it to a function and counts the runs.

    It also keeps a placeholder of that trace that is no tracer any more, after a gradient of a
    function that has used it.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.constant = mx.array(1.0)
        self.tracer = self.constant
        self.lost = self.constant
        mx.compile(self._leak)(self.constant, self.constant)
        self.function = mx.compile(self._count)
        self.function(self.constant)

    def _leak(self, x: mx.array, y: mx.array) -> mx.array:
        self.tracer, self.traced = x, is_placeholder(x)
        mx.grad(lambda constant: constant * y)(self.constant)
        self.lost = y
        return x * y

    def _count(self, x: mx.array) -> mx.array:
        self.runs += 1
        return x

    def always_runs_with(self, x: mx.array) -> bool:
        return self._runs_with(x) and self._runs_with(x)

    def _runs_with(self, x: mx.array) -> bool:
        before = self.runs
        self.function(x)
        return self.runs != before


_probe: _TraceProbe | None = None


def _get_probe() -> _TraceProbe:
    global _probe
    if _probe is None or not _probe.traced:  # compilation was disabled
        _probe = _TraceProbe()
    return _probe


def is_tracing() -> bool:
    """Return whether MLX is tracing: in ``compile``, ``grad`` or ``vmap``."""
    probe = _get_probe()
    # Outside of a trace the body also runs once if MLX's cache is empty (in a new thread, or
    # before the first evaluation), and at every call if compilation is disabled.
    return probe.always_runs_with(probe.tracer) and not probe.always_runs_with(probe.constant)


def is_placeholder(array: mx.array) -> bool:
    """Return whether ``array``, of a captured container, is an input of a function being traced.

    A placeholder cannot be evaluated, also when a checkpointed function runs again in the
    backward pass. Nor can a placeholder that a failed trace has left behind. The check is
    free for an array that has been evaluated, and evaluates any other.
    """
    refused = _refused(array)
    if isinstance(refused, RuntimeError):  # it is inside of a gradient, or was left behind
        refused = _refused(_get_probe().tracer)
    return isinstance(refused, (ValueError, IndexError))


def are_placeholders(arrays: Sequence[mx.array]) -> bool:
    """Return whether arrays depend on what ``mx.compile`` or ``mx.vmap`` is tracing.

    It evaluates nothing, so arrays of the caller may be passed: an evaluation would wait for the
    device, and would cut an array out of the graph of a gradient. It takes some microseconds. In
    the backward pass of a checkpointed function the answer is unknown, and ``False``.
    """
    if not is_tracing():
        return False
    probe = _get_probe()
    # MLX looks at all arrays before it evaluates one, and reports the first that it cannot
    # evaluate. Append one of two sentinels that fail with different errors in a trace: if both are
    # reported, no array before them is a placeholder.
    last = ((probe.lost, RuntimeError), (probe.tracer, ValueError))
    if not all(isinstance(_refused(one), error) for one, error in last):
        return False  # it is the backward pass of a checkpointed function
    return not all(isinstance(_refused(*arrays, one), error) for one, error in last)


def _refused(*arrays: mx.array) -> Exception | None:
    """Return the error with which MLX refuses to evaluate ``arrays``, if it does."""
    try:
        mx.eval(*arrays)
    except (RuntimeError, ValueError, IndexError) as error:
        return error
    return None


def asked_by_mlx() -> bool:
    """Return whether the code that called the package is MLX's own."""
    return _package_of(_caller()) == "mlx"


def _caller() -> FrameType:
    """Return the frame of the code that called the package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _package_of(frame) == PACKAGE:
        frame = frame.f_back
    return frame


def _package_of(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


def weak_dtype(array: mx.array) -> mx.Dtype:
    """Return the dtype of a Python float in an operation with ``array``."""
    return array.dtype if mx.issubdtype(array.dtype, mx.floating) else mx.float32


_float32 = struct.Struct("f")


def split(value: float) -> tuple[float, float]:
    """Return ``value`` rounded to float32, and the remainder of the rounding."""
    try:
        rounded: float = _float32.unpack(_float32.pack(value))[0]
    except OverflowError:  # beyond float32, where MLX makes the value infinite
        return value, 0.0
    return rounded, value - rounded
