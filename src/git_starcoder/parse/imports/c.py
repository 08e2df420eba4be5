"""Resolves C and C++ includes: a file next to the includer, under an include root, or the only path with this end."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_starcoder.parse.imports import Import, RepositoryFiles, Resolver, join_path, parent_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

INCLUDE_ROOTS = ("include", "src", "inc", "lib")
"""Folders that builds commonly search, in any folder above the file."""


def parse_import(_kind: str, text: str) -> Iterator[Import]:
    """The included name; its kind is `system` for `<…>` and `local` for quotes."""
    yield Import("system" if text.startswith("<") else "local", text.strip('<>"').strip())


def create_resolver(repository: RepositoryFiles) -> Resolver:
    """Create a resolver that knows paths only, because the build system's include folders are unknown."""

    def resolve(path: str, imported: Import) -> tuple[str, ...] | None:
        is_local = imported.kind == "local"
        name = posixpath.normpath(imported.name)
        folders = parent_folders(path)
        if is_local:
            sibling = join_path(folders[0], imported.name)
            if sibling in repository.paths:
                return (sibling,)
        for folder in folders:
            for root in ("", *INCLUDE_ROOTS) if is_local else INCLUDE_ROOTS[:1]:
                candidate = posixpath.join(folder, root, name)
                if candidate in repository.paths:
                    return (candidate,)
        ending = f"/{name}" if is_local else f"/include/{name}"
        found = [
            candidate for candidate in repository.paths_named(posixpath.basename(name)) if candidate.endswith(ending)
        ]
        return (found[0],) if len(found) == 1 else None

    return resolve
