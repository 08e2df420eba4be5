"""Bases to go on from: toys of several architectures, as transformers writes them, and of several families."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.text import learned_bpe
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from git_starcoder.text.tokenizer import Tokenizer

TEXT = b"def find(items, limit):\n    return [item for item in items if item > limit]\n"


def learn(texts: Sequence[bytes], vocab_size: int) -> Tokenizer:
    """A tokenizer learned from texts, as a build learns it."""
    return tokenizers.learned_tokenizer(learned_bpe.learn_bpe(texts, tokenizers.SPECIAL_TOKENS, vocab_size))


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


def mark_trained(folder: Path) -> None:
    """Make a folder with a model one that counts as written by `train`."""
    (folder / "training.json").write_text('{"config": {}}')


class Family(NamedTuple):
    """What the models of a family have in common, at a size that takes seconds."""

    kind: str
    """The prefix of the name of its configuration in transformers."""
    special: tuple[str, ...]
    """Its control tokens that are marked special."""
    unmarked: tuple[str, ...] = ()
    """Added tokens that are not marked special."""
    tokenizer: Mapping[str, Any] = MappingProxyType({})
    """Its `tokenizer_config.json`."""
    config: Mapping[str, Any] = MappingProxyType({})
    """Values of its configuration."""
    generation: Mapping[str, Any] = MappingProxyType({})
    """Values of its `generation_config.json`."""
    begin: str = ""
    """The token that it reads before every text."""
    end: str = "<|endoftext|>"
    """The token at the end of a text."""
    fim: tuple[str, str, str] | None = None
    """Its tokens for prefix, middle and suffix."""
    repository: str = ""
    file: str = ""
    is_chat_model: bool = False


GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
QWEN_FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
QWEN_UNMARKED = (*QWEN_FIM, "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_call>", "</tool_call>", "<think>")
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
DEEPSEEK_FIM = ("<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜fim▁hole｜>")
DEEPSEEK = {"begin": "<｜begin▁of▁sentence｜>", "end": "<｜end▁of▁sentence｜>"}
FAMILIES = {
    "llama3": Family(
        "Llama",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>", "<|eot_id|>"),
        tokenizer={"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
        config={**GROUPED, "tie_word_embeddings": False},
        begin="<|begin_of_text|>", end="<|end_of_text|>",
    ),
    "llama3-instruct": Family(
        "Llama",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>", "<|eot_id|>"),
        tokenizer={"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": "{{ x }}<|eot_id|>"},
        config=GROUPED, begin="<|begin_of_text|>", end="<|end_of_text|>", is_chat_model=True,
    ),
    "qwen2-instruct": Family(
        "Qwen2",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), QWEN_UNMARKED,
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None, "add_bos_token": False,
         "chat_template": QWEN_TEMPLATE},
        {"num_key_value_heads": 2}, {"eos_token_id": [2, 0]},
        fim=QWEN_FIM, repository="<|repo_name|>", file="<|file_sep|>", is_chat_model=True,
    ),
    "qwen3": Family(
        "Qwen3",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), QWEN_UNMARKED,
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "chat_template": QWEN_TEMPLATE},
        GROUPED, fim=QWEN_FIM, repository="<|repo_name|>", file="<|file_sep|>",
    ),
    "starcoder2": Family(
        "Starcoder2",
        tokenizers.SPECIAL_TOKENS,
        tokenizer={"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
        config={"num_key_value_heads": 2, "sliding_window": 64},
        fim=("<fim_prefix>", "<fim_middle>", "<fim_suffix>"), repository="<repo_name>", file="<file_sep>",
    ),
    "gemma3": Family(
        "Gemma3Text",
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        ("<mask>", "<unused0>", "▁▁", "▁▁▁▁", "\n\n", "<table>", "</table>"),
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "add_bos_token": True},
        {**GROUPED, "sliding_window": 32}, begin="<bos>", end="<eos>",
    ),
    "smollm": Family(
        "Llama",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>"),
        tokenizer={"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
        config={"num_key_value_heads": 2, "tie_word_embeddings": True},
        repository="<repo_name>", file="<file_sep>",
    ),
    "deepseek": Family(
        "Llama",
        (DEEPSEEK["begin"], DEEPSEEK["end"], "<｜▁pad▁｜>"), (*DEEPSEEK_FIM, "<｜User｜>", "<|EOT|>"),
        {"bos_token": {"__type": "AddedToken", "content": DEEPSEEK["begin"]},
         "eos_token": {"__type": "AddedToken", "content": DEEPSEEK["end"]}, "add_bos_token": True},
        GROUPED, **DEEPSEEK, fim=DEEPSEEK_FIM,
    ),
    "granite": Family(
        "Granite",
        ("<|end_of_text|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|filename|>", "<|reponame|>"),
        tokenizer={"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>"},
        config={"num_key_value_heads": 2, "logits_scaling": 4.0},
        end="<|end_of_text|>", fim=QWEN_FIM, repository="<|reponame|>", file="<|filename|>",
    ),
}  # fmt: skip
"""Models as they are published, with small tokenizers whose control tokens have the same spellings and marks."""


def write_family(folder: Path, name: str, **values: object) -> Path:
    """A base of a family in a folder, with random weights."""
    import torch
    import transformers

    family = FAMILIES[name]
    folder.mkdir(parents=True)
    blanks = {token for token in family.unmarked if token.startswith("▁▁")}
    definition = _sentencepiece_like(family) if blanks else _byte_level(family)
    (folder / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
    tokenizer_config = {"tokenizer_class": "PreTrainedTokenizerFast", **family.tokenizer}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), "utf-8")
    size = 1 + max(token["id"] for token in definition["added_tokens"])
    sizes = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 256, "vocab_size": max(size, len(definition["model"]["vocab"])),
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None,
    }  # fmt: skip
    config = getattr(transformers, f"{family.kind}Config")(**{**sizes, **family.config, **values})
    torch.manual_seed(3)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    if family.generation:
        (folder / "generation_config.json").write_text(json.dumps(dict(family.generation)))
    return folder


def _byte_level(family: Family) -> dict[str, Any]:
    """The `tokenizer.json` of a family with a byte-level vocabulary. Its added tokens come first, or last if unmarked."""
    definition = learned_bpe.learn_bpe([TEXT * 20], family.special, 256 + len(family.special) + 60)
    if family.kind.startswith("Qwen"):  # transformers gives them these whatever their files say
        pattern = {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated", "invert": False}
        level = {**definition["pre_tokenizer"], "use_regex": False, "trim_offsets": False}
        definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [pattern, level]}
        definition["normalizer"] = {"type": "NFC"}
    first = len(definition["model"]["vocab"])
    del definition["model"]["ignore_merges"]  # as earlier versions of transformers wrote it
    definition["model"]["merges"] = [" ".join(pair) for pair in definition["model"]["merges"]]
    for number, token in enumerate(family.unmarked, first):
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": family.end == DEEPSEEK["end"]}
        definition["added_tokens"].append({"id": number, "content": token, **flags, "special": False})
    return definition


def _sentencepiece_like(family: Family) -> dict[str, Any]:
    """The `tokenizer.json` of a family with characters and bytes, in which runs of blanks are tokens and merges."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    learner = Library(models.BPE(unk_token="<unk>", byte_fallback=True))
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    learner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    single_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    names = [*family.special, *family.unmarked]
    # Characters of the text, so that no merge reaches from one line to the next.
    lines = [line + "\n" for line in TEXT.decode().splitlines()] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=len(names) + 256 + 150, special_tokens=[*names, *single_bytes], show_progress=False,
        initial_alphabet=[chr(code) for code in (10, *range(32, 127), 0x2581)],
    )  # fmt: skip
    learner.train_from_iterator(lines, trainer)
    definition: dict[str, Any] = json.loads(learner.to_str())
    definition["added_tokens"] = [
        {**token, "special": token["content"] in family.special}
        for token in definition["added_tokens"]
        if token["content"] in names
    ]
    # Text makes these tokens of blanks by itself: the merges are there, as the merges of Gemma are.
    for left, right in (("▁", "▁"), ("▁▁", "▁▁")):
        if [left, right] not in definition["model"]["merges"]:
            definition["model"]["merges"].append([left, right])
    return definition
