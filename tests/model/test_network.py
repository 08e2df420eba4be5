from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bases
from git_starcoder.errors import UsageError
from git_starcoder.model import attention
from git_starcoder.model import network as networks
from git_starcoder.model.network import Network, padded_batches
from git_starcoder.model.packing import TILE_TOKENS, pack_rows
from git_starcoder.text.tokenizer import Tokenizer

VOCABULARY = 320


@pytest.fixture(scope="module", autouse=True)
def one_core():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "limit_library_threads", lambda: 1)
        yield


@pytest.fixture(scope="module")
def tokenizer():
    return bases.learn([b"a text " * 20], 280)


def make_network(kind, tokenizer, **values):
    return Network(make_model(kind, **values), tokenizer, device="cpu", precision="float32")


def make_model(kind, **values):
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
    return model


def random_rows(seed, lengths):
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


@pytest.mark.parametrize("stored", [1024, 0])
@pytest.mark.parametrize("name", KINDS)
def test_packed_rows_have_the_losses_of_rows_alone(name, stored, tokenizer, monkeypatch):
    monkeypatch.setattr(attention, "MAX_STORED_SCORES_TOKENS", stored)
    monkeypatch.setattr(attention, "QUERY_BLOCK_BYTES", 32)
    network = make_network(KINDS[name][0], tokenizer, **KINDS[name][1])
    assert bool(network.notes) == (name not in FLAT)
    rows = random_rows(2, [9, 33, 2, 9, 17])
    network.model.eval()
    with network.torch.inference_mode():
        together = network.token_losses(pack_rows(rows)).numpy()
        apart = np.concatenate([alone(network, row).numpy() for row in rows])
        filled = network.token_losses(pack_rows(rows, multiple=80)).numpy()
    assert np.abs(together - apart).max() <= 1e-5 * max(1.0, apart.max())
    assert np.abs(together - filled).max() <= 1e-5 * max(1.0, apart.max())


@pytest.mark.parametrize("name", ["Llama, untied", "Qwen3, grouped", "GPT2", "Mistral, sliding", "GPTNeo, old"])
def test_gradients_are_those_of_rows_alone_and_only_of_what_is_asked(name, tokenizer, monkeypatch):
    network = make_network(
        KINDS[name][0], tokenizer, **{**KINDS[name][1], **({"attention_dropout": 0.0} if "Neo" in name else {})}
    )
    network.model.eval()
    rows = random_rows(3, [9, 33, 17])
    given = np.array([1, 20, 16])
    gradients = []
    for limit in (networks.MAX_STORED_LOGITS, 0):  # also with logits that are made again
        monkeypatch.setattr(networks, "MAX_STORED_LOGITS", limit)
        network.model.zero_grad()
        network.token_losses(pack_rows(rows, given)).sum().backward()
        gradients.append({name: weight.grad.clone() for name, weight in network.trainable_weights().items()})
    network.model.zero_grad()
    sum(alone(network, row)[first - 1 :].sum() for row, first in zip(rows, given.tolist(), strict=True)).backward()
    for name, weight in network.trainable_weights().items():
        for found in gradients:
            assert (found[name] - weight.grad).abs().max() <= 2e-5 * max(1.0, weight.grad.abs().max()), name


def test_rows_of_all_lengths_come_in_few_shapes(tokenizer, monkeypatch):
    """A processor's library keeps code for every shape of a product that it has met."""
    import torch

    network = make_network("Llama", tokenizer, max_position_embeddings=200)
    attended, lines = set(), set()
    honest = attention._attend_by_query_block
    linear = torch.nn.functional.linear

    def attend(query, *parts):
        attended.add(query.shape[2])
        return honest(query, *parts)

    def multiply(states, *weights):
        lines.add(states.shape[-2])
        return linear(states, *weights)

    monkeypatch.setattr(attention, "_attend_by_query_block", attend)
    monkeypatch.setattr(torch.nn.functional, "linear", multiply)
    with torch.inference_mode():
        for row in random_rows(7, range(60, 140, 7)):
            bits = next(network.token_bits([row]))
            assert len(bits) == len(row) - 1
    assert attended == lines == {TILE_TOKENS, 2 * TILE_TOKENS, 3 * TILE_TOKENS}


def test_bits_are_losses_row_by_row_in_batches_of_any_size(tokenizer, monkeypatch):
    network = make_network("Llama", tokenizer)
    rows = random_rows(4, [9, 1, 60, 33, 2, 17, 50])
    whole = list(network.token_bits(rows))
    monkeypatch.setattr(networks, "INFERENCE_BATCH_TOKENS", 40)
    for fixed in (False, True):
        network.has_fixed_shapes = fixed
        for row, bits, again in zip(rows, whole, network.token_bits(rows), strict=True):
            assert bits.dtype == np.float32
            assert bits.shape == (len(row) - 1,)
            assert np.allclose(bits, again, atol=1e-5)
            with network.torch.inference_mode():
                assert len(row) == 1 or np.allclose(bits * np.log(2), alone(network, row).numpy(), atol=1e-5)
    assert list(network.token_bits([])) == []


@given(st.lists(st.tuples(st.integers(2, 90), st.integers(1, 90)), min_size=1, max_size=4), st.integers(4, 40))
def test_every_token_of_a_sequence_is_in_one_window_with_the_context_that_there_is(shapes, context):
    asked = []

    def token_bits(windows):
        asked.extend(windows)
        return iter([window[1:].astype(np.float32) for window in windows])

    stub = SimpleNamespace(context=context, token_bits=token_bits, end_token=-1)
    shapes = [(length, min(first, length - 1)) for length, first in shapes]
    sequences = [np.arange(length) for length, _ in shapes]
    found = Network.sequence_bits(stub, sequences, [first for _, first in shapes])
    assert [bits.tolist() for bits in found] == [list(range(first, length)) for length, first in shapes]
    assert all(len(window) <= context + 1 for window in asked)


def test_later_tokens_see_three_quarters_of_the_context_and_what_is_only_read_costs_little():
    asked = []
    stub = SimpleNamespace(
        context=16, end_token=-1, token_bits=lambda windows: asked.extend(windows) or [row[1:] for row in windows]
    )
    Network.sequence_bits(stub, [np.arange(101)], [1])
    assert [window[0] for window in asked] == list(range(0, len(asked) * 4, 4))
    assert all(len(window) == 17 for window in asked[:-1])
    assert asked[-1][-1] == 100
    asked.clear()
    Network.sequence_bits(stub, [np.arange(101)], [90])
    assert [window[0] for window in asked] == [76, 80, 84]


def test_bits_of_a_sequence_are_those_of_its_window(tokenizer):
    network = make_network("Llama", tokenizer)
    rows = random_rows(4, [9, 60])
    expected = [bits[first - 1 :] for bits, first in zip(network.token_bits(rows), (1, 20), strict=True)]
    for bits, right in zip(network.sequence_bits(rows, [1, 20]), expected, strict=True):
        assert np.allclose(bits, right, atol=1e-5)


def kernel(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):
    """What torch's varlen_attn says it does: (tokens, heads, width) of rows behind one another, causal, in a window."""
    import torch

    assert cu_seq_q is cu_seq_k
    assert cu_seq_q.dtype == torch.int32
    assert query.dtype == key.dtype == value.dtype == torch.bfloat16
    assert enable_gqa == (query.shape[1] != key.shape[1])
    found = torch.zeros_like(query)
    for begin, end in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        assert end - begin <= max_q == max_k
        count = query.shape[1] // key.shape[1]
        q, k, v = (part[begin:end].float().transpose(0, 1) for part in (query, key, value))
        scores = q @ k.repeat_interleave(count, 0).transpose(1, 2) * scale
        near = torch.ones(end - begin, end - begin, dtype=torch.bool).tril()
        if window_size[0] >= 0:
            near = near.triu(-window_size[0])
        assert window_size[1] == 0
        weights = scores.masked_fill(~near, -torch.inf).softmax(-1)
        found[begin:end] = (weights @ v.repeat_interleave(count, 0)).transpose(0, 1).to(query.dtype)
    return found


@pytest.mark.parametrize("padding", [None, 5])
@pytest.mark.parametrize("name", ["Llama", "Llama, grouped", "Mistral, sliding"])
def test_what_a_cuda_kernel_is_asked_for_is_what_is_worked_out_on_a_cpu(name, padding, tokenizer, monkeypatch):
    import torch
    from torch.nn.attention import varlen

    network = make_network(KINDS[name][0], tokenizer, **KINDS[name][1])
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    seen = []

    def both(module, query, key, value, mask, *, segments, dropout, scaling, sliding_window=None, **_):  # noqa: ARG001
        window = sliding_window if sliding_window and sliding_window < segments.longest.shape[0] else None
        found = attention._attend_by_segment(query, key, value, segments, scaling, window, dropout)
        parts = (query, key, value.bfloat16())
        shown = attention._attend_on_cuda(
            *parts, attention.build_segments(torch, piece.segment_bounds, "cpu", padding=padding), scaling, window
        )
        seen.append(float((found - shown).abs().max() / found.abs().max()))
        return found, None

    piece = pack_rows(random_rows(5, [9, 33, 17]), multiple=61 if padding else 1)
    assert piece.padding_count == (padding or 0)
    transformers_knows(monkeypatch, both)
    with torch.inference_mode():
        network.token_losses(piece)
    assert len(seen) == 2
    assert max(seen) < 0.03


def transformers_knows(monkeypatch, function):
    """Let transformers know another function by our name, for a test."""
    from transformers import AttentionInterface

    monkeypatch.setitem(AttentionInterface._global_mapping, attention.ATTENTION_NAME, function)


def test_padding_is_never_the_longest_segment():
    import torch

    for lengths in ([5, 9], [3] * 30, [128]):
        packed = pack_rows(random_rows(1, [length + 1 for length in lengths]), multiple=128)
        padding = {"padding": packed.padding_count}
        segments = attention.build_segments(torch, packed.segment_bounds, "cpu", **padding)
        assert segments.lengths is None
        assert segments.longest.shape == (max(lengths), 0)
        assert segments.bounds[: len(lengths) + 1].tolist() == [0, *np.cumsum(lengths)]
        assert segments.bounds[-1] == 128
        assert 0 < segments.bounds.diff().min() <= segments.bounds.diff().max() == max(lengths)


@pytest.mark.parametrize("name", ["Llama", "Llama, grouped", "Mistral, sliding"])
def test_a_compiled_network_is_the_same_and_is_compiled_once(name, tokenizer, monkeypatch):
    """In float32, which the kernel of CUDA does not take."""
    import torch

    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compile_it = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, **options: compile_it(model, backend=backend, fullgraph=True, **options)
    )
    network = Network(
        make_model(KINDS[name][0], **KINDS[name][1]), tokenizer, device="cpu", precision="float32", is_compiled=True
    )
    assert network.has_fixed_shapes
    network.model.eval()
    for seed, lengths in ((6, [9, 33, 17]), (7, [20, 21]), (8, [5] * 9)):
        rows = random_rows(seed, lengths)
        with torch.no_grad():
            found = network.token_losses(pack_rows(rows, multiple=64))
            expected = torch.cat([alone(network, row) for row in rows])
        assert (found - expected).abs().max() < 1e-4
        assert len(graphs) == 1
    network.model.train()
    network.model.config.attention_dropout = 0.5
    for layer in network.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    compiled = len(graphs)
    for lengths in ([9, 33, 17], [20, 21], [5] * 9):
        assert network.token_losses(pack_rows(random_rows(6, lengths), multiple=64)).isfinite().all()
    assert len(graphs) == compiled + 1


def test_the_kernel_of_cuda_is_in_one_graph_whatever_the_rows():
    """Traced forward and backward without computing anything: a CPU does not have the kernel."""
    import torch

    def loss(query, key, value, segments):
        return attention.attend(None, 2 * query, key, value, None, segments=segments, scaling=0.1)[0].float().sum()

    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled = torch.compile(loss, dynamic=False, backend="aot_eager", fullgraph=True)
    for lengths in ([9, 20, 30], [3] * 20, [64], [10, 54]):
        packed = pack_rows(random_rows(1, [length + 1 for length in lengths]), multiple=64)
        options = {"padding": packed.padding_count, "has_kernel": True}
        segments = attention.build_segments(torch, packed.segment_bounds, "meta", **options)
        parts = [torch.randn(1, heads, 64, 8, dtype=torch.bfloat16, device="meta") for heads in (4, 2, 2)]
        parts = [part.requires_grad_() for part in parts]
        compiled(*parts, segments).backward()
        assert [part.grad.shape for part in parts] == [part.shape for part in parts]
        assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("name", ["Llama, grouped", "GPT2", "GPTNeo, old"])
def test_generating_in_a_batch_is_generating_alone(name, tokenizer):
    network = make_network(KINDS[name][0], tokenizer, **KINDS[name][1])
    network.model.generation_config.repetition_penalty = 5.0
    prompts = random_rows(9, [12, 5, 9])
    list(network.token_bits(prompts))
    stop = np.zeros(VOCABULARY, dtype=bool)
    stop[:40] = True
    together = network.generate(prompts, 8, stop=stop)
    for prompt, written in zip(prompts, together, strict=True):
        assert np.array_equal(network.generate([prompt], 8, stop=stop)[0], written)
        tokens = [*prompt.tolist()]
        for token in written.tolist():  # the likeliest each time, nothing else
            with network.torch.inference_mode():
                logits = network.model(network.torch.tensor([tokens]), use_cache=False).logits[0, -1].clone()
                logits[network.suppressed_tokens] = -np.inf
            assert token == int(logits.argmax())
            tokens.append(token)


def test_the_end_of_text_is_written_also_where_it_is_the_padding(tokenizer):
    same = Tokenizer(tokenizer.definition, {"eos_token": "<|endoftext|>"})  # as in StarCoder2
    assert same.pad_id == same.end_id
    for each, tokens in ((same, [tokenizer.end_id]), (tokenizer, [tokenizer.end_id])):
        network = make_network("Llama", each, tie_word_embeddings=False)
        with network.torch.no_grad():  # the likeliest token is always the end of text
            network.model.lm_head.weight.zero_()
            network.model.lm_head.weight[each.end_id] = 1
            network.model.model.norm.weight.zero_()
            network.model.lm_head.weight[each.end_id + 1 :] = -1
        stop = np.zeros(VOCABULARY, dtype=bool)
        stop[each.end_id] = True
        assert network.generate(random_rows(1, [5]), 8, stop=stop)[0].tolist() == tokens
        assert (each.pad_id in network.suppressed_tokens) == (each is tokenizer)


def test_rows_of_one_segment_have_the_losses_of_one_text(tokenizer):
    network = make_network("Llama", tokenizer)
    rows = random_rows(1, [20, 30])
    found = network.token_losses(pack_rows(rows, attend="micro_batch"))
    joined = np.concatenate((rows[0][:-1], rows[1]))
    expected = alone(network, joined).tolist()
    assert np.allclose(found[:18].tolist(), expected[:18], atol=1e-4)
    assert np.allclose(found[19:].tolist(), expected[19:], atol=1e-4)


def test_a_segment_beyond_the_last_position_is_one_line(tokenizer):
    network = make_network("GPT2", tokenizer)
    with pytest.raises(UsageError, match="reads 64 tokens at once, and not 78"):
        network.token_losses(pack_rows(random_rows(1, [40, 40]), attend="micro_batch"))


def test_a_model_that_cannot_be_run_is_one_line(tokenizer):
    with pytest.raises(UsageError, match="cannot be run as configured"):
        make_network("Qwen3", tokenizer, head_dim=16, num_key_value_heads=3)
    with pytest.raises(UsageError, match="not a causal model"):
        make_network("Bert", tokenizer)
    import torch

    network = make_network("Llama", tokenizer)
    network.model.lm_head.weight.data[3, 3] = torch.nan
    with pytest.raises(UsageError, match="are not numbers"):
        Network(network.model, tokenizer, device="cpu", precision="float32")


def test_an_architecture_that_takes_no_packed_rows_cannot_attend_across_rows(tokenizer):
    network = make_network(KINDS["GPTNeo, old"][0], tokenizer, **KINDS["GPTNeo, old"][1])
    rows = random_rows(1, [40, 40])
    assert network.token_losses(pack_rows(rows)).shape == (78,)
    with pytest.raises(UsageError, match="reads 64 tokens at once, and not 78"):
        network.token_losses(pack_rows(rows, attend="micro_batch"))


def test_padded_batches_hold_every_row_once_with_little_padding():
    lengths = np.random.default_rng(0).integers(1, 1025, 500)
    found = list(padded_batches(lengths, 8192))
    assert sorted(index for piece in found for index in piece) == list(range(500))
    padded = sum(lengths[piece].max() * len(piece) for piece in found)
    assert padded < 1.2 * lengths.sum()
    assert all(lengths[piece].max() * len(piece) <= 8192 for piece in found)
    assert all(lengths[piece].max() * len(piece) - lengths[piece].sum() <= 128 for piece in found)
    assert len(list(padded_batches(lengths, 8192, 2048))) <= 36 < len(found)
    assert list(padded_batches(np.array([256, 4096, 250, 1024, 256]), 8192)) == [[1], [3], [0, 4, 2]]
    assert list(padded_batches(np.array([9000]), 8192)) == [[0]]
    assert list(padded_batches(np.zeros(0, dtype=np.int64), 8192)) == []
