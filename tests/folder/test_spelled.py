from __future__ import annotations

import numpy as np
import orjson
import pytest

from git_starcoder.engine.local import LocalEngine
from git_starcoder.folder import spelled


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(1) as engine:
        yield engine


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_any_run_of_tokens_is_a_slice_of_the_text(tmp_path, monkeypatch, engine, dtype):
    monkeypatch.setattr(spelled, "CHUNK", 7)
    random = np.random.default_rng(3)
    tokens = (10 ** random.uniform(0, 4.7, size=100)).astype(dtype)
    tokens[:6] = 0, 9, 10, 99, 100, 9999
    places = np.sort(random.integers(0, 101, size=(40, 3, 2)), axis=-1)
    places[0] = [[0, 100], [100, 100], [7, 14]]
    with spelled.numbers(tokens, 60_000, tmp_path / "numbers", engine) as text:
        offsets = text.offsets(places)
        assert offsets.shape == places.shape
        for place, offset in zip(places.reshape(-1, 2), offsets.reshape(-1, 2), strict=True):
            read = b"[" + text.read(*offset.tolist())[:-1] + b"]"
            assert orjson.loads(read) == tokens[slice(*place)].tolist()


def test_no_tokens(tmp_path, engine):
    with spelled.numbers(np.empty(0, np.uint16), 10, tmp_path / "numbers", engine) as text:
        assert text.offsets(np.zeros((0, 3, 2), dtype=np.int64)).shape == (0, 3, 2)
        assert text.offsets(np.zeros(1, dtype=np.int64)).tolist() == [0]
