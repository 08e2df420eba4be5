"""Texts of samples become tokens: each text once, all in one array on disk."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.rows import Span
from git_starcoder.text.shingles import offsets_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.rows import Sample
    from git_starcoder.run import TextStore
    from git_starcoder.text.tokenizer import Tokenizer

BATCH = 4 << 20
"""Bytes of text encoded at a time."""


class Encoded(NamedTuple):
    """Tokens of samples behind one another, each behind those of its head."""

    tokens: NDArray[Any]
    """Shape (tokens,)."""
    heads: NDArray[np.int64]
    """Where the head of each sample begins, shape (samples,)."""
    bounds: NDArray[np.int64]
    """Where the text of each sample begins and ends, shape (samples, 2). The head lies before it."""
    holes: NDArray[np.int64]
    """Where each hole begins and ends, in order, shape (holes, 2)."""
    starts: NDArray[np.int64]
    """Where windows like to begin, in order."""


def encode(
    texts: TextStore, samples: Sequence[Sample], skipped: Sequence[bool], tokenizer: Tokenizer, path: Path
) -> Encoded:
    """Encode samples into a file, and end each with the end-of-text token unless it is masked (its rows get their own).

    The text of a masked sample is encoded in pieces between the edges of its holes, so that a hole is whole tokens. A
    skipped sample has no tokens. Places where windows like to begin are known for tokenizers whose tokens are bytes.
    """
    heads = np.zeros(len(samples), dtype=np.int64)
    bounds = np.zeros((len(samples), 2), dtype=np.int64)
    none = np.empty((0, 2), dtype=np.int64)
    holes: list[NDArray[np.int64]] = [none]
    starts: list[NDArray[np.int64]] = [none[:, 0]]
    end = np.array([tokenizer.end], dtype=tokenizer.dtype)
    widths = tokenizer.widths
    done = 0
    with path.open("wb") as file:
        for batch in _batches(samples):
            parts = [[] if skipped[index] else pieces(samples[index]) for index in batch]
            shown = [() if skipped[index] else samples[index].head for index in batch]
            data = [texts.get(piece.text) for head in shown for piece in head]
            flat_heads, head_offsets = tokenizer.encode(data)
            flat, offsets = tokenizer.encode([texts.get(span) for spans in parts for span in spans])
            before = None if widths is None else offsets_of(widths[flat])
            first = first_head = 0
            for index, spans, head in zip(batch, parts, shown, strict=True):
                heads[index] = done
                for piece in head:
                    mark = np.array(tokenizer.mark(piece.mark), dtype=tokenizer.dtype)
                    text = flat_heads[head_offsets[first_head] : head_offsets[first_head + 1]]
                    file.write(mark.tobytes() + text.tobytes())
                    first_head += 1
                    done += len(mark) + len(text)
                edges = offsets[first : first + len(spans) + 1] - offsets[first]
                begin, stop = int(offsets[first]), int(offsets[first + len(spans)])
                first += len(spans)
                file.write(flat[begin:stop].tobytes())
                sample = samples[index]
                if sample.holes:
                    holes.append(done + np.stack([edges[1:-1:2], edges[2::2]], axis=1) if spans else none)
                elif spans:
                    if before is not None and sample.starts.stop > sample.starts.start:
                        offered = np.frombuffer(texts.get(sample.starts), dtype="<u4").astype(np.int64) + before[begin]
                        starts.append(np.asarray(np.searchsorted(before, offered), dtype=np.int64) + (done - begin))
                    file.write(end.tobytes())
                    stop += 1
                bounds[index] = done, done + stop - begin
                done += stop - begin
    tokens = np.asarray(np.memmap(path, dtype=tokenizer.dtype, mode="r")) if done else np.empty(0, tokenizer.dtype)
    masked = np.concatenate(holes)
    return Encoded(tokens, heads, bounds, masked[masked[:, 0] < masked[:, 1]], np.concatenate(starts))


def pieces(sample: Sample) -> list[Span]:
    """The spans of a text between the edges of its holes: every second one is a hole."""
    edges = [0, *(edge for hole in sample.holes for edge in hole), sample.text.stop - sample.text.start]
    start = sample.text.start
    return [Span(start + left, start + right) for left, right in pairwise(edges)]


def _batches(samples: Sequence[Sample]) -> Iterator[range]:
    """Ranges of samples with about `BATCH` bytes of text each."""
    begin = size = 0
    for index, sample in enumerate(samples):
        size += sample.text.stop - sample.text.start + sum(stop - start for _, (start, stop) in sample.head)
        if size >= BATCH:
            yield range(begin, index + 1)
            begin, size = index + 1, 0
    yield range(begin, len(samples))
