"""Functions, types and constants as their file declares them.

The `[symbols]` table of a language has a query that captures declarations in groups. `public` may have, for a group,
the pattern that the signature of a public one matches; without one, all of the group are public. Groups whose name
begins with `type_` or `constant` are types and constants, all others functions. `widen` names the wrappers whose text
belongs to the signature (`template <…>`, `export`), `omit` the nodes that do not (annotations), `end` what a signature
ends before, besides the body; `lead` has words for groups that are captured without their keyword; without `inline`,
the body of a type is more than a line.

What a declaration is in is its owner: a type, a function, a captured `owner` (Rust's `impl`), or what the pattern
`owner` finds in its signature (Go's receivers). `field` captures what is shown of types that have no brackets around it
(Python). Where visibility is a matter of sections (C++), `section` captures their heads and the bodies they are in.
"""

from __future__ import annotations

import re
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from git_starcoder.parse.language import language_table
from git_starcoder.records import Symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tree_sitter import Node

    from git_starcoder.parse.tree import Captures, Code

MAX_SIGNATURE_CHARACTERS = 2_000
"""Characters of a signature; what is longer is data, and is cut."""
MAX_FULL_DEFINITION_CHARACTERS = 400
"""Characters of a type or constant that is shown in full."""

AUXILIARY_CAPTURES = frozenset({"owner", "field", "section", "section.private", "section.public"})
"""Captures of the query that are not groups of declarations."""

_CAPTURE = re.compile(r"@(?!_)([\w.]+)")
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|;[^\n]*')
_ASIDE = re.compile(rb"//|/\*|[#@]")
_TAIL = (":", ";", "=", "{", "=>")
_PRIVATE = frozenset({"private", "protected"})
_VALUES = ("body", "value", "right")
"""Fields that are left out where a type or constant is not shown in full."""

CaptureKind = Literal["function", "type", "constant", "owner", "field"]


class _Found(NamedTuple):
    node: Node
    name: str
    group: str
    """The capture."""
    kind: CaptureKind
    start: int
    stop: int


def extract_symbols(code: Code, captures: Captures) -> tuple[Symbol, ...]:
    """What a file declares, in order, from the captures of its `symbols` query."""
    assert code.language is not None  # noqa: S101 - captures come from a tree, and a tree from a language
    rules: dict[str, Any] | None = code.language.table.get("symbols")
    if rules is None:
        return ()
    sections = _sections(captures) if "section" in captures else None
    found = sorted(_found(code, captures), key=lambda one: (one.start, -one.stop))
    owners = _owners(found)
    crowded = {owner for one, owner in zip(found, owners, strict=True) if one.kind == "function"}
    fields: dict[int, list[Node]] = {}
    for one, owner in zip(found, owners, strict=True):
        if one.kind == "field":
            fields.setdefault(owner, []).append(one.node)
    symbols: list[Symbol] = []
    for at, (one, owner) in enumerate(zip(found, owners, strict=True)):
        if one.kind == "owner" or one.kind == "field":
            continue
        if one.kind == "function":
            signature = _signature(code, one.node, rules)
        else:
            signature = _definition(code, one, rules, fields.get(at, ()), full=at not in crowded)
        if sections is not None and one.group == "method":
            visible = sections(one.start)
        else:
            pattern = rules.get("public", {}).get(one.group, "")
            visible = _compiled(pattern).search(signature) is not None
        inside = found[owner].name if owner >= 0 else ""
        if not inside and "owner" in rules and (stated := _compiled(rules["owner"]).search(signature)):
            inside = stated[1]
        if "lead" in rules:
            signature = rules["lead"].get(one.group, "") + signature
        line = one.node.start_point.row + 1
        symbols.append(Symbol(one.name, signature, "public" if visible else "private", line, one.kind, inside))
    return tuple(symbols)


@cache
def declaration_groups(key: str) -> tuple[str, ...]:
    """The captures of a language's `symbols` query that are declarations, those with a `public` pattern first.

    They are read from the text of the query: compiling it once more takes up to 70 ms.
    """
    rules = language_table(key)["symbols"]
    captured = _CAPTURE.findall(_STRING_OR_COMMENT.sub("", rules["query"]))
    return tuple(
        name for name in dict.fromkeys((*rules.get("public", ()), *captured)) if name not in AUXILIARY_CAPTURES
    )


def _found(code: Code, captures: Captures) -> Iterator[_Found]:
    """What the groups capture, each name once, and the owners and fields."""
    assert code.language is not None  # noqa: S101 - see `symbols_of`
    names: dict[int, _Found] = {}
    for group in declaration_groups(code.language.key):
        kind: CaptureKind = (
            "type" if group.startswith("type_") else "constant" if group.startswith("constant") else "function"
        )
        for node in captures.get(group, ()):
            name = _name(node)
            if name is not None:
                text = _line(code.data[name.start_byte : name.end_byte].decode("utf-8", "replace"))
                # A later group knows better: an exported declaration is a declaration, too.
                names[name.start_byte] = _Found(node, text, group, kind, node.start_byte, node.end_byte)
    yield from names.values()
    for node in captures.get("owner", ()):
        named = node.child_by_field_name("type") or node
        head = code.data[named.start_byte : named.end_byte].decode("utf-8", "replace").partition("<")[0]
        words = re.findall(r"\w+", head)
        yield _Found(node, words[-1] if words else "", "owner", "owner", node.start_byte, node.end_byte)
    for node in captures.get("field", ()):
        yield _Found(node, "", "field", "field", node.start_byte, node.end_byte)


def _owners(found: Sequence[_Found]) -> list[int]:
    """For each in order, the place of the innermost one that it is in, -1 for none. Nothing is in a constant."""
    owners: list[int] = []
    around: list[int] = []
    for at, one in enumerate(found):
        while around and found[around[-1]].stop <= one.start:
            around.pop()
        owners.append(around[-1] if around else -1)
        if one.kind != "constant" and one.kind != "field":
            around.append(at)
    return owners


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _name(node: Node) -> Node | None:
    """The node that names a declaration: its name, or what is left when its declarators are peeled off."""
    name = node.child_by_field_name("name") or node.child_by_field_name("property")
    while name is None:
        inner = _declarator(node)
        if inner is None:
            # A declarator in parentheses makes a variable: a pointer to a function.
            return node if node.type.endswith(("identifier", "name", "operator_cast")) else None
        if inner.type == "variable_declarator":
            return inner.child_by_field_name("name")
        node = inner
    return name


def _declarator(node: Node) -> Node | None:
    inner = node.child_by_field_name("declarator") or node.child_by_field_name("left")
    if inner is None and node.type in {"reference_declarator", "lexical_declaration"}:
        inner = node.named_child(0)
    return inner


def _signature(code: Code, node: Node, rules: Mapping[str, Any]) -> str:
    """All of a function but its body."""
    value = node.child_by_field_name("value")
    body = (value or node).child_by_field_name("body")
    stop = body.start_byte if body else node.end_byte
    for child in node.children if "end" in rules else ():
        if child.type in rules["end"]:
            stop = min(stop, child.start_byte)
    return _text(code, node, stop, rules)


def _definition(code: Code, one: _Found, rules: Mapping[str, Any], fields: Sequence[Node], *, full: bool) -> str:
    """All of a type or constant where it is short and holds no functions, else all but its body or value."""
    node = one.node
    if (
        full
        and (one.kind == "constant" or rules.get("inline", True))
        and one.stop - one.start <= 2 * MAX_SIGNATURE_CHARACTERS
    ):
        text = _text(code, node, one.stop, rules)
        if len(text) <= MAX_FULL_DEFINITION_CHARACTERS:
            return text
    stop = one.stop
    for holder in (node, _declarator(node), node.child_by_field_name("type")):
        for field in _VALUES:
            if holder is not None and (value := holder.child_by_field_name(field)) is not None:
                stop = min(stop, value.start_byte)
    head = _text(code, node, stop, rules)
    if len(head) > MAX_FULL_DEFINITION_CHARACTERS:
        head = head.partition("{")[0].rstrip()
    if one.name not in head:  # C has the name of a type behind its body
        head = f"{head} {one.name}"
    shown = "; ".join(_text(code, field, field.end_byte, rules) for field in fields)
    return f"{head}: {shown}" if shown and len(head) + len(shown) + 2 <= MAX_FULL_DEFINITION_CHARACTERS else head


def _text(code: Code, node: Node, stop: int, rules: Mapping[str, Any]) -> str:
    """A declaration up to a place, with its wrapper, on one line."""
    start = node.start_byte
    if "widen" in rules and (parent := node.parent) is not None and parent.type in rules["widen"]:
        start = parent.start_byte
    text = code.data[start:stop]
    if _ASIDE.search(text):
        text = b" ".join(_without_asides(code, node, start, stop, rules))
    line = _line(text.replace(b"\\\n", b"\n").decode("utf-8", "replace"))[:MAX_SIGNATURE_CHARACTERS]
    while line.endswith(_TAIL):
        line = line[: -2 if line.endswith("=>") else -1].rstrip()
    return line


def _without_asides(code: Code, node: Node, start: int, stop: int, rules: Mapping[str, Any]) -> Iterator[bytes]:
    """The parts of a signature between its comments and whatever else is to be omitted."""
    assert code.language is not None  # noqa: S101 - see `symbols_of`
    asides = code.language.comments.union(rules.get("omit", ()))
    stack = [node]
    at = start
    while stack:
        inner = stack.pop()
        if inner.start_byte >= stop:
            continue
        if inner.type in asides:
            yield code.data[at : inner.start_byte]
            at = inner.end_byte
        else:
            stack.extend(reversed(inner.children))
    yield code.data[at:stop]


def _line(text: str) -> str:
    return " ".join(text.split())


def _sections(captures: Captures) -> Callable[[int], bool]:
    """For places in rising order, whether a member there is public: what the last head in the same body says."""
    bodies = [
        (body.start_byte, body.end_byte, group.removeprefix("section."))
        for group in ("section.private", "section.public")
        for body in captures.get(group, ())
    ]
    heads = [(head.start_byte, 0, (head.text or b"").decode("utf-8", "replace")) for head in captures["section"]]
    events = deque(sorted([*bodies, *heads]))
    open_bodies: list[tuple[int, str]] = []

    def close(place: int) -> None:
        while open_bodies and open_bodies[-1][0] <= place:
            open_bodies.pop()

    def public(place: int) -> bool:
        while events and events[0][0] < place:
            start, stop, word = events.popleft()
            close(start)
            if stop:
                open_bodies.append((stop, word))
            elif open_bodies:
                open_bodies[-1] = (open_bodies[-1][0], word)
        close(place)
        return not open_bodies or open_bodies[-1][1] not in _PRIVATE

    return public
