"""The table of schedules in other libraries and what to write here instead."""

from __future__ import annotations

from .. import checks
from .registry import SCHEDULES

Row = tuple[str, str, str]
# Words that also find a library.
OTHER_NAMES = {
    "transformers": "huggingface hf",
    "diffusers": "huggingface hf",
    "keras": "tensorflow tf",
    "tensorflow": "tf",
    "composer": "mosaicml",
    "detectron2": "facebook",
    "mmengine": "openmmlab",
    "mmcv": "openmmlab",
    "megatron": "nvidia",
    "nemo": "nvidia",
    "ultralytics": "yolo",
    "stable-baselines3": "sb3 stable_baselines3",
    "rllib": "ray",
    "thinc": "spacy",
    "levanter": "marin",
    "parameterschedulers.jl": "flux julia",
    "burn": "rust",
}


def rows() -> list[Row]:
    """Return (library, call there, call here) rows from ``help(scalars.schedules)``."""
    from .. import schedules

    lines = (schedules.__doc__ or "").splitlines()
    return [
        (cells[0], cells[1], cells[2])
        for cells in ([cell.strip() for cell in line.split(" | ")] for line in lines)
        if len(cells) == 3
    ]


def matching(words: str) -> tuple[list[Row], list[str]]:
    """Return the rows whose library or call there contains every word, ignoring case.

    If there are none, return the names of the schedules whose docstring has every word where
    it names its sources: schedules that follow metrics are not in the table.
    """
    table = rows()
    paths = [word.split(".") for word in words.lower().split()]
    # The package and the last name of a path such as torch.optim.lr_scheduler.StepLR.
    wanted = [name for path in paths for name in (path[0], path[-1])]
    found = [row for row in table if _has(f"{row[0]} {row[1]}", wanted)]
    others: list[str] = []
    for name, made in () if found else SCHEDULES.items():
        _, _, source = (made.__doc__ or "").partition("[1]: ")
        if source and _has(f"{name} {source}", wanted):
            others.append(name)
    if not found and not others:
        libraries = ", ".join(dict.fromkeys(library for library, _, _ in table))
        way_out = f"Choose from the libraries {libraries}."
        checks.fail("the words", "part of a library and of one of its calls", words, way_out)
    return found, others


def _has(text: str, words: list[str]) -> bool:
    text = text.lower()
    known = " ".join([text, *[others for name, others in OTHER_NAMES.items() if name in text]])
    return all(word in known for word in words)
