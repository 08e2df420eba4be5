"""Writes rows as Parquet files, laid out so that `datasets.load_dataset(FOLDER)` finds the splits.

The metadata of a row are columns. Next to them stand the text of the row, and what programs written for The Stack v2
and CommitPackFT look for, under their names. The bytes depend on the rows and on the version of pyarrow.
"""

from __future__ import annotations

import contextlib
import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from git_starcoder.dataset.read_rows import COMPATIBILITY_COLUMNS, LABEL_COLUMNS, SPLIT_FILE_NAMES, import_pyarrow
from git_starcoder.dataset.write_jsonl import TOKENS_PER_CHUNK, TokenText, raise_if_failed, write_at
from git_starcoder.dataset.write_metadata import REPOSITORY_COLUMNS, ROW_COLUMNS, SAMPLE_COLUMNS, sample_metadata
from git_starcoder.records import Change, printable_path
from git_starcoder.row_layout import IGNORED_LABEL, masked_row
from git_starcoder.text.licences import licence_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState
    from git_starcoder.dataset.write_metadata import SplitRows
    from git_starcoder.git.objects import Repo
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Sample, Split
    from git_starcoder.text.tokenizer import Tokenizer

    Files = dict[str, dict[str, int | str]]

TOKENS_PER_ROW_GROUP = 1 << 22
"""The size of a row group, which is in memory as a whole."""
TOKENS_PER_FILE = 1 << 28
"""The size of a file, about half a gigabyte: the convention of the Hub."""
UNIQUE_COLUMNS = ("text", "old_contents", "new_contents")
"""Text columns whose values hardly repeat, so that a dictionary would only cost time."""
COMPRESSION_LEVEL = 3
"""The level of zstd: its default."""
LICENSE_COLUMNS = {"detected_licenses": "list<string>", "license_type": "string"}
"""Columns of The Stack v2 that datasets of many repositories have, with their types."""
COMMIT_BEFORE = "<commit_before>"


def write_parquet(
    build: BuildState,
    recipe: Recipe,
    repo: Repo,
    tokenizer: Tokenizer,
    splits: Mapping[Split, SplitRows],
    report_written: Callable[[SplitRows], None],
) -> Files:
    """Write the files of each split, and return their entries in the manifest. `report_written` is called for batches.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    windows = next(iter(splits.values())).windows
    metadata = [sample_metadata(build, sample, repo.committed_at) for sample in windows.samples]
    files: Files = {}
    with _write_text(windows.tokens, tokenizer, build.scratch / "text") as token_text:
        columns = _sample_columns(windows.samples, metadata, build, repo.commit)
        writer = ParquetWriter(build.folder, tokenizer, token_text, columns, has_labels=recipe.write.labels)
        for split, rows in splits.items():
            files |= writer.write_split(split, rows, report_written)
    return files


def _write_text(tokens: NDArray[Any], tokenizer: Tokenizer, path: Path) -> TokenText | contextlib.nullcontext[None]:
    """Write the text of all tokens; nothing if not every token is whole bytes."""
    if tokenizer.token_byte_counts is None:
        return contextlib.nullcontext()
    text = TokenText(tokens, tokenizer.token_byte_counts, path)
    position = 0
    for start in range(0, len(tokens), TOKENS_PER_CHUNK):
        data = tokenizer.decode(tokens[start : start + TOKENS_PER_CHUNK])
        raise_if_failed(path, write_at(text.path, position, [data]))
        position += len(data)
    return text


class ParquetWriter:
    """Writes the rows of splits to Parquet files in a dataset folder.

    Without `token_text`, the text of all tokens, each row is decoded. `sample_columns`
    is a table of what the rows of each sample share, one row per sample.
    """

    def __init__(
        self, folder: Path, tokenizer: Tokenizer, token_text: TokenText | None, sample_columns: Any, *, has_labels: bool
    ) -> None:
        self._arrow = import_pyarrow()
        self._folder, self._tokenizer, self._token_text, self._has_labels = folder, tokenizer, token_text, has_labels
        # Not every reader knows uint32.
        self._dtype = tokenizer.dtype if tokenizer.dtype.itemsize == 2 else np.dtype(np.int32)
        self._sample_columns = sample_columns

    def write_split(self, split: Split, rows: SplitRows, report_written: Callable[[SplitRows], None]) -> Files:
        """Write the files of a split, and return their entries in the manifest."""
        files: Files = {}
        sizes = rows.windows.size[rows.window_index].astype(np.int64)
        offsets = None if self._token_text is None else self._token_text.offsets(rows.token_spans)
        schema = self._table(rows.slice(0, 0), None).schema
        shards = list(pairwise(_cuts(sizes, TOKENS_PER_FILE)))
        for number, (start, stop) in enumerate(shards):
            name = f"data/{SPLIT_FILE_NAMES[split]}-{number:05}-of-{len(shards):05}.parquet"
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            # pyarrow takes only UTF-8 paths, so Python opens the file.
            with path.open("wb") as opened, self._open(opened, schema) as writer:
                for first, last in pairwise(start + cut for cut in _cuts(sizes[start:stop], TOKENS_PER_ROW_GROUP)):
                    if first == last:  # some readers fail at a row group without rows
                        continue
                    group = rows.slice(first, last)
                    table = self._table(group, None if offsets is None else offsets[first:last])
                    writer.write_table(table, row_group_size=len(group))
                    report_written(group)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[name] = {"bytes": path.stat().st_size, "sha256": digest, "rows": stop - start}
        return files

    def _open(self, file: BinaryIO, schema: Any) -> Any:
        strings = [field.name for field in schema if str(field.type) == "string" and field.name not in UNIQUE_COLUMNS]
        lists = [f"{name}.list.element" for name in ("tokens", *LABEL_COLUMNS)]
        return self._arrow.parquet.ParquetWriter(
            file, schema, compression="zstd", compression_level=COMPRESSION_LEVEL, use_dictionary=[*strings, *lists]
        )

    def _table(self, rows: SplitRows, text_offsets: NDArray[np.int64] | None) -> Any:
        """Return rows as a table. `text_offsets`, shape (rows, 3, 2), says where in the text their parts stand."""
        arrow = self._arrow
        # Where the tokens of each row start, and where the last stop: sizes [4, 2] -> [0, 4, 6].
        bounds = np.concatenate(([0], np.cumsum(rows.windows.size[rows.window_index], dtype=np.int64)))
        tokens = self._tokens(rows, bounds)
        columns: dict[str, Any] = {"tokens": self._lists(bounds, tokens)}
        if self._has_labels:
            columns |= self._labels(rows, bounds, tokens)
        columns["text"] = arrow.array(self._texts(rows, bounds, tokens, text_offsets), arrow.string())
        own = rows.metadata_columns()
        columns |= {
            name: arrow.array(own[name], _arrow_type(arrow, kind)) for name, kind in ROW_COLUMNS.items() if name in own
        }
        shared = self._sample_columns.take(arrow.array(rows.windows.sample_index[rows.window_index]))
        return arrow.table({**columns, **dict(zip(shared.column_names, shared.columns, strict=True))})

    def _tokens(self, rows: SplitRows, bounds: NDArray[np.int64]) -> NDArray[Any]:
        """Return the tokens of rows with padding, one row after another."""
        all_tokens = rows.windows.tokens
        tokens = np.full(int(bounds[-1]), self._tokenizer.pad_id, dtype=self._dtype)
        layouts = zip(bounds[:-1].tolist(), rows.token_spans.tolist(), rows.is_masked.tolist(), strict=True)
        for position, spans, is_masked in layouts:
            for part, (start, stop) in enumerate(spans):
                if is_masked:
                    tokens[position] = rows.control_tokens[part]
                    position += 1
                tokens[position : position + stop - start] = all_tokens[start:stop]
                position += stop - start
            if is_masked:
                tokens[position] = rows.control_tokens[-1]
        return tokens

    def _lists(self, bounds: NDArray[np.int64], values: NDArray[Any]) -> Any:
        arrow = self._arrow
        return arrow.ListArray.from_arrays(arrow.array(bounds.astype(np.int32)), arrow.array(values))

    def _labels(self, rows: SplitRows, bounds: NDArray[np.int64], tokens: NDArray[Any]) -> dict[str, Any]:
        sizes = np.diff(bounds)
        # The place of each token in its row: sizes [4, 2] -> [0, 1, 2, 3, 0, 1].
        place = np.arange(len(tokens)) - np.repeat(bounds[:-1], sizes)
        is_text = place < np.repeat(rows.lengths, sizes)
        ids = tokens.astype(np.int32)
        is_scored = is_text & (place >= np.repeat(rows.context_lengths, sizes))
        for start, stop, spans in zip(bounds[:-1].tolist(), bounds[1:].tolist(), rows.scored, strict=True):
            if spans is not None:
                is_scored[start:stop] = False
                for first, last in zip(spans[::2], spans[1::2], strict=True):
                    is_scored[start + first : start + last] = True
        columns = (ids, is_text.astype(np.int8), np.where(is_scored, ids, np.int32(IGNORED_LABEL)))
        return {name: self._lists(bounds, values) for name, values in zip(LABEL_COLUMNS, columns, strict=True)}

    def _texts(
        self, rows: SplitRows, bounds: NDArray[np.int64], tokens: NDArray[Any], offsets: NDArray[np.int64] | None
    ) -> list[str]:
        """Return the text of each row without padding; a character that is cut by a row's edge becomes U+FFFD."""
        decode, token_text = self._tokenizer.decode, self._token_text
        if token_text is None or offsets is None:
            stops = (bounds[:-1] + rows.lengths).tolist()
            texts = [decode(tokens[start:stop]) for start, stop in zip(bounds[:-1].tolist(), stops, strict=True)]
        else:
            control_texts = [decode([token]) for token in rows.control_tokens]
            texts: list[bytes] = []
            for spans, is_masked in zip(offsets.tolist(), rows.is_masked.tolist(), strict=True):
                prefix, suffix, middle = (token_text.read(*span) for span in spans)
                parts = masked_row(prefix, suffix, middle, control_texts) if is_masked else [prefix, suffix, middle]
                texts.append(b"".join(parts))
        return [text.decode("utf-8", "replace") for text in texts]


def column_types(path: Path) -> dict[str, str]:
    """Return the type of each column of a Parquet file, such as `int64` or `list<uint16>`."""
    arrow = import_pyarrow()
    with path.open("rb") as file:
        schema = arrow.parquet.read_schema(file)
    types = {field.name: str(field.type).replace("element: ", "").replace("item: ", "") for field in schema}
    return {name: kind.replace("double", "float64") for name, kind in types.items()}


def _sample_columns(
    samples: Sequence[Sample], metadata: Sequence[Mapping[str, Any]], build: BuildState, commit: str
) -> Any:
    """Return a table of what all rows of each sample share, one row per sample.

    Its columns do not depend on the samples: the files of many repositories must have the same.
    """
    arrow, label = import_pyarrow(), build.repository
    kinds = SAMPLE_COLUMNS if label is None else SAMPLE_COLUMNS | REPOSITORY_COLUMNS
    columns = {
        name: arrow.array([values.get(name) for values in metadata], _arrow_type(arrow, kind))
        for name, kind in kinds.items()
    }
    pairs = zip(samples, metadata, strict=True)
    records = [_compatibility_values(sample, shared, build, commit) for sample, shared in pairs]
    if label is not None:
        about = {"repo_name": label.name, "detected_licenses": [*label.licences]}
        about |= {"license_type": licence_type(label.licences)}
        records = [values | about for values in records]
    for name in COMPATIBILITY_COLUMNS:
        if name != "text" and (label or name not in LICENSE_COLUMNS):  # `text` differs from row to row
            kind = LICENSE_COLUMNS.get(name, "bool" if name.startswith("is_") else "string")
            columns[name] = arrow.array([values.get(name) for values in records], _arrow_type(arrow, kind))
    return arrow.table(columns)


def _compatibility_values(
    sample: Sample, metadata: Mapping[str, Any], build: BuildState, commit: str
) -> dict[str, Any]:
    """Return a sample under the names of The Stack v2 and, if a change made it, of CommitPackFT."""
    origin = sample.origin
    values: dict[str, Any] = {
        "path": metadata["source_file"],
        "blob_id": metadata["blob"],
        "repo_name": f"git:{commit}",  # a clone has no name of its own, and two clones must give the same bytes
        "revision_id": commit,
        "is_generated": origin.role == "generated",
        "is_vendor": origin.role == "vendored",
    }
    if not isinstance(origin, Change) and origin.source.added is not None:
        values["revision_id"] = origin.commit  # the training commit has another version, or none
    if isinstance(origin, Change):
        message: str = metadata["commit_message"]
        before = [build.texts.get(part.text) for part in sample.context_prefix if part.control_token == COMMIT_BEFORE]
        values |= {
            "revision_id": origin.commit,
            "old_file": printable_path(build.dataset_path(origin.former_path or origin.path)),
            "old_contents": b"".join(before).decode("utf-8", "replace"),
            "new_contents": build.texts.get(sample.text).decode("utf-8", "replace"),
            "subject": message.partition("\n")[0],
            "message": message,
        }
    return values


def _arrow_type(arrow: Any, kind: str) -> Any:
    inner = kind.removeprefix("list<").removesuffix(">")
    simple = arrow.type_for_alias(inner)
    return simple if inner == kind else arrow.list_(simple)


def _cuts(sizes: NDArray[np.int64], max_tokens: int) -> list[int]:
    """Return where to cut rows into parts of about `max_tokens`, from 0 to the number of rows; at least one part.

    Sizes [4, 4, 4, 4] and 8 tokens give [0, 2, 4].
    """
    part = (np.cumsum(sizes) - 1) // max_tokens
    return [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(sizes)]
