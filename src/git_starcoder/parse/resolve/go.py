"""Go: an import names a folder under the module path of the nearest `go.mod`, and means every file of that package."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from git_starcoder.parse.resolve import Import, Repository, Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODULE = re.compile(rb'^module[ \t]+"?([^\s"]+)', re.MULTILINE)


def read(_kind: str, text: str) -> Iterator[Import]:
    """The import path without its quotes."""
    yield Import("path", text.strip('"`'))


def resolver(repository: Repository) -> Resolver:
    """Resolve import paths by the modules of the repository."""
    modules: dict[str, str] = {}
    for manifest in repository.named("go.mod"):
        if found := _MODULE.search(repository.text(manifest)):
            modules.setdefault(found[1].decode("utf-8", "replace"), posixpath.dirname(manifest))
    packages: dict[str, list[str]] = {}
    for path in sorted(repository.paths):
        if path.endswith(".go") and not path.endswith("_test.go"):
            packages.setdefault(posixpath.dirname(path), []).append(path)

    def resolve(path: str, what: Import) -> tuple[str, ...] | None:
        module = what.name
        while module and module not in modules:
            module = module.rpartition("/")[0]
        if not module:
            return None
        folder = posixpath.join(modules[module], what.name[len(module) + 1 :]).strip("/")
        files = packages.get(folder)
        return None if files is None else tuple(file for file in files if file != path)

    return resolve
