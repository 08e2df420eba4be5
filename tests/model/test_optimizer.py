"""Optimizer steps, schedules, moving averages, processes, and the batch-size search."""

from __future__ import annotations

import json

import numpy as np
import pytest

import finished
from git_starcoder.errors import MissingExtraError, StarcoderError, UsageError
from git_starcoder.installation import install_command
from git_starcoder.model import architecture, building, network, preflight, processes
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.optimizer import MovingAverage, StepRunner, learning_rate
from git_starcoder.model.packing import TILE_TOKENS, TokenCounter
from git_starcoder.model.plan import TrainingPlan
from git_starcoder.model.preflight import run_preflight, search_batch_size
from git_starcoder.model.processes import ProcessGroup
from git_starcoder.model.training import train
from git_starcoder.text import tokenizer as tokenizers

torch = pytest.importorskip("torch")
TOY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
SETTINGS = {"size": "toy", "batch": 512, "device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


@pytest.fixture
def make_runner(dataset):
    def make(**values):
        config = TrainConfig(**{**SETTINGS, "steps": 4, **values})
        tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
        corpus = Corpus.read(dataset, tokenizer)
        runner = StepRunner(building.build_network(config, tokenizer, 128), corpus, config, ProcessGroup())
        runner.micro_batch_tokens = 8192
        return runner

    return make


def plan_of(runner):
    return TrainingPlan.build(runner.corpus, runner.config, 4, is_curriculum=False)


def weights_of(runner):
    return {name: weight.detach().clone() for name, weight in runner.weights.items()}


@pytest.mark.parametrize(
    ("schedule", "middle", "late"),
    [("linear", 0.5, 0.1), ("cosine", 0.5, 0.5 * (1 + np.cos(0.9 * np.pi))), ("wsd", 1.0, 0.5)],
)
def test_schedules(schedule, middle, late):
    config = TrainConfig(learning_rate=2.0, warmup=0.0, schedule=schedule)
    shares = [learning_rate(config, used) / 2.0 for used in (0.0, 0.5, 0.9, 1.0)]
    assert shares == pytest.approx([1.0, middle, late, 0.0], abs=1e-12)
    risen = [
        learning_rate(TrainConfig(learning_rate=2.0, warmup=0.2, schedule=schedule), used)
        for used in np.arange(0, 0.2, 0.01)
    ]
    assert 0 < risen[0] < 0.02
    assert np.allclose(np.diff(risen), 0.1)
    assert learning_rate(config, 1.5) == 0.0


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_embeddings_and_norms_are_not_decayed(make_runner, optimizer):
    runner = make_runner(optimizer=optimizer, weight_decay=0.5)
    before = weights_of(runner)
    for weight in runner.weights.values():
        weight.grad = torch.zeros_like(weight)
    runner.optimizer.update_weights(0.1)
    decayed = {name for name, weight in runner.weights.items() if not weight.equal(before[name])}
    assert decayed == {name for name, weight in before.items() if weight.ndim == 2 and "embed" not in name}
    assert any("embed" in name for name in before)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_embeddings_and_norms_have_a_rate_of_their_own(make_runner, optimizer):
    """The first step of AdamW moves every weight by its learning rate."""
    runner = make_runner(optimizer=optimizer, embedding_rate=3.0, weight_decay=0.0, clip=1e9)
    before = weights_of(runner)
    for weight in runner.weights.values():
        weight.grad = torch.ones_like(weight)
    runner.optimizer.update_weights(0.01)
    moved = {name: float((weight.detach() - before[name]).abs().mean()) for name, weight in runner.weights.items()}
    for name, distance in moved.items():
        is_inner = before[name].ndim == 2 and "embed" not in name
        if not is_inner:
            assert distance == pytest.approx(0.03, rel=0.01), name
        elif optimizer == "adamw":
            assert distance == pytest.approx(0.01, rel=0.01), name


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_weight_moves_and_is_remembered_by_name(make_runner, optimizer):
    one = make_runner(optimizer=optimizer)
    before = weights_of(one)
    step = plan_of(one).step(0)
    result = one.run_step(plan_of(one), step, 0.1)
    assert result.target_count == sum(each.target_count for each in result.micro_batches) > 400
    assert float(result.loss) == pytest.approx(np.log(512), rel=0.1)
    assert all(not torch.equal(weight, before[name]) for name, weight in one.weights.items())
    assert all(weight.grad is None for weight in one.weights.values())
    state = one.optimizer.state_tensors()
    kinds = {place.rpartition("/")[2] for place in state}
    assert kinds == {"exp_avg", "exp_avg_sq", "step"} | ({"momentum_buffer"} if optimizer == "muon" else set())
    assert {place.rpartition("/")[0] for place in state} == set(one.weights)
    # The next step from a restored state is the same step.
    other = make_runner(optimizer=optimizer)
    other.optimizer.restore_state(state, {})
    for name, weight in one.weights.items():
        other.weights[name].data.copy_(weight.data)
    for each in (one, other):
        each.run_step(plan_of(each), plan_of(each).step(1), 0.2)
    assert all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())


def test_eight_bit_adamw_is_restored_exactly_and_moves_as_adamw_does(make_runner, tmp_path):
    pytest.importorskip("bitsandbytes")
    from safetensors.torch import load_file, save_file

    one, exact = make_runner(optimizer="adamw8bit"), make_runner(optimizer="adamw")
    before = weights_of(one)
    for runner in (one, exact):
        runner.run_step(plan_of(runner), plan_of(runner).step(0), 0.01)
    moved, expected = (
        torch.cat([(runner.weights[name] - before[name]).detach().flatten() for name in before])
        for runner in (one, exact)
    )
    assert torch.corrcoef(torch.stack((moved, expected)))[0, 1] > 0.98
    save_file(one.optimizer.state_tensors(), tmp_path / "state.safetensors")  # refuses shared tensors
    state = load_file(tmp_path / "state.safetensors")
    assert any(tensor.dtype == torch.uint8 for tensor in state.values())
    other = make_runner(optimizer="adamw8bit")
    other.optimizer.restore_state(state, {})
    for name, weight in one.weights.items():
        other.weights[name].data.copy_(weight.data)
    for each in (one, other):
        each.run_step(plan_of(each), plan_of(each).step(1), 0.02)
    assert all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())
    again = other.optimizer.state_tensors()
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.optimizer.state_tensors().items())


def test_small_micro_batches_add_up_to_the_same_gradient(make_runner):
    one, other = make_runner(clip=1e-3), make_runner(clip=1e-3)
    other.micro_batch_tokens = 150
    result = [each.run_step(plan_of(each), plan_of(each).step(0), 0.1) for each in (one, other)]
    assert len(result[0].micro_batches) == 1 < len(result[1].micro_batches)
    assert float(result[0].loss) == pytest.approx(float(result[1].loss), rel=1e-5)
    assert float(result[0].gradient_norm) == pytest.approx(float(result[1].gradient_norm), rel=1e-4)


def test_micro_batches_have_whole_tiles_and_their_padding_is_counted(make_runner):
    one = make_runner()
    plan = plan_of(one)
    counter = TokenCounter(plan, one.corpus)
    micro_batches = []
    for step in plan.steps_from():
        result = one.run_step(plan, step, 0.1)
        counter.add(step, result.micro_batches)
        micro_batches += result.micro_batches
    assert len({len(packed.tokens) - packed.padding_count for packed in micro_batches}) > 1
    assert all(len(packed.tokens) % TILE_TOKENS == 0 and packed.padding_count < TILE_TOKENS for packed in micro_batches)
    assert counter.close().padded == sum(packed.padding_count for packed in micro_batches) > 0


def test_too_little_memory_ends_in_smaller_micro_batches_or_one_line(make_runner, monkeypatch):
    small, none = make_runner(), make_runner()
    nats = network.Network.token_losses
    room = 300

    def full(self, packed):
        if len(packed.tokens) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return nats(self, packed)

    monkeypatch.setattr(network.Network, "token_losses", full)
    small.run_step(plan_of(small), plan_of(small).step(0), 0.1)
    assert 128 <= small.micro_batch_tokens <= 300
    room = 100
    with pytest.raises(
        StarcoderError, match="memory of 'cpu' does not suffice for micro-batches of 128 tokens"
    ) as caught:
        none.run_step(plan_of(none), plan_of(none).step(0), 0.1)
    assert "micro_batch" in caught.value.hint
    monkeypatch.setattr(network.Network, "token_losses", lambda *_: torch.ones(3, 4) @ torch.ones(3, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):  # another error is not hidden
        none.run_step(plan_of(none), plan_of(none).step(0), 0.1)


def test_a_batch_size_search_leaves_no_trace(make_runner):
    one = make_runner(minutes=1, steps=None, dropout=0.1)
    before, random = weights_of(one), torch.get_rng_state()
    steps = search_batch_size(one, is_curriculum=False, seconds=60.0)
    assert steps > 3
    assert 128 <= one.micro_batch_tokens <= 8192
    assert all(torch.equal(weight, before[name]) for name, weight in one.weights.items())
    assert one.optimizer.state_tensors() == {}
    assert torch.equal(random, torch.get_rng_state())
    assert search_batch_size(one, is_curriculum=False, seconds=None) is None
    assert search_batch_size(one, is_curriculum=False, seconds=1e-6) == 1


def test_the_average_follows_and_is_shown_for_a_while():
    weights = {"one": torch.zeros(3, requires_grad=True)}
    average = MovingAverage(torch, weights, 0.5)
    for step in range(1, 60):
        with torch.no_grad():
            weights["one"].fill_(1.0)
        average.update(step)
    assert torch.allclose(average.tensors["one"], torch.ones(3))
    with torch.no_grad():
        weights["one"].fill_(3.0)
    average.update(60)
    assert torch.allclose(average.tensors["one"], torch.full((3,), 2.0))
    with average.as_weights():
        assert torch.equal(weights["one"], average.tensors["one"])
    assert torch.equal(weights["one"], torch.full((3,), 3.0))


def test_the_average_is_the_model(dataset, tmp_path):
    from safetensors.numpy import load_file

    saved = []
    for ema in (0.0, 0.9):
        out = tmp_path / f"model{ema}"
        result = train(dataset, out, TrainConfig(**SETTINGS, steps=4, ema=ema, schedule="wsd"))
        looks = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines() if "held_out" in line]
        assert result.held_out == min(look["held_out"] for look in looks)
        saved.append(load_file(out / "model.safetensors"))
    assert all(not np.array_equal(saved[0][name], saved[1][name]) for name in saved[0])


def test_processes_as_torchrun_says(monkeypatch):
    for name in (*processes.TORCHRUN_VARIABLES, "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert processes.read_process_group() == ProcessGroup(0, 1, 0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="WORLD_SIZE is 4, but RANK is not there"):
        processes.read_process_group()
    said = {"RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert processes.read_process_group() == ProcessGroup(3, 4, 1, 2)
    assert not processes.read_process_group().is_first
    with (
        pytest.raises(UsageError, match="several processes cannot share one 'mps'"),
        processes.connect_processes("mps"),
    ):
        pass
    monkeypatch.setenv("RANK", "three")
    with pytest.raises(UsageError, match="three"):
        processes.read_process_group()


def test_tensorboard_that_is_not_installed_is_one_line(dataset, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="tensorboard") as caught:
        train(dataset, tmp_path / "model", TrainConfig(**SETTINGS, steps=1, tensorboard=True))
    assert caught.value.hint == install_command("tensorboard")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_compiled_while_steps_are_timed_or_after_them(dataset, monkeypatch):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compile_it = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: compile_it(model, backend=backend, **options))
    config = TrainConfig(**SETTINGS, minutes=1.0)
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    corpus = Corpus.read(dataset, tokenizer)
    options = {"device": "cpu", "precision": "float32", "is_compiled": True}
    runner = StepRunner(architecture.new_network("toy", tokenizer, 128, 0, **options), corpus, config, ProcessGroup())
    plan = TrainingPlan.build(corpus, config, 60, is_curriculum=False)
    list(run_preflight(dataset, corpus, runner.network, tokenizer, config, dataset.folder.parent / "none"))
    assert graphs == []  # rows of any length go through the network there
    with monkeypatch.context() as clock:  # which stands still but for compilations
        clock.setattr(preflight.time, "perf_counter", lambda: float(len(graphs)))
        for size in (600, 1200):
            runner.micro_batch_tokens = size
            assert preflight._time_step(runner, plan, 0) == 0
            assert len(graphs) == size // 600
        assert preflight._time_steps(runner, plan, 1e9) == 0
    assert search_batch_size(runner, is_curriculum=False, seconds=60.0) > 0
    compiled = len(graphs)
    for step in plan.steps_from(30):
        runner.run_step(plan, step, 0.01)
    assert len(graphs) == compiled


def test_the_norm_of_a_large_gradient_is_exact(make_runner):
    """Torch's own norm is too small by a part in 100,000, which depends on how a tensor is divided among processes."""
    runner = make_runner(clip=0.5)
    weight = torch.nn.Parameter(torch.zeros(1000, 3000))
    weight.grad = torch.randn(1000, 3000, generator=torch.Generator().manual_seed(0)) / 100
    runner.optimizer.weights = {"weight": weight}
    expected = float(weight.grad.double().norm())
    assert abs(float(weight.grad.norm()) / expected - 1) > 1e-6
    assert float(runner.optimizer.update_weights(0.0)) == pytest.approx(expected, rel=3e-7)
    assert float(weight.grad.double().norm()) == pytest.approx(0.5, rel=1e-5)
