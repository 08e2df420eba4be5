"""The window step: encodes texts to tokens, and cuts the tokens into windows that overlap (Sample → Windows).

Every text is encoded once, into one array on disk; a window is a place in this array. For windows of size W with
overlap o over a text of n tokens, windows begin at 0, S, 2S, … with the stride S = W·(1 - o), up to the first window
that reaches the end of the text. A window begins earlier, by at most half a stride, if an item of the syntax tree
begins there; but never so early that a token would be in no window.

With several sizes, each text is cut at every size up to the first one that holds it whole. A context prefix is repeated
in every window, at the sizes of which it takes at most half. What a change made is one row, at the smallest size that
holds it. In a masked text each window loses four tokens to control tokens, and of the masked spans that lie wholly in
the window the one nearest to its middle is masked.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder import machine
from git_starcoder.bases import find_base
from git_starcoder.errors import RecipeError
from git_starcoder.hashing.arrays import mix_bits, range_hashes, run_offsets
from git_starcoder.memo import Memo, batch_by_size
from git_starcoder.records import WINDOW_COLUMNS, Change, Span, Unit, Windows, cache_groups, content_id
from git_starcoder.row_layout import BASE, FIM_SENTINELS, masked_row, window_stride
from git_starcoder.stages.learn_tokenizer import LearningSource, learn_tokenizer
from git_starcoder.stages.row_table import partial_sample_key, task_prefix_lengths
from git_starcoder.text import embed
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder import recipe as recipes
    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.git.objects import Repo
    from git_starcoder.memo import Inputs
    from git_starcoder.records import Sample
    from git_starcoder.text.tokenizer import Tokenizer

    Places = NDArray[np.int64]

ENCODE_BATCH_BYTES = 4 << 20
"""Bytes of text encoded at a time, approximately: enough to keep the encoder's threads busy."""
MIN_ROW_TOKENS = 8
"""Tokens of text, without control tokens, that a row needs; a shorter one teaches nothing and is dropped."""
TOKENS_FILE = "tokens"
"""The file of all tokens, in the build's folder for temporary files."""
VERIFIED_TEXTS = 64
"""Texts on which the fast encoder is compared with the saved tokenizer, …"""
VERIFIED_CHARACTERS = 2048
"""… and the characters of each that are compared."""


class EncodedSamples(NamedTuple):
    """The tokens of all samples, one sample after another, each after those of its context prefix.

    Places are indexes into `tokens`.
    """

    tokens: NDArray[Any]
    """Shape (tokens,)."""
    prefix_starts: Places
    """Where the prefix of each sample begins, shape (samples,)."""
    text_bounds: Places
    """Where the text of each sample begins and ends, shape (samples, 2). Its prefix lies directly before it."""
    masked_bounds: Places
    """Where each masked span begins and ends, in order, shape (masked spans, 2)."""
    window_starts: Places
    """Where windows should begin, in order."""
    scored_bounds: Places
    """See `Windows.scored_bounds`."""

    def prefix_lengths(self) -> Places:
        """The tokens of each sample's prefix, shape (samples,)."""
        return self.text_bounds[:, 0] - self.prefix_starts


class EncodedSample(NamedTuple):
    """The tokens of one sample, in the tokenizer's type, as bytes.

    Places are little-endian int64 and count from the start of the text.
    """

    prefix: bytes
    tokens: bytes
    """The text, and the end-of-text token unless the text is masked: masked rows have their own."""
    masked_bounds: bytes
    """Where each masked span begins and ends."""
    window_starts: bytes
    """Where windows should begin."""
    scored_bounds: bytes
    """Where the scored tokens begin and end, if only a part is scored: those that begin in a scored span."""


def resolve_sizes(recipe: recipes.Recipe) -> recipes.Recipe:
    """The recipe with numbers for the window sizes `auto` and `scales`: those that suit this machine's device.

    With the tokenizer of a base, they also suit the base, which has learned nothing about longer rows.
    """
    size = recipe.window.size
    if not isinstance(size, str):
        return recipe
    base = find_base(recipe.window.tokenizer)
    if size == "auto":
        size = machine.recommended_window(machine.detect_device())
        size = size if base is None else min(size, base.window)
    else:
        sizes = machine.recommended_scales(machine.detect_device())
        size = sizes if base is None else tuple(tokens for tokens in sizes if tokens <= base.window) or (base.window,)
    return replace(recipe, window=replace(recipe.window, size=size))


def resolve_header(recipe: recipes.Recipe, repo: Repo) -> recipes.Recipe:
    """The recipe with the repository's name for the header `auto`."""
    if recipe.window.header != "auto":
        return recipe
    return replace(recipe, window=replace(recipe.window, header=repo.public_name()))


def external_digests(recipe: recipes.Recipe) -> tuple[str, ...]:
    """Digests of what a build takes from outside the repository and recipe: a tokenizer and an embedding model."""
    tokenizer, model = recipe.window.tokenizer, recipe.dedup.embedding
    digests = () if tokenizer == "learn" else (tokenizers.load_tokenizer(tokenizer).digest,)
    return digests if model is None else (*digests, embed.load_embedding_model(model).digest)


def cut_windows(build: BuildState, recipe: recipes.Recipe, repo: Repo, samples: Sequence[Sample]) -> Windows:
    """The windows over the tokens of all samples. The tokenizer is saved in the build's folder."""
    with build.count_step("window") as step:
        units = [sample.origin for sample in samples if sample.technique == BASE and isinstance(sample.origin, Unit)]
        tokenizer = load_or_learn_tokenizer(build, recipe, [LearningSource(repo, units, build.texts)])
        tokenizer.save(build.folder / "tokenizer")
        return cut_windows_of(build, step, recipe, samples, tokenizer)


def cut_windows_of(
    build: BuildState, step: StepCounts, recipe: recipes.Recipe, samples: Sequence[Sample], tokenizer: Tokenizer
) -> Windows:
    """The windows over the tokens of all samples."""
    options = recipe.window
    _verify_tokenizer(build, tokenizer, samples)
    if tokenizer.token_byte_counts is None and any(sample.scored_spans for sample in samples):
        what = "its tokens are not bytes, so it is unknown which of them a commit added"
        raise RecipeError(what, where="window.tokenizer", hint="use another tokenizer, or split.holdout=files")
    skipped = [tokenizer.fim_ids is None and bool(sample.masked_spans) for sample in samples]
    encoded = encode_samples(build, samples, skipped, tokenizer, recipe.read)
    step.figures |= {
        "tokenizer": tokenizer.digest,
        "vocab_size": tokenizer.vocab_size,
        "encoder": tokenizer.encoder_name,
        "lossless": "yes" if tokenizer.is_lossless else "no",
        "tokens": len(encoded.tokens),
    }
    planned, unplanned = plan_windows(samples, encoded, options.sizes, options.overlap)
    for index in unplanned:
        reason = "too_long" if isinstance(samples[index].origin, Change) else "head_too_long"
        step.drop(f"{samples[index].origin.path}#{samples[index].id}", reason)
    return _drop_unusable(planned, np.array(skipped, dtype=bool), step)


def load_or_learn_tokenizer(build: BuildState, recipe: recipes.Recipe, sources: Sequence[LearningSource]) -> Tokenizer:
    """The recipe's tokenizer."""
    if recipe.window.tokenizer == "learn":
        pinned = build.pins.tokenizer
        return learn_tokenizer(build, recipe, sources) if pinned is None else tokenizers.load_tokenizer(pinned)
    return tokenizers.load_tokenizer(recipe.window.tokenizer)


def _verify_tokenizer(build: BuildState, tokenizer: Tokenizer, samples: Sequence[Sample]) -> None:
    """Compare the tokenizer's fast encoder with the saved one on texts of this build."""
    units = [sample.origin for sample in samples if sample.technique == BASE and isinstance(sample.origin, Unit)]
    some_units = units[:: max(1, len(units) // VERIFIED_TEXTS)][:VERIFIED_TEXTS]
    texts = (build.texts.get(unit.source.text).decode() for unit in some_units)
    tokenizer.verify([text[:VERIFIED_CHARACTERS].encode() for text in texts])


def encode_samples(
    build: BuildState,
    samples: Sequence[Sample],
    skipped: Sequence[bool],
    tokenizer: Tokenizer,
    reading: recipes.ReadOptions,
) -> EncodedSamples:
    """Encode all samples but the skipped ones, which get no tokens, into a file.

    A masked text is encoded in parts between the edges of its masked spans, so that a span consists of whole tokens.
    Window starts are only known for tokenizers whose tokens are bytes. `reading` says how texts were read, which the
    cached tokens of a sample depend on.
    """
    memo: Memo[list[EncodedSample]] = Memo(build.cache, "tokens", list[EncodedSample])
    width = tokenizer.dtype.itemsize
    prefix_starts = np.zeros(len(samples), dtype=np.int64)
    text_bounds = np.zeros((len(samples), 2), dtype=np.int64)
    masked_bounds = [np.empty(0, dtype=np.int64)]
    window_starts = [np.empty(0, dtype=np.int64)]
    scored_bounds = [np.empty(0, dtype=np.int64)]

    def key(group: list[int]) -> Inputs:
        # Window starts come from a parser, which may have failed for a reason that is gone in another build.
        starts = (build.texts.get(samples[index].window_starts) for index in group)
        return (tokenizer.digest, repr(reading), *(samples[index].id for index in group), content_id(*starts))

    def compute(groups: list[list[int]]) -> Iterator[list[EncodedSample]]:
        encoded = _encode(build, [samples[index] for index in chain(*groups)], tokenizer)
        return ([next(encoded) for _ in group] for group in groups)

    def text_size(group: list[int]) -> int:
        spans = [part.text for index in group for part in (samples[index], *samples[index].context_prefix)]
        return sum(span.stop - span.start for span in spans)

    path = build.scratch / TOKENS_FILE
    end = 0
    with path.open("wb") as file:
        for batch in batch_by_size(cache_groups(samples), text_size, ENCODE_BATCH_BYTES):
            groups = [[index for index in group if not skipped[index]] for group in batch]
            encoded = dict(zip(chain(*groups), chain(*memo.map(groups, key, compute)), strict=True))
            for index in chain(*batch):
                prefix_starts[index] = text_bounds[index] = end
                if (sample := encoded.get(index)) is not None:
                    file.write(sample.prefix + sample.tokens)
                    start = end + len(sample.prefix) // width
                    end = start + len(sample.tokens) // width
                    text_bounds[index] = start, end
                    masked_bounds.append(np.frombuffer(sample.masked_bounds, dtype="<i8") + start)
                    window_starts.append(np.frombuffer(sample.window_starts, dtype="<i8") + start)
                    scored_bounds.append(np.frombuffer(sample.scored_bounds, dtype="<i8") + start)
    tokens = np.asarray(np.memmap(path, dtype=tokenizer.dtype, mode="r")) if end else np.empty(0, tokenizer.dtype)
    masked, scored = (np.concatenate(bounds).reshape(-1, 2) for bounds in (masked_bounds, scored_bounds))
    masked, scored = (spans[spans[:, 0] < spans[:, 1]] for spans in (masked, scored))  # some have no token of their own
    return EncodedSamples(tokens, prefix_starts, text_bounds, masked, np.concatenate(window_starts), scored)


def _split_at_masks(sample: Sample) -> list[Span]:
    """The spans of a text between the edges of its masked spans: every second one is masked.

    A text of 9 bytes with the masked span (2, 5) has the spans (0, 2), (2, 5), (5, 9).
    """
    start, stop = sample.text
    edges = [0, *(edge for span in sample.masked_spans for edge in span), stop - start]
    return [Span(start + left, start + right) for left, right in pairwise(edges)]


def _encode(build: BuildState, samples: Sequence[Sample], tokenizer: Tokenizer) -> Iterator[EncodedSample]:
    """Encode some samples: all their prefixes in one call of the tokenizer, and all their texts in another."""
    spans_of_sample = [_split_at_masks(sample) for sample in samples]
    prefix_texts = [build.texts.get(part.text) for sample in samples for part in sample.context_prefix]
    prefix_tokens, prefix_ends = tokenizer.encode(prefix_texts)
    tokens, ends = tokenizer.encode([build.texts.get(span) for spans in spans_of_sample for span in spans])
    # For tokens that are 3, 1 and 2 bytes wide, byte_offsets is [0, 3, 4, 6].
    byte_offsets = None if tokenizer.token_byte_counts is None else run_offsets(tokenizer.token_byte_counts[tokens])
    span_index = prefix_index = 0
    for sample, spans in zip(samples, spans_of_sample, strict=True):
        prefix: list[int] = []
        for part in sample.context_prefix:
            prefix += tokenizer.control_token_ids(part.control_token)
            prefix += prefix_tokens[prefix_ends[prefix_index] : prefix_ends[prefix_index + 1]].tolist()
            prefix_index += 1
        edges = ends[span_index : span_index + len(spans) + 1]
        span_index += len(spans)
        data = tokens[edges[0] : edges[-1]].tobytes()
        starts = masked = scored = np.empty(0, dtype=np.int64)
        if sample.masked_spans:
            masked = edges[1:-1] - edges[0]
        else:
            data += np.array([tokenizer.end_id], dtype=tokenizer.dtype).tobytes()
            if byte_offsets is not None:
                start_bytes = np.frombuffer(build.texts.get(sample.window_starts), dtype="<u4").astype(np.int64)
                starts = np.searchsorted(byte_offsets, start_bytes + byte_offsets[edges[0]]) - edges[0]
                scored_bytes = np.array(sample.scored_spans, dtype=np.int64).ravel()
                scored = np.searchsorted(byte_offsets, scored_bytes + byte_offsets[edges[0]]) - edges[0]
        places = (np.asarray(values, dtype="<i8").tobytes() for values in (masked, starts, scored))
        yield EncodedSample(np.array(prefix, dtype=tokenizer.dtype).tobytes(), data, *places)


def plan_windows(
    samples: Sequence[Sample], encoded: EncodedSamples, sizes: Sequence[int], overlap: float
) -> tuple[Windows, list[int]]:
    """Windows over the tokens of each sample, every token in at least one; and the samples that no size can hold."""
    is_masked = np.array([bool(sample.masked_spans) for sample in samples], dtype=bool)
    is_change = np.array([isinstance(sample.origin, Change) for sample in samples], dtype=bool)
    overhead = encoded.prefix_lengths() + FIM_SENTINELS * is_masked
    whole_length = overhead + encoded.text_bounds[:, 1] - encoded.text_bounds[:, 0]
    is_planned = np.zeros(len(samples), dtype=bool)
    is_done = is_planned.copy()
    parts: list[Windows] = []
    for size in sorted(sizes):
        chosen = ~is_done & np.where(is_change, whole_length <= size, overhead <= size // 2)
        is_planned |= chosen
        is_done |= chosen & (whole_length <= size)
        parts.append(_cut_at_size(samples, encoded, np.flatnonzero(chosen), size, overlap, size - overhead))
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in WINDOW_COLUMNS}
    return replace(parts[0], **columns), np.flatnonzero(~is_planned).tolist()


def _cut_at_size(
    samples: Sequence[Sample], encoded: EncodedSamples, chosen: Places, size: int, overlap: float, room: Places
) -> Windows:
    """The windows of one size over the chosen samples.

    `room` has shape (samples,): the tokens of text that fit into a window of each sample.
    """
    begin, end = encoded.text_bounds[chosen, 0], encoded.text_bounds[chosen, 1]
    # With little overlap, windows that hold more than text would leave gaps at the usual stride.
    stride = np.minimum(window_stride(size, overlap), room[chosen])
    # A text of 10 tokens with room 4 and stride 3: 1 - (4 - 10) // 3 = 3 windows, at 0, 3 and 6.
    count = 1 + np.maximum(0, -((room[chosen] - (end - begin)) // stride))
    # From here on one element per window. Counts [3, 2] -> which [0, 0, 0, 1, 1], index [0, 1, 2, 0, 1].
    which = np.repeat(np.arange(len(chosen)), count)
    index = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    begin, end, stride, count, sample = begin[which], end[which], stride[which], count[which], chosen[which]
    first = begin + index * stride
    latest_needed = np.where(index + 1 == count, end - room[sample], 0)  # the last window must reach the end
    earliest = np.maximum(first - np.minimum(stride // 2, room[sample] - stride), latest_needed)
    first = np.where(index > 0, _snap_to_starts(first, earliest, encoded.window_starts), first)
    length = np.minimum(room[sample], end - first)
    mask_start, mask_stop = _middle_masks(encoded.masked_bounds, first, first + length)
    difficulty = np.array([sample.origin.difficulty for sample in samples], dtype=np.float64)
    return Windows(
        samples=samples,
        tokens=encoded.tokens,
        prefix_starts=encoded.prefix_starts,
        sample_index=sample.astype(np.int32),
        token_start=first,
        sample_offset=(first - begin).astype(np.int32),
        length=length.astype(np.int32),
        size=np.full(len(sample), size, dtype=np.int32),
        prefix_length=encoded.prefix_lengths()[sample].astype(np.int32),
        mask_start=mask_start,
        mask_stop=mask_stop,
        window_index=index.astype(np.int32),
        window_count=count.astype(np.int32),
        content_key=np.zeros(len(sample), dtype=np.uint64),
        difficulty=difficulty[sample],
        weight=np.ones(len(sample), dtype=np.float64),
        stage=np.zeros(len(sample), dtype=np.int8),
        scored_bounds=encoded.scored_bounds,
    )


def _snap_to_starts(first: Places, earliest: Places, window_starts: Places) -> Places:
    """For each window the last of `window_starts` from `earliest` to `first`, or `first` if there is none."""
    if not len(window_starts):
        return first
    found = window_starts[np.maximum(0, np.searchsorted(window_starts, first, side="right") - 1)]
    return np.where((found >= earliest) & (found <= first), found, first)


def _middle_masks(masked_bounds: Places, begin: Places, end: Places) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each window, start and stop of the masked span nearest to its middle of those wholly inside it, or -1.

    They count from the window's start. Spans and windows are places in the tokens of all samples, so a span inside a
    window belongs to the window's sample.
    """
    none = np.full(len(begin), -1, dtype=np.int32)
    if not len(masked_bounds):
        return none, none.copy()
    # Spans low to high, both included, are inside. Sums stand for middles, which saves dividing by two.
    low = np.searchsorted(masked_bounds[:, 0], begin)
    high = np.searchsorted(masked_bounds[:, 1], end, side="right") - 1
    span_middle, window_middle = masked_bounds.sum(axis=1), begin + end
    after = np.clip(np.searchsorted(span_middle, window_middle), low, np.maximum(low, high))
    before = np.maximum(after - 1, low)
    last = len(masked_bounds) - 1
    after, before = np.minimum(after, last), np.minimum(before, last)
    is_before_nearer = np.abs(span_middle[before] - window_middle) <= np.abs(span_middle[after] - window_middle)
    best = np.where(is_before_nearer, before, after)
    is_found = low <= high
    start, stop = (np.where(is_found, masked_bounds[best, side] - begin, -1).astype(np.int32) for side in (0, 1))
    return start, stop


def _drop_unusable(planned: Windows, skipped: NDArray[np.bool_], step: StepCounts) -> Windows:
    """The windows that can be rows, with their content keys; the others are dropped with a reason."""
    is_masked = np.array([bool(sample.masked_spans) for sample in planned.samples], dtype=bool)[planned.sample_index]
    has_end_token = (planned.window_index + 1 == planned.window_count) & ~is_masked
    text_length = planned.length - has_end_token
    reasons = np.select(
        [
            skipped[planned.sample_index],
            text_length < MIN_ROW_TOKENS,
            is_masked & (planned.mask_start < 0),
            _are_behind_scored(planned),
        ],
        ["no_fim_tokens", "too_short", "no_hole", "not_held_out"],
        default="",
    )
    for row in np.flatnonzero(reasons != "").tolist():
        sample = planned.samples[int(planned.sample_index[row])]
        detail = f"window {planned.window_index[row] + 1} of {planned.window_count[row]}, {planned.length[row]} tokens"
        step.drop(f"{sample.origin.path}#{sample.id}", str(reasons[row]), detail)
    kept = planned.take(reasons == "")
    step.keep(len(kept))
    return kept.with_columns(content_key=content_keys(kept))


def _are_behind_scored(windows: Windows) -> NDArray[np.bool_]:
    """Which windows are behind all scored tokens of their sample, if only a part of it is scored; shape (windows,)."""
    is_behind = np.array([bool(sample.scored_spans) for sample in windows.samples], dtype=bool)[windows.sample_index]
    partial = np.flatnonzero(is_behind)
    text_starts = (windows.token_start - windows.sample_offset)[partial]
    texts = np.unique(text_starts)
    if len(texts):
        # Texts that begin at [0, 90] and spans [[10, 20], [30, 40], [95, 99]] -> owners [0, 0, 1], last [40, 99].
        owners = np.searchsorted(texts, windows.scored_bounds[:, 0], side="right") - 1
        last = np.zeros(len(texts), dtype=np.int64)
        np.maximum.at(last, owners, windows.scored_bounds[:, 1])
        is_behind[partial] = windows.token_start[partial] >= last[np.searchsorted(texts, text_starts)]
    return is_behind


def content_keys(windows: Windows) -> NDArray[np.uint64]:
    """A hash of the content of each row, shape (windows,). Equal rows have equal keys.

    Rows of a sample of which only a part is scored are equal to no other: they are read for the sake of what follows.
    """
    prefix_starts = windows.prefix_starts[windows.sample_index]
    keys = range_hashes(windows.tokens, windows.token_start, windows.length)
    prefix_length = task_prefix_lengths(windows)
    prefixed = np.flatnonzero(prefix_length)
    keys[prefixed] += mix_bits(range_hashes(windows.tokens, prefix_starts[prefixed], prefix_length[prefixed]))
    for column in (windows.length, windows.mask_start, windows.mask_stop):
        keys = mix_bits(keys + column.astype(np.uint64))
    own = np.array([partial_sample_key(sample) for sample in windows.samples], dtype=np.uint64)[windows.sample_index]
    return np.where(own > 0, mix_bits(keys + own), keys)


class RowLayout:
    """The order of tokens in rows, as a model sees them. `layout.masked_row` defines it for masked rows."""

    def __init__(self, windows: Windows, tokenizer: Tokenizer) -> None:
        self.windows = windows
        self.tokenizer = tokenizer

    def spans(self, rows: Places) -> Places:
        """The spans of `windows.tokens` that rows consist of: three of each row, in its order, shape (rows, 3, 2).

        For a plain row they are its prefix, its text, and an empty span. For a masked row they are what comes before
        the masked tokens, what comes after them, and the masked tokens, with `control_tokens` around them.
        """
        windows = self.windows
        first, length = windows.token_start[rows], windows.length[rows].astype(np.int64)
        prefix_start, stop = windows.prefix_starts[windows.sample_index[rows]], first + length
        mask = first + windows.mask_start[rows], first + windows.mask_stop[rows]
        no_span = ()  # control tokens are not in `windows.tokens`
        masked = masked_row((first, mask[0]), (mask[1], stop), mask, [no_span] * FIM_SENTINELS)
        plain = [prefix_start, prefix_start + windows.prefix_length[rows], first, stop, stop, stop]
        edges = np.where(self.is_masked(rows), list(chain(*masked)), plain)  # shape (6, rows)
        return np.ascontiguousarray(edges.T).reshape(-1, 3, 2)

    def is_masked(self, rows: Places) -> NDArray[np.bool_]:
        """Which rows have masked tokens to predict, shape (rows,)."""
        return (self.windows.mask_start[rows] >= 0) & (self.tokenizer.fim_ids is not None)

    @property
    def control_tokens(self) -> tuple[int, ...]:
        """The control tokens of a masked row: one before each of its spans, and the last."""
        if self.tokenizer.fim_ids is None:
            return ()
        prefix, middle, suffix = self.tokenizer.fim_ids
        return prefix, suffix, middle, self.tokenizer.end_id
