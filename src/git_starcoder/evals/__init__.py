"""A shelf: every other file here measures one thing on held-out text, of the trained model or of a reference beside it.

The contract of a file: `evaluate(exam) -> Score`. All of them see the same `Exam`, so that their scores compare.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.rows import identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.rows import Split
    from git_starcoder.seams import Model
    from git_starcoder.text.tokenizer import Tokenizer

DRAWS = 2000
"""Bootstrap draws behind an interval."""


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A run of tokens of one file as its author wrote it; a whole file unless rows of it were dropped."""

    path: str
    language: str
    start: int
    """Where it begins in its file, in tokens."""
    tokens: NDArray[np.int32]
    """Each token once, shape (tokens,)."""


@dataclass(frozen=True, slots=True)
class Exam:
    """What every eval is given."""

    model: Model
    untrained: Model
    """The same architecture with fresh weights."""
    tokenizer: Tokenizer
    training: Sequence[Document]
    """The `base` text of the training split."""
    heldout: Sequence[Document]
    """The `base` text that is asked about."""
    seed: int = 0
    lines: int = 200
    """How many next lines are asked for."""
    given: int = 32 << 20
    """Bytes of training text that a compressor is given. 13 MB are known to fit in the statistics of PPMd; the
    dictionary of xz holds all of it, and takes eleven times as much memory."""

    def text(self, tokens: NDArray[Any]) -> bytes:
        """The UTF-8 bytes of tokens, without the end-of-text token."""
        return self.tokenizer.decode(tokens[tokens != self.tokenizer.end])

    def priming(self) -> tuple[bytes, str]:
        """The training text for a compressor, each document ended by a zero byte, and a note if not all of it is."""
        parts: list[bytes] = []
        size = 0
        for document in self.training:
            parts.append(self.text(document.tokens) + b"\0")
            size += len(parts[-1])
            if size > self.given:
                return b"".join(parts)[: self.given], f"given the first {self.given / (1 << 20):.1f} MiB of it"
        return b"".join(parts), ""


class Score(NamedTuple):
    """What an eval found."""

    eval: str
    """Its key on the shelf."""
    measure: str
    """`bits per byte`, or `next line`, the share of lines that are exactly right."""
    subject: str
    """Who was asked: `trained model`, or a reference."""
    value: float
    low: float
    high: float
    """95 % confidence interval over files."""
    over: int
    """Bytes, or lines, that were asked about."""
    note: str = ""


def documents(dataset: Dataset, split: Split) -> list[Document]:
    """The `base` text of a split, each token once however rows overlap, in the order of the paths."""
    rows: dict[tuple[str, str], list[tuple[int, NDArray[np.int32], str]]] = {}
    for tokens, metadata in dataset.rows(split):
        if metadata["augmentation_type"] == "base":
            text = np.array(tokens[: metadata["length"]], dtype=np.int32)
            row = (int(metadata["token_start"]), text, str(metadata["language"]))
            rows.setdefault((str(metadata["source_file"]), str(metadata["sample"])), []).append(row)
    found: list[Document] = []
    for (path, _), windows in sorted(rows.items()):
        windows.sort(key=lambda window: window[0])
        found.extend(_joined(path, windows))
    return found


def _joined(path: str, windows: list[tuple[int, NDArray[np.int32], str]]) -> Iterable[Document]:
    """Overlapping windows, sorted by start, as few runs of tokens."""
    first, _, language = windows[0]
    parts: list[NDArray[np.int32]] = []
    end = first
    for start, tokens, _ in windows:
        if start > end:  # rows between were dropped as duplicates
            yield Document(path, language, first, np.concatenate(parts))
            first, parts, end = start, [], start
        parts.append(tokens[end - start :])
        end = max(end, start + len(tokens))
    yield Document(path, language, first, np.concatenate(parts))


def sample(found: Sequence[Document], limit: int, seed: int) -> list[Document]:
    """At most `limit` tokens of the documents: whole ones, drawn by content, the last one cut."""
    drawn: list[Document] = []
    left = limit
    for document in sorted(found, key=lambda each: identity(seed, each.path, each.start)):
        if left <= 0:
            break
        drawn.append(replace(document, tokens=document.tokens[:left]))
        left -= len(document.tokens)
    return sorted(drawn, key=lambda each: (each.path, each.start))


def surprise(model: Model, found: Sequence[Document], end: int, *, parts: int = 4) -> NDArray[np.float64]:
    """The bits that a model needs for each document, shape (documents,).

    Every token is scored once; the first one follows the end-of-text token, as in training. Of the `parts` of the
    model's context, all but one stand to the left of a token at least, or all there is: four cost four times as much as
    one, and come close to what a full context for every token would give.
    """
    windows: list[NDArray[np.int64]] = []
    owner: list[int] = []
    fresh: list[int] = []
    stride = max(1, model.context // parts)
    for number, document in enumerate(found):
        tokens = np.concatenate(([end], document.tokens)).astype(np.int64)
        done = 1
        for start in range(0, len(tokens), stride):
            stop = min(len(tokens), start + model.context + 1)
            if stop > done:
                windows.append(tokens[start:stop])
                owner.append(number)
                fresh.append(stop - done)
                done = stop
    total = np.zeros(len(found))
    for number, new, bits in zip(owner, fresh, model.bits(windows), strict=True):
        total[number] += bits[-new:].sum(dtype=np.float64)
    return total


def ratio(above: NDArray[Any], below: NDArray[Any], seed: int) -> tuple[float, float, float]:
    """Sum over sum, with the 95 % interval from a bootstrap over files. Both of shape (files,)."""
    value = float(above.sum() / below.sum())
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(above), (DRAWS, len(above)))
    totals = below[drawn].sum(axis=1)
    low, high = np.quantile(above[drawn].sum(axis=1)[totals > 0] / totals[totals > 0], (0.025, 0.975))
    return value, float(low), float(high)
