"""Shingles: documents as hashes of each five tokens that follow one another.

Two kinds of documents: texts before there is a tokenizer, and windows of an array of token ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

SHINGLE = 5
"""Tokens per shingle."""
BATCH = 1 << 18
"""Bytes of text hashed at a time."""

_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64
_FACTOR = np.uint64(0xD1342543DE82EF95)
_SPACE, WORD, _SIGN = 0, 1, 2


def _kind(byte: int) -> int:
    if byte <= 0x20:
        return _SPACE
    return WORD if byte >= 0x80 or chr(byte).isalnum() or byte == 0x5F else _SIGN


_KINDS = np.array([_kind(byte) for byte in range(256)], dtype=np.uint8)


def kinds_of(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What each byte is part of: white space, a word (`WORD`) or signs."""
    return _KINDS[data]


class Shingles(Protocol):
    """Documents as shingle hashes."""

    def sizes(self) -> NDArray[np.int64]:
        """Shingles of each document, repetitions counted, shape (documents,)."""
        ...

    def places(self) -> NDArray[np.int64]:
        """Where each document lies: those of like place are cheaply taken together, shape (documents,)."""
        ...

    def take(self, documents: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of some documents behind one another, and where each begins, shape (documents + 1,)."""
        ...


@dataclass(frozen=True, slots=True)
class TextShingles:
    """Shingles of texts. A token is a run of letters, digits, `_` and non-ASCII bytes, or a run of other signs.

    White space parts tokens and is nothing else. A text of fewer than five tokens has no shingle.
    """

    flat: NDArray[np.uint64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> TextShingles:
        """Hash the shingles of each text."""
        return cls(*hashed(texts, _hash_texts))

    def sizes(self) -> NDArray[np.int64]:
        """Shingles of each text."""
        return np.diff(self.offsets)

    def places(self) -> NDArray[np.int64]:
        """Where the shingles of each text begin."""
        return self.offsets[:-1]

    def take(self, documents: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of some texts."""
        offsets = offsets_of(self.sizes()[documents])
        return self.flat[positions(self.offsets[:-1][documents], offsets)], offsets

    def some(self, documents: Sequence[int]) -> TextShingles:
        """Those of some texts, in that order."""
        return TextShingles(*self.take(np.array(documents, dtype=np.int64)))


@dataclass(frozen=True, slots=True)
class WindowShingles:
    """Shingles of windows of one array of token ids, hashed when asked for: windows overlap and texts are long."""

    tokens: NDArray[Any]
    first: NDArray[np.int64]
    """Where each window begins in `tokens`."""
    length: NDArray[np.int64]
    """Its tokens."""
    salt: NDArray[np.uint64]
    """Windows of different salt have no shingle in common."""

    def sizes(self) -> NDArray[np.int64]:
        """Shingles of each window."""
        return np.maximum(self.length - (SHINGLE - 1), 0)

    def places(self) -> NDArray[np.int64]:
        """Where each window begins."""
        return self.first

    def take(self, documents: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of some windows."""
        sizes = np.maximum(self.length[documents] - (SHINGLE - 1), 0)
        offsets = offsets_of(sizes)
        first, length = self.first[documents], self.length[documents]
        low, high = int(first.min(initial=len(self.tokens))), int((first + length).max(initial=0))
        if high - low < length.sum():  # neighbours: a shingle that several share is hashed once
            run = self.tokens[low:high]
            first = first - low
        else:
            bounds = offsets_of(length)
            run = self.tokens[positions(first, bounds)]
            first = bounds[:-1]
        hashed = shingles_of(np.asarray(run).astype(np.uint64))
        begins: list[int] = first.tolist()
        ends: list[int] = (first + sizes).tolist()
        flat = np.concatenate([*(hashed[begin:end] for begin, end in zip(begins, ends, strict=True)), hashed[:0]])
        for place in np.flatnonzero(self.salt[documents]).tolist():
            flat[offsets[place] : offsets[place + 1]] ^= self.salt[documents[place]]
        return flat, offsets


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of some runs begins when they lie behind one another, and where the last ends."""
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))


def positions(first: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index of each element of runs that begin at `first`, with lengths as in `offsets`."""
    return np.repeat(first - offsets[:-1], np.diff(offsets)) + np.arange(int(offsets[-1]))


def hashed(
    texts: Iterable[bytes], hashes: Callable[[list[bytes], Powers], tuple[NDArray[np.uint64], NDArray[np.int64]]]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """What `hashes` gives for each text behind one another, and where that of each begins, shape (texts + 1,).

    It is given some texts at a time, and answers with their hashes and with how many each has.
    """
    flats = [np.empty(0, dtype=np.uint64)]
    counts = [np.empty(0, dtype=np.int64)]
    powers = Powers()
    for batch in batches(texts):
        flat, count = hashes(batch, powers)
        flats.append(flat)
        counts.append(count)
    return np.concatenate(flats), offsets_of(np.concatenate(counts))


def polynomials(
    data: NDArray[np.uint8], start: NDArray[np.int64], stop: NDArray[np.int64], powers: Powers
) -> NDArray[np.uint64]:
    """For each run of bytes a polynomial of them modulo 2^64, found by prefix sums. `powers` reach all of `data`."""
    prefix = np.zeros(len(data) + 1, dtype=np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * powers.up[: len(data)], out=prefix[1:])
    return (prefix[stop] - prefix[start]) * powers.down[start]


def batches(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Texts in lists of about `BATCH` bytes; the last list may be empty."""
    batch: list[bytes] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    yield batch


class Powers:
    """Powers of the base of the polynomial and of its inverse, modulo 2^64, as many as were needed so far."""

    def __init__(self) -> None:
        self.up = self.down = np.empty(0, dtype=np.uint64)

    def reach(self, count: int) -> None:
        """Have at least so many."""
        if count > len(self.up):
            least = 1 << (count - 1).bit_length()
            self.up, self.down = (_powers(base, least) for base in (_BASE, pow(_BASE, -1, 1 << 64)))


@lru_cache(2)
def _powers(base: int, count: int) -> NDArray[np.uint64]:
    powers = np.full(count, base, dtype=np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _hash_texts(texts: list[bytes], powers: Powers) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The shingles of some texts, and how many each has.

    The hash of a token is a polynomial of its bytes modulo 2^64, found by prefix sums.
    """
    data = np.frombuffer(b"\n".join((*texts, b"\n")), dtype=np.uint8)
    powers.reach(len(data))
    kinds = kinds_of(data)
    edges = np.concatenate(([0], np.flatnonzero(kinds[1:] != kinds[:-1]) + 1, [len(data)]))
    solid = kinds[edges[:-1]] != _SPACE
    start, stop = edges[:-1][solid], edges[1:][solid]
    token = polynomials(data, start, stop, powers)
    ends = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64)
    text = np.searchsorted(ends, start, side="right")
    last = len(token) - SHINGLE + 1
    inside = text[: max(0, last)] == text[SHINGLE - 1 :]
    flat = shingles_of(token)[inside]
    return flat, np.bincount(text[: max(0, last)][inside], minlength=len(texts)).astype(np.int64)


def shingles_of(tokens: NDArray[np.uint64], size: int = SHINGLE) -> NDArray[np.uint64]:
    """One hash for each `size` tokens that follow one another, in their order; fewer tokens have none."""
    mixed = (tokens + np.uint64(1)) * _FACTOR  # small numbers become large ones, so that sums say which they are
    mixed ^= mixed >> np.uint64(32)
    last = max(0, len(mixed) - size + 1)
    result = mixed[:last] * _FACTOR
    for after in range(1, size):
        result += mixed[after : last + after]
        result *= _FACTOR
    result ^= result >> np.uint64(32)
    return result
