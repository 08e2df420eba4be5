from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import bases
import finished
from git_starcoder.errors import DatasetError, MissingExtraError, UsageError
from git_starcoder.installation import install_command
from git_starcoder.model import architecture, base_model, base_weights, building, loading
from git_starcoder.model import network as networks
from git_starcoder.model.complete import Model, complete, find_completion_example, prompt_tokens
from git_starcoder.model.config import SIZE_PARAMETERS, TrainConfig
from git_starcoder.model.packing import pack_rows
from git_starcoder.text import tokenizer as pretrained
from git_starcoder.text import tokenizer as tokenizers

ROWS = [np.arange(3, 40) * 7 % 280, np.arange(5, 22) * 11 % 280]


@pytest.fixture(scope="module", autouse=True)
def toy_size():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "limit_library_threads", lambda: 1)
        patch.setitem(architecture.MODEL_SIZES, "toy", architecture.layer_dimensions(64, 2))
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def saved(dataset, tmp_path_factory):
    """A model from scratch that knows little, in a folder."""
    folder = tmp_path_factory.mktemp("saved")
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    network = architecture.new_network("toy", tokenizer, 128, 0)
    torch = network.torch
    optimiser = torch.optim.AdamW(network.model.parameters(), lr=5e-3)
    rows = [np.array(row.tokens[: row.metadata["length"]]) for row in list(dataset.rows("train"))[:64]]
    for step in range(150):
        network.token_losses(pack_rows(rows[step % 8 :: 8])).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    loading.save_model(network, dataset.tokenizer_folder, folder)
    bases.mark_trained(folder)
    return folder


def config(folder, **values):
    return TrainConfig(base=str(folder), device="cpu", precision="float32", **values)


@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 4.26), ("small", 27.8), ("medium", 89.9), ("large", 348), ("huge", 995), ("124M", 123),
                           ("350m", 348), ("1B", 995), ("2500000", 2.5), ("0.9M", 0.95), ("7b", 6930)]
)  # fmt: skip
def test_sizes(size, millions):
    found = architecture.dimensions_for_size(size, 4096)
    width, depth = found["hidden_size"], found["num_hidden_layers"]
    count = 4096 * width + depth * width * (4 * width + 3 * found["intermediate_size"] + 2) + width
    assert count / 1e6 == pytest.approx(millions, rel=0.08)
    assert width == 64 * found["num_attention_heads"]
    assert width % 128 == found["intermediate_size"] % 64 == 0
    assert 0.25 < depth * 64 / width <= 3.5


def test_a_model_from_scratch_is_of_an_architecture_with_norms_of_queries_and_keys():
    model = architecture.new_network("toy", bases.tokenizer(), 64, 0, rope_base=1234.0).model
    assert model.config.model_type == "qwen3"
    assert model.config.rope_parameters["rope_theta"] == 1234.0
    attention = model.model.layers[0].self_attn
    assert attention.q_norm.weight.shape == (attention.head_dim,)
    assert model.config.head_dim * model.config.num_attention_heads == model.config.hidden_size
    assert model.config.num_key_value_heads == model.config.num_attention_heads


def test_a_size_has_as_many_parameters_as_it_says():
    tokenizer = bases.tokenizer()
    network = architecture.new_network("1M", tokenizer, 64, 0, dropout=0.25)
    assert sum(weight.numel() for weight in network.model.parameters()) == pytest.approx(1e6, rel=0.15)
    assert network.model.config.vocab_size % 64 == 0
    assert network.model.config.attention_dropout == 0.0
    network.model.train()
    losses = {float(network.token_losses(pack_rows(ROWS)).detach().sum()) for _ in range(3)}
    assert len(losses) == 3
    network.model.eval()
    assert len({float(network.token_losses(pack_rows(ROWS)).detach().sum()) for _ in range(3)}) == 1


def test_dropout_is_of_what_layers_add_to_the_residual_stream():
    network = architecture.new_network("1M", bases.tokenizer(), 64, 0, dropout=0.25)
    torch, model = network.torch, network.model
    for parent, part in ((model.model.layers[0], "self_attn"), (model.model.layers[-1], "mlp")):
        layer = getattr(parent, part)
        output = []
        layer.register_forward_hook(lambda _, __, added, output=output: output.append(added))
        for is_training in (True, False):
            model.train(is_training)
            model(torch.arange(64)[None])
        dropped, whole = (added[0] if isinstance(added, tuple) else added for added in output)
        zeros = dropped == 0
        assert 0.2 < float(zeros.float().mean()) < 0.3
        if part == "self_attn":  # nothing before it was dropped
            assert torch.allclose(dropped[~zeros], whole[~zeros] / 0.75, atol=1e-6)


@pytest.mark.parametrize("size", ["tinny", "many", "-5M", "10", "1e9", "", "0M"])
def test_sizes_that_cannot_be(size):
    with pytest.raises(UsageError) as caught:
        architecture.dimensions_for_size(size, 4096)
    assert caught.value.where == "--size"
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["Llama", "GPT2", "Qwen3", "GPTNeo"])
@pytest.mark.usefixtures("in_float32")
def test_any_base_is_trained_saved_and_completes(tmp_path, kind):
    own = bases.tokenizer()
    values = {"head_dim": 8, "num_key_value_heads": 2} if kind == "Qwen3" else {}
    if kind == "GPTNeo":
        values = {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
    folder = bases.write(tmp_path / "base", kind, own, **values)
    own.save(tmp_path / "tokenizer")
    for name in ("config.json", "generation_config.json"):  # as of a model that chats
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**values, "eos_token_id": [7, 8]}))
    network = building.build_network(config(folder), own, 128)
    assert network.model.generation_config.eos_token_id == own.end_id
    assert bool(network.notes) == (kind == "GPTNeo")
    before = network.token_losses(pack_rows(ROWS)).mean()
    before.backward()
    for name, weight in network.trainable_weights().items():
        assert weight.grad is not None, name
        weight.data -= 0.1 * weight.grad
    network.model.eval()
    after = network.token_losses(pack_rows(ROWS)).mean()
    assert after < before
    loading.save_model(network, tmp_path / "tokenizer", tmp_path / "model")
    bases.mark_trained(tmp_path / "model")
    again, _ = loading.load_model(tmp_path / "model")
    assert float(again.token_losses(pack_rows(ROWS)).mean().detach()) == pytest.approx(float(after.detach()), rel=1e-5)
    assert isinstance(complete(tmp_path / "model", "def find(", max_tokens=5), str)


@pytest.mark.usefixtures("in_float32")
def test_a_base_that_is_ours_goes_on(saved, dataset):
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    network = building.build_network(config(saved), tokenizer, 128)
    loaded, _ = loading.load_model(saved)
    rows = [np.arange(9), np.arange(30, 50)]
    assert np.array_equal(network.token_losses(pack_rows(rows)).detach(), loaded.token_losses(pack_rows(rows)).detach())


def test_bases_that_cannot_be(tmp_path, saved, monkeypatch):
    own = bases.tokenizer()
    folder = bases.write(tmp_path / "base", own=own)

    def refused(name, what, kind=UsageError, context=128, tokenizer=own):
        with pytest.raises(kind, match=what) as caught:
            building.build_network(config(name), tokenizer, context)
        assert "\n" not in caught.value.what + caught.value.where + caught.value.hint
        assert caught.value.where or str(name) in caught.value.what

    def copy(name, **changes):
        made = tmp_path / name
        made.mkdir()
        for file in folder.iterdir():
            if file.name not in changes.get("without", ()):
                (made / file.name).write_bytes(file.read_bytes())
        return made

    refused(tmp_path / "nowhere" / "at" / "all", "there is no folder")
    refused(saved.parent, "no config.json")
    refused(folder, "reads 256 tokens, and the rows have up to 512", context=512)
    refused(folder, "the dataset was not made for", tokenizer=bases.tokenizer(290))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused("nobody/nothing-of-this-name", "cannot be downloaded")

    pickled = copy("pickled", without=["model.safetensors"])
    (pickled / "pytorch_model.bin").write_bytes(b"pickle")
    refused(pickled, "as pickles, which could run code")
    refused(copy("empty", without=["model.safetensors"]), "has no weights")
    short = copy("short")
    (short / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1000])
    refused(short, "is damaged", DatasetError)
    nonsense = copy("nonsense")
    (nonsense / "config.json").write_text("{")
    refused(nonsense, "cannot be read")
    for name, changes, what in (
        ("encoder", {"model_type": "t5"}, "no causal language model"),
        ("strange", {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "code.Model"}}, "code of its own"),
        ("quantised", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "are quantised"),
        ("kernel", {"attn_implementation": "someone/kernel"}, "wants the code of someone/kernel"),
        ("nested", {"text": {"_attn_implementation": {"": "a/b@main"}}}, "wants the code of"),
        ("deeper", {"num_hidden_layers": 3}, "are missing"),
        ("wider", {"hidden_size": 64}, "is damaged"),
    ):
        changed = copy(name)
        values = json.loads((changed / "config.json").read_text())
        (changed / "config.json").write_text(json.dumps({**values, **changes}))
        refused(changed, what, DatasetError if name in {"deeper", "wider", "kernel", "nested"} else UsageError)
    bidirectional = bases.write(tmp_path / "bert", "Bert", own)
    refused(bidirectional, "not a causal model")
    refused(copy("wordless", without=pretrained.TOKENIZER_FILES), "neither tokenizer.json nor")


def test_a_device_that_cannot_compile():
    with pytest.raises(UsageError, match="on CUDA only"):
        building.build_network(TrainConfig(size="toy", compile=True, device="cpu"), bases.tokenizer(), 64)


def test_fill_in_the_middle_tokens_are_found_in_every_spelling(tmp_path):
    own = bases.tokenizer()
    own.save(tmp_path)
    definition = (tmp_path / "tokenizer.json").read_text()
    for prefix, middle, suffix in tokenizers.FIM_SPELLINGS:
        text = definition
        for old, new in (("<fim_prefix>", prefix), ("<fim_middle>", middle), ("<fim_suffix>", suffix)):
            text = text.replace(f'"{old}"', json.dumps(new))
        (tmp_path / "tokenizer.json").write_text(text)
        (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
        (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>", "pad_token": "<fim_pad>"}')
        found = tokenizers.load_tokenizer(tmp_path)
        assert found.fim_ids == own.fim_ids
        assert [found.control_tokens[number] for number in found.fim_ids] == [prefix, middle, suffix]


def test_a_token_that_text_can_come_to_is_none_to_fill_in_a_middle_by(tmp_path):
    own = bases.tokenizer()
    own.save(tmp_path)
    definition = json.loads((tmp_path / "tokenizer.json").read_text())
    controls = definition["added_tokens"]
    definition["added_tokens"] = [token for token in controls if not token["content"].startswith("<fim_middle")]
    assert "<fim_middle>" in definition["model"]["vocab"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    found = tokenizers.load_tokenizer(tmp_path)
    assert found.vocabulary["<fim_middle>"] == own.fim_ids[1]
    assert found.fim_ids is None


def test_a_tokenizer_of_two_files_is_the_one_that_was_saved_of_it(tmp_path):
    own = bases.tokenizer()
    own.save(tmp_path)
    definition = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    loading = tmp_path / "base"
    loading.mkdir()
    (loading / "vocab.json").write_text(json.dumps(definition["vocab"]))
    (loading / "merges.txt").write_text("\n".join(" ".join(pair) for pair in definition["merges"]))
    (loading / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    read = tokenizers.load_tokenizer(loading)
    read.save(tmp_path / "saved")
    assert (
        tokenizers.load_tokenizer(tmp_path / "saved").find_difference(read)
        == read.find_difference(tokenizers.load_tokenizer(tmp_path / "saved"))
        == ""
    )
    assert "is another one" in read.find_difference(_with_another(read, tmp_path / "other"))


def _with_another(tokenizer, folder):
    tokenizer.save(folder)
    definition = json.loads((folder / "tokenizer.json").read_text())
    definition["model"]["merges"] = definition["model"]["merges"][:-1]
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    return tokenizers.load_tokenizer(folder)


def test_plain_transformers_writes_what_complete_writes(saved):
    from transformers import AutoTokenizer, pipeline

    network, tokenizer = loading.load_model(saved)
    plain = AutoTokenizer.from_pretrained(saved)
    before, after = "def find_order(items: list[int], limit: int) ->", "\n    return total\n"
    text = f"<fim_prefix>{before}<fim_suffix>{after}<fim_middle>"
    assert plain(text)["input_ids"] == prompt_tokens(network, tokenizer, before, after, 10).tolist()
    assert plain(f"<|endoftext|>{before}")["input_ids"] == prompt_tokens(network, tokenizer, before, None, 10).tolist()
    generate = pipeline("text-generation", model=str(saved), device="cpu")
    for given, suffix in ((f"<|endoftext|>{before}", None), (text, after)):
        written = generate(given, max_new_tokens=6, do_sample=False, return_full_text=False)[0]["generated_text"]
        assert written == complete(saved, before, suffix=suffix, max_tokens=6)


def test_a_suffix_needs_its_tokens(tmp_path):
    own = bases.tokenizer()
    folder = bases.write(tmp_path, own=own)
    text = (folder / "tokenizer.json").read_text().replace('"<fim_middle>"', '"<other>"')
    (folder / "tokenizer.json").write_text(text)
    bases.mark_trained(folder)
    with pytest.raises(UsageError, match="no fill-in-the-middle tokens"):
        complete(folder, "def", suffix="return")


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_a_missing_extra_is_one_line(monkeypatch, library):
    tokenizer = bases.tokenizer()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=library) as caught:
        building.build_network(TrainConfig(), tokenizer, 64)
    assert caught.value.hint == install_command("train")


def test_the_files_of_a_hub_id_are_looked_for_in_the_cache_first(tmp_path, monkeypatch):
    import huggingface_hub

    folder = bases.write(tmp_path / "cached")
    asked = []

    def snapshot(name, allow_patterns, local_files_only=False):
        asked.append((name, local_files_only))
        assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert base_model.find_base_folder("someone/model") == folder
    assert asked == [("someone/model", True)]
    (folder / "model.safetensors").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="has no weights"):
        base_model.find_base_folder("someone/model")
    assert asked[1:] == [("someone/model", True), ("someone/model", False)]


def test_the_folder_is_one_that_transformers_reads(saved):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(saved)
    model = AutoModelForCausalLM.from_pretrained(saved)
    prompt = "def find_order(items: list[int], limit: int) ->"
    tokens = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    written = tokenizer.decode(model.generate(**tokens, max_new_tokens=4, do_sample=False)[0])
    assert written.startswith(prompt + " int:")
    config = json.loads((saved / "config.json").read_text())
    assert config["vocab_size"] % 64 == 0
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert json.loads((saved / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not [file for file in saved.iterdir() if file.suffix in {".bin", ".pt", ".pkl"}]


def test_completion(dataset, saved):
    place = find_completion_example(dataset)
    assert place.path.startswith("src/file_2")
    assert place.prompt.rstrip().endswith(":")
    whole = finished.source(int(place.path[9:-3])).decode()
    assert whole.startswith(place.prompt + place.author)
    assert place.author.splitlines()[0].strip()
    written = complete(saved, place.prompt, max_tokens=20)
    assert written == complete(saved, place.prompt, max_tokens=20)
    assert complete(saved, "def find_order(items: list[int], limit: int) ->", max_tokens=4).startswith(" int:")
    assert "<fim" not in complete(saved, "def f(", suffix="    return total\n", max_tokens=20)
    drawn = {complete(saved, "def find_", temperature=2.0, seed=seed, max_tokens=8) for seed in range(3)}
    assert len(drawn) > 1
    assert complete(saved, "x = 1\n" * 1000, max_tokens=5)
    assert isinstance(complete(saved, "", max_tokens=5), str)
    with pytest.raises(UsageError):
        complete(saved, "x", max_tokens=0)


def test_a_completion_need_not_go_round_in_circles(saved):
    prompt = "def find_order(items: list[int], limit: int) -> int:\n"
    written = complete(saved, prompt, max_tokens=100, no_repeat_tokens=6)
    tokens = loading.load_model(saved)[1].encode([written.encode()])[0].tolist()
    runs = [tuple(tokens[at : at + 12]) for at in range(len(tokens) - 11)]
    assert len(runs) == len(set(runs)) > 10


def test_all_processors_that_may_be_used_are_used(saved, monkeypatch):
    import torch

    monkeypatch.setattr(networks, "limit_library_threads", lambda: 3)
    loading.load_model(saved)
    assert torch.get_num_threads() == 3


def test_folders_that_are_no_models(saved, tmp_path):
    with pytest.raises(DatasetError, match="is not a model"):
        loading.load_model(tmp_path)
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DatasetError, match="is damaged"):
        loading.load_model(tmp_path)
    weights.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(DatasetError, match="is damaged"):
        loading.load_model(tmp_path)


def test_an_opened_model_completes_and_measures_texts(saved):
    model = Model.open(saved)
    prompt = "def find_order(items: list[int], limit: int) ->"
    assert model.complete(prompt, max_tokens=4) == complete(saved, prompt, max_tokens=4)
    assert 0 < model.bits_per_byte(finished.source(1)) < model.bits_per_byte(b"zq%7" * 50)
    with pytest.raises(UsageError, match="not empty"):
        model.bits_per_byte("")


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_dropout_of_a_base_is_that_of_the_config(tmp_path, dropout):
    tokenizer = bases.tokenizer()
    rates = {"resid_pdrop": 0.1, "attn_pdrop": 0.2, "embd_pdrop": 0.0}
    folder = bases.write(tmp_path / "base", "GPT2", tokenizer, **rates)
    model, _ = base_weights.load_base_model(config(folder, dropout=dropout), tokenizer, 32, "cpu", "float32")
    found = {key: getattr(model.config, key) for key in rates}
    assert found == {"resid_pdrop": dropout, "attn_pdrop": dropout, "embd_pdrop": 0.0}
    layer = model.transformer.h[0]
    assert layer.attn.resid_dropout.p == layer.attn.attn_dropout.p == layer.mlp.dropout.p == dropout


def test_named_sizes_have_the_parameters_that_defaults_follow_from():
    for name, parameters in SIZE_PARAMETERS.items():
        size = architecture.MODEL_SIZES[name]
        width, depth = size["hidden_size"], size["num_hidden_layers"]
        layers = depth * (4 * width**2 + 3 * width * size["intermediate_size"])
        assert layers + 4096 * width == pytest.approx(parameters, rel=0.1)
