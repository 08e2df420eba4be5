"""Bytes of a file → its text as it may be kept: decoded, and without secrets."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.text.encoding import Refusal, decode
from git_starcoder.text.secrets import Redacted, only_secrets, redact

if TYPE_CHECKING:
    from git_starcoder.recipe import Read


class Clean(NamedTuple):
    """A text that may be kept."""

    text: bytes
    """UTF-8 with LF line ends."""
    changed: tuple[str, ...]
    """What decoding altered; see `encoding.Text`."""
    secrets: Counter[str]
    """How many of each kind were taken out."""
    share: float
    """Of the bytes that were secrets."""


def clean(data: bytes, options: Read) -> Clean | Refusal:
    """The text of a file, or the reason why it is none. `too_secret` says whether its file may be used."""
    text = decode(data, max_line=options.max_line, mean_line=options.mean_line)
    if isinstance(text, Refusal):
        return text
    redacted = Redacted(text.utf8, Counter()) if options.secrets == "off" else redact(text.utf8)
    return Clean(redacted.text, text.changed, redacted.found, redacted.share)


def too_secret(path: str, text: Clean, options: Read) -> Refusal | None:
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
