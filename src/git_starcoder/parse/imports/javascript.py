"""Resolves JavaScript and TypeScript imports with the extensions and index files that bundlers and Node try.

A bare name is a package of this repository only if the manifest of a folder above the file names or requires that
package. A path that a build creates means the source that it is built from: `lib/x.esm.js` means `src/x.ts` if there is
only that file.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any, cast

import orjson

from git_starcoder.parse import imports
from git_starcoder.parse.imports import Import, RepositoryFiles, Resolver, join_path, parent_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTENSIONS = (".ts", ".tsx", ".d.ts", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json", ".vue", ".svelte")
COMPILED_FROM = {".js": (".ts", ".tsx"), ".jsx": (".tsx",), ".mjs": (".mts",), ".cjs": (".cts",)}
"""TypeScript names a module by the file that it will be compiled to."""
BUILD_FOLDERS = frozenset({"lib", "dist", "build", "out"})
"""Folders that builds write to."""
SOURCE_FOLDERS = ("src", "source")
"""Folders that builds read from."""
BUNDLE_SUFFIX = re.compile(r"\.(?:esm|umd|cjs|min)(?=\.\w+$)")
"""What builds insert into the name of a file."""
ENTRY_KEYS = ("source", "module", "main")
"""Keys of a manifest for the package's main module, best first."""
DEPENDENCY_KEYS = ("dependencies", "devDependencies", "peerDependencies", "optionalDependencies")


def parse_javascript_import(_kind: str, text: str) -> Iterator[Import]:
    """The module without its quotes."""
    yield Import("from", text[1:-1])


class NodePackages:
    """The packages of a repository, from every `package.json`."""

    def __init__(self, repository: RepositoryFiles) -> None:
        self._manifests = {
            posixpath.dirname(path): _parse_manifest(repository.read(path))
            for path in repository.paths_named("package.json")
        }
        self._folders: dict[str, list[str]] = {}
        for folder, manifest in self._manifests.items():
            if isinstance(name := manifest.get("name"), str):
                self._folders.setdefault(name, []).append(folder)
        self._known_names: dict[str, frozenset[str]] = {}

    def find_folder(self, path: str, name: str) -> str | None:
        """The folder of the package that a file means by a name; None if that is not certainly in this repository."""
        folders = self._folders.get(name, [])
        if len(folders) != 1 or not any(name in self._names_known_in(parent) for parent in parent_folders(path)):
            return None
        return folders[0]

    def entry_points(self, folder: str) -> Iterator[str]:
        """Paths at which the main module of a package may be, best first."""
        manifest = self._manifests[folder]
        yield from (entry for key in ENTRY_KEYS if isinstance(entry := manifest.get(key), str))
        yield from ("index", *(f"{source}/index" for source in SOURCE_FOLDERS))

    def _names_known_in(self, folder: str) -> frozenset[str]:
        """The packages that the manifest of a folder names: its own and its dependencies."""
        if folder not in self._known_names:
            manifest = self._manifests.get(folder, {})
            names = {manifest["name"]} if isinstance(manifest.get("name"), str) else set[str]()
            for key in DEPENDENCY_KEYS:
                if isinstance(section := manifest.get(key), dict):
                    names.update(cast("dict[str, Any]", section))
            self._known_names[folder] = frozenset(names)
        return self._known_names[folder]


def _parse_manifest(text: bytes) -> dict[str, Any]:
    """A manifest; empty if it is not a JSON object or longer than any that a person writes."""
    try:
        manifest = orjson.loads(text) if len(text) <= imports.MAX_MANIFEST_BYTES else None
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", manifest) if isinstance(manifest, dict) else {}


def create_javascript_resolver(repository: RepositoryFiles) -> Resolver:
    """Create a resolver for relative modules and for bare names of the repository's own packages."""
    packages = NodePackages(repository)

    def find_module(folder: str, name: str) -> str | None:
        base = join_path(folder, name)
        candidates = () if base is None else (base, *_source_candidates(base))
        return next((found for candidate in candidates if (found := find_file(candidate))), None)

    def find_file(base: str) -> str | None:
        if base in repository.paths:
            return base
        stem, extension = posixpath.splitext(base)
        names = [stem + other for other in COMPILED_FROM.get(extension, ())]
        names += [base + other for other in EXTENSIONS]
        names += [posixpath.join(base, f"index{other}") for other in EXTENSIONS]
        return next((name for name in names if name in repository.paths), None)

    def resolve(path: str, imported: Import) -> tuple[str, ...] | None:
        folder, modules = posixpath.dirname(path), [imported.name]
        if not imported.name.startswith("."):
            parts = imported.name.split("/")
            package_parts = 2 if imported.name.startswith("@") else 1
            folder = packages.find_folder(path, "/".join(parts[:package_parts]))
            if folder is None:
                return None
            modules = ["/".join(parts[package_parts:])] if parts[package_parts:] else packages.entry_points(folder)
        found = next((found for name in modules if (found := find_module(folder, name))), None)
        return None if found is None else (found,)

    return resolve


def _source_candidates(base: str) -> Iterator[str]:
    """The paths that a path in a build folder may be built from."""
    parts = BUNDLE_SUFFIX.sub("", base).split("/")
    for index in range(len(parts) - 2, -1, -1) if len(parts) <= imports.MAX_NAME_DEPTH else ():
        if parts[index] in BUILD_FOLDERS:
            yield from ("/".join((*parts[:index], source, *parts[index + 1 :])) for source in SOURCE_FOLDERS)
