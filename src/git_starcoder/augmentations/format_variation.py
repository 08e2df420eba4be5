"""Changes layout only: indentation, blank lines and the space behind commas (whole files, checked).

Comments, strings, templates, preprocessor lines and text between tags stay as they are, to the byte.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING, Variant
from git_starcoder.parse.tree import fixed_layout_texts, outermost_spans, protected_spans, tree_shape

if TYPE_CHECKING:
    from random import Random

    from git_starcoder.parse.tree import Code
    from git_starcoder.records import Span

NEEDS = "tree"
TABLES = ("comments", "layout")

_INDENT = re.compile(rb"(?<=\n)[ \t]+(?=\S|\Z)")
_BLANK = re.compile(rb"\n(?:[ \t]*\n)+")
_COMMA = re.compile(rb", (?=[\w(\[{\"])")


def vary(code: Code, random: Random) -> Variant | str:
    """The file with another unit of indentation, more or fewer blank lines, and perhaps no space behind commas."""
    if code.language is None:
        raise ValueError("layout needs a tree")
    unit = _unit(code.data)
    new = random.choice([one for one in _units(unit, tabs=code.language.table["layout"]["tabs"]) if one != unit])
    blank = random.choice((b"\n", b"\n\n", b"\n\n\n"))
    tight = random.random() < 0.5
    indents = _Indents(unit, new)
    pieces: list[bytes] = []
    edge = 0
    for start, stop in [*_untouched(code), (len(code.data), len(code.data))]:
        piece = code.data[edge:start]
        if b"\n" in piece:
            piece = _BLANK.sub(blank, _INDENT.sub(indents.replace, piece))
        pieces += (_COMMA.sub(b",", piece) if tight else piece, code.data[start:stop])
        edge = stop
    text = b"".join(pieces)
    return NOTHING if text == code.data else Variant(text)


def _untouched(code: Code) -> list[Span]:
    """Comments and what has a fixed layout, without the line break that ends it."""
    found = protected_spans(code)
    spans = outermost_spans(span for kind in ("comment", "attached", "fixed") for span in found.get(kind, ()))
    return [span._replace(stop=span.stop - (code.data[span.stop - 1 : span.stop] == b"\n")) for span in spans]


def _unit(data: bytes) -> int:
    """Spaces per level: 2, 4 or 8; 0 for tabs."""
    lines = _INDENT.findall(data)
    widths = [len(line) for line in lines if b"\t" not in line]
    if 2 * len(widths) < len(lines):
        return 0
    for unit in (8, 4):
        if sum(width % unit > 0 for width in widths) * 10 <= len(widths):
            return unit
    return 2


def _units(unit: int, *, tabs: bool) -> tuple[int, ...]:
    return (0, 2, 4, 8) if tabs else (2, 4, 8) if unit else (4, 2)


class _Indents:
    """Old indentation → new: order is kept, so that what is deeper stays deeper."""

    def __init__(self, unit: int, new: int) -> None:
        self._unit = unit
        self._new = new
        self._known: dict[bytes, bytes] = {}

    def replace(self, match: re.Match[bytes]) -> bytes:
        """The new indentation for one line."""
        old = match[0]
        if old not in self._known:
            self._known[old] = self._make(old)
        return self._known[old]

    def _make(self, old: bytes) -> bytes:
        if self._unit:
            if b"\t" in old:
                return old
            levels, rest = divmod(len(old), self._unit)
        else:
            levels, rest = len(old) - len(old.lstrip(b"\t")), len(old.lstrip(b"\t"))
            if b"\t" in old.lstrip(b"\t"):
                return old
        if not self._new:
            return b"\t" * levels + b" " * rest
        if self._unit:
            return b" " * -(-len(old) * self._new // self._unit)
        return b" " * (levels * self._new + rest)


def verify(before: Code, variant: Variant, after: Code) -> str:
    """The same tree, the same bytes but for whitespace, and the same strings and comments."""
    if variant.text != after.data:
        return "another text was parsed"
    if tree_shape(before) != tree_shape(after):
        return "the tree differs"
    if b"".join(before.data.split()) != b"".join(after.data.split()):
        return "more than whitespace differs"
    if fixed_layout_texts(before) != fixed_layout_texts(after):
        return "a string differs"
    if _comments(before) != _comments(after):
        return "a comment differs"
    return ""


def _comments(code: Code) -> list[bytes]:
    found = protected_spans(code)
    spans = sorted([*found.get("comment", ()), *found.get("attached", ())])
    return [code.data[start:stop] for start, stop in spans]
