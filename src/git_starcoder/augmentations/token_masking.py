"""Masks spans of a text, to be predicted from what stands around them (fill in the middle)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING, Variant
from git_starcoder.rows import Span

if TYPE_CHECKING:
    from random import Random

    from git_starcoder.parse.tree import Code

NEEDS_TREE = False

STRIDE = 900
"""Bytes of text per hole: some 256 tokens, so that every window of 1,024 tokens has one near its middle."""
SHARE = 0.1
"""How much of the text is masked, about."""
_SHAPES = ("lines", "line", "rest")
_WORD = re.compile(rb"[\w\x80-\xff]+")


def vary(code: Code, random: Random) -> Variant | str:
    """The text as it is, with holes."""
    data = code.data
    holes: list[Span] = []
    edge = 0
    for begin in range(0, len(data), STRIDE):
        end = min(begin + STRIDE, len(data))
        place = begin + int((end - begin) * random.uniform(0.3, 0.7))
        hole = _hole(data, place, max(edge, begin), end, random)
        if hole is not None:
            holes.append(hole)
            edge = hole.stop
    return Variant(data, tuple(holes)) if holes else NOTHING


def _hole(data: bytes, place: int, begin: int, end: int, random: Random) -> Span | None:
    """A hole near a place, within limits; None where there is nothing but whitespace."""
    size = random.uniform(0.5, 1.5) * SHARE * STRIDE
    first = data.rfind(b"\n", begin, place) + 1 or begin
    last = _line_end(data, place, end)
    match random.choice(_SHAPES):
        case "lines":
            start, stop = first, _line_end(data, min(max(first + int(1.5 * size), last), end), end)
        case "line":
            start, stop = first, last
        case _:
            words = [word.start() for word in _WORD.finditer(data, first, last)]
            start, stop = random.choice(words or [first]), last
    stop = min(stop, start + int(2 * size))
    start, stop = _on_characters(data, start, begin, stop), _on_characters(data, stop, begin, stop)
    text = data[start:stop]
    start += len(text) - len(text.lstrip())
    stop = start + len(text.strip())
    return Span(start, stop) if stop > start else None


def _line_end(data: bytes, place: int, end: int) -> int:
    found = data.find(b"\n", place, end)
    return end if found < 0 else found


def _on_characters(data: bytes, place: int, begin: int, end: int) -> int:
    """The place, or the next one that does not cut a UTF-8 character; the one before where that is past the end."""
    forward = place
    while forward < min(end, len(data)) and data[forward] & 0xC0 == 0x80:
        forward += 1
    if forward < len(data) and data[forward] & 0xC0 == 0x80:
        while forward > begin and data[forward] & 0xC0 == 0x80:
            forward -= 1
    return forward


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
