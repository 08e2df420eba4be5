"""Changes and contexts that are learned from show no line that only held-out code has."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.checks import Skip
from git_starcoder.folder.samples import Samples
from git_starcoder.recipe import Recipe
from git_starcoder.rows import Finding, printable
from git_starcoder.text.clean import Clean, clean
from git_starcoder.text.lines import LEAST, Lines, only_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Checked
    from git_starcoder.dataset import Dataset
    from git_starcoder.folder.samples import Sample
    from git_starcoder.git.objects import Repo
    from git_starcoder.rows import Split

SEEDS: tuple[str, ...] = ()
CHANGES = ("git_diff", "temporal_context")
"""What shows history."""
MOST = 3
"""Such lines in a row that are a finding where only the dataset is at hand."""


class Check:
    """A finding for each row that shows such a line, or a held-out file in its context; the figure is how many do.

    Lines of 20 bytes or more count. What training files have, too, is no secret; with the repository at hand those are
    all its files that are not held out. Without it the dataset lacks what was dropped as a copy, whose lines look as if
    only held-out code had them: then a row is found from three such lines on.
    """

    def __init__(self, dataset: Dataset, source: Repo | None) -> None:
        self.figure: str | Skip = ""
        self.certificate: dict[str, Any] = {}
        self._dataset = dataset
        self._source = source
        self._samples = Samples.shared(dataset)

    def row(self, split: Split, number: int, row: Checked) -> Iterator[Finding]:
        """Take the row to its sample."""
        self._samples.add(split, number, row.metadata, row.ids)
        yield from ()

    def end(self) -> Iterator[Finding]:
        """Look at the lines of all rows that show history, and at the paths of all contexts."""
        held = [one for one in self._samples.of.values() if one.split != "train"]
        learned = [one for one in self._samples.of.values() if one.split == "train"]
        if not held:
            self.figure = Skip("nothing is held out")
            return
        changes = [one for one in learned if _kind(one) in CHANGES]
        plain = (text for one in learned if _kind(one) not in CHANGES for text in self._samples.texts(one))
        secret = only_in(
            Lines.of(text for one in held if _kind(one) in {"base", *CHANGES} for text in self._code(one)).flat,
            Lines.of(chain(plain, self._files(held))).flat,
        )
        lines = Lines.of(map(self._learned, changes))
        hits = np.concatenate(([0], np.cumsum(np.isin(lines.flat, secret))))
        counts: list[int] = np.diff(hits[lines.offsets]).tolist()
        for one, count in zip(changes, counts, strict=True):
            if count >= (1 if self._source else MOST):
                what = "a line" if count == 1 else f"{count} lines"
                yield Finding("held_out_lines", self._place(one), f"{what} that only held-out code has")
        contexts = [one for one in learned if _kind(one) == "cross_file_context"]
        paths = {str(one.about["source_file"]): one.split for one in held}
        for one in contexts:
            for path in paths.keys() & set(self._paths(one)):
                what = f"its context shows {path}, which is in {paths[path]}"
                yield Finding("held_out_lines", self._place(one), what)
        some = sum(count > 0 for count in counts)
        self.certificate = {
            "lines": len(secret), "changes": len(changes), "changes_with_a_line": some, "contexts": len(contexts),
            "with_repository": self._source is not None,
        }  # fmt: skip
        what = f"{some:,} of {len(changes):,} changes have one of {len(secret):,} such lines"
        self.figure = f"{what} (from {LEAST} bytes); {len(contexts):,} contexts"

    def _place(self, sample: Sample) -> str:
        return self._dataset.place(sample.split, sample.number)

    def _code(self, sample: Sample) -> list[bytes]:
        """What a sample shows of files."""
        return [*self._in_head(sample, "<commit_before>", "<commit_after>"), *self._samples.texts(sample)]

    def _learned(self, sample: Sample) -> bytes:
        """What a sample shows of changes. The text behind a temporal context is a file as it is."""
        # What a message quotes stands in lines or between backticks.
        said = [text.replace(b"`", b"\n") for text in self._in_head(sample, "<commit_msg>")]
        whole = _kind(sample) == "git_diff"
        return b"\n".join((*said, *(self._code(sample) if whole else self._in_head(sample, "<commit_before>"))))

    def _in_head(self, sample: Sample, *marks: str) -> list[bytes]:
        return [text for mark, text in self._samples.parts(sample) if mark in marks]

    def _paths(self, sample: Sample) -> Iterator[str]:
        for _, text in self._samples.parts(sample):
            yield text.partition(b"\n")[0].decode("utf-8", "replace")

    def _files(self, held: list[Sample]) -> Iterator[bytes]:
        """The files of the repository that are not held out."""
        if self._source is None:
            return
        options = Recipe.load(self._dataset.folder / "recipe.yaml").read
        paths = {one.about["source_file"] for one in held}
        entries = (one for one in self._source.entries() if printable(one.path) not in paths)
        blobs = {one.blob for one in entries if one.size is not None and one.size <= options.max_bytes}
        for _, data in self._source.read(sorted(blobs)):
            text = clean(data, options) if isinstance(data, bytes) else None
            if isinstance(text, Clean):
                yield text.text


def _kind(sample: Sample) -> str:
    return sample.about["augmentation_type"]
