from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.model.plan import Plan


@st.composite
def plans(draw, curriculum=None):
    count = draw(st.integers(1, 60))
    rows = st.lists(st.integers(1, 40), min_size=count, max_size=count)
    weights = st.lists(st.sampled_from([0.3, 0.7, 1.0, 1.95, 3.0]), min_size=count, max_size=count)
    return Plan(
        np.random.default_rng(draw(st.integers(0, 99))).permutation(count).astype(np.uint64),
        np.array(draw(rows)),
        np.array(draw(weights)),
        seed=draw(st.integers(0, 5)),
        batch=draw(st.integers(1, 100)),
        curriculum=draw(st.booleans()) if curriculum is None else curriculum,
    )


@given(plans(), st.integers(1, 12))
def test_after_any_number_of_passes_a_row_was_drawn_as_often_as_its_weight_says(plan, passes):
    for stage in range(plan.stages):
        rows = plan.rows(stage)
        drawn = np.concatenate([plan.order(stage, number) for number in range(passes)])
        times = np.bincount(drawn, minlength=len(plan.keys))
        due = passes * plan.weights[rows] / plan.weights[rows].mean()
        assert np.all(np.abs(times[rows] - due) < 1 + 1e-6)
        assert times.sum() == times[rows].sum()


@given(plans(curriculum=True))
def test_stages_follow_the_file_and_leave_no_row_out(plan):
    stages = [plan.rows(stage) for stage in range(plan.stages)]
    assert set(np.concatenate(stages).tolist()) == set(range(len(plan.keys)))
    for before, after in pairwise(stages):
        assert before.max() <= after.min()


@given(plans())
def test_steps_are_consecutive_slices_of_the_passes(plan):
    for stage in range(plan.stages):
        steps = list(islice(plan.steps(stage), 10))
        taken = np.concatenate(steps)
        passes = [plan.order(stage, number) for number in range(len(taken) + 1)]
        assert np.array_equal(taken, np.concatenate(passes)[: len(taken)])
        for step in steps:
            lengths = plan.lengths[step]
            assert lengths.sum() >= plan.batch > lengths[:-1].sum()


@given(plans(), plans())
def test_the_hash_of_a_plan_decides_its_steps(one, other):
    def beginning(plan):
        return [step.tolist() for stage in range(plan.stages) for step in islice(plan.steps(stage), 5)]

    again = Plan(one.keys, one.lengths, one.weights, one.seed, one.batch, one.curriculum)
    assert again.sha == one.sha
    assert beginning(again) == beginning(one)
    if beginning(one) != beginning(other):
        assert one.sha != other.sha


def many(**options):
    count = 3000
    lengths = np.random.default_rng(0).integers(10, 100, count)
    return Plan(np.arange(count, dtype=np.uint64) * 7919, lengths, np.ones(count), seed=0, batch=1000, **options)


def test_stages_of_a_curriculum_carry_equal_weight():
    weights = np.where(np.arange(3000) < 1500, 3.0, 0.3)
    plan = Plan(np.arange(3000, dtype=np.uint64), many().lengths, weights, 0, 1000, curriculum=True)
    mass = [(plan.weights * plan.lengths)[plan.rows(stage)].sum() for stage in range(3)]
    assert mass == pytest.approx([sum(mass) / 3] * 3, rel=0.01)


def test_passes_and_seeds_shuffle_differently():
    plan = many()
    assert not np.array_equal(plan.order(0, 0), plan.order(0, 1))
    assert not np.array_equal(plan.order(0, 0), Plan(plan.keys, plan.lengths, plan.weights, 1, 1000).order(0, 0))
    assert np.array_equal(np.sort(plan.order(0, 0)), np.arange(3000))
    assert abs(np.corrcoef(plan.order(0, 0), np.arange(3000))[0, 1]) < 0.1


def test_order_depends_on_content_and_not_on_the_place_in_the_file():
    plan = many()
    turned = Plan(plan.keys[::-1], plan.lengths[::-1], plan.weights, 0, 1000)
    assert np.array_equal(plan.keys[plan.order(0, 0)], turned.keys[turned.order(0, 0)])
