"""Rows of a dataset some at a time, their tokens behind one another: what is asked of each token is asked of many."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from git_starcoder.errors import DatasetError
from git_starcoder.folder.samples import NOT_TAKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset, Row
    from git_starcoder.rows import Split

TOKENS = 1 << 16
"""Of a block, about."""
NO_IDS = np.empty(0, dtype=np.uint32)


class Checked:
    """A row on its way past the checks, with what several of them ask of it worked out once."""

    __slots__ = ("content", "ids", "labels", "metadata", "number", "taken", "tokens", "top")

    def __init__(self, number: int, row: Row, labels: dict[str, Any]) -> None:
        self.number = number
        """In its split, from 0."""
        self.tokens, self.metadata = row
        self.labels = labels
        """Its `input_ids`, `attention_mask` and `labels`, if it has them."""
        self.ids: NDArray[np.uint32] = NO_IDS
        """The tokens, padding included, shape (window_size,); `NO_IDS` itself if they are no token ids."""
        self.top = 0
        """The largest of them."""
        self.content = b""
        """A hash of them: equal rows have equal hashes."""
        self.taken = NOT_TAKEN
        """What came of taking the row to its sample."""

    @property
    def uncounted(self) -> int:
        """See `dataset.Row`."""
        return self.metadata.get("context", 0)


class Block(NamedTuple):
    """Rows of a split that follow one another."""

    rows: list[Checked]
    flat: NDArray[np.uint32]
    """The tokens of all, shape (tokens,): `ids` of each row are a part of it."""
    bounds: NDArray[np.int64]
    """Where those of each row begin, and where the last end, shape (rows + 1,)."""


def blocks(dataset: Dataset, split: Split) -> Iterator[Block]:
    """The rows of a split in file order.

    Raises:
        DatasetError: something is not a row; what stands before it has come.
    """
    rows: list[Checked] = []
    size = 0
    try:
        for number, (row, labels) in enumerate(dataset.labelled(split)):
            rows.append(Checked(number, row, labels))
            size += len(row.tokens) if isinstance(cast("Any", row.tokens), list) else 0
            if size >= TOKENS:
                yield _block(rows)
                rows, size = [], 0
    except DatasetError:
        if rows:
            yield _block(rows)
        raise
    if rows:
        yield _block(rows)


def _block(rows: list[Checked]) -> Block:
    arrays = [_ids(row.tokens) for row in rows]
    data = memoryview(b"".join(array or b"" for array in arrays))
    flat = np.frombuffer(data, dtype=np.uint32)
    bounds = [0]
    for row, ids in zip(rows, arrays, strict=True):
        start, stop = bounds[-1], bounds[-1] + len(ids or ())
        bounds.append(stop)
        if ids is not None:
            row.ids = flat[start:stop]
            row.content = blake2b(data[4 * start : 4 * stop], digest_size=16).digest()
    if some := [row for row in rows if len(row.ids)]:
        begins = [start for start, row in zip(bounds, rows, strict=False) if len(row.ids)]
        for row, top in zip(some, np.maximum.reduceat(flat, begins).tolist(), strict=True):
            row.top = top
    return Block(rows, flat, np.array(bounds, dtype=np.int64))


def _ids(tokens: list[int]) -> array[int] | None:
    try:
        return array("I", tokens)
    except (TypeError, OverflowError):
        return None
