"""Rows → the samples that they were cut from, put together again: each token once, however many windows show it.

Windows overlap by three quarters and come in several sizes, so what is asked of every row's text is cheaper to ask
of its sample: a sixth of the tokens. That two rows of a sample show the same tokens at the same place is seen on the
way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from git_starcoder.recipe import Recipe
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.rows import Split

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

    def runs(self) -> Iterator[tuple[int, Tokens]]:
        """Where each run of known tokens begins in the sample, and the run."""
        tokens = self.tokens[: self.stop]
        known = np.concatenate(([False], tokens != UNKNOWN, [False]))
        edges: list[int] = np.flatnonzero(known[1:] != known[:-1]).tolist()
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            yield start, tokens[start:stop]


class Samples:
    """All samples of a dataset. Memory: four bytes for each token of its texts."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.tokenizer = tokenizers.load(dataset.tokenizer_folder)
        self._longest = GROWTH * Recipe.load(dataset.folder / "recipe.yaml").read.max_bytes
        self._begun: set[Split] = set()
        self._last: tuple[Split, int] | None = None
        self._taken = Taken(NONE, "")
        self.of: dict[str, Sample] = {}
        """By id, in the order of their first rows."""

    @classmethod
    def shared(cls, dataset: Dataset) -> Samples:
        """The samples of a dataset that several checks put together: a row that they all add is looked at once."""
        found = _SHARED.get(id(dataset.manifest))
        if found is None or found._dataset is not dataset:  # noqa: SLF001 - of its own class
            found = _SHARED[id(dataset.manifest)] = cls(dataset)
        return found

    def add(self, split: Split, number: int, about: Mapping[str, Any], ids: NDArray[Any]) -> Taken:
        """Take a row, by its metadata and all its tokens, to its sample.

        Rows come in the order of their files. When a split begins for the second time, all begins anew.
        """
        if (split, number) != self._last:
            if number == 0 and split in self._begun:
                self.of.clear()
                self._begun.clear()
            self._begun.add(split)
            self._last = split, number
            self._taken = self._take(split, number, about, ids)
        return self._taken

    def text(self, tokens: Tokens) -> bytes:
        """What tokens stand for, without an end-of-text token behind them."""
        if len(tokens) and tokens[-1] == self.tokenizer.end:
            tokens = tokens[:-1]
        return self.tokenizer.decode(tokens)

    def complete(self, sample: Sample) -> bytes | None:
        """The whole text of a sample, or None if rows do not show all of it."""
        tokens = sample.tokens[: sample.stop]
        if sample.masked or not len(tokens) or tokens[-1] != self.tokenizer.end or UNKNOWN in tokens:
            return None
        return self.text(tokens)

    def parts(self, sample: Sample) -> list[tuple[str, bytes]]:
        """The head of a sample: each of its control tokens, as it is spelled, and the text behind it."""
        controls = self.tokenizer.controls
        places = [at for at, token in enumerate(sample.head.tolist()) if token in controls]
        edges = pairwise([*places, len(sample.head)])
        return [
            (controls[int(sample.head[at])], self.tokenizer.decode(sample.head[at + 1 : stop])) for at, stop in edges
        ]

    def texts(self, sample: Sample) -> list[bytes]:
        """The texts of its runs."""
        return [self.text(run) for _, run in sample.runs()]

    def _take(self, split: Split, number: int, about: Mapping[str, Any], ids: NDArray[Any]) -> Taken:
        length: int = about["length"]
        tokens = ids[:length].astype(np.int32)
        if len(tokens) != length or int(ids[:length].max(initial=0)) >= self.tokenizer.vocab_size:
            return Taken(NONE, "it has tokens that are not of the vocabulary, or too few")
        hole, context, start = about.get("hole"), about.get("context", 0), about["token_start"]
        if not _is_hole(hole, len(tokens)):
            return Taken(tokens, f"no row of {length} tokens has the hole {hole}")
        if not 0 <= context <= length or not 0 <= start <= self._longest:
            return Taken(tokens, f"no row begins at token {start} behind a head of {context}")
        text = tokens[context:] if hole is None else unmasked(tokens, *hole)
        head = tokens[:context]
        sample = self.of.get(about["sample"])
        if sample is None:
            kept = {key: about[key] for key in KEPT if key in about}
            sample = Sample(about["sample"], split, number, kept, head.copy(), hole is not None)
            self.of[sample.id] = sample
        if (split, hole is not None) != (sample.split, sample.masked) or not np.array_equal(head, sample.head):
            return Taken(tokens, f"it is made otherwise than {self._first(sample)}, which is of the same sample")
        if any(about.get(key) != value for key, value in sample.about.items()):
            return Taken(tokens, f"it says other things of its sample than {self._first(sample)}")
        if not _put(sample, start, text):
            return Taken(tokens, f"other rows of its sample, as {self._first(sample)}, disagree")
        return Taken(tokens, "")

    def _first(self, sample: Sample) -> str:
        """Where the first row of a sample lies."""
        return self._dataset.place(sample.split, sample.number)


_SHARED: WeakValueDictionary[int, Samples] = WeakValueDictionary()


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
    there = sample.tokens[start:stop]
    if not np.all((there == text) | (there == UNKNOWN)):
        return False
    there[:] = text
    return True
