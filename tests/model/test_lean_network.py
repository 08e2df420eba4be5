"""The network that runs without torch predicts what transformers predicts."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch  # noqa: TID253
import transformers  # noqa: TID253
from safetensors.torch import load_file, save_file  # noqa: TID253

import bases
from git_starcoder.bases import find_base
from git_starcoder.model.generation import NetworkPasses, Sampling
from git_starcoder.model.lean_network import LeanNetwork
from git_starcoder.model.network import Network
from git_starcoder.model.weight_files import load_stored_weights
from git_starcoder.text.tokenizer import load_tokenizer
from toy import code_base

SHAPE = {
    "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return bases.learn([text.encode() for text in code_base(8).values()], 400)


@pytest.fixture
def make(tokenizer, tmp_path):
    """A folder with a network, and the network of transformers."""

    def make(name="Qwen3", dtype=torch.float32, **options):
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**{**SHAPE, **options})
        model = getattr(transformers, f"{name}ForCausalLM")(config)
        for weight in model.parameters():  # so that predictions differ from each other
            torch.nn.init.normal_(weight, std=0.3)
        model = model.to(dtype)
        model.save_pretrained(tmp_path)
        return tmp_path, Network(model.float(), tokenizer, device="cpu", precision="float32")

    return make


@pytest.mark.parametrize(
    "options",
    [{}, {"tie_word_embeddings": False}, {"num_key_value_heads": 4}, {"dtype": torch.bfloat16}, {"dtype": torch.float16},
     {"vocab_size": 448, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}],
)  # fmt: skip
def test_any_sequence_of_reads_and_forgets_predicts_the_same(make, tokenizer, options):
    folder, network = make(**options)
    found = LeanNetwork.open(folder, tokenizer)
    assert found is not None
    assert (found.kind, found.parameter_count, found.context) == (
        network.kind,
        network.parameter_count,
        network.context,
    )
    assert sorted(found.suppressed_tokens) == sorted(network.suppressed_tokens)
    random = np.random.default_rng(0)
    lean, plain = found.open_passes(), NetworkPasses(network, 1)
    with torch.inference_mode():
        for count, forgotten, is_prompt in (
            (20, 0, True),
            (1, 0, False),
            (9, 8, False),
            (5, 20, False),
            (150, 3, False),
            (60, 3, True),
            (1, 0, False),
        ):
            tokens = random.integers(5, 400, count).tolist()
            ours, theirs = (passes.read([tokens], is_prompt=is_prompt) for passes in (lean, plain))
            assert ours.dtype == theirs.dtype
            assert ours.shape == theirs.shape == (1, 1 if is_prompt else count, found.vocab_size)
            assert np.abs(ours - theirs).max() < 1e-5
            assert theirs.max() > 3 / 400  # some tokens are likelier than others
            for passes in (lean, plain):
                passes.forget(forgotten)
            assert np.array_equal(lean.tokens(), plain.tokens())
        with pytest.raises(ValueError, match="reads 256 tokens at once, and not 312"):
            lean.read([[7] * 100])


def test_scores_and_texts_are_those_of_transformers(make, tokenizer):
    folder, network = make()
    lean = LeanNetwork.open(folder, tokenizer)
    random = np.random.default_rng(1)
    texts = [random.integers(5, 400, count) for count in (1, 2, 40, 700)]
    headers = [random.integers(5, 400, count) for count in (0, 3, 5, 30)]
    for ours, theirs in zip(lean.sequence_bits(texts, [1] * 4), network.sequence_bits(texts, [1] * 4), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    seen = [model.sequence_views(texts, [1, 1, 7, 9], headers) for model in (lean, network)]
    for ours, theirs in zip(*seen, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max(initial=0) < 1e-3
    stop = np.zeros(400, dtype=np.bool_)
    prompts = [text[:40] for text in texts]
    for sampling in (Sampling(), Sampling(temperature=1.0, seed=3), Sampling(no_repeat_tokens=2)):
        written = [model.generate(prompts, 12, stop=stop, sampling=sampling) for model in (lean, network)]
        for ours, theirs in zip(*written, strict=True):
            assert ours.tolist() == theirs.tolist()
            assert len(ours) == 12


def test_the_base_that_is_bundled_is_read():
    folder = find_base("polyglot-5m").folder
    tokenizer = load_tokenizer(folder)
    lean = LeanNetwork.open(folder, tokenizer)
    network = Network(load_stored_weights(folder), tokenizer, device="cpu", precision="float32")
    text = tokenizer.encode([b"def add(a, b):\n    return a + b\n" * 40])[0].astype(np.int64)
    ours, theirs = (model.sequence_bits([text], [1])[0] for model in (lean, network))
    assert theirs.mean() < 3
    assert ours == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [("Llama", {}), ("Qwen3", {"attention_bias": True}), ("Qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}),
     ("Qwen3", {"hidden_act": "gelu"}), ("Qwen3", {"dtype": torch.float64}), ("Qwen3", {"vocab_size": 390})],
)  # fmt: skip
def test_networks_of_another_kind_are_left_to_transformers(make, tokenizer, name, options):
    folder, _ = make(name, **options)
    assert LeanNetwork.open(folder, tokenizer) is None


def test_large_networks_are_left_to_transformers(make, tokenizer, monkeypatch):
    folder, _ = make()
    monkeypatch.setattr("git_starcoder.model.lean_network.MAX_WEIGHTS", 100)
    assert LeanNetwork.open(folder, tokenizer) is None


def spoil_header(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:4] + b"\xff" + content[5:])


def spoil_weights(change):
    def spoil(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return spoil


def spoil_config(text):
    return lambda folder: (folder / "config.json").write_text(text)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_header,
        spoil_weights(lambda weights: weights.pop("model.norm.weight")),
        spoil_weights(lambda weights: weights.update(other=weights["model.norm.weight"].clone())),
        spoil_weights(lambda weights: weights.update({"model.norm.weight": torch.ones(31)})),
        spoil_weights(lambda weights: weights["model.norm.weight"].fill_(torch.nan)),
        spoil_config("[]"),
        spoil_config("{"),
        spoil_config('{"model_type": "qwen3"}'),
        lambda folder: (folder / "model.safetensors").unlink(),
    ],
)
def test_what_is_damaged_is_left_to_the_loader_that_says_so(make, tokenizer, spoil):
    folder, _ = make()
    assert LeanNetwork.open(folder, tokenizer) is not None
    spoil(folder)
    assert LeanNetwork.open(folder, tokenizer) is None


def test_a_completion_needs_no_torch(tmp_path):
    program = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None  # importing them is an error
from git_starcoder.serve.cursor import Cursor, Wishes
from git_starcoder.serve.engine import Engine

with Engine.open("polyglot-5m") as engine:
    print(engine.complete(Cursor("for i in range(", "\\n", "a.py"), Wishes(ending="line", min_confidence=0)).text)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_keys_and_values_that_grow_are_those_of_transformers(make):
    from git_starcoder.model.growing_cache import GrowingLayer

    _, network = make("Llama")
    passes = NetworkPasses(network, 1)
    assert all(type(layer) is GrowingLayer for layer in passes._cache.layers)
    random = np.random.default_rng(1)
    read = []
    with torch.inference_mode():
        for count, forgotten in ((10, 3), (1, 0), (30, 29), (1, 1), (7, 0)):
            tokens = random.integers(5, 400, count).tolist()
            found = passes.read([tokens])[0, -1]
            read += tokens
            whole = network.model(torch.tensor([read])).logits[0, -1].clone()
            whole[network.suppressed_tokens] = -torch.inf
            assert np.abs(found - whole.softmax(-1).numpy()).max() < 1e-5
            passes.forget(forgotten)
            read = read[: len(read) - forgotten]
