"""The base class of schedules: a frozen dataclass with a formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, FrozenInstanceError, dataclass, fields
from functools import cache, cached_property, wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_type_hints

from .. import checks
from ..checks import Check
from ..functions import HOST, P
from ..number.cell import Cell
from ..number.scalar import Leaf, ScheduledScalar
from ..number.together import leaves_of, listeners_of

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: bool) -> Any:
        """Do nothing at run time: only type checkers use it, and Python 3.10 lacks it."""
        return lambda decorated: decorated


@cache
def field_checks(schedule: type[Schedule]) -> dict[str, tuple[Check, ...]]:
    """Return the checks that a schedule's ``Annotated`` fields declare, by field."""
    # Only of the fields, as the other annotations are for type checkers. Annotations may be
    # strings, which are evaluated with the globals of ``value_at``.
    own = type("Own", (), {"__annotations__": {f.name: f.type for f in schedule._fields()}})
    hints = get_type_hints(own, schedule.value_at.__globals__, include_extras=True)
    return {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}


def _explaining(init: Callable[..., None], schedule: type[Schedule]) -> Callable[..., None]:
    """Wrap an ``__init__``, so that the error of a wrong call says what to write."""

    @wraps(init)
    def explained(self: Any, *arguments: Any, **named: Any) -> None:
        try:
            init(self, *arguments, **named)
        except TypeError as error:
            if not str(error).startswith(f"{schedule.__qualname__}.__init__() "):
                raise
            from .peers import hint

            raise TypeError(f"{error}. {hint(schedule, field_checks(schedule), named)}") from None

    return explained


@dataclass_transform(eq_default=False, frozen_default=True)
class Schedule(Leaf):
    """The base class of schedules: a scalar whose value is a function of the progress.

    A subclass declares its arguments as the fields of a dataclass, annotated with the checks
    of ``scalars.checks`` (``Real``, ``Positive``, ``Fraction``, ``Count`` and others; a field
    with another annotation is not checked), and defines ``value_at``. The signature, checks,
    repr, pickle and copy are derived from them. A schedule is immutable:
    ``dataclasses.replace`` returns a changed copy. A subclass that has an ``__init__`` besides its
    fields, for other ways to pass them, sets all of them there and calls ``__post_init__``. It
    takes the fields by name too, so that ``repr``, ``to_config`` and ``dataclasses.replace`` work.

    ``value_at`` receives a float, a NumPy array or an ``mx.array``. Operators support all
    three, and so do ``scalars.exp``, ``log``, ``sqrt``, ``sin``, ``cos``, ``tanh``, ``floor``,
    ``minimum``, ``maximum`` and ``clip``.

    If the value jumps or turns, define a property ``edges`` with the progresses between 0 and
    1 where it does. If the value is monotone between any two of them, set ``monotone_pieces =
    True``: its range is then known, and it can be compared in compiled functions.

    Example:
        >>> from scalars import Schedule
        >>> from scalars.checks import Real
        >>> class Quadratic(Schedule):
        ...     start: Real
        ...
        ...     def value_at(self, progress):
        ...         return self.start * (1 - progress) ** 2
        >>> scale = Quadratic(4.0)
        >>> float(scale.update(0.5)), scale
        (1.0, Quadratic(start=4.0))
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = "__init__" in vars(cls)
        cls.has_own_init = own or cls.has_own_init
        dataclass(eq=False, repr=False, match_args=False)(cls)
        cls.__init__ = _explaining(cls.__init__, cls)  # type: ignore[method-assign]
        if own and not cls._fields():
            way_out = "Annotate them in the body of the class, as in start: Real, without __init__."
            rule = "declared as fields"
            checks.fail(f"the arguments of {cls.__name__}", rule, "__init__", way_out)
        for field in cls._fields():
            if hasattr(Schedule, field.name):
                rule, way_out = "named otherwise than the attributes of Schedule", "Rename it."
                checks.fail(f"a field of {cls.__name__}", rule, field.name, way_out)

    def __post_init__(self) -> None:
        cls = type(self)
        if cls.has_own_init:
            own = vars(self).items()
            self.others = {name: x for name, x in own if name not in field_checks(cls)}
        for name, checks_of_field in field_checks(cls).items():
            for check in checks_of_field:
                value = check(f"{name} of {cls.__name__}", getattr(self, name))
                setattr(self, name, value)
        self.check_together()
        self.listeners = self._find_listeners()
        for listener in self.listeners:
            listener.owners.add(self)
        if self.monotone and not self.on_device:
            for progress in (0.0, *self.edges[:8], *self.edges[-8:], 1.0):
                checks.finite(self, progress)
        self._cell = self._make_cell()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field during initialization; raise after it."""
        if "_cell" in self.__dict__:
            way_out = f"use dataclasses.replace(schedule, {name}=...), which returns a changed copy"
            raise FrozenInstanceError(f"cannot change {name} of {type(self).__name__}: {way_out}")
        super().__setattr__(name, value)

    has_own_init: ClassVar[bool] = False
    """Whether the class, or one that it is based on, defines ``__init__``."""
    others: Mapping[str, Any] = MappingProxyType({})
    """What such an ``__init__`` has set besides the fields, which copies need."""
    monotone_pieces: ClassVar[bool] = False
    """Whether the value is monotone between two ``edges``, if the scalars in the fields are."""

    def __dir__(self) -> list[str]:
        """Return the names that are shown, and the fields."""
        return sorted({*super().__dir__(), *self._arguments()})

    @cached_property
    def monotone(self) -> bool:
        """Whether the value is monotone between any two edges, so that its range is known."""
        return self.monotone_pieces and all(one.monotone for one in self.contained())

    def __delattr__(self, name: str) -> None:
        """Raise, as a schedule is immutable."""
        raise FrozenInstanceError(f"cannot delete {name} of {type(self).__name__}")

    def check_together(self) -> None:
        """Check conditions between several fields, each of which has passed its own checks."""

    def _find_listeners(self) -> tuple[Any, ...]:
        return listeners_of(leaves_of(self.contained()))

    @cached_property
    def _cell(self) -> Cell:  # type: ignore[override] # __post_init__ sets it
        name = type(self).__name__
        way_out = "Call self.__post_init__() at the end of __init__."
        return checks.fail(name, "initialized", "no value", way_out)

    def _make_cell(self) -> Cell:
        try:
            return Cell(
                checks.value(lambda: f"the value of {self!r} at progress 0", self.value_at(0.0))
            )
        except TypeError as error:
            if " must be " in str(error):
                raise
            rule, way_out = "a number at progress 0", "Check the types of the arguments."
            return checks.fail(f"the value of {self!r}", rule, error, way_out, wrong_type=True)

    def _over(self, progress: P) -> P:
        try:
            return super()._over(progress)
        except (TypeError, ValueError) as error:
            if isinstance(progress, HOST) or " must be " in str(error):
                raise
            rule = "computable, with operators and the functions of scalars"
            way_out = "Write scalars.exp for math.exp, and scalars.functions.where for if."
            name = f"{self!r} at an array of progresses"
            return checks.fail(name, rule, error, way_out, wrong_type=True)

    def __repr__(self) -> str:
        """Return the call that makes this schedule, without arguments that have their default.

        A function is shown by its name.
        """
        shown = [f"{name}={_shown(value)}" for name, value in self.given().items()]
        return f"{type(self).__name__}({', '.join(shown)})"

    def given(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults, by name."""
        values = [(f, getattr(self, f.name)) for f in self._fields()]
        return {f.name: value for f, value in values if value != f.default}

    def _arguments(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in self._fields()}

    def contained(self) -> list[ScheduledScalar]:
        """Return the scalars in the arguments, of which some may be tuples of scalars."""
        items = [x if isinstance(x, tuple) else (x,) for x in self._arguments().values()]
        return [one for some in items for one in some if isinstance(one, ScheduledScalar)]

    @classmethod
    def _fields(cls) -> tuple[Field[Any], ...]:
        return fields(cast("Any", cls))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the arguments and the state, as an independent schedule."""
        return _restore, (type(self), {**self._arguments(), **self.others}, self.state_dict())


def _restore(
    schedule: type[Schedule], arguments: dict[str, Any], state: dict[str, Any]
) -> Schedule:
    made = schedule.__new__(schedule)  # an __init__ of a subclass may take other arguments
    vars(made).update(arguments)
    made.__post_init__()
    return made if made.state_dict() == state else made.load_state_dict(state)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        items = ", ".join(map(_shown, value))
        return f"({items},)" if len(value) == 1 else f"({items})"
    if callable(value) and not isinstance(value, ScheduledScalar):
        name: str = getattr(value, "__qualname__", None) or repr(value)
        return name.rpartition("<locals>.")[2]
    return repr(value)
