"""A training callback for trainers with mlx-lm's interface."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from .. import checks
from ..training.group import ScalarGroup, check_group
from .recording import Recorder


class ReportCallback:
    """Pass a trainer's validation loss to adaptive scalars, and record all its reports.

    mlx-lm, mlx-vlm and mlx-lm-lora call ``on_train_loss_report`` and ``on_val_loss_report`` of
    their ``training_callback``. Each report becomes a row of the recorder, with the values of
    the scalars after the observation and every number in the report under the trainer's name.
    Reports of the same iteration share a row while the scalars are at the same step. If the
    step of an optimizer drives the group, the values are those of the next step, as in every
    ``Recorder``. If a name is both in the report and in the group, such as ``learning_rate``,
    the value of the group is recorded.

    mlx-lm averages the loss over all ranks and reports it on each of them. mlx-vlm reports on
    rank 0 only, so adaptive scalars work with a single process there.

    Args:
        group: The result of ``attach``, or another group. Its adaptive scalars observe the
            validation loss.
        recorder: The recorder to fill. Default: ``None``, nothing is recorded.
        wrapped_callback: Another callback, which is called with every report afterwards.
            Default: ``None``.

    Raises:
        TypeError: An argument is of the wrong type.

    Example:
        >>> from scalars import Recorder, ReduceOnPlateau, ReportCallback, ScalarGroup
        >>> group = ScalarGroup(lr=ReduceOnPlateau(1.0, factor=0.5, patience=0)).update(0.0)
        >>> recorder = Recorder(group)
        >>> callback = ReportCallback(group, recorder)  # train(..., training_callback=callback)
        >>> for iteration, loss in (0, 3.0), (10, 3.5):  # as a trainer does
        ...     callback.on_val_loss_report({"iteration": iteration, "val_loss": loss})
        >>> recorder["lr"], recorder["val_loss"]
        ([1.0, 0.5], [3.0, 3.5])
    """

    def __init__(
        self,
        group: ScalarGroup,
        recorder: Recorder | None = None,
        wrapped_callback: Any = None,
    ) -> None:
        check_group(group)
        if recorder is not None and not isinstance(recorder, Recorder):
            way_out = "Write Recorder(group)."
            checks.fail("recorder", "a Recorder", recorder, way_out, wrong_type=True)
        for name in ("on_train_loss_report", "on_val_loss_report"):
            if wrapped_callback is not None and not hasattr(wrapped_callback, name):
                way_out = "Pass a training callback of the trainer."
                rule = f"a callback with {name}"
                checks.fail("wrapped_callback", rule, wrapped_callback, way_out, wrong_type=True)
        self.group = group
        self.recorder = recorder
        self.wrapped_callback = wrapped_callback

    def on_train_loss_report(self, train_info: Mapping[str, Any]) -> None:
        """Record a report of the training loss, and pass it on."""
        self._begin(train_info)
        self._fill(train_info)
        if self.wrapped_callback is not None:
            self.wrapped_callback.on_train_loss_report(train_info)

    def on_val_loss_report(self, val_info: Mapping[str, Any]) -> None:
        """Observe the ``val_loss`` in a report, record the report, and pass it on.

        Raises:
            ValueError: The group has an adaptive scalar, and the report has no ``val_loss``.
            TypeError: The group has an adaptive scalar, and ``val_loss`` is not a real number.
        """
        adaptive = any(leaf.listeners for scalar in self.group.values() for leaf in scalar.leaves)
        if adaptive:
            if "val_loss" not in val_info:
                rule, way_out = "a mapping with 'val_loss'", "Call group.observe(loss) yourself."
                checks.fail("val_info", rule, sorted(val_info), way_out)
            checks.metric(val_info["val_loss"], "val_loss")
        self._begin(val_info)
        if adaptive:
            self.group.observe(val_info["val_loss"])
        self._fill(val_info)
        if self.wrapped_callback is not None:
            self.wrapped_callback.on_val_loss_report(val_info)

    def _begin(self, info: Mapping[str, Any]) -> None:
        """Begin a row, unless the report belongs to the last one."""
        if (recorder := self.recorder) is not None:
            last = recorder.rows[-1] if len(recorder) else None
            if last is None or not _goes_into(last, self._numbers(info)):
                recorder.new_row()
                recorder(self.group.progress, self.group.snapshot())

    def _fill(self, info: Mapping[str, Any]) -> None:
        """Add a report and the current values to the last row."""
        if self.recorder is not None:
            self.recorder.log(**self._numbers(info))
            self.recorder.amend(self.group.snapshot())

    def _numbers(self, info: Mapping[str, Any]) -> dict[str, Any]:
        taken = {*self.group, "step", "progress"}
        return {name: x for name, x in info.items() if name not in taken and _is_number(x)}


def _goes_into(row: Mapping[str, Any], numbers: Mapping[str, Any]) -> bool:
    """Return whether a report belongs to a row: the same iteration, or no iteration yet."""
    if "iteration" in row:
        return bool(numbers.get("iteration") == row["iteration"])
    return not any(name in row for name in numbers)


def _is_number(value: Any) -> bool:
    """Return whether a value in a report is a number or an array of one number."""
    if isinstance(value, bool):
        return False
    return isinstance(value, Real) or bool(getattr(value, "size", 0) == 1)
