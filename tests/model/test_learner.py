"""Steps, schedules, averages, and the trial before them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import finished
from git_starcoder.errors import MissingExtraError, StarcoderError, UsageError
from git_starcoder.model import distributed, load, network
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.distributed import Processes
from git_starcoder.model.learner import Learner
from git_starcoder.model.ledger import Tally
from git_starcoder.model.optimise import Average, rate
from git_starcoder.model.pack import TILE
from git_starcoder.model.plan import Plan
from git_starcoder.model.train import train
from git_starcoder.model.trial import trial
from git_starcoder.text import tokenizer as tokenizers

torch = pytest.importorskip("torch")
TOY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
TOLD = {"size": "toy", "batch": 512, "device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


@pytest.fixture
def learner(dataset):
    def made(**values):
        config = TrainConfig(**{**TOLD, "steps": 4, **values})
        tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
        corpus = Corpus.read(dataset, tokenizer)
        learner = Learner(load.network(config, tokenizer, 128), corpus, config, Processes())
        learner.piece = 8192
        return learner

    return made


def plan_of(learner):
    return Plan.of(learner.corpus, learner.config, 4, curriculum=False)


def weights_of(learner):
    return {name: weight.detach().clone() for name, weight in learner.weights.items()}


@pytest.mark.parametrize(
    ("schedule", "middle", "late"),
    [("linear", 0.5, 0.1), ("cosine", 0.5, 0.5 * (1 + np.cos(0.9 * np.pi))), ("wsd", 1.0, 0.5)],
)
def test_schedules(schedule, middle, late):
    config = TrainConfig(learning_rate=2.0, warmup=0.0, schedule=schedule)
    shares = [rate(config, used) / 2.0 for used in (0.0, 0.5, 0.9, 1.0)]
    assert shares == pytest.approx([1.0, middle, late, 0.0], abs=1e-12)
    risen = [
        rate(TrainConfig(learning_rate=2.0, warmup=0.2, schedule=schedule), used) for used in np.arange(0, 0.2, 0.01)
    ]
    assert 0 < risen[0] < 0.02
    assert np.allclose(np.diff(risen), 0.1)
    assert rate(config, 1.5) == 0.0


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_weight_moves_and_is_remembered_by_name(learner, optimizer):
    one = learner(optimizer=optimizer)
    before = weights_of(one)
    step = plan_of(one).step(0)
    found = one.learn(plan_of(one), step, 0.1)
    assert found.targets == sum(each.asked for each in found.pieces) > 400
    assert float(found.nats) == pytest.approx(np.log(512), rel=0.1)
    assert all(not torch.equal(weight, before[name]) for name, weight in one.weights.items())
    assert all(weight.grad is None for weight in one.weights.values())
    state = one.optimiser.state()
    kinds = {place.rpartition("/")[2] for place in state}
    assert kinds == {"exp_avg", "exp_avg_sq", "step"} | ({"momentum_buffer"} if optimizer == "muon" else set())
    assert {place.rpartition("/")[0] for place in state} == set(one.weights)
    # The next step from a restored state is the same step.
    other = learner(optimizer=optimizer)
    other.optimiser.restore(state)
    for name, weight in one.weights.items():
        other.weights[name].data.copy_(weight.data)
    for each in (one, other):
        each.learn(plan_of(each), plan_of(each).step(1), 0.2)
    assert all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())


def test_small_pieces_add_up_to_the_same_gradient(learner):
    one, other = learner(clip=1e-3), learner(clip=1e-3)
    other.piece = 150
    found = [each.learn(plan_of(each), plan_of(each).step(0), 0.1) for each in (one, other)]
    assert len(found[0].pieces) == 1 < len(found[1].pieces)
    assert float(found[0].nats) == pytest.approx(float(found[1].nats), rel=1e-5)
    assert float(found[0].norm) == pytest.approx(float(found[1].norm), rel=1e-4)


def test_pieces_have_whole_tiles_and_the_ledger_knows_their_padding(learner):
    one = learner()
    plan = plan_of(one)
    tally = Tally(plan, one.corpus)
    pieces = []
    for step in plan.begin():
        found = one.learn(plan, step, 0.1)
        tally.add(step, found.pieces)
        pieces += found.pieces
    assert len({len(piece.tokens) - piece.padded for piece in pieces}) > 1
    assert all(len(piece.tokens) % TILE == 0 and piece.padded < TILE for piece in pieces)
    assert tally.close().padded == sum(piece.padded for piece in pieces) > 0


def test_too_little_memory_ends_in_smaller_pieces_or_one_line(learner, monkeypatch):
    small, none = learner(), learner()
    nats = network.Network.nats
    room = 300

    def full(self, piece):
        if len(piece.tokens) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return nats(self, piece)

    monkeypatch.setattr(network.Network, "nats", full)
    small.learn(plan_of(small), plan_of(small).step(0), 0.1)
    assert 128 <= small.piece <= 300
    room = 100
    with pytest.raises(StarcoderError, match="memory of 'cpu' does not suffice for pieces of 128 tokens") as caught:
        none.learn(plan_of(none), plan_of(none).step(0), 0.1)
    assert "piece" in caught.value.hint
    monkeypatch.setattr(network.Network, "nats", lambda *_: torch.ones(3, 4) @ torch.ones(3, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):  # another error is not hidden
        none.learn(plan_of(none), plan_of(none).step(0), 0.1)


def test_a_trial_leaves_no_trace(learner):
    one = learner(minutes=1, steps=None, dropout=0.1)
    before, random = weights_of(one), torch.get_rng_state()
    steps = trial(one, curriculum=False, seconds=60.0)
    assert steps > 3
    assert 128 <= one.piece <= 8192
    assert all(torch.equal(weight, before[name]) for name, weight in one.weights.items())
    assert one.optimiser.state() == {}
    assert torch.equal(random, torch.get_rng_state())
    assert trial(one, curriculum=False, seconds=None) is None
    assert trial(one, curriculum=False, seconds=1e-6) == 1


def test_the_average_follows_and_is_shown_for_a_while():
    weights = {"one": torch.zeros(3, requires_grad=True)}
    average = Average(torch, weights, 0.5)
    for step in range(1, 60):
        with torch.no_grad():
            weights["one"].fill_(1.0)
        average.follow(step)
    assert torch.allclose(average.tensors["one"], torch.ones(3))
    with torch.no_grad():
        weights["one"].fill_(3.0)
    average.follow(60)
    assert torch.allclose(average.tensors["one"], torch.full((3,), 2.0))
    with average.shown():
        assert torch.equal(weights["one"], average.tensors["one"])
    assert torch.equal(weights["one"], torch.full((3,), 3.0))


def test_the_average_is_the_model(dataset, tmp_path):
    from safetensors.numpy import load_file

    found = []
    for ema in (0.0, 0.9):
        out = tmp_path / f"model{ema}"
        result = train(dataset, out, TrainConfig(**TOLD, steps=4, ema=ema, schedule="wsd"))
        looks = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines() if "held_out" in line]
        assert result.held_out == min(look["held_out"] for look in looks)
        found.append(load_file(out / "model.safetensors"))
    assert all(not np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_processes_as_torchrun_says(monkeypatch):
    for name in (*distributed.NAMES, "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.processes() == Processes(0, 1, 0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="WORLD_SIZE is 4, but RANK is not there"):
        distributed.processes()
    said = {"RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert distributed.processes() == Processes(3, 4, 1, 2)
    assert not distributed.processes().first
    with pytest.raises(UsageError, match="several processes cannot share one 'mps'"), distributed.joined("mps"):
        pass
    monkeypatch.setenv("RANK", "three")
    with pytest.raises(UsageError, match="three"):
        distributed.processes()


def test_tensorboard_that_is_not_installed_is_one_line(dataset, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="tensorboard") as caught:
        train(dataset, tmp_path / "model", TrainConfig(**TOLD, steps=1, tensorboard=True))
    assert caught.value.hint == "pip install 'git-starcoder[tensorboard]'"
    assert list(tmp_path.iterdir()) == []
