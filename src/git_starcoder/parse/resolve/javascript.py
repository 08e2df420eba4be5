"""JavaScript and TypeScript: relative modules, with the extensions and index files that bundlers and Node try."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_starcoder.parse.resolve import Import, Repository, Resolver, beside

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTENSIONS = (".ts", ".tsx", ".d.ts", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json", ".vue", ".svelte")
COMPILED = {".js": (".ts", ".tsx"), ".jsx": (".tsx",), ".mjs": (".mts",), ".cjs": (".cts",)}
"""TypeScript names a module by what it will be compiled to."""


def read(_kind: str, text: str) -> Iterator[Import]:
    """The module without its quotes."""
    yield Import("from", text[1:-1])


def resolver(repository: Repository) -> Resolver:
    """Resolve relative modules; a bare name belongs to a package manager, and is left alone."""

    def resolve(path: str, what: Import) -> tuple[str, ...] | None:
        if not what.name.startswith("."):
            return None
        base = beside(posixpath.dirname(path), what.name)
        if base is None:
            return None
        if base in repository.paths:
            return (base,)
        stem, extension = posixpath.splitext(base)
        names = [stem + other for other in COMPILED.get(extension, ())]
        names += [base + other for other in EXTENSIONS]
        names += [posixpath.join(base, f"index{other}") for other in EXTENSIONS]
        found = next((name for name in names if name in repository.paths), None)
        return None if found is None else (found,)

    return resolve
