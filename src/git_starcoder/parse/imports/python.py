"""Resolves Python imports: packages and modules are searched in the folders that would be on the import path.

The folders that may contain a top-level name, in this order:

1. where a script finds its siblings, or the folder that contains the file's own package,
2. the parent of each folder of that name around the file,
3. `src`, `lib` and the repository itself,
4. the parent of the only package of that name in the repository.

A name of the standard library is searched in the first place only.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from typing import TYPE_CHECKING

from git_starcoder.parse.imports import Import, RepositoryFiles, Resolver, join_path, parent_folders
from git_starcoder.parse.language import language_table

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE_ROOTS = ("src", "lib", "")
MODULE_EXTENSIONS = (".py", ".pyi")


def parse_python_import(kind: str, text: str) -> Iterator[Import]:
    """`import a.b, c` gives `a.b` and `c`; `from .a import b, c` gives `.a` with the names `b` and `c`."""
    lines = (line.partition("#")[0].rstrip().removesuffix("\\") for line in text.split("\n"))
    keyword, _, rest = " ".join(lines).partition(" ")
    if kind == "import":
        for part in rest.split(","):
            if name := part.partition(" as ")[0]:
                yield Import(kind, "".join(name.split()))
        return
    module, _, names = f"{keyword} {rest}".removeprefix("from").partition("import")
    parts = names.replace("(", " ").replace(")", " ").split(",")
    yield Import(kind, "".join(module.split()), tuple(part.split()[0] for part in parts if part.strip()))


class PythonModules:
    """Where the modules of a repository are."""

    def __init__(self, repository: RepositoryFiles) -> None:
        self._paths = repository.paths
        self._standard_library = frozenset(language_table("python")["imports"]["standard"].split())
        self._packages = {posixpath.dirname(path) for path in repository.paths_named("__init__.py")}
        self._package_parents: defaultdict[str, list[str]] = defaultdict(list)
        for parent, name in map(posixpath.split, sorted(self._packages)):
            if parent not in self._packages:
                self._package_parents[name].append(parent)

    def find_file(self, base: str) -> str | None:
        """The file of the module or package whose path without extension is `base`."""
        names = [base + extension for extension in MODULE_EXTENSIONS] if base else []
        names += [posixpath.join(base, "__init__" + extension) for extension in MODULE_EXTENSIONS]
        return next((name for name in names if name in self._paths), None)

    def module_base(self, path: str, name: str) -> str | None:
        """The path without extension at which the module should be that a file calls `name`."""
        dots = len(name) - len(name.lstrip("."))
        parts = name[dots:].replace(".", "/")
        if dots:
            return join_path(posixpath.dirname(path), "/".join([*[".."] * (dots - 1), parts]) or ".")
        top = parts.partition("/")[0]
        for root in dict.fromkeys(self._search_roots(path, top)):
            if any(self.find_file(posixpath.join(root, name)) is not None for name in (top, parts)):
                return posixpath.join(root, parts)
        return None

    def _search_roots(self, path: str, top: str) -> Iterator[str]:
        """The folders that may contain a top-level name, best first."""
        root = posixpath.dirname(path)
        while root in self._packages and root:
            root = posixpath.dirname(root)
        yield root
        if top not in self._standard_library:
            # Packages need no `__init__.py`, and an empty file is not among the paths.
            yield from (folder for folder, name in map(posixpath.split, parent_folders(path)) if name == top)
            yield from SOURCE_ROOTS
            if len(self._package_parents.get(top, ())) == 1:
                yield self._package_parents[top][0]


def create_python_resolver(repository: RepositoryFiles) -> Resolver:
    """Create a resolver that knows paths only."""
    modules = PythonModules(repository)

    def resolve(path: str, imported: Import) -> tuple[str, ...] | None:
        base = modules.module_base(path, imported.name)
        if base is None:
            return None
        module = modules.find_file(base)
        # `from a import b`: b is the module a/b if there is one, else something inside a.
        targets = {modules.find_file(posixpath.join(base, name)) or module for name in imported.names} or {module}
        return tuple(sorted(target for target in targets if target is not None)) or None

    return resolve
