"""Turn a Git repository into a leak-free training dataset and a small code model that knows it.

    from pathlib import Path
    from git_starcoder import Recipe, build, check

    dataset = build("path/to/repository", Recipe.load("effectiveness"), Path("dataset"))
    for outcome in check(dataset):
        print(outcome.check, outcome.findings)

Names are imported when they are first used, so `import git_starcoder` costs nothing.
"""

# ruff: noqa: TC004 - __all__ is served by __getattr__
from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from git_starcoder.build import build
    from git_starcoder.checks import Outcome, check
    from git_starcoder.dataset import Dataset, Row
    from git_starcoder.errors import (
        DatasetError,
        MissingExtraError,
        OutputError,
        RecipeError,
        RepositoryError,
        StarcoderError,
        UsageError,
    )
    from git_starcoder.git.objects import Repo
    from git_starcoder.recipe import Recipe
    from git_starcoder.rows import Finding

__all__ = [
    "Dataset",
    "DatasetError",
    "Finding",
    "MissingExtraError",
    "Outcome",
    "OutputError",
    "Recipe",
    "RecipeError",
    "Repo",
    "RepositoryError",
    "Row",
    "StarcoderError",
    "UsageError",
    "build",
    "check",
]

_HOME = {
    "Dataset": "dataset",
    "Finding": "rows",
    "Outcome": "checks",
    "Recipe": "recipe",
    "Repo": "git.objects",
    "Row": "dataset",
    "build": "build",
    "check": "checks",
}


class _Face(ModuleType):
    """The package. `build` is the function, also once its module of the same name has been imported."""

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
        setattr(self, name, found)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        # An import of a module below sets it here under its name.
        super().__setattr__(name, value.build if name == "build" and isinstance(value, ModuleType) else value)

    def __dir__(self) -> list[str]:
        return __all__


sys.modules[__name__].__class__ = _Face
