"""Write: the files of the dataset. Tokens are laid out here, once; every byte is a function of the rows.

A line is formatted from parts: what all rows of a sample share is serialised once, tokens go from numpy to JSON
without becoming Python objects. A second thread hashes and writes while the first formats.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from git_starcoder.dataset import MANIFEST, METADATA, SCHEMA
from git_starcoder.rows import SPLITS, Split, printable
from git_starcoder.stages.window import Layout
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.git.objects import Repo
    from git_starcoder.recipe import Recipe
    from git_starcoder.rows import Sample, Unit, Windows
    from git_starcoder.run import Run, Step

CHUNK = 4 << 20
"""Bytes of lines handed to the writing thread at a time."""
DAY = 86_400


def run(run: Run, recipe: Recipe, repo: Repo, windows: Windows, fingerprint: str) -> None:
    """Windows in their final order in, the files of the dataset out."""
    with run.step("write", len(windows)) as step:
        layout = Layout(windows, tokenizers.load(run.folder / "tokenizer"))
        splits = np.array([sample.unit.split for sample in windows.samples])[windows.sample]
        heads = [_head(sample, repo.committed_at) for sample in windows.samples]
        sizes: dict[str, int] = {}
        for split in SPLITS:
            rows = np.flatnonzero(splits == split)
            sizes[split] = len(rows)
            _write_split(run.folder / f"training_data_{split}.jsonl", split, rows, windows, layout, heads, step)
        (run.folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        with (run.folder / "drops.jsonl").open("wb") as file:
            for drop in run.drops:
                values = {key: printable(value) for key, value in drop._asdict().items()}
                file.write(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))
        metadata = _metadata(recipe, repo, windows, sizes, run, layout)
        (run.folder / METADATA).write_bytes(_pretty(metadata))
    _write_manifest(run, repo, fingerprint, sizes)


def _write_split(
    path: Path, split: Split, rows: Any, windows: Windows, layout: Layout, heads: list[bytes], step: Step
) -> None:
    """One split file. `rows` are indices into `windows`, shape (rows of the split,)."""
    sample, weight = windows.sample, windows.weight
    with path.open("wb", buffering=0) as file, ThreadPoolExecutor(1) as writer:
        parts: list[bytes] = []
        size = 0
        waiting: Future[int] | None = None

        def flush() -> None:
            nonlocal waiting, size
            if waiting is not None:
                waiting.result()  # a full disk shows here
            waiting = writer.submit(_write_all, file.fileno(), b"".join(parts))
            parts.clear()
            size = 0

        for number, row in enumerate(rows.tolist()):
            tokens, length, hole = layout.row(row)
            tail = (
                f'"seq_id":{number},"row_id":"{windows.key[row]:016x}","window_size":{windows.size[row]},'
                f'"length":{length},"token_start":{windows.start[row]},"chunk_index":{windows.index[row]},'
                f'"total_chunks":{windows.total[row]},"complexity":{windows.difficulty[row]:.4f},'
                f'"weight":{weight[row]:.4f},"split":"{split}"'
            )
            if hole is not None:
                tail += f',"hole":[{hole[0]},{hole[1]}]'
            line = b"".join((
                b'{"tokens":', orjson.dumps(tokens, option=orjson.OPT_SERIALIZE_NUMPY),
                b',"metadata":{', tail.encode(), b",", heads[sample[row]], b"}\n",
            ))  # fmt: skip
            parts.append(line)
            size += len(line)
            if size >= CHUNK:
                step.keep(len(parts))
                flush()
        step.keep(len(parts))
        flush()
        if waiting is not None:
            waiting.result()


def _write_all(handle: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    return len(data)


def _head(sample: Sample, newest: int) -> bytes:
    """What the metadata of every row of a sample shares: members of a JSON object with its closing brace."""
    unit, source = sample.unit, sample.unit.source
    path = PurePosixPath(printable(source.path))
    values = {
        "source_file": str(path),
        "directory": str(path.parent),
        "file_extension": path.suffix,
        "language": source.language,
        "role": unit.role,
        "priority": priority(unit),
        "is_core": unit.role == "core",
        "is_test": unit.role == "test",
        "augmentation_type": sample.made_by,
        "age_days": max(0, newest - source.changed_at) // DAY,
        "has_dependencies": bool(unit.imports),
        "type_density": round(unit.type_density, 4),
        "error_patterns": unit.error_patterns,
        "commit": source.commit,
        "blob": source.blob,
        "sample": sample.id,
        "group": unit.group,
    }
    return orjson.dumps(values)[1:]


def priority(unit: Unit) -> str:
    """The seeds' word for a role: core is `high`, tests are `low`, all others `medium`."""
    return {"core": "high", "test": "low"}.get(unit.role, "medium")


def _metadata(
    recipe: Recipe, repo: Repo, windows: Windows, sizes: dict[str, int], run: Run, layout: Layout
) -> dict[str, Any]:
    """`dataset_metadata.json`, with the keys that the seeds name."""
    made_by = [sample.made_by for sample in windows.samples]
    counts = Counter(made_by[index] for index in windows.sample.tolist())
    units = {sample.unit.source.id: sample.unit for sample in windows.samples}.values()
    read = next(step for step in run.steps if step.name == "read")
    total = len(windows)
    tokens = layout.total_tokens()
    nodes = {unit.source.path for unit in units if unit.imports} | {path for unit in units for path in unit.imports}
    stride = recipe.window.size - round(recipe.window.size * recipe.window.overlap)  # type: ignore[operator]
    return {
        # The commit's date, not the clock's: two builds of one commit have the same bytes.
        "creation_date": datetime.fromtimestamp(repo.committed_at, UTC).isoformat(),
        f"{recipe.name}_version": SCHEMA.rpartition("/")[2],
        "source_repo": f"git:{repo.commit}",
        "total_sequences": total,
        "train_sequences": sizes["train"],
        "val_sequences": sizes["val"],
        "test_sequences": sizes["test"],
        "source_files": len(units),
        "source_files_scanned": read.seen,
        "base_sequences": counts["base"],
        "augmented_sequences": total - counts["base"],
        "git_diffs": 0,
        "git_commits_analyzed": len({unit.source.commit for unit in units}),
        "function_signatures": sum(len(unit.symbols) for unit in units),
        "dependency_graph_nodes": len(nodes),
        "dependency_graph_edges": sum(len(unit.imports) for unit in units),
        "tokenizer": "tokenizer/" if recipe.window.tokenizer == "learn" else recipe.window.tokenizer,
        "vocab_size": layout.tokenizer.vocab_size,
        "max_tokens_per_sequence": recipe.window.size,
        "overlap_tokens": recipe.window.size - stride,  # type: ignore[operator]
        "context_windows": [recipe.window.size],
        "primary_window": recipe.window.size,
        "total_tokens": tokens,
        "avg_tokens_per_sequence": round(tokens / max(1, total), 1),
        "augmentation_techniques": {key: counts[key] for key in ("base", *recipe.augment)},
        "weighting_strategy": {
            "high_priority": recipe.weigh.core,
            "medium_priority": recipe.weigh.utility,
            "low_priority": recipe.weigh.test,
        },
        "learning_strategy": recipe.order.by,
        "deduplication": {"exact": recipe.dedup.exact, "near": recipe.dedup.near},
    }


def _write_manifest(run: Run, repo: Repo, fingerprint: str, sizes: dict[str, int]) -> None:
    """`manifest.json`: what the dataset was made of, the counts of every step, the digest of every file."""
    files: dict[str, dict[str, int | str]] = {}
    names = sorted(path.relative_to(run.folder) for path in run.folder.rglob("*") if path.is_file())
    for name in names:
        if name.parts[0] == ".scratch":
            continue
        with (run.folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[str(name)] = {"bytes": file.tell(), "sha256": digest}
    for split, rows in sizes.items():
        files[f"training_data_{split}.jsonl"]["rows"] = rows
    manifest = {
        "schema": SCHEMA,
        "fingerprint": fingerprint,
        "commit": repo.commit,
        "shallow": repo.shallow,
        "steps": [
            {
                "step": step.name,
                "seen": step.seen,
                "kept": step.kept,
                "dropped": dict(sorted(step.dropped.items())),
                "figures": step.figures,
            }
            for step in run.steps
        ],
        "files": files,
        "digest": hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest(),
    }
    (run.folder / MANIFEST).write_bytes(_pretty(manifest))


def _pretty(values: dict[str, Any]) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
