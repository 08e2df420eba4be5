"""Train, val and test have the recipe's shares of the rows, within one point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import Skip
from git_starcoder.recipe import Recipe
from git_starcoder.rows import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.dataset import Dataset

WITHIN = 0.01


def check(dataset: Dataset) -> Generator[Finding, None, str | Skip]:
    """A finding for each split that is off; a stated fallback is accepted; the figure is the shares."""
    wanted = Recipe.load(dataset.folder / "recipe.yaml").split
    said = next((step["figures"] for step in dataset.manifest["steps"] if step["step"] == "split"), None)
    fallback = said.get("fallback", "none") if said else "none"
    total = max(1, dataset.metadata["total_sequences"])
    shares = {split: dataset.metadata[f"{split}_sequences"] / total for split in SPLITS}
    figure = " / ".join(f"{share:.1%}" for share in shares.values())
    if fallback != "none":
        return Skip(f"{figure}; the build said: {fallback}")
    for split, share in shares.items():
        if abs(share - getattr(wanted, split)) > WITHIN:
            what = f"{share:.1%} of the rows, not {getattr(wanted, split):.0%}"
            yield Finding("split_ratio", f"training_data_{split}.jsonl", what)
    return figure
