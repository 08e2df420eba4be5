"""Source text → syntax tree, within limits that do not depend on the machine.

A grammar can hang, overflow the stack, or take all memory on hostile text. A supervised worker survives that, but
*where* a stack overflows depends on the machine, and then so would the dataset. So the limits here are counts: bytes,
brackets open at once, steps of the parser (its progress callback comes once per so many operations), and levels of
the tree. Whatever meets a limit has no tree and is used as text.

Nothing may recurse over a tree: depth is bounded, but Python's stack is smaller than `MAX_DEPTH`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from tree_sitter import QueryCursor

from git_starcoder.parse.language import TEXT, Language, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tree_sitter import Node, Point

Captures: TypeAlias = "Mapping[str, Sequence[Node]]"
"""For each capture of a query, the nodes it caught, in no order that may be relied on."""

Refusal = Literal["", "size", "depth", "steps"]

MAX_BYTES = 1 << 19
"""Larger texts are not parsed: from some 800,000 bytes on, nested errors overflow a parser's stack."""
MAX_OPEN = 10_000
"""Brackets open at once, before parsing: parsers overflow their stack at some 500,000."""
MAX_DEPTH = 1_000
"""Levels of a tree: `str(node)` overflows its stack at some 100,000."""
STEPS = 1_000
"""Progress callbacks that any text may take, …"""
STEPS_PER_BYTE = 0.1
"""… and so many more per byte. Ordinary source takes 0.007, tiny statements on lines of their own 0.08."""
CHUNK = 1 << 12
"""Bytes handed to the parser at a time: it obeys its progress callback only when it asks for its text."""
READINGS = 64
"""How often a text may be read over. Ordinary source is read at most twice; a scanner that runs to the end of the
file again and again (unclosed `r#"` in Rust) asks for no progress in between, so only this count stops it."""

_OPENS = np.zeros(256, np.int8)
_OPENS[list(b"([{")] = 1
_OPENS[list(b")]}")] = -1


@dataclass(frozen=True, slots=True)
class Code:
    """A text and, where there is one, its syntax tree."""

    data: bytes
    language: Language | None
    """None for plain text."""
    root: Node | None
    """None for plain text and for what met a limit."""
    clean: bool
    """There is a tree, and no part of it is an error."""
    refused: Refusal = ""
    """The limit that the text met: `size`, `depth` (the text nests too deep) or `steps` (parsing took too long)."""


def parse(data: bytes, key: str) -> Code:
    """Parse a text of a language of the shelf; `text` gives no tree. Only in worker processes."""
    if key == TEXT:
        return Code(data, None, None, clean=False)
    language = load(key)
    if len(data) > MAX_BYTES:
        return Code(data, language, None, clean=False, refused="size")
    if _most_open(data) > MAX_OPEN:
        return Code(data, language, None, clean=False, refused="depth")
    root = _parse(data, language)
    if root is None:
        return Code(data, language, None, clean=False, refused="steps")
    if deeper(root, MAX_DEPTH):
        return Code(data, language, None, clean=False, refused="depth")
    return Code(data, language, root, clean=not root.has_error)


def captures(code: Code, *queries: str) -> Captures:
    """What the queries of these names catch in a tree; nothing where there is no tree, or no query."""
    if code.language is None or code.root is None or not queries:
        return {}
    return QueryCursor(code.language.query(*queries)).captures(code.root)


def deeper(root: Node, limit: int) -> bool:
    """Whether a tree has more than `limit` levels below its root.

    A node with fewer descendants than levels are missing cannot lead there, so ordinary trees are hardly entered.
    """
    level, depth = [root], 0
    while level:
        missing = limit - depth
        level = [child for node in level if node.descendant_count > missing for child in node.children]
        depth += 1
        if depth > limit:
            return bool(level)
    return False


def _most_open(data: bytes) -> int:
    """The most brackets open at once, strings and comments counted as if they were code."""
    if data.count(b"(") + data.count(b"[") + data.count(b"{") <= MAX_OPEN:
        return 0
    return int(np.cumsum(_OPENS[np.frombuffer(data, np.uint8)], dtype=np.int32).max())


def _parse(data: bytes, language: Language) -> Node | None:
    steps = STEPS + int(len(data) * STEPS_PER_BYTE)
    readable = (len(data) + CHUNK) * READINGS
    parsing = True

    def read(offset: int, _point: Point | tuple[int, int]) -> bytes:
        nonlocal readable
        chunk = data[offset : offset + CHUNK]
        if parsing:  # later on, it is the tree that reads: for `node.text`, for the predicates of a query
            readable -= len(chunk)
            return chunk if readable >= 0 else b""  # the parser takes it for the end of the text, and ends
        return chunk

    def spent(_offset: int, _error: bool) -> bool:
        nonlocal steps
        steps -= 1
        return steps < 0

    try:
        root = language.parser.parse(read, progress_callback=spent).root_node
    except ValueError:  # the binding's word for a parse that its callback cancelled
        if steps >= 0:
            raise
        language.parser.reset()  # or the next text would be taken for the rest of this one
        return None
    parsing = False
    return root if readable >= 0 else None
