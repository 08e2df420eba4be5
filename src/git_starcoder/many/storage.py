"""Stores what the parts of a build hand on, in a work folder that may be deleted at any time.

The name of a folder is a hash of everything that its content depends on, and it gets this name when it is complete, so
several processes or machines may share a work folder. Where that is another folder, the hash is of its content, which
may be another one when what could not be read can be read again. The seal of a folder lists its files: one that was
damaged since is made again. Records are msgpack, never pickles, and arrays are memory-mapped.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from git_starcoder.build_state import StepCounts
from git_starcoder.engine.cache import code_digest
from git_starcoder.hashing.containment import ShingleSample
from git_starcoder.hashing.near_duplicates import ComparableTexts
from git_starcoder.hashing.texts import HashedLines, TextShingles
from git_starcoder.output.contents import OutputKind, describe_file, list_files
from git_starcoder.output.files import flush_folder
from git_starcoder.output.folder import WORK_MARKER, prepare_work_folder
from git_starcoder.protocols import NO_PROGRESS
from git_starcoder.records import (
    WINDOW_COLUMNS,
    Change,
    ContextPart,
    Drop,
    Sample,
    Source,
    Span,
    Unit,
    Windows,
    content_id,
    escape_undecodable,
    parse_printable_path,
    printable_path,
)
from git_starcoder.stages.file_table import FileTable
from git_starcoder.stages.history_gate import ComparableChanges
from git_starcoder.stages.row_table import RowColumns, RowTable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

T = TypeVar("T")

KINDS = ("read", "tokenizer", "rows", "shard", "decisions")
"""The folders of a work folder. Hashes are the names of what is in them."""
WORK_KIND = OutputKind("work folder", "build", WORK_MARKER, "git-starcoder/build-work/1")
RECORDS_FILE = "records"
HISTORY_FILE = "history"
ARRAYS_FILE = "arrays"
TOKENS_FILE = "tokens"
SEAL_FILE = "seal"
"""In a complete folder, what is known of its other files: a `SealedFile` for each."""
FAULTS_FILE = "faults"
"""Is in a folder that lacks what could not be read or computed (`build_state.FAULTS`), so that it is filled again."""
PARTIAL_SUFFIX = ".partial"
"""The end of the name of a folder that is being filled."""
ARRAY_ALIGNMENT = 16
"""Arrays begin at multiples of so many bytes."""


class SealedFile(NamedTuple):
    """A file of a folder as it was written."""

    size: int
    modified_at: int
    """In nanoseconds."""
    digest: str
    """Compared if the time is another one, as in a copy of the folder."""


class StepRecord(NamedTuple):
    """The counts of one step for one repository."""

    name: str
    seen: int
    kept: int
    dropped: dict[str, int]
    figures: dict[str, int | float | str]


class StoredSample(NamedTuple):
    """A sample, with a number in place of its unit or change."""

    id: str
    origin: int
    """The index of the unit; -1, -2, … stand for the first, second, … change."""
    technique: str
    text: Span
    masked_spans: tuple[Span, ...]
    context_prefix: tuple[ContextPart, ...]
    kind: str
    window_starts: Span


class HistoryFacts(NamedTuple):
    """What is known about the history of a repository once it was walked."""

    committed_at: int
    is_shallow: bool
    is_incomplete: bool
    has_uncertain_renames: bool
    notes: list[str]


class ReadRecords(NamedTuple):
    """The records of a repository after read and analyse."""

    units: list[Unit]
    changes: list[Change]
    steps: list[StepRecord]
    drops: list[Drop]


class FileLists(NamedTuple):
    """The members of a table of files that are no arrays."""

    paths: list[str]
    oldest_paths: list[str]
    digests: list[str]


class RowRecords(NamedTuple):
    """The records of a repository after split, augment and window."""

    units: list[Unit]
    changes: list[Change]
    samples: list[StoredSample]
    steps: list[StepRecord]
    drops: list[Drop]


class RowLists(NamedTuple):
    """The members of a table of rows that are no arrays."""

    paths: list[str]
    techniques: list[str]


class ShardRecords(NamedTuple):
    """What the dataset says about the rows of a repository."""

    files: dict[str, dict[str, int | str]]
    """The files of the splits, as the manifest lists them."""
    metadata: dict[str, Any]
    features: dict[str, Any]
    steps: list[StepRecord]
    weight: float
    """The factor of the weights of all rows; see `RepositoryOptions.weights`."""


def key_of(*parts: str | bytes) -> str:
    """The name of a folder whose content depends on these parts."""
    return content_id(code_digest(), *parts)


def open_work_folder(path: Path) -> Path:
    """Create or open the work folder of a build. See `output.folder.prepare_work_folder`."""
    return prepare_work_folder(path, WORK_KIND)


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """A folder to fill, which gets its name at the end. If another process was faster, its folder stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=PARTIAL_SUFFIX, dir=folder.parent))
    try:
        yield partial
        files = {name: _describe(partial / name) for name in list_files(partial)}
        store(partial / SEAL_FILE, files)
        flush_folder(partial)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def has_folder(folder: Path) -> bool:
    """Whether a folder exists as it was written. If it was changed or damaged, it is removed."""
    if not folder.is_dir():
        return False
    is_whole = _is_whole(folder)
    if not is_whole:
        shutil.rmtree(folder)
    return is_whole


def folder_digest(folder: Path) -> str:
    """A hash of the content of a complete folder."""
    sealed = load(folder / SEAL_FILE, dict[str, SealedFile])
    return content_id(*(part for name, file in sorted(sealed.items()) for part in (name, file.digest)))


def _is_whole(folder: Path) -> bool:
    try:
        sealed = load(folder / SEAL_FILE, dict[str, SealedFile])
    except (FileNotFoundError, msgspec.MsgspecError):
        return False
    return sealed.keys() == {*list_files(folder)} - {SEAL_FILE} and all(
        _is_unchanged(folder / name, known) for name, known in sealed.items()
    )


def _is_unchanged(path: Path, known: SealedFile) -> bool:
    status = path.stat()
    is_same_time = status.st_mtime_ns == known.modified_at
    return status.st_size == known.size and (is_same_time or _describe(path).digest == known.digest)


def _describe(path: Path) -> SealedFile:
    known = describe_file(path)
    return SealedFile(int(known["bytes"]), path.stat().st_mtime_ns, str(known["sha256"]))


def store(path: Path, values: Any) -> None:
    """Write records as msgpack."""
    path.write_bytes(msgspec.msgpack.encode(values))


def load(path: Path, kind: type[T]) -> T:
    """Read records of a type."""
    return msgspec.msgpack.decode(path.read_bytes(), type=kind)


def store_once(folder: Path, values: Any) -> tuple[Path, str]:
    """Write records to a file whose name is a hash of their content; its path and the hash."""
    data = msgspec.msgpack.encode(values)
    name = content_id(data)
    path = folder / name
    if not path.is_file() or path.read_bytes() != data:  # it may have been damaged
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(data)
        Path(file.name).rename(path)
    return path, name


def store_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays to one file: a table of contents in msgpack, its length before it, and the arrays."""
    entries: list[tuple[str, str, tuple[int, ...], int]] = []
    position = 0
    for name, array in arrays.items():
        position = -(-position // ARRAY_ALIGNMENT) * ARRAY_ALIGNMENT
        entries.append((name, array.dtype.str, array.shape, position))
        position += array.nbytes
    head = msgspec.msgpack.encode(entries)
    start = -(-(8 + len(head)) // ARRAY_ALIGNMENT) * ARRAY_ALIGNMENT
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for (_, _, _, place), array in zip(entries, arrays.values(), strict=True):
            file.seek(start + place)
            file.write(np.ascontiguousarray(array).data)
        file.truncate(start + position)


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file, as views of one memory map."""
    data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    length = int.from_bytes(data[:8].tobytes(), "little")
    entries = msgspec.msgpack.decode(data[8 : 8 + length].tobytes(), type=list[tuple[str, str, tuple[int, ...], int]])
    start = -(-(8 + length) // ARRAY_ALIGNMENT) * ARRAY_ALIGNMENT
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype, shape, place in entries:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        arrays[name] = data[start + place : start + place + size].view(dtype).reshape(shape)
    return arrays


def step_records(steps: Iterable[StepCounts]) -> list[StepRecord]:
    """The counts of steps in the form in which they are stored."""
    return [StepRecord(step.name, step.seen, step.kept, dict(step.dropped), step.figures) for step in steps]


def as_step_counts(records: Iterable[StepRecord]) -> list[StepCounts]:
    """The counts of steps, from the form in which they are stored."""
    steps: list[StepCounts] = []
    for record in records:
        step = StepCounts(record.name, NO_PROGRESS, [], record.seen, record.kept, figures=dict(record.figures))
        step.dropped.update(record.dropped)
        steps.append(step)
    return steps


def store_units(units: Iterable[Unit]) -> list[Unit]:
    """Units whose paths can be written as UTF-8; `load_units` is the inverse."""
    return [_with_paths(unit, printable_path) for unit in units]


def load_units(units: Iterable[Unit]) -> list[Unit]:
    """Units with their paths as they are."""
    return [_with_paths(unit, parse_printable_path) for unit in units]


def _with_paths(unit: Unit, convert: Callable[[str], str]) -> Unit:
    source = unit.source
    paths = (source.path, *source.former_paths, *unit.imports)
    if all(path.isascii() and "\\" not in path for path in paths):
        return unit
    converted: Source = replace(
        source, path=convert(source.path), former_paths=tuple(map(convert, source.former_paths))
    )
    return replace(unit, source=converted, imports=tuple(map(convert, unit.imports)))


def store_changes(changes: Iterable[Change]) -> list[Change]:
    """Changes whose paths can be written as UTF-8; `load_changes` is the inverse."""
    return [_with_change_paths(change, printable_path) for change in changes]


def load_changes(changes: Iterable[Change]) -> list[Change]:
    """Changes with their paths as they are."""
    return [_with_change_paths(change, parse_printable_path) for change in changes]


def _with_change_paths(change: Change, convert: Callable[[str], str]) -> Change:
    path, former_path, current_path = map(convert, (change.path, change.former_path, change.current_path))
    return change._replace(path=path, former_path=former_path, current_path=current_path)


def store_drops(drops: Iterable[Drop]) -> list[Drop]:
    """Drops that can be written as UTF-8; `load_drops` is the inverse."""
    return [drop._replace(id=printable_path(drop.id), detail=escape_undecodable(drop.detail)) for drop in drops]


def load_drops(drops: Iterable[Drop]) -> list[Drop]:
    """Drops with their ids as they are."""
    return [drop._replace(id=parse_printable_path(drop.id)) for drop in drops]


def store_samples(samples: Sequence[Sample], units: Sequence[Unit], changes: Sequence[Change]) -> list[StoredSample]:
    """Samples in the form in which they are stored."""
    numbers = {unit.id: index for index, unit in enumerate(units)}
    numbers |= {change.id: -1 - index for index, change in enumerate(changes)}
    return [
        StoredSample(
            sample.id, numbers[sample.origin.id], sample.technique, sample.text, sample.masked_spans,
            sample.context_prefix, sample.kind, sample.window_starts,
        )
        for sample in samples
    ]  # fmt: skip


def load_samples(stored: Iterable[StoredSample], units: Sequence[Unit], changes: Sequence[Change]) -> list[Sample]:
    """Samples, from the form in which they are stored."""
    return [
        Sample(
            sample.id,
            units[sample.origin] if sample.origin >= 0 else changes[-1 - sample.origin],
            *sample[2:],
        )
        for sample in stored
    ]


def store_file_table(folder: Path, table: FileTable) -> None:
    """Write a table of files to a folder."""
    compared, changes = table.compared, table.changes
    arrays = {
        "roles": table.roles,
        "changed_at": table.changed_at,
        "lineage_links": table.lineage_links,
        "text_of_file": table.text_of_file,
        "first_file": table.first_file,
        "expected_rows": table.expected_rows,
        "shingles.hashes": compared.shingles.hashes,
        "shingles.offsets": compared.shingles.offsets,
        "signatures": np.asarray(compared.shingles.signatures),
        "file_of_change": table.file_of_change,
        "rows_of_change": table.rows_of_change,
        "edit_counts": changes.edit_counts,
        "message_of_change": changes.message_of_change,
    }
    for name, sample in (("token_runs", compared.token_runs), ("line_words", compared.line_words)):
        arrays |= {f"{name}.{key}": value for key, value in sample._asdict().items()}
    for name, lines in (("lines", table.lines), ("edits", changes.edits), ("quotes", changes.quotes)):
        arrays |= {f"{name}.{field.name}": getattr(lines, field.name) for field in fields(HashedLines)}
    store_arrays(folder / f"files.{ARRAYS_FILE}", arrays)
    lists = FileLists(*(list(map(printable_path, getattr(table, name))) for name in FileLists._fields))
    store(folder / f"files.{RECORDS_FILE}", lists)


def load_file_table(folder: Path, name: str) -> FileTable:
    """The table of files in a folder, for a repository of this name. Its arrays are memory maps."""
    arrays = load_arrays(folder / f"files.{ARRAYS_FILE}")
    lists = load(folder / f"files.{RECORDS_FILE}", FileLists)

    def lines(prefix: str) -> HashedLines:
        return HashedLines(*(arrays[f"{prefix}.{field.name}"] for field in fields(HashedLines)))

    def sample(prefix: str) -> ShingleSample:
        return ShingleSample(*(arrays[f"{prefix}.{field}"] for field in ShingleSample._fields))

    return FileTable(
        name=name,
        paths=list(map(parse_printable_path, lists.paths)),
        oldest_paths=list(map(parse_printable_path, lists.oldest_paths)),
        roles=arrays["roles"],
        changed_at=arrays["changed_at"],
        lineage_links=arrays["lineage_links"],
        text_of_file=arrays["text_of_file"],
        first_file=arrays["first_file"],
        digests=list(map(parse_printable_path, lists.digests)),
        expected_rows=arrays["expected_rows"],
        compared=ComparableTexts(
            TextShingles(arrays["shingles.hashes"], arrays["shingles.offsets"], arrays["signatures"]),
            sample("token_runs"),
            sample("line_words"),
        ),
        lines=lines("lines"),
        file_of_change=arrays["file_of_change"],
        rows_of_change=arrays["rows_of_change"],
        changes=ComparableChanges(lines("edits"), arrays["edit_counts"], lines("quotes"), arrays["message_of_change"]),
    )


def store_rows(folder: Path, windows: Windows, table: RowTable) -> None:
    """Write windows and their table to a folder, without the tokens."""
    arrays = {f"rows.{field.name}": getattr(table.rows, field.name) for field in fields(RowColumns)}
    arrays |= {"bucket_keys": table.bucket_keys, "no_tokens": windows.tokens[:0]}
    store_arrays(folder / f"rows.{ARRAYS_FILE}", arrays)
    columns = {name: getattr(windows, name) for name in WINDOW_COLUMNS}
    store_arrays(
        folder / f"windows.{ARRAYS_FILE}",
        columns | {"prefix_starts": windows.prefix_starts, "scored_bounds": windows.scored_bounds},
    )
    store(folder / f"rows.{RECORDS_FILE}", RowLists(list(map(printable_path, table.paths)), table.techniques))


def load_tokens(folder: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The tokens in a folder, as a memory map."""
    path = folder / TOKENS_FILE
    return np.asarray(np.memmap(path, dtype=dtype, mode="r")) if path.stat().st_size else np.empty(0, dtype)


def load_row_table(folder: Path, name: str) -> RowTable:
    """The table of rows in a folder, for a repository of this name."""
    arrays = load_arrays(folder / f"rows.{ARRAYS_FILE}")
    lists = load(folder / f"rows.{RECORDS_FILE}", RowLists)
    columns = RowColumns(**{field.name: arrays[f"rows.{field.name}"] for field in fields(RowColumns)})
    tokens = load_tokens(folder, arrays["no_tokens"].dtype)
    paths = list(map(parse_printable_path, lists.paths))
    return RowTable(name, tokens, columns, arrays["bucket_keys"], paths, lists.techniques)


def load_windows(folder: Path, samples: Sequence[Sample], dtype: np.dtype[Any]) -> Windows:
    """The windows in a folder."""
    return Windows(samples=samples, tokens=load_tokens(folder, dtype), **load_arrays(folder / f"windows.{ARRAYS_FILE}"))


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system does not allow that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
