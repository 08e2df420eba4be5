"""A folder of ours appears whole or not at all, one writer at a time, and never over something that is not ours."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from git_starcoder.errors import OutputError, limit_reached

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind:
    """What is published."""

    name: str
    """As a user calls it."""
    writer: str
    """What makes it, as a user calls it."""
    sign: str
    """The file by which a folder is known as ours."""


@contextmanager
def whole(out: Path, kind: Kind, finished: Callable[[Path], T | None]) -> Generator[tuple[Path, T | None]]:
    """Give a hidden folder beside `out` to fill; it is made durable and renamed to `out` at the end.

    A lock (`flock`, freed by the kernel when its holder dies) keeps two writers of one folder apart; what a killed
    writer left is cleared by the next. A folder that is not of this kind is never touched. Under the lock, and only
    if a folder of this kind stands at `out`, `finished` is asked what to keep: if it gives something, that is handed
    on, there is no folder to fill, and nothing changes.

    Raises:
        OutputError: locked, not writable, out of space, or something else is in the way.

    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link that the user put there on purpose
    partial, aside, lock = (out.parent / f".{out.name}.{end}" for end in ("partial", "old", "lock"))
    with reported(out), locked(out, kind, lock):
        if os.path.lexists(aside):  # killed between the renames below
            _ours(aside, kind)
            _clear(partial)
            aside.rename(partial if out.exists() else out)
        _clear(partial)
        found = finished(out) if _ours(out, kind) else None
        if found is not None:
            yield partial, found
            return
        partial.mkdir()
        try:
            yield partial, None
            _readable(partial)
            make_durable(partial)
            if out.exists():
                out.rename(aside)
            partial.rename(out)
            sync(out.parent)
            if os.path.lexists(aside):
                aside.rename(partial)  # so that what is aside is always whole
        finally:
            _clear(partial)


def _ours(place: Path, kind: Kind) -> bool:
    """Whether a folder of this kind is there, and not nothing or an empty folder. Anything else is an error."""
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return False
    if not (place / kind.sign).is_file():
        hint = "choose another folder with --out, or remove it yourself"
        raise OutputError(f"'{place}' exists and is not a {kind.name} of ours", where="--out", hint=hint)
    return True


def _clear(place: Path) -> None:
    if place.is_symlink():  # the user's link to a folder, renamed aside
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)


def _readable(folder: Path) -> None:
    """Give every file the rights that the folder has: some libraries write what only its owner may read."""
    rights = folder.stat().st_mode & 0o666
    for base, _, names in os.walk(folder):
        for name in names:
            (Path(base) / name).chmod(rights)


def make_durable(folder: Path) -> None:
    """Flush every file and folder below `folder` to the disk."""
    for base, _, names in os.walk(folder):
        for name in names:
            sync(Path(base) / name)
        sync(Path(base))


def sync(path: Path) -> None:
    """Flush one file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def reported(out: Path) -> Generator[None]:
    """An operating system's error about our own files, as one clear line."""
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else str(out)
        raise limit_reached(error) or OutputError(f"cannot write '{out}': {error.strerror}", where=name) from error


@contextmanager
def locked(out: Path, kind: Kind, lock: Path) -> Generator[None]:
    """Keep other writers of `out` away by the file `lock`, whose folder is there; the kernel frees it at death.

    Raises:
        OutputError: another process has it.

    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as held:
        if not _hold(held.fileno(), lock):
            hint = "wait for it to end"
            raise OutputError(f"another {kind.writer} is writing '{out}'", where=str(lock), hint=hint)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _hold(handle: int, lock: Path) -> bool:
    """Take the lock without waiting, if it still has its name: its last holder may just have removed that."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except (BlockingIOError, FileNotFoundError):
        return False
