"""Writes output folders and files that appear complete or not at all, and never replaces files of the user.

A folder that git-starcoder wrote has a marker: a JSON file such as `manifest.json` that says what kind of folder it is
and lists its files with their sizes and SHA-256. Files that are not listed belong to the user, and are never removed or
replaced. Listed files that were changed later are replaced only with `--force`.

New files are written to a hidden folder first. Usually this folder is then renamed to the output, so that the output is
always absent or complete. Some output folders must stay the same folder, such as a mount point or a folder with files
of the user (see `_must_keep_folder`). There files are replaced one by one. The marker is removed first and comes back
last, so a folder with a marker is complete, and the next run finishes what a kill interrupted.

The hidden names, for an output called `out`:

    .out.lock      held by the one process that writes
    .out.partial   being written; removed by the next run
    .out.ready     complete, its files are being moved to `out`; finished by the next run
    .out.old       the old output, while the new one takes its name
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import orjson

from git_starcoder.errors import OutputError, as_machine_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping

T = TypeVar("T")

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
RENAME_REFUSED_ERRORS = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES}
"""Errors where a folder may not be renamed, but files in it may: a mount, an overlay, a folder of another user."""
REPLACED_MARKER = ".former"
"""The name of the old marker file while files are replaced one by one."""


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


def resolve_destination(out: Path, name: str, option: str = "--out") -> Path:
    """The absolute path of an output. Links are followed, so the files go where the user's link points.

    An `OutputError` says that it is a broken link, the root of the file system, or inside a git directory. `option` is
    the flag that sets it.
    """
    hint = f"choose another place with {option}"
    for path in (out, *out.parents):
        if path.is_symlink() and not path.exists():
            target = os.readlink(path)  # noqa: PTH115 - the text of the link, unchanged
            what = f"'{path}' exists and is not a git-starcoder {name}, but a link to '{target}', which does not exist"
            raise OutputError(what, where=option, hint="create the folder that it points to, or remove the link")
    real = Path(os.path.realpath(out))
    if real == real.parent:
        raise OutputError(f"'{out}' is the root of the file system", where=option, hint=hint)
    for folder in (real, *real.parents):
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir():
            raise OutputError(f"'{out}' is inside the git directory '{folder}'", where=option, hint=hint)
    return real


def prepare_work_folder(path: Path, owner: str, names: Collection[str] = ()) -> Path:
    """Create or open a folder of intermediate results (`--work`); return its path without links.

    Besides a folder with our `.gitignore`, one that contains nothing but `names` is taken for one of `owner`.

    Raises:
        OutputError: It cannot be written, or holds something else.
    """
    with convert_os_errors(path):
        folder = resolve_destination(path, "work folder", "--work")
        is_own = is_own_gitignore(folder / GITIGNORE_NAME)
        is_free = not os.path.lexists(folder) or (folder.is_dir() and is_practically_empty(folder, names))
        if not is_own and not is_free:
            what = f"'{path}' exists and is not the work folder of {owner}"
            raise OutputError(what, where="--work", hint="choose another folder with --work, or remove it yourself")
        folder.mkdir(parents=True, exist_ok=True)
        if not is_own:
            write_gitignore(folder)
    return folder


def hidden_path(folder: Path, out: Path, suffix: str) -> Path:
    """The path of a hidden file or folder of an output, in the folder beside it or in the output itself."""
    return folder / f".{out.name}.{suffix}"


def hidden_files_folder(out: Path) -> Path:
    """The folder for hidden files of an output.

    It is the parent folder, or the output itself if that is a mount point or its parent is not writable.
    """
    if out.is_dir() and (is_mount_point(out) or not os.access(out.parent, os.W_OK | os.X_OK)):
        return out
    return out.parent


def is_mount_point(path: Path) -> bool:
    """Whether a path without links is a mount point, including bind mounts of the same file system."""
    if os.path.ismount(path):
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:  # not Linux
        return False
    # Octal escapes stand for spaces and other special characters: b"/my\\040disk" -> b"/my disk".
    points = (re.sub(rb"\\([0-7]{3})", lambda code: bytes((int(code[1], 8),)), line.split(b" ")[4]) for line in lines)
    return os.fsencode(path) in points


def write_gitignore(folder: Path) -> None:
    """Write the `.gitignore` of an output folder."""
    (folder / GITIGNORE_NAME).write_text(GITIGNORE_TEXT, encoding="utf-8")


def is_own_gitignore(path: Path) -> bool:
    """Whether a file is a `.gitignore` that git-starcoder wrote, unchanged."""
    return path.is_file() and not path.is_symlink() and path.read_bytes() == GITIGNORE_TEXT.encode()


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
    folders = {folder for name in files for folder in _parent_folders(name)} | {"."}
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


def is_practically_empty(folder: Path, names: Collection[str] = ()) -> bool:
    """Whether a folder has no files except negligible and hidden ones, and those with some names."""
    return {entry.name for entry in folder.iterdir()} <= NEGLIGIBLE_NAMES | _hidden_names(folder) | {*names}


def _hidden_names(out: Path) -> set[str]:
    """The names of the hidden files and folders that git-starcoder may have in an output."""
    return {hidden_path(out, out, suffix).name for suffix in HIDDEN_SUFFIXES}


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


def _require_no_collision(out: Path, old: Collection[str], new: Collection[str]) -> None:
    """Check that no new file has the name of a file or folder of the user."""
    for name in new:
        parents = {folder: out / folder for folder in _parent_folders(name)}
        occupied = [
            folder for folder, path in parents.items() if path.is_symlink() or (path.exists() and not path.is_dir())
        ]
        if name not in old and os.path.lexists(out / name):
            occupied.append(name)
        if occupied:
            what = f"'{occupied[0]}' in '{out}' was not written by git-starcoder, and its name is needed"
            raise OutputError(what, where="--out", hint="move it away, and give the same command again")


def _must_keep_folder(out: Path, contents: FolderContents | None) -> bool:
    """Whether the folder must stay the same folder, so that its files are replaced one by one.

    It must if it was empty or has files of the user, is a mount point or the current folder, or has another owner or
    access rights than a new folder would have. Otherwise a new folder replaces it in one step.
    """
    if not out.exists():
        return False
    if contents is None or contents.user_files or hidden_files_folder(out) == out or _is_current_folder(out):
        return True
    status = out.stat()
    is_own = (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid()) and not status.st_mode & stat.S_ISGID
    return not is_own or _has_access_list(out)


def _is_current_folder(out: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(out)
    except OSError:  # the current folder was deleted
        return False


def _has_access_list(out: Path) -> bool:
    try:
        return any(name.startswith("system.posix_acl") for name in os.listxattr(out))
    except (OSError, AttributeError):  # this system or file system has none
        return False


def _parent_folders(name: str) -> list[str]:
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


@contextmanager
def atomic_folder(
    out: Path, kind: OutputKind, reusable: Callable[[Path], T | None], *, force: bool = False
) -> Generator[tuple[Path, T | None]]:
    """Make a folder that appears complete or not at all.

    The block fills a hidden folder. When the block ends without an error, the files are flushed to the disk and moved
    to `out`. Files that an earlier run wrote there are replaced; files of the user stay.

    Args:
        out: The folder to make.
        kind: What kind of folder it is. A folder of another kind is never touched.
        reusable: Called under the lock if a folder of this kind is at `out`. If it returns something other than None,
            that is yielded, there is no folder to fill, and nothing changes.
        force: Also replace files that were changed since they were written.

    Yields:
        The hidden folder to fill and None, or a folder that does not exist and the result of `reusable`.
    """
    with convert_os_errors(out):
        target = resolve_destination(out, kind.name)
        lock = hidden_path(hidden_files_folder(target), target, "lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(out, kind, lock):
            _recover(target, kind)
            contents = inspect_folder(target, kind)
            reused = reusable(target) if contents else None
            if contents and reused is None:
                require_replaceable(target, contents, kind, force=force)
            partial = hidden_path(target if _must_keep_folder(target, contents) else target.parent, target, "partial")
            if reused is not None:
                yield partial, reused
                return
            partial.mkdir()
            try:
                if target.exists():  # users who may not read the output may not read the hidden folder either
                    partial.chmod(partial.stat().st_mode & ~0o777 | target.stat().st_mode & 0o777 | 0o700)
                write_gitignore(partial)
                yield partial, None
                _apply_folder_mode(partial)
                flush_folder(partial)
                _publish(partial, target, kind, force=force)
            finally:
                _remove(partial)


def _publish(partial: Path, out: Path, kind: OutputKind, *, force: bool) -> None:
    """Replace the output by the folder that was filled."""
    contents = inspect_folder(out, kind)  # inspected again: the user may have changed it since
    if contents:
        require_replaceable(out, contents, kind, force=force)
    # The user may have another .gitignore, or have removed ours.
    keeps_gitignore = GITIGNORE_NAME not in contents.files if contents else os.path.lexists(out / GITIGNORE_NAME)
    if keeps_gitignore:
        (partial / GITIGNORE_NAME).unlink()
    if out.exists() and not _must_keep_folder(out, contents) and partial.parent == out.parent:
        shutil.copystat(out, partial)
        old = hidden_path(out.parent, out, "old")
        try:
            out.rename(old)
        except OSError as error:
            if error.errno not in RENAME_REFUSED_ERRORS:
                raise
        else:
            partial.rename(out)
            flush_to_disk(out.parent)
            old.rename(partial)  # to be removed; a folder named .old is always complete
            return
    if not out.exists():
        partial.rename(out)
        flush_to_disk(out.parent)
        return
    _require_no_collision(out, contents.files if contents else (), list_files(partial))
    ready = partial.with_name(f".{out.name}.ready")
    partial.rename(ready)  # from here on, the next run would finish the work
    flush_to_disk(ready.parent)
    _replace_files(ready, out, kind)


def _replace_files(ready: Path, out: Path, kind: OutputKind) -> None:
    """Move the files of a complete folder to the output, and remove the old files that have no successor.

    Every operation can be repeated, so the next run can finish what a kill interrupted.
    """
    marker, old_marker = ready / kind.marker, ready / REPLACED_MARKER
    new = read_marker(marker, kind)
    if new is not None:
        if os.path.lexists(out / kind.marker) and not old_marker.exists():
            (out / kind.marker).rename(old_marker)
            flush_to_disk(out)
        old = read_marker(old_marker, kind) or {}
        for name in list_files(ready):
            if name not in {kind.marker, REPLACED_MARKER}:
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (ready / name).replace(out / name)
        for name in sorted(old.keys() | kind.late_files.keys()):
            if name not in new and (name in old or has_schema(out / name, kind.late_files[name])):
                (out / name).unlink(missing_ok=True)
        _remove_empty_folders(out, old)
        for folder in {(out / name).parent for name in new}:
            flush_to_disk(folder)
        marker.replace(out / kind.marker)
        flush_to_disk(out)
    elif {*list_files(ready)} - {REPLACED_MARKER}:
        what = f"'{ready}' is in the way and was not written by git-starcoder"
        raise OutputError(what, where="--out", hint="move it away, or remove it")
    shutil.rmtree(ready)


def _remove_empty_folders(out: Path, names: Iterable[str]) -> None:
    """Remove the folders of removed files, as far as nothing is left in them."""
    folders = {out / parent for name in names for parent in Path(name).parents if parent.name}
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _recover(out: Path, kind: OutputKind) -> None:
    """Finish or remove what a killed process left beside the output and in it."""
    old = hidden_path(out.parent, out, "old")
    if os.path.lexists(old):  # killed between the two renames
        contents = inspect_folder(old, kind)
        if contents and contents.user_files:
            what = f"'{old}', which '{out}' has replaced, has files of yours: {contents.user_files[0]}"
            raise OutputError(what, where="--out", hint="move them away, and give the same command again")
        if out.exists():
            _remove(hidden_path(out.parent, out, "partial"))
            old.rename(hidden_path(out.parent, out, "partial"))
        else:
            old.rename(out)
    for folder in (out.parent, out):
        ready = hidden_path(folder, out, "ready")
        if os.path.lexists(ready):
            out.mkdir(exist_ok=True)
            _replace_files(ready, out, kind)
        _remove(hidden_path(folder, out, "partial"))


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that appears complete or not at all, replacing an existing one. Its folder must exist."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:  # with the permissions that the umask leaves
            file.write(text.encode("utf-8"))
        flush_to_disk(partial)
        if path.exists():
            partial.chmod(path.stat().st_mode & 0o777)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """Remove a folder, or the user's link to a folder, if it exists."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _apply_folder_mode(folder: Path) -> None:
    """Give every file the permissions of the folder: some libraries write files that only the owner may read."""
    mode = folder.stat().st_mode & 0o666
    for base, _, names in os.walk(folder):
        for name in names:
            (Path(base) / name).chmod(mode)


def flush_folder(folder: Path) -> None:
    """Flush every file and folder below a folder to the disk."""
    for base, _, names in os.walk(folder):
        for name in names:
            flush_to_disk(Path(base) / name)
        flush_to_disk(Path(base))


def flush_to_disk(path: Path) -> None:
    """Flush one file or folder to the disk (`fsync`), or as far as its file system does: some refuse folders."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(handle)


@contextmanager
def convert_os_errors(out: Path) -> Generator[None]:
    """Turn an error of the operating system about an output into an `OutputError` or `MachineError`."""
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else str(out)
        raise as_machine_error(error) or OutputError(f"cannot write '{out}': {error.strerror}", where=where) from error


@contextmanager
def exclusive_lock(out: Path, kind: OutputKind, lock: Path) -> Generator[None]:
    """Keep other processes from writing `out`, by the file `lock`, whose folder exists.

    It is a lock of `flock`, which the kernel frees when the process dies. The file is removed afterwards; the library
    filelock would leave it beside the output.
    """
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = os.path.samestat(lock.stat(), os.fstat(file.fileno()))  # its last holder may have removed it
        except (BlockingIOError, FileNotFoundError):
            is_locked = False
        if not is_locked:
            raise OutputError(f"another {kind.writer} is writing '{out}'", where=str(lock), hint="wait for it to end")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
