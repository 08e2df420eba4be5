"""Hunks: applied in order they make the one text the other; nothing smaller would do; each has the lines around it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.text import diff as module
from git_starcoder.text.diff import (
    CONTEXT_LINES,
    MAX_SMALL_BYTES,
    MAX_SMALL_LINES,
    MIN_GAP_LINES,
    Hunk,
    diff_lines,
    find_hunks,
    is_small,
)


def applied(before: bytes, found: list[Hunk]) -> bytes:
    """`before` with each hunk's lines in the place of those that it says were there."""
    old, made, at = before.splitlines(keepends=True), [], 0
    for hunk in found:
        same = hunk.line - 1 - len(made)
        made += old[at : at + same]
        at += same
        gone = hunk.before.splitlines(keepends=True)
        assert old[at : at + len(gone)] == gone
        at += len(gone)
        made += hunk.after.splitlines(keepends=True)
    return b"".join(made + old[at:])


def lines(*numbers: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in numbers)


LONG = list(range(200))

texts = st.builds(
    lambda words, end: b"\n".join(words) + end,
    st.lists(st.sampled_from([b"", b"a", b"b", b"  }", b"c" * 40]), max_size=150),
    st.sampled_from([b"", b"\n", b"\n\n"]),
)


@given(texts, texts)
def test_hunks_make_the_one_text_the_other(before, after):
    assert applied(before, find_hunks(before, after)) == after


@given(texts, st.data())
def test_also_where_little_changes(before, data):
    rows = before.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(rows)))
        rows[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.lists(st.sampled_from([b"new\n", b"a\n"]), max_size=3)
        )
    after = b"".join(rows)
    found = find_hunks(before, after)
    assert applied(before, found) == after
    assert (found == []) == (before == after)


@given(
    st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n"]), max_size=12),
    st.lists(st.sampled_from([b"a\n", b"b\n", b"d\n"]), max_size=12),
)
def test_no_fewer_lines_would_do(old, new):
    table = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for at, one in enumerate(old):
        for to, other in enumerate(new):
            table[at + 1][to + 1] = table[at][to] + 1 if one == other else max(table[at][to + 1], table[at + 1][to])
    touched = sum(one.stop - one.start + one.to_stop - one.to_start for one in diff_lines(old, new))
    assert touched == len(old) + len(new) - 2 * table[-1][-1]


def test_one_line_with_the_lines_around_it():
    before, after = lines(*LONG), lines(*LONG[:100], 1000, *LONG[101:])
    [hunk] = find_hunks(before, after)
    assert hunk == Hunk(lines(*LONG[90:111]), lines(*LONG[90:100], 1000, *LONG[101:111]), 91)
    assert len(hunk.before.splitlines()) == 2 * CONTEXT_LINES + 1


@pytest.mark.parametrize(
    ("gap", "count"), [(MIN_GAP_LINES - 1, 1), (MIN_GAP_LINES, 2), (2 * CONTEXT_LINES, 2), (50, 2)]
)
def test_near_changes_are_one_hunk_and_others_share_what_is_between(gap, count):
    after = LONG.copy()
    after[80], after[81 + gap] = 1000, 2000
    found = find_hunks(lines(*LONG), lines(*after))
    assert len(found) == count
    if count == 2:
        ends = found[0].line + len(found[0].before.splitlines())
        assert ends <= found[1].line
        assert (ends == found[1].line) == (gap <= 2 * CONTEXT_LINES)


@pytest.mark.parametrize(("place", "line"), [(0, 1), (3, 1), (199, 190)])
def test_at_the_edges_of_a_text(place, line):
    after = LONG.copy()
    after[place] = 1000
    [hunk] = find_hunks(lines(*LONG), lines(*after))
    assert hunk.line == line
    assert applied(lines(*LONG), [hunk]) == lines(*after)


def test_no_newline_at_the_end():
    before = lines(*LONG)
    [hunk] = find_hunks(before, before[:-1])
    assert (hunk.before, hunk.after) == (lines(*LONG[189:]), lines(*LONG[189:])[:-1])


def test_a_text_from_nothing_is_whole():
    assert find_hunks(b"", lines(*LONG)) == [Hunk(b"", lines(*LONG), 1)]


def test_a_small_text_is_shown_whole():
    before, after = lines(*LONG[:50]), lines(*LONG[:49], 1000)
    assert find_hunks(before, after) == [Hunk(before, after, 1)]


@pytest.mark.parametrize(
    ("text", "small"),
    [
        (b"x\n" * MAX_SMALL_LINES, True),
        (b"x\n" * MAX_SMALL_LINES + b"x", False),
        (b"x" * (MAX_SMALL_BYTES - 1) + b"\n", True),
        (b"x" * MAX_SMALL_BYTES + b"\n", False),
        (b"", True),
    ],
)
def test_what_is_small(text, small):
    assert is_small(text) == small


def test_too_much_to_compare(monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE_PAIRS", 100)
    randomness = random.Random(0)
    before, after = (lines(*(randomness.randrange(10**9) for _ in range(70))) for _ in range(2))
    assert find_hunks(before, after) is None
    assert find_hunks(before + after, before + lines(1) + after) is None  # the lines around count, too
    monkeypatch.setattr(module, "MAX_LINE_PAIRS", 100_000)
    assert applied(before, find_hunks(before, after)) == after


def test_a_cr_inside_a_line_and_other_breaks_of_unicode_are_no_line_ends():
    odd = [b"one\rtwo\n", b"form\x0cfeed\n", "next\u0085line \u2028 and\u2029\n".encode(), b"\x0b\x1c\x1d\x1e\n"]
    before = odd + [b"line %d\n" % number for number in range(200)]
    after = [*before[:2], b"two\r\rthree\rfour\n", *before[3:150], b"in the\rmiddle\n", *before[151:]]
    found = find_hunks(b"".join(before), b"".join(after))
    assert [(hunk.line, hunk.before, hunk.after) for hunk in found] == [
        (1, b"".join(before[:13]), b"".join(after[:13])),
        (141, b"".join(before[140:161]), b"".join(after[140:161])),
    ]
