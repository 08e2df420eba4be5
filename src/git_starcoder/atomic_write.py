"""Writes folders and files that appear complete or not at all.

Only one process writes an output at a time, and files of the user are never replaced.

New files are written to a hidden folder first. Usually this folder is then renamed to the output, so that the output is
always absent or complete. Some output folders must stay the same folder, such as a mount point or a folder with files
of the user (see `output_folder.must_keep_folder`). There files are replaced one by one. The marker file is removed
first and comes back last, so a folder with a marker is complete, and the next run finishes what a kill interrupted.

The hidden names, for an output called `out`:

    .out.lock      held by the process that writes
    .out.partial   being written; removed by the next run
    .out.ready     complete, its files are being moved to `out`; finished by the next run
    .out.old       the old output, while the new one takes its name
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from git_starcoder.errors import OutputError, as_machine_error
from git_starcoder.output_folder import (
    GITIGNORE_NAME,
    OutputKind,
    has_schema,
    hidden_files_folder,
    hidden_path,
    inspect_folder,
    list_files,
    must_keep_folder,
    read_marker,
    require_no_collision,
    require_replaceable,
    resolve_destination,
    write_gitignore,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

T = TypeVar("T")
RENAME_REFUSED_ERRORS = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES}
"""Errors where a folder may not be renamed, but files in it may: a mount, an overlay, a folder of another user."""
REPLACED_MARKER = ".former"
"""The name of the old marker file while files are replaced one by one."""


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

    Raises:
        OutputError: another process is writing the folder, it is not writable, the disk is full, or files of the user
            are in the way.

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
            partial = hidden_path(target if must_keep_folder(target, contents) else target.parent, target, "partial")
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
    if out.exists() and not must_keep_folder(out, contents) and partial.parent == out.parent:
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
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        partial.write_bytes(text.encode("utf-8"))
        flush_to_disk(partial)
        # mkstemp makes a file that only its owner may read.
        partial.chmod(path.stat().st_mode & 0o777 if path.exists() else path.parent.stat().st_mode & 0o666)
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
    """Flush one file or folder to the disk (`fsync`)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def convert_os_errors(out: Path) -> Generator[None]:
    """Turn an error of the operating system about an output into one clear line.

    Raises:
        OutputError: the output cannot be written.
        MachineError: a resource of the machine is used up.

    """
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

    Raises:
        OutputError: another process has the lock.

    """
    with lock.open("a+") as file:
        if not _try_lock(file.fileno(), lock):
            what = f"another {kind.writer} is writing '{out}'"
            raise OutputError(what, where=str(lock), hint="wait for it to end")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _try_lock(handle: int, lock: Path) -> bool:
    """Take the lock without waiting, if the file still has its name: its last holder may have just removed it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except (BlockingIOError, FileNotFoundError):
        return False
