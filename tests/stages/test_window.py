"""Windows: they rejoin to the text, overlap exactly, are padded, and masked rows give everything back."""

from __future__ import annotations

import argparse
import ast
import math
import random
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bases
from git_starcoder.build_state import BuildState
from git_starcoder.machine import Device
from git_starcoder.recipe import ReadOptions, Recipe, WindowOptions
from git_starcoder.records import Change, ContextPart, Sample, Source, Span, Unit, content_id
from git_starcoder.stages import window
from git_starcoder.text import tokenizer as tokenizers

CODE = [Path(module.__file__).read_bytes() for module in (argparse, ast)]


class Nowhere:
    """A repository without an anchor: a tokenizer is learned from the units."""

    path = Path("/nowhere")
    commit = "c"
    is_shallow = True


class NoEngine:
    jobs = 1

    def map(self, function, tasks, *, limit):
        raise NotImplementedError


@pytest.fixture(scope="module")
def learned():
    return bases.learn(CODE, 600)


@pytest.fixture(scope="module", autouse=True)
def load_once():
    """Hundreds of examples need not load the same folder hundreds of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizers, "load_tokenizer", cache(tokenizers.load_tokenizer))
        yield


@pytest.fixture(scope="module")
def folder(learned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    learned.save(folder)
    return folder


def sample_of(run, data, holes=(), split="train", made_by=None, difficulty=0.5):
    span = run.texts.put(data)
    source = Source(content_id(data), f"{content_id(data)[:6]}.py", "b", "c", 0, (), "python", span)
    unit = Unit(source, "none", "core", difficulty, split=split)
    made_by = made_by or ("token_masking" if holes else "base")
    return Sample(content_id(made_by, data), unit, made_by, span, tuple(Span(*hole) for hole in holes))


def rows_of(windows, some):
    """Tokens of each row, how many they are before padding, and which tokens of its window are asked for, if any."""
    layout = window.RowLayout(windows, some)
    found = []
    for row in range(len(windows)):
        parts = [windows.tokens[begin:stop] for begin, stop in layout.spans(np.array([row]))[0]]
        hole = None
        if layout.is_masked(np.array([row]))[0]:
            hole = Span(int(windows.mask_start[row]), int(windows.mask_stop[row]))
            marks = [np.array([mark], dtype=some.dtype) for mark in layout.control_tokens]
            parts = [marks[0], parts[0], marks[1], parts[1], marks[2], parts[2], marks[3]]
        shown = np.concatenate(parts)
        padding = np.full(windows.size[row] - len(shown), some.pad_id, dtype=some.dtype)
        found.append((np.concatenate([shown, padding]), len(shown), hole))
    return found


def built(folder, texts, **options):
    """Windows over texts, given as data or as (data, holes), in a run of their own."""
    with tempfile.TemporaryDirectory() as scratch, BuildState(Path(scratch), 0, NoEngine()) as run:
        samples = [sample_of(run, *(text if isinstance(text, tuple) else (text,))) for text in texts]
        windows = window.cut_windows(
            run, Recipe(window=WindowOptions(tokenizer=str(folder), **options)), Nowhere(), samples
        )
        return replace(windows, tokens=windows.tokens.copy()), run.steps[0], run.drops


# A text of printable lines, and holes at any of its characters
texts = st.text(st.sampled_from("ab_=(é日 \n"), min_size=0, max_size=300).map(str.encode)
sizes = st.integers(16, 80)
overlaps = st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9, 1 / 3])


@st.composite
def masked_texts(draw):
    text = draw(st.text(st.sampled_from("ab_=(é日 \n"), min_size=1, max_size=300))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=20)))
    bytes_at = [len(text[:edge].encode()) for edge in edges]
    return text.encode(), tuple(zip(bytes_at[::2], bytes_at[1::2], strict=False))


@given(st.lists(texts, min_size=1, max_size=4), sizes, overlaps)
@settings(max_examples=100)
def test_windows_overlap_exactly_and_rejoin_to_the_text(folder, learned, data, size, overlap):
    windows, step, _ = built(folder, data, size=size, overlap=overlap)
    stride = max(1, round(size * (1 - overlap)))
    rows = rows_of(windows, learned)
    planned = 0
    for number, text in enumerate(data):
        expected = [*learned.encode([text])[0].tolist(), learned.end_id]
        mine = np.flatnonzero(windows.sample_index == number)
        total = 1 if len(expected) <= size else math.ceil((len(expected) - size) / stride) + 1
        planned += total
        covered = {}
        for row in mine.tolist():
            tokens, length, hole = rows[row]
            start = int(windows.sample_offset[row])
            assert hole is None
            assert start == stride * windows.window_index[row]
            assert windows.window_count[row] == total
            assert len(tokens) == windows.size[row] == size
            assert length == windows.length[row] == min(size, len(expected) - start)
            assert tokens[:length].tolist() == expected[start : start + length]
            assert (tokens[length:] == learned.pad_id).all()
            covered |= dict(enumerate(expected[start : start + length], start))
        if len(mine) == total:  # nothing was too short
            assert [covered[place] for place in range(len(expected))] == expected
            assert learned.decode(list(covered.values())[:-1]) == text
    assert step.seen == planned
    assert step.kept == len(windows)
    assert step.dropped.total() == planned - len(windows) == step.dropped["too_short"]


@given(st.lists(masked_texts(), min_size=1, max_size=4), sizes, overlaps)
@settings(max_examples=100)
def test_masked_rows_give_back_prefix_hole_and_suffix(folder, learned, data, size, overlap):
    windows, step, drops = built(folder, data, size=size, overlap=overlap)
    prefix, middle, suffix = learned.fim_ids
    rows = rows_of(windows, learned)
    for row, (tokens, length, hole) in enumerate(rows):
        text, holes = data[windows.sample_index[row]]
        assert len(tokens) == size
        assert (tokens[length:] == learned.pad_id).all()
        tokens = tokens[:length].tolist()
        assert tokens[0] == prefix
        assert tokens[-1] == learned.end_id
        at_suffix, at_middle = tokens.index(suffix), tokens.index(middle)
        head, tail, asked = tokens[1:at_suffix], tokens[at_suffix + 1 : at_middle], tokens[at_middle + 1 : -1]
        assert min(head + asked + tail) >= 10
        first = windows.token_start[row]
        assert head + asked + tail == windows.tokens[first : first + length - 4].tolist()
        assert (hole.start, hole.stop) == (len(head), len(head) + len(asked))
        # What is asked for is a hole of the text, at its place in the text.
        begin = int(first - windows.sample_offset[row])
        before = learned.decode(windows.tokens[begin : first + hole.start])
        assert (len(before), len(before) + len(learned.decode(asked))) in holes
        assert text.startswith(before + learned.decode(asked))
    assert windows.length.max(initial=0) <= size - 4
    assert step.seen == step.kept + step.dropped["no_hole"] + step.dropped["too_short"]
    assert len(drops) == step.dropped.total()


@given(masked_texts(), sizes, overlaps)
def test_masked_windows_cover_the_text_and_mask_the_hole_nearest_the_middle(learned, data, size, overlap):
    with tempfile.TemporaryDirectory() as scratch, BuildState(Path(scratch), 0, NoEngine()) as run:
        samples = [sample_of(run, b"before " * 20), sample_of(run, *data), sample_of(run, b"after " * 20)]
        encoded = window.encode_samples(run, samples, [False] * 3, learned, ReadOptions())
        windows, unplanned = window.plan_windows(samples, encoded, [size], overlap)
    assert not unplanned
    mine = np.flatnonzero(windows.sample_index == 1).tolist()
    begin, end = encoded.text_bounds[1]
    assert learned.decode(encoded.tokens[begin:end]) == data[0]  # without the end-of-text token
    covered = {
        place
        for row in mine
        for place in range(windows.token_start[row], windows.token_start[row] + windows.length[row])
    }
    assert covered == set(range(begin, end))
    for row in mine:
        first, stop = int(windows.token_start[row]), int(windows.token_start[row] + windows.length[row])
        inside = [(int(a), int(b)) for a, b in encoded.masked_bounds if first <= a and b <= stop]
        away = [abs(a + b - first - stop) for a, b in inside]
        if not inside:
            assert windows.mask_start[row] == windows.mask_stop[row] == -1
        else:
            found = (int(windows.mask_start[row]) + first, int(windows.mask_stop[row]) + first)
            assert found in inside
            assert away[inside.index(found)] == min(away)
    assert (windows.mask_start[windows.sample_index != 1] == -1).all()


def test_nothing_depends_on_the_size_of_a_batch(folder, monkeypatch):
    data = [
        *CODE,
        b"",
        (CODE[0][:2000], ((10, 30), (200, 260), (900, 990))),
        b"x = 1\n",
        b"",
        b"long enough to be one row",
    ]
    expected, step, _ = built(folder, data, size=64)
    for batch in (1, 30_000, 100_000):
        monkeypatch.setattr(window, "ENCODE_BATCH_BYTES", batch)
        windows, again, _ = built(folder, data, size=64)
        assert again.figures == step.figures
        for name in (
            "tokens",
            "token_start",
            "length",
            "mask_start",
            "mask_stop",
            "content_key",
            "sample_index",
            "window_count",
        ):
            assert np.array_equal(getattr(windows, name), getattr(expected, name)), name


def framed(run, text, head, starts=(), kind="head"):
    """A sample with a head; of a change, if its kind says so."""
    span = run.texts.put(text)
    pieces = tuple(ContextPart(mark, run.texts.put(shown)) for mark, shown in head)
    offered = run.texts.put(np.array(starts, dtype="<u4").tobytes())
    source = Source(content_id(text), "a.py", "b", "c", 0, (), "python", span)
    origin = Unit(source, "none", "core", 0.5)
    if kind == "change":
        origin = Change("i", "a.py", "", "a.py", "c", 0, 0, Span(0, 0), "", "b", "python", "core", 0.5, (), False)
    return Sample(content_id(text, kind), origin, "base", span, context_prefix=pieces, window_starts=offered)


LINES = b"".join(b"item%d = value%d\n" % (number, number) for number in range(300))


def laid(folder, made, learned, **options):
    """The rows of samples that `made` makes in a run: windows, step, rows."""
    with tempfile.TemporaryDirectory() as scratch, BuildState(Path(scratch), 0, NoEngine()) as run:
        windows = window.cut_windows(
            run, Recipe(window=WindowOptions(tokenizer=str(folder), **options)), Nowhere(), made(run)
        )
        windows = replace(windows, tokens=windows.tokens.copy())
        return windows, run.steps[0], rows_of(windows, learned)


def test_a_text_is_laid_out_at_every_size_up_to_the_one_that_holds_it(folder, learned):
    whole = len(learned.encode([LINES])[0]) + 1
    windows, _, rows = laid(folder, lambda run: [sample_of(run, LINES), sample_of(run, LINES[:90])], learned,
                            size=(64, 128, 4096, 8192))  # fmt: skip
    assert 128 < whole <= 4096
    of_first = windows.size[windows.sample_index == 0].tolist()
    assert sorted(set(of_first)) == [64, 128, 4096]
    assert of_first.count(4096) == 1
    assert set(windows.size[windows.sample_index == 1].tolist()) == {64}
    for size in (64, 128, 4096):
        mine = (windows.sample_index == 0) & (windows.size == size)
        assert windows.window_count[mine].tolist() == [mine.sum()] * mine.sum()
        covered = {place for row in np.flatnonzero(mine)
                   for place in range(windows.sample_offset[row], windows.sample_offset[row] + windows.length[row])}  # fmt: skip
        assert covered == set(range(whole))
    assert all(len(tokens) == size for (tokens, _, _), size in zip(rows, windows.size.tolist(), strict=True))


@given(st.sets(st.integers(0, len(LINES) - 1), max_size=200), sizes, overlaps)
@settings(max_examples=60)
def test_windows_begin_where_items_do_and_cover_every_token(folder, learned, starts, size, overlap):
    windows, _, _ = laid(folder, lambda run: [framed(run, LINES, (), sorted(starts))], learned,
                         size=size, overlap=overlap)  # fmt: skip
    plain, _, _ = laid(folder, lambda run: [framed(run, LINES, ())], learned, size=size, overlap=overlap)
    stride = max(1, round(size * (1 - overlap)))
    covered = set()
    begins = np.concatenate(([0], np.cumsum(learned.token_byte_counts[plain.tokens[:-1]])))
    at = {int(np.searchsorted(begins, start)) for start in starts}
    for start, length, nominal in zip(windows.sample_offset, windows.length, plain.sample_offset, strict=True):
        assert nominal - min(stride // 2, size - stride) <= start <= nominal
        assert start == nominal or int(start) in at
        covered |= set(range(start, start + length))
    assert covered >= set(range(len(windows.tokens) - window.MIN_ROW_TOKENS))  # a last window may be too short


def test_a_window_begins_at_the_item_before_it(folder, learned):
    windows, _, _ = laid(folder, lambda run: [framed(run, LINES, (), range(0, len(LINES), 17))], learned, size=64)
    plain, _, _ = laid(folder, lambda run: [framed(run, LINES, ())], learned, size=64)
    assert (windows.sample_offset < plain.sample_offset).mean() > 0.5


def test_a_head_stands_in_every_row_and_its_marks_are_control_tokens(folder, learned):
    head = (("<file_sep>", b"a.py\n"), ("", b"before "), ("<commit_msg>", b""))
    windows, _, rows = laid(folder, lambda run: [framed(run, LINES, head)], learned, size=(16, 64))
    marks = [learned.control_token_ids("<file_sep>"), learned.encode([b"a.py\n"])[0].tolist(), learned.encode([b"before "])[0].tolist(),
             learned.control_token_ids("<commit_msg>")]  # fmt: skip
    expected = [token for mark in marks for token in mark]
    assert len(learned.control_token_ids("<file_sep>")) == 1
    assert set(windows.size.tolist()) == {64}  # the head would be more than half of 16
    text = [*learned.encode([LINES])[0].tolist(), learned.end_id]
    for row, (tokens, length, _) in enumerate(rows):
        assert windows.prefix_length[row] == len(expected)
        assert tokens[: len(expected)].tolist() == expected
        start = windows.sample_offset[row]
        body = text[start : start + windows.length[row]]
        assert tokens[len(expected) : length].tolist() == body
        assert (tokens[length:] == learned.pad_id).all()


def test_a_head_that_fits_no_window_is_counted(folder, learned):
    windows, step, _ = laid(folder, lambda run: [framed(run, LINES, (("", LINES),))], learned, size=(16, 64))
    assert len(windows) == 0
    assert step.dropped == {"head_too_long": 1}


def test_a_change_is_one_row_at_the_smallest_size_that_holds_it(folder, learned):
    head = (("<commit_before>", LINES[:200]), ("<commit_after>", b""))
    made = [(LINES[:100], 256), (LINES[:1000], 1024)]
    windows, step, _ = laid(
        folder, lambda run: [framed(run, text, head, kind="change") for text, _ in [*made, (LINES, 0)]], learned,
        size=(64, 256, 1024),
    )  # fmt: skip
    assert windows.size.tolist() == [size for _, size in made]
    assert step.dropped == {"too_long": 1}


def test_a_tokenizer_without_a_mark_spells_it(learned):
    assert learned.control_token_ids("<no_such_mark>") == learned.encode([b"<no_such_mark>"])[0].tolist()


def test_equal_rows_have_equal_keys_and_others_do_not(folder, learned):
    text = b"def f(x):\n    return x + 1\n" * 4
    other = text.replace(b"1", b"2")
    holes = (text, ((4, 5),)), (text, ((30, 34),)), (text, ((4, 5), (30, 34)))
    windows, _, _ = built(folder, [text, other, text, *holes], size=512)
    keys = windows.content_key.tolist()
    assert keys[0] == keys[2]
    rows = [tokens.tobytes() for tokens, _, _ in rows_of(windows, learned)]
    assert len(set(keys)) == len(set(rows))
    assert all((keys[a] == keys[b]) == (rows[a] == rows[b]) for a in range(6) for b in range(6))


def test_too_short_for_a_row(folder):
    windows, step, drops = built(folder, [b"a", b"", b"a b c d e f g h i j k"], size=64)
    assert len(windows) == 1
    assert step.dropped == {"too_short": 2}
    assert {drop.reason for drop in drops} == {"too_short"}
    assert all(drop.id.partition("#")[0].endswith(".py") for drop in drops)


@pytest.mark.parametrize(("count", "rows"), [(window.MIN_ROW_TOKENS, 1), (window.MIN_ROW_TOKENS - 1, 0)])
def test_the_shortest_row(folder, learned, count, rows):
    text = b"\x01" * count
    assert len(learned.encode([text])[0]) == count
    assert len(built(folder, [text], size=64)[0]) == rows
    padded = b"\x01" * (count + 3)
    assert len(built(folder, [(padded, ((0, 3),))], size=64)[0]) == 1


def test_masked_text_without_a_usable_hole_is_dropped(folder):
    text = b"abc def ghi jkl mno pqr stu vwx yz\n" * 30
    windows, step, _ = built(folder, [(text, ((0, len(text)),)), (text, ((5, 5),)), (text, ((0, 3),))], size=64)
    assert step.dropped["no_hole"] > 0
    assert windows.sample_index.tolist() == [2]  # only its first window has the hole


def test_a_tokenizer_without_masking_tokens(learned, tmp_path):
    from tokenizers import Tokenizer

    learned.save(tmp_path / "plain")
    path = tmp_path / "plain" / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace("<fim_", "<was_"), "utf-8")
    assert Tokenizer.from_file(str(path)).token_to_id("<fim_prefix>") is None
    text = b"a long enough line of text\n" * 9
    windows, step, _ = built(tmp_path / "plain", [text, (text, ((0, 5),)), text], size=64, overlap=0.0)
    assert step.dropped == {"no_fim_tokens": 1}
    assert set(windows.sample_index.tolist()) == {0, 2}


def test_the_tokenizer_is_learned_from_base_texts_of_the_training_split_alone(tmp_path):
    train = CODE[0]
    with BuildState(tmp_path, 0, NoEngine()) as run:
        samples = [
            sample_of(run, train),
            sample_of(run, b"zqzq " * 4000, split="val"),
            sample_of(run, b"xqxq " * 4000, split="test"),
            sample_of(run, b"wqwq " * 4000, made_by="variable_renaming"),
        ]
        window.cut_windows(run, Recipe(window=WindowOptions(size=64, vocab_size=600)), Nowhere(), samples)
        figures = run.steps[0].figures
    assert figures["tokenizer"] == bases.learn([train], 600).digest
    assert figures["vocab_size"] == 600
    assert (figures["encoder"], figures["lossless"]) == ("gigatoken", "yes")
    assert tokenizers.load_tokenizer(tmp_path / "tokenizer").digest == figures["tokenizer"]


def test_large_vocabularies_take_wider_numbers(tmp_path, learned):
    import json

    learned.save(tmp_path)
    definition = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    definition["model"]["vocab"] |= {f"unused {number}": number for number in range(600, 70_000)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
    wide, _, _ = built(tmp_path, [CODE[0][:500]], size=64)
    assert wide.tokens.dtype == np.uint32
    assert wide.tokens.tolist() == [*learned.encode([CODE[0][:500]])[0].tolist(), learned.end_id]


def test_nothing_in_nothing_out(folder):
    windows, step, _ = built(folder, [], size=64)
    assert (len(windows), step.seen) == (0, 0)


def test_columns_start_neutral(folder):
    windows, _, _ = built(folder, [CODE[0][:5000]], size=64)
    assert set(windows.weight) == {1.0}
    assert set(windows.difficulty) == {0.5}
    assert windows.window_index.tolist() == list(range(windows.window_count[0]))


def test_auto_follows_the_device(monkeypatch):
    monkeypatch.setattr(window.machine, "detect_device", lambda: Device("cuda", 24 << 30))
    resolved = window.resolve_sizes(Recipe(seed=7))
    assert (resolved.window.size, resolved.seed) == (4096, 7)
    assert window.resolve_sizes(Recipe(window=WindowOptions(size=300))).window.size == 300


def test_a_tokenizer_from_outside_is_an_input(folder, learned):
    assert window.external_digests(Recipe()) == ()
    assert window.external_digests(Recipe(window=WindowOptions(tokenizer=str(folder)))) == (learned.digest,)


def test_an_unresolved_recipe_is_a_bug(tmp_path):
    with BuildState(tmp_path, 0, NoEngine()) as run, pytest.raises(ValueError, match="resolve"):
        window.cut_windows(run, Recipe(), Nowhere(), [])


def test_texts_are_encoded_whatever_they_spell(folder, learned):
    text = (
        "".join(tokenizers.SPECIAL_TOKENS) + "\0\r\n\ufeff" + "".join(random.Random(0).choices("<|>_fim", k=200))
    ).encode()
    windows, _, _ = built(folder, [text], size=512)
    ((tokens, length, _),) = rows_of(windows, learned)
    assert tokens[: length - 1].min() >= 10
    assert learned.decode(tokens[: length - 1]) == text
