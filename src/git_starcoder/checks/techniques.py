"""Rows are made by the recipe's techniques and by no others, as many by each as the metadata say."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING

from git_starcoder.checks import Skip, place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_augmentation_types_present", "test_elite_augmentation_types")
MADE_BY = itemgetter("augmentation_type")


class Check:
    """A finding for each technique that is unknown, miscounted or lost; the figure is the rows of each."""

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        wanted = given.recipe.augment
        self._known = ("base", *wanted)
        self._wanted = [key for key, options in wanted.items() if options.share > 0]
        self._rows: Counter[str] = Counter()
        self.figure: str | Skip = ""

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Count them by what made them."""
        made_by = list(map(MADE_BY, block.metadata))
        self._rows.update(made_by)
        for row, key in zip(block.rows, made_by, strict=True):
            if key not in self._known:
                what = f"augmentation_type '{key}' is not in the recipe"
                yield Finding("techniques", place(self._dataset, split, row), what)

    def end(self) -> Iterator[Finding]:
        """Compare with the metadata, and with what the augment step kept."""
        said = self._dataset.metadata["augmentation_techniques"]
        for key in sorted({*self._known, *said}):
            if said.get(key) != self._rows[key]:
                what = f"augmentation_techniques: {key} is {said.get(key)}, but it made {self._rows[key]} rows"
                yield Finding("techniques", "dataset_metadata.json", what)
        missing = [key for key in self._wanted if not self._rows[key]]
        self.figure = ", ".join(f"{key} {self._rows[key]:,}" for key in self._known if self._rows[key])
        if missing:
            self.figure += f"; nothing to do for {', '.join(missing)}"
        if missing == self._wanted:
            why = "found nothing to work on" if self._wanted else "are not in the recipe"
            self.figure = Skip(f"techniques {why}: {self.figure}")
