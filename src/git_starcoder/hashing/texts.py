r"""Texts as hashes: shingles, that is, five consecutive tokens, and lines, which are compared by their words.

Shingles are taken from texts, before there is a tokenizer, and from windows of an array of token ids.

Lines are compared so that a copy is found whatever its lines are wrapped in. Code is often copied with something added
to every line: commented out, quoted in a mail, in a patch, as a numbered listing, as strings of a JSON array or a C
table, as HTML with a tag around each line. So lines are compared by their words, that is, runs of letters, digits, `_`
and non-ASCII bytes. Symbols and white space do not count, nor do escapes (`\n`), character references (`&lt;`) and the
tags of HTML listings. Worked example, the same line three times:

    if count > limit[0]:                                  ->  if count limit 0
    "    if count > limit[0]:\n",                         ->  if count limit 0
    <span id="L7">7 <b>if</b> count &gt; limit[0]:</span> ->  7 if count limit 0

One line is contained in another if its words occur, in order and without a gap, among the words of the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.hashing.arrays import (
    SHINGLE_TOKENS,
    chunk_slices,
    equal_run_starts,
    find_sorted,
    members_by_value,
    polynomial_hashes,
    range_hashes,
    run_offsets,
    run_positions,
    shingle_hashes,
)
from git_starcoder.memo import batch_by_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.hashing.arrays import JoinedArray

TEXT_BATCH_BYTES = 1 << 18
"""Bytes of text that are hashed at a time."""
WORDS_PER_SHINGLE = 3
"""Words per shingle of a line. A line of ordinary code has three to eight words."""
ANCHOR_WORDS = 2
"""First words of a line by which it is searched for. A line of fewer words is contained only in equal lines."""
MIN_LINE_BYTES = 16
"""Bytes from the first to the last word of the shortest line that shows where it comes from. Shorter lines
(`return None`, `} else {`) are written again and again."""
MIN_QUOTED_SHARE = 0.5
"""Share of the words of a message's line that must be a line of code to count as a quote. Prose also names what code
does: "use sphinx.ext.extlinks instead of sphinx-issues" quotes no line of a configuration."""
BLOCK_WORDS = 1 << 17
"""Words that are handled at a time: arrays of 1 MiB, which fit in a cache."""
FILTER_MASK = np.uint64((1 << 20) - 1)
"""Bits of a hash that index the filter of `LineIndex`: a table of 1 MiB, which fits in a cache."""
MAX_LINE_WORDS = 64
"""Words of a line that are compared; the rest of a longer line is ignored. This bounds the work for hostile lines."""

_TAG = rb"/?(?:span|code|pre|div|t[drh]|table|tbody|[ou]l|li|font|strong|em|br|[abip])\b[^<>\n]{0,200}?(?:>|&gt;)"
WRAPPING_MARKUP = (
    re.compile(rb"<" + _TAG),
    re.compile(rb"&lt;" + _TAG),
    re.compile(rb"&(?:lt|gt|amp|quot|apos|nbsp|#\d{1,5}|#[xX][0-9a-fA-F]{1,4});"),
    re.compile(rb"\\(?:[nrt]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})"),
)
"""Markup that is blanked out, in this order. Each expression begins with a literal, which `re` finds quickly."""

_SPACE_CLASS, _WORD_CLASS, _SYMBOL_CLASS = 0, 1, 2
_BYTE_CLASSES = np.full(256, _SYMBOL_CLASS, dtype=np.uint8)
"""The class of each byte: white space, part of a word, or another symbol."""
_BYTE_CLASSES[:0x21] = _SPACE_CLASS
_BYTE_CLASSES[[byte for byte in range(256) if byte >= 0x80 or chr(byte).isalnum() or byte == ord("_")]] = _WORD_CLASS


@dataclass(frozen=True, slots=True)
class TextShingles:
    """Shingles of texts.

    A token is a run of letters, digits, `_` and non-ASCII bytes, or a run of other symbols. White space separates
    tokens and does not count otherwise. A text of fewer than five tokens has no shingle.
    """

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    signatures: NDArray[np.uint32] | None = None
    """The MinHash signature of each text where it is known (`bands`), shape (texts, numbers per signature)."""

    @classmethod
    def from_texts(cls, texts: Iterable[bytes]) -> TextShingles:
        """Hash the shingles of each text."""
        hashes, counts = zip(*(_hash_texts(batch) for batch in text_batches(texts)), strict=True)
        return cls(np.concatenate(hashes), run_offsets(np.concatenate(counts)))

    def shingle_counts(self) -> NDArray[np.int64]:
        """The number of shingles of each text."""
        return np.diff(self.offsets)

    def positions(self) -> NDArray[np.int64]:
        """Where the shingles of each text begin."""
        return self.offsets[:-1]

    def gather(self, documents: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The hashes of some texts, and their offsets."""
        offsets = run_offsets(self.shingle_counts()[documents])
        return self.hashes[run_positions(self.offsets[:-1][documents], offsets)], offsets

    def known_signatures(self, documents: NDArray[Any]) -> NDArray[np.uint32] | None:
        """The signatures of some texts, if they are known."""
        return None if self.signatures is None else self.signatures[documents]

    def select(self, documents: Sequence[int]) -> TextShingles:
        """The shingles of some texts, in the order given."""
        return TextShingles(*self.gather(np.array(documents, dtype=np.int64)))


@dataclass(frozen=True, slots=True)
class WindowShingles:
    """Shingles of windows of one token array. They are hashed on demand, because windows overlap and texts are long."""

    tokens: NDArray[Any] | JoinedArray
    first: NDArray[np.int64]
    """Where each window begins in `tokens`."""
    length: NDArray[np.integer[Any]]
    """Tokens of each window."""
    salt: NDArray[np.uint64]
    """A number for each window. Windows with different salts have no shingle in common."""

    def shingle_counts(self) -> NDArray[np.int64]:
        """The number of shingles of each window."""
        return np.maximum(self.length - (SHINGLE_TOKENS - 1), 0)

    def positions(self) -> NDArray[np.int64]:
        """Where each window begins."""
        return self.first

    def gather(self, documents: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The hashes of some windows, and their offsets."""
        first, length = self.first[documents], self.length[documents]
        counts = np.maximum(length - (SHINGLE_TOKENS - 1), 0)
        offsets = run_offsets(counts)
        low, high = int(first.min(initial=len(self.tokens))), int((first + length).max(initial=0))
        if high - low < length.sum():  # the windows overlap, so hash their union once
            tokens = self.tokens[low:high]
            first = first - low
        else:
            bounds = run_offsets(length)
            tokens = self.tokens[run_positions(first, bounds)]
            first = bounds[:-1]
        hashed = shingle_hashes(np.asarray(tokens).astype(np.uint64))
        begins: list[int] = first.tolist()
        ends: list[int] = (first + counts).tolist()
        hashes = np.concatenate([*(hashed[begin:end] for begin, end in zip(begins, ends, strict=True)), hashed[:0]])
        for index in np.flatnonzero(self.salt[documents]).tolist():
            hashes[offsets[index] : offsets[index + 1]] ^= self.salt[documents[index]]
        return hashes, offsets

    def known_signatures(self, _documents: NDArray[Any]) -> None:
        """Signatures of windows are not known."""


class LineMatches(NamedTuple):
    """Which lines of an index are contained in which other lines. Both arrays have shape (matches,)."""

    entry: NDArray[np.int64]
    """The number of the line in the index."""
    line: NDArray[np.int64]
    """The number of the other line, among all lines of all texts."""


@dataclass(frozen=True, slots=True)
class JoinedShingles:
    """Shingles of texts that are in several parts: document i is text `text[i]` of part `part[i]`.

    Parts may be memory maps of files. Nothing is copied before it is asked for.
    """

    parts: Sequence[TextShingles]
    part: NDArray[np.int64]
    text: NDArray[np.int64]

    def shingle_counts(self) -> NDArray[np.int64]:
        """The number of shingles of each document."""
        return self._of_documents([part.shingle_counts() for part in self.parts])

    def positions(self) -> NDArray[np.int64]:
        """Numbers by which documents that are near each other in a part come together."""
        first_of_part = run_offsets(np.array([len(part.hashes) for part in self.parts], dtype=np.int64)).tolist()
        return self._of_documents(
            [part.positions() + first for part, first in zip(self.parts, first_of_part, strict=False)]
        )

    def gather(self, documents: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The hashes of some documents, and their offsets."""
        part, text = self.part[documents], self.text[documents]
        if len(part) and (part == part[0]).all():
            return self.parts[int(part[0])].gather(text)
        counts = np.empty(len(part), dtype=np.int64)
        pieces: list[tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]] = []
        for number, members in members_by_value(part):
            hashes, offsets = self.parts[number].gather(text[members])
            counts[members] = np.diff(offsets)
            pieces.append((members, hashes, offsets))
        all_offsets = run_offsets(counts)
        all_hashes = np.empty(int(all_offsets[-1]), dtype=np.uint64)
        for members, hashes, offsets in pieces:
            all_hashes[run_positions(all_offsets[members], offsets)] = hashes
        return all_hashes, all_offsets

    def known_signatures(self, documents: NDArray[Any]) -> NDArray[np.uint32] | None:
        """The signatures of some documents, if those of all are known."""
        part, text = self.part[documents], self.text[documents]
        places: list[NDArray[np.int64]] = []
        pieces: list[NDArray[np.uint32]] = []
        for number, members in members_by_value(part):
            signatures = self.parts[number].known_signatures(text[members])
            if signatures is None:
                return None
            places.append(members)
            pieces.append(signatures)
        result = np.concatenate(pieces)
        result[np.concatenate(places)] = result.copy()
        return result

    def select(self, documents: NDArray[np.int64]) -> JoinedShingles:
        """Some documents, in the order given; a document may be there several times."""
        return JoinedShingles(self.parts, self.part[documents], self.text[documents])

    def _of_documents(self, values: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """The value of each document, from those of the texts of each part."""
        first_of_part = run_offsets(np.array([len(part) for part in values], dtype=np.int64))
        return np.concatenate([*values, np.empty(0, dtype=np.int64)])[first_of_part[self.part] + self.text]


Shingles = TextShingles | WindowShingles | JoinedShingles


@dataclass(frozen=True, slots=True)
class HashedLines:
    """Lines of texts as hashes of their words, without lines that are too short for a shingle and for a comparison."""

    word_hashes: NDArray[np.uint32]
    """Hashes of all words, those of the first line first, shape (words,)."""
    word_counts: NDArray[np.int32]
    """Words of each line, shape (lines,)."""
    byte_counts: NDArray[np.uint8]
    """Bytes of each line from its first to its last word, at most 255; shape (lines,)."""
    line_counts: NDArray[np.int32]
    """Lines of each text, shape (texts,)."""

    @classmethod
    def from_texts(cls, texts: Iterable[bytes]) -> HashedLines:
        """Hash the words of the lines of each text."""
        return cls.concatenate([_hash_lines(batch) for batch in text_batches(texts)])

    @classmethod
    def concatenate(cls, parts: Sequence[HashedLines]) -> HashedLines:
        """The lines of several groups of texts (at least one), in order."""
        columns = ((part.word_hashes, part.word_counts, part.byte_counts, part.line_counts) for part in parts)
        return cls(*map(np.concatenate, zip(*columns, strict=True)))

    def select(self, texts: Sequence[int]) -> HashedLines:
        """The lines of some texts, in the order given."""
        chosen = np.asarray(texts, dtype=np.int64)
        counts = self.line_counts[chosen]
        return self._select_lines(run_positions(run_offsets(self.line_counts)[chosen], run_offsets(counts)), counts)

    def long_lines(self) -> HashedLines:
        """The lines that are long enough to show where they come from."""
        is_long = self.byte_counts >= MIN_LINE_BYTES
        text = np.repeat(np.arange(len(self.line_counts)), self.line_counts)[is_long]
        counts = np.bincount(text, minlength=len(self.line_counts)).astype(np.int32)
        return self._select_lines(np.flatnonzero(is_long), counts)

    def count_per_text(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of these lines, each counted once, each text has; shape (texts,)."""
        # Lines {0, 2} of texts with 2 and 1 lines: is_listed [0, 1, 0, 1], cumulated [0, 1, 1, 2], at the offsets
        # [0, 2, 3] that is [0, 1, 2], so one line in each text.
        is_listed = np.zeros(len(self.word_counts) + 1, dtype=np.int64)
        is_listed[lines + 1] = 1
        return np.diff(np.cumsum(is_listed)[run_offsets(self.line_counts)])

    def shingles(self) -> TextShingles:
        """Hashes of every three consecutive words of a line, as one document for each text."""
        hashes = [block.word_run_hashes(WORDS_PER_SHINGLE)[0] for _, block in self.blocks()]
        line_offsets = run_offsets(np.maximum(self.word_counts - (WORDS_PER_SHINGLE - 1), 0))
        all_hashes = np.concatenate([np.empty(0, dtype=np.uint64), *hashes])
        return TextShingles(all_hashes, line_offsets[run_offsets(self.line_counts)])

    def blocks(self) -> Iterator[tuple[int, HashedLines]]:
        """The number of its first line, and the lines of each block, without texts. Blocks bound the memory in use."""
        offsets = run_offsets(self.word_counts)
        for lines in chunk_slices(self.word_counts, BLOCK_WORDS):
            words = self.word_hashes[offsets[lines.start] : offsets[lines.stop]]
            block = HashedLines(words, self.word_counts[lines], self.byte_counts[lines], self.line_counts[:0])
            yield lines.start, block

    def word_run_hashes(self, size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Every `size` consecutive words of a line: their hash, the index of the first word, and the line.

        All three arrays have shape (runs,).
        """
        line = np.repeat(np.arange(len(self.word_counts)), self.word_counts)
        count = max(0, len(line) - size + 1)
        first_word = np.flatnonzero(line[:count] == line[size - 1 :])
        return shingle_hashes(self.word_hashes.astype(np.uint64), size)[first_word], first_word, line[first_word]

    def line_hashes(self) -> NDArray[np.uint64]:
        """A hash of each line, shape (lines,)."""
        return _line_keys(self)[0]

    def _select_lines(self, lines: NDArray[np.int64], line_counts: NDArray[np.int32]) -> HashedLines:
        counts = self.word_counts[lines]
        words = self.word_hashes[run_positions(run_offsets(self.word_counts)[lines], run_offsets(counts))]
        return HashedLines(words, counts, self.byte_counts[lines], line_counts)


class LineIndex:
    """Distinct lines, numbered, to be searched for in other lines."""

    def __init__(
        self, line_hashes: NDArray[np.uint64], anchors: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> None:
        """Build the index from what `_line_keys` returns, sorted by the hashes of the lines, which are distinct."""
        self.line_hashes = line_hashes
        self._anchors, self._lengths = anchors, lengths
        # Where the first words of a line occur, each length that a line with these first words has is tried. So a
        # thousand lines that begin alike cost no more than the at most 64 different lengths that they have.
        # Anchors [A, A, A, B] with lengths [3, 3, 5, 4] are tried as (A, 3), (A, 5), (B, 4); the groups of equal
        # anchors begin at [0, 2] and have [2, 1] lengths.
        order = np.lexsort((lengths, anchors))
        anchors, lengths = anchors[order], lengths[order]
        distinct = equal_run_starts(anchors, lengths)
        anchors, self._tried_lengths = anchors[distinct], lengths[distinct]
        self._group_starts = equal_run_starts(anchors)
        self._group_sizes = np.diff(self._group_starts, append=len(anchors))
        self._group_anchors = anchors[self._group_starts]
        # The last bits of a hash rule out most places: a lookup in this table costs a tenth of a binary search.
        self._filter = np.zeros(int(FILTER_MASK) + 1, dtype=bool)
        self._filter[self._group_anchors & FILTER_MASK] = True

    @classmethod
    def from_lines(cls, lines: HashedLines) -> LineIndex:
        """The distinct ones among the lines that are long enough to be compared."""
        hashes, anchors, lengths = _line_keys(lines.long_lines())
        order = np.argsort(hashes, kind="stable")
        first = order[equal_run_starts(hashes[order])]
        return cls(hashes[first], anchors[first], lengths[first])

    def __len__(self) -> int:
        """The number of lines."""
        return len(self.line_hashes)

    def without(self, entries: NDArray[np.int64]) -> LineIndex:
        """An index of all lines but those with these numbers."""
        keep = np.ones(len(self), dtype=bool)
        keep[entries] = False
        return LineIndex(self.line_hashes[keep], self._anchors[keep], self._lengths[keep])

    def find_in(self, lines: HashedLines, share: float = 0.0) -> LineMatches:
        """Find the lines of the index in other lines, where they are at least this share of the other line's words."""
        entries, places = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for first, block in lines.blocks():
            entry, line = self._find_in_block(block, share)
            entries.append(entry)
            places.append(first + line)
        return LineMatches(np.concatenate(entries), np.concatenate(places))

    def _find_in_block(self, lines: HashedLines, share: float) -> LineMatches:
        # Candidates are runs of words: where the first words of an indexed line occur, with each length to be tried ...
        anchors, word, line = lines.word_run_hashes(ANCHOR_WORDS)
        possible = np.flatnonzero(self._filter[anchors & FILTER_MASK])
        group, is_known = find_sorted(anchors[possible], self._group_anchors)
        group, word, line = group[is_known], word[possible][is_known], line[possible][is_known]
        sizes = self._group_sizes[group]
        length = self._tried_lengths[run_positions(self._group_starts[group], run_offsets(sizes))]
        word, line = np.repeat(word, sizes), np.repeat(line, sizes)
        line_ends = np.cumsum(lines.word_counts, dtype=np.int64)
        fits = (word + length <= line_ends[line]) & (length >= share * lines.word_counts[line])
        # ... and lines that are too short to have first words, as a whole.
        short = np.flatnonzero(lines.word_counts < ANCHOR_WORDS)
        word = np.concatenate((word[fits], line_ends[short] - lines.word_counts[short]))
        length = np.concatenate((length[fits], lines.word_counts[short].astype(np.int64)))
        line = np.concatenate((line[fits], short))
        entry, is_entry = find_sorted(range_hashes(lines.word_hashes, word, length), self.line_hashes)
        return LineMatches(entry[is_entry], line[is_entry])


def split_quotes(message: bytes) -> bytes:
    """A commit message with a line break at each backtick, so that quoted code stands on lines of its own."""
    return message.replace(b"`", b"\n")


def text_batches(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Texts in lists of about `TEXT_BATCH_BYTES`, and an empty list, so that there is always one."""
    yield from batch_by_size(texts, len, TEXT_BATCH_BYTES)
    yield []


def join_texts(texts: list[bytes]) -> tuple[bytes, NDArray[np.int64]]:
    """Texts joined by newlines, and where each ends in the result, newline included."""
    return b"\n".join((*texts, b"\n")), np.cumsum([len(text) + 1 for text in texts], dtype=np.int64)


def _hash_texts(texts: list[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The shingles of some texts, and the number of shingles of each."""
    joined, text_ends = join_texts(texts)
    data = np.frombuffer(joined, dtype=np.uint8)
    classes = _BYTE_CLASSES[data]
    # A token is a run of bytes of one class: b"if (a)\n" -> edges [0, 2, 3, 4, 5, 6, 7]; the runs that are not white
    # space are the tokens if, (, a and ).
    edges = np.concatenate(([0], np.flatnonzero(classes[1:] != classes[:-1]) + 1, [len(data)]))
    is_token = classes[edges[:-1]] != _SPACE_CLASS
    starts, stops = edges[:-1][is_token], edges[1:][is_token]
    tokens = polynomial_hashes(data.astype(np.uint64) + np.uint64(1), starts, stops)
    text = np.searchsorted(text_ends, starts, side="right")  # the text that each token belongs to
    count = max(0, len(tokens) - SHINGLE_TOKENS + 1)
    is_inside = text[:count] == text[SHINGLE_TOKENS - 1 :]  # a shingle across two texts does not count
    hashes = shingle_hashes(tokens)[is_inside]
    return hashes, np.bincount(text[:count][is_inside], minlength=len(texts)).astype(np.int64)


def _line_keys(lines: HashedLines) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """For each line its hash, the hash of its first words (0 where it has too few), and how many words are compared."""
    lengths = np.minimum(lines.word_counts.astype(np.int64), MAX_LINE_WORDS)
    starts = run_offsets(lines.word_counts)[:-1]
    anchors = np.zeros(len(lengths), dtype=np.uint64)
    has_anchor = lengths >= ANCHOR_WORDS
    anchors[has_anchor] = shingle_hashes(lines.word_hashes.astype(np.uint64), ANCHOR_WORDS)[starts[has_anchor]]
    return range_hashes(lines.word_hashes, starts, lengths), anchors, lengths


def _hash_lines(texts: list[bytes]) -> HashedLines:
    """The lines of some texts."""
    joined, text_ends = join_texts(texts)
    for expression in WRAPPING_MARKUP:
        joined = expression.sub(lambda match: b" " * len(match[0]), joined)
    data = np.frombuffer(joined, dtype=np.uint8)
    # b"if x:\n" -> is_word [1, 1, 0, 1, 0, 0], which changes at [0, 2, 3, 4]: words from 0 to 2 and from 3 to 4.
    edges = np.flatnonzero(np.diff(_BYTE_CLASSES[data] == _WORD_CLASS, prepend=False, append=False))
    starts, stops = edges[::2], edges[1::2]
    words = polynomial_hashes(data.astype(np.uint64) + np.uint64(1), starts, stops)
    words ^= words >> np.uint64(32)
    line_of_word = np.searchsorted(np.flatnonzero(data == 0x0A), starts)
    first = equal_run_starts(line_of_word)  # the first word of each line that has any
    word_counts = np.diff(first, append=len(starts))
    byte_counts = stops[first + word_counts - 1] - starts[first]
    text = np.searchsorted(text_ends, starts[first], side="right")
    keep = (word_counts >= WORDS_PER_SHINGLE) | (byte_counts >= MIN_LINE_BYTES)
    return HashedLines(
        words.astype(np.uint32)[np.repeat(keep, word_counts)],
        word_counts[keep].astype(np.int32),
        np.minimum(byte_counts[keep], 255).astype(np.uint8),
        np.bincount(text[keep], minlength=len(texts)).astype(np.int32),
    )
