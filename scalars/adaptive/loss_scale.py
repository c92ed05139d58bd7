"""A loss scale that follows overflows: training in float16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from .. import checks
from ..checks import Count, Positive
from ..functions import P
from ..number import mlx_protocol
from ..number.cell import Cell, Pair
from ..number.together import Loadable
from ..schedules.base import Schedule

Tree = TypeVar("Tree")
LONGEST = 2**31 - 1
LARGEST = 2.0**127
"""The largest power of two in float32."""
UNCAPTURED = """\
{name} cannot observe while mx.compile traces a function that does not capture its \
state: the scale would stay what it is. Capture scale.state in inputs and in outputs, or \
attach(optimizer, scale=scale) and capture optimizer.state."""


def _above_1(name: str, value: Any) -> float:
    rule = "a finite real number above 1"
    if (number := checks.real(name, value, rule)) <= 1:
        checks.fail(name, rule, value, "Pass a number such as 2.0.")
    return number


class _OnDevice(Cell):
    """A cell whose value is an array: compiled functions change it, with no number on the host."""

    KEYS = ("value", "streak")

    def __init__(self, value: float) -> None:
        super().__init__(value)
        self.arrays.update(value=mx.array(float(value)), streak=mx.array(0))

    def read(self, use: bool = True) -> float | Pair:
        """Return the value as it is on the device: who only looks at it waits for a number."""
        if use or self.is_traced():
            return Pair(self.arrays["value"])
        return _item(self.arrays["value"])

    def is_traced(self) -> bool:
        """Return whether a function that captures the value is being traced."""
        return mlx_protocol.is_placeholder(self.arrays["value"])

    def refuse_update(self, owner: object) -> None:
        """Let it pass: the progress has nothing to do with the value."""

    def set(self, owner: object, progress: float, value: float) -> None:
        """Take the next progress, and no value."""
        self.progress, self.fresh = progress, False
        self.put_extras()

    def refresh(self) -> None:
        """Put what a checkpoint needs into the dict: the value is there."""
        self.put_extras()


class DynamicLossScale(Schedule):
    r"""Scale a float16 loss so that gradients neither vanish nor overflow.

    The scale is divided by ``factor``, down to ``minimum``, at a step whose gradients
    overflow, and multiplied by it after ``growth_interval`` steps without an overflow [1].
    It lives on the device: nothing waits for it but what asks for a number, such as
    ``float(scale)``, or the snapshot of a group that it is in. ``update`` does not change
    it.

    In a training step::

        loss, grads = loss_and_grad(model, x, y)  # of scale * loss, in float32
        grads, finite = scale.unscale(grads)
        scale.apply(optimizer, model, grads, finite)  # or skip the step

    A compiled step captures ``scale.state`` among its inputs and its outputs, or
    ``optimizer.state`` after ``attach(optimizer, scale=scale)``. Keep the parameters in
    float32 and cast them to float16 in the loss: an unscaled gradient keeps its dtype,
    and in float16 the small ones vanish.

    Args:
        initial: The scale at first, above 0. Default: ``2**15``.
        factor: What the scale is multiplied and divided by, above 1. Default: ``2.0``.
        growth_interval: The steps without an overflow until it grows. Default: ``2000``.
        minimum: The least scale, above 0, at most ``initial``. Default: ``1.0``.

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

    [1]: Micikevicius, P. et al., 2018. Mixed precision training. ICLR 2018. As PyTorch's
    ``GradScaler``, whose ``backoff_factor`` is 1 / factor here.
    """

    initial: Positive = 2.0**15
    factor: Annotated[float, _above_1] = 2.0
    growth_interval: Count = 2000
    minimum: Positive = 1.0

    for_users = ("apply", "unscale")
    on_device = True
    monotone_pieces = True

    def check_together(self) -> None:
        """Check that the scale starts in its range."""
        if not self.minimum <= self.initial <= LARGEST:
            rule = f"from minimum, {self.minimum}, to 2**127"
            way_out = "Pass a power of two such as 2**15."
            checks.fail("initial of DynamicLossScale", rule, self.initial, way_out)
        if self.growth_interval > LONGEST:
            name, rule = "growth_interval of DynamicLossScale", f"at most {LONGEST}"
            checks.fail(name, rule, self.growth_interval, "Pass a number such as 2000.")

    def _make_cell(self) -> Cell:
        return _OnDevice(self.initial)

    def unscale(self, grads: Tree) -> tuple[Tree, mx.array]:
        """Return the gradients of the loss itself, and whether all of them are finite.

        On several ranks it is whether those of all ranks are, so that every rank makes or
        skips the step. Gradients may be averaged before or after, or be the rank's shard of
        all; every rank must call it.

        Args:
            grads: The gradients of ``scale * loss``: a tree of arrays.

        Raises:
            ValueError: There are no gradients.
            TypeError: One of them is no array.
        """
        inverse = 1 / self._cell.arrays["value"]
        leaves: list[Any] = list(dict(tree_flatten(grads)).values())
        if not leaves or not all(isinstance(leaf, mx.array) for leaf in leaves):
            way_out, wrong = "Pass what value_and_grad returned.", bool(leaves)
            checks.fail("grads", "a tree of arrays", grads, way_out, wrong_type=wrong)
        finite = mx.stack([mx.isfinite(array).all() for array in leaves]).all()
        finite, leaves = _on_all_ranks(finite, leaves)
        in_order = iter(leaves)
        unscaled: Tree = tree_map(
            lambda array: (next(in_order).astype(mx.float32) * inverse).astype(array.dtype), grads
        )
        return unscaled, finite

    def observe(self, metric: Any) -> DynamicLossScale:
        """Adjust the scale, without waiting: ``metric`` is whether a step was finite.

        Args:
            metric: A bool, or an array of one, as ``unscale`` returns it.

        Returns:
            The scale itself.

        Raises:
            ValueError: ``mx.compile`` traces a function that does not capture the state.
            TypeError: ``metric`` is not a bool.
        """
        array = isinstance(metric, mx.array) and metric.dtype == mx.bool_ and metric.size == 1
        if not (array or isinstance(metric, bool)):
            way_out = "Pass the finite that unscale returned."
            checks.fail("finite", "True or False", metric, way_out, wrong_type=True)
        scale, streak = self._cell.arrays["value"], self._cell.arrays["streak"] + 1
        if mlx_protocol.is_tracing() and not self._cell.is_traced():
            raise ValueError(UNCAPTURED.format(name=repr(self)))
        grow = streak >= self.growth_interval
        grown = mx.where(grow, mx.minimum(scale * self.factor, LARGEST), scale)
        smaller = mx.maximum(scale / self.factor, self.minimum)
        streak = mx.where(mx.logical_and(metric, mx.logical_not(grow)), streak, 0)
        self.remember({"value": mx.where(metric, grown, smaller), "streak": streak})
        return self

    def apply(self, optimizer: Any, model: Any, grads: Any, finite: Any) -> None:
        """Update the model, or skip the step if it is not finite; then adjust the scale.

        A skipped step leaves the parameters and the whole state of the optimizer, its
        step count too, as they were.

        Args:
            optimizer: An MLX optimizer.
            model: The model that it updates.
            grads: The gradients that ``unscale`` returned.
            finite: The bool that ``unscale`` returned.

        Raises:
            ValueError: ``mx.compile`` traces a function that does not capture the state.
            TypeError: ``finite`` is not a bool.
        """
        optimizer.init(model.trainable_parameters())  # what has a state already keeps it
        containers = (model.state, optimizer.state)
        before = tree_map(lambda array: array, containers)
        optimizer.update(model, grads)
        for now, then in zip(containers, before, strict=True):
            _keep_if(finite, now, then)
        self.observe(finite)

    def value_at(self, progress: P) -> P:
        """Return the scale now, at any progress."""
        array = isinstance(progress, mx.array)
        scale: Any = self._cell.arrays["value"] if array else float(self)
        return scale + 0 * progress  # type: ignore[no-any-return]

    def prepare(self, progress: float) -> float:
        """Return a number that nobody uses: the scale is not read for a new progress."""
        return 0.0

    @property
    def extent(self) -> tuple[float, float]:
        """The smallest and the largest scale that there can be."""
        return self.minimum, LARGEST

    def state_dict(self) -> dict[str, Any]:
        """Return the scale and what it counts, in plain numbers: waits for the device."""
        streak = int(_item(self._cell.arrays["streak"]))
        return {"progress": self.progress, "scale": float(self), "streak": streak}

    def counted_in(self, arrays: Mapping[str, mx.array]) -> dict[str, Any]:
        """Return the scale and the steps without an overflow, from a dict of the cell."""
        return {"scale": _item(arrays["value"]), "streak": int(_item(arrays["streak"]))}

    def loadable(self, state: Mapping[str, Any]) -> list[Loadable]:
        """Return what ``load_all`` takes, checked; change nothing."""
        name = f"the state of {self!r}"
        checks.keys(name, state, ("progress", "scale", "streak"))
        progress = checks.progress(state["progress"])
        scale = checks.positive(f"scale in {name}", state["scale"])
        streak = checks.count(f"streak in {name}", state["streak"], least=0)
        return [
            (
                self,
                progress,
                [(self, {"value": mx.array(float(scale)), "streak": mx.array(streak)})],
            )
        ]

    @property
    def memory(self) -> dict[str, mx.array]:
        """The scale and the number of steps without an overflow, as they are on the device."""
        return {key: self._cell.arrays[key] for key in ("value", "streak")}

    def remember(self, memory: dict[str, mx.array]) -> None:
        """Take a scale and a number of steps."""
        self._cell.arrays.update(memory)


def _on_all_ranks(finite: mx.array, grads: list[mx.array]) -> tuple[mx.array, list[mx.array]]:
    """Return whether a bool is true on all ranks, and gradients that wait for that.

    Whoever averages them reduces after it then, on each rank, whatever is evaluated first.
    """
    if mx.distributed.init().size() == 1:
        return finite, grads
    overflows = mx.distributed.all_sum(mx.logical_not(finite).astype(mx.int32))
    return overflows == 0, mx.depends(grads, overflows)


def _item(array: Any) -> float:
    return float(array.item())


def _keep_if(finite: Any, now: Any, before: Any) -> None:
    """Put back what has changed in a container of arrays, in the graph, if not ``finite``."""
    for key, value in list(now.items() if isinstance(now, dict) else enumerate(now)):
        if isinstance(value, (dict, list, tuple)):
            _keep_if(finite, value, before[key])
        elif isinstance(value, mx.array) and value is not before[key]:
            now[key] = mx.where(finite, value, before[key])
