"""Says which tokens of a tokenizer are control tokens, and what they mean in the families of models.

Each family spells its control tokens in its own way, and not every tokenizer marks them as special. This module knows
the spellings; the tokenizer knows the ids.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FIM_SPELLINGS = (
    ("<fim_prefix>", "<fim_middle>", "<fim_suffix>"),  # StarCoder, Granite 3B to 34B Code
    ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),  # Qwen, CodeGemma, Granite 4
    ("▁<PRE>", "▁<MID>", "▁<SUF>"),  # CodeLlama
    ("<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜fim▁hole｜>"),  # DeepSeek
    ("<fim-prefix>", "<fim-middle>", "<fim-suffix>"),  # SantaCoder
    ("[PREFIX]", "[MIDDLE]", "[SUFFIX]"),  # Codestral
    ("<[fim-prefix]>", "<[fim-middle]>", "<[fim-suffix]>"),  # Seed-Coder
)
"""Spellings of the fill-in-the-middle tokens: prefix, middle, suffix."""
OTHER_SPELLINGS = {
    "<repo_name>": ("<|repo_name|>", "<reponame>", "<|reponame|>"),
    "<file_sep>": ("<|file_sep|>", "<|file_separator|>", "<filename>", "<|filename|>"),
}
"""How other families spell control tokens of StarCoder2: Qwen, CodeGemma, StarCoder and Granite."""
TEXT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<eos>", "<｜end▁of▁sentence｜>", "</s>", "<|END_OF_TEXT|>")
"""Spellings of the token at the end of a text."""
TURN_ENDS = frozenset({
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|return|>", "<|EOT|>",
    "<|endofturn|>", "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>", "<|user|>",
})  # fmt: skip
"""Spellings of the token at the end of a turn of a chat. A chat model names it as its end-of-text token."""
TEXT_BEGINNINGS = frozenset({
    "<s>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "<|startoftext|>", "<BOS_TOKEN>", "[BOS]",
})  # fmt: skip
"""Spellings of the token at the beginning of a text, if it is no other token as well."""
_MARK = re.compile(r"▁?[<\[|｜].*\w.*", re.DOTALL)
"""What control tokens look like: they begin with a bracket or a bar, and name something."""
_HTML_TAG = re.compile(
    r"</?(?:a|b|bbox|blockquote|body|br|caption|code|div|em|footer|h[1-6]|head|header|hr|html|i|iframe|img|li|ol|p|pre"
    r"|s|span|strong|sub|sup|table|tbody|td|tfoot|th|thead|title|tr|u|ul)>"
)
"""Tags that Gemma has as tokens: text as any other."""


def is_control_token(token: Mapping[str, Any], role_tokens: Collection[str]) -> bool:
    """Whether an added token of a `tokenizer.json` is a control token, which no text may be encoded as.

    Tokens that are marked special are, and those with a role, such as the end of a text. So are tokens that look like
    them: Qwen does not mark `<|fim_prefix|>` as special, so the tokenizer would find it in a file. All others are
    ordinary text that a base was trained to read as one token, such as the runs of blanks and the HTML tags of Gemma.
    """
    content: str = token["content"]
    if not content.strip():
        return False
    is_named = bool(token.get("special")) or content in role_tokens
    return is_named or (_MARK.fullmatch(content) is not None and _HTML_TAG.fullmatch(content) is None)


def find_text_end(named: str, control_tokens: Collection[str]) -> str:
    """The token at the end of a text. `named` is the one that a tokenizer names; a chat model names the end of a turn.

    It stays if the tokenizer has no other one.
    """
    if named not in TURN_ENDS:
        return named
    return next((spelling for spelling in TEXT_ENDS if spelling in control_tokens), named)


def begins_texts(beginning: str, config: Mapping[str, Any], definition: Mapping[str, Any]) -> bool:
    """Whether a base was trained to read its beginning-of-text token before every text.

    Its tokenizer says so in `add_bos_token` or in its template. The first tokenizers of Llama 3 say nothing, so there
    the spelling decides: Qwen, StarCoder and SmolLM name a token as the beginning that has another purpose. A template
    without any control token, as transformers writes it where there was none, says nothing, either.
    """
    templates = [names for each in _templates(definition.get("post_processor")) if (names := _template_tokens(each))]
    if config.get("add_bos_token") is True or any(names[0] == beginning for names in templates):
        return True
    return config.get("add_bos_token") is not False and not templates and beginning in TEXT_BEGINNINGS


def is_chat_model(named_end: str, text_end: str, chat_template: str, stop_tokens: Collection[str]) -> bool:
    """Whether a model was tuned to chat.

    It is if its tokenizer names the end of a turn as that of a text (`named_end`), or if it has a chat template whose
    turns end as its texts do, or end where its generation stops (`stop_tokens`). A template alone does not say so: the
    bases of Qwen have one, with turns that end otherwise.
    """
    if named_end in TURN_ENDS:
        return True
    names_turn_end = any(spelling in chat_template for spelling in TURN_ENDS - {text_end})
    return bool(chat_template) and (not names_turn_end or not TURN_ENDS.isdisjoint(stop_tokens))


def _templates(processor: Any) -> list[dict[str, Any]]:
    """The templates in the post-processor of a `tokenizer.json`, which may be nested."""
    if not isinstance(processor, dict):
        return []
    values = cast("dict[str, Any]", processor)
    if values.get("type") == "TemplateProcessing":
        return [values]
    return [template for each in values.get("processors", ()) for template in _templates(each)]


def _template_tokens(template: Mapping[str, Any]) -> list[str]:
    """What a template makes of a text: its control tokens, and "" for the text. Nothing if it has no control token."""
    parts: list[dict[str, dict[str, Any]]] = template["single"]
    names = [str(part["SpecialToken"]["id"]) if "SpecialToken" in part else "" for part in parts]
    return names if any(names) else []
