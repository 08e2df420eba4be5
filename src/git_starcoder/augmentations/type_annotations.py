"""Writes out types that are certain, or leaves out those the value has anyway (whole files, checked).

Certain is what a literal or the syntax tree says, whatever the rest of the program is: `true`, `5u8`, `x as u64`,
`new Reader()`. Nothing is inferred from names or from other files. The `[type_annotations]` table of a language says
where a type may stand and which values say one; a language without the table has nothing to change.

`values` are lists of `[type, query of a value]`; an empty type is what `@says` catches of the value, or what the
pattern `says` finds in it. Each of `forms` is one declaration in two ways, `bare` and `typed`: a text, and the query of
a declaration, with VALUE where its value stands.

- `@cut`: what the text replaces, from the first to the last of them; only punctuation may stand between them.
- `@name`, `@value`: for `{name}` in the text, and `{value}` (without the type, if it ends with it). `@type`: the type
  that is written now.
- `values`: the lists that may stand for VALUE; none where the form's own queries catch `@says`.
- `given`: what the file must have for this form to be used, `unless`: what it must not have.

With the query `scopes`, a declaration is only looked at in a `@scope`, not in a `@no` within it, and only where the
outermost `@scope` has no other `@bound` of the same name. Nor may the file bind the type's name or a `@builtin`'s.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from tree_sitter import Query, QueryCursor

from git_starcoder.augmentations import NOTHING, Variant
from git_starcoder.parse.language import load_language
from git_starcoder.parse.renaming import find_span_index
from git_starcoder.parse.tree import apply_edits, outermost_spans

if TYPE_CHECKING:
    from random import Random

    from tree_sitter import Node

    from git_starcoder.parse.tree import Captures, Code

NEEDS = "tree"
TABLES = ("type_annotations",)

_KEY = "type_annotations"
_BETWEEN = re.compile(rb"[\s:=*]*")
"""What may be lost between two `@cut`: no comment, above all."""


@dataclass(frozen=True, slots=True)
class _Site:
    """A declaration with a certain type."""

    start: int
    stop: int
    bare: bytes
    typed: bytes
    written: bool
    """Whether the type stands there now."""


@dataclass(frozen=True, slots=True)
class _Form:
    bare: str
    typed: str
    given: re.Pattern[bytes]
    unless: re.Pattern[bytes]


@dataclass(frozen=True, slots=True)
class _Rules:
    forms: list[_Form]
    query: Query
    says: re.Pattern[bytes]
    scopes: Query | None


def vary(code: Code, random: Random) -> Variant | str:
    """The file with all certain types written out, or with none."""
    sites = _sites(code, code.data)
    if not sites:
        return NOTHING
    written = random.choice(sites).written
    edits = [(site.start, site.stop, site.bare if written else site.typed) for site in sites if site.written == written]
    return Variant(apply_edits(code.data, edits))


def verify(before: Code, variant: Variant, after: Code) -> str:
    """Each text, without the types that its own tree says are certain, is the same to the byte."""
    if variant.text != after.data:
        return "another text was parsed"
    if _bare(before, before.data) != _bare(after, before.data):
        return "more than certain types differs"
    return ""


def _bare(code: Code, original: bytes) -> bytes:
    return apply_edits(code.data, ((site.start, site.stop, site.bare) for site in _sites(code, original)))


@cache
def _rules(key: str) -> _Rules:
    language = load_language(key)
    table = language.table[_KEY]
    forms: list[_Form] = []
    patterns: list[str] = []
    for form in table["forms"]:
        values = [one for name in form.get("values", ()) for one in table["values"][name]] or [["", ""]]
        for way in ("bare", "typed"):
            for kind, value in values:
                pattern = form[way][1].replace("VALUE", value)
                patterns.append(f'({pattern} (#set! form "{len(forms)}") (#set! type "{kind}"))')
        never = "(?!)"
        given, unless = form.get("given", ""), form.get("unless", never)
        forms.append(_Form(form["bare"][0], form["typed"][0], re.compile(given.encode()), re.compile(unless.encode())))
    query = Query(language.grammar, "\n".join(patterns))
    scopes = Query(language.grammar, table["scopes"]) if "scopes" in table else None
    return _Rules(forms, query, re.compile(table.get("says", r"(?s)^[^\n]+$").encode()), scopes)


@lru_cache(maxsize=2)  # a text and its variation
def _sites(code: Code, original: bytes) -> list[_Site]:
    """The declarations with a certain type, in order. Whether a form may be used depends on the original text alone."""
    if code.language is None or code.root is None:
        raise ValueError("types need a tree")
    rules = _rules(code.language.key)
    used = [bool(form.given.search(original)) and not form.unless.search(original) for form in rules.forms]
    if not any(used):
        return []
    found: dict[int, _Site] = {}
    once = _Once(code, rules.scopes) if rules.scopes else None
    for index, match in QueryCursor(rules.query).matches(code.root):
        settings = rules.query.pattern_settings(index)
        form = int(settings["form"] or 0)
        kind = (settings["type"] or "").encode()
        if used[form] and (once is None or once.has(match, kind)):
            site = _site(code.data, rules, rules.forms[form], kind, match)
            if site is not None:
                found.setdefault(site.start, site)
    return [found[start] for start in sorted(found)]


def _site(data: bytes, rules: _Rules, form: _Form, kind: bytes, match: dict[str, list[Node]]) -> _Site | None:
    """The declaration that a match is; None where its type is not certain, or is another than the one written."""
    cut = match["cut"]
    start, stop = min(node.start_byte for node in cut), max(node.end_byte for node in cut)
    edge = start
    for begin, end in sorted((node.start_byte, node.end_byte) for nodes in match.values() for node in nodes):
        if start <= begin and end <= stop:
            if edge < begin and not _BETWEEN.fullmatch(data, edge, begin):
                return None
            edge = max(edge, end)
    if "says" in match:
        said = rules.says.search(_text(data, match["says"]))
        if said is None:
            return None
        kind = said[0]
    now = _text(data, match.get("type", []))
    if now and kind and now.split() != kind.split():
        return None
    kind = kind or now
    texts = {b"{name}": _text(data, match.get("name", [])), b"{value}": _text(data, match.get("value", []))}
    texts[b"{value}"] = texts[b"{value}"].removesuffix(kind)
    bare, typed = form.bare.encode(), form.typed.encode()
    for key, text in [*texts.items(), (b"{type}", kind)]:
        bare, typed = bare.replace(key, text), typed.replace(key, text)
    return _Site(start, stop, bare, typed, written=bool(now))


def _text(data: bytes, nodes: list[Node]) -> bytes:
    return data[nodes[0].start_byte : nodes[0].end_byte] if nodes else b""


class _Once:
    """Which names are bound once in a function, by the query `scopes`."""

    def __init__(self, code: Code, query: Query) -> None:
        if code.root is None:
            raise ValueError("scopes need a tree")
        found = QueryCursor(query).captures(code.root)
        self._data = code.data
        self._outer = outermost_spans(_spans(found, "scope"))
        self._starts = [span.start for span in self._outer]
        self._no = outermost_spans(span for span in _spans(found, "no") if self._function(span[0]) >= 0)
        self._no_starts = [span.start for span in self._no]
        bound = _spans(found, "bound")
        self._bound = Counter((self._function(start), code.data[start:stop]) for start, stop in bound)
        self._words = {code.data[start:stop] for start, stop in bound}

    def _function(self, place: int) -> int:
        return find_span_index(self._starts, self._outer, place)

    def has(self, match: dict[str, list[Node]], kind: bytes) -> bool:
        """Whether a name is bound here and nowhere else in its function, and what its type is told from means that."""
        start, name = match["name"][0].start_byte, _text(self._data, match["name"])
        function = self._function(start)
        if function < 0 or find_span_index(self._no_starts, self._no, start) >= 0:
            return False
        if not self._words.isdisjoint((kind, _text(self._data, match.get("builtin", [])))):
            return False
        return self._bound[function, name] == 1


def _spans(found: Captures, kind: str) -> list[tuple[int, int]]:
    return [(node.start_byte, node.end_byte) for node in found.get(kind, ())]
