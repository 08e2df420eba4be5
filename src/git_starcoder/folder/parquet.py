"""Parquet files, laid out so that `datasets.load_dataset(FOLDER)` finds the splits.

The metadata of a row are columns. Beside them stand the row's text, and what programs written for The Stack v2 and
CommitPackFT look for under their names. Bytes depend on the rows and on the version of pyarrow.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from git_starcoder.folder.lines import OWN
from git_starcoder.parquet import LABELS, NAMES, SHOWN, library
from git_starcoder.records import Change, printable_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.build_state import TextStore
    from git_starcoder.folder.lines import Lines
    from git_starcoder.folder.spelled import Spelled
    from git_starcoder.records import Sample, Split
    from git_starcoder.text.tokenizer import Tokenizer

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
        tokenizer: Tokenizer,
        spelled: Spelled | None,
        samples: Sequence[Sample],
        shared: Sequence[Mapping[str, Any]],
        texts: TextStore,
        commit: str,
        *,
        labels: bool = False,
    ) -> None:
        """For the rows of samples.

        `spelled` is the text of all tokens, where each of them is whole bytes; `shared` is what the rows of each sample
        have in common, and `commit` the one that is read.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        self._arrow = library()
        self._folder, self._tokenizer, self._spelled, self._labels = folder, tokenizer, spelled, labels
        self._dtype = tokenizer.dtype if tokenizer.dtype.itemsize == 2 else np.dtype(np.int32)  # every reader knows it
        self._shared = self._table(samples, shared, texts, commit)

    def write(self, split: Split, lines: Lines, done: Callable[[Lines], None]) -> dict[str, dict[str, int | str]]:
        """Write the files of a split; give their entries in the manifest. `done` hears of lines that were written."""
        files: dict[str, dict[str, int | str]] = {}
        sizes = lines.windows.size[lines.row].astype(np.int64)
        offsets = None if self._spelled is None else self._spelled.offsets(lines.spans)
        schema = self._columns(lines.part(0, 0), None).schema
        shards = list(pairwise(_cuts(sizes, FILE)))
        for number, (begin, stop) in enumerate(shards):
            name = f"data/{NAMES[split]}-{number:05}-of-{len(shards):05}.parquet"
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as opened, self._open(opened, schema) as writer:  # names in UTF-8 alone would do
                for first, last in pairwise(begin + cut for cut in _cuts(sizes[begin:stop], GROUP)):
                    if first == last:  # a row group without rows is what some readers fail at
                        continue
                    part = lines.part(first, last)
                    table = self._columns(part, None if offsets is None else offsets[first:last])
                    writer.write_table(table, row_group_size=len(part))
                    done(part)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[name] = {"bytes": path.stat().st_size, "sha256": digest, "rows": stop - begin}
        return files

    def _open(self, file: BinaryIO, schema: Any) -> Any:
        strings = [name for name in schema.names if str(schema.field(name).type) == "string" and name not in CONTENTS]
        lists = [f"{name}.list.element" for name in ("tokens", *LABELS)]
        return self._arrow.parquet.ParquetWriter(
            file, schema, compression="zstd", compression_level=LEVEL, use_dictionary=[*strings, *lists]
        )

    def _columns(self, lines: Lines, offsets: NDArray[np.int64] | None) -> Any:
        """Lines as a table. `offsets`, shape (lines, 3, 2), is where in the text of all tokens their parts lie."""
        arrow = self._arrow
        bounds = np.concatenate(([0], np.cumsum(lines.windows.size[lines.row], dtype=np.int64)))
        tokens = self._tokens(lines, bounds)
        columns: dict[str, Any] = {"tokens": self._lists(bounds, tokens)}
        if self._labels:
            columns |= self._labelled(lines, bounds, tokens)
        columns["text"] = arrow.array(self._texts(lines, bounds, tokens, offsets), arrow.string())
        own = lines.columns()
        columns |= {name: arrow.array(own[name], _type(arrow, kind)) for name, kind in OWN.items() if name in own}
        shared = self._shared.take(arrow.array(lines.windows.sample_index[lines.row]))
        return arrow.table({**columns, **dict(zip(shared.column_names, shared.columns, strict=True))})

    def _tokens(self, lines: Lines, bounds: NDArray[np.int64]) -> NDArray[Any]:
        """Tokens of lines behind one another, each padded; `bounds` is where each begins, shape (lines + 1,)."""
        every = lines.windows.tokens
        tokens = np.full(int(bounds[-1]), self._tokenizer.pad_id, dtype=self._dtype)
        rows = zip(bounds[:-1].tolist(), lines.spans.tolist(), lines.masked.tolist(), strict=True)
        for at, spans, masked in rows:
            for number, (first, stop) in enumerate(spans):
                if masked:
                    tokens[at] = lines.marks[number]
                    at += 1
                tokens[at : at + stop - first] = every[first:stop]
                at += stop - first
            if masked:
                tokens[at] = lines.marks[-1]
        return tokens

    def _lists(self, bounds: NDArray[np.int64], values: NDArray[Any]) -> Any:
        arrow = self._arrow
        return arrow.ListArray.from_arrays(arrow.array(bounds.astype(np.int32)), arrow.array(values))

    def _labelled(self, lines: Lines, bounds: NDArray[np.int64], tokens: NDArray[Any]) -> dict[str, Any]:
        sizes = np.diff(bounds)
        at = np.arange(len(tokens)) - np.repeat(bounds[:-1], sizes)
        shown = at < np.repeat(lines.length, sizes)
        ids = tokens.astype(np.int32)
        asked = np.where(shown & (at >= np.repeat(lines.uncounted, sizes)), ids, np.int32(IGNORED))
        columns = (ids, shown.astype(np.int8), asked)
        return {name: self._lists(bounds, values) for name, values in zip(LABELS, columns, strict=True)}

    def _texts(
        self, lines: Lines, bounds: NDArray[np.int64], tokens: NDArray[Any], offsets: NDArray[np.int64] | None
    ) -> list[str]:
        """What the tokens of each line say, without padding; a character that a line cuts becomes U+FFFD."""
        decode, spelled = self._tokenizer.decode, self._spelled
        if spelled is None or offsets is None:
            ends = (bounds[:-1] + lines.length).tolist()
            found = [decode(tokens[begin:end]) for begin, end in zip(bounds[:-1].tolist(), ends, strict=True)]
        else:
            marks = [decode([mark]) for mark in lines.marks]
            found: list[bytes] = []
            for places, masked in zip(offsets.tolist(), lines.masked.tolist(), strict=True):
                parts = [spelled.read(*place) for place in places]
                if masked:
                    parts = [marks[0], parts[0], marks[1], parts[1], marks[2], parts[2], marks[3]]
                found.append(b"".join(parts))
        return [text.decode("utf-8", "replace") for text in found]

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
    arrow = library()
    with path.open("rb") as file:
        schema = arrow.parquet.read_schema(file)
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
        before = b"".join(texts.get(piece.text) for piece in sample.context_prefix if piece.control_token == BEFORE)
        values |= {
            "revision_id": origin.commit,
            "old_file": printable_path(origin.former_path) or shared["source_file"],
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
