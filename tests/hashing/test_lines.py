"""Lines as hashes of their words agree with lines as text."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.hashing import texts as module
from git_starcoder.hashing.texts import MAX_LINE_WORDS, MIN_LINE_BYTES, HashedLines, LineIndex
from wrapped import WRAPS, code

WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]+")

word = st.sampled_from([b"a", b"bb", b"cccccc", b"dddddddddd", b"eeeeeeeeeeeeeeeeeeee"])
line = st.lists(st.tuples(word, st.sampled_from([b" ", b".", b" + ", b"\t("])), max_size=9).map(
    lambda parts: b"".join(part for pair in parts for part in pair)
)
text = st.lists(line, max_size=6).map(b"\n".join)


def compared(text):
    """The lines of a text that count, as tuples of words."""
    found = [[*WORD.finditer(each)] for each in text.split(b"\n")]
    long = [words for words in found if words and words[-1].end() - words[0].start() >= MIN_LINE_BYTES]
    return [tuple(word[0] for word in words) for words in long]


def stands_in(phrase, words):
    if len(phrase) < 2:
        return phrase == words
    return any(words[at : at + len(phrase)] == phrase for at in range(len(words)))


@given(st.lists(text, max_size=5), st.lists(text, max_size=5))
def test_phrases_are_found_in_the_lines_that_have_their_words(these, others):
    wanted = {words for other in others for words in compared(other)}
    phrases, lines = LineIndex.from_lines(HashedLines.from_texts(others)), HashedLines.from_texts(these)
    assert len(phrases) == len(wanted)
    shown = lines.count_per_text(phrases.find_in(lines).line).tolist()
    assert shown == [sum(any(stands_in(one, words) for one in wanted) for words in compared(each)) for each in these]


@given(st.lists(text, max_size=5), st.lists(text, max_size=5))
def test_what_is_known_can_be_taken_away(these, others):
    mine = {words for one in these for words in compared(one)}
    known = [words for other in others for words in compared(other)]
    phrases = LineIndex.from_lines(HashedLines.from_texts(these))
    secret = phrases.without(phrases.find_in(HashedLines.from_texts(others)).entry)
    assert len(secret) == len({one for one in mine if not any(stands_in(one, words) for words in known)})


@given(st.lists(text, max_size=6), st.lists(st.integers(0, 5), max_size=8))
def test_lines_of_some_texts(texts, chosen):
    chosen = [at for at in chosen if at < len(texts)]
    taken, made = HashedLines.from_texts(texts).select(chosen), HashedLines.from_texts([texts[at] for at in chosen])
    for name in ("word_hashes", "word_counts", "byte_counts", "line_counts"):
        assert getattr(taken, name).tolist() == getattr(made, name).tolist()
    assert made.line_hashes().tolist() == taken.line_hashes().tolist()


def test_batches_do_not_matter(monkeypatch):
    texts = [f"this is line number {number} of them all\n".encode() * 3 for number in range(50)]
    expected = HashedLines.from_texts(texts)
    monkeypatch.setattr(module, "TEXT_BATCH_BYTES", 100)
    found = HashedLines.from_texts(texts)
    assert found.word_hashes.tolist() == expected.word_hashes.tolist()
    assert found.line_counts.tolist() == expected.line_counts.tolist() == [3] * 50


def test_blocks_do_not_matter(monkeypatch):
    lines = HashedLines.from_texts([code(seed).encode() for seed in range(4)])
    phrases = LineIndex.from_lines(HashedLines.from_texts([code(2).encode()]))
    found, shingled = phrases.find_in(lines), lines.shingles()
    monkeypatch.setattr(module, "BLOCK_WORDS", 20)
    again, shingled_again = phrases.find_in(lines), lines.shingles()
    assert sorted(zip(*again, strict=True)) == sorted(zip(*found, strict=True))
    assert shingled_again.hashes.tolist() == shingled.hashes.tolist()
    assert shingled_again.offsets.tolist() == shingled.offsets.tolist()


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_wrapped_line_shows_the_line(wrap):
    plain, other = code(1), code(2)
    phrases = LineIndex.from_lines(HashedLines.from_texts([plain.encode()]))
    copy, unlike = (WRAPS[wrap](text).encode() for text in (plain, other))
    found = phrases.find_in(HashedLines.from_texts([copy])).entry
    assert len(np.unique(found)) == len(phrases) > 40
    assert len(phrases.find_in(HashedLines.from_texts([unlike])).entry) == 0


def test_short_lines_say_nothing():
    lines = HashedLines.from_texts([b"return None\n} else {\nx = y\n"])
    assert len(LineIndex.from_lines(lines)) == 0


def test_the_tail_of_an_endless_line_is_ignored():
    words = [f"word{number}" for number in range(MAX_LINE_WORDS + 10)]
    endless, same_head = " ".join(words).encode(), " ".join([*words[:MAX_LINE_WORDS], "other"]).encode()
    assert (
        len(LineIndex.from_lines(HashedLines.from_texts([endless])).find_in(HashedLines.from_texts([same_head])).line)
        == 1
    )
    assert (
        len(
            LineIndex.from_lines(HashedLines.from_texts([endless]))
            .find_in(HashedLines.from_texts([same_head[:200]]))
            .line
        )
        == 0
    )


def test_many_lines_that_begin_alike_are_no_work():
    def lines(first):
        return [
            f"assert equal value {number} {'x ' * (number % 60)}".encode() for number in range(first, first + 20_000)
        ]

    phrases = LineIndex.from_lines(HashedLines.from_texts([b"\n".join(lines(0))]))
    shown = HashedLines.from_texts([b"\n".join(lines(10_000))])
    assert len(np.unique(phrases.find_in(shown).line)) == 10_000
