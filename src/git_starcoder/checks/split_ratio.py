"""The splits have their shares of the rows."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

from git_starcoder.checks import Skip
from git_starcoder.recipe import Recipe
from git_starcoder.rows import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.dataset import Dataset
    from git_starcoder.rows import Split

POINT = 0.01
CHANCE = 0.4
"""Over the root of the number of groups: three times the spread of a share when the rows of each group are known to
within a third, as they are before texts are varied and compared. It is a point at 1,600 groups."""


def check(dataset: Dataset) -> Generator[Finding, None, str | Skip]:
    """A finding for each split that is off; a stated fallback is accepted; the figure is the shares.

    Groups of files are never cut, and their rows are only estimated when they are parted, so that few groups miss their
    shares by more than many do.
    """
    wanted = Recipe.load(dataset.folder / "recipe.yaml").split
    figures: list[dict[str, Any]] = [step["figures"] for step in dataset.manifest["steps"] if step["step"] == "split"]
    if not figures:
        return Skip("the manifest has no step 'split'")  # which `counts` finds
    total = dataset.metadata["total_sequences"]
    rows: dict[Split, int] = {split: dataset.metadata[f"{split}_sequences"] for split in SPLITS}
    for step in dataset.manifest["steps"]:
        if step["step"] == "write":  # training rows that are copied, or left out, by their weight count once
            more = step["figures"].get("copies", 0) - step["dropped"].get("weight", 0)
            rows["train"] -= more
            total -= more
    shares: dict[Split, float] = {split: count / max(1, total) for split, count in rows.items()}
    figure = " / ".join(f"{share:.1%}" for share in shares.values())
    fallback = figures[0].get("fallback", "none")
    if fallback != "none":
        return Skip(f"{figure}; the build said: {fallback}")
    within = max(POINT, CHANCE / sqrt(max(1, figures[0].get("groups", total))))
    for split, share in shares.items():
        if abs(share - getattr(wanted, split)) > within:
            what = f"{share:.1%} of the rows, not {getattr(wanted, split):.0%}"
            yield Finding("split_ratio", dataset.files(split)[0].name, what)
    return figure
