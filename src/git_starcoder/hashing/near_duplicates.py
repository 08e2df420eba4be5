"""Searches for texts that are copies of each other, by the shingles that they share.

`find_copies` combines three searches, because no single measure sees every copy:

1. Jaccard similarity of five-token shingles (`find_similar_pairs`) finds files of about the same length.
2. Containment of five-token shingles (`containment`) finds a chapter in its book.
3. Containment of the words of lines finds a notebook's code, a patch, a numbered or commented-out listing, a table of
   strings. Neither symbols nor line ends need be the same.

`find_keepers` finds for each document an earlier one that is kept in its place, to drop rows that repeat others.

How similar pairs are found: MinHash signatures in bands propose pairs that share a bucket (`bands`). Where a low
threshold proposes many, the signatures' own estimate discards the hopeless ones. Each remaining pair is compared
exactly, so a threshold means what it says. Only the proposing is probabilistic: a pair exactly at the threshold is
proposed with a probability of at least 0.99, a more similar one with a higher probability.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.hashing.arrays import (
    chunk_slices,
    connect_components,
    equal_run_starts,
    run_offsets,
    run_positions,
    sorted_unique,
)
from git_starcoder.hashing.bands import CHUNK_SHINGLES, BandIndex, signatures_of
from git_starcoder.hashing.containment import ContainedPairs, ShingleSample, find_contained, sample_shingles
from git_starcoder.hashing.texts import JoinedShingles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from git_starcoder.hashing.texts import HashedLines, Shingles, TextShingles

    Array = NDArray[np.int64]
    IsExempt = Callable[[Array, Array], NDArray[np.bool_]]

MAX_COMPARISONS = 32
"""Exact comparisons per document in `find_keepers`; a document that is unlike all of them is kept."""
MAX_ROUNDS = 32
"""Rounds of `find_keepers`; documents that they leave undecided are compared one after another."""
MAX_BUCKET_NEIGHBOURS = 64
"""Documents of each bucket, the last ones before it, that an undecided document is compared with."""
MAX_PROPOSALS = 10_000_000
"""Pairs that `find_similar_pairs` considers (some seconds). Beyond that, a document is compared only with the first one
of its bucket."""
MAX_COMPARED_SHINGLES = 1 << 29
"""Shingles that `find_similar_pairs` compares exactly (some seconds). Beyond that, the estimate decides."""
CONTAINMENT_RATE = 8
"""`find_copies` samples one five-token shingle in so many for containment, so texts of some 130 tokens or more are
compared."""
MIN_REWRAPPED_SHARE = 0.6
"""Share of its line shingles from which a text counts as contained in another, at least. Copies with the same addition
to every line keep nearly all of theirs; two such copies, each with two words of its own, share 0.6 of lines of five
words. Below it, files that only use the same interface would be put together."""


class CopyPairs(NamedTuple):
    """Pairs of texts that are copies of each other. The arrays have shape (pairs,)."""

    left: Array
    right: Array
    share: NDArray[np.float64]
    """Similarity or contained share, 0 to 1, by whichever measure found the pair."""
    search_counts: dict[str, int]
    """How many pairs each search found."""
    is_exact: bool
    """Whether all pairs were compared exactly (see `SimilarPairs`)."""


class SimilarPairs(NamedTuple):
    """Pairs of similar documents, sorted, left < right. All arrays have shape (pairs,)."""

    left: Array
    right: Array
    similarity: NDArray[np.float64]
    is_exact: bool
    """Whether all proposed pairs were considered and compared exactly, within `MAX_PROPOSALS` and
    `MAX_COMPARED_SHINGLES`."""


class Keepers(NamedTuple):
    """For each document the one that is kept in its place. Arrays have shape (documents,)."""

    keeper: Array
    """The document that is kept in place of this one, or -1 where this one is kept itself."""
    similarity: NDArray[np.float64]
    """Similarity to the keeper; 0 where there is none."""
    compared: int
    """Exact comparisons made."""
    limited: int
    """Documents kept although some proposed pairs were not compared (`MAX_COMPARISONS`, `MAX_BUCKET_NEIGHBOURS`)."""


class ComparableTexts(NamedTuple):
    """What `find_copies` compares texts by; see `describe_texts`."""

    shingles: TextShingles
    """The five-token shingles, with signatures."""
    token_runs: ShingleSample
    """Some of the five-token shingles."""
    line_words: ShingleSample
    """All sequences of three words of a line."""


def describe_texts(shingles: TextShingles, lines: HashedLines, threads: int = 1) -> ComparableTexts:
    """What texts are compared by. `shingles` and `lines` are those of the same texts."""
    with ThreadPoolExecutor(threads) as pool:  # numpy releases the interpreter lock
        signatures = pool.submit(signatures_of, shingles)
        token_runs = pool.submit(sample_shingles, shingles, CONTAINMENT_RATE)
        line_words = pool.submit(lambda: sample_shingles(lines.shingles(), rate=1))
        shingles = replace(shingles, signatures=signatures.result())
        return ComparableTexts(shingles, token_runs.result(), line_words.result())


def find_copies(shingles: TextShingles, lines: HashedLines, threshold: float, tolerance: float = 0.0) -> CopyPairs:
    """Find pairs that connect all texts which are copies of each other.

    `shingles` and `lines` are those of the same texts. `tolerance` is added to all thresholds.
    """
    described = describe_texts(shingles, lines)
    numbers = np.arange(len(shingles.shingle_counts()))
    return find_copies_in([described], [numbers], threshold, tolerance=tolerance)


def find_copies_in(
    parts: Sequence[ComparableTexts],
    numbers: Sequence[Array],
    threshold: float,
    threads: int = 1,
    *,
    tolerance: float = 0.0,
) -> CopyPairs:
    """Find pairs that connect all texts of several parts which are copies of each other.

    `numbers` has for each text of each part its number in the result: from 0, ascending over all parts; -1 leaves a
    text out.

    In several parts, contained texts are searched twice. First, similar texts count as one text: otherwise, a family of
    forks would make all its code boilerplate. Then, each text counts by itself: otherwise, what a thousand generated
    pages have in common would be most of each page, and what one of them copied from elsewhere would be too little.
    """
    documents = join_shingles([part.shingles for part in parts], numbers)
    token_runs, line_words = [part.token_runs for part in parts], [part.line_words for part in parts]
    line_threshold = min(1.0, max(threshold, MIN_REWRAPPED_SHARE) + tolerance)
    threshold = min(1.0, threshold + tolerance)
    alone = np.arange(len(documents.part))
    with ThreadPoolExecutor(threads) as pool:  # numpy releases the interpreter lock
        similar_search = pool.submit(find_similar_pairs, documents, threshold)
        views = [alone]
        if len(parts) > 1:
            similar = similar_search.result()
            views.append(connect_components(alone, similar.left, similar.right))
        rewrapped_searches = [pool.submit(find_contained, line_words, numbers, line_threshold, view) for view in views]
        contained = _join_pairs([find_contained(token_runs, numbers, threshold, view) for view in views])
    similar, rewrapped = similar_search.result(), _join_pairs([search.result() for search in rewrapped_searches])
    return CopyPairs(
        np.concatenate((similar.left, contained.part, rewrapped.part)),
        np.concatenate((similar.right, contained.whole, rewrapped.whole)),
        np.concatenate((similar.similarity, contained.share, rewrapped.share)),
        {"near_duplicate": len(similar.left), "contained": len(contained.part), "rewrapped": len(rewrapped.part)},
        similar.is_exact,
    )


def _join_pairs(found: Sequence[ContainedPairs]) -> ContainedPairs:
    """The pairs of several searches, each once, with the larger of its shares."""
    part, whole, share = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.lexsort((-share, whole, part))
    order = order[equal_run_starts(part[order], whole[order])]
    return ContainedPairs(part[order], whole[order], share[order])


def join_shingles(parts: Sequence[TextShingles], numbers: Sequence[Array]) -> JoinedShingles:
    """The shingles of the texts of several parts that have a number, in the order of their numbers."""
    chosen = [np.flatnonzero(number >= 0) for number in numbers]
    return JoinedShingles(
        parts, np.repeat(np.arange(len(parts)), [len(texts) for texts in chosen]), np.concatenate(chosen)
    )


def find_similar_pairs(shingles: Shingles, threshold: float) -> SimilarPairs:
    """Find pairs of similar documents, enough of them to connect all documents that similar pairs connect.

    A pair that other pairs already connect is not compared: a thousand near-copies cost a thousand comparisons, not
    half a million.
    """
    index = BandIndex(shingles, threshold)
    count = len(index.documents)
    component = np.arange(count)
    unlike = np.empty(0, dtype=np.int64)  # sorted codes of pairs that were compared and are not similar
    found = [(index.documents[:0], index.documents[:0], np.empty(0))]
    proposals_left, shingles_left = MAX_PROPOSALS, MAX_COMPARED_SHINGLES

    def connect(left: Array, right: Array) -> None:
        """Compare pairs that are neither connected nor known to be unlike."""
        nonlocal component, unlike, shingles_left
        is_open = component[left] != component[right]
        left, right = index.promising(left[is_open], right[is_open])
        code = np.sort(np.minimum(left, right) * count + np.maximum(left, right))
        code = code[np.searchsorted(unlike, code, side="left") == np.searchsorted(unlike, code, side="right")]
        left, right = np.divmod(code, max(1, count))
        costs = np.cumsum(index.shingle_counts[index.documents[left]] + index.shingle_counts[index.documents[right]])
        exact = int(np.searchsorted(costs, shingles_left, side="right"))  # pairs that can still be compared exactly
        shingles_left -= int(costs[-1]) if len(costs) else 0
        estimates = index.estimate(left[exact:], right[exact:])
        similarity = np.concatenate((index.similarity(left[:exact], right[:exact]), estimates))
        is_similar = similarity >= threshold
        unlike = np.sort(np.concatenate((unlike, code[~is_similar])))
        component = connect_components(component, left[is_similar], right[is_similar])
        found.append((index.documents[left[is_similar]], index.documents[right[is_similar]], similarity[is_similar]))

    for bucket in index.buckets:
        connect(*_pairs_with_first(bucket))
        order, starts, lengths = _unconnected_runs(bucket, component)
        proposals_left -= int(lengths.sum())
        if proposals_left < 0:
            continue
        for chunk in chunk_slices(lengths, CHUNK_SHINGLES):
            left = run_positions(starts[chunk], run_offsets(lengths[chunk]))
            connect(order[left], np.repeat(order[chunk], lengths[chunk]))
    left, right, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((right, left))
    return SimilarPairs(left[order], right[order], similarity[order], min(proposals_left, shingles_left) >= 0)


def find_keepers(
    shingles: Shingles, threshold: float, is_exempt: IsExempt, keys: NDArray[np.uint64] | None = None
) -> Keepers:
    """Walk documents in order and drop each one that is similar to a document kept before it.

    Most is decided in rounds: a document that is the first undecided one of all its buckets has nothing before it to be
    compared with, so it is kept and compared with everything else in them. A thousand copies of one document cost a
    thousand comparisons. The rounds leave long chains, each document in a bucket with the next. For these, all pairs
    within a bucket are compared first and then walked.

    `is_exempt` says for arrays of earlier and later documents which pairs must not be compared; `keys` are the
    `band_keys` of the documents, if they are known.
    """
    index = BandIndex(shingles, threshold, keys)
    count = len(index.documents)
    keeper, keeper_similarity = np.full(count, -1, dtype=np.int64), np.zeros(count)
    compared, limited = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_)

    def similar_pairs(left: Array, right: Array) -> tuple[Array, Array, NDArray[np.float64]]:
        """The similar ones of some pairs, sorted by the right document and then by the left."""
        is_wanted = ~is_exempt(index.documents[left], index.documents[right])
        left, right = index.promising(left[is_wanted], right[is_wanted])
        order = np.lexsort((left, right))
        left, right = left[order], right[order]
        # The number of each comparison among those of its document: for right [4, 4, 7] that is 0, 1, 0, plus the
        # comparisons of earlier rounds.
        turn = compared[right] + np.arange(len(right)) - _first_equal(right)
        is_allowed = turn < MAX_COMPARISONS
        limited[right[~is_allowed]] = True
        left, right = left[is_allowed], right[is_allowed]
        np.add.at(compared, right, 1)
        similarity = index.similarity(left, right)
        is_similar = similarity >= threshold
        return left[is_similar], right[is_similar], similarity[is_similar]

    undecided = np.arange(count)
    for _ in range(MAX_ROUNDS):
        if not len(undecided):
            break
        roots, left, right = _root_pairs(index.buckets[:, undecided])
        left, right, similarity = similar_pairs(undecided[left], undecided[right])
        keeper[right[::-1]] = left[::-1]  # the earliest of several is written last, so it stays
        keeper_similarity[right[::-1]] = similarity[::-1]
        undecided = np.setdiff1d(undecided, np.concatenate((undecided[roots], right)))
    left, right, is_crowded = _neighbour_pairs(index.buckets[:, undecided])
    limited[undecided[is_crowded]] = True
    for earlier, later, value in zip(*similar_pairs(undecided[left], undecided[right]), strict=True):
        if keeper[earlier] < 0 and keeper[later] < 0:
            keeper[later], keeper_similarity[later] = earlier, value
    limited &= keeper < 0
    total = len(index.shingle_counts)
    result = Keepers(np.full(total, -1), np.zeros(total), int(compared.sum()), int(limited.sum()))
    result.keeper[index.documents] = np.where(keeper < 0, -1, index.documents[keeper])
    result.similarity[index.documents] = keeper_similarity
    return result


def _root_pairs(buckets: Array) -> tuple[Array, Array, Array]:
    """The documents that are first in all their buckets (roots), and their pairs with the others in these: left, right.

    With the buckets [0, 0, 1, 1] in one band and [0, 1, 0, 2] in another, document 0 is the only root, and its pairs
    are (0, 1) and (0, 2).
    """
    count = buckets.shape[1]
    number: Array = np.arange(count, dtype=np.int64)
    first = np.empty_like(buckets)
    for band, bucket in enumerate(buckets):
        first_in_bucket = np.empty(bucket.max() + 1, dtype=np.int64)
        first_in_bucket[bucket[::-1]] = number[::-1]  # the earliest document is written last, so it stays
        first[band] = first_in_bucket[bucket]
    is_root: NDArray[np.bool_] = np.all(first == number, axis=0)
    band, member = np.nonzero(is_root[first] & (first != number))
    left, right = np.divmod(sorted_unique(first[band, member] * count + member), count)
    return np.flatnonzero(is_root), left, right


def _neighbour_pairs(buckets: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """All pairs of documents in one bucket, left before right, and which documents have too many before them."""
    count = buckets.shape[1]
    is_crowded = np.zeros(count, dtype=np.bool_)
    codes = [np.empty(0, dtype=np.int64)]
    place: Array = np.arange(count, dtype=np.int64)
    for bucket in buckets:
        order = np.argsort(bucket, kind="stable")
        starts = _first_equal(bucket[order])
        is_crowded[order[place - starts > MAX_BUCKET_NEIGHBOURS]] = True
        starts = np.maximum(starts, place - MAX_BUCKET_NEIGHBOURS)
        lengths: Array = place - starts
        left = order[run_positions(starts, run_offsets(lengths))]
        codes.append(left * count + np.repeat(order, lengths))
    left, right = np.divmod(sorted_unique(np.concatenate(codes)), max(1, count))
    return left, right, is_crowded


def _first_equal(ordered: Array) -> Array:
    """For each element of a sorted array the index of the first element that equals it: [4, 4, 7] gives [0, 0, 2]."""
    return np.searchsorted(ordered, ordered)


def _pairs_with_first(bucket: Array) -> tuple[Array, Array]:
    """The pair of each document with the first one of its bucket: buckets [0, 1, 0, 0] give (0, 2) and (0, 3)."""
    order = np.argsort(bucket, kind="stable")
    first = order[np.searchsorted(bucket[order], bucket)]
    others = np.flatnonzero(first != np.arange(len(bucket)))
    return first[others], others


def _unconnected_runs(bucket: Array, component: Array) -> tuple[Array, Array, Array]:
    """An order of documents in which those of its bucket that a document is not connected with form one run before it.

    Returns the order, and for each place in it where that run starts and how long it is. Buckets [0, 0, 0] with the
    components [0, 1, 1] give the starts [0, 0, 0] and the lengths [0, 1, 1]: documents 1 and 2 are connected, so both
    are compared only with document 0.
    """
    order = np.lexsort((component, bucket))
    ordered = bucket[order]
    starts = _first_equal(ordered)
    bucket_and_component = ordered * len(bucket) + component[order]
    return order, starts, _first_equal(bucket_and_component) - starts
