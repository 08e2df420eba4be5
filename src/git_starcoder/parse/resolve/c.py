"""C and C++: an include is beside the file, under an include root, or the only path that ends so."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_starcoder.parse.resolve import Import, Repository, Resolver, beside, folders

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOTS = ("include", "src", "inc", "lib")
"""Folders, in any folder above the file, that builds commonly search."""


def read(_kind: str, text: str) -> Iterator[Import]:
    """The name with its brackets' meaning: `system` for `<…>`, `local` for quotes."""
    yield Import("system" if text.startswith("<") else "local", text.strip('<>"').strip())


def resolver(repository: Repository) -> Resolver:
    """Resolve includes by paths alone: no build is known."""

    def resolve(path: str, what: Import) -> tuple[str, ...] | None:
        name = posixpath.normpath(what.name)
        above = folders(path)
        if what.kind == "local":
            near = beside(above[0], what.name)
            if near in repository.paths:
                return (near,)
        for folder in above:
            for root in ("", *ROOTS) if what.kind == "local" else ROOTS[:1]:
                candidate = posixpath.join(folder, root, name)
                if candidate in repository.paths:
                    return (candidate,)
        ends = f"/{name}" if what.kind == "local" else f"/include/{name}"
        found = [candidate for candidate in repository.named(posixpath.basename(name)) if candidate.endswith(ends)]
        return (found[0],) if len(found) == 1 else None

    return resolve
