"""Containment: parts are found in wholes, boilerplate connects nothing."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.hashing.containment import find_contained, sample_shingles
from git_starcoder.hashing.near_duplicates import CONTAINMENT_RATE
from git_starcoder.hashing.texts import TextShingles


def text(seed, words=600):
    random = Random(seed)
    return " ".join(f"w{random.randrange(50_000)}" for _ in range(words)).encode()


def contained(texts, threshold):
    sample = sample_shingles(TextShingles.from_texts(texts), CONTAINMENT_RATE)
    numbers = np.arange(len(texts))
    return find_contained([sample], [numbers], threshold, numbers)


def pairs(texts, threshold=0.5):
    found = contained(texts, threshold)
    return list(zip(found.part.tolist(), found.whole.tolist(), strict=True))


def test_a_chapter_stands_in_its_book():
    chapters = [text(seed) for seed in range(6)]
    assert pairs([*chapters, b"\n".join(chapters)]) == [(number, 6) for number in range(6)]


def test_the_share_is_that_of_the_part():
    part, other = text(1, 2000), text(2, 2000)
    found = contained([part, part[: len(part) // 4] + other], 0.1)
    assert found.part.tolist() == [0, 1]
    assert abs(found.share[0] - 0.25) < 0.08
    assert abs(found.share[1] - 0.2) < 0.08


def test_what_everyone_has_connects_no_one():
    licence = text(0)
    assert pairs([licence + text(seed, 200) for seed in range(1, 40)]) == []


def test_small_files_are_left_to_similarity():
    assert pairs([text(1, 40), text(1, 40) + text(2)]) == []


def test_nothing_and_no_shingles():
    assert pairs([]) == []
    assert pairs([b"", b"one two"]) == []


@given(st.permutations(range(9)))
def test_the_order_of_documents_changes_nothing(order):
    texts = [text(seed) for seed in range(7)]
    texts += [b"\n".join(texts[:3]), b"\n".join(texts[3:5]) + text(9)]
    place = np.argsort(order)
    expected = sorted((int(place[a]), int(place[b])) for a, b in pairs(texts))
    assert pairs([texts[index] for index in order]) == expected
