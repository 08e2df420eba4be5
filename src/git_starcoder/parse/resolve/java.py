"""Java: a class is a file that declares the package and has the class's name; a star means the whole package."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_starcoder.parse.resolve import Import, Repository, Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator


def read(kind: str, text: str) -> Iterator[Import]:
    """The qualified name; `static` stays in the kind."""
    words = text.rstrip(";").split()
    if kind == "import":
        kind = "static" if "static" in words[1:2] else "import"
        words = words[2 if kind == "static" else 1 :]
    yield Import(kind, "".join(words))


def resolver(repository: Repository) -> Resolver:
    """Resolve qualified names by the packages that files declare."""
    classes: dict[str, list[str]] = {}
    packages: dict[str, list[str]] = {}
    for path in sorted(repository.imports):
        package = next((what.name for what in repository.imports[path] if what.kind == "package"), None)
        if package is not None and path.endswith(".java"):
            classes.setdefault(f"{package}.{posixpath.basename(path)[:-5]}", []).append(path)
            packages.setdefault(package, []).append(path)

    def resolve(path: str, what: Import) -> tuple[str, ...] | None:
        name, star, _ = what.name.partition(".*")
        if star and what.kind == "import" and name in packages:
            return tuple(file for file in packages[name] if file != path)
        while name and name not in classes:  # members and nested classes
            name = name.rpartition(".")[0]
        files = classes.get(name, ())
        return (files[0],) if len(files) == 1 else None

    return resolve
