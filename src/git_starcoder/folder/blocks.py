"""Rows of a dataset some at a time, their tokens behind one another: what is asked of each token is asked of many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from git_starcoder.folder.packed import CONTENT, NO_IDS, packs
from git_starcoder.folder.samples import NOT_TAKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.folder.packed import Packed
    from git_starcoder.protocols import Engine
    from git_starcoder.records import Split


class Checked:
    """A row on its way past the checks, with what several of them ask of it worked out once."""

    __slots__ = ("content", "ids", "labels", "metadata", "number", "taken", "top")

    def __init__(self, number: int, metadata: dict[str, Any], ids: NDArray[np.uint32], content: bytes) -> None:
        self.number = number
        """In its split, from 0."""
        self.metadata = metadata
        self.ids = ids
        """The tokens, padding included, shape (window_size,); `NO_IDS` itself if they are no token ids."""
        self.content = content
        """A hash of them: equal rows have equal hashes."""
        self.top = 0
        """The largest of them."""
        self.labels: dict[str, Any] = {}
        """Its `input_ids`, `attention_mask` and `labels`, if it has them."""
        self.taken = NOT_TAKEN
        """What came of taking the row to its sample."""

    @property
    def uncounted(self) -> int:
        """See `dataset.Row`."""
        return self.metadata.get("context", 0)


class Block(NamedTuple):
    """Rows of a split that follow one another."""

    rows: list[Checked]
    said: list[dict[str, Any]]
    """The metadata of each."""
    flat: NDArray[np.uint32]
    """The tokens of all, shape (tokens,): `ids` of each row are a part of it."""
    bounds: NDArray[np.int64]
    """Where those of each row begin, and where the last end, shape (rows + 1,)."""
    spelled: int
    """Bytes of their metadata as compact JSON."""


def blocks(dataset: Dataset, split: Split, engine: Engine | None = None) -> Iterator[Block]:
    """The rows of a split in file order; an engine reads ahead.

    Raises:
        DatasetError: something is not a row; what stands before it has come.
    """
    number = 0
    for pack in packs(dataset, split, engine):
        if pack.sizes:
            yield _block(number, pack)
            number += len(pack.sizes)


def _block(first: int, pack: Packed) -> Block:
    flat = np.frombuffer(pack.tokens, dtype=np.uint32)
    sizes = np.array(pack.sizes, dtype=np.int64)
    bounds = np.concatenate(([0], np.cumsum(np.maximum(sizes, 0))))
    said: list[dict[str, Any]] = orjson.loads(pack.metadata)
    edges: list[int] = bounds.tolist()
    rows = [
        Checked(
            first + at,
            metadata,
            NO_IDS if size < 0 else flat[edges[at] : edges[at + 1]],
            pack.contents[CONTENT * at : CONTENT * (at + 1)],
        )
        for at, (metadata, size) in enumerate(zip(said, pack.sizes, strict=True))
    ]
    for row, top in zip(rows, pack.tops, strict=True):
        row.top = top
    for row, labels in zip(rows, pack.labels, strict=False):
        row.labels = labels
    # An array of them has a comma between each two, and brackets around.
    return Block(rows, said, flat, bounds, len(pack.metadata) - len(rows) - 1)
