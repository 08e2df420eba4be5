from __future__ import annotations

import numpy as np
import pytest

from git_starcoder.model import network as networks
from git_starcoder.model.network import Network
from git_starcoder.model.pack import flat
from git_starcoder.text import tokenizer as tokenizers

VOCABULARY = 320


@pytest.fixture(scope="module", autouse=True)
def one_core():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "cores", lambda: 1)
        yield


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.learn([b"a text " * 20], 280)


def made(kind, tokenizer, **values):
    """A toy of an architecture, its weights large enough that everything matters."""
    import torch
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "GPT2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "attn_pdrop": 0.0}
    config = getattr(transformers, f"{kind}Config")(
        **{"vocab_size": VOCABULARY, "max_position_embeddings": 64, "pad_token_id": 0, **sizes, **values}
    )
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0) if weight.ndim == 2 else weight.add_(torch.randn_like(weight) * 0.1)
    return Network(model, tokenizer, where="cpu", precise="float32")


def rows_of(seed, lengths):
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCABULARY, length) for length in lengths]


def alone(network, row):
    """Nats of each token but the first, by what transformers makes of the row alone with its own attention."""
    import torch

    model = network.model
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    tokens = torch.from_numpy(row)[None]
    logits = model(tokens, use_cache=False).logits[0, :-1]
    model.set_attn_implementation(before)
    return torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none")


KINDS = {
    "Llama": ("Llama", {"tie_word_embeddings": True}),
    "Llama, untied": ("Llama", {"tie_word_embeddings": False}),
    "Llama, grouped": ("Llama", {"num_key_value_heads": 2}),
    "Llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "Qwen3, grouped": ("Qwen3", {"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True}),
    "Qwen2, untied": ("Qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": False}),
    "Mistral, sliding": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 5}),
    "GPT2": ("GPT2", {}),
    "GPTNeoX": ("GPTNeoX", {}),
    "Gemma2, soft caps": ("Gemma2", {"head_dim": 8, "num_key_value_heads": 2}),
    "Granite, scaled": ("Granite", {"logits_scaling": 4.0, "num_key_value_heads": 2}),
    "Cohere, scaled": ("Cohere", {"logit_scale": 0.5, "num_key_value_heads": 2}),
    "GPTNeo, old": (
        "GPTNeo",
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    ),
    "Mamba": ("Mamba", {"state_size": 4}),
}
FLAT = {name for name in KINDS if not name.startswith(("Gemma2", "GPTNeo, old", "Mamba"))}


@pytest.mark.parametrize("name", KINDS)
def test_rows_in_a_piece_are_rows_alone(name, tokenizer):
    network = made(KINDS[name][0], tokenizer, **KINDS[name][1])
    assert (network._way.flat, network.notes == []) == (name in FLAT, name in FLAT)
    rows = rows_of(2, [9, 33, 2, 9, 17])
    network.model.eval()
    with network.torch.inference_mode():
        together = network.nats(flat(rows)).numpy()
        apart = np.concatenate([alone(network, row).numpy() for row in rows])
    assert np.abs(together - apart).max() <= 1e-5 * max(1.0, apart.max())
