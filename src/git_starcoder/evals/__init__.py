"""A shelf: every other file here measures something on held-out text, of the trained model or of a reference beside it.

The contract of a file: `evaluate(exam) -> list[Score] | str`, where a text says why it cannot be measured. All of them
see the same `Exam`, so that their scores compare.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.errors import DatasetError
from git_starcoder.records import content_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.protocols import LanguageModel
    from git_starcoder.records import Split
    from git_starcoder.text.tokenizer import Tokenizer

DRAWS = 2000
"""Bootstrap draws behind an interval."""
FEW = 5
"""Files under which a figure is marked: its interval is wide, or there is none."""
BITS = "bits per byte"
PERPLEXITY = "perplexity"
LINE = "next line"
MIDDLE = "fill in the middle"
EXACT, SIMILAR = ", exact match", ", edit similarity"
"""Of a text that a model writes: the share that is right to the character, and how much of it is."""
UNITS = {
    BITS: "bytes", PERPLEXITY: "tokens", LINE + EXACT: "lines", LINE + SIMILAR: "lines", MIDDLE + EXACT: "holes",
    MIDDLE + SIMILAR: "holes",
}  # fmt: skip
"""All measures in the order of a table, and what `Score.over` counts."""
LOWER = (BITS, PERPLEXITY)
"""Measures of which less is better."""
MODEL = "trained model"


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A run of tokens of one file as its author wrote it; a whole file unless rows of it were dropped."""

    path: str
    language: str
    role: str
    start: int
    """Where it begins in its file, in tokens."""
    tokens: NDArray[np.int32]
    """Each token once, shape (tokens,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A row of the held-out split as training would show it."""

    kind: str
    """Its augmentation, or `base`."""
    path: str
    tokens: NDArray[np.int64]
    """With the end-of-text token before it where it begins a text, shape (tokens,)."""
    given: int
    """How many tokens at the beginning are shown and not asked for, at least one."""
    among: int
    """How many rows of this kind the split has."""


@dataclass(frozen=True, slots=True)
class Exam:
    """What every eval is given."""

    model: LanguageModel
    untrained: LanguageModel
    """The same architecture with fresh weights."""
    tokenizer: Tokenizer
    training: Sequence[Document]
    """The `base` text of the training split."""
    heldout: Sequence[Document]
    """The `base` text that is asked about."""
    rows: Sequence[Example] = ()
    """Rows of every kind, held out as well."""
    seed: int = 0
    lines: int = 200
    """How many next lines are asked for."""
    holes: int = 100
    """How many holes are to be filled in."""
    untaught: str = ""
    """Why the model cannot fill in the middle, if that is known."""
    given: int = 32 << 20
    """Bytes of training text that a compressor is given. 13 MB are known to fit in the statistics of PPMd; the
    dictionary of xz holds all of it, and takes eleven times as much memory."""

    def text(self, tokens: NDArray[Any]) -> bytes:
        """The UTF-8 bytes of tokens, without control tokens."""
        return self.tokenizer.decode(tokens[~_control(self.tokenizer)[tokens]])

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each held-out document, shape (documents,)."""
        return np.array([len(self.text(document.tokens)) for document in self.heldout], dtype=np.int64)

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


class Estimate(NamedTuple):
    """A figure over files."""

    value: float
    low: float | None
    """95 % confidence interval over files; None where nothing is known of their spread, as with a single one."""
    high: float | None
    files: int


class Score(NamedTuple):
    """What an eval found."""

    eval: str
    """Its key on the shelf."""
    measure: str
    """One of `UNITS`."""
    subject: str
    """Who was asked: `trained model`, or a reference."""
    value: float
    low: float | None
    """95 % confidence interval over files; None where nothing is known of their spread, as with a single one."""
    high: float | None
    files: int
    """Files that were asked about."""
    over: int
    """Bytes, tokens, lines or holes that were asked about."""
    note: str = ""
    by: str = ""
    """What is told apart, `kind` (of row), `language` or `role`; empty where all is asked about."""
    group: str = ""
    """Which of them."""


class Question(NamedTuple):
    """Something that a model is to write."""

    path: str
    before: NDArray[Any]
    """All tokens of the document before it."""
    after: NDArray[Any]
    """All tokens behind it that may be shown."""
    above: bytes
    """The text before it on as many lines as are asked for, without the blanks at both ends."""
    answer: bytes
    """What the author wrote, without the blanks at both ends."""


def documents(dataset: Dataset, split: Split) -> list[Document]:
    """The `base` text of a split, each token once however rows overlap, in the order of the paths."""
    rows: dict[tuple[str, str], list[tuple[int, NDArray[np.int32], str, str]]] = {}
    for tokens, metadata in dataset.rows(split):
        if metadata["augmentation_type"] == "base":
            text = np.array(tokens[: metadata["length"]], dtype=np.int32)
            row = (int(metadata["token_start"]), text, str(metadata["language"]), str(metadata["role"]))
            rows.setdefault((str(metadata["source_file"]), str(metadata["sample"])), []).append(row)
    found: list[Document] = []
    for (path, _), windows in sorted(rows.items()):
        windows.sort(key=lambda window: window[0])
        found.extend(_joined(path, windows))
    return found


def _joined(path: str, windows: list[tuple[int, NDArray[np.int32], str, str]]) -> Iterable[Document]:
    """Overlapping windows, sorted by start, as few runs of tokens."""
    first, _, language, role = windows[0]
    parts: list[NDArray[np.int32]] = []
    end = first
    for start, tokens, *_ in windows:
        if start > end:  # rows between were dropped as duplicates
            yield Document(path, language, role, first, np.concatenate(parts))
            first, parts, end = start, [], start
        parts.append(tokens[end - start :])
        end = max(end, start + len(tokens))
    yield Document(path, language, role, first, np.concatenate(parts))


def sample(found: Sequence[Document], limit: int, seed: int) -> list[Document]:
    """At most `limit` tokens of the documents: whole ones, drawn by content, the last one cut."""
    drawn: list[Document] = []
    left = limit
    for document in sorted(found, key=lambda each: content_id(seed, each.path, each.start)):
        if left <= 0:
            break
        drawn.append(replace(document, tokens=document.tokens[:left]))
        left -= len(document.tokens)
    return sorted(drawn, key=lambda each: (each.path, each.start))


def examples(dataset: Dataset, split: Split, limit: int, end: int, seed: int) -> list[Example]:
    """Rows of each kind, until `limit` tokens that count: one of each file, then a second, each drawn by content."""
    kinds: dict[str, list[tuple[str, str, int, int]]] = {}
    for number, about in enumerate(dataset.about(split)):
        asked = _asked(about)
        if asked > 0 and not about.get("copy"):  # a second copy of a row shows nothing new
            place = (about["source_file"], content_id(seed, about["row_id"]), number, asked)
            kinds.setdefault(about["augmentation_type"], []).append(place)
    drawn: dict[int, tuple[int, int]] = {}
    for kind in kinds.values():
        left = limit
        for turn, (_, _, number, asked) in enumerate(_in_turn(kind)):
            drawn[number] = (turn, len(kind))
            left -= asked
            if left <= 0:
                break
    found: list[tuple[str, int, Example]] = []
    for number, row in zip(sorted(drawn), dataset.select(split, lambda number, _: number in drawn), strict=True):
        turn, among = drawn[number]
        about = row.metadata
        opens = _opens(about)
        tokens = np.array([end] * opens + row.tokens[: about["length"]], dtype=np.int64)
        given = max(1, opens + row.uncounted)
        kind = str(about["augmentation_type"])
        found.append((kind, turn, Example(kind, str(about["source_file"]), tokens, given, among)))
    return [example for _, _, example in sorted(found, key=lambda each: each[:2])]


def fewer(rows: Sequence[Example], limit: int) -> list[Example]:
    """Of each kind the first rows, until `limit` tokens that count."""
    left: dict[str, int] = {}
    kept: list[Example] = []
    for row in rows:
        if left.setdefault(row.kind, limit) > 0:
            kept.append(row)
            left[row.kind] -= len(row.tokens) - row.given
    return kept


def _in_turn(places: list[tuple[str, str, int, int]]) -> list[tuple[str, str, int, int]]:
    """Places, of which the first is the path and the second a hash: the first of each path, then the second of each."""
    turns: list[tuple[int, tuple[str, str, int, int]]] = []
    seen: dict[str, int] = {}
    for place in sorted(places, key=lambda each: each[1]):
        seen[place[0]] = seen.get(place[0], -1) + 1
        turns.append((seen[place[0]], place))
    return [place for _, place in sorted(turns, key=lambda each: each[0])]


def _opens(about: dict[str, Any]) -> bool:
    """Whether a row begins a text, so that training puts the end-of-text token before it."""
    return about["token_start"] == 0 and not about.keys() & {"hole", "context"}


def _asked(about: dict[str, Any]) -> int:
    """How many tokens of a row training asks for."""
    opens = _opens(about)
    return about["length"] + opens - max(1, opens + about.get("context", 0))


def surprise(model: LanguageModel, found: Sequence[Document], end: int, *, parts: int = 4) -> NDArray[np.float64]:
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
    for number, new, bits in zip(owner, fresh, model.token_bits(windows), strict=True):
        total[number] += bits[-new:].sum(dtype=np.float64)
    return total


def graded(
    key: str, task: str, subject: str, asked: Sequence[Question], answers: Sequence[bytes], seed: int
) -> list[Score]:
    """How many answers are right to the character, and how similar they are.

    The similarity of two texts is one less their Levenshtein distance over the length of the longer one, in characters.
    """
    from rapidfuzz.distance import Levenshtein

    texts = [(answer.decode("utf-8", "replace"), question.answer.decode("utf-8", "replace"))
             for answer, question in zip(answers, asked, strict=True)]  # fmt: skip
    found = {
        EXACT: [float(answer == question.answer) for answer, question in zip(answers, asked, strict=True)],
        SIMILAR: [Levenshtein.normalized_similarity(*pair) for pair in texts],
    }
    paths = [question.path for question in asked]
    return [
        Score(key, task + end, subject, *mean(paths, marks, [1] * len(asked), seed), len(asked))
        for end, marks in found.items()
    ]


def mean(paths: Sequence[str], above: Sequence[Any] | NDArray[Any], below: Any, seed: int) -> Estimate:
    """Sum over sum, with its interval over files. `paths` says whose each number is; all of shape (things,).

    Raises:
        DatasetError: what a model said is no number.

    """
    if not np.isfinite(above).all():
        hint = "its training went wrong: train it again, with a smaller learning rate"
        raise DatasetError("the model's predictions are not numbers", where="eval", hint=hint)
    files = {path: number for number, path in enumerate(dict.fromkeys(paths))}
    owner = np.array([files[path] for path in paths], dtype=np.int64)
    sums = [np.bincount(owner, np.asarray(part, dtype=np.float64), len(files)) for part in (above, below)]
    return Estimate(*ratio(sums[0], sums[1], seed), len(files))


def ratio(above: NDArray[Any], below: NDArray[Any], seed: int) -> tuple[float, float | None, float | None]:
    """Sum over sum, with the 95 % interval from a bootstrap over files. Both of shape (files,).

    Of few files a bootstrap knows too little of the spread. So its quantiles are those of the expanded percentile
    interval (Hesterberg, 2015, "What Teachers Should Know About the Bootstrap"), which is as much wider as that of
    Student's t is than the normal one: of two or three files they are the extremes. One file has no interval.
    """
    value = float(above.sum() / below.sum())
    if len(above) < 2:
        return value, None, None
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(above), (DRAWS, len(above)))
    totals = below[drawn].sum(axis=1)
    edge = _edge(len(above))
    low, high = np.quantile(above[drawn].sum(axis=1)[totals > 0] / totals[totals > 0], (edge, 1 - edge))
    return value, float(low), float(high)


def _edge(files: int) -> float:
    """The lower quantile of the expanded percentile interval; 0.025 for many files."""
    normal = NormalDist()
    z, degrees = normal.inv_cdf(0.975), files - 1
    # Student's t by Abramowitz and Stegun, 26.7.5.
    t = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    return normal.cdf(-sqrt(files / degrees) * t)


@lru_cache(maxsize=2)
def _control(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Which tokens are control tokens, shape (vocabulary,)."""
    found = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
    found[list(tokenizer.control_tokens)] = True
    found[tokenizer.end_id] = True
    return found


@lru_cache(maxsize=2)
def newlines(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Which tokens hold a line break or end the text, shape (vocabulary,)."""
    found = np.array([b"\n" in tokenizer.decode([token]) for token in range(tokenizer.vocab_size)])
    found[tokenizer.end_id] = True
    return found
