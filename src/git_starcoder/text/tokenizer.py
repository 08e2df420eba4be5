"""The tokenizer: learned from the training split, or any Hugging Face tokenizer, and always saved as the latter.

Control tokens that are spelled in a source file are text there, never control tokens. Texts are encoded by gigatoken,
which is many times faster than `tokenizers`, as long as it agrees with the saved tokenizer, and by `tokenizers`
otherwise.
"""

from __future__ import annotations

import json
import re
from copy import copy
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from git_starcoder import registry
from git_starcoder.errors import UsageError, as_machine_error
from git_starcoder.text.control_tokens import (
    FIM_SPELLINGS,
    OTHER_SPELLINGS,
    begins_texts,
    find_text_end,
    is_control_token,
)
from git_starcoder.text.fast_encoding import fast_encoder, is_gigatoken_failure
from git_starcoder.user_paths import expand_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

SPECIAL_TOKENS = (
    "<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<repo_name>", "<file_sep>",
    "<commit_before>", "<commit_msg>", "<commit_after>",
)  # fmt: skip
"""Control tokens of a learned tokenizer, spelled as in StarCoder. Their ids are their indices."""
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
SEQUENCE_KEYS = ("normalizers", "pretokenizers", "decoders")
"""The steps of a sequence in a `tokenizer.json`."""
UNLIMITED_LENGTH = int(1e30)
"""What Hugging Face writes as `model_max_length` where there is no limit."""
TOKENIZER_HINT = "use `learn` or the name of a base, which need no network, a folder, or a Hugging Face id"


Merges = list[tuple[str, str]]


def _byte_characters() -> str:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTE_CHARACTERS = _byte_characters()
"""The character that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
BYTE_OF_CHARACTER = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
SINGLE_BYTE = re.compile("<0x([0-9A-F]{2})>")
BYTE_LEVEL_DECODER = {"type": "ByteLevel"}
BLANK_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    ],
}  # fmt: skip
"""The decoder of Gemma. Others of its kind also remove a blank at the beginning of a text, so that the bytes of a token
depend on its place."""


class Tokenizer:
    """A Hugging Face tokenizer that encodes fast and treats every text as text."""

    def __init__(
        self,
        definition: dict[str, Any],
        roles: Mapping[str, str],
        max_length: int = UNLIMITED_LENGTH,
        *,
        begins_texts: bool = False,
    ) -> None:
        """Build the tokenizer from the content of a `tokenizer.json` and the token of each role, and verify it.

        `begins_texts` says that the base was trained to read the token of the role `bos_token` before every text.

        Raises:
            UsageError: It does not load, has no end-of-text token, numbers its tokens in another way than
                `tokenizers` does, or makes control tokens out of text.
        """
        import tokenizers

        self.definition = definition
        """The content of `tokenizer.json`."""
        self._added_tokens: list[dict[str, Any]] = definition.get("added_tokens") or []
        self._json = json.dumps(definition, ensure_ascii=False, separators=(",", ":"))
        try:
            self._exact = tokenizers.Tokenizer.from_str(self._json)
        except Exception as error:  # tokenizers raises nothing more specific
            raise as_machine_error(error) or _unusable_error(f"it does not load ({summarize_error(error)})") from error
        self._exact.encode_special_tokens = True  # is not saved, so it is set after every load
        _verify_ids(self._exact, self._added_tokens)
        self.control_tokens: dict[int, str] = {
            token["id"]: token["content"] for token in self._added_tokens if token["special"]
        }
        """The spelling of each control token, by its id."""
        self._control_token_ids: dict[str, list[int]] = {"": []}
        self._max_length = max_length
        self.vocab_size = 1 + max(self._exact.get_vocab().values(), default=-1)
        """One more than the largest id."""
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)
        """The type of token arrays."""
        end = self._exact.token_to_id(roles.get("eos_token", roles.get("sep_token", "")))
        if end is None:
            raise _unusable_error("it has no end-of-text token (eos_token)")
        pad = self._exact.token_to_id(roles.get("pad_token", ""))
        self.end_id = end
        """The id of the end-of-text token."""
        self.pad_id = end if pad is None else pad
        """The id of the padding token; that of the end-of-text token where there is none."""
        spelling = cast("Callable[[int], str]", self._exact.id_to_token)
        named = {**roles, "eos_token": spelling(self.end_id), "pad_token": spelling(self.pad_id)}
        self._roles = {role: named[role] for role in TOKEN_ROLES if role in named}
        begin = self._exact.token_to_id(roles.get("bos_token", ""))
        self._names_beginning = begin not in {None, end}
        self.begin_id: int | None = begin if begins_texts and self._names_beginning else None
        """The id of the token that the base was trained to read before every text, as Llama 3 and Gemma were; None for
        other tokenizers, whose texts follow the end-of-text token of another one."""
        fim_ids = (tuple(map(self._exact.token_to_id, spellings)) for spellings in FIM_SPELLINGS)
        found = next((ids for ids in fim_ids if self.control_tokens.keys() >= {*ids}), None)
        self.fim_ids = cast("tuple[int, int, int] | None", found)
        """Ids of the prefix, middle and suffix tokens, or None."""
        saved = json.dumps([self._json, self._roles, max_length, *([True] if self.begin_id is not None else [])])
        self.digest = blake2b(saved.encode(), digest_size=16).hexdigest()
        """Hash of everything that is saved, 32 hexadecimal digits."""
        self.is_lossless = True
        """Whether every verified text decodes to itself."""
        self._fast = fast_encoder(definition)
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
        mine, theirs = (_comparable_definition(each.definition) for each in (self, other))
        return next((f"the {name} of its tokenizer is another one" for name in mine if mine[name] != theirs[name]), "")

    def control_token_ids(self, name: str) -> list[int]:
        """The id of a control token in a list, or the ids of its spelling as text where there is no such token."""
        if name not in self._control_token_ids:
            tokens = self.control_tokens.items()
            spellings = (name, *OTHER_SPELLINGS.get(name, ()))
            ids = [number for spelling in spellings for number, token in tokens if token == spelling]
            self._control_token_ids[name] = ids[:1] or self._encode_exactly([name.encode()])[0].tolist()
        return self._control_token_ids[name]

    @cached_property
    def token_byte_counts(self) -> NDArray[np.int64] | None:
        """The number of bytes that each id stands for, shape (vocab_size,), if `token_bytes` are known."""
        return None if self.token_bytes is None else np.array(list(map(len, self.token_bytes)), dtype=np.int64)

    def decode(self, ids: Iterable[int] | NDArray[Any]) -> bytes:
        """The bytes that tokens stand for, with control tokens as they are spelled.

        This is exact where `token_bytes` are known. Elsewhere, a character that is cut by the edge of a window is lost.
        """
        numbers = np.array(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
        if self.token_bytes is None:
            return self._exact.decode(numbers.tolist(), skip_special_tokens=False).encode()
        return b"".join(cast("list[bytes]", self.token_bytes.take(numbers).tolist()))

    def verify(self, texts: Sequence[bytes]) -> None:
        """Compare the fast encoder with the saved tokenizer on texts, and stop using it if they differ.

        Raises:
            UsageError: A text became a control token.
        """
        unknown = self._exact.token_to_id(self._roles.get("unk_token", ""))  # what some make of rare characters
        exact = self._encode_exactly(texts)
        fast = self._encode_fast(texts)
        if fast is not None and not all(map(np.array_equal, fast, exact)):
            self._fast = None
        for text, ids in zip(texts, exact, strict=True):
            if controls := self.control_tokens.keys() & set(ids.tolist()) - {unknown}:
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
            **({"add_bos_token": self.begin_id is not None} if self._names_beginning else {}),
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
            if not is_gigatoken_failure(error):
                raise
            self._fast = None
            return None

    @cached_property
    def token_bytes(self) -> NDArray[np.object_] | None:
        """The bytes that each id stands for, shape (vocab_size,), if each stands for bytes of its own."""
        decoder = _without_irrelevant_flags(self.definition.get("decoder"), decodes=True)
        if decoder not in (BYTE_LEVEL_DECODER, BLANK_DECODER):
            return None
        decode_text = _decode_byte_level if decoder == BYTE_LEVEL_DECODER else _decode_blanks
        table = [b""] * self.vocab_size
        for token, number in self._exact.get_vocab(with_added_tokens=False).items():
            table[number] = decode_text(token)
        for token in self._added_tokens:
            content: str = token["content"]
            table[token["id"]] = content.encode() if decoder == BYTE_LEVEL_DECODER else decode_text(content)
        return np.array(table, dtype=np.object_)


def _decode_byte_level(token: str) -> bytes:
    """The bytes of a token whose characters stand for one byte each."""
    try:
        return bytes(map(BYTE_OF_CHARACTER.__getitem__, token))
    except KeyError:  # a control token in the vocabulary
        return token.encode()


def _decode_blanks(token: str) -> bytes:
    """The bytes of a token of SentencePiece: `▁` stands for a blank, and `<0x0A>` for a byte."""
    match = SINGLE_BYTE.fullmatch(token)
    return bytes([int(match[1], 16)]) if match else token.replace("▁", " ").encode()


def learned_tokenizer(definition: dict[str, Any]) -> Tokenizer:
    """The tokenizer whose `tokenizer.json` was learned with `SPECIAL_TOKENS`."""
    return Tokenizer(definition, {"eos_token": "<|endoftext|>", "pad_token": "<fim_pad>"})


def load_tokenizer(name: str | Path) -> Tokenizer:
    """Load the Hugging Face tokenizer of a base of the package, a folder, or an id (from the cache, else downloaded).

    Raises:
        UsageError: There is none, it is not available offline, or it cannot be used.
    """
    folder = (registry.base_folder(name) if isinstance(name, str) else None) or expand_user(name)
    if not str(name) or not folder.is_dir():
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", str(name)):
            raise UsageError(f"no tokenizer folder '{name}'", where="tokenizer", hint=TOKENIZER_HINT)
        folder = _from_hub(str(name))
    try:
        paths = (folder / file for file in TOKENIZER_FILES)
        files = tuple((path.name, path.read_text(encoding="utf-8")) for path in paths if path.is_file())
    except (OSError, ValueError) as error:
        raise _unreadable_error(name, error) from error
    # A copy: a tokenizer notes what it has verified, and what one build verifies is nothing to the next one.
    return copy(_tokenizer_of_files(str(name), files))


@lru_cache(maxsize=2)
def _tokenizer_of_files(name: str, files: tuple[tuple[str, str], ...]) -> Tokenizer:
    """The tokenizer of some files, given by name and text. A large one takes ten seconds, and a run needs it often."""
    try:
        definition, roles, limit, has_beginning = _interpret_files(dict(files))
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # JSON of another shape
        raise _unreadable_error(name, error) from error
    return Tokenizer(definition, roles, limit, begins_texts=has_beginning)


def _unreadable_error(name: str | Path, error: Exception) -> UsageError:
    what = f"tokenizer '{name}' cannot be read: {summarize_error(error)}"
    return UsageError(what, where="tokenizer", hint=TOKENIZER_HINT)


def _interpret_files(files: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str], int, bool]:
    """The arguments of a `Tokenizer`, by the content of its files."""
    config = json.loads(files.get("tokenizer_config.json", "{}"))
    tokens_of_roles = _roles(config) | _roles(json.loads(files.get("special_tokens_map.json", "{}")))
    definition = _definition(files, tokens_of_roles)
    limit = int(config.get("model_max_length") or UNLIMITED_LENGTH)
    roles = {role: str(token["content"]) for role, token in tokens_of_roles.items()}
    if "eos_token" in roles:
        added = cast("list[dict[str, Any]]", definition.get("added_tokens") or [])
        roles["eos_token"] = find_text_end(roles["eos_token"], {each["content"] for each in added if each["special"]})
    return definition, roles, limit, "bos_token" in roles and begins_texts(roles["bos_token"], config, definition)


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
    if "tokenizer.json" in files:
        definition: dict[str, Any] = json.loads(files["tokenizer.json"])
    elif "vocab.json" in files and "merges.txt" in files:
        vocab: dict[str, int] = json.loads(files["vocab.json"])
        lines = [line for line in files["merges.txt"].split("\n") if line and not line.startswith("#version")]
        merges = [(left, right) for left, _, right in (line.rstrip("\r").partition(" ") for line in lines)]
        tokens = {vocab[token["content"]]: token for token in roles.values() if token["content"] in vocab}
        definition = bpe_definition(vocab, merges, [control_token_entry(*item) for item in sorted(tokens.items())])
    else:
        raise ValueError("it has neither tokenizer.json nor vocab.json with merges.txt")
    definition |= {"truncation": None, "padding": None}
    if "dropout" in definition["model"]:
        definition["model"]["dropout"] = None  # so that encoding is deterministic
    role_tokens = {token["content"] for token in roles.values()}
    for token in cast("list[dict[str, Any]]", definition.get("added_tokens") or []):
        token["special"] = is_control_token(token, role_tokens)
    return definition


def _verify_ids(tokenizer: Any, added_tokens: Iterable[Mapping[str, Any]]) -> None:
    """Raise a `UsageError` if an added token has another id than in its file, because there is a gap before it."""
    for token in added_tokens:
        if (number := tokenizer.token_to_id(token["content"])) != token["id"]:
            what = f"its added token {token['content']!r} has the id {token['id']}, and {number} once it is loaded"
            raise _unusable_error(what)


def _comparable_definition(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a `tokenizer.json` that decide how text is encoded and decoded, in one form for equal behaviour.

    `save_pretrained` of transformers does not write the file that it has read. It writes defaults, merges as pairs
    instead of texts, and its own flags of the byte level; all these mean the same. So files that differ in their bytes
    may be one tokenizer, and a model must not be refused for that.
    """
    model: dict[str, Any] = {key: value for key, value in definition["model"].items() if value not in (None, False, "")}
    if "merges" in model:
        model["merges"] = [pair.split(" ") if isinstance(pair, str) else list(pair) for pair in model["merges"]]
    ordinary = [
        {flag: token.get(flag, False) for flag in ("id", "content", "single_word", "lstrip", "rstrip", "normalized")}
        for token in cast("list[dict[str, Any]]", definition.get("added_tokens") or [])
        if not token["special"]
    ]
    return {
        "normalizer": _without_irrelevant_flags(definition.get("normalizer")),
        "pre_tokenizer": _without_irrelevant_flags(definition.get("pre_tokenizer")),
        "model": model,
        "decoder": _without_irrelevant_flags(definition.get("decoder"), decodes=True),
        "list of added tokens": sorted(ordinary, key=lambda token: token["id"]),
    }


def _without_irrelevant_flags(part: Any, *, decodes: bool = False) -> Any:
    """A part of a `tokenizer.json` without the flags that change no token and no decoded text.

    `trim_offsets` is about places in a text, and a decoder of the byte level has no settings at all. A sequence of no
    steps is as none.
    """
    if isinstance(part, list):
        return [_without_irrelevant_flags(each, decodes=decodes) for each in cast("list[Any]", part)]
    if not isinstance(part, dict):
        return part
    values = cast("dict[str, Any]", part)
    if values.get("type") == "ByteLevel":
        kept = () if decodes else ("add_prefix_space", "use_regex")
        return {"type": "ByteLevel", **{flag: values.get(flag, True) for flag in kept}}
    steps = {key: _without_irrelevant_flags(value, decodes=decodes) for key, value in values.items()}
    return None if steps.get("type") == "Sequence" and not any(map(steps.get, SEQUENCE_KEYS)) else steps


def _unusable_error(reason: str) -> UsageError:
    return UsageError(f"the tokenizer cannot be used: {reason}", where="tokenizer", hint=TOKENIZER_HINT)


def bpe_definition(vocab: Mapping[str, int], merges: Merges, added: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of the `tokenizer.json` of a byte-level BPE."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": vocab, "merges": merges,
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level, "model": model,
    }  # fmt: skip


def control_token_entry(number: int, token: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a control token in `added_tokens`."""
    flags = {flag: bool(token.get(flag, False)) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
    return {"id": number, "content": token["content"], **flags, "special": True}
