"""Split: what is alike stays together, shares are met by rows, and nothing depends on the order of the files."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder import recipe
from git_starcoder.build_state import BuildState
from git_starcoder.records import Change, Drop, Edit, Source, Unit, content_id
from git_starcoder.stages import file_table, split
from git_starcoder.stages.shares import MAX_CHANCE_SHARE, SPLIT_TOLERANCE, UNGATED_SHARE, LeakGroup, assign_groups
from toy import embedding_model
from wrapped import WRAPS, code

WINDOW = recipe.WindowOptions(size=64)


class NoEngine:
    jobs = 1


class Notes:
    """A watch that remembers what the user was told."""

    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)

    def begin(self, *_): ...

    def advance(self, *_): ...

    def end(self, *_): ...


def words(seed, count=60):
    """Text like no other."""
    chance = random.Random(seed)
    return " ".join(f"w{chance.randrange(10**9)}" for _ in range(count)).encode()


def parted(folder, files, options=None, seed=0, watch=None):
    """The units of some files (path → text, or (text, former paths)) after the split, by path, and the step."""
    with BuildState(folder, seed, NoEngine(), watch or Notes()) as run:
        units = []
        for path, content in files.items():
            text, former = content if isinstance(content, tuple) else (content, ())
            span = run.texts.put(text)
            source = Source(content_id(path, text), path, content_id(text), "c", 0, tuple(former), "text", span)
            units.append(Unit(source, "none", "core", 0.0))
        whole = recipe.Recipe(split=options or recipe.SplitOptions(), window=WINDOW)
        done, _ = split.assign_splits(run, whole, units, [])
        assert [unit.source for unit in done] == [unit.source for unit in units]
        return {unit.source.path: unit for unit in done}, run.steps[0]


def rows_of(files):
    """The rows that each file of words will give: one, and one for each stride beyond the first window."""
    tokens = {path: len(text.split()) * file_table.TOKENS_PER_WORD for path, text in files.items()}
    return {path: 1 + max(0, -int(-(count - 64) // 16)) for path, count in tokens.items()}


def shares(units, files):
    """Rows per split as shares."""
    rows = dict.fromkeys(("train", "val", "test"), 0)
    for path, count in rows_of(files).items():
        rows[units[path].split] += count
    return {name: value / sum(rows.values()) for name, value in rows.items()}


def skewed(count, seed=0):
    """Files of very different sizes: a few are a hundred times the median."""
    chance = random.Random(seed)
    return {f"f{n}": words((seed, n).__repr__(), int(chance.paretovariate(1.1) * 20)) for n in range(count)}


def changed(text, words_):
    """The text with some words replaced at its end."""
    return b" ".join((*text.split()[:-words_], *(b"new%d" % n for n in range(words_))))


def test_equal_texts_near_duplicates_and_renames_stay_together(tmp_path):
    files = {f"f{n}": words(n) for n in range(40)}
    for n in range(20):
        files[f"copy{n}"] = files[f"f{n}"]
        files[f"near{n}"] = changed(files[f"f{n}"], 10)
        files[f"moved{n}"] = (words(1000 + n), [f"f{n}"])
        files[f"again{n}"] = (words(2000 + n), ["elsewhere", f"moved{n}"] if n == 3 else [f"moved{n}"])
    units, step = parted(tmp_path, files)
    for n in range(20):
        family = {units[f"{kind}{n}"].group for kind in ("f", "copy", "near", "moved", "again")}
        assert len(family) == 1
    assert len({unit.group for unit in units.values()}) == 40 == step.figures["groups"]
    assert step.figures["largest_group"] == 5
    assert step.figures["equal_texts"] == 20
    assert step.figures["near_duplicate_links"] == 20
    assert step.figures["lineage_links"] == 40
    splits = {}
    for unit in units.values():
        assert splits.setdefault(unit.group, unit.split) == unit.split


def test_a_former_path_that_two_files_share_joins_them(tmp_path):
    files = {"a": (words(1), ["lib"]), "b": (words(2), ["lib"]), "c": words(3)}
    units, _ = parted(tmp_path, files)
    assert units["a"].group == units["b"].group != units["c"].group


def test_the_threshold_is_a_jaccard_similarity(tmp_path):
    a, b = words(1, 104), changed(words(1, 104), 30)  # 100 shingles each, 70 shared: 70 / 130 = 0.538
    # With each word on its own line, no words of a line are compared.
    files = {"a": a.replace(b" ", b"\n"), "b": b.replace(b" ", b"\n")}
    together, _ = parted(tmp_path / "1", files, recipe.SplitOptions(near=0.53))
    apart, _ = parted(tmp_path / "2", files, recipe.SplitOptions(near=0.55))
    assert together["a"].group == together["b"].group
    assert apart["a"].group != apart["b"].group


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_copy_with_something_added_to_every_line_is_of_the_same_group(tmp_path, wrap):
    files = {f"f{seed}.py": code(seed).encode() for seed in range(12)}
    files["copy.txt"] = WRAPS[wrap](code(4)).encode()
    units, step = parted(tmp_path, files)
    assert units["copy.txt"].group == units["f4.py"].group
    assert step.figures["groups"] == 12


def test_blank_files_connect_nothing(tmp_path):
    files = {"a": (b"\n", ["x"]), "b": (b"\n", ["y"]), "x": words(1), "y": words(2)}
    units, _ = parted(tmp_path, files)
    assert units["x"].group != units["y"].group


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [150, 600])
def test_shares_are_met_by_rows_within_a_point(tmp_path, count, seed):
    files = skewed(count, seed)
    units, step = parted(tmp_path, files, seed=seed)
    assert shares(units, files) == pytest.approx({"train": 0.85, "val": 0.10, "test": 0.05}, abs=0.01)
    assert step.figures["fallback"] == "none"
    expected = {name: step.figures[f"expected_rows_{name}"] for name in ("train", "val", "test")}
    assert sum(expected.values()) == sum(rows_of(files).values())


def test_a_file_that_dwarfs_the_rest_goes_to_train_and_the_user_is_told(tmp_path):
    notes = Notes()
    files = {**{f"f{n}": words(n, 30) for n in range(30)}, "huge": words("huge", 60_000)}
    units, step = parted(tmp_path, files, watch=notes)
    assert units["huge"].split == "train"
    assert {unit.split for unit in units.values()} == {"train", "val", "test"}
    assert step.figures["fallback"] == "uneven"
    assert "cannot be split as the recipe asks" in notes.told[0]


FILES = {**skewed(30), "copy": skewed(30)["f3"], "moved": (words("m"), ["f4", "f5"])}


@given(order=st.permutations(sorted(FILES)))
def test_the_order_of_the_files_does_not_matter(tmp_path_factory, order):
    straight, _ = parted(tmp_path_factory.mktemp("a"), FILES)
    shuffled, _ = parted(tmp_path_factory.mktemp("b"), {path: FILES[path] for path in order})
    assert {path: (unit.group, unit.split) for path, unit in straight.items()} == {
        path: (unit.group, unit.split) for path, unit in shuffled.items()
    }


GROUPS = st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1)), max_size=60)


@given(rows=GROUPS, order=st.randoms(use_true_random=False))
def test_assignment_is_a_function_of_the_groups(rows, order):
    groups = [LeakGroup(f"{n:03}", *row) for n, row in enumerate(rows)]
    splits = assign_groups(groups, recipe.SplitOptions())
    order.shuffle(groups)
    assert assign_groups(groups, recipe.SplitOptions()) == splits
    assert set(splits) == {group.id for group in groups}
    held = set(splits.values())
    assert len(held) == min(len(groups), 3)
    assert "train" in held or not groups


@given(
    rows=GROUPS.filter(lambda rows: len(rows) > 2), new=st.tuples(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1))
)
def test_held_out_never_takes_more_than_its_share_unless_it_would_be_empty(rows, new):
    groups = [LeakGroup(f"{n:03}", *row) for n, row in enumerate([*rows, new])]
    splits = assign_groups(groups, recipe.SplitOptions())
    total = sum(group.expected_rows for group in groups)
    for name, share in (("val", 0.10), ("test", 0.05)):
        members = [group.expected_rows for group in groups if splits[group.id] == name]
        assert len(members) == 1 or sum(members) <= (share + SPLIT_TOLERANCE) * total + 1e-6


def test_a_small_commit_moves_few_files(tmp_path):
    files = skewed(400, seed=7)
    before, _ = parted(tmp_path / "0", files)
    after, _ = parted(tmp_path / "1", {
        **{path: text for path, text in files.items() if path != "f17"},
        "f3": changed(files["f3"], 3), "renamed": (files["f8"], ["f8"]), "new1": words("n1", 40), "new2": words("n2", 90),
    })  # fmt: skip
    moved = [path for path in before if path in after and before[path].split != after[path].split]
    assert len(moved) <= 8
    assert before["f3"].group == after["f3"].group
    assert before["f8"].group == after["renamed"].group


def test_the_seed_changes_the_split(tmp_path):
    files = skewed(100)
    one, _ = parted(tmp_path / "1", files, seed=1)
    two, _ = parted(tmp_path / "2", files, seed=2)
    assert [unit.split for unit in one.values()] != [unit.split for unit in two.values()]
    assert [unit.group for unit in one.values()] == [unit.group for unit in two.values()]


@pytest.mark.parametrize(
    ("files", "splits", "fallback", "told"),
    [
        ({}, set(), "all train", "nothing can be held out"),
        ({"only": words(1)}, {"train"}, "all train", "nothing can be held out"),
        ({"a": words(1), "b": words(1), "c": changed(words(1), 2)}, {"train"}, "all train", "nothing can be held out"),
        ({"a": words(1), "b": words(2)}, {"train", "val"}, "no test", "test is empty"),
        (
            {"a": words(1), "b": words(2), "c": words(3)},
            {"train", "val", "test"},
            "uneven",
            "cannot be split as the recipe asks",
        ),
    ],
)
def test_a_tiny_repository_says_what_it_cannot_hold_out(tmp_path, files, splits, fallback, told):
    notes = Notes()
    units, step = parted(tmp_path, files, watch=notes)
    assert {unit.split for unit in units.values()} == splits
    assert step.figures["fallback"] == fallback
    assert told in " ".join(notes.told)


def test_of_two_groups_the_larger_is_learned_from(tmp_path):
    units, _ = parted(tmp_path, {"small": words(1), "large": words(2, 900)})
    assert (units["small"].split, units["large"].split) == ("val", "train")


def test_expected_rows_count_windows_and_variations():
    window = recipe.WindowOptions(size=100, overlap=0.75)
    assert [file_table.expected_row_count(tokens, window, 0) for tokens in (0, 7, 100, 101, 125, 126, 1000)] == [
        1,
        1,
        1,
        2,
        2,
        3,
        37,
    ]
    assert file_table.expected_row_count(1000, window, 3) == 4 * 37


def test_variations_that_are_drawn_and_can_be_made_are_counted(tmp_path):
    options = recipe.Recipe.load("effectiveness")
    with BuildState(tmp_path, 0, NoEngine()) as run:
        source = Source("id", "a.py", "b", "c", 0, (), "python", run.texts.put(words(1)))
        for tree, keys in (("clean", 4), ("errors", 1), ("none", 1)):  # masking needs no tree
            unit = Unit(source, tree, "core", 0.0)
            assert (
                file_table.expected_variations(
                    run, unit, dict.fromkeys(options.augment, recipe.AugmentationOptions(1.0))
                )
                == keys
            )
            assert (
                file_table.expected_variations(
                    run, unit, dict.fromkeys(options.augment, recipe.AugmentationOptions(0.0))
                )
                == 0
            )


OPEN = b"let answer = compute_the_answer(of, everything);"
SECRET = b"let forbidden = only_the_held_out_file_has_this();"
SHORT = b"return None;"


def gated(folder, files, changes, seed=0, dedup=None, augment=None):
    """Units and changes after the split. Files: path → text, or (text, former paths); changes: (lineage, or (lineage,
    path), message, [(before, after), …])."""
    with BuildState(folder, seed, NoEngine(), Notes()) as run:
        units = []
        for number, (path, content) in enumerate(files.items()):
            text, former = content if isinstance(content, tuple) else (content, ())
            span = run.texts.put(text)
            source = Source(content_id(path, text), path, content_id(text), "c", number, tuple(former), "text", span)
            units.append(Unit(source, "none", "vendored" if path.startswith("vendor/") else "core", 0.0))
        made = []
        for number, (lineage, message, pairs) in enumerate(changes):
            edits = tuple(Edit(run.texts.put(before), run.texts.put(after), 1) for before, after in pairs)
            lineage, path = lineage if isinstance(lineage, tuple) else (lineage, lineage or "gone.rs")
            made.append(Change(f"i{number}", path, "", lineage, f"c{number}", 0, 0, run.texts.put(message),
                               "a", "b", "rust", "core", 0.5, edits, False))  # fmt: skip
        whole = recipe.Recipe(window=WINDOW, dedup=dedup or recipe.DedupOptions(), augment=augment or {})
        done, kept = split.assign_splits(run, whole, units, made)
        texts = {change.id: run.texts.get(change.message) for change in kept}
        return {unit.path: unit for unit in done}, {change.id: change for change in kept}, texts, run


@pytest.fixture
def sides(tmp_path):
    """A hundred files, one that is held out and one that is learned from."""
    files = {f"f{number}.rs": words(number) for number in range(100)}
    units, *_ = gated(tmp_path / "first", files, [])
    held = next(path for path, unit in units.items() if unit.split == "val")
    learned = next(path for path, unit in units.items() if unit.split == "train")
    return files, held, learned


def test_a_change_has_the_group_and_split_of_the_file_that_descends_from_it(tmp_path, sides):
    files, held, learned = sides
    edits = [(b"before this", b"after this")]
    units, kept, _, run = gated(tmp_path / "run", files, [(held, b"", edits), (learned, b"", edits), ("", b"", edits)])
    assert (kept["i0"].group, kept["i0"].split) == (units[held].group, units[held].split)
    assert (kept["i1"].group, kept["i1"].split) == (units[learned].group, "train")
    assert kept["i2"].split == "train"
    assert (run.steps[0].seen, run.steps[0].kept) == (103, 103)


def test_shares_are_met_by_rows_of_changes_that_stay(tmp_path):
    files = {f"f{number}": words(number, 30) for number in range(600)}
    edits = [(b"a", b"b")] * 5  # one row for each, and one for each that follows another
    augment = {"git_diff": recipe.AugmentationOptions(1.0)}
    units, _, _, run = gated(tmp_path, files, [(path, b"", edits) for path in files], augment=augment)
    splits = Counter(unit.split for unit in units.values())
    rows = {name: count * (1 + 9 * (UNGATED_SHARE if name == "train" else 1)) for name, count in splits.items()}
    assert {name: count / sum(rows.values()) for name, count in rows.items()} == pytest.approx(
        {"train": 0.85, "val": 0.10, "test": 0.05}, abs=0.01
    )
    assert {name: run.steps[0].figures[f"expected_rows_{name}"] for name in rows} == pytest.approx(rows, abs=1)


def test_a_path_that_a_held_out_file_had_and_that_was_taken_again_is_held_out(tmp_path):
    files = {f"f{number}.rs": (words(number), [f"was{number}.rs", f"first{number}.rs"]) for number in range(20)}
    pairs = [(b"x", b"y")]
    changes = [(place, b"", pairs) for number in range(20)
               for place in (f"f{number}.rs", ("", f"was{number}.rs"), ("skipped.rs", f"first{number}.rs"))]  # fmt: skip
    units, kept, *_ = gated(tmp_path, files, [*changes, ("", b"", pairs)])
    assert {unit.split for unit in units.values()} == {"train", "val", "test"}
    for number in range(20):
        unit = units[f"f{number}.rs"]
        of_path = [kept[f"i{3 * number + at}"] for at in range(3)]
        assert {(change.split, change.group) for change in of_path} == {(unit.split, unit.group)}
    assert (kept["i60"].split, kept["i60"].group) == ("train", "gone")


def test_no_held_out_edit_asks_for_what_files_to_learn_from_tell(tmp_path, sides):
    files, held, learned = sides
    lines = [b"a line of code with the number %d" % number for number in range(12)]
    files = {**files, learned: files[learned] + b"\n" + b"\n".join(lines[:11]) + b"\n"}
    moved, short = b"\n".join(lines[:3]), b"\n".join((lines[0], lines[1], SHORT))
    changes = [
        (held, b"", [(b"", moved), (b"x", short)]),
        (held, b"", [(b"own", b"\n".join((b"\t" + lines[0] + b"  ", *lines[5:9])))]),
        (held, b"", [(b"", b"\n".join((lines[0], lines[1], lines[11])))]),
        (held, b"", [(lines[11], b"\n".join((*lines[:9], lines[11])))]),  # nine of ten lines
        (held, b"", [(b"\n".join(lines[:11]), lines[11])]),  # it asks for another one
        (learned, b"", [(b"", moved)]),
    ]
    _, kept, _, run = gated(tmp_path, files, changes)
    assert {name: len(change.edits) for name, change in kept.items()} == {"i0": 1, "i2": 1, "i4": 1, "i5": 1}
    drops = [drop for drop in run.drops if drop.reason == "learned_code"]
    assert [drop.id.partition("@")[2] for drop in drops] == ["c1", "c3"]
    assert run.steps[0].figures["edits_learned_elsewhere"] == 3
    assert run.steps[0].figures["edits_held_back"] == 0


def test_no_edit_to_learn_from_has_a_line_that_only_held_out_code_has(tmp_path, sides):
    files, held, learned = sides
    files = {**files, held: files[held] + b"\n" + SECRET + b"\n" + OPEN, learned: files[learned] + b"\n" + OPEN + b"\n"}
    changes = [
        (learned, b"moved", [(b"x", b"\t" + SECRET + b"  \n"), (b"kept", b"as it is")]),
        ("", b"moved away", [(b"a\n" + SECRET + b"\nb", b"nothing")]),
        (learned, b"said elsewhere, too", [(OPEN, OPEN + b"\n" + SHORT)]),
        (held, b"its own", [(SECRET, SECRET + b"!")]),
        (learned, b"as in:\n\n    " + SECRET, [(b"q", b"r")]),
        (learned, b"see `" + SECRET + b"`", [(b"s", b"t")]),
        (learned, b"fine `" + OPEN + b"`", [(b"u", b"v")]),
    ]
    units, kept, messages, run = gated(tmp_path / "run", files, changes)
    assert (units[held].split, units[learned].split) == ("val", "train")
    assert sorted(kept) == ["i0", "i2", "i3", "i4", "i5", "i6"]
    assert len(kept["i0"].edits) == 1
    assert messages["i4"] == messages["i5"] == b""
    assert messages["i6"] == changes[6][1]
    assert run.drops == [
        Drop("split", "gone.rs@c1", "held_out_code", "every edit has a line that only held-out code has")
    ]
    assert run.steps[0].figures["edits_held_back"] == 2
    assert run.steps[0].figures["messages_held_back"] == 2


@pytest.mark.parametrize("wrap", WRAPS)
def test_no_edit_to_learn_from_has_a_wrapped_line_that_only_held_out_code_has(tmp_path, sides, wrap):
    files, held, learned = sides
    files = {**files, held: files[held] + b"\n" + SECRET, learned: files[learned] + b"\n" + OPEN + b"\n"}
    secret, known = (WRAPS[wrap](line.decode()).encode() for line in (SECRET, OPEN))
    changes = [(learned, b"", [(b"x", b"some\n" + secret), (b"y", known)]), (learned, secret, [(b"q", b"r")])]
    _, kept, messages, _ = gated(tmp_path / "run", files, changes)
    assert len(kept["i0"].edits) == 1
    if wrap not in {"git blame", "log", "grep -n"}:  # half of a quote's words are code
        assert messages["i1"] == b""


def test_a_message_that_names_what_held_out_code_does_quotes_nothing(tmp_path, sides):
    files, held, learned = sides
    files = {**files, held: files[held] + b'\n    "sphinx.ext.extlinks",\n'}
    prose = b"use sphinx.ext.extlinks instead of sphinx-issues"
    quote = b'now there is:\n    "sphinx.ext.extlinks",'
    changes = [(learned, prose, [(b"x", b"y")]), (learned, quote, [(b"q", b"r")])]
    _, _, messages, _ = gated(tmp_path / "run", files, changes)
    assert (messages["i0"], messages["i1"]) == (prose, b"")


def test_held_out_history_is_behind_the_gate_too(tmp_path, sides):
    files, held, learned = sides
    changes = [
        (held, b"", [(SECRET, b"now gone from the file")]),
        ("", b"", [(b"", SECRET)]),
        (learned, b"", [(b"x", b"y")]),
    ]
    _, kept, _, _ = gated(tmp_path / "run", files, changes)
    assert sorted(kept) == ["i0", "i2"]


def test_near_copies_of_files_go_and_name_the_better_one(tmp_path):
    text = words(0, 400)
    files = {
        "vendor/a.rs": text + b" one",
        "old.rs": text + b" two",
        "new.rs": text + b" three",
        "other.rs": words(1, 400),
    }
    units, _, _, run = gated(tmp_path / "run", files, [], dedup=recipe.DedupOptions(files=0.9))
    assert sorted(units) == ["new.rs", "other.rs"]
    assert [(drop.id, drop.reason, drop.detail[:6]) for drop in run.drops] == [
        ("old.rs", "near_copy", "new.rs"),
        ("vendor/a.rs", "near_copy", "new.rs"),
    ]


def test_files_that_say_the_same_go_if_a_model_says_so_and_only_within_their_group(tmp_path):
    model = embedding_model(tmp_path / "model", {"file": (1.0, 0.0), "folder": (0.99, 0.1), "price": (0.0, 1.0)})
    text = words(0, 400)
    files = {
        "vendor/a.rs": text + b" file" * 30 + words(1, 40),
        "old.rs": text + b" price" * 30 + words(2, 40),
        "new.rs": text + b" folder" * 30 + words(3, 40),
        "other.rs": words(4, 400) + b" file" * 30,
        "alone.rs": words(5, 400),
    }
    options = recipe.DedupOptions(files=0.9, embedding=str(model), embedded=0.98)
    units, _, _, run = gated(tmp_path / "run", files, [], dedup=options)
    assert len({unit.group for unit in units.values()}) == 3
    assert sorted(units) == ["alone.rs", "new.rs", "old.rs", "other.rs"]
    assert [(drop.id, drop.reason, drop.detail) for drop in run.drops] == [
        ("vendor/a.rs", "near_meaning", "new.rs, similarity 0.995"),
    ]


def test_small_repositories_of_many_have_the_shares_on_average():
    chance = random.Random(5)
    held = Counter()
    for number in range(2000):
        rows = [round(chance.uniform(5, 15)) for _ in range(chance.randrange(1, 12))]
        groups = [LeakGroup(f"{number}/{n}", n, chance.random(), chance.random()) for n in rows]
        groups = [group._replace(id=f"{number}/{index}") for index, group in enumerate(groups)]
        splits = assign_groups(groups, recipe.SplitOptions(), needs_all=False)
        held.update({splits[group.id]: 0 for group in groups})
        for group in groups:
            held[splits[group.id]] += group.expected_rows
        largest = max((group.expected_rows for group in groups if splits[group.id] != "train"), default=0)
        assert largest <= MAX_CHANCE_SHARE * sum(rows)
    total = held.total()
    assert 0.03 < held["test"] / total < 0.06
    assert 0.07 < held["val"] / total < 0.11
