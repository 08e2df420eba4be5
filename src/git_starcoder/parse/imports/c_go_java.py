"""Resolves imports of C and C++, Go, and Java, where paths and declared packages are enough."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from git_starcoder.parse.imports import Import, RepositoryFiles, Resolver, join_path, other_files, parent_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

INCLUDE_ROOTS = ("include", "src", "inc", "lib")
"""Folders that builds commonly search for includes, in any folder above the file."""
GO_MODULE_LINE = re.compile(rb'^module[ \t]+"?([^\s"]+)', re.MULTILINE)


def parse_c_import(_kind: str, text: str) -> Iterator[Import]:
    """The included name; its kind is `system` for `<…>` and `local` for quotes."""
    yield Import("system" if text.startswith("<") else "local", text.strip('<>"').strip())


def create_c_resolver(repository: RepositoryFiles) -> Resolver:
    """Resolve an include to a file next to the includer, under an include root, or the only path with this end."""

    def resolve(path: str, imported: Import) -> tuple[str, ...] | None:
        is_local = imported.kind == "local"
        name = posixpath.normpath(imported.name)
        namesakes = repository.paths_named(posixpath.basename(name))
        if not namesakes:
            return None
        folders = parent_folders(path)
        if is_local and (sibling := join_path(folders[0], imported.name)) in repository.paths:
            return (sibling,)
        roots = ("", *INCLUDE_ROOTS) if is_local else INCLUDE_ROOTS[:1]
        candidates = (posixpath.join(folder, root, name) for folder in folders for root in roots)
        if found := next((candidate for candidate in candidates if candidate in repository.paths), None):
            return (found,)
        ending = f"/{name}" if is_local else f"/include/{name}"
        possible = [other for other in namesakes if other.endswith(ending)]
        return (possible[0],) if len(possible) == 1 else None

    return resolve


def parse_go_import(_kind: str, text: str) -> Iterator[Import]:
    """The import path without its quotes."""
    yield Import("path", text.strip('"`'))


def create_go_resolver(repository: RepositoryFiles) -> Resolver:
    """Resolve a path below the module path of a `go.mod` to every file of the package in that folder."""
    module_folders: dict[str, str] = {}
    for manifest in repository.paths_named("go.mod"):
        if found := GO_MODULE_LINE.search(repository.read(manifest)):
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
        return other_files(packages[folder], path) if folder in packages else None

    return resolve


def parse_java_import(kind: str, text: str) -> Iterator[Import]:
    """The qualified name; the kind of a static import is `static`."""
    words = text.rstrip(";").split()
    if kind == "import":
        kind = "static" if "static" in words[1:2] else "import"
        words = words[2 if kind == "static" else 1 :]
    yield Import(kind, "".join(words))


def create_java_resolver(repository: RepositoryFiles) -> Resolver:
    """Resolve a class to the file of its name that declares its package, and a star to the whole package."""
    classes: defaultdict[str, list[str]] = defaultdict(list)
    packages: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(repository.imports):
        package = next((declared.name for declared in repository.imports[path] if declared.kind == "package"), None)
        if package is not None and path.endswith(".java"):
            classes[f"{package}.{posixpath.basename(path)[:-5]}"].append(path)
            packages[package].append(path)

    def resolve(path: str, imported: Import) -> tuple[str, ...] | None:
        name, star, _ = imported.name.partition(".*")
        if star and imported.kind == "import" and name in packages:
            return other_files(packages[name], path)
        while name and name not in classes:  # `name` may be a member or a nested class: try what contains it
            name = name.rpartition(".")[0]
        files = classes.get(name, ())
        return (files[0],) if len(files) == 1 else None

    return resolve
