"""Rows go from simple to complex, and from small to large windows, in three stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import Skip, place
from git_starcoder.recipe import Recipe
from git_starcoder.rows import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.dataset import Dataset

STAGES = 3
ROUNDED = 1e-4
"""Complexities are written with four decimals."""


def check(dataset: Dataset) -> Generator[Finding, None, str | Skip]:
    """A finding for each row that is simpler than one of its size in an earlier stage, or behind rows of a later stage.

    The figure is the complexity of the stages of training.
    """
    if Recipe.load(dataset.folder / "recipe.yaml").order.by != "curriculum":
        return Skip("the recipe wants a random order")
    sizes: list[int] = dataset.metadata["context_windows"]
    lowest: list[float] = [1.0] * STAGES
    highest: list[float] = [0.0] * STAGES
    for split in SPLITS:
        most: dict[int, list[float]] = {size: [0.0] * STAGES for size in sizes}  # of the rows so far, by stage
        latest = 1
        for row in dataset.rows(split):
            said = row.metadata
            stage, size = int(said.get("stage", 0)), int(said["window_size"])
            complexity = float(said["complexity"])
            if stage not in range(1, STAGES + 1) or size not in most:
                yield Finding("curriculum", place(dataset, split, row), f"stage {stage} of windows of {size}")
                continue
            if stage < latest:
                yield Finding("curriculum", place(dataset, split, row), f"stage {stage} behind rows of stage {latest}")
            before = max(most[size][: stage - 1], default=0.0)
            if complexity < before - ROUNDED:
                what = f"complexity {complexity} in stage {stage}, after {before} in an earlier one"
                yield Finding("curriculum", place(dataset, split, row), what)
            latest = max(latest, stage)
            most[size][stage - 1] = max(most[size][stage - 1], complexity)
            if split == "train":
                lowest[stage - 1] = min(lowest[stage - 1], complexity)
                highest[stage - 1] = max(highest[stage - 1], complexity)
    ranges = (f"{low:.2f}-{high:.2f}" for low, high in zip(lowest, highest, strict=True))
    return f"complexity of training {', '.join(ranges)}"
