"""The flags of SambaFlow's trainers, and a run that stops and is resumed."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from typing import Any

import pytest

from scalars import Linear, ScheduledScalar, add_arguments, from_arguments, register
from scalars.tools.registry import known_too


def lr_of(flags: str) -> ScheduledScalar:
    parser = ArgumentParser()
    add_arguments(parser)
    return from_arguments(parser.parse_args(flags.split()))


@pytest.mark.parametrize(
    ("flags", "values"),
    [
        # By hand, at steps 0, 10, 20, 60 and 100 of 100.
        ("", [1e-3] * 5),
        ("--learning_rate 0.5 --max_steps 100", [0.5] * 5),
        (
            "--lr_schedule cosine_schedule_with_warmup --learning_rate 2 --warmup_steps 20 --max_steps 100",
            [0, 1, 2, 1.1, 0.2],
        ),
        (
            "--lr_schedule cosine_schedule_with_warmup --learning_rate 2 --warmup_steps 20 "
            "--max_steps 100 --end_lr_ratio 0",
            [0, 1, 2, 1, 0],
        ),
        (
            "--lr_schedule polynomial_decay_schedule_with_warmup --learning_rate 2 "
            "--warmup_steps 20 --max_steps 100",
            [0, 1, 2, 1, 0],
        ),
        (
            "--lr_schedule step_schedule --learning_rate 4 --decay_steps 20 --decay_gamma 0.5 --max_steps 100",
            [4, 4, 2, 0.5, 0.25],
        ),
        (
            "--lr_schedule step_schedule --learning_rate 4 --decay_steps 20 --decay_gamma 0.5 "
            "--max_steps 100 --warmup_steps 20 --steps_this_run 30",
            [0, 2, 4, 1, 0.5],
        ),
        (
            "--lr_schedule step_schedule --learning_rate 4 --decay_steps 500 --decay_gamma 0.5 --max_steps 100",
            [4] * 5,
        ),
        ("--lr_schedule linear --learning_rate 1 --max_steps 100", [1, 0.9, 0.8, 0.4, 0]),
        (
            "--lr_schedule warmup_stable_decay --learning_rate 1 --max_steps 100 --decay_steps 80",
            [1, 1, 1, 0.5, 0],
        ),
        ("--lr_schedule Linear(2,1)", [2, 1.9, 1.8, 1.4, 1]),
    ],
)  # fmt: skip
def test_values(flags: str, values: list[float]) -> None:
    lr = lr_of(flags)
    steps = [lr.at(step / 100) for step in (0, 10, 20, 60, 100)]
    if "step_schedule" in flags and "500" not in flags:
        steps[-1] = lr.at(0.999)  # at the end the next decay would be due
    assert steps == pytest.approx(values, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--lr_schedule linear", "--max_steps must be given for linear"),
        ("--lr_schedule step_schedule --max_steps 9", "--decay_steps must be given for step_sched"),
        ("--lr_schedule step_schedule --max_steps 9 --decay_steps 3", "--decay_gamma must be given"),
        ("--lr_schedule warmup_stable_decay --max_steps 9", "--decay_steps must be given for warm"),
        ("--lr_schedule linaer --max_steps 9", "--lr_schedule must be one of 'constant'.*'step_sc"),
        ("--lr_schedule Linaer(1,2)", "Did you mean Linear"),
        ("--lr_schedule linear --max_steps 0", "--max_steps must be a whole number of at least 1"),
        ("--lr_schedule linear --max_steps 9 --warmup_steps 10", "from 0 to total_steps, 9"),
        ("--lr_schedule linear --max_steps 9 --warmup_steps -1", "--warmup_steps must be a whole"),
        ("--lr_schedule linear --max_steps 9 --learning_rate -1", "peak must be"),
        ("--lr_schedule linear --max_steps 9 --end_lr_ratio 2", "end_ratio must be a fraction"),
        ("--lr_schedule cosine --max_steps 9 --decay_steps 5", "--decay_steps must be left out with"),
        ("--lr_schedule linear --max_steps 9 --decay_gamma 0.5", "--decay_gamma must be left out"),
        ("--lr_schedule fixed_lr --end_lr_ratio 0.5", "--end_lr_ratio must be left out with .* fix"),
        ("--warmup_steps 5", "--warmup_steps must be left out with --lr_schedule fixed_lr, which does"),
        ("--lr_schedule Linear(2,1) --warmup_steps 5 --max_steps 9", "--warmup_steps must be left out"),
        (
            "--lr_schedule step_schedule --max_steps 9 --decay_steps 3 --decay_gamma 1 --end_lr_ratio 1",
            "--end_lr_ratio must be left out with --lr_schedule step_schedule",
        ),
        ("--warmup_steps 5", "Remove it, or pass --warmup_steps 0 if the script sets it."),
        ("--lr_schedule linear --max_steps 9 --end_lr_ratio 2", "of the peak, from 0 to 1, got 2.0"),
        ("--steps_this_run 0", "--steps_this_run must be a whole number of at least 1, got 0"),
        ("--lr_schedule ScalarGroup(a=Linear(1,2))", "--lr_schedule must be a scheduled scalar"),
    ],
)  # fmt: skip
def test_bad_flags(flags: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lr_of(flags)


def test_what_argparse_checks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lr_of("--warmup_steps ten")
    assert "argument --warmup_steps: invalid int value: 'ten'" in capsys.readouterr().err
    with pytest.raises(TypeError, match="parser must be an ArgumentParser, got 3"):
        add_arguments(3)  # type: ignore[arg-type]


def test_the_users_own_schedules() -> None:
    def sawtooth(learning_rate: float, max_steps: int, decay_steps: int = 50) -> Any:
        return Linear(learning_rate, 0.0) * (decay_steps / max_steps)

    register("sawtooth", sawtooth)
    flags = "--lr_schedule sawtooth --learning_rate 2 --max_steps 200"
    assert lr_of(flags).at(0.5) == 0.25
    assert lr_of(f"{flags} --decay_steps 100").at(0.5) == 0.5
    with pytest.raises(ValueError, match="--max_steps must be given for sawtooth"):
        lr_of("--lr_schedule sawtooth")


def test_a_stopped_run_goes_on_where_it_was() -> None:
    flags = "--lr_schedule cosine --learning_rate 1 --max_steps 90"
    whole, first, second = lr_of(flags), lr_of(f"{flags} --steps_this_run 30"), lr_of(flags)
    values = [float(first.update(step / 90)) for step in range(30)]
    second.load_state_dict(first.state_dict())
    assert float(second) == float(first)
    values += [float(second.update(step / 90)) for step in range(30, 90)]
    assert values == [float(whole.update(step / 90)) for step in range(90)]
    assert values[30] == pytest.approx((1 + math.cos(math.pi / 3)) / 2)


def test_the_help_shows_the_defaults_of_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    add_arguments(parser)
    parser.set_defaults(learning_rate=0.125)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "(default: 0.125)" in capsys.readouterr().out


def test_what_has_none_of_the_flags() -> None:
    for wrong in ({"lr_schedule": "cosine", "max_steps": 9}, None, Namespace(lr=0.1)):
        with pytest.raises(TypeError, match="arguments must be a Namespace with the flags"):
            from_arguments(wrong)  # type: ignore[arg-type]


def test_a_factory_with_an_argument_that_no_flag_gives() -> None:
    with known_too({"Own": lambda start, learning_rate: Linear(start, learning_rate)}):
        given = Namespace(lr_schedule="Own", learning_rate=0.1)
        rule = "argument of Own without a default must be one of learning_rate, .* got 'start'"
        with pytest.raises(ValueError, match=rule):
            from_arguments(given)
