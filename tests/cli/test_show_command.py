"""`git starcoder show`: the dataset, a row, a path, a commit, and what it says where there is nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from typing import cast

import pytest

from git_starcoder.cli import main
from git_starcoder.dataset import Dataset
from git_starcoder.dataset.explain_row import explain_row
from git_starcoder.dataset.show import DropRecord, RowPosition
from git_starcoder.recipe import ReadOptions
from git_starcoder.records import SPLITS
from git_starcoder.text.clean import CleanText, clean_file
from toy import code_base

BUILD_OPTIONS = (
    "--set", "window.size=[96,512]", "--set", "window.overlap=0.5", "--set", "window.vocab_size=600", "--set", "read.changes=100",
    "--set", "augment.git_diff=1.0", "--set", "weigh.evolution=1.3", "--set", "weigh.recent=1.5",
)  # fmt: skip
NOTEBOOK = "study.ipynb"
EVIL = "evil\x1b]0;owned\x07.py"


def _notebook(text, picture):
    outputs = [{"output_type": "display_data", "data": {"image/png": picture}}] if picture else []
    source = "".join(f"def study_{text}_{number}(x):\n    return x * {number}\n" for number in range(30))
    cell = {"cell_type": "code", "metadata": {}, "outputs": outputs, "source": source}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture(scope="module")
def history(repo_maker):
    first = code_base(24)
    paths = sorted(path for path in first if path.endswith(".py"))
    second = {path: first[path].replace("limit", "bound") for path in paths[:3]}
    plain, shown, edited = (_notebook(text, picture) for text, picture in (("a", ""), ("a", "A" * 99_999), ("b", "B")))
    seconds = [{**second, NOTEBOOK: shown}, {NOTEBOOK: edited}]
    return repo_maker(
        [
            {**first, NOTEBOOK: plain, EVIL: "text = '\x1b[31mred\x1b[0m'  # <|endoftext|>\n" * 30, "empty.py": ""},
            *seconds,
        ]
    )


@pytest.fixture(scope="module", params=["jsonl", "parquet"])
def dataset_folder(request, history, tmp_path_factory):
    out = tmp_path_factory.mktemp("shown") / "out"
    assert (
        main(
            [
                "build",
                str(history),
                "-o",
                str(out),
                "-r",
                "effectiveness",
                "-q",
                "--format",
                request.param,
                *BUILD_OPTIONS,
            ]
        )
        == 0
    )
    return out


@pytest.fixture
def show(dataset_folder, capsys):
    def run(*words, folder=dataset_folder, code=0):
        assert main(["show", str(folder), *map(str, words)]) == code
        answer = capsys.readouterr()
        return answer.out if code == 0 else answer.err

    return run


def rows(dataset_folder):
    return [(split, at, row) for split in SPLITS for at, row in enumerate(Dataset.open(dataset_folder).rows(split))]


def test_the_table_counts_every_row_and_drop(dataset_folder, show):
    dataset = Dataset.open(dataset_folder)
    answer = json.loads(show("--json"))
    assert answer["splits"] == {split: dataset.metadata[f"{split}_sequences"] for split in SPLITS}
    assert sum(one["rows"] for one in answer["rows"]) == dataset.metadata["total_sequences"]
    made_by = {key for key, count in dataset.metadata["augmentation_techniques"].items() if count}
    assert {one["made_by"] for one in answer["rows"]} == made_by
    counted = {(step["step"], reason): n for step in dataset.manifest["steps"] for reason, n in step["dropped"].items()}
    assert {(one["step"], one["reason"]): one["things"] for one in answer["drops"]} == counted
    lines = show().splitlines()
    assert lines[0].split() == ["technique", "96", "512", "rows", "train", "val", "test"]
    assert any(line.split()[:2] == ["read", "empty"] for line in lines)


def test_what_is_left_out_of_notebooks_is_told(show):
    answer = json.loads(show("--json"))["notebooks"]
    assert answer == {
        "notebooks": {"notebooks": 1, "outputs": 1, "images": 1},
        "changes_of_notebooks": {"changes_of_notebooks": 2, "outputs": 1, "images": 1},
    }
    assert "notebooks 1, left out: images 1, outputs 1" in show().splitlines()
    [first, *_] = (line for line in show(NOTEBOOK).splitlines() if "same_text" in line)
    assert "read: same_text" in first


def test_a_row_of_a_file_says_where_it_stands(dataset_folder, show, history):
    checked = 0
    for split, at, row in rows(dataset_folder):
        about = row.metadata
        if about["augmentation_type"] != "base" or about["source_file"] == EVIL or at % 5:
            continue
        answer = json.loads(show(f"{split}:{at}", "--json"))
        assert answer["row"] == about
        assert (answer["place"]["split"], answer["place"]["number"]) == (split, at)
        text = subprocess.run(
            ["git", "-C", history, "show", f"HEAD:{about['source_file']}"], capture_output=True, check=True
        ).stdout
        extent = answer["extent"]
        if about["source_file"] == NOTEBOOK:
            text = cast("CleanText", clean_file(text, ReadOptions())).text
        own = text[extent["first_byte"] : extent["last_byte"]]
        assert "".join(piece["text"] for piece in answer["pieces"] if not piece["control"]).encode() == own
        assert extent["first_line"] == text[: extent["first_byte"]].count(b"\n") + 1
        assert text[: extent["last_byte"]].removesuffix(b"\n").count(b"\n") + 1 == extent["last_line"]
        assert all(piece["counts"] for piece in answer["pieces"])
        checked += 1
    assert checked > 5


def test_headers_are_no_text_of_the_file(history, tmp_path):
    sizes = ("--set", "window.size=64", "--set", "window.vocab_size=600")
    assert main(["build", str(history), "-o", str(tmp_path / "out"), "-q", *sizes]) == 0
    checked = Counter()
    for split, at, row in rows(tmp_path / "out"):
        about = row.metadata
        if about["source_file"] in {EVIL, NOTEBOOK} or about["chunk_index"] > 3 or checked.total() > 12:
            continue
        explained = explain_row(Dataset.open(tmp_path / "out"), RowPosition(split, at))
        blob = subprocess.run(
            ["git", "-C", history, "show", f"HEAD:{about['source_file']}"], capture_output=True, check=True
        ).stdout
        own = blob[explained.extent.first_byte : explained.extent.last_byte].decode()
        assert "".join(part.text for part in explained.segments if part.counts and not part.control) == own
        checked[about["chunk_index"]] += 1
    assert checked.keys() >= {0, 1, 2, 3}


def test_a_change_shows_what_counts_and_what_its_weight_is_made_of(dataset_folder, show):
    split, at, row = next(one for one in rows(dataset_folder) if one[2].metadata["augmentation_type"] == "git_diff")
    answer = json.loads(show(f"{split}:{at}", "--json"))
    assert answer["weight_factors"]["evolution"] == 1.3
    product = 1.0
    for factor in answer["weight_factors"].values():
        product *= factor
    assert product == pytest.approx(row.metadata["weight"])
    assert [piece["counts"] for piece in answer["pieces"]] == sorted(piece["counts"] for piece in answer["pieces"])
    assert "⟦" not in "".join(piece["text"] for piece in answer["pieces"])
    plain = show(f"{split}:{at}")
    assert "⟦<commit_before>⟧" in plain
    assert "\x1b" not in plain
    assert f" × evolution {1.3}" in plain
    barred = [line for line in plain.splitlines() if line.startswith("│ ")]
    assert barred
    assert barred[-1].endswith("⟦<|endoftext|>⟧")
    coloured = show(f"{split}:{at}", "--color", "always")
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert coloured != plain


def test_of_a_masked_row_everything_counts(dataset_folder, show):
    split, at, _ = next(one for one in rows(dataset_folder) if "hole" in one[2].metadata)
    text = show(f"{split}:{at}")
    shown = text[text.index("\n\n") :]
    assert "⟦<fim_middle>⟧" in shown
    assert all(line.startswith("│ ") for line in shown.strip("\n").split("\n"))


def test_the_beginning_of_an_id_is_enough_and_a_copy_of_the_text_is_not_run(dataset_folder, show):
    for split, at, row in (
        rows(dataset_folder)[:1]
        + [one for one in rows(dataset_folder) if EVIL[:4] in one[2].metadata["source_file"]][:1]
    ):
        text = show(row.metadata["row_id"][:12])
        assert text.startswith(Dataset.open(dataset_folder).row_location(split, at))
        assert row.metadata["row_id"] in text.splitlines()[0]
        assert "\x1b" not in text
        assert "\x07" not in text
    assert "\\x1b[31mred" in text
    assert "# <|endoftext|>" in text


def test_a_path_shows_its_rows_and_drops(dataset_folder, show):
    path = rows(dataset_folder)[0][2].metadata["source_file"]
    answer = json.loads(show(path, "--json"))
    assert answer["path"] == path
    assert sum(one["rows"] for one in answer["rows"]) == sum(
        row.metadata["source_file"] == path for *_, row in rows(dataset_folder)
    )
    gone = json.loads(show("empty.py", "--json"))
    assert gone["rows"] == []
    assert ("read", "empty") in [(one["step"], one["reason"]) for one in gone["drops"]]
    assert "  read: empty" in show("empty.py")


def test_drops_that_say_the_same_are_one_line(show, monkeypatch):
    path = "many.py"
    commits = [f"{number:040x}" for number in range(1, 4)]
    drops = [DropRecord("augment", path, commit, "not_drawn", "git_diff", 1) for commit in commits]
    monkeypatch.setattr("git_starcoder.dataset.show.read_drops", lambda _: iter(drops))
    assert show(path).splitlines()[2:] == ["dropped: 3", "  augment: not_drawn (git_diff), 3 times"]
    assert [line.rpartition(" ")[2] for line in show(path, "-v").splitlines()[3:]] == commits


def test_a_commit_shows_its_changes(dataset_folder, show):
    commit = next(
        row.metadata["commit"] for *_, row in rows(dataset_folder) if row.metadata["augmentation_type"] == "git_diff"
    )
    answer = json.loads(show(commit[:10], "--json"))
    assert answer["commit"] == commit
    assert sum(one["rows"] for one in answer["rows"]) == sum(
        row.metadata["commit"] == commit for *_, row in rows(dataset_folder)
    )
    assert show(commit[:10]).startswith(f"{commit}: ")


def test_what_is_not_there_is_one_clear_line(dataset_folder, show):
    path = rows(dataset_folder)[0][2].metadata["source_file"]
    name = path.rpartition("/")[2]
    assert show(f"nowhere/{name}", code=2).splitlines() == [
        f"error: 'nowhere/{name}' is no row, path or commit of this dataset", "  in show", f"hint: did you mean '{path}'?"
    ]  # fmt: skip
    last = Dataset.open(dataset_folder).count("train") - 1
    assert (
        show("train:999999", code=2).splitlines()[2] == f"hint: the last one is train:{last}; rows are numbered from 0"
    )
    assert "is no row, path or commit" in show("ffffffffffffffff", code=2)
    assert "lists what is there" in show("\udcff\x1b", code=2)
    assert "\x1b" not in show("\udcff\x1b", code=2)


def test_a_beginning_of_several_rows_asks_for_more(dataset_folder, show, monkeypatch):
    ids = [row.metadata["row_id"] for *_, row in rows(dataset_folder)]
    monkeypatch.setattr("git_starcoder.dataset.show.HEX_PREFIX", re.compile(r"[0-9a-f]{1,64}"))
    digit = next(digit for digit in "0123456789abcdef" if sum(one.startswith(digit) for one in ids) > 1)
    assert "give more digits" in show(digit, code=2)


@pytest.mark.parametrize("spoil", [b"not json\n", b'{"tokens":[],"metadata":[]}\n', b'{"tokens":[],"metadata":{}}\n'])
@pytest.mark.parametrize("words", [(), ("train:0",), ("some/path",)])
def test_a_damaged_dataset_is_one_clear_line(dataset_folder, show, tmp_path, spoil, words):
    folder = shutil.copytree(dataset_folder, tmp_path / "damaged")
    (path,) = Dataset.open(folder).files("train")
    path.write_bytes(spoil + (path.read_bytes() if path.suffix == ".jsonl" else b""))
    assert show(*words, folder=folder, code=2).startswith("error: ")
    shutil.copy(dataset_folder / path.relative_to(folder), path)
    (folder / "drops.jsonl").write_bytes(spoil)
    if words != ("train:0",):
        assert show(*words, folder=folder, code=2).startswith("error: line 1 is not a drop")
