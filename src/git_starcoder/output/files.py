"""Writes files so that they are whole or absent, and on the disk."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from git_starcoder.errors import OutputError, as_machine_error

if TYPE_CHECKING:
    from collections.abc import Generator

PARTIAL_FILE = re.compile(r"\..+\.[0-9a-f]{8}\.partial")
"""The name of a file that `write_atomically` has not finished."""


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


def remove(path: Path) -> None:
    """Remove a folder, or the user's link to a folder, if it exists."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


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
