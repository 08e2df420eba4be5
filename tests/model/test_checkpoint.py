from __future__ import annotations

import json
import os
import random
import resource
import shutil

import numpy as np
import pytest

from git_starcoder.errors import OutputError
from git_starcoder.model import checkpoint
from git_starcoder.model.checkpoint import Checkpoint

torch = pytest.importorskip("torch")


def some(step):
    weights = {
        "one": torch.full((3, 2), step / 7),
        "two": torch.arange(5, dtype=torch.bfloat16),
        "none": torch.ones(()),
    }
    return Checkpoint(step, {"weights": weights, "random": {"torch.cpu": torch.get_rng_state()}}, {"seconds": step / 3})


def same(one, other):
    assert one.step == other.step
    assert one.values == other.values
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensors in one.tensors.items():
        assert tensors.keys() == other.tensors[name].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, other.tensors[name][key])
            assert tensor.dtype == other.tensors[name][key].dtype


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def newest(folder):
    told = []
    return checkpoint.load_newest_checkpoint(folder, told.append), told


def test_what_is_read_is_what_was_written_and_two_are_kept(tmp_path):
    assert newest(tmp_path) == (None, [])
    for step in (9, 10, 11):
        checkpoint.save_checkpoint(tmp_path, some(step))
    assert names(tmp_path) == ["step-10", "step-11"]
    found, told = newest(tmp_path)
    same(found, some(11))
    same(checkpoint.load_checkpoint(tmp_path, 10), some(10))
    assert told == []
    files = names(tmp_path / "step-11")
    assert files == ["manifest.json", "random.safetensors", "state.json", "weights.safetensors"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["manifest.json", "random.safetensors", "state.json", "weights.safetensors"])
@pytest.mark.parametrize("spoil", [cut, flip, os.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_one_is_passed_over_and_told(tmp_path, file, spoil):
    for step in (1, 2):
        checkpoint.save_checkpoint(tmp_path, some(step))
    spoil(tmp_path / "step-2" / file)
    found, told = newest(tmp_path)
    same(found, some(1))
    (line,) = told
    assert line.startswith("the checkpoint of step 2 is passed over: ")
    assert file in line
    with pytest.raises(OutputError, match="step 2 cannot be read"):
        checkpoint.load_checkpoint(tmp_path, 2)
    # The next one is written where the damaged one lies, or before it.
    for step in (2, 3) if spoil is cut else (3, 4):
        checkpoint.save_checkpoint(tmp_path, some(step))
    assert newest(tmp_path)[1] == []


def test_what_was_passed_over_goes_with_the_next_one(tmp_path):
    for step in (10, 20):
        checkpoint.save_checkpoint(tmp_path, some(step))
    shutil.copytree(tmp_path / "step-20", tmp_path / "step-30")
    found, told = newest(tmp_path)
    assert found.step == 20
    assert told == ["the checkpoint of step 30 is passed over: manifest.json is damaged"]
    checkpoint.save_checkpoint(tmp_path, some(25))
    assert names(tmp_path) == ["step-20", "step-25"]


def test_what_is_no_checkpoint_of_ours(tmp_path):
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-2").write_text("a file")
    (tmp_path / "step-3").mkdir()
    (tmp_path / "step-3" / "manifest.json").write_text(json.dumps({"schema": "another/9"}))
    (tmp_path / "step-4").mkdir()
    (tmp_path / "step-4" / "manifest.json").write_text("[]")
    (tmp_path / "step-x").mkdir()
    found, told = newest(tmp_path)
    assert found is None
    assert [line.split(": ")[1] for line in told] == [
        "manifest.json is damaged",
        "it was written in another format",
        "it cannot be read",
        "manifest.json is missing",
    ]
    checkpoint.save_checkpoint(tmp_path, some(1))
    assert names(tmp_path) == ["step-1", "step-x"]


def test_a_full_disk_is_one_line_and_what_is_there_stays(tmp_path):
    for step in (1, 2):
        checkpoint.save_checkpoint(tmp_path, some(step))
    big = Checkpoint(3, {"weights": {"one": torch.zeros(100_000)}}, {})
    text = Checkpoint(3, {}, {"text": "x" * 100_000})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        for each in (big, text):
            with pytest.raises(OutputError, match="cannot write"):
                checkpoint.save_checkpoint(tmp_path, each)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-1", "step-2"]
    same(newest(tmp_path)[0], some(2))


def test_the_folder_of_a_training(tmp_path):
    out = tmp_path / "model"
    with checkpoint.locked_checkpoint_folder(out, fresh=False) as folder:
        assert folder == tmp_path / ".model.training"
        with (
            pytest.raises(OutputError, match="another training"),
            checkpoint.locked_checkpoint_folder(out, fresh=False),
        ):
            pass
        (folder / "metrics.jsonl").write_text("{}\n")
    assert names(tmp_path) == []
    with checkpoint.locked_checkpoint_folder(out, fresh=False) as folder:
        checkpoint.save_checkpoint(folder, some(1))
        (folder / ".step-2.partial").mkdir()
        (folder / "metrics.jsonl").write_text("{}\n")
    with checkpoint.locked_checkpoint_folder(out, fresh=False) as folder:
        assert names(folder) == [".gitignore", "lock", "metrics.jsonl", "step-1"]
    with checkpoint.locked_checkpoint_folder(out, fresh=True) as folder:
        assert names(folder) == [".gitignore", "lock"]
    assert names(tmp_path) == []


def test_every_random_generator_goes_on_where_it_was():
    def drawn():
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()

    drawn()
    state = checkpoint.random_state(torch)
    assert all(isinstance(each, torch.Tensor) for each in state.values())
    first = drawn()
    assert drawn() != first
    checkpoint.restore_random_state(torch, state)
    assert drawn() == first
