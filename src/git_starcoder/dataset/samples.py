"""Rebuilds samples from their rows: the windows of a text overlap, and each of its tokens is kept once.

Windows overlap by up to three quarters and come in several sizes. What is asked of every row's text is therefore much
cheaper to ask of the samples: they have a sixth of the tokens. Joining also shows whether rows of a sample disagree.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.row_layout import FIM_SENTINELS, scored_spans
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from git_starcoder.dataset.folder import Dataset
    from git_starcoder.records import Split

    Tokens = NDArray[np.int32]

UNKNOWN_TOKEN = -1
"""Stands where no row shows the token, because windows were dropped."""
MAX_TEXT_TOKENS = 1 << 28
"""Windows that start later are refused: a damaged row must not make us reserve all memory."""
SAMPLE_KEYS = ("source_file", "augmentation_type", "commit", "blob", "language", "role", "group", "age_days",
               "is_evolution", "commit_message", "kind", "has_dependencies", "repository")  # fmt: skip
"""The metadata that all rows of a sample share and that checks read."""
MAX_TOKENS_PER_BYTE = 4
"""A variation has at most this many tokens for each byte of the largest file that is read; windows beyond are wrong."""
NO_TOKENS = np.empty(0, dtype=np.int32)


@dataclass(slots=True, eq=False)
class JoinedWindows:
    """The tokens of one text, from overlapping windows of it."""

    tokens: Tokens = field(init=False, default_factory=lambda: NO_TOKENS)
    """Each token once, `UNKNOWN_TOKEN` in gaps. Valid up to `length`; what is behind is reserve for growth."""
    length: int = field(init=False, default=0)

    def join(self, start: int, window: Tokens) -> bool:
        """Add a window that starts at token `start` of the text. If it contradicts others, return False and skip it.

        Joining [7, 8, 9] at 0 and [9, 5] at 2 gives [7, 8, 9, 5].
        """
        if not 0 <= start <= MAX_TEXT_TOKENS:
            return False
        stop = start + len(window)
        if stop > len(self.tokens):
            room = stop if not len(self.tokens) else stop + stop // 4
            unknown = np.full(room - len(self.tokens), UNKNOWN_TOKEN, dtype=np.int32)
            self.tokens = np.concatenate((self.tokens, unknown))
        self.length = max(self.length, stop)
        joined = self.tokens[start:stop]
        if joined.tobytes() != window.tobytes():  # the fastest comparison of so few tokens
            if not ((joined == window) | (joined == UNKNOWN_TOKEN)).all():
                return False
            joined[:] = window
        return True

    def token_runs(self) -> Iterator[tuple[int, Tokens]]:
        """Yield each run of known tokens, and before it where it starts in the text."""
        return known_runs(self.tokens[: self.length])


def known_runs(tokens: Tokens) -> Iterator[tuple[int, Tokens]]:
    """Yield where each run of known tokens starts, and its tokens: [5, 6, -1, 7] gives (0, [5, 6]) and (3, [7])."""
    is_known = np.concatenate(([False], tokens != UNKNOWN_TOKEN, [False]))
    edges: list[int] = np.flatnonzero(is_known[1:] != is_known[:-1]).tolist()
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield start, tokens[start:stop]


class AddedRow(NamedTuple):
    """The result of adding a row to its sample."""

    tokens: Tokens
    """Without padding, shape (length,)."""
    problem: str
    """Why the row is not part of its sample, or empty."""


NOT_ADDED = AddedRow(NO_TOKENS, "")


class TextRun(NamedTuple):
    """The text of consecutive known tokens of a sample."""

    start: int
    """Where they start in the sample, in tokens."""
    text: bytes
    """Without the end-of-text token after it."""
    has_end: bool
    """Whether there was such a token."""


class DecodedSample(NamedTuple):
    """A sample as text."""

    prefix: bytes
    cuts: array[int]
    """Where each control token of the prefix starts and stops, in bytes, and at the end the length of the prefix."""
    runs: list[TextRun]


@dataclass(slots=True, eq=False)
class RebuiltSample(JoinedWindows):
    """A sample, as far as rows show it."""

    id: str
    split: Split
    first_row: int
    """The index of its first row in the split, from 0."""
    metadata: Mapping[str, Any]
    """Its values of `SAMPLE_KEYS`."""
    context_prefix: Tokens
    """The same in each of its rows."""
    is_masked: bool
    """Whether it is a fill-in-the-middle sample."""
    decoded: DecodedSample | None = None
    """The sample as text, once it has been asked for."""
    scored: list[tuple[int, int]] | None = None
    """The tokens of the text that are held out, as (start, stop), if only a part is; None for all."""


class RebuiltSamples:
    """All samples of a dataset. Takes four bytes of memory for each token, and the texts once they are asked for."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
        self._max_start = MAX_TOKENS_PER_BYTE * dataset.load_recipe().read.max_bytes
        self._is_control = np.zeros(self.tokenizer.vocab_size, dtype=bool)
        self._is_control[list(self.tokenizer.control_tokens)] = True
        self.by_id: dict[str, RebuiltSample] = {}
        """In the order of their first rows."""

    def add(
        self, split: Split, index: int, metadata: Mapping[str, Any], token_ids: NDArray[np.uint32], max_token: int
    ) -> AddedRow:
        """Add row `index` of a split to its sample. Rows come in the order of their files.

        `token_ids` are all its tokens with padding, shape (window_size,), and `max_token` is the largest of them.
        """
        length: int = metadata["length"]
        tokens = token_ids[:length].view(np.int32)
        vocabulary = self.tokenizer.vocab_size
        if len(tokens) != length or (max_token >= vocabulary and token_ids[:length].max(initial=0) >= vocabulary):
            return AddedRow(NO_TOKENS, "it has tokens outside the vocabulary, or fewer than its length")
        hole, context, start = metadata.get("hole"), metadata.get("context", 0), metadata["token_start"]
        if not _is_hole(hole, length):
            return AddedRow(tokens, f"a row of {length} tokens cannot have the hole {hole}")
        if not 0 <= context <= length or not 0 <= start <= self._max_start:
            return AddedRow(tokens, f"a row cannot start at token {start} with a context of {context} tokens")
        window = tokens[context:] if hole is None else unmask_row(tokens, *hole)
        sample = self.by_id.get(metadata["sample"])
        if sample is None:
            shared = {key: metadata[key] for key in SAMPLE_KEYS if key in metadata}
            prefix = tokens[:context].copy() if context else NO_TOKENS
            sample = RebuiltSample(metadata["sample"], split, index, shared, prefix, hole is not None)
            self.by_id[sample.id] = sample
        elif (
            split != sample.split
            or (hole is not None) != sample.is_masked
            or context != len(sample.context_prefix)
            or (context and tokens[:context].tobytes() != sample.context_prefix.tobytes())
        ):
            problem = f"its split, mask or context differs from {self._first_row(sample)} of the same sample"
            return AddedRow(tokens, problem)
        elif [*map(metadata.get, sample.metadata)] != [*sample.metadata.values()]:
            return AddedRow(tokens, f"its metadata differ from {self._first_row(sample)} of the same sample")
        sample.decoded = None
        if (scored := metadata.get("scored")) is not None:
            if not _are_spans(scored, context, length):
                return AddedRow(tokens, f"a row of {length} tokens cannot have the scored tokens {scored}")
            shift = start - context
            sample.scored = [*(sample.scored or ()), *((a + shift, b + shift) for a, b in scored_spans(metadata))]
        if not sample.join(start, window):
            return AddedRow(tokens, f"other rows of its sample, as {self._first_row(sample)}, disagree")
        return AddedRow(tokens, "")

    def decode(self, tokens: Tokens) -> bytes:
        """Return the text of tokens, without an end-of-text token at the end."""
        if len(tokens) and tokens[-1] == self.tokenizer.end_id:
            tokens = tokens[:-1]
        return self.tokenizer.decode(tokens)

    def full_text(self, sample: RebuiltSample) -> bytes | None:
        """Return the whole text of a sample, or None if its rows do not show all of it."""
        tokens = sample.tokens[: sample.length]
        if sample.is_masked or not len(tokens) or tokens[-1] != self.tokenizer.end_id or UNKNOWN_TOKEN in tokens:
            return None
        return self._decoded(sample).runs[0].text

    def prefix_and_runs(self, sample: RebuiltSample) -> tuple[bytes, list[TextRun]]:
        """Return the text of a sample's context prefix, and those of its runs of known tokens."""
        prefix, _, runs = self._decoded(sample)
        return prefix, runs

    def context_parts(self, sample: RebuiltSample) -> list[tuple[str, bytes]]:
        """Return the context prefix in parts: each control token as it is spelled, and the text after it."""
        prefix, cuts, _ = self._decoded(sample)
        edges = zip(cuts[::2], cuts[1::2], cuts[2::2], strict=False)
        return [(prefix[start:stop].decode(), prefix[stop:end]) for start, stop, end in edges]

    def run_texts(self, sample: RebuiltSample) -> list[bytes]:
        """Return the texts of a sample's runs of known tokens."""
        return [run.text for run in self._decoded(sample).runs]

    def held_out_texts(self, sample: RebuiltSample) -> list[bytes]:
        """Return the texts of a held-out sample that are held out: those of its runs, or of the scored tokens."""
        if sample.scored is None:
            return self.run_texts(sample)
        mask = np.zeros(sample.length, dtype=bool)
        for start, stop in sample.scored:
            mask[start:stop] = True
        tokens = np.where(mask, sample.tokens[: sample.length], UNKNOWN_TOKEN)
        return [self.decode(run) for _, run in known_runs(tokens)]

    def _decoded(self, sample: RebuiltSample) -> DecodedSample:
        if sample.decoded is None:
            prefix, tokenizer = sample.context_prefix, self.tokenizer
            controls: list[int] = np.flatnonzero(self._is_control[prefix]).tolist()
            # Alternately a control token and a text, beginning with no control token and the text before the first.
            texts: list[bytes] = []
            for before, stop in pairwise([-1, *controls, len(prefix)]):
                control = tokenizer.control_tokens[int(prefix[before])].encode() if before >= 0 else b""
                texts += control, tokenizer.decode(prefix[before + 1 : stop])
            cuts = array("I", [*accumulate(map(len, texts))][1:])
            end = tokenizer.end_id
            runs = [TextRun(start, self.decode(run), int(run[-1]) == end) for start, run in sample.token_runs()]
            sample.decoded = DecodedSample(b"".join(texts), cuts, runs)
        return sample.decoded

    def _first_row(self, sample: RebuiltSample) -> str:
        """Return where the first row of a sample is stored."""
        return self._dataset.row_location(sample.split, sample.first_row)


def unmask_row(tokens: Tokens, start: int, stop: int) -> Tokens:
    """Return the text of a fill-in-the-middle row, whose tokens `start` to `stop` are masked, in its original order.

    With start 1 and stop 2, the row [<pre>, a, <suf>, c, <mid>, b, <end>] gives [a, b, c].
    """
    suffix_length = len(tokens) - FIM_SENTINELS - stop
    middle = start + suffix_length + 3  # after three control tokens
    return np.concatenate((tokens[1 : 1 + start], tokens[middle:-1], tokens[2 + start : 2 + start + suffix_length]))


def _are_spans(edges: list[Any], start: int, stop: int) -> bool:
    """Whether edges are those of spans in order between two places."""
    return (
        len(edges) % 2 == 0
        and all(type(edge) is int for edge in edges)
        and [*edges] == sorted(edges)
        and (not edges or (start <= edges[0] and edges[-1] <= stop))
    )


def _is_hole(hole: Any, length: int) -> bool:
    match hole:
        case None:
            return True
        case [int(start), int(stop)]:
            return 0 <= start < stop <= length - FIM_SENTINELS
        case _:
            return False
