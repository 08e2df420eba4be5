"""Every file is as the build wrote it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson

from git_starcoder.dataset import MANIFEST_FILE
from git_starcoder.output import IGNORE
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from git_starcoder.checks import Given


SEEDS: tuple[str, ...] = ()
CHUNK = 4 << 20
"""Bytes read at a time."""


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
        for name in sorted(there - files.keys() - {MANIFEST_FILE, IGNORE}):
            yield Finding("digests", name, "is not in the manifest")
        for name, said in sorted(files.items()):
            if name not in there:
                yield Finding("digests", name, "is missing")
                continue
            size, digest = _read(dataset.folder / name)
            if (size, digest) != (said["bytes"], said["sha256"]):
                yield Finding("digests", name, f"has other bytes than the manifest says ({size:,}, {digest[:12]})")
        if hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest() != dataset.manifest.get(
            "digest"
        ):
            yield Finding("digests", "manifest.json", "its digest is not that of its files")


def _read(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256 of a file, much at a time: a thread that comes back often waits for the others each time."""
    digest, buffer, size = hashlib.sha256(), bytearray(CHUNK), 0
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            digest.update(memoryview(buffer)[:got])
            size += got
    return size, digest.hexdigest()
