"""Copies are found whatever their lines are wrapped in, and nothing else is."""

from __future__ import annotations

import random
import string
from itertools import combinations, pairwise

import numpy as np
import pytest

from git_starcoder.hashing import containment
from git_starcoder.hashing.arrays import connect_components
from git_starcoder.hashing.near_duplicates import describe_texts, find_copies, find_copies_in
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


def in_parts(texts, counts, threshold):
    """The same search with the texts in several parts."""
    edges = np.cumsum([0, *counts])
    parts, numbers = [], []
    for begin, end in pairwise(edges.tolist()):
        some = texts[begin:end]
        parts.append(describe_texts(TextShingles.from_texts(some), HashedLines.from_texts(some)))
        numbers.append(np.arange(begin, end))
    return find_copies_in(parts, numbers, threshold)


def test_texts_in_parts_are_connected_as_texts_in_one(monkeypatch):
    chance = random.Random(4)
    lines = [" ".join(chance.choices(string.ascii_lowercase, k=9)) for _ in range(900)]
    texts = ["\n".join(lines[start : start + 60]).encode() for start in range(0, 600, 60)]
    texts += [
        texts[3] + b"\nmore of it " * 9,
        texts[5] + texts[6],
        b"\n".join(b"> " + line for line in texts[8].split(b"\n")),
    ]
    whole = find_copies(TextShingles.from_texts(texts), HashedLines.from_texts(texts), 0.5)
    monkeypatch.setattr(containment, "SORTED_SHINGLES", 100)
    for counts in ([13], [4, 9], [10, 1, 1, 1]):
        found = in_parts(texts, counts, 0.5)
        connected = [connect_components(np.arange(13), pairs.left, pairs.right).tolist() for pairs in (whole, found)]
        assert connected[0] == connected[1]
    assert len(set(connected[0])) == 9


def test_a_family_of_forks_does_not_become_boilerplate():
    chance = random.Random(4)
    lines = [" ".join(chance.choices(string.ascii_lowercase, k=9)) for _ in range(100)]
    versions = [[*lines, f"a line of version {number} and nothing else"] for number in range(20)]
    book = [" ".join(chance.choices(string.ascii_lowercase, k=9)) for _ in range(300)] + lines
    texts = ["\n".join(version).encode() for version in (*versions, book)]
    found = in_parts(texts, [1] * 21, 0.5)
    assert set(connect_components(np.arange(21), found.left, found.right).tolist()) == {0}


def test_what_a_page_of_a_large_family_copied_is_found():
    """Its template is most of each page, and boilerplate; the other file has all the rest of one page."""
    chance = random.Random(5)

    def draw(count):
        return [" ".join(chance.choices(string.ascii_lowercase, k=9)) for _ in range(count)]

    template = draw(300)
    own = [draw(100) for _ in range(20)]
    pages = ["\n".join((*template, *lines)).encode() for lines in own]
    other = "\n".join((*draw(200), *own[7])).encode()
    found = in_parts([*pages, other], [20, 1], 0.5)
    assert {*zip(found.left.tolist(), found.right.tolist(), strict=True)} >= {(0, 1), (7, 20)}
    assert sum(found.search_counts.values()) == len(found.left)
    contained = [*zip(found.left.tolist(), found.right.tolist(), strict=True)][found.search_counts["near_duplicate"] :]
    halves = np.split(np.array(contained), [found.search_counts["contained"]])
    assert all(len(np.unique(half, axis=0)) == len(half) for half in halves if len(half))
