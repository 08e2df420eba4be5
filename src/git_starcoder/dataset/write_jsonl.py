"""Writes rows as JSON lines, `{"tokens":[...],"metadata":{...}}`, half a gigabyte in about two seconds.

The parts of a line are made once: the tokens of all samples as numbers (`TokenText`), the metadata that the rows of a
sample share, and the members that differ from row to row. A line is only copied together from slices of these. Its size
is therefore known in advance, and workers write batches of lines at their positions in the file at the same time,
while a thread computes the digest of what is already there.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

import numpy as np
import orjson

from git_starcoder.dataset.read_rows import LABELS_START, LINE_END, LINE_START, METADATA_START
from git_starcoder.dataset.write_metadata import sample_metadata
from git_starcoder.hashing.arrays import run_offsets
from git_starcoder.protocols import Failure
from git_starcoder.row_layout import IGNORED_LABEL, masked_row

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState
    from git_starcoder.dataset.write_metadata import SplitRows
    from git_starcoder.git.objects import Repo
    from git_starcoder.protocols import Engine
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Split
    from git_starcoder.text.tokenizer import Tokenizer

    Files = dict[str, dict[str, int | str]]
    _NumbersTask = tuple[str, int, NDArray[Any]]
    """Tokens that a worker writes as numbers, the path of the file, and the position in it."""

ROWS_PER_TASK = 2048
"""Lines that a worker writes at a time: some megabytes."""
TOKENS_PER_CHUNK = 1 << 20
"""Tokens that become text at a time: a few megabytes."""
PIECES_PER_WRITE = min(1024, os.sysconf("SC_IOV_MAX"))
"""Byte strings that one system call writes."""
TASK_TIMEOUT_SECONDS = 300.0
"""The time for one task, which takes milliseconds; reached only if a disk hangs."""
HASH_CHUNK_BYTES = 4 << 20
"""Bytes that are read and hashed at a time."""
FLUSH_BYTES = 64 << 20
"""After so many bytes the file is flushed, so that the disk works while lines are made."""
IGNORED = b"%d" % IGNORED_LABEL
JSON_FORMATS = {"int": "%d", "float": "%r", "str": '"%s"'}
"""Formats of values that JSON spells as Python does. The strings among a row's own members need no escapes."""


def write_jsonl(
    build: BuildState,
    recipe: Recipe,
    repo: Repo,
    tokenizer: Tokenizer,
    splits: Mapping[Split, SplitRows],
    report_written: Callable[[SplitRows], None],
) -> Files:
    """Write the file of each split, and return their entries in the manifest. `report_written` is called for batches.

    Raises:
        OSError: A worker cannot write.
        RuntimeError: A worker failed for another reason.
    """
    windows = next(iter(splits.values())).windows
    metadata = (sample_metadata(build, sample, repo.committed_at) for sample in windows.samples)
    all_spans = np.concatenate([rows.token_spans for rows in splits.values()])
    shared_path = build.scratch / "line_ends"
    files: Files = {}
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(_write_shared, shared_path, metadata)  # while workers write the numbers
        numbers = write_numbers(windows.tokens, tokenizer.vocab_size, build.scratch / "numbers", build.engine)
    with numbers:
        shared_offsets, offsets, first = writing.result(), numbers.offsets(all_spans), 0
        for split, rows in splits.items():
            path = build.folder / f"training_data_{split}.jsonl"
            control_tokens = [b"%d," % token for token in rows.control_tokens]
            source = _LineSource(
                str(path),
                numbers.path,
                str(shared_path),
                control_tokens,
                b"%d," % tokenizer.pad_id,
                recipe.write.labels,
            )
            batches = _batches(source, rows, offsets[first : first + len(rows)], shared_offsets)
            files[path.name] = _write_split(path, rows, batches, build.engine, report_written)
            first += len(rows)
    return files


class _LineSource(NamedTuple):
    """What the lines of a file are made from."""

    path: str
    """The file itself."""
    numbers_path: str
    """A scratch file with the tokens of all samples as JSON numbers."""
    shared_path: str
    """A scratch file with the end of a line for each sample: the metadata that its rows share, and the braces."""
    control_tokens: list[bytes]
    """The control tokens of a masked row as numbers, each with a comma: one before each part, and the last one."""
    pad: bytes
    """The padding token with a comma."""
    has_labels: bool


class _Batch(NamedTuple):
    """Consecutive lines that a worker writes. Arrays have shape (lines,) if not said otherwise."""

    source: _LineSource
    position: int
    """Where in the file the lines start, in bytes."""
    size: int
    """The bytes of all lines."""
    number_spans: NDArray[np.int64]
    """Where in the file of numbers the three parts of each line start and stop, shape (lines, 6)."""
    is_masked: NDArray[np.bool_]
    pad_counts: NDArray[np.int64]
    own: bytes
    """The members that differ from row to row, of all lines one after another."""
    own_offsets: NDArray[np.int64]
    """Where in it those of each line start, and where the last stop, shape (lines + 1,)."""
    shared_spans: NDArray[np.int64]
    """Where in the file of line ends the end of each line starts and stops, shape (lines, 2)."""
    context_lengths: NDArray[np.int64]
    scored: list[list[int] | None]
    """See `SplitRows.scored`."""


def _write_shared(path: Path, metadata: Iterable[Mapping[str, Any]]) -> NDArray[np.int64]:
    """Write the line ends of all samples, and return where each starts, shape (samples + 1,)."""
    with path.open("wb") as file:
        sizes = [file.write(orjson.dumps(values)[1:] + LINE_END) for values in metadata]  # without the first brace
    return run_offsets(np.array(sizes, dtype=np.int64))


def _write_split(
    path: Path, rows: SplitRows, batches: Iterator[_Batch], engine: Engine, report_written: Callable[[SplitRows], None]
) -> dict[str, int | str]:
    """Write the file of a split, and return its entry in the manifest."""
    path.touch()
    digest = hashlib.sha256()
    size = 0
    answers = engine.map(_write_batch, batches, limit=TASK_TIMEOUT_SECONDS)
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(1) as thread:
        for first, answer in zip(range(0, len(rows), ROWS_PER_TASK), answers, strict=True):
            written, error = (0, answer) if isinstance(answer, Failure) else answer
            raise_if_failed(path, error)
            size += written
            thread.submit(_update_digest, digest, file.fileno(), size - written, size)
            if size // FLUSH_BYTES > (size - written) // FLUSH_BYTES:
                thread.submit(os.fsync, file.fileno())
            report_written(rows.slice(first, first + ROWS_PER_TASK))
    return {"bytes": size, "sha256": digest.hexdigest(), "rows": len(rows)}


def _update_digest(digest: Any, file: int, start: int, stop: int) -> None:
    while start < stop:
        data = os.pread(file, min(HASH_CHUNK_BYTES, stop - start), start)
        digest.update(data)
        start += len(data)


def _batches(
    source: _LineSource, split_rows: SplitRows, offsets: NDArray[np.int64], shared_offsets: NDArray[np.int64]
) -> Iterator[_Batch]:
    """Yield the lines of a split in batches, with the exact size of each.

    `offsets`, shape (rows, 3, 2), says where in the file of numbers the parts of each row start and stop.
    """
    position = 0
    for first in range(0, len(split_rows), ROWS_PER_TASK):
        rows = split_rows.slice(first, first + ROWS_PER_TASK)
        number_spans = offsets[first : first + ROWS_PER_TASK].reshape(-1, 6)
        sample = rows.windows.sample_index[rows.window_index]
        shared_spans = np.stack([shared_offsets[sample], shared_offsets[sample + 1]], axis=1)
        lengths, context_lengths = rows.lengths, rows.context_lengths
        pad_counts = rows.windows.size[rows.window_index].astype(np.int64) - lengths
        own, own_offsets = _own_members(rows.metadata_columns())

        # Of the line {"tokens":[7,42,0,0],"metadata":{...}} with two padding tokens: the text `7,42,` has 5 bytes, the
        # padding `0,0,` 4, and the comma after the last number is left out.
        part_sizes = number_spans[:, 1::2] - number_spans[:, ::2]
        text_sizes = part_sizes.sum(axis=1) + rows.is_masked * sum(map(len, source.control_tokens))
        token_sizes = text_sizes + pad_counts * len(source.pad) - 1
        sizes = len(LINE_START) + token_sizes + np.diff(own_offsets) + shared_spans[:, 1] - shared_spans[:, 0]
        if source.has_labels:
            # `input_ids` are the tokens again. `attention_mask` has a digit and a comma for each token. `labels` have
            # `-100,` for each token of the context and the padding, and all other numbers again.
            scored_sizes = np.where(context_lengths > 0, part_sizes[:, 1], text_sizes)
            ignored_counts = context_lengths + pad_counts
            for row, spans in enumerate(rows.scored):
                if spans is not None:
                    ids = _scored_ids(rows, row, spans)
                    scored_sizes[row] = sum(len(str(token)) + 1 for token in ids)
                    ignored_counts[row] = lengths[row] + pad_counts[row] - len(ids)
            label_sizes = scored_sizes + (len(IGNORED) + 1) * ignored_counts - 1
            sizes += token_sizes + 2 * (lengths + pad_counts) - 1 + label_sizes + sum(map(len, LABELS_START))
        size = int(sizes.sum())
        yield _Batch(
            source, position, size, number_spans, rows.is_masked, pad_counts, own, own_offsets, shared_spans,
            context_lengths, rows.scored,
        )  # fmt: skip
        position += size


def _scored_ids(rows: SplitRows, row: int, spans: list[int]) -> list[int]:
    """Return the tokens of a row that are in the loss, if only a part of it is."""
    (start, stop), (text_start, text_stop), _ = rows.token_spans[row].tolist()
    ids = np.concatenate((rows.windows.tokens[start:stop], rows.windows.tokens[text_start:text_stop]))
    return [token for first, last in zip(spans[::2], spans[1::2], strict=True) for token in ids[first:last].tolist()]


def _own_members(columns: dict[str, list[Any]]) -> tuple[bytes, NDArray[np.int64]]:
    r"""Return the members of each row's own metadata, one row after another, and where those of each row start.

    Columns seq_id [0, 1] and hole [None, [2, 5]] give `],"metadata":{"seq_id":0,` and
    `],"metadata":{"seq_id":1,"hole":[2,5],`. One format string for all rows takes a tenth less time of the main
    process, which limits the writing, than JSON for each row.
    """
    formats: list[str] = []
    cells: list[list[Any]] = []
    for key, column in columns.items():
        value_format = "" if None in column else JSON_FORMATS.get(type(column[0]).__name__, "")
        if value_format:
            formats.append(f'"{key}":{value_format},')
            cells.append(column)
        else:  # lists, and columns that some rows do not have
            formats.append("%s")
            cells.append(["" if value is None else f'"{key}":{orjson.dumps(value).decode()},' for value in column])
    line_format = METADATA_START.decode() + "{" + "".join(formats)
    texts = [line_format % row for row in zip(*cells, strict=True)]
    return "".join(texts).encode("ascii"), run_offsets(np.array([len(text) for text in texts], dtype=np.int64))


def _write_batch(batch: _Batch) -> tuple[int, int]:
    """Write the lines of a batch. Return their size, and 0 or the error number. Runs in workers."""
    with _mapped(batch.source.numbers_path) as numbers, _mapped(batch.source.shared_path) as shared:
        pieces = _line_pieces(batch, numbers, shared)
        size = sum(map(len, pieces))
        if size != batch.size:
            raise ValueError(f"{size} bytes where {batch.size} were expected")
        error = write_at(batch.source.path, batch.position, pieces)
        pieces.clear()  # a map cannot be closed while there are views of it
        return size, error


@contextmanager
def _mapped(path: str) -> Generator[memoryview]:
    """Map a file for one batch only, so that pages that were read do not count as memory of the worker for long."""
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            yield view
        finally:
            view.release()


def _line_pieces(batch: _Batch, numbers: memoryview, shared: memoryview) -> list[bytes | memoryview]:
    """Return the byte strings that the lines of a batch consist of; nearly all are views of files."""
    source = batch.source
    padding = memoryview(source.pad * int(batch.pad_counts.max(initial=0)))
    own = memoryview(batch.own)
    pieces: list[bytes | memoryview] = []
    rows = zip(
        batch.number_spans.tolist(), batch.is_masked.tolist(), batch.pad_counts.tolist(),
        pairwise(batch.own_offsets.tolist()), batch.shared_spans.tolist(), batch.context_lengths.tolist(), batch.scored,
        strict=True,
    )  # fmt: skip
    for spans, is_masked, pad_count, (own_start, own_stop), (shared_start, shared_stop), context_length, scored in rows:
        start, stop, second_start, second_stop, third_start, third_stop = spans
        tokens: list[bytes | memoryview] = [numbers[start:stop], numbers[second_start:second_stop]]
        if is_masked:
            prefix, suffix, middle = *tokens, numbers[third_start:third_stop]
            tokens = masked_row(prefix, suffix, middle, source.control_tokens)
        if not pad_count:
            tokens[-1] = tokens[-1][:-1]  # no comma after the last number
        row_padding = padding[: max(0, len(source.pad) * pad_count - 1)]
        pieces += (LINE_START, *tokens, row_padding)
        if source.has_labels:
            pieces += _label_pieces(tokens, row_padding, pad_count, context_length, scored)
        pieces += (own[own_start:own_stop], shared[shared_start:shared_stop])
    return pieces


def _label_pieces(
    tokens: Sequence[bytes | memoryview], row_padding: memoryview, pad_count: int, context_length: int,
    scored: list[int] | None,
) -> list[bytes]:  # fmt: skip
    """Return the label columns of a row: with one context token, `7,42,0` has the labels `-100,42,-100`."""
    input_ids = b"".join((*tokens, row_padding))
    numbers = b"".join(tokens).removesuffix(b",").split(b",")
    attention_mask = (b"1," * len(numbers) + b"0," * pad_count)[:-1]
    kept = [IGNORED] * len(numbers)
    edges = [context_length, len(numbers)] if scored is None else scored
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        kept[start:stop] = numbers[start:stop]
    labels = b",".join(kept + [IGNORED] * pad_count)
    ids_start, mask_start, labels_start = LABELS_START
    return [ids_start, input_ids, mask_start, attention_mask, labels_start, labels]


class TokenText:
    """The text of an array of tokens, and where in it each token stands."""

    def __init__(self, tokens: NDArray[Any], widths: NDArray[Any], path: Path) -> None:
        """Create an empty file at `path` for `tokens`. `widths` is the bytes of each token id, shape (vocab_size,)."""
        self._tokens, self._widths = tokens, widths
        self.path = str(path)
        self._file: BinaryIO = path.open("w+b", buffering=0)

    def offsets(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the text of the token at each position starts, in bytes; same shape.

        The position after the last token is allowed. Tokens [7, 42, 5] are the text `7,42,5,`: positions [0, 2, 3] are
        at [0, 5, 7].
        """
        # All tokens take more memory than their positions, so their widths are added up chunk by chunk.
        order = np.argsort(positions, axis=None, kind="stable")
        ascending = positions.ravel()[order]
        offsets = np.zeros(positions.size, dtype=np.int64)
        chunk_offset = 0
        for start in range(0, len(self._tokens) + 1, TOKENS_PER_CHUNK):
            ends = np.cumsum(self._widths[self._tokens[start : start + TOKENS_PER_CHUNK]], dtype=np.int64)
            low, high = np.searchsorted(ascending, (start, start + TOKENS_PER_CHUNK))
            offsets[order[low:high]] = chunk_offset + np.concatenate(([0], ends))[ascending[low:high] - start]
            chunk_offset += int(ends[-1]) if len(ends) else 0
        return offsets.reshape(positions.shape)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from one offset to another."""
        return os.pread(self._file.fileno(), stop - start, start) if start < stop else b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def write_numbers(tokens: NDArray[Any], vocab_size: int, path: Path, engine: Engine) -> TokenText:
    """Write tokens as JSON numbers, each with a comma after it. Workers do it."""
    ids = np.arange(vocab_size)
    widths = np.full(vocab_size, 2, dtype=np.uint8)  # a digit and a comma
    for power in range(1, 10):
        widths += ids >= 10**power

    def chunks() -> Iterator[_NumbersTask]:
        position = 0
        for start in range(0, len(tokens), TOKENS_PER_CHUNK):
            chunk = np.array(tokens[start : start + TOKENS_PER_CHUNK])
            yield str(path), position, chunk
            position += int(widths[chunk].sum(dtype=np.int64))

    text = TokenText(tokens, widths, path)
    for answer in engine.map(_write_chunk, chunks(), limit=TASK_TIMEOUT_SECONDS):
        raise_if_failed(path, answer)
    return text


def _write_chunk(task: _NumbersTask) -> int:
    path, position, tokens = task
    data = orjson.dumps(tokens, option=orjson.OPT_SERIALIZE_NUMPY)
    return write_at(path, position, [memoryview(data)[1:-1], b","])  # `[7,42]` becomes `7,42,`


def write_at(path: str, position: int, pieces: Sequence[bytes | memoryview]) -> int:
    """Write byte strings at a position of an existing file. Return 0, or the error number if they cannot be written.

    Several workers write to one file at the same time. An error number crosses processes better than an exception.
    `pwritev` takes the pieces as they are: to join them first would cost a third more processor time for the file.
    """
    try:
        with Path(path).open("r+b", buffering=0) as file:
            for first in range(0, len(pieces), PIECES_PER_WRITE):
                some = pieces[first : first + PIECES_PER_WRITE]
                written = os.pwritev(file.fileno(), some, position)
                position += written
                # The system may write less than it was given.
                rest = memoryview(b"".join(some))[written:] if written < sum(map(len, some)) else b""
                while rest:
                    written = os.pwrite(file.fileno(), rest, position)
                    rest, position = rest[written:], position + written
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def raise_if_failed(path: Path, answer: int | Failure) -> None:
    """Raise an error if `write_at`, or the worker that called it, could not write the file."""
    if isinstance(answer, Failure):
        what = f"'{path.name}' cannot be written: {answer.kind} {answer.detail}"
        raise RuntimeError(what)  # noqa: TRY004 - of a worker, not of an argument
    if answer:
        raise OSError(answer, os.strerror(answer), str(path))
