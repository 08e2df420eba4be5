"""Text for people's eyes: what would command a terminal or deceive a reader is written out."""

from __future__ import annotations

import re

UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls but tab and newline
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # bidirectional overrides, line separators (CVE-2021-42574)
    "\ud800-\udfff\U000e0000-\U000e007f]"  # bytes that are not UTF-8, tag characters
)

SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    r"""The text with every character that could command or deceive written out, `\x1b` for ESC."""
    return UNSAFE.sub(lambda found: _written(ord(found[0])), text)


def one_line(text: str) -> str:
    """A name for a line of its own: as `clean`, and newlines and tabs are written out too."""
    return clean(text).replace("\n", "\\n").replace("\t", "\\t")


def encodable(text: str) -> str:
    """The text as JSON of any program takes it: bytes that are not UTF-8 are written out, and the rest is as it was."""
    return SURROGATES.sub(lambda found: _written(ord(found[0])), text)


def _written(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
