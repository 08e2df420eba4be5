"""Split files hold their rows as compact JSON lines, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import orjson

from git_starcoder.checks import Skip
from git_starcoder.rows import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Checked
    from git_starcoder.dataset import Dataset
    from git_starcoder.git.objects import Repo
    from git_starcoder.rows import Split

SEEDS = ("test_file_sizes",)
FRAME = len('{"tokens":[],"metadata":}\n')


class Check:
    """A finding for each file that is larger or smaller than its rows need; the figure is the bytes of each."""

    def __init__(self, dataset: Dataset, source: Repo | None) -> None:  # noqa: ARG002 - the shelf's signature
        self._dataset = dataset
        jsonl = dataset.metadata.get("format", "jsonl") == "jsonl"
        self.figure: str | Skip = "" if jsonl else Skip("Parquet is compressed: `digests` knows its bytes")
        self._needed: dict[Split, int] = dict.fromkeys(SPLITS, 0)

    def row(self, split: Split, number: int, row: Checked) -> Iterator[Finding]:  # noqa: ARG002
        """The bytes of its line."""
        needed = FRAME + len(orjson.dumps(row.metadata)) + _spelled(row.ids)
        for name, values in row.labels.items():
            needed += len(orjson.dumps({name: values})) - 1
        self._needed[split] += needed
        yield from ()

    def end(self) -> Iterator[Finding]:
        """Compare with the files."""
        figures: list[str] = []
        for split in SPLITS:
            (path,) = self._dataset.files(split)
            size = path.stat().st_size if path.exists() else 0
            if size != self._needed[split]:
                yield Finding("file_sizes", path.name, f"{size:,} bytes, but its rows need {self._needed[split]:,}")
            figures.append(f"{split} {size / 1e6:,.1f} MB")
        self.figure = ", ".join(figures)


def _spelled(ids: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> int:
    """Characters of token ids in decimal, with commas between them."""
    powers, count = 10, max(0, 2 * len(ids) - 1)
    while len(ids) and (longer := int(np.count_nonzero(ids >= powers))):
        count += longer
        powers *= 10
    return count
