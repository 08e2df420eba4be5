"""What is in an output folder, and whose files these are.

A folder that git-starcoder wrote has a marker: a JSON file such as `manifest.json` that says what kind of folder it is
and lists its files with their sizes and SHA-256. Files that are not listed belong to the user, and are never removed or
replaced. Listed files that were changed later are replaced only with `--force`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from git_starcoder.errors import OutputError
from git_starcoder.output.files import PARTIAL_FILE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

GITIGNORE_NAME = ".gitignore"
"""The name of the file that hides an output folder from git."""
GITIGNORE_TEXT = "# Created by git-starcoder: what is made from the code is not part of it.\n*\n"
"""The text of that file. It is part of the file format: a file with another text belongs to the user."""
NEGLIGIBLE_NAMES = frozenset({GITIGNORE_NAME, "lost+found", ".DS_Store", "Thumbs.db", "desktop.ini", ".gitkeep"})
"""Files that do not make a folder count as used, because file systems and desktops create them."""
MAX_NAMED_FILES = 3
"""Largest number of files that an error names."""
HIDDEN_SUFFIXES = ("partial", "ready", "old", "lock", "training")
"""Suffixes of the hidden files and folders of an output; see the top of this module."""


@dataclass(frozen=True, slots=True)
class OutputKind:
    """A kind of output folder, such as dataset or model."""

    name: str
    """The name for users, such as `dataset`."""
    writer: str
    """The name for users of what writes it, such as `build`."""
    marker: str
    """The file that identifies the folder: JSON with `schema` and `files`."""
    schema_prefix: str
    """The beginning of `schema` in the marker."""
    reserved_names: frozenset[str] = frozenset()
    """Files that are always written, so that a user's file with such a name is in the way."""
    late_files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Files that are added after the marker was written, with the beginning of their `schema`."""


class WrittenFile(NamedTuple):
    """The size and hash of a file when it was written."""

    size: int
    sha256: str
    """Empty if the file may change."""


class FolderContents(NamedTuple):
    """The contents of an output folder."""

    files: dict[str, WrittenFile]
    """Files that git-starcoder wrote, including the marker, by their path in the folder."""
    user_files: list[str]
    """Files and whole folders of the user."""
    changed_files: list[str]
    """Files that git-starcoder wrote and that were changed later."""


def hidden_path(folder: Path, out: Path, suffix: str) -> Path:
    """The path of a hidden file or folder of an output, in the folder beside it or in the output itself."""
    return folder / f".{out.name}.{suffix}"


def write_gitignore(folder: Path) -> None:
    """Write the `.gitignore` of an output folder."""
    (folder / GITIGNORE_NAME).write_text(GITIGNORE_TEXT, encoding="utf-8")


def is_own_gitignore(path: Path) -> bool:
    """Whether a file is a `.gitignore` that git-starcoder wrote, unchanged."""
    return path.is_file() and not path.is_symlink() and path.read_bytes() == GITIGNORE_TEXT.encode()


def is_practically_empty(folder: Path) -> bool:
    """Whether a folder has no files except negligible, hidden and unfinished ones."""
    names = {entry.name for entry in folder.iterdir() if not PARTIAL_FILE.fullmatch(entry.name)}
    return names <= NEGLIGIBLE_NAMES | _hidden_names(folder)


def _hidden_names(out: Path) -> set[str]:
    """The names of the hidden files and folders that git-starcoder may have in an output."""
    return {hidden_path(out, out, suffix).name for suffix in HIDDEN_SUFFIXES}


def list_files(folder: Path) -> list[str]:
    """The paths of all files below a folder, sorted and relative to it. Links to folders count as files."""
    names: list[str] = []
    for base, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(base) / name).is_symlink()]
        names += ((Path(base) / name).relative_to(folder).as_posix() for name in (*files, *links))
    return sorted(names)


def describe_files(
    folder: Path, known: Mapping[str, dict[str, int | str]] | None = None, *, without: str = ""
) -> dict[str, dict[str, int | str]]:
    """Size and SHA-256 of every file in an output folder, as its marker lists them.

    `.gitignore` is left out, because users who commit or upload the folder remove it; so is the folder `without`.
    Files with `known` results are not read again.
    """
    names = [name for name in list_files(folder) if name != GITIGNORE_NAME and name.partition("/")[0] != without]
    known = known or {}
    return {name: known.get(name) or describe_file(folder / name) for name in names}


def describe_file(file: Path) -> dict[str, int | str]:
    """Size and SHA-256 of a file, as the marker of an output folder lists them."""
    return {"bytes": file.stat().st_size, "sha256": _sha256(file)}


def inspect_folder(out: Path, kind: OutputKind) -> FolderContents | None:
    """The contents of a folder of this kind; None if nothing is at `out`, or a practically empty folder.

    An `OutputError` says that `out` is something else or not writable.
    """
    if not os.path.lexists(out) or (out.is_dir() and is_practically_empty(out)):
        if out.is_dir() and not os.access(out, os.W_OK | os.X_OK):
            raise OutputError(f"'{out}' cannot be written", where="--out", hint="change its permissions")
        return None
    files = read_marker(out / kind.marker, kind)
    if files is None:
        hint = "choose another folder with --out, or remove it yourself"
        raise OutputError(f"'{out}' exists and is not a git-starcoder {kind.name}", where="--out", hint=hint)
    later = [name for name, schema in kind.late_files.items() if has_schema(out / name, schema)]
    if is_own_gitignore(out / GITIGNORE_NAME):
        later.append(GITIGNORE_NAME)
    files |= dict.fromkeys(later, WrittenFile(0, ""))
    folders = {folder for name in files for folder in parent_folders(name)} | {"."}
    for folder in sorted(folders):
        path = out / folder
        if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
            what = f"'{folder}' in '{out}' was replaced by {'a link' if path.is_symlink() else 'a file'}"
            raise OutputError(what, where="--out", hint="move it away, or choose another folder with --out")
        if path.is_dir() and path.stat().st_dev != out.stat().st_dev:
            what = f"'{folder}' in '{out}' is a file system of its own"
            raise OutputError(what, where="--out", hint="unmount it, or choose another folder with --out")
        if path.is_dir() and not os.access(path, os.W_OK | os.X_OK):
            what = f"'{out if folder == '.' else path}' cannot be written"
            raise OutputError(what, where="--out", hint="change its permissions")
    user_files = sorted(_find_user_files(out, "", files, folders, _hidden_names(out)))
    marked_at = (out / kind.marker).stat().st_mtime_ns
    changed = sorted(name for name, written in files.items() if _was_changed(out / name, written, marked_at))
    return FolderContents(files, user_files, changed)


def read_marker(path: Path, kind: OutputKind) -> dict[str, WrittenFile] | None:
    """The files that a marker lists, and the marker; None if it is not a marker of this kind."""
    values = _read_json_object(path)
    if values is None or not str(values.get("schema")).startswith(kind.schema_prefix):
        return None
    try:
        files = {name: WrittenFile(file["bytes"], file.get("sha256", "")) for name, file in values["files"].items()}
    except (KeyError, TypeError, AttributeError):
        return None
    if any("\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")) for name in files):
        return None
    return {**files, kind.marker: WrittenFile(0, "")}


def has_schema(path: Path, schema: str) -> bool:
    """Whether a file is JSON whose `schema` begins with a text."""
    return str((_read_json_object(path) or {}).get("schema")).startswith(schema)


def require_replaceable(out: Path, contents: FolderContents, kind: OutputKind, *, force: bool) -> None:
    """Check that replacing an output loses no work of the user; with `force`, files changed later may be replaced."""
    if blocked := sorted((kind.reserved_names | contents.files.keys()).intersection(contents.user_files)):
        what = f"'{out}' has files of yours with names that the {kind.name} needs: {_shorten_list(blocked)}"
        raise OutputError(what, where="--out", hint="move them away, or choose another folder with --out")
    if contents.changed_files and not force:
        what = f"files in '{out}' were changed after they were written: {_shorten_list(contents.changed_files)}"
        raise OutputError(what, where="--out", hint="--force replaces them; or choose another folder with --out")


def require_no_collision(out: Path, old: Collection[str], new: Collection[str]) -> None:
    """Check that no new file has the name of a file or folder of the user."""
    for name in new:
        parents = {folder: out / folder for folder in parent_folders(name)}
        occupied = [
            folder for folder, path in parents.items() if path.is_symlink() or (path.exists() and not path.is_dir())
        ]
        if name not in old and os.path.lexists(out / name):
            occupied.append(name)
        if occupied:
            what = f"'{occupied[0]}' in '{out}' was not written by git-starcoder, and its name is needed"
            raise OutputError(what, where="--out", hint="move it away, and give the same command again")


def parent_folders(name: str) -> list[str]:
    """The folders between the output and a file: `a/b/c` -> [`a/b`, `a`]."""
    return [str(parent) for parent in PurePosixPath(name).parents if parent.name]


def _find_user_files(
    out: Path, prefix: str, files: Mapping[str, WrittenFile], folders: Collection[str], hidden: Collection[str]
) -> Iterator[str]:
    """Files and whole folders below `prefix` that are neither listed nor hidden."""
    for entry in os.scandir(out / prefix):
        name = f"{prefix}{entry.name}"
        if name in hidden or (name in files and not entry.is_dir(follow_symlinks=False)):
            continue
        if name in folders:
            yield from _find_user_files(out, f"{name}/", files, folders, hidden)
        else:
            yield name


def _was_changed(path: Path, written: WrittenFile, marked_at: int) -> bool:
    """Whether a file has other bytes than were written. The hash is only computed for files newer than the marker."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(status.st_mode):
        return True
    if not written.sha256 or status.st_size == 0:  # an empty file has no work of the user
        return False
    return status.st_size != written.size or (status.st_mtime_ns >= marked_at and _sha256(path) != written.sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is none."""
    try:
        value = orjson.loads(path.read_bytes()) if path.is_file() and not path.is_symlink() else None
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _shorten_list(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED_FILES} more" if len(names) > MAX_NAMED_FILES else ""
    return ", ".join(names[:MAX_NAMED_FILES]) + more
