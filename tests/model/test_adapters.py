from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

import bases
import finished
from git_starcoder.errors import MissingExtraError, UsageError
from git_starcoder.model import loading
from git_starcoder.model import network as networks
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.packing import pack_rows
from git_starcoder.model.training import train
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.tokenizer import Tokenizer

ROWS = [np.arange(3, 40) * 7 % 280, np.arange(5, 22) * 11 % 280]
NEW = "<new_control>"


@pytest.fixture(scope="module", autouse=True)
def one_core():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "limit_library_threads", lambda: 1)
        yield


def config(base, **values):
    return TrainConfig(base=str(base), tune="lora", device="cpu", precision="float32", lora_rank=4, **values)


def nudged(network, rows=ROWS, rate=0.1, steps=3):
    """After a few steps on rows, by plain gradient descent."""
    weights = network.trainable_weights()
    network.model.train()
    for _ in range(steps):
        network.token_losses(pack_rows(rows)).mean().backward()
        for weight in weights.values():
            weight.data -= rate * weight.grad
            weight.grad = None
    network.model.eval()
    return network


def nats(network, rows=ROWS):
    network.model.eval()
    with network.torch.inference_mode():
        return network.token_losses(pack_rows(rows)).numpy()


def by_peft(base, folder):
    """A base with the adapters of a folder, as peft alone reads them."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with loading.no_warnings():
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)


def extended(own, folder):
    """The tokenizer with a control token more."""
    own.save(folder)
    definition = json.loads((folder / "tokenizer.json").read_text())
    definition["added_tokens"].append({**definition["added_tokens"][0], "id": own.vocab_size, "content": NEW})
    return Tokenizer(definition, {"eos_token": "<|endoftext|>", "pad_token": "<fim_pad>"})


@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_merged_model_is_the_model_with_its_adapters(tmp_path, kind, tied):
    own = bases.tokenizer()
    base = bases.write(tmp_path / "base", kind, own, tie_word_embeddings=tied)
    own.save(tmp_path / "tokenizer")
    network = loading.build_network(config(base), own, 128)
    before = nats(network)
    names = network.trainable_weights()
    assert names
    assert all("lora_" in name for name in names)
    assert sum(weight.numel() for weight in names.values()) < 0.5 * sum(
        weight.numel() for weight in network.model.parameters()
    )
    nudged(network)
    adapted = nats(network)
    assert adapted.mean() < before.mean() - 0.01
    loading.save_model(network, tmp_path / "tokenizer", tmp_path / "model")
    assert np.abs(nats(network) - adapted).max() < 1e-5
    (tmp_path / "model" / loading.TRAINING_RECORD).write_text("{}")
    again, _ = loading.load_model(tmp_path / "model")
    again.precision = "float32"
    assert np.abs(nats(again) - adapted).max() < 1e-5
    assert {file.name for file in (tmp_path / "model" / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    plain = by_peft(base, tmp_path / "model" / "adapter")
    with_adapter = networks.Network(plain.get_base_model(), own, device="cpu", precision="float32")
    assert np.abs(nats(with_adapter) - adapted).max() < 1e-5
    reread = networks.Network(
        loading.merge_into_unquantized(str(base), tmp_path / "model" / "adapter", network.vocab_size),
        own,
        device="cpu",
        precision="float32",
    )
    assert np.abs(nats(reread) - adapted).max() < 1e-5


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_tokens_that_the_base_does_not_know_are_learned(tmp_path, tied, tune):
    own = bases.tokenizer()
    base = bases.write(tmp_path / "base", "Llama", own, tie_word_embeddings=tied)
    more = extended(own, tmp_path / "tokenizer")
    new = more.vocabulary[NEW]
    more.save(tmp_path / "tokenizer")
    said = replace(config(base), tune=tune)
    network = loading.build_network(said, more, 128)
    rows = [np.array([5, new, 20, new, 30, new, 40, 41])]
    before = nats(network, rows)
    embeddings = network.model.get_input_embeddings()(network.torch.arange(new + 1)).detach().numpy()
    assert np.allclose(embeddings[new], embeddings[:new].mean(axis=0), atol=1e-6)
    nudged(network, rows, 0.01)
    after = nats(network, rows)
    assert after.mean() < before.mean()
    moved = network.model.get_input_embeddings()(network.torch.arange(new + 1)).detach().numpy()
    assert np.abs(moved[new] - embeddings[new]).max() > 1e-4
    if tune == "lora":
        assert np.array_equal(moved[:new], embeddings[:new])
    loading.save_model(network, tmp_path / "tokenizer", tmp_path / "model")
    (tmp_path / "model" / loading.TRAINING_RECORD).write_text("{}")
    again, tokenizer = loading.load_model(tmp_path / "model")
    again.precision = "float32"
    assert tokenizer.vocabulary[NEW] == new
    assert np.abs(nats(again, rows) - after).max() < 1e-5


def test_a_training_of_adapters_leaves_the_base_and_gives_both(tmp_path):
    dataset = finished.toy(tmp_path / "dataset")
    own = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    base = bases.write(tmp_path / "base", "GPT2", own)
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    result = train(dataset, tmp_path / "model", config(base, steps=4, batch=256, learning_rate=5e-3))
    assert result.steps == 4
    assert {file.name: file.read_bytes() for file in base.iterdir()} == before
    said = json.loads((tmp_path / "model" / "adapter" / "adapter_config.json").read_text())
    assert said["base_model_name_or_path"] == str(base)
    assert (said["r"], said["lora_alpha"]) == (4, 32.0)
    plain = by_peft(base, tmp_path / "model" / "adapter")
    adapted = nats(networks.Network(plain.get_base_model(), own, device="cpu", precision="float32"))
    merged, _ = loading.load_model(tmp_path / "model")
    merged.precision = "float32"
    assert np.abs(nats(merged) - adapted).max() < 1e-5


def test_adapters_begin_by_the_seed(tmp_path):
    base = bases.write(tmp_path / "base")
    weights = [
        {
            name: weight.detach().numpy().copy()
            for name, weight in loading.build_network(config(base, seed=seed), bases.tokenizer(), 128)
            .trainable_weights()
            .items()
        }
        for seed in (1, 1, 2)
    ]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not np.array_equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_what_a_way_of_tuning_needs_is_said(tmp_path, monkeypatch):
    base = bases.write(tmp_path / "base")
    said = replace(config(base), tune="qlora")
    with pytest.raises(UsageError, match="need CUDA, and this is 'cpu'"):
        loading.build_network(said, bases.tokenizer(), 128)
    with pytest.raises(UsageError, match="bitsandbytes is not installed"):
        loading.build_network(replace(said, device="cuda"), bases.tokenizer(), 128)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match="peft") as caught:
        loading.build_network(config(base), bases.tokenizer(), 128)
    assert caught.value.hint == "pip install 'git-starcoder[lora]'"
