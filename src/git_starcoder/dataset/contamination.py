"""Finds the held-out files that a base has read. Their scores would say what it remembers, so they are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.bases.blobs import BLOB_ID
from git_starcoder.row_layout import BASE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from git_starcoder.bases.blobs import BlobFilter
    from git_starcoder.dataset.folder import Dataset
    from git_starcoder.dataset.held_out import Document
    from git_starcoder.records import Split
    from git_starcoder.text.tokenizer import Tokenizer


class Contamination(NamedTuple):
    """How much of the held-out text of a split a base has read. The fields are JSON keys."""

    files: int
    """Files of the split."""
    kept: int
    """Files that the base has not read."""
    read: int
    """Files that it has read, and that are left out of all scores."""
    bytes: int
    """Bytes of text of all files; control tokens count as none."""
    read_bytes: int

    @property
    def share(self) -> float:
        """The share of the bytes that the base has read."""
        return self.read_bytes / max(1, self.bytes)


@dataclass(frozen=True, slots=True)
class BaseReading:
    """What the base of a model has read of the held-out text."""

    name: str
    """The base, as in the training config."""
    splits: Mapping[str, Contamination] | None
    """What it has read of each split; None if that is not known."""

    @classmethod
    def measure(
        cls, name: str, splits: Mapping[Split, Sequence[Document]], blobs: BlobFilter | None, tokenizer: Tokenizer
    ) -> BaseReading:
        """Count what a base has read of each split. Nothing is known without a filter, or if ids cannot be compared."""
        if blobs is None or not all(map(have_comparable_ids, splits.values())):
            return cls(name, None)
        return cls(name, {split: measure_contamination(texts, blobs, tokenizer) for split, texts in splits.items()})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> BaseReading:
        """What `as_values` returned."""
        splits: Mapping[str, Mapping[str, int]] | None = values["splits"]
        if splits is None:
            return cls(values["name"], None)
        fields = Contamination._fields
        found = {split: Contamination(**{key: counts[key] for key in fields}) for split, counts in splits.items()}
        return cls(values["name"], found)

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        if self.splits is None:
            return {"name": self.name, "splits": None}
        splits = {split: {**found._asdict(), "share": round(found.share, 6)} for split, found in self.splits.items()}
        return {"name": self.name, "splits": splits}

    def __str__(self) -> str:
        if self.splits is None:
            return f"what the base '{self.name}' has read is not known, so it may have seen these files"
        if not any(found.read for found in self.splits.values()):
            counts = " and ".join(f"{found.files:,} {split}" for split, found in self.splits.items())
            return f"the base '{self.name}' has read none of the {counts} files as they are"
        parts = [
            f"{found.read:,} of {found.files:,} {split} files ({100 * found.share:.1f} % of the bytes)"
            for split, found in self.splits.items()
        ]
        return f"the base '{self.name}' has read {' and '.join(parts)}, which are left out of all scores"


def drop_read(documents: Sequence[Document], blobs: BlobFilter | None) -> list[Document]:
    """The documents of files that a base has not read; all of them without a filter."""
    if blobs is None:
        return list(documents)
    is_read = blobs.contains(document.blob for document in documents)
    return [document for document, read in zip(documents, is_read, strict=True) if not read]


def measure_contamination(documents: Sequence[Document], blobs: BlobFilter, tokenizer: Tokenizer) -> Contamination:
    """Count what a base has read of the documents of a split."""
    is_read = blobs.contains(document.blob for document in documents)
    sizes = [text_bytes(document.scored, tokenizer) for document in documents]
    pairs = list(zip(documents, is_read.tolist(), strict=True))
    files = {document.path for document in documents}
    read_files = {document.path for document, read in pairs if read}
    read_bytes = sum(size for size, (_, read) in zip(sizes, pairs, strict=True) if read)
    return Contamination(len(files), len(files - read_files), len(read_files), sum(sizes), read_bytes)


def find_read_rows(dataset: Dataset, split: Split, blobs: BlobFilter | None) -> set[int]:
    """The indexes of rows whose text, or whose file as it is now, a base has read; none without a filter.

    A row of an older version of such a file is left out with it, because it shows much of the same text.
    """
    if blobs is None:
        return set()
    rows = [
        (str(values["source_file"]), str(values.get("blob", "")), values["augmentation_type"] == BASE)
        for values in dataset.row_metadata(split)
    ]
    is_read = blobs.contains(blob for _, blob, _ in rows).tolist()
    files = {path for (path, _, is_whole), read in zip(rows, is_read, strict=True) if is_whole and read}
    return {
        index for index, ((path, _, _), read) in enumerate(zip(rows, is_read, strict=True)) if read or path in files
    }


def have_comparable_ids(documents: Sequence[Document]) -> bool:
    """Whether all documents have an id that a filter can look up: a repository with SHA-256 ids has none."""
    return all(BLOB_ID.fullmatch(document.blob) for document in documents)


def text_bytes(tokens: NDArray[np.int32], tokenizer: Tokenizer) -> int:
    """The bytes of text of tokens; control tokens count as none."""
    is_control = np.isin(tokens, [*tokenizer.control_tokens, tokenizer.end_id])
    return len(tokenizer.decode(tokens[~is_control]))
