"""Makes text safe to show: characters that could control a terminal or deceive a reader are written as escapes."""

from __future__ import annotations

import re

UNSAFE_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls but tab and newline
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # bidirectional overrides, line separators (CVE-2021-42574)
    "\ud800-\udfff\U000e0000-\U000e007f]"  # bytes that are not UTF-8, tag characters
)
SURROGATES = re.compile("[\ud800-\udfff]")


def escape_unsafe(text: str) -> str:
    r"""The text with every unsafe character written as an escape, such as `\x1b` for ESC. Line breaks and tabs stay."""
    return UNSAFE_CHARACTERS.sub(_escape, text)


def escape_line(text: str) -> str:
    """The text on one line: as `escape_unsafe`, with line breaks and tabs written as escapes too."""
    return escape_unsafe(text).replace("\n", "\\n").replace("\t", "\\t")


def escape_surrogates(text: str) -> str:
    """The text as every JSON parser accepts it: only bytes that are not UTF-8 are written as escapes."""
    return SURROGATES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, by Python's surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
