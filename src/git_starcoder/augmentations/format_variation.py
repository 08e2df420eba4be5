"""Changes only the layout: indentation, blank lines, spaces after commas (whole files, verified).

Comments, strings, templates, preprocessor lines and text between tags stay the same to the byte. Of blank lines
after them, one stays: in Go, it says whether a comment is a build constraint, and whether it belongs to `import "C"`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant
from git_starcoder.parse.tree import fixed_layout_texts, outermost_spans, protected_spans, tree_shape

if TYPE_CHECKING:
    from random import Random

    from git_starcoder.parse.tree import Code
    from git_starcoder.records import Span

NEEDS = "tree"
TABLES = ("comments", "layout")

TABS = 0
"""Stands for tabs where a number says how many spaces an indentation level has."""
_INDENT = re.compile(rb"(?<=\n)[ \t]+(?=\S|\Z)")
_BLANK = re.compile(rb"(\A[ \t]*)?\n(?:[ \t]*\n)+")
"""Blank lines. There is a group 1 at the start of a text."""
_BLANK_LINE_AFTER = re.compile(rb"[ \t]*\n[ \t]*\n")
_COMMA = re.compile(rb", (?=[\w(\[{\"])")


def vary(code: Code, random: Random) -> Variant | str:
    """The file with another indentation, more or fewer blank lines, and perhaps no space after commas."""
    if code.language is None:
        raise ValueError("layout needs a tree")
    old_unit = _indent_unit(code.data)
    has_tabs = code.language.table["layout"]["tabs"]
    allowed = (TABS, 2, 4, 8) if has_tabs else (2, 4, 8) if old_unit else (4, 2)
    new_unit = random.choice([unit for unit in allowed if unit != old_unit])
    blank = random.choice((b"\n", b"\n\n", b"\n\n\n"))
    tight_commas = random.random() < 0.5
    new_indents: dict[bytes, bytes] = {}

    def replace_indent(match: re.Match[bytes]) -> bytes:
        old = match[0]
        if old not in new_indents:
            new_indents[old] = _convert_indent(old, old_unit, new_unit)
        return new_indents[old]

    def replace_blank(match: re.Match[bytes]) -> bytes:
        return blank if match[1] is None else match[1] + max(blank, b"\n\n")

    parts: list[bytes] = []
    edge = 0
    for start, stop in [*_unchanged_spans(code), (len(code.data), len(code.data))]:
        part = code.data[edge:start]
        if b"\n" in part:
            part = _BLANK.sub(replace_blank, _INDENT.sub(replace_indent, part))
        parts += (_COMMA.sub(b",", part) if tight_commas else part, code.data[start:stop])
        edge = stop
    text = b"".join(parts)
    return NOTHING_TO_CHANGE if text == code.data else Variant(text)


def _unchanged_spans(code: Code) -> list[Span]:
    """Comments and texts whose layout has a meaning, without the line break at their end."""
    found = protected_spans(code)
    spans = outermost_spans(span for kind in ("comment", "attached", "fixed") for span in found.get(kind, ()))
    return [span._replace(stop=span.stop - (code.data[span.stop - 1 : span.stop] == b"\n")) for span in spans]


def _indent_unit(data: bytes) -> int:
    """Spaces per indentation level, 2, 4 or 8, or `TABS`: the unit of which most widths are multiples."""
    lines = _INDENT.findall(data)
    widths = [len(line) for line in lines if b"\t" not in line]
    if 2 * len(widths) < len(lines):
        return TABS
    for unit in (8, 4):
        if sum(width % unit > 0 for width in widths) * 10 <= len(widths):
            return unit
    return 2


def _convert_indent(old: bytes, old_unit: int, new_unit: int) -> bytes:
    """The new indentation for an old one. Order is kept: what is deeper stays deeper."""
    spaces = old.lstrip(b"\t")
    if b"\t" in (old if old_unit else spaces):  # tabs where spaces are usual, or after spaces: an alignment
        return old
    if old_unit:
        levels, rest = divmod(len(old), old_unit)
    else:
        levels, rest = len(old) - len(spaces), len(spaces)
    if new_unit == TABS:
        return b"\t" * levels + b" " * rest
    if old_unit:
        return b" " * -(-len(old) * new_unit // old_unit)
    return b" " * (levels * new_unit + rest)


def verify(before: Code, variant: Variant, after: Code) -> str:
    """Check that the tree is the same, all bytes but whitespace, and strings and comments with their whitespace.

    A comment has a blank line after it in both texts, or in none.
    """
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


def _comments(code: Code) -> list[tuple[bytes, bool]]:
    """The comments, and whether a blank line follows each."""
    found = protected_spans(code)
    comments: list[tuple[bytes, bool]] = []
    for start, stop in sorted([*found.get("comment", ()), *found.get("attached", ())]):
        text = code.data[start:stop].removesuffix(b"\n")
        comments.append((text, _BLANK_LINE_AFTER.match(code.data, start + len(text)) is not None))
    return comments
