"""Write: the files of the dataset. Tokens are laid out here, once; every byte is a function of the rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from git_starcoder.dataset import CARD_FILE, DATASET_SCHEMA, MANIFEST_FILE, METADATA_FILE
from git_starcoder.dataset.read_rows import LABEL_COLUMNS
from git_starcoder.dataset.write import card, jsonl, metadata, parquet
from git_starcoder.dataset.write.metadata import (
    ROW_COLUMNS,
    SAMPLE_COLUMNS,
    RowCounts,
    SplitRows,
    dataset_metadata,
)
from git_starcoder.output import listing
from git_starcoder.records import SPLITS, Unit, escape_undecodable, printable_path
from git_starcoder.stages import copies
from git_starcoder.stages.window import Layout
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.git.objects import Repo
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Split, Windows

    Rows = NDArray[np.int64]
    Files = dict[str, dict[str, int | str]]


def write_dataset(build: BuildState, recipe: Recipe, repo: Repo, windows: Windows, fingerprint: str) -> None:
    """Windows in their final order in, the files of the dataset out."""
    with build.count_step("write", len(windows)) as step:
        layout = Layout(windows, tokenizers.load(build.folder / "tokenizer"))
        of_sample = np.array([SPLITS.index(sample.origin.split) for sample in windows.samples], dtype=np.int8)
        split = of_sample[windows.sample_index]
        rows = {name: np.flatnonzero(split == number) for number, name in enumerate(SPLITS)}
        lines: dict[Split, SplitRows] = {
            name: _lines(layout, rows[name], recipe, step, copied=name == "train") for name in SPLITS
        }
        write = parquet.write_parquet if recipe.write.format == "parquet" else jsonl.write_jsonl
        files = write(build, recipe, repo, layout.tokenizer, lines, lambda part: step.keep(part.distinct_count))
        (build.folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        with (build.folder / "drops.jsonl").open("wb") as file:
            for drop in build.drops:
                values: dict[str, Any] = {"step": drop.step, "id": printable_path(drop.id), "reason": drop.reason,
                                          "because": escape_undecodable(drop.detail)}  # fmt: skip
                if drop.occurrences > 1:
                    values["things"] = drop.occurrences
                file.write(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))
        units = list(
            {sample.origin.id: sample.origin for sample in windows.samples if isinstance(sample.origin, Unit)}.values()
        )
        metadata.write_code_facts(build.folder, units)
        said = dataset_metadata(build, recipe, repo, units, _written(lines))
        (build.folder / METADATA_FILE).write_bytes(_pretty(said))
        features = _features(build, recipe, layout, lines["train"], files)
        text = card.render_card(said, features, card.detect_licence(units, build.texts))
        (build.folder / CARD_FILE).write_text(text, encoding="utf-8")
    _write_manifest(build, repo, fingerprint, files)


def _lines(layout: Layout, rows: Rows, recipe: Recipe, step: StepCounts, *, copied: bool) -> SplitRows:
    """The lines of a split, of which `rows` are those of the windows; with copies where the recipe wants them."""
    windows = layout.windows
    stage = windows.stage[rows]
    columns: dict[str, Any] = {}
    if copied and recipe.write.copies:
        times = copies.times(windows.weight[rows], windows.content_key[rows], recipe.seed)
        for row in rows[times == 0].tolist():
            name = f"{windows.samples[int(windows.sample_index[row])].origin.path}#{windows.content_key[row]:016x}"
            step.drop(name, "weight", f"{windows.weight[row]:g} copies came to none")
        rows, stage, times = rows[times > 0], stage[times > 0], times[times > 0]
        place, copy = copies.spread(times, stage)
        rows, stage = rows[place], stage[place]
        columns = {"copy": copy, "copies": times[place]}
        step.figures["copies"] = int(np.count_nonzero(copy))
    if recipe.order.by == "curriculum":
        columns["stage"] = stage + 1
    return SplitRows(windows, rows, layout.spans(rows), layout.masked(rows), layout.marks, **columns)


def _features(build: BuildState, recipe: Recipe, layout: Layout, lines: SplitRows, files: Files) -> card.ColumnTypes:
    """The type of each column of the rows, and of what is in their metadata."""
    if recipe.write.format == "parquet":
        return parquet.column_types(build.folder / next(iter(files)))
    ids = "uint16" if layout.tokenizer.dtype.itemsize == 2 else "int32"
    labels = (
        dict(zip(LABEL_COLUMNS, ("list<int32>", "list<int8>", "list<int32>"), strict=True))
        if recipe.write.labels
        else {}
    )
    own = lines.slice(0, 0).metadata_columns()
    return {
        "tokens": f"list<{ids}>",
        **labels,
        "metadata": {name: kind for name, kind in ROW_COLUMNS.items() if name in own} | SAMPLE_COLUMNS,
    }


def _written(lines: Mapping[Split, SplitRows]) -> RowCounts:
    """What the rows of the files come to."""
    made_by: Counter[str] = Counter()
    for part in lines.values():
        counts = np.bincount(part.windows.sample_index[part.window_index], minlength=len(part.windows.samples)).tolist()
        for sample, count in zip(part.windows.samples, counts, strict=True):
            made_by[sample.technique] += count
    rows = Counter({split: len(part) for split, part in lines.items()})
    return RowCounts(rows, made_by, sum(int(part.lengths.sum()) for part in lines.values()))


def _write_manifest(build: BuildState, repo: Repo, fingerprint: str, files: dict[str, dict[str, int | str]]) -> None:
    """`manifest.json`: what the dataset was made of, the counts of every step, the digest of every file."""
    files = listing(build.folder, files, without=build.scratch.name)
    manifest = {
        "schema": DATASET_SCHEMA,
        "fingerprint": fingerprint,
        "commit": repo.commit,
        "shallow": repo.shallow or bool(repo.partial),
        **({"unsure_renames": True} if repo.unsure_renames else {}),
        "steps": [
            {
                "step": step.name,
                "seen": step.seen,
                "kept": step.kept,
                "dropped": dict(sorted(step.dropped.items())),
                "figures": step.figures,
            }
            for step in build.steps
        ],
        "files": files,
        "digest": hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest(),
    }
    (build.folder / MANIFEST_FILE).write_bytes(_pretty(manifest))


def _pretty(values: dict[str, Any]) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
