"""Making scalars from text, in the form that ``repr`` gives."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from typing import Any

from .. import checks
from ..number.operations import OPERATIONS
from ..number.scalar import ScheduledScalar
from ..schedules.annealing import Constant
from ..training.group import ScalarGroup
from ..training.phases import Phases
from . import registry

LONGEST, DEEPEST = 20_000, 50
Maker = Callable[[Any, int], Any]
BINARY = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder",
    ast.Pow: "power",
}


def parse(text: str) -> ScheduledScalar | Any:
    """Make a scalar from a text such as its ``repr``, without running other code.

    The text may contain calls such as ``Warmup(CosineAnnealing(1e-3), 0.1)``, with the names
    of schedules and registered names, arithmetic with calls and numbers, and ``abs``, ``clip``,
    ``maximum``, ``minimum``, ``exp``, ``log``, ``sqrt``, ``sin``, ``cos``, ``tanh`` and
    ``floor``. It may also be a call of ``ScalarGroup`` or ``Phases``. A number gives a
    ``Constant``.

    Args:
        text: The text, at most 20,000 characters, nested at most 50 deep.

    Returns:
        A scalar, or a ``ScalarGroup`` or ``Phases`` if the text is a call of one.

    Raises:
        ValueError: The text has another form, a name is unknown, or an argument is out of
            its range.
        TypeError: ``text`` is not a string, or an argument is of the wrong type.

    Example:
        >>> from scalars import parse
        >>> parse("Warmup(CosineAnnealing(1e-3), 0.1) * 0.5")
        Warmup(schedule=CosineAnnealing(start=0.001), fraction=0.1) * 0.5
    """
    if not isinstance(text, str):
        way_out = 'Pass a text such as "CosineAnnealing(1e-3)".'
        checks.fail("text", "a string", text, way_out, wrong_type=True)
    if len(text) > LONGEST:
        rule = f"at most {LONGEST} characters"
        checks.fail("text", rule, f"{len(text)} characters", "Shorten it.")
    made = _value(_tree(text), 0)
    if isinstance(made, (ScheduledScalar, ScalarGroup, Phases)):
        return made
    if isinstance(made, (int, float)) and not isinstance(made, bool):
        return Constant(made)
    return checks.fail("text", "a schedule", text, "Write a call such as Linear(0.1, 0.0).")


def _tree(text: str) -> ast.expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns about some texts that are rejected below
        try:
            return ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            reason = f"{error.msg} at column {error.offset}"
        except (ValueError, RecursionError, MemoryError) as error:
            reason = str(error) or "nested too deeply"
    return checks.fail("text", f"an expression: {reason}", text, "Write it as repr(scalar) does.")


def _value(node: ast.expr, depth: int) -> Any:
    """Evaluate a node."""
    if depth > DEEPEST:
        checks.fail("text", f"nested at most {DEEPEST} deep", f"more{_at(node)}", "Simplify it.")
    make: Maker = MAKERS.get(type(node), _refused)
    return make(node, depth + 1)


def _at(node: ast.expr) -> str:
    return f" at column {node.col_offset + 1}"


def _refused(node: ast.expr, _: int) -> Any:
    if isinstance(node, ast.Name) and node.id in registry.factories():
        way_out = f"Write {node.id}(...). Run 'scalars list' to see its arguments."
        checks.fail(f"the name{_at(node)}", "called with its arguments", node.id, way_out)
    try:
        what = ast.unparse(node)
    except RecursionError:
        what = type(node).__name__
    rule = "made of calls by name, numbers, texts, lists and arithmetic"
    return checks.fail(f"text{_at(node)}", rule, what, "Write it as repr(scalar) does.")


def _constant(node: Any, depth: int) -> Any:
    known = isinstance(node.value, (int, float, str, type(None)))
    return node.value if known else _refused(node, depth)


def _list(node: Any, depth: int) -> list[Any]:
    return [_value(item, depth) for item in node.elts]


def _dict(node: Any, depth: int) -> dict[str, Any]:
    made = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            _refused(node if key is None else key, depth)
        made[key.value] = _value(value, depth)
    return made


def _unary(node: Any, depth: int) -> Any:
    if not isinstance(node.op, (ast.USub, ast.UAdd)):
        _refused(node, depth)
    operand = _number(node.operand, depth)
    return operand if isinstance(node.op, ast.UAdd) else -operand


def _call(node: Any, depth: int) -> Any:
    unpacked = [key for key in node.keywords if key.arg is None]
    if not isinstance(node.func, ast.Name) or unpacked:
        _refused(node, depth)
    arguments = tuple([_value(item, depth) for item in node.args])
    names = [str(key.arg) for key in node.keywords]
    if len(set(names)) < len(names):
        rule = "written with each argument once"
        checks.fail(f"text{_at(node)}", rule, ", ".join(names), "Remove one of the arguments.")
    named = {key.arg: _value(key.value, depth) for key in node.keywords}
    return registry.call(node.func.id, arguments, named, _at(node))


def _binary(node: Any, depth: int) -> Any:
    if type(node.op) not in BINARY:
        _refused(node, depth)
    name = BINARY[type(node.op)]
    left, right = _number(node.left, depth), _number(node.right, depth)
    if name == "power" and not isinstance(left + right, ScheduledScalar):
        left, right = float(left), float(right)  # a power of large integers could take forever
    try:
        result = OPERATIONS[name].function(left, right)
    except ArithmeticError as error:
        reason = str(error.args[-1])  # the first one may be a number
        checks.fail(f"text{_at(node)}", "computable", reason, "Use other numbers.")
    return result


MAKERS: dict[type[ast.expr], Maker] = {
    ast.Constant: _constant,
    ast.List: _list,
    ast.Tuple: _list,
    ast.Dict: _dict,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.Call: _call,
}


def _number(node: ast.expr, depth: int) -> Any:
    """Return an operand, which is a scalar or a finite number."""
    value = _value(node, depth)
    if isinstance(value, ScheduledScalar):
        return value
    return checks.real(f"an operand{_at(node)}", value, way_out="Write a number or a schedule.")
