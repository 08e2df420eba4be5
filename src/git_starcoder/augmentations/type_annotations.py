"""Adds type annotations that are certain, or removes redundant ones (whole files, verified).

A type is certain if a literal or the syntax tree states it, whatever the rest of the program is: `true`, `5u8`,
`x as u64`, `new Reader()`. Nothing is inferred from names or from other files. The `[type_annotations]` table of a
language file says where a type may stand and which values state one:

- `values`: lists of `[type, query of a value]`. If the type is empty, it is what `@says` captures of the value, or what
  the pattern `says` finds in that.
- `forms`: each is one declaration in two ways, `bare` and `typed`. Each way is a text, and the query of a declaration
  with VALUE in the place of its value. In this query,
  - `@cut` is what the text replaces, from the first to the last of them; only punctuation may stand between them;
  - `@name` and `@value` give `{name}` and `{value}` in the text (the value without the type, if it ends with it);
  - `@type` is the type that is written now.
  A form's `values` names the lists that may stand for VALUE; it has none where its own queries capture `@says`. Its
  `given` is a pattern that the file must contain for the form to be used, `unless` one that it must not contain.
- `scopes`: a query. With it, a declaration counts only inside a `@scope`, not inside a `@no` within that, and only if
  the outermost `@scope` has no other `@bound` of the same name. Nor may the file bind the name of the type or of a
  `@builtin`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from tree_sitter import Query, QueryCursor

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant
from git_starcoder.parse.language import load_language
from git_starcoder.parse.renaming import apply_edits, find_span_index
from git_starcoder.parse.tree import outermost_spans

if TYPE_CHECKING:
    from random import Random

    from tree_sitter import Node

    from git_starcoder.parse.tree import Captures, Code

NEEDS = "tree"
TABLES = ("type_annotations",)

_PUNCTUATION = re.compile(rb"[\s:=*]*")
"""What may be lost between two `@cut`; above all, no comment may be lost."""


@dataclass(frozen=True, slots=True)
class _Declaration:
    """A declaration with a certain type."""

    start: int
    stop: int
    bare: bytes
    """Its text without the type."""
    typed: bytes
    """Its text with the type."""
    has_type: bool
    """Whether the type is written now."""


@dataclass(frozen=True, slots=True)
class _Form:
    """One of the `forms` of a language; see the module's docstring."""

    bare: str
    typed: str
    given: re.Pattern[bytes]
    unless: re.Pattern[bytes]


@dataclass(frozen=True, slots=True)
class _Rules:
    """The `[type_annotations]` table of a language."""

    forms: list[_Form]
    query: Query
    says: re.Pattern[bytes]
    scopes: Query | None


def vary(code: Code, random: Random) -> Variant | str:
    """The file with all certain types written out, or with none."""
    declarations = _find_declarations(code, code.data)
    if not declarations:
        return NOTHING_TO_CHANGE
    remove = random.choice(declarations).has_type
    edits = [
        (declaration.start, declaration.stop, declaration.bare if remove else declaration.typed)
        for declaration in declarations
        if declaration.has_type == remove
    ]
    return Variant(apply_edits(code.data, edits))


def verify(before: Code, variant: Variant, after: Code) -> str:
    """Check that both texts are the same to the byte without the types that their own trees say are certain."""
    if variant.text != after.data:
        return "another text was parsed"
    is_same = _without_types(before, before.data) == _without_types(after, before.data)
    return "" if is_same else "more than certain types differs"


def _without_types(code: Code, original: bytes) -> bytes:
    declarations = _find_declarations(code, original)
    return apply_edits(code.data, ((found.start, found.stop, found.bare) for found in declarations))


@cache
def _load_rules(key: str) -> _Rules:
    language = load_language(key)
    table = language.table["type_annotations"]
    forms: list[_Form] = []
    patterns: list[str] = []
    for form in table["forms"]:
        values = [value for name in form.get("values", ()) for value in table["values"][name]] or [["", ""]]
        for way in ("bare", "typed"):
            for type_name, value in values:
                pattern = form[way][1].replace("VALUE", value)
                patterns.append(f'({pattern} (#set! form "{len(forms)}") (#set! type "{type_name}"))')
        given, unless = form.get("given", ""), form.get("unless", "(?!)")
        forms.append(_Form(form["bare"][0], form["typed"][0], re.compile(given.encode()), re.compile(unless.encode())))
    query = Query(language.grammar, "\n".join(patterns))
    scopes = Query(language.grammar, table["scopes"]) if "scopes" in table else None
    return _Rules(forms, query, re.compile(table.get("says", r"(?s)^[^\n]+$").encode()), scopes)


@lru_cache(maxsize=2)  # a text and its variation
def _find_declarations(code: Code, original: bytes) -> list[_Declaration]:
    """The declarations with a certain type, in order. The original text alone decides which forms may be used."""
    if code.language is None or code.root is None:
        raise ValueError("types need a tree")
    rules = _load_rules(code.language.key)
    is_usable = [bool(form.given.search(original)) and not form.unless.search(original) for form in rules.forms]
    if not any(is_usable):
        return []
    found: dict[int, _Declaration] = {}
    bindings = _Bindings(code, rules.scopes) if rules.scopes else None
    for index, match in QueryCursor(rules.query).matches(code.root):
        settings = rules.query.pattern_settings(index)
        form = int(settings["form"] or 0)
        type_name = (settings["type"] or "").encode()
        if is_usable[form] and (bindings is None or bindings.is_bound_once(match, type_name)):
            declaration = _read_declaration(code.data, rules, rules.forms[form], type_name, match)
            if declaration is not None:
                found.setdefault(declaration.start, declaration)
    return [found[start] for start in sorted(found)]


def _read_declaration(
    data: bytes, rules: _Rules, form: _Form, type_name: bytes, match: dict[str, list[Node]]
) -> _Declaration | None:
    """The declaration of a match; None if its type is not certain, or not the one that is written now."""
    cut = match["cut"]
    start, stop = min(node.start_byte for node in cut), max(node.end_byte for node in cut)
    edge = start
    for begin, end in sorted((node.start_byte, node.end_byte) for nodes in match.values() for node in nodes):
        if start <= begin and end <= stop:
            if edge < begin and not _PUNCTUATION.fullmatch(data, edge, begin):
                return None
            edge = max(edge, end)
    if "says" in match:
        stated = rules.says.search(_text(data, match["says"]))
        if stated is None:
            return None
        type_name = stated[0]
    written = _text(data, match.get("type", []))
    if written and type_name and written.split() != type_name.split():
        return None
    type_name = type_name or written
    value = _text(data, match.get("value", [])).removesuffix(type_name)
    bare, typed = form.bare.encode(), form.typed.encode()
    for placeholder, text in (
        (b"{name}", _text(data, match.get("name", []))),
        (b"{value}", value),
        (b"{type}", type_name),
    ):
        bare, typed = bare.replace(placeholder, text), typed.replace(placeholder, text)
    return _Declaration(start, stop, bare, typed, has_type=bool(written))


def _text(data: bytes, nodes: list[Node]) -> bytes:
    return data[nodes[0].start_byte : nodes[0].end_byte] if nodes else b""


class _Bindings:
    """The names that each function binds, by the query `scopes`."""

    def __init__(self, code: Code, query: Query) -> None:
        if code.root is None:
            raise ValueError("scopes need a tree")
        found = QueryCursor(query).captures(code.root)
        self._data = code.data
        self._functions = outermost_spans(_spans(found, "scope"))
        self._function_starts = [span.start for span in self._functions]
        self._excluded = outermost_spans(span for span in _spans(found, "no") if self._function_index(span[0]) >= 0)
        self._excluded_starts = [span.start for span in self._excluded]
        bound = _spans(found, "bound")
        self._counts = Counter((self._function_index(start), code.data[start:stop]) for start, stop in bound)
        self._names = {code.data[start:stop] for start, stop in bound}

    def _function_index(self, offset: int) -> int:
        return find_span_index(self._function_starts, self._functions, offset)

    def is_bound_once(self, match: dict[str, list[Node]], type_name: bytes) -> bool:
        """Whether a match's name is bound here and nowhere else in its function, and its type and builtin nowhere."""
        start, name = match["name"][0].start_byte, _text(self._data, match["name"])
        function = self._function_index(start)
        if function < 0 or find_span_index(self._excluded_starts, self._excluded, start) >= 0:
            return False
        if not self._names.isdisjoint((type_name, _text(self._data, match.get("builtin", [])))):
            return False
        return self._counts[function, name] == 1


def _spans(found: Captures, kind: str) -> list[tuple[int, int]]:
    return [(node.start_byte, node.end_byte) for node in found.get(kind, ())]
