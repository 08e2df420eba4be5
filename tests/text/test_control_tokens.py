"""What the files of a model say about its control tokens."""

from __future__ import annotations

import pytest

from git_starcoder.text.control_tokens import begins_texts, find_text_end, is_chat_model, is_control_token

CHATML = "<|im_start|>{{ role }}\\n{{ text }}<|im_end|>"


@pytest.mark.parametrize(
    ("content", "special", "is_control"),
    [
        ("<|fim_prefix|>", False, True), ("<｜fim▁begin｜>", False, True), ("▁<PRE>", False, True), ("<think>", False, True),
        ("</tool_call>", False, True), ("[PREFIX]", False, True), ("<unused17>", False, True), ("|||EMAIL|||", False, True),
        ("<s>", True, True), ("<table>", True, True), ("odd", True, True),
        ("<table>", False, False), ("</h1>", False, False), ("<s>", False, False), ("▁▁▁", False, False),
        ("\n\n", False, False), ("   ", True, False), ("õ", False, False), ("def", False, False), ("[]", False, False),
        ("<<", False, False),
    ],
)  # fmt: skip
def test_what_a_control_token_is(content, special, is_control):
    assert is_control_token({"content": content, "special": special}, ()) == is_control


def test_a_token_with_a_role_is_a_control_token():
    assert is_control_token({"content": "<s>", "special": False}, {"<s>"})


@pytest.mark.parametrize(
    ("named", "known", "end"),
    [
        ("<|im_end|>", {"<|im_end|>", "<|endoftext|>"}, "<|endoftext|>"),
        ("<|eot_id|>", {"<|end_of_text|>", "<|eot_id|>"}, "<|end_of_text|>"),
        ("<end_of_turn>", {"<eos>", "<end_of_turn>"}, "<eos>"),
        ("<|endoftext|>", {"<|im_end|>", "<|endoftext|>"}, "<|endoftext|>"),
        ("<|im_end|>", {"<|im_end|>"}, "<|im_end|>"),
        ("</s>", {"</s>", "<|endoftext|>"}, "</s>"),
    ],
)
def test_the_end_of_a_text_is_not_that_of_a_turn(named, known, end):
    assert find_text_end(named, known) == end


@pytest.mark.parametrize(
    ("named", "end", "template", "stops", "expected"),
    [
        ("<|im_end|>", "<|endoftext|>", "", (), True),
        ("<|endoftext|>", "<|endoftext|>", CHATML, (), False),  # bases of Qwen
        ("<|endoftext|>", "<|endoftext|>", CHATML, ("<|endoftext|>", "<|im_end|>"), True),  # Phi
        ("<eos>", "<eos>", "", ("<eos>", "<end_of_turn>"), False),  # bases of Gemma 3
        ("</s>", "</s>", "[INST] {{ text }} [/INST]</s>", ("</s>",), True),  # Mistral
        ("</s>", "</s>", "", ("</s>",), False),
    ],
)
def test_what_a_chat_model_is(named, end, template, stops, expected):
    assert is_chat_model(named, end, template, stops) == expected


def template(*parts):
    single = [{part: {"id": name, "type_id": 0}} for part, name in parts]
    return {"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": single}]}


@pytest.mark.parametrize(
    ("beginning", "config", "processor", "expected"),
    [
        ("<|begin_of_text|>", {}, template(("SpecialToken", "<|begin_of_text|>"), ("Sequence", "A")), True),
        ("<|begin_of_text|>", {}, {"type": "ByteLevel"}, True),  # the first tokenizers of Llama 3
        ("<|begin_of_text|>", {}, template(("Sequence", "A")), True),  # what transformers writes where nothing was
        ("<s>", {}, template(("Sequence", "A"), ("SpecialToken", "</s>")), False),
        ("<s>", {"add_bos_token": True}, None, True),
        ("<s>", {"add_bos_token": False}, None, False),
        ("<|im_start|>", {}, None, False),  # SmolLM2
        ("<|endoftext|>", {}, None, False),
    ],
)
def test_which_bases_read_a_token_before_every_text(beginning, config, processor, expected):
    assert begins_texts(beginning, config, {"post_processor": processor}) == expected
