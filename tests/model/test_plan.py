from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.model.plan import DEAL, SCHEMA, Plan

WEIGHTS = [0.3, 0.7, 1.0, 1.95, 3.0]


@st.composite
def plans(draw, curriculum=None, copies=False):
    count = draw(st.integers(1, 60))
    keys = np.random.default_rng(draw(st.integers(0, 99))).permutation(count).astype(np.uint64)
    return Plan(
        keys // np.uint64(2) if copies and draw(st.booleans()) else keys,
        np.array(draw(st.lists(st.integers(1, 40), min_size=count, max_size=count))),
        np.array(draw(st.lists(st.sampled_from(WEIGHTS), min_size=count, max_size=count))),
        seed=draw(st.integers(0, 5)),
        batch=draw(st.integers(1, 100)),
        steps=draw(st.integers(1, 40)),
        curriculum=draw(st.booleans()) if curriculum is None else curriculum,
    )


def as_lists(step):
    return step.number, step.stage, step.rows.tolist(), step.draws.tolist()


@given(plans(copies=True), st.integers(1, 12))
def test_after_any_number_of_passes_a_row_was_drawn_as_often_as_its_weight_says(plan, passes):
    for stage in plan.stages:
        drawn = np.concatenate([stage.order(number)[0] for number in range(passes)])
        times = np.bincount(drawn, minlength=len(plan.keys))
        due = passes * plan.weights[stage.rows]
        assert np.all(np.abs(times[stage.rows] - due) < 1 + 1e-6)
        assert times.sum() == times[stage.rows].sum()
        assert times[stage.rows].tolist() == stage.times(passes).tolist()
        assert plan.lengths[drawn].sum() == stage.tokens(passes)


@given(plans(copies=True))
def test_no_row_is_lost_or_repeated_beyond_its_share(plan):
    steps = list(plan.begin())
    rows = np.concatenate([step.rows for step in steps])
    assert np.bincount(rows, minlength=len(plan.keys)).tolist() == plan.drawn.tolist()
    for stage in plan.stages:
        taken = [step.rows for step in steps if step.stage == stage.number]
        times = np.bincount(np.concatenate([*taken, rows[:0]]), minlength=len(plan.keys))
        last = stage.pass_of((stage.stop - stage.begin) * plan.size)
        due = plan.weights[stage.rows]
        assert np.all(times[stage.rows] > last * due - 1 - 1e-6)
        assert np.all(times[stage.rows] < (last + 1) * due + 1 + 1e-6)


@given(plans(copies=True))
def test_the_draws_of_a_row_are_counted_through_the_run(plan):
    steps = list(plan.begin())
    rows, draws = (np.concatenate([getattr(step, name) for step in steps]) for name in ("rows", "draws"))
    for row in range(len(plan.keys)):
        assert sorted(draws[rows == row].tolist()) == list(range(plan.drawn[row]))


@given(plans(copies=True))
def test_steps_deal_consecutive_slices_of_the_passes_and_are_equally_long_but_for_a_row(plan):
    steps = list(plan.begin())
    assert [step.number for step in steps] == list(range(plan.steps))
    for stage in plan.stages:
        taken = [step.rows for step in steps if step.stage == stage.number]
        assert len(taken) == stage.stop - stage.begin
        if not taken:
            continue
        passes = [stage.order(number)[0] for number in range(stage.pass_of(len(taken) * plan.size) + 1)]
        line = np.concatenate(passes)
        for begin in range(0, len(taken), DEAL):
            dealt = np.concatenate(taken[begin : begin + DEAL])
            assert sorted(dealt.tolist()) == sorted(line[: len(dealt)].tolist())
            line = line[len(dealt) :]
        sizes = np.array([plan.lengths[each].sum() for each in taken])
        assert np.abs(sizes - plan.size).max() < plan.lengths.max()
        assert 0 <= sizes.sum() - plan.size * len(taken) < plan.lengths.max()
        assert min(map(len, taken)) > 0


@given(plans(copies=True), st.data())
def test_going_on_is_what_would_have_come(plan, data):
    steps = list(plan.begin())
    number = data.draw(st.integers(0, plan.steps - 1))
    again = replace(plan)
    assert list(map(as_lists, again.begin(number))) == list(map(as_lists, steps[number:]))
    assert as_lists(again.step(number)) == as_lists(steps[number])
    assert list(plan.begin(plan.steps)) == []


@given(plans(curriculum=True))
def test_stages_are_thirds_of_the_steps_that_follow_the_file_and_leave_no_row_out(plan):
    assert [plan.stages[0].begin, plan.stages[-1].stop] == [0, plan.steps]
    assert set(np.concatenate([stage.rows for stage in plan.stages]).tolist()) == set(range(len(plan.keys)))
    for before, after in pairwise(plan.stages):
        assert before.rows.max() <= after.rows.min()
        assert before.stop == after.begin
    sizes = [stage.stop - stage.begin for stage in plan.stages]
    assert max(sizes) - min(sizes) <= 1


@given(plans(), plans())
def test_the_hash_of_a_plan_decides_its_steps(one, other):
    def steps(plan):
        return list(map(as_lists, plan.begin()))

    again = replace(one)
    assert again.sha == one.sha
    assert steps(again) == steps(one)
    if steps(one) != steps(other):
        assert one.sha != other.sha


def many(count=3000, **options):
    lengths = np.random.default_rng(0).integers(10, 100, count)
    defaults = {"lengths": lengths, "weights": np.ones(count), "seed": 0, "batch": 1000, "steps": 200}
    return Plan(np.arange(count, dtype=np.uint64) * 7919, **defaults | options)


def test_the_mean_over_seeds_is_the_weight():
    weights = np.resize(WEIGHTS, 300)
    plans = [many(300, weights=weights, seed=seed) for seed in range(400)]
    mean = np.mean([plan.stages[0].times(1)[np.argsort(plan.by_content)] for plan in plans], axis=0)
    assert np.abs(mean - weights).max() < 0.1
    assert mean.sum() == pytest.approx(weights.sum(), rel=1e-3)


def test_stages_of_a_curriculum_carry_equal_weight():
    plan = many(weights=np.where(np.arange(3000) < 1500, 3.0, 0.3), curriculum=True)
    mass = [(plan.weights * plan.lengths)[stage.rows].sum() for stage in plan.stages]
    assert mass == pytest.approx([sum(mass) / 3] * 3, rel=0.01)


def test_passes_and_seeds_shuffle_differently():
    first, second = (many().stages[0].order(number)[0] for number in range(2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, many(seed=1).stages[0].order(0)[0])
    assert np.array_equal(np.sort(first), np.arange(3000))
    assert np.array_equal(np.sort(second), np.arange(3000))
    for one, other in ((first, np.arange(3000)), (np.argsort(first), np.argsort(second))):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


@given(plans(curriculum=False, copies=True))
def test_order_depends_on_content_and_not_on_the_place_in_the_file(plan):
    # Rows with one key are copies: the same row, so of one length and weight.
    columns = {name: getattr(plan, name)[plan.keys.astype(int) % len(plan.keys)] for name in ("lengths", "weights")}
    plan = replace(plan, **columns)
    turned = replace(plan, keys=plan.keys[::-1], **{name: column[::-1] for name, column in columns.items()})
    for step, other in zip(plan.begin(), turned.begin(), strict=True):
        assert plan.keys[step.rows].tolist() == turned.keys[other.rows].tolist()
        assert step.draws.tolist() == other.draws.tolist()


def test_copies_of_a_row_do_not_stand_together():
    plan = replace(many(), keys=np.arange(3000, dtype=np.uint64) // np.uint64(3))
    rows, _ = plan.stages[0].order(0)
    assert np.count_nonzero(plan.keys[rows[1:]] == plan.keys[rows[:-1]]) < 10


def test_no_step_is_beyond_the_last():
    plan = many()
    with pytest.raises(IndexError):
        plan.step(plan.steps)
    with pytest.raises(IndexError):
        plan.step(-1)


def test_a_plan_is_the_same_on_every_machine_and_with_every_release():
    # Checkpoints are gone on with by the number of the step alone. If this must change, so must `plan.SCHEMA`.
    plan = many(lengths=10 + np.arange(3000) * 37 % 90, weights=np.resize(WEIGHTS, 3000), curriculum=True)
    digest = blake2b(digest_size=8)
    for step in plan.begin():
        digest.update(np.array([step.number, step.stage]).astype("<i8").tobytes())
        digest.update(step.rows.astype("<i8").tobytes() + step.draws.astype("<i8").tobytes())
    assert (SCHEMA, digest.hexdigest()) == ("git-starcoder/plan/1", "ebd2e7c6c0191e9d")
