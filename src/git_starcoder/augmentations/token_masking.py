"""Masks spans of a text, to be predicted from the text around them (fill-in-the-middle)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant
from git_starcoder.records import Span

if TYPE_CHECKING:
    from random import Random

    from git_starcoder.parse.tree import Code

NEEDS = "text"

BYTES_PER_SPAN = 900
"""Bytes of text for each masked span: about 256 tokens, so that every window of 1,024 tokens has a span near its
middle."""
MASKED_SHARE = 0.1
"""Share of the text that is masked, approximately."""
MIN_SPAN_BYTES = 8
"""Smallest size that is aimed at; a span is shorter where its line ends earlier."""
_SHAPES = ("lines", "lines", "line", "rest")
"""What a span covers: whole lines (twice as likely), one line, or the rest of a line from a word on."""
_NON_BLANK = re.compile(rb"\S")
_WORD = re.compile(rb"[\w\x80-\xff]+")


def vary(code: Code, random: Random) -> Variant | str:
    """The unchanged text with masked spans."""
    data = code.data
    parts = (Span(start, min(start + BYTES_PER_SPAN, len(data))) for start in range(0, len(data), BYTES_PER_SPAN))
    spans = tuple(span for part in parts if (span := _choose_span(data, part, random)) is not None)
    return Variant(data, spans) if spans else NOTHING_TO_CHANGE


def _choose_span(data: bytes, part: Span, random: Random) -> Span | None:
    """A span near the middle of a part of the text; None if the text is blank there."""
    begin, end = part
    middle = begin + int((end - begin) * random.uniform(0.3, 0.7))
    size = max(int(random.uniform(0.7, 2.3) * MASKED_SHARE * (end - begin)), MIN_SPAN_BYTES)
    shape = random.choice(_SHAPES)
    first_character = _NON_BLANK.search(data, middle, end)
    if first_character is None:
        return None
    start = max(data.rfind(b"\n", begin, first_character.start()) + 1, begin)
    stop = _line_end(data, start + size if shape == "lines" else first_character.start(), end)
    if shape == "rest":
        start = random.choice([word.start() for word in _WORD.finditer(data, start, stop)] or [start])
    stop = min(stop, start + 2 * size)
    start, stop = _character_start(data, start), _character_start(data, stop)
    text = data[start:stop]
    start += len(text) - len(text.lstrip())
    stop = start + len(text.strip())
    return Span(start, stop) if stop > start else None


def _line_end(data: bytes, offset: int, end: int) -> int:
    found = data.find(b"\n", offset, end)
    return end if found < 0 else found


def _character_start(data: bytes, offset: int) -> int:
    """The offset itself, or the nearest one before it at which a UTF-8 character begins."""
    while 0 < offset < len(data) and data[offset] & 0xC0 == 0x80:
        offset -= 1
    return offset


def verify(before: Code, variant: Variant, after: Code) -> str:  # noqa: ARG001 - no tree is needed
    """Check that the text is the same, and the spans are in order, disjoint, on characters, and not blank."""
    data = variant.text
    if data != before.data:
        return "the text differs"
    edge = 0
    for start, stop in variant.masked_spans:
        if not edge <= start < stop <= len(data):
            return "a masked span is empty, outside, or overlaps another"
        if any(offset < len(data) and data[offset] & 0xC0 == 0x80 for offset in (start, stop)):
            return "a masked span cuts a character"
        if not data[start:stop].strip():
            return "a masked span is blank"
        edge = stop
    return "" if variant.masked_spans else "there is no masked span"
