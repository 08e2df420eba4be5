"""Checks of what rows say, on an elite dataset: each is shown to fail where it must, and alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from random import Random

import orjson
import pytest

import planted
from git_starcoder.build import build
from git_starcoder.checks import check
from git_starcoder.dataset import Dataset
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.recipe import Recipe
from git_starcoder.text import tokenizer as tokenizers
from toy import evolving

OPTIONS = (
    "window.vocab_size=800", "window.size=[64, 512]", "augment.token_masking=0.3", "augment.temporal_context=0.9",
    "augment.cross_file_context=0.9",
)  # fmt: skip
SPLITS = ("train", "val", "test")
WITHOUT_SOURCE: set[str] = set()


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
    return tokenizers.load(good.tokenizer_folder)


def rows(folder, split="train"):
    return [json.loads(line) for line in (folder / f"training_data_{split}.jsonl").read_text().splitlines()]


def write(folder, changed, split="train"):
    """Rows in the place of those that were there, and a manifest that says so."""
    lines = (json.dumps(row, separators=(",", ":")) + "\n" for row in changed)
    (folder / f"training_data_{split}.jsonl").write_text("".join(lines))
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
        if each.found
    }


def alone(row):
    """Whether no other row shows the text of this one."""
    about = row["metadata"]
    return about["total_chunks"] == 1 and "hole" not in about


def first(changed, wanted):
    return next(at for at, row in enumerate(changed) if wanted(row))


def test_a_good_dataset_keeps_every_promise_with_its_repository(good, repo):
    outcomes = list(check(good, Repo.open(repo)))
    assert [(each.check, each.findings) for each in outcomes if each.found or each.skipped] == []


def test_without_the_repository_what_needs_it_is_skipped(good):
    assert {each.check for each in check(good) if each.skipped} == WITHOUT_SOURCE
    assert not any(each.found for each in check(good))


MARKS = ("<|endoftext|>", "<fim_prefix>", "<commit_after>", "<file_sep>", "<fim_pad>", "<repo_name>")


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("kind", ["base", "git_diff"])
def test_a_control_token_in_the_text_is_found(folder, tokenizer, mark, kind):
    changed = rows(folder)
    at = first(changed, lambda row: alone(row) and row["metadata"]["augmentation_type"] == kind)
    place = changed[at]["metadata"]["length"] - 3
    changed[at]["tokens"][place] = tokenizer.mark(mark)[0]
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
    sample, mark = changed[number]["metadata"]["sample"], tokenizer.mark("<commit_msg>")[0]
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
    prefix, _, suffix = tokenizer.fim
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
    changed = rows(folder)
    at = first(changed, lambda row: "commit_message" in row["metadata"])
    changed[at]["metadata"]["commit_message"] += secret
    write(folder, changed)
    found = broken(folder)
    assert found == {"secrets": [f"training_data_train.jsonl:{at + 1}: 1 × GITHUB_TOKEN"]}
