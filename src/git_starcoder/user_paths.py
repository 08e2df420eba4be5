"""Finds the folders of this user and process: home, temporary files, current folder; and expands `~` in paths.

Every path that a user gives, on the command line, in the environment or in a file, goes through `expand_user`. The
standard library is not enough: for temporary files it falls back to the current folder, which may be the repository
that is read, and it accepts a relative HOME.
"""

from __future__ import annotations

import atexit
import logging
import os
import pwd
import shutil
import tempfile
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from git_starcoder.errors import MachineError, MissingExtraError, UsageError, as_machine_error

if TYPE_CHECKING:
    from collections.abc import Generator

STANDARD_TEMPORARY_FOLDERS = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108
"""Folders for temporary files, tried in this order, as in Python's `tempfile`."""
MEMORY_FOLDER = "/dev/shm"  # noqa: S108
"""A folder in memory on Linux, the last choice for temporary files."""
CURRENT_FOLDER_GONE = "the current folder is gone"
_offered_folders: list[Path] = []
"""Parent folders of outputs, for temporary files where no standard folder is writable."""


def home_folder() -> Path | None:
    """The user's home folder; None if HOME is relative or empty, or not set and the user is unknown."""
    path = os.environ.get("HOME")
    if path is None:
        try:
            path = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:  # in a container that runs under an arbitrary user id
            return None
    return Path(path) if os.path.isabs(path) else None  # noqa: PTH117 - "" is "."


def expand_user(path: str | Path) -> Path:
    """The path with a leading `~` or `~user` replaced, as a shell does; an unknown user stays as written."""
    name, _, rest = os.fspath(path).partition("/")
    if not name.startswith("~"):
        return Path(path)
    if name == "~":
        if (folder := home_folder()) is None:
            what = f"'{path}' cannot be found: no home folder is known"
            raise UsageError(what, hint="set HOME, or write the path in full")
        return folder / rest
    try:
        return Path(pwd.getpwnam(os.fsencode(name[1:]).decode("ascii")).pw_dir) / rest
    except (KeyError, UnicodeDecodeError):
        return Path(path)


def current_folder() -> Path | None:
    """The current folder; None if it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def require_reachable(path: Path) -> Path:
    """The path itself; a `UsageError` if it is relative and the current folder was deleted."""
    if not path.is_absolute() and current_folder() is None:
        hint = "change to another folder, or give absolute paths"
        raise UsageError(f"{CURRENT_FOLDER_GONE}, so '{path}' cannot be found", hint=hint)
    return path


def offer_temporary_folder(out: Path) -> None:
    """Allow temporary files beside an output, for machines on which no standard folder is writable."""
    path = require_reachable(out).absolute()
    _offered_folders.append(next((folder for folder in path.parents if folder.is_dir()), Path("/")))


def temporary_folder() -> str:
    """The folder for temporary files: TMPDIR or a standard one, else beside the output, else one in memory.

    It is never the current folder, which Python's own search ends with. Where it is not a standard folder, TMPDIR is
    set, so that libraries and child processes use it too.

    Raises:
        MachineError: none of these folders is writable.
    """
    if tempfile.tempdir is None:
        named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
        standard = [folder for folder in (*named, *STANDARD_TEMPORARY_FOLDERS) if os.path.isabs(folder)]  # noqa: PTH117 - a text
        fallbacks = [*map(str, _offered_folders), os.environ.get("XDG_RUNTIME_DIR", ""), MEMORY_FOLDER]
        found = next(filter(_is_writable, (*standard, *fallbacks)), None)
        if found is None:
            what = "there is no folder for temporary files"
            raise MachineError(what, where=", ".join(standard), hint="set TMPDIR to a writable folder")
        if found not in standard:
            os.environ["TMPDIR"] = found
        tempfile.tempdir = found
    return os.fsdecode(tempfile.tempdir)


def is_utf8_path(path: Path) -> bool:
    """Whether a path is UTF-8, which many libraries require."""
    return os.fsencode(path).decode("utf-8", "ignore") == str(path)


@contextmanager
def utf8_path(folder: Path) -> Generator[Path]:
    """A UTF-8 path to the folder, for libraries that require one: the folder itself, or a temporary link to it."""
    if is_utf8_path(folder):
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="git-starcoder-", dir=temporary_folder()) as parent:
            link = Path(parent) / "folder"
            link.symlink_to(folder.absolute())
            yield link


def _is_writable(folder: str) -> bool:
    """Whether a file can be created and filled in a folder: on a full disk only the creation works."""
    if not folder:
        return False
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            return file.write(b"room") > 0
    except OSError as error:
        if limit := as_machine_error(error):  # the folder is not to blame
            raise limit from error
        return False


@contextmanager
def _outside_current_folder() -> Generator[None]:
    """Make the root folder the current one for a moment: the current folder may be a repository."""
    try:
        current = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
    except OSError:  # it was deleted
        yield
        return
    try:
        os.chdir("/")
        try:
            yield
        finally:
            os.fchdir(current)
    finally:
        os.close(current)


def require_matplotlib(extra: str) -> None:
    """Loads matplotlib, which the extra `extra` of this package needs, quietly.

    Its font cache goes to a temporary folder where the user's cache folder cannot be used.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    folder = temporary_folder()  # also makes sure that matplotlib itself finds a temporary folder
    # A relative path leads into the current folder, which may be a repository.
    has_relative_folder = any(
        not Path(os.environ[name]).is_absolute() for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME") if name in os.environ
    )
    if "MPLCONFIGDIR" not in os.environ and (home_folder() is None or has_relative_folder):
        os.environ["MPLCONFIGDIR"] = cache = tempfile.mkdtemp(prefix="git-starcoder-", dir=folder)
        atexit.register(shutil.rmtree, cache, ignore_errors=True)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns at length where it cannot write its cache
    try:
        with _outside_current_folder():  # matplotlib would read a file `matplotlibrc` there
            import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, error.name or "matplotlib", extra) from error
