"""Finds the entries of registries.

A registry is a folder of this package in which each file is one entry: the file name is its key, the first line of its
docstring is its help. In `bases/`, each folder is one entry.
"""

from __future__ import annotations

import ast
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

SUFFIXES = {
    "augmentations": ".py", "bases": "/base.json", "languages": ".toml", "model/exports": ".py", "recipes": ".yaml",
}  # fmt: skip
"""What follows the key of an entry in the name of its file, for each registry."""

DEFAULT_RECIPE = "natural"
"""The recipe that is used where none is named."""


def names(registry: str) -> list[str]:
    """The keys of a registry, sorted."""
    suffix = SUFFIXES[registry]
    folder = files("git_starcoder") / registry
    if suffix.startswith("/"):
        return sorted(entry.name for entry in folder.iterdir() if (entry / suffix[1:]).is_file())
    file_names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(suffix) for name in file_names if name.endswith(suffix) and name != "__init__.py")


def base_folder(name: str) -> Path | None:
    """The folder of the base that has this name; None if there is none.

    An installed package is a folder, never an archive, so libraries can read its files.
    """
    return Path(str(files("git_starcoder") / "bases" / name)) if name in names("bases") else None


@cache
def load(registry: str, key: str) -> ModuleType:
    """The module of an entry of a registry of Python files."""
    return import_module(f"git_starcoder.{registry.replace('/', '.')}.{key}")


def read(registry: str, key: str) -> str:
    """The text of an entry."""
    return (files("git_starcoder") / registry / (key + SUFFIXES[registry])).read_text(encoding="utf-8")


def summary(registry: str, key: str) -> str:
    """The first line of the docstring of an entry of a registry of Python files."""
    text = load(registry, key).__doc__
    if text is None:  # `python -OO` removes docstrings
        text = ast.get_docstring(ast.parse(read(registry, key))) or ""
    return text.strip().partition("\n")[0]


def suggest(word: str, words: list[str]) -> str:
    """A hint that names the closest known word, or else all known words."""
    close = get_close_matches(word, words, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(words)}."
