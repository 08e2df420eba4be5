"""What a page is made of: sections with figures, tables and samples. Plain data; the template makes HTML of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from git_starcoder.checks import Outcome
    from git_starcoder.dataset import Dataset
    from git_starcoder.recipe import Recipe
    from git_starcoder.report.model import Model
    from git_starcoder.report.tally import Tally


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text, the first row above a line."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    """Columns that are words; the others are numbers."""
    folded: bool = True
    """Whether it is shown only when asked for, since a figure says the same."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture and the numbers in it."""

    svg: Markup
    title: str
    caption: str
    table: Table | None = None
    wide: bool = False


class Mark(NamedTuple):
    """A part of a text that is shown."""

    text: str
    kind: str = ""
    """`changed`, `head` (not counted for the loss), `control` (a control token) or empty."""


@dataclass(frozen=True, slots=True)
class Text:
    """A row's text."""

    title: str
    where: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Sample:
    """A row, beside the one that it is a variation of."""

    title: str
    about: str
    texts: Sequence[Text]


@dataclass(frozen=True, slots=True)
class Section:
    """One heading of the page."""

    title: str
    lead: Sequence[str] = ()
    """Paragraphs."""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    samples: Sequence[Sample] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """All that a report is about. A section is a module with `section(subject) -> Section | None`."""

    dataset: Dataset
    recipe: Recipe
    tally: Tally
    outcomes: Sequence[Outcome]
    """Of the checks; empty if they were not run."""
    model: Model | None = None
    scores: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """As `eval --json` gives them."""


def share(part: float, whole: float) -> str:
    """A share in percent."""
    return f"{part / whole:.1%}" if whole else "0.0%"
