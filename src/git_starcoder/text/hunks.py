"""Two texts → the places where they differ, each with the lines around it.

Lines that stay are a longest common subsequence (Myers, 1986, and everyone's `diff --minimal`), found with the
bit-parallel algorithm of Hyyrö (2004) of rapidfuzz, once the common head and tail are cut off. Changes with few lines
between them are one hunk. Hunks never overlap: neighbours share the lines between them out. So with the hunks' `before`
replaced by their `after`, the one text becomes the other.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import NamedTuple

from git_starcoder.text.encoding import lines_of

CONTEXT = 10
"""Lines around a hunk, at most, on each side."""
BETWEEN = 6
"""Changes with fewer lines between them are one hunk."""
SMALL_LINES = 60
SMALL_BYTES = 2048
"""A text that has at most so many lines and bytes, before and after, is one hunk whatever changes in it."""
LARGEST_PRODUCT = 100_000_000
"""Lines that differ, before × after. Some 10 ms and 13 MB at the most."""


class Hunk(NamedTuple):
    """Lines that became others, with those around them."""

    before: bytes
    after: bytes
    line: int
    """The first line of `after`, counted from 1."""


class Range(NamedTuple):
    """Lines `start` to `stop` of one text that became lines `to_start` to `to_stop` of the other, counted from 0."""

    start: int
    stop: int
    to_start: int
    to_stop: int


def hunks(before: bytes, after: bytes) -> list[Hunk] | None:
    """Where two texts with LF line ends differ, in order; None where there is too much to compare."""
    if before == after:
        return []
    if not before or not after or (is_small(before) and is_small(after)):
        return [Hunk(before, after, 1)]
    head, tail = _common(before, after)
    start, stop = _up(before, head), _down(before, len(before) - tail)
    above = before.count(b"\n", 0, start)
    old = lines_of(before[start:stop])
    new = lines_of(after[start : len(after) - len(before) + stop])
    ranges = differences(old, new)
    if ranges is None:
        return None
    return [
        Hunk(b"".join(old[start:stop]), b"".join(new[to_start:to_stop]), above + to_start + 1)
        for start, stop, to_start, to_stop in _with_context(_joined(ranges), len(old))
    ]


def is_small(text: bytes) -> bool:
    """Whether a text is shown whole."""
    return len(text) <= SMALL_BYTES and text.count(b"\n") + (not text.endswith(b"\n")) <= SMALL_LINES


def differences(old: list[bytes], new: list[bytes]) -> list[Range] | None:
    """The least lines that must go and come, in order; None where there is too much to compare."""
    from rapidfuzz.distance import LCSseq

    if len(old) * len(new) > LARGEST_PRODUCT:
        return None
    numbers = {line: number for number, line in enumerate({**dict.fromkeys(old), **dict.fromkeys(new)})}
    codes = LCSseq.opcodes([*map(numbers.__getitem__, old)], [*map(numbers.__getitem__, new)])
    return [
        Range(code.src_start, code.src_end, code.dest_start, code.dest_end) for code in codes if code.tag != "equal"
    ]


def _common(one: bytes, other: bytes) -> tuple[int, int]:
    """The bytes of whole lines that two texts have in common at the head, and behind that at the tail."""
    most = min(len(one), len(other))
    same = bisect_left(range(1, most + 1), 1, key=lambda size: not other.startswith(one[:size]))
    head = one.rfind(b"\n", 0, same) + 1
    same = bisect_left(range(1, most - head + 1), 1, key=lambda size: not other.endswith(one[-size:]))
    line = one.find(b"\n", len(one) - same) if same else -1
    return head, len(one) - line - 1 if line >= 0 else 0


def _up(text: bytes, at: int) -> int:
    """Where the line begins that is `CONTEXT` lines above the one that begins at `at`, or the text."""
    for _ in range(CONTEXT):
        if not at:
            break
        at = text.rfind(b"\n", 0, at - 1) + 1
    return at


def _down(text: bytes, at: int) -> int:
    """Where the line begins that is `CONTEXT` lines below the one that begins at `at`, or where the text ends."""
    for _ in range(CONTEXT):
        if (end := text.find(b"\n", at)) < 0:
            return len(text)
        at = end + 1
    return at


def _joined(ranges: list[Range]) -> list[Range]:
    """One range where there are few lines between two."""
    joined: list[Range] = []
    for one in ranges:
        if joined and one.start - joined[-1].stop < BETWEEN:
            last = joined.pop()
            one = Range(last.start, one.stop, last.to_start, one.to_stop)
        joined.append(one)
    return joined


def _with_context(ranges: list[Range], lines: int) -> list[Range]:
    """The ranges with the lines around them; what stands between two is shared out."""
    gaps = [ranges[0].start, *(later.start - one.stop for one, later in pairwise(ranges)), lines - ranges[-1].stop]
    wide: list[Range] = []
    for at, one in enumerate(ranges):
        above = min(CONTEXT, gaps[at] if at == 0 else gaps[at] - gaps[at] // 2)
        below = min(CONTEXT, gaps[at + 1] if at + 1 == len(ranges) else gaps[at + 1] // 2)
        wide.append(Range(one.start - above, one.stop + below, one.to_start - above, one.to_stop + below))
    return wide
