"""Every row is there once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import content, place
from git_starcoder.rows import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.dataset import Dataset


def check(dataset: Dataset) -> Generator[Finding, None, str]:
    """A finding for each row whose tokens an earlier row has; the figure is how many are unique.

    Where the recipe copies training rows by their weight, each must be there as often as it says.
    """
    first: dict[bytes, str] = {}
    missing: dict[bytes, set[int]] = {}
    rows = 0
    for split in SPLITS:
        for row in dataset.rows(split):
            rows += 1
            here, tokens = place(dataset, split, row), content(row)
            keeper = first.setdefault(tokens, here)
            copies, copy = row.metadata.get("copies", 1), row.metadata.get("copy", 0)
            if keeper == here and copies > 1:
                missing[tokens] = set(range(copies))
            if copy in missing.get(tokens, ()):
                missing[tokens].remove(copy)
            elif keeper != here:
                yield Finding("duplicates", here, f"the same tokens as {keeper}")
    for tokens, copies in missing.items():
        if copies:
            yield Finding("duplicates", first[tokens], f"{len(copies)} of its copies are not there")
    return f"{len(first):,} of {rows:,} rows are unique"
