"""Dedup: every drop names a keeper that stays and that it repeats; what stays is unique; held-out rows yield."""

from __future__ import annotations

import random
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.build_state import BuildState
from git_starcoder.protocols import Failure
from git_starcoder.recipe import DedupOptions
from git_starcoder.records import Sample, Source, Span, Unit, Windows, content_id
from git_starcoder.stages import dedup

SIZE, STRIDE = 64, 16


class Here:
    """An engine without workers."""

    jobs = 1

    def map(self, function, tasks, *, limit):
        assert limit > 0
        return map(function, tasks)


class Broken(Here):
    """An engine whose workers die."""

    def map(self, function, tasks, *, limit):  # noqa: ARG002
        return (Failure("crash") for _ in tasks)


class Text(NamedTuple):
    """A sample as a test writes it down."""

    tokens: tuple[int, ...]
    path: str = "a"
    made_by: str = "base"
    split: str = "train"
    role: str = "core"
    changed_at: int = 0
    hole: tuple[int, int] | None = None


def tokens(seed, count=SIZE):
    chance = random.Random(seed)
    return tuple(chance.randrange(5000) for _ in range(count))


def changed(old, *places):
    new = list(old)
    for place in places:
        new[place] = 9000 + place
    return tuple(new)


def windows_of(texts, key=None):
    """Windows over texts; each row's key is a hash of its tokens and hole unless `key` is given."""
    samples, rows, flat = [], [], []
    for text in texts:
        source = Source(content_id(text.path), text.path, "", "", text.changed_at, (), "text", Span(0, 0))
        unit = Unit(source, "none", text.role, 0.0, group=text.path, split=text.split)
        ident = content_id(text.path, text.made_by, repr(text.tokens), repr(text.hole))
        count = max(1, 1 + -(-(len(text.tokens) - SIZE) // STRIDE))
        for index in range(count):
            start = index * STRIDE
            part = text.tokens[start : start + SIZE]
            hole = text.hole or (-1, -1)
            digest = blake2b(repr((part, hole)).encode(), digest_size=8).digest()
            rows.append((len(samples), len(flat) + start, start, len(part), *hole, index, count,
                         int.from_bytes(digest) if key is None else key))  # fmt: skip
        samples.append(Sample(ident, unit, text.made_by, Span(0, 0)))
        flat.extend(text.tokens)
    columns = list(zip(*rows, strict=True)) or [()] * 9
    sample, first, start, length, hole_start, hole_stop, index, total, keys = columns

    def column(values, kind=np.int32):
        return np.array(values, dtype=kind)

    zeros = np.zeros(len(rows))
    return Windows(
        samples, column(flat, np.uint16), zeros.astype(np.int64), column(sample), column(first, np.int64), column(start),
        column(length), column([SIZE] * len(rows)), zeros.astype(np.int32), column(hole_start),
        column(hole_stop), column(index), column(total),
        column(keys, np.uint64), zeros, zeros + 1, zeros.astype(np.int8),
        np.empty((0, 2), dtype=np.int64),
    )  # fmt: skip


def deduplicated(folder, windows, options, engine=None):
    with BuildState(folder, 0, engine or Here()) as run:
        done = dedup.drop_duplicates(run, options, windows)
    return done, run.steps[0], run.drops


def contents(windows):
    """The content of each row, as it would be written."""
    return [
        (tuple(windows.tokens[f : f + n].tolist()), h, e)
        for f, n, h, e in zip(windows.token_start, windows.length, windows.mask_start, windows.mask_stop, strict=True)
    ]


def paths(windows):
    return [windows.samples[sample].origin.path for sample in windows.sample_index]


EXACT, NEAR = DedupOptions(), DedupOptions(near=0.85)


def test_the_best_copy_stays_and_the_others_name_it(tmp_path):
    same = tokens(1)
    worse = [
        Text(same, "variation", made_by="format_variation", changed_at=9),
        Text(same, "test", role="test", changed_at=9),
        Text(same, "old", changed_at=1),
        Text(same, "young/b", changed_at=2),
        Text(same, "young/a", changed_at=2),
    ]
    for number in range(len(worse)):
        windows = windows_of(worse[number:])
        kept, step, drops = deduplicated(tmp_path, windows, EXACT)
        order = ["young/a", "young/b", "old", "test", "variation"]
        best = next(path for path in order if path in paths(windows))
        assert paths(kept) == [best]
        assert step.dropped == {"exact": len(windows) - 1} or len(windows) == 1
        assert all(drop.detail.startswith(f"{best}#{windows.content_key[0]:016x} (") for drop in drops)


@pytest.mark.parametrize("options", [EXACT, NEAR, DedupOptions(exact=False), DedupOptions(exact=False, near=0.85)])
def test_a_held_out_copy_goes_even_where_it_is_the_better_one(tmp_path, options):
    same = tokens(1)
    texts = [
        Text(same, "test", split="test"),
        Text(same, "val", split="val"),
        Text(same, "train", "format_variation", role="docs"),
        Text(tokens(2), "test", split="test"),
        Text(tokens(2), "val", split="val"),
    ]
    kept, step, drops = deduplicated(tmp_path, windows_of(texts), options)
    assert paths(kept) == ["train", "val"]
    assert step.dropped == {"leak": 3}
    assert [drop.detail[:6] for drop in drops] == ["train#", "train#", "val#" + f"{kept.content_key[1]:016x}"[:2]]


def test_a_held_out_near_copy_is_a_leak(tmp_path):
    texts = [Text(tokens(1), "train"), Text(changed(tokens(1), 3), "test", split="test")]
    assert len(deduplicated(tmp_path, windows_of(texts), EXACT)[0]) == 2
    kept, step, drops = deduplicated(tmp_path, windows_of(texts), NEAR)
    assert paths(kept) == ["train"]
    assert step.dropped == {"leak": 1}
    assert drops[0].detail.endswith("(base), similarity 0.875")  # 60 shingles each, 4 differ: 56 / 64


def test_exact_copies_stay_where_the_recipe_keeps_them(tmp_path):
    texts = [Text(tokens(1), "a"), Text(tokens(1), "b")]
    kept, step, _ = deduplicated(tmp_path, windows_of(texts), DedupOptions(exact=False))
    assert (len(kept), step.kept, step.dropped.total()) == (2, 2, 0)


def test_a_key_that_lies_costs_no_row(tmp_path):
    texts = [Text(tokens(n // 2), f"{n}") for n in range(8)]
    texts += [Text(tokens(0)[:40], "short"), Text(tokens(0), "masked", hole=(3, 9))]
    kept, step, _ = deduplicated(tmp_path, windows_of(texts, key=7), EXACT)
    assert paths(kept) == ["0", "2", "4", "6", "short", "masked"]
    assert step.dropped == {"exact": 4}


def test_a_threshold_means_the_jaccard_similarity(tmp_path):
    texts = [Text(tokens(1), "a"), Text(changed(tokens(1), 63), "b"), Text(changed(tokens(1), 20), "c")]
    similarities = [59 / 61, 55 / 65]  # the last token is in one shingle, one inside is in five
    for threshold in (0.8, 0.9, 0.99):
        _, _, drops = deduplicated(tmp_path, windows_of(texts), DedupOptions(near=threshold))
        found = [float(drop.detail.rpartition(" ")[2]) for drop in drops]
        assert found == [round(value, 3) for value in similarities if value >= threshold]


def test_windows_of_one_text_that_overlap_are_not_compared(tmp_path):
    monotonous = Text(tuple(range(8)) * 40, "table")
    kept, step, _ = deduplicated(tmp_path, windows_of([monotonous]), NEAR)
    starts = kept.sample_offset.tolist()
    assert step.dropped == {"exact": len(windows_of([monotonous])) - len(starts)}
    shifted = Text(tuple(range(9)) * 40, "table")
    kept, step, _ = deduplicated(tmp_path, windows_of([shifted]), NEAR)
    assert kept.sample_offset.tolist()[:4] == [0, 16, 32, 48]
    assert len(kept) == 4 < step.seen


def test_rows_of_different_tasks_are_different(tmp_path):
    same = tokens(1)
    base = Text(same, "a")
    masked = [Text(same, "a", "token_masking", hole=hole) for hole in ((3, 9), (4, 9), (30, 35))]
    kept, step, _ = deduplicated(tmp_path, windows_of([base, *masked]), NEAR)
    assert (len(kept), step.dropped.total()) == (4, 0)
    again = Text(changed(same, 62), "b", "token_masking", hole=(3, 9))
    kept, step, _ = deduplicated(tmp_path, windows_of([base, *masked, again]), NEAR)
    assert (len(kept), step.dropped) == (4, {"near": 1})


def test_a_copy_of_a_near_copy_names_the_row_that_stays(tmp_path):
    near = changed(tokens(1), 3)
    texts = [Text(tokens(1), "a"), Text(near, "b"), Text(near, "c")]
    kept, step, drops = deduplicated(tmp_path, windows_of(texts), NEAR)
    assert paths(kept) == ["a"]
    assert step.dropped == {"near": 2}
    assert {drop.detail for drop in drops} == {f"a#{kept.content_key[0]:016x} (base), similarity 0.875"}


def test_similarity_is_not_passed_on_through_dropped_rows(tmp_path):
    a = tokens(1)
    b = changed(a, 10)
    c = changed(b, 50)  # b is near both, a and c are not near each other
    kept, step, _ = deduplicated(tmp_path, windows_of([Text(t, p) for t, p in ((a, "a"), (b, "b"), (c, "c"))]),
                                 DedupOptions(near=0.8))  # fmt: skip
    assert paths(kept) == ["a", "c"]
    assert step.dropped == {"near": 1}


def test_nothing_in_nothing_out(tmp_path):
    kept, step, _ = deduplicated(tmp_path, windows_of([]), NEAR)
    assert (len(kept), step.seen) == (0, 0)


POOL = [tokens(seed, 100) for seed in range(3)]
POOL += [changed(POOL[0], 5), changed(POOL[0], 5, 80), changed(POOL[1], 99), POOL[2][16:] + POOL[0][:16], (1, 2, 3)]
TEXTS = st.lists(
    st.builds(
        Text,
        st.sampled_from(POOL),
        st.sampled_from("abcdef"),
        st.sampled_from(["base", "format_variation"]),
        st.sampled_from(["train", "val", "test"]),
        st.sampled_from(["core", "test"]),
        hole=st.sampled_from([None, None, (0, 2)]),
    ),
    max_size=8,
    unique=True,
)


@given(texts=TEXTS, order=st.randoms(use_true_random=False))
def test_what_stays_is_unique_and_every_drop_repeats_its_keeper(tmp_path_factory, texts, order):
    windows = windows_of(texts)
    kept, step, drops = deduplicated(tmp_path_factory.mktemp("d"), windows, NEAR)
    assert step.seen == len(windows) == len(kept) + len(drops)
    assert len(set(contents(kept))) == len(kept)
    splits = {}
    for content, sample in zip(contents(kept), kept.sample_index, strict=True):
        splits.setdefault(content, set()).add(kept.samples[sample].origin.split)
    assert all(len(found) == 1 for found in splits.values())
    names = {f"{path}#{key:016x}" for path, key in zip(paths(kept), kept.content_key, strict=True)}
    for drop in drops:
        assert drop.detail.partition(" ")[0] in names
        assert float(drop.detail.rpartition(" ")[2]) >= 0.85
    # The order in which texts arrive decides nothing, but for equals in every respect.
    if len({(t.path, t.made_by, t.split, t.role) for t in texts}) == len(texts):
        order.shuffle(texts)
        again, _, _ = deduplicated(tmp_path_factory.mktemp("d"), windows_of(texts), NEAR)
        assert sorted(zip(paths(kept), kept.content_key, strict=True)) == sorted(
            zip(paths(again), again.content_key, strict=True)
        )


def test_workers_that_die_change_nothing(tmp_path):
    texts = [Text(tokens(3), "a"), Text(changed(tokens(3), 0), "b"), Text(tokens(4), "c")]
    expected = deduplicated(tmp_path / "here", windows_of(texts), NEAR)
    found = deduplicated(tmp_path / "broken", windows_of(texts), NEAR, Broken())
    assert found[2] == expected[2] != []
