"""Every error a user can cause, each with a place and a hint, and the exit codes.

StarcoderError            one clear line, exit 2
├── UsageError            a flag or argument that cannot be
├── RecipeError           a recipe that is not one
├── RepositoryError       not a repository, nothing to read
│   └── RevisionError     no such revision, or none that can be read
├── DatasetError          a folder that is not a finished dataset
├── OutputError           the output folder cannot be written, or holds something that is not ours
├── MachineError          memory, processes, open files or a folder that the machine does not give
└── MissingExtraError     a heavy library that is not installed
"""

from __future__ import annotations

import errno
import os
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says when it ends."""

    SUCCESS = 0
    FINDINGS = 1
    USAGE_ERROR = 2
    BUG = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class StarcoderError(Exception):
    """An error that is the user's to mend: what, where, and a hint."""

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint


class UsageError(StarcoderError):
    """A flag or argument that cannot be."""


class RecipeError(StarcoderError):
    """A recipe that does not exist, does not parse, or says something unknown."""


class RepositoryError(StarcoderError):
    """The repository cannot be read: not one, empty, no such revision, or damaged beyond use."""


class RevisionError(RepositoryError):
    """The repository does not have the revision that is asked for, or its commit cannot be read."""


class DatasetError(StarcoderError):
    """A folder that is not a finished dataset, or was changed after it was finished."""


class OutputError(StarcoderError):
    """The output cannot be written: no permission, no space, a lock held, or something of the user's in the way."""


class MachineError(StarcoderError):
    """The machine refuses memory, processes, open files or a folder, and the work cannot go on without."""


class MissingExtraError(StarcoderError):
    """A library of an optional extra is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"{library} is not installed; it belongs to the extra '{extra}'",
            hint=f"pip install 'git-starcoder[{extra}]'",
        )

    @staticmethod
    def from_import_error(error: ImportError, library: str, extra: str) -> StarcoderError:
        """The error for an import that failed: the library is missing, or it is there and cannot be loaded."""
        if error.path is None:  # nothing was found
            return MissingExtraError(library, extra)
        return library_load_error(error, library)


def library_load_error(error: ImportError, library: str) -> MachineError:
    """The error for a library that is installed and does not load: memory is short, or its files are not whole."""
    hint = "is there enough memory? If so, install the library again"
    return MachineError(
        f"{library} is installed and cannot be loaded", where=" ".join(str(error).split())[:200], hint=hint
    )


FEWER_WORKERS_HINT = "fewer workers need less: -j 1"
OUT_OF_MEMORY = "memory does not suffice"
LIMIT_MESSAGES = {
    errno.EMFILE: ("too many files are open", f"raise the limit (ulimit -n); {FEWER_WORKERS_HINT}"),
    errno.ENFILE: ("too many files are open on this machine", FEWER_WORKERS_HINT),
    errno.EAGAIN: ("no more processes or threads can be started", f"raise the limit (ulimit -u); {FEWER_WORKERS_HINT}"),
    errno.ENOMEM: (OUT_OF_MEMORY, f"raise the limit (ulimit -v) or free some; {FEWER_WORKERS_HINT}"),
}
"""What the operating system has no more of, and what helps."""
THREAD_REFUSED_PHRASES = ("can't start new thread", "threadpoolbuilderror", "resource temporarily unavailable")
"""How libraries say that a thread was refused."""
ALLOCATION_FAILED_PHRASES = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad allocation",
)
"""How libraries that raise something general say that memory was refused."""


def as_machine_error(error: BaseException) -> MachineError | None:
    """The error as one of the machine's limits; None if it is none.

    Code that catches whatever a library raises asks this first: a file is not damaged because memory ran out.
    """
    if isinstance(error, MachineError):
        return error
    if isinstance(error, OSError) and error.errno in LIMIT_MESSAGES:
        what, hint = LIMIT_MESSAGES[error.errno]
        return MachineError(what, where=os.fsdecode(error.filename) if error.filename else "", hint=hint)
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return library_load_error(error, error.name or "a library")
    said = " ".join(str(error).split())
    lowered = said.lower()
    if any(words in lowered for words in THREAD_REFUSED_PHRASES):
        what, hint = LIMIT_MESSAGES[errno.EAGAIN]
        return MachineError(what, where=said[:200], hint=hint)
    if isinstance(error, MemoryError) or any(words in lowered for words in ALLOCATION_FAILED_PHRASES):
        return MachineError(OUT_OF_MEMORY, where=said[:200], hint=LIMIT_MESSAGES[errno.ENOMEM][1])
    return None
