"""What the newest commits added is held out: new files and added lines, without what training knows."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from git_starcoder.build_state import BuildState
from git_starcoder.checks import check
from git_starcoder.dataset import Dataset
from git_starcoder.dataset.held_out import draw_documents, load_documents, load_repository
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import RecipeError, RepositoryError
from git_starcoder.git.objects import Repo
from git_starcoder.hashing.known_lines import KnownLines
from git_starcoder.hashing.texts import HashedLines
from git_starcoder.pipeline import build, read_and_split
from git_starcoder.recipe import Recipe
from git_starcoder.records import Span
from git_starcoder.stages import newest_commits
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.diff import find_added_lines
from spoilings import Folder
from toy import code_base

SETTINGS = ("split.holdout=commits", "window.vocab_size=600", "window.size=64", "window.header=toy")
PAST = code_base(28)
CHANGED, RENAMED, EDITED, DELETED, MIXED, PASTED, REWRITTEN, *_ = sorted(
    path for path in PAST if path.endswith((".py", ".rs"))
)
LINES = PAST[CHANGED].split("\n")
NEW = "\n".join(f"    quantity_{n} = measure_{n * 7}(sample, {n * 31}, 'mode {n}')" for n in range(9)) + "\n"
MOVED = "\n".join(PAST[EDITED].split("\n")[2:12]) + "\n"
ADDED = "def first_addition(left, right):\n    return left * 17 + right // 23\n"
TAIL = "\nfinal_addition = [element ** 5 for element in range(71)]\n"
CHANGES = "\n".join(f"rewritten_{n} = {line!r}" for n, line in enumerate(PAST[REWRITTEN].split("\n"))) + "\n"
LATER = [
    {REWRITTEN: CHANGES, CHANGED: "\n".join((*LINES[:3], ADDED, *LINES[3:])) + TAIL},
    {
        "src/brand_new.py": NEW,
        "src/copied.py": PAST[EDITED],
        MIXED: PAST[MIXED] + "\n" + MOVED + "unseen_constant = compute_something(4711, 'unseen')\n",
        PASTED: PAST[PASTED] + "\n" + MOVED,
        "src/blank.py": "\n",
        RENAMED: None,
        "src/renamed.py": PAST[RENAMED] + TAIL.replace("final", "renamed"),
        DELETED: None,
        "data.bin": b"\0\1\2",
    },
]


@pytest.fixture(scope="module")
def repository(repo_maker):
    return Repo.open(repo_maker([PAST, *LATER]))


@pytest.fixture(scope="module")
def dataset(repository, tmp_path_factory):
    recipe = Recipe.load("natural", (*SETTINGS, "split.commits=2"))
    with LocalEngine(1) as engine:
        return build(repository, recipe, tmp_path_factory.mktemp("commits") / "out", engine=engine)


def held_out_texts(dataset):
    """For each held-out file the text that is scored, of all its documents."""
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    texts = {}
    for split in ("val", "test"):
        for document in load_documents(dataset, split):
            data = tokenizer.decode(document.scored[document.scored != tokenizer.end_id]).decode()
            texts[document.path] = texts.get(document.path, "") + data
    return texts


def test_added_lines_and_new_files_are_held_out_and_old_text_is_not(dataset):
    texts = held_out_texts(dataset)
    assert sorted(texts) == sorted([CHANGED, REWRITTEN, "src/brand_new.py", MIXED, "src/renamed.py"])
    # Its last row may have too few tokens, and be dropped.
    assert NEW.startswith(texts["src/brand_new.py"])
    assert len(NEW) - len(texts["src/brand_new.py"]) < 16
    # A token at an edge may reach into the next line: what is scored begins in the added lines.
    assert [line.strip() for line in texts[CHANGED].split("\n") if line.strip()] == (
        [line.strip() for line in (ADDED + TAIL).split("\n") if line.strip()]
    )
    # Its last row has too few tokens and is dropped.
    assert TAIL.replace("final", "renamed").strip().startswith(texts["src/renamed.py"].strip())
    assert texts["src/renamed.py"].strip().startswith("renamed_addition = [")
    assert texts[MIXED].strip() == "unseen_constant = compute_something(4711, 'unseen')"


def test_a_file_of_which_each_line_was_changed_says_so(dataset):
    """Its past version is in training, so it is not held out as a file."""
    rows = [row for split in ("val", "test") for row in dataset.row_metadata(split)]
    assert all("scored" in row for row in rows if row["source_file"] == REWRITTEN)
    assert not any("scored" in row for row in rows if row["source_file"] == "src/brand_new.py")
    assert REWRITTEN in {row["source_file"] for row in rows}


def test_training_sees_the_past_commit_and_nothing_else(dataset, repository):
    past = Repo.open(repository.path, dataset.manifest["past_commit"])
    blobs = {entry.path: entry.blob for entry in past.entries()}
    rows = list(dataset.row_metadata("train"))
    assert {row["source_file"]: row["blob"] for row in rows} == blobs
    assert all("scored" not in row for row in rows)
    assert past.commit == Repo.open(repository.path, "HEAD~2").commit


def test_every_step_adds_up_and_says_why_something_was_dropped(dataset):
    steps = {step["step"]: step for step in dataset.manifest["steps"]}
    assert all(step["seen"] == step["kept"] + sum(step["dropped"].values()) for step in steps.values())
    assert steps["split"]["dropped"] == {"known_lines": 1, "near_past": 1}
    assert steps["read"]["dropped"] == {"binary": 1, "empty": 1}
    figures = steps["split"]["figures"]
    parts = ("lines_held_out", "lines_known", "lines_near_past")
    assert figures["lines_added"] == sum(figures[part] for part in parts)
    assert figures["lines_near_past"] == len(PAST[EDITED].splitlines())
    drops = map(json.loads, (dataset.folder / "drops.jsonl").read_text().splitlines())
    because = {drop["id"]: (drop["reason"], drop["because"]) for drop in drops if drop["step"] == "split"}
    assert because["src/copied.py"] == ("near_past", EDITED)
    assert because[PASTED][0] == "known_lines"


def test_the_text_before_a_held_out_line_is_read_and_not_scored(dataset):
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    documents = [each for split in ("val", "test") for each in load_documents(dataset, split) if each.path == CHANGED]
    first = min(documents, key=lambda each: each.context_length)
    assert first.start == 0
    before = tokenizer.decode(first.tokens[: first.context_length]).decode()
    assert before.split("\n")[:3] == LINES[:3]
    assert b"toy" in tokenizer.decode(first.header)
    drawn = draw_documents(documents, 6)
    assert sum(len(each.scored) for each in drawn) == 6
    whole = {each.start + each.context_length: each for each in documents}
    for piece in drawn:
        start = piece.start + piece.context_length
        owner = whole[max(place for place in whole if place <= start)]
        shift = start - owner.start
        assert piece.scored.tolist() == owner.tokens[shift : shift + len(piece.scored)].tolist()


def test_a_model_in_use_knows_the_newest_version_of_each_file(dataset):
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    texts = Counter()
    for document in load_repository(dataset):
        texts[document.path] += 1
        if document.path == CHANGED:
            assert b"final_addition" in tokenizer.decode(document.tokens)
    assert texts[CHANGED] == 1
    assert "src/brand_new.py" in texts


def test_the_checks_pass_with_and_without_the_repository(dataset, repository):
    for source in (repository, None):
        found = {each.check: each.findings for each in check(dataset, source) if each.finding_count}
        assert found == {}
    [lines] = [each for each in check(dataset) if each.check == "held_out_lines"]
    assert lines.certificate["in_runs"] == 0
    assert lines.certificate["lines"] > 0


def spoiled(dataset, tmp_path):
    import shutil

    return Folder(shutil.copytree(dataset.folder, tmp_path / "spoiled"))


def broken(folder, source=None):
    return {each.check for each in check(Dataset.open(folder.path), source) if each.finding_count}


def test_held_out_text_in_a_training_row_is_found(dataset, tmp_path):
    folder = spoiled(dataset, tmp_path)
    split, rows = next(
        (split, rows) for split in ("val", "test") for rows in [folder.rows(split)]
        if any(row["metadata"]["source_file"] == "src/brand_new.py" for row in rows)
    )  # fmt: skip
    del split
    leaked = [row for row in rows if row["metadata"]["source_file"] == "src/brand_new.py"]
    for row in leaked:
        row["metadata"] |= {"source_file": "src/else.py", "group": "0" * 32, "sample": "1" * 32}
    folder.write([*folder.rows(), *leaked])
    folder.recount()
    folder.sign()
    assert "held_out_lines" in broken(folder)


def test_a_training_row_of_a_later_commit_is_found(dataset, repository, tmp_path):
    folder = spoiled(dataset, tmp_path)
    rows = folder.rows()
    rows[0]["metadata"]["commit"] = repository.commit
    for row in rows[1:]:
        if row["metadata"]["sample"] == rows[0]["metadata"]["sample"]:
            row["metadata"]["commit"] = repository.commit
    folder.write(rows)
    folder.sign()
    assert "commits" in broken(folder, repository)


def test_labels_are_those_of_the_added_lines(repository, tmp_path):
    recipe = Recipe.load("natural", (*SETTINGS, "split.commits=2", "write.labels=true"))
    with LocalEngine(1) as engine:
        dataset = build(repository, recipe, tmp_path / "out", engine=engine)
    assert not [each.findings for each in check(dataset) if each.finding_count]
    labelled = [
        (row.metadata["scored"], labels["labels"])
        for split in ("val", "test")
        for row, labels in dataset.rows_with_labels(split)
        if "scored" in row.metadata
    ]
    assert labelled
    for scored, labels in labelled:
        inside = {place for start, stop in zip(scored[::2], scored[1::2], strict=True) for place in range(start, stop)}
        assert {place for place, label in enumerate(labels) if label != -100} == inside


def test_parquet_says_the_same_as_json_lines(dataset, repository, tmp_path):
    recipe = Recipe.load("natural", (*SETTINGS, "split.commits=2", "write.format=parquet", "write.labels=true"))
    with LocalEngine(1) as engine:
        other = build(repository, recipe, tmp_path / "out", engine=engine)
    assert not [each.findings for each in check(other, repository) if each.finding_count]
    for split in ("train", "val", "test"):
        left, right = ([(row.metadata["row_id"], row.metadata.get("scored")) for row in each.rows(split)]
                       for each in (dataset, other))  # fmt: skip
        assert left == right


def test_the_dataset_has_the_same_bytes_whatever_the_jobs(dataset, repository, tmp_path):
    recipe = Recipe.load("natural", (*SETTINGS, "split.commits=2"))
    with LocalEngine(2) as engine:
        assert build(repository, recipe, tmp_path / "out", engine=engine).digest == dataset.digest


def test_with_none_everything_trains(repository, tmp_path):
    recipe = Recipe.load("natural", ("split.holdout=none", *SETTINGS[1:]))
    with LocalEngine(1) as engine:
        dataset = build(repository, recipe, tmp_path / "out", engine=engine)
    counts = [dataset.metadata[f"{split}_sequences"] for split in ("train", "val", "test")]
    assert counts[0] > 0
    assert counts[1:] == [0, 0]
    assert not [each.findings for each in check(dataset, repository) if each.finding_count]
    assert "src/brand_new.py" in {row["source_file"] for row in dataset.row_metadata("train")}
    folder = spoiled(dataset, tmp_path)
    rows = folder.rows()
    folder.write(rows[:-1])
    folder.write(rows[-1:], "val")
    folder.recount()
    folder.sign()
    assert "split_ratio" in broken(folder)


def test_the_number_of_commits_is_chosen_by_the_lines_that_they_added(repo_maker):
    """28 files, then commits that add 5 % each: about 15 % are held out."""
    size = sum(text.count("\n") for text in PAST.values()) // 20
    commits = [{f"later/part_{n}.py": "".join(f"value_{n}_{k} = {k}\n" for k in range(size))} for n in range(9)]
    repo = Repo.open(repo_maker([PAST, *commits]))
    recipe = newest_commits.resolve_commits(Recipe.load("natural", ("split.holdout=commits",)), repo)
    assert recipe.split.commits == round(0.15 * (20 + 9))
    assert newest_commits.open_past(recipe, repo).commit == Repo.open(repo.path, f"HEAD~{recipe.split.commits}").commit


def test_too_few_commits_are_one_clear_error(repo_maker):
    repo = Repo.open(repo_maker({"a.py": "x = 1\n"}))
    wanted = Recipe.load("natural", ("split.holdout=commits",))
    with pytest.raises(RepositoryError, match="only one commit"):
        newest_commits.resolve_commits(wanted, repo)
    with pytest.raises(RepositoryError, match="the main line has 1 commits, so 5"):
        newest_commits.open_past(Recipe.load("natural", ("split.holdout=commits", "split.commits=5")), repo)
    with pytest.raises(RecipeError, match="commits can be set only if"):
        Recipe.load("natural", ("split.commits=5",))


def test_a_file_whose_past_version_was_not_read_is_dropped(repo_maker, tmp_path):
    repo = Repo.open(repo_maker([PAST | {"page.py": "x = 1\n" * 30_000}, {"page.py": "y = 2\n"}]))
    recipe = Recipe.load("natural", (*SETTINGS, "split.commits=1", "read.max_bytes=100000"))
    with LocalEngine(1) as engine, BuildState(tmp_path, 0, engine) as state:
        units, _ = read_and_split(state, recipe, repo, newest_commits.open_past(recipe, repo))
    assert state.steps[0].dropped == {"too_large": 1, "past_unread": 1}
    assert {unit.split for unit in units} == {"train"}


@pytest.mark.parametrize(
    ("before", "after", "added"),
    [
        (b"a\nb\nc\n", b"a\nx\ny\nc\n", [b"x\ny\n"]),
        (b"", b"all\nof it\n", [b"all\nof it\n"]),
        (b"a\n", b"a\nb", [b"b"]),
        (b"a\nb\n", b"a\n", []),
        (b"a\n\n\nb\n", b"new\na\n\nmiddle\n\nb\nend\n", [b"new\n", b"middle\n", b"end\n"]),
    ],
)
def test_added_lines_are_those_that_are_not_there_before(before, after, added):
    assert [after[start:stop] for start, stop in find_added_lines(before, after)] == added


def test_a_run_of_known_lines_takes_the_short_lines_beside_it_and_no_single_line_is_one():
    past = [b"alpha_value = compute(1)\nbeta_value = compute(2)\ngamma_value = compute(3)\n"]
    lines = [b"unknown_thing = 5 + 19\n", b"{\n", b"alpha_value = compute(1)\n", b"}\n", b"beta_value = compute(2)\n",
             b"gamma_value = compute(3)\n", b"}\n", b"other_thing = 7 * 31\n", b"beta_value = compute(2)\n"]  # fmt: skip
    hashed = HashedLines.from_texts(lines)
    known = KnownLines.find(hashed, [HashedLines.from_texts(past)])
    assert known.mark(hashed) == [False, None, True, None, True, True, None, False, True]
    assert known.mark_runs(hashed) == [False, True, True, True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("between", "scored"),
    [(b"\n    }\n", []), (b"    unchanged_line(of, this, file)\n", [b"gamma_value = compute(3)\n"])],
)
def test_short_unchanged_lines_do_not_end_a_run_of_moved_lines(between, scored):
    past = [b"alpha_value = compute(1)\nbeta_value = compute(2)\ngamma_value = compute(3)\n"]
    first, second = b"alpha_value = compute(1)\nbeta_value = compute(2)\n", b"gamma_value = compute(3)\n"
    text = b"head\n" + first + between + second
    start = text.index(second)
    stretches = newest_commits._find_stretches(text, [Span(5, 5 + len(first)), Span(start, len(text))])
    known = KnownLines.of(HashedLines.from_texts(past))
    spans, count = newest_commits._scored_spans(stretches, known)
    assert sum(each.is_added.count(True) for each in stretches) == 3
    if not scored:
        assert (spans, count) == ([], 0)
    else:
        assert [text[each.start : each.stop] for each in spans] == [first, *scored]
        assert count == 3


def test_a_list_of_files_is_no_copy_of_the_headers_of_these_files(repo_maker, tmp_path):
    paths = sorted(path for path in PAST if path.endswith((".py", ".rs")))[:5]
    listed = "".join(f"- {path}\n" for path in paths)
    repo = Repo.open(repo_maker([PAST, {"docs/files.md": f"These are tested by hand today:\n{listed}"}]))
    recipe = Recipe.load("natural", (*SETTINGS, "split.commits=1"))
    with LocalEngine(1) as engine:
        dataset = build(repo, recipe, tmp_path / "out", engine=engine)
    assert held_out_texts(dataset)["docs/files.md"].count("- ") == len(paths)
    assert not [each.findings for each in check(dataset, repo) if each.finding_count]
    [lines] = [each for each in check(dataset, repo) if each.check == "held_out_lines"]
    assert lines.figure.startswith("training knows 0 of 6 lines")
