"""A filter that says which files a base has read, by the ids that git gives to their contents.

The id of a file's content is what `git hash-object FILE` prints, so anyone can look a file up. The filter holds the
first 32 bits of each id, sorted: four bytes for each file. It finds every file that was read. A file that was not read
is found by mistake with a probability of about n / 2^32, for a filter of n files: 0.005 % for 200,000. Of a bloom
filter of this size the probability would be smaller, but it could not be looked up by hand.

A file that was changed by one character has another id, so it is not found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

KEY_DIGITS = 8
"""Hexadecimal digits of an id that are kept: 32 bits."""
BLOB_ID = re.compile(r"[0-9a-f]{40}")
"""An id in a repository with SHA-1 ids. The ids of a repository with SHA-256 cannot be compared with these."""


@dataclass(frozen=True, slots=True, eq=False)
class BlobFilter:
    """The contents that a base has read."""

    keys: NDArray[np.uint32]
    """The first 32 bits of each id, ascending and distinct, shape (files,)."""

    @classmethod
    def build(cls, blobs: Iterable[str]) -> BlobFilter:
        """The filter of contents with these ids.

        Raises:
            DatasetError: An id is not a SHA-1.
        """
        ids = sorted(set(blobs))
        if others := [blob for blob in ids if not BLOB_ID.fullmatch(blob)]:
            hint = "a base needs repositories with SHA-1 ids"
            raise DatasetError(f"{len(others):,} files have no SHA-1 id, such as '{others[0]}'", hint=hint)
        return cls(np.unique(np.array([int(blob[:KEY_DIGITS], 16) for blob in ids], dtype=np.uint32)))

    @classmethod
    def load(cls, path: Path) -> BlobFilter:
        """Read a filter from a file.

        Raises:
            DatasetError: The file cannot be read, or holds something else.
        """
        try:
            with path.open("rb") as file:
                keys = np.lib.format.read_array(file, allow_pickle=False)  # `load` reads other formats, too
        except (OSError, EOFError, ValueError) as error:
            raise DatasetError(f"'{path.name}' cannot be read: {error}", where=str(path.parent)) from error
        if keys.dtype != np.uint32 or keys.ndim != 1 or (keys[1:] <= keys[:-1]).any():
            raise DatasetError(f"'{path.name}' holds no filter", where=str(path.parent))
        return cls(keys)

    def save(self, path: Path) -> None:
        """Write the filter into a file."""
        np.save(path, self.keys.astype("<u4"), allow_pickle=False)

    def contains(self, blobs: Iterable[str]) -> NDArray[np.bool_]:
        """For each id whether the base has read this content, shape (ids,). Ids other than SHA-1 are never found."""
        wanted = [int(blob[:KEY_DIGITS], 16) if BLOB_ID.fullmatch(blob) else -1 for blob in blobs]
        return np.isin(np.array(wanted, dtype=np.int64), self.keys)

    @property
    def false_positive_rate(self) -> float:
        """The probability that the filter contains an id that is not in it."""
        return len(self.keys) / 2 ** (4 * KEY_DIGITS)
