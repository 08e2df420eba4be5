"""MinHash signatures (Broder, 1997) in bands: which documents may be similar, and how similar they are.

Two documents share the bucket of a band if all signature numbers of the band are equal. Only this proposing of pairs is
probabilistic. The similarity of a pair is exact.
"""

from __future__ import annotations

import os
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.hashing.arrays import chunk_slices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from git_starcoder.hashing.texts import Shingles

    Array = NDArray[np.int64]

PERMUTATIONS = 128
"""Numbers per MinHash signature. The standard error of their estimate is at most 0.044."""
MIN_RECALL = 0.99
"""Probability with which a pair at the threshold is proposed, at least."""
CHUNK_SHINGLES = 1 << 18
"""Shingles compared or hashed at a time: 2 MiB, which fit in a cache."""
EXACT_ONLY_THRESHOLD = 0.9
"""From this threshold on, pairs are compared without an estimate first: a shared bucket says so much already that
signatures would cost more than the comparisons they save."""
_NO_SHINGLE = np.uint64(0xFFFFFFFFFFFFFFFF)


def band_shape(threshold: float) -> tuple[int, int]:
    """The number of bands and the rows per band: the most rows that give `MIN_RECALL` at the threshold.

    Below a threshold of 0.04 no bands do, and the recall at the threshold is lower.
    """
    for rows in range(PERMUTATIONS, 1, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= MIN_RECALL:
            return bands, rows
    return PERMUTATIONS, 1


def band_keys(shingles: Shingles, threshold: float) -> NDArray[np.uint64]:
    """The keys of each document's buckets, shape (documents, bands); zeros for a document without shingles."""
    bands, rows = band_shape(threshold)
    counts = shingles.shingle_counts()
    documents = np.flatnonzero(counts > 0)
    keys = np.zeros((len(counts), bands), dtype=np.uint64)
    for chunk, signatures in _signatures(shingles, documents):
        for band in range(bands):
            key = np.zeros(len(chunk), dtype=np.uint64)
            for column in range(band * rows, (band + 1) * rows):
                key = (key ^ (key >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15) + signatures[:, column]
            keys[documents[chunk], band] = key
    return keys


def signatures_of(shingles: Shingles) -> NDArray[np.uint32]:
    """The MinHash signature of each document, shape (documents, PERMUTATIONS); zeros for one without shingles."""
    counts = shingles.shingle_counts()
    documents = np.flatnonzero(counts > 0)
    result = np.zeros((len(counts), PERMUTATIONS), dtype=np.uint32)
    for chunk, signatures in _signatures(shingles, documents):
        result[documents[chunk]] = signatures
    return result


class BandIndex:
    """The documents that share a bucket with another, numbered from 0, and their buckets."""

    def __init__(self, shingles: Shingles, threshold: float, keys: NDArray[np.uint64] | None = None) -> None:
        self.shingles = shingles
        self.threshold = threshold
        self.shingle_counts = shingles.shingle_counts()
        keys = band_keys(shingles, threshold) if keys is None else keys
        documents = np.flatnonzero(self.shingle_counts > 0)
        buckets = np.empty((keys.shape[1], len(documents)), dtype=np.int64)
        is_shared = np.zeros(len(documents), dtype=np.bool_)
        for band in range(len(buckets)):
            _, buckets[band], sizes = np.unique(keys[documents, band], return_inverse=True, return_counts=True)
            is_shared |= sizes[buckets[band]] > 1
        self.documents = documents[is_shared]
        self.buckets = buckets[:, is_shared]
        """The number of each document's bucket in each band, shape (bands, documents)."""

    @cached_property
    def signatures(self) -> NDArray[np.uint32]:
        """MinHash signatures of the documents, shape (documents, PERMUTATIONS)."""
        result = np.empty((len(self.documents), PERMUTATIONS), dtype=np.uint32)
        for chunk, signatures in _signatures(self.shingles, self.documents):
            result[chunk] = signatures
        return result

    def estimate(self, left: Array, right: Array) -> NDArray[np.float64]:
        """The similarity of each pair, estimated from its signatures."""
        result = np.empty(len(left))
        step = CHUNK_SHINGLES // PERMUTATIONS
        for start in range(0, len(left), step):
            chunk = slice(start, start + step)
            result[chunk] = (self.signatures[left[chunk]] == self.signatures[right[chunk]]).mean(axis=1)
        return result

    def promising(self, left: Array, right: Array) -> tuple[Array, Array]:
        """The pairs whose estimate is not four standard errors below the threshold; all of them at high thresholds."""
        if self.threshold >= EXACT_ONLY_THRESHOLD:
            return left, right
        error = (self.threshold * (1 - self.threshold) / PERMUTATIONS) ** 0.5
        keep = self.estimate(left, right) >= self.threshold - 4 * error
        return left[keep], right[keep]

    def similarity(self, left: Array, right: Array) -> NDArray[np.float64]:
        """The exact Jaccard similarity of each pair: |A ∩ B| = |A| + |B| - |A ∪ B|."""
        left, right = self.documents[left], self.documents[right]
        sizes = self.shingle_counts[left] + self.shingle_counts[right]
        order = np.argsort(sizes, kind="stable")  # so that the rows of a matrix are about equally long
        result = np.empty(len(left))
        for chunk in chunk_slices(sizes[order], CHUNK_SHINGLES):
            pairs = order[chunk]
            documents, places = np.unique(np.concatenate((left[pairs], right[pairs])), return_inverse=True)
            rows = np.sort(self._matrix(documents), axis=1)  # a document may be in many pairs, so it is sorted once
            a, b = places[: len(pairs)], places[len(pairs) :]
            distinct = _count_distinct(rows)
            # The stable sort merges the two sorted halves of each row, in linear time.
            union = _count_distinct(np.sort(np.concatenate((rows[a], rows[b]), axis=1), axis=1, kind="stable"))
            result[pairs] = (distinct[a] + distinct[b] - union) / union
        return result

    def _matrix(self, documents: Array) -> NDArray[np.uint64]:
        """Shingles, one document per row, padded at the end with at least one `_NO_SHINGLE`."""
        hashes, offsets = self.shingles.gather(documents)
        sizes = np.diff(offsets)
        matrix = np.full((len(documents), int(sizes.max(initial=0)) + 1), _NO_SHINGLE)
        matrix[np.arange(matrix.shape[1]) < sizes[:, None]] = hashes
        return matrix


def _signatures(shingles: Shingles, documents: Array) -> Iterator[tuple[Array, NDArray[np.uint32]]]:
    """Indices in `documents` and the MinHash signatures of some at a time, shape (some, PERMUTATIONS)."""
    # The allocator of rensa would keep hundreds of megabytes until the process ends; it reads this when it is loaded.
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "0")
    sketch: Any = import_module("rensa").RMinHash
    order = np.argsort(shingles.positions()[documents], kind="stable")
    for chunk in chunk_slices(shingles.shingle_counts()[documents[order]], CHUNK_SHINGLES):
        signatures = shingles.known_signatures(documents[order[chunk]])
        if signatures is None:
            hashes, offsets = shingles.gather(documents[order[chunk]])
            matrix = sketch.digest_matrix_from_flat_token_hashes(hashes, offsets, PERMUTATIONS, 0)
            signatures = np.array(matrix.to_rows(), dtype=np.uint32)
        yield order[chunk], signatures


def _count_distinct(ordered: NDArray[np.uint64]) -> Array:
    """The number of distinct shingles in each row of a padded and sorted matrix: [3, 7, 7, pad] has 2."""
    return (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)
