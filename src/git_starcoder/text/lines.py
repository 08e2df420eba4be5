r"""Words of lines: what a line says, whatever it is wrapped in.

Code is copied with something added to every line: commented out, quoted in a mail, in a patch, as a numbered listing,
as strings of a JSON array or a C table, as HTML with a tag around each line. So lines are compared by their words, the
runs of letters, digits, `_` and non-ASCII bytes. Signs and white space do not count, nor do escapes (`\n`), character
references (`&lt;`) and the tags that HTML listings are made of. Worked example, the same line three times:

    if count > limit[0]:                                  →  if count limit 0
    "    if count > limit[0]:\n",                         →  if count limit 0
    <span id="L7">7 <b>if</b> count &gt; limit[0]:</span> →  7 if count limit 0

One line stands in another if the words of the one occur, in order and without a gap, among the words of the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.text.hashes import find_sorted, hashes
from git_starcoder.text.shingles import (
    WORD,
    Powers,
    TextShingles,
    batches,
    kinds_of,
    offsets_of,
    polynomials,
    positions,
    shingles_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

SHINGLE = 3
"""Words per shingle of a line. A line of ordinary code has three to eight words."""
ANCHOR = 2
"""First words of a phrase by which it is looked for. A phrase of fewer words stands only in a line that is equal."""
LEAST = 16
"""Bytes from the first to the last word of the shortest line that says where it comes from. Shorter lines
(`return None`, `} else {`) are written again and again."""
QUOTED = 0.5
"""Share of the words of a message's line that are a line of code, where it is a quote. Prose also names what code does:
"use sphinx.ext.extlinks instead of sphinx-issues" quotes no line of a configuration."""
BLOCK = 1 << 17
"""Words that are looked at together: arrays of 1 MiB, which a cache holds."""
TABLE = 20
"""Bits of a hash by which phrases are ruled out: a table of 1 MiB, which a cache holds."""
LONGEST = 64
"""Words of a line that are compared; of a longer one the rest is ignored. It bounds the work for hostile lines."""

_TAG = rb"/?(?:span|code|pre|div|t[drh]|table|tbody|[ou]l|li|font|strong|em|br|[abip])\b[^<>\n]{0,200}?(?:>|&gt;)"
WRAPPING = (
    re.compile(rb"<" + _TAG),
    re.compile(rb"&lt;" + _TAG),
    re.compile(rb"&(?:lt|gt|amp|quot|apos|nbsp|#\d{1,5}|#[xX][0-9a-fA-F]{1,4});"),
    re.compile(rb"\\(?:[nrt]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})"),
)
"""What is blanked out, one after another. Each begins with a literal, which `re` finds faster than a choice."""


def quotes_of(message: bytes) -> bytes:
    """A message with each of its quotes on a line: what it quotes stands in lines or between backticks."""
    return message.replace(b"`", b"\n")


class Found(NamedTuple):
    """Phrases that stand in lines. Both arrays have shape (matches,)."""

    phrase: NDArray[np.int64]
    """The number of the phrase."""
    line: NDArray[np.int64]
    """The number of the line, among all lines of all texts."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of texts as hashes of their words. Lines that can neither be a shingle nor be compared are left out."""

    words: NDArray[np.uint32]
    """Hashes of all words, those of the first line first, shape (words,)."""
    lengths: NDArray[np.int32]
    """Words of each line, shape (lines,)."""
    sizes: NDArray[np.uint8]
    """Bytes of each line from its first to its last word, at most 255; shape (lines,)."""
    counts: NDArray[np.int32]
    """Lines of each text, shape (texts,)."""

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> Lines:
        """Hash the words of the lines of each text."""
        powers = Powers()
        return cls.join([_hash(batch, powers) for batch in batches(texts)])

    @classmethod
    def join(cls, parts: Sequence[Lines]) -> Lines:
        """The lines of several groups of texts, of one at least, in order."""
        return cls(
            np.concatenate([part.words for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.sizes for part in parts]),
            np.concatenate([part.counts for part in parts]),
        )

    def take(self, texts: Sequence[int]) -> Lines:
        """The lines of some texts, in that order."""
        chosen = np.asarray(texts, dtype=np.int64)
        counts = self.counts[chosen]
        lines = positions(offsets_of(self.counts.astype(np.int64))[:-1][chosen], offsets_of(counts.astype(np.int64)))
        return self._pick(lines, counts)

    def compared(self) -> Lines:
        """The lines that are long enough to say where they come from."""
        long = self.sizes >= LEAST
        text = np.repeat(np.arange(len(self.counts)), self.counts)[long]
        return self._pick(np.flatnonzero(long), np.bincount(text, minlength=len(self.counts)).astype(np.int32))

    def per_text(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of these lines, each counted once, lie in each text; shape (texts,)."""
        hit = np.zeros(len(self.lengths) + 1, dtype=np.int64)
        hit[lines + 1] = 1
        return np.diff(np.cumsum(hit)[offsets_of(self.counts.astype(np.int64))])

    def shingles(self) -> TextShingles:
        """Each three words of a line that follow one another, as documents for `contained`: one per text."""
        flat = [np.empty(0, dtype=np.uint64), *(block.runs(SHINGLE)[0] for _, block in self.blocks())]
        before = offsets_of(np.maximum(self.lengths.astype(np.int64) - (SHINGLE - 1), 0))
        return TextShingles(np.concatenate(flat), before[offsets_of(self.counts.astype(np.int64))])

    def blocks(self) -> Iterator[tuple[int, Lines]]:
        """Some lines at a time, without their texts, and the number of the first: to work on all would take memory."""
        ends = offsets_of(self.lengths.astype(np.int64))
        line = 0
        while line < len(self.lengths):
            stop = max(line + 1, int(np.searchsorted(ends, ends[line] + BLOCK, side="right")) - 1)
            words = self.words[ends[line] : ends[stop]]
            yield line, Lines(words, self.lengths[line:stop], self.sizes[line:stop], self.counts[:0])
            line = stop

    def runs(self, size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Each `size` words of a line that follow one another: their hash, the first one's index, and the line.

        All three arrays have shape (runs,).
        """
        line = np.repeat(np.arange(len(self.lengths)), self.lengths)
        last = max(0, len(line) - size + 1)
        inside = np.flatnonzero(line[:last] == line[size - 1 :])
        return shingles_of(self.words.astype(np.uint64), size)[inside], inside, line[inside]

    def whole(self) -> NDArray[np.uint64]:
        """A hash of each line, shape (lines,)."""
        return _compare(self)[0]

    def _pick(self, lines: NDArray[np.int64], counts: NDArray[np.int32]) -> Lines:
        lengths = self.lengths[lines]
        begins = offsets_of(self.lengths.astype(np.int64))[:-1][lines]
        words = self.words[positions(begins, offsets_of(lengths.astype(np.int64)))]
        return Lines(words, lengths, self.sizes[lines], counts)


class Phrases:
    """Different lines to look for in other lines."""

    def __init__(self, hashes: NDArray[np.uint64], anchors: NDArray[np.uint64], lengths: NDArray[np.int64]) -> None:
        """`hashes` are sorted and different; `anchors` are the first words of each, `lengths` how many it has."""
        self.hashes = hashes
        self._anchors, self._lengths = anchors, lengths
        # Where the first words of a phrase stand, each length that a phrase with these first words has is tried. So a
        # thousand phrases that begin alike cost no more than the at most 64 different lengths that they have.
        order = np.lexsort((lengths, anchors))
        anchors, lengths = anchors[order], lengths[order]
        new = (anchors[1:] != anchors[:-1]) | (lengths[1:] != lengths[:-1])
        first = np.flatnonzero(np.concatenate(([True], new))[: len(order)])
        anchors, self._tried = anchors[first], lengths[first]
        group = np.flatnonzero(np.concatenate(([True], anchors[1:] != anchors[:-1]))[: len(anchors)])
        self._begins, self._first, self._often = anchors[group], group, np.diff(group, append=len(anchors))
        # Most places are ruled out by the last bits of their hash: a look into this table costs a tenth of a search.
        self._may_be = np.zeros(1 << TABLE, dtype=bool)
        self._may_be[self._begins & np.uint64((1 << TABLE) - 1)] = True

    @classmethod
    def of(cls, lines: Lines) -> Phrases:
        """The different ones among some lines that are long enough to be compared."""
        lines = lines.compared()
        hashes, anchors, lengths = _compare(lines)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        first = np.flatnonzero(np.concatenate(([True], hashes[1:] != hashes[:-1]))[: len(hashes)])
        return cls(hashes[first], anchors[order][first], lengths[order][first])

    def __len__(self) -> int:
        """How many there are."""
        return len(self.hashes)

    def without(self, numbers: NDArray[np.int64]) -> Phrases:
        """All but those of these numbers."""
        keep = np.ones(len(self), dtype=bool)
        keep[numbers] = False
        return Phrases(self.hashes[keep], self._anchors[keep], self._lengths[keep])

    def find_in(self, lines: Lines, share: float = 0.0) -> Found:
        """Which phrases stand in which lines, where they are at least this share of the line's words."""
        nothing = np.empty(0, dtype=np.int64)
        phrases, places = [nothing], [nothing]
        for first, block in lines.blocks():
            phrase, line = self._find_in(block, share)
            phrases.append(phrase)
            places.append(first + line)
        return Found(np.concatenate(phrases), np.concatenate(places))

    def _find_in(self, lines: Lines, share: float) -> Found:
        anchors, place, line = lines.runs(ANCHOR)
        maybe = np.flatnonzero(self._may_be[anchors & np.uint64((1 << TABLE) - 1)])
        anchors, place, line = anchors[maybe], place[maybe], line[maybe]
        ends = np.cumsum(lines.lengths, dtype=np.int64)
        group, hit = find_sorted(anchors, self._begins)
        group, place, line = group[hit], place[hit], line[hit]
        often = self._often[group]
        length = self._tried[positions(self._first[group], offsets_of(often))]
        place, line = np.repeat(place, often), np.repeat(line, often)
        fits = (place + length <= ends[line]) & (length >= share * lines.lengths[line])
        place, line, length = place[fits], line[fits], length[fits]
        few = np.flatnonzero(lines.lengths < ANCHOR)
        place = np.concatenate((place, ends[few] - lines.lengths[few]))
        length = np.concatenate((length, lines.lengths[few].astype(np.int64)))
        found, line = hashes(lines.words, place, length), np.concatenate((line, few))
        phrase, known = find_sorted(found, self.hashes)
        return Found(phrase[known], line[known])


def _compare(lines: Lines) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """Of each line the hash, that of its first words, and how many words are compared."""
    lengths = np.minimum(lines.lengths.astype(np.int64), LONGEST)
    begins = offsets_of(lines.lengths.astype(np.int64))[:-1]
    anchors = np.zeros(len(lengths), dtype=np.uint64)  # of a line that is too short to be looked for
    enough = lengths >= ANCHOR
    anchors[enough] = shingles_of(lines.words.astype(np.uint64), ANCHOR)[begins[enough]]
    return hashes(lines.words, begins, lengths), anchors, lengths


def _hash(texts: list[bytes], powers: Powers) -> Lines:
    """The lines of some texts."""
    joined = b"\n".join((*texts, b"\n"))
    for wrapping in WRAPPING:
        joined = wrapping.sub(lambda found: b" " * len(found[0]), joined)
    data = np.frombuffer(joined, dtype=np.uint8)
    powers.reach(len(data))
    is_word = kinds_of(data) == WORD
    edges = np.flatnonzero(np.diff(is_word, prepend=False, append=False))
    start, stop = edges[::2], edges[1::2]
    word = polynomials(data, start, stop, powers)
    word ^= word >> np.uint64(32)
    line_of_word = np.searchsorted(np.flatnonzero(data == 0x0A), start)
    first = np.flatnonzero(np.diff(line_of_word, prepend=-1))
    lengths = np.diff(first, append=len(start))
    sizes = stop[first + lengths - 1] - start[first]
    text = np.searchsorted(np.cumsum([len(text) + 1 for text in texts], dtype=np.int64), start[first], side="right")
    keep = (lengths >= SHINGLE) | (sizes >= LEAST)
    return Lines(
        word.astype(np.uint32)[np.repeat(keep, lengths)],
        lengths[keep].astype(np.int32),
        np.minimum(sizes[keep], 255).astype(np.uint8),
        np.bincount(text[keep], minlength=len(texts)).astype(np.int32),
    )
