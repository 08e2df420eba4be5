"""Every row is there once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import ORDER, place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_no_duplicate_sequences",)


class Check:
    """A finding for each row whose tokens an earlier row has; the figure is how many are unique.

    Where the recipe copies training rows by their weight, each must be there as often as it says.
    """

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        self._first: dict[bytes, int] = {}  # 4 × its number, and its split
        self._missing: dict[bytes, set[int]] = {}
        self._rows = 0
        self.figure = ""

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Whether they were there before."""
        self._rows += len(block.rows)
        last = ORDER.index(split)
        for row, said in zip(block.rows, block.metadata, strict=True):
            here = 4 * row.index + last
            keeper = self._first.setdefault(row.content_hash, here)
            if keeper == here and (copies := said.get("copies", 1)) > 1:
                self._missing[row.content_hash] = set(range(copies))
            if row.content_hash in self._missing and (copy := said.get("copy", 0)) in self._missing[row.content_hash]:
                self._missing[row.content_hash].remove(copy)
            elif keeper != here:
                what = f"the same tokens as {self._place(keeper)}"
                yield Finding("duplicates", place(self._dataset, split, row), what)

    def end(self) -> Iterator[Finding]:
        """Copies that were promised and did not come."""
        for content, copies in self._missing.items():
            if copies:
                yield Finding(
                    "duplicates", self._place(self._first[content]), f"{len(copies)} of its copies are not there"
                )
        self.figure = f"{len(self._first):,} of {self._rows:,} rows are unique"

    def _place(self, here: int) -> str:
        return self._dataset.row_location(ORDER[here % 4], here // 4)
