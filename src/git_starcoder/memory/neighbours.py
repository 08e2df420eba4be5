"""What an update of an index has to find out about places: where they are now, and which have got other neighbours."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

GONE = np.iinfo(np.int64).min // 2
"""The move of a document that is gone."""
FEW_STEPS = 12
"""If no more documents than this move otherwise than the one before them, places are moved without a table."""
FIRST_WINDOW, MAX_SEEN = 16, 1 << 21
"""How many places are looked at around each, at first, and around all of them at once, at most."""


def move_places(
    places: NDArray[np.uint32], starts: Integers, moves: Integers
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Move places with their documents, and say which are in documents that are not `GONE`.

    The documents begin at `starts`, and each moves by `moves`. If few of them change, most move by the same number as
    the one before: then it is a few sums over all places, in the order in which they are in memory.
    """
    steps = np.flatnonzero(np.diff(moves, prepend=0))  # the documents that move otherwise than the one before
    if len(steps) > FEW_STEPS:
        lengths = np.diff(starts, append=max(int(starts[-1]), int(places.max(initial=0))) + 1)
        by_token = np.repeat(moves, lengths)[places]
        return (places + by_token).astype(np.uint32), by_token != GONE
    moved, is_kept = places.copy(), np.ones(len(places), dtype=np.bool_)
    for first, last in pairwise([*steps.tolist(), len(moves)]):
        move = int(moves[first])
        is_inside = places >= int(starts[first])
        if last < len(moves):
            is_inside &= places < int(starts[last])
        if move == GONE:
            is_kept &= ~is_inside
        elif move:
            np.add(moved, np.uint32(move % (1 << 32)), out=moved, where=is_inside)  # a negative move wraps around
    return moved, is_kept


def sort_neighbours(
    next_tokens: NDArray[np.integer], new: Integers, gaps: Integers, gone_tokens: NDArray[np.integer]
) -> tuple[Integers, Integers]:
    """Find places that have got another neighbour among the places with the same next token, by sorting all places.

    Args:
        next_tokens: The next token of each place.
        new: The places that are new.
        gaps: For each place that is gone how many places are before it.
        gone_tokens: The next token of each place that is gone.

    Returns:
        The places that are new or come after one that is new or gone, and for each the place with the same next token
        before it, or -1.
    """
    order = np.argsort(next_tokens, kind="stable")
    counts = np.bincount(next_tokens, minlength=int(gone_tokens.max(initial=0)) + 1)
    ends = np.cumsum(counts)
    is_new = np.zeros(len(order), dtype=np.bool_)
    is_new[new] = True
    is_stale = is_new[order]
    is_stale[1:] |= is_stale[:-1].copy()
    previous = np.empty_like(order)
    previous[1:] = order[:-1]
    previous[(ends - counts)[counts > 0]] = -1
    if len(gaps) and len(order):
        # With the next tokens a, b, a, c, the order is 0, 2, 1, 3; the first a from place 1 on is place 2, at index 1.
        keys = np.repeat(np.arange(len(counts)) * (len(order) + 1), counts) + order
        found = np.searchsorted(keys, gone_tokens.astype(np.int64) * (len(order) + 1) + gaps)
        is_stale[found[found < ends[gone_tokens]]] = True
    return (order, previous) if is_stale.all() else (order[is_stale], previous[is_stale])


def scan_neighbours(
    next_tokens: NDArray[np.integer], new: Integers, gaps: Integers, gone_tokens: NDArray[np.integer]
) -> tuple[Integers, Integers]:
    """Do what `sort_neighbours` does, by looking around each of few places. The neighbour is mostly near."""
    begins = np.concatenate((new + 1, gaps))
    after = _find_token(next_tokens, begins, np.concatenate((next_tokens[new], gone_tokens)), step=1)
    chain = np.unique(np.concatenate((new, after[after >= 0])))
    return chain, _find_token(next_tokens, chain - 1, next_tokens[chain], step=-1)


def _find_token(next_tokens: NDArray[np.integer], begins: Integers, wanted: NDArray[np.integer], step: int) -> Integers:
    """Find the nearest place with a wanted next token, from each of `begins` on, or with a step of -1 back from it."""
    found = np.full(len(begins), -1, dtype=np.int64)
    live = np.flatnonzero((begins >= 0) & (begins < len(next_tokens)))
    offset, window = 0, FIRST_WINDOW
    while len(live) and len(live) * window <= MAX_SEEN:
        seen = begins[live, None] + step * np.arange(offset, offset + window)
        is_inside = (seen >= 0) & (seen < len(next_tokens))
        is_match = is_inside & (next_tokens[np.where(is_inside, seen, 0)] == wanted[live, None])
        is_found = is_match.any(axis=1)
        found[live[is_found]] = seen[is_found, is_match[is_found].argmax(axis=1)]
        live = live[~is_found & is_inside[:, -1]]
        offset, window = offset + window, window * 2
    if len(live):  # rare tokens, or rare around here: all places that have one of them
        is_wanted = np.zeros(int(max(next_tokens.max(), wanted.max())) + 1, dtype=np.bool_)
        is_wanted[wanted[live]] = True
        places = np.flatnonzero(is_wanted[next_tokens])
        keys = np.sort(next_tokens[places].astype(np.int64) * len(next_tokens) + places)
        key = wanted[live].astype(np.int64) * len(next_tokens) + begins[live]
        at = np.searchsorted(keys, key) if step > 0 else np.searchsorted(keys, key, side="right") - 1
        is_there = (at >= 0) & (at < len(keys))
        nearest = keys[np.where(is_there, at, 0)] if len(keys) else np.zeros(len(at), dtype=np.int64)
        is_there &= nearest // len(next_tokens) == wanted[live]
        found[live] = np.where(is_there, nearest % len(next_tokens), -1)
    return found
