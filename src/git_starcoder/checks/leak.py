"""No file, group of files, row or planted canary is in two splits."""

from __future__ import annotations

import re
from operator import itemgetter
from typing import TYPE_CHECKING

from git_starcoder.checks import ORDER, OfSamples, place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.dataset.samples import RebuiltSample
    from git_starcoder.records import Split

SEEDS: tuple[str, ...] = ()
KINDS = ("file", "group", "row")
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
        self._owners: dict[str, dict[str | bytes, Split]] = {kind: {} for kind in KINDS}
        self._told: set[tuple[str, str | bytes]] = set()

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Held-out rows come first, then those of training."""
        paths, groups = (list(map(itemgetter(key), block.metadata)) for key in ("source_file", "group"))
        columns: list[list[str | bytes]] = [paths, groups, [row.content_hash for row in block.rows]]
        owners = list(self._owners.values())
        if split == "train" and all(owned.keys().isdisjoint(keys) for owned, keys in zip(owners, columns, strict=True)):
            return
        for row, *keys in zip(block.rows, *columns, strict=True):
            for kind, owned, key in zip(KINDS, owners, keys, strict=True):
                owner = owned.setdefault(key, split) if split != "train" else owned.get(key, split)
                if owner != split and (kind, key) not in self._told:
                    self._told.add((kind, key))
                    name = f" {key}" if isinstance(key, str) else ""
                    yield Finding("leak", place(self._dataset, split, row), f"{kind}{name} is in {owner} too")

    def end(self) -> Iterator[Finding]:
        """Look for canaries."""
        planted: dict[bytes, Split] = {}
        crossing: set[bytes] = set()
        for split in ORDER:
            for sample in self._samples.by_id.values():
                if sample.split != split:
                    continue
                for canary in self._canaries(sample):
                    owner = planted.setdefault(canary, split) if split != "train" else planted.get(canary, split)
                    if owner != split and canary not in crossing:
                        crossing.add(canary)
                        yield self._found(sample, f"canary {canary.decode()} is in {owner} too")
        told = [kind for kind, _ in self._told]
        for kind, owned in self._owners.items():
            self.certificate[f"{kind}s"] = {"held_out": len(owned), "crossing": told.count(kind)}
        self.certificate["canaries"] = {"held_out": len(planted), "crossing": len(crossing)}
        self.figure = "held out: " + ", ".join(
            f"{said['held_out']:,} {name}" for name, said in self.certificate.items()
        )

    def _canaries(self, sample: RebuiltSample) -> Iterator[bytes]:
        head, runs = self._samples.prefix_and_runs(sample)
        for text in (head, *(run.text for run in runs)):
            if b"canary" in text.lower():
                yield from (found[1].lower().replace(b"-", b"") for found in CANARY.finditer(text))
