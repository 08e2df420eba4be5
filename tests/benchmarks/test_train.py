"""The scripts that compare trainers: their own counting and choosing is right, on what a test made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import finished
from git_starcoder.model import architecture, network
from git_starcoder.model.packing import TILE_TOKENS

TOY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


def checkpoint(run, step):
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"w" * step)
    digest = hashlib.sha256(b"w" * step).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"weights": digest}))
    return folder


def test_the_newest_checkpoint_that_is_whole_is_chosen(tmp_path):
    from train_toy import newest_valid

    assert newest_valid(tmp_path) is None
    old, middle, new = (checkpoint(tmp_path, step) for step in (8, 12, 100))
    assert newest_valid(tmp_path) == str(new)
    (new / "weights").write_bytes(b"w" * 99)
    assert newest_valid(tmp_path) == str(middle)
    (middle / "manifest.json").unlink()
    assert newest_valid(tmp_path) == str(old)


def test_a_loss_that_differs_in_its_last_bit_is_not_the_same():
    from train_toy import same

    whole = {"weights": "a", "losses": {1: (0.5).hex(), 2: (0.25).hex()}}
    assert same(whole, {"weights": "a", "losses": {2: (0.25).hex()}})
    assert not same(whole, {"weights": "a", "losses": {2: (0.25 + 2**-53).hex()}})
    assert not same(whole, {"weights": "b", "losses": {2: (0.25).hex()}})
    assert not same(whole, {"error": "ValueError"})


def test_all_sides_have_the_same_rows_and_count_their_tokens(tmp_path, monkeypatch):
    import train_others
    from train_speed import Sides, counted

    monkeypatch.setattr(network, "limit_library_threads", lambda: 1)
    monkeypatch.setitem(architecture.MODEL_SIZES, "tiny", TOY)
    sides = Sides(finished.toy(tmp_path / "dataset"), 1500, "float32", 300, tmp_path)
    read = [len(row) for row in sides.rows["input_ids"]]
    assert sum(read) == sum(sum(len(sides.corpus.input_tokens(place)) for place in step.rows) for step in sides.steps)
    for row, asked in zip(sides.rows["input_ids"], sides.rows["labels"], strict=True):
        assert [token for token, label in zip(row, asked, strict=True) if label != -100] == row[asked.count(-100) :]
    ours = sides.ours("adamw")
    timed = [place for step in sides.steps[train_others.WARM :] for place in step.rows]
    assert ours["content"] == sum(len(sides.corpus.input_tokens(place)) for place in timed)
    assert 0 <= ours["computed"] - ours["content"] < TILE_TOKENS * ours["steps"]
    blocks = train_others.grouped(sides.rows, 64)
    assert [token for block in blocks["input_ids"] for token in block] == [
        token for row in sides.rows["input_ids"] for token in row
    ][: len(blocks) * 64]
    counts = counted(sides, 300)["ours"]
    assert counts["lost"] == 0
    assert 0 <= counts["padded"] < TILE_TOKENS * len(sides.steps) / sum(read)
