"""Rows from changes are marked as such, and show before, message and after."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.checks import Skip, place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import BulkRow, Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_git_diff_sequences", "test_evolution_weighting")
DIFF = "git_diff"
KINDS = ("file", "hunk", "next_edit")
OWN = ("is_evolution", "commit_message")
"""Keys that no other row has."""
COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class Check:
    """A finding for each row that is half a diff; the figure is how many there are, of how many commits."""

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        recipe = given.recipe
        wanted = recipe.read.changes and DIFF in recipe.augment and recipe.augment[DIFF].share
        self.figure: str | Skip = ""
        self._wanted = bool(wanted)
        marks = [given.samples.tokenizer.mark(mark) for mark in ("<commit_before>", "<commit_msg>", "<commit_after>")]
        self._marks = [mark[0] for mark in marks if len(mark) == 1]
        self._rows = 0
        self._commits: set[str] = set()

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """What they say of themselves, and the order of their parts."""
        for row, said in zip(block.rows, block.metadata, strict=True):
            made_by = said["augmentation_type"]
            if made_by == DIFF:
                self._rows += 1
                self._commits.add(said.get("commit", ""))
                wrong = list(self._wrong(row))
            else:
                wrong = [f"{key} in a row of {made_by}" for key in OWN if key in said]
            for what in wrong:
                yield Finding("diffs", place(self._dataset, split, row), what)

    def _wrong(self, row: BulkRow) -> Iterator[str]:
        said = row.metadata
        if said.get("is_evolution") is not True:
            yield "a diff that is no evolution"
        if not COMMIT.fullmatch(said.get("commit", "")):
            yield f"a diff of commit {said.get('commit')!r}"
        if "commit_message" not in said:
            yield "a diff without a commit_message"
        if said.get("kind") not in KINDS:
            yield f"a diff of kind {said.get('kind')!r}"
        if not 0 < row.context_length < said["length"]:
            yield f"a diff with {row.context_length} of {said['length']} tokens before what it made"
            return
        if len(self._marks) == 3:
            head = row.token_ids[: row.context_length]
            last = [int(found[-1]) if len(found := np.flatnonzero(head == mark)) else -1 for mark in self._marks]
            if not 0 <= last[0] < last[1] < last[2] == row.context_length - 1:
                yield "before, message and after are not in their order"

    def end(self) -> Iterator[Finding]:
        """Compare with the metadata."""
        said = self._dataset.metadata.get("git_diffs")
        if said != self._rows:
            yield Finding("diffs", "dataset_metadata.json", f"git_diffs is {said}, but there are {self._rows}")
        self.figure = f"{self._rows:,} rows of {len(self._commits):,} commits"
        if not self._rows:
            why = "the history has no change to learn from" if self._wanted else "the recipe wants none"
            self.figure = Skip(f"no rows from changes: {why}")
