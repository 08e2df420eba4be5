"""Weights that are divided among processes: the same training as with one process, whatever their number."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import finished
import shell
from git_starcoder.errors import UsageError
from git_starcoder.model import checkpoint
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.loading import load_model
from git_starcoder.model.training import train

torch = pytest.importorskip("torch")
TOY = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
"""Four processes have 2, 2, 2 and 0 of 6 rows, and so on."""

PROGRAM = """
import json, os, sys
from git_starcoder.dataset import Dataset
from git_starcoder.errors import StarcoderError
from git_starcoder.model import loading, loop, network, training
from git_starcoder.model.config import TrainConfig
said = json.loads(sys.argv[1])
loading.MODEL_SIZES["toy"] = said["toy"]
network.limit_library_threads = training.limit_library_threads = lambda: 1
save = loop.TrainingLoop._save_checkpoint
def save_and_end(self):
    save(self)
    print("step", self.state.step, flush=True)
    if self.state.step == said["end"]:
        os._exit(0)
loop.TrainingLoop._save_checkpoint = save_and_end
class Notes:
    def begin(self, *_): pass
    def advance(self, *_): pass
    def end(self, *_): pass
    def note(self, text): print(text, flush=True)
print("process", os.getpid(), flush=True)
try:
    training.train(Dataset.open(said["dataset"]), said["out"], TrainConfig(**said["config"]), progress=Notes())
except StarcoderError as error:
    sys.exit(f"error: {error.what} ({error.where})")
"""


def config(**values):
    told = {"size": "toy", "batch": 512, "steps": 8, "device": "cpu", "precision": "float32", "patience": 100}
    return TrainConfig(**{**told, "ema": 0.9, "checkpoint_minutes": 1e-9, "shard": True, **values})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def start(dataset, commands, tmp_path_factory):
    """Start the processes of a training as torchrun does, but without what ends them if one of them has ended."""
    script = tmp_path_factory.mktemp("program") / "program.py"
    script.write_text(PROGRAM)

    def begin(out, config, count, end=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        told = {"toy": TOY, "dataset": str(dataset.folder), "out": str(out), "config": asdict(config), "end": end}
        place = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [str(commands / "python3"), str(script), json.dumps(told)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        each = [{**place, "RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
        variables = [{name: str(value) for name, value in of_one.items()} for of_one in each]
        return [subprocess.Popen(command, env={**os.environ, **of_one}, **pipes) for of_one in variables]

    return begin


def output_of(processes):
    return [process.communicate(timeout=shell.HUNG)[0] for process in processes]


@pytest.fixture(scope="module")
def run(start):
    """Train with so many processes, and give what they say; with `end`, they end after the checkpoint of that step."""

    def run_all(out, config, count, end=None):
        processes = start(out, config, count, end)
        said = output_of(processes)
        assert [process.returncode for process in processes] == [70 if end else 0] * count, said
        return said

    return run_all


def lines(out, key):
    return [line[key] for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if key in line]


def assert_same(found, expected):
    """The same training and model, except for rounding."""
    for key in ("loss", "norm", "held_out", "tokens", "learning_rate"):
        assert len(lines(expected, key)) > 0
        assert lines(found, key) == pytest.approx(lines(expected, key), rel=1e-5, abs=1e-5), key
    records = [json.loads((out / "training.json").read_text()) for out in (found, expected)]
    for key in ("plan", "steps", "dataset", "parameters"):
        assert records[0][key] == records[1][key]
    ledgers = [{**record["ledger"], "pieces": 0, "padded": 0} for record in records]
    assert ledgers[0] == ledgers[1]
    names = [sorted(str(path.relative_to(out)) for path in out.rglob("*")) for out in (found, expected)]
    assert names[0] == names[1]
    assert (found / "config.json").read_text() == (expected / "config.json").read_text()
    weights = [dict(load_model(out)[0].model.named_parameters()) for out in (found, expected)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[1].items():
        assert torch.allclose(weights[0][name], weight, rtol=1e-3, atol=1e-4), name


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A training with one process that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "model"
    train(dataset, out, config())
    return out


def test_resumed_with_any_number_of_processes(run, dataset, whole, tmp_path):
    out = tmp_path / "model"
    run(out, config(shard=False), 1, end=1)
    for count, end in ((2, 3), (1, 4), (2, 5), (4, 7)):
        said, *others = run(out, config(), count, end)
        assert "resuming after step" in said
        assert not any("resuming" in each for each in others)
    files = {path.name for path in (checkpoint.checkpoint_folder(out) / "step-7").iterdir()}
    assert len([name for name in files if name.startswith("shard-")]) == 4
    assert files >= {"random.safetensors", "state.json", "manifest.json"}
    run(out, config(), 4)
    assert_same(out, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
