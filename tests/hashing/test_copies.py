"""Copies are found whatever their lines are wrapped in, and nothing else is."""

from __future__ import annotations

from itertools import combinations

import pytest

from git_starcoder.hashing.near_duplicates import find_copies
from git_starcoder.hashing.texts import HashedLines, TextShingles
from wrapped import WRAPS, code


def pairs(texts, threshold=0.5):
    texts = [text.encode() for text in texts]
    found = find_copies(TextShingles.from_texts(texts), HashedLines.from_texts(texts), threshold)
    return {(min(pair), max(pair)) for pair in zip(found.left.tolist(), found.right.tolist(), strict=True)}


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_wrapped_copy_is_alike(wrap):
    found = pairs([code(1), WRAPS[wrap](code(1)), code(2), WRAPS[wrap](code(3, functions=3))])
    assert (0, 1) in found
    assert found <= {(0, 1), (1, 3)}  # two pages of the same markup may look alike


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_wrapped_copy_is_alike_where_it_was_edited(wrap):
    lines = code(1, functions=10).split("\n")
    lines[20:30] = code(9, functions=2).split("\n")[:10]
    assert pairs([code(1, functions=10), WRAPS[wrap]("\n".join(lines)), code(2)]) == {(0, 1)}


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_wrapped_copy_is_found_in_a_book(wrap):
    book = "\n".join(WRAPS[wrap](code(seed)) for seed in range(4, 12))
    assert pairs([code(5), book, code(2)]) == {(0, 1)}


def test_copies_in_different_wraps_are_alike():
    some = ("quoted mail", "C string table", "HTML with a tag per line", "JSON array of lines", "println", "patch")
    texts = [WRAPS[wrap](code(1)) for wrap in some]
    for left, right in combinations(range(len(texts)), 2):
        assert pairs([texts[left], texts[right], code(2)]) == {(0, 1)}, (some[left], some[right])


def test_different_files_with_the_same_wrap_are_not():
    for wrap in WRAPS.values():
        assert pairs([wrap(code(seed)) for seed in range(20)]) == set()
