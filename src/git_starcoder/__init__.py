"""Turns a Git repository into a leak-free training dataset and a small code model that knows it.

    from git_starcoder import Recipe, TrainConfig, build, check, evaluate, train

    dataset = build("path/to/repository", Recipe.load(), "dataset")
    for outcome in check(dataset):
        print(outcome.check, outcome.findings)
    train(dataset, "model", TrainConfig(minutes=8))
    print(evaluate("model", dataset).scores)

Names are imported when they are first used, so `import git_starcoder` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from git_starcoder.checks import Outcome, check
    from git_starcoder.dataset import Dataset, Row
    from git_starcoder.dataset.show import show
    from git_starcoder.errors import (
        DatasetError,
        MachineError,
        MissingExtraError,
        OutputError,
        RecipeError,
        RepositoryError,
        RevisionError,
        StarcoderError,
        UsageError,
    )
    from git_starcoder.git.objects import Repo
    from git_starcoder.model.complete import Model, complete
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.evaluate import Scores, evaluate
    from git_starcoder.model.training import TrainResult, train
    from git_starcoder.pipeline import build
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Finding

__all__ = [
    "Dataset",
    "DatasetError",
    "Finding",
    "MachineError",
    "MissingExtraError",
    "Model",
    "Outcome",
    "OutputError",
    "Recipe",
    "RecipeError",
    "Repo",
    "RepositoryError",
    "RevisionError",
    "Row",
    "Scores",
    "StarcoderError",
    "TrainConfig",
    "TrainResult",
    "UsageError",
    "build",
    "check",
    "complete",
    "evaluate",
    "show",
    "train",
]

MODULES = {
    "Dataset": "dataset",
    "Finding": "records",
    "Model": "model.complete",
    "Outcome": "checks",
    "Recipe": "recipe",
    "Repo": "git.objects",
    "Row": "dataset",
    "Scores": "model.evaluate",
    "TrainConfig": "model.config",
    "TrainResult": "model.training",
    "build": "pipeline",
    "check": "checks",
    "complete": "model.complete",
    "evaluate": "model.evaluate",
    "show": "dataset.show",
    "train": "model.training",
}
"""The module that defines each public name; errors are in `errors`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
