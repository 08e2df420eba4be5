"""Makes output folders that appear complete or not at all.

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
import json
import os
import re
import shutil
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from git_starcoder.errors import OutputError
from git_starcoder.output.contents import (
    GITIGNORE_NAME,
    FolderContents,
    OutputKind,
    has_schema,
    hidden_path,
    inspect_folder,
    is_practically_empty,
    list_files,
    read_marker,
    require_no_collision,
    require_replaceable,
    write_gitignore,
)
from git_starcoder.output.files import convert_os_errors, flush_folder, flush_to_disk, remove, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

T = TypeVar("T")
RENAME_REFUSED_ERRORS = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES}
"""Errors where a folder may not be renamed, but files in it may: a mount, an overlay, a folder of another user."""
WORK_MARKER = "work.json"
"""The marker of work folders. Its schema says which command a folder belongs to."""
REPLACED_MARKER = ".former"
"""The name of the old marker file while files are replaced one by one."""


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


def prepare_work_folder(path: Path, kind: OutputKind) -> Path:
    """Create or open a folder of intermediate results (`--work`); return its path without links.

    It is recognised by its marker, which lists no files. Several processes may open it at once.

    Raises:
        OutputError: It cannot be written, or holds something else.
    """
    with convert_os_errors(path):
        folder = resolve_destination(path, kind.name, "--work")
        # Looked at before the marker, which another process may write in between.
        is_free = not os.path.lexists(folder) or (folder.is_dir() and is_practically_empty(folder))
        if has_schema(folder / kind.marker, kind.schema_prefix):
            return folder
        if not is_free:
            what = f"'{path}' exists and is not the work folder of a {kind.writer}"
            hint = "choose another folder with --work, or remove it yourself, for example if an earlier version made it"
            raise OutputError(what, where="--work", hint=hint)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(folder / GITIGNORE_NAME):
            write_gitignore(folder)
        write_atomically(folder / kind.marker, json.dumps({"schema": kind.schema_prefix}) + "\n")
    return folder


def require_apart(work: Path, out: Path) -> None:
    """Check that a work folder and an output are different folders, and that neither contains the other.

    Raises:
        OutputError: They are not.
    """
    folders = Path(os.path.realpath(work)), Path(os.path.realpath(out))
    if folders[0].is_relative_to(folders[1]) or folders[1].is_relative_to(folders[0]):
        what = f"the work folder '{work}' and the output '{out}' are one folder, or one contains the other"
        raise OutputError(what, where="--work", hint="choose another folder with --work")


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
                remove(partial)


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


def hidden_files_folder(out: Path) -> Path:
    """The folder for hidden files of an output.

    It is the parent folder, or the output itself if that is a mount point or its parent is not writable.
    """
    if out.is_dir() and (is_mount_point(out) or not os.access(out.parent, os.W_OK | os.X_OK)):
        return out
    return out.parent


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
    require_no_collision(out, contents.files if contents else (), list_files(partial))
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
            remove(hidden_path(out.parent, out, "partial"))
            old.rename(hidden_path(out.parent, out, "partial"))
        else:
            old.rename(out)
    for folder in (out.parent, out):
        ready = hidden_path(folder, out, "ready")
        if os.path.lexists(ready):
            out.mkdir(exist_ok=True)
            _replace_files(ready, out, kind)
        remove(hidden_path(folder, out, "partial"))


def _apply_folder_mode(folder: Path) -> None:
    """Give every file the permissions of the folder: some libraries write files that only the owner may read."""
    mode = folder.stat().st_mode & 0o666
    for base, _, names in os.walk(folder):
        for name in names:
            (Path(base) / name).chmod(mode)
