"""Where windows like to begin: at the items of a file, and at what is in them over several lines.

Items are the children of the root; what is in them are the members of a class and the statements of a function. An item
begins where the comments, attributes and decorators directly above it do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

    from git_starcoder.parse.tree import Code

WRAPPED = ("definition", "declaration")
"""Fields that hold the item itself: Python's decorated definitions, JavaScript's exports."""
LIST = "statement_list"
"""What Go puts between a body and its statements."""
ABOVE = ("comment", "attribute_item", "decorator", "annotation")
"""How the types of nodes end that belong to the item below them."""


def starts(code: Code) -> bytes:
    """Ascending byte offsets as little-endian uint32; none without a tree."""
    if code.root is None:
        return b""
    found: set[int] = set()
    for item in _with_above(code.root):
        found.add(item[0])
        node = item[1]
        for field in WRAPPED:
            node = node.child_by_field_name(field) or node
        body = node.child_by_field_name("body")
        if body is not None and body.named_child_count == 1 and body.named_children[0].type == LIST:
            body = body.named_children[0]
        if body is not None:
            found.update(start for start, member in _with_above(body) if _lines(member) > 1)
    return np.array(sorted(found), dtype="<u4").tobytes()


def _with_above(parent: Node) -> Iterator[tuple[int, Node]]:
    """Each child that is no comment or the like, and where it begins with those above it."""
    above: Node | None = None
    last = -2
    for child in parent.named_children:
        if above is None or child.start_point.row > last + 1:
            above = child
        last = child.end_point.row
        if not child.type.endswith(ABOVE):
            yield above.start_byte, child
            above = None


def _lines(node: Node) -> int:
    return node.end_point.row - node.start_point.row + 1
