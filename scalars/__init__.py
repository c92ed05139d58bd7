"""Scheduled scalars for MLX: numbers that change while a model trains.

A schedule is a number. Give it to an optimizer, a layer or a loss in place of a
float, and tell it how far the run is: ``lr.update(step / total)``.

What it offers; each has its own help, such as ``help(scalars.Warmup)``:

- Schedules: Constant, Linear, Polynomial, CosineAnnealing, Exponential, InverseSqrt,
  InverseTime, Tanh, Rex, StepDecay, MultiStepDecay, PiecewiseConstant,
  PiecewiseInterpolate, CosineAnnealingWarmRestarts, Cyclic, OneCycle, LambdaValue.
- Schedules made of schedules: Warmup, WarmupStableDecay, Sequence, Repeat, Reversed,
  Truncated, Staircase, Warp; arithmetic, minimum, maximum, clip, exp, log, sqrt, sin, cos,
  tanh, floor.
- Driven by metrics and gradients: ReduceOnPlateau, NewBob, Greedy, ThresholdSwitch,
  EarlyStopping, DynamicLossScale.
- Optimizers: attach, detach, layer_optimizer, layer_scales, no_decay; ScheduleFreeAdamW,
  ScheduleFreeSGD, recompute_batch_norm.
- A run: ScalarGroup, Horizon, Phases, Phase; sync_ranks, for several processes.
- To see and to choose: plot, Recorder, ReportCallback, find_learning_rate,
  LearningRateTest.
- Text, data and flags: parse, from_config, to_config, from_name, add_arguments,
  from_arguments, register.
- Base classes: Schedule, for schedules of your own; ScheduledScalar, what all scalars
  are. ByStep is what ``by_step`` returns.

The parts of the package, from the top down; each imports only from those below it:

- ``tools``: text, configs and flags, records, plots, the learning rate range test.
- ``optimizers``: scalars in the state of an optimizer, rates by layer, Schedule-Free.
- ``training``: many scalars updated at once (``group``), steps and epochs as
  fractions of the run (``horizon``), a run as data (``phases``), several ranks (``ranks``).
- ``adaptive``: scalars that metrics and overflows change.
- ``schedules``: functions of the progress of a run.
- ``arithmetic``: functions of scalars, such as ``minimum``.
- ``number``: the object that MLX accepts as a number: its protocol, its operators, and
  the storage of its value.
- ``appearance``, ``checks``, ``functions``, ``table``, ``sketch``, ``terminal`` and ``words``:
  helpers of all parts. Your own schedules can use ``checks`` and ``functions``, too.

Modules that not every run needs are imported at their first use.
"""

import sys
from typing import TYPE_CHECKING

from .arithmetic import clip as clip
from .arithmetic import cos as cos
from .arithmetic import exp as exp
from .arithmetic import floor as floor
from .arithmetic import log as log
from .arithmetic import maximum as maximum
from .arithmetic import minimum as minimum
from .arithmetic import sin as sin
from .arithmetic import sqrt as sqrt
from .arithmetic import tanh as tanh
from .number.scalar import ScheduledScalar as ScheduledScalar
from .optimizers.attach import attach as attach
from .optimizers.attach import detach as detach
from .schedules.base import Schedule as Schedule
from .table import ByStep as ByStep
from .training.group import ScalarGroup as ScalarGroup
from .training.horizon import Horizon as Horizon

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .adaptive.early_stopping import EarlyStopping as EarlyStopping
    from .adaptive.greedy import Greedy as Greedy
    from .adaptive.loss_scale import DynamicLossScale as DynamicLossScale
    from .adaptive.plateau import NewBob as NewBob
    from .adaptive.plateau import ReduceOnPlateau as ReduceOnPlateau
    from .adaptive.threshold import ThresholdSwitch as ThresholdSwitch
    from .optimizers.batch_norm import recompute_batch_norm as recompute_batch_norm
    from .optimizers.layers import layer_optimizer as layer_optimizer
    from .optimizers.layers import layer_scales as layer_scales
    from .optimizers.layers import no_decay as no_decay
    from .optimizers.schedule_free import ScheduleFreeAdamW as ScheduleFreeAdamW
    from .optimizers.schedule_free import ScheduleFreeSGD as ScheduleFreeSGD
    from .schedules.annealing import Constant as Constant
    from .schedules.annealing import CosineAnnealing as CosineAnnealing
    from .schedules.annealing import Exponential as Exponential
    from .schedules.annealing import InverseSqrt as InverseSqrt
    from .schedules.annealing import InverseTime as InverseTime
    from .schedules.annealing import Linear as Linear
    from .schedules.annealing import Polynomial as Polynomial
    from .schedules.annealing import Rex as Rex
    from .schedules.annealing import Tanh as Tanh
    from .schedules.composition import Repeat as Repeat
    from .schedules.composition import Reversed as Reversed
    from .schedules.composition import Sequence as Sequence
    from .schedules.composition import Staircase as Staircase
    from .schedules.composition import Truncated as Truncated
    from .schedules.composition import Warmup as Warmup
    from .schedules.composition import WarmupStableDecay as WarmupStableDecay
    from .schedules.composition import Warp as Warp
    from .schedules.cyclic import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
    from .schedules.cyclic import Cyclic as Cyclic
    from .schedules.cyclic import OneCycle as OneCycle
    from .schedules.functional import LambdaValue as LambdaValue
    from .schedules.stepwise import MultiStepDecay as MultiStepDecay
    from .schedules.stepwise import PiecewiseConstant as PiecewiseConstant
    from .schedules.stepwise import PiecewiseInterpolate as PiecewiseInterpolate
    from .schedules.stepwise import StepDecay as StepDecay
    from .tools.config import from_config as from_config
    from .tools.config import to_config as to_config
    from .tools.flags import add_arguments as add_arguments
    from .tools.flags import from_arguments as from_arguments
    from .tools.lr_finder import LearningRateTest as LearningRateTest
    from .tools.lr_finder import find_learning_rate as find_learning_rate
    from .tools.names import from_name as from_name
    from .tools.parsing import parse as parse
    from .tools.plotting import plot as plot
    from .tools.recording import Recorder as Recorder
    from .tools.registry import register as register
    from .tools.report_callback import ReportCallback as ReportCallback
    from .training.phases import Phase as Phase
    from .training.phases import Phases as Phases
    from .training.ranks import sync_ranks as sync_ranks

_LATER = {
    name: module
    for module, names in {
        "schedules.annealing": (
            "Constant CosineAnnealing Exponential InverseSqrt InverseTime Linear Polynomial "
            "Rex Tanh"
        ),
        "schedules.composition": (
            "Repeat Reversed Sequence Staircase Truncated Warmup WarmupStableDecay Warp"
        ),
        "schedules.cyclic": "CosineAnnealingWarmRestarts Cyclic OneCycle",
        "schedules.functional": "LambdaValue",
        "schedules.stepwise": "MultiStepDecay PiecewiseConstant PiecewiseInterpolate StepDecay",
        "adaptive.loss_scale": "DynamicLossScale",
        "adaptive.early_stopping": "EarlyStopping",
        "adaptive.greedy": "Greedy",
        "adaptive.plateau": "NewBob ReduceOnPlateau",
        "adaptive.threshold": "ThresholdSwitch",
        "training.phases": "Phase Phases",
        "training.ranks": "sync_ranks",
        "optimizers.layers": "layer_optimizer layer_scales no_decay",
        "optimizers.schedule_free": "ScheduleFreeAdamW ScheduleFreeSGD",
        "optimizers.batch_norm": "recompute_batch_norm",
        "tools.config": "from_config to_config",
        "tools.flags": "add_arguments from_arguments",
        "tools.lr_finder": "LearningRateTest find_learning_rate",
        "tools.names": "from_name",
        "tools.parsing": "parse",
        "tools.plotting": "plot",
        "tools.recording": "Recorder",
        "tools.registry": "register",
        "tools.report_callback": "ReportCallback",
    }.items()
    for name in names.split()
}
"""The modules of the names that are imported at their first use."""


def __getattr__(name: str) -> object:
    if name == "__all__" and sys._getframe(1).f_globals.get("__name__") != "pydoc":
        return _names()  # but not to help(), which would print the docstring of every name
    if name not in _LATER:
        from difflib import get_close_matches

        message = f"module 'scalars' has no attribute {name!r}"
        if close := get_close_matches(name, _names(), 1, 0.6):
            message += f". Did you mean {close[0]!r}?"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
    from importlib import import_module

    found: object = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = found
    return found


def _names() -> list[str]:
    """Return the names for ``from scalars import *``, which imports all modules."""
    eager = [name for name, value in globals().items() if callable(value) and name[0] != "_"]
    return sorted({*eager, *_LATER})


def __dir__() -> list[str]:
    special = [name for name in globals() if name.startswith("__")]
    return [*_names(), "checks", "functions", "schedules", *special]
