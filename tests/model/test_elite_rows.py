"""Training and asking on a dataset of the elite recipe: several sizes, heads of context, masked rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from git_starcoder.dataset.held_out import load_documents
from git_starcoder.model import loading, network
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.evaluate import evaluate
from git_starcoder.model.network import padded_batches
from git_starcoder.model.training import train
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.text import tokenizer as tokenizers
from toy import evolving

SIZES = (64, 128, 256)
RECIPE = Recipe.load(
    "elite",
    ("window.vocab_size=600", f"window.size={list(SIZES)}", "augment.token_masking=0.5", "write.labels=true"),
)
TOY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def repo(repo_maker):
    return repo_maker(evolving(60, 8))


@pytest.fixture(scope="module")
def dataset(repo, tmp_path_factory):
    return build(repo, RECIPE, tmp_path_factory.mktemp("dataset") / "out")


@pytest.fixture(scope="module")
def tokenizer(dataset):
    return tokenizers.load_tokenizer(dataset.tokenizer_folder)


def kind(about):
    return next((name for name in ("hole", "context") if name in about), "plain")


@pytest.fixture(scope="module")
def shown(dataset, tokenizer):
    """The rows of the training split as a model reads them, with their labels."""
    found = {}
    for row, labels in dataset.rows_with_labels("train"):
        length = row.metadata["length"]
        opens = row.metadata["token_start"] == 0 and kind(row.metadata) == "plain"
        tokens, asked = row.tokens[:length], labels["labels"][:length]
        found[(*([tokenizer.end_id] if opens else []), *tokens)] = [*([-100] if opens else []), *asked], row.metadata
    return found


def test_what_does_not_count_is_shown_and_not_learned(dataset, shown, tmp_path, monkeypatch):
    seen, asked = Counter(), 0
    nats = network.Network.token_losses

    def watched(self, piece):
        nonlocal asked
        if self.model.training:  # held-out text is asked about in full
            for begin, end in pairwise(piece.segment_bounds.tolist()[: -1 if piece.padding_count else None]):
                row = [*piece.tokens[begin:end].tolist(), int(piece.targets[end - 1])]
                labels, about = shown[tuple(row)]
                # The first token is not predicted, and the dataset says what else is not.
                assert piece.targets[begin:end].tolist() == labels[1:]
                seen[kind(about), about["window_size"]] += 1
            asked += int((piece.targets >= 0).sum())
        return nats(self, piece)

    monkeypatch.setattr(network.Network, "token_losses", watched)
    monkeypatch.setattr("git_starcoder.model.training.run_preflight", lambda *_: [])  # has rows of its own
    config = TrainConfig(size="toy", steps=20, batch=2048, device="cpu", precision="float32")
    result = train(dataset, tmp_path / "model", config)
    assert result.tokens == asked
    assert {name for name, _ in seen} == {"plain", "context", "hole"}
    assert {size for _, size in seen} == set(SIZES)


def test_no_token_of_any_size_is_lost_and_little_is_padded(dataset, shown, tokenizer):
    corpus = Corpus.read(dataset, tokenizer)
    rows = [corpus.input_tokens(index) for index in range(len(corpus.lengths))]
    assert [tuple(row.tolist()) for row in rows] == list(shown)
    lengths = np.array([len(row) for row in rows])
    chance = np.random.default_rng(0)
    read = padded = 0
    for _ in range(50):
        some = chance.choice(lengths, 20)
        read += some.sum()
        padded += sum(some[piece].max() * len(piece) for piece in padded_batches(some))
    assert padded < 1.1 * read


def test_a_model_is_asked_for_each_byte_that_is_held_out_once(dataset, tokenizer, repo, git):
    sizes, chunks = set(), 0
    for split in ("val", "test"):
        texts = defaultdict(bytes)
        for document in load_documents(dataset, split):
            texts[document.path] += tokenizer.decode(document.tokens[document.tokens != tokenizer.end_id])
        assert len(texts) > 1
        for path, text in texts.items():
            assert text == git(repo, "show", f"HEAD:{path}")
        base = [about for about in dataset.row_metadata(split) if about["augmentation_type"] == "base"]
        sizes |= {about["window_size"] for about in base}
        chunks += len(base) - len(texts)
    assert sizes == set(SIZES)
    assert chunks > 20  # far more rows than files: they overlap, within a size and between sizes


def test_a_model_of_several_sizes_is_asked_in_full(dataset, tokenizer, tmp_path):
    train(dataset, tmp_path / "model", TrainConfig(size="toy", steps=2, batch=2048))
    scores = {score.eval: score for score in reversed(evaluate(tmp_path / "model", dataset).scores)}
    size = sum(
        len(tokenizer.decode(each.tokens[each.tokens != tokenizer.end_id])) for each in load_documents(dataset, "test")
    )
    assert scores["bits_per_byte"].over == scores["compressors"].over == size
    assert loading.load_model(tmp_path / "model")[0].context == max(SIZES)
