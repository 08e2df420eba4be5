"""The write step: writes the files of the dataset. Every byte follows from the rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from git_starcoder.dataset import (
    CARD_FILE,
    DATASET_SCHEMA,
    MANIFEST_FILE,
    METADATA_FILE,
    write_card,
    write_jsonl,
    write_metadata,
    write_parquet,
)
from git_starcoder.dataset.read_rows import LABEL_COLUMNS
from git_starcoder.dataset.write_metadata import (
    REPOSITORY_COLUMNS,
    ROW_COLUMNS,
    SAMPLE_COLUMNS,
    RowCounts,
    SplitRows,
    commit_date,
    dataset_metadata,
)
from git_starcoder.output.contents import describe_files
from git_starcoder.records import SPLITS, Unit, escape_undecodable, printable_path
from git_starcoder.stages.order import split_numbers
from git_starcoder.stages.weigh import copy_counts, spread_copies
from git_starcoder.stages.window import RowLayout
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.git.objects import Repo
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Split, Windows
    from git_starcoder.text.tokenizer import Tokenizer

    FileListing = dict[str, dict[str, int | str]]


def write_dataset(
    build: BuildState, recipe: Recipe, repo: Repo, past: Repo | None, windows: Windows, fingerprint: str
) -> None:
    """Write the dataset of windows that are in their final order.

    `past` is the commit that training sees, if it is not that of `repo`. The ages of rows count from it.
    """
    with build.count_step("write", len(windows)) as step:
        tokenizer = tokenizers.load_tokenizer(build.folder / "tokenizer")
        written = write_rows(build, step, recipe, past or repo, windows, tokenizer)
        if past:
            written.metadata.update(creation_date=commit_date(repo), source_repo=f"git:{repo.commit}")
        (build.folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        (build.folder / METADATA_FILE).write_bytes(indented_json(written.metadata))
        licence = write_card.detect_licence(written.units, build.texts)
        text = write_card.render_card(written.metadata, written.features, licence)
        (build.folder / CARD_FILE).write_text(text, encoding="utf-8")
    origin = {
        "commit": repo.commit,
        **({"past_commit": past.commit} if past else {}),
        "shallow": repo.is_shallow or bool(repo.incomplete_reason),
        **({"unsure_renames": True} if repo.has_uncertain_renames else {}),
    }
    write_manifest(build, fingerprint, origin, build.steps, written.files)


class WrittenRows(NamedTuple):
    """The rows of one repository, after they were written."""

    files: FileListing
    """The files of the splits."""
    metadata: dict[str, Any]
    """What `dataset_metadata.json` says, if the dataset has no other rows."""
    features: write_card.ColumnTypes
    """The type of each column."""
    units: list[Unit]
    """The files of the repository that rows were made of."""


def write_rows(
    build: BuildState, step: StepCounts, recipe: Recipe, repo: Repo, windows: Windows, tokenizer: Tokenizer
) -> WrittenRows:
    """Write the rows of windows that are in their final order, the drops and the facts about the code."""
    layout = RowLayout(windows, tokenizer)
    split = split_numbers(windows)
    rows = {name: np.flatnonzero(split == number) for number, name in enumerate(SPLITS)}
    lines: dict[Split, SplitRows] = {
        name: _plan_lines(layout, rows[name], recipe, step, is_training=name == "train") for name in SPLITS
    }
    write_files = write_parquet.write_parquet if recipe.write.format == "parquet" else write_jsonl.write_jsonl
    files = write_files(build, recipe, repo, layout.tokenizer, lines, lambda part: step.keep(part.distinct_count))
    _write_drops(build)
    origins = {sample.origin.id: sample.origin for sample in windows.samples}
    # Of a file that held-out commits changed, the facts are those that training knows.
    units = [origin for origin in origins.values() if isinstance(origin, Unit) and not origin.scored_spans]
    write_metadata.write_code_facts(build, units)
    about = dataset_metadata(build, recipe, repo, units, _count_written(lines))
    return WrittenRows(files, about, _features(build, recipe, layout, lines["train"], files), units)


def _plan_lines(
    layout: RowLayout, rows: NDArray[np.int64], recipe: Recipe, step: StepCounts, *, is_training: bool
) -> SplitRows:
    """The lines of a split's file. `rows` are its windows; training rows have copies if the recipe wants them."""
    windows = layout.windows
    stage = windows.stage[rows]
    columns: dict[str, Any] = {}
    if is_training and recipe.write.copies:
        counts = copy_counts(windows.weight[rows], windows.content_key[rows], recipe.seed)
        for row in rows[counts == 0].tolist():
            name = f"{windows.samples[int(windows.sample_index[row])].origin.path}#{windows.content_key[row]:016x}"
            step.drop(name, "weight", f"{windows.weight[row]:g} copies came to none")
        rows, stage, counts = rows[counts > 0], stage[counts > 0], counts[counts > 0]
        index, copy = spread_copies(counts, stage)
        rows, stage = rows[index], stage[index]
        columns = {"copy": copy, "copies": counts[index]}
        step.figures["copies"] = int(np.count_nonzero(copy))
    if recipe.order.by == "curriculum":
        columns["stage"] = stage + 1
    return SplitRows(windows, rows, layout.spans(rows), layout.is_masked(rows), layout.control_tokens, **columns)


def _write_drops(build: BuildState) -> None:
    """Write `drops.jsonl`: everything that a step saw and dropped, and why."""
    with (build.folder / "drops.jsonl").open("wb") as file:
        for drop in build.drops:
            name = printable_path(build.dataset_path(drop.id))
            values: dict[str, Any] = {"step": drop.step, "id": name, "reason": drop.reason}
            values["because"] = escape_undecodable(drop.detail)
            if drop.occurrences > 1:
                values["things"] = drop.occurrences
            file.write(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))


def _features(
    build: BuildState, recipe: Recipe, layout: RowLayout, lines: SplitRows, files: FileListing
) -> write_card.ColumnTypes:
    """The type of each column of the rows, and of what is in their metadata."""
    if recipe.write.format == "parquet":
        return write_parquet.column_types(build.folder / next(iter(files)))
    ids = "uint16" if layout.tokenizer.dtype.itemsize == 2 else "int32"
    label_types = zip(LABEL_COLUMNS, ("list<int32>", "list<int8>", "list<int32>"), strict=True)
    own_columns = lines.slice(0, 0).metadata_columns()
    return {
        "tokens": f"list<{ids}>",
        **(dict(label_types) if recipe.write.labels else {}),
        "metadata": {
            **{name: kind for name, kind in ROW_COLUMNS.items() if name in own_columns},
            **SAMPLE_COLUMNS,
            **(REPOSITORY_COLUMNS if build.repository else {}),
        },
    }


def _count_written(lines: Mapping[Split, SplitRows]) -> RowCounts:
    """The rows of each split and of each technique, and all tokens."""
    rows_of_technique: Counter[str] = Counter()
    for part in lines.values():
        counts = np.bincount(part.windows.sample_index[part.window_index], minlength=len(part.windows.samples)).tolist()
        for sample, count in zip(part.windows.samples, counts, strict=True):
            rows_of_technique[sample.technique] += count
    rows_of_split = Counter({split: len(part) for split, part in lines.items()})
    return RowCounts(rows_of_split, rows_of_technique, sum(int(part.lengths.sum()) for part in lines.values()))


def write_manifest(
    build: BuildState, fingerprint: str, origin: Mapping[str, Any], steps: Sequence[StepCounts], files: FileListing
) -> None:
    """Write `manifest.json`: what the dataset was made of, the counts of every step, the digest of every file.

    `files` are those whose digests are known.
    """
    files = describe_files(build.folder, files, without=build.scratch.name)
    manifest = {
        "schema": DATASET_SCHEMA,
        "fingerprint": fingerprint,
        **origin,
        **({"faults": True} if build.has_faults else {}),
        "steps": [
            {
                "step": step.name,
                "seen": step.seen,
                "kept": step.kept,
                "dropped": dict(sorted(step.dropped.items())),
                "figures": step.figures,
            }
            for step in steps
        ],
        "files": files,
        "digest": hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest(),
    }
    (build.folder / MANIFEST_FILE).write_bytes(indented_json(manifest))


def indented_json(values: dict[str, Any]) -> bytes:
    """A JSON object with one member per line."""
    return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
