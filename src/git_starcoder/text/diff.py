"""Compares two texts line by line and gives the hunks where they differ, each with the lines around it.

The lines that stay are a longest common subsequence, as in `diff --minimal` (Myers, 1986). After the common head and
tail are cut off, rapidfuzz finds it with the bit-parallel algorithm of Hyyrö (2004). Changes with few lines between
them are one hunk. Hunks never overlap: neighbours share the lines between them. So replacing the `before` of each hunk
by its `after` turns the first text into the second.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate, pairwise
from typing import NamedTuple

from git_starcoder.records import Span
from git_starcoder.text.encoding import split_lines

CONTEXT_LINES = 10
"""Unchanged lines on each side of a hunk, at most."""
MIN_GAP_LINES = 6
"""Unchanged lines between two hunks; changes with fewer lines between them are one hunk."""
MAX_SMALL_LINES = 60
"""Lines of a small text. If both texts are small, they are one hunk whatever changes."""
MAX_SMALL_BYTES = 2048
"""Bytes of a small text."""
MAX_LINE_PAIRS = 100_000_000
"""Differing lines before times differing lines after, at most: some 10 ms and 13 MB."""


class Hunk(NamedTuple):
    """Lines before and after a change, with the lines around them."""

    before: bytes
    after: bytes
    line: int
    """The first line of `after`, counted from 1."""


class LineRange(NamedTuple):
    """Lines `start` to `stop` of one text that become lines `to_start` to `to_stop` of the other, counted from 0."""

    start: int
    stop: int
    to_start: int
    to_stop: int


def find_hunks(before: bytes, after: bytes) -> list[Hunk] | None:
    """The hunks of two texts with LF line ends, in order; None where there is too much to compare."""
    if before == after:
        return []
    if not before or not after or (is_small(before) and is_small(after)):
        return [Hunk(before, after, 1)]
    head, tail = _common_bytes(before, after)
    start, stop = head, len(before) - tail
    for _ in range(CONTEXT_LINES):
        start = before.rfind(b"\n", 0, max(0, start - 1)) + 1
        stop = before.find(b"\n", stop) + 1 or len(before)
    lines_above = before.count(b"\n", 0, start)
    old = split_lines(before[start:stop])
    new = split_lines(after[start : len(after) - len(before) + stop])
    ranges = diff_lines(old, new)
    if ranges is None:
        return None
    return [
        Hunk(b"".join(old[start:stop]), b"".join(new[to_start:to_stop]), lines_above + to_start + 1)
        for start, stop, to_start, to_stop in _add_context(_merge_close(ranges), len(old))
    ]


def find_added_lines(before: bytes, after: bytes) -> tuple[Span, ...] | None:
    """Where the lines stand in `after` that `before` does not have, as bytes; None where there is too much to compare.

    Both texts have LF line ends. `a b c` and `a x y c`, a line each, give (2, 6).
    """
    replaced = find_replaced_lines(before, after)
    return None if replaced is None else tuple(new for _, new in replaced if new.start < new.stop)


def find_replaced_lines(before: bytes, after: bytes) -> list[tuple[Span, Span]] | None:
    """Where lines of `before` are replaced by lines of `after`, as bytes; one of the two may be empty.

    None where there is too much to compare. `a b c` and `a x y c`, a line each, give (2, 4) and (2, 6).
    """
    head, tail = _common_bytes(before, after)
    old, new = split_lines(before[head : len(before) - tail]), split_lines(after[head : len(after) - tail])
    ranges = diff_lines(old, new)
    if ranges is None:
        return None
    in_old, in_new = (list(accumulate(map(len, lines), initial=head)) for lines in (old, new))
    replaced: list[tuple[Span, Span]] = []
    for each in ranges:
        before_span = Span(in_old[each.start], in_old[each.stop])
        after_span = Span(in_new[each.to_start], in_new[each.to_stop])
        if replaced and (replaced[-1][0].stop, replaced[-1][1].stop) == (before_span.start, after_span.start):
            first = replaced.pop()  # lines that are removed and added at one place are replaced
            before_span, after_span = (
                Span(one.start, other.stop) for one, other in zip(first, (before_span, after_span), strict=True)
            )
        replaced.append((before_span, after_span))
    return replaced


def is_small(text: bytes) -> bool:
    """Whether a text is short enough to be shown as a whole."""
    return len(text) <= MAX_SMALL_BYTES and text.count(b"\n") + (not text.endswith(b"\n")) <= MAX_SMALL_LINES


def diff_lines(old: list[bytes], new: list[bytes]) -> list[LineRange] | None:
    """The fewest lines that must be removed and added, in order; None where there is too much to compare."""
    from rapidfuzz.distance import LCSseq

    if len(old) * len(new) > MAX_LINE_PAIRS:
        return None
    numbers = {line: number for number, line in enumerate({**dict.fromkeys(old), **dict.fromkeys(new)})}
    codes = LCSseq.opcodes([*map(numbers.__getitem__, old)], [*map(numbers.__getitem__, new)])
    return [LineRange(c.src_start, c.src_end, c.dest_start, c.dest_end) for c in codes if c.tag != "equal"]


def _common_bytes(before: bytes, after: bytes) -> tuple[int, int]:
    """The bytes of whole lines that two texts have in common at the head, and in the rest at the tail."""
    shorter = min(len(before), len(after))
    # Binary searches for the length of the common prefix, and then of the common suffix of what is left.
    same = bisect_left(range(1, shorter + 1), 1, key=lambda size: not after.startswith(before[:size]))
    head = before.rfind(b"\n", 0, same) + 1
    same = bisect_left(range(1, shorter - head + 1), 1, key=lambda size: not after.endswith(before[-size:]))
    line_end = before.find(b"\n", len(before) - same) if same else -1
    return head, len(before) - line_end - 1 if line_end >= 0 else 0


def _merge_close(ranges: list[LineRange]) -> list[LineRange]:
    """The ranges, merged where fewer than `MIN_GAP_LINES` lines are between two."""
    merged: list[LineRange] = []
    for new in ranges:
        if merged and new.start - merged[-1].stop < MIN_GAP_LINES:
            merged[-1] = merged[-1]._replace(stop=new.stop, to_stop=new.to_stop)
        else:
            merged.append(new)
    return merged


def _add_context(ranges: list[LineRange], line_count: int) -> list[LineRange]:
    """The ranges with the lines around them. Two neighbours share the lines between them, half each."""
    gaps = [ranges[0].start, *(later.start - one.stop for one, later in pairwise(ranges)), line_count - ranges[-1].stop]
    wide: list[LineRange] = []
    for index, (start, stop, to_start, to_stop) in enumerate(ranges):
        above = min(CONTEXT_LINES, gaps[index] if index == 0 else gaps[index] - gaps[index] // 2)
        below = min(CONTEXT_LINES, gaps[index + 1] if index + 1 == len(ranges) else gaps[index + 1] // 2)
        wide.append(LineRange(start - above, stop + below, to_start - above, to_stop + below))
    return wide
