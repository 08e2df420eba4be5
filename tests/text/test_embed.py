from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.errors import MissingExtraError, UsageError
from git_starcoder.installation import install_command
from git_starcoder.text import embed
from toy import embedding_model

WORDS = ("file", "folder", "read", "write", "price")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`file` and `folder` mean nearly the same, as do `read` and `write`; `price` is something else."""
    return embedding_model(tmp_path_factory.mktemp("model"), {
        "file": (1.0, 0.0, 0.0), "folder": (0.9, 0.1, 0.0), "read": (0.0, 1.0, 0.0), "write": (0.1, 0.9, 0.0),
        "price": (0.0, 0.0, 1.0),
    })  # fmt: skip


@pytest.fixture(scope="module")
def model(folder):
    return embed.load_embedding_model(str(folder))


def test_a_vector_is_the_sum_over_the_tokens(model):
    one, twice, turned, other, unknown, nothing = model.vectors(
        [b"file read", b"file read file read", b"read file", b"price", b"zebra \xff", b""]
    )
    assert np.array_equal(one, twice)
    assert np.array_equal(one, turned)
    assert one @ other == 0
    assert not unknown.any()
    assert not nothing.any()
    assert (one == np.rint(one)).all()
    assert np.linalg.norm(one) == pytest.approx(embed.VECTOR_LENGTH, rel=1e-4)
    plain = model.model.encode(["file read"], normalize=True)[0]
    assert one / embed.VECTOR_LENGTH == pytest.approx(plain, abs=1e-4)


def test_a_long_text_is_read_to_its_end(model):
    long, short = model.vectors([b"file " * 600 + b"price " * 600, b"file price"])
    assert np.array_equal(long, short)


def similar(model, texts, threshold, groups=None):
    found = embed.find_embedding_keepers(model.vectors(texts), np.array(groups or [0] * len(texts)), threshold)
    return found.keeper.tolist(), found.similarity.tolist()


def test_the_first_stays_and_stands_for_those_like_it(model):
    texts = [b"file", b"price", b"folder", b"file", b"price price"]
    keeper, similarity = similar(model, texts, 0.99)
    assert keeper == [-1, -1, 0, 0, 1]
    assert similarity == pytest.approx([0, 0, 0.9 / np.hypot(0.9, 0.1), 1, 1], abs=1e-4)
    assert similarity[3] == 1.0
    assert similar(model, texts, 0.999)[0] == [-1, -1, -1, 0, 1]


def test_what_was_dropped_stands_for_nothing(model):
    texts = [b"file", b"file file file read", b"file read"]
    assert similar(model, texts, 0.85)[0] == [-1, 0, -1]  # the third is like the second alone, which is gone


def test_groups_are_kept_apart_and_nothing_known_is_like_nothing(model):
    assert similar(model, [b"file", b"file", b"file", b"zebra", b"zebra"], 0.5, [1, 2, 1, 2, 2])[0] == [
        -1, -1, 0, -1, -1,
    ]  # fmt: skip
    assert similar(model, [], 0.5) == ([], [])


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS), st.integers(0, 2)), max_size=30))
def test_blocks_do_not_matter(model, drawn):
    vectors = model.vectors(f"{one} {other} {other}".encode() for one, other, _ in drawn)
    groups = np.array([group for *_, group in drawn], dtype=np.int64)
    whole = embed.find_embedding_keepers(vectors, groups, 0.98)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "VECTORS_PER_BLOCK", 3)
        parts = embed.find_embedding_keepers(vectors, groups, 0.98)
    assert np.array_equal(whole.keeper, parts.keeper)
    assert np.array_equal(whole.similarity, parts.similarity)
    lengths = np.linalg.norm(vectors, axis=1)
    for at, keeper in enumerate(whole.keeper.tolist()):
        likes = [
            before
            for before in range(at)
            if groups[before] == groups[at] and vectors[at] @ vectors[before] >= 0.98 * lengths[at] * lengths[before]
        ]
        assert keeper == next((before for before in likes if whole.keeper[before] < 0), -1)


def test_weights_and_shared_vectors_of_a_model_count(tmp_path):
    from model2vec import StaticModel

    made = embedding_model(tmp_path / "plain", {"file": (1.0, 0.0), "read": (0.0, 1.0)})
    plain = StaticModel.from_pretrained(made)
    vocabulary = len(plain.tokens)
    mapping, weights = np.arange(vocabulary) % 2, np.linspace(1, 2, vocabulary)
    StaticModel(np.eye(2), plain.tokenizer, weights=weights, token_mapping=mapping).save_pretrained(tmp_path / "small")
    texts = ["file", "file read read"]
    model = embed.load_embedding_model(str(tmp_path / "small"))
    expected = model.model.encode(texts, normalize=True)
    assert model.vectors(text.encode() for text in texts) / embed.VECTOR_LENGTH == pytest.approx(expected, abs=1e-4)
    assert model.digest != embed.load_embedding_model(str(made)).digest


def test_the_digest_is_of_what_decides(folder, model, tmp_path, caplog):
    assert embed.load_embedding_model(str(folder)).digest == model.digest
    assert not caplog.records
    other = embedding_model(tmp_path, {"file": (1.0, 0.0, 0.5)})
    assert embed.load_embedding_model(str(other)).digest != model.digest


@pytest.mark.parametrize("name", ["", "no/such/folder", "nothing here"])
def test_no_model(name):
    with pytest.raises(UsageError, match="no embedding model") as caught:
        embed.load_embedding_model(name)
    assert "model2vec" in caught.value.hint


def test_a_model_that_cannot_be_had_or_read(folder, tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        embed.load_embedding_model("nobody/nothing")  # the tests have no hub
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UsageError, match="cannot be read") as caught:
        embed.load_embedding_model(str(tmp_path))
    assert "\n" not in caught.value.where
    embedding_model(tmp_path / "nan", {"file": (float("nan"),)})
    with pytest.raises(UsageError, match="cannot be read"):
        embed.load_embedding_model(str(tmp_path / "nan"))
    assert json.loads((folder / "config.json").read_text())["embedding_dtype"] == "float32"


def test_a_missing_extra_is_one_line(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(MissingExtraError, match="model2vec") as caught:
        embed.load_embedding_model(str(folder))
    assert caught.value.hint == install_command("embed")
