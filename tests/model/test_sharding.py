"""Weights that are divided among processes: the same training as with one process, whatever their number."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from dataclasses import asdict

import numpy as np
import pytest

import bases
import finished
import shell
from git_starcoder.errors import UsageError
from git_starcoder.model import architecture, checkpoint, loading, sharding
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.network import Network
from git_starcoder.model.preflight import run_preflight
from git_starcoder.model.processes import ProcessGroup
from git_starcoder.model.training import train
from git_starcoder.text import tokenizer as tokenizers

torch = pytest.importorskip("torch")
TOY = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
"""Four processes have 2, 2, 2 and 0 of 6 rows, and so on."""

PROGRAM = """
import json, os, sys
from git_starcoder.dataset import Dataset
from git_starcoder.errors import StarcoderError
from git_starcoder.model import architecture, loop, network, training
from git_starcoder.model.config import TrainConfig
said = json.loads(sys.argv[1])
architecture.MODEL_SIZES["toy"] = said["toy"]
network.limit_library_threads = training.limit_library_threads = lambda: 1
save = loop.TrainingLoop._save_checkpoint
def save_and_end(self):
    save(self)
    print("step", self.state.step, flush=True)
    if self.state.step == said["end"]:
        self.writer.wait()
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

    def begin(out, config, count, end=None, dataset=dataset):
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

    def run_all(out, config, count, end=None, **options):
        processes = start(out, config, count, end, **options)
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
    weights = [dict(loading.load_model(out)[0].model.named_parameters()) for out in (found, expected)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[1].items():
        assert torch.allclose(weights[0][name], weight, rtol=1e-3, atol=1e-4), name


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A training with one process that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "model"
    train(dataset, out, config())
    return out


def test_resumed_with_any_number_of_processes(run, whole, tmp_path):
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


def test_adapters_on_a_sharded_base_and_a_token_that_it_does_not_know(run, tmp_path):
    pytest.importorskip("peft")
    dataset = finished.toy(tmp_path / "dataset")
    own = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    base = bases.write(tmp_path / "base", "Llama", own, tie_word_embeddings=True)
    definition = json.loads((dataset.tokenizer_folder / "tokenizer.json").read_text())
    definition["added_tokens"].append({**definition["added_tokens"][0], "id": own.vocab_size, "content": "<new>"})
    (dataset.tokenizer_folder / "tokenizer.json").write_text(json.dumps(definition))
    values = {
        "base": str(base),
        "tune": "lora",
        "lora_rank": 3,
        "steps": 4,
        "batch": 700,
        "micro_batch": 250,
        "ema": 0.0,
    }
    one, other = tmp_path / "one", tmp_path / "other"
    train(dataset, one, config(**values, learning_rate=1e-2))
    run(other, config(**values, learning_rate=1e-2), 2, dataset=dataset)
    assert_same(other, one)
    ledger = json.loads((other / "training.json").read_text())["ledger"]
    assert ledger["pieces"] % 2  # one process had less to do than the other in a step
    from safetensors.numpy import load_file

    adapters = [load_file(out / "adapter" / "adapter_model.safetensors") for out in (one, other)]
    assert any("token" in name for name in adapters[0])
    for name, tensor in adapters[0].items():
        assert np.allclose(adapters[1][name], tensor, atol=1e-4), name


def test_going_back_to_the_best_weights(run, tmp_path):
    texts = {"train": {"a.py": finished.source(1, 2)}, "val": {"b.py": b"totally = 'different'\n" * 30}}
    dataset = finished.write(tmp_path / "dataset", texts)
    values = {"steps": 96, "batch": 256, "learning_rate": 2e-2, "weight_decay": 0.0, "schedule": "wsd", "patience": 2}
    one, other = tmp_path / "one", tmp_path / "other"
    train(dataset, one, config(**values, checkpoint_minutes=9))
    said, _ = run(other, config(**values, checkpoint_minutes=9), 2, dataset=dataset)
    assert "Going back to the weights of step" in said
    rates = lines(other, "learning_rate")
    assert len(rates) < 96
    assert rates == lines(one, "learning_rate")
    assert lines(other, "held_out") == pytest.approx(lines(one, "held_out"), rel=1e-2)


def test_weights_of_layers_are_gathered_in_bfloat16(run, tmp_path, dataset):
    values = {"steps": 4, "precision": "bfloat16", "optimizer": "adamw", "learning_rate": 1e-3}
    one, other = tmp_path / "one", tmp_path / "other"
    train(dataset, one, config(**values))
    run(other, config(**values), 2)
    assert lines(other, "loss") == pytest.approx(lines(one, "loss"), rel=2e-3)
    assert lines(other, "norm") == pytest.approx(lines(one, "norm"), rel=2e-2)


def test_a_process_that_is_killed_ends_the_others_with_one_line(start, tmp_path):
    out = tmp_path / "model"
    processes = start(out, config(steps=10_000), 2)
    numbers = [int(process.stdout.readline().split()[1]) for process in processes]
    while processes[1].stdout.readline() != "step 2\n":
        assert processes[1].poll() is None
    os.kill(numbers[1], signal.SIGKILL)
    said, _ = output_of(processes)
    assert processes[0].returncode == 1
    assert "Traceback" not in said, said
    (error,) = [line for line in said.splitlines() if not line.startswith("step ")]
    assert error == "error: another process of this training has ended (torchrun)"
    newest = checkpoint.load_newest_checkpoint(checkpoint.checkpoint_folder(out), pytest.fail)
    assert newest.step >= 1


@pytest.fixture
def alone(monkeypatch):
    """The only process of a training that shards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    yield ProcessGroup()
    torch.distributed.destroy_process_group()
    sharding._mesh.cache_clear()


def test_preflight_counts_what_is_gathered(alone, dataset, tmp_path):
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    corpus = Corpus.read(dataset, tokenizer)
    model = architecture.new_network("toy", tokenizer, 128, 0).model
    layers = [sum(4 * weight.numel() for weight in layer.parameters()) for layer in model.model.layers]
    others = sum(4 * weight.numel() for weight in model.parameters()) - sum(layers)
    sharded = sharding.ShardedModel.divide(torch, model, alone, "cpu", "float32")
    assert sharded.gathered_bytes() == others + 2 * layers[0]
    network = Network(model, tokenizer, device="cpu", precision="float32", sharded_model=sharded)
    results = {each.what: each for each in run_preflight(dataset, corpus, network, tokenizer, config(), tmp_path)}
    assert "part of the weights" in results["device"].figure
    assert results["memory"].result == results["longest row"].result == results["packed rows"].result == "ok"
    assert "gathered weights" in results["memory"].figure
    # Weights whole again are those that were divided, and tied weights stay tied.
    expected = architecture.new_network("toy", tokenizer, 128, 0).model.state_dict()
    sharded.gather(keep=True)
    assert all(torch.equal(expected[name], weight) for name, weight in model.state_dict().items())
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("shape", [(5, 3, 4), (1, 7, 2)])
def test_rows_are_exchanged_and_come_back(shape):
    matrices = torch.randn(shape)
    found = sharding.exchange_rows(torch, matrices, shape[1], lambda whole: whole.cumsum(1), None)
    assert torch.equal(found, matrices.cumsum(1))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_each_process_computes_its_share_of_the_matrices(count, monkeypatch):
    """What all processes send to each other is written down here, in place of processes."""
    matrices, computed = torch.randn(count, 2, 3), []

    def share(rank, received):
        def gather(into, sent):
            received.append(sent.clone())
            for place, part in zip(into, received, strict=False):  # all of them are there for the last process
                place.copy_(part)

        def function(own):
            computed.append(len(own))
            return own.cumsum(1)

        monkeypatch.setattr(torch.distributed, "all_gather", gather)
        return sharding.share_out(torch, matrices, function, ProcessGroup(rank, 3))

    received = []
    found = [share(rank, received) for rank in range(3)][-1]
    assert torch.equal(found, matrices.cumsum(1))
    assert sum(computed) == count
    assert max(computed) <= -(-count // 3)


@pytest.mark.parametrize("values", [{"base": "x", "tune": "qlora"}, {"compile": True}])
def test_what_cannot_be_sharded(values):
    with pytest.raises(UsageError, match="cannot be"):
        TrainConfig.load(None, [f"{key}={value}" for key, value in {"shard": "true", **values}.items()])
