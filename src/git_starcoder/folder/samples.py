"""Rows → the samples that they were cut from, put together again: each token once, however many windows show it.

Windows overlap by three quarters and come in several sizes, so what is asked of every row's text is cheaper to ask
of its sample: a sixth of the tokens. That two rows of a sample show the same tokens at the same place is seen on the
way.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.recipe import Recipe
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.records import Split

    Tokens = NDArray[np.int32]

UNKNOWN = -1
"""Where no row shows the token."""
KEPT = ("source_file", "augmentation_type", "commit", "blob", "language", "role", "group", "age_days", "is_evolution",
        "commit_message", "kind", "has_dependencies")  # fmt: skip
"""Metadata that all rows of a sample share and that some check asks for."""
GROWTH = 4
"""Tokens of a variation for each byte of the largest file, at most: a row that says more is not believed."""
SENTINELS = 4
"""Control tokens of a masked row."""
NONE = np.empty(0, dtype=np.int32)


class Taken(NamedTuple):
    """A row that was added."""

    tokens: Tokens
    """Without padding, shape (length,)."""
    wrong: str
    """Why the row is not part of its sample, or ""."""


NOT_TAKEN = Taken(NONE, "")


class Run(NamedTuple):
    """Known tokens that follow one another in a sample, as text."""

    start: int
    """Where they begin, in tokens."""
    text: bytes
    """Without an end-of-text token behind it."""
    ends: bool
    """Whether there was one."""


class Spelled(NamedTuple):
    """A sample as text."""

    head: bytes
    cuts: array[int]
    """Where in the head each control token begins and ends, and last its length."""
    runs: list[Run]


@dataclass(slots=True)
class Sample:
    """A text as far as rows show it."""

    id: str
    split: Split
    number: int
    """Its first row, from 0 in the file."""
    about: Mapping[str, Any]
    """The metadata of `KEPT` that it has."""
    head: Tokens
    """Context, the same in each of its rows."""
    masked: bool
    tokens: Tokens = field(default_factory=lambda: NONE)
    """`UNKNOWN` in gaps, which are windows that were dropped; may be longer than `stop`."""
    stop: int = 0
    spelled: Spelled | None = None
    """Head and runs as text, once someone has asked for them."""

    def runs(self) -> Iterator[tuple[int, Tokens]]:
        """Where each run of known tokens begins in the sample, and the run."""
        return known(self.tokens[: self.stop])


def known(tokens: Tokens) -> Iterator[tuple[int, Tokens]]:
    """Where each run of known tokens begins among some tokens, and the run."""
    is_known = np.concatenate(([False], tokens != UNKNOWN, [False]))
    edges: list[int] = np.flatnonzero(is_known[1:] != is_known[:-1]).tolist()
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield start, tokens[start:stop]


class Samples:
    """All samples of a dataset. Memory: four bytes for each token of its texts; the texts, once they are asked for."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
        self._longest = GROWTH * Recipe.load(dataset.folder / "recipe.yaml").read.max_bytes
        self._is_control = np.zeros(self.tokenizer.vocab_size, dtype=bool)
        self._is_control[list(self.tokenizer.control_tokens)] = True
        self.of: dict[str, Sample] = {}
        """By id, in the order of their first rows."""

    def add(self, split: Split, number: int, about: Mapping[str, Any], ids: NDArray[np.uint32], top: int) -> Taken:
        """Take a row, by its metadata, all its tokens and the largest of them, to its sample.

        Rows come in the order of their files.
        """
        length: int = about["length"]
        tokens = ids[:length].view(np.int32)
        vocabulary = self.tokenizer.vocab_size
        if len(tokens) != length or (top >= vocabulary and ids[:length].max(initial=0) >= vocabulary):
            return Taken(NONE, "it has tokens that are not of the vocabulary, or too few")
        hole, context, start = about.get("hole"), about.get("context", 0), about["token_start"]
        if not _is_hole(hole, length):
            return Taken(tokens, f"no row of {length} tokens has the hole {hole}")
        if not 0 <= context <= length or not 0 <= start <= self._longest:
            return Taken(tokens, f"no row begins at token {start} behind a head of {context}")
        text = tokens[context:] if hole is None else unmasked(tokens, *hole)
        sample = self.of.get(about["sample"])
        if sample is None:
            kept = {key: about[key] for key in KEPT if key in about}
            head = tokens[:context].copy() if context else NONE
            sample = Sample(about["sample"], split, number, kept, head, hole is not None)
            self.of[sample.id] = sample
        elif (
            split != sample.split
            or (hole is not None) != sample.masked
            or context != len(sample.head)
            or (context and tokens[:context].tobytes() != sample.head.tobytes())
        ):
            return Taken(tokens, f"it is made otherwise than {self._first(sample)}, which is of the same sample")
        elif [*map(about.get, sample.about)] != [*sample.about.values()]:
            return Taken(tokens, f"it says other things of its sample than {self._first(sample)}")
        if not _put(sample, start, text):
            return Taken(tokens, f"other rows of its sample, as {self._first(sample)}, disagree")
        return Taken(tokens, "")

    def text(self, tokens: Tokens) -> bytes:
        """What tokens stand for, without an end-of-text token behind them."""
        if len(tokens) and tokens[-1] == self.tokenizer.end_id:
            tokens = tokens[:-1]
        return self.tokenizer.decode(tokens)

    def complete(self, sample: Sample) -> bytes | None:
        """The whole text of a sample, or None if rows do not show all of it."""
        tokens = sample.tokens[: sample.stop]
        if sample.masked or not len(tokens) or tokens[-1] != self.tokenizer.end_id or UNKNOWN in tokens:
            return None
        return self._spelled(sample).runs[0].text

    def spelled(self, sample: Sample) -> tuple[bytes, list[Run]]:
        """The head and the runs of a sample as text."""
        head, _, runs = self._spelled(sample)
        return head, runs

    def parts(self, sample: Sample) -> list[tuple[str, bytes]]:
        """The head of a sample: each of its control tokens, as it is spelled, and the text behind it."""
        head, cuts, _ = self._spelled(sample)
        edges = zip(cuts[::2], cuts[1::2], cuts[2::2], strict=False)
        return [(head[begin:end].decode(), head[end:stop]) for begin, end, stop in edges]

    def texts(self, sample: Sample) -> list[bytes]:
        """The texts of its runs."""
        return [run.text for run in self._spelled(sample).runs]

    def _spelled(self, sample: Sample) -> Spelled:
        if sample.spelled is None:
            head, end, tokenizer = sample.head, self.tokenizer.end_id, self.tokenizer
            controls: list[int] = np.flatnonzero(self._is_control[head]).tolist()
            pieces: list[bytes] = []
            for before, stop in pairwise([-1, *controls, len(head)]):
                mark = tokenizer.control_tokens[int(head[before])].encode() if before >= 0 else b""
                pieces += mark, tokenizer.decode(head[before + 1 : stop])
            cuts = array("I", [*accumulate(map(len, pieces))][1:])
            runs = [Run(start, self.text(run), int(run[-1]) == end) for start, run in sample.runs()]
            sample.spelled = Spelled(b"".join(pieces), cuts, runs)
        return sample.spelled

    def _first(self, sample: Sample) -> str:
        """Where the first row of a sample lies."""
        return self._dataset.place(sample.split, sample.number)


def unmasked(tokens: Tokens, start: int, stop: int) -> Tokens:
    """The text of a masked row, whose tokens `start` to `stop` stand at its end, in its own order."""
    after = len(tokens) - SENTINELS - stop  # tokens of the suffix
    middle = start + after + 3
    return np.concatenate((tokens[1 : 1 + start], tokens[middle:-1], tokens[2 + start : 2 + start + after]))


def _is_hole(hole: Any, length: int) -> bool:
    match hole:
        case None:
            return True
        case [int(start), int(stop)]:
            return 0 <= start < stop <= length - SENTINELS
        case _:
            return False


def _put(sample: Sample, start: int, text: Tokens) -> bool:
    """Keep the tokens of a window; whether they are those that others show."""
    stop = start + len(text)
    if stop > len(sample.tokens):
        room = stop if not len(sample.tokens) else stop + stop // 4
        sample.tokens = np.concatenate((sample.tokens, np.full(room - len(sample.tokens), UNKNOWN, dtype=np.int32)))
    sample.stop = max(sample.stop, stop)
    sample.spelled = None
    there = sample.tokens[start:stop]
    if there.tobytes() != text.tobytes():  # of so few tokens this is the quickest comparison
        if not ((there == text) | (there == UNKNOWN)).all():
            return False
        there[:] = text
    return True
