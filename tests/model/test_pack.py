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
from git_starcoder.model.ledger import Counts, Tally, of_lengths
from git_starcoder.model.pack import bins, fills, laid, longest, packed, room, suffix_first
from git_starcoder.model.plan import Plan, steps_of

END, PREFIX, MIDDLE, SUFFIX = range(4)
WHOLE = (1.0, 0.0, 0.0)


def made(lengths, seed=0, fim=True, kinds=(0.7, 0.15, 0.15), **columns):
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
        "whole": np.array(whole),
        "opens": np.array(opens),
        "uncounted": np.array(uncounted, dtype=np.int32),
        "weights": chance.choice([0.3, 0.7, 1.0, 1.95, 3.0], len(rows)),
        "keys": chance.permutation(len(rows)).astype(np.uint64),
    }
    return Corpus(**values | columns, end=END, fim=(PREFIX, MIDDLE, SUFFIX) if fim else None)


def planned(corpus, steps=6, **options):
    values = {"seed": 0, "batch": 100, "curriculum": False, "fim": 0.0} | options
    return Plan(corpus.keys, corpus.lengths, corpus.weights, steps=steps, **values)


@st.composite
def runs(draw, fims=(0.0, 0.5, 0.99)):
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=40))
    corpus = made(lengths, draw(st.integers(0, 99)), draw(st.booleans()))
    options = {"seed": draw(st.integers(0, 5)), "batch": draw(st.integers(1, 200)), "fim": draw(st.sampled_from(fims))}
    return corpus, planned(corpus, draw(st.integers(1, 8)), curriculum=draw(st.booleans()), **options)


@given(st.lists(st.integers(1, 50)), st.integers(1, 60))
def test_bins_hold_every_row_once_and_no_two_would_fit_in_one(lengths, limit):
    lengths = np.array(lengths, dtype=np.int64)
    found = bins(lengths, limit)
    assert sorted(np.concatenate([*found, np.zeros(0)]).tolist()) == list(range(len(lengths)))
    sizes = sorted(lengths[group].sum() for group in found)
    assert all(lengths[group].sum() <= limit or len(group) == 1 for group in found)
    assert len(sizes) < 2 or sizes[0] + sizes[1] > limit


def test_bins_are_well_filled():
    lengths = np.random.default_rng(0).integers(16, 1025, 2000)
    found = bins(lengths, 4096)
    assert len(found) <= 1.01 * lengths.sum() / 4096 + 1


@given(runs(), st.integers(1, 120), st.sampled_from([None, 1, 64]), st.sampled_from(["row", "piece"]))
def test_pieces_hold_every_row_of_a_step_in_full(run, limit, size, attend):
    corpus, plan = run
    for step in plan.begin():
        rows = laid(corpus, plan, step)
        filled = fills(corpus, plan, step.rows, step.draws)
        pieces = packed(corpus, plan, step, limit, size, attend)
        found = {}
        for piece in pieces:
            end = len(piece.tokens) - piece.padded
            begins = np.flatnonzero(piece.positions[:end] == 0)
            assert end <= limit or len(piece.places) == 1
            assert size is None or len(piece.tokens) % size == 0
            assert piece.padded < (size or 1)
            assert piece.bounds[0] == 0
            assert piece.bounds[-1] == len(piece.tokens)
            segments = [*begins, end] if attend == "row" else [0, end]
            assert piece.bounds.tolist() == [*segments, *([len(piece.tokens)] if piece.padded else [])]
            assert piece.bounds.dtype == np.int32
            assert set(piece.targets[end:].tolist()) <= {-100}
            for place, begin, stop in zip(piece.places.tolist(), begins, [*begins[1:], end], strict=True):
                assert place not in found
                found[place] = True
                row = rows[place].tolist()
                assert piece.tokens[begin:stop].tolist() == row[:-1]
                assert piece.positions[begin:stop].tolist() == list(range(stop - begin))
                shown = 1 if filled[place] else corpus.given[step.rows[place]]
                assert piece.targets[begin:stop].tolist() == [-100] * (shown - 1) + row[shown:]
        for place in set(range(len(rows))) - set(found):
            assert len(rows[place]) == max(1, corpus.given[step.rows[place]])


@given(runs(), st.integers(2, 4))
def test_any_number_of_processes_takes_the_same_pieces(run, world):
    corpus, plan = run
    for step in plan.begin():
        pieces = [piece.tokens.tolist() for piece in packed(corpus, plan, step, 64)]
        ranks = [
            [piece.tokens.tolist() for piece in packed(corpus, replace(plan), plan.step(step.number), 64)][rank::world]
            for rank in range(world)
        ]
        together = [ranks[number % world][number // world] for number in range(sum(map(len, ranks)))]
        assert together == pieces


def kept(row):
    """The text of a row that is learned as prefix, suffix, middle, and whether the suffix stands first."""
    row = row.tolist()
    first, last, fill = (row.index(mark) for mark in (PREFIX, SUFFIX, MIDDLE))
    assert first == 0 < last < fill
    assert row[-1] == END
    return row[1:last] + row[fill + 1 : -1] + row[last + 1 : fill], last == 1


@given(runs(fims=(0.99,)))
def test_a_middle_is_filled_in_whole_text_alone_and_keeps_every_token(run):
    corpus, plan = run
    for step in plan.begin():
        filled = fills(corpus, plan, step.rows, step.draws)
        assert not filled[~corpus.whole[step.rows]].any()
        first = suffix_first(plan, step.rows, step.draws)
        for row, fill, spm, read in zip(step.rows, filled, first, laid(corpus, plan, step), strict=True):
            if fill:
                text = corpus.text(row).tolist()
                found, empty = kept(read)
                assert found == (text[:-1] if text[-1] == END else text)
                assert empty >= spm
                assert len(read) == len(text) + (3 if text[-1] == END else 4)
            else:
                assert read.tolist() == corpus.row(row).tolist()


def test_shares_of_filled_rows_and_of_their_kinds_are_as_said():
    corpus = made([40] * 3000, kinds=WHOLE)
    plan = planned(corpus, 300, batch=1000, fim=0.5)
    filled, spm, before, reads = [], [], [], {}
    for step in plan.begin():
        chosen = fills(corpus, plan, step.rows, step.draws)
        filled += chosen.tolist()
        spm += suffix_first(plan, step.rows, step.draws)[chosen].tolist()
        for row, read, fill in zip(step.rows.tolist(), laid(corpus, plan, step), chosen, strict=True):
            if fill:
                reads.setdefault(row, []).append(read.tolist())
                before.append(read.tolist().index(SUFFIX) - 1)
    assert np.mean(filled) == pytest.approx(0.5, abs=0.03)
    assert np.mean(spm) == pytest.approx(0.5, abs=0.03)
    assert np.mean(np.array(before)[~np.array(spm)]) == pytest.approx(39.5 / 3, abs=0.5)
    again = [read for read in reads.values() if len(read) > 1]
    assert np.mean([read[0] != read[1] for read in again]) > 0.9


def test_no_middle_is_filled_without_the_tokens_for_it():
    corpus = made([30] * 20, fim=False)
    assert not fills(corpus, planned(corpus, fim=0.9), np.arange(20), np.arange(20)).any()
    with pytest.raises(UsageError, match="no fill-in-the-middle tokens"):
        Plan.of(corpus, TrainConfig(fim=0.5), 10, curriculum=False)


@given(runs(), st.integers(10, 80), st.sampled_from([None, 64]), st.sampled_from(["row", "piece"]), st.data())
def test_the_ledger_of_what_is_trained_on_is_that_of_the_lengths(run, limit, size, attend, data):
    corpus, plan = run
    begin = data.draw(st.integers(0, plan.steps))
    tally = Tally(plan, corpus, Counts(begin))
    for step in plan.begin(begin):
        tally = Tally(plan, corpus, Counts(**json.loads(json.dumps(asdict(tally.counts)))))  # as a checkpoint does
        tally.add(step, packed(corpus, plan, step, limit, size, attend))
    found = tally.close()
    whole, before = of_lengths(plan, corpus), of_lengths(plan, corpus, begin)
    assert found.ledger == whole - before
    drawn = sum(corpus.lengths[step.rows].sum() for step in plan.begin(begin))
    assert found.ledger.drawn == drawn
    assert found.ledger.drawn + found.ledger.control == found.ledger.trained + found.ledger.shown
    assert found.laid == found.ledger.trained + found.ledger.shown + found.padded - found.last - found.unasked


def spoiled(pieces):
    """Ways in which pieces can be wrong."""
    piece, *rest = pieces
    yield [*rest]
    yield [*pieces, piece]
    for name, place, value in (("tokens", 1, 61), ("targets", -1, -100), ("targets", 0, 61), ("targets", 0, -100)):
        column = getattr(piece, name).copy()
        column[place] = value
        yield [piece._replace(**{name: column}), *rest]
    yield [piece._replace(places=piece.places[::-1]), *rest]


def test_a_ledger_that_does_not_add_up_is_an_error():
    corpus = made(list(range(12, 40)), kinds=WHOLE, opens=np.zeros(28, dtype=bool))
    for fim in (0.0, 0.9):
        plan = planned(corpus, fim=fim)
        step = plan.step(0)
        ways = list(spoiled(packed(corpus, plan, step, 1000)))
        assert len(ways) == 7
        for pieces in ways:
            with pytest.raises(StarcoderError, match="does not add up"):
                Tally(plan, corpus).add(step, pieces)
    tally = Tally(plan, corpus)
    with pytest.raises(StarcoderError, match="instead of step 0"):
        tally.add(plan.step(1), packed(corpus, plan, plan.step(1), 1000))
    tally.add(step, packed(corpus, planned(corpus), step, 1000))  # without filled middles
    with pytest.raises(StarcoderError, match="counted"):
        tally.close()


def test_budgets_in_steps():
    corpus = made([50] * 100, weights=np.full(100, 2.0))
    assert steps_of(TrainConfig(steps=7), corpus) == 7
    assert steps_of(TrainConfig(tokens=1001, batch=100), corpus) == 11
    assert steps_of(TrainConfig(epochs=1, batch=100), corpus) == 100
    assert steps_of(TrainConfig(epochs=0.5, batch=10), corpus) == 100
    assert steps_of(TrainConfig(minutes=1), corpus) is None
    plan = Plan.of(corpus, TrainConfig(epochs=3, batch=100), 300, curriculum=False)
    assert plan.drawn.tolist() == [6] * 100


@pytest.mark.parametrize("fim", [0.0, 0.5])
@pytest.mark.parametrize("count", [1, 4])
def test_pieces_with_room_hold_nearly_every_step_with_little_padding(count, fim):
    chance = np.random.default_rng(1)
    corpus = made(np.minimum(1024, 32 + chance.exponential(200, 4000)).astype(int))
    plan = planned(corpus, 60, batch=16_384, fim=fim)
    size = room(corpus, plan, count)
    assert size % 64 == 0
    pieces = [packed(corpus, plan, step, size, size) for step in plan.begin()]
    assert np.mean([len(each) > count for each in pieces]) < 0.05
    padded = sum(piece.padded for each in pieces for piece in each)
    assert padded < 0.04 * sum(len(piece.tokens) for each in pieces for piece in each)
    assert room(corpus, plan, 1000) == longest(corpus, fim) == 1024 + (3 if fim else 0)
