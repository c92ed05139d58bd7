"""A short run of the fuzzer in ``fuzz.py``."""

from __future__ import annotations

from .fuzz import try_all


def test_broken_inputs_give_the_documented_errors() -> None:
    outcomes = try_all(6_000, seed=1)
    for way in ("parse", "from_config", "load"):
        assert outcomes[f"{way}: accepted"] > 5, way
        assert outcomes[f"{way}: ValueError"] > 100, way
        assert outcomes[f"{way}: TypeError"] > 5, way
