"""A dataset as one page to look at: HTML without scripts, with everything in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_starcoder.errors import DatasetError
from git_starcoder.recipe import Recipe
from git_starcoder.report import (
    activity,
    certificate,
    curriculum,
    imports,
    model,
    page,
    samples,
    sizes,
    steps,
    tokens,
    tree,
)
from git_starcoder.report.parts import Subject
from git_starcoder.report.tally import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from git_starcoder.checks import Outcome
    from git_starcoder.dataset import Dataset

SECTIONS = (steps, sizes, tree, activity, imports, curriculum, tokens, certificate, samples, model)
"""In the order of the page."""


def report(
    dataset: Dataset, outcomes: Sequence[Outcome] = (), *, trained: Path | None = None,
    scores: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """The page about a dataset, what the checks found in it, and a model in the folder `trained` with its scores.

    Raises:
        DatasetError: the dataset or the model is damaged.
        MissingExtraError: a library of the extra `report` is not installed.
    """
    page.require()
    recipe = Recipe.load(dataset.folder / "recipe.yaml")
    opened = model.Model.open(trained) if trained else None
    subject = Subject(dataset, recipe, counted(dataset), outcomes, opened, scores or {})
    try:
        sections = [section for module in SECTIONS if (section := module.section(subject)) is not None]
        return page.page(subject, sections)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = "manifest.json, dataset_metadata.json"
        raise DatasetError(f"'{dataset.folder}' is damaged: {error}", where=where) from error
