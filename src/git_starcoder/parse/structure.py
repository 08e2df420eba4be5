"""Measures the structure of a file: how hard it is to follow, and where windows should start.

The difficulty is a number from 0 (trivial) to 1 that depends on the file alone:

    0.4 · b / (b + 40)  +  0.3 · n / (n + 4)  +  0.3 · l / (l + 400)

- b: number of branches (captures `branch` and `case` of the language's `[difficulty]` query).
- n: depth of the deepest branch inside other branches; a `case` and an `else if` add no level.
- l: number of lines that are not blank.

Each term is 0 for a count of 0, half its weight where the count equals the constant, and grows with the count. For a
file without a syntax tree, b is 0 and n is the number of indentation levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

    from git_starcoder.parse.tree import Captures, Code

WRAPPED_ITEM_FIELDS = ("definition", "declaration")
"""Fields that hold the item inside a wrapper: Python's decorated definitions, JavaScript's exports."""
STATEMENT_LIST = "statement_list"
"""The node that Go's grammar puts between a body and its statements."""
LEADING_NODE_SUFFIXES = ("comment", "attribute_item", "decorator", "annotation")
"""Suffixes of the node types that belong to the item below them."""


def difficulty_score(branch_count: int, nesting: int, line_count: int) -> float:
    """The difficulty, rounded to six decimals."""
    terms = ((0.4, branch_count, 40), (0.3, nesting, 4), (0.3, line_count, 400))
    return round(sum(weight * count / (count + half) for weight, count, half in terms), 6)


def count_nonblank_lines(data: bytes) -> int:
    """The number of lines that are not blank."""
    return sum(not line.isspace() for line in data.split(b"\n") if line)


def code_difficulty(captures: Captures, line_count: int) -> float:
    """The difficulty of a file with a syntax tree."""
    branches = captures.get("branch", ())
    chained = {node.id for node in captures.get("chain", ())}  # `else if` adds no level
    deepest = 0
    open_ends: list[int] = []
    for start, negative_end in sorted((n.start_byte, -n.end_byte) for n in branches if n.id not in chained):
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        open_ends.append(-negative_end)
        deepest = max(deepest, len(open_ends))
    return difficulty_score(len(branches) + len(captures.get("case", ())), deepest, line_count)


def text_difficulty(data: bytes) -> float:
    """The difficulty of a file without a syntax tree."""
    lines = [line for line in data.split(b"\n") if line and not line.isspace()]
    indents = {len(line) - len(line.lstrip(b" \t")) for line in lines}
    return difficulty_score(0, max(0, len(indents) - 1), len(lines))


def window_starts(code: Code) -> bytes:
    """The places where a window should start: the items of a file, and the multi-line members of each item.

    An item is a child of the root. Its members are those of a class, or the statements of a function. An item starts
    at the first comment, attribute or decorator directly above it.

    Returns:
        Ascending byte offsets as little-endian uint32; empty without a syntax tree.
    """
    if code.root is None:
        return b""
    offsets: set[int] = set()
    for item_start, item in _children_with_leading_nodes(code.root):
        offsets.add(item_start)
        node = item
        for field in WRAPPED_ITEM_FIELDS:
            node = node.child_by_field_name(field) or node
        body = node.child_by_field_name("body")
        if body is not None and body.named_child_count == 1 and body.named_children[0].type == STATEMENT_LIST:
            body = body.named_children[0]
        if body is not None:
            members = _children_with_leading_nodes(body)
            offsets.update(start for start, member in members if member.end_point.row > member.start_point.row)
    return np.array(sorted(offsets), dtype="<u4").tobytes()


def _children_with_leading_nodes(parent: Node) -> Iterator[tuple[int, Node]]:
    """Each child that is not a leading node itself, with the offset of the first leading node directly above it."""
    first: Node | None = None
    last_row = -2
    for child in parent.named_children:
        if first is None or child.start_point.row > last_row + 1:
            first = child
        last_row = child.end_point.row
        if not child.type.endswith(LEADING_NODE_SUFFIXES):
            yield first.start_byte, child
            first = None
