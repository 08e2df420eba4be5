"""JSON lines: `{"tokens": [...], "metadata": {...}}`, as readers written against the seeds expect them.

A line is put together from slices of text that is made once for all lines, and a second thread hashes and writes.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from git_starcoder.folder.lines import Lines
    from git_starcoder.folder.spelled import Spelled

CHUNK = 4 << 20
"""Bytes of lines handed to the writing thread at a time."""
OPEN, OWN, SHARED, CLOSE = b'{"tokens":[', b'],"metadata":{', b",", b"}\n"
FORMATS = {"int": "%d", "float": "%r", "str": '"%s"'}
"""Of values that JSON spells as Python does."""
NONE = memoryview(b"")
BATCH = 4096
"""Lines whose metadata is made at a time."""


def write(
    path: Path,
    lines: Lines,
    spelled: Spelled,
    offsets: NDArray[np.int64],
    pad: int,
    shared: Sequence[bytes],
    done: Callable[[Lines], None],
    *,
    labels: bool = False,
) -> dict[str, int | str]:
    """Write the file of a split; give its entry in the manifest. `done` hears of lines that were written.

    `spelled` has the tokens of all windows as JSON, and `offsets`, shape (lines, 3, 2), says where in it the parts of
    each line lie. `shared` is what the rows of each sample share, as members of a JSON object with its closing brace.
    """
    sink = Sink(path)
    cell = b"%d," % pad
    padding = memoryview(cell * int(lines.windows.size.max(initial=0)))
    marks = [b"%d," % mark for mark in lines.marks]
    for begin in range(0, len(lines), BATCH):
        part = lines.part(begin, begin + BATCH)
        columns = part.columns()
        rows = zip(
            offsets[begin : begin + BATCH].reshape(-1, 6).tolist(), part.masked.tolist(), columns["length"],
            columns["window_size"], part.uncounted.tolist(), _members(columns),
            lines.windows.sample[part.row].tolist(), strict=True,
        )  # fmt: skip
        for places, masked, length, size, uncounted, own, sample in rows:
            first, stop, second, end, third, last = places
            made = [spelled.read(first, stop), spelled.read(second, end)]
            if masked:
                made = [marks[0], made[0], marks[1], made[1], marks[2], spelled.read(third, last), marks[3]]
            blank = padding[: len(cell) * (size - length) - 1] if size > length else NONE
            if size == length:
                made[-1] = made[-1][:-1]  # the last number has no comma behind it
            line: list[bytes | memoryview] = [OPEN, *made, blank]
            if labels:
                line += _labels(made, blank, length, size, uncounted)
            line += (OWN, own, SHARED, shared[sample], CLOSE)
            sink.put(line)
        done(part)
    return {**sink.close(), "rows": len(lines)}


def _labels(tokens: Sequence[bytes], blank: memoryview, length: int, size: int, uncounted: int) -> list[bytes]:
    """The row once more as trainers want it: -100 is what does not count."""
    text = b"".join((*tokens, blank))
    learned = b"".join(tokens).removesuffix(b",").split(b",")[uncounted:]
    shown = (b"1," * length + b"0," * (size - length))[:-1]
    asked = b",".join([b"-100"] * uncounted + learned + [b"-100"] * (size - length))
    return [b'],"input_ids":[', text, b'],"attention_mask":[', shown, b'],"labels":[', asked]


def _members(columns: dict[str, list[Any]]) -> list[bytes]:
    """What each row has of its own, as members of a JSON object: numbers, plain words, and whatever some rows lack."""
    cells: list[str] = []
    values: list[list[Any]] = []
    for key, column in columns.items():
        kind = "" if None in column else FORMATS.get(type(column[0]).__name__, "")
        cells.append(f'"{key}":{kind},' if kind else "%s")
        dumped = ("" if value is None else f'"{key}":{orjson.dumps(value).decode()},' for value in column)
        values.append(column if kind else list(dumped))
    template = "".join(cells)
    return [(template % row)[:-1].encode() for row in zip(*values, strict=True)]


class Sink:
    """A file that another thread hashes and writes, while the caller makes the next lines."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._thread = ThreadPoolExecutor(1)
        self._waiting: Future[None] | None = None
        self._sha256 = hashlib.sha256()
        self._parts: list[bytes | memoryview] = []
        self._pending = 0
        self.bytes = 0

    def put(self, parts: Sequence[bytes | memoryview]) -> None:
        """Take a line in parts, and write what has come together once it is a chunk."""
        self._parts += parts
        self._pending += sum(map(len, parts))
        if self._pending >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._waiting is not None:
            self._waiting.result()  # a full disk shows here
        self._waiting = self._thread.submit(self._write, b"".join(self._parts))
        self.bytes += self._pending
        self._parts.clear()
        self._pending = 0

    def _write(self, data: bytes) -> None:
        self._sha256.update(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def close(self) -> dict[str, int | str]:
        """Write the rest; size and digest of the file."""
        self._flush()
        self._thread.shutdown()
        if self._waiting is not None:
            self._waiting.result()
        self._file.close()
        return {"bytes": self.bytes, "sha256": self._sha256.hexdigest()}
