"""Checks of the folder: its files, their digests and their sizes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import orjson

from git_starcoder.checks.contract import Check
from git_starcoder.dataset import FIXED_FILES, MANIFEST_FILE
from git_starcoder.output_folder import GITIGNORE_NAME
from git_starcoder.records import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from git_starcoder.checks.contract import CheckContext
    from git_starcoder.dataset.read_blocks import RowBlock
    from git_starcoder.records import Finding, Split

READ_BYTES = 4 << 20
"""Bytes that are read and hashed at a time. Large, because a thread waits for the others each time it comes back."""
EMPTY_JSONL_ROW = '{"tokens":[],"metadata":}\n'
"""What a line has besides its token ids and its metadata."""


class FilesCheck(Check):
    """Reports each file that is missing or is a symbolic link. The figure is the number of files and their size."""

    name = "files"
    promise = "All files of the dataset exist, and none of them is a link."
    needs_rows = False

    def finish(self) -> Iterator[Finding]:
        """Look at each file."""
        folder = self.dataset.folder
        split_paths = [path for split in SPLITS for path in self.dataset.files(split)]
        paths = [*(folder / name for name in FIXED_FILES), *split_paths]
        for path in paths:
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield self.finding(name, "is a link: the folder cannot be moved without what it points to")
            elif not path.is_file():
                yield self.finding(name, "is missing")
        size = sum(path.stat().st_size for path in paths if path.is_file())
        self.figure = f"{len(paths)} files, {size / 1e6:,.1f} MB"


class DigestsCheck(Check):
    """Reports each file that is missing, altered or not in the manifest. The figure is the digest of all files."""

    name = "digests"
    promise = "Every file is as the build wrote it."
    needs_rows = False
    in_background = True

    def finish(self) -> Iterator[Finding]:
        """Hash every byte of the folder."""
        manifest, folder = self.dataset.manifest, self.dataset.folder
        listed_files = manifest["files"]
        existing_names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for name in sorted(existing_names - listed_files.keys() - {MANIFEST_FILE, GITIGNORE_NAME}):
            yield self.finding(name, "is not in the manifest")
        for name, listed in sorted(listed_files.items()):
            if name not in existing_names:
                yield self.finding(name, "is missing")
                continue
            size, digest = _size_and_sha256(folder / name)
            if (size, digest) != (listed["bytes"], listed["sha256"]):
                yield self.finding(name, f"has other bytes than the manifest says ({size:,}, {digest[:12]})")
        digest_of_all = hashlib.sha256(orjson.dumps(listed_files, option=orjson.OPT_SORT_KEYS)).hexdigest()
        if digest_of_all != manifest.get("digest"):
            yield self.finding(MANIFEST_FILE, "its digest is not that of its files")
        self.figure = str(manifest.get("digest"))[:12]


class FileSizesCheck(Check):
    """Reports each split file that is larger or smaller than its rows need. The figure is the size of each."""

    name = "file_sizes"
    promise = "Split files hold their rows as compact JSON lines, and nothing else."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        if self.dataset.metadata.get("format", "jsonl") != "jsonl":
            self.skip_reason = "Parquet is compressed: `digests` knows its bytes"
        self._needed_bytes: dict[Split, int] = dict.fromkeys(SPLITS, 0)

    def check_block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
        """Add up the bytes of the rows as JSON lines."""
        needed = _digit_count(block.token_ids) + block.metadata_bytes
        for row in block.rows:
            needed += len(EMPTY_JSONL_ROW) + max(0, len(row.token_ids) - 1)  # a comma between each two token ids
            for name, values in row.labels.items():
                needed += len(orjson.dumps({name: values})) - 1
        self._needed_bytes[split] += needed
        return ()

    def finish(self) -> Iterator[Finding]:
        """Compare with the sizes of the files."""
        figures: list[str] = []
        for split in SPLITS:
            (path,) = self.dataset.files(split)
            size, needed = path.stat().st_size if path.exists() else 0, self._needed_bytes[split]
            if size != needed:
                yield self.finding(path.name, f"{size:,} bytes, but its rows need {needed:,}")
            figures.append(f"{split} {size / 1e6:,.1f} MB")
        self.figure = ", ".join(figures)


def _size_and_sha256(path: Path) -> tuple[int, str]:
    digest, buffer, size = hashlib.sha256(), bytearray(READ_BYTES), 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
            size += count
    return size, digest.hexdigest()


def _digit_count(token_ids: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> int:
    """Count the decimal digits of all token ids: [7, 42, 310] has 6."""
    power, count = 10, len(token_ids)
    while len(token_ids) and (longer := int(np.count_nonzero(token_ids >= power))):
        count += longer
        power *= 10
    return count
