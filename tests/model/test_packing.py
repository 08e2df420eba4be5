from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.errors import StarcoderError, UsageError
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus, find_previous
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
    replace_inputs,
    spm_mask,
    window_shifts,
)
from git_starcoder.model.plan import TrainingPlan, budget_steps

END, PREFIX, MIDDLE, SUFFIX, BEGIN = range(5)
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
        "previous": np.full(len(rows), -1),
        "weights": chance.choice([0.3, 0.7, 1.0, 1.95, 3.0], len(rows)),
        "content_hashes": chance.permutation(len(rows)).astype(np.uint64),
    }
    return Corpus(**values | columns, end_token=END, fim_tokens=(PREFIX, MIDDLE, SUFFIX) if fim else None)


def make_files(counts, seed=0, size=12, header=3, fim=True):
    """A corpus of files in windows that do not overlap, in any order, each behind a header; and the tokens of each file.

    `counts` has the tokens of each file.
    """
    chance = np.random.default_rng(seed)
    rows, files, places = [], [], []
    for count in counts:
        text = np.append(chance.integers(10, 60, count), END)
        own = chance.integers(10, 60, header)
        files.append(text.tolist())
        starts = range(0, len(text), size)
        places.append([(start, min(start + size, len(text)), len(rows) + at) for at, start in enumerate(starts)])
        rows += [(np.concatenate((own, text[start : start + size])), start == 0) for start in starts]
    order = chance.permutation(len(rows))
    number = np.argsort(order).tolist()  # row i becomes row number[i]
    places = [[(start, stop, number[row]) for start, stop, row in file] for file in places]
    shuffled = [rows[row] for row in order.tolist()]
    columns = {
        "tokens": np.concatenate([row for row, _ in shuffled]).astype(np.uint8),
        "offsets": np.cumsum([0, *(len(row) for row, _ in shuffled)]),
        "is_plain_text": np.ones(len(rows), dtype=bool),
        "starts_text": np.array([starts for _, starts in shuffled]),
        "context_lengths": np.full(len(rows), header, dtype=np.int32),
        "previous": find_previous(places, len(rows)),
        "weights": np.ones(len(rows)),
        "content_hashes": chance.permutation(len(rows)).astype(np.uint64),
    }
    corpus = Corpus(**columns, end_token=END, fim_tokens=(PREFIX, MIDDLE, SUFFIX) if fim else None)
    return corpus, files, [[row for *_, row in file] for file in places]


def make_plan(corpus, steps=6, **options):
    values = {"seed": 0, "batch_tokens": 100, "is_curriculum": False, "fim_share": 0.0} | options
    return TrainingPlan(corpus.content_hashes, corpus.lengths, corpus.weights, step_count=steps, **values)


@st.composite
def runs(draw, fims=(0.0, 0.5, 0.99)):
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=40))
    begin = draw(st.sampled_from([None, BEGIN]))
    corpus = make_corpus(lengths, draw(st.integers(0, 99)), draw(st.booleans()), begin_token=begin)
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


@st.composite
def file_runs(draw):
    counts = draw(st.lists(st.integers(1, 60), min_size=1, max_size=12))
    corpus, files, rows = make_files(counts, draw(st.integers(0, 99)), header=draw(st.integers(0, 4)))
    corpus = replace(corpus, begin_token=draw(st.sampled_from([None, BEGIN])))
    options = {"fim_share": draw(st.sampled_from([0.0, 0.5])), "seed": draw(st.integers(0, 5))}
    plan = make_plan(corpus, draw(st.integers(1, 8)), shifts_windows=True, **options)
    return corpus, plan, files, rows


@given(file_runs(), st.integers(0, 9))
def test_shifted_windows_show_each_token_of_a_file_once_per_pass(run, number):
    corpus, plan, files, rows = run
    for text, windows in zip(files, rows, strict=True):
        windows = np.array(windows)
        shifts = window_shifts(corpus, plan, windows, np.full(len(windows), number)).tolist()
        assert len(set(shifts)) == 1
        shown = [corpus.dataset_tokens(row, shifts[0]) for row in windows.tolist()]
        header = int(corpus.context_lengths[0])
        assert np.concatenate([row[header:] for row in shown]).tolist() == text
        assert all(header < len(row) <= header + 12 for row in shown)
        assert all(row[:header].tolist() == shown[0][:header].tolist() for row in shown)


def test_a_pass_shifts_windows_otherwise_than_the_pass_before():
    corpus, _, rows = make_files([100])
    plan = make_plan(corpus, shifts_windows=True)
    row = np.array(rows[0][1:2])
    shifts = [int(window_shifts(corpus, plan, row, np.array([number]))[0]) for number in range(40)]
    last = len(corpus.dataset_tokens(rows[0][-1])) - 3
    assert set(shifts) == set(range(12 - last + 1))
    assert window_shifts(corpus, replace(plan, shifts_windows=False), row, np.array([3])).tolist() == [0]


@pytest.mark.parametrize("places", [
    [(0, 12, 0), (9, 21, 1), (18, 25, 2)],  # they overlap
    [(0, 12, 0), (24, 36, 1), (36, 40, 2)],  # one was dropped
    [(0, 12, 0), (12, 24, 1), (24, 40, 2)],  # the last would be cut
    [(0, 12, 0), (12, 20, 1), (20, 28, 2)],
])  # fmt: skip
def test_windows_that_do_not_follow_one_another_are_never_shifted(places):
    assert find_previous([places], 3).tolist() == [-1, -1, -1]


@given(file_runs())
def test_the_budget_of_shifted_windows_is_exact_at_any_step(run):
    corpus, plan, _, _ = run
    counter = TokenCounter(plan, corpus)
    for step in plan.steps_from():
        counter.add(step, pack_step(corpus, plan, step, 60))
        counter.close()
    assert counter.counts.drawn == planned_budget(plan, corpus).drawn


def test_a_wrong_shift_is_noticed():
    corpus, _, _ = make_files([100, 70])
    plan = make_plan(corpus, shifts_windows=True)
    step = plan.step(0)
    assert window_shifts(corpus, plan, step.rows, step.draw_numbers).any()
    with pytest.raises(StarcoderError, match="not what the dataset has"):
        TokenCounter(plan, corpus).add(step, pack_step(corpus, replace(plan, shifts_windows=False), step, 1000))


def test_the_header_stands_before_a_filled_in_row_and_is_not_learned():
    corpus, _, _ = make_files([100], header=3)
    plan = make_plan(corpus, fim_share=0.999, steps=1)
    step = plan.step(0)
    (packed,) = pack_step(corpus, plan, step, 10_000)
    rows = input_rows(corpus, plan, step)
    for row, tokens in zip(step.rows.tolist(), rows, strict=True):
        assert tokens[:3].tolist() == corpus.dataset_tokens(row)[:3].tolist()
        assert tokens[3] == PREFIX
        assert tokens[-1] == END
    for begin in np.flatnonzero(packed.positions[: len(packed.tokens) - packed.padding_count] == 0).tolist():
        assert packed.targets[begin : begin + 3].tolist() == [-100] * 3
        assert packed.targets[begin + 3] != -100


class HalfSpans:
    """Finds the second quarter of every row, and nothing in rows of one language."""

    def find(self, rows, shares):
        assert shares.shape == (len(rows), 2)
        return [None if language == "text" else (len(text) // 4, len(text) // 2) for text, language in rows]


def test_half_of_the_middles_are_nodes():
    corpus, _, _ = make_files([2000], header=0)
    languages = ["python"] * len(corpus.lengths)
    plan = make_plan(corpus, fim_share=0.999, batch_tokens=4000, steps=1)
    step = plan.step(0)
    is_spm = spm_mask(plan, step.rows, step.draw_numbers)

    def middles(languages):
        rows = input_rows(replace(corpus, languages=languages, syntax_spans=HalfSpans()), plan, step)
        return [
            row[row.tolist().index(MIDDLE) + 1 : -1].tolist() for row, spm in zip(rows, is_spm, strict=True) if not spm
        ]

    texts = [corpus.dataset_tokens(row)[:12].tolist() for row, spm in zip(step.rows, is_spm, strict=True) if not spm]
    nodes = sum(middle == text[3:6] for middle, text in zip(middles(languages), texts, strict=True))
    assert 0.3 * len(texts) < nodes < 0.7 * len(texts)
    plain = input_rows(corpus, plan, step)
    assert middles(["text"] * len(languages)) == [
        row[row.tolist().index(MIDDLE) + 1 : -1].tolist() for row, spm in zip(plain, is_spm, strict=True) if not spm
    ]


def test_noise_replaces_what_is_read_and_not_what_is_learned():
    corpus, _, _ = make_files([3000], header=0)
    plan = make_plan(corpus, batch_tokens=3000, steps=1)
    (packed,) = pack_step(corpus, plan, plan.step(0), 10_000)
    text_tokens = np.arange(10, 60)
    noisy = replace_inputs(packed, 0.2, text_tokens, 7)
    assert np.array_equal(noisy.targets, packed.targets)
    changed = noisy.tokens != packed.tokens
    assert 0.15 < changed.mean() < 0.21  # one in 50 replacements is the token itself
    assert np.isin(noisy.tokens[changed], text_tokens).all()
    assert not changed[packed.tokens < 10].any()
    assert np.array_equal(replace_inputs(packed, 0.2, text_tokens, 7).tokens, noisy.tokens)
    assert not np.array_equal(replace_inputs(packed, 0.2, text_tokens, 8).tokens, noisy.tokens)


def test_bins_are_well_filled():
    lengths = np.random.default_rng(0).integers(16, 1025, 2000)
    found = best_fit_bins(lengths, 4096)
    assert len(found) <= 1.01 * lengths.sum() / 4096 + 1


@given(runs(), st.integers(1, 120), st.sampled_from([1, 64]), st.sampled_from(["row", "micro_batch"]))
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
                shown = (corpus.fim_loss_starts if filled[place] else corpus.loss_starts)[step.rows[place]]
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
                if corpus.begin_token is not None:
                    assert read[0] == BEGIN
                    read = read[1:]
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


@given(runs(), st.integers(10, 80), st.sampled_from([1, 64]), st.sampled_from(["row", "micro_batch"]), st.data())
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


@pytest.mark.parametrize("fim_share", [0.0, 0.5, 0.99])
def test_a_base_that_reads_a_beginning_reads_it_before_every_row(fim_share):
    corpus = make_corpus(list(range(8, 40)), begin_token=BEGIN)
    plan = make_plan(corpus, fim_share=fim_share)
    counter = TokenCounter(plan, corpus)
    for step in plan.steps_from():
        for row in input_rows(corpus, plan, step):
            assert (row == BEGIN).tolist() == [True] + [False] * (len(row) - 1)
        micro_batches = pack_step(corpus, plan, step, 64)
        for packed in micro_batches:
            assert (packed.tokens[packed.row_starts] == BEGIN).all()
            assert BEGIN not in packed.targets
        counter.add(step, micro_batches)
    assert counter.close().control >= counter.counts.draws
    changed = [packed._replace(tokens=np.where(packed.tokens == BEGIN, END, packed.tokens)) for packed in micro_batches]
    again = TokenCounter(plan, corpus, TokenCounts(steps=step.number))
    with pytest.raises(StarcoderError, match="is not what the dataset has"):
        again.add(step, changed)
