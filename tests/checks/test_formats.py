"""Checks of datasets in Parquet, of copies by weight and with labels: good ones pass, spoiled ones do not."""

from __future__ import annotations

import shutil
from random import Random

import pytest

import planted
from git_starcoder.checks import check
from git_starcoder.dataset import Dataset
from git_starcoder.dataset.read_rows import LABEL_COLUMNS, import_pyarrow
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from spoilings import ELITE, Folder
from toy import evolving

FORMATS = {
    "parquet": ("write.format=parquet",),
    "labels": ("write.labels=true",),
    "copies": ("write.copies=true",),
    "parquet, labels": ("write.format=parquet", "write.labels=true"),
}


@pytest.fixture(scope="module")
def repo(repo_maker):
    return Repo.open(repo_maker(evolving(40, 12)))


@pytest.fixture(scope="module")
def made(repo, tmp_path_factory):
    folders = {}
    with LocalEngine(2) as engine:
        for name, options in FORMATS.items():
            out = tmp_path_factory.mktemp("made") / "out"
            folders[name] = build(repo, Recipe.load("elite", (*ELITE, *options)), out, engine=engine).folder
    return folders


@pytest.fixture
def folder(made, tmp_path):
    """Gives a copy to spoil."""
    return lambda name: Folder(shutil.copytree(made[name], tmp_path / "spoiled"))


def found(folder, source=None):
    folder.sign()
    return {each.check: each.findings for each in check(Dataset.open(folder.path), source) if each.finding_count}


@pytest.mark.parametrize("name", FORMATS)
def test_a_good_one_keeps_every_promise(made, repo, name):
    outcomes = list(check(Dataset.open(made[name]), repo))
    assert [(each.check, each.findings) for each in outcomes if each.finding_count] == []
    assert {each.check for each in outcomes if each.skipped} <= {"file_sizes"}


def rewrite(folder, change):
    """Change the columns of the training rows, as lists."""
    pa = import_pyarrow()
    (path,) = (folder.path / "data").glob("train-*")
    table = pa.parquet.read_table(path)
    columns = table.to_pydict()
    change(columns)
    pa.parquet.write_table(pa.table(columns, schema=table.schema), path)


def shift(columns):
    at = next(at for at, text in enumerate(columns["total_chunks"]) if text > 2 and columns["chunk_index"][at] == 1)
    columns["tokens"][at] = [*columns["tokens"][at][1:], 0]


def weigh(columns):
    columns["weight"][3] += 0.5


def confess(column):
    def change(columns):
        at = next(at for at, text in enumerate(columns[column]) if text)
        columns[column][at] += " " + planted.KINDS["GITHUB_TOKEN"](Random("beside")).text

    return change


@pytest.mark.parametrize(
    ("change", "key"),
    [(shift, "texts"), (weigh, "weights"), *((confess(one), "secrets") for one in ("text", "old_contents", "message"))],
)
def test_a_spoiled_row_of_parquet_is_found(folder, change, key):
    spoiled = folder("parquet")
    rewrite(spoiled, change)
    told = found(spoiled)
    assert key in told
    assert told[key][0].where.startswith("data/train-00000-of-00001.parquet:")
    assert told.keys() <= {"texts", "weights", "secrets", "controls", "lengths"}


def test_a_parquet_file_that_is_cut_is_found(folder):
    spoiled = folder("parquet")
    (path,) = (spoiled.path / "data").glob("train-*")
    path.write_bytes(path.read_bytes()[:-100])
    assert found(spoiled).keys() == {"rows"}


@pytest.mark.parametrize("name", ["labels", "parquet, labels"])
@pytest.mark.parametrize("label", LABEL_COLUMNS)
def test_a_wrong_label_is_found(folder, name, label):
    spoiled = folder(name)

    def change(columns):
        columns[label][3][0] += 1

    if name == "labels":
        rows = spoiled.rows()
        rows[3][label][0] += 1
        spoiled.write(rows)
    else:
        rewrite(spoiled, change)
    told = found(spoiled)
    assert told.keys() == {"lengths"}
    assert [(one.where.rpartition(":")[2], one.what) for one in told["lengths"]] == [
        ("4", f"{label} are not those of the tokens")
    ]


def test_a_missing_copy_is_found(folder):
    spoiled = folder("copies")
    rows = spoiled.rows()
    at = next(at for at, row in enumerate(rows) if row["metadata"]["copies"] > 1)
    spoiled.write([*rows[:at], *rows[at + 1 :]])
    spoiled.recount()
    assert "duplicates" in found(spoiled)


def test_a_copy_too_many_is_found(folder):
    spoiled = folder("copies")
    rows = spoiled.rows()
    at = next(at for at, row in enumerate(rows) if row["metadata"]["copies"] > 1)
    spoiled.write([*rows[: at + 1], *rows[at:]])
    spoiled.recount()
    (finding,) = found(spoiled)["duplicates"]
    assert "the same tokens as" in finding.what
