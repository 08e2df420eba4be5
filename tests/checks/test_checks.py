"""Every check passes on a good dataset and is shown to fail on a spoiled one."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from git_starcoder import checks
from git_starcoder.checks import MAX_KEPT_FINDINGS, Check, check, check_classes, check_names
from git_starcoder.dataset import METADATA_FILE, Dataset
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import DatasetError
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS
from toy import code_base

MODULES = sorted(Path(checks.__path__[0]).glob("*.py"))
SMALL = ("window.size=64", "window.vocab_size=600")


@pytest.fixture(scope="module")
def good(repo_maker, tmp_path_factory):
    repo = repo_maker({**code_base(80), "data.bin": b"\0\1\2"})
    with LocalEngine(1) as engine:
        return build(repo, Recipe.load("effectiveness", SMALL), tmp_path_factory.mktemp("good") / "out", engine=engine)


@pytest.fixture
def folder(good, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(good.folder, tmp_path / "spoiled")


def rows(folder, split):
    return [json.loads(line) for line in (folder / f"training_data_{split}.jsonl").read_text().splitlines()]


def write(folder, split, changed):
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in changed)
    (folder / f"training_data_{split}.jsonl").write_text(text)


def edit(folder, name, change):
    """Change a JSON file by a function."""
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))


def outcome(folder, key):
    return next(each for each in check(Dataset.open(folder)) if each.check == key)


def findings(folder, key):
    """What one check finds, and its figure."""
    told = outcome(folder, key)
    return [f"{finding.where}: {finding.what}" for finding in told.findings], told.figure


@pytest.mark.parametrize("name", check_names())
def test_every_check_keeps_the_contract(name):
    check_class = check_classes()[name]
    assert issubclass(check_class, Check)
    assert check_class.name == name
    assert check_class.promise.endswith(".")
    assert check_class.__doc__
    assert check_class.finish is not Check.finish


def test_names_of_checks_are_unique_and_rows_come_first():
    names = re.findall(r"^    name = \"(\w+)\"$", "".join(map(Path.read_text, MODULES)), re.MULTILINE)
    assert sorted(names) == sorted(check_names())
    assert check_names() == ["rows", *sorted(set(names) - {"rows"})]


def test_a_check_in_a_new_module_is_found(tmp_path, monkeypatch):
    module = (
        "from git_starcoder.checks import Check\n\n\nclass NewCheck(Check):\n    name = 'new'\n    promise = 'New.'\n"
    )
    (tmp_path / "new_subject.py").write_text(module)
    monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "git_starcoder.checks.new_subject", raising=False)
    found = check_classes.__wrapped__()
    assert list(found) == ["rows", *sorted({"new", *check_names()} - {"rows"})]
    assert found["new"].promise == "New."


def test_a_good_dataset_keeps_every_promise(good):
    outcomes = list(check(good))
    assert [each.check for each in outcomes] == check_names()
    assert not any(each.finding_count or each.findings for each in outcomes)
    assert all(each.figure and each.promise for each in outcomes)
    skipped = {each.check: each.figure for each in outcomes if each.skipped}
    assert skipped.keys() >= {"scales", "diffs", "source"}  # which this recipe has not
    assert skipped["scales"] == "the recipe has one window size"


def test_a_row_in_two_splits_is_a_leak(folder):
    test, train = rows(folder, "test"), rows(folder, "train")
    train[3]["tokens"] = test[0]["tokens"]
    write(folder, "train", train)
    assert findings(folder, "leak")[0] == ["training_data_train.jsonl:4: row is in test too"]


@pytest.mark.parametrize(("key", "word"), [("source_file", "file"), ("group", "group")])
def test_a_file_or_group_in_two_splits_is_a_leak(folder, key, word):
    val, train = rows(folder, "val"), rows(folder, "train")
    name = val[0]["metadata"][key]
    train[0]["metadata"][key] = train[5]["metadata"][key] = name
    write(folder, "train", train)
    assert findings(folder, "leak")[0] == [f"training_data_train.jsonl:1: {word} {name} is in val too"]


def test_a_leak_between_val_and_test_is_found(folder):
    val, test = rows(folder, "val"), rows(folder, "test")
    test[0]["tokens"] = val[0]["tokens"]
    write(folder, "test", test)
    assert findings(folder, "leak")[0] == ["training_data_test.jsonl:1: row is in val too"]


def test_a_duplicate_names_the_row_before_it(good, folder):
    train = rows(folder, "train")
    train[7]["tokens"] = train[2]["tokens"]
    write(folder, "train", train)
    found, figure = findings(folder, "duplicates")
    assert found == ["training_data_train.jsonl:8: the same tokens as training_data_train.jsonl:3"]
    assert figure != findings(good.folder, "duplicates")[1]


@pytest.mark.parametrize("settings", [(), ("window.header=null",)])
def test_repeats_that_the_recipe_keeps_are_no_finding_but_those_of_two_splits_are(repo_maker, tmp_path, settings):
    copies = dict.fromkeys(("one.txt", "another.txt"), "A text of one window.\nWindows of two files are equal.\n")
    recipe = Recipe.load("natural", (*SMALL, *settings, "dedup.exact=false"))
    dataset = build(repo_maker(code_base(40) | copies), recipe, tmp_path / "out")
    ids = [metadata["row_id"] for split in SPLITS for metadata in dataset.row_metadata(split)]
    assert len(set(ids)) < len(ids)
    told = list(check(dataset))
    assert not [each.check for each in told if each.finding_count]
    figures = {each.check: each.figure for each in told}
    assert figures["duplicates"] == f"{len(set(ids))} of {len(ids)} rows are unique"
    test, train = rows(dataset.folder, "test"), rows(dataset.folder, "train")
    held = test[0]["metadata"]
    own = next(row for row in train if row["metadata"]["source_file"] != held["source_file"])
    own_context, context = own["metadata"].get("context", 0), held.get("context", 0)
    text = test[0]["tokens"][context : held["length"]][: 64 - own_context]
    for row, start in ((own, own_context), (test[0], context)):  # the same text behind two headers
        row["tokens"] = [*row["tokens"][:start], *text, *[0] * (64 - start - len(text))]
        row["metadata"]["length"] = start + len(text)
    write(dataset.folder, "train", train)
    write(dataset.folder, "test", test)
    broken = {each.check: each.findings for each in check(Dataset.open(dataset.folder)) if each.finding_count}
    assert "row is in test too" in {finding.what for finding in broken["leak"]}
    assert any(finding.what.startswith("the same tokens as training_data_test") for finding in broken["duplicates"])


def test_shares_that_are_off_are_found(folder):
    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace("train: 0.85\n  val: 0.1\n", "train: 0.55\n  val: 0.4\n"))
    found, _ = findings(folder, "split_ratio")
    assert [line.partition(":")[0] for line in found] == ["training_data_train.jsonl", "training_data_val.jsonl"]


def test_few_groups_may_be_a_little_off_and_many_may_not(folder):
    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace("train: 0.85\n  val: 0.1\n", "train: 0.83\n  val: 0.12\n"))
    assert findings(folder, "split_ratio")[0] == []
    for split in SPLITS:
        changed = rows(folder, split)
        for number, row in enumerate(changed):
            row["metadata"]["group"] = f"{split} {number}"
        write(folder, split, changed)
    assert findings(folder, "split_ratio")[0] != []


def test_a_stated_fallback_is_skipped_with_its_reason(folder):
    edit(folder, "manifest.json", lambda manifest: manifest["steps"][2]["figures"].update(fallback="uneven"))
    told = outcome(folder, "split_ratio")
    assert (told.skipped, told.finding_count) == (True, 0)
    assert "uneven" in told.figure


MALFORMED = [
    ("rows", lambda row: row["tokens"].__setitem__(0, -1), "tokens are not a list of token ids"),
    ("rows", lambda row: row["tokens"].__setitem__(0, 1.5), "tokens are not a list of token ids"),
    ("rows", lambda row: row.update(tokens="abc"), "tokens are not a list of token ids"),
    ("rows", lambda row: row.update(metadata=[1]), "metadata is not an object"),
    ("rows", lambda row: row["metadata"].pop("weight"), "no weight"),
    ("rows", lambda row: row["metadata"].update(weight="3"), "weight is '3'"),
    ("rows", lambda row: row["metadata"].update(is_core=1), "is_core is 1"),
    ("rows", lambda row: row["metadata"].update(length=True), "length is True"),
    ("rows", lambda row: row["metadata"].update(commit_message=[]), "commit_message is []"),
    ("rows", lambda row: row["metadata"].update(seq_id=99), "seq_id is 99, not 4"),
    ("rows", lambda row: row["metadata"].update(split="test"), "split is 'test'"),
    ("rows", lambda row: row["metadata"].update(chunk_index=9, total_chunks=9), "chunk 9 of 9"),
    ("lengths", lambda row: row["tokens"].append(5), "65 tokens in a window of 64"),
    ("lengths", lambda row: row["tokens"].__setitem__(0, 10**6), "token 1000000 of a vocabulary of"),
    ("lengths", lambda row: row["metadata"].update(length=0), "length 0 in a window of 64"),
    ("lengths", lambda row: row["metadata"].update(length=65), "length 65 in a window of 64"),
    ("lengths", lambda row: row["metadata"].update(length=1), "something else than padding after token 1"),
    ("lengths", lambda row: row["metadata"].update(context=64), "a context of 64 tokens in a row of"),
    ("rows", lambda row: row["metadata"].update(hole=[1, 2, 3]), "hole is [1, 2, 3]"),
    ("rows", lambda row: row["metadata"].update(hole=[1, 2.0]), "hole is [1, 2.0]"),
    ("rows", lambda row: row["metadata"].update(scored=[1, 2, 3]), "scored is [1, 2, 3]"),
    ("rows", lambda row: row["metadata"].update(scored=["1", "2"]), "scored is ['1', '2']"),
    ("context_window", lambda row: row["metadata"].update(window_size=63), "window_size 63 is not one of [64]"),
    ("context_window", lambda row: row["metadata"].update(token_start=10**6), "window "),
    (
        "techniques",
        lambda row: row["metadata"].update(augmentation_type="magic"),
        "augmentation_type 'magic' is not in",
    ),
    ("diffs", lambda row: row["metadata"].update(is_evolution=True), "is_evolution in a row of "),
    ("ages", lambda row: row["metadata"].update(age_days=-1), "-1 days old"),
    ("commits", lambda row: row["metadata"].update(commit="HEAD"), "commit is 'HEAD'"),
]


@pytest.mark.parametrize(("key", "spoil", "what"), MALFORMED, ids=[what for *_, what in MALFORMED])
def test_a_malformed_row_is_found(folder, key, spoil, what):
    train = rows(folder, "train")
    spoil(train[4])
    write(folder, "train", train)
    found, _ = findings(folder, key)
    assert any(line.startswith(f"training_data_train.jsonl:5: {what}") for line in found), found


@pytest.mark.parametrize("line", [b"not json\n", b"[1]\n", b'{"tokens":[1]}\n', b"\xff\n", b"\n"])
def test_a_line_that_is_no_row_is_found_and_the_others_are_skipped(folder, line):
    path = folder / "training_data_val.jsonl"
    path.write_bytes(line + path.read_bytes())
    outcomes = list(check(Dataset.open(folder)))
    assert outcomes[0].check == "rows"
    assert outcomes[0].finding_count == 1
    reading = {name for name, check_class in check_classes().items() if check_class.needs_rows}
    assert {each.check for each in outcomes if each.skipped} >= reading - {"rows"}
    assert {"files", "digests"} <= {each.check for each in outcomes if not each.skipped}


def test_a_missing_file_is_found(folder):
    (folder / "training_data_test.jsonl").unlink()
    assert outcome(folder, "rows").finding_count == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda manifest: manifest["steps"][0].update(seen=7), "manifest.json, read: 7 seen, but"),
        (
            lambda manifest: manifest["steps"][1].update(seen=7, kept=7, dropped={}),
            "manifest.json: analyse saw 7, but was handed ",
        ),
        (lambda manifest: manifest["steps"].pop(), "manifest.json: the steps are read, analyse"),
        (lambda manifest: manifest["files"]["training_data_val.jsonl"].update(rows=1), "training_data_val.jsonl: "),
    ],
)
def test_counts_that_do_not_add_up_are_found(folder, change, what):
    edit(folder, "manifest.json", change)
    found, _ = findings(folder, "counts")
    assert any(line.startswith(what) for line in found), found


def test_a_drop_without_its_line_is_found(folder):
    lines = (folder / "drops.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "drops.jsonl").write_bytes(b"".join(lines[1:]))
    drop = json.loads(lines[0])
    (found,) = findings(folder, "counts")[0]
    assert found.startswith(f"manifest.json, {drop['step']}: ")
    (folder / "drops.jsonl").write_bytes(b"{}\n")
    assert findings(folder, "counts")[0][0] == "drops.jsonl:1: not a drop: no step"


def test_a_row_too_few_is_found(folder):
    write(folder, "test", rows(folder, "test")[:-1])
    found, _ = findings(folder, "counts")
    assert sum("rows, but" in line for line in found) == 2
    assert sum("rows in all, but the files hold" in line for line in found) == 2


def damage_lines(folder, name, key, value):
    lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    (folder / name).write_text("".join(json.dumps({**line, key: value}) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (lambda folder: damage_lines(folder, "drops.jsonl", "things", "many"), {"counts"}),
        (lambda folder: damage_lines(folder, "signatures.jsonl", "split", None), {"signatures"}),
        (
            lambda folder: edit(folder, "manifest.json", lambda said: said["steps"][0]["figures"].update(changes="x")),
            {"counts"},
        ),
        (
            lambda folder: edit(folder, METADATA_FILE, lambda said: said.update(augmentation_techniques=["base"])),
            {"techniques"},
        ),
        (
            lambda folder: edit(folder, METADATA_FILE, lambda said: said.update(git_commits_analyzed="x")),
            {"commits", "metadata"},
        ),
    ],
    ids=["drops", "signatures", "steps", "techniques", "commits"],
)
def test_a_check_that_cannot_read_the_dataset_is_broken(folder, damage, names):
    damage(folder)
    broken = {each.check for each in check(Dataset.open(folder)) if each.finding_count}
    assert broken - {"digests"} == names


@pytest.mark.parametrize("hook", ["__init__", "check_block", "finish"])
def test_an_error_in_a_check_is_a_finding_that_names_it(good, monkeypatch, hook):
    def fail(*_):
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr(check_classes()["weights"], hook, fail)
    broken = {each.check: each for each in check(good) if each.finding_count}
    assert broken.keys() == {"weights"}
    (finding,) = broken["weights"].findings
    assert finding.what == "damaged: ZeroDivisionError: one two"
    assert finding.where == ("from training_data_val.jsonl:1 on" if hook == "check_block" else "the dataset")


def test_another_byte_is_found(folder):
    path = folder / "training_data_train.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1", b"2", 1))
    (found,) = findings(folder, "digests")[0]
    assert found.startswith("training_data_train.jsonl: has other bytes")


def test_a_missing_or_added_file_is_found(folder):
    (folder / "drops.jsonl").unlink()
    (folder / "tokenizer" / "extra.py").write_text("")
    found, _ = findings(folder, "digests")
    assert found == ["tokenizer/extra.py: is not in the manifest", "drops.jsonl: is missing"]


def test_a_manifest_that_was_edited_is_found(folder):
    def change(manifest):
        data = (folder / "drops.jsonl").read_bytes() + b"{}\n"
        (folder / "drops.jsonl").write_bytes(data)
        import hashlib

        manifest["files"]["drops.jsonl"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    edit(folder, "manifest.json", change)
    assert findings(folder, "digests")[0] == ["manifest.json: its digest is not that of its files"]


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [("weight", 1.25, "weight 1.25, not"), ("priority", "none", "priority none for"), ("role", "nobody", "")],
)
def test_a_wrong_weight_is_found(folder, key, value, what):
    train = rows(folder, "train")
    at = next(at for at, row in enumerate(train) if row["metadata"]["role"] in {"core", "test"})
    train[at]["metadata"][key] = value
    write(folder, "train", train)
    found, _ = findings(folder, "weights")
    assert found
    assert all(line.startswith(f"training_data_train.jsonl:{at + 1}: {what}") for line in found)


def test_flags_that_do_not_say_the_role_are_found(folder):
    train = rows(folder, "train")
    train[0]["metadata"]["is_test"] = not train[0]["metadata"]["is_test"]
    write(folder, "train", train)
    (found,) = findings(folder, "weights")[0]
    assert found.startswith("training_data_train.jsonl:1: is_core or is_test does not say")


def test_shuffled_rows_are_no_curriculum(folder):
    train = rows(folder, "train")
    train[0], train[-1] = train[-1], train[0]
    for number, row in enumerate(train):
        row["metadata"]["seq_id"] = number
    write(folder, "train", train)
    found, _ = findings(folder, "curriculum")
    assert len(found) == MAX_KEPT_FINDINGS
    assert all(line.startswith("training_data_train.jsonl:") for line in found)


def test_a_random_order_has_no_curriculum(folder):
    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace("by: curriculum", "by: random"))
    told = outcome(folder, "curriculum")
    assert (told.skipped, told.figure) == (True, "the recipe wants a random order")


def test_many_findings_are_counted_and_few_are_kept(folder):
    train = rows(folder, "train")
    for row in train:
        row["metadata"]["priority"] = "none"
    write(folder, "train", train)
    told = outcome(folder, "weights")
    assert (told.finding_count, len(told.findings)) == (len(train), MAX_KEPT_FINDINGS)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("manifest.json", lambda values: values.pop("steps")),
        ("manifest.json", lambda values: values.update(files=[])),
        ("manifest.json", lambda values: values["steps"][0].update(dropped=None)),
        ("dataset_metadata.json", lambda values: values.update(context_windows=None)),
        ("dataset_metadata.json", lambda values: values.update(total_sequences="many")),
    ],
)
def test_a_damaged_manifest_is_an_error(folder, name, change):
    edit(folder, name, change)
    with pytest.raises(DatasetError, match="is damaged"):
        list(check(Dataset.open(folder)))
