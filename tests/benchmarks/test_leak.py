"""The judge of leaks: right on datasets whose leaks are known, because a test put them there."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "leak.py"
PAD = 4


def tokens(seed, count=96):
    chance = random.Random(seed)
    return [chance.randrange(10, 60000) for _ in range(count)]


def row(file, own, **metadata):
    return {
        "tokens": own + [PAD] * (128 - len(own)),
        "metadata": {"source_file": file, "length": len(own), "augmentation_type": "base", "group": file} | metadata,
    }


def clean():
    """Twenty files of which nothing is shared."""
    return {
        "train": [row(f"t{n}", tokens(n)) for n in range(16)],
        "val": [row(f"v{n}", tokens(100 + n)) for n in range(2)],
        "test": [row(f"e{n}", tokens(200 + n)) for n in range(2)],
    }


def judged(folder, dataset, *options):
    folder.mkdir(exist_ok=True)
    for split, rows in dataset.items():
        (folder / f"training_data_{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    command = [sys.executable, "-W", "error", str(SCRIPT), str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[0]), done.stdout


def test_a_clean_dataset_is_clean(tmp_path):
    figures, text = judged(tmp_path, clean(), "--table")
    assert figures["rows"] == {"train": 16, "val": 2, "test": 2}
    assert (figures["copies"], figures["files"], figures["groups"], figures["unique"]) == (0, 0, 0, 1.0)
    assert figures["runs"] == figures["floor"] == figures["by_row"] == {"val": 0.0, "test": 0.0}
    assert "files in more than one split" in text


def test_a_copy_is_found(tmp_path):
    dataset = clean()
    dataset["test"][0] = row("e0", tokens(3))
    figures, _ = judged(tmp_path, dataset)
    assert (figures["copies"], figures["unique"]) == (1, 0.95)
    assert figures["runs"] == {"val": 0.0, "test": 0.5}


def test_a_file_or_group_on_both_sides_is_found(tmp_path):
    dataset = clean()
    dataset["val"].append(row("t0", tokens(300)))
    dataset["val"].append(row("v9", tokens(301), group="t1"))
    figures, _ = judged(tmp_path, dataset)
    assert (figures["files"], figures["groups"]) == (1, 2)


@pytest.mark.parametrize("where", [0, 20, 60])
def test_runs_are_counted_wherever_they_stand(tmp_path, where):
    dataset = clean()
    piece = tokens(5)[where : where + 36]  # 36 tokens hold 5 runs of 32
    dataset["test"][0]["tokens"][40:76] = piece
    figures, _ = judged(tmp_path, dataset)
    assert figures["runs"]["test"] == round(5 / (2 * 65), 4)  # a row of 96 tokens holds 65 runs
    dataset["test"][0]["tokens"][40:76] = tokens(6)[:31] + tokens(999)[:5]
    assert judged(tmp_path, dataset)[0]["runs"]["test"] == 0.0


def test_only_base_rows_are_asked_for_but_all_training_rows_answer(tmp_path):
    dataset = clean()
    dataset["test"][0]["metadata"]["augmentation_type"] = "format_variation"
    dataset["test"][0]["tokens"][:96] = tokens(5)
    assert judged(tmp_path, dataset)[0]["runs"]["test"] == 0.0
    dataset["train"].append(row("t0", tokens(201)[:95], augmentation_type="variable_renaming"))
    assert judged(tmp_path, dataset)[0]["runs"]["test"] == round(64 / 65, 4)


def test_a_run_never_crosses_rows_or_padding(tmp_path):
    dataset = clean()
    whole = tokens(7)
    dataset["train"] = [row("t0", whole[:48]), row("t1", whole[48:])]
    dataset["test"] = [row("e0", whole)]
    figures, _ = judged(tmp_path, dataset)
    assert figures["runs"]["test"] == round(2 * 17 / 65, 4)
    short = {"train": [row("t", [9])], "val": [row("v", [9])], "test": []}
    figures, _ = judged(tmp_path, short)
    assert figures["runs"] == {"val": 0.0, "test": 0.0}
    assert figures["copies"] == 1


def test_the_floor_is_what_honest_reuse_gives(tmp_path):
    licence = tokens("licence", 64)
    names = {split: [one["metadata"]["source_file"] for one in rows] for split, rows in clean().items()}
    dataset = {split: [row(file, licence + tokens(file, 32)) for file in files] for split, files in names.items()}
    figures, _ = judged(tmp_path, dataset)
    every_file_starts_alike = {"val": round(33 / 65, 4), "test": round(33 / 65, 4)}
    assert figures["runs"] == figures["floor"] == every_file_starts_alike
    assert figures["floor_deviation"] == {"val": 0.0, "test": 0.0}


def test_dealing_rows_tears_files_apart(tmp_path):
    dataset = clean()
    for split, rows in dataset.items():
        dataset[split] = [
            row(one["metadata"]["source_file"], one["tokens"][at : at + 64])
            for one in rows
            for at in (0, 8, 16, 24, 32)
        ]
    figures, _ = judged(tmp_path, dataset)
    assert figures["runs"] == figures["floor"] == {"val": 0.0, "test": 0.0}
    assert min(figures["by_row"].values()) > 0.8


def test_the_judge_knows_nothing_of_the_builder():
    assert "git_starcoder" not in SCRIPT.read_text()
