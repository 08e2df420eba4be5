"""Plots by matplotlib as SVG that stands in a page: text stays text, colours follow the page's theme.

A colour is drawn as a placeholder and replaced by a custom property of the style sheet, so one picture serves light
and dark. Nothing depends on the machine: no date, no font's outlines, fixed ids.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from git_starcoder import pictures
from git_starcoder.text.visible import escape_line, escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markupsafe import Markup

NAMES = ("ink", "faint", "paper", "one", "two", "three", "four", "five", "six")
"""Colours of the style sheet."""
COLOURS = {name: f"#0b00{number:02x}" for number, name in enumerate(NAMES, 16)}
INK, FAINT, PAPER, *SERIES = COLOURS.values()
SPLIT: dict[str, str] = dict(zip(("train", "val", "test"), SERIES, strict=False))
WIDTH = 480
"""Units of a picture; a unit of its text is a pixel where the picture is as wide."""
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "git-starcoder", "text.parse_math": False, "axes.unicode_minus": False,
    "font.size": 12, "font.family": "DejaVu Sans", "axes.titlesize": 12, "legend.fontsize": 11,
    "text.color": INK, "axes.edgecolor": FAINT,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 11, "ytick.labelsize": 11,
    "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": "none",
    "savefig.facecolor": "none", "legend.frameon": False, "legend.labelcolor": INK, "figure.dpi": 72,
    "patch.edgecolor": PAPER, "hatch.color": PAPER, "xtick.major.size": 3, "ytick.major.size": 3,
}  # fmt: skip
TAG = re.compile(r"<[^<>]*>")


def svg(
    key: str, title: str, about: str, paint: Callable[[Any], object], *, width: int = WIDTH, height: int = 280,
    tips: Sequence[str] = (), laid: bool = True,
) -> Markup:  # fmt: skip
    """What `paint` draws on a matplotlib figure of this size, as `<svg>` with a title and a description.

    `key` makes ids unique in the page. An artist whose gid is `tip-N` shows `tips[N]` to who points at it. With `laid`
    the library finds room for labels; else the axes are where `paint` puts them.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pictures.require("report")
    from markupsafe import Markup, escape
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    written = io.StringIO()
    with warnings.catch_warnings(), style.context(["default", STYLE]):  # pyright: ignore[reportUnknownMemberType]
        # The font that measures lacks some characters; the browser that writes them has others.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure: Any = Figure(figsize=(width / 72, height / 72), layout="constrained" if laid else None)
        paint(figure)
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(written)
    inside = re.sub(r"<metadata>.*?</metadata>", "", written.getvalue(), flags=re.DOTALL)
    inside = inside[inside.index("<svg") :]
    inside = TAG.sub(lambda tag: _tag(tag[0], key), inside[inside.index(">") + 1 :])
    said = [str(escape(escape_line(tip))) for tip in tips]
    inside = re.sub(rf'<g id="{key}-tip-(\d+)">', lambda found: f"<g><title>{said[int(found[1])]}</title>", inside)
    inside = re.sub(r"\n\s*", "\n", inside)
    begin = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{key}-title {key}-about">'
        f'<title id="{key}-title">{escape(escape_line(title))}</title>'
        f'<desc id="{key}-about">{escape(escape_line(about))}</desc>'
    )
    return Markup(escape_unsafe(begin + inside))  # noqa: S704 - matplotlib escapes text, the rest is ours


def _tag(tag: str, key: str) -> str:
    """A tag with ids of its own, colours of the page, and the page's font."""
    tag = tag.replace("xlink:href", "href").replace(' href="#', f' href="#{key}-').replace("url(#", f"url(#{key}-")
    tag = tag.replace(' id="', f' id="{key}-')
    tag = re.sub(r"font: ([\d. ]*?px) [^;\"]*", r"font: \1 sans-serif", tag)
    for name, colour in COLOURS.items():
        tag = tag.replace(colour, f"var(--{name})")
    return tag


def label(text: str, most: int = 40) -> str:
    """Text for a picture: on one line, and its middle left out where it is longer than `most` characters."""
    text = escape_line(text)
    return text if len(text) <= most else f"{text[: most // 3]}…{text[len(text) - (most - most // 3 - 1) :]}"


def short(number: float, _place: int | None = None) -> str:
    """A number for an axis: 1.2k, 34M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def bars(
    figure: Any, values: dict[str, dict[str, float]], colours: dict[str, str], unit: str, *, most: int = 22
) -> None:
    """Horizontal bars, one for each name from the top, of parts in colours; `unit` is under the axis."""
    axes = figure.subplots()
    names = list(values)
    begin = [0.0] * len(names)
    for part, colour in colours.items():
        widths = [values[name].get(part, 0.0) for name in names]
        axes.barh(range(len(names)), widths, left=begin, color=colour, label=part, height=0.7)
        begin = [one + other for one, other in zip(begin, widths, strict=True)]
    axes.set_yticks(range(len(names)), [label(name, most) for name in names])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(short)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(unit)
    axes.tick_params(axis="y", length=0)
    if len(colours) > 1:
        figure.legend(loc="outside upper right", ncols=len(colours))
