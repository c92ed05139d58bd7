"""Everything that MLX does with a scalar-like object and does not document.

MLX accepts an object that has ``__mlx_array__``. What it does with it differs
from place to place, and a compiled function keeps whatever it saw while it was
traced. All that the package knows about it is in this file:

- ``ProtocolArray``: what ``__mlx_array__`` gives.
- ``is_tracing``, ``is_placeholder``: is Python running only to build a graph?
- ``weak_dtype``: the dtype that MLX gives to a Python float beside an array.
- ``give_arrays_of``: the dtype of the array that a scalar gives where MLX asks for one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import cast

import mlx.core as mx

from . import words


class ProtocolArray(mx.array):
    """An array that returns itself when it is called.

    MLX reads ``__mlx_array__`` as an attribute in functions (``mx.multiply``) and
    calls it in operators (``x * s``): a callable array serves both. Without a dict of
    its own: MLX 0.30 does not clear that of a subclass, and collecting garbage crashes.
    """

    __slots__ = ()

    def __call__(self) -> ProtocolArray:
        """Return the array itself."""
        return self


class _TraceProbe:
    """Tells whether a function is being traced.

    A compiled function that is given a tracer runs its Python body only while
    some trace is under way: then it is inlined. So a tracer that has outlived its
    own trace, given to a function that counts its runs, tells.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.constant = mx.array(1.0)
        self.tracer = self.constant
        mx.compile(self._leak)(self.constant)
        self.function = mx.compile(self._count)
        self.function(self.constant)

    def _leak(self, x: mx.array) -> mx.array:
        self.tracer = x
        return x

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


def is_tracing() -> bool:
    """Return whether MLX is tracing: in ``compile``, ``grad`` or ``vmap``."""
    global _probe
    if _probe is None:
        _probe = _TraceProbe()
    # The body also runs once where MLX's cache is empty (a new thread, or before the
    # first evaluation), and always with compilation disabled: neither is a trace.
    return _probe.always_runs_with(_probe.tracer) and not _probe.always_runs_with(_probe.constant)


def is_placeholder(array: mx.array) -> bool:
    """Return whether ``array`` is an input of the function being compiled."""
    if not is_tracing():
        return False
    try:
        mx.eval(array)
    except (RuntimeError, ValueError):  # which of them, depends on where the array is from
        return True
    return False


def weak_dtype(array: mx.array) -> mx.Dtype:
    """Return the dtype of a Python float beside ``array``."""
    return array.dtype if mx.issubdtype(array.dtype, mx.floating) else mx.float32


_weak: mx.Dtype = mx.float32
"""The dtype of the array that a scalar gives: MLX does not say what it is for."""


def give_arrays_of(dtype: mx.Dtype) -> mx.Dtype:
    """Have scalars give arrays of ``dtype`` from now on; return the dtype until now."""
    global _weak
    before, _weak = _weak, dtype
    return before


def weak() -> mx.Dtype:
    """Return the dtype of the arrays that scalars give now."""
    return _weak


def refuse_untraceable(function: Callable[[mx.array], mx.array], name: str) -> None:
    """Raise ``ValueError`` if MLX cannot trace ``function`` of a progress, with the reason."""
    try:
        with mx.stream(mx.cpu):
            mx.compile(function)(mx.array(0.0, mx.float64))
    except Exception as error:
        raise ValueError(words.UNTRACEABLE.format(name=name, error=error)) from error


_float32 = struct.Struct("f")
_bits = struct.Struct("Q")
_float64 = struct.Struct("d")


def progress_bits(progress: float) -> mx.array:
    """Return a progress as an array of its bits: MLX has no float64 on a GPU."""
    return mx.array(_bits.unpack(_float64.pack(progress))[0], mx.uint64)


def progress_of_bits(bits: mx.array) -> float:
    """Return the progress that ``progress_bits`` made an array of."""
    progress: float = _float64.unpack(_bits.pack(bits.item()))[0]
    return progress


def bits_of(numbers: Sequence[float]) -> mx.array:
    """Return numbers as an array of their bits, two integers for each."""
    count = len(numbers)
    return mx.array(struct.unpack(f"{2 * count}I", struct.pack(f"{count}d", *numbers)), mx.uint32)


def numbers_of(bits: mx.array) -> tuple[float, ...]:
    """Return the numbers that ``bits_of`` made an array of."""
    packed = struct.pack(f"{bits.size}I", *cast("list[int]", bits.tolist()))
    return struct.unpack(f"{bits.size // 2}d", packed)


def split(value: float) -> tuple[float, float]:
    """Return ``value`` rounded to float32, and what the rounding left over."""
    try:
        rounded: float = _float32.unpack(_float32.pack(value))[0]
    except OverflowError:  # beyond float32: infinite, as MLX makes it
        return value, 0.0
    return rounded, value - rounded
