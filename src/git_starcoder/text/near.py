"""Near-duplicates: documents whose sets of shingles reach a Jaccard similarity.

MinHash signatures (Broder, 1997) in bands propose pairs, the signatures' own estimate discards the hopeless ones where
a low threshold gives many, and each pair that is left is compared exactly, so a threshold means what it says. Only the
proposing is probabilistic: a pair exactly at the threshold is proposed with a probability of 0.99 at least, a more
similar one more surely.

Two questions are answered: `links` connects all that is alike (which files belong together), `keepers` finds for each
document an earlier one that stays in its place (which rows repeat another).
"""

from __future__ import annotations

import os
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.text.shingles import offsets_of, positions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from git_starcoder.text.shingles import Shingles

    Array = NDArray[np.int64]
    Spared = Callable[[Array, Array], NDArray[np.bool_]]

PERMUTATIONS = 128
"""Numbers per signature. The standard error of their estimate is at most 0.044."""
RECALL = 0.99
"""How surely a pair at the threshold is proposed."""
CELLS = 1 << 18
"""Shingles compared or hashed at a time: 2 MiB, which a cache holds."""
SURE = 0.9
"""From this threshold on, a bucket in common says so much that signatures cost more than the comparisons they save."""
COMPARISONS = 32
"""Exact comparisons of one document in `keepers`; one that is still unlike all of them is kept."""
ROUNDS = 32
"""Rounds of `keepers`; what they leave undecided is walked."""
NEIGHBOURS = 64
"""Documents of each bucket, the last before it, that such a document is compared with."""
PROPOSALS = 10_000_000
"""Pairs that `links` looks at (some seconds); past them a document is compared with the first of its bucket alone."""
WORK = 1 << 29
"""Shingles that `links` compares exactly (some seconds); past them the estimate decides."""

_NOTHING = np.uint64(0xFFFFFFFFFFFFFFFF)


class Links(NamedTuple):
    """Pairs that `links` found, sorted, left < right. All arrays have shape (pairs,)."""

    left: Array
    right: Array
    similarity: NDArray[np.float64]
    exact: bool
    """Whether all proposed pairs were looked at and compared exactly (see `PROPOSALS`, `WORK`)."""


class Keepers(NamedTuple):
    """What `keepers` found. Arrays have shape (documents,)."""

    keeper: Array
    """The kept document that stands for this one, or -1 where it is kept itself."""
    similarity: NDArray[np.float64]
    """To the keeper; 0 where there is none."""
    compared: int
    """Exact comparisons made."""
    limited: int
    """Documents kept although not compared with all that was proposed (see `COMPARISONS`, `NEIGHBOURS`)."""


def links(shingles: Shingles, threshold: float) -> Links:
    """Pairs of similar documents, enough of them to connect all documents that similar pairs connect.

    A pair that others already connect is not compared: a thousand near-copies cost a thousand comparisons, not half a
    million.
    """
    index = _Index(shingles, threshold)
    count = len(index.documents)
    component = np.arange(count)
    unlike = np.empty(0, dtype=np.int64)  # pairs that were compared in vain, as one number each, sorted
    found = [(index.documents[:0], index.documents[:0], np.empty(0))]
    proposals, work = PROPOSALS, WORK

    def connect(left: Array, right: Array) -> None:
        nonlocal component, unlike, work
        open_ = component[left] != component[right]
        left, right = index.promising(left[open_], right[open_])
        code = np.sort(np.minimum(left, right) * count + np.maximum(left, right))
        code = code[np.searchsorted(unlike, code, side="left") == np.searchsorted(unlike, code, side="right")]
        left, right = code // count, code % count
        costs = np.cumsum(index.sizes[index.documents[left]] + index.sizes[index.documents[right]])
        some = int(np.searchsorted(costs, work, side="right"))
        work -= int(costs[-1]) if len(costs) else 0
        similarity = np.concatenate((
            index.similarity(left[:some], right[:some]),
            index.estimate(left[some:], right[some:]),
        ))  # fmt: skip
        same = similarity >= threshold
        unlike = np.sort(np.concatenate((unlike, code[~same])))
        component = join_components(component, left[same], right[same])
        found.append((index.documents[left[same]], index.documents[right[same]], similarity[same]))

    for bucket in index.buckets:
        connect(*_with_first(bucket))
        order, begin, before = _unconnected(bucket, component)
        proposals -= int(before.sum())
        if proposals < 0:
            continue
        for chunk in _chunks(before):
            left = positions(begin[chunk], offsets_of(before[chunk]))
            connect(order[left], np.repeat(order[chunk], before[chunk]))
    left, right, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((right, left))
    return Links(left[order], right[order], similarity[order], min(proposals, work) >= 0)


def keepers(shingles: Shingles, threshold: float, spared: Spared, keys: NDArray[np.uint64] | None = None) -> Keepers:
    """Walk documents in their order; drop each that is similar to one kept before it. `keys` are those of `keys_of`.

    `spared(earlier, later)` says which pairs are not to be compared. Most is decided in rounds: a document that is the
    first undecided one of all its buckets has nothing before it to be compared with, so it is kept, and compared with
    everything in them. A thousand copies of one document cost a thousand comparisons. What the rounds leave are long
    chains, each document in a bucket with the next: for these all pairs are compared, and then walked.
    """
    index = _Index(shingles, threshold, keys)
    count = len(index.documents)
    keeper, likeness = np.full(count, -1, dtype=np.int64), np.zeros(count)
    compared, limited = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_)

    def similar(left: Array, right: Array) -> tuple[Array, Array, NDArray[np.float64]]:
        """The similar ones of some pairs, sorted by the right document and then by the left."""
        wanted = ~spared(index.documents[left], index.documents[right])
        left, right = index.promising(left[wanted], right[wanted])
        order = np.lexsort((left, right))
        left, right = left[order], right[order]
        turn = compared[right] + np.arange(len(right)) - _begins(right)
        allowed = turn < COMPARISONS
        limited[right[~allowed]] = True
        left, right = left[allowed], right[allowed]
        np.add.at(compared, right, 1)
        values = index.similarity(left, right)
        same = values >= threshold
        return left[same], right[same], values[same]

    undecided = np.arange(count)
    for _ in range(ROUNDS):
        if not len(undecided):
            break
        roots, left, right = _roots(index.buckets[:, undecided])
        left, right, values = similar(undecided[left], undecided[right])
        keeper[right[::-1]] = left[::-1]  # the earliest of several is written last, and stays
        likeness[right[::-1]] = values[::-1]
        undecided = np.setdiff1d(undecided, np.concatenate((undecided[roots], right)))
    left, right, crowded = _neighbours(index.buckets[:, undecided])
    limited[undecided[crowded]] = True
    for earlier, later, value in zip(*similar(undecided[left], undecided[right]), strict=True):
        if keeper[earlier] < 0 and keeper[later] < 0:
            keeper[later], likeness[later] = earlier, value
    limited &= keeper < 0
    result = Keepers(np.full(len(index.sizes), -1), np.zeros(len(index.sizes)), int(compared.sum()), int(limited.sum()))
    result.keeper[index.documents] = np.where(keeper < 0, -1, index.documents[keeper])
    result.similarity[index.documents] = likeness
    return result


def bands(threshold: float) -> tuple[int, int]:
    """How many bands of how many rows: the longest rows that give the recall wanted at the threshold.

    Below a threshold of 0.04 no bands do, and the recall at the threshold is lower.
    """
    for rows in range(PERMUTATIONS, 1, -1):
        count = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** count >= RECALL:
            return count, rows
    return PERMUTATIONS, 1


def keys_of(shingles: Shingles, threshold: float) -> NDArray[np.uint64]:
    """For each document the keys of its buckets, shape (documents, bands); zeros where it has no shingle."""
    count, rows = bands(threshold)
    documents = np.flatnonzero(shingles.sizes() > 0)
    keys = np.zeros((len(shingles.sizes()), count), dtype=np.uint64)
    for chunk, signatures in _signatures(shingles, documents):
        for band in range(count):
            key = np.zeros(len(chunk), dtype=np.uint64)
            for column in range(band * rows, (band + 1) * rows):
                key = (key ^ (key >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15) + signatures[:, column]
            keys[documents[chunk], band] = key
    return keys


def _signatures(shingles: Shingles, documents: Array) -> Iterator[tuple[Array, NDArray[np.uint32]]]:
    """MinHash signatures of some documents, shape (some, PERMUTATIONS), and which of them these are."""
    sketch: Any = _rensa().RMinHash
    order = np.argsort(shingles.places()[documents], kind="stable")
    for chunk in _chunks(shingles.sizes()[documents[order]]):
        flat, offsets = shingles.take(documents[order[chunk]])
        matrix = sketch.digest_matrix_from_flat_token_hashes(flat, offsets, PERMUTATIONS, 0)
        yield order[chunk], np.array(matrix.to_rows(), dtype=np.uint32)


class _Index:
    """The documents that share a bucket with another, numbered from 0, with their buckets."""

    def __init__(self, shingles: Shingles, threshold: float, keys: NDArray[np.uint64] | None = None) -> None:
        self.shingles = shingles
        self.threshold = threshold
        self.sizes = shingles.sizes()
        keys = keys_of(shingles, threshold) if keys is None else keys
        documents = np.flatnonzero(self.sizes > 0)
        buckets = np.empty((keys.shape[1], len(documents)), dtype=np.int64)
        shared = np.zeros(len(documents), dtype=np.bool_)
        for band in range(len(buckets)):
            _, buckets[band], sizes = np.unique(keys[documents, band], return_inverse=True, return_counts=True)
            shared |= sizes[buckets[band]] > 1
        self.documents = documents[shared]
        self.buckets = buckets[:, shared]
        """For each band the number of each document's bucket, shape (bands, documents)."""

    @cached_property
    def signatures(self) -> NDArray[np.uint32]:
        """MinHash signatures of the documents, shape (documents, PERMUTATIONS)."""
        found = np.empty((len(self.documents), PERMUTATIONS), dtype=np.uint32)
        for chunk, signatures in _signatures(self.shingles, self.documents):
            found[chunk] = signatures
        return found

    def estimate(self, left: Array, right: Array) -> NDArray[np.float64]:
        """The similarity of each pair as its signatures say."""
        result = np.empty(len(left))
        step = CELLS // PERMUTATIONS
        for start in range(0, len(left), step):
            chunk = slice(start, start + step)
            result[chunk] = (self.signatures[left[chunk]] == self.signatures[right[chunk]]).mean(axis=1)
        return result

    def promising(self, left: Array, right: Array) -> tuple[Array, Array]:
        """The pairs whose estimate is not four standard errors below the threshold; all of them where it is high."""
        if self.threshold >= SURE:
            return left, right
        error = (self.threshold * (1 - self.threshold) / PERMUTATIONS) ** 0.5
        keep = self.estimate(left, right) >= self.threshold - 4 * error
        return left[keep], right[keep]

    def similarity(self, left: Array, right: Array) -> NDArray[np.float64]:
        """The exact Jaccard similarity of each pair: |A ∩ B| = |A| + |B| - |A ∪ B|."""
        left, right = self.documents[left], self.documents[right]
        sizes = self.sizes[left] + self.sizes[right]
        order = np.argsort(sizes, kind="stable")  # so that the rows of a matrix are of like length
        result = np.empty(len(left))
        for chunk in _chunks(sizes[order]):
            pairs = order[chunk]
            a, b = self._matrix(left[pairs]), self._matrix(right[pairs])
            union = _distinct(np.concatenate((a, b), axis=1))
            result[pairs] = (_distinct(a) + _distinct(b) - union) / union
        return result

    def _matrix(self, documents: Array) -> NDArray[np.uint64]:
        """Shingles, one document per row, padded at the end with at least one number that stands for none."""
        flat, offsets = self.shingles.take(documents)
        sizes = np.diff(offsets)
        matrix = np.full((len(documents), int(sizes.max(initial=0)) + 1), _NOTHING)
        matrix[np.arange(matrix.shape[1]) < sizes[:, None]] = flat
        return matrix


def _rensa() -> Any:
    # Its allocator would hold on to hundreds of megabytes until the end; the library asks for this when it is loaded.
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "0")
    return import_module("rensa")


def _distinct(matrix: NDArray[np.uint64]) -> Array:
    """How many different shingles each row has."""
    ordered = np.sort(matrix, axis=1)
    return (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)


def _chunks(sizes: Array) -> Iterator[slice]:
    """Slices of at least one element, with sizes that together stay within CELLS where they can."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CELLS, side="right")))
        yield slice(start, stop)
        start = stop


def _roots(buckets: Array) -> tuple[Array, Array, Array]:
    """The documents that are first in all their buckets, and their pairs with what else is in these: left, right."""
    count = buckets.shape[1]
    place: Array = np.arange(count, dtype=np.int64)
    heads = np.empty_like(buckets)
    for band, bucket in enumerate(buckets):
        head = np.empty(bucket.max() + 1, dtype=np.int64)
        head[bucket[::-1]] = place[::-1]  # the last to be written stays: the earliest document
        heads[band] = head[bucket]
    is_root: NDArray[np.bool_] = np.all(heads == place, axis=0)
    band, member = np.nonzero(is_root[heads] & (heads != place))
    code = np.unique(heads[band, member] * count + member)
    return np.flatnonzero(is_root), code // count, code % count


def _neighbours(buckets: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """All pairs of documents in one bucket, left before right, and which documents have too many before them."""
    count = buckets.shape[1]
    crowded = np.zeros(count, dtype=np.bool_)
    codes = [np.empty(0, dtype=np.int64)]
    place: Array = np.arange(count, dtype=np.int64)
    for bucket in buckets:
        order = np.argsort(bucket, kind="stable")
        begin = _begins(bucket[order])
        crowded[order[place - begin > NEIGHBOURS]] = True
        begin = np.maximum(begin, place - NEIGHBOURS)
        before: Array = place - begin
        left = order[positions(begin, offsets_of(before))]
        codes.append(left * count + np.repeat(order, before))
    code = np.unique(np.concatenate(codes))
    return code // max(1, count), code % max(1, count), crowded


def _begins(ordered: Array) -> Array:
    """For each of some sorted numbers the place of the first that is equal."""
    return np.searchsorted(ordered, ordered)


def _with_first(bucket: Array) -> tuple[Array, Array]:
    """Each document with the first of its bucket."""
    order = np.argsort(bucket, kind="stable")
    first = order[np.searchsorted(bucket[order], bucket)]
    other = np.flatnonzero(first != np.arange(len(bucket)))
    return first[other], other


def _unconnected(bucket: Array, component: Array) -> tuple[Array, Array, Array]:
    """Documents in an order where those of its bucket that each is not connected with lie in one run before it.

    Returns the order, and for each place in it where that run begins and how long it is.
    """
    order = np.lexsort((component, bucket))
    ordered = bucket[order]
    begin = _begins(ordered)
    alike = ordered * len(bucket) + component[order]
    return order, begin, _begins(alike) - begin


def join_components(component: Array, left: Array, right: Array) -> Array:
    """Components once more pairs are connected. A component is named by its smallest document."""
    while True:
        low = np.minimum(component[left], component[right])
        joined = component.copy()
        np.minimum.at(joined, component[left], low)
        np.minimum.at(joined, component[right], low)
        joined = joined[joined[component]]
        if np.array_equal(joined, component):
            return component
        component = joined
