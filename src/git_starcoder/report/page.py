"""Renders a report: plain data (sections, figures, tables, samples) becomes one HTML page.

The template escapes every text, and control characters are written out, because most texts come from the repository.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.errors import MissingExtraError
from git_starcoder.matplotlib_setup import require_matplotlib
from git_starcoder.text.visible import escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from git_starcoder.checks import Outcome
    from git_starcoder.dataset import Dataset
    from git_starcoder.recipe import Recipe
    from git_starcoder.report.model import ModelRecord
    from git_starcoder.report.statistics import RowStatistics

REPORT_GENERATOR = "git starcoder report"
"""The page's `generator` tag. Only a file with this tag is overwritten by a new report."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose cells are already formatted as text."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    """The number of left-aligned columns at the start; the other columns are numbers."""
    folded: bool = True
    """Whether the table is hidden until the reader opens it, because a figure shows the same numbers."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart and the table with its numbers."""

    svg: Markup
    title: str
    caption: str
    table: Table
    wide: bool = False


class StyledText(NamedTuple):
    """A part of a sample's text in one style."""

    text: str
    style: str = ""
    """`changed`, `head` (context prefix, not in the loss), `control` (a control token) or empty."""


@dataclass(frozen=True, slots=True)
class SampleText:
    """The text of one row."""

    title: str
    location: str
    parts: Sequence[StyledText]


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A row of one technique; for a variation also the original row, to compare."""

    title: str
    description: str
    texts: Sequence[SampleText]


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page."""

    title: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    samples: Sequence[SampleRow] = ()


@dataclass(frozen=True, slots=True)
class ReportInput:
    """Everything that a report shows. Each section is made by a function that takes this."""

    dataset: Dataset
    recipe: Recipe
    statistics: RowStatistics
    outcomes: Sequence[Outcome]
    """The outcomes of the checks; empty if they were not run."""
    model: ModelRecord | None = None
    scores: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The scores in the form that `eval --json` prints."""


def percent(part: float, whole: float) -> str:
    """Formats `part / whole` as a percentage, for example `12.5%`."""
    return f"{part / whole:.1%}" if whole else "0.0%"


def require_libraries() -> None:
    """Imports the libraries of the extra `report`, so that a missing one is reported before the work starts.

    Raises:
        MissingExtraError: A library of the extra is not installed.
    """
    require_matplotlib("report")
    try:
        import jinja2
        import squarify  # pyright: ignore[reportMissingTypeStubs]

        _ = jinja2, squarify
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, error.name or "a library", "report") from error


def render_page(report_input: ReportInput, sections: Sequence[Section]) -> str:
    """Renders the whole page as HTML."""
    import jinja2
    from markupsafe import Markup

    folder = files("git_starcoder") / "report"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_make_visible
    )
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    style = Markup((folder / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - our own style sheet
    dataset = report_input.dataset
    return template.render(
        generator=REPORT_GENERATOR, style=style, sections=sections, facts=_key_facts(report_input),
        metadata=dataset.metadata, digest=dataset.digest,
    )  # fmt: skip


def _make_visible(value: Any) -> Any:
    """Writes out the control characters of every text that is not our own markup."""
    from markupsafe import Markup

    return value if isinstance(value, Markup) else escape_unsafe(str(value))


def _key_facts(report_input: ReportInput) -> list[tuple[str, str]]:
    """The facts at the top of the page, as pairs of name and value."""
    statistics, dataset = report_input.statistics, report_input.dataset
    total, train = statistics.total(), statistics.total(split="train")
    return [
        ("rows", f"{total.rows:,}"),
        ("tokens in the loss", f"{total.tokens:,}"),
        ("share of tokens held out", percent(total.tokens - train.tokens, total.tokens)),
        ("files", f"{len(statistics.splits_of['files']):,}"),
        ("languages", f"{len(statistics.values('language')):,}"),
        ("recipe", report_input.recipe.name),
        ("commit", str(dataset.manifest["commit"])[:12]),
        ("commit date", str(dataset.metadata["creation_date"])[:10]),
    ]
