"""Resolves Java imports: a class is the file of its name that declares its package; a star is the whole package."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_starcoder.parse.imports import Import, RepositoryFiles, Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator


def parse_import(kind: str, text: str) -> Iterator[Import]:
    """The qualified name; the kind of a static import is `static`."""
    words = text.rstrip(";").split()
    if kind == "import":
        kind = "static" if "static" in words[1:2] else "import"
        words = words[2 if kind == "static" else 1 :]
    yield Import(kind, "".join(words))


def create_resolver(repository: RepositoryFiles) -> Resolver:
    """Create a resolver that knows the packages which the files of the repository declare."""
    classes: dict[str, list[str]] = {}
    packages: dict[str, list[str]] = {}
    for path in sorted(repository.imports):
        package = next((declared.name for declared in repository.imports[path] if declared.kind == "package"), None)
        if package is not None and path.endswith(".java"):
            classes.setdefault(f"{package}.{posixpath.basename(path)[:-5]}", []).append(path)
            packages.setdefault(package, []).append(path)

    def resolve(path: str, imported: Import) -> tuple[str, ...] | None:
        name, star, _ = imported.name.partition(".*")
        if star and imported.kind == "import" and name in packages:
            return tuple(file for file in packages[name] if file != path)
        while name and name not in classes:  # `name` may be a member or a nested class: try what contains it
            name = name.rpartition(".")[0]
        files = classes.get(name, ())
        return (files[0],) if len(files) == 1 else None

    return resolve
