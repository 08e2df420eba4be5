"""Finds the bytes of a text that are part of identifiers: names of variables, functions, types, fields and modules."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from tree_sitter import Query, QueryCursor

from git_starcoder.parse.language import Language, load_language
from git_starcoder.parse.tree import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

WORD = re.compile(rb"[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*")
"""What counts as an identifier in a text without a syntax tree."""


def identifier_mask(task: tuple[bytes, str]) -> NDArray[np.bool_]:
    """Return which bytes of a text in a registered language are part of an identifier, shape (bytes,).

    Identifiers are the leaves of the syntax tree whose type contains `identifier`, as all our grammars name them. In a
    text without a tree they are the words. Call this only in worker processes.
    """
    data, key = task
    code = parse(data, key)
    spans: Iterable[tuple[int, int]]
    if code.root is None:
        spans = word_spans(data)
    else:
        nodes = QueryCursor(_identifier_query(key)).captures(code.root).get("name", ())
        spans = (node.byte_range for node in nodes if node.child_count == 0)
    return span_mask(spans, len(data))


def word_spans(data: bytes) -> Iterable[tuple[int, int]]:
    """Yield the spans of the words of a text."""
    return (word.span() for word in WORD.finditer(data))


def span_mask(spans: Iterable[tuple[int, int]], length: int) -> NDArray[np.bool_]:
    """Return which bytes of a text are in one of the spans, shape (length,)."""
    mask = np.zeros(length, dtype=np.bool_)
    for start, stop in spans:
        mask[start:stop] = True
    return mask


@cache
def _identifier_query(key: str) -> Query:
    """The query for all nodes whose type contains `identifier`, the rest of a qualified name included."""
    language: Language = load_language(key)
    grammar = language.grammar
    kinds = {
        kind
        for number in range(grammar.node_kind_count)
        if (kind := grammar.node_kind_for_id(number)) and "identifier" in kind
        and grammar.node_kind_is_named(number) and grammar.node_kind_is_visible(number)
    }  # fmt: skip
    return Query(grammar, f"[{' '.join(f'({kind})' for kind in sorted(kinds))}] @name")
