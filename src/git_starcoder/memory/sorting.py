"""Sorts the places of a text by the tokens before them, and says how many of these tokens two places share.

Both pack what belongs together into one integer: a key and its place, because numpy sorts integers several times faster
than it finds the order of keys; and several tokens, because they are compared at the cost of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

MAX_ORDER = 16
"""The longest context that is told apart, in tokens; 24 tokens gain less than a thousandth of the bits."""
KEY_BITS = 63
"""The bits of a sorted integer, without its sign."""
PAIRS_AT_ONCE = 1 << 18
"""The number of pairs of places that are compared at once, so that intermediate arrays stay small."""


def sort_contexts(tokens: NDArray[np.integer], end_token: int) -> NDArray[np.uint32]:
    """Sort the places of a text by their contexts of up to `MAX_ORDER` tokens; equal contexts keep their order.

    By prefix doubling (Manber and Myers, 1993): the ranks of contexts of n tokens give those of 2 n tokens. Ranks are
    made smaller by sorting only when two of them do not fit into `KEY_BITS`.
    """
    if not len(tokens):
        return np.empty(0, dtype=np.uint32)
    ranks = tokens.astype(np.int64) + 1  # of the context that ends with each token
    reaches_end = tokens == end_token
    length = 1
    while length < MAX_ORDER:
        bits = int(ranks.max()).bit_length()
        if 2 * bits > KEY_BITS:
            order = find_order(ranks)
            ranks = ranks[order]
            is_next = np.append(True, ranks[1:] > ranks[:-1])
            ranks[order] = np.cumsum(is_next)
            del order, is_next
            bits = int(ranks.max()).bit_length()
        farther = np.where(reaches_end[length:], 0, ranks[:-length])
        ranks <<= bits
        ranks[length:] |= farther
        del farther
        reaches_end[length:] |= reaches_end[:-length].copy()
        length *= 2
    ranks[1:] = ranks[:-1].copy()  # the place after a token has the context that ends with the token
    return find_order(ranks)


def find_order(keys: Integers) -> NDArray[np.uint32]:
    """Return what `np.argsort(keys, kind="stable")` returns, but faster. Keys are not negative.

    Each key is followed by its place in one integer, and these integers are sorted:

        keys 3 1 3 0      with places 3:0 1:1 3:2 0:3      sorted 0:3 1:1 3:0 3:2      order 3 1 0 2

    Where both do not fit into `KEY_BITS`, places are sorted by the last bits of the keys, and then by those before.
    """
    place_bits = (len(keys) - 1).bit_length()
    digit_bits = KEY_BITS - place_bits
    order = places = np.arange(len(keys), dtype=np.uint32)
    for shift in range(0, int(keys.max(initial=0)).bit_length(), digit_bits):
        packed = keys[order] >> shift
        packed <<= place_bits
        packed &= (1 << KEY_BITS) - 1
        packed |= places
        packed.sort()
        packed &= (1 << place_bits) - 1
        order = order[packed]
    return order


def shared_context(
    tokens: NDArray[np.integer], places: NDArray[np.integer], one: Integers, other: Integers, end_token: int
) -> NDArray[np.int8]:
    """How many tokens before two places are equal, at most `MAX_ORDER`, up to the first end-of-text token.

    `one` and `other` are indices of `places`, shape (pairs,).
    """
    if 2 * len(one) * (MAX_ORDER + 1) < len(tokens):  # few pairs: a text of nothing but their contexts is shorter
        ends = places[np.concatenate((one, other))].astype(np.int64)
        tokens = tokens[np.maximum(ends[:, None] - np.arange(MAX_ORDER, -1, -1), 0)].ravel()
        places = np.arange(MAX_ORDER, len(tokens), MAX_ORDER + 1)
        one, other = np.arange(len(one)), np.arange(len(one), len(places))
    packed, width = _pack_tokens_before(tokens)
    highest = [np.uint64(1 << (64 - 64 // width * count)) for count in range(1, width + 1)]
    limits = _distances_to_end(tokens, end_token)
    shared = np.zeros(len(one), dtype=np.int8)
    for first in range(0, len(one), PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        left, right = places[one[part]].astype(np.int64), places[other[part]].astype(np.int64)
        live, lengths = np.arange(len(left)), shared[part]
        for before in range(0, MAX_ORDER, width):
            # Places before the text stand for the first one: no context reaches there, see `limits`.
            differ = packed.take(np.maximum(left[live] - before, 0)) ^ packed.take(np.maximum(right[live] - before, 0))
            lengths[live] += sum((differ < limit).view(np.int8) for limit in highest)
            live = live[differ == 0]
        np.minimum(lengths, limits[left], out=lengths)
    return shared


def _pack_tokens_before(tokens: NDArray[np.integer]) -> tuple[NDArray[np.uint64], int]:
    """Put as many tokens as 64 bits hold into one number for each place: those before it, the nearest on top.

    Of two such numbers, the highest bits that differ say how many of the nearest tokens are equal. Returns the numbers
    and how many tokens are in each.
    """
    bits = 8 * tokens.itemsize
    packed = np.zeros(len(tokens), dtype=np.uint64)
    for before in range(1, 64 // bits + 1):
        packed[before:] |= np.left_shift(tokens[:-before], 64 - bits * before, dtype=np.uint64)
    return packed, 64 // bits


def _distances_to_end(tokens: NDArray[np.integer], end_token: int) -> NDArray[np.int8]:
    """How many tokens before each place the nearest end-of-text token is, or `MAX_ORDER` if it is farther away."""
    ends = np.flatnonzero(tokens == end_token)
    distances = np.full(len(tokens), MAX_ORDER, dtype=np.int8)
    for distance in range(MAX_ORDER, 0, -1):
        distances[ends[ends < len(tokens) - distance] + distance] = distance
    return distances
