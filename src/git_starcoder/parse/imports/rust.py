"""Resolves Rust imports: the module tree of each crate comes from `mod` declarations, crate names from `Cargo.toml`.

A path is followed module by module as the compiler does, from the root of the crate, from the module itself, or from
another crate of the repository. The file at which it can be followed no further contains the item or re-exports it. A
crate of the repository counts only if the manifest of the importing package requires it by path or from its workspace.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from git_starcoder.parse import imports
from git_starcoder.parse.imports import Import, RepositoryFiles, Resolver, join_path, parent_folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_MANIFEST_LINE_BYTES = 4_096
"""Manifests with longer lines are not read: the cost of parsing a hostile line grows with the square of its length."""
TARGET_FOLDERS = {"bin": "src/bin", "example": "examples", "test": "tests", "bench": "benches"}
"""For each kind of target the folder in which Cargo finds those that a manifest does not list."""
_LEXEME = re.compile(r"(?:r#)?\w+|[{},*]")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_PATH_ATTRIBUTE = re.compile(r"\bpath\s*=\s*\"([^\"]+)\"")
_MOD_NAME = re.compile(r"\bmod\s+(?:r#)?(\w+)")

Module = tuple[str, tuple[str, ...]]
"""A file, and the names of the modules inside it that lead to the module."""


def parse_rust_import(kind: str, text: str) -> Iterator[Import]:
    """`use a::{b, c::d}` gives `a::b` and `a::c::d`; `#[path = "x.rs"] mod y` gives `y x.rs`."""
    text = _COMMENT.sub(" ", text)
    if kind == "mod":
        path = _PATH_ATTRIBUTE.search(text)
        if path and "cfg_attr" in text:  # a condition decides which file it is
            return
        if name := _MOD_NAME.search(text):
            yield Import(kind, f"{name[1]} {path[1]}" if path else name[1])
    elif kind == "crate":
        yield Import(kind, text.strip())
    else:
        for segments in _expand_use(text):
            yield Import(kind, "::".join(segments))


def _expand_use(text: str) -> Iterator[list[str]]:
    """The segments of each path in a `use` tree; a leading `::` is an empty first segment."""
    prefix: list[str] = []
    outer_prefixes: list[list[str]] = []
    path: list[str] = [""] if text.lstrip().startswith("::") else []
    lexemes = iter(_LEXEME.findall(text))
    for lexeme in lexemes:
        if lexeme == "{":
            outer_prefixes.append(prefix)
            prefix, path = [*prefix, *path][: imports.MAX_NAME_DEPTH + 1], []
        elif lexeme in {",", "}"}:
            if path and len(prefix) + len(path) <= imports.MAX_NAME_DEPTH:
                yield [*prefix, *path]
            path = []
            if lexeme == "}" and outer_prefixes:
                prefix = outer_prefixes.pop()
        elif lexeme == "as":
            next(lexemes, None)
        else:
            path.append(lexeme.removeprefix("r#"))
    if path and len(prefix) + len(path) <= imports.MAX_NAME_DEPTH:
        yield [*prefix, *path]


class CargoPackage(NamedTuple):
    """One package of the repository."""

    crate: str
    """The name of its library as code writes it."""
    library: str
    """The root file of its library, which may not exist."""
    dependencies: dict[str, str]
    """The folder of each crate that its manifest requires by path."""


class Crates:
    """The crates of a repository, from every `Cargo.toml`."""

    def __init__(self, repository: RepositoryFiles) -> None:
        manifests = {
            posixpath.dirname(path): _parse_manifest(repository.read(path))
            for path in repository.paths_named("Cargo.toml")
        }
        self._packages = {folder: _package(folder, manifests) for folder in manifests if "package" in manifests[folder]}
        self._package_folders: dict[str, str | None] = {}
        self._listed_targets = {
            target: folder for folder in self._packages for target in _listed_targets(folder, manifests[folder])
        }
        libraries = [package.library for package in self._packages.values()]
        listed = dict.fromkeys(root for root in (*libraries, *self._listed_targets) if root in repository.paths)
        found = (path for path in sorted(repository.paths) if path.endswith(".rs") and self._is_default_target(path))
        self.roots: dict[str, None] = listed | dict.fromkeys(found)
        """Root files of crates. Libraries are first: a module of several crates belongs to the first one."""

    def find_library(self, path: str, name: str) -> str | None:
        """The root of the library that a file means by a crate name, if it is in this repository."""
        folder = self._listed_targets.get(path) or self._package_folder(path)
        if folder is None:
            return None
        package = self._packages[folder]
        required = package if name == package.crate else self._packages.get(package.dependencies.get(name, "\0"))
        return required and required.library

    def _package_folder(self, path: str) -> str | None:
        """The folder of the package that a file belongs to."""
        folder = posixpath.dirname(path)
        if folder not in self._package_folders:
            around = (folder, *parent_folders(folder))
            self._package_folders[folder] = next((parent for parent in around if parent in self._packages), None)
        return self._package_folders[folder]

    def _is_default_target(self, path: str) -> bool:
        """Whether Cargo takes a file as a crate root although no manifest lists it."""
        folder = self._package_folder(path)
        if folder is None:
            return False
        relative = path[len(folder) :].lstrip("/")
        folders = "|".join(TARGET_FOLDERS.values())
        return re.fullmatch(rf"src/main\.rs|build\.rs|(?:{folders})/(?:[^/]*|[^/]*/main\.rs)", relative) is not None


def _parse_manifest(text: bytes) -> dict[str, Any]:
    """A manifest; empty if it is not TOML or exceeds the limits."""
    if len(text) > imports.MAX_MANIFEST_BYTES or any(len(line) > MAX_MANIFEST_LINE_BYTES for line in text.split(b"\n")):
        return {}
    try:
        return tomllib.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):  # ValueError also for a number with more digits than Python converts
        return {}


def _table(value: Any, *keys: str) -> dict[str, Any]:
    """The table at a path of keys; empty if there is none."""
    for key in keys:
        value = cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _package(folder: str, manifests: dict[str, dict[str, Any]]) -> CargoPackage:
    manifest = manifests[folder]
    library = _table(manifest, "lib")
    name = _text(library.get("name")) or _text(_table(manifest, "package").get("name"))
    root = join_path(folder, _text(library.get("path")) or "src/lib.rs") or ""
    around = (folder, *parent_folders(folder))
    workspaces = (parent for parent in around if "workspace" in manifests.get(parent, {}))
    workspace = next(((parent, manifests[parent]) for parent in workspaces), None)
    return CargoPackage(name.replace("-", "_"), root, dict(_path_dependencies(folder, manifest, workspace)))


def _listed_targets(folder: str, manifest: dict[str, Any]) -> Iterator[str]:
    """The root files that a manifest lists by path."""
    for kind in TARGET_FOLDERS:
        targets = manifest.get(kind)
        for target in cast("list[Any]", targets) if isinstance(targets, list) else ():
            if path := _text(_table(target).get("path")):
                yield join_path(folder, path) or ""
    if path := _text(_table(manifest, "package").get("build")):
        yield join_path(folder, path) or ""


def _path_dependencies(
    folder: str, manifest: dict[str, Any], workspace: tuple[str, dict[str, Any]] | None
) -> Iterator[tuple[str, str]]:
    """The name and folder of each crate that a package requires by path; `workspace` is a folder and its manifest."""
    conditional = (_table(target) for target in _table(manifest, "target").values())
    for table in (manifest, *conditional):
        for section in ("dependencies", "dev-dependencies", "build-dependencies"):
            for name, value in _table(table, section).items():
                base, dependency = folder, _table(value)
                if dependency.get("workspace") is True and workspace is not None:
                    base, dependency = workspace[0], _table(workspace[1], "workspace", "dependencies", name)
                if "path" in dependency and (path := join_path(base, _text(dependency["path"]))) is not None:
                    yield name.replace("-", "_"), path


class ModuleTrees:
    """The module trees of all crates."""

    def __init__(self, repository: RepositoryFiles, roots: Iterable[str]) -> None:
        self._inner_modules = {
            path: frozenset(declared.names for declared in declarations if declared.kind == imports.INSIDE)
            for path, declarations in repository.imports.items()
        }
        self._children: dict[Module, dict[str, str | None]] = {}
        self._parents: dict[str, Module] = {}
        self.crate_roots: dict[str, str] = {}
        """For each file the root of the first crate that contains it."""
        self._roots = frozenset(roots)
        for root in roots:
            if root in repository.imports and root not in self.crate_roots:  # else a module of another crate, too
                self._add_crate(repository, root)

    def _add_crate(self, repository: RepositoryFiles, root: str) -> None:
        self.crate_roots[root] = root
        queue = deque([root])
        while queue:
            path = queue.popleft()
            for declared in repository.imports.get(path, ()):
                if declared.kind != "mod":
                    continue
                name = declared.name.partition(" ")[0]
                child = self.find_declared_file(repository, path, declared)
                siblings = self._children.setdefault((path, declared.names), {})
                # A module that is declared twice with different files depends on a condition: its file is unknown.
                siblings[name] = child if siblings.get(name, child) == child else None
                if child is not None and child not in self.crate_roots:
                    self.crate_roots[child] = root
                    self._parents[child] = (path, (*declared.names, name))
                    queue.append(child)

    def find_declared_file(self, repository: RepositoryFiles, path: str, declared: Import) -> str | None:
        """The file that `mod name;` means; None if there is none, or more than one."""
        folder, file = posixpath.split(path)
        owns_folder = file == "mod.rs" or path in self._roots
        stem = "" if owns_folder else file.removesuffix(".rs")
        name, _, path_attribute = declared.name.partition(" ")
        if path_attribute:
            base = posixpath.join(folder, stem if declared.names else "", *declared.names)
            target = join_path(base, path_attribute)
            return target if target in repository.paths else None
        base = posixpath.join(folder, stem, *declared.names, name)
        found = [target for target in (f"{base}.rs", f"{base}/mod.rs") if target in repository.paths]
        return found[0] if len(found) == 1 else None

    def find_child(self, module: Module, segment: str) -> Module | Literal["item", "unknown"]:
        """The module of that name inside a module; `item` if it is no module, `unknown` if its file is not known."""
        children = self._children.get(module, {})
        if segment in children:
            child = children[segment]
            return "unknown" if child is None else (child, ())
        path, inner = module
        return (path, (*inner, segment)) if (*inner, segment) in self._inner_modules.get(path, ()) else "item"

    def follow_path(self, module: Module, segments: list[str]) -> Module | None:
        """The last module on a path that starts in a module."""
        for segment in segments:
            child = self.find_child(module, segment)
            if isinstance(child, str):
                return module if child == "item" else None
            module = child
        return module

    def find_parent(self, module: Module | None) -> Module | None:
        """The module in which a module is declared."""
        if module is None:
            return None
        path, inner = module if module[1] else self._parents.get(module[0], ("", ()))
        return (path, inner[:-1]) if inner else None


def create_rust_resolver(repository: RepositoryFiles) -> Resolver:
    """Create a resolver that knows the module trees of the repository's crates."""
    crates = Crates(repository)
    trees = ModuleTrees(repository, crates.roots)

    def find_start(path: str, imported: Import, segments: list[str]) -> tuple[Module | None, list[str]]:
        """The module in which a path starts, and the rest of the path."""
        here: Module = (path, imported.names)
        first, rest = segments[0], segments[1:]
        if first == "self":
            return here, rest
        if first == "super":
            module = trees.find_parent(here)
            while rest[:1] == ["super"]:
                module, rest = trees.find_parent(module), rest[1:]
            return module, rest
        if first == "crate":
            root = trees.crate_roots.get(path)
        elif first and imported.kind == "use" and trees.find_child(here, first) != "item":
            return here, segments
        else:
            if not first and rest:
                first, rest = rest[0], rest[1:]
            root = crates.find_library(path, first) if first else None  # `use ::;`, while somebody types
        return (None if root is None or root not in trees.crate_roots else (root, ())), rest

    def resolve(path: str, imported: Import) -> tuple[str, ...] | None:
        if imported.kind == "mod":
            child = trees.find_declared_file(repository, path, imported)
            return None if child is None else (child,)
        module, rest = find_start(path, imported, imported.name.split("::"))
        end = module and trees.follow_path(module, rest)
        return None if end is None else (end[0],)

    return resolve
