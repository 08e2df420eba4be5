"""No held-out file is nearly a file to learn from, or a part of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import OfSamples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.records import Finding


SEEDS: tuple[str, ...] = ()


class Check(OfSamples):
    """A finding for each two files of different splits that are alike; the figure is how many files were compared.

    Alike is what the recipe says (`split.near`): Jaccard similarity of 5-token shingles, or the share of the one that
    stands in the other, by tokens or by the words of lines (a copy with something added to every line). Compared are
    texts as they are (`base`) of which rows show everything.
    """

    beside = True

    def end(self) -> Iterator[Finding]:
        """Compare all files."""
        files, pairs = self._given.alike_files
        found: dict[tuple[int, int], float] = {}
        alike: list[tuple[int, int, float]] = [
            *zip(pairs.left.tolist(), pairs.right.tolist(), pairs.share.tolist(), strict=True)
        ]
        for left, right, share in alike:
            if files[left].split != files[right].split:
                pair = min(left, right), max(left, right)
                found[pair] = max(share, found.get(pair, 0.0))
        for (left, right), share in sorted(found.items()):
            one, other = files[left], files[right]
            if one.split == "train":
                one, other = other, one
            of = f"{other.metadata['source_file']} in {other.split} ({self._place(other)})"
            yield self._found(one, f"{one.metadata['source_file']} is {share:.0%} like {of}")
        base = sum(one.metadata["augmentation_type"] == "base" for one in self._samples.by_id.values())
        threshold = self._recipe.split.near
        self.certificate = {"files": base, "compared": len(files), "threshold": threshold, "crossing": len(found)}
        self.figure = f"{len(files):,} of {base:,} files compared, alike from {threshold:g}"
