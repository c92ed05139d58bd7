"""Warnings and errors for uses that would silently give a wrong or a constant value."""

import sys
import warnings

PACKAGE = __name__.partition(".")[0]

UPDATES_UNTIL_IDLE = 30
"""Updates of an optimizer after which a scalar must have been updated itself."""

FROZEN = """\
{name} was last read while a function was being traced, and has been updated {updates} \
times since then: a compiled function keeps its first value forever. \
Capture its state, mx.compile(step, inputs=[..., scalar.state]), or attach it, \
attach(optimizer, name=scalar), and capture optimizer.state. An eager gradient that reads it so \
rarely is right: ignore this warning then."""

BLIND = """\
{name} is called as a learning rate inside a function that mx.compile is tracing and \
that does not capture its state: the rate would never change. Either \
attach(optimizer) before compiling and capture optimizer.state, or capture \
scalar.state: mx.compile(step, inputs=[..., scalar.state])."""

IDLE = """\
{name} was called {calls} times as a learning rate but never updated: it still has the value of \
progress 0. Call update(step / total) before each step, pass the optimizer lr.by_step(total), or \
call attach(optimizer, horizon=Horizon(total)), after which it follows the optimizer's step. If \
you update only once per epoch, call update(0) before the first step."""

NO_ARRAY = """\
{name} has no value that MLX could compute with. MLX may then report an unrelated error. The cause \
is: {error}"""

NO_FLOAT = """\
{name} has no float value while mx.compile traces a function that captures its state: \
a float would become a constant of the graph. Use the scalar itself, or scalar.array \
where an array is needed. Code that needs a Python float belongs outside of the compiled \
function; if a constant is intended, neither capture scalar.state nor attach the scalar."""

UPDATED_IN_TRACE = """\
{call}() is called on {name} inside a function that is being traced. A compiled function runs \
it only while it is traced: call {call}() before the function, and capture the state of the \
scalar. Call {call}() before a function whose gradient is taken, too."""

ALWAYS_0 = """\
{name} was updated {updates} times and is still at progress 0. The progress is a fraction, \
step / total: step // total is 0 until the end. If each epoch has more updates than that and you \
pass epoch / epochs, ignore this warning."""

LIKE_STEPS = """\
{name} is {value}, far above {start}. If it is meant as a number of steps: a schedule has no \
length of its own. The loop sets its progress, lr.update(step / total), or Horizon(total) does. \
The call is {call}."""

STEPS = """\
The progress is 2 or more: it must be the fraction of the run that is done, from 0 to 1, \
and not a number of steps. Pass step / total_steps, or Horizon(total_steps).progress(step). \
Above 1 every schedule keeps its end value."""

NO_UPDATE = """\
{name} cannot be updated while mx.compile traces a function that captures its state: \
the new value would become a constant of the graph. Call update() before the compiled \
function, not in it."""

NO_PROGRESS = """\
The progress is not known while mx.compile traces a function that captures \
optimizer.state: a number would become a constant of the graph. Read the progress outside \
of the compiled function."""

UNSETTLED = """\
{s} {symbol} {other} has different answers during the run, and mx.compile would keep the \
current answer forever. Compare outside of the compiled function, or select in \
the graph: mx.where(scalar.array {symbol} {other}, ...)."""

BRANCH = """\
While a function was traced, {question} was answered with {answer}, which is right for the \
whole schedule, and the compiled function keeps that branch. It would be wrong while a value \
is held: {held}. Hold a value for which the answer is the same, or select in the graph with \
mx.where."""

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def warn(text: str) -> None:
    """Warn at the line outside of this package that led to the call."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, RuntimeWarning, stacklevel=level)
