"""Finds code that can be written in another form with the same meaning, and rewrites it.

A language file lists forms in a table (`[error_patterns]`):

- `forms.NAME.query` finds the form. `@site` captures its extent (one node, or several that follow one another); every
  other capture without a leading `_` is a part of it.
- `forms.NAME.text` is the template of the form: `$part` is a part, a tab is one more level of indentation. What the
  query finds is a site only if it equals this text, filled with the parts, except for whitespace and trailing commas.
  So code with anything that is in no part (a comment, an attribute, a type) is no site, and rewriting loses nothing.
- `forms.NAME.becomes`: the forms with the same meaning that it may be rewritten to.
- `forms.NAME.names`: parts that other forms lack: names that the form binds, with the words to choose a new name from.
  A chosen word occurs in no part.
- `forms.NAME.absent`: names whose words must not occur in other parts (the name of an error that nobody reads).
- `forms.NAME.alone`: parts whose words must not occur elsewhere in the frame (a name that changes its scope).
- `forms.NAME.outside`: node types that the parent of the site must not have.
- `forms.NAME.where`: a pattern that a file must contain before anything in it is rewritten to this form.
- `forms.NAME.within`: the innermost frame around the site must be of one of these kinds.
- `frames`: a query for frames; the name of a capture is the kind.
- `unless`: a query; a file in which it captures `@unless` has no sites.
- `macros`: words in the queries and their replacements.
- `like`: another language whose table is used instead.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tree_sitter import Query, QueryCursor

from git_starcoder.parse.language import load_language
from git_starcoder.parse.renaming import IDENTIFIER_WORD
from git_starcoder.parse.tree import outermost_spans
from git_starcoder.records import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from random import Random

    from tree_sitter import Node

    from git_starcoder.parse.tree import Code

INDENT_SAMPLES = 100
"""Indented lines that are examined to find the unit of indentation of a text."""
_PLACEHOLDER = re.compile(rb"\$(\w+)")
_TRAILING_COMMA = re.compile(rb",(?=[})\]])")
_INDENTATION = re.compile(rb"[ \t]*")
_DEEPER_LINE = re.compile(rb"^([ \t]*)\S.*\n\1([ \t]+)\S", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write something; see the module's docstring for the keys of the table."""

    name: str
    template: bytes
    alternatives: tuple[str, ...]
    new_names: dict[str, list[bytes]]
    unread_parts: tuple[str, ...]
    local_parts: tuple[str, ...]
    excluded_parents: frozenset[str]
    file_pattern: re.Pattern[bytes] | None
    frame_kinds: frozenset[str]


class SitePart(NamedTuple):
    """A part of a site."""

    nodes: list[Node]
    """Nodes that follow one another, in order."""
    span: Span


@dataclass(frozen=True, slots=True)
class Site:
    """A place in a text that has a form."""

    form: Form
    span: Span
    parts: dict[str, SitePart]


@dataclass(frozen=True, slots=True, eq=False)
class _FormTable:
    forms: dict[str, Form]
    query: Query
    forms_by_pattern: list[tuple[Form, ...]]
    """The forms of the first patterns of the query; the other patterns are for frames and `unless`."""


@cache
def _load_table(key: str, table: str) -> _FormTable:
    language = load_language(key)
    rules = language.table[table]
    rules = load_language(rules["like"]).table[table] if "like" in rules else rules
    macros = re.compile(rf"\b(?:{'|'.join(rules.get('macros', ['(?!)']))})\b")
    forms_by_query: dict[str, list[Form]] = defaultdict(list)
    forms: dict[str, Form] = {}
    for name, form in rules["forms"].items():
        forms[name] = Form(
            name=name,
            template=form["text"].encode(),
            alternatives=tuple(form["becomes"]),
            new_names={part: words.encode().split() for part, words in form.get("names", {}).items()},
            unread_parts=tuple(form.get("absent", ())),
            local_parts=tuple(form.get("alone", ())),
            excluded_parents=frozenset(form.get("outside", ())),
            file_pattern=re.compile(form["where"].encode()) if "where" in form else None,
            frame_kinds=frozenset(form.get("within", ())),
        )
        forms_by_query[macros.sub(lambda match: rules["macros"][match[0]], form["query"])].append(forms[name])
    forms_by_pattern: list[tuple[Form, ...]] = []
    for query, query_forms in forms_by_query.items():
        forms_by_pattern += [tuple(query_forms)] * Query(language.grammar, query).pattern_count
    query = "\n".join([*forms_by_query, rules.get("frames", ""), rules.get("unless", "")])
    return _FormTable(forms, Query(language.grammar, query), forms_by_pattern)


@lru_cache(maxsize=2)  # a text and its variation
def find_sites(code: Code, table: str) -> list[Site]:
    """The sites of all forms of a table, in order, outer ones first.

    The text must have a syntax tree, and its language the table.
    """
    return _find_sites(code, table, None)


def find_sites_at(code: Code, table: str, offset: int) -> list[Site]:
    """The sites of `find_sites` that start at an offset."""
    return [site for site in _find_sites(code, table, offset) if site.span.start == offset]


def _find_sites(code: Code, table: str, offset: int | None) -> list[Site]:
    if code.language is None or code.root is None:
        raise ValueError("sites need a syntax tree")
    form_table = _load_table(code.language.key, table)
    cursor = QueryCursor(form_table.query)
    if offset is not None:
        cursor.set_byte_range(offset, offset + 1)
    sites: list[Site] = []
    frames: list[tuple[int, int, str]] = []  # start, negative stop, kind
    for pattern, captures in cursor.matches(code.root):
        if pattern >= len(form_table.forms_by_pattern):
            if "unless" in captures:
                return []
            kinds = ((kind, nodes) for kind, nodes in captures.items() if kind[0] != "_")
            frames += [(node.start_byte, -node.end_byte, kind) for kind, nodes in kinds for node in nodes]
        else:
            sites += _matching_sites(code, form_table.forms_by_pattern[pattern], captures)
    sites.sort(key=lambda site: (site.span.start, -site.span.stop, site.form.name))
    return list(_filter_by_frames(code, sites, sorted(frames)))


def _matching_sites(code: Code, forms: Iterable[Form], captures: dict[str, list[Node]]) -> Iterator[Site]:
    """The captures of a query as sites of the forms whose template they equal."""
    span = _site_part(captures["site"]).span
    parts = {name: _site_part(nodes) for name, nodes in captures.items() if name != "site" and name[0] != "_"}
    texts = {name: code.data[slice(*part.span)] for name, part in parts.items()}
    bare = _without_whitespace(code.data[slice(*span)])
    for form in forms:
        if _without_whitespace(_fill_template(form.template, texts)) == bare:
            site = Site(form, span, parts)
            parent = captures["site"][0].parent if form.excluded_parents else None
            if (parent is None or parent.type not in form.excluded_parents) and _has_unread_names(code, site):
                yield site


def _site_part(nodes: list[Node]) -> SitePart:
    return SitePart(nodes, Span(min(node.start_byte for node in nodes), max(node.end_byte for node in nodes)))


def _without_whitespace(text: bytes) -> bytes:
    """A text without whitespace and trailing commas."""
    return _TRAILING_COMMA.sub(b"", b"".join(text.split()))


def _fill_template(template: bytes, parts: Mapping[str, bytes]) -> bytes:
    return _PLACEHOLDER.sub(lambda match: parts[match[1].decode()], template)


def _identifier_words(code: Code, span: Span) -> list[bytes]:
    """The words in a span that may be identifiers, also those in strings and comments."""
    return IDENTIFIER_WORD.findall(code.data, *span)


def _has_unread_names(code: Code, site: Site) -> bool:
    """Whether the names that must not occur in other parts do not."""
    if not site.form.unread_parts:
        return True
    names = site.form.new_names
    old_parts = [part.span for name, part in site.parts.items() if name not in names]
    others = {word for span in old_parts for word in _identifier_words(code, span)}
    return all(others.isdisjoint(_identifier_words(code, site.parts[name].span)) for name in site.form.unread_parts)


def _filter_by_frames(code: Code, sites: list[Site], frames: list[tuple[int, int, str]]) -> Iterator[Site]:
    """The sites whose innermost frame permits their form. Sites and frames are sorted."""
    open_frames: list[tuple[Span, str]] = []
    index = 0
    for site in sites:
        while index < len(frames) and frames[index][0] <= site.span.start:
            start, negative_stop, kind = frames[index]
            while open_frames and open_frames[-1][0].stop <= start:
                open_frames.pop()
            open_frames.append((Span(start, -negative_stop), kind))
            index += 1
        while open_frames and open_frames[-1][0].stop <= site.span.start:
            open_frames.pop()
        frame, kind = open_frames[-1] if open_frames else (None, "")
        if site.form.frame_kinds and kind not in site.form.frame_kinds:
            continue
        if not site.form.local_parts or (frame and _has_local_names(code, site, frame)):
            yield site


def _has_local_names(code: Code, site: Site, frame: Span) -> bool:
    """Whether the words that must not occur elsewhere in the frame do not."""
    frame_counts, site_counts = _count_words(code, frame), Counter(_identifier_words(code, site.span))
    words = {word for name in site.form.local_parts for word in _identifier_words(code, site.parts[name].span)}
    return all(frame_counts[word] == site_counts[word] for word in words)


@lru_cache(maxsize=16)  # a frame has many sites
def _count_words(code: Code, frame: Span) -> Counter[bytes]:
    return Counter(_identifier_words(code, frame))


def alternative_forms(code: Code, site: Site, table: str) -> list[Form]:
    """The forms that a site may be rewritten to."""
    if code.language is None:
        return []
    forms = _load_table(code.language.key, table).forms
    alternatives = [forms[name] for name in site.form.alternatives]
    return [form for form in alternatives if form.file_pattern is None or form.file_pattern.search(code.data)]


def rewrite_site(code: Code, site: Site, form: Form, random: Random) -> bytes | None:
    """A site in another form; None if no new name is free, or a line has less indentation than the first one."""
    texts = {name: code.data[slice(*part.span)] for name, part in site.parts.items()}
    used_words = {word for part in site.parts.values() for word in _identifier_words(code, part.span)}
    for name, words in form.new_names.items():
        if name not in texts:
            free = [word for word in words if word not in used_words]
            if not free:
                return None
            texts[name] = random.choice(free)
            used_words.add(texts[name])
    base = _line_indent(code, site.span.start)
    lines: list[bytes] = []
    for template_line in form.template.split(b"\n"):
        line = template_line.lstrip(b"\t")
        tab_count = len(template_line) - len(line)
        indent = base + _indent_unit(code) * tab_count if tab_count else base
        for name in _PLACEHOLDER.findall(line):
            if (part := site.parts.get(name.decode())) is not None:
                indented = _change_indent(code, part.span, indent)
                if indented is None:
                    return None
                texts[name.decode()] = indented
        lines.append(indent + _fill_template(line, texts))
    return b"\n".join(lines)[len(base) :]


def _line_indent(code: Code, offset: int) -> bytes:
    """The whitespace at the start of the line that contains an offset."""
    match = _INDENTATION.match(code.data, code.data.rfind(b"\n", 0, offset) + 1)
    return match[0] if match else b""


@lru_cache(maxsize=1)
def _indent_unit(code: Code) -> bytes:
    """The most frequent difference in this text between a line and a more indented line below it."""
    units = Counter(match[2] for match in islice(_DEEPER_LINE.finditer(code.data), INDENT_SAMPLES))
    return max(units, key=lambda unit: (units[unit], unit), default=b"    ")


def _change_indent(code: Code, span: Span, indent: bytes) -> bytes | None:
    """A part with another indentation; None if a line has less than the first one. Lines that start in strings stay."""
    old_indent = _line_indent(code, span.start)
    text = code.data[slice(*span)]
    if old_indent == indent or b"\n" not in text:
        return text
    fixed_spans = _fixed_layout_spans(code, span)
    lines: list[bytes] = []
    offset = span.start
    for line in text.split(b"\n"):
        if offset == span.start or not line.strip() or any(fixed.start < offset < fixed.stop for fixed in fixed_spans):
            lines.append(line)
        elif line.startswith(old_indent):
            lines.append(indent + line[len(old_indent) :])
        else:
            return None
        offset += len(line) + 1
    return b"\n".join(lines)


def _fixed_layout_spans(code: Code, span: Span) -> list[Span]:
    if code.language is None or code.root is None:
        return []
    cursor = QueryCursor(code.language.compile_query("layout.fixed"))
    cursor.set_byte_range(*span)
    found = outermost_spans(node.byte_range for node in cursor.captures(code.root).get("fixed", ()))
    return [fixed for fixed in found if span.start <= fixed.start < span.stop]


def equal_parts(before: Code, old: SitePart, after: Code, new: SitePart) -> bool:
    """Whether two parts are equal except for the indentation of their lines."""
    old_text, new_text = before.data[slice(*old.span)], after.data[slice(*new.span)]
    return old_text == new_text or (
        [line.lstrip() for line in old_text.split(b"\n")] == [line.lstrip() for line in new_text.split(b"\n")]
        and [str(node) for node in old.nodes] == [str(node) for node in new.nodes]
        and [before.data[slice(*span)] for span in _fixed_layout_spans(before, old.span)]
        == [after.data[slice(*span)] for span in _fixed_layout_spans(after, new.span)]
    )
