"""What an optimizer does more while scalars are attached to it."""

from __future__ import annotations

from typing import Any

import mlx.nn as nn
from mlx.optimizers import Optimizer

from .. import checks
from ..number.together import load_all
from .discover import PRIVATE, attributes, members, rates, within

KEY = "scalars"
AGAIN = (
    "Call group.hold(name=value) to hold it at a number, or, for another schedule, "
    "detach(optimizer), assign it, and call attach(optimizer) again."
)


class AttachedOptimizer(Optimizer):
    """The class that an optimizer's object has while scalars are attached to it."""

    _attachment: Any
    """Its ``Attachment``."""
    _plain: type[Optimizer]

    def init(self, parameters: dict[str, Any]) -> None:
        """Initialize the state, in which the name of the scalars must be free."""
        if KEY in parameters:
            refuse_parameter()
        super().init(parameters)

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        """Apply the gradients, with the numbers of this step."""
        return self._attachment.update(self, gradients, parameters)

    def update(self, model: nn.Module, gradients: Any) -> None:
        """Update a model; callbacks are called after it, so that an error there loses nothing."""
        link = self._attachment
        count = link.steps.now
        link.updating_model = True
        try:
            super().update(model, gradients)
        finally:
            link.updating_model = False
        if link.horizon is not None and isinstance(count, int):
            link.group.notify()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; one that is scheduled cannot be set while it is attached."""
        if name not in PRIVATE:
            of = members(self) if name == "learning_rate" else [self]
            if any(name in rates(one) or name in attributes(one) for one in of):
                checks.fail(
                    f"optimizer.{name}", "left to its schedule while attached", value, AGAIN
                )
            if any(within(name, value)):
                checks.fail(f"optimizer.{name}", "a number while attached", value, AGAIN)
        super().__setattr__(name, value)

    @property
    def state(self) -> Any:
        """The state of the optimizer, with that of the scalars in it."""
        return super().state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        inherited: Any = super(AttachedOptimizer, type(self)).state
        link = self._attachment
        if self is link.carrier:
            load_all(link.loadables(state))
            state[KEY] = self._state[KEY]
        inherited.fset(self, state)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be copied or pickled: the copy's scalars would be linked to nothing."""
        raise TypeError(
            "an optimizer with scalars attached cannot be copied or pickled; detach(optimizer) "
            "first, or save optimizer.state"
        )


def become_attached(member: Any, attachment: Any) -> None:
    """Give an optimizer the subclass that is attached."""
    plain = type(member)
    names = {"__module__": plain.__module__, "__doc__": plain.__doc__, "_plain": plain}
    member.__class__ = type(plain.__name__, (AttachedOptimizer, plain), names)
    member._attachment = attachment


def become_plain(member: Any) -> None:
    """Give an optimizer its own class again."""
    member.__class__ = member._plain
    del member._attachment


def refuse_parameter() -> None:
    """Raise because the key of the state is that of a parameter."""
    rule = f"free of a parameter or an entry named {KEY!r}"
    way_out = "Rename it: the scalars ride in the state under that name."
    checks.fail("the optimizer's state", rule, KEY, way_out)
