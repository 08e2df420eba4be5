"""Tests of a network with the memory of its repository: scores, texts, drafts, and what a memory may hold."""

from __future__ import annotations

import numpy as np
import pytest

import finished
from git_starcoder.dataset.held_out import load_documents, load_repository
from git_starcoder.evals.bits_per_byte import document_sequences
from git_starcoder.memory.repository_memory import MemoryReader, RepositoryMemory
from git_starcoder.model import evaluate as evaluation
from git_starcoder.model import with_memory
from git_starcoder.model.complete import Model
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.evaluate import evaluate
from git_starcoder.model.generation import Sampling
from git_starcoder.model.loading import load_model
from git_starcoder.model.training import train
from git_starcoder.model.with_memory import (
    MEMORY_FOLDER,
    MemoryModel,
    NetworkWithMemory,
    read_prompt,
    training_memory,
)
from git_starcoder.protocols import Progress

TOY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def folder(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    values = {"size": "toy", "batch": 1024, "device": "cpu", "precision": "float32", "steps": 20}
    train(dataset, folder, TrainConfig(**values, fim=0.3))
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return Model.open(folder)


@pytest.fixture(scope="module")
def scored(dataset, model, folder):
    """The network and the memory of the training split, as they are scored."""
    network, _ = load_model(folder)
    return NetworkWithMemory(network, training_memory(model.memory, dataset, model.tokenizer), model.tokenizer)


def nothing_stops(model):
    return np.zeros(model.tokenizer.vocab_size, dtype=np.bool_)


def test_a_mixture_of_network_and_memory_sums_to_1_and_needs_the_reported_bits(dataset, scored):
    sequences, first_scored = document_sequences(load_documents(dataset, "val")[:1], scored.tokenizer.end_id)
    tokens = sequences[0][:120]
    (bits,) = scored.sequence_bits([tokens], first_scored[:1])
    reader = MemoryReader(scored.memory)
    torch = scored.network.torch
    with torch.inference_mode(), scored.network.autocast():
        scored.network.use_own_attention()
        logits = scored.network.model(torch.from_numpy(tokens[None])).logits[0].float()
    for place, row in enumerate(logits.softmax(-1).numpy()[:-1]):
        mixture = reader.mix(row)
        assert abs(mixture.sum() - 1) < 1e-4
        assert -np.log2(mixture[tokens[place + 1]]) == pytest.approx(bits[place], abs=0.01)
        reader.add([int(tokens[place + 1])])


def test_a_header_is_read_by_the_network_and_not_by_the_memory(dataset, scored):
    sequences, first_scored = document_sequences(load_documents(dataset, "val"), scored.tokenizer.end_id)
    header = sequences[-1][1:9]
    alone, both = MemoryModel(scored.memory, scored.tokenizer), scored
    plain, shown = (
        [model.sequence_bits(sequences[:1], first_scored[:1], headers=headers)[0] for model in (alone, both)]
        for headers in ((), [header])
    )
    assert np.array_equal(plain[0], shown[0])
    assert not np.array_equal(plain[1], shown[1])


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.9, 0, 3), Sampling(0.0, 6, 0)], ids=str)
def test_drafts_change_no_text(model, dataset, monkeypatch, sampling):
    prompts = [
        np.append(model.network.end_token, document.tokens[:40]) for document in load_documents(dataset, "train")[:4]
    ]
    drafted: list[int] = []
    draft = MemoryReader.draft

    def count(reader):
        drafted.extend(draft(reader))
        return draft(reader)

    def write(drafts):
        monkeypatch.setattr(MemoryReader, "draft", drafts)
        readers = [[read_prompt(model.memory, prompt, model.tokenizer)] for prompt in prompts]
        return [
            model.network.generate([prompt], 30, stop=nothing_stops(model), sampling=sampling, readers=each)[0].tolist()
            for prompt, each in zip(prompts, readers, strict=True)
        ]

    with_drafts = write(count)
    assert with_drafts == write(lambda _: [])
    assert len(drafted) > 30


def test_texts_written_in_a_batch_are_those_written_alone(model, dataset, scored):
    prompts = [
        np.append(model.network.end_token, document.tokens[:size])
        for size, document in zip((9, 40, 25), load_documents(dataset, "train"), strict=False)
    ]
    for writer in (model.network, scored, MemoryModel(scored.memory, model.tokenizer)):
        together = writer.generate(prompts, 12, stop=nothing_stops(model))
        for prompt, written in zip(prompts, together, strict=True):
            assert np.array_equal(writer.generate([prompt], 12, stop=nothing_stops(model))[0], written)


def test_a_text_stops_where_it_is_to(model, dataset):
    prompt = np.append(model.network.end_token, load_documents(dataset, "train")[0].tokens[:40])
    reader = [read_prompt(model.memory, prompt, model.tokenizer)]
    (written,) = model.network.generate([prompt], 30, stop=nothing_stops(model), readers=reader)
    stop = nothing_stops(model)
    stop[written[5]] = True
    reader = [read_prompt(model.memory, prompt, model.tokenizer)]
    (stopped,) = model.network.generate([prompt], 30, stop=stop, readers=reader)
    assert stopped.tolist() == written[: written.tolist().index(written[5]) + 1].tolist()


def test_a_prompt_is_read_as_the_texts_it_consists_of(model):
    tokenizer = model.tokenizer
    prefix, middle, suffix = tokenizer.fim_ids
    before, after, other = ([105, 106, 107], [108, 109], [111, 112, 113])
    filling = np.array([prefix, *before, suffix, *after, middle])
    reader = read_prompt(model.memory, filling, tokenizer)
    assert reader.file.history == [tokenizer.end_id, *before]
    suffix_first = np.array([prefix, suffix, *after, middle, *before])
    assert read_prompt(model.memory, suffix_first, tokenizer).file.history == [tokenizer.end_id, *before]
    reader = read_prompt(model.memory, np.array([tokenizer.end_id, *other, tokenizer.end_id, *before]), tokenizer)
    assert reader.file.history == [tokenizer.end_id, *before]
    assert [counts.of_token for counts in reader.file.known_contexts()[:1]] == [dict.fromkeys(other + before, 1)]


def test_a_trained_model_remembers_the_whole_repository_and_completes_with_it(dataset, folder, model):
    assert model.memory.contents == "repository"
    held_out = load_documents(dataset, "test")[0]
    text = model.tokenizer.decode(held_out.tokens[:-1]).decode()
    place = text.index("\n", 200) + 1
    alone = Model(model.network, model.tokenizer)
    written = [each.complete(text[:place], max_tokens=12) for each in (model, alone)]
    assert text[place:].startswith(written[0][:9])
    assert not text[place:].startswith(written[1][:9])
    assert written[0] != written[1]
    assert (folder / MEMORY_FOLDER / "memory.json").is_file()


def test_a_memory_reads_as_many_files_as_it_can_hold(dataset, model, monkeypatch):
    documents = load_repository(dataset)
    total = sum(len(document.tokens) for document in documents)
    assert len(with_memory.remembered_texts(documents)) == len(documents)
    monkeypatch.setattr(with_memory, "MAX_MEMORY_TOKENS", total // 2)
    texts = with_memory.remembered_texts(documents)
    backwards = with_memory.remembered_texts(documents[::-1])
    assert [text.tobytes() for text in texts] == [text.tobytes() for text in backwards[::-1]]
    notes = []
    monkeypatch.setattr(Progress, "note", lambda _, text: notes.append(text))
    memory = with_memory.add_memory(model.network, dataset, model.tokenizer)
    read = sum(map(len, texts))
    assert total // 4 < read <= total // 2
    assert notes == [f"the memory has read {read:,} of {total:,} tokens, which is as much as it can hold"]
    assert len(memory.index.lengths) == len(texts)


def test_no_score_comes_from_a_memory_that_holds_held_out_text(dataset, folder, model, monkeypatch):
    """A canary of each held-out file is in the memory for use, and in none that a score comes from."""
    canaries = [
        document.tokens[: len(document.tokens) // 2].astype(np.uint16).tobytes()
        for split in ("val", "test")
        for document in load_documents(dataset, split)
    ]
    scoring = []
    bits = RepositoryMemory.token_bits
    monkeypatch.setattr(RepositoryMemory, "token_bits", lambda *values: scoring.append(values[0]) or bits(*values))
    readers = []
    read = evaluation.training_memory
    monkeypatch.setattr(evaluation, "training_memory", lambda *values: readers.append(read(*values)) or readers[-1])
    evaluate(folder, dataset)
    assert scoring
    for memory in (*scoring, *readers):
        assert not any(canary in memory.index.tokens.tobytes() for canary in canaries)
    assert all(canary in model.memory.index.tokens.tobytes() for canary in canaries)


def test_a_model_scored_on_another_dataset_has_no_memory_of_it(folder, tmp_path, monkeypatch):
    other = finished.toy(tmp_path / "other")
    monkeypatch.setattr(type(other), "digest", "another")
    subjects = {score.subject for score in evaluate(folder, other).scores}
    assert "network" in subjects
    assert not subjects & {"memory", "network and memory"}
