"""The whole pipeline on a small repository: counts, no leak, identical bytes, and survival of kill -9."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from git_starcoder.dataset import Dataset
from git_starcoder.engine.local import LocalEngine
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS
from toy import code_base

RECIPE = Recipe.load("effectiveness", ("window.size=128", "window.vocab_size=800"))


@pytest.fixture(scope="module")
def repo(repo_maker):
    files = code_base(84)
    files["copy/of_a_file.py"] = next(text for path, text in files.items() if path.endswith(".py"))
    return repo_maker(files)


@pytest.fixture(scope="module")
def dataset(repo, tmp_path_factory):
    with LocalEngine(2) as engine:
        return build(repo, RECIPE, tmp_path_factory.mktemp("built") / "out", engine=engine)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def all_rows(dataset):
    return [(split, row) for split in SPLITS for row in dataset.rows(split)]


def test_the_folder_has_the_files_of_the_seeds_and_their_keys(dataset):
    names = {path.name for path in dataset.folder.iterdir()}
    assert names == {
        "training_data_train.jsonl", "training_data_val.jsonl", "training_data_test.jsonl", "dataset_metadata.json",
        "manifest.json", "recipe.yaml", "drops.jsonl", "imports.jsonl", "signatures.jsonl", "tokenizer",
        "README.md", ".gitignore",
    }  # fmt: skip
    keys = [
        "creation_date",
        "effectiveness_version",
        "total_sequences",
        "train_sequences",
        "val_sequences",
        "test_sequences",
        "source_files",
        "source_files_scanned",
        "base_sequences",
        "augmented_sequences",
        "git_diffs",
        "git_commits_analyzed",
        "function_signatures",
        "dependency_graph_nodes",
        "tokenizer",
        "vocab_size",
        "max_tokens_per_sequence",
        "overlap_tokens",
        "context_windows",
        "primary_window",
        "total_tokens",
        "avg_tokens_per_sequence",
        "augmentation_techniques",
        "weighting_strategy",
        "learning_strategy",
        "deduplication",
        "source_repo",
    ]
    assert set(keys) <= dataset.metadata.keys()
    row_keys = [
        "seq_id",
        "source_file",
        "directory",
        "file_extension",
        "window_size",
        "length",
        "chunk_index",
        "total_chunks",
        "complexity",
        "priority",
        "is_core",
        "is_test",
        "augmentation_type",
        "weight",
        "age_days",
        "has_dependencies",
        "type_density",
        "error_patterns",
    ]
    for split, row in all_rows(dataset):
        assert set(row_keys) <= row.metadata.keys()
        assert len(row.tokens) == row.metadata["window_size"] == 128
        assert row.metadata["split"] == split
        assert all(token == 4 for token in row.tokens[row.metadata["length"] :])


def test_metadata_agrees_with_the_rows(dataset):
    rows = all_rows(dataset)
    counts = Counter(split for split, _ in rows)
    assert {split: dataset.metadata[f"{split}_sequences"] for split in SPLITS} == counts
    assert dataset.metadata["total_sequences"] == len(rows)
    made_by = Counter(row.metadata["augmentation_type"] for _, row in rows)
    assert dataset.metadata["augmentation_techniques"] == made_by
    assert set(made_by) == {"base", "variable_renaming", "comment_toggle", "format_variation", "token_masking"}
    assert dataset.metadata["total_tokens"] == sum(row.metadata["length"] for _, row in rows)
    assert {row.metadata["weight"] for _, row in rows} == {3.0, 1.0, 0.3}
    for split in SPLITS:
        assert [row.metadata["seq_id"] for row in dataset.rows(split)] == list(range(counts[split]))


def test_counts_add_up_at_every_step(dataset):
    steps = dataset.manifest["steps"]
    assert [step["step"] for step in steps] == [
        "read",
        "analyse",
        "split",
        "augment",
        "window",
        "dedup",
        "weigh",
        "order",
        "write",
    ]
    for step in steps:
        assert step["seen"] == step["kept"] + sum(step["dropped"].values())
    drops = [json.loads(line) for line in (dataset.folder / "drops.jsonl").read_text().splitlines()]
    for step in steps:
        assert Counter(drop["reason"] for drop in drops if drop["step"] == step["step"]) == step["dropped"]


def test_nothing_crosses_the_splits(dataset):
    seen = {key: {split: set() for split in SPLITS} for key in ("tokens", "source_file", "group")}
    total = 0
    for split, row in all_rows(dataset):
        seen["tokens"][split].add(tuple(row.tokens))
        seen["source_file"][split].add(row.metadata["source_file"])
        seen["group"][split].add(row.metadata["group"])
        total += 1
    assert len(set().union(*seen["tokens"].values())) == total, "rows are not unique"
    for sets in seen.values():
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            assert sets[one]
            assert not sets[one] & sets[other]


def test_the_digests_are_of_the_files(dataset):
    found = digests(dataset.folder)
    del found["manifest.json"], found[".gitignore"]
    assert {name: file["sha256"] for name, file in dataset.manifest["files"].items()} == found


def test_jobs_clone_date_and_hash_seed_change_nothing(repo, dataset, tmp_path, git):
    clone = tmp_path / "another" / "place"
    clone.parent.mkdir()
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    out = tmp_path / "out"
    code = f"""
from pathlib import Path
from git_starcoder.pipeline import build
from git_starcoder.engine.local import LocalEngine
from git_starcoder.recipe import Recipe
recipe = Recipe.load("effectiveness", ("window.size=128", "window.vocab_size=800"))
with LocalEngine(4) as engine:
    build({str(clone)!r}, recipe, Path({str(out)!r}), engine=engine)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    with LocalEngine(1) as engine:
        single = build(repo, RECIPE, tmp_path / "single", engine=engine)
    assert digests(out) == digests(dataset.folder) == digests(single.folder)


def test_another_seed_gives_another_dataset(repo, dataset, tmp_path):
    recipe = Recipe.load("effectiveness", ("window.size=128", "window.vocab_size=800", "seed=1"))
    with LocalEngine(2) as engine:
        other = build(repo, recipe, tmp_path / "out", engine=engine)
    assert other.digest != dataset.digest


def test_a_second_build_is_up_to_date(repo, dataset):
    before = (dataset.folder / "manifest.json").stat()
    build(repo, RECIPE, dataset.folder)
    assert (dataset.folder / "manifest.json").stat() == before


def test_rows_decode_to_the_text_of_the_repository(repo, dataset):
    from git_starcoder.text import tokenizer as tokenizers

    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    checked = 0
    for _, row in all_rows(dataset):
        if row.metadata["augmentation_type"] == "base":
            tokens = row.tokens[: row.metadata["length"]]
            if tokens[-1] == tokenizer.end_id:
                tokens = tokens[:-1]
            assert tokenizer.decode(tokens) in (repo / row.metadata["source_file"]).read_bytes()
            checked += 1
    assert checked > 50


def test_baseline_has_only_base_rows_in_random_order(repo, tmp_path):
    recipe = Recipe.load("baseline", ("window.size=128", "window.vocab_size=800"))
    dataset = build(repo, recipe, tmp_path / "out")
    assert {row.metadata["augmentation_type"] for _, row in all_rows(dataset)} == {"base"}
    assert {row.metadata["weight"] for _, row in all_rows(dataset)} == {1.0}
    assert dataset.metadata["overlap_tokens"] == 32


def test_killed_at_random_moments_nothing_half_written_is_visible(repo, dataset, tmp_path):
    out = tmp_path / "out"
    code = f"""
from pathlib import Path
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
recipe = Recipe.load("effectiveness", ("window.size=128", "window.vocab_size=800"))
build({str(repo)!r}, recipe, Path({str(out)!r}), force=True)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    moments = random.Random(0)
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    whole = time.monotonic() - begun
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", code], env=environment)
        time.sleep(moments.uniform(0.1, 1.0) * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if out.exists():
            assert digests(out) == digests(dataset.folder)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert digests(out) == digests(dataset.folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


GOLDEN = Path(__file__).parent / "golden" / "effectiveness.json"


def test_golden_manifest(dataset):
    """The bytes of a dataset change only on purpose: then run with GOLDEN=1 and name it in the CHANGELOG."""
    manifest = {**dataset.manifest, "commit": "", "fingerprint": ""}
    if os.environ.get("GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(manifest, indent=1) + "\n")
    assert json.loads(GOLDEN.read_text()) == manifest


def test_open_reads_what_was_built(dataset):
    assert Dataset.open(dataset.folder).digest == dataset.digest
