from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.model.plan import PLAN_SCHEMA, STEPS_PER_DEAL, TrainingPlan

WEIGHTS = [0.3, 0.7, 1.0, 1.95, 3.0]


@st.composite
def plans(draw, is_curriculum=None, copies=False):
    count = draw(st.integers(1, 60))
    keys = np.random.default_rng(draw(st.integers(0, 99))).permutation(count).astype(np.uint64)
    return TrainingPlan(
        keys // np.uint64(2) if copies and draw(st.booleans()) else keys,
        np.array(draw(st.lists(st.integers(1, 40), min_size=count, max_size=count))),
        np.array(draw(st.lists(st.sampled_from(WEIGHTS), min_size=count, max_size=count))),
        seed=draw(st.integers(0, 5)),
        batch_tokens=draw(st.integers(1, 100)),
        step_count=draw(st.integers(1, 40)),
        is_curriculum=draw(st.booleans()) if is_curriculum is None else is_curriculum,
    )


def as_lists(step):
    return step.number, step.stage, step.rows.tolist(), step.draw_numbers.tolist()


@given(plans(copies=True), st.integers(1, 12))
def test_after_any_number_of_passes_a_row_was_drawn_as_often_as_its_weight_says(plan, passes):
    for stage in plan.stages:
        drawn = np.concatenate([stage.shuffled_pass(number)[0] for number in range(passes)])
        times = np.bincount(drawn, minlength=len(plan.content_hashes))
        due = passes * plan.weights[stage.rows]
        assert np.all(np.abs(times[stage.rows] - due) < 1 + 1e-6)
        assert times.sum() == times[stage.rows].sum()
        assert times[stage.rows].tolist() == stage.draws_after(passes).tolist()
        assert plan.lengths[drawn].sum() == stage.tokens_after(passes)


@given(plans(copies=True))
def test_no_row_is_lost_or_repeated_beyond_its_share(plan):
    steps = list(plan.steps_from())
    rows = np.concatenate([step.rows for step in steps])
    assert np.bincount(rows, minlength=len(plan.content_hashes)).tolist() == plan.draw_counts.tolist()
    for stage in plan.stages:
        taken = [step.rows for step in steps if step.stage == stage.number]
        times = np.bincount(np.concatenate([*taken, rows[:0]]), minlength=len(plan.content_hashes))
        last = stage.pass_at((stage.end_step - stage.first_step) * plan.step_tokens)
        due = plan.weights[stage.rows]
        assert np.all(times[stage.rows] > last * due - 1 - 1e-6)
        assert np.all(times[stage.rows] < (last + 1) * due + 1 + 1e-6)


@given(plans(copies=True))
def test_the_draws_of_a_row_are_counted_through_the_run(plan):
    steps = list(plan.steps_from())
    rows, draws = (np.concatenate([getattr(step, name) for step in steps]) for name in ("rows", "draw_numbers"))
    for row in range(len(plan.content_hashes)):
        assert sorted(draws[rows == row].tolist()) == list(range(plan.draw_counts[row]))


@given(plans(copies=True))
def test_steps_deal_consecutive_slices_of_the_passes_and_are_equally_long_but_for_a_row(plan):
    steps = list(plan.steps_from())
    assert [step.number for step in steps] == list(range(plan.step_count))
    for stage in plan.stages:
        taken = [step.rows for step in steps if step.stage == stage.number]
        assert len(taken) == stage.end_step - stage.first_step
        if not taken:
            continue
        passes = [stage.shuffled_pass(number)[0] for number in range(stage.pass_at(len(taken) * plan.step_tokens) + 1)]
        line = np.concatenate(passes)
        for begin in range(0, len(taken), STEPS_PER_DEAL):
            dealt = np.concatenate(taken[begin : begin + STEPS_PER_DEAL])
            assert sorted(dealt.tolist()) == sorted(line[: len(dealt)].tolist())
            line = line[len(dealt) :]
        sizes = np.array([plan.lengths[each].sum() for each in taken])
        assert np.abs(sizes - plan.step_tokens).max() < plan.lengths.max()
        assert 0 <= sizes.sum() - plan.step_tokens * len(taken) < plan.lengths.max()
        assert min(map(len, taken)) > 0


@given(plans(copies=True), st.data())
def test_going_on_is_what_would_have_come(plan, data):
    steps = list(plan.steps_from())
    number = data.draw(st.integers(0, plan.step_count - 1))
    again = replace(plan)
    assert list(map(as_lists, again.steps_from(number))) == list(map(as_lists, steps[number:]))
    assert as_lists(again.step(number)) == as_lists(steps[number])
    assert list(plan.steps_from(plan.step_count)) == []


@given(plans(is_curriculum=True))
def test_stages_are_thirds_of_the_steps_that_follow_the_file_and_leave_no_row_out(plan):
    assert [plan.stages[0].first_step, plan.stages[-1].end_step] == [0, plan.step_count]
    assert set(np.concatenate([stage.rows for stage in plan.stages]).tolist()) == set(range(len(plan.content_hashes)))
    for before, after in pairwise(plan.stages):
        assert before.rows.max() <= after.rows.min()
        assert before.end_step == after.first_step
    sizes = [stage.end_step - stage.first_step for stage in plan.stages]
    assert max(sizes) - min(sizes) <= 1


@given(plans(), plans())
def test_the_hash_of_a_plan_decides_its_steps(one, other):
    def steps(plan):
        return list(map(as_lists, plan.steps_from()))

    again = replace(one)
    assert again.digest == one.digest
    assert steps(again) == steps(one)
    if steps(one) != steps(other):
        assert one.digest != other.digest


def many(count=3000, **options):
    lengths = np.random.default_rng(0).integers(10, 100, count)
    defaults = {"lengths": lengths, "weights": np.ones(count), "seed": 0, "batch_tokens": 1000, "step_count": 200}
    return TrainingPlan(np.arange(count, dtype=np.uint64) * 7919, **defaults | options)


def test_the_mean_over_seeds_is_the_weight():
    weights = np.resize(WEIGHTS, 300)
    plans = [many(300, weights=weights, seed=seed) for seed in range(400)]
    mean = np.mean([plan.stages[0].draws_after(1)[np.argsort(plan.rows_by_content)] for plan in plans], axis=0)
    assert np.abs(mean - weights).max() < 0.1
    assert mean.sum() == pytest.approx(weights.sum(), rel=1e-3)


def test_stages_of_a_curriculum_carry_equal_weight():
    plan = many(weights=np.where(np.arange(3000) < 1500, 3.0, 0.3), is_curriculum=True)
    mass = [(plan.weights * plan.lengths)[stage.rows].sum() for stage in plan.stages]
    assert mass == pytest.approx([sum(mass) / 3] * 3, rel=0.01)


def test_passes_and_seeds_shuffle_differently():
    first, second = (many().stages[0].shuffled_pass(number)[0] for number in range(2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, many(seed=1).stages[0].shuffled_pass(0)[0])
    assert np.array_equal(np.sort(first), np.arange(3000))
    assert np.array_equal(np.sort(second), np.arange(3000))
    for one, other in ((first, np.arange(3000)), (np.argsort(first), np.argsort(second))):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


@given(plans(is_curriculum=False, copies=True))
def test_order_depends_on_content_and_not_on_the_place_in_the_file(plan):
    # Rows with one key are copies: the same row, so of one length and weight.
    columns = {
        name: getattr(plan, name)[plan.content_hashes.astype(int) % len(plan.content_hashes)]
        for name in ("lengths", "weights")
    }
    plan = replace(plan, **columns)
    turned = replace(
        plan, content_hashes=plan.content_hashes[::-1], **{name: column[::-1] for name, column in columns.items()}
    )
    for step, other in zip(plan.steps_from(), turned.steps_from(), strict=True):
        assert plan.content_hashes[step.rows].tolist() == turned.content_hashes[other.rows].tolist()
        assert step.draw_numbers.tolist() == other.draw_numbers.tolist()


def test_copies_of_a_row_do_not_stand_together():
    plan = replace(many(), content_hashes=np.arange(3000, dtype=np.uint64) // np.uint64(3))
    rows, _ = plan.stages[0].shuffled_pass(0)
    assert np.count_nonzero(plan.content_hashes[rows[1:]] == plan.content_hashes[rows[:-1]]) < 10


def test_no_step_is_beyond_the_last():
    plan = many()
    with pytest.raises(IndexError):
        plan.step(plan.step_count)
    with pytest.raises(IndexError):
        plan.step(-1)


def test_a_plan_is_the_same_on_every_machine_and_with_every_release():
    # Checkpoints are gone on with by the number of the step alone. If this must change, so must `plan.SCHEMA`.
    plan = many(lengths=10 + np.arange(3000) * 37 % 90, weights=np.resize(WEIGHTS, 3000), is_curriculum=True)
    digest = blake2b(digest_size=8)
    for step in plan.steps_from():
        digest.update(np.array([step.number, step.stage]).astype("<i8").tobytes())
        digest.update(step.rows.astype("<i8").tobytes() + step.draw_numbers.astype("<i8").tobytes())
    assert (PLAN_SCHEMA, digest.hexdigest()) == ("git-starcoder/plan/1", "ebd2e7c6c0191e9d")
