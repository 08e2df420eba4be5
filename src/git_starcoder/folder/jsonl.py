"""JSON lines: `{"tokens": [...], "metadata": {...}}`, as readers written against the seeds expect them.

How long a line will be is known before it is made. So workers put lines together, from slices of text that is made once
for all of them, and write each where it belongs, while a thread hashes what is there and sees it to the disk.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from git_starcoder.folder.spelled import put_at, succeeded
from git_starcoder.hashing.arrays import run_offsets
from git_starcoder.protocols import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.folder.lines import Lines
    from git_starcoder.folder.spelled import Spelled
    from git_starcoder.protocols import Engine

BATCH = 2048
"""Lines that a worker makes at a time."""
SECONDS = 300.0
"""For a batch. It is bounded by its bytes; this is for a disk that hangs."""
CHUNK = 4 << 20
"""Bytes hashed at a time."""
FLUSH = 64 << 20
"""Bytes after which they are flushed to the disk, so that it works while lines are made."""
OPEN, OWN, CLOSE = b'{"tokens":[', b'],"metadata":{', b"}\n"
INPUTS, MASK, LABELS = b'],"input_ids":[', b'],"attention_mask":[', b'],"labels":['
FORMATS = {"int": "%d", "float": "%r", "str": '"%s"'}
"""Of values that JSON spells as Python does."""


class Shared(NamedTuple):
    """How the lines of each sample end, behind one another in a file: with the members that its rows share."""

    path: str
    offsets: NDArray[np.int64]
    """Where that of each sample begins, shape (samples + 1,)."""


class Batch(NamedTuple):
    """Lines that follow one another. Arrays have shape (lines,) unless told otherwise."""

    path: str
    at: int
    """Where in the file they begin."""
    size: int
    """Their bytes."""
    spelled: str
    """The file with the tokens of all windows as JSON numbers."""
    places: NDArray[np.int64]
    """Where in it the three parts of each line begin and end, shape (lines, 6)."""
    masked: NDArray[np.bool_]
    marks: list[bytes]
    """The control tokens of masked lines: one before each part, and the last."""
    cell: bytes
    """The padding token."""
    pads: NDArray[np.int64]
    """How many of them each line has."""
    own: bytes
    """Behind one another what is between the tokens and what rows share: the members that each row has of its own."""
    edges: NDArray[np.int64]
    """Where in it each line's part begins, and where the last ends, shape (lines + 1,)."""
    shared: str
    """The file of what rows share."""
    spans: NDArray[np.int64]
    """Where in it each line's part begins and ends, shape (lines, 2)."""
    uncounted: NDArray[np.int64]
    labels: bool


def share(path: Path, members: Iterator[bytes]) -> Shared:
    """Write what rows share, given as members of an object with its closing brace."""
    with path.open("wb") as file:
        sizes = [file.write(text + CLOSE) for text in members]
    return Shared(str(path), run_offsets(np.array(sizes, dtype=np.int64)))


def write(
    path: Path,
    lines: Lines,
    spelled: Spelled,
    offsets: NDArray[np.int64],
    pad: int,
    shared: Shared,
    engine: Engine,
    done: Callable[[Lines], None],
    *,
    labels: bool = False,
) -> dict[str, int | str]:
    """Write the file of a split; give its entry in the manifest. `done` hears of lines that were written.

    `offsets`, shape (lines, 3, 2), says where in `spelled` the parts of each line lie.

    Raises:
        OSError: a worker cannot write.
        RuntimeError: a worker failed otherwise.
    """
    parts = [lines.part(begin, begin + BATCH) for begin in range(0, len(lines), BATCH)]
    batches = _batches(path, parts, spelled, offsets, pad, shared, labels=labels)
    path.touch()
    digest = hashlib.sha256()
    size = 0
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(1) as thread:
        for part, answer in zip(parts, engine.map(put, batches, limit=SECONDS), strict=True):
            written, fault = (0, answer) if isinstance(answer, Failure) else answer
            succeeded(path, fault)
            size += written
            thread.submit(_hash, digest, file.fileno(), size - written, size)
            if size // FLUSH > (size - written) // FLUSH:
                thread.submit(os.fsync, file.fileno())
            done(part)
    return {"bytes": size, "sha256": digest.hexdigest(), "rows": len(lines)}


def _hash(digest: Any, file: int, begin: int, end: int) -> None:
    while begin < end:
        data = os.pread(file, min(CHUNK, end - begin), begin)
        digest.update(data)
        begin += len(data)


def _batches(
    path: Path,
    parts: Sequence[Lines],
    spelled: Spelled,
    offsets: NDArray[np.int64],
    pad: int,
    shared: Shared,
    *,
    labels: bool,
) -> Iterator[Batch]:
    at = first = 0
    for part in parts:
        places = offsets[first : first + len(part)].reshape(-1, 6)
        first += len(part)
        sample = part.windows.sample_index[part.row]
        marks = [b"%d," % mark for mark in part.marks]
        pads = part.windows.size[part.row].astype(np.int64) - part.length
        cell = b"%d," % pad
        own, edges = _members(part.columns())
        spans = np.stack([shared.offsets[sample], shared.offsets[sample + 1]], axis=1)
        widths = places[:, 1::2] - places[:, ::2]
        text = widths.sum(axis=1) + part.masked * sum(map(len, marks))
        tokens = text + pads * len(cell) - 1  # the last number has no comma behind it
        sizes = tokens + np.diff(edges) + spans[:, 1] - spans[:, 0]
        sizes += len(OPEN)
        if labels:
            learned = np.where(part.uncounted > 0, widths[:, 1], text)
            sizes += tokens + learned + 5 * (part.uncounted + pads) - 1 + 2 * (part.length + pads) - 1
            sizes += len(INPUTS) + len(MASK) + len(LABELS)
        size = int(sizes.sum())
        yield Batch(str(path), at, size, spelled.path, places, part.masked, marks, cell, pads, own, edges, shared.path,
                    spans, part.uncounted, labels)  # fmt: skip
        at += size


def put(batch: Batch) -> tuple[int, int]:
    """Make lines and write them: their bytes, and the error number where they cannot be written. For workers."""
    with _mapped(batch.spelled) as numbers, _mapped(batch.shared) as heads:
        pieces = _lines(batch, numbers, heads)
        size = sum(map(len, pieces))
        if size != batch.size:
            raise ValueError(f"{size} bytes where {batch.size} were expected")
        fault = put_at(batch.path, batch.at, pieces)
        pieces.clear()  # or what is mapped cannot be let go
        return size, fault


@contextmanager
def _mapped(path: str) -> Generator[memoryview]:
    """The bytes of a file. They are mapped for one batch only, so that what was read does not pile up as memory."""
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            yield view
        finally:
            view.release()


def _lines(batch: Batch, numbers: memoryview, heads: memoryview) -> list[bytes | memoryview]:
    """The pieces of the lines, from the files that have them."""
    padding = memoryview(batch.cell * int(batch.pads.max(initial=0)))
    pieces: list[bytes | memoryview] = []
    members = memoryview(batch.own)
    rows = zip(
        batch.places.tolist(), batch.masked.tolist(), batch.pads.tolist(), pairwise(batch.edges.tolist()),
        batch.spans.tolist(), batch.uncounted.tolist(), strict=True,
    )  # fmt: skip
    for (first, stop, second, end, third, last), masked, pads, (low, high), (begin, close), uncounted in rows:
        made: list[bytes | memoryview] = [numbers[first:stop], numbers[second:end]]
        if masked:
            marks = batch.marks
            made = [marks[0], made[0], marks[1], made[1], marks[2], numbers[third:last], marks[3]]
        if not pads:
            made[-1] = made[-1][:-1]
        blank = padding[: max(0, len(batch.cell) * pads - 1)]
        pieces += (OPEN, *made, blank)
        if batch.labels:
            pieces += _labels(made, blank, pads, uncounted)
        pieces += (members[low:high], heads[begin:close])
    return pieces


def _labels(tokens: Sequence[bytes | memoryview], blank: memoryview, pads: int, uncounted: int) -> list[bytes]:
    """The row once more as trainers want it: -100 is what does not count."""
    text = b"".join((*tokens, blank))
    numbers = b"".join(tokens).removesuffix(b",").split(b",")
    shown = (b"1," * len(numbers) + b"0," * pads)[:-1]
    asked = b",".join([b"-100"] * uncounted + numbers[uncounted:] + [b"-100"] * pads)
    return [INPUTS, text, MASK, shown, LABELS, asked]


def _members(columns: dict[str, list[Any]]) -> tuple[bytes, NDArray[np.int64]]:
    """What each row has of its own: numbers, words, and whatever some rows lack. And where that of each begins."""
    cells: list[str] = []
    values: list[list[Any]] = []
    for key, column in columns.items():
        kind = "" if None in column else FORMATS.get(type(column[0]).__name__, "")
        cells.append(f'"{key}":{kind},' if kind else "%s")
        dumped = ("" if value is None else f'"{key}":{orjson.dumps(value).decode()},' for value in column)
        values.append(column if kind else list(dumped))
    template = OWN.decode() + "".join(cells)
    texts = [template % row for row in zip(*values, strict=True)]
    return "".join(texts).encode("ascii"), run_offsets(np.array([len(text) for text in texts], dtype=np.int64))
