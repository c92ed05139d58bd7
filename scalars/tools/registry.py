"""The names that texts, configs and flags may use: built-in and registered ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .. import arithmetic, checks
from ..adaptive import early_stopping, greedy, loss_scale, plateau, threshold
from ..number.scalar import ScheduledScalar
from ..schedules import annealing, composition, cyclic, stepwise
from ..schedules.base import Schedule
from ..training.group import ScalarGroup
from ..training.phases import Phase, Phases

Factory = Callable[..., Any]

MODULES = (
    annealing,
    stepwise,
    cyclic,
    composition,
    plateau,
    greedy,
    threshold,
    early_stopping,
    loss_scale,
)
SCHEDULES: dict[str, Factory] = {
    name: value
    for module in MODULES
    for name, value in vars(module).items()
    if getattr(value, "__module__", None) == module.__name__
    and isinstance(value, type)
    and issubclass(value, Schedule)
}
FUNCTIONS: dict[str, Factory] = {"abs": abs} | {
    name: getattr(arithmetic, name)
    for name in ["clip", "maximum", "minimum", "exp", "log", "sqrt", "sin", "cos", "tanh", "floor"]
}
PLANS: dict[str, Factory] = {"ScalarGroup": ScalarGroup, "Phase": Phase, "Phases": Phases}
REGISTERED: dict[str, Factory] = {}
"""The names that ``register`` has added."""


def register(name: str, factory: Factory) -> None:
    """Register a name for a schedule of your own, for use in texts, configs and flags.

    Afterwards ``parse("name(...)")`` and ``from_config({"name": name, ...})`` call the factory
    with the given arguments. ``--lr_schedule name`` calls it with those of ``learning_rate``,
    ``max_steps``, ``warmup_steps``, ``end_lr_ratio``, ``decay_steps`` and ``decay_gamma`` that
    it takes.

    Args:
        name: A Python identifier that is not in use. The same factory may be registered again.
        factory: A schedule class, or a function that returns a scalar.

    Raises:
        ValueError: ``name`` is not a Python identifier, or it is in use.
        TypeError: ``name`` is not a string, or ``factory`` is not callable.

    Example:
        >>> from scalars import Linear, Schedule, parse, register
        >>> def triangle(peak):
        ...     return Linear(0.0, peak) * Linear(4.0, 0.0)
        >>> register("triangle", triangle)
        >>> parse("triangle(0.1) + 1").at(0.5)
        1.1
    """
    if not isinstance(name, str):
        checks.fail("name", "a string", name, "Write register('name', factory).", wrong_type=True)
    if not name.isidentifier():
        checks.fail("name", "a Python identifier", name, "Use letters, digits and underscores.")
    from .names import NAMES

    known = {**NAMES, **factories()}
    if name in known and known[name] is not factory:
        checks.fail("name", "unused", name, "Choose another name.")
    if not callable(factory):
        way_out = "Pass a schedule class, or a function that returns a scalar."
        checks.fail("factory", "a function", factory, way_out, wrong_type=True)
    REGISTERED[name] = factory


@contextmanager
def known_too(more: Mapping[str, Factory]) -> Iterator[None]:
    """Add names temporarily; registered names have priority."""
    added = {name: factory for name, factory in more.items() if name not in REGISTERED}
    REGISTERED.update(added)
    try:
        yield
    finally:
        for name in added:
            del REGISTERED[name]


def factories() -> dict[str, Factory]:
    """Return all known factories by name."""
    return {**SCHEDULES, **FUNCTIONS, **PLANS, **REGISTERED}


def name_of(schedule: Schedule) -> str | None:
    """Return the name of a schedule's class, or ``None`` if it is not registered."""
    return next((name for name, made in factories().items() if made is type(schedule)), None)


def call(name: str, arguments: tuple[Any, ...], named: Mapping[str, Any], where: str) -> Any:
    """Call the factory of a name; every failure is a ``ValueError`` or a ``TypeError``."""
    factory = find(name, where)
    signature = inspect.signature(factory)
    try:
        _bind(signature, arguments, named)
    except TypeError as error:
        rule = f"called as {written(name, signature)}"
        checks.fail(f"{name}{where}", rule, str(error), "Correct its arguments.")
    try:
        made = factory(*arguments, **named)
    except (ArithmeticError, RecursionError) as error:
        checks.fail(f"{name}{where}", "computable", str(error), "Use other numbers.")
    if not isinstance(made, (ScheduledScalar, float, int, *PLANS.values())):  # type: ignore[arg-type]
        checks.fail(f"{name}{where}", "a factory of scalars", made, "Return a scheduled scalar.")
    return made


def written(name: str, signature: inspect.Signature) -> str:
    """Return a call as text, with argument names and defaults."""
    parameters = signature.parameters.values()
    shown = [str(p.replace(annotation=p.empty)) for p in parameters]
    return f"{name}({', '.join(shown)})"


def find(name: str, where: str) -> Factory:
    """Return the factory of a name."""
    known = factories()
    if name in known:
        return known[name]
    if name == "LambdaValue":
        way_out = "Define a class for the function, and register it."
        return checks.fail(
            f"the name{where}", "that of a schedule without functions", name, way_out
        )
    from .names import NAMES

    if name in NAMES:
        way_out = f"Call from_name({name!r}, peak, total_steps)."
        return checks.fail(f"the name{where}", "that of a schedule", name, way_out)
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1, 0.5)
    shown = f"Did you mean {close[0]}?" if close else "Run 'python -m scalars list' to see them."
    return checks.fail(f"the name{where}", "that of a schedule", name, shown)


def _bind(signature: inspect.Signature, arguments: Any, named: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` if the arguments do not fit the signature."""
    bound = signature.bind(*arguments, **named)
    # Python 3.13.0 (CPython gh-130164) binds keyword arguments to these; a call does not.
    for one in signature.parameters.values():
        required = one.kind is one.POSITIONAL_ONLY and one.default is one.empty
        if required and one.name not in bound.arguments:
            raise TypeError(f"missing a required argument: {one.name!r}")
