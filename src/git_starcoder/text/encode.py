"""Texts of samples become tokens: each text once, all in one array on disk."""

from __future__ import annotations

from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.memo import Memo
from git_starcoder.records import Span, cache_groups
from git_starcoder.text.shingles import offsets_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState
    from git_starcoder.records import Sample
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


class Text(NamedTuple):
    """The tokens of one sample, as bytes: tokens in the type of the tokenizer, places as little-endian int64."""

    head: bytes
    tokens: bytes
    """Of the text, with the end-of-text token unless it is masked: masked rows get their own."""
    holes: bytes
    """Where each hole begins and ends."""
    starts: bytes
    """Where windows like to begin."""


def encode(
    build: BuildState, samples: Sequence[Sample], skipped: Sequence[bool], tokenizer: Tokenizer, how: str
) -> Encoded:
    """Encode samples into a file. A skipped one has no tokens. `how` says how texts were read, for the cache.

    The text of a masked sample is encoded in pieces between the edges of its holes, so that a hole is whole tokens.
    Places where windows like to begin are known for tokenizers whose tokens are bytes.
    """
    heads = np.zeros(len(samples), dtype=np.int64)
    bounds = np.zeros((len(samples), 2), dtype=np.int64)
    holes = [np.empty(0, dtype=np.int64)]
    starts = [np.empty(0, dtype=np.int64)]
    path = build.scratch / "tokens"
    memo: Memo[list[Text]] = Memo(build.cache, "tokens", list[Text])
    width = tokenizer.dtype.itemsize
    done = 0
    with path.open("wb") as file:
        for batch in _batches(samples):
            asked = [[index for index in group if not skipped[index]] for group in batch]
            inputs = [(tokenizer.digest, how, *(samples[index].id for index in group)) for group in asked]
            known = memo.get(inputs)
            new = [index for group, texts in zip(asked, known, strict=True) if texts is None for index in group]
            made = _encode(build, [samples[index] for index in new], tokenizer)
            found = [[next(made) for _ in group] if texts is None else texts
                     for group, texts in zip(asked, known, strict=True)]  # fmt: skip
            memo.put([(one, texts) for one, texts, old in zip(inputs, found, known, strict=True) if old is None])
            of_sample = dict(zip(chain(*asked), chain(*found), strict=True))
            for index in chain(*batch):
                heads[index] = bounds[index] = done
                if text := of_sample.get(index):
                    file.write(text.head + text.tokens)
                    begin = done + len(text.head) // width
                    done = begin + len(text.tokens) // width
                    bounds[index] = begin, done
                    holes.append(np.frombuffer(text.holes, dtype="<i8") + begin)
                    starts.append(np.frombuffer(text.starts, dtype="<i8") + begin)
    tokens = np.asarray(np.memmap(path, dtype=tokenizer.dtype, mode="r")) if done else np.empty(0, tokenizer.dtype)
    masked = np.concatenate(holes).reshape(-1, 2)
    return Encoded(tokens, heads, bounds, masked[masked[:, 0] < masked[:, 1]], np.concatenate(starts))


def pieces(sample: Sample) -> list[Span]:
    """The spans of a text between the edges of its holes: every second one is a hole."""
    edges = [0, *(edge for hole in sample.masked_spans for edge in hole), sample.text.stop - sample.text.start]
    start = sample.text.start
    return [Span(start + left, start + right) for left, right in pairwise(edges)]


def _encode(build: BuildState, samples: Sequence[Sample], tokenizer: Tokenizer) -> Iterator[Text]:
    """The tokens of some samples."""
    parts = [pieces(sample) for sample in samples]
    flat_heads, head_offsets = tokenizer.encode(
        [build.texts.get(one.text) for sample in samples for one in sample.context_prefix]
    )
    flat, offsets = tokenizer.encode([build.texts.get(span) for spans in parts for span in spans])
    before = None if tokenizer.widths is None else offsets_of(tokenizer.widths[flat])
    first = first_head = 0
    for sample, spans in zip(samples, parts, strict=True):
        head: list[int] = []
        for piece in sample.context_prefix:
            head += tokenizer.mark(piece.control_token)
            head += flat_heads[head_offsets[first_head] : head_offsets[first_head + 1]].tolist()
            first_head += 1
        edges = offsets[first : first + len(spans) + 1]
        first += len(spans)
        tokens = flat[edges[0] : edges[-1]].tobytes()
        starts = holes = np.empty(0, dtype=np.int64)
        if sample.masked_spans:
            holes = edges[1:-1] - edges[0]
        else:
            tokens += np.array([tokenizer.end], dtype=tokenizer.dtype).tobytes()
            if before is not None:
                offered = np.frombuffer(build.texts.get(sample.window_starts), dtype="<u4").astype(np.int64)
                starts = np.searchsorted(before, offered + before[edges[0]]) - edges[0]
        places = (np.asarray(one, dtype="<i8").tobytes() for one in (holes, starts))
        yield Text(np.array(head, dtype=tokenizer.dtype).tobytes(), tokens, *places)


def _batches(samples: Sequence[Sample]) -> Iterator[list[list[int]]]:
    """Families of samples, in lists with about `BATCH` bytes of text each."""
    batch: list[list[int]] = []
    size = 0
    for family in cache_groups(samples):
        batch.append(family)
        for sample in (samples[index] for index in family):
            size += (
                sample.text.stop - sample.text.start + sum(stop - start for _, (start, stop) in sample.context_prefix)
            )
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    yield batch
