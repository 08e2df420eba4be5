"""Reads held-out text for validation and evals: whole documents, and rows as training shows them.

A dataset has rows that overlap. `load_documents` joins them, so that each token is scored once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.dataset.samples import NO_TOKENS, JoinedWindows
from git_starcoder.records import content_id
from git_starcoder.row_layout import BASE, is_plain_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset.folder import Dataset
    from git_starcoder.records import Split


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """Consecutive tokens of one file as it is: the whole file, unless some of its rows were dropped."""

    path: str
    language: str
    role: str
    start: int
    """Where the tokens start in the file, in tokens."""
    tokens: NDArray[np.int32]
    """Each token once, shape (tokens,)."""
    header: NDArray[np.int32] = field(default_factory=lambda: NO_TOKENS)
    """What a model reads before any part of the text: name of the repository and path, as in training. Empty if the
    rows have no header."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutRow:
    """A row of the held-out split, as training would show it."""

    technique: str
    """What made it: `base`, or the name of an augmentation."""
    path: str
    tokens: NDArray[np.int64]
    """Shape (tokens,). Begins with the end-of-text token if the row begins a text, as in training."""
    context_length: int
    """The number of tokens at the beginning that are not scored, at least one."""
    technique_count: int
    """The number of rows of this technique in the split."""


def load_documents(dataset: Dataset, split: Split) -> list[Document]:
    """Return the files of a split as they are, in the order of their paths, without what augmentations made."""
    joined: dict[tuple[str, str], tuple[JoinedWindows, str, str, NDArray[np.int32]]] = {}
    for row in dataset.rows(split):
        metadata = row.metadata
        if metadata["augmentation_type"] == BASE:
            key = (str(metadata["source_file"]), str(metadata["sample"]))
            header, text = np.split(np.array(row.tokens[: metadata["length"]], dtype=np.int32), [row.context_length])
            if key not in joined:
                joined[key] = (JoinedWindows(), str(metadata["language"]), str(metadata["role"]), header)
            # `git starcoder check` reports rows that contradict each other.
            joined[key][0].join(int(metadata["token_start"]), text)
    return [
        Document(path, language, role, start, tokens, header)
        for (path, _), (windows, language, role, header) in sorted(joined.items(), key=lambda item: item[0])
        for start, tokens in windows.token_runs()
    ]


def draw_documents(documents: Sequence[Document], limit: int, seed: int) -> list[Document]:
    """Draw whole documents until they have `limit` tokens; the last one is cut. The draw depends on paths and seed."""
    drawn: list[Document] = []
    left = limit
    for document in sorted(documents, key=lambda document: content_id(seed, document.path, document.start)):
        if left <= 0:
            break
        drawn.append(replace(document, tokens=document.tokens[:left]))
        left -= len(document.tokens)
    return sorted(drawn, key=lambda document: (document.path, document.start))


def draw_rows(dataset: Dataset, split: Split, limit: int, end: int, seed: int) -> list[HeldOutRow]:
    """Draw rows of each technique until `limit` of their tokens are scored: one of each file, then a second of each.

    `end` is the end-of-text token.
    """
    # By technique, of each row: a hash by which rows are drawn, its index, its file, how many of its tokens are scored.
    candidates: dict[str, list[tuple[str, int, str, int]]] = {}
    for index, metadata in enumerate(dataset.row_metadata(split)):
        scored = _scored_tokens(metadata)
        if scored > 0 and not metadata.get("copy"):  # further copies of a row show nothing new
            order = content_id(seed, metadata["row_id"])
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
        found[index] = HeldOutRow(technique, str(row.metadata["source_file"]), tokens, context_length, count)
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
    """Return how many tokens of a row are in the training loss; the first token of a sequence is never predicted."""
    ends = int(_begins_text(metadata))
    return metadata["length"] + ends - max(1, ends + metadata.get("context", 0))
