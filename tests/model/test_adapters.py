from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

import bases
import finished
from git_starcoder.errors import DatasetError, MissingExtraError, UsageError
from git_starcoder.installation import install_command
from git_starcoder.model import adapters, base_model, base_weights, building, extras, loading, weight_files
from git_starcoder.model import network as networks
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.packing import pack_rows
from git_starcoder.model.training import train
from git_starcoder.output.contents import describe_files
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

    with extras.no_warnings():
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)


def extended(own, folder):
    """The tokenizer with a control token more."""
    own.save(folder)
    definition = json.loads((folder / "tokenizer.json").read_text())
    definition["added_tokens"].append({**definition["added_tokens"][0], "id": own.vocab_size, "content": NEW})
    return Tokenizer(definition, {"eos_token": "<|endoftext|>", "pad_token": "<fim_pad>"})


@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_saved_model_is_the_model_with_its_adapters(tmp_path, kind, tied, monkeypatch):
    own = bases.tokenizer()
    base = bases.write(tmp_path / "base", kind, own, tie_word_embeddings=tied)
    own.save(tmp_path / "tokenizer")
    network = building.build_network(config(base), own, 128)
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
    folder = tmp_path / "model"
    loading.save_model(network, tmp_path / "tokenizer", folder)
    bases.mark_trained(folder)
    assert not list(folder.glob("*.safetensors"))
    assert {file.name for file in (folder / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "base_weights.json",
    }  # fmt: skip
    plain = by_peft(base, folder / "adapter")
    with_adapter = networks.Network(plain.get_base_model(), own, device="cpu", precision="float32")
    assert np.abs(nats(with_adapter) - adapted).max() < 1e-5
    monkeypatch.setattr(loading, "best_precision", lambda _: "float32")
    assert np.abs(nats(loading.load_model(folder)[0]) - adapted).max() < 1e-5
    (tmp_path / "merged").mkdir()
    adapters.merge_published_adapters(folder, tmp_path / "merged", "float32")
    assert (tmp_path / "merged" / "adapter" / "adapter_config.json").is_file()
    (base / "model.safetensors").unlink()  # merged weights need no base
    assert np.abs(nats(loading.load_model(tmp_path / "merged")[0]) - adapted).max() < 1e-5
    with pytest.raises(DatasetError, match=r"adapters for the base .* which cannot be read") as caught:
        loading.load_model(folder)
    assert "--merge" in caught.value.hint


def test_adapters_refuse_a_base_with_other_weights(tmp_path):
    own = bases.tokenizer()
    base = bases.write(tmp_path / "base", "Llama", own)
    own.save(tmp_path / "tokenizer")
    loading.save_model(building.build_network(config(base), own, 128), tmp_path / "tokenizer", tmp_path / "model")
    with pytest.raises(UsageError, match="has adapters instead of weights"):
        base_model.find_base_folder(str(tmp_path / "model"))
    loading.load_weights(tmp_path / "model")
    data = bytearray((base / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (base / "model.safetensors").write_bytes(data)
    with pytest.raises(DatasetError, match="has other weights than those that the adapters"):
        loading.load_weights(tmp_path / "model")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("tune", ["lora", "full"])
@pytest.mark.usefixtures("in_float32")
def test_tokens_that_the_base_does_not_know_are_learned(tmp_path, tied, tune):
    own = bases.tokenizer()
    base = bases.write(tmp_path / "base", "Llama", own, tie_word_embeddings=tied)
    more = extended(own, tmp_path / "tokenizer")
    new = more.vocabulary[NEW]
    more.save(tmp_path / "tokenizer")
    said = replace(config(base), tune=tune)
    network = building.build_network(said, more, 128)
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
    bases.mark_trained(tmp_path / "model")
    again, tokenizer = loading.load_model(tmp_path / "model")
    assert tokenizer.vocabulary[NEW] == new
    assert np.abs(nats(again, rows) - after).max() < 1e-5


def test_a_training_of_adapters_leaves_the_base_and_merges_on_request(tmp_path, monkeypatch):
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
    assert not (tmp_path / "model" / "model.safetensors").exists()
    monkeypatch.setattr(loading, "best_precision", lambda _: "float32")
    assert np.abs(nats(loading.load_model(tmp_path / "model")[0]) - adapted).max() < 1e-5
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    train(dataset, tmp_path / "merged", config(base, steps=4, batch=256, learning_rate=5e-3, merge=True))
    assert np.abs(nats(loading.load_model(tmp_path / "merged")[0]) - adapted).max() < 1e-5
    merged = json.loads((tmp_path / "merged" / "training.json").read_text())
    assert merged["files"].keys() - record["files"].keys() == {"model.safetensors"}
    assert merged["files"] == {
        name: value for name, value in describe_files(tmp_path / "merged").items() if name != "training.json"
    }
    assert merged["plan"] == record["plan"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "dataset", "merged", "model"]


def test_frozen_weights_in_bfloat16_change_no_result(tmp_path):
    """Products round them anyway; embeddings are rounded only if nothing is lost."""
    own = bases.tokenizer()
    base = bases.write(tmp_path / "base", "Qwen2", own, tie_word_embeddings=False, num_key_value_heads=2)
    found = []
    for is_base_rounded in (False, True):
        if is_base_rounded:
            weight_files.save_weights(loading.load_weights(base), base, "bfloat16")
        expected = None
        for held in (False, True):
            with pytest.MonkeyPatch.context() as patch:
                if not held:
                    patch.setattr(networks, "round_frozen_weights", lambda *_: None)
                    patch.setattr(weight_files, "stored_number_types", lambda _: set())
                network = building.build_network(replace(config(base), precision="bfloat16"), own, 128)
            types = {name: str(weight.dtype) for name, weight in network.model.named_parameters()}
            if expected is None:
                expected = nats(nudged(network, steps=1))  # later, adapters differ that began rounded or not
                assert set(types.values()) == {"torch.float32"}
            else:
                assert np.array_equal(nats(nudged(network, steps=1)), expected)
                found.append({name for name, kind in types.items() if kind == "torch.bfloat16"})
                assert {name for name in types if "lora_" in name or "norm" in name or "bias" in name}.isdisjoint(
                    found[-1]
                )
    assert {name.rpartition("layers.")[2] for name in found[0]} >= {"lm_head.weight", "0.mlp.up_proj.base_layer.weight"}
    assert found[1] - found[0] == {"model.embed_tokens.weight"}


def test_weights_are_saved_as_the_base_has_them(tmp_path):
    base = bases.write(tmp_path / "base")
    full = replace(config(base), tune="full")
    assert loading.saved_number_type(full) == "float32"
    assert loading.saved_number_type(replace(full, saved_precision="bfloat16")) == "bfloat16"
    weight_files.save_weights(loading.load_weights(base), base, "bfloat16")
    assert loading.saved_number_type(full) == "bfloat16"
    own = bases.tokenizer()
    own.save(tmp_path / "tokenizer")
    network = building.build_network(full, own, 128)
    assert {str(weight.dtype) for weight in network.model.parameters()} == {"torch.float32"}
    loading.save_model(network, tmp_path / "tokenizer", tmp_path / "model", "bfloat16")
    assert weight_files.stored_number_types(tmp_path / "model") == {"BF16"}
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"


def test_weights_in_four_bits_are_trained_with_and_merged_without_them(tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    dataset = finished.toy(tmp_path / "dataset")
    own = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    base = bases.write(tmp_path / "base", "Llama", own, hidden_size=64, intermediate_size=128)
    said = replace(config(base, steps=3, batch=256, learning_rate=5e-3, merge=True), tune="qlora")
    network = building.build_network(said, own, 128)
    assert isinstance(network.model.model.layers[0].mlp.up_proj.base_layer, bitsandbytes.nn.Linear4bit)
    result = train(dataset, tmp_path / "model", said)
    assert result.held_out is not None
    plain = by_peft(base, tmp_path / "model" / "adapter")
    expected = nats(networks.Network(plain.get_base_model(), own, device="cpu", precision="float32"))
    merged = networks.Network(loading.load_weights(tmp_path / "model"), own, device="cpu", precision="float32")
    assert np.abs(nats(merged) - expected).max() < 1e-5
    assert "quantization_config" not in json.loads((tmp_path / "model" / "config.json").read_text())


def test_each_process_quantizes_on_its_own_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    options = base_weights._quantization_options(TrainConfig(base="x", tune="qlora"), "cuda", "bfloat16")
    assert options["device_map"] == {"": 3}


def test_adapters_begin_by_the_seed(tmp_path):
    base = bases.write(tmp_path / "base")
    weights = [
        {
            name: weight.detach().numpy().copy()
            for name, weight in building.build_network(config(base, seed=seed), bases.tokenizer(), 128)
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
    for changed, where in (({"tune": "qlora"}, "tune: qlora"), ({"optimizer": "adamw8bit"}, "optimizer: adamw8bit")):
        with pytest.raises(UsageError, match="bitsandbytes cannot compute on 'mps'") as caught:
            extras.require_libraries(replace(config(base), **changed), "mps")
        assert caught.value.where == where
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "bitsandbytes", None)
        with pytest.raises(MissingExtraError, match="bitsandbytes") as caught:
            building.build_network(said, bases.tokenizer(), 128)
        assert caught.value.hint == install_command("bitsandbytes")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match="peft") as caught:
        building.build_network(config(base), bases.tokenizer(), 128)
    assert caught.value.hint == install_command("lora")


@pytest.mark.parametrize("is_loaded", [True, False])
def test_bitsandbytes_loads_no_kernel_from_the_hub(is_loaded, monkeypatch, caplog):
    """On some CPUs, it would run code from the hub if the library for that is there, and advise to install it if not."""
    loader = ModuleType("kernels")
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    if is_loaded:
        monkeypatch.setitem(sys.modules, "kernels", loader)
    imported = []

    def import_module(name):
        with pytest.raises(ImportError):
            import kernels  # noqa: F401
        logging.getLogger("bitsandbytes.backends.cpu.ops").warning("no kernels")
        imported.append(name)

    monkeypatch.setattr(extras, "import_module", import_module)
    extras.require_bitsandbytes("cpu", "tune: qlora", hint="")
    assert imported == ["bitsandbytes"]
    assert not caplog.records
    assert sys.modules.get("kernels") is (loader if is_loaded else None)
    assert ("kernels" in sys.modules) == is_loaded
