"""A loss scale that adapts to overflows, for training in float16."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar, TypeVar

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from .. import checks
from ..checks import Count, Positive
from ..functions import P
from ..number import mlx_protocol
from ..number.cell import Arrays, Cell, Pair
from ..number.scalar import Leaf
from ..number.together import Loadable
from ..schedules.base import Schedule

Tree = TypeVar("Tree")
LONGEST = 2**31 - 1
LARGEST = 2.0**127
"""The largest power of two in float32."""
LOAD = "Load a state that state_dict() returned."
UNCAPTURED = """\
{name} cannot observe while mx.compile traces a function that does not capture its \
state: the scale would never change. Capture scale.state in inputs and in outputs, or \
attach(optimizer, scale=scale) and capture optimizer.state."""


def _above_1(name: str, value: Any) -> float:
    rule = "a finite real number above 1"
    if (number := checks.real(name, value, rule)) <= 1:
        checks.fail(name, rule, value, "Pass a number such as 2.0.")
    return number


class _OnDevice(Cell):
    """A cell whose value is an array on the device, which compiled functions can change."""

    KEYS = ("value", "streak")

    def __init__(self, value: float) -> None:
        super().__init__(value)
        self.arrays.update(value=mx.array(float(value)), streak=mx.array(0))

    def read(self, use: bool = True) -> float | Pair:
        """Return the value: the array on the device, or if it is only shown, a number."""
        self.check_link()
        if use or self.is_traced():
            return Pair(self.arrays["value"])
        return _item(self.arrays["value"])

    def is_traced(self) -> bool:
        """Return whether a function that captures the value is being traced."""
        return mlx_protocol.is_placeholder(self.arrays["value"])

    def refuse_update(self, owner: object) -> None:
        """Allow updates, as the value does not depend on the progress."""

    def set(self, owner: object, progress: float | None, value: Any) -> None:
        """Set the progress, but not the value."""
        if progress is not None:
            self.progress, self.fresh = progress, False
        self.put_extras()

    def refresh(self) -> None:
        """Write the extras into the dict, which already has the value."""
        self.put_extras()


class DynamicLossScale(Schedule):
    r"""Scale a float16 loss so that gradients neither vanish nor overflow.

    The scale is divided by ``factor``, down to ``minimum``, at a step whose gradients
    overflow, and multiplied by ``factor`` after ``growth_interval`` steps without an overflow
    [1]. It is an array on the device. Only code that reads it as a number, such as
    ``float(scale)`` or the snapshot of a group, waits for the device. ``update`` does not
    change it. If ``attach`` has a horizon, the values of a step depend on whether the step
    before it was skipped: an eager step waits for the device then, a compiled step does not.

    In a training step::

        loss, grads = loss_and_grad(model, x, y)  # of scale * loss, in float32
        grads, finite = scale.unscale(grads)
        scale.apply(optimizer, model, grads, finite)  # or skip the step

    A compiled step must capture ``scale.state`` in its inputs and its outputs, or
    ``optimizer.state`` after ``attach(optimizer, scale=scale)``. Keep the parameters in
    float32 and cast them to float16 in the loss: ``unscale`` keeps the dtype of a gradient,
    and small gradients vanish in float16.

    Args:
        initial: The initial scale, above 0. Default: ``2**15``.
        factor: The factor of an increase or decrease, above 1. Default: ``2.0``.
        growth_interval: The number of steps without an overflow after which the scale
            grows. Default: ``2000``.
        minimum: The least scale, above 0 and at most ``initial``. Default: ``1.0``.

    Raises:
        ValueError: A number is out of its range.
        TypeError: An argument is of the wrong type.

    Example:
        >>> import mlx.core as mx
        >>> from scalars import DynamicLossScale
        >>> scale = DynamicLossScale(1024.0, growth_interval=2)
        >>> (scale * mx.array(0.5)).item()
        512.0
        >>> grads, finite = scale.unscale({"w": mx.array([2048.0])})
        >>> grads["w"].item(), finite.item()
        (2.0, True)
        >>> [float(scale.observe(finite)) for finite in (True, True, False, False)]
        [1024.0, 2048.0, 1024.0, 512.0]

    [1]: Micikevicius, P. et al., 2018. Mixed precision training. ICLR 2018. The same as
    PyTorch's ``GradScaler`` with ``backoff_factor = 1 / growth_factor``.
    """

    initial: Positive = 2.0**15
    factor: Annotated[float, _above_1] = 2.0
    growth_interval: Count = 2000
    minimum: Positive = 1.0

    for_users = ("apply", "unscale")
    on_device = True
    monotone_pieces = True

    def check_together(self) -> None:
        """Check that the initial scale and the growth interval are in range."""
        if not self.minimum <= self.initial <= LARGEST:
            rule = f"from minimum, {self.minimum}, to 2**127"
            way_out = "Pass a power of two such as 2**15."
            checks.fail("initial of DynamicLossScale", rule, self.initial, way_out)
        if self.growth_interval > LONGEST:
            name, rule = "growth_interval of DynamicLossScale", f"at most {LONGEST}"
            checks.fail(name, rule, self.growth_interval, "Pass a number such as 2000.")

    @property
    def _arrays(self) -> Arrays:
        """The scale and the streak on the device, as they are in the state now."""
        self._cell.check_link()
        return self._cell.arrays

    def _make_cell(self) -> Cell:
        return _OnDevice(self.initial)

    def unscale(self, grads: Tree) -> tuple[Tree, mx.array]:
        """Return the gradients of the unscaled loss, and whether all of them are finite.

        On several ranks, the flag is whether the gradients of all ranks are finite, so that
        all ranks make the step or all skip it. Every rank must call this method. Gradients
        may be averaged before or after it, and a rank may have only a shard of them.

        Args:
            grads: The gradients of ``scale * loss``: a tree of arrays.

        Raises:
            ValueError: There are no gradients.
            TypeError: A gradient is not an array.
        """
        inverse = 1 / self._arrays["value"]
        leaves: list[Any] = list(dict(tree_flatten(grads)).values())
        if not leaves or not all(isinstance(leaf, mx.array) for leaf in leaves):
            way_out, wrong = "Pass the gradients that value_and_grad returned.", bool(leaves)
            checks.fail("grads", "a tree of arrays", grads, way_out, wrong_type=wrong)
        finite = mx.stack([mx.isfinite(array).all() for array in leaves]).all()
        finite, leaves = _on_all_ranks(finite, leaves)
        in_order = iter(leaves)
        unscaled: Tree = tree_map(
            lambda array: (next(in_order).astype(mx.float32) * inverse).astype(array.dtype), grads
        )
        return unscaled, finite

    def observe(self, metric: Any) -> DynamicLossScale:
        """Adjust the scale after a step, without waiting for the device.

        Args:
            metric: Whether the gradients were finite: a bool, or the array of one bool that
                ``unscale`` returned.

        Returns:
            The scale itself.

        Raises:
            ValueError: ``mx.compile`` traces a function that does not capture the state.
            TypeError: ``metric`` is not a bool.
        """
        array = isinstance(metric, mx.array) and metric.dtype == mx.bool_ and metric.size == 1
        if not (array or isinstance(metric, bool)):
            way_out = "Pass the second value that unscale returned."
            checks.fail("finite", "True or False", metric, way_out, wrong_type=True)
        scale, streak = self._arrays["value"], self._arrays["streak"] + 1
        if mlx_protocol.is_tracing() and not self._cell.is_traced():
            raise ValueError(UNCAPTURED.format(name=checks.shown(self)))
        grow = streak >= self.growth_interval
        grown = mx.where(grow, mx.minimum(scale * self.factor, LARGEST), scale)
        smaller = mx.maximum(scale / self.factor, self.minimum)
        streak = mx.where(mx.logical_and(metric, mx.logical_not(grow)), streak, 0)
        self.put({"value": mx.where(metric, grown, smaller), "streak": streak})
        return self

    def apply(self, optimizer: Any, model: Any, grads: Any, finite: Any) -> None:
        """Update the model, or skip the step if gradients overflow; then adjust the scale.

        A skipped step changes neither the parameters nor the state of the optimizer, not
        even its step count.

        Args:
            optimizer: An MLX optimizer.
            model: The model that the optimizer updates.
            grads: The gradients that ``unscale`` returned.
            finite: The bool that ``unscale`` returned.

        Raises:
            ValueError: ``mx.compile`` traces a function that does not capture the state.
            TypeError: ``finite`` is not a bool.
        """
        optimizer.init(model.trainable_parameters())  # keeps the state of initialized parameters
        containers = (model.state, optimizer.state)
        before = tree_map(lambda array: array, containers)
        with getattr(optimizer, "_as_one", nullcontext)():  # attached: callbacks see the end of it
            optimizer.update(model, grads)
            for now, then in zip(containers, before, strict=True):
                _keep_if(finite, now, then)
            self.observe(finite)

    def value_at(self, progress: P) -> P:
        """Return the current scale, at any progress."""
        array = isinstance(progress, mx.array)
        scale: Any = self._arrays["value"] if array else float(self)
        return scale + 0 * progress  # type: ignore[no-any-return]

    def prepare(self, progress: float) -> float:
        """Return 0, which is not used, as a new progress does not change the scale."""
        return 0.0

    @property
    def extent(self) -> tuple[float, float]:
        """The smallest and the largest possible scale."""
        return self.minimum, LARGEST

    def state_dict(self) -> dict[str, Any]:
        """Return the scale and its count in plain numbers; this waits for the device."""
        streak = int(_item(self._arrays["streak"]))
        return {"progress": self.progress, "scale": float(self), "streak": streak}

    def counted_in(self, arrays: Mapping[str, mx.array]) -> dict[str, Any]:
        """Return the scale and the count of steps without overflow, from arrays of the cell."""
        return {"scale": _item(arrays["value"]), "streak": arrays["streak"].item()}

    def loadable(self, state: Mapping[str, Any]) -> list[Loadable]:
        """Return the checked argument for ``load_all``; change nothing."""
        name = f"the state of {self!r}"
        checks.keys(name, state, ("progress", "scale", "streak"))
        progress = checks.progress(state["progress"])
        scale = checks.positive(f"scale in {name}", state["scale"])
        streak = checks.count(f"streak in {name}", state["streak"], least=0)
        if scale > LARGEST or streak > LONGEST:
            rule, way_out = f"a scale of at most 2**127 and a streak of at most {LONGEST}", LOAD
            checks.fail(name, rule, (scale, streak), way_out)
        return [
            (
                self,
                progress,
                [(self, {"value": mx.array(float(scale)), "streak": mx.array(streak)})],
            )
        ]

    @property
    def memory(self) -> dict[str, mx.array]:
        """The scale and the number of steps without an overflow, as arrays on the device."""
        return {key: self._cell.arrays[key] for key in ("value", "streak")}

    owners: ClassVar[tuple[Leaf, ...]] = ()
    """No scalar depends on the memory: those that contain the scale read it from the device."""

    def counts(self, memory: dict[str, mx.array]) -> None:
        """Return ``None``, as no scalar depends on the memory."""

    def put(self, memory: dict[str, mx.array]) -> None:
        """Set the scale and the number of steps without an overflow."""
        self._cell.arrays.update(memory)


def _on_all_ranks(finite: mx.array, grads: list[mx.array]) -> tuple[mx.array, list[mx.array]]:
    """Return whether a bool is true on all ranks, and gradients that depend on the result.

    The dependency makes all ranks run this reduction before one that averages the gradients,
    in whichever order the arrays are evaluated.
    """
    if mx.distributed.init().size() == 1:
        return finite, grads
    overflows = mx.distributed.all_sum(mx.logical_not(finite).astype(mx.int32))
    return overflows == 0, mx.depends(grads, overflows)


def _item(array: Any) -> float:
    return float(array.item())


def _keep_if(finite: Any, now: Any, before: Any) -> None:
    """Restore the changed arrays in a container, within the graph, if not ``finite``."""
    for key, value in list(now.items() if isinstance(now, dict) else enumerate(now)):
        if isinstance(value, (dict, list, tuple)):
            _keep_if(finite, value, before[key])
        elif isinstance(value, mx.array) and value is not before[key]:
            now[key] = mx.where(finite, value, before[key])
