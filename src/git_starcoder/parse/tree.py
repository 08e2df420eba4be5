"""Parses source text into a syntax tree, within limits that do not depend on the machine.

Hostile text can make a grammar hang, overflow the stack or exhaust memory. A supervised worker survives that, but
*where* a stack overflows depends on the machine, and then so would the dataset. Therefore the limits are counts: bytes,
open brackets, steps of the parser (it calls back once per fixed number of operations) and levels of the tree. Text
that exceeds a limit gets no tree and is used as plain text.

No function may recurse over a tree: its depth is bounded, but Python's stack is smaller than `MAX_TREE_DEPTH`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from tree_sitter import QueryCursor

from git_starcoder.parse.language import PLAIN_TEXT, Language, load_language
from git_starcoder.records import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tree_sitter import Node, Point

Captures: TypeAlias = "Mapping[str, Sequence[Node]]"
"""The nodes found by each capture of a query. Their order is undefined."""

ParseLimit = Literal["", "size", "depth", "steps"]

MAX_PARSED_BYTES = 1 << 19
"""Longer texts are not parsed: from about 800,000 bytes, nested errors overflow a parser's stack."""
MAX_OPEN_BRACKETS = 10_000
"""Brackets open at once, counted before parsing: parsers overflow their stack at about 500,000."""
MAX_TREE_DEPTH = 1_000
"""Levels of a tree: `str(node)` overflows its stack at about 100,000."""
BASE_PARSER_STEPS = 1_000
"""Progress callbacks that a text of any length may use."""
PARSER_STEPS_PER_BYTE = 0.1
"""Additional progress callbacks per byte. Ordinary source uses 0.007, tiny statements on separate lines 0.08."""
PARSER_READ_BYTES = 1 << 12
"""Bytes handed to the parser at a time: it checks its progress callback only when it asks for more text."""
MAX_TEXT_READINGS = 64
"""How many times the parser may read the whole text. Ordinary source is read at most twice. A scanner that runs to the
end of the file again and again (unclosed `r#"` in Rust) makes no progress callbacks, so only this count stops it."""

_BRACKET_STEPS = np.zeros(256, np.int8)  # +1 for a byte that opens a bracket, -1 for one that closes it
_BRACKET_STEPS[list(b"([{")] = 1
_BRACKET_STEPS[list(b")]}")] = -1


@dataclass(frozen=True, slots=True)
class Code:
    """A text and its syntax tree, if it has one."""

    data: bytes
    language: Language | None
    """None for plain text."""
    root: Node | None
    """None for plain text and for text that exceeded a limit."""
    is_clean: bool
    """Whether there is a tree and no part of it is an error."""
    exceeded_limit: ParseLimit = ""
    """The limit that the text exceeded: `size`, `depth` (of nesting) or `steps` (of the parser)."""


def parse(data: bytes, key: str) -> Code:
    """Parse a text in a registered language; plain text gets no tree. Call this only in worker processes."""
    if key == PLAIN_TEXT:
        return Code(data, None, None, is_clean=False)
    language = load_language(key)
    exceeded: ParseLimit = ""
    root = None
    if len(data) > MAX_PARSED_BYTES:
        exceeded = "size"
    elif _max_open_brackets(data) > MAX_OPEN_BRACKETS:
        exceeded = "depth"
    elif (root := _parse_within_limits(data, language)) is None:
        exceeded = "steps"
    elif is_deeper(root, MAX_TREE_DEPTH):
        exceeded, root = "depth", None
    return Code(data, language, root, root is not None and not root.has_error, exceeded)


def run_queries(code: Code, *queries: str) -> Captures:
    """Run queries of the language file on the tree in one pass; without a tree or queries the result is empty."""
    if code.language is None or code.root is None or not queries:
        return {}
    return QueryCursor(code.language.compile_query(*queries)).captures(code.root)


def is_deeper(root: Node, limit: int) -> bool:
    """Whether a tree has more than `limit` levels below its root.

    A node with fewer descendants than the missing levels cannot lead that deep, so most of an ordinary tree is skipped.
    """
    level, depth = [root], 0
    while level:
        missing = limit - depth
        level = [child for node in level if node.descendant_count > missing for child in node.children]
        depth += 1
        if depth > limit:
            return bool(level)
    return False


def _max_open_brackets(data: bytes) -> int:
    """The largest number of brackets open at once; brackets in strings and comments count as well."""
    if data.count(b"(") + data.count(b"[") + data.count(b"{") <= MAX_OPEN_BRACKETS:
        return 0
    # "f(a[0])" -> steps 0 1 0 1 0 -1 -1 -> open 0 1 1 2 2 1 0 -> 2
    return int(np.cumsum(_BRACKET_STEPS[np.frombuffer(data, np.uint8)], dtype=np.int32).max())


def _parse_within_limits(data: bytes, language: Language) -> Node | None:
    """The root of the tree; None where the parser used up its steps or read the text too often."""
    remaining_steps = BASE_PARSER_STEPS + int(len(data) * PARSER_STEPS_PER_BYTE)
    readable_bytes = (len(data) + PARSER_READ_BYTES) * MAX_TEXT_READINGS
    is_parsing = True

    def read(offset: int, _point: Point | tuple[int, int]) -> bytes:
        nonlocal readable_bytes
        chunk = data[offset : offset + PARSER_READ_BYTES]
        if is_parsing:  # after parsing, the tree reads through this function: for `node.text` and query predicates
            readable_bytes -= len(chunk)
            return chunk if readable_bytes >= 0 else b""  # the parser takes this as the end of the text and stops
        return chunk

    def cancel(_offset: int, _error: bool) -> bool:
        nonlocal remaining_steps
        remaining_steps -= 1
        return remaining_steps < 0

    try:
        root = language.parser.parse(read, progress_callback=cancel).root_node
    except ValueError:  # the binding raises this when the callback cancels a parse
        if remaining_steps >= 0:
            raise
        language.parser.reset()  # otherwise the next text would be taken as the rest of this one
        return None
    is_parsing = False
    return root if readable_bytes >= 0 else None


@lru_cache(maxsize=2)  # a text and the variation that it is compared with
def tree_shape(code: Code) -> str:
    """The tree as an S-expression of node types and field names, without the text. Empty without a tree."""
    return "" if code.root is None else str(code.root)


@lru_cache(maxsize=2)
def protected_spans(code: Code) -> dict[str, list[tuple[int, int]]]:
    """The sorted spans of comments and of texts with a fixed layout, by capture of `[comments]` and `[layout]`."""
    found = run_queries(code, "comments", "layout.fixed")
    return {name: sorted([node.byte_range for node in nodes]) for name, nodes in found.items()}


@lru_cache(maxsize=2)
def fixed_layout_texts(code: Code) -> list[bytes]:
    """The texts whose layout has a meaning, such as strings."""
    return [code.data[start:stop] for start, stop in outermost_spans(protected_spans(code).get("fixed", ()))]


def outermost_spans(spans: Iterable[tuple[int, int]]) -> list[Span]:
    """The sorted spans that are inside no other. Any two spans must be disjoint or one inside the other."""
    outermost: list[Span] = []
    edge = 0
    for start, negative_stop in sorted([(start, -stop) for start, stop in spans]):
        if start >= edge:
            edge = -negative_stop
            outermost.append(Span(start, edge))
    return outermost


def apply_edits(data: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Replace disjoint spans of a text. Each edit is a start, a stop and the new text."""
    parts: list[bytes] = []
    edge = 0
    for start, stop, new in sorted(edits):
        parts += (data[edge:start], new)
        edge = stop
    parts.append(data[edge:])
    return b"".join(parts)
