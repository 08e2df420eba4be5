"""A training that is killed, or loses its newest checkpoint, its disk or its processes, ends where it would have."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from random import Random

import numpy as np
import pytest

import finished
from git_starcoder.errors import OutputError, UsageError
from git_starcoder.model import checkpoint
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.loop import TrainingLoop
from git_starcoder.model.training import train

TOY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
ALWAYS = 1e-9
"""Minutes between checkpoints: one after every step."""


def toy(**values):
    told = {"size": "toy", "batch": 512, "steps": 16, "device": "cpu", "precision": "float32", "patience": 100}
    return TrainConfig(**{**told, "ema": 0.9, "checkpoint_minutes": ALWAYS, **values})


class Notes:
    def __init__(self, ends=None):
        self.lines = []
        self.ends = ends

    def begin(self, step, total):
        pass

    def advance(self, count):
        if self.ends is not None:
            self.ends -= count
            if self.ends < 0:
                raise KeyboardInterrupt

    def end(self, step, seconds, seen, kept, dropped):
        pass

    def note(self, text):
        self.lines.append(text)


def interrupted(dataset, out, config, step):
    """Train until this many steps are done and written down."""
    with pytest.raises(KeyboardInterrupt):
        train(dataset, out, config, progress=Notes(step))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A training that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "model"
    train(dataset, out, toy())
    return out


def figures(out):
    """The metrics, but for the time."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def same(one, other):
    assert figures(one) == figures(other)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    records = [json.loads((out / "training.json").read_text()) for out in (one, other)]
    assert records[0]["ledger"] == records[1]["ledger"]
    results = [record["result"] for record in records]
    assert [{**result, "seconds": 0} for result in results] == [{**results[0], "seconds": 0}] * 2


PROGRAM = """
import os, signal, sys, time
from git_starcoder.dataset import Dataset
from git_starcoder.errors import StarcoderError
from git_starcoder.model import architecture, network
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.training import train
architecture.MODEL_SIZES["toy"] = {toy!r}
network.limit_library_threads = lambda: 1
class Watch:
    def begin(self, step, total): print("begun", flush=True)
    def advance(self, count):
        print("step", flush=True)
        while os.path.isdir(os.environ.get("WAIT_AFTER", "")): time.sleep(1)
    def end(self, step, seconds, seen, kept, dropped): pass
    def note(self, text): print(text, flush=True)
left, flush = int(os.environ.get("DIE_AT_FSYNC", 0)), os.fsync
def fsync(handle):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(handle)
os.fsync = fsync
try:
    train(Dataset.open({dataset!r}), {out!r}, TrainConfig(**{config!r}), progress=Watch())
except StarcoderError as error:
    sys.exit(f"error: {{error.what}} ({{error.where}})")
"""


def program(dataset, out, config):
    return PROGRAM.format(toy=TOY, dataset=str(dataset.folder), out=str(out), config=asdict(config))


def environment(**values):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **values}


def begun(dataset, out, config, **values):
    command = [sys.executable, "-c", program(dataset, out, config)]
    return subprocess.Popen(command, env=environment(**values), stdout=subprocess.PIPE, text=True)


def read_steps(process, count):
    """Wait until a process has told of so many steps."""
    for line in process.stdout:
        count -= line == "step\n"
        if not count:
            return


def test_a_training_that_is_killed_again_and_again_ends_where_it_would_have(dataset, whole, tmp_path):
    out, random = tmp_path / "model", Random(0)
    for _ in range(2):
        with begun(dataset, out, toy()) as process:
            read_steps(process, random.randint(1, 3))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        # Metrics, five tensor files, the state, the manifest, the folder and its parent: somewhere in the second one.
        with begun(dataset, out, toy(), DIE_AT_FSYNC=str(random.randint(11, 20))) as process:
            process.stdout.read()
        assert process.returncode == -signal.SIGKILL
    watch = Notes()
    train(dataset, out, toy(), progress=watch)
    assert any(line.startswith("resuming after step ") for line in watch.lines)
    same(out, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_damaged_checkpoint_is_passed_over(dataset, whole, tmp_path):
    out = tmp_path / "model"
    interrupted(dataset, out, toy(), 11)
    weights = checkpoint.checkpoint_folder(out) / "step-11" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    watch = Notes()
    train(dataset, out, toy(), progress=watch)
    assert watch.lines[:2] == [
        "the checkpoint of step 11 is passed over: weights.safetensors is damaged",
        "resuming after step 10 of 16; use --fresh to start over",
    ]
    same(out, whole)


def test_a_full_disk_is_one_line_and_costs_nothing(dataset, whole, tmp_path):
    out = tmp_path / "model"
    interrupted(dataset, out, toy(), 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot write"):
            train(dataset, out, toy())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in checkpoint.checkpoint_folder(out).iterdir()) == [
        ".gitignore",
        "metrics.jsonl",
        "step-4",
        "step-5",
    ]
    train(dataset, out, toy())
    same(out, whole)


def test_every_option_goes_on_exactly(dataset, tmp_path):
    for number, values in enumerate(
        (
            {"optimizer": "adamw", "schedule": "wsd", "dropout": 0.1, "ema": 0.0, "fim": 0.5, "noise": 0.1},
            {
                "schedule": "cosine",
                "micro_batch": 200,
                "attend": "micro_batch",
                "epochs": 0.3,
                "steps": None,
                "patience": 3,
            },
        )
    ):
        one, other = tmp_path / f"one{number}", tmp_path / f"other{number}"
        train(dataset, one, toy(**values))
        interrupted(dataset, other, toy(**values), 3)
        interrupted(dataset, other, toy(**values), 1)
        train(dataset, other, toy(**values))
        same(one, other)


def test_annealing_after_overfitting_goes_on_exactly(tmp_path):
    texts = {"train": {"a.py": finished.source(1, 2)}, "val": {"b.py": b"totally = 'different'\n" * 30}}
    dataset = finished.write(tmp_path / "dataset", texts)
    values = {"steps": 96, "batch": 256, "learning_rate": 2e-2, "weight_decay": 0.0, "schedule": "wsd", "patience": 2}
    one, other = tmp_path / "one", tmp_path / "other"
    watch = Notes()
    train(dataset, one, toy(**values, ema=0.5), progress=watch)
    (line,) = [line for line in watch.lines if "Going back to the weights of step" in line]
    rates = [line["learning_rate"] for line in figures(one) if "learning_rate" in line]
    begin = next(number for number in range(8, 96) if rates[number] < rates[number - 1])
    assert begin < len(rates) < 96, line
    interrupted(dataset, other, toy(**values, ema=0.5), begin)
    train(dataset, other, toy(**values, ema=0.5))
    same(one, other)


def test_a_time_that_was_measured_stays(dataset, tmp_path):
    out = tmp_path / "model"
    config = toy(steps=None, minutes=10.0)
    interrupted(dataset, out, config, 3)
    values = checkpoint.load_newest_checkpoint(checkpoint.checkpoint_folder(out), pytest.fail).values
    assert values["steps"] > 3
    assert 0 < values["at"]["seconds"] < values["limit"] < 600
    watch = Notes(2)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, out, config, progress=watch)
    assert watch.lines == [f"resuming after step 3 of {values['steps']:,}; use --fresh to start over"]


@pytest.mark.parametrize(
    ("minutes", "said"), [(10, "starts anew: there is no checkpoint yet."), (ALWAYS, "resumes after step 2.")]
)
def test_an_interruption_says_where_the_same_command_begins(dataset, tmp_path, minutes, said):
    watch = Notes(2)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, tmp_path / "model", toy(checkpoint_minutes=minutes), progress=watch)
    assert watch.lines == [f"The same command {said}"]


def test_checkpoints_of_another_training_are_refused(dataset, tmp_path):
    out = tmp_path / "model"
    interrupted(dataset, out, toy(), 2)
    before = sorted(path.name for path in checkpoint.checkpoint_folder(out).iterdir())
    other = finished.toy(tmp_path / "dataset", weights={"src/file_3.py": 2.0})
    for data, config, what in ((dataset, toy(seed=1), "config"), (other, toy(), "dataset")):
        with pytest.raises(UsageError, match=f"its {what} differs") as caught:
            train(data, out, config)
        assert "--fresh" in caught.value.hint
        assert sorted(path.name for path in checkpoint.checkpoint_folder(out).iterdir()) == before
    # How often and what is written decides nothing.
    interrupted(dataset, out, toy(checkpoint_minutes=1e-8), 1)
    watch = Notes()
    train(dataset, out, toy(seed=1, steps=2), progress=watch, fresh=True)
    assert not any("resuming" in line for line in watch.lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "model"]


def test_a_training_that_has_only_to_be_published(dataset, whole, tmp_path, monkeypatch):
    out = tmp_path / "model"

    def full(*_):
        raise OutputError("cannot write the weights: no space", where="here")

    with monkeypatch.context() as patch:
        patch.setattr("git_starcoder.model.training.save_model", full)
        with pytest.raises(OutputError, match="no space"):
            train(dataset, out, toy())
    watch = Notes(16)
    train(dataset, out, toy(), progress=watch)
    same(out, whole)


def test_tensorboard_has_every_step_once(dataset, tmp_path):
    out = tmp_path / "model"
    interrupted(dataset, out, toy(steps=8, tensorboard=True), 5)
    checkpoint_of_4 = checkpoint.checkpoint_folder(out) / "step-4"
    shutil.rmtree(checkpoint.checkpoint_folder(out) / "step-5")
    assert checkpoint_of_4.is_dir()
    train(dataset, out, toy(steps=8, tensorboard=True))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard")).Reload()
    losses = events.Scalars("loss/training, bits per token")
    assert [event.step for event in losses] == list(range(1, 9))
    assert np.allclose([event.value for event in losses], [line["loss"] for line in figures(out) if "loss" in line])


def test_annealing_that_helps_is_no_longer_and_its_rate_never_rises(dataset, tmp_path, monkeypatch):
    losses = iter([6, 5, 4, 3, 2, 1, 2, 2, 0.9, 0.8, 0.8, 0.8])  # overfits after half of it, and gains by annealing
    monkeypatch.setattr(TrainingLoop, "_held_out_bits_per_byte", lambda _: next(losses))
    train(dataset, tmp_path / "model", toy(steps=96, schedule="wsd", patience=2))
    rates = [line["learning_rate"] for line in figures(tmp_path / "model") if "learning_rate" in line]
    assert rates[64:] == sorted(rates[64:], reverse=True)
    assert len(rates) == 64 + round(0.2 * 48)


def torchrun(dataset, out, config, processes, **values):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    file = out.parent / f"program{processes}.py"
    file.write_text(program(dataset, out, config))
    return subprocess.Popen(
        [*command, str(file)], env=environment(OMP_NUM_THREADS="1", **values), stdout=subprocess.PIPE, text=True
    )


def test_from_one_process_to_two_and_back(dataset, whole, tmp_path):
    out = tmp_path / "model"
    interrupted(dataset, out, toy(), 6)
    after = checkpoint.checkpoint_folder(out) / "step-10"
    with torchrun(dataset, out, toy(), 2, WAIT_AFTER=str(after)) as process:
        while not after.is_dir() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        told = process.stdout.read()
    assert "resuming after step 6 of 16" in told
    assert told.count("begun") == 1
    watch = Notes()
    train(dataset, out, toy(), progress=watch)
    (line,) = (line for line in watch.lines if "resuming" in line)
    assert int(line.split()[3]) >= 10
    records = [json.loads((folder / "training.json").read_text()) for folder in (out, whole)]
    assert records[0]["plan"] == records[1]["plan"]
    pieces = [record["ledger"]["pieces"] for record in records]
    assert pieces[1] + 4 <= pieces[0]  # two processes had two pieces of a step
    assert [{**record["ledger"], "pieces": 0} for record in records] == [{**records[0]["ledger"], "pieces": 0}] * 2
    for one, other in zip(figures(out), figures(whole), strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    from safetensors.numpy import load_file

    weights = [load_file(folder / "model.safetensors") for folder in (out, whole)]
    for name, tensor in weights[1].items():  # what is rounded in another order is 0.02 after Muon, which has bfloat16
        assert np.abs(weights[0][name] - tensor).max() < 5e-2 * np.abs(tensor).max()


def test_the_death_of_one_process_ends_the_other(dataset, tmp_path):
    out = tmp_path / "model"
    with torchrun(dataset, out, toy(steps=10_000), 2) as process:
        read_steps(process, 3)
        children = [
            int(number)
            for number in (
                subprocess.run(
                    ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True, check=True
                )
            ).stdout.split()
        ]
        os.kill(children[-1], signal.SIGKILL)
        process.stdout.read()
    assert process.returncode != 0
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    assert checkpoint.load_newest_checkpoint(checkpoint.checkpoint_folder(out), pytest.fail).step > 0
