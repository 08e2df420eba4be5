"""Renders sections as one HTML page. The template escapes every text, and control characters are written out."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from git_starcoder.report import page
from git_starcoder.text.visible import escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Sequence


def render_page(
    title: str, place: str, facts: Sequence[tuple[str, str]], sections: Sequence[page.Section], digest_name: str,
    digest: str,
) -> str:  # fmt: skip
    """Renders a page about a place, which is a repository or a dataset. `facts` are pairs of name and value.

    Raises:
        MissingExtraError: A library of the extra `report` is not installed.
    """
    page.require_libraries()
    import jinja2
    from markupsafe import Markup

    folder = files("git_starcoder") / "report"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_make_visible
    )
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    style = Markup((folder / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - our own style sheet
    return template.render(
        generator=page.REPORT_GENERATOR, style=style, sections=sections, facts=facts, title=title, place=place,
        digest_name=digest_name, digest=digest,
    )  # fmt: skip


def _make_visible(value: Any) -> Any:
    """Writes out the control characters of every text that is not our own markup."""
    from markupsafe import Markup

    return value if isinstance(value, Markup) else escape_unsafe(str(value))
