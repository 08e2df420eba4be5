"""Tests of a memory: its mixtures are distributions, and it is read back as it was written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from git_starcoder.errors import DatasetError
from git_starcoder.memory.repository_memory import MemoryReader, NetworkView, RepositoryMemory

if TYPE_CHECKING:
    from pathlib import Path

END, VOCAB_SIZE = 0, 50
TOKENIZER: Any = SimpleNamespace(vocab_size=VOCAB_SIZE, end_id=END)


def documents(seed: int, count: int = 4) -> list[np.ndarray]:
    """Documents that share long runs of tokens."""
    generator = np.random.default_rng(seed)
    runs = [np.random.default_rng(run).integers(1, VOCAB_SIZE, 25) for run in range(12)]
    return [np.concatenate([*(runs[run] for run in generator.integers(0, 12, 6)), [END]]) for _ in range(count)]


def predictions(count: int, seed: int = 0) -> np.ndarray:
    """What a network might predict for each of some tokens, shape (tokens, vocabulary)."""
    return np.random.default_rng(seed).dirichlet(np.full(VOCAB_SIZE, 0.1), count).astype(np.float32)


def view_of(predicted: np.ndarray, tokens: np.ndarray) -> NetworkView:
    bits = -np.log2(predicted[np.arange(len(tokens)), tokens])
    entropy = -np.where(predicted > 0, predicted * np.log2(np.maximum(predicted, 1e-45)), 0).sum(axis=1)
    return NetworkView(bits, entropy, predicted.max(axis=1))


def score(memory: RepositoryMemory, texts: list[np.ndarray], view: NetworkView | None = None) -> np.ndarray:
    return memory.token_bits(texts, [0] * len(texts), view)


@pytest.fixture(scope="module")
def memory() -> RepositoryMemory:
    """A memory with trained gates."""
    held_out = documents(1)
    tokens = np.concatenate(held_out)
    found = RepositoryMemory.build(documents(0, 20), "training split", TOKENIZER)
    scored = [0] * len(held_out)
    return found.fit_gate(held_out, scored).fit_gate(held_out, scored, view_of(predictions(len(tokens)), tokens))


@pytest.mark.parametrize("with_network", [True, False])
def test_every_mixture_sums_to_1_and_gives_the_reported_bits(memory: RepositoryMemory, *, with_network: bool) -> None:
    texts = documents(2, 2)
    tokens = np.concatenate(texts)
    predicted = predictions(len(tokens), 3)
    bits = score(memory, texts, view_of(predicted, tokens) if with_network else None)
    mixtures = []
    rows = iter(predicted)
    for text in texts:
        reader = MemoryReader(memory)
        for token in text.tolist():
            row = next(rows)
            mixtures.append(reader.mix(row) if with_network else reader.predict())
            reader.add([token])
    assert np.abs(np.sum(mixtures, axis=1) - 1).max() < 1e-4
    assert np.abs(-np.log2(np.array(mixtures)[np.arange(len(tokens)), tokens]) - bits).max() < 1e-3


def test_an_arithmetic_coder_needs_the_reported_bits_and_gives_the_text_back(memory: RepositoryMemory) -> None:
    text = documents(4, 1)[0]
    predicted = predictions(len(text), 5)
    bits = float(score(memory, [text], view_of(predicted, text)).sum())

    def frequencies(reader: MemoryReader, row: np.ndarray) -> list[int]:
        return [int(share * (1 << 24)) + 1 for share in reader.mix(row).tolist()]

    # Exact arithmetic coding: each token narrows an interval of whole numbers; the shortest number inside is the code.
    low, width, scale = 0, 1, 1
    reader = MemoryReader(memory)
    for row, token in zip(predicted, text.tolist(), strict=True):
        sizes = frequencies(reader, row)
        low, width, scale = low * sum(sizes) + width * sum(sizes[:token]), width * sizes[token], scale * sum(sizes)
        reader.add([token])
    length = scale.bit_length() - width.bit_length() + 2
    code = -(-(low << length) // scale)  # code / 2^length is the first such number in the interval
    assert code * scale < (low + width) << length
    assert abs(length - bits) < 0.01 * bits + 3

    decoded: list[int] = []
    low, width, scale = 0, 1, 1
    reader = MemoryReader(memory)
    for row in predicted:
        sizes = frequencies(reader, row)
        low, scale = low * sum(sizes), scale * sum(sizes)
        token = 0
        while code * scale >= (low + width * sizes[token]) << length:
            low += width * sizes[token]
            token += 1
        width *= sizes[token]
        decoded.append(token)
        reader.add([token])
    assert decoded == text.tolist()


def test_a_gate_never_sees_the_next_token(memory: RepositoryMemory) -> None:
    text = documents(6, 1)[0]
    other = text.copy()
    other[-1] = (other[-1] + 1) % VOCAB_SIZE
    escapes = [memory.gates["alone"].escapes(memory.evidence([each], [0])) for each in (text, other)]
    assert np.array_equal(*escapes)


def test_documents_are_read_on_their_own(memory: RepositoryMemory) -> None:
    texts = documents(7, 3)
    assert np.array_equal(score(memory, texts), np.concatenate([score(memory, [text]) for text in texts]))


def test_tokens_before_the_scored_ones_are_read(memory: RepositoryMemory) -> None:
    texts = documents(7, 2)
    bits = score(memory, texts)
    assert np.array_equal(
        memory.token_bits(texts, [0, 40]), np.delete(bits, np.arange(len(texts[0]), len(texts[0]) + 40))
    )


def test_a_score_never_comes_from_a_memory_of_the_whole_repository(memory: RepositoryMemory) -> None:
    whole = memory.update(documents(0, 20), "repository")
    with pytest.raises(ValueError, match="a score may not come from a memory of the repository"):
        score(whole, documents(1))


def test_an_update_predicts_as_a_new_memory_does(memory: RepositoryMemory) -> None:
    later = [*documents(0, 20)[:12], *documents(9)]
    updated = memory.update(later, "training split")
    built = RepositoryMemory.build(later, "training split", TOKENIZER, memory.gates)
    assert np.array_equal(score(updated, documents(2)), score(built, documents(2)))


def test_a_memory_is_read_back(memory: RepositoryMemory, tmp_path: Path) -> None:
    memory.save(tmp_path / "memory")
    again = RepositoryMemory.open(tmp_path / "memory")
    assert again.contents == "training split"
    assert np.array_equal(score(again, documents(2)), score(memory, documents(2)))
    assert isinstance(again.index.places.base, np.memmap) or isinstance(again.index.places, np.memmap)


@pytest.mark.parametrize("damage", ["memory.json", "places.npy", "gate_network.npz"])
def test_a_damaged_memory_is_named(memory: RepositoryMemory, tmp_path: Path, damage: str) -> None:
    memory.save(tmp_path / "memory")
    (tmp_path / "memory" / damage).write_bytes(b"{}")
    with pytest.raises(DatasetError, match="the memory cannot be read"):
        RepositoryMemory.open(tmp_path / "memory")


def test_a_draft_is_what_followed_the_longest_known_context(memory: RepositoryMemory) -> None:
    text = documents(0, 1)[0]
    reader = MemoryReader(memory)
    reader.add(text[:15].tolist())
    assert reader.draft() == text[15:23].tolist()  # inside a run that several documents share
    # What the file itself repeats counts more than what other files have.
    new = [41, 42, 43, 44, 45, 46, 47, 48, 49]
    reader = MemoryReader(memory)
    reader.add([*new, 1, *new[:5]])
    assert reader.draft()[:4] == new[5:]
    # So does what the texts before it have. A copy does not go on into the next text.
    reader = MemoryReader(memory, [np.array(new), np.array([3, 4])])
    reader.add([1, *new[:5]])
    assert reader.draft() == new[5:]
    reader = MemoryReader(memory)
    reader.add([49, 1, 49])
    assert reader.draft() == []


def test_what_is_forgotten_was_never_read(memory: RepositoryMemory) -> None:
    (text,) = documents(5, 1)
    for kept in (0, 1, 40, len(text)):
        reader, plain = MemoryReader(memory, [text[:30]]), MemoryReader(memory, [text[:30]])
        plain.add(text[:kept].tolist())
        reader.add(text[:kept].tolist())
        reader.add(reversed(text.tolist()))
        reader.draft()
        reader.forget(len(text))
        assert reader.file.history == plain.file.history
        assert reader.file._by_context == plain.file._by_context
        assert np.array_equal(reader.predict(), plain.predict())
        assert reader.draft() == plain.draft()
