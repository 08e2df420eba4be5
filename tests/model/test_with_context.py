"""Tests of training, scores and completions with parts of other files: what is shown, learned, counted and resumed."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

import finished
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.errors import UsageError
from git_starcoder.evals.bits_per_byte import document_sequences
from git_starcoder.model import with_context
from git_starcoder.model.complete import Model
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.context import BEGINNING_TOKENS, ContextComposer
from git_starcoder.model.dry_run import explain_training_step
from git_starcoder.model.evaluate import evaluate
from git_starcoder.model.network import Network
from git_starcoder.model.packing import TokenCounter, fim_mask, pack_step, planned_budget
from git_starcoder.model.plan import TrainingPlan
from git_starcoder.model.training import read_corpus, train
from git_starcoder.model.with_context import NetworkWithContext, repository_context, training_context
from git_starcoder.row_layout import IGNORED_LABEL
from git_starcoder.text.tokenizer import load_tokenizer

TOY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
BUDGET = 150


def config(**values):
    told = {"size": "toy", "batch": 1024, "device": "cpu", "precision": "float32", "steps": 12, "fim": 0.3}
    return TrainConfig(**{**told, "context_tokens": BUDGET, **values})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    return finished.toy(folder, repository="project", size=256, stride=256, vocab_size=400)


@pytest.fixture(scope="module")
def tokenizer(dataset):
    return load_tokenizer(dataset.tokenizer_folder)


@pytest.fixture(scope="module")
def folder(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    train(dataset, folder, config())
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return Model.open(folder)


@pytest.fixture(scope="module")
def scored(model, dataset, tokenizer):
    return NetworkWithContext(model.network.network, training_context(dataset, tokenizer), BUDGET)


def shown_files(tokenizer, tokens):
    """The paths in the header before a text, the last of which is its own."""
    parts = tokenizer.decode(tokens).decode().removeprefix("<|endoftext|>").split("<file_sep>")
    return [part.partition("\n")[0] for part in parts[1:]]


def test_a_row_shows_other_training_files_before_its_own_path_and_learns_only_its_text(dataset, tokenizer):
    plain, _ = read_corpus(dataset, config(context_tokens=0), tokenizer)
    corpus, _ = read_corpus(dataset, config(), tokenizer)
    training = {document.path for document in load_documents(dataset, "train")}
    extended = 0
    for row in range(len(corpus.lengths)):
        tokens, original = corpus.input_tokens(row), plain.input_tokens(int(corpus.dataset_rows[row]))
        start, plain_start = corpus.loss_starts[row], plain.loss_starts[corpus.dataset_rows[row]]
        assert np.array_equal(tokens[start:], original[plain_start:])
        *others, own = shown_files(tokenizer, tokens[:start])
        assert own == corpus.paths[row]
        assert own not in others
        assert {*others} <= training
        assert len(tokens) - len(original) <= BUDGET
        assert (len(others) > 0) == (len(tokens) > len(original))
        extended += len(others) > 0
    assert extended == len(plain.lengths)
    assert np.bincount(corpus.dataset_rows).tolist() == [2] * len(plain.lengths)


def test_a_leak_group_is_not_shown_to_its_members(dataset, tokenizer, monkeypatch):
    groups = []
    extend = ContextComposer.extend_header
    monkeypatch.setattr(ContextComposer, "extend_header", lambda *values: groups.append(values[-1]) or extend(*values))
    read_corpus(dataset, config(), tokenizer)
    assert groups == [document.group for document in load_documents(dataset, "train")]
    assert all(groups)


@pytest.mark.parametrize("dropout", [0.0, 0.25, 0.6])
def test_a_share_of_the_draws_shows_no_other_file(dataset, tokenizer, dropout):
    told = config(context_dropout=dropout, steps=400)
    corpus, _ = read_corpus(dataset, told, tokenizer)
    plan = TrainingPlan.build(corpus, told, 400, is_curriculum=False)
    plain, _ = read_corpus(dataset, config(context_tokens=0), tokenizer)
    is_extended = corpus.context_lengths > plain.context_lengths[corpus.dataset_rows]
    draws = plan.draw_counts
    assert draws[~is_extended].sum() / draws.sum() == pytest.approx(dropout, abs=0.02)
    # Each row of the dataset is drawn as often as the others.
    per_row = np.bincount(corpus.dataset_rows, draws)
    assert per_row.max() - per_row.min() <= 4
    # Both kinds are drawn all the time, and not in turn for whole passes.
    rows = np.concatenate([step.rows for step in plan.steps_from()])
    shares = [1 - is_extended[part].mean() for part in np.array_split(rows, 20)]
    assert max(shares) - min(shares) < 0.4


def test_plan_and_micro_batches_agree_on_every_token(dataset, tokenizer):
    told = config(steps=60)
    corpus, _ = read_corpus(dataset, told, tokenizer)
    plan = TrainingPlan.build(corpus, told, 60, is_curriculum=False)
    counter = TokenCounter(plan, corpus)
    kinds = Counter()
    for step in plan.steps_from():
        micro_batches = pack_step(corpus, plan, step, 2048)
        counter.add(step, micro_batches)
        is_fim = fim_mask(corpus, plan, step.rows, step.draw_numbers)
        kinds.update(zip(is_fim.tolist(), (corpus.context_lengths[step.rows] > 32).tolist(), strict=True))
        for packed in micro_batches:
            for index, start in zip(packed.row_indices.tolist(), packed.row_starts.tolist(), strict=True):
                learned = packed.targets[start : start + corpus.context_lengths[step.rows[index]] - 1]
                assert (learned == IGNORED_LABEL).all()
    planned = planned_budget(plan, corpus).as_values()
    assert counter.close().as_values().items() >= planned.items()
    assert len(kinds) == 4


def test_all_windows_of_a_file_have_one_context_and_shift_together(dataset, tokenizer):
    corpus, _ = read_corpus(dataset, config(), tokenizer)
    assert (corpus.max_shifts > 0).any()
    for row, previous in enumerate(corpus.previous.tolist()):
        if previous >= 0:
            assert corpus.paths[previous] == corpus.paths[row]
            headers = [corpus.dataset_tokens(each)[: corpus.context_lengths[each]] for each in (previous, row)]
            assert np.array_equal(*headers)
            assert corpus.max_shifts[previous] == corpus.max_shifts[row]


def test_a_step_is_explained_by_the_rows_of_the_dataset(dataset, tokenizer):
    told = config()
    corpus, _ = read_corpus(dataset, told, tokenizer)
    plan = TrainingPlan.build(corpus, told, told.steps, is_curriculum=False)
    explained = [explain_training_step(dataset, told, number) for number in (1, 2, 3)]
    for number, step in enumerate(explained):
        rows = plan.step(number).rows
        places = [dataset.row_location("train", int(row)) for row in corpus.dataset_rows[rows]]
        assert [row.place for row in step.rows] == places
        assert [row.source_file for row in step.rows] == [corpus.paths[row] for row in rows.tolist()]
    assert any(row.given > finished.MAX_HEADER_TOKENS + 1 for step in explained for row in step.rows)


def test_a_training_with_contexts_resumes_exactly(dataset, folder, tmp_path):
    class Ends:
        steps = 7

        def begin(self, step, total):
            pass

        def advance(self, count):
            self.steps -= count
            if self.steps < 0:
                raise KeyboardInterrupt

        def end(self, *values):
            pass

        def note(self, text):
            pass

    out = tmp_path / "model"
    told = config(checkpoint_minutes=1e-9)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, out, told, progress=Ends())
    train(dataset, out, told)
    assert (out / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    records = [json.loads((each / "training.json").read_text()) for each in (out, folder)]
    assert records[0]["ledger"] == records[1]["ledger"]
    assert records[0]["result"]["held_out"] == records[1]["result"]["held_out"]


def test_a_score_depends_on_no_later_text(dataset, scored, tokenizer):
    documents = load_documents(dataset, "val")
    sequences, _ = document_sequences(documents, tokenizer.end_id)
    header, tokens = documents[0].header, sequences[0]
    for place in (BEGINNING_TOKENS // 2, BEGINNING_TOKENS + 1, 2 * BEGINNING_TOKENS):
        changed = np.concatenate((tokens[:place], sequences[1][place:]))[: len(tokens)]
        whole = tokens[: len(changed)]
        assert not np.array_equal(whole, changed)
        for first in (1, BEGINNING_TOKENS + 1):
            bits = [scored.sequence_bits([each], [first], headers=[header])[0] for each in (whole, changed)]
            same = max(0, place - first)
            assert bits[0][:same] == pytest.approx(bits[1][:same], abs=1e-4)


def test_tokens_that_a_context_is_chosen_from_are_scored_without_it(dataset, scored, tokenizer):
    documents = load_documents(dataset, "val")
    sequences, first_scored = document_sequences(documents, tokenizer.end_id)
    headers = [document.header for document in documents]
    for parts in (1, 4):
        plain, shown = (
            model.sequence_bits(sequences, first_scored, headers=headers, parts=parts)
            for model in (scored.network, scored)
        )
        for before, after in zip(plain, shown, strict=True):
            assert len(before) == len(after)
            assert before[:BEGINNING_TOKENS] == pytest.approx(after[:BEGINNING_TOKENS], abs=1e-4)
            assert not np.allclose(before[BEGINNING_TOKENS:], after[BEGINNING_TOKENS:], atol=1e-3)
    views = scored.sequence_views(sequences, first_scored, headers)
    assert np.concatenate(views)[:, 0] == pytest.approx(np.concatenate(shown), abs=1e-4)
    without = [model.sequence_bits(sequences, first_scored) for model in (scored.network, scored)]
    assert all(np.array_equal(*pair) for pair in zip(*without, strict=True))


def test_evaluation_shows_files_of_the_training_split_and_no_others(dataset, folder, model, monkeypatch, tokenizer):
    held_out = [document for split in ("val", "test") for document in load_documents(dataset, split)]
    canaries = [document.tokens[: len(document.tokens) // 2].astype(np.uint16).tobytes() for document in held_out]
    composers, read = [], []
    windows = Network.sequence_views
    monkeypatch.setattr(
        with_context, "training_context", lambda *values: composers.append(training_context(*values)) or composers[-1]
    )
    monkeypatch.setattr(Network, "sequence_views", lambda *values: read.extend(values[3]) or windows(*values))
    written = []
    generate = Network.generate
    monkeypatch.setattr(
        Network,
        "generate",
        lambda network, prompts, *rest, **options: (
            written.extend(prompts) or generate(network, prompts, *rest, **options)
        ),
    )
    scores = evaluate(folder, dataset)
    assert scores.scores
    (composer,) = composers
    assert not any(canary in composer.tokens.tobytes() for canary in canaries)
    assert all(canary in model.network.composer.tokens.tobytes() for canary in canaries)
    training = {document.path for document in load_documents(dataset, "train")}
    for tokens in (read, written):
        shown = [
            shown_files(
                tokenizer, each[: np.flatnonzero(each == tokenizer.control_token_ids("<file_sep>")[0])[-1] + 20]
            )
            for each in tokens
        ]
        assert any(len(paths) > 1 for paths in shown)
        assert {path for *others, _ in shown for path in others} <= training


def test_a_composer_of_the_repository_gives_no_score(model, dataset, tokenizer):
    assert model.network.composer.contents == "repository"
    documents = load_documents(dataset, "val")
    sequences, first_scored = document_sequences(documents, tokenizer.end_id)
    headers = [document.header for document in documents]
    with pytest.raises(ValueError, match="may not come from"):
        model.network.sequence_bits(sequences, first_scored, headers=headers)
    assert model.bits_per_byte("def find(items):\n") > 0


def test_complete_shows_the_files_of_the_repository_but_not_the_file_itself(model, dataset, monkeypatch, tokenizer):
    document = load_documents(dataset, "test")[0]
    text = tokenizer.decode(document.tokens[: BEGINNING_TOKENS + 60])
    read = []
    kind = type(model.network.network)
    generate = kind.generate
    monkeypatch.setattr(
        kind,
        "generate",
        lambda network, prompts, *rest, **options: read.extend(prompts) or generate(network, prompts, *rest, **options),
    )
    model.complete(text, path=document.path, max_tokens=4)
    model.complete(text, path=document.path, max_tokens=4, suffix="\n")
    model.complete(text, max_tokens=4)
    model.complete(text[:40], path=document.path, max_tokens=4)
    counts = []
    for prompt in read:
        paths = shown_files(tokenizer, prompt)
        assert document.path not in paths[:-1]
        counts.append(len(paths))
    assert counts[0] == counts[1] > 1
    assert counts[2:] == [0, 1]
    assert np.array_equal(
        read[0],
        model.network.composer.extend_prompt(read[0][:1].tolist() and _plain_prompt(model, document, text), BUDGET),
    )


def test_complete_leaves_out_a_header_that_is_too_long(model, dataset, tokenizer):
    text = tokenizer.decode(load_documents(dataset, "test")[0].tokens[: BEGINNING_TOKENS + 60])
    found = {model.complete(text, path="é" * size, max_tokens=4) for size in range(200, 204)}
    assert found == {model.complete(text, max_tokens=4)}


def _plain_prompt(model, document, text):
    return np.concatenate(([model.network.end_token], document.header, model.tokenizer.encode([text])[0])).astype(
        np.int64
    )


def test_rows_without_headers_or_contexts_longer_than_rows_are_refused(dataset, tokenizer, tmp_path):
    plain = finished.toy(tmp_path / "plain", size=256, stride=256)
    with pytest.raises(UsageError, match="no headers"):
        read_corpus(plain, config(), load_tokenizer(plain.tokenizer_folder))
    with pytest.raises(UsageError, match="too many"):
        read_corpus(dataset, config(context_tokens=1000), tokenizer)


def test_a_repository_is_shown_whole(dataset, tokenizer):
    composer = repository_context(dataset, tokenizer)
    assert composer.contents == "repository"
    splits = ("train", "val", "test")
    assert {*composer.paths} == {document.path for split in splits for document in load_documents(dataset, split)}
