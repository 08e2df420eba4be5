"""Near-duplicates: a threshold is a Jaccard similarity, found whatever the bands, cheap on a thousand copies."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.hashing import bands, near_duplicates
from git_starcoder.hashing.bands import band_shape
from git_starcoder.hashing.near_duplicates import (
    describe_texts,
    find_copies_in,
    find_keepers,
    find_similar_pairs,
)
from git_starcoder.hashing.texts import HashedLines, TextShingles, WindowShingles


def sets(shingles):
    """Each document as a set of shingles."""
    flat, offsets = shingles.gather(np.arange(len(shingles.shingle_counts())))
    return [set(flat[start:stop].tolist()) for start, stop in itertools.pairwise(offsets)]


def jaccard(a, b):
    return len(a & b) / len(a | b) if a | b else 0.0


def windows(documents, salt=None):
    """Lists of token ids as windows of one array."""
    length = np.array([len(document) for document in documents], dtype=np.int64)
    flat = np.array([token for document in documents for token in document], dtype=np.uint16)
    first = np.concatenate(([0], np.cumsum(length)))[:-1].astype(np.int64)
    return WindowShingles(flat, first, length, np.array(salt or [0] * len(documents), dtype=np.uint64))


def family(chance, count, size=120, most=0.6):
    """Documents made from few originals, each with some of its tokens replaced."""
    originals = [[chance.randrange(3000) for _ in range(size)] for _ in range(max(1, count // 8))]
    documents = []
    for _ in range(count):
        document = list(chance.choice(originals))
        for _ in range(int(chance.random() ** 3 * most * size)):
            document[chance.randrange(size)] = chance.randrange(3000)
        documents.append(document)
    return documents


def chain(chance, count, size=120):
    """Documents that each differ from the one before in a few tokens."""
    document = [chance.randrange(3000) for _ in range(size)]
    documents = []
    for _ in range(count):
        document = list(document)
        document[chance.randrange(size)] = chance.randrange(3000)
        documents.append(document)
    return documents


def components(count, pairs):
    name = list(range(count))
    for left, right in pairs:
        name = [name[left] if other == name[right] else other for other in name]
    return {frozenset(i for i in range(count) if name[i] == one) for one in name}


def nothing_spared(left, _right):
    return np.zeros(len(left), dtype=np.bool_)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.85, 0.95, 1.0])
def test_links_connect_what_all_pairs_connect(threshold):
    documents = windows(family(random.Random(3), 300))
    content = sets(documents)
    alike = [(i, j) for i, j in itertools.combinations(range(300), 2) if jaccard(content[i], content[j]) >= threshold]
    found = find_similar_pairs(documents, threshold)
    pairs = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert found.is_exact
    assert pairs == sorted(set(pairs))
    assert all(left < right for left, right in pairs)
    for (left, right), similarity in zip(pairs, found.similarity, strict=True):
        assert similarity == pytest.approx(jaccard(content[left], content[right]), abs=1e-12)
        assert similarity >= threshold
    assert components(300, pairs) == components(300, alike)
    assert len(alike) > 10 or threshold == 1


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85, 1.0])
@pytest.mark.parametrize("rounds", [0, 1, 32])
def test_keepers_are_what_a_plain_walk_keeps(threshold, rounds, monkeypatch):
    monkeypatch.setattr(near_duplicates, "MAX_ROUNDS", rounds)
    documents = windows(family(random.Random(4), 200) + chain(random.Random(5), 100))
    content = sets(documents)
    kept, expected = [], []
    for number, own in enumerate(content):
        like = [other for other in kept if jaccard(content[other], own) >= threshold]
        expected.append(like)
        if not like:
            kept.append(number)
    found = find_keepers(documents, threshold, nothing_spared)
    assert np.flatnonzero(found.keeper < 0).tolist() == kept
    for number, like in enumerate(expected):
        assert not like or found.keeper[number] in like
        if like:
            assert found.similarity[number] == pytest.approx(jaccard(content[found.keeper[number]], content[number]))
    assert found.limited == 0


def test_spared_pairs_are_not_compared():
    document = list(range(50))
    copies = windows([document] * 6)
    assert find_keepers(copies, 0.85, nothing_spared).keeper.tolist() == [-1, 0, 0, 0, 0, 0]
    neighbours = find_keepers(copies, 0.85, lambda left, right: right - left < 2)
    assert neighbours.keeper.tolist() == [-1, -1, 0, 0, 0, 0]
    assert find_keepers(copies, 0.85, lambda left, _right: left >= 0).compared == 0


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0])
def test_bands_are_as_long_as_the_recall_allows(threshold):
    count, rows = band_shape(threshold)
    assert count * rows <= bands.PERMUTATIONS
    assert 1 - (1 - threshold**rows) ** count >= bands.MIN_RECALL
    longer = bands.PERMUTATIONS // (rows + 1)
    assert longer == 0 or 1 - (1 - threshold ** (rows + 1)) ** longer < bands.MIN_RECALL


def test_recall_at_the_threshold_is_what_is_promised():
    chance = random.Random(5)
    documents = []
    for number in range(
        400
    ):  # 100 shingles each, of which the pair shares 74: 0.587, the recall of 0.58 is lowest there
        words = [number * 150 + i for i in range(104)]
        documents += [words, words[:78] + [60000 + chance.randrange(5000) for _ in range(26)]]
    found = find_similar_pairs(windows(documents), 0.58)
    pairs = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert sum((2 * n, 2 * n + 1) in pairs for n in range(400)) >= 396


def test_thousands_of_copies_cost_as_many_comparisons(monkeypatch):
    counted = []
    exact = bands.BandIndex.similarity
    monkeypatch.setattr(
        bands.BandIndex, "similarity", lambda self, a, b: (counted.append(len(a)), exact(self, a, b))[1]
    )
    copies = windows([list(range(40 + n % 3)) for n in range(3000)])
    assert len(find_similar_pairs(copies, 0.5).left) == 2999
    assert sum(counted) == 2999
    assert find_keepers(copies, 0.85, nothing_spared).compared == 2999


def test_a_crowd_of_half_alike_documents_costs_little_and_says_so(monkeypatch):
    crowd = windows([[*range(60), *range(1000 + n * 20, 1020 + n * 20)] for n in range(200)])  # 56 of 96: 0.58
    assert find_similar_pairs(crowd, 0.6).is_exact
    monkeypatch.setattr(near_duplicates, "MAX_PROPOSALS", 1000)
    assert not find_similar_pairs(crowd, 0.6).is_exact
    monkeypatch.undo()
    monkeypatch.setattr(near_duplicates, "MAX_COMPARED_SHINGLES", 1000)
    estimated = find_similar_pairs(crowd, 0.6)
    assert not estimated.is_exact
    assert len(estimated.left) > 0
    monkeypatch.setattr(near_duplicates, "MAX_COMPARISONS", 3)
    found = find_keepers(crowd, 0.6, nothing_spared)
    assert found.limited > 0
    assert found.keeper.tolist() == [-1] * 200
    assert found.compared <= 200 * (3 + band_shape(0.6)[0])
    monkeypatch.undo()
    monkeypatch.setattr(near_duplicates, "MAX_BUCKET_NEIGHBOURS", 2)
    monkeypatch.setattr(near_duplicates, "MAX_ROUNDS", 1)
    assert find_keepers(crowd, 0.6, nothing_spared).limited > 0


def test_short_documents_are_near_nothing():
    documents = windows([[], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]])
    found = find_similar_pairs(documents, 0.5)
    assert (found.left.tolist(), found.right.tolist()) == ([3], [4])
    assert find_keepers(documents, 0.5, nothing_spared).keeper.tolist() == [-1, -1, -1, -1, 3]
    for empty in (windows([]), windows([[1]]), TextShingles.from_texts([]), TextShingles.from_texts([b"", b" "])):
        assert len(find_similar_pairs(empty, 0.5).left) == 0
        assert (find_keepers(empty, 0.5, nothing_spared).keeper == -1).all()


def test_salt_parts_windows():
    assert len(find_similar_pairs(windows([[1, 2, 3, 4, 5, 6]] * 2, salt=[1, 2]), 0.1).left) == 0
    assert len(find_similar_pairs(windows([[1, 2, 3, 4, 5, 6]] * 2, salt=[2, 2]), 0.1).left) == 1


@given(st.lists(st.integers(0, 3), max_size=60), st.data())
def test_a_window_has_the_shingles_of_its_tokens_wherever_it_lies(tokens, data):
    spans = data.draw(st.lists(st.tuples(st.integers(0, len(tokens)), st.integers(0, len(tokens))).map(sorted)))
    first = np.array([start for start, _ in spans], dtype=np.int64)
    length = np.array([stop - start for start, stop in spans], dtype=np.int64)
    shingles = WindowShingles(np.array(tokens, dtype=np.uint16), first, length, np.zeros(len(spans), dtype=np.uint64))
    together, apart = sets(shingles), []
    for number in range(len(spans)):
        flat, offsets = shingles.gather(np.array([number]))
        assert offsets.tolist() == [0, len(flat)]
        apart.append(set(flat.tolist()))
    assert together == apart
    fives = [{tuple(tokens[at : at + 5]) for at in range(start, stop - 4)} for start, stop in spans]
    for (a, own), (b, other) in itertools.combinations(zip(together, fives, strict=True), 2):
        assert (len(a), len(a & b)) == (len(own), len(own & other))


WORDS = st.lists(st.sampled_from(["a", "ab", "x_1", "é", "(", "+=", ");", " ", "\n", "\t"]), max_size=40).map("".join)


def plain_tokens(text):
    """Tokens of a text, one byte at a time."""
    tokens, last = [], ""
    for byte in text.encode():
        word = byte >= 0x80 or chr(byte).isalnum() or byte == ord("_")
        kind = " " if byte <= 32 else "w" if word else "+"
        if kind == last and kind != " ":
            tokens[-1] += bytes([byte])
        elif kind != " ":
            tokens.append(bytes([byte]))
        last = kind
    return tokens


@given(st.lists(WORDS, max_size=6), st.sampled_from([1, 20, 1 << 20]))
def test_texts_have_the_shingles_of_their_tokens_whatever_the_batch(texts, batch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("git_starcoder.hashing.texts.TEXT_BATCH_BYTES", batch)
        content = sets(TextShingles.from_texts(text.encode() for text in texts))
    tokens = [plain_tokens(text) for text in texts]
    fives = [{tuple(own[at : at + 5]) for at in range(len(own) - 4)} for own in tokens]
    assert len(content) == len(fives)
    for (a, own), (b, other) in itertools.combinations_with_replacement(zip(content, fives, strict=True), 2):
        assert (len(a), len(a & b)) == (len(own), len(own & other))


def test_layout_is_not_content():
    texts = [b"if (a) { return b + c; }", b"if\n(a)\t{ return   b + c;\r\n}", b"if (a) { return b - c; }"]
    a, b, c = sets(TextShingles.from_texts(texts))
    assert a == b != c


def test_results_do_not_depend_on_the_size_of_chunks(monkeypatch):
    documents = windows(family(random.Random(6), 100))
    whole = find_similar_pairs(documents, 0.5), find_keepers(documents, 0.5, nothing_spared)
    for module in (bands, near_duplicates):
        monkeypatch.setattr(module, "CHUNK_SHINGLES", 200)
    parts = find_similar_pairs(documents, 0.5), find_keepers(documents, 0.5, nothing_spared)
    assert components(100, zip(whole[0].left, whole[0].right, strict=True)) == components(
        100, zip(parts[0].left, parts[0].right, strict=True)
    )
    assert whole[1].keeper.tolist() == parts[1].keeper.tolist()


@pytest.mark.parametrize("cells", [200, 1 << 18])
def test_nothing_is_lost_where_only_what_shares_a_bucket_is_looked_at(monkeypatch, cells):
    """At 0.95 the bands take up whole signatures, and rensa's index says who shares a bucket."""
    count, rows = bands.band_shape(0.95)
    assert count * rows == bands.PERMUTATIONS
    chance = random.Random(7)
    texts = [[chance.randrange(60000) for _ in range(150)] for _ in range(60)]
    copies = [[*text[:149], 7] for text in texts]  # 1 of 146 shingles is another: similarity 0.986
    for module in (bands, near_duplicates):
        monkeypatch.setattr(module, "CHUNK_SHINGLES", cells)
    found = find_keepers(windows([*texts, *copies]), 0.95, nothing_spared).keeper.tolist()
    assert found == [-1] * 60 + list(range(60))


def test_windows_of_another_salt_are_never_alike():
    chance = random.Random(8)
    texts = [[chance.randrange(60000) for _ in range(150)] for _ in range(60)]
    documents = windows(texts * 3, salt=[1 + at % 3 for at in range(60)] * 2 + [10 + at for at in range(60)])
    found = find_keepers(documents, 0.95, nothing_spared).keeper.tolist()
    assert found == [-1] * 60 + list(range(60)) + [-1] * 60


def test_keys_of_a_part_are_those_of_the_whole():
    documents = windows(family(random.Random(9), 40))
    whole = bands.band_keys(documents, 0.9)
    some = WindowShingles(documents.tokens, documents.first[7:19], documents.length[7:19], documents.salt[7:19])
    assert np.array_equal(bands.band_keys(some, 0.9), whole[7:19])
    assert (
        find_keepers(documents, 0.9, nothing_spared, whole).keeper.tolist()
        == find_keepers(documents, 0.9, nothing_spared).keeper.tolist()
    )


def test_a_small_near_duplicate_does_not_hide_a_copy_of_its_larger_one():
    """The copy with a number before each line shares no five tokens with its original, only the words of its lines."""
    lines = [f"alpha{number} beta{number} gamma{number} delta{number}" for number in range(10)]
    texts = [
        "\n".join(lines),
        "\n".join(lines[:7]),
        "\n".join(f"// {number} {line} ;" for number, line in enumerate(lines)),
    ]
    other = ["\n".join(f"one{number} two{number} three{number} four" for number in range(9))]

    def describe(texts):
        data = [text.encode() for text in texts]
        return describe_texts(TextShingles.from_texts(data), HashedLines.from_texts(data))

    found = find_copies_in([describe(texts), describe(other)], [np.arange(3), np.array([3])], 0.5)
    assert found.search_counts["near_duplicate"] == 1
    assert {*zip(found.left.tolist(), found.right.tolist(), strict=True)} >= {(0, 1), (0, 2)}
