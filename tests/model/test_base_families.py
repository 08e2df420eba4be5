"""Bases as the families publish them: control tokens, the beginning and the end of a text, and the score before tuning."""

from __future__ import annotations

import json
import shutil
from inspect import signature

import numpy as np
import pytest

import bases
import finished
from bases import FAMILIES
from git_starcoder.errors import UsageError
from git_starcoder.evals import control_mask
from git_starcoder.evals.bits_per_byte import document_bits, score_models
from git_starcoder.model import base_weights, loading
from git_starcoder.model import evaluate as evaluation
from git_starcoder.model import network as networks
from git_starcoder.model.base_model import BaseModel
from git_starcoder.model.complete import Model
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.evaluate import evaluate, format_scores, save_scores
from git_starcoder.model.training import train
from git_starcoder.serve.cursor import Cursor, Wishes
from git_starcoder.serve.engine import Engine
from git_starcoder.text.tokenizer import load_tokenizer

WITH_BEGINNING = [name for name, family in FAMILIES.items() if family.begin]
WITH_FIM = [name for name, family in FAMILIES.items() if family.fim]
TEXT = "def find(items, limit):\n\n    return items"


@pytest.fixture(scope="module", autouse=True)
def one_core():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "limit_library_threads", lambda: 1)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("families")
    return {name: bases.write_family(place / name, name) for name in FAMILIES}


def make_dataset(folder, base):
    """A dataset of a few files with the tokenizer of a base."""
    texts = {
        split: {f"src/file_{seed}.py": finished.source(seed, functions=3) for seed in seeds}
        for split, seeds in {"train": range(6), "val": range(6, 8), "test": range(8, 12)}.items()
    }
    return finished.write(folder, texts, repository="toys", tokenizer=load_tokenizer(base))


def config(base, **values):
    common = {"steps": 3, "batch": 512, "device": "cpu", "precision": "float32", "lora_rank": 4}
    return TrainConfig(base=str(base), **{**common, **values})


def network_of(folder):
    tokenizer = load_tokenizer(folder)
    return networks.Network(loading.load_weights(folder), tokenizer, device="cpu", precision="float32"), tokenizer


# Control tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tokens_of_a_family_are_known_by_their_spellings(folders, name):
    family, base = FAMILIES[name], BaseModel.open(str(folders[name]))
    tokenizer = base.tokenizer

    def spelling(number):
        return "" if number is None else tokenizer.control_tokens[number]

    assert spelling(tokenizer.end_id) == family.end
    assert spelling(tokenizer.begin_id) == family.begin
    assert (tokenizer.fim_ids and tuple(map(spelling, tokenizer.fim_ids))) == family.fim
    for asked, own in (("<repo_name>", family.repository), ("<file_sep>", family.file)):
        ids = tokenizer.control_token_ids(asked)
        assert [tokenizer.control_tokens.get(number) for number in ids] == [own] if own else len(ids) > 1
    assert base.is_chat_model == family.is_chat_model
    told = [note for note in base.notes() if "is an Instruct model" in note]
    assert [family.end in note for note in told] == [True] * family.is_chat_model
    assert base.positions == 256


@pytest.mark.parametrize("name", FAMILIES)
def test_a_control_token_that_is_spelled_in_a_file_is_text(folders, name):
    tokenizer = load_tokenizer(folders[name])
    family = FAMILIES[name]
    ordinary = {"▁▁", "▁▁▁▁", "\n\n", "<table>", "</table>"} & {*family.unmarked}
    assert {*tokenizer.control_tokens.values()} == ({*family.special} | {*family.unmarked}) - ordinary
    text = "".join(f"x {token}y{token}" for token in tokenizer.control_tokens.values())
    ids = tokenizer.encode([text.encode()])[0]
    assert not control_mask(tokenizer)[ids].any()
    assert tokenizer.decode(ids) == text.encode().replace("▁".encode(), b" " if ordinary else "▁".encode())


def test_added_tokens_that_are_text_are_read_as_one_token(folders):
    """As Gemma was trained: runs of blanks, line breaks and HTML tags."""
    tokenizer = load_tokenizer(folders["gemma3"])
    for text, token in (("  ", "▁▁"), ("    ", "▁▁▁▁"), ("\n\n", "\n\n"), ("<table>", "<table>")):
        assert tokenizer.encode([text.encode()])[0].tolist() == [tokenizer.vocabulary[token]]
        assert tokenizer.decode([tokenizer.vocabulary[token]]) == text.encode()
    assert tokenizer.decode(tokenizer.encode(["日\n".encode()])[0][:2]) == "日".encode()[:2]  # single bytes
    assert len(tokenizer.encode([b"<unused0>"])[0]) > 1


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_that_is_written_again_has_the_same_tokenizer(folders, name, tmp_path):
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(folders[name]).save_pretrained(tmp_path)
    before, after = (folder / "tokenizer.json" for folder in (folders[name], tmp_path))
    assert before.read_bytes() != after.read_bytes()
    tokenizer, again = load_tokenizer(folders[name]), load_tokenizer(tmp_path)
    assert tokenizer.find_difference(again) == again.find_difference(tokenizer) == ""
    assert (again.end_id, again.begin_id) == (tokenizer.end_id, tokenizer.begin_id)
    tokenizer.save(tmp_path / "ours")
    ours = load_tokenizer(tmp_path / "ours")
    assert (ours.digest, ours.begin_id) == (tokenizer.digest, tokenizer.begin_id)


def test_flags_that_change_no_token_make_no_other_tokenizer(folders, tmp_path):
    """The tokenizer of Qwen has other flags after `save_pretrained`."""
    folder = shutil.copytree(folders["llama3"], tmp_path / "again")
    definition = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    definition["decoder"] |= {"add_prefix_space": True, "trim_offsets": False, "use_regex": False}
    definition["pre_tokenizer"]["trim_offsets"] = False
    definition["normalizer"] = {"type": "Sequence", "normalizers": []}
    (folder / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
    tokenizer = load_tokenizer(folders["llama3"])
    assert load_tokenizer(folder).find_difference(tokenizer) == ""
    definition["pre_tokenizer"]["add_prefix_space"] = True
    (folder / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
    assert load_tokenizer(folder).find_difference(tokenizer) == "the pre_tokenizer of its tokenizer is another one"


def test_another_tokenizer_is_one_that_encodes_otherwise(folders, tmp_path):
    tokenizer = load_tokenizer(folders["gemma3"])
    for key, change in (
        ("normalizer", lambda definition: definition.update(normalizer=None)),
        ("model", lambda definition: definition["model"].update(merges=definition["model"]["merges"][::-1])),
        ("list of added tokens", lambda definition: definition["added_tokens"].pop(9)),  # a run of blanks
    ):
        shutil.copytree(folders["gemma3"], tmp_path / key)
        definition = json.loads((tmp_path / key / "tokenizer.json").read_text("utf-8"))
        change(definition)
        (tmp_path / key / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
        assert load_tokenizer(tmp_path / key).find_difference(tokenizer) == f"the {key} of its tokenizer is another one"


# The beginning and the end of a text


@pytest.mark.parametrize("name", WITH_BEGINNING)
def test_the_beginning_of_text_is_read_before_all_text(folders, name, tmp_path):
    """In training, in scores, when text is generated, and by the engine of `serve`: as transformers reads it."""
    network, tokenizer = network_of(folders[name])
    torch, begin, end = network.torch, tokenizer.begin_id, tokenizer.end_id
    text = tokenizer.encode([TEXT.encode()])[0].astype(np.int64)

    def bits(*tokens):
        """The bits of each token but the first, by transformers alone."""
        inputs = torch.tensor([tokens])
        network.use_own_attention()
        network.model.eval()
        with torch.inference_mode():
            logits = network.model(inputs, use_cache=False).logits[0, :-1]
        return (torch.nn.functional.cross_entropy(logits, inputs[0, 1:], reduction="none") / np.log(2)).numpy()

    whole, part = network.sequence_bits([np.array([end, *text]), text], [1, 5])
    assert np.allclose(whole, bits(begin, *text), atol=1e-4)
    assert np.allclose(part, bits(begin, *text)[5:], atol=1e-4)
    assert not np.allclose(whole, bits(end, *text), atol=1e-3)
    assert network.context == 255

    dataset = make_dataset(tmp_path / "dataset", folders[name])
    corpus = Corpus.read(dataset, tokenizer)
    assert {corpus.input_tokens(row)[0] for row in range(len(corpus.lengths))} == {begin}
    assert all(begin not in corpus.dataset_tokens(row) for row in range(len(corpus.lengths)))

    read = []
    forward = network.model.forward
    network.model.forward = lambda *args, **options: (
        read.append(options["input_ids"][0].tolist()) or forward(*args, **options)
    )
    network.generate([np.array([end, *text]), text[3:]], 2, stop=np.zeros(tokenizer.vocab_size, dtype=np.bool_))
    with Engine(Model(network, tokenizer)) as engine:
        engine.complete(Cursor("def find(items, li", "", ""), Wishes(max_tokens=2, min_confidence=0))
    prompts = [[token for token in tokens if token != tokenizer.pad_id] for tokens in read if len(tokens) > 4]
    assert len(prompts) >= 3
    assert {tuple(tokens[:1]) for tokens in prompts} == {(begin,)}
    assert all(tokens.count(begin) == 1 and end not in tokens for tokens in prompts)


@pytest.mark.parametrize("name", sorted({*FAMILIES} - {*WITH_BEGINNING}))
def test_other_families_read_the_end_of_another_text_first(folders, name):
    network, tokenizer = network_of(folders[name])
    assert tokenizer.begin_id is None
    assert network.context == 256
    for tokens in (np.array([tokenizer.end_id, 20, 21]), np.array([20, 21])):
        assert network.add_first_token(tokens) is tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_a_completion_ends_where_the_model_ends_the_text(folders, name):
    """Also with a text after the gap, and where the end of text is the padding."""
    network, tokenizer = network_of(folders[name])
    wanted = [int(tokenizer.encode([b"x"])[0][0]), tokenizer.end_id]

    def logits_of(*args, **options):
        """One letter, then the end of the text; the beginning, padding and fill-in-the-middle tokens are likelier."""
        output = forward(*args, **options)
        output.logits[:] = -50.0
        for number in {tokenizer.pad_id, tokenizer.begin_id, *(tokenizer.fim_ids or ())} - {None, tokenizer.end_id}:
            output.logits[:, :, number] = 50.0
        output.logits[:, :, wanted[min(len(said), 1)]] = 20.0
        said.append(0)
        return output

    said: list[int] = []
    forward, network.model.forward = network.model.forward, logits_of
    logits_of.__signature__ = signature(forward)
    model = Model(network, tokenizer)
    assert model.fills_gaps == bool(FAMILIES[name].fim)
    for suffix in (None, "\n    return items\n") if model.fills_gaps else (None,):
        said.clear()
        assert model.complete("def find(items):", suffix=suffix, max_tokens=20) == "x"
        assert len(said) == 2
    if not model.fills_gaps:
        with pytest.raises(UsageError, match="no fill-in-the-middle tokens"):
            model.complete("def", suffix="x")


# Before and after tuning


@pytest.mark.parametrize(("name", "tune"), [("gemma3", "lora"), ("qwen2-instruct", "full")])
def test_the_base_is_scored_beside_the_tuned_model(folders, name, tune, tmp_path, monkeypatch):
    base = shutil.copytree(folders[name], tmp_path / "base")
    dataset = make_dataset(tmp_path / "dataset", base)
    out = tmp_path / "model"
    rate = 5e-2 if tune == "lora" else 5e-3  # random weights have little to adapt
    train(dataset, out, config(base, tune=tune, steps=12, learning_rate=rate, merge=tune == "lora"))
    record = json.loads((out / "training.json").read_text())
    assert record["config"]["fim"] == (0.3 if FAMILIES[name].fim else 0.0)
    monkeypatch.setattr(evaluation, "load_evals", lambda: {"bits_per_byte": score_models})
    scores = evaluate(out, dataset)
    bits = {score.subject: score for score in scores.scores if score.document_bits}
    assert list(bits) == ["network", "memory", "network and memory", "base before tuning"]
    network = base_weights.load_base_network(str(base), load_tokenizer(dataset.tokenizer_folder))
    before = document_bits(network, scores.documents, network.end_token)
    assert np.allclose(bits["base before tuning"].document_bits, before, rtol=1e-4)
    assert bits["network"].value < bits["base before tuning"].value
    pair = next(each for each in scores.comparisons if each[:2] == ("network", "base before tuning"))
    assert pair.ratio == pytest.approx(sum(bits["network"].document_bits) / before.sum(), rel=1e-4)
    assert pair.low < pair.ratio < pair.high < 1
    assert pair.groups == 4
    lines = format_scores(scores).splitlines()
    title = next(place for place, line in enumerate(lines) if "of those of 'base before tuning'" in line)
    assert lines[title + 1].split() == ["network", *f"{pair.ratio:.3f} {pair.low:.3f} to {pair.high:.3f}".split()]

    card = out / "README.md"
    assert "before tuning" not in card.read_text()
    assert save_scores(scores, out)
    share = f"the base before tuning {bits['base before tuning'].value:.3f}: a share of {pair.ratio:.3f}"
    assert share in card.read_text()
    assert loading.read_training_record(out)["files"]["README.md"]["bytes"] == len(card.read_bytes())
    assert json.loads((out / "scores.json").read_text())["comparisons"][0]["reference"] == "base before tuning"
    card.write_text("my own words")
    assert save_scores(scores, out)
    assert card.read_text() == "my own words"

    shutil.rmtree(base)  # a base that is gone costs its score, and no random weights take its place
    again = evaluate(out, dataset)
    assert {score.subject for score in again.scores} == {"network", "memory", "network and memory"}
    assert f"no base before tuning: there is no folder '{base}'" in format_scores(again)


class Interruption(evaluation.Progress):
    """Ends a training after some steps."""

    def __init__(self, steps):
        self.steps = steps

    def advance(self, count):
        self.steps -= count
        if self.steps < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("name", "tune"), [("llama3", "lora"), ("starcoder2", "full"), ("gemma3", "full")])
def test_a_tuning_that_is_interrupted_ends_as_a_whole_one(folders, name, tune, tmp_path):
    dataset = make_dataset(tmp_path / "dataset", folders[name])
    options = {"tune": tune, "steps": 6, "checkpoint_minutes": 1e-9, "seed": 1}
    train(dataset, tmp_path / "whole", config(folders[name], **options))
    with pytest.raises(KeyboardInterrupt):
        train(dataset, tmp_path / "cut", config(folders[name], **options), progress=Interruption(3))
    train(dataset, tmp_path / "cut", config(folders[name], **options))
    assert (tmp_path / "cut" / "metrics.jsonl").is_file()
    file = "adapter/adapter_model.safetensors" if tune == "lora" else "model.safetensors"
    one, other = ((tmp_path / out / file).read_bytes() for out in ("whole", "cut"))
    assert one == other


# What cannot be a base


def changed(folder, place, file, **values):
    made = shutil.copytree(folder, place)
    known = json.loads((made / file).read_text("utf-8")) if (made / file).exists() else {}
    (made / file).write_text(json.dumps({**known, **values}), "utf-8")
    return made


def test_bases_that_cannot_be_tuned_are_one_line_before_any_work(folders, tmp_path):
    folder = folders["qwen3"]
    unreadable = shutil.copytree(folder, tmp_path / "unreadable")
    (unreadable / "tokenizer.json").write_text("[1, 2]")
    wordless = shutil.copytree(folder, tmp_path / "wordless")
    (wordless / "tokenizer.json").unlink()
    shifted = shutil.copytree(folder, tmp_path / "shifted")
    definition = json.loads((shifted / "tokenizer.json").read_text("utf-8"))
    definition["added_tokens"].append({**definition["added_tokens"][0], "id": 5000, "content": "<late>"})
    (shifted / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
    for base, what in (
        (changed(folder, tmp_path / "t5", "config.json", model_type="t5"), "no causal language model"),
        (changed(folder, tmp_path / "bart", "config.json", model_type="bart", is_encoder_decoder=True), "an encoder"),
        (
            changed(folder, tmp_path / "small", "config.json", vocab_size=200),
            "vocabulary of the tokenizer .* too large",
        ),
        (changed(folder, tmp_path / "endless", "tokenizer_config.json", eos_token=None), "no end-of-text token"),
        (changed(folder, tmp_path / "gptq", "config.json", quantization_config={"bits": 4}), "are quantised"),
        (unreadable, "cannot be read"),
        (wordless, "neither tokenizer.json nor"),
        (shifted, "'<late>' has the id 5000, and "),
        (tmp_path / "nowhere" / "at" / "all", "there is no folder"),
    ):
        with pytest.raises(UsageError, match=what) as caught:
            BaseModel.open(str(base))
        assert "\n" not in caught.value.what
        assert caught.value.hint


@pytest.mark.usefixtures("in_float32")
def test_a_control_token_without_an_embedding_gets_one(folders, tmp_path):
    """As the picture token of the smallest Gemma 3, which reads no pictures."""
    import torch
    import transformers

    folder = shutil.copytree(folders["gemma3"], tmp_path / "base")
    definition = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    definition["added_tokens"].append({**definition["added_tokens"][0], "id": size, "content": "<image_soft_token>"})
    (folder / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
    base = BaseModel.open(str(folder))
    assert base.tokenizer.vocab_size == size + 1
    network = base_weights.load_base_network(str(folder), base.tokenizer)
    assert network.vocab_size > size
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.tensor([[2, 5, 300, 301]])
    with torch.inference_mode():
        assert torch.allclose(network.model(tokens).logits[..., :size], plain(tokens).logits, atol=1e-5)
