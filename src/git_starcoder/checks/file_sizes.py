"""Split files hold their rows as compact JSON lines, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import orjson

from git_starcoder.checks import Skip
from git_starcoder.records import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_file_sizes",)
FRAME = len('{"tokens":[],"metadata":}\n')


class Check:
    """A finding for each file that is larger or smaller than its rows need; the figure is the bytes of each."""

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        jsonl = given.dataset.metadata.get("format", "jsonl") == "jsonl"
        self.figure: str | Skip = "" if jsonl else Skip("Parquet is compressed: `digests` knows its bytes")
        self._needed: dict[Split, int] = dict.fromkeys(SPLITS, 0)

    def block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
        """The bytes of their lines."""
        needed = _spelled(block.token_ids) + block.metadata_bytes
        for row in block.rows:
            needed += FRAME + max(0, len(row.token_ids) - 1)
            for name, values in row.labels.items():
                needed += len(orjson.dumps({name: values})) - 1
        self._needed[split] += needed
        return ()

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
    """Digits of token ids in decimal."""
    powers, count = 10, len(ids)
    while len(ids) and (longer := int(np.count_nonzero(ids >= powers))):
        count += longer
        powers *= 10
    return count
