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
SIZE = 0.5
"""What the largest window adds to the complexity."""
ROUNDED = 1e-4
"""Complexities are written with four decimals."""


def check(dataset: Dataset) -> Generator[Finding, None, str | Skip]:
    """A finding for each row that is simpler than a row of an earlier stage; the figure is the stages of training."""
    recipe = Recipe.load(dataset.folder / "recipe.yaml")
    if recipe.order.by != "curriculum":
        return Skip("the recipe wants a random order")
    sizes = sorted(dataset.metadata["context_windows"])
    larger = {size: SIZE * number / max(1, len(sizes) - 1) for number, size in enumerate(sizes)}
    ranges: list[str] = []
    for split in SPLITS:
        total = dataset.metadata[f"{split}_sequences"]
        before, highest, stage, lowest = 0.0, 0.0, 0, 2.0
        for number, row in enumerate(dataset.rows(split)):
            copied = split == "train" and recipe.write.copies  # stages have as many rows each before that
            said = row.metadata.get("stage", 0) - 1
            here = max(stage, said) if copied else number * STAGES // total
            if said != here:
                yield Finding("curriculum", place(dataset, split, row), f"stage {said + 1} among rows of {here + 1}")
            if here != stage:
                if split == "train":
                    ranges.append(f"{lowest:.2f}-{highest:.2f}")
                before, stage, lowest = highest, here, 2.0
            score = row.metadata["complexity"] + larger[row.metadata["window_size"]]
            highest, lowest = max(highest, score), min(lowest, score)
            if score < before - ROUNDED:
                what = f"complexity {score:.4f} in stage {stage + 1}, after {before:.4f} in an earlier one"
                yield Finding("curriculum", place(dataset, split, row), what)
        if split == "train":
            ranges.append(f"{lowest:.2f}-{highest:.2f}")
    return f"complexity of training {', '.join(ranges)}"
