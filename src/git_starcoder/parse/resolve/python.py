"""Python: packages and modules found from the folders that would be on the path.

A top-level name is looked for where a script finds its siblings, then in the folder above the file's own package,
then above each folder of that name that the file is in, then in `src`, `lib` and the repository itself, and last
wherever the repository has the only package of that name. A name of the standard library is looked for in the first two
places only.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_starcoder.parse.language import table
from git_starcoder.parse.resolve import Import, Repository, Resolver, beside, folders

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOTS = ("src", "lib", "")
EXTENSIONS = (".py", ".pyi")


def read(kind: str, text: str) -> Iterator[Import]:
    """`import a.b, c` gives `a.b` and `c`; `from .a import b, c` gives `.a` with its names."""
    lines = (line.partition("#")[0].rstrip().removesuffix("\\") for line in text.split("\n"))
    head, _, tail = " ".join(lines).partition(" ")
    if kind == "import":
        for part in tail.split(","):
            if name := part.partition(" as ")[0]:
                yield Import(kind, "".join(name.split()))
        return
    module, _, names = f"{head} {tail}".removeprefix("from").partition("import")
    taken = tuple(part.split()[0] for part in names.replace("(", " ").replace(")", " ").split(",") if part.strip())
    yield Import(kind, "".join(module.split()), taken)


class Modules:
    """Where modules of a repository are."""

    def __init__(self, repository: Repository) -> None:
        self._paths = repository.paths
        self._standard = frozenset(table("python")["imports"]["standard"].split())
        self._packages = {posixpath.dirname(path) for path in repository.named("__init__.py")}
        self._homes: dict[str, list[str]] = {}
        for package in sorted(self._packages):
            above, name = posixpath.split(package)
            if above not in self._packages:
                self._homes.setdefault(name, []).append(above)

    def file(self, base: str) -> str | None:
        """The module or package at a path without extension."""
        names = [base + extension for extension in EXTENSIONS] if base else []
        names += [posixpath.join(base, "__init__" + extension) for extension in EXTENSIONS]
        return next((name for name in names if name in self._paths), None)

    def base(self, path: str, name: str) -> str | None:
        """Where the module that a file means by a name would be, without extension."""
        dots = len(name) - len(name.lstrip("."))
        parts = name[dots:].replace(".", "/")
        if dots:
            return beside(posixpath.dirname(path), "/".join([*[".."] * (dots - 1), parts]) or ".")
        top = parts.partition("/")[0]
        for root in dict.fromkeys(self._roots(path, top)):
            base = posixpath.join(root, parts)
            if self.file(posixpath.join(root, top)) is not None or self.file(base) is not None:
                return base
        return None

    def _roots(self, path: str, top: str) -> Iterator[str]:
        """The folders that may hold a top-level name, best first."""
        own = posixpath.dirname(path)
        while own in self._packages and own:
            own = posixpath.dirname(own)
        yield own
        if top not in self._standard:
            # Packages need no `__init__.py`, and an empty one is not read.
            yield from (posixpath.dirname(folder) for folder in folders(path) if posixpath.basename(folder) == top)
            yield from ROOTS
            if len(self._homes.get(top, ())) == 1:
                yield self._homes[top][0]


def resolver(repository: Repository) -> Resolver:
    """Resolve modules by paths alone."""
    modules = Modules(repository)

    def resolve(path: str, what: Import) -> tuple[str, ...] | None:
        base = modules.base(path, what.name)
        if base is None:
            return None
        whole = modules.file(base)
        found = {modules.file(posixpath.join(base, name)) or whole for name in what.inside} or {whole}
        return tuple(sorted(target for target in found if target is not None)) or None

    return resolve
