"""Finds texts that are contained in others: a chapter in its book, a listing in its notebook.

A book on one page contains each of its chapters, although no chapter is similar to it. So this counts which share of
the smaller document's shingles the larger one has, without boilerplate (Broder, 1997). One shingle in `rate` is
sampled, by its hash: the same ones in every document. The kind of shingle decides which copies are found: five
consecutive tokens find text that was moved, three words of a line find text that had something added to every line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.hashing.arrays import equal_run_starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.hashing.texts import TextShingles

    Array = NDArray[np.int64]

MAX_SHINGLE_DOCUMENTS = 16
"""`find_contained` ignores a shingle that more documents have, such as a licence header: it is boilerplate."""
MIN_SAMPLED_SHINGLES = 16
"""Sampled shingles that a document needs to be searched for in others. The standard error of a share is then at most
0.125."""
SORTED_SHINGLES = 1 << 22
"""Sampled shingles that `find_contained` sorts at a time, about: they need some hundred megabytes."""


class ShingleSample(NamedTuple):
    """Shingles of texts, each once per text, sorted by hash and then by text. Both arrays have shape (shingles,)."""

    hashes: NDArray[np.uint64]
    text: NDArray[np.int32]


class ContainedPairs(NamedTuple):
    """Pairs of documents, sorted, where much of `part` also occurs in `whole`. All arrays have shape (pairs,)."""

    part: Array
    whole: Array
    share: NDArray[np.float64]


def sample_shingles(shingles: TextShingles, rate: int) -> ShingleSample:
    """One shingle in `rate`, by its hash: the same ones in every text."""
    chosen = np.flatnonzero(shingles.hashes % np.uint64(rate) == 0)
    hashes, text = shingles.hashes[chosen], np.searchsorted(shingles.offsets, chosen, side="right") - 1
    order = np.lexsort((text, hashes))
    hashes, text = hashes[order], text[order]
    distinct = equal_run_starts(hashes, text)
    return ShingleSample(hashes[distinct], text[distinct].astype(np.int32))


def find_contained(
    samples: Sequence[ShingleSample], numbers: Sequence[Array], threshold: float, merged: Array
) -> ContainedPairs:
    """Find pairs of documents where at least `threshold` of the shingles of one occur in the other.

    Only shingles of a part of all hashes are in memory at a time.

    Args:
        samples: The shingles of each part.
        numbers: The number of each text of each part: from 0, ascending over all parts; -1 leaves a text out.
        threshold: The smallest share to find.
        merged: For each number that of the document that the text belongs to, shape (texts,). A document has the
            shingles of all its texts, and its size is that of the smallest that is searched for, so that it is
            contained in what contains any of these.
    """
    count = len(merged)
    size = np.zeros(count, dtype=np.int64)
    # A pair of documents is one number, left * documents + right. For each, how many shingles both have.
    found: list[tuple[Array, Array]] = []
    for all_hashes, text in _parts_by_hash(samples, numbers):
        hashes, document = _distinct_pairs(all_hashes, merged[text])
        starts = equal_run_starts(hashes)
        document_counts = np.diff(starts, append=len(hashes))  # how many documents have each shingle
        is_rare = document_counts <= MAX_SHINGLE_DOCUMENTS
        place = np.searchsorted(hashes[starts], all_hashes)  # of each shingle of a text among the different ones
        size += np.bincount(text[is_rare[place]], minlength=count)
        # A shingle of documents [2, 5, 9] gives the pairs (2, 5), (2, 9) and (5, 9).
        codes = [np.empty(0, dtype=np.int64)]
        for members_count in range(2, MAX_SHINGLE_DOCUMENTS + 1):
            members = document[starts[document_counts == members_count][:, None] + np.arange(members_count)]
            left, right = np.triu_indices(members_count, 1)
            codes.append((members[:, left] * count + members[:, right]).ravel())
        found.append(_count_equal(np.concatenate(codes)))
    code, shared = _add_counts(found)
    left, right = np.divmod(code, max(1, count))
    part, whole = np.concatenate((left, right)), np.concatenate((right, left))
    smallest = size.copy()
    # Texts that are too small to be searched for do not keep the other texts of their document from it.
    is_searched = size >= MIN_SAMPLED_SHINGLES
    smallest[merged[is_searched]] = size[is_searched]
    np.minimum.at(smallest, merged[is_searched], size[is_searched])
    share = np.minimum(1.0, np.concatenate((shared, shared)) / np.maximum(smallest[part], 1))
    chosen = np.flatnonzero((share >= threshold) & (smallest[part] >= MIN_SAMPLED_SHINGLES))
    chosen = chosen[np.lexsort((whole[chosen], part[chosen]))]
    return ContainedPairs(part[chosen], whole[chosen], share[chosen])


def _parts_by_hash(
    samples: Sequence[ShingleSample], numbers: Sequence[Array]
) -> Iterator[tuple[NDArray[np.uint64], Array]]:
    """All shingles with the number of their text, sorted by both, in parts by the value of the hash.

    Each sample is sorted, so its shingles of a part are neighbours. No hash is in two parts.
    """
    total = sum(len(sample.hashes) for sample in samples)
    part_count = max(1, -(-total // SORTED_SHINGLES))
    edges = np.array([(number << 64) // part_count for number in range(1, part_count)], dtype=np.uint64)
    cuts = [[0, *np.searchsorted(sample.hashes, edges).tolist(), len(sample.hashes)] for sample in samples]
    for number in range(part_count):
        hashes, text = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
        for sample, sample_numbers, cut in zip(samples, numbers, cuts, strict=True):
            piece = slice(cut[number], cut[number + 1])
            of_piece = sample_numbers[sample.text[piece]]
            is_used = of_piece >= 0
            hashes.append(sample.hashes[piece][is_used])
            text.append(of_piece[is_used])
        all_hashes, all_texts = np.concatenate(hashes), np.concatenate(text)
        if len(samples) > 1:
            order = np.argsort(all_hashes, kind="stable")  # numbers ascend from sample to sample
            all_hashes, all_texts = all_hashes[order], all_texts[order]
        yield all_hashes, all_texts


def _distinct_pairs(hashes: NDArray[np.uint64], document: Array) -> tuple[NDArray[np.uint64], Array]:
    """Each hash once for each of its documents, sorted by both. `hashes` are sorted."""
    # Most hashes stand in one text only. Of [3, 7, 7, 9], only the two in the middle have to be sorted by document.
    is_repeated = hashes[1:] == hashes[:-1]
    is_shared = np.concatenate((is_repeated, [False])) | np.concatenate(([False], is_repeated))
    shared = np.flatnonzero(is_shared)[: len(hashes)]
    document[shared] = document[shared[np.lexsort((document[shared], hashes[shared]))]]
    distinct = equal_run_starts(hashes, document)
    return hashes[distinct], document[distinct]


def _count_equal(values: Array) -> tuple[Array, Array]:
    """Each value once, sorted, and how often it occurs: [7, 3, 7] gives [3, 7] and [1, 2]."""
    ordered = np.sort(values)
    first = equal_run_starts(ordered)
    return ordered[first], np.diff(first, append=len(ordered))


def _add_counts(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The sum of counts of several parts, each with its values: [3, 7], [1, 2] and [7], [5] give [3, 7], [1, 7]."""
    if len(parts) == 1:
        return parts[0]
    values, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    first = equal_run_starts(values)
    return values[first], np.add.reduceat(counts, first) if len(first) else counts
