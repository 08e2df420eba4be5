"""Order and weigh: a total order by content, thirds by difficulty, weights by role."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.build_state import BuildState
from git_starcoder.recipe import OrderOptions, WeighOptions
from git_starcoder.records import Change, Sample, Source, Span, Unit, Windows
from git_starcoder.stages import order, weigh


class NoEngine:
    jobs = 1


def windows_of(rows):
    """Windows from (split, role, difficulty) triples, one sample each."""
    samples = []
    for number, (split, role, difficulty) in enumerate(rows):
        source = Source(f"{number}", f"f{number}", "b", "c", 0, (), "text", Span(0, 0))
        unit = Unit(source, "none", role, difficulty, group=f"{number}", split=split)
        samples.append(Sample(f"s{number}", unit, "base", Span(0, 0)))
    count = len(rows)
    zeros = np.zeros(count, dtype=np.int32)
    return Windows(
        samples, np.zeros(1, dtype=np.uint16), zeros.astype(np.int64), np.arange(count, dtype=np.int32),
        zeros.astype(np.int64), zeros, zeros + 1, zeros + 8, zeros, zeros - 1, zeros - 1, zeros, zeros + 1, np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15),
        np.array([row[2] for row in rows], dtype=np.float64), zeros + 1.0, zeros.astype(np.int8),
        np.empty((0, 2), dtype=np.int64),
    )  # fmt: skip


def run_in(tmp_path, seed=0):
    return BuildState(tmp_path, seed, NoEngine())


ROWS = [(split, "core", d / 100) for split, n in (("train", 90), ("val", 12), ("test", 6)) for d in range(n)]


def test_splits_lie_behind_one_another(tmp_path):
    with run_in(tmp_path) as run:
        ordered = order.order_windows(run, OrderOptions("random"), windows_of(ROWS[::-1]))
    splits = [ordered.samples[s].origin.split for s in ordered.sample_index]
    assert splits == ["train"] * 90 + ["val"] * 12 + ["test"] * 6


def test_curriculum_rises_in_thirds_and_is_shuffled_inside(tmp_path):
    with run_in(tmp_path) as run:
        ordered = order.order_windows(run, OrderOptions("curriculum"), windows_of(ROWS))
    train = ordered.difficulty[:90]
    thirds = train[:30], train[30:60], train[60:]
    assert max(thirds[0]) < min(thirds[1]) <= max(thirds[1]) < min(thirds[2])
    assert list(thirds[0]) != sorted(thirds[0])
    assert max(ordered.difficulty[90:94]) < min(ordered.difficulty[94:98])


def test_the_seed_changes_the_order_and_nothing_else_does(tmp_path):
    keys = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with run_in(tmp_path / name, seed) as run:
            keys[name] = order.order_windows(run, OrderOptions("random"), windows_of(ROWS)).content_key.tolist()
    assert keys["a"] == keys["b"] != keys["c"]


@given(permutation=st.permutations(range(len(ROWS))))
def test_the_order_does_not_depend_on_the_order_of_arrival(tmp_path_factory, permutation):
    windows = windows_of(ROWS)
    with run_in(tmp_path_factory.mktemp("a")) as run:
        straight = order.order_windows(run, OrderOptions("curriculum"), windows)
        shuffled = order.order_windows(run, OrderOptions("curriculum"), windows.take(np.array(permutation)))
    assert straight.content_key.tolist() == shuffled.content_key.tolist()


def test_no_rows_is_an_order_too(tmp_path):
    with run_in(tmp_path) as run:
        assert len(order.order_windows(run, OrderOptions("curriculum"), windows_of([]))) == 0


class At:
    """A repository whose newest commit is of the day 1,000."""

    committed_at = 1000 * 86_400


@pytest.mark.parametrize(
    ("role", "weight"),
    [("core", 3.0), ("utility", 1.0), ("docs", 1.0), ("configuration", 1.0), ("test", 0.3)],
)
def test_weights_follow_the_role_exactly(tmp_path, role, weight):
    with run_in(tmp_path) as run:
        weighed = weigh.weigh_windows(
            run, WeighOptions(core=3.0, utility=1.0, test=0.3), At(), windows_of([("train", role, 0.5)])
        )
    assert weighed.weight.tolist() == [weight]


@pytest.mark.parametrize(
    ("seconds", "of_file", "of_change"),
    [
        (0, 1.5, 1.95),
        (60 * 86_400 - 1, 1.5, 1.95),
        (60 * 86_400, 1.0, 1.3),
        (90 * 86_400 - 1, 1.0, 1.3),
        (90 * 86_400, 0.7, 0.91),
        (900 * 86_400, 0.7, 0.91),
        (-5, 1.5, 1.95),  # a clock that was wrong: not older than the newest commit
    ],
)
def test_weights_follow_age_and_kind(tmp_path, seconds, of_file, of_change):
    windows = windows_of([("train", "docs", 0.5), ("train", "docs", 0.5)])
    at = At.committed_at - seconds
    file = windows.samples[0].origin
    change = Change("i", "f", "", "f", "c", at, 0, Span(0, 0), "", "b", "text", "docs", 0.5, (), False)
    windows.samples[0] = replace(windows.samples[0], origin=replace(file, source=replace(file.source, changed_at=at)))
    windows.samples[1] = replace(windows.samples[1], origin=change)
    with run_in(tmp_path) as run:
        weighed = weigh.weigh_windows(run, WeighOptions(recent=1.5, old=0.7, evolution=1.3), At(), windows)
    assert weighed.weight.tolist() == pytest.approx([of_file, of_change], abs=1e-12)


def test_a_curriculum_goes_from_small_windows_to_large_ones_and_shows_all_at_once(tmp_path):
    windows = windows_of([("train", "core", d / 360) for d in range(360)])
    windows = windows.with_columns(size=np.tile([8, 16, 32], 120).astype(np.int32))
    with run_in(tmp_path) as run:
        ordered = order.order_windows(run, OrderOptions("curriculum"), windows)
    counts = [
        [int(((ordered.size == size) & (ordered.stage == stage)).sum()) for stage in range(3)] for size in (8, 16, 32)
    ]
    assert counts == [[60, 40, 20], [40, 40, 40], [20, 40, 60]]
    assert ordered.stage.tolist() == sorted(ordered.stage.tolist())
    for size in (8, 16, 32):
        mine = [ordered.difficulty[(ordered.size == size) & (ordered.stage == stage)] for stage in range(3)]
        assert mine[0].max() <= mine[1].min()
        assert mine[1].max() <= mine[2].min()
    assert set(ordered.size[:30].tolist()) == {8, 16, 32}


@pytest.mark.parametrize("by", ["curriculum", "random"])
def test_every_technique_shows_early(tmp_path, by):
    windows = windows_of([("train", "core", (d * 7 % 1000) / 1000) for d in range(3000)])
    for number in range(0, 3000, 100):
        windows.samples[number] = replace(windows.samples[number], technique="rare")
    with run_in(tmp_path) as run:
        ordered = order.order_windows(run, OrderOptions(by), windows)
    rare = np.array([ordered.samples[sample].technique == "rare" for sample in ordered.sample_index])
    assert rare[:300].any()
    stage = 1000 if by == "curriculum" else 3000
    share = rare[:stage].sum()
    assert share >= 2
    assert abs(int(rare[: stage // 2].sum()) - share / 2) <= 1
