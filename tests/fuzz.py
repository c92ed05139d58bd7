"""Broken texts, configs and files, which must raise only the documented errors.

``python -m tests.fuzz 1000000`` tries a million inputs, ``test_fuzz.py`` a few thousand.
"""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from scalars import Linear, Phase, Phases, Recorder, ScalarGroup, from_config, parse, to_config

from .cases import CASES

PLAIN = [case.make() for case in CASES if "LambdaValue" not in str(case)]
PLANS = [
    ScalarGroup({"lr": Linear(0.1, 0.0) * 2, "layers.0.p": Linear(0.0, 1.0)}),
    Phases([Phase(1, lr=Linear(0.0, 0.1), size=[8, 8]), Phase(2, batch=64)]),
]
TEXTS = [repr(one) for one in [*PLAIN, *PLANS]]
CONFIGS = [
    *(to_config(one) for one in [*PLAIN, *PLANS]),
    {"lr_schedule": {"name": "cosine_decay", "warmup": 9, "arguments": [1.0, 90]}, "iters": 100},
    {"lr_schedule": {"name": "step_decay", "arguments": [1.0, 0.5, 40]}, "iters": 100},
]
TOKENS = [
    *"()[]{},.+-*/%=:'\"\\\0\n\t #@~^&|<>!;$_",
    *("**", "//", "1", "-1", "0.5", "1e999", "1e-400", "nan", "inf", "None", "True", "9" * 50),
    *("lambda: 0", "Linear", "Warmup(", "Phase(", "ScalarGroup(", "abs(", "clip(", "LambdaValue("),
    *("x", "start=", "curve=", "'cosine'", "__class__", "import os", "if", "é", "\ud800", "\u202e"),
]
WORDS = ["-1", "0", "2", "1e-3", "1e308", "'x'", "None", "True", "[0.5]", "end", "Linear", "()"]
VALUES: list[Any] = [
    *(None, True, 0, -1, 1, 3, 0.5, 1e308, -1e-308, 10**400, float("nan"), float("inf"), "", "x"),
    *([], {}, [[]], {"name": "Linear"}, {"name": []}, {"operation": "add"}, {"group": 1}),
    *({1: 2}, ["Linear"], "Linear(0, 1)", "cosine", b"x", object(), (1, 2), {"phases": [1]}),
]


def broken_text(chosen: random.Random, texts: list[str]) -> str:
    """Return a text that is randomly cut, doubled, joined and changed."""
    text = chosen.choice(texts)
    for _ in range(chosen.randint(1, 4)):
        i, j = sorted(chosen.randint(0, len(text)) for _ in range(2))
        way = chosen.randrange(12)
        if way == 0:
            text = text[:i] + text[j:]
        elif way == 1:
            text = text[:j] + text[i:]
        elif way == 2:
            text = text[:i] + chosen.choice(TOKENS) + text[i:]
        elif way == 3:
            text = text[:i] + chosen.choice(TOKENS) + text[min(i + 1, len(text)) :]
        elif way == 4:
            other = chosen.choice(texts)
            text = text[:i] + other[chosen.randint(0, len(other)) :]
        elif way == 5:
            text = text[:i] + text[i:j][::-1] + text[j:]
        elif words := list(re.finditer(r"[\w.]+", text)):  # one argument or name for another
            i, j = chosen.choice(words).span()
            text = text[:i] + chosen.choice(WORDS) + text[j:]
    return text[:3000]


def broken_config(chosen: random.Random, config: Any) -> Any:
    """Return plain data in which something is missing, added or replaced."""
    if chosen.random() < 0.2 or not isinstance(config, (dict, list)):
        return chosen.choice(VALUES) if chosen.random() < 0.7 else chosen.choice(CONFIGS)
    if isinstance(config, list):
        items = list(config)
        if items and chosen.random() < 0.8:
            i = chosen.randrange(len(items))
            items[i] = broken_config(chosen, items[i])
        else:
            items.append(chosen.choice(VALUES))
        return items
    made = dict(config)
    if made and chosen.random() < 0.8:
        key = chosen.choice(list(made))
        if chosen.random() < 0.2:
            del made[key]
        else:
            made[key] = broken_config(chosen, made[key])
    else:
        made[chosen.choice(["name", "start", "operands", "curve", 3, ""])] = chosen.choice(VALUES)
    return made


def saved() -> list[str]:
    group = ScalarGroup(lr=Linear(1.0, 0.0))
    recorder = Recorder(group)
    for step in range(3):
        group.update(step / 3)
        recorder.log(loss=float("nan") if step else 2.0)
    with tempfile.TemporaryDirectory() as folder:
        recorder.save(Path(folder) / "a")
        return [(Path(folder) / "a").read_text()]


def try_all(count: int, seed: int) -> Counter[str]:
    """Try ``count`` inputs and count the results; undocumented errors are raised."""
    chosen, outcomes = random.Random(seed), Counter[str]()
    files, slowest = saved(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        for i in range(count):
            way = ("parse", "from_config", "load")[i % 3]
            given: Any = broken_text(chosen, files if way == "load" else TEXTS)
            if way == "from_config":
                given = broken_config(chosen, chosen.choice(CONFIGS))
            begin = time.perf_counter()
            try:
                if way == "parse":
                    parse(given)
                elif way == "from_config":
                    from_config(given)
                else:
                    path.write_bytes(given.encode("utf-8", "surrogatepass"))
                    Recorder().load(path)
                outcomes[f"{way}: accepted"] += 1
            except (ValueError, TypeError) as error:
                if " must be " not in str(error):
                    raise AssertionError(f"{way} of {given!r} gave {error!r}") from error
                outcomes[f"{way}: {type(error).__name__}"] += 1
            except BaseException as error:
                raise AssertionError(f"{way} of {given!r} gave {error!r}") from error
            slowest = max(slowest, time.perf_counter() - begin)
    outcomes["slowest, in ms"] = round(slowest * 1e3)
    return outcomes


if __name__ == "__main__":
    print(json.dumps(try_all(int(sys.argv[1]), seed=int([*sys.argv, "0"][2])), indent=1))
