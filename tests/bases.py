"""Bases to go on from: toys of several architectures, as transformers writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_starcoder.text.tokenizer import Tokenizer

TEXT = b"def find(items, limit):\n    return [item for item in items if item > limit]\n"


def learn(texts: Sequence[bytes], vocab_size: int) -> Tokenizer:
    """A tokenizer learned from texts, as a build learns it."""
    return tokenizers.learned_tokenizer(tokenizers.learn_bpe(texts, tokenizers.SPECIAL_TOKENS, vocab_size))


def tokenizer(vocab_size: int = 300) -> Tokenizer:
    return learn([TEXT * 20], vocab_size)


def write(folder: Path, kind: str = "Llama", own: Tokenizer | None = None, **values: object) -> Path:
    """A base and its tokenizer in a folder."""
    import torch
    import transformers

    own = own or tokenizer()
    sizes: dict[str, object] = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 256,
    }  # fmt: skip
    if kind == "GPT2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
    control = {"bos_token_id": own.end_id, "eos_token_id": own.end_id, "pad_token_id": own.pad_id}
    config = getattr(transformers, f"{kind}Config")(**{"vocab_size": own.vocab_size, **control, **sizes, **values})
    torch.manual_seed(3)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    own.save(folder)
    return folder
