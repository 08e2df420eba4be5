"""JavaScript and TypeScript: relative modules, with the extensions and index files that bundlers and Node try.

A bare name is a package of this repository only where the manifest of a folder above the file is that package's or
depends on it. What a build will make is taken for what it is made from: `lib/x.esm.js` where there is only `src/x.ts`.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any, cast

import orjson

from git_starcoder.parse.resolve import DEEPEST, Import, Repository, Resolver, beside, folders

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTENSIONS = (".ts", ".tsx", ".d.ts", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json", ".vue", ".svelte")
COMPILED = {".js": (".ts", ".tsx"), ".jsx": (".tsx",), ".mjs": (".mts",), ".cjs": (".cts",)}
"""TypeScript names a module by what it will be compiled to."""
BUILT = frozenset({"lib", "dist", "build", "out"})
"""Folders that builds write to,"""
SOURCE = ("src", "source")
"""and those that they read from."""
FORMAT = re.compile(r"\.(?:esm|umd|cjs|min)(?=\.\w+$)")
"""What builds put into the name of a file."""
LARGEST = 1 << 16
"""Bytes of a manifest that is read."""
ENTRIES = ("source", "module", "main")
"""Where a manifest says what its package is, best first."""
TAKES = ("dependencies", "devDependencies", "peerDependencies", "optionalDependencies")


def read(_kind: str, text: str) -> Iterator[Import]:
    """The module without its quotes."""
    yield Import("from", text[1:-1])


class Packages:
    """The packages of a repository, from each `package.json`."""

    def __init__(self, repository: Repository) -> None:
        self._manifests = {
            posixpath.dirname(path): _manifest(repository.text(path)) for path in repository.named("package.json")
        }
        self._named: dict[str, list[str]] = {}
        for folder in self._manifests:
            for name in self._own(folder):
                self._named.setdefault(name, []).append(folder)
        self._takes: dict[str, frozenset[str]] = {}

    def folder(self, path: str, name: str) -> str | None:
        """The folder of the package that a file means by a name; None where it is not surely in this repository."""
        found = self._named.get(name, [])
        if len(found) != 1 or not any(name in self._taken(above) for above in folders(path)):
            return None
        return found[0]

    def entries(self, folder: str) -> Iterator[str]:
        """Where the module that a package is may be."""
        manifest = self._manifests[folder]
        for key in ENTRIES:
            if isinstance(entry := manifest.get(key), str):
                yield entry
        yield from ("index", *(f"{source}/index" for source in SOURCE))

    def _own(self, folder: str) -> tuple[str, ...]:
        """The name of the package in a folder, if there is one."""
        name = self._manifests.get(folder, {}).get("name")
        return (name,) if isinstance(name, str) else ()

    def _taken(self, folder: str) -> frozenset[str]:
        """The names that the manifest of a folder has for packages: its own, and those that it depends on."""
        if folder not in self._takes:
            manifest = self._manifests.get(folder, {})
            sections = [manifest.get(section) for section in TAKES]
            tables = [cast("dict[str, Any]", section) for section in sections if isinstance(section, dict)]
            self._takes[folder] = frozenset(name for table in (*tables, self._own(folder)) for name in table)
        return self._takes[folder]


def _manifest(text: bytes) -> dict[str, Any]:
    """A manifest; empty where it is not JSON, or larger than any that a person writes."""
    try:
        found = orjson.loads(text) if len(text) <= LARGEST else None
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def resolver(repository: Repository) -> Resolver:
    """Resolve relative modules, and bare names of the repository's own packages."""
    packages = Packages(repository)

    def module(folder: str, name: str) -> str | None:
        base = beside(folder, name)
        if base is None:
            return None
        return there(base) or next((found for source in _sources(base) if (found := there(source))), None)

    def there(base: str) -> str | None:
        if base in repository.paths:
            return base
        stem, extension = posixpath.splitext(base)
        names = [stem + other for other in COMPILED.get(extension, ())]
        names += [base + other for other in EXTENSIONS]
        names += [posixpath.join(base, f"index{other}") for other in EXTENSIONS]
        return next((name for name in names if name in repository.paths), None)

    def resolve(path: str, what: Import) -> tuple[str, ...] | None:
        if what.name.startswith("."):
            found = module(posixpath.dirname(path), what.name)
            return None if found is None else (found,)
        parts = what.name.split("/")
        own = 2 if what.name.startswith("@") else 1
        folder = packages.folder(path, "/".join(parts[:own]))
        if folder is None:
            return None
        inside = ["/".join(parts[own:])] if parts[own:] else packages.entries(folder)
        found = next((found for name in inside if (found := module(folder, name))), None)
        return None if found is None else (found,)

    return resolve


def _sources(base: str) -> Iterator[str]:
    """What a path in a folder of built files may be made from."""
    parts = FORMAT.sub("", base).split("/")
    if len(parts) > DEEPEST:
        return
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] in BUILT:
            yield from ("/".join((*parts[:at], source, *parts[at + 1 :])) for source in SOURCE)
