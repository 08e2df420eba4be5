"""A folder of ours appears whole or not at all, one writer at a time, and never over something that is not ours.

What is new is built in a hidden folder. Where nobody needs the old folder itself, the new one takes its name, and the
output is always absent or whole. Where the folder has to stay (a mount point, files of the user in it: see
`output.stays`), its files are replaced one by one: the sign goes first and comes last, so a folder with a sign is
whole, and what a kill interrupts the next run finishes.
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
"""Why a folder may not be renamed although files in it may: a mount, a layer of an overlay, somebody else's folder."""
REPLACED_MARKER = ".former"
"""The sign of what is being replaced, while files are replaced one by one."""


@contextmanager
def atomic_folder(
    out: Path, kind: OutputKind, finished: Callable[[Path], T | None], *, force: bool = False
) -> Generator[tuple[Path, T | None]]:
    """Give a hidden folder to fill; at the end it is made durable, and what is in it stands at `out`.

    A lock (`flock`, freed by the kernel when its holder dies) keeps two writers of one folder apart; what a killed
    writer left is cleared or finished by the next. A folder that is not of this kind is never touched. Under the lock,
    and only if a folder of this kind stands at `out`, `finished` is asked what to keep: if it gives something, that is
    handed on, there is no folder to fill, and nothing changes. Else the files of ours in it are replaced, those of the
    user are kept, and files of ours that were changed are replaced only with `force`.

    Raises:
        OutputError: locked, not writable, out of space, or something of the user's is in the way.

    """
    with convert_os_errors(out):
        given, out = out, resolve_destination(out, kind.name)
        lock = hidden_path(hidden_files_folder(out), out, "lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(given, kind, lock):
            _recover(out, kind)
            there = inspect_folder(out, kind)
            found = finished(out) if there else None
            if there and found is None:
                require_replaceable(out, there, kind, force=force)
            partial = hidden_path(out if must_keep_folder(out, there) else out.parent, out, "partial")
            if found is not None:
                yield partial, found
                return
            partial.mkdir()
            try:
                if out.exists():  # what others may not read there, they may not read here
                    partial.chmod(partial.stat().st_mode & ~0o777 | out.stat().st_mode & 0o777 | 0o700)
                write_gitignore(partial)
                yield partial, None
                _apply_folder_mode(partial)
                flush_folder(partial)
                _publish(partial, out, kind, force=force)
            finally:
                _remove(partial)


def _publish(partial: Path, out: Path, kind: OutputKind, *, force: bool) -> None:
    """Put what was built in the place of what is there."""
    there = inspect_folder(out, kind)  # looked at again: the user may have come by since the build began
    if there:
        require_replaceable(out, there, kind, force=force)
    if (
        GITIGNORE_NAME not in there.files if there else os.path.lexists(out / GITIGNORE_NAME)
    ):  # the user has another one, or wants none
        (partial / GITIGNORE_NAME).unlink()
    if out.exists() and not must_keep_folder(out, there) and partial.parent == out.parent:
        shutil.copystat(out, partial)
        aside = hidden_path(out.parent, out, "old")
        try:
            out.rename(aside)
        except OSError as error:
            if error.errno not in RENAME_REFUSED_ERRORS:
                raise
        else:
            partial.rename(out)
            flush_to_disk(out.parent)
            aside.rename(partial)  # so that what is aside is always whole
            return
    if not out.exists():
        partial.rename(out)
        flush_to_disk(out.parent)
        return
    require_no_collision(out, there.files if there else (), list_files(partial))
    ready = partial.with_name(f".{out.name}.ready")
    partial.rename(ready)  # from here on it is finished, come what may
    flush_to_disk(ready.parent)
    _replace_files(ready, out, kind)


def _replace_files(ready: Path, out: Path, kind: OutputKind) -> None:
    """Move the files of a finished folder to where they belong, and remove those that they replace.

    Every move can be repeated, so a run that finds this unfinished does it again.
    """
    sign, former = ready / kind.marker, ready / REPLACED_MARKER
    new = read_marker(sign, kind)
    if new is not None:
        if os.path.lexists(out / kind.marker) and not former.exists():
            (out / kind.marker).rename(former)
            flush_to_disk(out)
        old = read_marker(former, kind) or {}
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
        sign.replace(out / kind.marker)
        flush_to_disk(out)
    elif {*list_files(ready)} - {REPLACED_MARKER}:
        hint = "move it away, or remove it"
        raise OutputError(f"'{ready}' is in the way and is not ours", where="--out", hint=hint)
    shutil.rmtree(ready)


def _remove_empty_folders(out: Path, names: Iterable[str]) -> None:
    """Remove the folders of files that are gone, where nothing is left in them."""
    folders = {out / parent for name in names for parent in Path(name).parents if parent.name}
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _recover(out: Path, kind: OutputKind) -> None:
    """Finish or clear what a killed writer left beside `out` and in it."""
    aside = hidden_path(out.parent, out, "old")
    if os.path.lexists(aside):  # killed between two renames
        there = inspect_folder(aside, kind)
        if there and there.user_files:
            what = f"'{aside}', which '{out}' has replaced, has files of yours: {there.user_files[0]}"
            raise OutputError(what, where="--out", hint="move them away, and give the same command again")
        if out.exists():
            _remove(hidden_path(out.parent, out, "partial"))
            aside.rename(hidden_path(out.parent, out, "partial"))
        else:
            aside.rename(out)
    for where in (out.parent, out):
        ready = hidden_path(where, out, "ready")
        if os.path.lexists(ready):
            out.mkdir(exist_ok=True)
            _replace_files(ready, out, kind)
        _remove(hidden_path(where, out, "partial"))


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all, over one that may be there; its folder is there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        partial.write_bytes(text.encode("utf-8"))
        flush_to_disk(partial)
        # A temporary file is for its owner alone.
        partial.chmod(path.stat().st_mode & 0o777 if path.exists() else path.parent.stat().st_mode & 0o666)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _remove(place: Path) -> None:
    if place.is_symlink():  # the user's link to a folder, renamed aside
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)


def _apply_folder_mode(folder: Path) -> None:
    """Give every file the rights that the folder has: some libraries write what only its owner may read."""
    rights = folder.stat().st_mode & 0o666
    for base, _, names in os.walk(folder):
        for name in names:
            (Path(base) / name).chmod(rights)


def flush_folder(folder: Path) -> None:
    """Flush every file and folder below `folder` to the disk."""
    for base, _, names in os.walk(folder):
        for name in names:
            flush_to_disk(Path(base) / name)
        flush_to_disk(Path(base))


def flush_to_disk(path: Path) -> None:
    """Flush one file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def convert_os_errors(out: Path) -> Generator[None]:
    """An operating system's error about our own files, as one clear line."""
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else str(out)
        raise as_machine_error(error) or OutputError(f"cannot write '{out}': {error.strerror}", where=name) from error


@contextmanager
def exclusive_lock(out: Path, kind: OutputKind, lock: Path) -> Generator[None]:
    """Keep other writers of `out` away by the file `lock`, whose folder is there; the kernel frees it at death.

    Raises:
        OutputError: another process has it.

    """
    with lock.open("a+") as held:
        if not _try_lock(held.fileno(), lock):
            hint = "wait for it to end"
            raise OutputError(f"another {kind.writer} is writing '{out}'", where=str(lock), hint=hint)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _try_lock(handle: int, lock: Path) -> bool:
    """Take the lock without waiting, if it still has its name: its last holder may just have removed that."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except (BlockingIOError, FileNotFoundError):
        return False
