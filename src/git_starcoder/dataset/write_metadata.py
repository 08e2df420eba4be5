"""What a dataset says about itself: the metadata of its rows, its own metadata file, and the facts about its code.

The metadata of a row is made in two halves. What all rows of a sample share is computed once per sample; what each row
has of its own comes as columns. Both formats are written from the same halves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from git_starcoder.dataset.folder import DATASET_SCHEMA
from git_starcoder.records import Change, escape_undecodable, printable_path
from git_starcoder.row_layout import BASE
from git_starcoder.weight_rules import age_in_days

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterable

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState
    from git_starcoder.git.objects import Repo
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Sample, Unit, Windows

ROW_COLUMNS = {
    "seq_id": "int64", "row_id": "string", "window_size": "int32", "length": "int32", "token_start": "int32",
    "chunk_index": "int32", "total_chunks": "int32", "complexity": "float64", "weight": "float64", "stage": "int8",
    "weight_of_row": "float64", "copy": "int32", "copies": "int32", "context": "int32", "hole": "list<int32>",
    "scored": "list<int32>",
}  # fmt: skip
"""The metadata that each row has of its own, with its types."""
SAMPLE_COLUMNS = {
    "source_file": "string", "directory": "string", "file_extension": "string", "language": "string", "role": "string",
    "priority": "string", "is_core": "bool", "is_test": "bool", "augmentation_type": "string", "age_days": "int64",
    "commit": "string", "sample": "string", "group": "string", "split": "string", "has_dependencies": "bool",
    "type_density": "float64", "error_patterns": "int64", "blob": "string", "is_evolution": "bool",
    "commit_message": "string", "kind": "string",
}  # fmt: skip
"""The metadata that all rows of a sample share, with its types; not every sample has all of it."""
REPOSITORY_COLUMNS = {"repository": "string", "license": "string"}
"""The metadata that all rows of a repository share, if the dataset has several."""
LICENSE_SEPARATOR = " AND "
"""Stands between the licences of a repository that has several, as in an SPDX expression."""
SHARDED_CURRICULUM = "curriculum of each repository"
"""The `learning_strategy` of many repositories with a curriculum."""
IMPORTS_FILE = "imports.jsonl"
SIGNATURES_FILE = "signatures.jsonl"


@dataclass(frozen=True, slots=True)
class SplitRows:
    """The rows of one split in the order of their file, as columns. Arrays have shape (rows,)."""

    windows: Windows
    window_index: NDArray[np.int64]
    """The index of each row's window in `windows`."""
    token_spans: NDArray[np.int64]
    """Where the three parts of each row start and stop in `windows.tokens`, shape (rows, 3, 2).

    They are prefix, suffix and middle of a masked row; else context prefix, text, and an empty span.
    """
    is_masked: NDArray[np.bool_]
    """Whether it is a fill-in-the-middle row."""
    control_tokens: tuple[int, ...]
    """The control tokens of masked rows: one before each part, and one after the last."""
    stage: NDArray[np.int8] | None = None
    """The stage of the curriculum from 1; None without a curriculum."""
    copy: NDArray[np.int64] | None = None
    """Which copy of its window a row is, from 0; None if the recipe does not copy rows by their weight."""
    copies: NDArray[np.int64] | None = None
    """How many copies its window has."""
    first_row: int = 0
    """The index of the first of these rows in its file."""

    def __len__(self) -> int:
        return len(self.window_index)

    @property
    def distinct_count(self) -> int:
        """The number of rows that are the first copy of their window."""
        return len(self) if self.copy is None else int(np.count_nonzero(self.copy == 0))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each row before padding."""
        lengths = self.token_spans[:, :, 1] - self.token_spans[:, :, 0]
        return lengths.sum(axis=1) + len(self.control_tokens) * self.is_masked

    @property
    def context_lengths(self) -> NDArray[np.int64]:
        """The number of tokens at the beginning of each row that are not in the loss; see `Row.context_length`."""
        return np.where(self.is_masked, 0, self.token_spans[:, 0, 1] - self.token_spans[:, 0, 0])

    @property
    def scored(self) -> list[list[int] | None]:
        """The tokens of each row that are in the loss, as start, stop, start, stop, …; None for all behind the context.

        They count from the start of the row.
        """
        windows, bounds = self.windows, self.windows.scored_bounds
        is_partial = np.array([bool(sample.scored_spans) for sample in windows.samples], dtype=bool)
        scored: list[list[int] | None] = [None] * len(self)
        for row in np.flatnonzero(is_partial[windows.sample_index[self.window_index]]).tolist():
            window = self.window_index[row]
            first = int(windows.token_start[window])
            stop = first + int(windows.length[window])
            low, high = np.searchsorted(bounds[:, 1], first, side="right"), np.searchsorted(bounds[:, 0], stop)
            scored[row] = (bounds[low:high].clip(first, stop) - first + windows.prefix_length[window]).ravel().tolist()
        return scored

    def slice(self, start: int, stop: int) -> SplitRows:
        """Return the rows from `start` to `stop`."""
        part = slice(start, stop)
        names = ("window_index", "token_spans", "is_masked", "stage", "copy", "copies")
        columns = {name: getattr(self, name) for name in names}
        columns = {name: column[part] for name, column in columns.items() if column is not None}
        return replace(self, first_row=self.first_row + start, **columns)

    def metadata_columns(self) -> dict[str, list[Any]]:
        """Return the metadata of each row by the keys of `ROW_COLUMNS`; None where a row does not have it."""
        windows, index = self.windows, self.window_index
        weight = _round_to_4(windows.weight[index])
        columns: dict[str, list[Any]] = {
            "seq_id": list(range(self.first_row, self.first_row + len(self))),
            "row_id": [f"{key:016x}" for key in windows.content_key[index].tolist()],
            "window_size": windows.size[index].tolist(),
            "length": self.lengths.tolist(),
            "token_start": windows.sample_offset[index].tolist(),
            "chunk_index": windows.window_index[index].tolist(),
            "total_chunks": windows.window_count[index].tolist(),
            "complexity": _round_to_4(windows.difficulty[index]),
            "weight": weight if self.copy is None else [1.0] * len(self),  # copies stand for the weight
        }
        if self.stage is not None:
            columns["stage"] = self.stage.tolist()
        if self.copy is not None and self.copies is not None:
            columns["weight_of_row"] = weight
            columns["copy"] = self.copy.tolist()
            columns["copies"] = self.copies.tolist()
        context_lengths = np.where(self.is_masked, 0, windows.prefix_length[index])
        columns["context"] = [length or None for length in context_lengths.tolist()]
        holes = np.stack([windows.mask_start[index], windows.mask_stop[index]], axis=1).tolist()
        masked_holes = zip(holes, self.is_masked.tolist(), strict=True)
        columns["hole"] = [hole if is_masked else None for hole, is_masked in masked_holes]
        if len(windows.scored_bounds):
            columns["scored"] = self.scored
        return columns


def _round_to_4(values: NDArray[np.float64]) -> list[float]:
    """Round to four decimals."""
    return (np.rint(values * 10_000) / 10_000).tolist()


def sample_metadata(build: BuildState, sample: Sample, newest: int) -> dict[str, Any]:
    """Return the metadata that all rows of a sample share; ages are counted to `newest`, in seconds since 1970."""
    origin = sample.origin
    values: dict[str, Any] = {
        **_path_metadata(build.dataset_path(origin.path)),
        "language": origin.language,
        "role": origin.role,
        "priority": {"core": "high", "test": "low"}.get(origin.role, "medium"),  # the seeds' word for a role
        "is_core": origin.role == "core",
        "is_test": origin.role == "test",
        "augmentation_type": sample.technique,
        "age_days": age_in_days(origin.changed_at, newest),
        "commit": origin.commit,
        "sample": sample.id,
        "group": origin.group,
        "split": origin.split,
    }
    if isinstance(origin, Change):
        values |= {
            "has_dependencies": False,
            "type_density": 0.0,
            "error_patterns": 0,
            "blob": origin.blob_after,
            "is_evolution": True,
            "commit_message": build.texts.get(origin.message).decode("utf-8", "replace"),
        }
    else:
        values |= {
            "has_dependencies": bool(origin.imports),
            "type_density": round(origin.type_density, 4),
            "error_patterns": origin.error_patterns,
            "blob": origin.source.blob,
        }
    if sample.kind:
        values["kind"] = sample.kind
    if build.repository:
        values["repository"] = build.repository.name
        values["license"] = LICENSE_SEPARATOR.join(build.repository.licences)
    return values


@lru_cache(1)  # the samples of a file follow one another
def _path_metadata(path: str) -> dict[str, str]:
    printed = printable_path(path)  # pathlib would normalise it, and `a//b` and `./a/b` are other paths than `a/b`
    directory, _, name = printed.rpartition("/")
    return {"source_file": printed, "directory": directory or ".", "file_extension": PurePosixPath(name).suffix}


class RowCounts(NamedTuple):
    """Totals of the rows in the files: rows by split and by technique, and tokens without padding."""

    rows: Counter[str]
    by_technique: Counter[str]
    tokens: int


def dataset_metadata(
    build: BuildState, recipe: Recipe, repo: Repo, units: Collection[Unit], counts: RowCounts
) -> dict[str, Any]:
    """Return the content of `dataset_metadata.json`; the keys are those of the seeds."""
    steps = {step.name: step for step in build.steps}
    rows, by_technique, tokens = counts
    total = rows.total()
    nodes = {unit.path for unit in units if unit.imports} | {path for unit in units for path in unit.imports}
    primary = recipe.window.primary
    return {
        # The commit's date, not the clock's: two builds of one commit have the same bytes.
        "creation_date": commit_date(repo),
        f"{recipe.name}_version": DATASET_SCHEMA.rpartition("/")[2],
        "source_repo": f"git:{repo.commit}",
        **({} if recipe.window.header is None else {"repository": recipe.window.header}),
        "format": recipe.write.format,
        "total_sequences": total,
        "train_sequences": rows["train"],
        "val_sequences": rows["val"],
        "test_sequences": rows["test"],
        "source_files": len(units),
        "source_files_scanned": steps["read"].figures["entries"],
        "base_sequences": by_technique[BASE],
        "augmented_sequences": total - by_technique[BASE],
        "git_diffs": by_technique["git_diff"],
        "git_commits_analyzed": steps["read"].figures.get("commits", len({unit.commit for unit in units})),
        "function_signatures": sum(symbol.kind == "function" for unit in units for symbol in unit.symbols),
        "dependency_graph_nodes": len(nodes),
        "dependency_graph_edges": sum(len(unit.imports) for unit in units),
        "tokenizer": "tokenizer/" if recipe.window.tokenizer == "learn" else recipe.window.tokenizer,
        "vocab_size": steps["window"].figures["vocab_size"],
        "max_tokens_per_sequence": max(recipe.window.sizes),
        "overlap_tokens": round(primary * recipe.window.overlap),
        "context_windows": list(recipe.window.sizes),
        "primary_window": primary,
        "total_tokens": tokens,
        "avg_tokens_per_sequence": round(tokens / max(1, total), 1),
        "augmentation_techniques": {key: by_technique[key] for key in (BASE, *recipe.augment)},
        "weighting_strategy": {
            "high_priority": recipe.weigh.core,
            "medium_priority": recipe.weigh.utility,
            "low_priority": recipe.weigh.test,
            "core": recipe.weigh.core,
            "medium": recipe.weigh.utility,
            "test": recipe.weigh.test,
            "recent_boost": recipe.weigh.recent,
            "old_boost": recipe.weigh.old,
            "evolution_boost": recipe.weigh.evolution,
            "copies": recipe.write.copies,
        },
        "learning_strategy": learning_strategy(recipe, is_of_many=build.repository is not None),
        "deduplication": {"exact": recipe.dedup.exact, "near": recipe.dedup.near},
    }


def commit_date(repo: Repo) -> str:
    """Return the date of the commit that is read, by ISO 8601."""
    return datetime.fromtimestamp(repo.committed_at, UTC).isoformat()


def learning_strategy(recipe: Recipe, *, is_of_many: bool) -> str:
    """Return what the metadata say about the order of the rows: that of the recipe.

    The curriculum of many repositories is another word, because their files, read one after another, have no order that
    a trainer could follow.
    """
    return SHARDED_CURRICULUM if is_of_many and recipe.order.by == "curriculum" else recipe.order.by


def write_code_facts(build: BuildState, units: Iterable[Unit]) -> None:
    """Write the resolved imports and the declared symbols as files that can be used on their own, ordered by path."""
    units = sorted(units, key=lambda unit: printable_path(unit.path))
    splits = {unit.path: unit.split for unit in units}
    with (build.folder / IMPORTS_FILE).open("wb") as file:
        for source, target in ((unit, path) for unit in units for path in sorted(unit.imports, key=printable_path)):
            edge = {
                "from": printable_path(build.dataset_path(source.path)),
                "to": printable_path(build.dataset_path(target)),
                "from_split": source.split,
                "to_split": splits.get(target),
            }
            file.write(orjson.dumps(edge, option=orjson.OPT_APPEND_NEWLINE))
    with (build.folder / SIGNATURES_FILE).open("wb") as file:
        for unit in units:
            for symbol in sorted(unit.symbols, key=lambda symbol: (symbol.line, symbol.name, symbol.signature)):
                signature = {
                    "path": printable_path(build.dataset_path(unit.path)),
                    "line": symbol.line,
                    "name": escape_undecodable(symbol.name),
                    "owner": escape_undecodable(symbol.owner),
                    "kind": symbol.kind,
                    "signature": escape_undecodable(symbol.signature),
                    "visibility": symbol.visibility,
                    "language": unit.language,
                    "role": unit.role,
                    "split": unit.split,
                }
                file.write(orjson.dumps(signature, option=orjson.OPT_APPEND_NEWLINE))
