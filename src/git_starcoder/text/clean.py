"""Bytes of a file → its text as it may be kept: decoded, of a notebook its code and Markdown, and without secrets.

This is the only place where bytes become text, for builds and for checks. The text follows from the bytes alone. What a
file may be used for follows from its path, too: `unfit`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.text import notebook
from git_starcoder.text.encoding import Refusal, decode
from git_starcoder.text.secrets import Redacted, only_secrets, redact

if TYPE_CHECKING:
    from git_starcoder.recipe import ReadOptions


class Clean(NamedTuple):
    """A text that may be kept."""

    text: bytes
    """UTF-8 with LF line ends."""
    changed: tuple[str, ...]
    """What decoding altered; see `encoding.Text`. Also `notebook`."""
    secrets: Counter[str]
    """How many of each kind were taken out."""
    share: float
    """Of the bytes that were secrets."""
    skipped: Counter[str]
    """What of a notebook is left out; see `notebook.Text`."""


def most_bytes(path: str, options: ReadOptions) -> int:
    """The size from which on a file is not even read."""
    return max(options.max_bytes, notebook.LARGEST) if notebook.is_named_so(path) else options.max_bytes


def clean(data: bytes, options: ReadOptions) -> Clean | Refusal:
    """The text of a file, or the reason why it is none. `unfit` says whether a file with this text may be used."""
    found = _notebook(data, options)
    if isinstance(found, Refusal):
        return found
    content, was, skipped = found or (data, (), Counter[str]())
    if len(content) > options.max_bytes:
        return Refusal("too_large", f"{len(content)} bytes{' of code and Markdown' if found else ''}")
    text = decode(content, max_line=options.max_line, mean_line=options.mean_line)
    if isinstance(text, Refusal):
        return text
    redacted = Redacted(text.utf8, Counter()) if options.secrets == "off" else redact(text.utf8)
    return Clean(redacted.text, (*was, *text.changed), redacted.found, redacted.share, skipped)


def _notebook(data: bytes, options: ReadOptions) -> tuple[bytes, tuple[str, ...], Counter[str]] | Refusal | None:
    """The text of a notebook, what was altered, and what is left out; None for anything else."""
    if len(data) > max(options.max_bytes, notebook.LARGEST) or not notebook.may_be(data):
        return None
    json = decode(data, max_line=len(data), mean_line=len(data))
    if isinstance(json, Refusal):
        return json
    found = notebook.text_of(json.utf8, options.max_line)
    return None if found is None else (found.utf8, (*json.changed, "notebook"), found.skipped)


def unfit(path: str, text: Clean, options: ReadOptions) -> Refusal | None:
    """Why the file at a path is not used, now that its text is known, or None."""
    if notebook.is_named_so(path) and "notebook" not in text.changed:
        return Refusal("no_notebook", "its content is not a Jupyter notebook")
    return too_secret(path, text, options)


def too_secret(path: str, text: Clean, options: ReadOptions) -> Refusal | None:
    """Why a file is not used for its secrets, or None. No value is ever told, only kinds and counts."""
    if options.secrets == "off":
        return None
    if what := only_secrets(path, text.text):
        return Refusal("secret_file", what)
    if Redacted(text.text, text.secrets, text.share).mostly_secrets:
        return Refusal("mostly_secrets", f"{text.secrets.total()} secrets, {text.share:.0%} of its bytes")
    if text.secrets and options.secrets == "drop":
        return Refusal("secret", ", ".join(f"{count} {kind}" for kind, count in sorted(text.secrets.items())))
    return None
