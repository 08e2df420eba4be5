"""Parquet files, laid out so that `datasets.load_dataset(FOLDER)` finds the splits.

The metadata of a row are columns. Beside them stand the row's text, and what programs written for The Stack v2 and
CommitPackFT look for under their names. Bytes depend on the rows and on the version of pyarrow.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.folder.lines import OWN
from git_starcoder.parquet import LABELS, NAMES, SHOWN, library
from git_starcoder.rows import Change, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.folder.lines import Lines
    from git_starcoder.rows import Sample, Split
    from git_starcoder.run import TextStore

GROUP = 1 << 22
"""Tokens of a row group, which is in memory at a time."""
FILE = 1 << 28
"""Tokens of a file."""
CONTENTS = ("text", "old_contents", "new_contents")
"""Columns whose values hardly repeat."""
BEFORE = "<commit_before>"
LEVEL = 3
"""Of zstd."""
IGNORED = -100
"""The label of a token that does not count for the loss."""


class Writer:
    """Writes the rows of splits."""

    def __init__(
        self,
        folder: Path,
        samples: Sequence[Sample],
        shared: Sequence[Mapping[str, Any]],
        texts: TextStore,
        commit: str,
        dtype: np.dtype[Any],
        decode: Callable[[NDArray[Any]], bytes],
        *,
        labels: bool = False,
    ) -> None:
        """`shared` is what the rows of each sample have in common, `commit` the one that is read, `dtype` of tokens.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        self._arrow = library()
        self._folder, self._decode, self._labels = folder, decode, labels
        self._dtype = dtype if dtype.itemsize == 2 else np.dtype(np.int32)  # which every reader knows
        self._shared = self._table(samples, shared, texts, commit)

    def write(
        self, split: Split, lines: Lines, tokens: Callable[[int], NDArray[Any]], done: Callable[[Lines], None]
    ) -> dict[str, dict[str, int | str]]:
        """Write the files of a split; give their entries in the manifest.

        `tokens` gives those of a row of the windows, padded. `done` hears of lines that were written.
        """
        files: dict[str, dict[str, int | str]] = {}
        sizes = lines.windows.size[lines.row].astype(np.int64)
        shards = list(pairwise(_cuts(sizes, FILE)))
        for number, (begin, stop) in enumerate(shards):
            name = f"data/{NAMES[split]}-{number:05}-of-{len(shards):05}.parquet"
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            part = lines.part(begin, stop)
            self._write(path, part, sizes[begin:stop], tokens, done)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[name] = {"bytes": path.stat().st_size, "sha256": digest, "rows": len(part)}
        return files

    def _write(
        self,
        path: Path,
        lines: Lines,
        sizes: NDArray[np.int64],
        tokens: Callable[[int], NDArray[Any]],
        done: Callable[[Lines], None],
    ) -> None:
        schema = self._columns(lines.part(0, 0), tokens).schema
        strings = [name for name in schema.names if str(schema.field(name).type) == "string" and name not in CONTENTS]
        lists = [f"{name}.list.element" for name in ("tokens", *LABELS)]
        with self._arrow.parquet.ParquetWriter(
            path, schema, compression="zstd", compression_level=LEVEL, use_dictionary=[*strings, *lists]
        ) as writer:
            for begin, stop in pairwise(_cuts(sizes, GROUP)):
                part = lines.part(begin, stop)
                writer.write_table(self._columns(part, tokens), row_group_size=max(1, len(part)))
                done(part)

    def _columns(self, lines: Lines, tokens: Callable[[int], NDArray[Any]]) -> Any:
        """Lines as a table."""
        arrow = self._arrow
        found = [tokens(row) for row in lines.row.tolist()]
        columns: dict[str, Any] = {"tokens": self._lists(found)}
        if self._labels:
            columns |= self._labelled(lines, found)
        texts = [
            self._decode(row[:length]).decode("utf-8", "replace")
            for row, length in zip(found, lines.length.tolist(), strict=True)
        ]
        columns["text"] = arrow.array(texts, arrow.string())
        own = lines.columns()
        columns |= {name: arrow.array(own[name], _type(arrow, kind)) for name, kind in OWN.items() if name in own}
        shared = self._shared.take(arrow.array(lines.windows.sample[lines.row]))
        return arrow.table({**columns, **dict(zip(shared.column_names, shared.columns, strict=True))})

    def _lists(self, rows: list[NDArray[Any]], kind: str = "") -> Any:
        """Rows of numbers as one column, in their own type or another."""
        arrow = self._arrow
        offsets = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        flat = np.concatenate(rows) if rows else np.empty(0, self._dtype)
        return arrow.ListArray.from_arrays(arrow.array(offsets), arrow.array(flat.astype(kind or self._dtype)))

    def _labelled(self, lines: Lines, rows: list[NDArray[Any]]) -> dict[str, Any]:
        shown: list[NDArray[Any]] = []
        asked: list[NDArray[Any]] = []
        for row, length, uncounted in zip(rows, lines.length.tolist(), lines.uncounted.tolist(), strict=True):
            at = np.arange(len(row))
            shown.append(at < length)
            asked.append(np.where((at >= uncounted) & (at < length), row.astype(np.int32), IGNORED))
        columns = (self._lists(rows, "int32"), self._lists(shown, "int8"), self._lists(asked, "int32"))
        return dict(zip(LABELS, columns, strict=True))

    def _table(
        self, samples: Sequence[Sample], shared: Sequence[Mapping[str, Any]], texts: TextStore, commit: str
    ) -> Any:
        """What all rows of each sample have in common, one row per sample."""
        names = list(dict.fromkeys(name for values in shared for name in values))
        columns = {name: self._arrow.array([values.get(name) for values in shared]) for name in names}
        stack = [_as_in_the_stack(*both, texts, commit) for both in zip(samples, shared, strict=True)]
        kinds = {name: self._arrow.bool_() if name.startswith("is_") else self._arrow.string() for name in SHOWN[1:]}
        columns |= {name: self._arrow.array([one.get(name) for one in stack], kind) for name, kind in kinds.items()}
        return self._arrow.table(columns)


def features(path: Path) -> dict[str, str]:
    """The type of each column of a file, such as `int64` or `list<uint16>`."""
    schema = library().parquet.read_schema(path)
    kinds = {field.name: str(field.type).replace("element: ", "").replace("item: ", "") for field in schema}
    return {name: kind.replace("double", "float64") for name, kind in kinds.items()}


def _as_in_the_stack(sample: Sample, shared: Mapping[str, Any], texts: TextStore, commit: str) -> dict[str, Any]:
    """What a sample is under the names of The Stack v2 and, where a change made it, of CommitPackFT."""
    origin = sample.origin
    values: dict[str, Any] = {
        "path": shared["source_file"],
        "blob_id": shared["blob"],
        "repo_name": f"git:{commit}",  # a clone has a place and no name; two clones give the same bytes
        "revision_id": commit,
        "is_generated": origin.role == "generated",
        "is_vendor": origin.role == "vendored",
    }
    if isinstance(origin, Change):
        message: str = shared["commit_message"]
        before = b"".join(texts.get(piece.text) for piece in sample.head if piece.mark == BEFORE)
        values |= {
            "revision_id": origin.commit,
            "old_file": printable(origin.former) or shared["source_file"],
            "old_contents": before.decode("utf-8", "replace"),
            "new_contents": texts.get(sample.text).decode("utf-8", "replace"),
            "subject": message.partition("\n")[0],
            "message": message,
        }
    return values


def _type(arrow: Any, kind: str) -> Any:
    inner = kind.removeprefix("list<").removesuffix(">")
    simple = getattr(arrow, inner)()
    return simple if inner == kind else arrow.list_(simple)


def _cuts(sizes: NDArray[np.int64], most: int) -> list[int]:
    """Where to cut rows into parts of about `most` tokens: from 0 to the number of rows, at least one part."""
    part = (np.cumsum(sizes) - 1) // most
    return [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(sizes)]
