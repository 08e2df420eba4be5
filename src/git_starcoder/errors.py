"""Every error a user can cause, each with a place and a hint, and the exit codes.

StarcoderError            one clear line, exit 2
├── UsageError            a flag or argument that cannot be
├── RecipeError           a recipe that is not one
├── RepositoryError       not a repository, nothing to read
│   └── RevisionError     no such revision, or none that can be read
├── DatasetError          a folder that is not a finished dataset
├── OutputError           the output folder cannot be written, or holds something that is not ours
└── MissingExtraError     a heavy library that is not installed
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says when it ends."""

    FINE = 0
    FOUND = 1
    USAGE = 2
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


class MissingExtraError(StarcoderError):
    """A library of an optional extra is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"{library} is not installed; it belongs to the extra '{extra}'",
            hint=f"pip install 'git-starcoder[{extra}]'",
        )
