"""Sections → HTML by a template, in which everything is escaped and made visible that was not made by us."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from git_starcoder import pictures
from git_starcoder.errors import MissingExtraError
from git_starcoder.report.parts import share
from git_starcoder.text.visible import escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.report.parts import Section, Subject

GENERATOR = "git starcoder report"
"""By which a page is known as ours."""


def require() -> None:
    """Miss a library before the work and not after it.

    Raises:
        MissingExtraError: a library of the extra `report` is not installed.
    """
    pictures.require("report")
    try:
        import jinja2
        import squarify  # pyright: ignore[reportMissingTypeStubs]

        _ = jinja2, squarify
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, error.name or "a library", "report") from error


def page(subject: Subject, sections: Sequence[Section]) -> str:
    """All of the page."""
    import jinja2
    from markupsafe import Markup

    here = files("git_starcoder") / "report"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_visible
    )
    template = environment.from_string((here / "page.html").read_text(encoding="utf-8"))
    style = Markup((here / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - ours
    return template.render(
        generator=GENERATOR, style=style, sections=sections, facts=_facts(subject), metadata=subject.dataset.metadata,
        digest=subject.dataset.digest,
    )  # fmt: skip


def _visible(value: Any) -> Any:
    from markupsafe import Markup

    return value if isinstance(value, Markup) else escape_unsafe(str(value))


def _facts(subject: Subject) -> list[tuple[str, str]]:
    tally = subject.tally
    every, train = tally.total(), tally.total(split="train")
    return [
        ("rows", f"{every.rows:,}"),
        ("tokens that count", f"{every.tokens:,}"),
        ("held out, of the tokens", share(every.tokens - train.tokens, every.tokens)),
        ("files", f"{len(tally.owners['files']):,}"),
        ("languages", f"{len(tally.values('language')):,}"),
        ("recipe", subject.recipe.name),
        ("commit", str(subject.dataset.manifest["commit"])[:12]),
        ("of", str(subject.dataset.metadata["creation_date"])[:10]),
    ]
