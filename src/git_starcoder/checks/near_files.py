"""No held-out file is nearly a file to learn from, or a part of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_starcoder.folder.samples import Samples
from git_starcoder.recipe import Recipe
from git_starcoder.rows import Finding
from git_starcoder.text.contained import contained
from git_starcoder.text.near import links
from git_starcoder.text.shingles import TextShingles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Checked, Skip
    from git_starcoder.dataset import Dataset
    from git_starcoder.git.objects import Repo
    from git_starcoder.rows import Split

SEEDS: tuple[str, ...] = ()


class Check:
    """A finding for each two files of different splits that are alike; the figure is how many files were compared.

    Alike is what the recipe says (`split.near`): Jaccard similarity of 5-token shingles, or the share of the one that
    stands in the other. Compared are texts as they are (`base`) of which rows show everything.
    """

    def __init__(self, dataset: Dataset, source: Repo | None) -> None:  # noqa: ARG002 - the shelf's signature
        self.figure: str | Skip = ""
        self.certificate: dict[str, Any] = {}
        self._dataset = dataset
        self._samples = Samples.shared(dataset)

    def row(self, split: Split, number: int, row: Checked) -> Iterator[Finding]:
        """Take the row to its sample."""
        self._samples.add(split, number, row.metadata, row.ids)
        yield from ()

    def end(self) -> Iterator[Finding]:
        """Compare all files."""
        threshold = Recipe.load(self._dataset.folder / "recipe.yaml").split.near
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
            where = self._dataset.place(one.split, one.number)
            of = self._dataset.place(other.split, other.number)
            what = (
                f"{one.about['source_file']} is {alike:.0%} like {other.about['source_file']} in {other.split} ({of})"
            )
            yield Finding("near_files", where, what)
        self.certificate = {"files": len(base), "compared": len(files), "threshold": threshold, "crossing": len(found)}
        self.figure = f"{len(files):,} of {len(base):,} files compared, alike from {threshold:g}"
