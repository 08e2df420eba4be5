"""Masks spans of a text, to be predicted from what stands around them (fill in the middle)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING, Variant
from git_starcoder.records import Span

if TYPE_CHECKING:
    from random import Random

    from git_starcoder.parse.tree import Code

NEEDS = "text"

STRIDE = 900
"""Bytes of text per hole: some 256 tokens, so that every window of 1,024 tokens has one near its middle."""
SHARE = 0.1
"""How much of the text is masked, about."""
SMALLEST = 8
"""Bytes of the smallest hole that is aimed at; what is left of a line may be less."""
_SHAPES = ("lines", "lines", "line", "rest")
_INK = re.compile(rb"\S")
_WORD = re.compile(rb"[\w\x80-\xff]+")


def vary(code: Code, random: Random) -> Variant | str:
    """The text as it is, with holes."""
    data = code.data
    holes: list[Span] = []
    for begin in range(0, len(data), STRIDE):
        hole = _hole(data, Span(begin, min(begin + STRIDE, len(data))), random)
        if hole is not None:
            holes.append(hole)
    return Variant(data, tuple(holes)) if holes else NOTHING


def _hole(data: bytes, part: Span, random: Random) -> Span | None:
    """A hole near the middle of a part of the text; None where it is blank there."""
    begin, end = part
    middle = begin + int((end - begin) * random.uniform(0.3, 0.7))
    size = max(int(random.uniform(0.7, 2.3) * SHARE * (end - begin)), SMALLEST)
    shape = random.choice(_SHAPES)
    ink = _INK.search(data, middle, end)
    if ink is None:
        return None
    start = max(data.rfind(b"\n", begin, ink.start()) + 1, begin)
    stop = _line_end(data, start + size if shape == "lines" else ink.start(), end)
    if shape == "rest":
        start = random.choice([word.start() for word in _WORD.finditer(data, start, stop)] or [start])
    stop = min(stop, start + 2 * size)
    start, stop = _character(data, start), _character(data, stop)
    text = data[start:stop]
    start += len(text) - len(text.lstrip())
    stop = start + len(text.strip())
    return Span(start, stop) if stop > start else None


def _line_end(data: bytes, place: int, end: int) -> int:
    found = data.find(b"\n", place, end)
    return end if found < 0 else found


def _character(data: bytes, place: int) -> int:
    """The place, or the one before it where a UTF-8 character begins."""
    while 0 < place < len(data) and data[place] & 0xC0 == 0x80:
        place -= 1
    return place


def verify(before: Code, variant: Variant, after: Code) -> str:  # noqa: ARG001 - no tree is needed
    """The text is the same; holes are in order, disjoint, inside, on characters, and hold something."""
    data = variant.text
    if data != before.data:
        return "the text differs"
    edge = 0
    for start, stop in variant.holes:
        if not edge <= start < stop <= len(data):
            return "a hole is empty, outside, or overlaps another"
        if any(place < len(data) and data[place] & 0xC0 == 0x80 for place in (start, stop)):
            return "a hole cuts a character"
        if not data[start:stop].strip():
            return "a hole is blank"
        edge = stop
    return "" if variant.holes else "there is no hole"
