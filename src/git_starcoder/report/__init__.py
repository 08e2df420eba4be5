"""Writes a report about a dataset: one HTML page that needs no scripts and no other files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_starcoder.errors import DatasetError
from git_starcoder.recipe import Recipe
from git_starcoder.report import certificate, model, overview, page, repository, samples, statistics, timelines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from git_starcoder.checks import Outcome
    from git_starcoder.dataset import Dataset

SECTIONS = (
    overview.steps_section,
    overview.sizes_section,
    repository.map_section,
    timelines.activity_section,
    repository.imports_section,
    timelines.curriculum_section,
    overview.lengths_section,
    certificate.certificate_section,
    samples.samples_section,
    model.model_section,
)
"""The sections in the order of the page. A function returns None if the dataset has nothing to show there."""


def report(
    dataset: Dataset, outcomes: Sequence[Outcome] = (), *, model_folder: Path | None = None,
    scores: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Renders the report about a dataset as HTML.

    Args:
        dataset: The dataset.
        outcomes: The outcomes of its checks, if they were run.
        model_folder: The folder of a model that was trained on the dataset.
        scores: The scores of the model, in the form that `eval --json` prints.

    Raises:
        DatasetError: The dataset or the model is damaged.
        MissingExtraError: A library of the extra `report` is not installed.
    """
    page.require_libraries()
    recipe = Recipe.load(dataset.folder / "recipe.yaml")
    record = model.ModelRecord.open(model_folder) if model_folder else None
    report_input = page.ReportInput(dataset, recipe, statistics.count_rows(dataset), outcomes, record, scores or {})
    try:
        sections = [section for make_section in SECTIONS if (section := make_section(report_input)) is not None]
        return page.render_page(report_input, sections)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = "manifest.json, dataset_metadata.json"
        raise DatasetError(f"'{dataset.folder}' is damaged: {error}", where=where) from error
