"""Variations stand beside the files that they vary, of no more files than the recipe draws."""

from __future__ import annotations

from collections import defaultdict
from math import sqrt
from typing import TYPE_CHECKING

from git_starcoder.checks import Skip, place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_augmentation_diversity",)
SPREAD = 5
"""Standard deviations of the number of files that are drawn: one dataset in three million has more by chance."""


class Check:
    """A finding for each variation of nothing or of too many files; the figure is rows as they are, and varied.

    Rows that a change made vary no file. A file as it is may be gone where all of its rows repeat others.
    """

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        self._wanted = given.recipe.augment
        self._files: dict[str, set[str]] = defaultdict(set)
        self._blob: dict[str, str] = {}
        self._base = self._varied = 0
        self.figure: str | Skip = ""

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Count them; a file has one content, whatever is made of it."""
        for row, said in zip(block.rows, block.metadata, strict=True):
            made_by, path = said["augmentation_type"], said["source_file"]
            if made_by == "base":
                self._base += 1
            else:
                self._varied += 1
            if said.get("is_evolution"):
                continue
            self._files[made_by].add(path)
            blob = said.get("blob", "")
            if self._blob.setdefault(path, blob) != blob:
                what = f"made from {blob[:12]}, but other rows of its file from {self._blob[path][:12]}"
                yield Finding("diversity", place(self._dataset, split, row), what)

    def end(self) -> Iterator[Finding]:
        """Compare with the metadata and the shares."""
        said = self._dataset.metadata
        for key, counted in (("base_sequences", self._base), ("augmented_sequences", self._varied)):
            if said.get(key) != counted:
                yield Finding("diversity", "dataset_metadata.json", f"{key} is {said.get(key)}, not {counted}")
        files = len(self._blob)
        for key, made_of in sorted(self._files.items()):
            share = self._wanted[key].share if key in self._wanted else 1.0
            most = files * share + SPREAD * sqrt(files * share * (1 - share))
            if len(made_of) > most:
                what = f"{key} varies {len(made_of)} of {files} files, more than a share of {share:g} draws"
                yield Finding("diversity", "recipe.yaml", what)
        varied = set[str]().union(*(made_of for key, made_of in self._files.items() if key != "base"))
        self.figure = (
            f"{self._base:,} rows as they are, {self._varied:,} made; {len(varied):,} of {files:,} files varied"
        )
        if not self._wanted:
            self.figure = Skip(f"the recipe has no augmentation: {self.figure}")
