"""Turn a Git repository into a leak-free training dataset and a small code model that knows it.

    from pathlib import Path
    from git_starcoder import Recipe, build, check

    dataset = build("path/to/repository", Recipe.load("effectiveness"), Path("dataset"))
    for outcome in check(dataset):
        print(outcome.check, outcome.findings)

Names are imported when they are first used, so `import git_starcoder` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from git_starcoder.pipeline import build
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Finding

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

_MODULE_OF = {
    "Dataset": "dataset",
    "Finding": "records",
    "Outcome": "checks",
    "Recipe": "recipe",
    "Repo": "git.objects",
    "Row": "dataset",
    "build": "pipeline",
    "check": "checks",
}
"""The module that defines each public name; errors are in `errors`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
