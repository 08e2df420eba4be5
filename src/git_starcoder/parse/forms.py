"""Forms of code that mean the same: where a text has one of them, and how it is written as another.

A table of forms (`[error_patterns]` of a language file) has:

- `forms.NAME.query`: finds the form. `@site` is what it spans (one node, or several that stand side by side), every
  other capture without a leading `_` is a part of it.
- `forms.NAME.text`: how it is written. `$part` is a part, a tab one more level of indentation. What the query finds is
  a site only if it is this text, filled with the parts, but for whitespace and trailing commas: so whatever no part has
  (a comment, an attribute, a type) makes it none, and nothing is lost when it is written in another form.
- `forms.NAME.becomes`: the forms with the same meaning that it may be written as.
- `forms.NAME.names`: parts that other forms do without: names that it binds, and the words to choose from where it is
  written and needs some. What is chosen stands in no part.
- `forms.NAME.absent`: names whose words may stand in no other part (the name of an error that nobody reads).
- `forms.NAME.alone`: parts whose words stand nowhere else in the frame (a name that changes its scope).
- `forms.NAME.outside`: kinds of nodes that the site does not stand in, one level up.
- `forms.NAME.where`: a pattern that a file must have for anything in it to be written so.
- `forms.NAME.within`: kinds of frames, of which the innermost one around the site must have one.
- `frames`: a query for these frames; the name of a capture is the kind.
- `unless`: a query; a file in which it finds an `@unless` has no sites.
- `macros`: words of the queries and what they stand for.
- `like`: a language that has the table instead.
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
from git_starcoder.parse.renaming import WORD
from git_starcoder.parse.tree import outermost_spans
from git_starcoder.records import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from random import Random

    from tree_sitter import Node

    from git_starcoder.parse.tree import Code

_PART = re.compile(rb"\$(\w+)")
_TRAILING = re.compile(rb",(?=[})\]])")
_BLANK = re.compile(rb"[ \t]*")
INDENT_SAMPLES = 100
"""Places where a text is indented by one more level that tell how much that is."""
_STEP = re.compile(rb"^([ \t]*)\S.*\n\1([ \t]+)\S", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write something."""

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
    """Side by side, in order."""
    span: Span


@dataclass(frozen=True, slots=True)
class Site:
    """A place that has a form."""

    form: Form
    span: Span
    parts: dict[str, SitePart]


@dataclass(frozen=True, slots=True, eq=False)
class _Rules:
    forms: dict[str, Form]
    query: Query
    by_pattern: list[tuple[Form, ...]]
    """The forms of the first patterns of the query; the others are for frames and `unless`."""


@cache
def _rules(key: str, table: str) -> _Rules:
    language = load_language(key)
    rules = language.table[table]
    rules = load_language(rules["like"]).table[table] if "like" in rules else rules
    macros = re.compile(rf"\b(?:{'|'.join(rules.get('macros', ['(?!)']))})\b")
    by_query: dict[str, list[Form]] = defaultdict(list)
    forms: dict[str, Form] = {}
    for name, form in rules["forms"].items():
        forms[name] = Form(
            name,
            form["text"].encode(),
            tuple(form["becomes"]),
            {part: words.encode().split() for part, words in form.get("names", {}).items()},
            tuple(form.get("absent", ())),
            tuple(form.get("alone", ())),
            frozenset(form.get("outside", ())),
            re.compile(form["where"].encode()) if "where" in form else None,
            frozenset(form.get("within", ())),
        )
        by_query[macros.sub(lambda match: rules["macros"][match[0]], form["query"])].append(forms[name])
    by_pattern: list[tuple[Form, ...]] = []
    for query, which in by_query.items():
        by_pattern += [tuple(which)] * Query(language.grammar, query).pattern_count
    query = "\n".join([*by_query, rules.get("frames", ""), rules.get("unless", "")])
    return _Rules(forms, Query(language.grammar, query), by_pattern)


@lru_cache(maxsize=2)  # a text and its variation
def find_sites(code: Code, table: str) -> list[Site]:
    """The sites of all forms of a table, in order, outer ones first.

    The text needs a tree, and its language the table.
    """
    return _sites(code, table, None)


def find_sites_at(code: Code, table: str, place: int) -> list[Site]:
    """The sites that begin at a place, as `sites` has them."""
    return [site for site in _sites(code, table, place) if site.span.start == place]


def _sites(code: Code, table: str, place: int | None) -> list[Site]:
    if code.language is None or code.root is None:
        raise ValueError("sites need a tree")
    rules = _rules(code.language.key, table)
    cursor = QueryCursor(rules.query)
    if place is not None:
        cursor.set_byte_range(place, place + 1)
    found: list[Site] = []
    frames: list[tuple[int, int, str]] = []
    for pattern, captures in cursor.matches(code.root):
        if pattern >= len(rules.by_pattern):
            if "unless" in captures:
                return []
            kinds = ((kind, nodes) for kind, nodes in captures.items() if kind[0] != "_")
            frames += [(node.start_byte, -node.end_byte, kind) for kind, nodes in kinds for node in nodes]
        else:
            found += _caught(code, rules.by_pattern[pattern], captures)
    found.sort(key=lambda site: (site.span.start, -site.span.stop, site.form.name))
    return list(_framed(code, found, sorted(frames)))


def _caught(code: Code, forms: Iterable[Form], captures: dict[str, list[Node]]) -> Iterator[Site]:
    """What a query caught, as sites of the forms that it is."""
    span = _part(captures["site"]).span
    parts = {name: _part(nodes) for name, nodes in captures.items() if name != "site" and name[0] != "_"}
    texts = {name: code.data[slice(*part.span)] for name, part in parts.items()}
    bare = _bare(code.data[slice(*span)])
    for form in forms:
        if _bare(_filled(form.template, texts)) == bare:
            site = Site(form, span, parts)
            around = captures["site"][0].parent if form.excluded_parents else None
            if (around is None or around.type not in form.excluded_parents) and _hidden(code, site):
                yield site


def _part(nodes: list[Node]) -> SitePart:
    if len(nodes) == 1:
        return SitePart(nodes, Span(*nodes[0].byte_range))
    return SitePart(nodes, Span(min(node.start_byte for node in nodes), max(node.end_byte for node in nodes)))


def _bare(text: bytes) -> bytes:
    return _TRAILING.sub(b"", b"".join(text.split()))


def _filled(text: bytes, parts: Mapping[str, bytes]) -> bytes:
    return _PART.sub(lambda match: parts[match[1].decode()], text)


def _words(code: Code, span: Span) -> list[bytes]:
    return WORD.findall(code.data, *span)


def _hidden(code: Code, site: Site) -> bool:
    """Whether the names that may stand in no other part do not."""
    if not site.form.unread_parts:
        return True
    names = site.form.new_names
    others = {word for name, part in site.parts.items() if name not in names for word in _words(code, part.span)}
    return all(others.isdisjoint(_words(code, site.parts[name].span)) for name in site.form.unread_parts)


def _framed(code: Code, found: list[Site], frames: list[tuple[int, int, str]]) -> Iterator[Site]:
    """The sites, in order, whose innermost frame (start, negative stop, kind; in order) lets them be one."""
    around: list[tuple[Span, str]] = []
    index = 0
    for site in found:
        while index < len(frames) and frames[index][0] <= site.span.start:
            start, negative, kind = frames[index]
            while around and around[-1][0].stop <= start:
                around.pop()
            around.append((Span(start, -negative), kind))
            index += 1
        while around and around[-1][0].stop <= site.span.start:
            around.pop()
        frame, kind = around[-1] if around else (None, "")
        if site.form.frame_kinds and kind not in site.form.frame_kinds:
            continue
        if not site.form.local_parts or (frame and _alone(code, site, frame)):
            yield site


def _alone(code: Code, site: Site, frame: Span) -> bool:
    """Whether the names that may stand nowhere else in the frame do not."""
    everywhere, here = _tally(code, frame), Counter(_words(code, site.span))
    names = {word for name in site.form.local_parts for word in _words(code, site.parts[name].span)}
    return all(everywhere[word] == here[word] for word in names)


@lru_cache(maxsize=16)  # a frame has many sites
def _tally(code: Code, frame: Span) -> Counter[bytes]:
    """How often each word stands in a frame."""
    return Counter(_words(code, frame))


def alternative_forms(code: Code, site: Site, table: str) -> list[Form]:
    """The forms that a site may be written as."""
    rules = _rules(code.language.key, table) if code.language else None
    forms = [rules.forms[name] for name in site.form.alternatives] if rules else []
    return [form for form in forms if form.file_pattern is None or form.file_pattern.search(code.data)]


def rewrite_site(code: Code, site: Site, form: Form, random: Random) -> bytes | None:
    """The site in another form; None where no name is left to choose, or a line is indented less than its head."""
    texts = {name: code.data[slice(*part.span)] for name, part in site.parts.items()}
    taken = {word for part in site.parts.values() for word in _words(code, part.span)}
    for name, words in form.new_names.items():
        if name not in texts:
            free = [word for word in words if word not in taken]
            if not free:
                return None
            texts[name] = random.choice(free)
            taken.add(texts[name])
    base = _indent(code, site.span.start)
    lines: list[bytes] = []
    for line in form.template.split(b"\n"):
        bare = line.lstrip(b"\t")
        indent = base + _unit(code) * (len(line) - len(bare)) if len(bare) < len(line) else base
        for name in _PART.findall(bare):
            if (part := site.parts.get(name.decode())) is not None:
                moved = _moved(code, part.span, indent)
                if moved is None:
                    return None
                texts[name.decode()] = moved
        lines.append(indent + _filled(bare, texts))
    return b"\n".join(lines)[len(base) :]


def _indent(code: Code, place: int) -> bytes:
    """The whitespace that the line of a place begins with."""
    match = _BLANK.match(code.data, code.data.rfind(b"\n", 0, place) + 1)
    return match[0] if match else b""


@lru_cache(maxsize=1)
def _unit(code: Code) -> bytes:
    """What one more level of indentation adds, most often in this text."""
    steps = Counter(match[2] for match in islice(_STEP.finditer(code.data), INDENT_SAMPLES))
    return max(steps, key=lambda step: (steps[step], step), default=b"    ")


def _moved(code: Code, span: Span, indent: bytes) -> bytes | None:
    """A part with another indentation, but for lines that begin in a string; None if one has less than the first."""
    old = _indent(code, span.start)
    text = code.data[slice(*span)]
    if old == indent or b"\n" not in text:
        return text
    strings = _strings(code, span)
    lines: list[bytes] = []
    place = span.start
    for line in text.split(b"\n"):
        if place == span.start or not line.strip() or any(one.start < place < one.stop for one in strings):
            lines.append(line)
        elif line.startswith(old):
            lines.append(indent + line[len(old) :])
        else:
            return None
        place += len(line) + 1
    return b"\n".join(lines)


def _strings(code: Code, span: Span) -> list[Span]:
    """The texts with a fixed layout that begin in a span."""
    if code.language is None or code.root is None:
        return []
    cursor = QueryCursor(code.language.compile_query("layout.fixed"))
    cursor.set_byte_range(*span)
    spans = outermost_spans(node.byte_range for node in cursor.captures(code.root).get("fixed", ()))
    return [one for one in spans if span.start <= one.start < span.stop]


def equal_parts(before: Code, old: SitePart, after: Code, new: SitePart) -> bool:
    """Whether two parts are the same but for the indentation of their lines."""
    one, two = before.data[slice(*old.span)], after.data[slice(*new.span)]
    return one == two or (
        [line.lstrip() for line in one.split(b"\n")] == [line.lstrip() for line in two.split(b"\n")]
        and [str(node) for node in old.nodes] == [str(node) for node in new.nodes]
        and [before.data[slice(*span)] for span in _strings(before, old.span)]
        == [after.data[slice(*span)] for span in _strings(after, new.span)]
    )
