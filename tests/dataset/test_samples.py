"""Rows put together again are the tokens that they were cut from."""

from __future__ import annotations

import numpy as np
import pytest

import finished
from git_starcoder.dataset import Row
from git_starcoder.dataset.samples import UNKNOWN_TOKEN, RebuiltSamples, unmask_row
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS


@pytest.fixture
def dataset(tmp_path):
    made = finished.toy(tmp_path / "out", size=64, stride=16)
    (made.folder / "recipe.yaml").write_text(Recipe().to_yaml())
    return made


def add(samples, split, number, row):
    return samples.add(split, number, row.metadata, np.array(row.tokens, np.uint32), max(row.tokens))


def put(dataset, wanted=lambda number: True):  # noqa: ARG005
    samples = RebuiltSamples(dataset)
    for split in SPLITS:
        for number, row in enumerate(dataset.rows(split)):
            if wanted(number):
                assert add(samples, split, number, row).problem == ""
    return samples


def test_every_text_comes_back(dataset):
    samples = put(dataset)
    texts = {sample.metadata["source_file"]: samples.full_text(sample) for sample in samples.by_id.values()}
    assert texts == {f"src/file_{seed}.py": finished.source(seed) for seed in range(25)}


def test_what_no_row_shows_is_unknown(dataset):
    samples = put(dataset, lambda number: number % 9 == 0)
    sample = next(one for one in samples.by_id.values() if len(list(one.token_runs())) > 1)
    text = finished.source(int(sample.metadata["source_file"].partition("_")[2].removesuffix(".py")))
    assert samples.full_text(sample) is None
    assert UNKNOWN_TOKEN in sample.tokens[: sample.length]
    assert all(part in text for part in samples.run_texts(sample))


def spoiled(dataset, **changed):
    row = next(dataset.rows("train"))
    samples = put(dataset)
    return add(samples, "val", 10**6, Row(row.tokens, row.metadata | changed)).problem


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"length": 65}, "outside the vocabulary, or fewer than its length"),
        ({"hole": [3, 3]}, "cannot have the hole [3, 3]"),
        ({"hole": [3, 63]}, "cannot have the hole [3, 63]"),
        ({"hole": "x"}, "cannot have the hole x"),
        ({"context": 65}, "with a context of 65 tokens"),
        ({"token_start": -1}, "start at token -1"),
        ({"token_start": 10**15}, "start at token 1000000000000000"),
        ({"split": "val"}, "its split, mask or context differs from training_data_train.jsonl:"),
    ],
)
def test_a_row_that_cannot_be_is_told_and_left(dataset, changed, what):
    assert what in spoiled(dataset, **changed)


@pytest.mark.parametrize("hole", [(0, 2), (2, 5), (5, 9), (0, 9)])
def test_a_masked_row_gives_its_text(hole):
    text = np.arange(100, 109, dtype=np.int32)
    start, stop = hole
    row = np.concatenate(([1], text[:start], [2], text[stop:], [3], text[start:stop], [0]))
    assert unmask_row(row, start, stop).tolist() == text.tolist()
