"""Every row is there once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import ORDER, place
from git_starcoder.rows import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Checked, Given
    from git_starcoder.rows import Split

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

    def row(self, split: Split, row: Checked) -> Iterator[Finding]:
        """Whether it was there before."""
        self._rows += 1
        here = 4 * row.number + ORDER.index(split)
        keeper = self._first.setdefault(row.content, here)
        copies, copy = row.metadata.get("copies", 1), row.metadata.get("copy", 0)
        if keeper == here and copies > 1:
            self._missing[row.content] = set(range(copies))
        if copy in self._missing.get(row.content, ()):
            self._missing[row.content].remove(copy)
        elif keeper != here:
            yield Finding("duplicates", place(self._dataset, split, row), f"the same tokens as {self._place(keeper)}")

    def end(self) -> Iterator[Finding]:
        """Copies that were promised and did not come."""
        for content, copies in self._missing.items():
            if copies:
                yield Finding(
                    "duplicates", self._place(self._first[content]), f"{len(copies)} of its copies are not there"
                )
        self.figure = f"{len(self._first):,} of {self._rows:,} rows are unique"

    def _place(self, here: int) -> str:
        return self._dataset.place(ORDER[here % 4], here // 4)
