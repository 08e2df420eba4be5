"""Functions and methods as their file declares them.

The `[symbols]` table of a language has a query that captures declarations in groups, and for each group in `public`
the pattern that the signature of a public one matches. `widen` names the wrappers whose text belongs to the signature
(`template <…>`, `export`), `omit` the nodes that do not (annotations), `end` what a signature ends before, besides
the body. Where visibility is a matter of sections (C++), `section` captures their heads and the bodies they are in.
"""

from __future__ import annotations

import re
from collections import deque
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from git_starcoder.rows import Symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tree_sitter import Node

    from git_starcoder.parse.tree import Captures, Code

LONGEST = 2_000
"""Characters of a signature; what is longer is data, and is cut."""

_ASIDE = re.compile(rb"//|/\*|[#@]")
_TAIL = re.compile(r"\s*(?:=>|[:;={])+$")
_PRIVATE = frozenset({"private", "protected"})


def functions(code: Code, captures: Captures) -> tuple[Symbol, ...]:
    """The functions of a file in order, from the captures of its `symbols` query."""
    assert code.language is not None  # noqa: S101 - captures come from a tree, and a tree from a language
    rules: dict[str, Any] = code.language.table["symbols"]
    sections = _sections(captures) if "section" in captures else None
    found: dict[int, Symbol] = {}
    for group, pattern in rules["public"].items():
        public = _compiled(pattern)
        for node in sorted(captures.get(group, ()), key=attrgetter("start_byte")):
            name = _name(node)
            if name is None:
                continue
            signature = _signature(code, node, rules)
            if sections is not None and group == "method":
                visible = sections(node.start_byte)
            else:
                visible = public.search(signature) is not None
            text = _line(code.data[name.start_byte : name.end_byte].decode("utf-8", "replace"))
            # A later group knows better: an exported declaration is a declaration, too.
            found[name.start_byte] = Symbol(
                text, signature, "public" if visible else "private", node.start_point.row + 1
            )
    return tuple(found[start] for start in sorted(found))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _name(node: Node) -> Node | None:
    """The node that names a declaration: its name, or what is left when its declarators are peeled off."""
    name = node.child_by_field_name("name") or node.child_by_field_name("property")
    while name is None:
        inner = node.child_by_field_name("declarator")
        if inner is None and node.type == "reference_declarator":
            inner = node.named_child(0)
        if inner is None:
            # A declarator in parentheses makes a variable: a pointer to a function.
            return node if node.type.endswith(("identifier", "name", "operator_cast")) else None
        node = inner
    return name


def _signature(code: Code, node: Node, rules: Mapping[str, Any]) -> str:
    value = node.child_by_field_name("value")
    body = (value or node).child_by_field_name("body")
    stop = body.start_byte if body else node.end_byte
    for child in node.children if "end" in rules else ():
        if child.type in rules["end"]:
            stop = min(stop, child.start_byte)
    start = node.start_byte
    if "widen" in rules and (parent := node.parent) is not None and parent.type in rules["widen"]:
        start = parent.start_byte
    text = code.data[start:stop]
    if _ASIDE.search(text):
        text = b" ".join(_without_asides(code, node, start, stop, rules))
    return _TAIL.sub("", _line(text.decode("utf-8", "replace"))[:LONGEST])


def _without_asides(code: Code, node: Node, start: int, stop: int, rules: Mapping[str, Any]) -> Iterator[bytes]:
    """The parts of a signature between its comments and whatever else is to be omitted."""
    assert code.language is not None  # noqa: S101 - see `functions`
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
