"""Tests of the index of contexts: its counts are those of a simple program, however the index came about."""

from __future__ import annotations

import weakref
from collections import Counter, defaultdict

import numpy as np
import pytest

from git_starcoder.memory import contexts, neighbours
from git_starcoder.memory.contexts import ARRAYS, MIN_CACHED_PLACES, ContextIndex, document_digest
from git_starcoder.memory.sorting import MAX_ORDER

END = 0


def random_documents(seed: int, count: int = 6, vocab_size: int = 4) -> list[np.ndarray]:
    """Documents of few different tokens, so that contexts repeat; some are equal, some empty, some without an end."""
    generator = np.random.default_rng(seed)
    documents = []
    for _ in range(count):
        text = generator.integers(1, vocab_size, generator.integers(0, 40))
        documents.append(np.append(text, END) if generator.random() < 0.7 else text)
    return [*documents, documents[0]]


def simple_counts(documents: list[np.ndarray], context: tuple[int, ...]) -> tuple[Counter[int], int]:
    """The counts of the tokens after a context by their definition, and how often the context occurs."""
    occurrences: list[tuple[int, object]] = []  # the next token, and what is before the context
    for number, document in enumerate(documents):
        text = [END, *document.tolist()]
        for place in range(max(1, len(context)), len(text)):
            begin = place - len(context)
            if tuple(text[begin:place]) == context and END not in context[1:]:
                # Before the beginning of a document is nothing, which is different for each document.
                is_longest = len(context) == MAX_ORDER or context[:1] == (END,)
                occurrences.append((text[place], (number, place) if is_longest else text[begin - 1]))
    before = defaultdict[int, set[object]](set)
    for token, left in occurrences:
        before[token].add(left)
    return Counter({token: len(lefts) for token, lefts in before.items()}), len(occurrences)


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_those_of_their_definition(seed: int) -> None:
    documents = random_documents(seed)
    index = ContextIndex.build(documents, 4, END)
    text = np.concatenate(([END], np.random.default_rng(seed).integers(1, 4, 20), documents[1][:15]))
    at = np.arange(1, len(text))
    counts = index.counts(text, at)
    for row, place in enumerate(at.tolist()):
        following = index.following(text[:place].tolist())
        for order in range(MAX_ORDER + 1):
            context = tuple(text[max(0, place - order) : place].tolist())
            expected, occurrences = simple_counts(documents, context) if order <= place else (Counter[int](), 0)
            sizes = expected.values()
            assert counts.occurrences[row, order] == occurrences
            assert counts.target[row, order] == expected[int(text[place])]
            assert counts.total[row, order] == sum(sizes)
            assert counts.ones[row, order] == sum(size == 1 for size in sizes)
            assert counts.twos[row, order] == sum(size == 2 for size in sizes)
            assert counts.more[row, order] == sum(size > 2 for size in sizes)
            assert counts.largest[row, order] == max(sizes, default=0)
            if occurrences:
                found = dict(zip(following[order].tokens.tolist(), following[order].counts.tolist(), strict=True))
                assert found == expected
                assert following[order].occurrences == occurrences
            else:
                assert len(following) <= order


@pytest.fixture(params=["sorted", "scanned", "scanned near", "moved by a table"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways in which an update may be computed; which is chosen depends on how much changes."""
    if request.param.startswith("scanned"):
        monkeypatch.setattr(contexts, "MAX_SCANNED_SHARE", 1e9)
        monkeypatch.setattr(neighbours, "FIRST_WINDOW", 1)
        monkeypatch.setattr(neighbours, "MAX_SEEN", 0 if request.param == "scanned" else 64)
    else:
        monkeypatch.setattr(contexts, "MAX_SCANNED_SHARE", 0)
    if request.param == "moved by a table":
        monkeypatch.setattr(neighbours, "FEW_STEPS", 0)


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("vocab_size", [4, 200_000])
@pytest.mark.parametrize("seed", range(4))
def test_an_update_gives_the_same_index_as_a_build(seed: int, vocab_size: int) -> None:
    documents, others = random_documents(seed), random_documents(seed + 100)
    later = [documents[3], documents[0], *others[:3], np.arange(vocab_size - 20, vocab_size), documents[0]]
    updated = ContextIndex.build(documents, vocab_size, END).update(later)
    built = ContextIndex.build(later[::-1], vocab_size, END)
    for name in ARRAYS:
        assert np.array_equal(getattr(updated, name), getattr(built, name)), name
    assert updated.tokens.dtype == (np.uint16 if vocab_size == 4 else np.uint32)


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("seed", range(20))
def test_many_small_updates_give_the_same_index_as_a_build(seed: int) -> None:
    generator = np.random.default_rng(seed)
    pool = [*random_documents(seed, 12), *random_documents(seed + 1, 6, 40)]
    held = pool[:9]
    index = ContextIndex.build(held, 40, END)
    for _ in range(6):
        held = [each for each in held if generator.random() < 0.8]
        held += [pool[number] for number in generator.integers(0, len(pool), generator.integers(0, 3))]
        index = index.update(held, [document_digest(each.astype(np.uint16)) for each in held])
        built = ContextIndex.build(held, 40, END)
        for name in ARRAYS:
            assert np.array_equal(getattr(index, name), getattr(built, name)), name
            assert getattr(index, name).dtype == getattr(built, name).dtype


@pytest.mark.usefixtures("ways")
def test_an_update_to_nothing_and_back() -> None:
    documents = random_documents(1)
    index = ContextIndex.build(documents, 4, END)
    empty = index.update([])
    assert len(empty.places) == 0
    assert empty.counts(np.array([END, 1, 2]), np.array([1, 2])).total.sum() == 0
    again = empty.update(documents)
    assert all(np.array_equal(getattr(again, name), getattr(index, name)) for name in ARRAYS)


def test_what_follows_a_context_is_copied_up_to_the_end_of_its_document() -> None:
    index = ContextIndex.build([np.array([1, 2, 3, 4, 5, END]), np.array([7, 3, 6])], 8, END)
    *_, longest = index.following([END, 1, 2, 3])
    assert index.copy_after(longest, 8) == [4, 5, END]
    assert index.copy_after(longest, 1) == [4]


def test_an_old_index_is_not_kept_by_what_was_counted_in_it() -> None:
    documents = [np.tile([1, 2, 3], MIN_CACHED_PLACES)]
    index = ContextIndex.build(documents, 4, END)
    counted = index.following([END])
    assert index.following([END])[0] is counted[0]
    old = weakref.ref(index)
    index = index.update([*documents, np.array([3, 2, 1])])
    assert index.following([END])[0].total > 0
    assert old() is None
