"""A plural folder is a shelf: one file each, the file's name is its key, its first docstring line is its help."""

from __future__ import annotations

import ast
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

SUFFIXES = {"augmentations": ".py", "evals": ".py", "languages": ".toml", "recipes": ".yaml"}


def names(shelf: str) -> list[str]:
    """The keys on a shelf, sorted."""
    suffix = SUFFIXES[shelf]
    folder = files("git_starcoder") / shelf
    found = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(suffix) for name in found if name.endswith(suffix) and name != "__init__.py")


@cache
def load(shelf: str, key: str) -> ModuleType:
    """The module of a key on a shelf of Python files."""
    return import_module(f"git_starcoder.{shelf}.{key}")


def read(shelf: str, key: str) -> str:
    """The text of a key on a shelf of data files."""
    return (files("git_starcoder") / shelf / (key + SUFFIXES[shelf])).read_text(encoding="utf-8")


def summary(shelf: str, key: str) -> str:
    """The first docstring line of a key on a shelf of Python files."""
    told = load(shelf, key).__doc__
    if told is None:  # Python was told to leave docstrings out
        told = ast.get_docstring(ast.parse(read(shelf, key))) or ""
    return told.strip().partition("\n")[0]


def suggest(word: str, words: list[str]) -> str:
    """A hint that names the closest known word, or all of them."""
    close = get_close_matches(word, words, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(words)}."
