"""The parts of a report's page: sections with tables, samples and figures, and the charts that matplotlib draws as SVG.

The text of a chart stays text, and its colours follow the page's light or dark theme: each colour is drawn as a
placeholder, which is then replaced by a variable of the style sheet. The SVG is the same on every machine: it has no
date, no font outlines, and fixed ids.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.errors import MissingExtraError
from git_starcoder.text.visible import escape_line, escape_unsafe
from git_starcoder.user_paths import require_matplotlib

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from markupsafe import Markup

    from git_starcoder.checks import Outcome
    from git_starcoder.dataset import Dataset
    from git_starcoder.recipe import Recipe
    from git_starcoder.report.model import ModelRecord
    from git_starcoder.report.statistics import RowStatistics

REPORT_GENERATOR = "git starcoder report"
"""The page's `generator` tag. Only a file with this tag is overwritten by a new report."""
COLOUR_NAMES = ("ink", "faint", "paper", "one", "two", "three", "four", "five", "six")
"""The colour variables of the style sheet."""
COLOURS = {name: f"#0b00{number:02x}" for number, name in enumerate(COLOUR_NAMES, 16)}
"""The placeholder of each colour: a value that nothing else in an SVG has."""
INK, FAINT, PAPER, *SERIES = COLOURS.values()
SPLIT_COLOURS: dict[str, str] = dict(zip(("train", "val", "test"), SERIES, strict=False))
CHART_WIDTH = 480
"""The width of a chart in SVG units. Shown at 480 pixels, its text has the size that `STYLE` says."""
WIDE_CHART_WIDTH = 2 * CHART_WIDTH
LETTER_WIDTH = 6.6
"""The approximate width of a letter of a label in SVG units."""
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "git-starcoder", "text.parse_math": False, "axes.unicode_minus": False,
    "font.size": 12, "font.family": "DejaVu Sans", "axes.titlesize": 12, "legend.fontsize": 11,
    "text.color": INK, "axes.edgecolor": FAINT,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 11, "ytick.labelsize": 11,
    "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": "none",
    "savefig.facecolor": "none", "legend.frameon": False, "legend.labelcolor": INK, "figure.dpi": 72,
    "patch.edgecolor": PAPER, "hatch.color": PAPER, "xtick.major.size": 3, "ytick.major.size": 3,
}  # fmt: skip
SVG_TAG = re.compile(r"<[^<>]*>")


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


def chart(
    key: str, title: str, description: str, draw: Callable[[Any], object], header: Sequence[str],
    rows: Sequence[Sequence[str]], *, caption: str = "", text_columns: int = 1, wide: bool = False, height: int = 280,
    automatic_layout: bool = True,
) -> Figure:  # fmt: skip
    """A figure with a chart and a folded table under the same title; the arguments are those of `draw_svg`, `Table`."""
    width = WIDE_CHART_WIDTH if wide else CHART_WIDTH
    svg = draw_svg(key, title, description, draw, width=width, height=height, automatic_layout=automatic_layout)
    return Figure(svg, title, caption, Table(title, header, rows, text_columns), wide)


def draw_svg(
    key: str, title: str, description: str, draw: Callable[[Any], object], *, width: int, height: int,
    tooltips: Sequence[str] = (), automatic_layout: bool = True,
) -> Markup:  # fmt: skip
    """Calls `draw` with a matplotlib figure and returns the drawing as `<svg>` with a title and a description.

    `key` makes the ids of this SVG unique in the page. An artist with the gid `tip-N` shows `tooltips[N]` under the
    mouse pointer. With `automatic_layout` matplotlib makes room for labels; otherwise `draw` places the axes.

    `page.require_libraries` must have been called.
    """
    from markupsafe import Markup, escape
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as MatplotlibFigure

    output = io.StringIO()
    with warnings.catch_warnings(), style.context(["default", STYLE]):  # pyright: ignore[reportUnknownMemberType]
        # matplotlib's font, which only measures text, lacks some characters that the browser's fonts have.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        layout = "constrained" if automatic_layout else None
        figure: Any = MatplotlibFigure(figsize=(width / 72, height / 72), layout=layout)
        draw(figure)
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(output)
    body = re.sub(r"<metadata>.*?</metadata>", "", output.getvalue(), flags=re.DOTALL)
    body = body[body.index("<svg") :]
    body = SVG_TAG.sub(lambda tag: _adapt_tag(tag[0], key), body[body.index(">") + 1 :])
    titles = [f"<g><title>{escape(escape_line(tooltip))}</title>" for tooltip in tooltips]
    body = re.sub(rf'<g id="{key}-tip-(\d+)">', lambda match: titles[int(match[1])], body)
    body = re.sub(r"\n\s*", "\n", body)
    head = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{key}-title {key}-about">'
        f'<title id="{key}-title">{escape(escape_line(title))}</title>'
        f'<desc id="{key}-about">{escape(escape_line(description))}</desc>'
    )
    return Markup(escape_unsafe(head + body))  # noqa: S704 - matplotlib escapes text, and the rest is ours


def _adapt_tag(tag: str, key: str) -> str:
    """Makes the ids of an SVG tag unique in the page, and gives it the colours and the font of the page."""
    tag = tag.replace("xlink:href", "href").replace(' href="#', f' href="#{key}-').replace("url(#", f"url(#{key}-")
    tag = tag.replace(' id="', f' id="{key}-')
    tag = re.sub(r"font: ([\d. ]*?px) [^;\"]*", r"font: \1 sans-serif", tag)
    for name, colour in COLOURS.items():
        tag = tag.replace(colour, f"var(--{name})")
    return tag


def shorten(text: str, max_characters: int = 40) -> str:
    """A label on one line; the middle of a longer text is replaced by `…`."""
    text = escape_line(text)
    if len(text) <= max_characters:
        return text
    start = max_characters // 3
    return f"{text[:start]}…{text[len(text) - (max_characters - start - 1) :]}"


def format_number(number: float, _position: int | None = None) -> str:
    """A number for an axis, such as `1.2k` or `34M`; usable as a formatter of matplotlib."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def draw_bars(figure: Any, bars: dict[str, dict[str, float]], colours: dict[str, str], unit: str) -> None:
    """Draws stacked horizontal bars from the top down.

    `bars` has the length of each segment by the names of bar and segment, `colours` the segments in stacking order.
    """
    axes = figure.subplots()
    starts = [0.0] * len(bars)
    for segment, colour in colours.items():
        lengths = [segments.get(segment, 0.0) for segments in bars.values()]
        axes.barh(range(len(bars)), lengths, left=starts, color=colour, label=segment, height=0.7)
        starts = [start + length for start, length in zip(starts, lengths, strict=True)]
    _name_bars(axes, [shorten(name, 22) for name in bars])
    axes.xaxis.set_major_formatter(format_number)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(unit)
    if len(colours) > 1:
        figure.legend(loc="outside upper right", ncols=len(colours))


def draw_share_bars(
    figure: Any, bars: Sequence[tuple[str, float, str]], segments: tuple[tuple[str, str], tuple[str, str]],
    *, hatched: int, room: float, unit: str = "",
) -> None:  # fmt: skip
    """Draws bars of length 1, each split in two segments.

    A bar has a name, the share of the first segment, and a note to its right. A segment has a name and a colour; the
    one with the index `hatched` differs from the other also without colours. The axis has the length `room`.
    """
    axes = figure.subplots()
    starts = [0.0] * len(bars)
    shares = [share for _, share, _ in bars]
    for index, (name, colour) in enumerate(segments):
        lengths = [1 - share for share in shares] if index else shares
        axes.barh(range(len(bars)), lengths, left=starts, color=colour, height=0.65, label=name,
                  hatch="//" if index == hatched else None)  # fmt: skip
        starts = shares
    for position, (_, _, note) in enumerate(bars):
        axes.text(1.02, position, note, va="center", fontsize=11)
    _name_bars(axes, [shorten(name) for name, _, _ in bars])
    axes.set_xlim(0, room)
    axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", f"100 %{unit}"])
    axes.spines["bottom"].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2)


def _name_bars(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
