"""The tokenizer: learned from the training split, or any Hugging Face tokenizer, and always saved as one.

Special tokens spelled in a source file are text, never control tokens. Texts are encoded by gigatoken, which is many
times faster than `tokenizers`, wherever it is seen equal to the saved tokenizer, and by `tokenizers` elsewhere.
"""

from __future__ import annotations

import json
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from git_starcoder.errors import UsageError, as_machine_error
from git_starcoder.text import bpe, fast, pretrained

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SPECIAL = (
    "<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<repo_name>", "<file_sep>",
    "<commit_before>", "<commit_msg>", "<commit_after>",
)  # fmt: skip
"""Control tokens of a learned tokenizer in StarCoder's spelling; their ids are their places."""
FIM = (
    ("<fim_prefix>", "<fim_middle>", "<fim_suffix>"),  # StarCoder
    ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),  # Qwen, CodeGemma
    ("▁<PRE>", "▁<MID>", "▁<SUF>"),  # CodeLlama
    ("<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜fim▁hole｜>"),  # DeepSeek
    ("<fim-prefix>", "<fim-middle>", "<fim-suffix>"),  # SantaCoder
)
"""Spellings of the fill-in-the-middle tokens: prefix, middle, suffix."""
OTHERS = {"<file_sep>": "<|file_sep|>", "<repo_name>": "<|repo_name|>"}
"""How Qwen spells what StarCoder has, too."""
PROBE = "".join((
    *SPECIAL, *(spelling for spellings in FIM for spelling in spellings), "</s><s><unk><pad><mask>[CLS][SEP]",
    "don't we'LL they've I'm 's 'S\u017f ''d", "1234567890 12 3 " * 20, "²³½Ⅷ\u0663",
    "fn f() {\r\n\tlet x = 1;\r\n}\n\n\n  ", " " * 4099, "\n" * 4099, "=" * 4099, "e" * 2049, "\0" * 9,
    "\t \t  \n \n\x0b\x0c\x1c\x1d\x85\u2028\u2029\u3000\xa0 x\u200b\xad",
    "\u05e9\u05dc\u05d5\u05dd \u202e\u0645\u0631\u062d\u0628\u0627\u202c e\u0301\u0323 \u0130\u1e9e \ufb03 \u212b ",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd \u4f60\u597d\u4e16\u754c \u3053 \ud55c\uae00 \u0e44\u0e17",
    "\ufeff\ufffd\ufffe\uffff\ue000\U00010000\U0010ffff ",
    *map(chr, range(0x300)), *map(chr, range(0x2FF, 0, -1)),
))  # fmt: skip
"""A text on which encoders that are not quite equal differ."""


class Tokenizer:
    """A Hugging Face tokenizer that encodes fast and treats every text as text."""

    def __init__(self, definition: dict[str, Any], roles: Mapping[str, str], limit: int = pretrained.UNLIMITED) -> None:
        """From the content of a `tokenizer.json`, the tokens with a role (`eos_token`, …), and `model_max_length`.

        Raises:
            UsageError: it does not load, has no end-of-text token, or makes control tokens out of text.
        """
        import tokenizers

        self._definition = definition
        self._json = json.dumps(definition, ensure_ascii=False, separators=(",", ":"))
        try:
            self._exact = tokenizers.Tokenizer.from_str(self._json)
        except Exception as error:  # tokenizers raises nothing more precise
            raise as_machine_error(error) or _unusable(f"it does not load ({pretrained.one_line(error)})") from error
        self._exact.encode_special_tokens = True  # is not saved with it, so to be set after every load
        self._controls = {token["id"]: cast("str", token["content"]) for token in self._added() if token["special"]}
        self._marks: dict[str, list[int]] = {"": []}
        self._limit = limit
        self.vocab_size = 1 + max(self._exact.get_vocab().values(), default=-1)
        """One more than the largest id."""
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)
        """Of arrays of tokens."""
        end = self._id(roles.get("eos_token", roles.get("sep_token", "")))
        if end is None:
            raise _unusable("it has no end-of-text token (eos_token)")
        pad = self._id(roles.get("pad_token", ""))
        self.end = end
        self.pad = end if pad is None else pad
        named = {**roles, "eos_token": self._spelling(self.end), "pad_token": self._spelling(self.pad)}
        self._roles = {role: named[role] for role in pretrained.ROLES if role in named}
        self.fim = self._find_fim()
        """Ids of the prefix, middle and suffix tokens, or None."""
        said = json.dumps([self._json, self._roles, limit])
        self.digest = blake2b(said.encode(), digest_size=16).hexdigest()
        """Hash of all that is saved, 32 hexadecimal digits."""
        self.lossless = True
        """Whether every text verified so far decodes to itself."""
        self._fast = fast.encoder(definition)
        self.verify([text.encode() for token in self._controls.values() for text in (token, f"x {token} x")])
        self.verify([PROBE.encode()])

    @property
    def encoder(self) -> str:
        """The library that encodes: `gigatoken`, or `tokenizers` where that differs or cannot load the definition."""
        return "gigatoken" if self._fast else "tokenizers"

    @property
    def controls(self) -> Mapping[int, str]:
        """Control tokens by their ids."""
        return self._controls

    def encode(self, texts: Sequence[bytes]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Tokens of UTF-8 texts behind one another, shape (tokens,), and where each begins, shape (texts + 1,)."""
        arrays = self._encode_fast(texts)
        if arrays is None:
            arrays = self._encode_exactly(texts)
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        flat = np.concatenate(arrays, dtype=self.dtype, casting="unsafe") if arrays else np.empty(0, self.dtype)
        return flat, offsets

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Every token and its id."""
        return self._exact.get_vocab()

    def departs(self, other: Tokenizer) -> str:
        """Where it reads text otherwise than another one, or gives a token of that one another id; "" where nowhere.

        Further control tokens are no difference.
        """
        for token, number in other.vocabulary.items():
            if self.vocabulary.get(token) != number:
                mine = self.vocabulary.get(token, "none")
                return f"its token {token!r} has the id {number} there and {mine} here"
        departing = [part for part in self.parts if self.parts[part] != other.parts[part]]
        return f"the {departing[0]} of its tokenizer is another one" if departing else ""

    @property
    def parts(self) -> dict[str, str]:
        """What decides how text becomes tokens and back, as JSON."""
        names = ("normalizer", "pre_tokenizer", "model", "decoder")
        return {name: json.dumps(self._definition.get(name), sort_keys=True) for name in names}

    def mark(self, name: str) -> list[int]:
        """The ids of a control token: one, or those of its spelling as text where this tokenizer has no such token."""
        if name not in self._marks:
            ids = (number for name in (name, OTHERS.get(name, "")) for number in self._controls_named(name))
            self._marks[name] = [*ids][:1] or self._encode_exactly([name.encode()])[0].tolist()
        return self._marks[name]

    def _controls_named(self, name: str) -> list[int]:
        return [number for number, token in self._controls.items() if token == name]

    @cached_property
    def widths(self) -> NDArray[np.int64] | None:
        """Bytes of text that each id stands for, shape (vocab_size,), if the tokenizer is byte-level."""
        return None if self._bytes is None else np.array(list(map(len, self._bytes)), dtype=np.int64)

    def decode(self, ids: Iterable[int] | NDArray[Any]) -> bytes:
        """The bytes that tokens stand for; control tokens as they are spelled.

        Exact to the byte for byte-level tokenizers; with others a character cut by a window's edge is lost.
        """
        numbers = np.array(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
        if self._bytes is None:
            return self._exact.decode(numbers.tolist(), skip_special_tokens=False).encode()
        spelled: list[bytes] = self._bytes.take(numbers).tolist()
        return b"".join(spelled)

    def verify(self, texts: Sequence[bytes]) -> None:
        """Compare the fast encoder with the saved tokenizer on texts, and give it up if they differ anywhere.

        Raises:
            UsageError: a text became a control token.
        """
        unknown = self._id(self._roles.get("unk_token", ""))  # is what some tokenizers make of rare characters
        exact = self._encode_exactly(texts)
        found = self._encode_fast(texts)
        if found is not None and not all(map(np.array_equal, found, exact)):
            self._fast = None
        for text, ids in zip(texts, exact, strict=True):
            made = self._controls.keys() & set(ids.tolist()) - {unknown}
            if made:
                raise _unusable(f"it makes the control token {self._controls[min(made)]} out of text")
            self.lossless = self.lossless and self.decode(ids) == text

    def save(self, folder: Path) -> None:
        """Write it as a Hugging Face tokenizer: `AutoTokenizer.from_pretrained(folder)` loads it."""
        others = [token for _, token in sorted(self._controls.items()) if token not in self._roles.values()]
        roles = {**self._roles, "additional_special_tokens": others}
        config = {
            # Not the class that transformers 5 would write: its version 4 and other readers do not know that one.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": self._limit,
            **roles,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self._json, encoding="utf-8", newline="")
        for name, values in (("tokenizer_config.json", config), ("special_tokens_map.json", roles)):
            text = json.dumps(values, ensure_ascii=False, indent=2) + "\n"
            (folder / name).write_text(text, encoding="utf-8", newline="")

    def _encode_exactly(self, texts: Sequence[bytes]) -> list[NDArray[np.uint32]]:
        encodings = self._exact.encode_batch_fast([text.decode() for text in texts], add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def _encode_fast(self, texts: Sequence[bytes]) -> list[NDArray[np.uint32]] | None:
        """The same by the fast encoder; None without one, or if it fails: then it is not asked again."""
        if self._fast is None:
            return None
        try:
            return list(map(self._fast, texts))
        except BaseException as error:
            if not fast.is_failure(error):
                raise
            self._fast = None
            return None

    def _find_fim(self) -> tuple[int, int, int] | None:
        for spellings in FIM:
            prefix, middle, suffix = (self._control(token) for token in spellings)
            if prefix is not None and middle is not None and suffix is not None:
                return prefix, middle, suffix
        return None

    def _control(self, token: str) -> int | None:
        """The id of a control token; of an entry that text can come to, none."""
        number = self._id(token)
        return number if number in self._controls else None

    def _id(self, token: str) -> int | None:
        return self._exact.token_to_id(token)

    def _spelling(self, number: int) -> str:
        return cast("str", self._exact.id_to_token(number))

    def _added(self) -> list[dict[str, Any]]:
        return self._definition.get("added_tokens") or []

    @cached_property
    def _bytes(self) -> NDArray[np.object_] | None:
        """What each id stands for, shape (vocab_size,), if the tokenizer is byte-level."""
        decoder: dict[str, Any] = self._definition.get("decoder") or {}
        if decoder.get("type") != "ByteLevel":
            return None
        byte_of = {character: bytes([byte]) for byte, character in enumerate(bpe.BYTES)}
        table = [b""] * self.vocab_size
        for token, number in self._exact.get_vocab(with_added_tokens=False).items():
            table[number] = b"".join(byte_of.get(character) or character.encode() for character in token)
        for token in self._added():
            table[token["id"]] = token["content"].encode()
        return np.array(table, dtype=np.object_)


def of_merges(definition: dict[str, Any]) -> Tokenizer:
    """The tokenizer with the `tokenizer.json` that `bpe.learn` gave for `SPECIAL`."""
    return Tokenizer(definition, {"eos_token": "<|endoftext|>", "pad_token": "<fim_pad>"})


def load(name: str | Path) -> Tokenizer:
    """The Hugging Face tokenizer of a folder, or of an id (from the local cache, else downloaded).

    Raises:
        UsageError: there is none, it cannot be had offline, or it cannot be used.
    """
    return Tokenizer(*pretrained.read(name))


def _unusable(because: str) -> UsageError:
    return UsageError(f"the tokenizer cannot be used: {because}", where="tokenizer", hint=pretrained.HINT)
