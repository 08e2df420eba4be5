"""Every row is there once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import content, place
from git_starcoder.rows import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.dataset import Dataset


def check(dataset: Dataset) -> Generator[Finding, None, str]:
    """A finding for each row whose tokens an earlier row has; the figure is how many are unique."""
    first: dict[bytes, str] = {}
    rows = 0
    for split in SPLITS:
        for row in dataset.rows(split):
            rows += 1
            here = place(split, row)
            keeper = first.setdefault(content(row), here)
            if keeper != here:
                yield Finding("duplicates", here, f"the same tokens as {keeper}")
    return f"{len(first):,} of {rows:,} rows are unique"
