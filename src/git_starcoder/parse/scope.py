"""Which local names of a function can be renamed without changing what it means.

A name is safe when every place of the function where its word stands is explained: it is bound there, or it is used
in the position of an expression within reach of such a binding, or the word belongs to another namespace (a field, a
label), a comment or a plain string. One place that is not explained, and the name is left alone: what a macro, a
shorthand, a nested item or a type does with it is not known here. Renaming all places of a safe name to one word that
the file does not have cannot change what any of them refers to, whatever shadows what.

The `[rename]` table of a language says what is what. `uses` and `bindings` list `parent` or `parent.field`: an
identifier there is used, or bound if it stands in a pattern. The captures of the query `names`:

- `@function`: a function; only outermost ones are looked at, each by itself.
- `@use`, `@binding`: further identifiers like those of the two lists.
- `@other`: a name of another namespace. `@quiet`: a comment or a string that no code reads.
- `@opaque`: something in a function whose words are all left alone.
- `@item`: words that are left alone in the whole file. `@sealed`: functions in it, or around it, are left alone.
- `@scope`: what a binding of `reach` without `@inside` is bound to.

The query `reach` says where the names of a `@pattern` are visible: from the end of `@after`, or the start of `@inside`,
to the end of `@inside`, or of the innermost `@scope`. Too small a reach costs a variation; too large a one would be a
bug.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from tree_sitter import Query, QueryCursor

from git_starcoder.parse.language import load
from git_starcoder.parse.shape import outermost
from git_starcoder.records import Span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tree_sitter import Node

    from git_starcoder.parse.tree import Code

WORD = re.compile(rb"[\w$\x80-\xff]+")
"""Anything that could be an identifier of any language, or contain one."""
NAME = re.compile(rb"[a-z][A-Za-z0-9_]*")
"""The names that are looked at: neither constants nor types, and nothing that hides behind `_` or `$`."""

Reach = list[Span]
"""Where a name is visible."""


@dataclass(frozen=True, slots=True)
class Function:
    """An outermost function and the places of its safe names: byte offsets in the text, ascending."""

    start: int
    stop: int
    safe: dict[bytes, list[int]]


@dataclass(frozen=True, slots=True)
class Scopes:
    """What is known about the names of a text."""

    functions: list[Function]
    words: frozenset[bytes]
    """Every word of the text, wherever it stands."""


@dataclass(frozen=True, slots=True)
class _Rules:
    names: Query
    reach: Query
    reserved: frozenset[bytes]
    sealed: re.Pattern[bytes]


@cache
def _rules(key: str) -> _Rules:
    language = load(key)
    table = language.table["rename"]
    lines = [table["names"]]
    for capture in ("use", "binding"):
        for place in table[f"{capture}s"]:
            parent, _, name = place.partition(".")
            lines.append(f"({parent} {name + ': ' if name else ''}(identifier) @{capture})")
    return _Rules(
        Query(language.grammar, "\n".join(lines)),
        language.query("rename.reach"),
        reserved(key),
        re.compile(table.get("sealed", r"(?!)").encode()),
    )


@cache
def reserved(key: str) -> frozenset[bytes]:
    """Keywords and names with a meaning of their own in a language: never renamed and never given."""
    return frozenset(load(key).table["rename"]["reserved"].encode().split())


@lru_cache(maxsize=1)  # a variation is made and verified from the same
def scopes(code: Code) -> Scopes:
    """The functions of a text and their safe names. The text must have a tree."""
    if code.language is None or code.root is None:
        raise ValueError("scopes need a tree")
    rules = _rules(code.language.key)
    found = QueryCursor(rules.names).captures(code.root)
    bare = bytearray(code.data)
    for kind in ("other", "quiet"):
        for node in found.get(kind, ()):
            start, stop = node.start_byte, node.end_byte
            bare[start:stop] = bytes(stop - start)
    functions = outermost((node.start_byte, node.end_byte) for node in found.get("function", ()))
    candidates = _candidates(code, rules, found, functions, bare)
    if not candidates:
        return Scopes([], frozenset())
    kept = _kept(code, found, functions, bare) | rules.reserved
    opaque = _opaque(code, found.get("opaque", ()), functions)
    sealed = [Span(node.start_byte, node.end_byte) for node in found.get("sealed", ())]
    uses = {node.start_byte for node in found.get("use", ())}
    result: list[Function] = []
    for index in sorted(candidates):
        start, stop = functions[index]
        if rules.sealed.search(code.data, start, stop) or any(a < stop and b > start for a, b in sealed):
            continue
        names = {
            name: places for name, places in candidates[index].items()
            if name not in kept and name not in opaque.get(index, ())
        }  # fmt: skip
        safe = _safe(bare, Span(start, stop), names, uses)
        if safe:
            result.append(Function(start, stop, safe))
    return Scopes(result, frozenset(WORD.findall(code.data)))


def holder(starts: list[int], spans: list[Span], place: int) -> int:
    """Which of some disjoint spans in order has a place, or -1."""
    index = bisect_right(starts, place) - 1
    return index if index >= 0 and place < spans[index].stop else -1


def _candidates(
    code: Code, rules: _Rules, found: dict[str, list[Node]], functions: list[Span], bare: bytearray
) -> dict[int, dict[bytes, dict[int, Reach]]]:
    """For each function by its index, the names that are bound in it, where, and what each binding reaches."""
    patterns, reaches, whole = _reaches(code, rules, found)
    if not patterns:
        return {}
    pattern_starts = [pattern.start for pattern in patterns]
    function_starts = [function.start for function in functions]
    candidates: dict[int, dict[bytes, dict[int, Reach]]] = {}
    for place in sorted({node.start_byte for node in found.get("binding", ())} | whole):
        pattern = holder(pattern_starts, patterns, place)
        function = holder(function_starts, functions, place)
        word = WORD.match(bare, place)
        if pattern < 0 or function < 0 or word is None or not NAME.fullmatch(word[0]):
            continue
        reach = reaches[patterns[pattern]]
        candidates.setdefault(function, {}).setdefault(word[0], {})[place] = reach
    return candidates


def _reaches(code: Code, rules: _Rules, found: dict[str, list[Node]]) -> tuple[list[Span], dict[Span, Reach], set[int]]:
    """The patterns in order, what each reaches, and the places of those that are a name and nothing else."""
    if code.root is None:
        return [], {}, set()
    reaches: dict[Span, Reach] = defaultdict(list)
    whole: set[int] = set()
    scoped: list[tuple[Span, int]] = []
    for _, match in QueryCursor(rules.reach).matches(code.root):
        node = match["pattern"][0]
        pattern = Span(node.start_byte, node.end_byte)
        if node.type == "identifier":
            whole.add(pattern.start)
        begin = match["after"][0].end_byte if "after" in match else -1
        if "inside" in match:
            inside = match["inside"][0]
            reaches[pattern].append(Span(max(begin, inside.start_byte), inside.end_byte))
        else:
            scoped.append((pattern, begin))
    spans = sorted((node.start_byte, -node.end_byte) for node in found.get("scope", ()))
    around: list[Span] = []
    index = 0
    for pattern, begin in sorted(scoped):
        while index < len(spans) and spans[index][0] <= pattern.start:
            around.append(Span(spans[index][0], -spans[index][1]))
            index += 1
        while around and around[-1].stop <= pattern.start:
            around.pop()
        if around:
            reaches[pattern].append(Span(max(begin, around[-1].start), around[-1].stop))
    return sorted(reaches), reaches, whole


def _kept(code: Code, found: dict[str, list[Node]], functions: list[Span], bare: bytearray) -> set[bytes]:
    """The words that mean something in the whole file."""
    kept: set[bytes] = set()
    for node in found.get("item", ()):
        kept.update(WORD.findall(code.data, node.start_byte, node.end_byte))
    edge = 0
    for start, stop in [*functions, Span(len(bare), len(bare))]:
        kept.update(WORD.findall(bare, edge, start))
        edge = stop
    return kept


def _opaque(code: Code, nodes: Iterable[Node], functions: list[Span]) -> dict[int, set[bytes]]:
    """For each function by its index, the words in its opaque parts."""
    starts = [function.start for function in functions]
    texts: dict[int, list[bytes]] = defaultdict(list)
    edge = 0
    for start, stop in sorted([(node.start_byte, node.end_byte) for node in nodes]):
        function = holder(starts, functions, start)
        if function >= 0 and start > starts[function] and stop > edge:
            texts[function].append(code.data[start:stop])
            edge = stop
    return {function: set(WORD.findall(b"\n".join(parts))) for function, parts in texts.items()}


def _safe(
    bare: bytearray, function: Span, names: dict[bytes, dict[int, Reach]], uses: set[int]
) -> dict[bytes, list[int]]:
    """The names whose every place in a function is explained, and their places."""
    places: dict[bytes, list[int]] = {name: [] for name in names}
    for word in WORD.finditer(bare, *function):
        if (found := places.get(word[0])) is not None:
            found.append(word.start())
    return {name: found for name, found in places.items() if _explained(found, names[name], uses)}


def _explained(places: list[int], bound: dict[int, Reach], uses: set[int]) -> bool:
    """Whether every place is a binding or a use in reach of one, and every binding is used.

    A name in a pattern that nobody uses may be a constant of another module.
    """
    used = [place for place in places if place not in bound]
    if not uses.issuperset(used):
        return False
    reach = {span for spans in bound.values() for span in spans}
    return all(any(start <= place < stop for start, stop in reach) for place in used) and all(
        any(start <= place < stop for start, stop in spans for place in used) for spans in bound.values()
    )
