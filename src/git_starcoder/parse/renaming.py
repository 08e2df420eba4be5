"""Renames local names of functions without changing their meaning, and proves that nothing else changed.

A name is safe to rename if every occurrence of its word in the function is explained: the name is bound there, or it is
used as an expression where such a binding is visible, or the word belongs to another namespace (a field, a label), a
comment or a plain string. If one occurrence is not explained, the name stays, because we do not know what a macro, a
shorthand, a nested item or a type does with it. Replacing all occurrences of a safe name by one word that the file
does not contain cannot change what any occurrence refers to, whatever shadows what.

The `[rename]` table of a language file describes names. `uses` and `bindings` list `parent` or `parent.field`: an
identifier there is a use, or a binding if it is part of a pattern. The query `names` has these captures:

- `@function`: a function. Only outermost functions are examined, each on its own.
- `@use`, `@binding`: more identifiers of the same kinds as in the two lists.
- `@other`: a name of another namespace. `@quiet`: a comment or a string that no code reads.
- `@opaque`: a part of a function; none of its words is renamed.
- `@item`: its words are not renamed anywhere in the file. `@sealed`: functions that contain it, or that it contains,
  are left alone.
- `@scope`: where a binding is visible if its `reach` pattern has no `@inside`.

The query `reach` says where the names of a `@pattern` are visible: from the end of `@after`, or the start of `@inside`,
to the end of `@inside` or of the innermost `@scope`. If it is too small, we lose a variation; if it is too large, that
is a bug.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict, deque
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING

from tree_sitter import Query, QueryCursor

from git_starcoder.parse.language import load_language
from git_starcoder.parse.tree import apply_edits, outermost_spans, tree_shape
from git_starcoder.records import Span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tree_sitter import Node

    from git_starcoder.parse.tree import Code

IDENTIFIER_WORD = re.compile(rb"[\w$\x80-\xff]+")
"""Anything that could be an identifier in any language, or contain one."""
RENAMABLE_NAME = re.compile(rb"[a-z][A-Za-z0-9_]*")
"""The names that may be renamed: no constants, no types, no names that start with `_` or `$`."""

VisibleSpans = list[Span]
"""The spans in which a binding is visible."""


@dataclass(frozen=True, slots=True)
class FunctionNames:
    """The span of an outermost function and its safe names, each with the ascending byte offsets of its occurrences."""

    start: int
    stop: int
    safe_names: dict[bytes, list[int]]


@dataclass(frozen=True, slots=True)
class LocalNames:
    """The functions of a text that have safe names."""

    functions: list[FunctionNames]
    words: frozenset[bytes]
    """Every word of the text, wherever it occurs."""


@cache
def _names_query(key: str) -> Query:
    language = load_language(key)
    table = language.table["rename"]
    patterns = [table["names"]]
    for capture in ("use", "binding"):
        for entry in table[f"{capture}s"]:
            parent, _, field = entry.partition(".")
            patterns.append(f"({parent} {field + ': ' if field else ''}(identifier) @{capture})")
    return Query(language.grammar, "\n".join(patterns))


@cache
def reserved_words(key: str) -> frozenset[bytes]:
    """Keywords and names with a special meaning in a language: never renamed, never used as a new name."""
    return frozenset(load_language(key).table["rename"]["reserved"].encode().split())


@lru_cache(maxsize=1)  # a variation is created and verified from the same text
def find_local_names(code: Code) -> LocalNames:
    """The functions of a text with a syntax tree, and their safe names."""
    if code.language is None or code.root is None:
        raise ValueError("local names need a syntax tree")
    captures = QueryCursor(_names_query(code.language.key)).captures(code.root)
    data = bytearray(code.data)  # names of other namespaces, comments and strings are blanked out with zeros
    for capture in ("other", "quiet"):
        for node in captures.get(capture, ()):
            span = slice(*node.byte_range)
            if capture == "other" or b"\r" not in data[span]:  # in some languages, code follows a CR in a comment
                data[span] = bytes(span.stop - span.start)
    functions = outermost_spans(node.byte_range for node in captures.get("function", ()))
    candidates = _bindings_by_function(code, captures, functions, data)
    if not candidates:
        return LocalNames([], frozenset())
    fixed_words = _file_level_words(code, captures, functions, data) | reserved_words(code.language.key)
    opaque_words = _opaque_words(code, captures.get("opaque", ()), functions)
    sealed_pattern = re.compile(code.language.table["rename"].get("sealed", r"(?!)").encode())
    sealed = [node.byte_range for node in captures.get("sealed", ())]
    uses = {node.start_byte for node in captures.get("use", ())}
    result: list[FunctionNames] = []
    for index in sorted(candidates):
        start, stop = functions[index]
        if sealed_pattern.search(code.data, start, stop) or any(a < stop and b > start for a, b in sealed):
            continue
        names = {
            name: bindings for name, bindings in candidates[index].items()
            if name not in fixed_words and name not in opaque_words.get(index, ())
        }  # fmt: skip
        if safe_names := _safe_names(data, functions[index], names, uses):
            result.append(FunctionNames(start, stop, safe_names))
    return LocalNames(result, frozenset(IDENTIFIER_WORD.findall(code.data)))


def find_span_index(starts: list[int], spans: list[Span], offset: int) -> int:
    """The index of the span that contains an offset, or -1. The spans are sorted and disjoint; `starts` are theirs."""
    index = bisect_right(starts, offset) - 1
    return index if index >= 0 and offset < spans[index].stop else -1


def _bindings_by_function(
    code: Code, captures: dict[str, list[Node]], functions: list[Span], data: bytearray
) -> dict[int, dict[bytes, dict[int, VisibleSpans]]]:
    """For each function index and each name bound in it: the offset of every binding, and where that is visible."""
    visible, whole_patterns = _visible_spans(code, captures)
    patterns = sorted(visible)
    pattern_starts = [pattern.start for pattern in patterns]
    function_starts = [function.start for function in functions]
    bindings: dict[int, dict[bytes, dict[int, VisibleSpans]]] = {}
    for offset in sorted({node.start_byte for node in captures.get("binding", ())} | whole_patterns):
        pattern = find_span_index(pattern_starts, patterns, offset)
        function = find_span_index(function_starts, functions, offset)
        word = IDENTIFIER_WORD.match(data, offset)
        if pattern >= 0 and function >= 0 and word is not None and RENAMABLE_NAME.fullmatch(word[0]):
            bindings.setdefault(function, {}).setdefault(word[0], {})[offset] = visible[patterns[pattern]]
    return bindings


def _visible_spans(code: Code, captures: dict[str, list[Node]]) -> tuple[dict[Span, VisibleSpans], set[int]]:
    """Where each pattern is visible, and the offsets of patterns that are a single identifier."""
    assert code.language is not None  # noqa: S101 - see `find_local_names`
    assert code.root is not None  # noqa: S101
    visible: dict[Span, VisibleSpans] = defaultdict(list)
    whole_patterns: set[int] = set()
    scoped: list[tuple[Span, int]] = []  # patterns that are visible until the end of their innermost scope
    for _, match in QueryCursor(code.language.compile_query("rename.reach")).matches(code.root):
        node = match["pattern"][0]
        pattern = Span(*node.byte_range)
        if node.type == "identifier":
            whole_patterns.add(pattern.start)
        visible_from = match["after"][0].end_byte if "after" in match else -1
        if "inside" in match:
            inside = match["inside"][0]
            visible[pattern].append(Span(max(visible_from, inside.start_byte), inside.end_byte))
        else:
            scoped.append((pattern, visible_from))
    scopes = deque(sorted((node.start_byte, -node.end_byte) for node in captures.get("scope", ())))
    open_scopes: list[Span] = []
    for pattern, visible_from in sorted(scoped):
        while scopes and scopes[0][0] <= pattern.start:
            start, negative_stop = scopes.popleft()
            open_scopes.append(Span(start, -negative_stop))
        while open_scopes and open_scopes[-1].stop <= pattern.start:
            open_scopes.pop()
        if open_scopes:
            visible[pattern].append(Span(max(visible_from, open_scopes[-1].start), open_scopes[-1].stop))
    return visible, whole_patterns


def _file_level_words(
    code: Code, captures: dict[str, list[Node]], functions: list[Span], data: bytearray
) -> set[bytes]:
    """The words that have a meaning in the whole file: those of `@item` captures and those outside of functions."""
    items = [IDENTIFIER_WORD.findall(code.data, *node.byte_range) for node in captures.get("item", ())]
    # functions [(3, 5), (8, 9)] of a text of 10 bytes -> outside of them (0, 3), (5, 8), (9, 10)
    edges = pairwise([0, *chain.from_iterable(functions), len(data)])
    outside = [IDENTIFIER_WORD.findall(data, *span) for span in islice(edges, 0, None, 2)]
    return set[bytes]().union(*items, *outside)


def _opaque_words(code: Code, nodes: Iterable[Node], functions: list[Span]) -> dict[int, set[bytes]]:
    """For each function index, the words in its opaque parts."""
    starts = [function.start for function in functions]
    words: dict[int, set[bytes]] = defaultdict(set)
    edge = 0
    for start, stop in sorted([node.byte_range for node in nodes]):
        function = find_span_index(starts, functions, start)
        if function >= 0 and start > starts[function] and stop > edge:
            words[function].update(IDENTIFIER_WORD.findall(code.data, start, stop))
            edge = stop
    return words


def _safe_names(
    data: bytearray, function: Span, names: dict[bytes, dict[int, VisibleSpans]], uses: set[int]
) -> dict[bytes, list[int]]:
    """The names of a function whose every occurrence is explained, with the offsets of the occurrences."""
    occurrences: dict[bytes, list[int]] = {name: [] for name in names}
    for word in IDENTIFIER_WORD.finditer(data, *function):
        if (offsets := occurrences.get(word[0])) is not None:
            offsets.append(word.start())
    return {name: offsets for name, offsets in occurrences.items() if _are_explained(offsets, names[name], uses)}


def _are_explained(offsets: list[int], bindings: dict[int, VisibleSpans], uses: set[int]) -> bool:
    """Whether every occurrence is a binding or a use where a binding is visible, and every binding is used.

    A name in a pattern that is never used may be a constant of another module.
    """
    used = [offset for offset in offsets if offset not in bindings]
    if not uses.issuperset(used):
        return False
    visible = {span for spans in bindings.values() for span in spans}
    return all(any(start <= offset < stop for start, stop in visible) for offset in used) and all(
        any(start <= offset < stop for start, stop in spans for offset in used) for spans in bindings.values()
    )


def rename_local_names(code: Code, new_names: Iterable[dict[bytes, bytes]]) -> bytes:
    """Replace safe names: `new_names` maps old to new ones for each of `find_local_names(code).functions`, in order."""
    return apply_edits(
        code.data,
        (
            (offset, offset + len(old), new)
            for function, names in zip(find_local_names(code).functions, new_names, strict=True)
            for old, new in names.items()
            for offset in function.safe_names[old]
        ),
    )


def rename_error(before: Code, after: Code) -> str:
    """The reason why two texts are not equal up to the renaming of safe names, or "".

    Only safe names may differ, and each has one new name of its own at all its occurrences. The new names are read
    from the new text and applied to the old one; if the result is not the new text, something else changed as well.
    """
    if tree_shape(before) != tree_shape(after):
        return "the tree differs"
    known = find_local_names(before)
    occurrences = sorted(
        (offset, name, index)
        for index, function in enumerate(known.functions)
        for name, offsets in function.safe_names.items()
        for offset in offsets
    )
    new_names: list[dict[bytes, bytes]] = [{} for _ in known.functions]
    edits: list[tuple[int, int, bytes]] = []
    shift = 0
    for offset, old, index in occurrences:
        word = IDENTIFIER_WORD.match(after.data, offset + shift)
        new = word[0] if word else b""
        old_text, new_text = old.decode("utf-8", "replace"), new.decode("utf-8", "replace")
        if not RENAMABLE_NAME.fullmatch(new):
            return f"'{new_text}' is no name"
        if new_names[index].setdefault(old, new) != new:
            return f"'{old_text}' became '{new_text}' in one place only"
        edits.append((offset, offset + len(old), new))
        shift += len(new) - len(old)
    if apply_edits(before.data, edits) != after.data:
        return "something else than safe names differs"
    for names in new_names:
        changed = [new for old, new in names.items() if new != old]
        if len(set(changed)) < len(changed):
            return "two names became one"
        if not known.words.isdisjoint(changed):
            return "a new name was there before"
    return ""
