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
    assert figures["runs"] == figures["floor"] == figures["by_row"] == {"base": {"val": 0.0, "test": 0.0}}
    assert figures["without_changes"] == figures["runs"]
    assert "files in more than one split" in text


def test_a_copy_is_found(tmp_path):
    dataset = clean()
    dataset["test"][0] = row("e0", tokens(3))
    figures, _ = judged(tmp_path, dataset)
    assert (figures["copies"], figures["unique"]) == (1, 0.95)
    assert figures["runs"]["base"] == {"val": 0.0, "test": 0.5}


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
    assert figures["runs"]["base"]["test"] == round(5 / (2 * 65), 4)  # a row of 96 tokens holds 65 runs
    dataset["test"][0]["tokens"][40:76] = tokens(6)[:31] + tokens(999)[:5]
    assert judged(tmp_path, dataset)[0]["runs"]["base"]["test"] == 0.0


def test_each_kind_is_asked_for_itself_and_all_training_rows_answer(tmp_path):
    dataset = clean()
    dataset["test"][0]["metadata"]["augmentation_type"] = "format_variation"
    dataset["test"][0]["tokens"][:96] = tokens(5)
    found = judged(tmp_path, dataset)[0]["runs"]
    assert (found["base"]["test"], found["techniques"]["test"]) == (0.0, 1.0)
    dataset["train"].append(row("t0", tokens(201)[:95], augmentation_type="variable_renaming"))
    assert judged(tmp_path, dataset)[0]["runs"]["base"]["test"] == round(64 / 65, 4)


def change(file, head, answer):
    return row(file, head + answer, augmentation_type="git_diff", context=len(head))


def test_a_held_out_change_is_asked_for_its_answer_alone(tmp_path):
    dataset = clean()
    dataset["test"].append(
        change("e0", tokens(5)[:48], tokens(301)[:48])
    )  # what stands in training is shown, not asked
    assert judged(tmp_path, dataset)[0]["runs"]["git_diff"] == {"val": 0.0, "test": 0.0}
    dataset["test"][-1] = change("e0", tokens(301)[:48], tokens(5)[:48])
    found = judged(tmp_path, dataset)[0]
    assert (found["runs"]["git_diff"]["test"], found["runs"]["base"]["test"]) == (1.0, 0.0)
    assert found["without_changes"] == found["runs"]


@pytest.mark.parametrize("part", ["head", "answer"])
def test_what_history_shows_of_held_out_code_is_found_in_any_part_of_it(tmp_path, part):
    dataset = clean()
    secret, other = tokens(201)[:48], tokens(302)[:48]  # of e1
    dataset["train"].append(change("gone", secret, other) if part == "head" else change("gone", other, secret))
    found = judged(tmp_path, dataset)[0]
    assert found["runs"]["base"]["test"] == round(17 / 130, 4)
    assert found["without_changes"]["base"] == found["floor"]["base"] == {"val": 0.0, "test": 0.0}


def test_what_a_file_was_is_history_too(tmp_path):
    dataset = clean()
    lately = row("t0", tokens(201)[:40] + tokens(0)[:56], augmentation_type="temporal_context", context=40)
    dataset["train"].append(lately)
    found = judged(tmp_path, dataset)[0]
    assert found["runs"]["base"]["test"] == round(9 / 130, 4)
    assert found["without_changes"]["base"]["test"] == 0.0


def test_a_masked_row_is_asked_for_what_is_masked(tmp_path):
    dataset = clean()
    masked = {"augmentation_type": "token_masking", "hole": [10, 50]}  # 40 tokens and the end come last
    dataset["test"].append(row("e0", tokens(303)[:55] + tokens(5)[:41], **masked))
    assert judged(tmp_path, dataset)[0]["runs"]["techniques"]["test"] == 1.0
    dataset["test"][-1] = row("e0", tokens(5)[:55] + tokens(303)[:41], **masked)
    assert judged(tmp_path, dataset)[0]["runs"]["techniques"]["test"] == 0.0


def test_the_floor_deals_changes_with_their_file_and_leaves_out_those_of_paths_that_are_no_more(tmp_path):
    alike = tokens("alike", 48)
    names = {split: [one["metadata"]["source_file"] for one in rows] for split, rows in clean().items()}
    dataset = {split: [row(file, alike + tokens(file, 48)) for file in files] for split, files in names.items()}
    for split, files in names.items():
        dataset[split] += [change(file, tokens(file + "head", 24), alike) for file in files]
        dataset[split] += [
            change(f"was/{file}", tokens(file + "was", 24), tokens(f"old {file}")[:72]) for file in files
        ]
    found = judged(tmp_path, dataset)[0]
    assert found["floor"]["git_diff"] == {"val": 1.0, "test": 1.0}
    assert found["runs"]["git_diff"] == {"val": round(17 / 58, 4), "test": round(17 / 58, 4)}  # 17 runs of 17 + 41


def test_a_run_never_crosses_rows_or_padding(tmp_path):
    dataset = clean()
    whole = tokens(7)
    dataset["train"] = [row("t0", whole[:48]), row("t1", whole[48:])]
    dataset["test"] = [row("e0", whole)]
    figures, _ = judged(tmp_path, dataset)
    assert figures["runs"]["base"]["test"] == round(2 * 17 / 65, 4)
    short = {"train": [row("t", [9])], "val": [row("v", [9])], "test": []}
    figures, _ = judged(tmp_path, short)
    assert figures["runs"]["base"] == {"val": 0.0, "test": 0.0}
    assert figures["copies"] == 1


def test_the_floor_is_what_honest_reuse_gives(tmp_path):
    licence = tokens("licence", 64)
    names = {split: [one["metadata"]["source_file"] for one in rows] for split, rows in clean().items()}
    dataset = {split: [row(file, licence + tokens(file, 32)) for file in files] for split, files in names.items()}
    figures, _ = judged(tmp_path, dataset)
    every_file_starts_alike = {"val": round(33 / 65, 4), "test": round(33 / 65, 4)}
    assert figures["runs"]["base"] == figures["floor"]["base"] == every_file_starts_alike
    assert figures["floor_deviation"]["base"] == {"val": 0.0, "test": 0.0}


def test_dealing_rows_tears_files_apart(tmp_path):
    dataset = clean()
    for split, rows in dataset.items():
        dataset[split] = [
            row(one["metadata"]["source_file"], one["tokens"][at : at + 64])
            for one in rows
            for at in (0, 8, 16, 24, 32)
        ]
    figures, _ = judged(tmp_path, dataset)
    assert figures["runs"]["base"] == figures["floor"]["base"] == {"val": 0.0, "test": 0.0}
    assert min(figures["by_row"]["base"].values()) > 0.8


def test_the_judge_knows_nothing_of_the_builder():
    assert "git_starcoder" not in SCRIPT.read_text()
