"""Documents as sets of shingles, that is, hashes of five consecutive tokens.

There are two kinds of documents: texts, before there is a tokenizer, and windows of an array of token ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from git_starcoder.hashing.arrays import run_offsets, run_positions
from git_starcoder.hashing.rolling import SHINGLE_TOKENS, polynomial_hashes, shingle_hashes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

TEXT_BATCH_BYTES = 1 << 18
"""Bytes of text that are hashed at a time."""

_SPACE_CLASS, WORD_CLASS, _SYMBOL_CLASS = 0, 1, 2


def _byte_class(byte: int) -> int:
    if byte <= 0x20:
        return _SPACE_CLASS
    return WORD_CLASS if byte >= 0x80 or chr(byte).isalnum() or byte == 0x5F else _SYMBOL_CLASS


_BYTE_CLASSES = np.array([_byte_class(byte) for byte in range(256)], dtype=np.uint8)


def classify_bytes(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The class of each byte: white space, part of a word (`WORD_CLASS`), or another symbol."""
    return _BYTE_CLASSES[data]


class Shingles(Protocol):
    """Documents as shingle hashes."""

    def shingle_counts(self) -> NDArray[np.int64]:
        """The number of shingles of each document, repetitions included, shape (documents,)."""
        ...

    def positions(self) -> NDArray[np.int64]:
        """Where each document is stored, shape (documents,). To gather documents that are close together is cheap."""
        ...

    def gather(self, documents: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The hashes of some documents one after another, and their offsets, shape (documents + 1,)."""
        ...


@dataclass(frozen=True, slots=True)
class TextShingles:
    """Shingles of texts.

    A token is a run of letters, digits, `_` and non-ASCII bytes, or a run of other symbols. White space separates
    tokens and does not count otherwise. A text of fewer than five tokens has no shingle.
    """

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]

    @classmethod
    def from_texts(cls, texts: Iterable[bytes]) -> TextShingles:
        """Hash the shingles of each text."""
        hashes = [np.empty(0, dtype=np.uint64)]
        counts = [np.empty(0, dtype=np.int64)]
        for batch in text_batches(texts):
            batch_hashes, batch_counts = _hash_texts(batch)
            hashes.append(batch_hashes)
            counts.append(batch_counts)
        return cls(np.concatenate(hashes), run_offsets(np.concatenate(counts)))

    def shingle_counts(self) -> NDArray[np.int64]:
        """The number of shingles of each text."""
        return np.diff(self.offsets)

    def positions(self) -> NDArray[np.int64]:
        """Where the shingles of each text begin."""
        return self.offsets[:-1]

    def gather(self, documents: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The hashes of some texts, and their offsets."""
        offsets = run_offsets(self.shingle_counts()[documents])
        return self.hashes[run_positions(self.offsets[:-1][documents], offsets)], offsets

    def select(self, documents: Sequence[int]) -> TextShingles:
        """The shingles of some texts, in the order given."""
        return TextShingles(*self.gather(np.array(documents, dtype=np.int64)))


@dataclass(frozen=True, slots=True)
class WindowShingles:
    """Shingles of windows of one token array. They are hashed on demand, because windows overlap and texts are long."""

    tokens: NDArray[Any]
    first: NDArray[np.int64]
    """Where each window begins in `tokens`."""
    length: NDArray[np.int64]
    """Tokens of each window."""
    salt: NDArray[np.uint64]
    """A number for each window. Windows with different salts have no shingle in common."""

    def shingle_counts(self) -> NDArray[np.int64]:
        """The number of shingles of each window."""
        return np.maximum(self.length - (SHINGLE_TOKENS - 1), 0)

    def positions(self) -> NDArray[np.int64]:
        """Where each window begins."""
        return self.first

    def gather(self, documents: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The hashes of some windows, and their offsets."""
        first, length = self.first[documents], self.length[documents]
        counts = np.maximum(length - (SHINGLE_TOKENS - 1), 0)
        offsets = run_offsets(counts)
        low, high = int(first.min(initial=len(self.tokens))), int((first + length).max(initial=0))
        if high - low < length.sum():  # the windows overlap, so hash their union once
            tokens = self.tokens[low:high]
            first = first - low
        else:
            bounds = run_offsets(length)
            tokens = self.tokens[run_positions(first, bounds)]
            first = bounds[:-1]
        hashed = shingle_hashes(np.asarray(tokens).astype(np.uint64))
        begins: list[int] = first.tolist()
        ends: list[int] = (first + counts).tolist()
        hashes = np.concatenate([*(hashed[begin:end] for begin, end in zip(begins, ends, strict=True)), hashed[:0]])
        for index in np.flatnonzero(self.salt[documents]).tolist():
            hashes[offsets[index] : offsets[index + 1]] ^= self.salt[documents[index]]
        return hashes, offsets


def text_batches(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Texts in lists of about `TEXT_BATCH_BYTES`; the last list may be empty."""
    batch: list[bytes] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= TEXT_BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def join_texts(texts: list[bytes]) -> tuple[bytes, NDArray[np.int64]]:
    """Texts joined by newlines, and where each ends in the result, newline included."""
    return b"\n".join((*texts, b"\n")), np.cumsum([len(text) + 1 for text in texts], dtype=np.int64)


def _hash_texts(texts: list[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The shingles of some texts, and the number of shingles of each."""
    joined, text_ends = join_texts(texts)
    data = np.frombuffer(joined, dtype=np.uint8)
    classes = classify_bytes(data)
    # A token is a run of bytes of one class: b"if (a)\n" -> edges [0, 2, 3, 4, 5, 6, 7]; the runs that are not white
    # space are the tokens if, (, a and ).
    edges = np.concatenate(([0], np.flatnonzero(classes[1:] != classes[:-1]) + 1, [len(data)]))
    is_token = classes[edges[:-1]] != _SPACE_CLASS
    starts, stops = edges[:-1][is_token], edges[1:][is_token]
    tokens = polynomial_hashes(data.astype(np.uint64) + np.uint64(1), starts, stops)
    text = np.searchsorted(text_ends, starts, side="right")  # the text that each token belongs to
    count = max(0, len(tokens) - SHINGLE_TOKENS + 1)
    is_inside = text[:count] == text[SHINGLE_TOKENS - 1 :]  # a shingle across two texts does not count
    hashes = shingle_hashes(tokens)[is_inside]
    return hashes, np.bincount(text[:count][is_inside], minlength=len(texts)).astype(np.int64)
