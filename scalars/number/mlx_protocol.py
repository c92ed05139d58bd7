"""Everything that MLX does with a scalar-like object and does not document.

MLX accepts an object that has ``__mlx_array__``. What it does with it differs
from place to place, and a compiled function keeps whatever it saw while it was
traced. All that the package knows about it is in this file:

- ``ProtocolArray``: what ``__mlx_array__`` gives.
- ``is_tracing``, ``is_placeholder``: is Python running only to build a graph?
- ``weak_dtype``: the dtype that MLX gives to a Python float beside an array.
- ``Cell``: a number on the host that compiled functions can follow.
"""

from __future__ import annotations

import struct
import warnings
from typing import TYPE_CHECKING

import mlx.core as mx

if TYPE_CHECKING:
    from .scalar import ScheduledScalar


class ProtocolArray(mx.array):
    """An array that returns itself when it is called.

    MLX reads ``__mlx_array__`` as an attribute in functions (``mx.multiply``) and
    calls it in operators (``x * s``): a callable array serves both.
    """

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
    except ValueError:
        return True
    return False


def weak_dtype(array: mx.array) -> mx.Dtype:
    """Return the dtype of a Python float beside ``array``."""
    return array.dtype if mx.issubdtype(array.dtype, mx.floating) else mx.float32


_float32 = struct.Struct("f")


def _split(value: float) -> tuple[float, float]:
    """Return ``value`` rounded to float32, and what the rounding left over."""
    try:
        rounded: float = _float32.unpack(_float32.pack(value))[0]
    except OverflowError:  # beyond float32: infinite, as MLX makes it
        return value, 0.0
    return rounded, value - rounded


FROZEN = """\
{name} was read while a function was being traced and never again, while it was \
updated {updates} times: the compiled function keeps its first value for ever. \
Capture its state, mx.compile(step, inputs=[..., scalar.state]), or attach it, \
attach(optimizer, name=scalar)."""

BLIND = """\
{name} is called as a learning rate inside a function that mx.compile is tracing and \
that does not capture its state: the rate would never change. Either \
attach(optimizer) before compiling and capture optimizer.state, or capture \
scalar.state: mx.compile(step, inputs=[..., scalar.state])."""

NO_FLOAT = """\
{name} has no float value while mx.compile traces a function that captures its state: \
a float would be a constant of the graph for ever. Use the scalar itself, or \
scalar.array where an array is needed; where only a Python float will do, keep that \
code out of the compiled function, or capture neither scalar.state nor attach."""

NO_UPDATE = """\
{name} cannot be updated while mx.compile traces a function that captures its state: \
the new value would be a constant of the graph for ever. Call update() before the \
compiled function, not in it."""


UNSETTLED = """\
{s} {symbol} {other} has different answers during the run, and mx.compile would keep the \
answer of this moment for ever. Compare outside of the compiled function, or choose in \
the graph: mx.where(scalar.array {symbol} {other}, ...)."""

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


class Cell:
    """A number on the host that compiled functions can follow.

    ``mx.compile`` looks into the containers it was given: before it traces a
    function it puts placeholders into them, which make whatever reads them live.
    ``state`` is such a container. It is made when it is first asked for; from then
    on every new value is put into it, as two float32 arrays: the value and what
    its rounding left over, so that ``1 - beta`` loses no digits in the graph.
    """

    __slots__ = (
        "_array",
        "_changes_unread",
        "_put",
        "_read_in_trace",
        "_state",
        "has_state",
        "progress",
        "value",
    )

    CHANGES_UNTIL_WARNING = 5

    def __init__(self, progress: float, value: float) -> None:
        self.progress = progress
        self.value = value
        self.has_state = False
        self._state: dict[str, mx.array] = {}
        self._array: ProtocolArray | None = None
        self._put: ProtocolArray | None = None
        self._changes_unread = 1
        self._read_in_trace = False

    @property
    def state(self) -> dict[str, mx.array]:
        """The dict that ``mx.compile`` captures."""
        if not self.has_state:
            self.has_state = True
            self._put_value()
        return self._state

    def set(self, owner: ScheduledScalar, progress: float, value: float) -> None:
        """Take the next progress, and the value at it."""
        self.progress = progress
        if value == self.value:
            return
        self.value = value
        self._array = None
        if self.has_state:
            self._put_value()
            return
        self._changes_unread += 1
        if self._read_in_trace and self._changes_unread >= self.CHANGES_UNTIL_WARNING:
            self._read_in_trace = False
            text = FROZEN.format(name=repr(owner), updates=self._changes_unread)
            warnings.warn(text, RuntimeWarning, stacklevel=4)

    def _put_value(self) -> None:
        rounded, remainder = _split(self.value)
        self._array = self._put = self._state["value"] = ProtocolArray(rounded)
        self._state["remainder"] = mx.array(remainder)

    @property
    def traced(self) -> bool:
        """Whether a function that captures ``state`` is being traced."""
        if not self.has_state or self._state["value"] is self._put:
            return False
        # Not the array that was put there: a placeholder of the trace under way, or
        # what a finished (or failed) call of a compiled function left behind.
        if is_placeholder(self._state["value"]):
            return True
        self._put_value()
        return False

    def read(self) -> float | mx.array:
        """Return the value for use beside an array: a placeholder while traced."""
        if self.has_state and self.traced:
            return self._state["value"]
        if self._changes_unread:
            self.notice()
        return self.value

    def notice(self) -> None:
        """Remember that Python code has used the value since it changed."""
        if self._changes_unread:
            self._changes_unread = 0
            self._read_in_trace = not self.has_state and is_tracing()

    @property
    def remainder(self) -> mx.array:
        """What rounding the traced value to float32 has left over."""
        return self._state["remainder"]

    @property
    def array(self) -> ProtocolArray:
        """The value as a float32 array, made once for each value."""
        value = self.read()
        if self._array is None or value is not self.value:
            if value is not self.value:
                return ProtocolArray(value)  # a placeholder
            self._array = ProtocolArray(value)
        return self._array
