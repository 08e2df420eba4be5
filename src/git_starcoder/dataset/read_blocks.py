"""Reads the rows of a split in blocks: many rows at once, their tokens in one array. Used by the checks.

A file is cut at line ends into parts of half a megabyte. Workers parse the parts and send the rows back packed into few
byte strings, which cost little to send and to turn into arrays again. Lines as our writer spells them are parsed by
numpy; all others by a JSON parser, one by one.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from git_starcoder.dataset.read_rows import (
    LINE_END,
    LINE_START,
    METADATA_START,
    PARQUET_BATCH_ROWS,
    parse_line,
    read_rows,
)
from git_starcoder.dataset.samples import NOT_ADDED, AddedRow
from git_starcoder.errors import DatasetError
from git_starcoder.protocols import Failure
from git_starcoder.row_layout import BASE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.dataset.folder import Dataset
    from git_starcoder.dataset.read_rows import Labels, Row
    from git_starcoder.protocols import Engine
    from git_starcoder.records import Split

PART_BYTES = 1 << 19
"""The approximate size of a part: some hundred rows, so that numpy's overhead per call does not matter."""
PART_TIMEOUT_SECONDS = 60.0
"""The time for one part, which takes milliseconds. If a worker hangs, this process reads the part itself."""
HASH_BYTES = 16
"""The size of the hash of a row's content."""
MAX_DIGITS = 8
"""The number of digits that fit into a word of 64 bits. Longer numbers are left to the JSON parser."""
NO_TOKEN_IDS = np.empty(0, dtype=np.uint32)


@dataclass(slots=True, eq=False)
class BulkRow:
    """A row on its way through the checks, with what several of them need computed once."""

    index: int
    """Which row of its split this is, from 0."""
    metadata: dict[str, Any]
    token_ids: NDArray[np.uint32]
    """The tokens with padding, shape (window_size,); the object `NO_TOKEN_IDS` if they are not token ids."""
    content_hash: bytes
    """A hash of the window size and of the tokens without padding and without the header of an unchanged file.

    Rows that are duplicates for the build have equal hashes.
    """
    max_token: int
    """The largest token id."""
    labels: Labels
    """Its `input_ids`, `attention_mask` and `labels`, if the dataset has them."""
    added: AddedRow = NOT_ADDED
    """The result of adding the row to the samples that are rebuilt."""

    @property
    def context_length(self) -> int:
        """The number of tokens at the beginning that are not in the loss; see `Row.context_length`."""
        return self.metadata.get("context", 0)


class RowBlock(NamedTuple):
    """Consecutive rows of a split."""

    rows: list[BulkRow]
    metadata: list[dict[str, Any]]
    """The metadata of each row."""
    token_ids: NDArray[np.uint32]
    """The tokens of all rows, shape (tokens,); `BulkRow.token_ids` are views of it."""
    offsets: NDArray[np.int64]
    """Where the tokens of each row start, and where the last row's stop, shape (rows + 1,)."""
    metadata_bytes: int
    """The size of the metadata as compact JSON, in bytes."""
    first_seq_id: int = 0
    """The index of the row that has `seq_id` 0: the first of the split, or of the file of one of many repositories."""


class FilePart(NamedTuple):
    """Consecutive lines of a file, which start and stop at these bytes."""

    path: Path
    start: int
    stop: int


class PackedRows(NamedTuple):
    """Consecutive rows in a form that is cheap to send between processes."""

    tokens: bytes
    """The tokens of all rows as uint32."""
    counts: list[int]
    """The number of tokens of each row; -1 if they are not token ids."""
    max_tokens: list[int]
    """The largest token of each row; 0 if it has none."""
    content_hashes: bytes
    """The hash of the content of each row, `HASH_BYTES` each."""
    metadata: bytes
    """A JSON array of the metadata of each row."""
    labels: list[Labels]
    """The labels of each row; an empty list if no row has labels."""
    bad_line: bytes | None = None
    """The line after these rows, if it is not a row."""


def read_blocks(dataset: Dataset, split: Split, engine: Engine | None = None) -> Iterator[RowBlock]:
    """Yield the rows of a split in file order. With an engine, workers read ahead.

    Raises:
        DatasetError: A file cannot be read, or something is not a row. All rows before it have been yielded.
        MissingExtraError: The rows are in Parquet, and pyarrow is not installed.
    """
    index = first_seq_id = 0
    for path in dataset.files(split):
        first_seq_id = index if dataset.begins_repository(path) else first_seq_id
        for packed in _read_parquet(path) if path.suffix == ".parquet" else _read_jsonl(path, engine):
            if packed.counts:
                yield _unpack(index, packed)._replace(first_seq_id=first_seq_id)
                index += len(packed.counts)


def _unpack(first: int, packed: PackedRows) -> RowBlock:
    token_ids = np.frombuffer(packed.tokens, dtype=np.uint32)
    counts = np.array(packed.counts, dtype=np.int64)
    offsets = np.concatenate(([0], np.cumsum(np.maximum(counts, 0))))  # counts [3, -1, 2] -> offsets [0, 3, 3, 5]
    edges: list[int] = offsets.tolist()
    metadata: list[dict[str, Any]] = orjson.loads(packed.metadata)
    rows = [
        BulkRow(
            first + i,
            metadata[i],
            NO_TOKEN_IDS if count < 0 else token_ids[edges[i] : edges[i + 1]],
            packed.content_hashes[HASH_BYTES * i : HASH_BYTES * (i + 1)],
            packed.max_tokens[i],
            packed.labels[i] if packed.labels else {},
        )
        for i, count in enumerate(packed.counts)
    ]
    # The array has two brackets and a comma between neighbours: [{},{},{}] are 3 objects and 4 more bytes.
    return RowBlock(rows, metadata, token_ids, offsets, len(packed.metadata) - len(rows) - 1)


def _read_parquet(path: Path) -> Iterator[PackedRows]:
    rows = read_rows(path)
    while batch := list(islice(rows, PARQUET_BATCH_ROWS)):
        yield _pack_rows(batch)


def _read_jsonl(path: Path, engine: Engine | None) -> Iterator[PackedRows]:
    try:
        parts = list(_file_parts(path))
        line_count = 0
        answers = engine.map(pack_part, parts, limit=PART_TIMEOUT_SECONDS) if engine else map(pack_part, parts)
        for part, answer in zip(parts, answers, strict=True):
            packed = pack_part(part) if isinstance(answer, Failure) else answer
            line_count += len(packed.counts)
            yield packed
            if packed.bad_line is not None:
                parse_line(path, line_count + 1, packed.bad_line)  # raises the error that names the line
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=str(path.parent)) from error


def _file_parts(path: Path) -> Iterator[FilePart]:
    with path.open("rb") as file:
        start = 0
        while file.seek(start + PART_BYTES) and file.readline():
            yield FilePart(path, start, file.tell())
            start = file.tell()
        file.seek(0, 2)
        if file.tell() > start:
            yield FilePart(path, start, file.tell())


def pack_part(part: FilePart) -> PackedRows:
    """Read the rows of a part, up to a line that is not a row. Runs in workers."""
    with part.path.open("rb") as file:
        file.seek(part.start)
        lines = BytesIO(file.read(part.stop - part.start)).readlines()
    packed = _pack_our_lines(lines)
    if packed is not None:
        return packed
    rows: list[tuple[Row, Labels]] = []
    for line in lines:
        try:
            rows.append(parse_line(part.path, 0, line))
        except DatasetError:
            return _pack_rows(rows)._replace(bad_line=line)
    return _pack_rows(rows)


def _pack_our_lines(lines: list[bytes]) -> PackedRows | None:
    """Pack lines without labels that are spelled as our writer does; None if any line is not."""
    ends = [line.find(b"]") for line in lines]
    for line, end in zip(lines, ends, strict=True):
        if not (line.startswith(LINE_START) and line.startswith(METADATA_START, end) and line.endswith(LINE_END)):
            return None
    texts = [line[len(LINE_START) : end] for line, end in zip(lines, ends, strict=True)]
    parsed = parse_numbers(b",".join(texts))
    if parsed is None:
        return None
    try:
        starts = [end + len(METADATA_START) for end in ends]
        metadata = [orjson.loads(line[start : -len(LINE_END)]) for line, start in zip(lines, starts, strict=True)]
    except orjson.JSONDecodeError:
        return None
    token_ids, token_stops = parsed
    text_stops = np.cumsum([len(text) + 1 for text in texts]) - 1
    stops = (np.searchsorted(token_stops, text_stops) + 1).tolist()
    return _pack(token_ids, [token_ids[start:stop] for start, stop in pairwise([0, *stops])], metadata, [])


def parse_numbers(text: bytes) -> tuple[NDArray[np.uint32], NDArray[np.int64]] | None:
    """Return the numbers of a text, spelled as JSON requires, and where each stops; None for any other text.

    `7,42` gives the numbers 7 and 42, which stop at 1 and 4.

    Three times as fast as a JSON parser, which makes an object of every number. Numbers of more than
    `MAX_DIGITS` digits are refused.
    """
    characters = np.frombuffer(text + b"," + bytes(MAX_DIGITS), dtype=np.uint8)
    stops = np.flatnonzero(characters == ord(","))
    starts = np.concatenate(([0], stops[:-1] + 1))
    lengths = stops - starts
    longest = lengths.max()
    digit_count = np.count_nonzero(characters - ord("0") < 10)  # below "0" the difference wraps to a large number
    if lengths.min() < 1 or longest > MAX_DIGITS or digit_count + len(stops) <= len(text):
        return None
    has_zero_first = characters[starts] == ord("0")
    if has_zero_first.any() and lengths[has_zero_first].max() > 1:
        return None
    # Example: "42" in "42,7" is read as the word "42,7", its first character in the lowest byte. Shifted by two bytes,
    # it is "42" after two zero bytes. The low halves of the bytes are the digits 0 0 4 2. Ten times each byte plus the
    # next one gives 0 4 42 20; every second is kept: 0 42. A hundred times each of these plus the next gives 42.
    word = np.dtype("<u4" if longest <= 4 else "<u8")
    word_bits = 8 * word.itemsize
    words = np.ndarray(len(text) + 1, word, characters, strides=(1,))[starts]
    words <<= word_bits - 8 * lengths.astype(word)
    words &= int.from_bytes(b"\x0f" * word.itemsize)
    for bits, factor in ((8, 10), (16, 100), (32, 10_000))[: 2 if word.itemsize == 4 else 3]:
        kept = ((1 << word_bits) - 1) // ((1 << bits) + 1)  # 0xffffffff // 0x101 is 0x00ff00ff
        words = (words * factor + (words >> bits)) & kept
    return words.astype(np.uint32), stops


def _pack_rows(rows: list[tuple[Row, Labels]]) -> PackedRows:
    labels = [labels for _, labels in rows] if any(labels for _, labels in rows) else []
    arrays = [_to_token_ids(row.tokens) for row, _ in rows]
    token_ids = np.concatenate((NO_TOKEN_IDS, *(ids for ids in arrays if ids is not None)))
    return _pack(token_ids, arrays, [row.metadata for row, _ in rows], labels)


def _pack(
    token_ids: NDArray[np.uint32],
    rows: Sequence[NDArray[np.uint32] | None],
    metadata: list[dict[str, Any]],
    labels: list[Labels],
) -> PackedRows:
    """Pack the tokens of all rows, the tokens of each row (None if they are not token ids), metadata and labels."""
    arrays: list[Any] = [NO_TOKEN_IDS if ids is None else ids for ids in rows]
    counts = np.array([len(ids) for ids in arrays], dtype=np.int64)
    max_tokens = np.zeros(len(counts), dtype=np.uint32)
    if len(token_ids):
        # `reduceat` takes the maximum from each start to the next; rows without tokens have none.
        starts = np.cumsum(counts) - counts
        max_tokens[counts > 0] = np.maximum.reduceat(token_ids, starts[counts > 0])
    return PackedRows(
        token_ids.tobytes(),
        [-1 if ids is None else len(ids) for ids in rows],
        max_tokens.tolist(),
        b"".join(map(_content_hash, arrays, metadata)),
        orjson.dumps(metadata),
        labels,
    )


def _content_hash(token_ids: NDArray[np.uint32], metadata: Any) -> bytes:
    """The `BulkRow.content_hash` of a row. Its metadata may be malformed: the check `rows` has not seen it yet."""
    start, stop = 0, len(token_ids)
    match metadata:
        case {"augmentation_type": technique, "length": int(length), "context": int(context)} if technique == BASE:
            start, stop = context, length
        case {"length": int(length)}:
            stop = length
        case _:
            pass
    return blake2b(token_ids[start:stop].data, digest_size=HASH_BYTES, salt=b"%d" % len(token_ids)).digest()


def _to_token_ids(tokens: Iterable[int]) -> NDArray[np.uint32] | None:
    try:
        return np.array(array("I", tokens), dtype=np.uint32)
    except (TypeError, OverflowError):
        return None
