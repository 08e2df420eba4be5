"""Defines the errors that a user can fix, each with a place and a hint, and the exit codes.

StarcoderError            one clear line, exit 2
├── UsageError            a flag, an argument or a config key is invalid
├── RecipeError           a recipe does not exist or is invalid
├── RepositoryError       a folder is not a repository, or nothing in it can be read
│   └── RevisionError     a revision does not exist or cannot be read
├── DatasetError          a folder is not a finished dataset or model, or it is damaged
├── OutputError           an output cannot be written, or files of the user are in the way
├── MachineError          the machine refuses memory, processes, open files or a temporary folder
└── MissingExtraError     an optional library is not installed
"""

from __future__ import annotations

import errno
import os
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of all commands."""

    SUCCESS = 0
    FINDINGS = 1
    USAGE_ERROR = 2
    BUG = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


class StarcoderError(Exception):
    """An error that the user can fix: what is wrong, where, and a hint what to do."""

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint


class UsageError(StarcoderError):
    """A flag, an argument or a config key is invalid."""


class RecipeError(StarcoderError):
    """A recipe does not exist, is not YAML, or has an unknown key or an invalid value."""


class RepositoryError(StarcoderError):
    """A folder is not a repository, or the repository is empty or damaged beyond use."""


class RevisionError(RepositoryError):
    """The repository does not have the revision, or the commit cannot be read."""


class DatasetError(StarcoderError):
    """A folder is not a finished dataset or model, or it was changed or damaged later."""


class OutputError(StarcoderError):
    """An output cannot be written: no permission, no space, another writer, or files of the user in the way."""


class MachineError(StarcoderError):
    """The machine refuses memory, processes, open files or a temporary folder that the work needs."""


class MissingExtraError(StarcoderError):
    """An optional library is not installed; the hint names the extra to install."""

    def __init__(self, library: str, extra: str) -> None:
        from git_starcoder.installation import install_command

        what = f"{library} is not installed; it belongs to the extra '{extra}'"
        super().__init__(what, hint=install_command(extra))

    @staticmethod
    def from_import_error(error: ImportError, library: str, extra: str) -> StarcoderError:
        """The error for a failed import: the library is not installed, or it is installed and does not load."""
        return MissingExtraError(library, extra) if error.path is None else library_load_error(error, library)


def library_load_error(error: ImportError, library: str) -> MachineError:
    """The error for a library that is installed and does not load: memory is short, or files of it are damaged."""
    hint = "check that there is enough memory, then install the library again"
    where = " ".join(str(error).split())[:200]
    return MachineError(f"{library} is installed but does not load", where=where, hint=hint)


DAMAGE_ERRORS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What Python raises where a file that was read has other keys, types or values than the code relies on."""
FEWER_WORKERS_HINT = "fewer workers need less: -j 1"
OUT_OF_MEMORY = "memory does not suffice"
LIMIT_MESSAGES = {
    errno.EMFILE: ("too many files are open", f"raise the limit (ulimit -n); {FEWER_WORKERS_HINT}"),
    errno.ENFILE: ("too many files are open on this machine", FEWER_WORKERS_HINT),
    errno.EAGAIN: ("no more processes or threads can be started", f"raise the limit (ulimit -u); {FEWER_WORKERS_HINT}"),
    errno.ENOMEM: (OUT_OF_MEMORY, f"raise the limit (ulimit -v) or free some; {FEWER_WORKERS_HINT}"),
}
"""The message and the hint for each error of the operating system that means that a resource is used up."""
THREAD_REFUSED_PHRASES = ("can't start new thread", "threadpoolbuilderror", "resource temporarily unavailable")
"""Parts of the messages by which libraries report that a thread was refused."""
ALLOCATION_FAILED_PHRASES = (
    "can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "bad allocation",
)  # fmt: skip
"""Parts of the messages by which libraries report that memory was refused."""


def as_machine_error(error: BaseException) -> MachineError | None:
    """The `MachineError` for an error that means that a resource is used up; None for any other error.

    Code that catches every error of a library calls this first: a file is not damaged because memory ran out.
    """
    if isinstance(error, MachineError):
        return error
    if isinstance(error, OSError) and error.errno in LIMIT_MESSAGES:
        what, hint = LIMIT_MESSAGES[error.errno]
        return MachineError(what, where=os.fsdecode(error.filename) if error.filename else "", hint=hint)
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return library_load_error(error, error.name or "a library")
    message = " ".join(str(error).split())
    lowered = message.lower()
    if any(phrase in lowered for phrase in THREAD_REFUSED_PHRASES):
        what, hint = LIMIT_MESSAGES[errno.EAGAIN]
        return MachineError(what, where=message[:200], hint=hint)
    if isinstance(error, MemoryError) or any(phrase in lowered for phrase in ALLOCATION_FAILED_PHRASES):
        return MachineError(OUT_OF_MEMORY, where=message[:200], hint=LIMIT_MESSAGES[errno.ENOMEM][1])
    return None
