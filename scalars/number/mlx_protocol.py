"""Everything that MLX does with a scalar-like object and does not document.

MLX accepts an object that has ``__mlx_array__``. What it does with it differs
from place to place, and a compiled function keeps whatever it saw while it was
traced. All that the package knows about it is in this file:

- ``ProtocolArray``: what ``__mlx_array__`` gives.
- ``is_placeholder``, ``is_tracing``: is Python running only to build a graph?
- ``weak_dtype``: the dtype that MLX gives to a Python float beside an array.
- ``split``: double precision in two arrays of float32, which every device has.
"""

from __future__ import annotations

import struct
import sys

import mlx.core as mx

PACKAGE = __name__.rpartition(".")[0]


class ProtocolArray(mx.array):
    """An array that returns itself when it is called.

    MLX reads ``__mlx_array__`` as an attribute in functions (``mx.multiply``) and
    calls it in operators (``x * s``): a callable array serves both. It has no dict of
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
        self.tracer, self.traced = x, is_placeholder(x)
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


def _get_probe() -> _TraceProbe:
    global _probe
    if _probe is None or not _probe.traced:  # compilation was disabled
        _probe = _TraceProbe()
    return _probe


def is_tracing() -> bool:
    """Return whether MLX is tracing: in ``compile``, ``grad`` or ``vmap``."""
    probe = _get_probe()
    # The body also runs once where MLX's cache is empty (a new thread, or before the
    # first evaluation), and always with compilation disabled: neither is a trace.
    return probe.always_runs_with(probe.tracer) and not probe.always_runs_with(probe.constant)


def is_placeholder(array: mx.array) -> bool:
    """Return whether ``array``, of a captured container, is an input of a function being traced.

    A placeholder cannot be evaluated, also when a checkpointed function runs again for its
    backward pass. Nor can one that a failed trace has left behind, outside of any trace. An
    array that was evaluated before costs nothing here.
    """
    try:
        mx.eval(array)
    except (ValueError, IndexError):
        return True
    except RuntimeError:
        # A gradient in the trace has taken its mark away, or else it was left behind.
        return _transforms()
    return False


def _transforms() -> bool:
    """Return whether a function is being transformed, in a backward pass too."""
    try:
        mx.eval(_get_probe().tracer)
    except (ValueError, IndexError):
        return True
    except RuntimeError:
        return False
    return False


def asked_by_mlx() -> bool:
    """Return whether MLX's own code has called the package, and not that of a user."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(PACKAGE):
        frame = frame.f_back
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] == "mlx"


def weak_dtype(array: mx.array) -> mx.Dtype:
    """Return the dtype of a Python float beside ``array``."""
    return array.dtype if mx.issubdtype(array.dtype, mx.floating) else mx.float32


_float32 = struct.Struct("f")


def split(value: float) -> tuple[float, float]:
    """Return ``value`` rounded to float32, and what the rounding left over."""
    try:
        rounded: float = _float32.unpack(_float32.pack(value))[0]
    except OverflowError:  # beyond float32: infinite, as MLX makes it
        return value, 0.0
    return rounded, value - rounded
