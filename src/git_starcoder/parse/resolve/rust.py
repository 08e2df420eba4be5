"""Rust: the module tree of each crate, from its `mod` declarations, and crates by name, from `Cargo.toml`.

A path is followed module by module as the compiler does, from the crate's root, from the module itself, or from
another crate of the repository; the file where it can be followed no further holds the item or re-exports it. A
crate of the repository counts only where the manifest of the importing package takes it by path or from its workspace.
"""

from __future__ import annotations

import posixpath
import re
from collections import deque
from typing import TYPE_CHECKING, Literal

from git_starcoder.parse.resolve import DEEPEST, Import, Repository, Resolver, beside
from git_starcoder.parse.resolve.cargo import Crates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WORD = re.compile(r"(?:r#)?\w+|[{},*]")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_PATH = re.compile(r"\bpath\s*=\s*\"([^\"]+)\"")
_MOD = re.compile(r"\bmod\s+(?:r#)?(\w+)")

Module = tuple[str, tuple[str, ...]]
"""A file, and the modules inside it."""


def read(kind: str, text: str) -> Iterator[Import]:
    """`use a::{b, c::d}` gives `a::b` and `a::c::d`; `#[path = "x.rs"] mod y` gives `y x.rs`."""
    text = _COMMENT.sub(" ", text)
    if kind == "mod":
        path = _PATH.search(text)
        if path and "cfg_attr" in text:  # the condition decides which file it is
            return
        if name := _MOD.search(text):
            yield Import(kind, f"{name[1]} {path[1]}" if path else name[1])
    elif kind == "crate":
        yield Import(kind, text.strip())
    else:
        for parts in _expand(text):
            yield Import(kind, "::".join(parts))


def _expand(text: str) -> Iterator[list[str]]:
    """The paths of a tree of `use`, each as its segments; a leading `::` is an empty first segment."""
    prefix: list[str] = []
    outer: list[list[str]] = []
    path: list[str] = [""] if text.lstrip().startswith("::") else []
    words = iter(_WORD.findall(text))
    for word in words:
        if word == "{":
            outer.append(prefix)
            prefix, path = [*prefix, *path][: DEEPEST + 1], []
        elif word in {",", "}"}:
            if path and len(prefix) + len(path) <= DEEPEST:
                yield [*prefix, *path]
            path = []
            if word == "}" and outer:
                prefix = outer.pop()
        elif word == "as":
            next(words, None)
        else:
            path.append(word.removeprefix("r#"))
    if path and len(prefix) + len(path) <= DEEPEST:
        yield [*prefix, *path]


class Modules:
    """The module trees of all crates."""

    def __init__(self, repository: Repository, roots: Iterable[str]) -> None:
        self._inner = {
            path: frozenset(what.inside for what in imports if what.kind == "inside")
            for path, imports in repository.imports.items()
        }
        self._children: dict[Module, dict[str, str | None]] = {}
        self._parent: dict[str, Module] = {}
        self.root_of: dict[str, str] = {}
        """The root of the crate that a file is first found in."""
        self._roots = frozenset(roots)
        for root in roots:
            if root in repository.imports:
                self._grow(repository, root)

    def _grow(self, repository: Repository, root: str) -> None:
        if root in self.root_of:  # a module of another crate, too
            return
        self.root_of[root] = root
        queue = deque([root])
        while queue:
            path = queue.popleft()
            for what in repository.imports.get(path, ()):
                if what.kind != "mod":
                    continue
                name = what.name.partition(" ")[0]
                child = self.declared(repository, path, what)
                siblings = self._children.setdefault((path, what.inside), {})
                # Declared twice, on conditions: which file it is, is not known.
                siblings[name] = child if siblings.get(name, child) == child else None
                if child is not None and child not in self.root_of:
                    self.root_of[child] = root
                    self._parent[child] = (path, (*what.inside, name))
                    queue.append(child)

    def declared(self, repository: Repository, path: str, what: Import) -> str | None:
        """The file that `mod name;` means; None if it is not there, or there twice."""
        folder, file = posixpath.split(path)
        own = file == "mod.rs" or path in self._roots
        stem = "" if own else file.removesuffix(".rs")
        name, _, attribute = what.name.partition(" ")
        if attribute:
            base = posixpath.join(folder, stem if what.inside else "", *what.inside)
            target = beside(base, attribute)
            return target if target in repository.paths else None
        base = posixpath.join(folder, stem, *what.inside, name)
        found = [target for target in (f"{base}.rs", f"{base}/mod.rs") if target in repository.paths]
        return found[0] if len(found) == 1 else None

    def step(self, module: Module, segment: str) -> Module | Literal["item", "unsure"]:
        """Into a module inside this one; `item` if that is not a module, `unsure` if its file is not known."""
        children = self._children.get(module, {})
        if segment in children:
            child = children[segment]
            return "unsure" if child is None else (child, ())
        path, inside = module
        return (path, (*inside, segment)) if (*inside, segment) in self._inner.get(path, ()) else "item"

    def follow(self, module: Module, segments: list[str]) -> Module | None:
        """The last module on a path."""
        for segment in segments:
            deeper = self.step(module, segment)
            if deeper == "unsure":
                return None
            if deeper == "item":
                break
            module = deeper
        return module

    def above(self, module: Module | None) -> Module | None:
        """The module that this one is declared in."""
        if module is None:
            return None
        path, inside = module
        if inside:
            return (path, inside[:-1])
        declared = self._parent.get(path)
        return declared and (declared[0], declared[1][:-1])


def resolver(repository: Repository) -> Resolver:
    """Resolve paths by the module trees of the repository's crates."""
    crates = Crates(repository)
    modules = Modules(repository, crates.roots)

    def start(path: str, what: Import, segments: list[str]) -> tuple[Module | None, list[str]]:
        """The module that a path begins in, and what is left of the path."""
        here: Module = (path, what.inside)
        first, rest = segments[0], segments[1:]
        if first == "self":
            return here, rest
        if first == "super":
            module = modules.above(here)
            while rest[:1] == ["super"]:
                module, rest = modules.above(module), rest[1:]
            return module, rest
        if first == "crate":
            root = modules.root_of.get(path)
        elif first and what.kind == "use" and modules.step(here, first) != "item":
            return here, segments
        else:
            if not first:
                first, rest = rest[0], rest[1:]
            root = crates.named(path, first)
        return (None if root is None or root not in modules.root_of else (root, ())), rest

    def resolve(path: str, what: Import) -> tuple[str, ...] | None:
        if what.kind == "mod":
            child = modules.declared(repository, path, what)
            return None if child is None else (child,)
        module, rest = start(path, what, what.name.split("::"))
        end = module and modules.follow(module, rest)
        return None if end is None else (end[0],)

    return resolve
