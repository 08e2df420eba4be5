"""Reads held-out text for validation and evals: whole documents, and rows as training shows them.

A dataset has rows that overlap. `load_documents` joins them, so that each token is scored once. What is drawn depends
on the dataset alone: scores of two models, or of one model with two seeds, are of the same text.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.dataset.samples import NO_TOKENS, JoinedWindows
from git_starcoder.errors import DatasetError
from git_starcoder.records import SPLITS, content_id
from git_starcoder.row_layout import BASE, is_plain_text, scored_spans

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset.folder import Dataset
    from git_starcoder.records import Split

DRAW_SEED = 0
"""The seed of every choice of held-out text: a constant, so that all scores of a dataset are of the same text."""
MAX_FILE_SHARE = 1 / 32
"""The share of the drawn tokens that one file may have if there is more text than is drawn: few long files would say
little about the others."""
MIN_PIECE_TOKENS = 256
"""Tokens that a piece of a longer file may always have, however few are drawn: shorter pieces of more files would cost
as much, because the text before each is read."""
MAX_READ_TOKENS = 4096
"""Tokens before a piece that are read and not scored. Models of this size attend to fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """Consecutive tokens of one file as it is: all of them, unless some of its rows were dropped or it is a piece.

    A file of which only a part is held out gives a piece for each of its held-out spans, with the text before it.
    """

    path: str
    language: str
    role: str
    group: str
    """The leak group of the file."""
    start: int
    """Where the tokens start in the file, in tokens."""
    tokens: NDArray[np.int32]
    """Each token once, shape (tokens,)."""
    context_length: int = 0
    """The number of tokens at the beginning that are only read, and not scored."""
    header: NDArray[np.int32] = field(default_factory=lambda: NO_TOKENS)
    """What a model reads before any part of the text: name of the repository and path, as in training. Empty if the
    rows have no header."""
    blob: str = ""
    """The id that git gives to the content of the file."""

    @property
    def scored(self) -> NDArray[np.int32]:
        """The tokens that are scored."""
        return self.tokens[self.context_length :]


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutRow:
    """A row of the held-out split, as training would show it."""

    technique: str
    """What made it: `base`, or the name of an augmentation."""
    path: str
    group: str
    """The leak group of the file."""
    tokens: NDArray[np.int64]
    """Shape (tokens,). Begins with the end-of-text token if the row begins a text, as in training."""
    context_length: int
    """The number of tokens at the beginning that are not scored, at least one."""
    technique_count: int
    """The number of rows of this technique in the split."""


def load_documents(dataset: Dataset, split: Split) -> list[Document]:
    """Return the files of a split as they are, in the order of their paths, without what augmentations made.

    Of a file of which only a part is held out, each held-out span is a document of its own.
    """
    documents: list[Document] = []
    for document, is_scored in _join_rows(dataset, split):
        if is_scored is None:
            documents.append(document)
            continue
        edges: list[int] = np.flatnonzero(np.diff(is_scored, prepend=False, append=False)).tolist()
        documents += [_cut_piece(document, start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return documents


def load_repository(dataset: Dataset) -> list[Document]:
    """Return the files of all splits as the newest commit has them; of two versions of a file, this is the later one.

    Files that the newest commits deleted are among them.
    """
    held_out = [document for split in SPLITS[1:] for document, _ in _join_rows(dataset, split)]
    later = {document.path for document in held_out}
    return [*(each for each in load_documents(dataset, "train") if each.path not in later), *held_out]


def _join_rows(dataset: Dataset, split: Split) -> Iterator[tuple[Document, NDArray[np.bool_] | None]]:
    """Yield each run of known tokens of each file, and which of them are held out, shape (tokens,); None for all."""
    joined: dict[tuple[str, str], tuple[JoinedWindows, Document]] = {}
    scored: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for number, row in enumerate(dataset.rows(split), 1):
        metadata = row.metadata
        try:
            if metadata["augmentation_type"] != BASE:
                continue
            key = (str(metadata["source_file"]), str(metadata["sample"]))
            header, text = np.split(np.array(row.tokens[: metadata["length"]], dtype=np.int32), [row.context_length])
            if key not in joined:
                language, role, group = (str(metadata[name]) for name in ("language", "role", "group"))
                blob = str(metadata.get("blob", ""))
                whole = Document(key[0], language, role, group, 0, NO_TOKENS, header=header, blob=blob)
                joined[key] = (JoinedWindows(), whole)
            # `git starcoder check` reports rows that contradict each other.
            joined[key][0].join(int(metadata["token_start"]), text)
            if "scored" in metadata:
                shift = int(metadata["token_start"]) - row.context_length
                spans = ((start + shift, stop + shift) for start, stop in scored_spans(metadata))
                scored.setdefault(key, []).extend(spans)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"row {number} of {split} is damaged: {type(error).__name__}: {error}"
            raise DatasetError(what, where=str(dataset.folder), hint="`git starcoder check` finds such rows") from error
    for key, (windows, whole) in sorted(joined.items(), key=lambda item: item[0]):
        for first, tokens in windows.token_runs():
            is_scored = None
            if key in scored:
                is_scored = np.zeros(len(tokens), dtype=np.bool_)
                for start, stop in scored[key]:
                    is_scored[max(0, start - first) : max(0, stop - first)] = True
            yield replace(whole, start=first, tokens=tokens), is_scored


def draw_documents(documents: Sequence[Document], limit: int, max_documents: int | None = None) -> list[Document]:
    """Draw documents until `limit` of their tokens are scored: all of them if they have no more.

    Of documents that are pieces already, each counts for at least `MIN_PIECE_TOKENS`, so fewer tokens may be scored.

    A document that is longer than `max_piece_tokens` gives one piece of that size. All pieces of a document are equally
    likely: with its beginning alone, licence headers and imports would count for too much. The text before the piece is
    read, so each token is predicted from what stands before it in the file. The draw depends on the paths alone.
    """
    file_sizes = Counter[str]()
    for document in documents:
        file_sizes[document.path] += len(document.scored)
    most = max_piece_tokens([*file_sizes.values()], limit)
    drawn: list[Document] = []
    tokens_of_file = Counter[str]()
    left = limit
    hashes = [content_id(DRAW_SEED, each.path, each.start + each.context_length) for each in documents]
    for drawn_by, index in sorted(zip(hashes, range(len(hashes)), strict=True)):
        document = documents[index]
        length = len(document.scored)
        size = min(length, most - tokens_of_file[document.path], left)
        if size > 0 and (max_documents is None or len(drawn) < max_documents):
            # The first, second, ... or last `size` tokens.
            begin = document.context_length + min(int(drawn_by, 16) % -(-length // size) * size, length - size)
            drawn.append(_cut_piece(document, begin, begin + size))
            tokens_of_file[document.path] += size
            # A few lines that a commit added cost as much as a piece, because the text before them is read.
            left -= max(size, MIN_PIECE_TOKENS) if document.context_length else size
    return sorted(drawn, key=lambda document: (document.path, document.start + document.context_length))


def max_piece_tokens(lengths: Sequence[int], limit: int) -> int:
    """Return how many tokens of one file are scored at most, if `limit` tokens of files of these lengths are drawn.

    It is `MAX_FILE_SHARE` of the limit, or as much as exhausts the limit where there are too few files for that: three
    files of 10, 50 and 90 tokens and a limit of 100 give 45, because 10 + 45 + 45 = 100.
    """
    ordered = np.sort(np.array(lengths, dtype=np.int64))
    if ordered.sum() <= limit:
        return int(ordered.max(initial=0))
    # The first file that is too long if all longer ones get as much: the shorter ones are whole, and it shares the rest
    # of the limit with the longer ones. [10, 50, 90] -> before [0, 10, 60], sharing [3, 2, 1] -> 30, 110 > 100 -> 45.
    before, sharing = np.cumsum(ordered) - ordered, np.arange(len(ordered), 0, -1)
    first = int(np.argmax(before + ordered * sharing > limit))
    level = int((limit - before[first]) // sharing[first])
    return max(level, MIN_PIECE_TOKENS, int(limit * MAX_FILE_SHARE))


def _cut_piece(document: Document, start: int, stop: int) -> Document:
    """Return the tokens from `start` to `stop` of a document to score, with the text before them to read."""
    read = min(start, MAX_READ_TOKENS)
    tokens = document.tokens[start - read : stop]
    return replace(document, start=document.start + start - read, tokens=tokens, context_length=read)


def draw_rows(dataset: Dataset, split: Split, limit: int, end: int, left_out: Container[int] = ()) -> list[HeldOutRow]:
    """Draw rows of each technique until `limit` of their tokens are scored: one of each file, then a second of each.

    `end` is the end-of-text token. The rows with the indexes `left_out` are not drawn.
    """
    # By technique, of each row: a hash by which rows are drawn, its index, its file, how many of its tokens are scored.
    candidates: dict[str, list[tuple[str, int, str, int]]] = {}
    for index, metadata in enumerate(dataset.row_metadata(split)):
        scored = _scored_tokens(metadata)
        # Further copies of a row show nothing new.
        if scored > 0 and not metadata.get("copy") and index not in left_out:
            order = content_id(DRAW_SEED, metadata["row_id"])
            candidate = (order, index, metadata["source_file"], scored)
            candidates.setdefault(metadata["augmentation_type"], []).append(candidate)
    drawn: dict[int, tuple[str, int]] = {}  # index of each drawn row, in their order -> its technique, and its rows
    for technique, rows in sorted(candidates.items()):
        seen = Counter[str]()  # rows of each file so far
        turns: list[tuple[int, int, int]] = []
        for _, index, path, scored in sorted(rows):
            turns.append((seen[path], index, scored))
            seen[path] += 1
        left = limit
        for _, index, scored in sorted(turns, key=lambda turn: turn[0]):
            drawn[index] = (technique, len(rows))
            left -= scored
            if left <= 0:
                break
    found: dict[int, HeldOutRow] = {}
    for index, row in zip(sorted(drawn), dataset.select(split, lambda index, _: index in drawn), strict=True):
        ends = [end] * _begins_text(row.metadata)
        tokens = np.array(ends + row.tokens[: row.metadata["length"]], dtype=np.int64)
        technique, count = drawn[index]
        context_length = max(1, len(ends) + row.context_length)
        path, group = str(row.metadata["source_file"]), str(row.metadata["group"])
        found[index] = HeldOutRow(technique, path, group, tokens, context_length, count)
    return [found[index] for index in drawn]


def limit_rows(rows: Sequence[HeldOutRow], limit: int) -> list[HeldOutRow]:
    """Return the first rows of each technique, until `limit` of their tokens are scored."""
    left: dict[str, int] = {}
    first: list[HeldOutRow] = []
    for row in rows:
        if left.setdefault(row.technique, limit) > 0:
            first.append(row)
            left[row.technique] -= len(row.tokens) - row.context_length
    return first


def _begins_text(metadata: dict[str, Any]) -> bool:
    """Return whether a row begins a text, so that training puts the end-of-text token before it."""
    return metadata["token_start"] == 0 and is_plain_text(metadata)


def _scored_tokens(metadata: dict[str, Any]) -> int:
    """Return how many tokens of a row are in the training loss; the first token of a sequence is never predicted.

    Of a row of which only some are, they are scored as documents.
    """
    if "scored" in metadata:
        return 0
    ends = int(_begins_text(metadata))
    return metadata["length"] + ends - max(1, ends + metadata.get("context", 0))
