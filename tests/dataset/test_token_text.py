from __future__ import annotations

import errno
import os

import numpy as np
import orjson
import pytest

from git_starcoder.dataset import write_jsonl
from git_starcoder.engine.local import LocalEngine


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(1) as engine:
        yield engine


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_any_run_of_tokens_is_a_slice_of_the_text(tmp_path, monkeypatch, engine, dtype):
    monkeypatch.setattr(write_jsonl, "TOKENS_PER_CHUNK", 7)
    random = np.random.default_rng(3)
    tokens = (10 ** random.uniform(0, 4.7, size=100)).astype(dtype)
    tokens[:6] = 0, 9, 10, 99, 100, 9999
    places = np.sort(random.integers(0, 101, size=(40, 3, 2)), axis=-1)
    places[0] = [[0, 100], [100, 100], [7, 14]]
    with write_jsonl.write_numbers(tokens, 60_000, tmp_path / "numbers", engine) as text:
        offsets = text.offsets(places)
        assert offsets.shape == places.shape
        for place, offset in zip(places.reshape(-1, 2), offsets.reshape(-1, 2), strict=True):
            read = b"[" + text.read(*offset.tolist())[:-1] + b"]"
            assert orjson.loads(read) == tokens[slice(*place)].tolist()


def test_no_tokens(tmp_path, engine):
    with write_jsonl.write_numbers(np.empty(0, np.uint16), 10, tmp_path / "numbers", engine) as text:
        assert text.offsets(np.zeros((0, 3, 2), dtype=np.int64)).shape == (0, 3, 2)
        assert text.offsets(np.zeros(1, dtype=np.int64)).tolist() == [0]


@pytest.mark.parametrize("most", [1, 3, 1 << 20])
def test_pieces_are_written_whole_also_where_the_system_takes_fewer_bytes(tmp_path, monkeypatch, most):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    pieces = [b"%d," % number * (number % 4) for number in range(2_500)]
    pieces[7] = memoryview(pieces[7])
    real = os.pwrite

    def few(file, data, at):
        return real(file, bytes(data)[:most], at)

    monkeypatch.setattr(os, "pwrite", few)
    monkeypatch.setattr(os, "pwritev", lambda file, data, at: few(file, b"".join(data), at))
    assert write_jsonl.write_at(str(path), 6, pieces) == 0
    assert path.read_bytes() == b"before" + b"".join(pieces)


def test_what_cannot_be_written_is_told(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwritev", full)
    assert write_jsonl.write_at(str(path), 0, [b"text"]) == errno.ENOSPC
