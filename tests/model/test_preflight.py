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
from git_starcoder.model import loading, preflight
from git_starcoder.model import network as networks
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.text import tokenizer as tokenizers

CHECKED = (
    "device", "memory", "longest row", "tokenizer", "end of text", "control tokens", "packed rows", "splits", "disk",
)  # fmt: skip
TOY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


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
    return loading.new_network("toy", tokenizer, 128, 0)


@pytest.fixture
def run_checks(dataset, corpus, network, tokenizer, tmp_path):
    """The lines by what they look at, with some of what is run_checks at replaced."""

    def look(config=None, **other):
        given = {"dataset": dataset, "corpus": corpus, "network": network, "tokenizer": tokenizer, **other}
        lines = list(preflight.run_preflight(**given, config=config or TrainConfig(), out=tmp_path / "below" / "model"))
        return {line.what: line for line in lines}

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
        run_checks(network=loading.new_network("toy", tokenizer, 64, 0))["longest row"], "takes 128 tokens", "sees 64"
    )


def test_a_row_of_the_whole_window_that_opens_a_text_fits(run_checks, corpus):
    assert (corpus.lengths + corpus.starts_text).max() == 129
    assert run_checks()["longest row"].figure.startswith("128 tokens")


def test_weights_that_are_not_numbers(run_checks, network):
    network.model.get_input_embeddings().weight.data.fill_(float("nan"))
    wrong(run_checks()["longest row"], "nan bits")


def test_a_device_that_is_too_small(run_checks, monkeypatch):
    monkeypatch.setattr(preflight, "_process_memory", lambda: 1 << 30)
    monkeypatch.setattr(preflight, "_free_memory", lambda _: 10_000)
    lines = run_checks()
    wrong(lines["memory"], "parameters", "the process now 1.00", "of 1.0 GiB")
    assert "longest row" not in lines
    monkeypatch.setattr(preflight, "_free_memory", lambda _: 500_000)
    assert run_checks()["memory"].result == "note"


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_activations_of_a_micro_batch_are_estimated_from_short_rows(tokenizer, dropout):
    network = loading.new_network("toy", tokenizer, 1024, 0, dropout)
    rows = [np.arange(513) % network.vocab_size] * 3
    drawn = network.torch.get_rng_state()
    stored = network.activation_bytes(rows)
    assert preflight._estimate_activations(network, 3 * 512, 512) == pytest.approx(stored, rel=1e-3)
    assert stored > 4 * network.activation_bytes([row[:129] for row in rows]) * 1.05  # more than in proportion
    assert network.torch.get_rng_state().equal(drawn)
    weights = {weight.data_ptr() for weight in network.model.parameters()}
    held = []
    with network.torch.autograd.graph.saved_tensors_hooks(lambda each: held.append(each) or each, lambda each: each):
        network.row_losses(rows)
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in held}
    assert stored == sum(size for place, size in storages.items() if place not in weights)


def test_logits_that_are_computed_again_need_no_memory(network, monkeypatch):
    kept = preflight._estimate_activations(network, 1024, 128)
    monkeypatch.setattr(preflight, "MAX_STORED_LOGITS", 0)
    assert kept - preflight._estimate_activations(network, 1024, 128) == 4 * 1024 * network.vocab_size


def test_what_a_process_holds_is_asked_of_the_system(monkeypatch):
    held = preflight._process_memory()
    block = np.ones(1 << 24)
    assert preflight._process_memory() - held > block.nbytes // 2
    monkeypatch.setattr(preflight.Path, "read_text", Mock(side_effect=OSError))
    assert preflight._process_memory() > block.nbytes  # the most that was held, where there is no such file


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
    wrong(preflight._check_end_of_text(only_shown), "no row learns")


def test_text_that_becomes_a_control_token(run_checks, tokenizer):
    class Naive:
        """Encodes as a plain call of most tokenizers does."""

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def encode(self, texts):
            ids = {text.encode(): number for number, text in tokenizer.control_tokens.items()}
            return np.array([ids[text] for text in texts]), None

    wrong(run_checks(tokenizer=Naive())["control tokens"], "is made of ordinary text")
    assert "none made of text; with fill" in run_checks()["control tokens"].figure


def test_rows_that_see_their_neighbours(run_checks, network, monkeypatch):
    honest = networks.build_segments
    network.precision = "float32"  # this small, and untrained, it hardly heeds what it sees

    def leaking(torch, bounds, *places, **options):
        return honest(torch, bounds[[0, -1]], *places, **options)

    monkeypatch.setattr(networks, "build_segments", leaking)
    wrong(run_checks()["packed rows"], "rows see the rows packed before them")
    assert run_checks(TrainConfig(attend="piece"))["packed rows"].result == "note"


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
