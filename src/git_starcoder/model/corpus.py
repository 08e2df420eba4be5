"""Holds the rows of the training split as arrays: all tokens in one array, and columns of what the plan needs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import DatasetError
from git_starcoder.hashing.arrays import mix_bits
from git_starcoder.model.syntax_spans import SyntaxSpans
from git_starcoder.row_layout import is_plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.protocols import Engine
    from git_starcoder.text.tokenizer import Tokenizer

    Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training rows as columns, in the order of the file.

    A row has two forms: its tokens as the dataset has them (`dataset_tokens`), and the tokens that a model reads
    (`input_tokens`), which may begin with a first token: the end-of-text token, or that of `begin_token`.
    """

    tokens: NDArray[Any]
    """Tokens of all rows without padding, in the smallest integer type that holds them, shape (tokens,)."""
    offsets: Integers
    """Row i is `tokens[offsets[i]:offsets[i + 1]]`, shape (rows + 1,)."""
    is_plain_text: NDArray[np.bool_]
    """Whether the row is text as it is, at most with a header before it, shape (rows,)."""
    starts_text: NDArray[np.bool_]
    """Whether the row is the beginning of a plain text. A model reads the end-of-text token of another text before it;
    other rows that begin with a control token of their own need none. Shape (rows,)."""
    context_lengths: NDArray[np.int32]
    """Tokens of the row's header or other context prefix, which is not in the loss, shape (rows,)."""
    previous: Integers
    """The row that ends where this one begins, if the windows of its file are not cut to overlap; else -1. Shape
    (rows,)."""
    weights: NDArray[np.float64]
    """How often to draw the row, relative to the others; above 0. Shape (rows,)."""
    content_hashes: NDArray[np.uint64]
    """Hash of the row's content, shape (rows,)."""
    end_token: int
    """The end-of-text token."""
    fim_tokens: tuple[int, int, int] | None
    """The prefix, middle and suffix tokens; None if the tokenizer has none."""
    begin_token: int | None = None
    """The token that a model reads before every row, because its base was trained to; see `Tokenizer.begin_id`."""
    text_tokens: NDArray[Any] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """All tokens that are not control tokens, in rising order."""
    languages: Sequence[str] = ()
    """The language of each row."""
    paths: Sequence[str] = ()
    """The file of each row."""
    dataset_rows: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The row of the dataset that each row is, shape (rows,); several are one that is shown with and without a
    context."""
    text_token_count: int = 0
    """Tokens of plain text with its headers. Where windows overlap, their common tokens count once."""
    syntax_spans: SyntaxSpans | None = None
    """What finds nodes of the syntax tree; None if spans to be filled in are all random."""

    @classmethod
    def read(cls, dataset: Dataset, tokenizer: Tokenizer, engine: Engine | None = None) -> Corpus:
        """Read the training split of a dataset. Rows are parsed by `engine`, if that is needed and it is given.

        Raises:
            DatasetError: The split has no rows, or a row is damaged or has tokens that the tokenizer does not have.
        """
        dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
        rows: list[tuple[Any, ...]] = []
        languages: list[str] = []
        paths: list[str] = []
        places: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for number, row in enumerate(dataset.rows("train")):
            metadata, what = row.metadata, ""
            try:
                row_tokens: NDArray[Any] = np.array(row.tokens[: metadata["length"]])
                weight = float(metadata["weight"])
                start, language = int(metadata["token_start"]), str(metadata["language"])
                path = str(metadata["source_file"])
                content_hash, context_length = int(metadata["row_id"][:16], 16), int(row.context_length)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                what = f"row {number + 1} is damaged: {type(error).__name__} {error}"
                raise DatasetError(what, where=dataset.row_location("train", number)) from error
            are_integers = row_tokens.ndim == 1 and row_tokens.dtype.kind == "i"  # an empty array is of kind "f"
            if not (are_integers and 0 <= row_tokens.min() <= row_tokens.max() < tokenizer.vocab_size):
                what = f"row {number + 1} has no tokens, or tokens that the dataset's tokenizer does not have"
            elif not (0 < weight < float("inf") and context_length >= 0):
                what = f"row {number + 1} has a weight of {weight} and {context_length} tokens of context"
            if what:
                raise DatasetError(what, where=dataset.row_location("train", number))
            is_plain = is_plain_text(metadata)
            rows.append(
                (row_tokens.astype(dtype), is_plain, is_plain and not start, context_length, weight, content_hash)
            )
            languages.append(language)
            paths.append(path)
            if is_plain:
                places[str(metadata["sample"])].append((start, start + len(row_tokens) - context_length, number))
        if not rows:
            hint = "the repository is too small for this recipe"
            raise DatasetError("there are no rows to train on", where=str(dataset.files("train")[0]), hint=hint)
        tokens, *values = zip(*rows, strict=True)
        offsets = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
        plain, starts, contexts, weights, hashes = map(
            np.array, values, (np.bool_, np.bool_, np.int32, np.float64, np.uint64)
        )
        return cls(
            np.concatenate(tokens),
            offsets,
            plain,
            starts,
            contexts,
            find_previous(places.values(), len(rows)),
            weights,
            hashes,
            end_token=tokenizer.end_id,
            begin_token=tokenizer.begin_id,
            fim_tokens=tokenizer.fim_ids,
            text_tokens=np.setdiff1d(np.arange(tokenizer.vocab_size), list(tokenizer.control_tokens)),
            languages=languages,
            paths=paths,
            dataset_rows=np.arange(len(rows)),
            text_token_count=sum(map(count_covered, places.values())) + int(contexts[plain].sum()),
            syntax_spans=None if engine is None else SyntaxSpans(tokenizer, engine),
        )

    def with_headers(self, headers: Mapping[str, NDArray[Any]], unchanged_share: float) -> Corpus:
        """This corpus with other headers before the rows of some files, in all draws but a share.

        Each of these rows becomes two, one with its own header and one with the other. They share its weight, so a plan
        draws both in this proportion and knows their lengths. A file whose header stays is left as it is.

        Args:
            headers: The header of each file, by path. It stands before the rows that are plain text with a header.
            unchanged_share: The share of the draws with the old header, from 0 to below 1.
        """
        rows: list[NDArray[Any]] = []
        context_lengths: list[int] = []
        origins: list[int] = []
        weights: list[float] = []
        is_changed_row: list[bool] = []
        copies: dict[bool, dict[int, int]] = {False: {}, True: {}}  # by whether the header is the new one
        for row, (path, length) in enumerate(zip(self.paths, self.context_lengths.tolist(), strict=True)):
            old, text = np.split(self.dataset_tokens(row), [length])
            new = headers.get(path, old) if length and self.is_plain_text[row] else old
            is_changed = not np.array_equal(new, old)
            shares = ((True, new, 1 - unchanged_share), (False, old, unchanged_share))
            for is_new, header, share in shares if is_changed else ((False, old, 1.0),):
                if share:
                    copies[is_new][row] = len(rows)
                    rows.append(np.concatenate((header, text)).astype(self.tokens.dtype))
                    context_lengths.append(len(header))
                    origins.append(row)
                    weights.append(float(self.weights[row]) * share)
                    is_changed_row.append(is_new)
        previous = np.full(len(rows), -1, dtype=np.int64)
        for numbers in copies.values():
            for row, number in numbers.items():
                previous[number] = numbers.get(int(self.previous[row]), -1)
        # Another content is another hash. With the same one, both rows of each pair would follow each other in a plan,
        # all pairs would be at the same place of their cycle, and whole passes would show one kind of header.
        hashes = self.content_hashes[origins]
        return replace(
            self,
            tokens=np.concatenate(rows),
            offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
            is_plain_text=self.is_plain_text[origins],
            starts_text=self.starts_text[origins],
            context_lengths=np.array(context_lengths, dtype=np.int32),
            previous=previous,
            weights=np.array(weights),
            content_hashes=np.where(is_changed_row, mix_bits(hashes), hashes),
            languages=[self.languages[row] for row in origins],
            paths=[self.paths[row] for row in origins],
            dataset_rows=self.dataset_rows[origins],
        )

    @cached_property
    def lengths(self) -> Integers:
        """Tokens of each row in the dataset, shape (rows,)."""
        return np.diff(self.offsets)

    @cached_property
    def input_lengths(self) -> Integers:
        """Tokens of each row that a model reads (`input_tokens`), shape (rows,)."""
        return self.lengths + self.has_first_token

    @cached_property
    def ends_text(self) -> NDArray[np.bool_]:
        """Whether the row ends with the end-of-text token, shape (rows,)."""
        return self.tokens[self.offsets[1:] - 1] == self.end_token

    @cached_property
    def has_first_token(self) -> NDArray[np.bool_]:
        """Whether a model reads a token before the row that the dataset does not have, shape (rows,)."""
        return self.starts_text if self.begin_token is None else np.ones_like(self.starts_text)

    @cached_property
    def loss_starts(self) -> Integers:
        """Index of the first token of `input_tokens` that is in the loss, at least 1, shape (rows,)."""
        return np.maximum(1, self.has_first_token + self.context_lengths.astype(np.int64))

    @cached_property
    def fim_loss_starts(self) -> Integers:
        """The same for rows that are learned as fill-in-the-middle: what follows `fim_prefix` is in the loss."""
        return (self.begin_token is not None) + self.context_lengths.astype(np.int64) + 1

    @cached_property
    def text_lengths(self) -> Integers:
        """Tokens of each row without its header or other context prefix, shape (rows,)."""
        return self.lengths - self.context_lengths

    @cached_property
    def is_last_window(self) -> NDArray[np.bool_]:
        """Whether a row is before no other one, shape (rows,)."""
        is_last = np.ones(len(self.lengths), dtype=np.bool_)
        is_last[self.previous[self.previous >= 0]] = False
        return is_last

    @cached_property
    def first_windows(self) -> Integers:
        """The row that begins the sequence of windows of each row, shape (rows,); itself if it is the only one."""
        first = np.where(self.previous < 0, np.arange(len(self.previous)), self.previous)
        # Each round doubles the windows that are skipped: previous [-1, 0, 1, 2] -> [0, 0, 1, 2] -> [0, 0, 0, 1] -> …
        while not np.array_equal(first, first[first]):
            first = first[first]
        return first

    @cached_property
    def max_shifts(self) -> Integers:
        """By how many tokens the windows of each row's sequence may begin earlier, shape (rows,).

        The first window then shows less of the text, and the last one, which reaches to its end, becomes longer. It
        must not become longer than the first one is.
        """
        last = np.flatnonzero(self.is_last_window)
        limits = np.zeros(len(self.lengths), dtype=np.int64)
        limits[self.first_windows[last]] = self.text_lengths[self.first_windows[last]] - self.text_lengths[last]
        return limits[self.first_windows]

    def dataset_tokens(self, index: int, shift: int = 0) -> NDArray[Any]:
        """The tokens of a row as the dataset has them, shape (length,).

        With a shift, the header is followed by the text that stands so many tokens earlier in the file. The rows
        [a b c d], [e f g h] and [i j] of a file with a shift of 1 are [a b c], [d e f g] and [h i j].
        """
        tokens = self.tokens[self.offsets[index] : self.offsets[index + 1]]
        if not shift:
            return tokens
        header, text = np.split(tokens, [self.context_lengths[index]])
        parts = [header]
        if self.previous[index] >= 0:
            parts.append(self.dataset_tokens(int(self.previous[index]))[-shift:])
        parts.append(text if self.is_last_window[index] else text[:-shift])
        return np.concatenate(parts)

    def input_tokens(self, index: int, shift: int = 0) -> NDArray[Any]:
        """The tokens of a row that a model reads: perhaps with a first token before them."""
        tokens = self.dataset_tokens(index, shift)
        return np.concatenate((np.array(self.first_tokens(index), dtype=tokens.dtype), tokens))

    def first_tokens(self, index: int) -> list[int]:
        """The token that a model reads before a row; none if it reads only what the dataset has."""
        if self.begin_token is not None:
            return [self.begin_token]
        return [self.end_token] if self.starts_text[index] else []


def count_covered(places: Iterable[tuple[int, int, int]]) -> int:
    """The tokens of a text that are in at least one of its rows, given by start, stop and number.

    For example, rows with the tokens 0 to 99, 50 to 149 and 200 to 299 cover 250 tokens.
    """
    covered = reached = 0
    for start, stop, _ in sorted(places):
        covered += max(0, stop - max(start, reached))
        reached = max(reached, stop)
    return covered


def find_previous(places: Iterable[list[tuple[int, int, int]]], row_count: int) -> Integers:
    """The row before each row in its text, or -1, shape (rows,).

    `places` has start, stop and number of each row of each text, in any order. A text counts only if its rows follow
    one another without gap or overlap, and all but the last, which is not longer, have one length.
    """
    previous = np.full(row_count, -1, dtype=np.int64)
    for rows in places:
        rows = sorted(rows)
        lengths = [stop - start for start, stop, _ in rows]
        follow = all(left[1] == right[0] for left, right in pairwise(rows))
        if follow and len(set(lengths[:-1])) <= 1 and lengths[-1] <= lengths[0]:
            for (_, _, left), (_, _, right) in pairwise(rows):
                previous[right] = left
    return previous
