"""Lean passes predict what transformers predicts, and are used only then."""

from __future__ import annotations

import numpy as np
import pytest
import torch  # noqa: TID253
import transformers  # noqa: TID253

import bases
from git_starcoder.model.generation import NetworkPasses
from git_starcoder.model.lean_passes import LeanNetwork, LeanPasses, PassFactory
from git_starcoder.model.network import Network
from toy import code_base

SHAPE = {
    "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return bases.learn([text.encode() for text in code_base(8).values()], 400)


@pytest.fixture(scope="module")
def make(tokenizer):
    def make(name="Qwen3", **options):
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**SHAPE, **options)
        model = getattr(transformers, f"{name}ForCausalLM")(config)
        for weight in model.parameters():  # so that predictions differ from each other
            torch.nn.init.normal_(weight, std=0.3)
        return Network(model, tokenizer, device="cpu", precision="float32")

    return make


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": False}, {"num_key_value_heads": 4}])
def test_any_sequence_of_reads_and_forgets_predicts_the_same(make, options, monkeypatch):
    for key, value in options.items():
        monkeypatch.setitem(SHAPE, key, value)
    network = make()
    factory = PassFactory(network)
    assert factory.is_lean
    random = np.random.default_rng(0)
    lean, plain = factory.open(), NetworkPasses(network, 1)
    with torch.inference_mode():
        for count, forgotten, is_prompt in (
            (20, 0, True),
            (1, 0, False),
            (9, 8, False),
            (5, 20, False),
            (60, 3, True),
            (1, 0, False),
        ):
            tokens = random.integers(5, 400, count).tolist()
            ours, theirs = (passes.read([tokens], is_prompt=is_prompt) for passes in (lean, plain))
            assert ours.shape == theirs.shape == (1, 1 if is_prompt else count, 400)
            assert np.abs(ours - theirs).max() < 1e-5
            assert theirs.max() > 3 / 400  # some tokens are likelier than others
            for passes in (lean, plain):
                passes.forget(forgotten)
            assert np.array_equal(lean.tokens(), plain.tokens())


def test_a_network_that_predicts_otherwise_is_left_to_transformers(make, monkeypatch):
    network = make()
    assert isinstance(PassFactory(network).open(), LeanPasses)
    of = LeanNetwork.of

    def wrong(network):
        lean = of(network)
        lean.last_norm = lean.last_norm * 1.01
        return lean

    monkeypatch.setattr(LeanNetwork, "of", wrong)
    factory = PassFactory(network)
    assert not factory.is_lean
    assert isinstance(factory.open(), NetworkPasses)


@pytest.mark.parametrize(
    ("name", "options"),
    [("Llama", {}), ("Qwen3", {"attention_bias": True}), ("Qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}),
     ("Qwen3", {"hidden_act": "gelu"})],
)  # fmt: skip
def test_networks_of_another_kind_are_left_to_transformers(make, name, options):
    assert not PassFactory(make(name, **options)).is_lean


def test_large_networks_are_left_to_transformers(make, monkeypatch):
    monkeypatch.setattr("git_starcoder.model.lean_passes.MAX_WEIGHTS", 100)
    assert not PassFactory(make()).is_lean


def test_keys_and_values_that_grow_are_those_of_transformers(make):
    from git_starcoder.model.growing_cache import GrowingLayer

    network = make("Llama")
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
