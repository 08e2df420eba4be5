"""Reads the imports of a file from its syntax tree, and resolves them to files of the repository.

Imports are read in worker processes and resolved in the main process, when all are known. The `[imports]` table of a
language file has a query and names a `resolver`, one per family of languages. The query has captures `import.KIND`,
whose text goes to the resolver, and `inside`, for modules inside the file: imports in one of them belong to it. A
resolver is two functions in a module of this package:

- `parse_NAME_import(kind, text)` turns the text of one captured import into the names that it imports, in a worker.
- `create_NAME_resolver(repository)` returns a `Resolver`. Runs in the main process.

A resolver never guesses: an import that might mean several files, or another package, stays unresolved.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.parse.language import PLAIN_TEXT, language_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tree_sitter import Node

    from git_starcoder.parse.tree import Captures, Code

MAX_IMPORTS_PER_FILE = 10_000
"""Only hostile files have more imports; the rest is ignored."""
MAX_TARGETS = 1_000
"""Files that a file may import. An import of a package with more, or that would exceed it, stays unresolved: it says
little about any one of them, and all pairs of files would be too many."""
MAX_NAME_DEPTH = 32
"""Segments of a name, or levels of nested modules: the cost of hostile ones grows with the square of their depth."""
MAX_MANIFEST_BYTES = 1 << 16
"""Longer package manifests are not read: the cost of parsing a hostile one may grow with the square of its length."""
INSIDE = "inside"
"""The capture and import kind that declares a module inside the file."""
RESOLVER_MODULES = {"c": "c_go_java", "go": "c_go_java", "java": "c_go_java"}
"""The module of each resolver whose module does not have the same name."""
DECLARATION_KINDS = frozenset({INSIDE, "package"})
"""Kinds that import nothing but declare something about their file."""


class Import(NamedTuple):
    """One import as it is written in its file."""

    kind: str
    """The name of its capture without `import.`."""
    name: str
    """What it imports, in the notation of the language."""
    names: tuple[str, ...] = ()
    """Rust: the modules inside the file that contain the import. Python: the names imported from the module."""


Resolver = Callable[[str, Import], "tuple[str, ...] | None"]
"""Takes the path of a file and one of its imports, and returns the paths of the imported files.

The tuple is empty if the import means the file itself; None means that no file of the repository is certainly meant.
"""


@dataclass
class RepositoryFiles:
    """What a resolver knows about the repository."""

    read: Callable[[str], bytes]
    """Returns the text of a path."""
    paths: frozenset[str]
    imports: Mapping[str, Sequence[Import]]
    """The imports of each file whose language uses this resolver."""
    _paths_by_name: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def paths_named(self, name: str) -> list[str]:
        """The sorted paths of all files called `name`."""
        if not self._paths_by_name:
            for path in sorted(self.paths):
                self._paths_by_name.setdefault(posixpath.basename(path), []).append(path)
        return self._paths_by_name.get(name, [])


class ResolvedImports(NamedTuple):
    """The resolved imports of one file."""

    targets: tuple[str, ...]
    """Sorted paths of the other files of the repository that it imports."""
    resolved_count: int
    """Imports of files of this repository."""
    unresolved_count: int
    """Imports of other packages, and imports that are not certain."""


def extract_imports(code: Code, captures: Captures) -> tuple[Import, ...]:
    """The distinct imports of a file in order, from the captures of its `imports` query.

    A language without an `[imports]` table has none.
    """
    assert code.language is not None  # noqa: S101 - captures come from a tree, and a tree from a language
    rules = code.language.table.get("imports")
    if rules is None:
        return ()
    parse_import, _ = find_resolver(rules["resolver"])
    kinds = [kind for kind in captures if kind == INSIDE or kind.startswith("import.")]
    nodes = [(node.start_byte, kind, node) for kind in kinds for node in captures[kind]]
    imports: dict[Import, None] = {}
    open_modules: list[tuple[int, tuple[str, ...]]] = []  # end offset and names of the modules around the node
    for start, kind, node in sorted(nodes, key=lambda item: item[:2]):
        while open_modules and open_modules[-1][0] <= start:
            open_modules.pop()
        modules = open_modules[-1][1] if open_modules else ()
        if kind == INSIDE:
            name = node.child_by_field_name("name")
            if name is not None and len(modules) < MAX_NAME_DEPTH:
                modules = (*modules, code.data[name.start_byte : name.end_byte].decode("utf-8", "replace"))
                open_modules.append((node.end_byte, modules))
                imports[Import(INSIDE, "", modules)] = None
            continue
        for imported in parse_import(kind.removeprefix("import."), _import_text(code, node, rules)):
            imports[imported._replace(names=modules) if modules else imported] = None
        if len(imports) >= MAX_IMPORTS_PER_FILE:
            break
    return tuple(imports)[:MAX_IMPORTS_PER_FILE]


def resolve_imports(
    imports: Mapping[str, tuple[str, Sequence[Import]]], paths: frozenset[str], read: Callable[[str], bytes]
) -> dict[str, ResolvedImports]:
    """Resolve the imports of all files of a repository; `imports` is for each path its language and its imports."""
    imports_by_resolver: dict[str, dict[str, Sequence[Import]]] = {}
    for path, (language, file_imports) in imports.items():
        if language != PLAIN_TEXT and "imports" in language_table(language):
            imports_by_resolver.setdefault(language_table(language)["imports"]["resolver"], {})[path] = file_imports
    result: dict[str, ResolvedImports] = {}
    for name, files in sorted(imports_by_resolver.items()):
        resolve = find_resolver(name)[1](RepositoryFiles(read, paths, files))
        for path, file_imports in files.items():
            targets: set[str] = set()
            resolved_count = unresolved_count = 0
            for imported in file_imports:
                if imported.kind in DECLARATION_KINDS:
                    continue
                found = resolve(path, imported)
                if found is None or len(targets.union(found)) > MAX_TARGETS:
                    unresolved_count += 1
                else:
                    targets.update(found)
                    resolved_count += 1
            result[path] = ResolvedImports(tuple(sorted(targets - {path})), resolved_count, unresolved_count)
    return result


def other_files(package: Sequence[str], path: str) -> tuple[str, ...] | None:
    """The files of a package besides the one that imports it; None if there are too many to tell what is meant."""
    return tuple(file for file in package if file != path) if len(package) <= MAX_TARGETS else None


@cache
def find_resolver(
    name: str,
) -> tuple[Callable[[str, str], Iterator[Import]], Callable[[RepositoryFiles], Resolver]]:
    """The two functions of a resolver, which parse imports and create the resolver."""
    module = import_module(f"git_starcoder.parse.imports.{RESOLVER_MODULES.get(name, name)}")
    return getattr(module, f"parse_{name}_import"), getattr(module, f"create_{name}_resolver")


def _import_text(code: Code, node: Node, rules: Mapping[str, Any]) -> str:
    """The text of an import, including the nodes directly above it that the language lists in `before` (attributes)."""
    start = node.start_byte
    before = node.prev_named_sibling if "before" in rules else None
    while before is not None and before.type in rules["before"]:
        start, before = before.start_byte, before.prev_named_sibling
    return code.data[start : node.end_byte].decode("utf-8", "replace")


def join_path(folder: str, relative: str) -> str | None:
    """The path that `relative` means in a folder of the repository; None if it leaves the repository."""
    path = posixpath.normpath(posixpath.join(folder, relative))
    return None if path.startswith(("..", "/")) else "" if path == "." else path


def parent_folders(path: str) -> list[str]:
    """The folders that contain a path, innermost first; the last is the repository itself, `""`."""
    folders: list[str] = []
    while path:
        path = posixpath.dirname(path)
        folders.append(path)
    return folders
