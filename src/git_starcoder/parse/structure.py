"""Reads the structure of a file from its syntax tree: its difficulty, where windows should start, and its symbols.

The difficulty is a number from 0 (trivial) to 1 that depends on the file alone:

    0.4 · b / (b + 40)  +  0.3 · n / (n + 4)  +  0.3 · l / (l + 400)

- b: number of branches (captures `branch` and `case` of the language's `[difficulty]` query).
- n: depth of the deepest branch inside other branches; a `case` and an `else if` add no level.
- l: number of lines that are not blank.

Each term is 0 for a count of 0, half its weight where the count equals the constant, and grows with the count. For a
file without a syntax tree, b is 0 and n is the number of indentation levels.

Symbols are the functions, types and constants that a file declares. The `[symbols]` table of a language file has a
query whose captures are groups of declarations. Groups whose name starts with `type_` are types, with `constant`
constants, all others functions. Other keys of the table:

- `public`: for a group, the pattern that the signature of a public declaration matches. All declarations of a group
  without a pattern are public.
- `widen`: node types of wrappers that belong to the signature (`template <…>`, `export`).
- `omit`: node types that do not belong to the signature (annotations).
- `end`: node types before which a signature ends, besides the body.
- `lead`: for a group, the words that its captures lack at the start (a keyword).
- `inline`: false if the body of a type needs more than one line.
- `owner`: a pattern that finds the owner of a declaration in its signature (Go's receivers).

The owner of a declaration is the type or function around it, a captured `owner` (Rust's `impl`), or what the pattern
`owner` finds. A captured `field` is shown in the signature of a type that has no brackets around its fields (Python).
If visibility depends on sections (C++), `section` captures their heads, and `section.private` and `section.public` the
bodies that contain them, by the visibility before the first head.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from git_starcoder.parse.language import language_table
from git_starcoder.records import Symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tree_sitter import Node

    from git_starcoder.parse.tree import Captures, Code

WRAPPED_ITEM_FIELDS = ("definition", "declaration")
"""Fields that hold the item inside a wrapper: Python's decorated definitions, JavaScript's exports."""
STATEMENT_LIST = "statement_list"
"""The node that Go's grammar puts between a body and its statements."""
LEADING_NODE_SUFFIXES = ("comment", "attribute_item", "decorator", "annotation")
"""Suffixes of the node types that belong to the item below them."""
MAX_SIGNATURE_CHARACTERS = 2_000
"""Longer signatures are cut: they contain data."""
MAX_FULL_DEFINITION_CHARACTERS = 400
"""Types and constants up to this length are shown in full, longer ones without body or value."""

AUXILIARY_CAPTURES = frozenset({"owner", "field", "section", "section.private", "section.public"})
"""Captures of the query that are not groups of declarations."""

_CAPTURE = re.compile(r"@(?!_)([\w.]+)")
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|;[^\n]*')
_COMMENT_OR_ANNOTATION_START = re.compile(rb"//|/\*|[#@]")
_SIGNATURE_TAILS = (":", ";", "=", "{", "=>")
_PRIVATE_SECTIONS = frozenset({"private", "protected"})
_BODY_FIELDS = ("body", "value", "right")
"""Fields that are left out if a type or constant is not shown in full."""

CaptureKind = Literal["function", "type", "constant", "owner", "field"]


def difficulty_score(branch_count: int, nesting: int, line_count: int) -> float:
    """The difficulty, rounded to six decimals."""
    terms = ((0.4, branch_count, 40), (0.3, nesting, 4), (0.3, line_count, 400))
    return round(sum(weight * count / (count + half) for weight, count, half in terms), 6)


def count_nonblank_lines(data: bytes) -> int:
    """The number of lines that are not blank."""
    return sum(not line.isspace() for line in data.split(b"\n") if line)


def code_difficulty(captures: Captures, line_count: int) -> float:
    """The difficulty of a file with a syntax tree."""
    branches = captures.get("branch", ())
    chained = {node.id for node in captures.get("chain", ())}  # `else if` adds no level
    deepest = 0
    open_ends: list[int] = []
    for start, negative_end in sorted((n.start_byte, -n.end_byte) for n in branches if n.id not in chained):
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        open_ends.append(-negative_end)
        deepest = max(deepest, len(open_ends))
    return difficulty_score(len(branches) + len(captures.get("case", ())), deepest, line_count)


def text_difficulty(data: bytes) -> float:
    """The difficulty of a file without a syntax tree."""
    lines = [line for line in data.split(b"\n") if line and not line.isspace()]
    indents = {len(line) - len(line.lstrip(b" \t")) for line in lines}
    return difficulty_score(0, max(0, len(indents) - 1), len(lines))


def window_starts(code: Code) -> bytes:
    """The places where a window should start: the items of a file, and the multi-line members of each item.

    An item is a child of the root. Its members are those of a class, or the statements of a function. An item starts
    at the first comment, attribute or decorator directly above it.

    Returns:
        Ascending byte offsets as little-endian uint32; empty without a syntax tree.
    """
    if code.root is None:
        return b""
    offsets: set[int] = set()
    for item_start, item in _children_with_leading_nodes(code.root):
        offsets.add(item_start)
        node = item
        for field in WRAPPED_ITEM_FIELDS:
            node = node.child_by_field_name(field) or node
        body = node.child_by_field_name("body")
        if body is not None and body.named_child_count == 1 and body.named_children[0].type == STATEMENT_LIST:
            body = body.named_children[0]
        if body is not None:
            members = _children_with_leading_nodes(body)
            offsets.update(start for start, member in members if member.end_point.row > member.start_point.row)
    return np.array(sorted(offsets), dtype="<u4").tobytes()


def _children_with_leading_nodes(parent: Node) -> Iterator[tuple[int, Node]]:
    """Each child that is not a leading node itself, with the offset of the first leading node directly above it."""
    first: Node | None = None
    last_row = -2
    for child in parent.named_children:
        if first is None or child.start_point.row > last_row + 1:
            first = child
        last_row = child.end_point.row
        if not child.type.endswith(LEADING_NODE_SUFFIXES):
            yield first.start_byte, child
            first = None


class _Captured(NamedTuple):
    node: Node
    name: str
    group: str
    """The name of the capture."""
    kind: CaptureKind
    start: int
    stop: int


def extract_symbols(code: Code, captures: Captures) -> tuple[Symbol, ...]:
    """The declarations of a file, in order, from the captures of its `symbols` query."""
    assert code.language is not None  # noqa: S101 - captures come from a tree, and a tree from a language
    rules: dict[str, Any] | None = code.language.table.get("symbols")
    if rules is None:
        return ()
    is_public_at = _section_visibility(captures) if "section" in captures else None
    captured = sorted(_captured_nodes(code, captures), key=lambda item: (item.start, -item.stop))
    owners = _owner_indexes(captured)
    owners_with_functions = {owner for item, owner in zip(captured, owners, strict=True) if item.kind == "function"}
    fields: defaultdict[int, list[Node]] = defaultdict(list)
    for item, owner in zip(captured, owners, strict=True):
        if item.kind == "field":
            fields[owner].append(item.node)
    symbols: list[Symbol] = []
    for index, (item, owner) in enumerate(zip(captured, owners, strict=True)):
        if item.kind == "owner" or item.kind == "field":
            continue
        if item.kind == "function":
            signature = _function_signature(code, item.node, rules)
        else:
            may_be_full = index not in owners_with_functions
            signature = _definition(code, item, rules, fields[index], may_be_full=may_be_full)
        if is_public_at is not None and item.group == "method":
            is_public = is_public_at(item.start)
        else:
            is_public = re.search(rules.get("public", {}).get(item.group, ""), signature)
        owner_name = captured[owner].name if owner >= 0 else ""
        if not owner_name and "owner" in rules and (stated := re.search(rules["owner"], signature)):
            owner_name = stated[1]
        signature = rules.get("lead", {}).get(item.group, "") + signature
        if item.name not in signature:  # a computed name with a comment in it, or what a parser misled by macros reads
            continue
        visibility = "public" if is_public else "private"
        symbols.append(Symbol(item.name, signature, visibility, item.node.start_point.row + 1, item.kind, owner_name))
    return tuple(symbols)


@cache
def declaration_groups(key: str) -> tuple[str, ...]:
    """The captures of a language's `symbols` query that are declarations, those with a `public` pattern first.

    They are read from the text of the query, because compiling it once more takes up to 70 ms.
    """
    rules = language_table(key)["symbols"]
    captures = _CAPTURE.findall(_STRING_OR_COMMENT.sub("", rules["query"]))
    names = dict.fromkeys((*rules.get("public", ()), *captures))
    return tuple(name for name in names if name not in AUXILIARY_CAPTURES)


def _captured_nodes(code: Code, captures: Captures) -> Iterator[_Captured]:
    """The captured declarations, each name once, and the owners and fields."""
    assert code.language is not None  # noqa: S101 - see `extract_symbols`
    declarations: dict[int, _Captured] = {}
    for group in declaration_groups(code.language.key):
        kind = "type" if group.startswith("type_") else "constant" if group.startswith("constant") else "function"
        for node in captures.get(group, ()):
            if (name := _name_node(node)) is not None:
                text = _one_line(code.data[slice(*name.byte_range)])
                # The last group wins: an exported declaration is also an ordinary declaration.
                declarations[name.start_byte] = _Captured(node, text, group, kind, node.start_byte, node.end_byte)
    yield from declarations.values()
    for node in captures.get("owner", ()):
        owner_type = node.child_by_field_name("type") or node
        words = re.findall(r"\w+", _one_line(code.data[slice(*owner_type.byte_range)]).partition("<")[0])
        yield _Captured(node, words[-1] if words else "", "owner", "owner", node.start_byte, node.end_byte)
    for node in captures.get("field", ()):
        yield _Captured(node, "", "field", "field", node.start_byte, node.end_byte)


def _owner_indexes(captured: Sequence[_Captured]) -> list[int]:
    """The index of the innermost captured node around each, or -1. Nodes are in order. Constants own nothing."""
    owners: list[int] = []
    open_indexes: list[int] = []
    for index, item in enumerate(captured):
        while open_indexes and captured[open_indexes[-1]].stop <= item.start:
            open_indexes.pop()
        owners.append(open_indexes[-1] if open_indexes else -1)
        if item.kind != "constant" and item.kind != "field":
            open_indexes.append(index)
    return owners


def _name_node(node: Node) -> Node | None:
    """The node with the name of a declaration: its name, or the innermost of its declarators."""
    name = node.child_by_field_name("name") or node.child_by_field_name("property")
    while name is None:
        inner = _declarator(node)
        if inner is None:
            # A declarator in parentheses is a variable: a pointer to a function.
            return node if node.type.endswith(("identifier", "name", "operator_cast")) else None
        if inner.type == "variable_declarator":
            return inner.child_by_field_name("name")
        node = inner
    return name


def _declarator(node: Node) -> Node | None:
    inner = node.child_by_field_name("declarator") or node.child_by_field_name("left")
    is_wrapper = inner is None and node.type in {"reference_declarator", "lexical_declaration"}
    return node.named_child(0) if is_wrapper else inner


def _function_signature(code: Code, node: Node, rules: Mapping[str, Any]) -> str:
    value = node.child_by_field_name("value")
    body = (value or node).child_by_field_name("body")
    stop = body.start_byte if body else node.end_byte
    for child in node.children if "end" in rules else ():
        if child.type in rules["end"]:
            stop = min(stop, child.start_byte)
    return _declaration_text(code, node, stop, rules)


def _definition(
    code: Code, item: _Captured, rules: Mapping[str, Any], fields: Sequence[Node], *, may_be_full: bool
) -> str:
    """A type or constant: in full if it is short and contains no functions, else without its body or value."""
    node = item.node
    can_be_one_line = item.kind == "constant" or rules.get("inline", True)
    if may_be_full and can_be_one_line and item.stop - item.start <= 2 * MAX_SIGNATURE_CHARACTERS:
        text = _declaration_text(code, node, item.stop, rules)
        if len(text) <= MAX_FULL_DEFINITION_CHARACTERS:
            return text
    stop = item.stop
    for parent in (node, _declarator(node), node.child_by_field_name("type")):
        for field in _BODY_FIELDS:
            if parent is not None and (body := parent.child_by_field_name(field)) is not None:
                stop = min(stop, body.start_byte)
    head = _declaration_text(code, node, stop, rules)
    if len(head) > MAX_FULL_DEFINITION_CHARACTERS:
        head = head.partition("{")[0].rstrip()
    if item.name not in head:  # in C the name of a type may follow its body
        head = f"{head} {item.name}"
    shown = "; ".join(_declaration_text(code, field, field.end_byte, rules) for field in fields)
    return f"{head}: {shown}" if shown and len(head) + len(shown) + 2 <= MAX_FULL_DEFINITION_CHARACTERS else head


def _declaration_text(code: Code, node: Node, stop: int, rules: Mapping[str, Any]) -> str:
    """A declaration up to an offset, including its wrapper, on one line."""
    start = node.start_byte
    if "widen" in rules and (parent := node.parent) is not None and parent.type in rules["widen"]:
        start = parent.start_byte
    text = code.data[start:stop]
    if _COMMENT_OR_ANNOTATION_START.search(text):
        text = b" ".join(_parts_without_comments(code, node, start, stop, rules))
    line = _one_line(text.replace(b"\\\n", b"\n"))[:MAX_SIGNATURE_CHARACTERS]
    while line.endswith(_SIGNATURE_TAILS):
        line = line[: -2 if line.endswith("=>") else -1].rstrip()
    return line


def _parts_without_comments(code: Code, node: Node, start: int, stop: int, rules: Mapping[str, Any]) -> Iterator[bytes]:
    """The parts of a declaration between its comments and the nodes to omit."""
    assert code.language is not None  # noqa: S101 - see `extract_symbols`
    omitted_types = code.language.comments.union(rules.get("omit", ()))
    stack = [node]
    edge = start
    while stack:
        inner = stack.pop()
        if inner.start_byte >= stop:
            continue
        if inner.type in omitted_types:
            yield code.data[edge : inner.start_byte]
            edge = inner.end_byte
        else:
            stack.extend(reversed(inner.children))
    yield code.data[edge:stop]


def _one_line(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split())


def _section_visibility(captures: Captures) -> Callable[[int], bool]:
    """A function that says whether a member at an offset is public. Its offsets must be ascending.

    The last head of a section before the offset, in the same body, decides.
    """
    sections = ("private", "public")
    bodies = [(*body.byte_range, name) for name in sections for body in captures.get(f"section.{name}", ())]
    heads = [(head.start_byte, 0, (head.text or b"").decode("utf-8", "replace")) for head in captures["section"]]
    events = deque(sorted([*bodies, *heads]))
    open_bodies: list[tuple[int, str]] = []  # end of the body, and its current section

    def close_bodies(offset: int) -> None:
        while open_bodies and open_bodies[-1][0] <= offset:
            open_bodies.pop()

    def is_public_at(offset: int) -> bool:
        while events and events[0][0] < offset:
            start, stop, section = events.popleft()
            close_bodies(start)
            if stop:
                open_bodies.append((stop, section))
            elif open_bodies:
                open_bodies[-1] = (open_bodies[-1][0], section)
        close_bodies(offset)
        return not open_bodies or open_bodies[-1][1] not in _PRIVATE_SECTIONS

    return is_public_at
