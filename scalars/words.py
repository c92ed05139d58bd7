"""What the package says when a value would be wrong, or kept for ever, without a word."""

import sys
import warnings

PACKAGE = __name__.partition(".")[0]

FROZEN = """\
{name} was read while a function was being traced and never again, while it was \
updated {updates} times: the compiled function keeps its first value for ever. \
Capture its state, mx.compile(step, inputs=[..., scalar.state]), or attach it, \
attach(optimizer, name=scalar), and capture optimizer.state."""

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

UPDATED_IN_TRACE = """\
{name} is updated inside a function that is being traced. In a compiled function that \
happens once, when it is traced: call update() before the function, and capture the state \
of the scalar. In an eager gradient, too, update() belongs before it."""

STEPS = """\
The progress is 2 or more: it is the part of the run that is done, from 0 to 1, and not a \
number of steps. Pass step / total_steps, or Horizon(total_steps).progress(step). Above 1 \
every schedule has its end value."""

NO_UPDATE = """\
{name} cannot be updated while mx.compile traces a function that captures its state: \
the new value would be a constant of the graph for ever. Call update() before the \
compiled function, not in it."""

NO_PROGRESS = """\
The progress is not known while mx.compile traces a function that captures \
optimizer.state: a number would be a constant of the graph for ever. Read it outside of \
the compiled function."""

UNSETTLED = """\
{s} {symbol} {other} has different answers during the run, and mx.compile would keep the \
answer of this moment for ever. Compare outside of the compiled function, or choose in \
the graph: mx.where(scalar.array {symbol} {other}, ...)."""

BRANCH = """\
While a function was traced, {question} was answered with {answer}, which is so over the whole \
schedule, and the compiled function keeps that branch. It would be the wrong one while a value \
is held by hand, {held}. Hold a value for which the answer is the same, or choose in the graph \
with mx.where."""

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def warn(text: str) -> None:
    """Warn at the line of the caller that is not in this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, RuntimeWarning, stacklevel=level)
