"""Rows go from simple to complex, and from small to large windows, in three stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import ORDER, Skip, place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_curriculum_learning",)
STAGES = 3
ROUNDED = 1e-4
"""Complexities are written with four decimals."""


class Check:
    """A finding for each row that is simpler than one of its size in an earlier stage, or behind rows of a later stage.

    The figure is the complexity of the stages of training.
    """

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        random = given.recipe.order.by != "curriculum"
        self.figure: str | Skip = Skip("the recipe wants a random order") if random else ""
        sizes: list[int] = given.dataset.metadata["context_windows"]
        # By stage the highest complexity that was in it or in an earlier one.
        self._most = {split: {size: [0.0] * (STAGES + 1) for size in sizes} for split in ORDER}
        self._latest = dict.fromkeys(ORDER, 1)
        self._lowest: list[float] = [1.0] * STAGES
        self._highest: list[float] = [0.0] * STAGES

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Their stages and complexities, against those of the rows before them."""
        for row, said in zip(block.rows, block.metadata, strict=True):
            stage, size, complexity = said.get("stage", 0), said["window_size"], said["complexity"]
            most = self._most[split].get(size)
            if not 1 <= stage <= STAGES or most is None:
                yield Finding("curriculum", place(self._dataset, split, row), f"stage {stage} of windows of {size}")
                continue
            if stage < self._latest[split]:
                what = f"stage {stage} behind rows of stage {self._latest[split]}"
                yield Finding("curriculum", place(self._dataset, split, row), what)
            elif stage > self._latest[split]:
                self._latest[split] = stage
            if complexity < most[stage - 1] - ROUNDED:
                what = f"complexity {complexity} in stage {stage}, after {most[stage - 1]} in an earlier one"
                yield Finding("curriculum", place(self._dataset, split, row), what)
            if complexity > most[stage]:
                most[stage:] = [max(complexity, other) for other in most[stage:]]
            if split == "train":
                if complexity < self._lowest[stage - 1]:
                    self._lowest[stage - 1] = complexity
                if complexity > self._highest[stage - 1]:
                    self._highest[stage - 1] = complexity

    def end(self) -> Iterator[Finding]:
        """Nothing more."""
        ranges = (f"{low:.2f}-{high:.2f}" for low, high in zip(self._lowest, self._highest, strict=True))
        self.figure = f"complexity of training {', '.join(ranges)}"
        yield from ()
