"""Indexes the contexts of every token of some documents, so that the tokens that follow any context can be counted.

All places are sorted by the tokens before them, the nearest first (the order of the Burrows-Wheeler transform). So all
places after the same n tokens are neighbours, an interval, for every n at once:

    text       <end> a b c a b d       place     2  5 | 3  6 | ...
    contexts   of places 3 and 6: (b, a, ...)      after "a": b b; after "a b": c d

The index needs 9 bytes for each token if the vocabulary has at most 65,536 entries, and 13 otherwise.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from git_starcoder.memory.neighbours import GONE, move_places, scan_neighbours, sort_neighbours
from git_starcoder.memory.sorting import MAX_ORDER, shared_context, sort_contexts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

DIGEST_BYTES = 16
"""The size of the hash that tells documents apart."""
MIN_CACHED_PLACES = 512
"""The smallest number of occurrences for which the tokens that follow a context are kept."""
CACHED_CONTEXTS = 4096
"""The number of contexts for which they are kept."""
FEW_PLACES = 32
"""So few tokens are counted without numpy."""
MAX_SCANNED_SHARE = 1 / 32
"""If fewer places than this share change, neighbours are found by looking around them, and not by sorting all."""
ARRAYS = ("tokens", "places", "next_tokens", "shared", "digests", "lengths")
"""The arrays of an index; also the names of its files."""


class OrderCounts(NamedTuple):
    """What is known of the tokens after a context, for several orders (context lengths). All arrays have one shape.

    In all orders but the longest, a token counts once for each longer context that it follows: the continuation counts
    of Kneser and Ney (1995).
    """

    target: NDArray[np.float32]
    """The count of the token that really follows."""
    total: NDArray[np.float32]
    """The sum of the counts of all tokens; 0 if the context is unknown."""
    ones: NDArray[np.float32]
    """How many tokens have the count 1."""
    twos: NDArray[np.float32]
    """How many tokens have the count 2."""
    more: NDArray[np.float32]
    """How many tokens have a larger count."""
    largest: NDArray[np.float32]
    """The largest count."""
    occurrences: NDArray[np.float32]
    """How often the context occurs."""

    @classmethod
    def zeros(cls, *shape: int) -> Self:
        """Return counts of unknown contexts."""
        return cls(*(np.zeros(shape, dtype=np.float32) for _ in cls._fields))


@dataclass(frozen=True, eq=False)
class ContextIndex:
    """An index of documents. It depends on the set of documents alone, not on their order or on how it came about."""

    end_token: int
    """The end-of-text token, which stands before each document. Contexts do not reach beyond it."""
    tokens: NDArray[np.unsignedinteger]
    """The tokens of all documents, each after an end-of-text token, shape (tokens,)."""
    places: NDArray[np.uint32]
    """Places in `tokens`, sorted by their contexts, shape (places,). The tokens before documents are left out."""
    next_tokens: NDArray[np.unsignedinteger]
    """The token at each of `places`."""
    shared: NDArray[np.int8]
    """How many tokens its context shares with that of the place before it that has the same next token; -1 if none has.

    In the interval of a context of n tokens, the places with at most n shared tokens are one for each pair of a next
    token and a longer context: their number is the continuation count of the token.
    """
    digests: NDArray[np.uint8]
    """The hash of each document, shape (documents, DIGEST_BYTES), sorted."""
    lengths: Integers
    """The tokens of each document, shape (documents,)."""
    _cached: dict[tuple[int, int], Following] = field(default_factory=dict[tuple[int, int], "Following"], repr=False)
    """What follows the most frequent contexts, by the order and the beginning of the interval. It goes with the index:
    a cache of all indexes would keep old ones in memory."""

    @property
    def byte_count(self) -> int:
        """The bytes of all arrays."""
        return sum(getattr(self, name).nbytes for name in ARRAYS)

    @classmethod
    def build(cls, documents: Iterable[NDArray[np.integer]], vocab_size: int, end_token: int) -> Self:
        """Index documents, each given by its tokens."""
        kind = np.uint16 if vocab_size <= 1 << 16 else np.uint32
        nothing = np.empty(0, dtype=kind)
        no_places, no_shared = np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.int8)
        no_digests, no_lengths = np.empty((0, DIGEST_BYTES), dtype=np.uint8), np.empty(0, dtype=np.int64)
        empty = cls(end_token, nothing, no_places, nothing, no_shared, no_digests, no_lengths)
        return empty.update(documents)

    def update(self, documents: Iterable[NDArray[np.integer]], digests: Sequence[bytes] | None = None) -> Self:
        """Return the index of other documents. What this index knows of the same documents is not computed again.

        `digests` has the `document_digest` of each document, if they are known: hashing all takes a while.
        """
        kind = self.tokens.dtype
        arrays = [np.ascontiguousarray(each, dtype=kind) for each in documents]
        names = map(document_digest, arrays) if digests is None else digests
        given = sorted((name, array.tobytes()) for name, array in zip(names, arrays, strict=True))
        known: dict[bytes, list[int]] = {}
        for index in reversed(range(len(self.digests))):  # so that equal documents keep their order
            known.setdefault(self.digests[index].tobytes(), []).append(index)
        origins = np.array([known[digest].pop() if known.get(digest) else -1 for digest, _ in given], dtype=np.int64)
        lengths = np.array([len(data) // kind.itemsize for _, data in given], dtype=np.int64)
        end = np.array([self.end_token], dtype=kind).tobytes()
        tokens = np.frombuffer(b"".join(end + data for _, data in given), dtype=kind)
        new_digests = np.frombuffer(b"".join(digest for digest, _ in given), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
        del given, arrays  # copies of all tokens

        # Where the old places are now, without those of documents that are gone.
        starts, old_starts = (np.cumsum(each + 1) - each - 1 for each in (lengths, self.lengths))
        is_known = origins >= 0
        moves = np.full(len(self.lengths), GONE, dtype=np.int64)
        moves[origins[is_known]] = starts[is_known] - old_starts[origins[is_known]]
        places, is_kept = move_places(self.places, old_starts, moves)
        dropped = np.flatnonzero(~is_kept)
        places, shared, next_tokens = places[is_kept], self.shared[is_kept], self.next_tokens[is_kept]

        # The places of new documents, sorted by their contexts, go where their contexts belong.
        is_new = np.repeat(~is_known, lengths + 1)
        added = np.flatnonzero(is_new).astype(np.uint32)
        added = added[sort_contexts(tokens[added], self.end_token)]
        is_new[starts] = False  # nothing comes before these places
        added = added[is_new[added]]
        draft = ContextIndex(self.end_token, tokens, places, next_tokens, shared, new_digests, lengths)
        new_places = draft._insertion_points(added)
        gaps = dropped - np.arange(len(dropped))  # how many kept places come before a dropped one
        gaps += np.searchsorted(new_places, gaps)
        new_places += np.arange(len(added))
        is_added = np.zeros(len(places) + len(added), dtype=np.bool_)
        is_added[new_places] = True
        places = _merge(places, added, is_added)
        next_tokens = _merge(next_tokens, tokens[added], is_added)
        shared = _merge(shared, np.full(len(added), -1, dtype=np.int8), is_added)

        # `shared` is out of date for a new place, and for the next place with its token after a new or dropped one.
        is_small = len(new_places) + len(gaps) < len(places) * MAX_SCANNED_SHARE
        find_neighbours = scan_neighbours if is_small else sort_neighbours
        chain, previous = find_neighbours(next_tokens, new_places, gaps, self.next_tokens[dropped])
        del added, is_added, new_places  # memory: the next step needs the most
        found = shared_context(tokens, places, chain, previous, self.end_token)
        shared[chain] = np.where(previous < 0, -1, found)
        return type(self)(self.end_token, tokens, places, next_tokens, shared, new_digests, lengths)

    def intervals(self, text: NDArray[np.integer], at: NDArray[np.integer]) -> tuple[Integers, Integers]:
        """Find the contexts of places of another text: where the interval of each order begins and ends.

        Both have shape (places, MAX_ORDER + 1). The interval of a context that is unknown, or that would reach beyond
        the end-of-text token, is empty.
        """
        low = np.zeros((len(at), MAX_ORDER + 1), dtype=np.int64)
        high = np.zeros_like(low)
        high[:, 0] = len(self.places)
        live = np.arange(len(at))
        for order in range(MAX_ORDER):
            wanted = text[at[live] - 1 - order]
            bounds = low[live, order], high[live, order]
            for edge, side in ((low, "left"), (high, "right")):
                edge[live, order + 1] = self._search(wanted, order, *bounds, side=side)
            live = live[(low[live, order + 1] < high[live, order + 1]) & (wanted != self.end_token)]
        return low, high

    def _search(self, wanted: NDArray[Any], order: int, low: Integers, high: Integers, *, side: str) -> Integers:
        """Binary search in intervals, whose contexts share `order` tokens, for the next token before them."""

        def is_before(places: NDArray[np.uint32]) -> NDArray[np.bool_]:
            found = self.tokens[places.astype(np.int64) - 1 - order]
            return found <= wanted if side == "right" else found < wanted

        return self._bisect(low, high, is_before)

    def _bisect(
        self, low: Integers, high: Integers, is_before: Callable[[NDArray[np.uint32]], NDArray[np.bool_]]
    ) -> Integers:
        """Binary search in many intervals at once: where in each interval `is_before` of its places ends to be true."""
        last = len(self.places) - 1
        while (is_open := low < high).any():
            middle = (low + high) // 2
            is_low = is_before(self.places[np.minimum(middle, last)])
            low = np.where(is_open & is_low, middle + 1, low)
            high = np.where(is_open & ~is_low, middle, high)
        return low

    def _insertion_points(self, added: NDArray[np.integer]) -> Integers:
        """Where places of `tokens` belong among `places`: by their contexts, and if these are equal, by the place."""
        if not len(self.places):
            return np.zeros(len(added), dtype=np.int64)
        low, high = self.intervals(self.tokens, added)
        known = (low < high).sum(axis=1) - 1  # the longest order with a known context
        rows = np.arange(len(added))
        is_tie = (known == MAX_ORDER) | ((known > 0) & (self.tokens[added - known] == self.end_token))
        # An unknown context has an empty interval, which is where it belongs.
        order = np.minimum(known + ~is_tie, MAX_ORDER)
        return self._bisect(low[rows, order], high[rows, order], lambda places: places < added)

    def following(self, history: Sequence[int]) -> list[Following]:
        """Count the tokens after the last tokens of a text: for order 0, 1, and so on, as far as contexts are known."""
        found: list[Following] = []
        low, high = 0, len(self.places)
        for order in range(MAX_ORDER + 1):
            if low == high:
                break
            found.append(self._count_following(order, low, high))
            if order in {MAX_ORDER, len(history)} or (order and history[-order] == self.end_token):
                break
            before = _Before(self, order)
            low = bisect_left(before, history[-1 - order], low, high)
            high = bisect_right(before, history[-1 - order], low, high)
        return found

    def _count_following(self, order: int, low: int, high: int) -> Following:
        """Count the tokens after a context of `order` tokens, whose interval is given."""
        if (known := self._cached.get((order, low))) is not None:
            return known
        next_tokens = self.next_tokens[low:high]
        if order < MAX_ORDER:
            next_tokens = next_tokens[self.shared[low:high] <= order]
        found = Following.of(next_tokens, low, high - low)
        if high - low >= MIN_CACHED_PLACES:
            if len(self._cached) == CACHED_CONTEXTS:
                self._cached.clear()
            self._cached[order, low] = found
        return found

    def copy_after(self, context: Following, limit: int) -> list[int]:
        """Return up to `limit` tokens of a document after a context, from a place where the likeliest token follows."""
        likeliest = context.tokens[np.argmax(context.counts)]
        interval = self.next_tokens[context.low : context.low + context.occurrences]
        place = int(self.places[context.low + int(np.argmax(interval == likeliest))])
        tokens: list[int] = self.tokens[place : place + limit].tolist()
        return tokens[: tokens.index(self.end_token) + 1] if self.end_token in tokens else tokens

    def counts(self, text: NDArray[np.integer], at: Integers) -> OrderCounts:
        """Count the tokens after the contexts of places of another text, shape (places, MAX_ORDER + 1)."""
        result = OrderCounts.zeros(len(at), MAX_ORDER + 1)
        low, high = self.intervals(text, at)
        targets = text[at].astype(np.int64)
        vocab_size = int(max(self.next_tokens.max(initial=0), targets.max(initial=0))) + 1
        for order in range(MAX_ORDER + 1):
            known = np.flatnonzero(low[:, order] < high[:, order])
            begins, context = np.unique(low[known, order], return_inverse=True)
            ends = np.zeros_like(begins)
            ends[context] = high[known, order]
            sizes = ends - begins
            # Intervals [2, 4) and [7, 9) -> owners [0, 0, 1, 1], places in the index [2, 3, 7, 8].
            owners = np.repeat(np.arange(len(begins)), sizes)
            inside = np.arange(len(owners)) + np.repeat(begins - np.cumsum(sizes) + sizes, sizes)
            if order < MAX_ORDER:
                counted = self.shared[inside] <= order
                owners, inside = owners[counted], inside[counted]
            pairs, counts = np.unique(owners * vocab_size + self.next_tokens[inside], return_counts=True)
            wanted = context * vocab_size + targets[known]
            found = np.minimum(np.searchsorted(pairs, wanted), max(0, len(pairs) - 1))
            owners = pairs // vocab_size
            largest = np.zeros(len(begins))
            np.maximum.at(largest, owners, counts)
            sums = (np.bincount(owners, each, len(begins)) for each in (counts, counts == 1, counts == 2, counts > 2))
            columns = (*(each[context] for each in sums), largest[context], sizes[context])
            target = np.where(pairs[found] == wanted, counts[found], 0) if len(pairs) else 0
            for array, column in zip(result, (target, *columns), strict=True):
                array[known, order] = column
        return result


class Following(NamedTuple):
    """The tokens that follow a context. The names of the numbers are those of `OrderCounts`."""

    tokens: NDArray[np.integer]
    """The distinct tokens, sorted, shape (tokens,)."""
    counts: Integers
    """The count of each; see `OrderCounts`."""
    low: int
    """Where the interval of the context begins."""
    occurrences: int
    total: int
    ones: int
    twos: int
    more: int
    largest: int

    @classmethod
    def of(cls, next_tokens: NDArray[np.integer], low: int, occurrences: int) -> Self:
        """Count the tokens in a list."""
        if len(next_tokens) <= FEW_PLACES:  # faster without numpy
            listed: list[int] = next_tokens.tolist()
            counter = sorted(Counter(listed).items())
            tokens = np.array([token for token, _ in counter], dtype=next_tokens.dtype)
            counts = np.array([count for _, count in counter], dtype=np.int64)
        else:
            tokens, counts = np.unique(next_tokens, return_counts=True)
        _, ones, twos, more = np.bincount(np.minimum(counts, 3), minlength=4).tolist()
        return cls(tokens, counts, low, occurrences, len(next_tokens), ones, twos, more, int(counts.max()))


class _Before:
    """The token before the context of each place of an index, as a sequence for binary search."""

    def __init__(self, index: ContextIndex, order: int) -> None:
        self.index = index
        self.order = order

    def __len__(self) -> int:
        return len(self.index.places)

    def __getitem__(self, place: int) -> int:
        return int(self.index.tokens[int(self.index.places[place]) - 1 - self.order])


def _merge(old: NDArray[Any], added: NDArray[Any], is_added: NDArray[np.bool_]) -> NDArray[Any]:
    """Merge two arrays. The elements of the second one get the places that `is_added` names."""
    merged = np.empty(len(is_added), dtype=old.dtype)
    merged[~is_added] = old
    merged[is_added] = added
    return merged


def document_digest(tokens: NDArray[np.integer]) -> bytes:
    """The hash by which an index tells documents apart. `tokens` have the type of the tokenizer."""
    return blake2b(tokens.tobytes(), digest_size=DIGEST_BYTES).digest()
