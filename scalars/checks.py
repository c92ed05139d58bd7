"""The checks of arguments, and their error messages.

A check takes the name of an argument and its value. It returns the value to keep, or
raises an error that states the name, the rule, the value and what to do. The
``Annotated`` types at the end attach a check to a dataclass field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from numbers import Real as AnyReal
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias, Union

from . import words

if TYPE_CHECKING:
    import mlx.core as mx

Check = Callable[[str, Any], Any]
Measured: TypeAlias = Union[complex, "mx.array"]
"""What MLX annotates ``loss.item()`` with, or an array of one element. It must be real."""

A_NUMBER = "Pass a number such as 0.001."
SCALARS_CHANGE = (
    "A scheduled scalar changes, but this argument is constant: combine "
    "scalars by arithmetic, as in a * b, or join them with Sequence."
)


def fail(name: str, rule: str, value: object, way_out: str, wrong_type: bool = False) -> NoReturn:
    """Raise ``ValueError`` (or ``TypeError``) with the name, the rule, the value and what to do."""
    raise (TypeError if wrong_type else ValueError)(
        f"{name} must be {rule}, got {shown(value)}. {way_out}"
    )


def shown(value: object) -> str:
    """Return the repr of a value for a message, of at most some 200 characters."""
    try:
        text = repr(value)
    except ValueError:  # MLX cannot show an array that is being traced
        text = f"a traced {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def real(
    name: str, value: Any, rule: str = "a finite real number", way_out: str = A_NUMBER
) -> float:
    """Check that ``value`` is a finite real number and not a scheduled scalar."""
    if type(value) not in (float, int):
        if isinstance(value, bool) or not isinstance(value, AnyReal):
            fail(name, rule, value, way_out, wrong_type=True)
        if hasattr(type(value), "__mlx_array__"):
            fail(name, rule, value, SCALARS_CHANGE, wrong_type=True)
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an int too large for a float
        finite = False
    if not finite:
        fail(name, rule, value, way_out)
    # A NumPy scalar or a Fraction becomes a float, so that the repr of a schedule is plain.
    number: float = value if type(value) in (float, int) else float(value)
    return number


def value(name: Callable[[], str], got: Any) -> float:
    """Return the result of a user's formula as a float; it must be a finite real number."""
    if not isinstance(got, AnyReal) and getattr(got, "ndim", None) == 0:
        got = got.item()  # a scalar array of MLX or NumPy
    if isinstance(got, float) and math.isfinite(got):
        return float(got)
    way_out = "Return a number for every progress from 0 to 1."
    return float(real(name(), got, "a finite real number", way_out))


def finite(scalar: Any, progress: float, in_force: bool = False) -> float:
    """Return the finite value of a scalar at a progress; ``in_force`` includes held values."""
    got: Any
    try:
        value_at = scalar.in_force if in_force else scalar.value_at
        if type(got := value_at(progress)) is not float:
            got = value(lambda: f"{scalar!r} at progress {progress:.4g}", got)
        if math.isfinite(got):
            return float(got)
    except (ArithmeticError, ValueError) as error:
        got = error
    rule, way_out = "a finite number", "Choose arguments for which it is finite at every progress."
    return fail(f"{scalar!r} at progress {progress:.4g}", rule, got, way_out)


def not_steps(name: str, value: Any, start: float, call: str) -> None:
    """Warn if a value looks like a number of steps, as it is passed to schedules elsewhere."""
    if type(value) is int and value >= 10 and 0 < abs(start) < 1:
        words.warn(words.LIKE_STEPS.format(name=name, value=value, start=start, call=call))


def bounded(rule: str, holds: Callable[[float], bool], way_out: str) -> Callable[..., float]:
    """Return a check of a finite real number in a range."""

    def check(name: str, value: Any) -> float:
        if not holds(number := real(name, value, rule, way_out)):
            fail(name, rule, value, way_out)
        return number

    return check


LONGER = (
    "If the schedule is longer than this run, cut it with Truncated(schedule, end), or pass the "
    "total steps of the whole schedule and stop early."
)
TO_FRACTION = f"Horizon.fraction(steps=...) converts steps and epochs. {LONGER}"
positive = bounded("a finite real number above 0", lambda x: x > 0, "Pass a number such as 2.0.")
at_least_0 = bounded(
    "a finite real number of at least 0", lambda x: x >= 0, "Pass a number such as 0.0."
)
factor = bounded("a factor above 0 and below 1", lambda x: 0 < x < 1, "Pass a number such as 0.1.")
fraction = bounded("a fraction of the run, from 0 to 1", lambda x: 0 <= x <= 1, TO_FRACTION)
span = bounded("a fraction of the run, from 1e-6 to 1", lambda x: 1e-6 <= x <= 1, TO_FRACTION)


def boundaries(name: str, value: Any) -> tuple[float, ...]:
    """Check that ``value`` is a sequence of fractions of the run in increasing order."""
    numbers = each(name, value, fraction)
    if list(numbers) != sorted(numbers):
        rule = "fractions of the run in increasing order"
        fail(name, rule, value, "Sort them together with the items that they separate.")
    return numbers


def one_fewer(
    name: str, value: Sequence[Any], others: Sequence[Any], what: str, between: str = "boundary"
) -> None:
    """Check that ``value`` has one item fewer than ``others``, one between each two."""
    if len(value) != len(others) - 1:
        rule = f"one fewer than the {what}, {len(others) - 1}"
        fail(name, rule, value, f"Give one {between} between each two {what}.")


def as_many(name: str, value: Sequence[Any], others: Sequence[Any], what: str) -> None:
    """Check that ``value`` has an item for each of ``others``."""
    if len(value) != len(others):
        rule = f"as many as the {what}, {len(others)}"
        fail(name, rule, value, f"Give one for each of the {what}.")


def one_of(name: str, value: Any, names: Collection[str]) -> str:
    """Check that ``value`` is one of ``names``."""
    rule = f"one of {', '.join(map(repr, names))}"
    if not isinstance(value, str):
        fail(name, rule, value, "Pass one of these names.", wrong_type=True)
    if value not in names:
        fail(name, rule, value, "Pass one of these names, in lower case.")
    return value


def flag(name: str, value: Any) -> bool:
    """Check that ``value`` is ``True`` or ``False``."""
    if not isinstance(value, bool):
        fail(name, "True or False", value, "Pass a bool.", wrong_type=True)
    return value


def optional_real(name: str, value: Any) -> float | None:
    """Check that ``value`` is a finite real number or ``None``."""
    return None if value is None else real(name, value)


def sequence(name: str, value: Any) -> tuple[Any, ...]:
    """Check that ``value`` is a list or a tuple."""
    if not isinstance(value, (list, tuple)):
        fail(name, "a list or a tuple", value, "Pass a list: [item, ...].", wrong_type=True)
    return tuple(value)


def each(name: str, value: Any, check: Check) -> tuple[Any, ...]:
    """Check every item of a list or a tuple."""
    items = enumerate(sequence(name, value))
    return tuple([check(f"item {i} of {name}", item) for i, item in items])


def operand(name: str, value: Any) -> Any:
    """Check that a function can take ``value``: a number, a scalar or an array."""
    if not (isinstance(value, AnyReal) or hasattr(value, "__array__") or hasattr(value, "shape")):
        rule = "given numbers, scalars or an mx.array"
        fail(name, rule, value, A_NUMBER, wrong_type=True)
    plain = isinstance(value, (float, int)) or hasattr(value, "__array__")
    return value if plain or hasattr(value, "shape") else float(value)


def function(name: str, value: Any) -> Callable[..., Any]:
    """Check that ``value`` is callable and not a scalar, which would ignore its argument."""
    if hasattr(type(value), "__mlx_array__"):
        way_out = "Use the scalar itself: it is a number already."
        fail(name, "a function of the progress", value, way_out, wrong_type=True)
    if not callable(value):
        way_out = "Pass a function such as lambda progress: 0.1 * (1 - progress)."
        fail(name, "a function of the progress", value, way_out, wrong_type=True)
    called: Callable[..., Any] = value
    return called


def count(name: str, value: Any, least: int = 1) -> int:
    """Check that ``value`` is a whole number from ``least`` to 2**53, which a float can hold."""
    rule = f"a whole number of at least {least}"
    try:
        number = value.__index__()
    except (AttributeError, TypeError, ValueError):  # not an integer, or an array of several
        number = None
    if isinstance(value, bool) or number is None:
        fail(name, rule, value, "Pass an int.", wrong_type=True)
    if not least <= (number := int(number)) <= 2**53:
        if number < least:
            fail(name, rule, value, f"Pass {least} or more.")
        fail(name, "at most 2**53", value, "Pass a smaller number.")
    return number


def keys(name: str, value: Any, expected: Collection[str], optional: Collection[str] = ()) -> None:
    """Check that ``value`` is a mapping with the expected keys and no unknown ones."""
    rule = f"a mapping with {', '.join(map(repr, expected))}"
    if not isinstance(value, Mapping):
        fail(name, rule, value, "Pass what state_dict() returned.", wrong_type=True)
    if set(value) - set(optional) != set(expected):
        way_out = "Load the state into the same scalars that it was saved from."
        fail(name, rule, sorted(map(str, value)), way_out)


def new_progress(value: Any) -> float:
    """Check a progress that is to be set, and warn if it looks like a number of steps."""
    if (number := progress(value)) >= 2:
        words.warn(words.STEPS)
    return number


def progress(value: Any) -> float:
    """Check that a progress is a finite real number of at least 0."""
    name, rule = "progress", "a finite real number of at least 0"
    way_out = "Pass step / total_steps, or use Horizon(total_steps).progress(step)."
    dtype = str(getattr(value, "dtype", "")).rpartition(".")[2]
    value = _item(name, value, "update()")
    if (number := real(name, value, rule, way_out)) < 0:
        fail(name, rule, value, way_out)
    return float(unrounded(number, dtype))


ROUNDED = {"float32": (4096, 2.0**-24), "float16": (64, 2.0**-11), "bfloat16": (16, 2.0**-8)}
"""By dtype: multiples of one part in so many are exact, and others are rounded by such a share."""


def unrounded(progress: Any, dtype: str) -> Any:
    """Return the largest progress that a float, or a NumPy array, of a dtype may stand for.

    ``optimizer.step / total`` is an array in float32, which may be just below a boundary that the
    step has reached. Schedules that still have the old value at a boundary, such as ``Reversed``,
    need an exact progress instead, as ``Horizon.progress`` gives it.
    """
    if dtype not in ROUNDED:
        return progress
    parts, share = ROUNDED[dtype]
    inexact = (progress * parts) % 1 != 0
    return progress * (1 + share * inexact)


def metric(value: Any, name: str = "metric") -> float:
    """Check that a metric is a real number; it may be infinite or NaN, as in a diverged run."""
    rule = "a real number"
    value = _item(name, value, "observe()")
    if isinstance(value, float) and not math.isfinite(value):
        return value
    return float(real(name, value, rule, "Pass a number such as loss.item()."))


def _item(name: str, value: Any, call: str) -> Any:
    """Return the number in an array of one element, and any other value as it is."""
    if type(value) in (float, int) or getattr(value, "size", 0) != 1 or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except ValueError:  # an array that MLX is tracing has no value yet
        way_out = f"Call {call} outside of the compiled function."
        return fail(name, "known while tracing", value, way_out)


def progress_array(value: Any) -> Any:
    """Check a NumPy array of progresses; return it in double precision, clipped to 1."""
    import numpy

    way_out = "Pass fractions of the run, such as numpy.linspace(0, 1)."
    if value.dtype.kind not in "fiu":
        fail("progress", "an array of real numbers", value, way_out, wrong_type=True)
    if not (numpy.isfinite(value) & (value >= 0)).all():
        fail("progress", "an array of finite numbers of at least 0", value, way_out)
    exact = unrounded(value.astype(numpy.float64), value.dtype.name)
    return numpy.minimum(exact, 1.0)


Real = Annotated[float, real]
Positive = Annotated[float, positive]
OptionalReal = Annotated[float | None, optional_real]
Count = Annotated[int, count]
CountFrom0 = Annotated[int, partial(count, least=0)]
AtLeast0 = Annotated[float, at_least_0]
Factor = Annotated[float, factor]
Fraction = Annotated[float, fraction]
Boundaries = Annotated[Sequence[float], boundaries]
