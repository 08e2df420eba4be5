"""Cargo manifests as data: which files are crate roots, and which crate a name means in a package."""

from __future__ import annotations

import posixpath
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.parse.resolve import beside, folders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.parse.resolve import Repository

LARGEST = 1 << 16
"""Bytes of a manifest that is read: the parser's time may grow with the square of a hostile one."""
LONGEST_LINE = 4_096
TARGETS = {"bin": "src/bin", "example": "examples", "test": "tests", "bench": "benches"}
"""Where Cargo looks for targets that a manifest does not list."""


@dataclass(slots=True)
class Package:
    """One package of the repository."""

    folder: str
    crate: str
    """The name of its library, as code spells it."""
    library: str
    """The library's root file, which may not exist."""
    takes: dict[str, str] = field(default_factory=dict[str, str])
    """For each crate name its manifest takes by path, the folder of that package."""


class Crates:
    """The crates of a repository."""

    def __init__(self, repository: Repository) -> None:
        manifests = {
            posixpath.dirname(path): _manifest(repository.text(path)) for path in repository.named("Cargo.toml")
        }
        self._packages = {
            folder: _package(folder, manifest) for folder, manifest in manifests.items() if "package" in manifest
        }
        for folder, package in self._packages.items():
            found = (place for place in _up(folder) if "workspace" in manifests.get(place, {}))
            workspace = next(((place, manifests[place]) for place in found), None)
            package.takes = dict(_taken(folder, manifests[folder], workspace))
        self._folder: dict[str, str | None] = {}
        self._listed = {target: folder for folder in self._packages for target in _targets(folder, manifests[folder])}
        libraries = [package.library for package in self._packages.values()]
        listed = dict.fromkeys(root for root in (*libraries, *self._listed) if root in repository.paths)
        found = (path for path in sorted(repository.paths) if path.endswith(".rs") and self._is_target(path))
        self.roots: dict[str, None] = listed | dict.fromkeys(found)
        """Root files of crates: libraries first, in the order that decides whose a shared module is."""

    def named(self, path: str, name: str) -> str | None:
        """The root of the library that a file means by a crate name, if this repository has it."""
        home = self._listed.get(path) or self._home(path)
        package = None if home is None else self._packages[home]
        if package is None:
            return None
        if name == package.crate:
            return package.library
        taken = self._packages.get(package.takes.get(name, "\0"))
        return taken and taken.library

    def _home(self, path: str) -> str | None:
        """The folder of the package that a file belongs to."""
        folder = posixpath.dirname(path)
        if folder not in self._folder:
            self._folder[folder] = next((place for place in _up(folder) if place in self._packages), None)
        return self._folder[folder]

    def _is_target(self, path: str) -> bool:
        """Whether Cargo takes a file for a root without being told."""
        home = self._home(path)
        if home is None:
            return False
        inside = path[len(home) :].lstrip("/")
        if inside in {"src/main.rs", "build.rs"}:
            return True
        for place in TARGETS.values():
            if inside.startswith(place + "/"):
                rest = inside[len(place) + 1 :]
                return "/" not in rest or (rest.count("/") == 1 and rest.endswith("/main.rs"))
        return False


def _up(folder: str) -> list[str]:
    """A folder and those above it."""
    return [folder, *folders(folder)]


def _manifest(text: bytes) -> dict[str, Any]:
    """A manifest; empty where it is not TOML, or is not like one that a person writes."""
    if len(text) > LARGEST or any(len(line) > LONGEST_LINE for line in text.split(b"\n")):
        return {}
    try:
        return tomllib.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):  # ValueError also for a number with more digits than Python converts
        return {}


def _table(value: Any, *keys: str) -> dict[str, Any]:
    """The table under some keys; empty where there is none."""
    for key in keys:
        value = cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _package(folder: str, manifest: dict[str, Any]) -> Package:
    library = _table(manifest, "lib")
    name = _text(library.get("name")) or _text(_table(manifest, "package").get("name"))
    root = beside(folder, _text(library.get("path")) or "src/lib.rs") or ""
    return Package(folder, name.replace("-", "_"), root)


def _targets(folder: str, manifest: dict[str, Any]) -> Iterator[str]:
    """Root files that a manifest lists by path."""
    for kind in TARGETS:
        targets = manifest.get(kind)
        for target in cast("list[Any]", targets) if isinstance(targets, list) else ():
            if path := _text(_table(target).get("path")):
                yield beside(folder, path) or ""
    if path := _text(_table(manifest, "package").get("build")):
        yield beside(folder, path) or ""


def _taken(
    folder: str, manifest: dict[str, Any], workspace: tuple[str, dict[str, Any]] | None
) -> Iterator[tuple[str, str]]:
    """Each crate name that a package takes by path, with the folder it is in."""
    conditional = (_table(target) for target in _table(manifest, "target").values())
    for holder in (manifest, *conditional):
        for section in ("dependencies", "dev-dependencies", "build-dependencies"):
            for name, how in _table(holder, section).items():
                place, how = folder, _table(how)
                if how.get("workspace") is True and workspace is not None:
                    place, how = workspace[0], _table(workspace[1], "workspace", "dependencies", name)
                path = beside(place, _text(how.get("path"))) if "path" in how else None
                if path is not None:
                    yield name.replace("-", "_"), path
