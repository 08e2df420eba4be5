"""The tokenizer: what encodes equals what is saved, on any text; special tokens in text are text; learning is fixed."""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bases
from git_starcoder.errors import UsageError
from git_starcoder.text import learned_bpe, tokenizer

CODE = [Path(module.__file__).read_bytes() for module in (argparse, ast, random, shutil)]
SPELLINGS = (
    *tokenizer.SPECIAL_TOKENS,
    *(token for tokens in tokenizer.FIM_SPELLINGS for token in tokens),
    "</s>",
    "<s>",
)
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.fixture(autouse=True)
def nothing_is_kept():
    """Each test loads its tokenizers anew, also those that another one has loaded."""
    tokenizer._tokenizer_of_files.cache_clear()


@pytest.fixture(scope="module")
def learned():
    return bases.learn(CODE, 1024)


@pytest.fixture(scope="module")
def folder(learned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    learned.save(folder)
    return folder


@pytest.fixture(scope="module")
def saved(folder):
    """The saved tokenizer as the `tokenizers` library loads it, special tokens in text being text."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded.encode_special_tokens = True
    return loaded


@pytest.fixture(scope="module")
def automatic(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def variant(folder, tmp_path):
    """A tokenizer folder with a changed definition and a configuration of its own."""

    def make(change, **config):
        definition = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        change(definition)
        made = tmp_path / "variant"
        made.mkdir()
        (made / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
        (made / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"} | config), "utf-8")
        return made

    return make


def ids_of(some, text):
    return some.encode([text.encode()])[0].tolist()


def level(**change):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True} | change


def split(regex):
    def change(definition):
        pattern = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [pattern, level(use_regex=False)]}

    return change


# What is saved


def test_ids_are_special_tokens_then_bytes_then_merges(learned, folder):
    definition = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocab = definition["model"]["vocab"]
    assert [vocab[token] for token in tokenizer.SPECIAL_TOKENS] == list(range(10))
    assert [learned.decode([10 + byte]) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert [vocab[left + right] for left, right in definition["model"]["merges"]] == list(range(266, 1024))
    assert (learned.vocab_size, learned.end_id, learned.pad_id, learned.fim_ids) == (1024, 0, 4, (1, 2, 3))
    assert learned.encoder_name == "gigatoken"
    assert learned.is_lossless


def test_transformers_loads_it_with_its_special_tokens(automatic, folder):
    assert (automatic.eos_token_id, automatic.pad_token_id, len(automatic)) == (0, 4, 1024)
    assert sorted(automatic.all_special_tokens) == sorted(tokenizer.SPECIAL_TOKENS)
    assert [automatic(token)["input_ids"] for token in tokenizer.SPECIAL_TOKENS] == [[number] for number in range(10)]
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_loading_and_saving_changes_no_byte(learned, folder, tmp_path):
    loaded = tokenizer.load_tokenizer(folder)
    loaded.save(tmp_path / "again")
    assert loaded.digest == learned.digest
    assert [(p.name, p.read_bytes()) for p in sorted((tmp_path / "again").iterdir())] == [
        (p.name, p.read_bytes()) for p in sorted(folder.iterdir())
    ]


# What encodes equals what is saved


def assert_equal_everywhere(learned, saved, automatic, text):
    ids = ids_of(learned, text)
    assert ids == saved.encode(text, add_special_tokens=False).ids
    assert ids == automatic(text, split_special_tokens=True)["input_ids"]
    assert min(ids, default=10) >= 10
    assert learned.decode(ids) == text.encode()


HOSTILE = {
    "probe": tokenizer.PROBE_TEXT,
    "special tokens": "".join(f"{token} x{token}{token}\n {token[:-1]}" for token in SPELLINGS),
    "spaces": " " * 1_000_000,
    "line ends": "\n" * 1_000_000,
    "equals": "=" * 1_000_000,
    "letters": "".join(random.Random(0).choices("abcXYZ", k=300_000)),
    "NULs": "\0" * 1000 + "a\0b\0\0 \0",
    "right to left": "\u05e9\u05dc\u05d5\u05dd = \u202e\u0645\u0631\u062d\u0628\u0627\u202c; // \u0640\u064b\u0651",
    "joined emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd\ufe0f 1\ufe0f\u20e3 \U0001f1e9\U0001f1ea",
    "line ends of all kinds": "a\r\nb\rc\n\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r\n  \r\n",
    "random bytes": random.Random(1).randbytes(300_000).decode("latin-1"),
    "scripts": "".join(chr(n) for n in random.Random(2).sample(range(0x110000), 50_000) if not 0xD800 <= n < 0xE000),
    "combining": "e" + "\u0301" * 5000,
    "empty": "",
}


@pytest.mark.filterwarnings("ignore:Token indices sequence length")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_encoded_as_the_saved_tokenizer_does(learned, saved, automatic, name):
    assert_equal_everywhere(learned, saved, automatic, HOSTILE[name])


pieces_of_text = st.one_of(
    st.sampled_from(SPELLINGS),
    st.sampled_from([" ", "  ", "\n", "\t", "\r\n", "'s", "'LL", "\u3000", "\xa0", "\u200d", "def ", "self."]),
    st.text(st.characters(exclude_categories=["Cs"])),
)


@given(st.lists(pieces_of_text).map("".join))
@settings(max_examples=300)
def test_any_text_is_encoded_as_the_saved_tokenizer_does(learned, saved, automatic, text):
    assert_equal_everywhere(learned, saved, automatic, text)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_batch_is_its_texts_one_by_one(learned, texts):
    flat, offsets = learned.encode([text.encode() for text in texts])
    assert flat.dtype == np.uint16
    parts = [flat[a:b].tolist() for a, b in pairwise(offsets)]
    assert parts == [ids_of(learned, text) for text in texts]


# Tokenizers of others


@pytest.mark.parametrize(
    ("change", "encoder"),
    [
        (split(GPT4), "gigatoken"),
        (split(r"\w+|\W"), "tokenizers"),
        (split(GPT4.replace("]+|", "]++|")), "tokenizers"),
        (lambda d: d.update(pre_tokenizer={"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}), None),
        (lambda d: d.update(truncation={"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}), None),
        (lambda d: d["model"].update(dropout=0.5), None),
    ],
    ids=["gpt-4", "unknown", "possessive", "metaspace", "truncating", "dropout"],
)  # fmt: skip
def test_whatever_encodes_equals_what_is_saved(variant, tmp_path, change, encoder):
    from transformers import AutoTokenizer

    some = tokenizer.load_tokenizer(variant(change))
    assert encoder in {None, some.encoder_name}
    some.save(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert ids_of(some, tokenizer.PROBE_TEXT) == again(tokenizer.PROBE_TEXT, split_special_tokens=True)["input_ids"]
    assert some.is_lossless == (some.decode(ids_of(some, tokenizer.PROBE_TEXT)) == tokenizer.PROBE_TEXT.encode())


def test_runs_of_white_space_that_are_added_tokens_stay_tokens(variant):
    def change(definition):
        token = {"id": 1024, "content": " " * 12, "special": False, "normalized": False}
        definition["added_tokens"].append(token | dict.fromkeys(("single_word", "lstrip", "rstrip"), False))

    some = tokenizer.load_tokenizer(variant(change))
    assert ids_of(some, " " * 12) == [1024]
    assert some.decode([1024, 0]) == b" " * 12 + b"<|endoftext|>"


def test_control_tokens_that_are_not_called_special_are_text_in_text(variant):
    def change(definition):
        for number, word in enumerate(("prefix", "middle", "suffix")):
            definition["model"]["vocab"][f"was {word}"] = definition["model"]["vocab"].pop(f"<fim_{word}>")
            definition["added_tokens"][1 + number] |= {"content": f"<|fim_{word}|>", "special": False}
            definition["model"]["vocab"][f"<|fim_{word}|>"] = definition["model"]["vocab"].pop(f"was {word}")

    some = tokenizer.load_tokenizer(variant(change))
    assert some.fim_ids == (1, 2, 3)
    assert len(ids_of(some, "<|fim_prefix|>")) > 1


def test_a_tokenizer_that_makes_control_tokens_of_text_is_refused(variant):
    def change(definition):
        definition["model"]["vocab"]["qj"] = 1024
        definition["model"]["merges"].append(["q", "j"])
        definition["added_tokens"].append({"id": 1024, "content": "qj", "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False))  # fmt: skip

    with pytest.raises(UsageError, match="control token qj out of text"):
        tokenizer.load_tokenizer(variant(change))


def test_a_normalizer_is_noted_as_loss(variant):
    some = tokenizer.load_tokenizer(variant(lambda definition: definition.update(normalizer={"type": "Lowercase"})))
    assert not some.is_lossless
    assert some.decode(ids_of(some, "ABC")) == b"abc"


def test_no_padding_token_means_the_end_pads(variant, tmp_path):
    some = tokenizer.load_tokenizer(variant(lambda definition: None))  # noqa: ARG005
    assert (some.end_id, some.pad_id) == (0, 0)
    some.save(tmp_path / "saved")
    assert tokenizer.load_tokenizer(tmp_path / "saved").digest == some.digest


def test_the_digest_knows_the_roles_of_tokens(folder, learned, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = tmp_path / "other" / name
        path.write_text(path.read_text("utf-8").replace('"<|endoftext|>"', '"<file_sep>"'), "utf-8")
    other = tokenizer.load_tokenizer(tmp_path / "other")
    assert (other.end_id, learned.end_id) == (6, 0)
    assert other.digest != learned.digest


def test_roberta_files_without_tokenizer_json(folder, tmp_path):
    """As in microsoft/codebert-base."""
    from transformers import AutoTokenizer

    model = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
    roles = {"<|endoftext|>": "<s>", "<fim_prefix>": "<pad>", "<fim_middle>": "</s>", "<fim_suffix>": "<mask>"}
    vocab = {roles.get(token, token): number for token, number in model["vocab"].items()}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), "utf-8")
    merges = "\n".join(" ".join(merge) for merge in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", "utf-8")
    mask = {"content": "<mask>", "lstrip": True}
    special = {"eos_token": "</s>", "bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "mask_token": mask}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special), "utf-8")
    some = tokenizer.load_tokenizer(tmp_path)
    assert (some.end_id, some.pad_id, some.fim_ids, some.encoder_name, some.is_lossless) == (
        2,
        1,
        None,
        "gigatoken",
        True,
    )
    some.save(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    text = "<s>int main()</s> <mask>"
    assert ids_of(some, text) == again(text, split_special_tokens=True)["input_ids"]
    assert again.mask_token_id == 3


def test_unknown_words_are_no_control_tokens(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[UNK]": 0, "[SEP]": 1, "int": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[UNK]", "[SEP]"])
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"sep_token": "[SEP]", "unk_token": "[UNK]"}')
    some = tokenizer.load_tokenizer(tmp_path)
    assert ids_of(some, "int x [SEP]") == [2, 0, 0, 0, 0]
    assert (some.end_id, some.encoder_name, some.is_lossless) == (1, "tokenizers", False)


def test_added_tokens_that_the_vocabulary_has_no_place_for_are_one_line(variant):
    def change(definition):
        definition["added_tokens"].append({**definition["added_tokens"][0], "id": 5000, "content": "<late>"})

    with pytest.raises(UsageError, match="its added token '<late>' has the id 5000, and 1024 once it is loaded"):
        tokenizer.load_tokenizer(variant(change))


def test_a_tokenizer_that_is_loaded_twice_is_another_object(folder):
    """What one build verifies must not show in the next one."""
    one, other = tokenizer.load_tokenizer(folder), tokenizer.load_tokenizer(folder)
    assert tokenizer._tokenizer_of_files.cache_info().hits == 1
    one.is_lossless, one._fast = False, None
    again = tokenizer.load_tokenizer(folder)
    assert (other.is_lossless, other.encoder_name, again.is_lossless, again.encoder_name) == (True, "gigatoken") * 2


# The fast encoder is not trusted


class PanicException(BaseException):
    """What a panic in Rust raises."""


def test_a_fast_encoder_that_differs_is_given_up(monkeypatch, folder, saved):
    right = tokenizer.fast_encoder

    def wrong(definition):
        encode = right(definition)
        return lambda data: encode(data)[:-1] if b"\0" in data else encode(data)

    monkeypatch.setattr(tokenizer, "fast_encoder", wrong)
    some = tokenizer.load_tokenizer(folder)
    assert some.encoder_name == "tokenizers"
    assert ids_of(some, "a\0b") == saved.encode("a\0b").ids


def test_a_difference_that_only_the_corpus_shows_is_found(monkeypatch, folder, saved):
    right = tokenizer.fast_encoder

    def wrong(definition):
        encode = right(definition)
        return lambda data: encode(data)[::-1] if b"class Ada" in data else encode(data)

    monkeypatch.setattr(tokenizer, "fast_encoder", wrong)
    some = tokenizer.load_tokenizer(folder)
    assert some.encoder_name == "gigatoken"
    some.verify([b"class Bo: pass", b"class Ada: pass"])
    assert some.encoder_name == "tokenizers"
    assert ids_of(some, "class Ada") == saved.encode("class Ada").ids


@pytest.mark.parametrize("failure", [PanicException, RuntimeError])
def test_a_fast_encoder_that_fails_late_costs_only_speed(monkeypatch, folder, saved, failure):
    right = tokenizer.fast_encoder

    def fragile(definition):
        encode = right(definition)

        def encode_or_fail(data):
            if b"boom" in data:
                raise failure("boom")
            return encode(data)

        return encode_or_fail

    monkeypatch.setattr(tokenizer, "fast_encoder", fragile)
    some = tokenizer.load_tokenizer(folder)
    assert some.encoder_name == "gigatoken"
    flat, _ = some.encode([b"one", b"boom", b"two"])
    assert flat.tolist() == [*saved.encode("one").ids, *saved.encode("boom").ids, *saved.encode("two").ids]
    assert some.encoder_name == "tokenizers"


def test_an_interrupt_is_not_taken_for_a_failure(monkeypatch, folder):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tokenizer, "fast_encoder", lambda definition: interrupted)  # noqa: ARG005
    with pytest.raises(KeyboardInterrupt):
        tokenizer.load_tokenizer(folder)


def test_an_interrupt_while_loading_is_not_taken_for_a_failure(monkeypatch, folder):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gigatoken.Tokenizer.from_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tokenizer.load_tokenizer(folder)


# Learning

words = st.text(st.sampled_from("ab \n'sé日\u3000=1"), max_size=40)


@given(st.lists(words.map(str.encode), max_size=6), st.integers(267, 330))
@settings(max_examples=150)
def test_merges_are_those_that_tokenizers_learns(texts, size):
    definition = learned_bpe.learn_bpe(texts, tokenizer.SPECIAL_TOKENS, size)
    assert definition["model"]["merges"] == learned_bpe._merges_exact(texts, tokenizer.SPECIAL_TOKENS, size)
    assert len(definition["model"]["vocab"]) <= size


def test_enough_text_is_learned_fast_and_the_same(monkeypatch, learned):
    exact = learned_bpe._merges_exact(CODE, tokenizer.SPECIAL_TOKENS, 1024)
    monkeypatch.setattr(learned_bpe, "_merges_exact", None)  # is not called
    assert learned_bpe.learn_bpe(CODE, tokenizer.SPECIAL_TOKENS, 1024)["model"]["merges"] == exact
    assert bases.learn(CODE, 1024).digest == learned.digest


@pytest.mark.parametrize("texts", [[], [b""], [b"x"], [b"", b"\n", b"ab"]])
def test_next_to_nothing_to_learn_from(texts):
    some = bases.learn(texts, 8192)
    assert some.vocab_size == 266
    assert some.decode(ids_of(some, "日本 x\r\n")) == "日本 x\r\n".encode()


def test_special_tokens_in_the_texts_are_learned_from_as_text():
    some = bases.learn([b"<|endoftext|> <fim_prefix>" * 50], 300)
    assert ids_of(some, "<|endoftext|>") != [0]
    assert min(ids_of(some, "<|endoftext|><fim_prefix>")) >= 10


def test_words_without_end_are_not_learned_from():
    texts = [b"fn a() {}\n" * 9 + b"\n" * 1_000_000 + b"fn b() {}", b"let x = 1;", ("é" * 500 + " ok").encode()]
    pieces = learned_bpe.drop_long_words(texts)
    assert b"let x = 1;" in pieces
    assert b"fn b() {}" in b"".join(pieces)
    assert sum(map(len, pieces)) < 400
    assert bases.learn(texts, 300).vocab_size > 266


LEARN = """
import hashlib, sys
from pathlib import Path
from git_starcoder.text import learned_bpe, tokenizer
texts = [Path(name).read_bytes() for name in sys.argv[2:]]
tokenizer.learned_tokenizer(learned_bpe.learn_bpe(texts, tokenizer.SPECIAL_TOKENS, 900)).save(Path(sys.argv[1]))
print(hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path(sys.argv[1]).iterdir()))).hexdigest())
"""


def test_fresh_processes_learn_the_same_bytes_and_say_nothing(tmp_path):
    names = [module.__file__ for module in (argparse, ast, random, shutil)]
    found = set()
    for seed, threads in (("0", "1"), ("1", "3")):
        environment = os.environ | {
            "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "PYTHONPATH": str(Path(tokenizer.__file__).parents[2]),
        }  # fmt: skip
        command = [sys.executable, "-c", LEARN, str(tmp_path / seed), *names]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        found.add(done.stdout)
    assert len(found) == 1
    assert len(found.pop()) == 65  # one digest and a line end: gigatoken's own talk is not there


def test_learning_without_standard_streams(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(tokenizer.__file__).parents[2])}
    command = [sys.executable, "-c", LEARN.replace("print", "len"), str(tmp_path / "made"), ast.__file__]
    done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command], env=environment, check=False)
    assert done.returncode == 0
    assert tokenizer.load_tokenizer(tmp_path / "made").vocab_size == 900


# Bad folders and ids


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"model": {}}', '{"model": []}', '{"model": {"type": "BPE", "vocab": {}, "merges": []}}']
)
def test_a_broken_definition_is_one_clear_error(tmp_path, body):
    (tmp_path / "tokenizer.json").write_text(body)
    with pytest.raises(UsageError) as caught:
        tokenizer.load_tokenizer(tmp_path)
    assert "\n" not in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize("name", ["", "./none", "a/b/c", "no such thing", "../up/down"])
def test_a_folder_that_does_not_exist_is_not_looked_for_on_the_network(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tokenizer, "_from_hub", None)
    with pytest.raises(UsageError, match="no tokenizer folder"):
        tokenizer.load_tokenizer(name)


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(UsageError, match=r"neither tokenizer\.json nor"):
        tokenizer.load_tokenizer(tmp_path)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty Hugging Face cache and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def test_an_id_that_cannot_be_had_offline(offline):
    with pytest.raises(UsageError, match="cannot be downloaded") as caught:
        tokenizer.load_tokenizer("someone/something")
    assert "learn" in caught.value.hint
    assert not list(offline.glob("**/tokenizer.json"))


def test_a_name_that_cannot_be_an_id(offline):  # noqa: ARG001
    with pytest.raises(UsageError, match="not a Hugging Face id"):
        tokenizer.load_tokenizer("some--one/thing")


def test_an_id_of_which_the_cache_has_other_files_only(offline):
    repository = offline / "models--someone--something"
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    with pytest.raises(UsageError):
        tokenizer.load_tokenizer("someone/something")


def test_an_id_in_the_cache_needs_no_network(offline, folder, learned):
    repository = offline / "models--someone--something"
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    assert tokenizer.load_tokenizer("someone/something").digest == learned.digest
