"""What a change of comments or layout must leave as it is: the shape of the tree and the texts with fixed layout."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from tree_sitter import Query, QueryCursor

from git_starcoder.parse.language import load
from git_starcoder.records import Span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_starcoder.parse.tree import Code


@lru_cache(maxsize=2)  # a text and the variation that is compared with it
def shape(code: Code) -> str:
    """The S-expression of a tree: names of nodes and fields, without the texts. Empty without a tree."""
    return "" if code.root is None else str(code.root)


@lru_cache(maxsize=2)
def marks(code: Code) -> dict[str, list[tuple[int, int]]]:
    """Where comments, strings and the like are, in order, by the captures of `[comments]` and `[layout]`."""
    if code.language is None or code.root is None:
        return {}
    found = QueryCursor(_query(code.language.key)).captures(code.root)
    return {kind: sorted([(node.start_byte, node.end_byte) for node in nodes]) for kind, nodes in found.items()}


@cache
def _query(key: str) -> Query:
    language = load(key)
    return Query(language.grammar, language.table["comments"]["query"] + "\n" + language.table["layout"]["fixed"])


@lru_cache(maxsize=2)
def fixed(code: Code) -> list[bytes]:
    """The texts whose layout means something."""
    return [code.data[start:stop] for start, stop in outermost(marks(code).get("fixed", ()))]


def outermost(spans: Iterable[tuple[int, int]]) -> list[Span]:
    """The spans that lie in no other, in order. Of any two spans, one contains the other or they are disjoint."""
    result: list[Span] = []
    edge = 0
    for start, negative in sorted([(start, -stop) for start, stop in spans]):
        if start >= edge:
            edge = -negative
            result.append(Span(start, edge))
    return result
