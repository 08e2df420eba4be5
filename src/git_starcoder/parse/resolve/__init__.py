"""How each family of languages finds the file that an import names: one module each, named in `[imports] resolver`.

A module has `read(kind, text)`, which runs in a worker and turns the text of one captured import into the names it
imports, and `resolver(repository)`, which runs in the main process and gives a function from one import to the files
it reaches: a tuple, empty where that is the file itself, or None where no file of the repository is surely meant.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Import(NamedTuple):
    """One import as its file spells it."""

    kind: str
    """The capture that found it, without `import.`."""
    name: str
    """What it imports, in the language's own spelling."""
    inside: tuple[str, ...] = ()
    """The modules inside the file that it stands in (Rust), or the names taken from the module (Python)."""


FACTS = frozenset({"inside", "package"})
"""Kinds that import nothing, but say something about their file."""
DEEPEST = 32
"""Segments of a name and modules within one another; hostile ones would grow with the square of their depth."""

Resolver = Callable[[str, Import], "tuple[str, ...] | None"]


@dataclass
class Repository:
    """What resolvers may know: the paths of a repository, the text of its manifests, and the imports of its files."""

    text: Callable[[str], bytes]
    """The text of a path."""
    paths: frozenset[str]
    imports: Mapping[str, Sequence[Import]]
    """For each file of the languages that share a resolver, its imports."""
    _named: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def named(self, name: str) -> list[str]:
        """The paths whose last part is `name`, sorted."""
        if not self._named:
            for path in sorted(self.paths):
                self._named.setdefault(posixpath.basename(path), []).append(path)
        return self._named.get(name, [])


def beside(folder: str, relative: str) -> str | None:
    """The path that `relative` means in a folder of the repository; None if it climbs out."""
    path = posixpath.normpath(posixpath.join(folder, relative))
    return None if path.startswith(("..", "/")) else "" if path == "." else path


def folders(path: str) -> list[str]:
    """The folders that a path is in, innermost first; the last is the repository itself, `""`."""
    found: list[str] = []
    while path:
        path = posixpath.dirname(path)
        found.append(path)
    return found
