"""Checks of what rows say, on an elite dataset: each is shown to fail where it must, and alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from random import Random

import numpy as np
import orjson
import pytest

import planted
from git_starcoder.checks import check
from git_starcoder.checks.rows import PREFIX_PATTERNS, without_letters
from git_starcoder.dataset import Dataset
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.text import tokenizer as tokenizers
from toy import evolving
from wrapped import WRAPS

OPTIONS = (
    "window.vocab_size=800", "window.size=512", "augment.token_masking=0.3", "augment.temporal_context=0.9",
    "augment.cross_file_context=0.9",
)  # fmt: skip
SPLITS = ("train", "val", "test")
SMALL = {"scales", "split_ratio"}
"""Skipped, because there is one size, and because there are few groups."""
WITHOUT_SOURCE = {"source"}


@pytest.fixture(scope="module")
def repo(repo_maker):
    return repo_maker(evolving(60, 16))


@pytest.fixture(scope="module")
def good(repo, tmp_path_factory):
    with LocalEngine(2) as engine:
        return build(repo, Recipe.load("elite", OPTIONS), tmp_path_factory.mktemp("good") / "out", engine=engine)


@pytest.fixture
def folder(good, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(good.folder, tmp_path / "spoiled")


@pytest.fixture(scope="module")
def tokenizer(good):
    return tokenizers.load_tokenizer(good.tokenizer_folder)


def rows(folder, split="train"):
    return [json.loads(line) for line in (folder / f"training_data_{split}.jsonl").read_text().splitlines()]


def write(folder, changed, split="train"):
    """Rows in the place of those that were there, and a manifest that says so."""
    lines = (json.dumps(row, separators=(",", ":")) + "\n" for row in changed)
    (folder / f"training_data_{split}.jsonl").write_text("".join(lines))
    path = folder / "dataset_metadata.json"
    said = json.loads(path.read_text())
    every = [row["metadata"]["length"] for one in SPLITS for row in rows(folder, one)]
    said.update(total_tokens=sum(every), avg_tokens_per_sequence=round(sum(every) / len(every), 1))
    path.write_text(json.dumps(said))
    sign(folder)


def sign(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name, said in manifest["files"].items():
        data = (folder / name).read_bytes()
        said.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    manifest["digest"] = hashlib.sha256(orjson.dumps(manifest["files"], option=orjson.OPT_SORT_KEYS)).hexdigest()
    path.write_text(json.dumps(manifest))


def broken(folder, source=None):
    """What each check that is broken finds."""
    return {
        each.check: [f"{finding.where}: {finding.what}" for finding in each.findings]
        for each in check(Dataset.open(folder), source)
        if each.finding_count
    }


def alone(row):
    """Whether no other row shows the text of this one."""
    about = row["metadata"]
    return about["total_chunks"] == 1 and "hole" not in about


def first(changed, wanted):
    return next(at for at, row in enumerate(changed) if wanted(row))


def test_a_good_dataset_keeps_every_promise_with_its_repository(good, repo):
    outcomes = list(check(good, Repo.open(repo)))
    assert [(each.check, each.findings) for each in outcomes if each.finding_count] == []
    assert {each.check for each in outcomes if each.skipped} <= SMALL


def test_without_the_repository_what_needs_it_is_skipped(good):
    assert {each.check for each in check(good) if each.skipped} - SMALL == WITHOUT_SOURCE
    assert not any(each.finding_count for each in check(good))


MARKS = ("<|endoftext|>", "<fim_prefix>", "<commit_after>", "<file_sep>", "<fim_pad>", "<repo_name>")


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("kind", ["base", "git_diff"])
def test_a_control_token_in_the_text_is_found(folder, tokenizer, mark, kind):
    changed = rows(folder)
    at = first(changed, lambda row: alone(row) and row["metadata"]["augmentation_type"] == kind)
    place = changed[at]["metadata"]["length"] - 3
    changed[at]["tokens"][place] = tokenizer.control_token_ids(mark)[0]
    write(folder, changed)
    assert broken(folder) == {
        "controls": [f"training_data_train.jsonl:{at + 1}: token {place} is the control token {mark}"]
    }


def test_a_text_that_does_not_end_is_found(folder):
    changed = rows(folder)
    at = first(changed, alone)
    last = changed[at]["metadata"]["length"] - 1
    changed[at]["tokens"][last] = changed[at]["tokens"][last - 1]
    write(folder, changed)
    what = f"token {last} is not the control token <|endoftext|>"
    assert broken(folder) == {"controls": [f"training_data_train.jsonl:{at + 1}: {what}"]}


@pytest.mark.parametrize("kind", ["git_diff", "temporal_context", "cross_file_context"])
def test_a_head_with_other_marks_is_found(folder, tokenizer, kind):
    changed = rows(folder)
    number = first(changed, lambda row: row["metadata"]["augmentation_type"] == kind)
    sample, mark = changed[number]["metadata"]["sample"], tokenizer.control_token_ids("<commit_msg>")[0]
    same = [at for at, row in enumerate(changed) if row["metadata"]["sample"] == sample]
    for at in same:
        changed[at]["tokens"][0] = mark
    write(folder, changed)
    found = broken(folder)
    assert found.keys() == {"controls"}
    assert len(found["controls"]) == len(same)
    assert f"the head of a {kind} has the control tokens <commit_msg>" in found["controls"][0]


def test_a_masked_row_in_another_order_is_found(folder, tokenizer):
    changed = rows(folder)
    number = first(changed, lambda row: "hole" in row["metadata"])
    prefix, _, suffix = tokenizer.fim_ids
    swap = {prefix: suffix, suffix: prefix}
    changed[number]["tokens"] = [swap.get(token, token) for token in changed[number]["tokens"]]
    write(folder, changed)
    what = "token 0 is the control token <fim_suffix>"
    assert broken(folder) == {"controls": [f"training_data_train.jsonl:{number + 1}: {what}"]}


def encoded(tokenizer, text):
    return tokenizer.encode([text.encode()])[0].tolist()


@pytest.mark.parametrize("kind", ["GITHUB_TOKEN", "AWS_KEY", "PASSWORD"])
def test_a_secret_in_a_row_is_found(folder, tokenizer, kind):
    planting = planted.KINDS[kind](Random(f"row {kind}"))
    changed = rows(folder)
    text = encoded(tokenizer, f"\n{planting.text}\n")
    wanted = lambda row: alone(row) and row["metadata"]["length"] - row["metadata"].get("context", 0) > len(text) + 2  # noqa: E731
    at = first(changed, wanted)
    stop = changed[at]["metadata"]["length"] - 1
    changed[at]["tokens"][stop - len(text) : stop] = text
    write(folder, changed)
    assert broken(folder) == {"secrets": [f"training_data_train.jsonl:{at + 1}: 1 × {kind}"]}


def test_a_secret_beside_the_rows_is_found_by_its_line(folder):
    secret = planted.KINDS["GITHUB_TOKEN"](Random("beside")).text
    path = folder / "signatures.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["signature"] += f" = {secret}"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sign(folder)
    assert broken(folder) == {"secrets": ["signatures.jsonl:3: 1 × GITHUB_TOKEN"]}


def test_a_secret_in_a_message_is_found(folder):
    secret = planted.KINDS["GITHUB_TOKEN"](Random("message")).text
    commit = next(row["metadata"]["commit"] for row in rows(folder) if "commit_message" in row["metadata"])
    for split in SPLITS:
        changed = rows(folder, split)
        for row in changed:
            if row["metadata"]["commit"] == commit and "commit_message" in row["metadata"]:
                row["metadata"]["commit_message"] += secret
        write(folder, changed, split)
    found = broken(folder)
    assert found.keys() == {"secrets"}
    assert {line.partition(": ")[2] for line in found["secrets"]} == {"1 × GITHUB_TOKEN"}


def swap(row, text, tokenizer):
    """Other text in the place of a row's own, which ends in it."""
    about = row["metadata"]
    tokens = [*row["tokens"][: about.get("context", 0)], *text, tokenizer.end_id]
    about["length"] = len(tokens)
    row["tokens"] = [*tokens, *[tokenizer.pad_id] * (about["window_size"] - len(tokens))]


def base_of(folder, split, size=512):
    """Numbers and texts of the longest files that stand in one row."""
    every = rows(folder, split)
    there = [(at, row["tokens"][: row["metadata"]["length"] - 1]) for at, row in enumerate(every)
             if alone(row) and row["metadata"]["augmentation_type"] == "base" and row["metadata"]["window_size"] == size]  # fmt: skip
    return sorted(there, key=lambda one: -len(one[1]))


def test_a_canary_in_two_splits_is_found(folder, tokenizer):
    canary = encoded(tokenizer, "\n# canary GUID 26b5c67b-86a1-4b4d-9d2f-a9c1\n")
    for split in ("val", "train"):
        changed = rows(folder, split)
        at, text = base_of(folder, split)[-1]
        swap(changed[at], [*text, *canary][-400:], tokenizer)
        write(folder, changed, split)
    what = "canary 26b5c67b86a14b4d9d2fa9c1 is in val too"
    assert broken(folder) == {"leak": [f"training_data_train.jsonl:{at + 1}: {what}"]}


def test_a_held_out_file_that_was_copied_and_edited_is_found(folder, tokenizer):
    held, text = base_of(folder, "val")[0]
    changed = rows(folder)
    at, own = base_of(folder, "train")[0]
    swap(changed[at], [*text[: len(text) * 8 // 10], *own][:500], tokenizer)
    write(folder, changed)
    found = broken(folder)
    assert found.keys() == {"near_files", "overlap"}  # as it is held out with its copy, chance would not show it
    assert found["near_files"][0].startswith(f"training_data_val.jsonl:{held + 1}: ")
    assert found["near_files"][0].endswith(f" in train (training_data_train.jsonl:{at + 1})")


@pytest.mark.parametrize("wrap", ["commented out with //", "numbered listing", "notebook", "HTML with a tag per line"])
def test_a_held_out_file_that_was_copied_with_something_added_to_every_line_is_found(folder, tokenizer, wrap):
    held, text = next((at, text) for at, text in base_of(folder, "val") if len(text) < 220)
    changed = rows(folder)
    at, _ = base_of(folder, "train")[0]
    copy = encoded(tokenizer, WRAPS[wrap](tokenizer.decode(np.array(text)).decode()))
    swap(changed[at], copy[:511], tokenizer)
    write(folder, changed)
    found = broken(folder)
    assert found.keys() == {"near_files"}
    assert found["near_files"][0].startswith(f"training_data_val.jsonl:{held + 1}: ")
    assert found["near_files"][0].endswith(f" in train (training_data_train.jsonl:{at + 1})")


def test_windows_of_held_out_code_among_variations_are_found(folder, tokenizer):
    taken = [text for split in ("val", "test") for _, text in base_of(folder, split)]
    changed = rows(folder)
    kinds = {"ast_based", "error_patterns", "type_annotations", "cross_file_context"}
    places = [at for at, row in enumerate(changed) if alone(row) and row["metadata"]["augmentation_type"] in kinds]
    for at, text in zip(places, taken, strict=False):
        room = changed[at]["metadata"]["window_size"] - changed[at]["metadata"].get("context", 0) - 1
        swap(changed[at], text[len(text) // 8 :][:room], tokenizer)
    write(folder, changed)
    found = broken(folder)
    assert found.keys() == {"overlap"}
    assert "of held-out 32-token runs are in training; of files held out at random" in found["overlap"][0]


@pytest.mark.parametrize("with_repository", [False, True])
def test_an_edit_that_shows_held_out_lines_is_found(folder, tokenizer, repo, with_repository):
    (_, text), *_ = base_of(folder, "val")
    changed = rows(folder)
    at = first(changed, lambda row: alone(row) and row["metadata"]["augmentation_type"] == "git_diff"
               and row["metadata"]["window_size"] == 512)  # fmt: skip
    swap(changed[at], text[: 500 - changed[at]["metadata"]["context"]], tokenizer)
    write(folder, changed)
    found = broken(folder, Repo.open(repo) if with_repository else None)
    assert found.keys() - {"overlap"} == {"held_out_lines"} | (WITHOUT_SOURCE if with_repository else set())
    assert found["held_out_lines"][0].startswith(f"training_data_train.jsonl:{at + 1}: ")
    assert "lines that only held-out code has" in found["held_out_lines"][0]


@pytest.mark.parametrize("wrap", ["commented out with //", "numbered listing", "quoted mail", "C string table"])
def test_an_edit_that_shows_held_out_lines_with_something_added_is_found(folder, tokenizer, wrap):
    (_, text), *_ = base_of(folder, "val")
    changed = rows(folder)
    at = first(changed, lambda row: alone(row) and row["metadata"]["augmentation_type"] == "git_diff"
               and row["metadata"]["window_size"] == 512)  # fmt: skip
    copy = encoded(tokenizer, WRAPS[wrap](tokenizer.decode(np.array(text)).decode()))
    swap(changed[at], copy[: 500 - changed[at]["metadata"]["context"]], tokenizer)
    write(folder, changed)
    found = broken(folder)
    assert found.keys() - {"overlap"} == {"held_out_lines"}
    assert found["held_out_lines"][0].startswith(f"training_data_train.jsonl:{at + 1}: ")


def test_a_context_that_shows_a_held_out_file_is_found(folder, tokenizer):
    held = rows(folder, "val")[0]["metadata"]["source_file"]
    changed = rows(folder)
    at = first(changed, lambda row: alone(row) and row["metadata"]["augmentation_type"] == "cross_file_context")
    row = changed[at]
    stop = row["tokens"].index(tokenizer.control_token_ids("<file_sep>")[0], 1)
    newline = encoded(tokenizer, "\n")[0]
    cut = row["tokens"].index(newline, 1, stop) if newline in row["tokens"][1:stop] else stop
    head = [row["tokens"][0], *encoded(tokenizer, f"{held}\n"), *row["tokens"][cut + 1 : row["metadata"]["context"]]]
    text = row["tokens"][row["metadata"]["context"] : row["metadata"]["length"] - 1]
    row["metadata"]["context"] = len(head)
    row["tokens"] = [*head, *row["tokens"]]
    swap(row, text, tokenizer)
    write(folder, changed)
    assert broken(folder)["held_out_lines"] == [
        f"training_data_train.jsonl:{at + 1}: its context shows {held}, which is in val"
    ]


def test_the_certificate_is_data(good, repo):
    def certificate():
        return {each.check: each.certificate for each in check(good, Repo.open(repo)) if each.certificate}

    told = certificate()
    assert told.keys() == {"leak", "near_files", "overlap", "held_out_lines"}
    assert told["leak"]["files"]["held_out"] > 0 == told["leak"]["files"]["crossing"]
    assert 0 < told["near_files"]["compared"] <= told["near_files"]["files"]
    assert len(told["overlap"]["draws"]) == 20
    assert 0 <= told["overlap"]["without_changes"] <= told["overlap"]["overlap"] <= 1
    assert told["held_out_lines"]["changes"] > told["held_out_lines"]["changes_with_a_line"] == 0
    assert json.loads(json.dumps(told)) == told
    assert certificate() == told


def several(changed):
    """Numbers of rows of one file of several windows, in their order."""
    number = first(
        changed, lambda row: row["metadata"]["total_chunks"] > 1 and row["metadata"]["augmentation_type"] == "base"
    )
    sample = changed[number]["metadata"]["sample"]
    there = [at for at, row in enumerate(changed) if row["metadata"]["sample"] == sample]
    return sorted(there, key=lambda at: changed[at]["metadata"]["token_start"])


def test_a_shifted_window_is_found(folder):
    changed = rows(folder)
    at = several(changed)[1]
    changed[at]["metadata"]["token_start"] += 1
    write(folder, changed)
    found = broken(folder)
    assert found.keys() == {"texts"}
    assert "other rows of its sample, as training_data_train.jsonl:" in found["texts"][0]
    assert found["texts"][0].endswith("disagree")


def test_a_token_that_other_rows_show_otherwise_is_found(folder):
    changed = rows(folder)
    row = changed[several(changed)[1]]
    row["tokens"][0] = 300 if row["tokens"][0] != 300 else 301
    write(folder, changed)
    assert broken(folder).keys() == {"texts"}


@pytest.mark.parametrize(("byte", "what"), [(0, "its text has a NUL"), (0xFF, "its text is not UTF-8")])
def test_what_is_no_text_is_found(folder, tokenizer, byte, what):
    token = next(at for at in range(300) if tokenizer.decode([at]) == bytes([byte]))
    changed = rows(folder)
    at = first(changed, alone)
    changed[at]["tokens"][changed[at]["metadata"]["length"] - 4] = token
    write(folder, changed)
    found = broken(folder)
    assert found.keys() == {"texts"}
    assert found["texts"][0].startswith(f"training_data_train.jsonl:{at + 1}: {what}")


def other(row, place, tokenizer):
    """Another letter at a place of a row."""
    letters = [encoded(tokenizer, letter)[0] for letter in "qz"]
    row["tokens"][place] = next(letter for letter in letters if letter != row["tokens"][place])


@pytest.mark.parametrize("kind", ["base", "cross_file_context", "temporal_context", "git_diff"])
def test_a_text_that_is_not_in_the_repository_is_found(folder, tokenizer, repo, kind):
    changed = rows(folder)
    at = first(changed, lambda row: alone(row) and row["metadata"]["augmentation_type"] == kind)
    other(changed[at], changed[at]["metadata"]["length"] - 5, tokenizer)
    write(folder, changed)
    assert broken(folder) == {}
    found = broken(folder, Repo.open(repo))
    assert found.keys() == {"source"}
    assert found["source"][0].startswith(f"training_data_train.jsonl:{at + 1}: ")


def test_a_masked_text_that_is_not_in_the_repository_is_found(folder, tokenizer, repo):
    changed = rows(folder)
    at = first(changed, lambda row: "hole" in row["metadata"] and row["metadata"]["total_chunks"] == 1)
    other(changed[at], changed[at]["metadata"]["length"] - 2, tokenizer)
    write(folder, changed)
    assert broken(folder, Repo.open(repo)).keys() == {"source"}


@pytest.mark.parametrize("mark", ["<commit_before>", "<commit_msg>"])
def test_a_change_that_no_commit_made_is_found(folder, tokenizer, repo, mark):
    changed = rows(folder)
    number, marks = tokenizer.control_token_ids(mark)[0], set(tokenizer.control_tokens)

    def shown(row):
        return row["tokens"][row["tokens"].index(number) + 1 :][:2]

    at = first(
        changed,
        lambda row: row["metadata"]["augmentation_type"] == "git_diff" and marks.isdisjoint(shown(row)),
    )
    other(changed[at], changed[at]["tokens"].index(number) + 1, tokenizer)
    write(folder, changed)
    assert broken(folder, Repo.open(repo)).keys() == {"source"}


def test_a_change_without_a_message_of_its_own_is_found(folder, tokenizer, repo):
    changed = rows(folder)
    at = first(changed, lambda row: row["metadata"]["augmentation_type"] == "git_diff")
    message = changed[at]["tokens"].index(tokenizer.control_token_ids("<commit_msg>")[0])
    changed[at]["tokens"][message] = encoded(tokenizer, "x")[0]
    write(folder, changed)
    found = broken(folder, Repo.open(repo))
    assert found["source"] == [f"training_data_train.jsonl:{at + 1}: its head is not whole"]
    assert found.keys() <= {"source", "controls", "diffs"}


def test_another_repository_is_no_source(good, repo_maker):
    other = Repo.open(repo_maker({"a.py": "x = 1\n"}))
    (told,) = (each for each in check(good, other) if each.check == "source")
    assert told.skipped
    assert "not where the dataset was made" in told.figure


SAID = [("language", "text"), ("blob", "0" * 40), ("role", "utility"), ("commit", None)]


@pytest.mark.parametrize(("key", "value"), SAID)
def test_a_lie_about_a_file_is_found(folder, repo, key, value):
    every = {split: rows(folder, split) for split in SPLITS}
    about = every["train"][several(every["train"])[0]]["metadata"]
    recipe = Recipe.load(folder / "recipe.yaml")
    former = about["role"]
    if key == "commit":  # another one of the same day
        there = {
            row["metadata"]["commit"] for row in every["train"] if row["metadata"]["age_days"] == about["age_days"]
        }
        value = next(iter(there - {about["commit"]}), "0" * 40)
    for row in every["train"]:
        if row["metadata"]["source_file"] == about["source_file"]:
            row["metadata"][key] = value
            if key == "role":  # the weight and all else follows from the lie
                row["metadata"].update(priority="medium", is_core=False, is_test=False)
                row["metadata"]["weight"] *= recipe.weigh.utility / getattr(recipe.weigh, former)
    write(folder, every["train"])
    found = broken(folder, Repo.open(repo))
    assert "origins" in found
    assert found.keys() <= {"origins", "source", "commits", "ages", "signatures", "dependency_graph", "metadata"}
    assert f"{key} {value!r}, not " in found["origins"][0]


def context(folder, tokenizer):
    """The rows, the number of one with a context of other files, and the places where their paths and lines end."""
    changed = rows(folder)
    newline = encoded(tokenizer, "\n")[0]
    for at, row in enumerate(changed):
        head = row["tokens"][: row["metadata"].get("context", 0)]
        ends = [place for place, token in enumerate(head) if token == newline]
        if alone(row) and row["metadata"]["augmentation_type"] == "cross_file_context" and len(ends) > 2:
            return changed, at, ends
    raise AssertionError


def test_a_context_that_shows_what_no_file_declares_is_found(folder, tokenizer, repo):
    changed, at, ends = context(folder, tokenizer)
    other(changed[at], ends[1] - 1, tokenizer)
    write(folder, changed)
    found = broken(folder, Repo.open(repo))
    assert found.keys() == {"contexts"}
    assert found["contexts"][0].startswith(f"training_data_train.jsonl:{at + 1}: ")
    assert found["contexts"][0].endswith(" does not declare all that is shown of it")


def test_a_context_of_a_file_that_is_not_imported_is_found(folder, tokenizer, repo):
    changed, at, ends = context(folder, tokenizer)
    other(changed[at], ends[0] - 1, tokenizer)
    write(folder, changed)
    found = broken(folder, Repo.open(repo))
    assert found.keys() == {"contexts"}
    assert f"{changed[at]['metadata']['source_file']} does not import " in found["contexts"][0]


def test_a_context_whose_file_is_another_is_found(folder, tokenizer, repo):
    changed, at, ends = context(folder, tokenizer)
    other(changed[at], ends[-1] - 1, tokenizer)
    write(folder, changed)
    assert broken(folder, Repo.open(repo)) == {
        "contexts": [f"training_data_train.jsonl:{at + 1}: its file does not stand last"]
    }


@pytest.mark.parametrize(
    ("kind", "missing", "pattern"),
    [("git_diff", "", "f(bma)+"), ("git_diff", "bma", "f"), ("git_diff", "fa", "(bm)+"), ("temporal_context", "bma", "f"),
     ("temporal_context", "f", "(bm)+a"), ("cross_file_context", "f", ""), ("cross_file_context", "bma", "ff+")],
)  # fmt: skip
def test_a_tokenizer_may_lack_marks(kind, missing, pattern):
    assert without_letters(PREFIX_PATTERNS[kind], missing) == pattern
