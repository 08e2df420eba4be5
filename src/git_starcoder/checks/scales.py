"""Every window size has rows where texts are long enough, and the first rows of training show several."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING

from git_starcoder.checks import Skip, place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_multi_scale_contexts",)
TOP = 100
"""Rows that a person sees who opens the file."""
COMMON = 0.1
"""Share of the rows of the first stage from which a size must be among those: 100 rows miss it once in 40,000."""


class Check:
    """A finding for each size that is missing although texts are longer; the figure is the rows of each size."""

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        self._sizes = given.recipe.window.sizes
        self.figure: str | Skip = Skip("the recipe has one window size") if len(self._sizes) == 1 else ""
        self._rows: Counter[int] = Counter()
        self._top: set[int] = set()
        self._first_stage: Counter[int] = Counter()
        self._continued: dict[int, str] = {}  # a row of each size whose text needs several of them

    def block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
        """Count them by their sizes."""
        sizes: list[int] = list(map(itemgetter("window_size"), block.metadata))
        self._rows.update(sizes)
        for row, size in zip(block.rows, sizes, strict=True):
            if size not in self._continued and row.metadata["total_chunks"] > 1:
                self._continued[size] = place(self._dataset, split, row)
        if split == "train":
            self._top.update(sizes[: max(0, TOP - block.rows[0].index)])
            stages = (said.get("stage", 1) for said in block.metadata)
            self._first_stage.update(size for size, stage in zip(sizes, stages, strict=True) if stage == 1)
        return ()

    def end(self) -> Iterator[Finding]:
        """Sizes that are not there."""
        for smaller, size in zip(self._sizes, self._sizes[1:], strict=False):
            if smaller in self._continued and not self._rows[size]:
                what = f"a text of more than {smaller} tokens, but no row of {size} is anywhere"
                yield Finding("scales", self._continued[smaller], what)
        total = self._first_stage.total()
        common = [size for size, count in self._first_stage.items() if count >= COMMON * total]
        if total >= 2 * TOP and len(self._top) == 1 and len(common) > 1:
            where = self._dataset.files("train")[0].name
            yield Finding("scales", where, f"the first {TOP} rows are all of {min(self._top)} tokens")
        self.figure = ", ".join(f"{size}: {self._rows[size]:,}" for size in self._sizes)
