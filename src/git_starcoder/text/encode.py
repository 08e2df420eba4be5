"""Encodes the texts of samples: each text once, all tokens in one array on disk."""

from __future__ import annotations

from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.memo import Memo
from git_starcoder.records import Span, cache_groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState
    from git_starcoder.records import Sample
    from git_starcoder.text.tokenizer import Tokenizer

ENCODE_BATCH_BYTES = 4 << 20
"""Bytes of text that are encoded at a time."""


class EncodedSamples(NamedTuple):
    """Tokens of samples one after another, the context prefix of each before its text."""

    tokens: NDArray[Any]
    """Shape (tokens,)."""
    heads: NDArray[np.int64]
    """Where the context prefix of each sample begins, shape (samples,)."""
    bounds: NDArray[np.int64]
    """Where the text of each sample begins and ends, shape (samples, 2)."""
    holes: NDArray[np.int64]
    """Where each masked span begins and ends, in order, shape (holes, 2)."""
    starts: NDArray[np.int64]
    """Where windows preferably begin, in order."""


class SampleTokens(NamedTuple):
    """The tokens of one sample as bytes, for the cache. Positions are little-endian int64, relative to the text."""

    head: bytes
    """Tokens of the context prefix, in the type of the tokenizer."""
    tokens: bytes
    """Tokens of the text. The end-of-text token is included unless spans are masked: masked rows get their own."""
    holes: bytes
    """Where each masked span begins and ends."""
    starts: bytes
    """Where windows preferably begin."""


def encode_samples(
    build: BuildState, samples: Sequence[Sample], skipped: Sequence[bool], tokenizer: Tokenizer, read_options: str
) -> EncodedSamples:
    """Encode samples into a file.

    The text of a masked sample is encoded in parts between the edges of its masked spans, so that each span consists of
    whole tokens. Preferred window starts are known only for byte-level tokenizers.

    Args:
        build: The build, for its texts, cache and scratch folder.
        samples: The samples in order.
        skipped: Whether each sample is skipped; it then has no tokens.
        tokenizer: The tokenizer.
        read_options: The options with which texts were read, for the key of the cache.
    """
    heads = np.zeros(len(samples), dtype=np.int64)
    bounds = np.zeros((len(samples), 2), dtype=np.int64)
    holes = [np.empty(0, dtype=np.int64)]
    starts = [np.empty(0, dtype=np.int64)]
    path = build.scratch / "tokens"
    memo: Memo[list[SampleTokens]] = Memo(build.cache, "tokens", list[SampleTokens])
    width = tokenizer.dtype.itemsize
    written = 0
    with path.open("wb") as file:
        for batch in _batches(samples):
            wanted = [[index for index in group if not skipped[index]] for group in batch]
            inputs = [(tokenizer.digest, read_options, *(samples[index].id for index in group)) for group in wanted]
            cached = memo.get(inputs)
            missing = [index for group, known in zip(wanted, cached, strict=True) if known is None for index in group]
            encoded = _encode(build, [samples[index] for index in missing], tokenizer)
            results = [
                [next(encoded) for _ in group] if known is None else known
                for group, known in zip(wanted, cached, strict=True)
            ]
            memo.put([(key, new) for key, new, known in zip(inputs, results, cached, strict=True) if known is None])
            by_sample = dict(zip(chain(*wanted), chain(*results), strict=True))
            for index in chain(*batch):
                heads[index] = bounds[index] = written
                if text := by_sample.get(index):
                    file.write(text.head + text.tokens)
                    begin = written + len(text.head) // width
                    written = begin + len(text.tokens) // width
                    bounds[index] = begin, written
                    holes.append(np.frombuffer(text.holes, dtype="<i8") + begin)
                    starts.append(np.frombuffer(text.starts, dtype="<i8") + begin)
    tokens = np.asarray(np.memmap(path, dtype=tokenizer.dtype, mode="r")) if written else np.empty(0, tokenizer.dtype)
    spans = np.concatenate(holes).reshape(-1, 2)
    return EncodedSamples(tokens, heads, bounds, spans[spans[:, 0] < spans[:, 1]], np.concatenate(starts))


def split_at_masks(sample: Sample) -> list[Span]:
    """The spans of a text between the edges of its masked spans: every second one is masked."""
    edges = [0, *(edge for hole in sample.masked_spans for edge in hole), sample.text.stop - sample.text.start]
    start = sample.text.start
    return [Span(start + left, start + right) for left, right in pairwise(edges)]


def _encode(build: BuildState, samples: Sequence[Sample], tokenizer: Tokenizer) -> Iterator[SampleTokens]:
    """The tokens of some samples."""
    parts = [split_at_masks(sample) for sample in samples]
    head_tokens, head_offsets = tokenizer.encode(
        [build.texts.get(part.text) for sample in samples for part in sample.context_prefix]
    )
    tokens, offsets = tokenizer.encode([build.texts.get(span) for spans in parts for span in spans])
    byte_offsets = None  # where the bytes of each token begin, among those of all tokens
    if tokenizer.token_byte_counts is not None:
        byte_offsets = np.concatenate(([0], np.cumsum(tokenizer.token_byte_counts[tokens])))
    first = first_head = 0
    for sample, spans in zip(samples, parts, strict=True):
        head: list[int] = []
        for part in sample.context_prefix:
            head += tokenizer.control_token_ids(part.control_token)
            head += head_tokens[head_offsets[first_head] : head_offsets[first_head + 1]].tolist()
            first_head += 1
        edges = offsets[first : first + len(spans) + 1]
        first += len(spans)
        text = tokens[edges[0] : edges[-1]].tobytes()
        starts = holes = np.empty(0, dtype=np.int64)
        if sample.masked_spans:
            holes = edges[1:-1] - edges[0]
        else:
            text += np.array([tokenizer.end_id], dtype=tokenizer.dtype).tobytes()
            if byte_offsets is not None:
                preferred = np.frombuffer(build.texts.get(sample.window_starts), dtype="<u4").astype(np.int64)
                starts = np.searchsorted(byte_offsets, preferred + byte_offsets[edges[0]]) - edges[0]
        yield SampleTokens(
            np.array(head, dtype=tokenizer.dtype).tobytes(),
            text,
            np.asarray(holes, dtype="<i8").tobytes(),
            np.asarray(starts, dtype="<i8").tobytes(),
        )


def _batches(samples: Sequence[Sample]) -> Iterator[list[list[int]]]:
    """Groups of samples that are cached together, in lists of about `ENCODE_BATCH_BYTES` of text each."""
    batch: list[list[int]] = []
    size = 0
    for group in cache_groups(samples):
        batch.append(group)
        for sample in (samples[index] for index in group):
            prefix_bytes = sum(stop - start for _, (start, stop) in sample.context_prefix)
            size += sample.text.stop - sample.text.start + prefix_bytes
        if size >= ENCODE_BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch
