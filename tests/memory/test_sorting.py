"""Tests of sorting by contexts: the results are those of simple programs."""

from __future__ import annotations

import numpy as np
import pytest

from git_starcoder.memory.sorting import KEY_BITS, MAX_ORDER, find_order, shared_context, sort_contexts

END = 0


def random_text(seed: int, vocab_size: int) -> np.ndarray:
    """Some documents, each after an end token; parts of them are repeated, so that contexts are long."""
    generator = np.random.default_rng(seed)
    parts = [generator.integers(0, vocab_size, generator.integers(0, 30)) for _ in range(3)]
    text = np.concatenate([part for number in generator.integers(0, 3, 8) for part in ([END], parts[number])])
    return text.astype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def context(text: np.ndarray, place: int) -> list[int]:
    """The tokens before a place, the nearest first, up to an end token."""
    before = text[max(0, place - MAX_ORDER) : place][::-1].tolist()
    return before[: before.index(END) + 1] if END in before else before


def shared_length(left: list[int], right: list[int]) -> int:
    """How many elements two lists have in common at their beginnings."""
    pairs = zip(left, right, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))


@pytest.mark.parametrize("bits", [1, 8, 40, 55, KEY_BITS - 1])
@pytest.mark.parametrize("count", [0, 1, 2, 300, 5000])
def test_the_order_is_that_of_a_stable_sort(bits: int, count: int) -> None:
    keys = np.random.default_rng(bits).integers(0, 1 << bits, count)
    keys[count // 2 :] = keys[: count - count // 2]
    assert np.array_equal(find_order(keys), np.argsort(keys, kind="stable"))


@pytest.mark.parametrize("vocab_size", [3, 4096, 150_000, 1 << 32])
@pytest.mark.parametrize("seed", range(5))
def test_places_are_sorted_by_the_tokens_before_them(vocab_size: int, seed: int) -> None:
    text = random_text(seed, vocab_size)
    places = range(1, len(text))
    found = [place for place in sort_contexts(text, END).tolist() if place]
    assert found == sorted(places, key=lambda place: context(text, place))  # which keeps the order of equal contexts


@pytest.mark.parametrize("pairs", [0, 2, 400])  # few pairs are compared in another way
@pytest.mark.parametrize("vocab_size", [3, 4096, 150_000, 1 << 32])
@pytest.mark.parametrize("seed", range(5))
def test_two_places_share_the_tokens_before_them_up_to_the_end_of_a_text(
    vocab_size: int, seed: int, pairs: int
) -> None:
    text = random_text(seed, vocab_size)
    places = np.random.default_rng(seed).permutation(np.arange(1, len(text))).astype(np.uint32)
    one, other = (np.random.default_rng(number).integers(0, len(places), pairs) for number in (seed, seed + 100))
    expected = [
        shared_length(context(text, int(places[left])), context(text, int(places[right])))
        for left, right in zip(one, other, strict=True)
    ]
    assert pairs < 400 or max(expected) > 1
    assert shared_context(text, places, one, other, END).tolist() == expected
