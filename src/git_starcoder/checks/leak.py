"""No file, group of files, row or planted canary is in two splits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_starcoder.checks import ORDER, OfSamples, place
from git_starcoder.rows import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Checked, Given
    from git_starcoder.folder.samples import Sample
    from git_starcoder.rows import Split

SEEDS: tuple[str, ...] = ()
CANARY = re.compile(rb"(?i)canary\W{0,3}(?:guid)?\W{0,3}([0-9a-f](?:-?[0-9a-f]){15,63})")
"""`canary` and 16 hexadecimal digits or more, as in `canary GUID 26b5c67b-86a1-…` (BIG-bench, Srivastava et al., 2022,
arXiv 2206.04615): who does not want a file to be learned from writes it there."""


class Check(OfSamples):
    """A finding for each file, group, row or canary that crosses; the figure is how many are held out.

    A canary is a word like `canary 26b5c67b86a14b4d`: put into a file that is to be held out, it shows whether anything
    made of that file or its history got into training.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._owners: dict[tuple[str, str | bytes], Split] = {}
        self._told: set[tuple[str, str | bytes]] = set()

    def row(self, split: Split, row: Checked) -> Iterator[Finding]:
        """Held-out rows come first, then those of training."""
        for key in (("file", row.metadata["source_file"]), ("group", row.metadata["group"]), ("row", row.content)):
            owner = self._owners.setdefault(key, split) if split != "train" else self._owners.get(key, split)
            if owner != split and key not in self._told:
                self._told.add(key)
                name = f" {key[1]}" if isinstance(key[1], str) else ""
                yield Finding("leak", place(self._dataset, split, row), f"{key[0]}{name} is in {owner} too")

    def end(self) -> Iterator[Finding]:
        """Look for canaries."""
        planted: dict[bytes, Split] = {}
        crossing: set[bytes] = set()
        for split in ORDER:
            for sample in self._samples.of.values():
                if sample.split != split:
                    continue
                for canary in self._canaries(sample):
                    owner = planted.setdefault(canary, split) if split != "train" else planted.get(canary, split)
                    if owner != split and canary not in crossing:
                        crossing.add(canary)
                        yield self._found(sample, f"canary {canary.decode()} is in {owner} too")
        told = [kind for kind, _ in self._told]
        for kind in ("file", "group", "row"):
            held = sum(key[0] == kind for key in self._owners)
            self.certificate[f"{kind}s"] = {"held_out": held, "crossing": told.count(kind)}
        self.certificate["canaries"] = {"held_out": len(planted), "crossing": len(crossing)}
        self.figure = "held out: " + ", ".join(
            f"{said['held_out']:,} {name}" for name, said in self.certificate.items()
        )

    def _canaries(self, sample: Sample) -> Iterator[bytes]:
        head, runs = self._samples.spelled(sample)
        for text in (head, *(run.text for run in runs)):
            if b"canary" in text.lower():
                yield from (found[1].lower().replace(b"-", b"") for found in CANARY.finditer(text))
