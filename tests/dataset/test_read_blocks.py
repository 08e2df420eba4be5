"""Rows come the same from one process and from several, and whatever is no row is told with its line."""

from __future__ import annotations

import pytest

import finished
from git_starcoder.dataset.read_blocks import read_blocks
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import DatasetError
from git_starcoder.protocols import Failure


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setattr("git_starcoder.dataset.read_blocks.PART_BYTES", 1 << 12)
    return finished.toy(tmp_path / "out", size=64, stride=16)


def read(dataset, engine=None):
    every = [row for block in read_blocks(dataset, "train", engine) for row in block.rows]
    return [
        (row.index, row.metadata, row.token_ids.tolist(), row.max_token, row.content_hash, row.labels) for row in every
    ]


def test_rows_are_those_of_the_file(dataset):
    rows = [(number, row.metadata, row.tokens) for number, row in enumerate(dataset.rows("train"))]
    found = read(dataset)
    assert [row[:3] for row in found] == rows
    assert [row[3] for row in found] == [max(tokens) for *_, tokens in rows]
    assert len({row[4] for row in found}) == len({tuple(tokens) for *_, tokens in rows})


def test_several_processes_read_the_same(dataset):
    with LocalEngine(2) as engine:
        assert read(dataset, engine) == read(dataset)


@pytest.mark.parametrize(
    ("old", "new"), [(b",", b", "), (b'"metadata":{', b'"metadata":{"more":1e2,'), (b"}}", b'},"more":[]}')]
)
def test_rows_written_otherwise_are_the_same_rows(dataset, old, new):
    path = dataset.folder / "training_data_train.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:40], lines[40].replace(old, new), *lines[41:]]))
    found = read(dataset)
    assert [row[:3] for row in found] == [
        (number, row.metadata, row.tokens) for number, row in enumerate(dataset.rows("train"))
    ]
    assert found[40][5] == ({"more": []} if b'"more":[]' in new else {})


LINES = [
    b"\n", b"{}\n", b"[1]\n", b"\xff\n", b'{"tokens":[1]}', b'{"tokens":[01],"metadata":{}}\n',
    b'{"tokens":[1],"metadata":{},{}}\n', b'{"tokens":[1,],"metadata":{}}\n', b'{"tokens":[1],"metadata":}\n',
]  # fmt: skip


class Broken:
    """An engine whose workers die."""

    jobs = 1

    def map(self, function, tasks, *, limit):  # noqa: ARG002
        return (Failure("crash", function.__name__) for _ in tasks)


def test_what_a_process_could_not_read_is_read_here(dataset):
    assert read(dataset, Broken()) == read(dataset)


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_is_no_row_is_told_by_its_number(dataset, line):
    path = dataset.folder / "training_data_train.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:40]) + line + (b"".join(lines[40:]) if line.endswith(b"\n") else b""))
    with pytest.raises(DatasetError) as plain:
        list(dataset.rows("train"))
    with pytest.raises(DatasetError) as told:
        read(dataset)
    assert (told.value.what, told.value.where) == (plain.value.what, plain.value.where)
    assert told.value.what.startswith("line 41 is not a row")


def test_tokens_that_are_none_have_no_ids(dataset):
    path = dataset.folder / "training_data_train.jsonl"
    path.write_bytes(b'{"tokens":[-1],"metadata":{}}\n{"tokens":"a","metadata":1}\n{"tokens":[],"metadata":{}}')
    found = read(dataset)
    assert [row[1:4] for row in found] == [({}, [], 0), (1, [], 0), ({}, [], 0)]


def test_a_missing_file_is_told(dataset):
    (dataset.folder / "training_data_train.jsonl").unlink()
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        read(dataset)
