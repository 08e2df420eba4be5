"""Exports are compared with real llama.cpp, PEFT and mlx-lm. llama.cpp and mlx run in processes of their own."""

from __future__ import annotations

import copy
import json
import random
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import bases
import finished
from checkout import ROOT
from git_starcoder import registry
from git_starcoder.errors import DatasetError, MissingExtraError, OutputError, UsageError
from git_starcoder.model import architecture, building, extras, gguf_tokenizer, loading
from git_starcoder.model import network as networks
from git_starcoder.model.complete import prompt_tokens
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.exports import REGISTRY, export, gguf, ollama
from git_starcoder.model.training import train
from git_starcoder.row_layout import masked_row
from git_starcoder.text import tokenizer as tokenizers
from shell import HUNG

ODD = [
    "", " ", "\n", "\r\n", "\t\tx\r\n", "x = 1\r\n\r\n\r\ny", "a\rb", "   \n  \n x", "<fim_prefix>", "x <|endoftext|> y", "<fim_prefix",
    "<file_sep>a.py\n", "<unused 5>", "[PAD5]", "<|im_end|>", "don't WE'LL 'S ''d", "²³½Ⅷ٣ 123456 1 2", "naïve cafe\u0301 \ufb03 Å",
    "\u3000全角\u2028行\x85\x1c\x0b\x0c", "👨\u200d👩\u200d👧🏽 🦀", "\ufeff\ufffd\uffff\ue000\U0010ffff", "שלום \u202eمرحبا", "\0\0x\0", "=" * 300, " " * 300,
]  # fmt: skip
ALPHABET = [*"ab1'.,-_ \t\n\r sStTdDlLvVeErRmM\x0b\x1c\x85\xa0²Ⅷ٣é\u0301你\u200d\ufeff🦀", "\r\n", "  ", "    ", "<fim_suffix>", "<|endoftext|>"]  # fmt: skip


def odd_lines(count=300):
    """Lines with everything on which tokenizers differ."""
    draw = random.Random(7)
    drawn = ["".join(draw.choices(ALPHABET, k=draw.randrange(1, 40))) for _ in range(count)]
    # An apostrophe and a long s are a contraction to some, see PRE_TOKENIZERS; the alphabet has no long s.
    source = finished.source(3).decode().splitlines(keepends=True)
    return [*ODD, *drawn, *source]


@pytest.fixture(scope="module", autouse=True)
def one_core():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "limit_library_threads", lambda: 1)
        yield


@pytest.fixture(scope="module")
def llama():
    """`llama.ask(file, requests, HUNG)`: the answers of llama.cpp."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield __import__("llama_cpp")


def shaken(folder):
    """The model of a folder with weights far from zero, so that an error in any of them shows."""
    import torch

    model = loading.load_weights(folder)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(1 + 0.3 * torch.randn_like(weight) if "norm" in name else 0.25 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return model.eval()


def exported(model_folder, out, number_type="f16"):
    result = export(model_folder, "gguf", out, number_type=number_type)
    return result.folder / gguf.file_name(number_type)


def ids_of_llama(llama, file, lines, *, parse=False):
    options = {"add_special": True, "parse_special": parse}
    answers = llama.ask(file, [("/tokenize", {"content": line, **options}) for line in lines], HUNG)
    return [answer["tokens"] for answer in answers]


def ids_of_tokenizers(folder, lines, *, parse=False):
    import tokenizers as library

    exact = library.Tokenizer.from_file(str(folder / "tokenizer.json"))
    exact.encode_special_tokens = not parse
    return [encoding.ids for encoding in exact.encode_batch(lines, add_special_tokens=False)]


def revealing(pre_tokenizer, **model):
    """A tokenizer that shows by its tokens where a text is cut: all pairs of many characters are merged."""
    characters = tokenizers.BYTE_CHARACTERS
    firsts = [characters[byte] for byte in (*range(0x09, 0x0E), *range(0x1C, 0x7F), *range(0xC2, 0xF5))]
    lasts = [characters[byte] for byte in range(0x80, 0xC0)]
    merges = [(left, right) for left in (*"a1.'", characters[10], characters[32]) for right in firsts]
    merges += [(left, right) for left in lasts for right in (*"a1.", characters[10], characters[32])]
    vocab = {token: number for number, token in enumerate((*tokenizers.SPECIAL_TOKENS, *characters))}
    for pair in merges:
        vocab.setdefault("".join(pair), len(vocab))
    special = [
        tokenizers.control_token_entry(number, {"content": token})
        for number, token in enumerate(tokenizers.SPECIAL_TOKENS)
    ]
    definition = copy.deepcopy(tokenizers.bpe_definition(vocab, merges, special))
    definition["pre_tokenizer"] = pre_tokenizer or definition["pre_tokenizer"]
    definition["model"] |= model
    return tokenizers.learned_tokenizer(definition)


def split_by(pattern):
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [step, byte_level(use_regex=False)]}


def byte_level(use_regex=True):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def patterns_of_transformers():
    """The regular expressions of Qwen2 and Llama 3 as transformers has them."""
    import inspect

    from transformers.convert_slow_tokenizer import TikTokenConverter
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    return PRETOKENIZE_REGEX, inspect.signature(TikTokenConverter).parameters["pattern"].default


def splitters():
    qwen, meta = patterns_of_transformers()
    digits = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level()]}
    return {
        "gpt-2": (None, {}),
        "smollm": (digits, {}),
        "qwen2": (split_by(qwen), {}),
        "llama-bpe": (split_by(meta), {"ignore_merges": True}),
    }


@pytest.mark.parametrize("name", [known.name for known in gguf_tokenizer.PRE_TOKENIZERS.values()])
def test_every_text_has_the_ids_of_tokenizers(llama, tmp_path, name):
    pre_tokenizer, options = splitters()[name]
    own = revealing(pre_tokenizer, **options)
    assert gguf_tokenizer.find_pre_tokenizer(own).name == name
    folder = bases.write(tmp_path / "base", "Llama", own, vocab_size=own.vocab_size + 3)
    file = exported(folder, tmp_path / "out")
    points = [*range(1, 0x600), *range(0x600, 0x3100, 7), *range(0x3100, 0xD800, 97), *range(0xE000, 0x110000, 997)]
    points = [point for point in points if unicodedata.category(chr(point)) != "Cn"]  # see PRE_TOKENIZERS
    shown = [f"a{chr(point)}a 1{chr(point)}1 .{chr(point)}. \n{chr(point)}  {chr(point)}\n" for point in points]
    every = ["".join(shown[start : start + 128]) for start in range(0, len(shown), 128)]
    lines = [*odd_lines(), *every]
    expected = ids_of_tokenizers(folder, lines)
    wrong = [
        line for line, *ids in zip(lines, ids_of_llama(llama, file, lines), expected, strict=True) if ids[0] != ids[1]
    ]
    assert wrong == []
    assert [own.encode([line.encode()])[0].tolist() for line in lines] == expected
    assert not own.control_tokens.keys() & {number for ids in expected for number in ids}
    spelled = [f"{token}x {token}" for token in own.control_tokens.values()]
    assert ids_of_llama(llama, file, spelled, parse=True) == ids_of_tokenizers(folder, spelled, parse=True)


def log_probabilities(answer, vocab_size):
    """What llama.cpp gives each token of the vocabulary next, shape (vocabulary,)."""
    found = np.full(vocab_size, np.nan)
    for token in answer["completion_probabilities"][0]["top_logprobs"]:
        found[token["id"]] = token["logprob"]
    assert not np.isnan(found).any()
    return found


def difference(llama, file, model, length=40, prompts=6):
    """The largest difference between the log-probabilities of llama.cpp and transformers."""
    import torch

    size = model.config.vocab_size
    text = np.random.default_rng(1).integers(0, 280, length)
    ends = np.linspace(2, length, prompts).astype(int)
    # Log-probabilities are of the logits without the bias, and are not returned with an end or a part of a character.
    options = {
        "n_predict": 1,
        "n_probs": size,
        "temperature": 0,
        "logit_bias": [[bases.tokenizer().vocabulary["a"], 1000]],
    }
    asked = [("/completion", {"prompt": text[:end].tolist(), **options}) for end in ends]
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(text)[None]).logits[0].double().log_softmax(-1).numpy()
    answers = llama.ask(file, asked, HUNG)
    theirs = np.array([log_probabilities(answer, size) for answer in answers])
    expected = logits[ends - 1]
    assert expected.std() > 0.5  # else anything would be near
    return float(np.abs(theirs - expected).max())


WIDE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
CASES = {
    "ours": ("Qwen3", {"head_dim": 16, "num_key_value_heads": 4, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 32, "num_key_value_heads": 2, "tie_word_embeddings": False}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "llama": ("Llama", {"num_key_value_heads": 2, "tie_word_embeddings": False}),
    "llama with biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama, linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}}),
    "llama 3": ("Llama", {
        "max_position_embeddings": 256,
        "rope_parameters": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64, "rope_theta": 500.0,
        },
    }),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_predicts_what_transformers_does(llama, tmp_path, case):
    kind, options = CASES[case]
    folder = bases.write(tmp_path / "base", kind, None, **{**WIDE, **options})
    model = shaken(folder)
    assert difference(llama, exported(folder, tmp_path / "f16"), model) < 0.05
    assert difference(llama, exported(folder, tmp_path / "q8_0", "q8_0"), model) < 0.7


def test_rows_that_are_no_multiple_of_a_block_keep_16_bits(llama, tmp_path):
    folder = bases.write(tmp_path / "base", "Qwen2", None, **WIDE | {"intermediate_size": 80, "num_key_value_heads": 4})
    model = shaken(folder)
    assert difference(llama, exported(folder, tmp_path / "q8_0", "q8_0"), model) < 0.7


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that `train` wrote for a dataset with headers."""
    folder = tmp_path_factory.mktemp("trained")
    dataset = finished.toy(folder / "dataset", repository="own", size=1024, stride=1024)  # room for the header
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "limit_library_threads", lambda: 1)
        patch.setitem(architecture.MODEL_SIZES, "toy", architecture.layer_dimensions(64, 1))
        train(dataset, folder / "model", TrainConfig(size="toy", steps=2, device="cpu", precision="float32"))
    return folder / "model"


PREFIX, SUFFIX = "def find(items):\r\n    # <fim_suffix>\n    return ", "\n\n\nprint(find([1]))\n"


def training_prompt(tokenizer, repository, path):
    """A fill-in-the-middle row up to where the model writes, laid out as training does."""
    header = finished.encode_header(tokenizer, repository, path)
    prefix, suffix = (tokenizer.encode([text.encode()])[0].tolist() for text in (PREFIX, SUFFIX))
    fim_prefix, fim_middle, fim_suffix = tokenizer.fim_ids
    row = masked_row(prefix, suffix, [], ([fim_prefix], [fim_suffix], [fim_middle], []))
    return header + [token for part in row for token in part]


def test_infill_of_llama_cpp_makes_the_prompt_of_training(llama, trained, tmp_path):
    tokenizer = tokenizers.load_tokenizer(trained)
    file = exported(trained, tmp_path / "out")
    request = {"input_prefix": PREFIX, "input_suffix": SUFFIX, "n_predict": 1, "temperature": 0}
    (answer,) = llama.ask(file, [("/infill", request)], HUNG)
    # Its name of the repository has a line break, and its file is always called so.
    expected = training_prompt(tokenizer, "myproject\n", "filename")
    assert answer["tokens_evaluated"] == len(expected)
    assert answer["prompt"] == tokenizer.decode(expected).decode()


def go_template(template, prompt, suffix):
    """Render the part of Go's text/template that our templates use: values, and one `if`."""
    parts = re.fullmatch(r"\{\{ if \.Suffix \}\}(.*)\{\{ else \}\}(.*)\{\{ end \}\}", template, re.DOTALL)
    chosen = (parts[1] if suffix else parts[2]) if parts else template
    values = {"Prompt": prompt, "Suffix": suffix}
    text = re.sub(r"\{\{ \.(\w+) \}\}", lambda name: values[name[1]], chosen)
    assert "{{ " not in re.sub(r"\{\{ \.\w+ \}\}", "", chosen)
    return text


def test_the_template_of_ollama_makes_the_prompt_of_complete(trained, tmp_path):
    result = export(trained, "ollama", tmp_path / "out", number_type="q8_0")
    text = (result.folder / "Modelfile").read_text()
    lines = re.fullmatch(r'FROM \./(\S+)\nTEMPLATE """(.*)"""\nPARAMETER temperature 0\n', text, re.DOTALL)
    assert (result.folder / lines[1]).is_file()
    network, tokenizer = loading.load_model(trained)
    prefix = PREFIX.replace("<fim_suffix>", "").replace("\r", "")  # Ollama reads control tokens in texts, too
    for suffix in (SUFFIX, None):
        expected = prompt_tokens(network, tokenizer, prefix, suffix, 8, suffix_first=True)
        assert go_template(lines[2], prefix, suffix) == tokenizer.decode(expected).decode()
    assert ids_of_tokenizers(trained, [go_template(lines[2], prefix, SUFFIX)], parse=True) == [
        prompt_tokens(network, tokenizer, prefix, SUFFIX, 8, suffix_first=True).tolist()
    ]


def test_a_tokenizer_without_masking_gets_a_template_without_a_suffix(tmp_path):
    vocab = {token: number for number, token in enumerate(("<end>", *tokenizers.BYTE_CHARACTERS))}
    entry = tokenizers.control_token_entry(0, {"content": "<end>"})
    plain = tokenizers.Tokenizer(tokenizers.bpe_definition(vocab, [], [entry]), {"eos_token": "<end>"})
    folder = bases.write(tmp_path / "base", "Qwen2", plain)
    result = export(folder, "ollama", tmp_path / "out")
    assert ollama.render_template(plain) == "<end>{{ .Prompt }}"
    assert any("fill-in-the-middle" in note for note in result.notes)


def test_the_bytes_depend_on_the_model_alone(trained, tmp_path):
    contents = []
    for place in ("one", "other/place"):
        made = tmp_path / place
        made.parent.mkdir(exist_ok=True)
        result = export(trained, "ollama", made)
        assert set(result.files) == {"model-f16.gguf", "Modelfile", "README.md"}
        contents.append({file.name: file.read_bytes() for file in made.iterdir()})
    assert contents[0] == contents[1]


def test_what_is_left_out_is_said_and_the_card_does_not_promise_it(trained, tmp_path):
    result = export(trained, "gguf", tmp_path / "out")
    assert (trained / "memory").is_dir()
    assert result.notes == ["not exported: memory, which only git-starcoder can use"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "memory" not in card
    assert "trained from scratch" in card


def test_an_export_is_beside_the_model_by_default(trained):
    assert export(trained, "gguf", number_type="q8_0").folder == trained.with_name("model_gguf")
    assert (trained.with_name("model_gguf") / "model-q8_0.gguf").is_file()


def test_adapters_are_read_by_peft(tmp_path):
    import torch
    from peft import AutoPeftModelForCausalLM

    own = bases.tokenizer()
    base = bases.write(tmp_path / "base", "Llama", own)
    own.save(tmp_path / "tokenizer")
    network = building.build_network(
        TrainConfig(base=str(base), tune="lora", device="cpu", precision="float32"), own, 64
    )
    for weight in network.trainable_weights().values():
        weight.data += 0.1
    loading.save_model(network, tmp_path / "tokenizer", tmp_path / "model")
    result = export(tmp_path / "model", "adapter", tmp_path / "out")
    assert set(result.files) == {
        "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json",
    }  # fmt: skip
    assert str(base) in result.notes[0]
    with extras.no_warnings():
        by_peft = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")
    tokens = torch.arange(3, 40)[None]
    with torch.inference_mode():
        expected, plain = (loading.load_weights(folder)(tokens).logits for folder in (tmp_path / "model", base))
        found = by_peft(input_ids=tokens).logits
    assert (found - expected).abs().max() < 1e-4
    assert (found - plain).abs().max() > 1e-2
    (tmp_path / "model" / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(DatasetError, match="is damaged"):
        export(tmp_path / "model", "adapter", tmp_path / "another")


def change_tokenizer(folder, **changes):
    file = folder / "tokenizer.json"
    definition = json.loads(file.read_text())
    for key, value in changes.items():
        definition[key] = {**definition[key], **value} if key == "model" else value
    file.write_text(json.dumps(definition))


REFUSED_TOKENIZERS = {
    "splits text into words in a way of its own": {"pre_tokenizer": split_by(r"\w+|\W+")},
    "normalises text (NFKC)": {"normalizer": {"type": "NFKC"}},
    "ignores merges": {"model": {"ignore_merges": True}},
}


@pytest.mark.parametrize("reason", REFUSED_TOKENIZERS)
def test_a_tokenizer_that_llama_cpp_does_not_have_is_refused(tmp_path, reason):
    folder = bases.write(tmp_path / "base", "Llama")
    change_tokenizer(folder, **REFUSED_TOKENIZERS[reason])
    with pytest.raises(UsageError, match=re.escape(reason)):
        export(folder, "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_with_tokens_for_white_space_is_refused(tmp_path):
    folder = bases.write(tmp_path / "base", "Llama")
    definition = json.loads((folder / "tokenizer.json").read_text())
    entry = {**tokenizers.control_token_entry(bases.tokenizer().vocab_size, {"content": "    "}), "special": False}
    change_tokenizer(folder, added_tokens=[*definition["added_tokens"], entry])
    with pytest.raises(UsageError, match="white space"):
        export(folder, "gguf", tmp_path / "out")


def test_a_normalizer_that_seldom_matters_is_a_note(tmp_path):
    folder = bases.write(tmp_path / "base", "Llama")
    change_tokenizer(folder, normalizer={"type": "NFC"})
    assert "NFC" in export(folder, "gguf", tmp_path / "out").notes[0]


YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 500.0, "original_max_position_embeddings": 64}
REFUSED_MODELS = {
    "models of the type gpt2": ("GPT2", {}),
    "rotary positions of the type yarn": ("Llama", {"rope_parameters": YARN}),
    "rotary positions of the type linear": (
        "Qwen2",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}},
    ),
    "the activation gelu": ("Llama", {"hidden_act": "gelu"}),
    "biases of attention": ("Qwen3", {"attention_bias": True}),
    "sliding window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}),
}


@pytest.mark.parametrize("reason", REFUSED_MODELS)
def test_a_model_that_llama_cpp_would_compute_otherwise_is_refused(tmp_path, reason):
    kind, options = REFUSED_MODELS[reason]
    folder = bases.write(tmp_path / "base", kind, None, **options)
    with pytest.raises(UsageError, match=re.escape(reason)):
        export(folder, "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_16_bits_cannot_hold_are_refused(tmp_path):
    import torch

    folder = bases.write(tmp_path / "base", "Llama")
    model = loading.load_weights(folder)
    for wrong in (1e5, float("nan")):
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[0, 0] = wrong
        model.save_pretrained(folder)
        with pytest.raises(UsageError, match="do not fit"):
            export(folder, "gguf", tmp_path / "out")


def test_what_is_no_model_is_a_clear_error(trained, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(DatasetError, match="is not a model"):
            export(folder, "gguf", tmp_path / "out")
    damaged = bases.write(tmp_path / "damaged", "Llama")
    (damaged / "config.json").write_text("[]")
    with pytest.raises(DatasetError, match="is damaged"):
        export(damaged, "gguf", tmp_path / "out")
    with pytest.raises(UsageError, match="no adapters"):
        export(trained, "adapter", tmp_path / "out")
    with pytest.raises(UsageError, match="has no type 'q4'") as caught:
        export(trained, "gguf", tmp_path / "out", number_type="q4")
    assert caught.value.hint == "known: f16, q8_0"
    with pytest.raises(UsageError, match="has no type 'f16'"):
        export(trained, "adapter", tmp_path / "out", number_type="f16")
    with pytest.raises(UsageError, match="there is no format 'ggfu'") as caught:
        export(trained, "ggfu", tmp_path / "out")
    assert "gguf" in caught.value.hint
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match="extra 'export'"):
        export(trained, "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_the_user_is_not_replaced(trained, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not a git-starcoder export"):
        export(trained, "gguf", out)
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
    other = tmp_path / "other"
    export(trained, "gguf", other)
    with pytest.raises(OutputError, match="is not a git-starcoder"):
        export(trained, "gguf", trained)
    export(trained, "ollama", other, number_type="q8_0")
    assert not (other / "model-f16.gguf").exists()


def test_half_an_export_never_appears(trained, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ollama, "render_modelfile", fail)
    with pytest.raises(OutputError, match="No space left"):
        export(trained, "ollama", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", registry.names(REGISTRY))
def test_every_format_is_described(key):
    assert len(registry.summary(REGISTRY, key)) > 20
    assert isinstance(registry.load(REGISTRY, key).NUMBER_TYPES, tuple)


BY_MLX = """
import json, sys
import mlx.core as mx
from mlx_lm import load
mx.set_default_device(mx.cpu)
model, _ = load(sys.argv[1])
print(json.dumps(model(mx.array([json.loads(sys.argv[2])]))[0].tolist()))
"""


def test_mlx_reads_a_model_folder_as_it_is(trained):
    import torch

    tokens = list(range(3, 40))
    done = subprocess.run(
        [sys.executable, "-c", BY_MLX, str(trained), json.dumps(tokens)], capture_output=True, timeout=HUNG, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = np.array(json.loads(done.stdout.splitlines()[-1]))
    with torch.inference_mode():
        expected = loading.load_weights(Path(trained))(input_ids=torch.tensor([tokens])).logits[0].numpy()
    assert np.abs(found - expected).max() < 1e-3
