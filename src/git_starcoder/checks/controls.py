"""Control tokens stand only where the layout of a row has one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.checks import OfSamples, place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import BulkRow, Given, RowBlock
    from git_starcoder.records import Split

SEEDS: tuple[str, ...] = ()
MARKS = {"f": "<file_sep>", "b": "<commit_before>", "m": "<commit_msg>", "a": "<commit_after>"}
HEADS = {"git_diff": "f(bma)+", "temporal_context": "(bm)+af", "cross_file_context": "ff+"}
"""The control tokens of a head, by what made the row."""
OTHER = "[fbma]*"
"""Of a head that we do not know."""


class Check(OfSamples):
    """A finding for each row that has a control token elsewhere, or lacks one; the figure is how many rows have one.

    A row ends with the end-of-text token if its sample ends there and nowhere else; a masked row has the tokens of
    fill-in-the-middle around its parts, in the order prefix, suffix, middle; a head has the marks of what made it. Of
    these, a tokenizer without them has none.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        tokenizer = self._tokenizer = self._samples.tokenizer
        self._letters = dict.fromkeys(tokenizer.controls, "?") if tokenizer.widths is not None else {}
        # A tokenizer that is not byte-level has a control token for what it does not know, and that may be anywhere.
        there = {letter: ids[0] for letter, mark in MARKS.items()
                 if len(ids := tokenizer.mark(mark)) == 1 and ids[0] in tokenizer.controls}  # fmt: skip
        self._letters |= {number: letter for letter, number in there.items()}
        self._letters |= dict(zip(tokenizer.fim or (), "PMS", strict=False))
        self._letters |= {tokenizer.pad: "_", tokenizer.end: "."}
        self._least = np.uint32(min(self._letters))
        self._span = np.uint32(max(self._letters)) - self._least
        self._is_control = np.zeros(tokenizer.vocab_size + 1, dtype=bool)  # the last is for what is no token
        self._is_control[list(self._letters)] = True
        missing = "".join(MARKS.keys() - there.keys())
        self._heads = {key: re.compile(_without(head, missing)) for key, head in HEADS.items()}
        self._rows = self._marked = 0

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Look at all control tokens of some rows."""
        # Most tokenizers have them side by side, so what is asked of all tokens is not much.
        places = np.flatnonzero(block.token_ids - self._least <= self._span)
        places = places[self._is_control.take(block.token_ids[places], mode="clip")]
        begins = block.offsets[:-1]
        lengths = [len(row.added.tokens) for row in block.rows]
        # Padding is a control token, too, so only what stands before it is made into Python's numbers.
        edges = np.searchsorted(places, np.column_stack((begins, begins + lengths)))
        self._rows += len(lengths)
        for row, length, begin, (first, last) in zip(block.rows, lengths, begins.tolist(), edges.tolist(), strict=True):
            if first == last and _needs_none(row):
                continue
            here: list[int] = places[first:last].tolist()
            found = [(at - begin, self._letters[int(block.token_ids[at])]) for at in here]
            self._marked += bool(found)
            if length and (wrong := self._wrong(row, length, found)):
                yield Finding("controls", place(self._dataset, split, row), wrong)

    def _wrong(self, row: BulkRow, length: int, found: list[tuple[int, str]]) -> str:
        about, context = row.metadata, row.context_length
        if hole := about.get("hole"):
            start, stop = hole
            wanted = [(0, "P"), (1 + start, "S"), (length - 2 - (stop - start), "M"), (length - 1, ".")]
        else:
            head = "".join(letter for at, letter in found if at < context)
            pattern = self._heads.get(about["augmentation_type"])
            if context and not (pattern.fullmatch(head) if pattern else re.fullmatch(OTHER, head)):
                return f"the head of a {about['augmentation_type']} has the control tokens {self._spelled(head)}"
            found = [(at, letter) for at, letter in found if at >= context]
            wanted = [(length - 1, ".")] if about["chunk_index"] + 1 == about["total_chunks"] else []
        if found == wanted:
            return ""
        spare = next((one for one in found if one not in wanted), None)
        if spare is not None:
            return f"token {spare[0]} is the control token {self._spelled(spare[1])}"
        at, letter = next(one for one in wanted if one not in found)
        return f"token {at} is not the control token {self._spelled(letter)}"

    def _spelled(self, letters: str) -> str:
        controls: Any = self._tokenizer.controls
        names = {letter: controls.get(number, str(number)) for number, letter in self._letters.items()}
        return " ".join(names.get(letter, letter) for letter in letters) or "none"

    def end(self) -> Iterator[Finding]:
        """The figure."""
        self.figure = f"{self._marked:,} of {self._rows:,} rows have control tokens"
        yield from ()


def _needs_none(row: BulkRow) -> bool:
    """Whether a row is a window of a text that goes on behind it, and nothing more."""
    said = row.metadata
    return said["chunk_index"] + 1 < said["total_chunks"] and "context" not in said and "hole" not in said


def _without(pattern: str, letters: str) -> str:
    """A pattern for heads of a tokenizer that lacks some of the marks."""
    short = "".join(letter for letter in pattern if letter not in letters)
    return short.replace("()+", "").replace("++", "+").lstrip("+") if short != pattern else pattern
