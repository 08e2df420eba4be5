"""Every file is as the build wrote it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson

from git_starcoder.rows import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given


SEEDS: tuple[str, ...] = ()


class Check:
    """A finding for each file that is missing, altered or not in the manifest; the figure is the digest of all."""

    beside = True

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        self.figure = str(given.dataset.manifest.get("digest"))[:12]

    def end(self) -> Iterator[Finding]:
        """Every byte of the folder."""
        dataset = self._dataset
        files = dataset.manifest["files"]
        there = {path.relative_to(dataset.folder).as_posix() for path in dataset.folder.rglob("*") if path.is_file()}
        for name in sorted(there - files.keys() - {"manifest.json"}):
            yield Finding("digests", name, "is not in the manifest")
        for name, said in sorted(files.items()):
            if name not in there:
                yield Finding("digests", name, "is missing")
                continue
            with (dataset.folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if (file.tell(), digest) != (said["bytes"], said["sha256"]):
                    yield Finding(
                        "digests", name, f"has other bytes than the manifest says ({file.tell():,}, {digest[:12]})"
                    )
        if hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest() != dataset.manifest.get(
            "digest"
        ):
            yield Finding("digests", "manifest.json", "its digest is not that of its files")
