"""The splits have their shares of the rows."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from git_starcoder.checks import Skip
from git_starcoder.records import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_dataset_split_ratio",)
POINT = 0.01
CHANCE = 0.4
"""Over the root of the number of groups: three times the spread of a share when the rows of each group are known to
within a third, as they are before texts are varied and compared. It is a point at 1,600 groups. A few large groups
among small ones count as few: the number is that of equal groups with as much spread (Kish, 1965)."""


class Check:
    """A finding for each split that is off; a stated fallback is accepted; the figure is the shares.

    Groups of files are never cut, and their rows are only estimated when they are parted, so that few groups miss their
    shares by more than many do. Rows that are copied by their weight count once.
    """

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        self._wanted = given.recipe.split
        self._rows: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self._groups: Counter[str] = Counter()
        self.figure: str | Skip = ""

    def block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
        """Count them, but no copies."""
        self._rows[split] += sum(said.get("copy", 0) == 0 for said in block.metadata)
        self._groups.update(map(itemgetter("group"), block.metadata))
        return ()

    def end(self) -> Iterator[Finding]:
        """The shares."""
        steps: list[dict[str, Any]] = self._dataset.manifest["steps"]
        for step in steps:
            if step["step"] == "write":  # of weights that round to no copy at all
                self._rows["train"] += step["dropped"].get("weight", 0)
        total = sum(self._rows.values())
        shares: dict[Split, float] = {split: count / max(1, total) for split, count in self._rows.items()}
        self.figure = " / ".join(f"{share:.1%}" for share in shares.values())
        fallback = next((step["figures"].get("fallback", "none") for step in steps if step["step"] == "split"), "none")
        if fallback != "none":
            self.figure = Skip(f"{self.figure}; the build said: {fallback}")
            return
        equal = self._groups.total() ** 2 / max(1, sum(rows**2 for rows in self._groups.values()))
        within = max(POINT, CHANCE / sqrt(max(1.0, equal)))
        for split, share in shares.items():
            if abs(share - getattr(self._wanted, split)) > within:
                what = f"{share:.1%} of the rows, not {getattr(self._wanted, split):.0%}"
                yield Finding("split_ratio", self._dataset.files(split)[0].name, what)
