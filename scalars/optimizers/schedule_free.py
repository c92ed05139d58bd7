"""Schedule-Free SGD and AdamW, which average iterates instead of using a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from .. import checks
from ..number.scalar import ScheduledScalar
from .interpolation import Number, inside
from .kernels import adamw, sgd

Rate = Number | Callable[[mx.array], mx.array]


class _ScheduleFree(Optimizer):
    """The common part of the two optimizers: z, the average x, and the point y between them.

    While training, the parameters are y and z is in the state; x is computed from both. In the
    evaluation position the parameters are x, and y is kept in the state, so that switching
    back is exact.
    """

    def __init__(
        self,
        learning_rate: Rate,
        weight_decay: Number,
        warmup_steps: int,
        r: float,
        weight_lr_power: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        name = type(self).__name__
        if not callable(learning_rate):
            checks.at_least_0(f"learning_rate of {name}", learning_rate)
        if not isinstance(weight_decay, ScheduledScalar):
            checks.at_least_0(f"weight_decay of {name}", weight_decay)
        self._maybe_schedule("learning_rate", learning_rate)
        self.weight_decay = weight_decay
        self.warmup_steps = checks.count(f"warmup_steps of {name}", warmup_steps, least=0)
        self.r = checks.at_least_0(f"r of {name}", r)
        self.weight_lr_power = checks.at_least_0(f"weight_lr_power of {name}", weight_lr_power)
        self._training = True
        self._step: dict[str, mx.array] = {}

    @property
    def _interpolation(self) -> Number:
        """The weight of x in y, which is the momentum or the first of the betas."""
        raise NotImplementedError

    # The state ------------------------------------------------------------------

    def init(self, parameters: Any) -> None:
        """Initialize the state; z starts at the parameters."""
        super().init(parameters)
        dtypes = {array.dtype for array in dict(tree_flatten(parameters)).values()}
        wide = mx.float64 if mx.float64 in dtypes else mx.float32
        if "weight_sum" not in self._state:
            self._state["weight_sum"] = mx.array(0.0, wide)
            self._state["lr_max"] = mx.array(0.0, wide)
            self._state["interpolation"] = _array(self._interpolation, wide)
            self._state["training"] = mx.array(True)

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        """Initialize the state of a parameter."""
        state["z"] = parameter

    @property
    def state(self) -> dict[str, Any]:
        """The state, which also stores the position; it contains only arrays."""
        return self._state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._initialized = False
        self._state = state
        position: Any = state.get("training", mx.array(True))
        self._training = bool(position.item())

    # A step ---------------------------------------------------------------------

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        """Apply the gradients at y and return the next y."""
        if not self._training:
            way_out = "Call optimizer.train(model) before you continue training."
            rule = "in the training position to be updated"
            checks.fail(type(self).__name__, rule, "the evaluation position", way_out)
        if not self._initialized:  # MLX would initialize it from the gradients
            self.init(tree_map(lambda _, parameter: parameter, gradients, parameters))
        self._step = {}
        try:
            return super().apply_gradients(gradients, parameters)
        finally:
            self._step = {}

    @property
    def _now(self) -> dict[str, mx.array]:
        """The coefficients of this step, which all parameters share."""
        if not self._step:
            self._step = self._numbers()
        return self._step

    def _numbers(self) -> dict[str, mx.array]:
        """Update the sums and return the coefficients of y' = y + c (z - y) + k (z' - z)."""
        state, wide = self._state, self._state["weight_sum"].dtype
        step = self.step.astype(wide)
        rate = self.learning_rate.astype(wide)
        if self.warmup_steps:
            rate = rate * mx.minimum(step / self.warmup_steps, 1.0)
        highest = mx.maximum(rate, state["lr_max"])
        weight = step**self.r * highest**self.weight_lr_power
        total = state["weight_sum"] + weight
        c = mx.where(total > 0, weight / total, 0.0)
        beta = _array(self._interpolation, wide)
        moved = beta / state["interpolation"]  # 1 unless the interpolation has changed
        state.update(lr_max=highest, weight_sum=total, interpolation=beta)
        # A changed interpolation first moves y to z + moved (y - z), which keeps x the same.
        return {"rate": rate, "c": c + (1 - c) * (1 - moved), "k": 1 - beta * (1 - c)}

    # Positions ------------------------------------------------------------------

    def eval(self, model: nn.Module) -> None:
        """Set the parameters of the model to the average x, for evaluation and saving.

        If they are at x already, nothing changes.

        Args:
            model: The model that the optimizer updates.

        Raises:
            ValueError: No update was made yet, or the parameters of the model do not match
                those that were updated.
        """
        averages = self._averages(model)
        if self._training:
            states = self._states()
            for path, parameter in self._own(model).items():
                states[path]["y"] = parameter
            self._move(model, averages, training=False)

    def train(self, model: nn.Module) -> None:
        """Set the parameters of the model back to y, exactly as before ``eval``.

        If they are at y already, nothing changes.

        Args:
            model: The model that the optimizer updates.

        Raises:
            ValueError: The parameters of the model do not match those that were updated.
        """
        if not self._training:
            self._own(model)
            points = {path: state.pop("y") for path, state in self._states().items()}
            self._move(model, points, training=True)

    def eval_parameters(self, model: nn.Module) -> Any:
        """Return the average x as a tree of parameters, without changing the model.

        Args:
            model: The model that the optimizer updates.

        Raises:
            ValueError: No update was made yet, or the parameters of the model do not match
                those that were updated.
        """
        return tree_unflatten(list(self._averages(model).items()))

    def _averages(self, model: nn.Module) -> dict[str, mx.array]:
        if "weight_sum" not in self._state or not self.step.item():
            way_out = "Make an update first, as there is no average yet."
            checks.fail(type(self).__name__, "updated before eval", "no update", way_out)
        own, states = self._own(model), self._states()
        if not self._training:
            return own
        beta, wide = self._state["interpolation"], self._state["weight_sum"].dtype
        averages = {}
        for path, y in own.items():
            z = states[path]["z"].astype(wide)
            averages[path] = ((y.astype(wide) - (1 - beta) * z) / beta).astype(y.dtype)
        return averages

    def _states(self) -> dict[str, dict[str, Any]]:
        """Return the state of each parameter, by path."""
        return dict(_containing_z("", self._state))

    def _own(self, model: nn.Module) -> dict[str, mx.array]:
        """Return the parameters of the model that this optimizer updates, by path."""
        if not isinstance(model, nn.Module):
            way_out = "Pass the trained model."
            checks.fail("model", "an mlx.nn.Module", model, way_out, wrong_type=True)
        parameters: Any = dict(tree_flatten(model.parameters()))  # type: ignore[no-untyped-call]
        for path, state in self._states().items():
            shape = None if path not in parameters else parameters[path].shape
            if shape != state["z"].shape:
                rule = f"the one that was updated, with {path} of shape {state['z'].shape}"
                way_out = "Pass that model, or create a new optimizer."
                checks.fail("model", rule, shape, way_out)
        return {path: parameters[path] for path in self._states()}

    def _move(self, model: nn.Module, to: dict[str, mx.array], training: bool) -> None:
        model.update(tree_unflatten(list(to.items())))
        self._state["training"] = mx.array(training)
        self._training = training


class ScheduleFreeSGD(_ScheduleFree):
    r"""Schedule-Free SGD, which needs neither a schedule nor a fixed length of training [1].

    .. math::

        y_t &= (1 - \beta) z_t + \beta x_t \\
        z_{t+1} &= z_t - \gamma_t (\nabla f(y_t) + \lambda y_t) \\
        x_{t+1} &= (1 - c_t) x_t + c_t z_{t+1}, \quad c_t = w_t / \textstyle\sum_{i \le t} w_i

    with :math:`w_t = (t + 1)^r (\max_{i \le t} \gamma_i)^p`. While training, the parameters of
    the model are y. Evaluate and save the model at x: call ``eval(model)`` before and
    ``train(model)`` after it. With batch norm, call ``recompute_batch_norm`` in between.

    Args:
        learning_rate: The rate :math:`\gamma`, at least 0, usually larger than for SGD with
            a schedule.
        momentum: The interpolation :math:`\beta`, above 0 and below 1. Default: ``0.9``.
        weight_decay: The L2 penalty :math:`\lambda` at y. Default: ``0.0``.
        warmup_steps: The number of first steps in which the rate is multiplied by
            (t + 1) / ``warmup_steps``. Default: ``0``.
        r: The power of the step in the weights, at least 0. Default: ``0.0``.
        weight_lr_power: The power p of the largest rate so far, at least 0. Default: ``2.0``.

    The rate, the momentum and the decay may be scheduled scalars.

    Raises:
        ValueError: A number is out of its range.
        TypeError: An argument is of the wrong type.

    Example:
        >>> import mlx.core as mx
        >>> import mlx.nn as nn
        >>> from scalars import ScheduleFreeSGD
        >>> model = nn.Linear(1, 1, bias=False)
        >>> model.weight = mx.array([[1.0]])
        >>> optimizer = ScheduleFreeSGD(learning_rate=0.5, momentum=0.75)
        >>> for _ in range(2):
        ...     optimizer.update(model, {"weight": mx.array([[0.5]])})
        >>> optimizer.eval(model)
        >>> model.weight.item()  # the mean of z after steps 1 and 2
        0.625

    [1]: Defazio, A. et al., 2024. The road less scheduled. NeurIPS 2024.
    arXiv:2405.15682.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - as MLX's optimizers
        self,
        learning_rate: Rate,
        momentum: Number = 0.9,
        weight_decay: Number = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup_steps, r, weight_lr_power)
        self.momentum = inside("momentum of ScheduleFreeSGD", momentum)

    @property
    def _interpolation(self) -> Number:
        return self.momentum

    def _numbers(self) -> dict[str, mx.array]:
        numbers = super()._numbers()
        numbers["k"] = numbers["rate"] * (numbers["k"] - numbers["c"])
        if not isinstance(self.weight_decay, (int, float)) or self.weight_decay:
            numbers["decay"] = _array(self.weight_decay, numbers["rate"].dtype)
        return numbers

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Any) -> mx.array:
        """Update z and y of a parameter."""
        state["z"], y = sgd(gradient, parameter, state["z"], self._now)
        return y


class ScheduleFreeAdamW(_ScheduleFree):
    r"""Schedule-Free AdamW, which needs neither a schedule nor a fixed length of training [1].

    .. math::

        y_t &= (1 - \beta_1) z_t + \beta_1 x_t \\
        v_{t+1} &= \beta_2 v_t + (1 - \beta_2) \nabla f(y_t)^2 \\
        z_{t+1} &= z_t - \gamma_t \left(\frac{\nabla f(y_t)}
            {\sqrt{v_{t+1} / (1 - \beta_2^{t+1})} + \epsilon} + \lambda y_t\right) \\
        x_{t+1} &= (1 - c_t) x_t + c_t z_{t+1}, \quad c_t = w_t / \textstyle\sum_{i \le t} w_i

    with :math:`w_t = (t + 1)^r (\max_{i \le t} \gamma_i)^p`. The interpolation
    replaces the first moment. While training, the parameters of the model are y. Evaluate
    and save the model at x: call ``eval(model)`` before and ``train(model)`` after it. With
    batch norm, call ``recompute_batch_norm`` in between.

    Args:
        learning_rate: The rate :math:`\gamma`, at least 0, usually one to ten times that of
            AdamW with a schedule.
        betas: The interpolation :math:`\beta_1`, above 0 and below 1, and the decay
            :math:`\beta_2` of the second moment. Default: ``(0.9, 0.999)``.
        eps: The term that is added to the denominator. Default: ``1e-8``.
        weight_decay: The decay :math:`\lambda` at y. Default: ``0.0``.
        warmup_steps: The number of first steps in which the rate is multiplied by
            (t + 1) / ``warmup_steps``. Default: ``0``.
        r: The power of the step in the weights, at least 0. Default: ``0.0``.
        weight_lr_power: The power p of the largest rate so far, at least 0. Default: ``2.0``.

    The rate, the betas, eps and the decay may be scheduled scalars.

    Raises:
        ValueError: A number is out of its range.
        TypeError: An argument is of the wrong type.

    Example:
        >>> import mlx.core as mx
        >>> import mlx.nn as nn
        >>> from scalars import ScheduleFreeAdamW
        >>> model = nn.Linear(1, 1, bias=False)
        >>> model.weight = mx.array([[1.0]])
        >>> optimizer = ScheduleFreeAdamW(learning_rate=0.25, betas=(0.75, 0.5))
        >>> for _ in range(2):
        ...     optimizer.update(model, {"weight": mx.array([[2.0]])})
        >>> optimizer.eval(model)
        >>> model.weight.item()  # z moves by the rate: the mean of 0.75 and 0.5
        0.625

    [1]: Defazio, A. et al., 2024. The road less scheduled. NeurIPS 2024.
    arXiv:2405.15682.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - as MLX's optimizers
        self,
        learning_rate: Rate,
        betas: Sequence[Number] = (0.9, 0.999),
        eps: Number = 1e-8,
        weight_decay: Number = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup_steps, r, weight_lr_power)
        name = "betas of ScheduleFreeAdamW"
        if len(checks.sequence(name, betas)) != 2:
            checks.fail(name, "two numbers", betas, "Write (0.9, 0.999).")
        self.betas = [inside(f"item {i} of {name}", beta) for i, beta in enumerate(betas)]
        if not isinstance(eps, ScheduledScalar):
            checks.at_least_0("eps of ScheduleFreeAdamW", eps)
        self.eps = eps

    @property
    def _interpolation(self) -> Number:
        return self.betas[0]

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        """Initialize z and the second moment of a parameter."""
        super().init_single(parameter, state)
        state["v"] = mx.zeros_like(parameter)

    def _numbers(self) -> dict[str, mx.array]:
        numbers = super()._numbers()
        rate, step = numbers["rate"], self.step.astype(numbers["rate"].dtype)
        given = (self.betas[1], self.eps, self.weight_decay)
        beta, eps, decay = (_array(number, rate.dtype) for number in given)
        root = mx.sqrt(1 - beta**step)  # the bias correction of v, applied to the scalars
        rates = {"rate": rate * root, "eps": eps * root, "decay": rate * decay}
        return {**numbers, **rates, "beta": beta, "rest": 1 - beta}

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Any) -> mx.array:
        """Update z, y and the second moment of a parameter."""
        kept = state["z"], state["v"]
        state["v"], state["z"], y = adamw(gradient, parameter, *kept, self._now)
        return y


def _array(value: Number, dtype: mx.Dtype) -> mx.array:
    """Convert a number or a scalar to an array."""
    return (
        value.astype(dtype).array if isinstance(value, ScheduledScalar) else mx.array(value, dtype)
    )


def _containing_z(path: str, state: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield path and state of each parameter in a nested state."""
    if isinstance(state, dict) and isinstance(state.get("z"), mx.array):
        yield path, state
        return
    items = state.items() if isinstance(state, dict) else enumerate(state)
    for key, value in items:
        if isinstance(value, (dict, list, tuple)):
            yield from _containing_z(f"{path}.{key}" if path else str(key), value)
