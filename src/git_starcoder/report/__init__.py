"""Writes a report about a dataset: one HTML page that needs no scripts and no other files.

The template escapes every text, and control characters are written out, because most texts come from the repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_starcoder.errors import DAMAGE_ERRORS, DatasetError
from git_starcoder.report import certificate, model, overview, page, repository, samples, statistics
from git_starcoder.report.render import render_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from git_starcoder.checks import Outcome
    from git_starcoder.dataset import Dataset

SECTIONS = (
    overview.steps_section,
    overview.sizes_section,
    repository.map_section,
    overview.activity_section,
    repository.imports_section,
    overview.curriculum_section,
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
    """Renders the report about a dataset, the outcomes of its checks and a model that was trained on it, as HTML.

    `scores` are those of the model, in the form that `eval --json` prints.

    Raises:
        DatasetError: The dataset or the model is damaged.
        MissingExtraError: A library of the extra `report` is not installed.
    """
    page.require_libraries()
    recipe = dataset.load_recipe()
    record = model.ModelRecord.open(model_folder) if model_folder else None
    report_input = page.ReportInput(dataset, recipe, statistics.count_rows(dataset), outcomes, record, scores or {})
    try:
        sections = [section for make_section in SECTIONS if (section := make_section(report_input)) is not None]
        place = str(dataset.metadata["source_repo"])
        return render_page(
            "Dataset report", place, _key_facts(report_input), sections, "Dataset digest:", dataset.digest
        )
    except DAMAGE_ERRORS as error:
        where = "manifest.json, dataset_metadata.json"
        raise DatasetError(f"'{dataset.folder}' is damaged: {error}", where=where) from error


def _key_facts(report_input: page.ReportInput) -> list[tuple[str, str]]:
    """The facts at the top of the page, as pairs of name and value."""
    statistics, dataset = report_input.statistics, report_input.dataset
    total, train = statistics.total(), statistics.total(split="train")
    return [
        ("rows", f"{total.rows:,}"),
        ("tokens in the loss", f"{total.tokens:,}"),
        ("share of tokens held out", page.percent(total.tokens - train.tokens, total.tokens)),
        ("files", f"{len(statistics.splits_of['files']):,}"),
        ("languages", f"{len(statistics.values('language')):,}"),
        ("recipe", report_input.recipe.name),
        ("commit", str(dataset.manifest["commit"])[:12]),
        ("commit date", str(dataset.metadata["creation_date"])[:10]),
    ]
