"""The tokenizer: learned from the training split, or any Hugging Face tokenizer, and always saved as the latter.

Control tokens that are spelled in a source file are text there, never control tokens. Texts are encoded by gigatoken,
which is many times faster than `tokenizers`, as long as it agrees with the saved tokenizer, and by `tokenizers`
otherwise.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from git_starcoder.errors import UsageError, as_machine_error
from git_starcoder.text import bpe
from git_starcoder.user_paths import expand_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

SPECIAL_TOKENS = (
    "<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<repo_name>", "<file_sep>",
    "<commit_before>", "<commit_msg>", "<commit_after>",
)  # fmt: skip
"""Control tokens of a learned tokenizer, spelled as in StarCoder. Their ids are their indices."""
FIM_SPELLINGS = (
    ("<fim_prefix>", "<fim_middle>", "<fim_suffix>"),  # StarCoder
    ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),  # Qwen, CodeGemma
    ("▁<PRE>", "▁<MID>", "▁<SUF>"),  # CodeLlama
    ("<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜fim▁hole｜>"),  # DeepSeek
    ("<fim-prefix>", "<fim-middle>", "<fim-suffix>"),  # SantaCoder
)
"""Spellings of the fill-in-the-middle tokens: prefix, middle, suffix."""
QWEN_SPELLINGS = {"<file_sep>": "<|file_sep|>", "<repo_name>": "<|repo_name|>"}
"""How Qwen spells control tokens that StarCoder also has."""
PROBE_TEXT = "".join((
    *SPECIAL_TOKENS, *(spelling for spellings in FIM_SPELLINGS for spelling in spellings),
    "</s><s><unk><pad><mask>[CLS][SEP]",
    "don't we'LL they've I'm 's 'S\u017f ''d", "1234567890 12 3 " * 20, "²³½Ⅷ\u0663",
    "fn f() {\r\n\tlet x = 1;\r\n}\n\n\n  ", " " * 4099, "\n" * 4099, "=" * 4099, "e" * 2049, "\0" * 9,
    "\t \t  \n \n\x0b\x0c\x1c\x1d\x85\u2028\u2029\u3000\xa0 x\u200b\xad",
    "\u05e9\u05dc\u05d5\u05dd \u202e\u0645\u0631\u062d\u0628\u0627\u202c e\u0301\u0323 \u0130\u1e9e \ufb03 \u212b ",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd \u4f60\u597d\u4e16\u754c \u3053 \ud55c\uae00 \u0e44\u0e17",
    "\ufeff\ufffd\ufffe\uffff\ue000\U00010000\U0010ffff ",
    *map(chr, range(0x300)), *map(chr, range(0x2FF, 0, -1)),
))  # fmt: skip
"""A text on which encoders differ that are not quite equal."""
TOKEN_ROLES = ("eos_token", "pad_token", "bos_token", "unk_token", "sep_token", "cls_token", "mask_token")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
UNLIMITED_LENGTH = int(1e30)
"""What Hugging Face writes as `model_max_length` where there is no limit."""
TOKENIZER_HINT = "use `learn`, which needs no network, a folder with tokenizer.json, or a Hugging Face id"


class TokenizerFiles(NamedTuple):
    """What the files of a tokenizer contain."""

    definition: dict[str, Any]
    """The content of `tokenizer.json`, with every control token marked `special`."""
    roles: dict[str, str]
    """The token of each role (`eos_token`, …)."""
    max_length: int
    """`model_max_length`, in tokens."""


class Tokenizer:
    """A Hugging Face tokenizer that encodes fast and treats every text as text."""

    def __init__(
        self, definition: dict[str, Any], roles: Mapping[str, str], max_length: int = UNLIMITED_LENGTH
    ) -> None:
        """Build the tokenizer and verify it.

        Args:
            definition: The content of a `tokenizer.json`.
            roles: The token of each role (`eos_token`, …).
            max_length: `model_max_length`, in tokens.

        Raises:
            UsageError: It does not load, has no end-of-text token, or makes control tokens out of text.
        """
        import tokenizers

        self._definition = definition
        self._added_tokens: list[dict[str, Any]] = definition.get("added_tokens") or []
        self._json = json.dumps(definition, ensure_ascii=False, separators=(",", ":"))
        try:
            self._exact = tokenizers.Tokenizer.from_str(self._json)
        except Exception as error:  # tokenizers raises nothing more specific
            raise as_machine_error(error) or _unusable_error(f"it does not load ({summarize_error(error)})") from error
        self._exact.encode_special_tokens = True  # is not saved, so it is set after every load
        self.control_tokens = {
            token["id"]: cast("str", token["content"]) for token in self._added_tokens if token["special"]
        }
        """The spelling of each control token, by its id."""
        self._control_token_ids: dict[str, list[int]] = {"": []}
        self._max_length = max_length
        self.vocab_size = 1 + max(self._exact.get_vocab().values(), default=-1)
        """One more than the largest id."""
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)
        """The type of token arrays."""
        end = self._id(roles.get("eos_token", roles.get("sep_token", "")))
        if end is None:
            raise _unusable_error("it has no end-of-text token (eos_token)")
        pad = self._id(roles.get("pad_token", ""))
        self.end_id = end
        """The id of the end-of-text token."""
        self.pad_id = end if pad is None else pad
        """The id of the padding token; that of the end-of-text token where there is none."""
        spelling = cast("Callable[[int], str]", self._exact.id_to_token)
        named = {**roles, "eos_token": spelling(self.end_id), "pad_token": spelling(self.pad_id)}
        self._roles = {role: named[role] for role in TOKEN_ROLES if role in named}
        self.fim_ids = self._find_fim_ids()
        """Ids of the prefix, middle and suffix tokens, or None."""
        saved = json.dumps([self._json, self._roles, max_length])
        self.digest = blake2b(saved.encode(), digest_size=16).hexdigest()
        """Hash of everything that is saved, 32 hexadecimal digits."""
        self.is_lossless = True
        """Whether every verified text decodes to itself."""
        self._fast = bpe.fast_encoder(definition)
        self.verify([text.encode() for token in self.control_tokens.values() for text in (token, f"x {token} x")])
        self.verify([PROBE_TEXT.encode()])

    @property
    def encoder_name(self) -> str:
        """The library that encodes: `gigatoken`, or `tokenizers` where gigatoken differs or cannot load it."""
        return "gigatoken" if self._fast else "tokenizers"

    def encode(self, texts: Sequence[bytes]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Tokens of UTF-8 texts one after another, shape (tokens,), and the offset of each text, shape (texts + 1,)."""
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

    def find_difference(self, other: Tokenizer) -> str:
        """How it differs from another tokenizer in encoding text, or in the id of a token of that one; "" if nowhere.

        Additional control tokens are not a difference.
        """
        for token, number in other.vocabulary.items():
            if self.vocabulary.get(token) != number:
                mine = self.vocabulary.get(token, "none")
                return f"its token {token!r} has the id {number} there and {mine} here"
        differing = [name for name, part in self.definition_parts.items() if part != other.definition_parts[name]]
        return f"the {differing[0]} of its tokenizer is another one" if differing else ""

    @property
    def definition_parts(self) -> dict[str, str]:
        """The parts of the definition that decide how text becomes tokens and back, as JSON."""
        names = ("normalizer", "pre_tokenizer", "model", "decoder")
        return {name: json.dumps(self._definition.get(name), sort_keys=True) for name in names}

    def control_token_ids(self, name: str) -> list[int]:
        """The id of a control token in a list, or the ids of its spelling as text where there is no such token."""
        if name not in self._control_token_ids:
            spellings = (name, QWEN_SPELLINGS.get(name))
            tokens = self.control_tokens.items()
            ids = [number for spelling in spellings for number, token in tokens if token == spelling]
            self._control_token_ids[name] = ids[:1] or self._encode_exactly([name.encode()])[0].tolist()
        return self._control_token_ids[name]

    @cached_property
    def token_byte_counts(self) -> NDArray[np.int64] | None:
        """The number of bytes that each id stands for, shape (vocab_size,), if the tokenizer is byte-level."""
        return None if self._bytes is None else np.array(list(map(len, self._bytes)), dtype=np.int64)

    def decode(self, ids: Iterable[int] | NDArray[Any]) -> bytes:
        """The bytes that tokens stand for, with control tokens as they are spelled.

        This is exact for byte-level tokenizers. With others, a character that is cut by the edge of a window is lost.
        """
        numbers = np.array(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
        if self._bytes is None:
            return self._exact.decode(numbers.tolist(), skip_special_tokens=False).encode()
        spelled: list[bytes] = self._bytes.take(numbers).tolist()
        return b"".join(spelled)

    def verify(self, texts: Sequence[bytes]) -> None:
        """Compare the fast encoder with the saved tokenizer on texts, and stop using it if they differ.

        Raises:
            UsageError: A text became a control token.
        """
        unknown = self._id(self._roles.get("unk_token", ""))  # what some tokenizers make of rare characters
        exact = self._encode_exactly(texts)
        fast = self._encode_fast(texts)
        if fast is not None and not all(map(np.array_equal, fast, exact)):
            self._fast = None
        for text, ids in zip(texts, exact, strict=True):
            controls = self.control_tokens.keys() & set(ids.tolist()) - {unknown}
            if controls:
                raise _unusable_error(f"it makes the control token {self.control_tokens[min(controls)]} out of text")
            self.is_lossless = self.is_lossless and self.decode(ids) == text

    def save(self, folder: Path) -> None:
        """Save it as a Hugging Face tokenizer, which `AutoTokenizer.from_pretrained(folder)` loads."""
        others = [token for _, token in sorted(self.control_tokens.items()) if token not in self._roles.values()]
        roles = {**self._roles, "additional_special_tokens": others}
        config = {
            # Not the class that transformers 5 would write: transformers 4 and other readers do not know that one.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": self._max_length,
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
        """The tokens by the fast encoder; None without one, or if it fails, after which it is not used again."""
        if self._fast is None:
            return None
        try:
            return list(map(self._fast, texts))
        except BaseException as error:
            if not bpe.is_gigatoken_failure(error):
                raise
            self._fast = None
            return None

    def _find_fim_ids(self) -> tuple[int, int, int] | None:
        for spellings in FIM_SPELLINGS:
            prefix, middle, suffix = (self._control_id(token) for token in spellings)
            if prefix is not None and middle is not None and suffix is not None:
                return prefix, middle, suffix
        return None

    def _control_id(self, token: str) -> int | None:
        """The id of a control token; None for an entry that text can be encoded to."""
        number = self._id(token)
        return number if number in self.control_tokens else None

    def _id(self, token: str) -> int | None:
        return self._exact.token_to_id(token)

    @cached_property
    def _bytes(self) -> NDArray[np.object_] | None:
        """The bytes that each id stands for, shape (vocab_size,), if the tokenizer is byte-level."""
        decoder: dict[str, Any] = self._definition.get("decoder") or {}
        if decoder.get("type") != "ByteLevel":
            return None
        byte_of = {character: bytes([byte]) for byte, character in enumerate(bpe.BYTE_CHARACTERS)}
        table = [b""] * self.vocab_size
        for token, number in self._exact.get_vocab(with_added_tokens=False).items():
            table[number] = b"".join(byte_of.get(character) or character.encode() for character in token)
        for token in self._added_tokens:
            table[token["id"]] = token["content"].encode()
        return np.array(table, dtype=np.object_)


def learned_tokenizer(definition: dict[str, Any]) -> Tokenizer:
    """The tokenizer of a `tokenizer.json` that `bpe.learn_bpe` learned with `SPECIAL_TOKENS`."""
    return Tokenizer(definition, {"eos_token": "<|endoftext|>", "pad_token": "<fim_pad>"})


def load_tokenizer(name: str | Path) -> Tokenizer:
    """Load the Hugging Face tokenizer of a folder, or of an id (from the local cache, else downloaded).

    Raises:
        UsageError: There is none, it is not available offline, or it cannot be used.
    """
    return Tokenizer(*read_tokenizer_files(name))


def read_tokenizer_files(name: str | Path) -> TokenizerFiles:
    """Read the tokenizer files of a folder, or of a Hugging Face id.

    Raises:
        UsageError: There are none, they are not available offline, or their content is not as it should be.
    """
    folder = expand_user(name)
    if not str(name) or not folder.is_dir():
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", str(name)):
            raise UsageError(f"no tokenizer folder '{name}'", where="tokenizer", hint=TOKENIZER_HINT)
        folder = _from_hub(str(name))
    try:
        files = {
            file: (folder / file).read_text(encoding="utf-8") for file in TOKENIZER_FILES if (folder / file).is_file()
        }
        config = json.loads(files.get("tokenizer_config.json", "{}"))
        roles = _roles(config) | _roles(json.loads(files.get("special_tokens_map.json", "{}")))
        definition = _definition(files, roles)
        limit = int(config.get("model_max_length") or UNLIMITED_LENGTH)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # unreadable, or JSON of another shape
        raise UsageError(
            f"tokenizer '{name}' cannot be read: {summarize_error(error)}", where="tokenizer", hint=TOKENIZER_HINT
        ) from error
    return TokenizerFiles(definition, {role: token["content"] for role, token in roles.items()}, limit)


def summarize_error(error: Exception) -> str:
    """The message of an error on one line, at most 200 characters."""
    return " ".join(str(error).split())[:200]


def _from_hub(name: str) -> Path:
    """The folder of a Hugging Face id in the local cache; it is downloaded if it is not there."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()  # users need the outcome, not the retries

    def snapshot(*, offline: bool) -> Path:
        download = cast("Callable[..., str]", huggingface_hub.snapshot_download)  # pyright: ignore[reportUnknownMemberType]
        return Path(download(name, allow_patterns=list(TOKENIZER_FILES), local_files_only=offline))

    try:
        folder = snapshot(offline=True)
        if (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file():
            return folder
    except (OSError, EntryNotFoundError):
        pass  # not in the cache
    except ValueError as error:
        raise UsageError(f"'{name}' is not a Hugging Face id", where="tokenizer", hint=TOKENIZER_HINT) from error
    try:
        return snapshot(offline=False)
    except (OSError, ValueError, EntryNotFoundError) as error:
        message = f"tokenizer '{name}' is not a folder, is not in the Hugging Face cache, and cannot be downloaded"
        raise UsageError(message, where=summarize_error(error), hint=TOKENIZER_HINT) from error


def _roles(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The token of each role, with its flags."""
    found = {role: values[role] for role in TOKEN_ROLES if values.get(role)}
    return {role: {"content": token} if isinstance(token, str) else token for role, token in found.items()}


def _definition(files: Mapping[str, str], roles: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of `tokenizer.json`, or one built from the `vocab.json` and `merges.txt` of GPT-2 and RoBERTa."""
    definition: dict[str, Any]
    if "tokenizer.json" in files:
        definition = json.loads(files["tokenizer.json"])
    elif "vocab.json" in files and "merges.txt" in files:
        vocab: dict[str, int] = json.loads(files["vocab.json"])
        lines = [line for line in files["merges.txt"].split("\n") if line and not line.startswith("#version")]
        merges = [(left, right) for left, _, right in (line.rstrip("\r").partition(" ") for line in lines)]
        tokens = {token["content"]: token for token in roles.values() if token["content"] in vocab}
        added = [bpe.control_token_entry(vocab[content], token) for content, token in tokens.items()]
        definition = bpe.bpe_definition(vocab, merges, sorted(added, key=lambda token: token["id"]))
    else:
        raise ValueError("it has neither tokenizer.json nor vocab.json with merges.txt")
    definition |= {"truncation": None, "padding": None}
    if "dropout" in definition["model"]:
        definition["model"]["dropout"] = None  # so that encoding is deterministic
    controls: list[dict[str, Any]] = definition.get("added_tokens") or []
    for token in controls:
        # Some tokenizers have control tokens that are not marked special (Qwen's <|fim_prefix|>), so that they would be
        # found in text. Only runs of white space are added tokens that are meant to be found.
        token["special"] = bool(token["content"].strip())
    return definition


def _unusable_error(reason: str) -> UsageError:
    return UsageError(f"the tokenizer cannot be used: {reason}", where="tokenizer", hint=TOKENIZER_HINT)
