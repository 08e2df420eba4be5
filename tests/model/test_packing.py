from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.errors import StarcoderError, UsageError
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.packing import (
    TokenCounter,
    TokenCounts,
    best_fit_bins,
    fim_mask,
    input_rows,
    max_row_tokens,
    micro_batch_size,
    pack_step,
    planned_budget,
    spm_mask,
)
from git_starcoder.model.plan import TrainingPlan, budget_steps

END, PREFIX, MIDDLE, SUFFIX = range(4)
WHOLE = (1.0, 0.0, 0.0)


def make_corpus(lengths, seed=0, fim=True, kinds=(0.7, 0.15, 0.15), **columns):
    """A corpus of rows of random text: whole ones, some of which open or end it, some with context, some masked."""
    chance = np.random.default_rng(seed)
    rows, whole, opens, uncounted = [], [], [], []
    for length in lengths:
        row = chance.integers(10, 60, length)
        kind = chance.choice(["whole", "context", "hole"], p=kinds)
        if kind == "hole" and length >= 6:
            row[[0, 2, 4, -1]] = PREFIX, SUFFIX, MIDDLE, END
        elif chance.random() < 0.5:
            row[-1] = END
        whole.append(kind == "whole")
        opens.append(whole[-1] and chance.random() < 0.5)
        uncounted.append(chance.integers(1, length + 1) if kind == "context" else 0)
        rows.append(row)
    values = {
        "tokens": np.concatenate(rows).astype(np.uint8),
        "offsets": np.cumsum([0, *map(len, rows)]),
        "is_plain_text": np.array(whole),
        "starts_text": np.array(opens),
        "context_lengths": np.array(uncounted, dtype=np.int32),
        "weights": chance.choice([0.3, 0.7, 1.0, 1.95, 3.0], len(rows)),
        "content_hashes": chance.permutation(len(rows)).astype(np.uint64),
    }
    return Corpus(**values | columns, end_token=END, fim_tokens=(PREFIX, MIDDLE, SUFFIX) if fim else None)


def make_plan(corpus, steps=6, **options):
    values = {"seed": 0, "batch_tokens": 100, "is_curriculum": False, "fim_share": 0.0} | options
    return TrainingPlan(corpus.content_hashes, corpus.lengths, corpus.weights, step_count=steps, **values)


@st.composite
def runs(draw, fims=(0.0, 0.5, 0.99)):
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=40))
    corpus = make_corpus(lengths, draw(st.integers(0, 99)), draw(st.booleans()))
    options = {
        "seed": draw(st.integers(0, 5)),
        "batch_tokens": draw(st.integers(1, 200)),
        "fim_share": draw(st.sampled_from(fims)),
    }
    return corpus, make_plan(corpus, draw(st.integers(1, 8)), is_curriculum=draw(st.booleans()), **options)


@given(st.lists(st.integers(1, 50)), st.integers(1, 60))
def test_bins_hold_every_row_once_and_no_two_would_fit_in_one(lengths, limit):
    lengths = np.array(lengths, dtype=np.int64)
    found = best_fit_bins(lengths, limit)
    assert sorted(np.concatenate([*found, np.zeros(0)]).tolist()) == list(range(len(lengths)))
    sizes = sorted(lengths[group].sum() for group in found)
    assert all(lengths[group].sum() <= limit or len(group) == 1 for group in found)
    assert len(sizes) < 2 or sizes[0] + sizes[1] > limit


def test_bins_are_well_filled():
    lengths = np.random.default_rng(0).integers(16, 1025, 2000)
    found = best_fit_bins(lengths, 4096)
    assert len(found) <= 1.01 * lengths.sum() / 4096 + 1


@given(runs(), st.integers(1, 120), st.sampled_from([1, 64]), st.sampled_from(["row", "piece"]))
def test_micro_batches_hold_every_row_of_a_step_in_full(run, limit, size, attend):
    corpus, plan = run
    for step in plan.steps_from():
        rows = input_rows(corpus, plan, step)
        filled = fim_mask(corpus, plan, step.rows, step.draw_numbers)
        micro_batches = pack_step(corpus, plan, step, limit, size, attend)
        found = {}
        for packed in micro_batches:
            end = len(packed.tokens) - packed.padding_count
            begins = packed.row_starts
            assert end <= limit or len(packed.row_indices) == 1
            assert len(packed.tokens) % size == 0
            assert packed.padding_count < size
            assert packed.segment_bounds[0] == 0
            assert packed.segment_bounds[-1] == len(packed.tokens)
            segments = [*begins, end] if attend == "row" else [0, end]
            assert packed.segment_bounds.tolist() == [
                *segments,
                *([len(packed.tokens)] if packed.padding_count else []),
            ]
            assert packed.segment_bounds.dtype == np.int32
            assert set(packed.targets[end:].tolist()) <= {-100}
            for place, begin, stop in zip(packed.row_indices.tolist(), begins, [*begins[1:], end], strict=True):
                assert place not in found
                found[place] = True
                row = rows[place].tolist()
                assert packed.tokens[begin:stop].tolist() == row[:-1]
                first = 0 if attend == "row" else begin
                assert packed.positions[begin:stop].tolist() == list(range(first, first + stop - begin))
                shown = 1 if filled[place] else corpus.loss_starts[step.rows[place]]
                assert packed.targets[begin:stop].tolist() == [-100] * (shown - 1) + row[shown:]
        for place in set(range(len(rows))) - set(found):
            assert len(rows[place]) == max(1, corpus.loss_starts[step.rows[place]])


@given(runs(), st.integers(2, 4))
def test_any_number_of_processes_takes_the_same_micro_batches(run, world):
    corpus, plan = run
    for step in plan.steps_from():
        micro_batches = [packed.tokens.tolist() for packed in pack_step(corpus, plan, step, 64)]
        ranks = [
            [packed.tokens.tolist() for packed in pack_step(corpus, replace(plan), plan.step(step.number), 64)][
                rank::world
            ]
            for rank in range(world)
        ]
        together = [ranks[number % world][number // world] for number in range(sum(map(len, ranks)))]
        assert together == micro_batches


def undo_fim(row):
    """The text of a row that is learned as prefix, suffix, middle, and whether the suffix stands first."""
    row = row.tolist()
    first, last, fill = (row.index(mark) for mark in (PREFIX, SUFFIX, MIDDLE))
    assert first == 0 < last < fill
    assert row[-1] == END
    return row[1:last] + row[fill + 1 : -1] + row[last + 1 : fill], last == 1


@given(runs(fims=(0.99,)))
def test_a_middle_is_filled_in_whole_text_alone_and_keeps_every_token(run):
    corpus, plan = run
    for step in plan.steps_from():
        filled = fim_mask(corpus, plan, step.rows, step.draw_numbers)
        assert not filled[~corpus.is_plain_text[step.rows]].any()
        first = spm_mask(plan, step.rows, step.draw_numbers)
        for row, fill, spm, read in zip(step.rows, filled, first, input_rows(corpus, plan, step), strict=True):
            if fill:
                text = corpus.dataset_tokens(row).tolist()
                found, empty = undo_fim(read)
                assert found == (text[:-1] if text[-1] == END else text)
                assert empty >= spm
                assert len(read) == len(text) + (3 if text[-1] == END else 4)
            else:
                assert read.tolist() == corpus.input_tokens(row).tolist()


def test_shares_of_filled_rows_and_of_their_kinds_are_as_said():
    corpus = make_corpus([40] * 3000, kinds=WHOLE)
    plan = make_plan(corpus, 300, batch_tokens=1000, fim_share=0.5)
    filled, spm, before, reads = [], [], [], {}
    for step in plan.steps_from():
        chosen = fim_mask(corpus, plan, step.rows, step.draw_numbers)
        filled += chosen.tolist()
        spm += spm_mask(plan, step.rows, step.draw_numbers)[chosen].tolist()
        for row, read, fill in zip(step.rows.tolist(), input_rows(corpus, plan, step), chosen, strict=True):
            if fill:
                reads.setdefault(row, []).append(read.tolist())
                before.append(read.tolist().index(SUFFIX) - 1)
    assert np.mean(filled) == pytest.approx(0.5, abs=0.03)
    assert np.mean(spm) == pytest.approx(0.5, abs=0.03)
    assert np.mean(np.array(before)[~np.array(spm)]) == pytest.approx(39.5 / 3, abs=0.5)
    again = [read for read in reads.values() if len(read) > 1]
    assert np.mean([read[0] != read[1] for read in again]) > 0.9


def test_no_middle_is_filled_without_the_tokens_for_it():
    corpus = make_corpus([30] * 20, fim=False)
    assert not fim_mask(corpus, make_plan(corpus, fim_share=0.9), np.arange(20), np.arange(20)).any()
    with pytest.raises(UsageError, match="no fill-in-the-middle tokens"):
        TrainingPlan.build(corpus, TrainConfig(fim=0.5), 10, is_curriculum=False)


@given(runs(), st.integers(10, 80), st.sampled_from([1, 64]), st.sampled_from(["row", "piece"]), st.data())
def test_the_counted_token_budget_is_the_planned_one(run, limit, size, attend, data):
    corpus, plan = run
    begin = data.draw(st.integers(0, plan.step_count))
    counter = TokenCounter(plan, corpus, TokenCounts(begin=begin))
    for step in plan.steps_from(begin):
        counter = TokenCounter(
            plan, corpus, TokenCounts(**json.loads(json.dumps(asdict(counter.counts))))
        )  # as a checkpoint does
        counter.add(step, pack_step(corpus, plan, step, limit, size, attend))
    found = counter.close()
    whole, before = planned_budget(plan, corpus), planned_budget(plan, corpus, begin)
    expected = {name: value - getattr(before, name) for name, value in whole.as_values().items()}
    assert {name: getattr(found, name) for name in expected} == expected
    drawn = sum(corpus.lengths[step.rows].sum() for step in plan.steps_from(begin))
    assert found.drawn == drawn
    assert found.drawn + found.control == found.trained + found.shown
    assert found.laid == found.trained + found.shown + found.padded - found.last - found.unasked


def spoil(micro_batches):
    """Ways in which micro_batches can be wrong."""
    packed, *rest = micro_batches
    yield [*rest]
    yield [*micro_batches, packed]
    for name, place, value in (("tokens", 1, 61), ("targets", -1, -100), ("targets", 0, 61), ("targets", 0, -100)):
        column = getattr(packed, name).copy()
        column[place] = value
        yield [packed._replace(**{name: column}), *rest]
    yield [packed._replace(row_indices=packed.row_indices[::-1]), *rest]


def test_a_token_budget_that_does_not_add_up_is_an_error():
    corpus = make_corpus(list(range(12, 40)), kinds=WHOLE, starts_text=np.zeros(28, dtype=bool))
    for fim in (0.0, 0.9):
        plan = make_plan(corpus, fim_share=fim)
        step = plan.step(0)
        ways = list(spoil(pack_step(corpus, plan, step, 1000)))
        assert len(ways) == 7
        for micro_batches in ways:
            with pytest.raises(StarcoderError, match="does not add up"):
                TokenCounter(plan, corpus).add(step, micro_batches)
    counter = TokenCounter(plan, corpus)
    with pytest.raises(StarcoderError, match="instead of step 0"):
        counter.add(plan.step(1), pack_step(corpus, plan, plan.step(1), 1000))
    counter.add(step, pack_step(corpus, make_plan(corpus), step, 1000))  # without filled middles
    with pytest.raises(StarcoderError, match="counted"):
        counter.close()


def test_budgets_in_steps():
    corpus = make_corpus([50] * 100, weights=np.full(100, 2.0))
    assert budget_steps(TrainConfig(steps=7), corpus) == 7
    assert budget_steps(TrainConfig(tokens=1001, batch=100), corpus) == 11
    assert budget_steps(TrainConfig(epochs=1, batch=100), corpus) == 100
    assert budget_steps(TrainConfig(epochs=0.5, batch=10), corpus) == 100
    assert budget_steps(TrainConfig(minutes=1), corpus) is None
    plan = TrainingPlan.build(corpus, TrainConfig(epochs=3, batch=100), 300, is_curriculum=False)
    assert plan.draw_counts.tolist() == [6] * 100


@pytest.mark.parametrize("fim", [0.0, 0.5])
@pytest.mark.parametrize("count", [1, 4])
def test_micro_batches_with_room_hold_nearly_every_step_with_little_padding(count, fim):
    chance = np.random.default_rng(1)
    corpus = make_corpus(np.minimum(1024, 32 + chance.exponential(200, 4000)).astype(int))
    plan = make_plan(corpus, 60, batch_tokens=16_384, fim_share=fim)
    size = micro_batch_size(corpus, plan, count)
    assert size % 64 == 0
    micro_batches = [pack_step(corpus, plan, step, size, size) for step in plan.steps_from()]
    assert np.mean([len(each) > count for each in micro_batches]) < 0.05
    padded = sum(packed.padding_count for each in micro_batches for packed in each)
    assert padded < 0.04 * sum(len(packed.tokens) for each in micro_batches for packed in each)
    assert micro_batch_size(corpus, plan, 1000) == max_row_tokens(corpus, fim) == 1024 + (3 if fim else 0)
