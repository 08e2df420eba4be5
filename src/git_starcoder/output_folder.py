"""Where an output path leads, and whose the files there are.

A folder of ours has a sign: a JSON file that says what kind of folder it is and lists its files with their sizes and
SHA-256. Whatever is not listed belongs to the user and is never removed or replaced. What is listed but was changed
since is replaced only where the user says so.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from git_starcoder.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

GITIGNORE_NAME = ".gitignore"
GITIGNORE_TEXT = "# Created by git-starcoder: what is made from the code is not part of it.\n*\n"
"""Its text: git sees nothing of the folder, unless it is told to."""
NEGLIGIBLE_NAMES = frozenset({GITIGNORE_NAME, "lost+found", ".DS_Store", "Thumbs.db", "desktop.ini", ".gitkeep"})
"""Names that do not make a folder count as used: file systems and desktops put them there."""
MAX_NAMED_FILES = 3
"""Files that an error names."""
HIDDEN_SUFFIXES = ("partial", "ready", "old", "lock", "training")
"""What the names of hidden files and folders of an output end in."""


@dataclass(frozen=True, slots=True)
class OutputKind:
    """A kind of folder that is published."""

    name: str
    """As a user calls it."""
    writer: str
    """What makes it, as a user calls it."""
    marker: str
    """The file by which a folder is known as ours: JSON with `schema` and `files`."""
    schema_prefix: str
    """How the sign's `schema` begins."""
    reserved_names: frozenset[str] = frozenset()
    """Files that are always written: a user's file of such a name is in the way."""
    late_files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Files that are ours but added after the sign was written, with how their `schema` begins."""


class WrittenFile(NamedTuple):
    """A file as it was written."""

    size: int
    sha256: str
    """Empty where the file may change."""


class FolderContents(NamedTuple):
    """What is in a folder of ours."""

    files: dict[str, WrittenFile]
    """Ours, the sign among them, by their path in the folder."""
    user_files: list[str]
    """Files and whole folders of the user."""
    changed_files: list[str]
    """Files of ours that were changed after they were written."""


def resolve_destination(out: Path, name: str) -> Path:
    """The absolute path that an output path leads to: a link stays, and what is written lies where it points.

    `name` is what a user calls the output.

    Raises:
        OutputError: a link that leads nowhere, the root of the file system, or a place inside a git directory.

    """
    hint = "choose another place with --out"
    for place in (out, *out.parents):
        if place.is_symlink() and not place.exists():
            target = os.readlink(place)  # noqa: PTH115 - the text of the link, as it is
            what = f"'{place}' exists and is not a {name} of ours, but a link to '{target}', which is not there"
            raise OutputError(what, where="--out", hint="make the folder that it points to, or remove the link")
    real = Path(os.path.realpath(out))
    if real == real.parent:
        raise OutputError(f"'{out}' is the root of the file system", where="--out", hint=hint)
    inside = next((place for place in (real, *real.parents) if _is_git_directory(place)), None)
    if inside is not None:
        raise OutputError(f"'{out}' is inside the git directory '{inside}'", where="--out", hint=hint)
    return real


def _is_git_directory(place: Path) -> bool:
    return (place / "HEAD").is_file() and (place / "objects").is_dir() and (place / "refs").is_dir()


def hidden_path(where: Path, out: Path, end: str) -> Path:
    """A hidden file or folder of an output, beside it or inside it."""
    return where / f".{out.name}.{end}"


def hidden_files_folder(out: Path) -> Path:
    """The folder that hidden files of an output go into.

    That is the folder beside it, or the output itself where it is a mount point or nothing can be written beside it.
    """
    if out.is_dir() and (is_mount_point(out) or not os.access(out.parent, os.W_OK | os.X_OK)):
        return out
    return out.parent


def is_mount_point(place: Path) -> bool:
    """Whether a real path is a mount point, also one of its own file system (`mount --bind`)."""
    if os.path.ismount(place):
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:  # not Linux
        return False
    points = (re.sub(rb"\\([0-7]{3})", lambda code: bytes((int(code[1], 8),)), line.split(b" ")[4]) for line in lines)
    return os.fsencode(place) in points


def write_gitignore(folder: Path) -> None:
    """Write the `.gitignore` of a folder of ours."""
    (folder / GITIGNORE_NAME).write_text(GITIGNORE_TEXT, encoding="utf-8")


def is_own_gitignore(path: Path) -> bool:
    """Whether a file is a `.gitignore` of ours, as it was written."""
    return path.is_file() and not path.is_symlink() and path.read_bytes() == GITIGNORE_TEXT.encode()


def list_files(folder: Path) -> list[str]:
    """Every file in a folder, by its path in it. Folders that are links are not followed."""
    found: list[str] = []
    for base, folders, files in os.walk(folder):
        here = Path(base)
        links = [name for name in folders if (here / name).is_symlink()]
        found += ((here / name).relative_to(folder).as_posix() for name in (*files, *links))
    return sorted(found)


def describe_files(
    folder: Path, known: Mapping[str, dict[str, int | str]] | None = None, *, without: str = ""
) -> dict[str, dict[str, int | str]]:
    """Size and SHA-256 of every file in a folder, as its sign lists them.

    What is `known` is not read, and the folder `without` is left out. So is `.gitignore`: who wants to commit or upload
    the folder removes it.
    """
    names = [name for name in list_files(folder) if name != GITIGNORE_NAME and name.partition("/")[0] != without]
    return {name: known[name] if known and name in known else _describe_file(folder / name) for name in names}


def _describe_file(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def inspect_folder(out: Path, kind: OutputKind) -> FolderContents | None:
    """What is in a folder of this kind; None if there is nothing at `out`, or a folder that is not used.

    Raises:
        OutputError: something else is there, or the folder cannot be changed.

    """
    if not os.path.lexists(out) or (out.is_dir() and is_practically_empty(out)):
        if out.is_dir() and not os.access(out, os.W_OK | os.X_OK):
            raise OutputError(f"'{out}' cannot be written", where="--out", hint="its rights do not allow it")
        return None
    files = read_marker(out / kind.marker, kind)
    if files is None:
        hint = "choose another folder with --out, or remove it yourself"
        raise OutputError(f"'{out}' exists and is not a {kind.name} of ours", where="--out", hint=hint)
    later = [name for name, schema in kind.late_files.items() if has_schema(out / name, schema)]
    files |= dict.fromkeys(
        [*later, GITIGNORE_NAME] if is_own_gitignore(out / GITIGNORE_NAME) else later, WrittenFile(0, "")
    )
    folders = {folder for name in files for folder in _parent_folders(name)} | {"."}
    for folder in sorted(folders):
        place = out / folder
        if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
            what = f"'{folder}' in '{out}' was replaced by {'a link' if place.is_symlink() else 'a file'}"
            raise OutputError(what, where="--out", hint="move it away, or choose another folder with --out")
        if place.is_dir() and place.stat().st_dev != out.stat().st_dev:
            what = f"'{folder}' in '{out}' is a file system of its own"
            raise OutputError(what, where="--out", hint="unmount it, or choose another folder with --out")
        if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
            what = f"'{out if folder == '.' else place}' cannot be written"
            raise OutputError(what, where="--out", hint="its rights do not allow it")
    foreign = sorted(_find_user_files(out, "", files, folders, _hidden_names(out)))
    since = (out / kind.marker).stat().st_mtime_ns
    edited = sorted(name for name, wrote in files.items() if _was_changed(out / name, wrote, since))
    return FolderContents(files, foreign, edited)


def is_practically_empty(folder: Path) -> bool:
    """Whether nothing is in a folder but what counts as nothing."""
    return {entry.name for entry in folder.iterdir()} <= NEGLIGIBLE_NAMES | _hidden_names(folder)


def _hidden_names(out: Path) -> set[str]:
    """The names of hidden files and folders of ours in an output."""
    return {hidden_path(out, out, end).name for end in HIDDEN_SUFFIXES}


def read_marker(sign: Path, kind: OutputKind) -> dict[str, WrittenFile] | None:
    """The files that a sign lists, and itself; None if it is no sign of this kind."""
    values = _read_json_object(sign)
    if values is None or not str(values.get("schema")).startswith(kind.schema_prefix):
        return None
    try:
        files = {name: WrittenFile(said["bytes"], said.get("sha256", "")) for name, said in values["files"].items()}
    except (KeyError, TypeError, AttributeError):
        return None
    if any(name.startswith("/") or not {"", ".", ".."}.isdisjoint(name.split("/")) for name in files):
        return None
    return {**files, kind.marker: WrittenFile(0, "")}


def has_schema(path: Path, schema: str) -> bool:
    """Whether a file is JSON whose `schema` begins like this."""
    return str((_read_json_object(path) or {}).get("schema")).startswith(schema)


def require_replaceable(out: Path, there: FolderContents, kind: OutputKind, *, force: bool) -> None:
    """Refuse to build where a file of the user would be lost.

    Raises:
        OutputError: a file of ours was changed, and `force` is not given; or a file of the user has the name of one of
            ours.

    """
    if blocked := sorted((kind.reserved_names | there.files.keys()).intersection(there.user_files)):
        raise OutputError(
            f"'{out}' has files of yours with names that the {kind.name} needs: {_shorten_list(blocked)}",
            where="--out",
            hint="move them away, or choose another folder with --out",
        )
    if there.changed_files and not force:
        raise OutputError(
            f"files in '{out}' were changed after they were written: {_shorten_list(there.changed_files)}",
            where="--out",
            hint="--force replaces them; or choose another folder with --out",
        )


def require_no_collision(out: Path, old: Collection[str], new: Collection[str]) -> None:
    """Refuse to put files where others are that are not ours.

    Raises:
        OutputError: there is one.

    """
    for name in new:
        taken = [
            folder for folder in _parent_folders(name) if os.path.lexists(out / folder) and not _is_folder(out / folder)
        ]
        if name not in old and os.path.lexists(out / name):
            taken.append(name)
        if taken:
            what = f"'{taken[0]}' in '{out}' is not ours, and its name is needed"
            raise OutputError(what, where="--out", hint="move it away, and give the same command again")


def must_keep_folder(out: Path, there: FolderContents | None) -> bool:
    """Whether the folder at `out` must stay the same folder, so that files are replaced one by one.

    Else it is replaced by another one, which nobody ever sees half-done.
    """
    if not out.exists():
        return False
    if there is None or there.user_files or hidden_files_folder(out) == out or _is_current_folder(out):
        return True
    found = out.stat()
    ours = (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid()) and not found.st_mode & stat.S_ISGID
    return not ours or _has_access_list(out)


def _is_current_folder(out: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(out)
    except OSError:  # the current folder is deleted
        return False


def _has_access_list(out: Path) -> bool:
    try:
        return any(name.startswith("system.posix_acl") for name in os.listxattr(out))
    except (OSError, AttributeError):  # no such thing here
        return False


def _parent_folders(name: str) -> list[str]:
    """The folders that a file lies in, without the one that is given."""
    return [str(parent) for parent in PurePosixPath(name).parents if parent.name]


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()


def _find_user_files(
    out: Path, below: str, files: Mapping[str, WrittenFile], folders: Collection[str], own: Collection[str]
) -> Iterator[str]:
    for entry in os.scandir(out / below):
        name = f"{below}{entry.name}"
        if name in own or (name in files and not entry.is_dir(follow_symlinks=False)):
            continue
        if name in folders:
            yield from _find_user_files(out, f"{name}/", files, folders, own)
        else:
            yield name


def _was_changed(path: Path, wrote: WrittenFile, since: int) -> bool:
    """Whether a file has other bytes than were written. A file that is not newer than the sign is as it was."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        return True
    if not wrote.sha256 or found.st_size == 0:  # in an empty file there is nothing to lose
        return False
    return found.st_size != wrote.size or (found.st_mtime_ns >= since and _sha256(path) != wrote.sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json_object(path: Path) -> dict[str, Any] | None:
    """A JSON object in a file; None where there is none."""
    try:
        loaded = orjson.loads(path.read_bytes()) if path.is_file() and not path.is_symlink() else None
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else None


def _shorten_list(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED_FILES} more" if len(names) > MAX_NAMED_FILES else ""
    return ", ".join(names[:MAX_NAMED_FILES]) + more
