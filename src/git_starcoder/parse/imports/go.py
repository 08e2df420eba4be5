"""Resolves Go imports: a path below the module path of a `go.mod` is a folder, and means every file of that package."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from git_starcoder.parse.imports import Import, RepositoryFiles, Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODULE_LINE = re.compile(rb'^module[ \t]+"?([^\s"]+)', re.MULTILINE)


def parse_import(_kind: str, text: str) -> Iterator[Import]:
    """The import path without its quotes."""
    yield Import("path", text.strip('"`'))


def create_resolver(repository: RepositoryFiles) -> Resolver:
    """Create a resolver that knows the modules of the repository."""
    module_folders: dict[str, str] = {}
    for manifest in repository.paths_named("go.mod"):
        if found := _MODULE_LINE.search(repository.read(manifest)):
            module_folders.setdefault(found[1].decode("utf-8", "replace"), posixpath.dirname(manifest))
    packages: dict[str, list[str]] = {}
    for path in sorted(repository.paths):
        if path.endswith(".go") and not path.endswith("_test.go"):
            packages.setdefault(posixpath.dirname(path), []).append(path)

    def resolve(path: str, imported: Import) -> tuple[str, ...] | None:
        module = imported.name
        while module and module not in module_folders:
            module = module.rpartition("/")[0]
        if not module:
            return None
        folder = posixpath.join(module_folders[module], imported.name[len(module) + 1 :]).strip("/")
        files = packages.get(folder)
        return None if files is None else tuple(file for file in files if file != path)

    return resolve
