"""Rows go from simple to complex, and from small to large windows, in three stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import ORDER, Skip, place
from git_starcoder.rows import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Checked, Given
    from git_starcoder.rows import Split

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
        self._most = {split: {size: [0.0] * STAGES for size in sizes} for split in ORDER}  # complexity, by stage
        self._latest = dict.fromkeys(ORDER, 1)
        self._lowest: list[float] = [1.0] * STAGES
        self._highest: list[float] = [0.0] * STAGES

    def row(self, split: Split, row: Checked) -> Iterator[Finding]:
        """Its stage and complexity, against those of the rows before it."""
        said, most = row.metadata, self._most[split]
        stage, size, complexity = int(said.get("stage", 0)), int(said["window_size"]), float(said["complexity"])
        if stage not in range(1, STAGES + 1) or size not in most:
            yield Finding("curriculum", place(self._dataset, split, row), f"stage {stage} of windows of {size}")
            return
        if stage < self._latest[split]:
            what = f"stage {stage} behind rows of stage {self._latest[split]}"
            yield Finding("curriculum", place(self._dataset, split, row), what)
        before = max(most[size][: stage - 1], default=0.0)
        if complexity < before - ROUNDED:
            what = f"complexity {complexity} in stage {stage}, after {before} in an earlier one"
            yield Finding("curriculum", place(self._dataset, split, row), what)
        self._latest[split] = max(self._latest[split], stage)
        most[size][stage - 1] = max(most[size][stage - 1], complexity)
        if split == "train":
            self._lowest[stage - 1] = min(self._lowest[stage - 1], complexity)
            self._highest[stage - 1] = max(self._highest[stage - 1], complexity)

    def end(self) -> Iterator[Finding]:
        """Nothing more."""
        ranges = (f"{low:.2f}-{high:.2f}" for low, high in zip(self._lowest, self._highest, strict=True))
        self.figure = f"complexity of training {', '.join(ranges)}"
        yield from ()
