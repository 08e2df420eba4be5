"""Write: the files of the dataset. Tokens are laid out here, once; every byte is a function of the rows.

A line is formatted from parts: what all rows of a sample share is serialised once, tokens go from numpy to JSON
without becoming Python objects. A second thread hashes and writes while the first formats.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import orjson

from git_starcoder.dataset import MANIFEST, METADATA, SCHEMA
from git_starcoder.rows import SPLITS, Change, Unit, printable
from git_starcoder.stages.weigh import age
from git_starcoder.stages.window import Layout
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.git.objects import Repo
    from git_starcoder.recipe import Recipe
    from git_starcoder.rows import Role, Sample, Windows
    from git_starcoder.run import Run, Step, TextStore

CHUNK = 4 << 20
"""Bytes of lines handed to the writing thread at a time."""


def run(run: Run, recipe: Recipe, repo: Repo, windows: Windows, fingerprint: str) -> None:
    """Windows in their final order in, the files of the dataset out."""
    with run.step("write", len(windows)) as step:
        layout = Layout(windows, tokenizers.load(run.folder / "tokenizer"))
        splits = np.array([sample.origin.split for sample in windows.samples])[windows.sample]
        heads = [_head(sample, repo.committed_at, run.texts) for sample in windows.samples]
        files: dict[str, dict[str, int | str]] = {}
        for split in SPLITS:
            name = f"training_data_{split}.jsonl"
            rows = np.flatnonzero(splits == split)
            files[name] = _write_split(run.folder / name, rows, windows, layout, heads, step)
        (run.folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        with (run.folder / "drops.jsonl").open("wb") as file:
            for drop in run.drops:
                values = {key: printable(value) for key, value in drop._asdict().items() if key != "things"}
                things = {"things": drop.things} if drop.things > 1 else {}
                file.write(orjson.dumps(values | things, option=orjson.OPT_APPEND_NEWLINE))
        sizes = {split: int(np.count_nonzero(splits == split)) for split in SPLITS}
        metadata = _metadata(recipe, repo, windows, sizes, run, layout)
        (run.folder / METADATA).write_bytes(_pretty(metadata))
    _write_manifest(run, repo, fingerprint, files)


class _Sink:
    """A file that another thread hashes and writes, while the caller makes the next lines."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._thread = ThreadPoolExecutor(1)
        self._waiting: Future[None] | None = None
        self._sha256 = hashlib.sha256()
        self._parts: list[bytes] = []
        self._pending = 0
        self.bytes = 0

    def put(self, line: bytes) -> None:
        """Take a line, and write what has come together once it is a chunk."""
        self._parts.append(line)
        self._pending += len(line)
        if self._pending >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._waiting is not None:
            self._waiting.result()  # a full disk shows here
        self._waiting = self._thread.submit(self._write, b"".join(self._parts))
        self.bytes += self._pending
        self._parts.clear()
        self._pending = 0

    def _write(self, data: bytes) -> None:
        self._sha256.update(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def close(self) -> dict[str, int | str]:
        """Write the rest; size and digest of the file."""
        self._flush()
        self._thread.shutdown()
        if self._waiting is not None:
            self._waiting.result()
        self._file.close()
        return {"bytes": self.bytes, "sha256": self._sha256.hexdigest()}


def _write_split(
    path: Path, rows: NDArray[np.int64], windows: Windows, layout: Layout, heads: list[bytes], step: Step
) -> dict[str, int | str]:
    """One split file; its entry in the manifest. `rows` are indices into `windows`, shape (rows of the split,)."""
    sink = _Sink(path)
    places = cast("list[int]", windows.sample[rows].tolist())
    for number, (row, sample) in enumerate(zip(cast("list[int]", rows.tolist()), places, strict=True)):
        tokens, length, hole = layout.row(row)
        own = (
            f'"seq_id":{number},"row_id":"{windows.key[row]:016x}","window_size":{windows.size[row]},'
            f'"length":{length},"token_start":{windows.start[row]},"chunk_index":{windows.index[row]},'
            f'"total_chunks":{windows.total[row]},"complexity":{windows.difficulty[row]:.4f},'
            f'"weight":{windows.weight[row]:.4f},'
        )
        if windows.head[row]:
            own += f'"context":{windows.head[row]},'
        if hole is not None:
            own += f'"hole":[{hole[0]},{hole[1]}],'
        dumped = orjson.dumps(tokens, option=orjson.OPT_SERIALIZE_NUMPY)
        sink.put(b"".join((b'{"tokens":', dumped, b',"metadata":{', own.encode(), heads[sample], b"}\n")))
        if number % 1000 == 999:
            step.keep(1000)
    step.keep(len(rows) % 1000)
    return {**sink.close(), "rows": len(rows)}


def _head(sample: Sample, newest: int, texts: TextStore) -> bytes:
    """What the metadata of every row of a sample shares: members of a JSON object with its closing brace."""
    origin = sample.origin
    path = PurePosixPath(printable(origin.path))
    values: dict[str, str | int | float | bool] = {
        "source_file": str(path),
        "directory": str(path.parent),
        "file_extension": path.suffix,
        "language": origin.language,
        "role": origin.role,
        "priority": priority(origin.role),
        "is_core": origin.role == "core",
        "is_test": origin.role == "test",
        "augmentation_type": sample.made_by,
        "age_days": age(origin, newest),
        "commit": origin.commit,
        "sample": sample.id,
        "group": origin.group,
        "split": origin.split,
        **(_of_change(origin, texts) if isinstance(origin, Change) else _of_unit(origin)),
    }
    if sample.kind:
        values["kind"] = sample.kind
    return orjson.dumps(values)[1:]


def _of_unit(unit: Unit) -> dict[str, str | int | float | bool]:
    return {
        "has_dependencies": bool(unit.imports),
        "type_density": round(unit.type_density, 4),
        "error_patterns": unit.error_patterns,
        "blob": unit.source.blob,
    }


def _of_change(change: Change, texts: TextStore) -> dict[str, str | int | float | bool]:
    return {
        "has_dependencies": False,
        "type_density": 0.0,
        "error_patterns": 0,
        "blob": change.after,
        "is_evolution": True,
        "commit_message": texts.get(change.message).decode("utf-8", "replace"),
    }


def priority(role: Role) -> str:
    """The seeds' word for a role: core is `high`, tests are `low`, all others `medium`."""
    return {"core": "high", "test": "low"}.get(role, "medium")


def _metadata(
    recipe: Recipe, repo: Repo, windows: Windows, sizes: dict[str, int], run: Run, layout: Layout
) -> dict[str, Any]:
    """`dataset_metadata.json`, with the keys that the seeds name."""
    made_by = [sample.made_by for sample in windows.samples]
    counts = Counter(made_by[index] for index in cast("list[int]", windows.sample.tolist()))
    units = {sample.origin.id: sample.origin for sample in windows.samples if isinstance(sample.origin, Unit)}.values()
    read = next(step for step in run.steps if step.name == "read")
    total = len(windows)
    tokens = layout.total_tokens()
    nodes = {unit.source.path for unit in units if unit.imports} | {path for unit in units for path in unit.imports}
    primary = recipe.window.primary
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
        "git_diffs": counts["git_diff"],
        "git_commits_analyzed": read.figures.get("commits", len({unit.commit for unit in units})),
        "function_signatures": sum(symbol.kind == "function" for unit in units for symbol in unit.symbols),
        "dependency_graph_nodes": len(nodes),
        "dependency_graph_edges": sum(len(unit.imports) for unit in units),
        "tokenizer": "tokenizer/" if recipe.window.tokenizer == "learn" else recipe.window.tokenizer,
        "vocab_size": layout.tokenizer.vocab_size,
        "max_tokens_per_sequence": max(recipe.window.sizes),
        "overlap_tokens": round(primary * recipe.window.overlap),
        "context_windows": list(recipe.window.sizes),
        "primary_window": primary,
        "total_tokens": tokens,
        "avg_tokens_per_sequence": round(tokens / max(1, total), 1),
        "augmentation_techniques": {key: counts[key] for key in ("base", *recipe.augment)},
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
        },
        "learning_strategy": recipe.order.by,
        "deduplication": {"exact": recipe.dedup.exact, "near": recipe.dedup.near},
    }


def _write_manifest(run: Run, repo: Repo, fingerprint: str, files: dict[str, dict[str, int | str]]) -> None:
    """`manifest.json`: what the dataset was made of, the counts of every step, the digest of every file."""
    for path in run.folder.rglob("*"):
        name = path.relative_to(run.folder)
        if path.is_file() and name.parts[0] != ".scratch" and str(name) not in files:
            data = path.read_bytes()
            files[str(name)] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    files = dict(sorted(files.items()))
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
