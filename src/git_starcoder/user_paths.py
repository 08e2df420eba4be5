"""The folders of this user and this process: home, temporary files, the current one; and paths as users write them.

Every path that a user gives, on the command line, in the environment or in a file, goes through `expanded`.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from git_starcoder.errors import MachineError, UsageError, as_machine_error

if TYPE_CHECKING:
    from collections.abc import Generator

STANDARD_TEMPORARY_FOLDERS = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108 - tried in this order, as Python's tempfile does
MEMORY_FOLDER = "/dev/shm"  # noqa: S108
CURRENT_FOLDER_GONE = "the current folder is gone"
_offered_folders: list[Path] = []
"""Folders of outputs, in which temporary files may lie where the usual folders cannot be written."""


def home_folder() -> Path | None:
    """The user's home folder; None where HOME is not an absolute path, or not set and the user is not known."""
    said = os.environ.get("HOME")
    if said is None:
        try:
            said = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:  # as in a container that runs under an arbitrary user id
            return None
    return Path(said) if os.path.isabs(said) else None  # noqa: PTH117 - "" is "."


def expand_user(path: str | Path) -> Path:
    """The path with a leading `~` or `~user` replaced, as a shell does; a user that is not known stays as written.

    Raises:
        UsageError: it begins with `~`, and no home folder is known.
    """
    name, _, rest = os.fspath(path).partition("/")
    if not name.startswith("~"):
        return Path(path)
    if name == "~":
        folder = home_folder()
        if folder is None:
            raise UsageError(f"'{path}' cannot be found: no home folder is known", hint="set HOME, or write it in full")
        return folder / rest
    try:
        return Path(pwd.getpwnam(os.fsencode(name[1:]).decode("ascii")).pw_dir) / rest
    except (KeyError, UnicodeDecodeError):
        return Path(path)


def current_folder() -> Path | None:
    """The current folder; None where it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def require_reachable(path: Path) -> Path:
    """The path, if it is absolute or there is a current folder.

    Raises:
        UsageError: it is relative, and the current folder is gone.
    """
    if not path.is_absolute() and current_folder() is None:
        hint = "go to a folder that is there, or give absolute paths"
        raise UsageError(f"{CURRENT_FOLDER_GONE}, so '{path}' is nowhere", hint=hint)
    return path


def offer_temporary_folder(out: Path) -> None:
    """Let temporary files lie beside an output where none of the usual folders can be written."""
    path = require_reachable(out).absolute()
    _offered_folders.append(next((folder for folder in path.parents if folder.is_dir()), Path("/")))


def temporary_folder() -> str:
    """The folder for temporary files: TMPDIR or a usual one, else beside the output, else one in memory.

    Never the current folder, which Python's own choice ends with: it may be the repository that is read. Libraries and
    child processes are told of any other choice than the usual.

    Raises:
        MachineError: none of them can be written.
    """
    if tempfile.tempdir is None:
        named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
        usual = [folder for folder in (*named, *STANDARD_TEMPORARY_FOLDERS) if os.path.isabs(folder)]  # noqa: PTH117 - a text
        others = [*map(str, _offered_folders), os.environ.get("XDG_RUNTIME_DIR", ""), MEMORY_FOLDER]
        found = next(filter(_is_writable, (*usual, *others)), None)
        if found is None:
            what = "there is no folder for temporary files"
            raise MachineError(what, where=", ".join(usual), hint="set TMPDIR to a folder that can be written")
        if found not in usual:
            os.environ["TMPDIR"] = found
        tempfile.tempdir = found
    return os.fsdecode(tempfile.tempdir)


def is_utf8_path(path: Path) -> bool:
    """Whether a path is UTF-8, as many libraries take it for granted."""
    return os.fsencode(path).decode("utf-8", "ignore") == str(path)


@contextmanager
def utf8_path(folder: Path) -> Generator[Path]:
    """The folder by a path that is UTF-8, for libraries that take no other: itself, or a link while the block runs."""
    if is_utf8_path(folder):
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="git-starcoder-", dir=temporary_folder()) as place:
            link = Path(place) / "folder"
            link.symlink_to(folder.absolute())
            yield link


def _is_writable(folder: str) -> bool:
    """Whether a file can be made and filled there: a full disk takes the first and not the second."""
    if not folder:
        return False
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            return file.write(b"room") > 0
    except OSError as error:
        if limit := as_machine_error(error):  # says nothing about the folder
            raise limit from error
        return False
