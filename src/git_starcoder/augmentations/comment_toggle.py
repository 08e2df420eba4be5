"""Removes comments (whole files), and keeps those that tools obey and the documentation that is code.

A comment alone on its lines goes with the lines, one behind code with the space before it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING, Variant
from git_starcoder.parse.language import load_language
from git_starcoder.parse.tree import fixed_layout_texts, outermost_spans, protected_spans, tree_shape
from git_starcoder.records import Span

if TYPE_CHECKING:
    from random import Random

    from git_starcoder.parse.tree import Code

NEEDS = "tree"
TABLES = ("comments", "layout")


def vary(code: Code, random: Random) -> Variant | str:  # noqa: ARG001 - all comments go; there is nothing to choose
    """The file without its comments."""
    data = code.data
    pieces: list[bytes] = []
    edge = 0
    for span in _comments(code)[0]:
        start, stop, space = _edit(data, span)
        if stop > start >= edge or stop > edge > start:
            pieces += (data[edge : max(start, edge)], space)
            edge = stop
    if not pieces:
        return NOTHING
    pieces.append(data[edge:])
    return Variant(b"".join(pieces))


def _comments(code: Code) -> tuple[list[Span], list[bytes]]:
    """Where the comments are that may go, and the text of those that stay: directives, and what a `#define` holds."""
    if code.language is None:
        raise ValueError("comments need a tree")
    keep, skip = _rules(code.language.key)
    spans: list[Span] = []
    kept: list[bytes] = []
    rigid = outermost_spans(protected_spans(code).get("fixed", ()))
    rigid_starts = [span.start for span in rigid]
    for start, stop in _all(code):
        text = code.data[start:stop].rstrip(b"\n")
        around = bisect_right(rigid_starts, start) - 1
        if keep.search(text) or (around >= 0 and start < rigid[around].stop):
            kept.append(text)
        else:
            spans.append(Span(start, start + len(text)))
    return ([] if skip.search(code.data) else spans), kept


@lru_cache(maxsize=2)
def _all(code: Code) -> list[tuple[int, int]]:
    """All comments but for documentation that something may read: `@attached` and not followed by `@bare`."""
    found = protected_spans(code)
    attached = found.get("attached", [])
    spans = found.get("comment", [])
    if not attached:
        return spans
    bare = {start for start, _ in found.get("bare", ())}
    result: list[tuple[int, int]] = []
    follower, bound = len(code.data), True
    for span, loose in sorted([*((span, True) for span in spans), *((span, False) for span in attached)], reverse=True):
        between = code.data[span[1] : follower]
        if code_between := between.lstrip():
            bound = follower - len(code_between) not in bare
        if loose or not bound:
            result.append(span)
        follower = span[0]
    return result[::-1]


@cache
def _rules(key: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    table = load_language(key).table["comments"]
    return re.compile(table["keep"].encode()), re.compile(table.get("skip", r"(?!)").encode())


def _edit(data: bytes, comment: Span) -> tuple[int, int, bytes]:
    """What to cut for a comment, and what to put there."""
    start, stop = comment
    begin = data.rfind(b"\n", 0, start) + 1
    end = data.find(b"\n", stop)
    end = len(data) if end < 0 else end
    before, behind = data[begin:start], data[stop:end]
    if not behind.strip():
        if not before.strip():
            return begin, min(end + 1, len(data)), b""
        return begin + len(before.rstrip()), end, b""
    if b"\n" in data[start:stop]:  # its line break may end a statement
        return start, start, b""
    if not before.strip() or before[-1:].isspace():
        return start, end - len(behind.lstrip()), b""
    return start, stop, b"" if behind[:1].isspace() else b" "


def verify(before: Code, variant: Variant, after: Code) -> str:
    """The same tree without comments, the same code byte for byte but for whitespace, strings and directives kept."""
    if variant.text != after.data:
        return "another text was parsed"
    if _bare_shape(before) != _bare_shape(after):
        return "the tree differs"
    if _code(before) != _code(after):
        return "more than comments differs"
    if fixed_layout_texts(before) != fixed_layout_texts(after):
        return "a string differs"
    if _comments(before)[1] != _comments(after)[1]:
        return "a directive is gone"
    return ""


def _bare_shape(code: Code) -> str:
    """The shape without comments. One that a field holds stays: it is not told from the others, and no harm done."""
    bare = tree_shape(code)
    for comment in code.language.table["comments"]["shapes"] if code.language else ():
        bare = bare.replace(f" {comment}", "")
    return bare


def _code(code: Code) -> bytes:
    """The text without comments and without whitespace."""
    pieces: list[bytes] = []
    edge = 0
    for start, stop in _all(code):
        pieces.append(code.data[edge:start])
        edge = stop
    pieces.append(code.data[edge:])
    return b"".join(b" ".join(pieces).split())
