"""Removes comments (whole files), except directives and documentation that programs read.

A comment alone on its lines goes with these lines; one after code goes with the space before it. One with a CR stays:
in some languages, what follows the CR is code.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant
from git_starcoder.parse.language import load_language
from git_starcoder.parse.renaming import apply_edits, find_span_index
from git_starcoder.parse.tree import fixed_layout_texts, outermost_spans, protected_spans, run_queries, tree_shape
from git_starcoder.records import Span

if TYPE_CHECKING:
    from random import Random

    from git_starcoder.parse.tree import Code

NEEDS = "tree"
TABLES = ("comments", "layout", "rename")


def vary(code: Code, random: Random) -> Variant | str:  # noqa: ARG001 - all comments go; there is nothing to choose
    """The file without its comments."""
    data = code.data
    parts: list[bytes] = []
    edge = 0
    for span in _split_comments(code)[0]:
        start, stop, replacement = _removal(data, span)
        if stop > start >= edge or stop > edge > start:
            parts += (data[edge : max(start, edge)], replacement)
            edge = stop
    if not parts:
        return NOTHING_TO_CHANGE
    return Variant(b"".join((*parts, data[edge:])))


def _split_comments(code: Code) -> tuple[list[Span], list[bytes]]:
    """The comments that may go, and the texts of those that stay: directives, and those in a `#define` or with a CR."""
    if code.language is None:
        raise ValueError("comments need a tree")
    keep, skip = _patterns(code.language.key)
    removable: list[Span] = []
    kept: list[bytes] = []
    fixed_spans = outermost_spans(protected_spans(code).get("fixed", ()))
    fixed_starts = [span.start for span in fixed_spans]
    for start, stop in _find_comments(code):
        text = code.data[start:stop].rstrip(b"\n")
        index = bisect_right(fixed_starts, start) - 1
        if keep.search(text) or b"\r" in text or (index >= 0 and start < fixed_spans[index].stop):
            kept.append(text)
        else:
            removable.append(Span(start, start + len(text)))
    return ([] if skip.search(code.data) else removable), kept


@lru_cache(maxsize=2)
def _find_comments(code: Code) -> list[tuple[int, int]]:
    """All comments except documentation that a program may read.

    That is an `@attached` comment in front of something that is not `@bare`, or that is or is inside what `[rename]`
    calls `@sealed`: an item with a macro. So comments are walked from the last to the first, and each is judged by the
    code that follows it.
    """
    found = protected_spans(code)
    attached = found.get("attached", [])
    spans = found.get("comment", [])
    if not attached:
        return spans
    sealed = outermost_spans(node.byte_range for node in run_queries(code, "rename.names").get("sealed", ()))
    sealed_starts = [span.start for span in sealed]
    bare_starts = {start for start, _ in found.get("bare", ()) if find_span_index(sealed_starts, sealed, start) < 0}
    comments: list[tuple[int, int]] = []
    next_start, is_documentation = len(code.data), True
    for span, is_plain in sorted(
        [*((span, True) for span in spans), *((span, False) for span in attached)], reverse=True
    ):
        between = code.data[span[1] : next_start]
        if following_code := between.lstrip():
            is_documentation = next_start - len(following_code) not in bare_starts
        if is_plain or not is_documentation:
            comments.append(span)
        next_start = span[0]
    return comments[::-1]


@cache
def _patterns(language: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """What a comment contains that must stay, and what a file contains of which all comments must stay."""
    table = load_language(language).table["comments"]
    return re.compile(table["keep"].encode()), re.compile(table.get("skip", r"(?!)").encode())


def _removal(data: bytes, comment: Span) -> tuple[int, int, bytes]:
    """The span to cut for a comment, and what to put in its place."""
    start, stop = comment
    line_start = data.rfind(b"\n", 0, start) + 1
    line_end = data.find(b"\n", stop)
    line_end = len(data) if line_end < 0 else line_end
    left, right = data[line_start:start], data[stop:line_end]
    if not right.strip():
        if not left.strip():
            return line_start, min(line_end + 1, len(data)), b""
        return line_start + len(left.rstrip()), line_end, b""
    if b"\n" in data[start:stop]:  # its line break may end a statement
        return start, start, b""
    if not left.strip() or left[-1:].isspace():
        return start, line_end - len(right.lstrip()), b""
    return start, stop, b"" if right[:1].isspace() else b" "


def verify(before: Code, variant: Variant, after: Code) -> str:
    """Check that trees and code are the same without comments and whitespace, and strings and directives remain."""
    if variant.text != after.data:
        return "another text was parsed"
    if _shape_without_comments(before) != _shape_without_comments(after):
        return "the tree differs"
    if _code_without_comments(before) != _code_without_comments(after):
        return "more than comments differs"
    if fixed_layout_texts(before) != fixed_layout_texts(after):
        return "a string differs"
    if _split_comments(before)[1] != _split_comments(after)[1]:
        return "a directive is gone"
    return ""


def _shape_without_comments(code: Code) -> str:
    """The tree's shape without comments. A comment that a field holds stays: then the trees differ, which is safe."""
    result = tree_shape(code)
    for comment in code.language.table["comments"]["shapes"] if code.language else ():
        result = result.replace(f" {comment}", "")
    return result


def _code_without_comments(code: Code) -> bytes:
    """The text without comments and whitespace."""
    text = apply_edits(code.data, ((start, stop, b" ") for start, stop in _find_comments(code)))
    return b"".join(text.split())
