"""The written folder in every format: the same rows, and libraries of others that read them."""

from __future__ import annotations

import builtins
import hashlib
import json
import shutil
from collections import Counter
from itertools import pairwise

import pytest
import yaml

from git_starcoder.checks import check
from git_starcoder.dataset import Dataset, write_parquet
from git_starcoder.dataset.write_metadata import ROW_COLUMNS, SAMPLE_COLUMNS
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import DatasetError, MissingExtraError
from git_starcoder.installation import install_command
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS
from toy import code_base

SMALL = ("window.size=[96,192]", "window.overlap=0.5", "window.vocab_size=600", "read.changes=100", "augment.git_diff=1.0",
         "augment.temporal_context=1.0", "augment.format_variation=0.0", "augment.comment_toggle=0.0",
         "weigh.evolution=1.3")  # fmt: skip


@pytest.fixture(scope="module")
def made(repo_maker, tmp_path_factory):
    """A dataset by the formats it is asked for: `made("parquet", copies="true")`."""
    first = {
        **code_base(28),
        "LICENSE": "Permission is hereby granted, free of charge, to any person obtaining a copy\n" * 3,
    }
    changed = [path for number, path in enumerate(first) if number % 3 == 0]
    second = {path: first[path].replace("limit", "bound").replace("entry", "item") for path in changed}
    repo = repo_maker([first, second])
    folder = tmp_path_factory.mktemp("made")
    done = {}

    def make(form="jsonl", again="", **options):
        name = "-".join([form, again, *options])
        if name not in done:
            asked = (*SMALL, f"write.format={form}", *(f"write.{key}={value}" for key, value in options.items()))
            with LocalEngine(1) as engine:
                done[name] = build(repo, Recipe.load("effectiveness", asked), folder / name, engine=engine)
        return done[name]

    return make


def found(dataset):
    return {outcome.check: [f"{one.where}: {one.what}" for one in outcome.findings] for outcome in check(dataset)}


def everything(dataset):
    return [(split, *both) for split in SPLITS for both in dataset.rows_with_labels(split)]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("options", [{}, {"copies": "true", "labels": "true"}], ids=["plain", "copies and labels"])
def test_every_promise_is_kept_in_every_format(made, form, options):
    assert not any(found(made(form, **options)).values())


@pytest.mark.parametrize("options", [{}, {"copies": "true", "labels": "true"}], ids=["plain", "copies and labels"])
def test_both_formats_have_the_same_rows(made, options):
    lines = everything(made(**options))
    assert lines == everything(made("parquet", **options))
    made_by = {row.metadata["augmentation_type"] for _, row, _ in lines}
    assert {"base", "token_masking", "git_diff", "temporal_context"} <= made_by
    for split in SPLITS:
        assert list(made("parquet", **options).row_metadata(split)) == [
            row.metadata for one, row, _ in lines if one == split
        ]
        assert list(made(**options).row_metadata(split)) == [row.metadata for one, row, _ in lines if one == split]


def test_parquet_has_the_same_bytes_each_time(made):
    assert made("parquet").digest == made("parquet", again="again").digest


def test_many_files_and_row_groups_hold_the_same_rows(made, monkeypatch):
    whole = everything(made("parquet"))
    monkeypatch.setattr(write_parquet, "TOKENS_PER_FILE", 20_000)
    monkeypatch.setattr(write_parquet, "TOKENS_PER_ROW_GROUP", 3_000)
    cut = made("parquet", again="cut")
    files = cut.files("train")
    assert [path.name for path in files] == [f"train-{n:05}-of-{len(files):05}.parquet" for n in range(len(files))]
    assert len(files) > 2
    assert everything(cut) == whole
    assert not any(found(cut).values())
    first = cut.manifest["files"]["data/" + files[0].name]["rows"]
    assert cut.row_location("train", first - 1) == f"data/{files[0].name}:{first}"
    assert cut.row_location("train", first) == f"data/{files[1].name}:1"
    numbers = {0, first - 1, first, cut.count("train") - 1}
    selected = [row.metadata["seq_id"] for row in cut.select("train", lambda number, _: number in numbers)]
    assert selected == sorted(numbers)


NAMES = {"train": "train", "validation": "val", "test": "test"}
"""Our splits by the names that the library gives them."""


def load(folder, tmp_path):
    """The rows that the real `datasets` finds in a folder, by its names of splits; metadata without what is null."""
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))

    def metadata(row):
        return {key: value for key, value in row.get("metadata", row).items() if value is not None}

    return {name: [(row["tokens"], metadata(row), row) for row in rows] for name, rows in loaded.items()}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    "options",
    [{}, {"labels": "true"}, {"copies": "true"}, {"copies": "true", "labels": "true"}],
    ids=lambda options: " and ".join(options) or "plain",
)
def test_the_datasets_library_finds_the_splits(made, tmp_path, form, options):
    dataset = made(form, **options)
    loaded = load(dataset.folder, tmp_path)
    assert list(loaded) == list(NAMES)
    seen = {}
    for name, split in NAMES.items():
        rows = list(dataset.rows_with_labels(split))
        assert len(rows) == len(loaded[name]) == dataset.metadata[f"{split}_sequences"] > 0
        for (row, labels), (tokens, about, whole) in zip(rows, loaded[name], strict=True):
            assert tokens == row.tokens
            assert row.metadata.items() <= about.items()
            assert {key: whole[key] for key in labels} == labels
        seen[name] = {about["row_id"] for _, about, _ in loaded[name]}
    assert not seen["train"] & seen["validation"] | seen["train"] & seen["test"] | seen["validation"] & seen["test"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_datasets_library_finds_the_splits_wherever_the_folder_is(made, tmp_path, form):
    folder = tmp_path / "train" / "test-validation" / ".hidden" / "my train: data, 'eval' #1"
    shutil.copytree(made(form).folder, folder)
    (folder / "notes-train.json").write_text('{"mine": 1}')
    (folder / "test").mkdir()
    (folder / "test" / "mine.jsonl").write_text('{"mine": 1}\n')
    loaded = load(folder, tmp_path)
    assert list(loaded) == list(NAMES)
    for name, split in NAMES.items():
        assert [tokens for tokens, _, _ in loaded[name]] == [row.tokens for row in made(form).rows(split)]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_datasets_library_finds_splits_without_rows(repo_maker, tmp_path, form):
    repo = repo_maker({"one.py": "def one(value):\n    return value + 1\n" * 9})
    recipe = Recipe.load("effectiveness", ("window.size=64", "window.vocab_size=600", f"write.format={form}"))
    with LocalEngine(1) as engine:
        dataset = build(repo, recipe, tmp_path / "out", engine=engine)
    loaded = load(dataset.folder, tmp_path)
    assert list(loaded) == ["train"]  # the library has no splits without rows
    assert [tokens for tokens, _, _ in loaded["train"]] == [row.tokens for row in dataset.rows("train")] != []


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_card_says_what_the_library_finds(made, tmp_path, form):
    datasets = pytest.importorskip("datasets")
    dataset = made(form, labels="true")
    header = yaml.safe_load((dataset.folder / "README.md").read_text().split("---\n")[1])
    loaded = datasets.load_dataset(str(dataset.folder), cache_dir=str(tmp_path))
    assert [one["name"] for one in header["dataset_info"]["features"]] == loaded["train"].column_names
    assert (header["license"], header["task_categories"]) == ("mit", ["text-generation"])
    path = {"jsonl": "training_data_val.jsonl", "parquet": "data/validation-*.parquet"}[form]
    assert header["configs"][0]["data_files"][1] == {"split": "validation", "path": path}
    facts = datasets.load_dataset("json", data_files=str(dataset.folder / "signatures.jsonl"), cache_dir=str(tmp_path))
    assert len(facts["train"]) >= dataset.metadata["function_signatures"] > 0


def test_parquet_rows_have_the_columns_of_the_stack(made, tmp_path):
    for _, about, row in load(made("parquet").folder, tmp_path)["test"]:
        assert (row["path"], row["blob_id"]) == (about["source_file"], about["blob"])


def test_the_types_of_metadata_are_known(made):
    keys = {key for _, row, _ in everything(made(copies="true")) for key in row.metadata}
    assert keys <= ROW_COLUMNS.keys() | SAMPLE_COLUMNS.keys()


def test_changes_have_the_columns_of_commit_packs(made):
    import pyarrow.parquet as pq

    table = pq.read_table(made("parquet").files("train")[0])
    changes = [row for row in table.to_pylist() if row["augmentation_type"] == "git_diff"]
    assert changes
    for row in changes:
        assert row["subject"] in {"commit 0", "commit 1"}
        assert row["message"].startswith(row["subject"])
        assert row["old_contents"] != row["new_contents"]
        assert row["new_contents"] in row["text"]
        assert row["revision_id"] == row["commit"]
    others = [row for row in table.to_pylist() if row["augmentation_type"] == "base"]
    assert {(row["old_contents"], row["subject"]) for row in others} == {(None, None)}


def test_labels_are_what_counts(made):
    seen = Counter()
    for _, row, labels in everything(made(labels="true")):
        about, asked = row.metadata, labels["labels"]
        assert labels["input_ids"] == row.tokens
        assert sum(labels["attention_mask"]) == about["length"]
        counted = [token for token in asked if token != -100]
        if "hole" in about:
            seen["hole"] += 1
            start, stop = about["hole"]
            assert counted == row.tokens[: about["length"]]
            assert counted[start - stop - 2] == 2  # <fim_middle>
            assert counted[-1] == 0  # <|endoftext|>
        elif "context" in about:
            seen["context"] += 1
            assert counted == row.tokens[about["context"] : about["length"]]
        else:
            seen["plain"] += 1
            assert counted == row.tokens[: about["length"]]
    assert min(seen["hole"], seen["context"], seen["plain"]) > 0


def test_copies_are_as_many_as_the_weights_say(made):
    plain, copied = made(), made(copies="true")
    weights = {row.metadata["row_id"]: row.metadata["weight"] for row in plain.rows("train")}
    rows = [row.metadata for row in copied.rows("train")]
    counts = Counter(row["row_id"] for row in rows)
    assert {row["weight"] for row in rows} == {1.0}
    assert all(
        row["weight_of_row"] == weights[row["row_id"]] and row["copies"] == counts[row["row_id"]] for row in rows
    )
    assert all(weights[key] < 1 for key in weights.keys() - counts.keys())
    assert abs(len(rows) - sum(weights.values())) <= 1
    assert all(one["row_id"] != other["row_id"] for one, other in pairwise(rows))
    stages = {row.metadata["row_id"]: row.metadata["stage"] for row in plain.rows("train")}
    assert [row["stage"] for row in rows] == sorted(stages[row["row_id"]] for row in rows)
    for split in ("val", "test"):
        assert list(copied.rows(split)) == list(plain.rows(split))
    step = copied.manifest["steps"][-1]
    assert step["dropped"] == {"weight": len(weights) - len(counts)}
    assert copied.metadata["weighting_strategy"]["copies"] is True
    assert copied.metadata["train_sequences"] == len(rows)


def spoil(dataset, folder, change):
    shutil.copytree(dataset.folder, folder)
    path = folder / "training_data_train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return found(Dataset.open(folder))


def test_a_missing_or_added_copy_is_found(made, tmp_path):
    def miss(rows):
        at = next(at for at, row in enumerate(rows) if row["metadata"]["copies"] == 3)
        rows[at]["metadata"]["copy"] = 7

    told = spoil(made(copies="true"), tmp_path / "spoiled", miss)
    assert "1 of its copies are not there" in told["duplicates"][-1]


def test_a_copy_that_weighs_is_found(made, tmp_path):
    told = spoil(made(copies="true"), tmp_path / "one", lambda rows: rows[0]["metadata"].update(weight=3.0))
    assert told["weights"] == ["training_data_train.jsonl:1: a copy of weight 3.0"]
    told = spoil(made(copies="true"), tmp_path / "two", lambda rows: rows[0]["metadata"].update(copies=9))
    assert any("9 copies for" in line for line in told["weights"])


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "labels"])
def test_labels_that_are_not_those_of_the_tokens_are_found(made, tmp_path, name):
    told = spoil(made(labels="true"), tmp_path / "spoiled", lambda rows: rows[2][name].__setitem__(0, 77))
    assert told["lengths"] == [f"training_data_train.jsonl:3: {name} are not those of the tokens"]


def test_a_wrong_stage_is_found(made, tmp_path):
    told = spoil(made(), tmp_path / "spoiled", lambda rows: rows[-1]["metadata"].update(stage=1))
    assert told["curriculum"][0].endswith(": stage 1 behind rows of stage 3")


def test_facts_are_files_of_their_own(made):
    dataset = made()
    edges = [json.loads(line) for line in (dataset.folder / "imports.jsonl").read_text().splitlines()]
    signatures = [json.loads(line) for line in (dataset.folder / "signatures.jsonl").read_text().splitlines()]
    assert len(edges) == dataset.metadata["dependency_graph_edges"]
    assert len({edge[key] for edge in edges for key in ("from", "to")}) == dataset.metadata["dependency_graph_nodes"]
    functions = [one for one in signatures if one["kind"] == "function"]
    assert len(functions) == dataset.metadata["function_signatures"] > 20
    assert [(edge["from"], edge["to"]) for edge in edges] == sorted((edge["from"], edge["to"]) for edge in edges)
    assert [(one["path"], one["line"]) for one in signatures] == sorted(
        (one["path"], one["line"]) for one in signatures
    )
    splits = {row.metadata["source_file"]: split for split, row, _ in everything(dataset)}
    assert all(splits.get(one["path"], one["split"]) == one["split"] for one in signatures)


def test_without_pyarrow_it_is_one_clear_line(made, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    dataset = made("parquet")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match="pyarrow is not installed") as told:
        next(dataset.rows("train"))
    assert told.value.hint == install_command("parquet")


def test_a_damaged_parquet_file_is_one_clear_line(made, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(made("parquet").folder, folder)
    dataset = Dataset.open(folder)
    (path,) = dataset.files("test")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match="cannot be read"):
        list(dataset.rows("test"))
    path.unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.count("test")
    said = json.loads((folder / "manifest.json").read_text())
    said["files"] = {}
    (folder / "manifest.json").write_text(json.dumps(said))
    with pytest.raises(DatasetError, match="no files of train"):
        next(Dataset.open(folder).rows("train"))


def test_the_manifest_has_the_digest_of_every_file(made):
    dataset = made("parquet")
    for name, said in dataset.manifest["files"].items():
        data = (dataset.folder / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (said["bytes"], said["sha256"])
