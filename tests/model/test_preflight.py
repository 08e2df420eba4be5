"""Preflight checks, and each problem that they find."""

from __future__ import annotations

import dataclasses
import shutil
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

import finished
from git_starcoder.errors import StarcoderError
from git_starcoder.model import architecture, peak_memory, preflight
from git_starcoder.model import network as networks
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.loading import read_training_record
from git_starcoder.model.optimizer import Optimizer
from git_starcoder.model.processes import ProcessGroup
from git_starcoder.model.training import train
from git_starcoder.text import tokenizer as tokenizers

CHECKED = (
    "device", "memory", "longest row", "tokenizer", "end of text", "control tokens", "packed rows", "splits", "disk",
)  # fmt: skip
TOY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module", autouse=True)
def deep_toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architecture.MODEL_SIZES, "toy4", {**TOY, "num_hidden_layers": 4})
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset") / "toy")


@pytest.fixture(scope="module")
def tokenizer(dataset):
    return tokenizers.load_tokenizer(dataset.tokenizer_folder)


@pytest.fixture(scope="module")
def corpus(dataset, tokenizer):
    return Corpus.read(dataset, tokenizer)


@pytest.fixture
def network(tokenizer):
    return architecture.new_network("toy", tokenizer, 128, 0)


@pytest.fixture
def run_checks(dataset, corpus, network, tokenizer, tmp_path):
    """The lines by what they look at, with some of what is run_checks at replaced."""

    def look(config=None, **other):
        given = {"dataset": dataset, "corpus": corpus, "network": network, "tokenizer": tokenizer, **other}
        lines = list(preflight.run_preflight(**given, config=config or TrainConfig(), out=tmp_path / "below" / "model"))
        return {line.what: line for line in lines}

    look.corpus = corpus
    return look


def wrong(line, *words):
    assert line.result == "wrong"
    assert all(word in line.figure for word in words), line
    assert line.hint
    with pytest.raises(StarcoderError) as error:
        preflight.raise_if_wrong(line)
    assert (error.value.what, error.value.hint) == (line.figure, line.hint)
    assert error.value.where == f"before training: {line.what}"


def test_nothing_is_wrong_with_a_sound_training(run_checks, network, tmp_path):
    before = [weight.detach().clone() for weight in network.model.parameters()]
    lines = run_checks()
    assert tuple(lines) == CHECKED
    assert {line.result for line in lines.values()} == {"ok"}
    assert all(preflight.raise_if_wrong(line) is line for line in lines.values())
    assert all(weight.grad is None for weight in network.model.parameters())
    assert all(weight.equal(other) for weight, other in zip(network.model.parameters(), before, strict=True))
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_is_longer_than_the_context(run_checks, tokenizer):
    wrong(
        run_checks(network=architecture.new_network("toy", tokenizer, 64, 0))["longest row"],
        "takes 128 tokens",
        "sees 64",
    )


def test_a_row_of_the_whole_window_that_opens_a_text_fits(run_checks, corpus):
    assert (corpus.lengths + corpus.starts_text).max() == 129
    assert run_checks()["longest row"].figure.startswith("128 tokens")


def test_weights_that_are_not_numbers(run_checks, network):
    network.model.get_input_embeddings().weight.data.fill_(float("nan"))
    wrong(run_checks()["longest row"], "nan bits")


def test_a_device_that_is_too_small(run_checks, network, monkeypatch):
    monkeypatch.setattr(peak_memory, "process_memory", lambda: 1 << 30)
    monkeypatch.setattr(peak_memory, "free_memory", lambda _: 10_000)
    lines = run_checks()
    wrong(lines["memory"], "parameters", "the process now 1.00", "of 1.0 GiB")
    assert "longest row" not in lines
    monkeypatch.setattr(peak_memory, "free_memory", lambda _: 500_000)
    line = run_checks()["memory"]
    assert line.result == "note"
    assert "recompute: true" in line.hint
    network.set_recomputation(is_on=True)
    line = run_checks()["memory"]
    assert "computed again" in line.figure
    assert "recompute" not in line.hint


def test_rows_that_fit_are_named_if_the_longest_does_not(run_checks, network, monkeypatch):
    monkeypatch.setattr(peak_memory, "process_memory", lambda: 0)
    monkeypatch.setattr(peak_memory, "CPU_BUFFER_BYTES", 0)
    monkeypatch.setattr(peak_memory, "inference_logit_bytes", lambda _: 0)
    monkeypatch.setattr(peak_memory, "INFERENCE_BATCH_TOKENS", 64)
    given = TrainConfig(micro_batch=64, optimizer="adamw")
    needed = peak_memory.predict_peak_memory(run_checks.corpus, network, given)
    assert (needed.tokens, needed.tokens_that_fit) == (128, 128)
    monkeypatch.setattr(peak_memory, "free_memory", lambda _: needed.needed - 1)
    line = run_checks(given)["memory"]
    assert line.result == "note"
    assert "rows of 64 tokens fit (build with --set window.size=N" in line.hint


def test_processes_share_the_tokens_of_a_step(run_checks, network):
    given = TrainConfig(batch=2048, optimizer="adamw")
    alone, shared = (
        peak_memory.predict_peak_memory(run_checks.corpus, network, given, world_size) for world_size in (1, 2)
    )
    assert shared.tokens < 0.6 * alone.tokens
    assert shared.needed < alone.needed


def test_logits_are_gone_when_activations_are_computed_again(run_checks, network, monkeypatch):
    logits = 1 << 33
    monkeypatch.setattr(peak_memory, "training_logit_bytes", lambda *_: logits)
    given = TrainConfig(optimizer="adamw")

    def needed():
        peak = peak_memory.predict_peak_memory(run_checks.corpus, network, given)
        return peak.parts[f"activations of {peak.tokens:,} tokens"] + peak.parts["logits"], peak.tokens

    stored, _ = needed()
    network.set_recomputation(is_on=True)
    computed_again, tokens = needed()
    assert computed_again == logits + peak_memory.layer_input_bytes(network, tokens)
    assert computed_again < stored


def test_weights_on_a_gpu_are_not_counted_twice(run_checks, network, monkeypatch):
    """What is free on a GPU is what the weights, which are on it already, have left."""
    weights = peak_memory.part_bytes(list(network.model.parameters()))
    monkeypatch.setattr(peak_memory, "held_memory", lambda _: weights)
    monkeypatch.setattr(peak_memory, "free_memory", lambda _: 4 * weights)
    given = TrainConfig(optimizer="adamw")  # 1 of gradients, 2 of state
    peak = peak_memory.predict_peak_memory(run_checks.corpus, network, given)
    assert peak.available == 5 * weights
    assert peak.least == 4 * weights
    monkeypatch.setattr(peak_memory, "free_memory", lambda _: 2 * weights)
    wrong(run_checks(given)["memory"], "parameters")


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("recomputes", [False, True])
def test_bytes_of_long_rows_are_predicted_from_short_ones(tokenizer, dropout, recomputes):
    network = architecture.new_network("toy4", tokenizer, 1024, 0, dropout)
    network.set_recomputation(is_on=recomputes)
    rows = [np.arange(513) % network.vocab_size] * 3
    drawn = network.torch.get_rng_state()
    found = network.peak_bytes(rows, is_training=True)
    growth = peak_memory.measure_growth(network, 512, is_training=True)
    assert found <= growth.bytes_of(3 * 512, 512) < 1.12 * found  # exact for wider networks
    assert found > 4 * network.peak_bytes([row[:129] for row in rows], is_training=True) * 1.02  # not in proportion
    assert network.torch.get_rng_state().equal(drawn)
    assert all(weight.grad is None for weight in network.model.parameters())
    assert found > network.peak_bytes(rows, is_training=False)


def test_long_rows_are_measured_with_the_attention_that_they_have(tokenizer):
    """Rows of more than 1,024 tokens do not store attention weights on a CPU."""
    network = architecture.new_network("toy4", tokenizer, 4096, 0)
    found = network.peak_bytes([np.arange(1537) % network.vocab_size], is_training=True)
    growth = peak_memory.measure_growth(network, 1536, is_training=True)
    assert found <= growth.bytes_of(1536, 1536) < 1.12 * found
    assert peak_memory.measure_growth(network, 1024, is_training=True).bytes_of(1536, 1536) > 1.3 * found


def test_activations_that_are_computed_again_are_few_and_the_same(tokenizer):
    network = architecture.new_network("toy4", tokenizer, 1024, 0, 0.1)
    rows = [np.arange(257) % network.vocab_size] * 2
    found = []
    for is_on in (False, True):
        network.set_recomputation(is_on=is_on)
        network.model.train()
        network.torch.manual_seed(1)
        network.row_losses(rows).mean().backward()
        found.append({name: weight.grad for name, weight in network.trainable_weights().items()})
        network.model.zero_grad(set_to_none=True)
        found.append(network.peak_bytes(rows, is_training=True))
    assert all(found[0][name].equal(gradient) for name, gradient in found[2].items())
    assert found[3] < 0.5 * found[1]


@pytest.mark.parametrize(("wanted", "free", "expected"), [(None, 1 << 40, False), (None, 0, True), (False, 0, False)])
def test_activations_are_computed_again_where_memory_is_short(run_checks, network, monkeypatch, wanted, free, expected):
    monkeypatch.setattr(peak_memory, "free_memory", lambda _: free)
    preflight.choose_recomputation(run_checks.corpus, network, TrainConfig(recompute=wanted), ProcessGroup())
    assert network.recomputes_activations is expected


def test_logits_that_are_computed_again_need_no_memory(network, monkeypatch):
    kept = peak_memory.training_logit_bytes(network, 2048)
    monkeypatch.setattr(peak_memory, "MAX_STORED_LOGITS", 0)
    # Those of one slice exist once more instead, in float32, if they were in another format.
    is_float32 = network.precision == "float32"
    stored, made_again = 2048 * network.vocab_size, networks.LOGIT_SLICE_TOKENS * network.vocab_size * (not is_float32)
    number_bytes = 4 if is_float32 else 2
    saved = kept - peak_memory.training_logit_bytes(network, 2048)
    assert saved == number_bytes * stored - 4 * made_again > 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_logits_of_a_large_vocabulary_never_exist_at_once(precision, tokenizer):
    from git_starcoder.model.live_bytes import LiveBytes

    vocab_size, tokens = 152_064, 3072
    network = architecture.new_network("toy", tokenizer, 4096, 0)
    network.precision = precision
    torch = network.torch
    table = torch.nn.Parameter(torch.zeros(vocab_size, 32))
    network.model.get_input_embeddings().weight = network.model.get_output_embeddings().weight = table
    network.vocab_size = vocab_size
    network.model.requires_grad_(requires_grad=False)
    network.model.model.norm.weight.requires_grad = True
    with LiveBytes() as meter:
        network.row_losses([np.arange(tokens + 1) % 500]).mean().backward()
    predicted = peak_memory.training_logit_bytes(network, tokens)
    assert 4 * tokens * vocab_size > 1.9 * predicted
    assert meter.peak == pytest.approx(predicted, rel=0.1)


def test_what_a_process_holds_is_asked_of_the_system(monkeypatch):
    held = peak_memory.process_memory()
    block = np.ones(1 << 24)
    assert peak_memory.process_memory() - held > block.nbytes // 2
    monkeypatch.setattr(peak_memory.Path, "read_text", Mock(side_effect=OSError))
    assert peak_memory.process_memory() > block.nbytes  # the most that was held, where there is no such file


def test_the_state_of_each_optimizer_is_counted(network):
    """The sizes are those of the tensors that a step makes."""
    trained = network.trainable_weights().values()
    for kind in ("muon", "adamw", "adamw8bit"):
        given = TrainConfig(optimizer=kind)
        optimizer = Optimizer(network, given, ProcessGroup())
        for weight in trained:
            weight.grad = network.torch.ones_like(weight)
        optimizer.update_weights(0.0)
        tensors = [tensor for name, tensor in optimizer.state_tensors().items() if not name.endswith("/step")]
        found = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        assert peak_memory.optimizer_bytes(network, given) == pytest.approx(found, rel=1e-3), kind


def test_a_vocabulary_that_the_model_lacks(corpus, network):
    size = network.model.config.vocab_size
    line = preflight._check_vocabulary(corpus, network, SimpleNamespace(vocab_size=700, end_id=0, pad_id=size))
    wrong(line, f"700 tokens in a vocabulary of {size}", "lacks entries")
    more = dataclasses.replace(corpus, tokens=np.array([size]))
    assert (
        preflight._check_vocabulary(more, network, SimpleNamespace(vocab_size=size, end_id=0, pad_id=0)).result
        == "wrong"
    )


def test_rows_that_never_end(run_checks, corpus):
    wrong(
        run_checks(corpus=dataclasses.replace(corpus, end_token=corpus.end_token + 4))["end of text"], "no row learns"
    )
    only_shown = dataclasses.replace(corpus, context_lengths=corpus.lengths.astype(np.int32))
    wrong(preflight._check_end_of_text(only_shown, has_base=False), "no row learns")
    assert preflight._check_end_of_text(only_shown, has_base=True).result == "note"


def test_text_that_becomes_a_control_token(run_checks, tokenizer):
    class Naive:
        """Encodes as a plain call of most tokenizers does."""

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def encode(self, texts):
            ids = {text.encode(): number for number, text in tokenizer.control_tokens.items()}
            return np.array([ids[text] for text in texts]), None

    wrong(run_checks(tokenizer=Naive())["control tokens"], "is made of ordinary text")
    assert "which no text gets; with fill" in run_checks()["control tokens"].figure


def test_rows_that_see_their_neighbours(run_checks, network, monkeypatch):
    honest = networks.build_segments
    network.precision = "float32"  # this small, and untrained, it hardly heeds what it sees

    def leaking(torch, bounds, *places, **options):
        return honest(torch, bounds[[0, -1]], *places, **options)

    monkeypatch.setattr(networks, "build_segments", leaking)
    wrong(run_checks()["packed rows"], "rows see the rows packed before them")
    assert run_checks(TrainConfig(attend="micro_batch"))["packed rows"].result == "note"


def test_a_file_in_two_splits(run_checks, tmp_path):
    same = {"a.py": finished.source(1)}
    dataset = finished.write(tmp_path / "leaking", {"train": same, "val": same})
    wrong(run_checks(dataset=dataset)["splits"], "2 files and groups are in two splits, such as file a.py")


def test_a_full_disk(run_checks, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    wrong(run_checks()["disk"], "0.0 GiB free")


def test_a_certificate_that_cannot_be_worked_out_is_a_note(dataset):
    line = preflight.check_certificate(dataset)
    assert line.result == "note"
    assert line.figure.startswith("cannot be computed: ")


def test_a_micro_batch_is_at_least_a_tile(tmp_path):
    texts = {"train": {"a.py": b"one = 1\n", "b.py": b"two = 2\n"}, "val": {"c.py": b"three = 3\n"}}
    dataset = finished.write(tmp_path / "dataset", texts)
    config = TrainConfig(size="toy", batch=64, steps=2, micro_batch=32, device="cpu", precision="float32")
    train(dataset, tmp_path / "model", config)
    assert read_training_record(tmp_path / "model")["config"]["micro_batch"] == 64
