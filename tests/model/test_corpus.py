from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import finished
from git_starcoder.errors import DatasetError
from git_starcoder.model.corpus import Corpus, count_covered
from git_starcoder.text import tokenizer as tokenizers


@pytest.fixture
def dataset(tmp_path):
    return finished.write(tmp_path / "dataset", {"train": {"a.py": finished.source(1), "b.py": finished.source(2, 1)}})


def read(dataset):
    return Corpus.read(dataset, tokenizers.load_tokenizer(dataset.tokenizer_folder))


def spoil(dataset, line, **values):
    """Change a row, or its metadata; None takes a key away."""
    path = dataset.files("train")[0]
    lines = path.read_text().splitlines()
    row = json.loads(lines[line])
    for key, value in values.items():
        within = row if key in row else row["metadata"]
        within[key] = value
        if value is None:
            del within[key]
    lines[line] = json.dumps(row)
    path.write_text("\n".join(lines) + "\n")


def test_rows_are_what_the_file_has(dataset):
    corpus = read(dataset)
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    rows = list(dataset.rows("train"))
    assert len(corpus.content_hashes) == len(rows) == len(set(corpus.content_hashes.tolist()))
    for index, row in enumerate(rows):
        tokens = row.tokens[: row.metadata["length"]]
        starts = row.metadata["token_start"] == 0
        assert corpus.dataset_tokens(index).tolist() == tokens
        assert corpus.input_tokens(index).tolist() == [tokenizer.end_id] * starts + tokens
        assert corpus.ends_text[index] == (tokens[-1] == tokenizer.end_id)
        assert corpus.lengths[index] == len(tokens)
    assert corpus.starts_text.sum() == corpus.ends_text.sum() == 2
    assert corpus.is_plain_text.all()
    assert set(corpus.loss_starts.tolist()) == {1}


def test_context_is_given_and_keeps_a_row_from_being_whole_or_opening(dataset):
    spoil(dataset, 0, context=5, augmentation_type="cross_file_context")
    spoil(dataset, 1, hole=[3, 6])
    corpus = read(dataset)
    assert corpus.is_plain_text.tolist()[:3] == [False, False, True]
    assert not corpus.starts_text[0]
    assert corpus.loss_starts.tolist()[:3] == [5, 1, 1]
    assert np.array_equal(corpus.input_tokens(0), corpus.dataset_tokens(0))


@pytest.mark.parametrize(
    "values",
    [
        {"weight": 0},
        {"weight": -1.0},
        {"weight": None},
        {"weight": "much"},
        {"weight": float("inf")},
        {"row_id": "no number"},
        {"row_id": None},
        {"length": None},
        {"length": 0},
        {"token_start": None},
        {"context": -3},
        {"context": "some"},
        {"tokens": [1, "two", 3]},
        {"tokens": [1, None, 3]},
        {"tokens": [[1], [2]]},
        {"tokens": [1, 10**30]},
        {"tokens": [1, 512]},
        {"tokens": [-1, 5]},
        {"tokens": 7},
        {"tokens": [1.5, 2.0]},
        {"tokens": [True, False]},
        {"tokens": []},
    ],
)
def test_a_damaged_row_is_one_line_that_names_it(dataset, values):
    spoil(dataset, 4, **values)
    with pytest.raises(DatasetError) as caught:
        read(dataset)
    assert "\n" not in caught.value.what
    assert "5" in f"{caught.value.what} {caught.value.where}"


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30))))
def test_tokens_in_several_rows_count_once(rows):
    places = [(start, start + length, number) for number, (start, length) in enumerate(rows)]
    assert count_covered(places) == len({token for start, stop, _ in places for token in range(start, stop)})
