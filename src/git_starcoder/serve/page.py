"""The page at `/`: which model and repository this is, what it costs, a box to try it, and settings for editors.

Everything is served from the package. The policy of the page allows its own style and script and nothing else.
"""

from __future__ import annotations

import html
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_starcoder.serve.metrics import Metrics

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
MEDIA_TYPES = {"/page.css": "text/css", "/page.js": "text/javascript"}
MIB = 1 << 20
EXAMPLE = "def add(a, b):\n    "
"""What stands in the box if the repository has no line that occurs several times."""


def page_file(path: str) -> tuple[bytes, str]:
    """The content and the media type of `/page.css` or `/page.js`."""
    content = files("git_starcoder.serve").joinpath(path.removeprefix("/")).read_bytes()
    if path == "/page.css":
        content = files("git_starcoder.report").joinpath("style.css").read_bytes() + b"\n" + content
    return content, MEDIA_TYPES[path]


def render_page(facts: Mapping[str, Any] | None, metrics: Metrics, example: str) -> tuple[str, str]:
    """The page, with an example in its box, and its content security policy. Without facts, it asks for the token."""
    template = Template(files("git_starcoder.serve").joinpath("page.html").read_text(encoding="utf-8"))
    if facts is None:
        shown = []
        title = "git starcoder serve"
    else:
        shown = _facts(facts, metrics)
        title = str(facts["work_tree"] or facts["repository"] or facts["model"])
    rows = "\n".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in shown)
    wants_token = "" if facts is None else " hidden"
    return template.substitute(
        title=html.escape(title), facts=rows, token_hidden=wants_token, example=html.escape(example or EXAMPLE)
    ), POLICY


def _facts(facts: Mapping[str, Any], metrics: Metrics) -> list[tuple[str, str]]:
    median = metrics.median_seconds
    if facts["problem"]:
        followed = "not followed any more: see the log"
    elif facts["work_tree"] and facts["has_memory"]:
        count = facts["followed_files"]
        followed = f"{count:,} file{'' if count == 1 else 's'}, as on disk now"
    else:
        followed = "as it was when the model was trained" if facts["has_memory"] else "nothing"
    return [
        ("Model", str(facts["model"])),
        ("Repository", str(facts["work_tree"] or "none is followed")),
        ("Knows", followed),
        ("Parameters", f"{facts['parameters']:,}"),
        ("Reads at once", f"{facts['context']:,} tokens"),
        ("Text after the cursor", "is used" if facts["fills_gaps"] else "is not used"),
        ("Shown from a confidence of", f"{facts['threshold']:.2f}"),
        ("Memory of this process", f"{facts['memory_bytes'] / MIB:,.0f} MiB"),
        ("Time of a completion", "not known yet" if median is None else f"{1000 * median:,.0f} ms, the median"),
    ]
