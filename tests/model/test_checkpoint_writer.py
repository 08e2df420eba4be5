"""Writing in the background: what is written is a copy, one at a time, and no error is lost."""

from __future__ import annotations

import threading
import time

import pytest

import finished
from git_starcoder.errors import OutputError
from git_starcoder.model import loop
from git_starcoder.model.checkpoint import checkpoint_folder
from git_starcoder.model.checkpoint_writer import CheckpointWriter, copy_to_cpu
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.training import train

torch = pytest.importorskip("torch")
TOY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def test_a_copy_shares_no_memory():
    tensor = torch.ones(3, requires_grad=True)
    copies = copy_to_cpu({"a": tensor, "b": tensor.detach()})
    tensor.data.zero_()
    assert copies["a"].tolist() == copies["b"].tolist() == [1.0, 1.0, 1.0]
    assert not copies["a"].requires_grad


def test_one_at_a_time_and_errors_come_at_the_next_call():
    writer, may_end, written = CheckpointWriter(), threading.Event(), []

    def slow():
        assert may_end.wait(60)
        written.append("slow")

    def full():
        raise OutputError("full")

    writer.start(slow)
    writer.raise_error()
    assert written == []  # the caller did not wait
    may_end.set()
    writer.start(full)  # which waits for the first
    assert written == ["slow"]
    writer.join()
    with pytest.raises(OutputError, match="full"):
        writer.raise_error()
    writer.wait()  # it is raised once
    writer.start(full)
    with pytest.raises(OutputError, match="full"):
        writer.start(slow)
    assert written == ["slow"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


def config(**values):
    told = {"size": "toy", "batch": 512, "steps": 6, "device": "cpu", "precision": "float32"}
    return TrainConfig(**{**told, "checkpoint_minutes": 1e-9, **values})


def test_training_goes_on_while_a_checkpoint_is_written(dataset, tmp_path, monkeypatch):
    """What is written is the state of its step, though the weights have moved on meanwhile."""
    save, steps_at_write = loop.save_checkpoint, []
    current = []

    def late(folder, checkpoint, shards):
        before = {name: tensor.clone() for name, tensor in checkpoint.tensors["weights"].items()}
        if checkpoint.step == 1:
            while not current or current[-1].state.step < 2:
                time.sleep(0.001)
            steps_at_write.append(current[-1].state.step)
            parts = current[-1].step_runner.parts
            assert any(not torch.equal(before[name], parts[name]) for name in before)
        assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint.tensors["weights"].items())
        save(folder, checkpoint, shards)

    run = loop.TrainingLoop.run

    def noted(self, **options):
        current.append(self)
        run(self, **options)

    monkeypatch.setattr(loop, "save_checkpoint", late)
    monkeypatch.setattr(loop.TrainingLoop, "run", noted)
    train(dataset, tmp_path / "model", config())
    assert steps_at_write == [2]


def test_an_error_of_the_writer_ends_training_with_one_line(dataset, tmp_path, monkeypatch):
    save, out = loop.save_checkpoint, tmp_path / "model"

    def full(folder, checkpoint, shards):
        if checkpoint.step == 3:
            raise OutputError("cannot write a checkpoint: no space left", where=str(folder))
        save(folder, checkpoint, shards)

    monkeypatch.setattr(loop, "save_checkpoint", full)
    with pytest.raises(OutputError, match="no space left"):
        train(dataset, out, config(steps=40))
    assert not out.exists()
    steps = sorted(path.name for path in checkpoint_folder(out).glob("step-*"))
    assert steps == ["step-1", "step-2"]
