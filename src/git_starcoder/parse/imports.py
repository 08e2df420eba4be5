"""Imports: read from a tree in a worker, resolved to files of the repository in the main process.

The `[imports]` table of a language has a query, whose captures `import.KIND` are handed to the resolver that the table
names (`parse/resolve/`). Captures named `inside` are modules within the file: what stands in one belongs to it. A
resolver never guesses: what it is not sure of stays unresolved, and so does what other packages provide.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.parse.language import TEXT, table
from git_starcoder.parse.resolve import DEEPEST, FACTS, Import, Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tree_sitter import Node

    from git_starcoder.parse.tree import Captures, Code

MOST = 10_000
"""Imports of one file; there are more only in hostile ones."""


INSIDE = "inside"


class Resolved(NamedTuple):
    """What the imports of a file come to."""

    targets: tuple[str, ...]
    """Paths of other files of the repository, sorted."""
    resolved: int
    """Imports that name files of this repository."""
    unresolved: int
    """Imports of other packages, and what is not sure."""


def imports_of(code: Code, captures: Captures) -> tuple[Import, ...]:
    """The imports of a file in order, each once, from the captures of its `imports` query.

    A language without an `[imports]` table has none.
    """
    assert code.language is not None  # noqa: S101 - captures come from a tree, and a tree from a language
    rules = code.language.table.get("imports")
    if rules is None:
        return ()
    read = _module(rules["resolver"]).read
    kinds = [kind for kind in captures if kind == INSIDE or kind.startswith("import.")]
    nodes = [(node.start_byte, kind, node) for kind in kinds for node in captures[kind]]
    found: dict[Import, None] = {}
    outer: list[tuple[int, tuple[str, ...]]] = []
    for start, kind, node in sorted(nodes, key=lambda item: item[:2]):
        while outer and outer[-1][0] <= start:
            outer.pop()
        names = outer[-1][1] if outer else ()
        if kind == INSIDE:
            name = node.child_by_field_name("name")
            if name is not None and len(names) < DEEPEST:
                names = (*names, code.data[name.start_byte : name.end_byte].decode("utf-8", "replace"))
                outer.append((node.end_byte, names))
                found[Import(INSIDE, "", names)] = None
            continue
        for what in read(kind.removeprefix("import."), _text(code, node, rules)):
            found[what._replace(inside=names) if names else what] = None
        if len(found) >= MOST:
            break
    return tuple(found)[:MOST]


def resolve(
    imports: Mapping[str, tuple[str, Sequence[Import]]], paths: frozenset[str], text: Callable[[str], bytes]
) -> dict[str, Resolved]:
    """For each path with its language and imports, the files it imports. `text` gives the text of a path."""
    families: dict[str, dict[str, Sequence[Import]]] = {}
    for path, (language, found) in imports.items():
        if language != TEXT and "imports" in table(language):
            families.setdefault(table(language)["imports"]["resolver"], {})[path] = found
    done: dict[str, Resolved] = {}
    for name, files in sorted(families.items()):
        find = _module(name).resolver(Repository(text, paths, files))
        for path, found in files.items():
            asked = [what for what in found if what.kind not in FACTS]
            answers = [find(path, what) for what in asked]
            targets = {target for answer in answers for target in answer or ()} - {path}
            lost = sum(answer is None for answer in answers)
            done[path] = Resolved(tuple(sorted(targets)), len(answers) - lost, lost)
    return done


@cache
def _module(resolver: str) -> Any:
    return import_module(f"git_starcoder.parse.resolve.{resolver}")


def _text(code: Code, node: Node, rules: Mapping[str, Any]) -> str:
    """The text of an import, with what stands `before` it (attributes)."""
    start = node.start_byte
    if "before" in rules:
        before = node.prev_named_sibling
        while before is not None and before.type in rules["before"]:
            start, before = before.start_byte, before.prev_named_sibling
    return code.data[start : node.end_byte].decode("utf-8", "replace")
