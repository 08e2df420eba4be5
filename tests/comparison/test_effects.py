"""The intervals: they hold the truth as often as they promise, and a planted effect is found."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from git_starcoder.comparison.effects import Effect, TrainedArm, measure_effects, measure_spread
from git_starcoder.evals import student_quantile

TEXTS = 40
GROUPS = [f"group {index // 2}" for index in range(TEXTS)]


def trained(name, random, trainings=3, effect=1.0, chance=0.01):
    """An arm on texts of very different sizes; each training has luck of its own, of which each text has some."""
    sizes = np.random.default_rng(0).lognormal(8, 1, TEXTS)
    luck = random.normal(0, chance, (trainings, 1)) + random.normal(0, chance, (trainings, TEXTS))
    keys = tuple(f"{name} {random.integers(1 << 62)}" for _ in range(trainings))
    return TrainedArm(name, keys, {"network": sizes * effect * np.exp(luck)})


def tries(count, **options):
    for seed in range(count):
        random = np.random.default_rng(seed)
        other = {key: value for key, value in options.items() if key != "effect"}
        [effect] = measure_effects([trained("a", random, **other), trained("b", random, **options)], GROUPS)
        yield effect


@pytest.mark.parametrize("trainings", [2, 3, 5])
@pytest.mark.parametrize("chance", [0.003, 0.03])
def test_two_copies_of_an_arm_show_no_difference(trainings, chance):
    shown = [effect.verdict for effect in tries(100, trainings=trainings, chance=chance)]
    assert shown.count("no effect shown") >= 0.9 * 100  # 18 of 20


def test_files_alone_would_show_differences_that_are_none():
    """Without the part of the seeds, the interval would be far too narrow."""
    alone = list(tries(100, trainings=1, chance=0.03))
    assert not any(effect.with_chance_of_training for effect in alone)
    assert [effect.verdict for effect in alone].count("no effect shown") < 0.9 * 100


def test_a_planted_improvement_is_found():
    found = [effect.verdict for effect in tries(20, effect=0.95)]
    assert found.count("fewer bits") >= 18
    found = [effect.verdict for effect in tries(20, effect=1.05)]
    assert found.count("more bits") >= 18


def test_the_ratio_is_that_of_the_mean_bits():
    first = TrainedArm("a", ("1", "2"), {"network": np.array([[10.0, 30.0], [20.0, 20.0]])})
    second = TrainedArm("b", ("3",), {"network": np.array([[10.0, 10.0]]), "other": np.ones((1, 2))})
    [effect] = measure_effects([first, second], ["g", "h"])
    assert (effect.arm, effect.reference, effect.subject, effect.trainings, effect.groups) == (
        "b",
        "a",
        "network",
        1,
        2,
    )
    assert effect.ratio == pytest.approx(0.5)
    assert effect.with_chance_of_training


def test_a_single_group_has_no_interval():
    random = np.random.default_rng(0)
    [effect] = measure_effects([trained("a", random), trained("b", random)], ["one"] * TEXTS)
    assert (effect.low, effect.high, effect.verdict) == (None, None, "no interval")


def test_the_spread_is_that_of_all_arms_but_counts_each_training_once():
    logs = np.array([0.0, 0.2])
    first = TrainedArm("a", ("1", "2"), {"network": np.exp(logs)[:, None]})
    copy = TrainedArm("copy", ("1", "2"), first.bits)
    other = TrainedArm("b", ("3", "4", "5"), {"network": np.exp([[1.0], [1.0], [1.3]])})
    assert measure_spread([first, copy], "network") == pytest.approx((0.02**0.5, 1))
    deviation, degrees = measure_spread([first, copy, other], "network")
    assert degrees == 3
    assert deviation**2 == pytest.approx((0.02 + 0.06) / 3)
    assert measure_spread([TrainedArm("a", ("1",), {"network": np.ones((1, 2))})], "network") == (0.0, 0)


def test_the_interval_is_widened_by_the_chance_in_a_training():
    """Equal files, so that the files add nothing: the half-width is t times the error of the difference."""
    bits = [np.repeat(np.exp([[0.0], [0.1]]), 4, axis=1), np.repeat(np.exp([[0.5], [0.5]]), 4, axis=1)]
    arms = [
        TrainedArm(name, (name + "1", name + "2"), {"network": each}) for name, each in zip("ab", bits, strict=True)
    ]
    [effect] = measure_effects(arms, ["g", "h", "i", "j"])
    half = student_quantile(2) * (0.005 / 2) ** 0.5
    assert log(effect.high / effect.ratio) == pytest.approx(half)
    assert log(effect.ratio / effect.low) == pytest.approx(half)


def test_quantiles_of_students_t():
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 1000: 1.962}
    for degrees, quantile in table.items():
        assert student_quantile(degrees) == pytest.approx(quantile, rel=0.01)


def test_what_an_interval_says():
    def verdict(low, high):
        return Effect("b", "a", "network", exp((log(low) + log(high)) / 2), low, high, 9, 3, True).verdict

    assert verdict(0.8, 0.9) == "fewer bits"
    assert verdict(1.1, 1.2) == "more bits"
    assert verdict(0.9, 1.1) == verdict(1.0, 1.1) == verdict(0.9, 1.0) == "no effect shown"
