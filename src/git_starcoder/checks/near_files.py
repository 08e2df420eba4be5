"""No held-out file is nearly a file to learn from, or a part of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import OfSamples
from git_starcoder.text.contained import contained
from git_starcoder.text.near import links
from git_starcoder.text.shingles import TextShingles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.rows import Finding


SEEDS: tuple[str, ...] = ()


class Check(OfSamples):
    """A finding for each two files of different splits that are alike; the figure is how many files were compared.

    Alike is what the recipe says (`split.near`): Jaccard similarity of 5-token shingles, or the share of the one that
    stands in the other. Compared are texts as they are (`base`) of which rows show everything.
    """

    beside = True

    def end(self) -> Iterator[Finding]:
        """Compare all files."""
        threshold = self._recipe.split.near
        base = [one for one in self._samples.of.values() if one.about["augmentation_type"] == "base"]
        texts = ((one, self._samples.complete(one)) for one in base)
        files = [(one, text) for one, text in texts if text is not None and text.strip()]
        shingles = TextShingles.of(text for _, text in files)
        near, inside = links(shingles, threshold), contained(shingles, threshold)
        pairs: list[tuple[int, int, float]] = [
            *zip(near.left.tolist(), near.right.tolist(), near.similarity.tolist(), strict=True),
            *zip(inside.part.tolist(), inside.whole.tolist(), inside.share.tolist(), strict=True),
        ]
        found: dict[tuple[int, int], float] = {}
        splits = [one.split for one, _ in files]
        for left, right, alike in pairs:
            if splits[left] != splits[right]:
                pair = min(left, right), max(left, right)
                found[pair] = max(alike, found.get(pair, 0.0))
        for (left, right), alike in sorted(found.items()):
            one, other = files[left][0], files[right][0]
            if one.split == "train":
                one, other = other, one
            of = f"{other.about['source_file']} in {other.split} ({self._place(other)})"
            yield self._found(one, f"{one.about['source_file']} is {alike:.0%} like {of}")
        self.certificate = {"files": len(base), "compared": len(files), "threshold": threshold, "crossing": len(found)}
        self.figure = f"{len(files):,} of {len(base):,} files compared, alike from {threshold:g}"
