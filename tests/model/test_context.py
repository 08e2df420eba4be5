"""Tests of the composer of contexts: what it may show, in which order, and how much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import bases
import finished
from git_starcoder.dataset.held_out import Document, load_documents
from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.evals import control_mask
from git_starcoder.model.context import (
    BEGINNING_TOKENS,
    MARKER_FILE,
    MIN_EXCERPT_TOKENS,
    PIECE_TOKENS,
    ContextComposer,
    import_name,
    imported_names,
    path_words,
    piece_edges,
)
from git_starcoder.text import learned_bpe
from git_starcoder.text import tokenizer as tokenizers

SHARED = "".join(f"value_{number} = compute_{number}(ledger)\n" for number in range(60))
"""What several files say: longer than a beginning."""
TEXTS = {
    "app/ledger.py": "import os\n" + SHARED,
    "app/parcel.py": "def post(box):\n    return box\n" * 30,
    "app/sensor.py": "def read(port):\n    return port\n" * 30,
    "lib/ledger_copy.py": "import os\n" + SHARED,
    "lib/report.py": "import os\n" + SHARED[: len(SHARED) // 2] + "def draw(canvas):\n    return canvas\n" * 20,
}


def make_documents(texts, tokenizer, **groups):
    return [
        Document(
            path, "python", "core", groups.get(path.partition(".")[0].replace("/", "_"), path), 0,
            np.append(tokenizer.encode([text.encode()])[0].astype(np.int32), tokenizer.end_id),
            header=np.array(finished.encode_header(tokenizer, "project", path), dtype=np.int32),
        )
        for path, text in texts.items()
    ]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return bases.learn([text.encode() for text in TEXTS.values()], 400)


@pytest.fixture(scope="module")
def documents(tokenizer):
    return {document.path: document for document in make_documents(TEXTS, tokenizer)}


@pytest.fixture(scope="module")
def composer(documents, tokenizer):
    return ContextComposer.build(documents.values(), "training split", tokenizer)


def shown_paths(composer, header, plain):
    """The paths of the files in a header, in their order, without its own."""
    text = composer.tokenizer.decode(header).decode()
    parts = text.removeprefix("<repo_name>project").split("<file_sep>")[1:]
    assert text.endswith(composer.tokenizer.decode(plain).decode().removeprefix("<repo_name>project"))
    return [part.partition("\n")[0] for part in parts[:-1]]


def show(composer, document, budget=10_000, group=""):
    header = composer.extend_header(document.header, document.tokens, budget, group)
    return shown_paths(composer, header, document.header)


def test_the_most_similar_file_is_last_nearest_to_the_text(composer, documents):
    paths = show(composer, documents["app/ledger.py"])
    assert paths[-1] == "lib/ledger_copy.py"
    assert paths.index("lib/report.py") > paths.index("app/sensor.py")


@pytest.mark.parametrize(("imported", "named"), [("parcel", "sensor"), ("sensor", "parcel")])
def test_a_file_that_is_imported_ranks_above_one_that_is_only_named(composer, documents, imported, named):
    text = f"import app.{imported}\nname = app.{named}\n" + SHARED
    tokens = composer.tokenizer.encode([text.encode()])[0]
    paths = show(composer, replace(documents["app/ledger.py"], tokens=tokens))
    assert paths.index(f"app/{imported}.py") > paths.index(f"app/{named}.py")


def test_neither_the_file_nor_its_leak_group_is_shown(tokenizer):
    documents = make_documents(TEXTS, tokenizer, app_ledger="one", lib_ledger_copy="one")
    composer = ContextComposer.build(documents, "training split", tokenizer)
    paths = show(composer, documents[0], group="one")
    assert len(paths) == 3
    assert not {"app/ledger.py", "lib/ledger_copy.py"} & {*paths}


def test_text_after_the_beginning_changes_no_context(composer, documents):
    """Also if it imports other files, or is what another file has: the text that follows is what is predicted."""
    document = documents["lib/report.py"]
    later = composer.tokenizer.encode([b"import app.sensor\nimport app.parcel\n" + TEXTS["app/sensor.py"].encode()])[0]
    changed = np.concatenate((document.tokens[:BEGINNING_TOKENS], later))
    headers = [composer.extend_header(document.header, tokens, 300) for tokens in (document.tokens, changed)]
    assert np.array_equal(*headers)
    assert len(headers[0]) > len(document.header)
    earlier = np.concatenate((later, document.tokens))
    assert not np.array_equal(headers[0], composer.extend_header(document.header, earlier, 300))


def test_a_text_that_is_shorter_than_a_beginning_has_no_context(composer, documents):
    document = documents["app/ledger.py"]
    for text, is_extended in ((document.tokens[: BEGINNING_TOKENS - 1], False), (document.tokens, True)):
        header = composer.extend_header(document.header, text, 10_000)
        assert (len(header) > len(document.header)) == is_extended
    assert len(composer.extend_header(document.header[:0], document.tokens, 10_000)) == 0


@pytest.mark.parametrize("budget", [0, 10, MIN_EXCERPT_TOKENS + 5, 100, 200, 333, 600, 10_000])
def test_the_budget_is_kept_and_used(composer, documents, budget):
    for document in documents.values():
        header = composer.extend_header(document.header, document.tokens, budget)
        added = len(header) - len(document.header)
        assert added <= budget
        if budget > MIN_EXCERPT_TOKENS + 40:
            assert added > 0
        texts = [len(part) for part in np.split(header, np.flatnonzero(control_mask(composer.tokenizer)[header]))[2:]]
        assert all(MIN_EXCERPT_TOKENS < length <= PIECE_TOKENS + finished.MAX_HEADER_TOKENS for length in texts[:-1])


def test_what_is_shown_is_text_of_the_files_it_names(composer, documents):
    document = documents["app/ledger.py"]
    text = composer.tokenizer.decode(composer.extend_header(document.header, document.tokens, 400)).decode()
    _, *parts, own = text.split("<file_sep>")
    assert own == "app/ledger.py\n"
    assert parts
    for part in parts:
        path, _, excerpt = part.partition("\n")
        assert excerpt in TEXTS[path]


def test_the_context_does_not_depend_on_the_order_of_documents(composer, documents):
    again = ContextComposer.build(reversed(documents.values()), "training split", composer.tokenizer)
    for document in documents.values():
        headers = [each.extend_header(document.header, document.tokens, 500) for each in (composer, again)]
        assert np.array_equal(*headers)


def test_a_composer_without_files_shows_none(tokenizer, documents):
    composer = ContextComposer.build([], "training split", tokenizer)
    document = documents["app/ledger.py"]
    assert np.array_equal(composer.extend_header(document.header, document.tokens, 500), document.header)


def test_a_stored_composer_is_the_same(composer, documents, tmp_path):
    composer.save(tmp_path / "context")
    again = ContextComposer.open(tmp_path / "context", composer.tokenizer)
    assert again.contents == "training split"
    for document in documents.values():
        headers = [each.extend_header(document.header, document.tokens, 500) for each in (composer, again)]
        assert np.array_equal(*headers)


@pytest.mark.parametrize("damage", ["no marker", "cut array", "another version"])
def test_a_damaged_composer_is_refused(composer, tmp_path, damage):
    composer.save(tmp_path / "context")
    marker = tmp_path / "context" / MARKER_FILE
    if damage == "no marker":
        marker.unlink()
    elif damage == "cut array":
        np.save(tmp_path / "context" / "tokens.npy", composer.tokens[:-1])
    else:
        marker.write_text(marker.read_text().replace("context/1", "context/0"))
    with pytest.raises(DatasetError, match="files for context"):
        ContextComposer.open(tmp_path / "context", composer.tokenizer)


def test_a_tokenizer_that_cannot_separate_files_is_refused():
    plain = tokenizers.learned_tokenizer(learned_bpe.learn_bpe([b"text " * 50], ("<|endoftext|>",), 300))
    with pytest.raises(UsageError, match="separates files"):
        ContextComposer.build([], "training split", plain)


def test_context_goes_into_a_prompt_before_the_path_whatever_else_it_has(composer, documents):
    tokenizer, document = composer.tokenizer, documents["app/ledger.py"]
    prefix, middle, suffix = tokenizer.fim_ids
    before, after, end = document.tokens[:200].tolist(), document.tokens[230:260].tolist(), tokenizer.end_id
    header = document.header.tolist()
    extended = composer.extend_header(document.header, document.tokens, 300).tolist()
    assert len(extended) > len(header)
    gap = [suffix, *after, middle]
    for prompt, expected in (
        ([end, *header, *before], [end, *extended, *before]),
        ([*header, *before], [*extended, *before]),
        ([*header, prefix, *before, *gap], [*extended, prefix, *before, *gap]),
        ([*header, prefix, *gap, *before], [*extended, prefix, *gap, *before]),
    ):
        assert composer.extend_prompt(np.array(prompt), 300).tolist() == expected
    for prompt in (
        [end, *before], [*before], [prefix, *before, *gap], [*header], header[:3],
        [*header, *before[: BEGINNING_TOKENS - 1]],
        [*header, prefix, *before[: BEGINNING_TOKENS - 1], suffix, *before, middle],
    ):  # fmt: skip
        assert composer.extend_prompt(np.array(prompt), 300).tolist() == prompt


def test_pieces_end_at_line_breaks_where_there_are_any():
    is_break = np.zeros(3 * PIECE_TOKENS, dtype=bool)
    assert piece_edges(is_break) == [0, PIECE_TOKENS, 2 * PIECE_TOKENS, 3 * PIECE_TOKENS]
    is_break[[PIECE_TOKENS // 4, PIECE_TOKENS - 10, 2 * PIECE_TOKENS - 20]] = True
    edges = piece_edges(is_break)
    assert edges[:3] == [0, PIECE_TOKENS - 9, 2 * PIECE_TOKENS - 19]
    assert edges[-1] == len(is_break)
    assert piece_edges(is_break[:0]) == [0]


def test_names_of_imports_are_found_in_any_language():
    for line, name in (
        ("from app.parcel import box", b"parcel"), ("use crate::walk::Job;", b"walk"), ("mod walk;", b"walk"),
        ('#include "uv-common.h"', b"uv-common"), ("const x = require('./lib/utils')", b"utils"),
        ('import { z } from "./helpers/parse.js";', b"parse"), ('\t"github.com/x/binding"', b"binding"),
    ):  # fmt: skip
        assert name in imported_names(f"text = parcel2\n{line}\n".encode())
    assert not imported_names(b"walk = parse(utils)\n")
    for path, name in (
        ("src/app/parcel.py", b"parcel"), ("src/walk/mod.rs", b"walk"), ("src/a.test.ts", b"a"), ("index.js", b"index"),
    ):  # fmt: skip
        assert import_name(path) == name
    assert {b"walkTree", b"walk", b"Tree", b"HTTP", b"src"} <= path_words("src/walkTree_HTTP.rs") | {b"walkTree"}


def test_documents_in_parts_are_one_file(tmp_path):
    dataset = finished.write(tmp_path / "dataset", {"train": {path: text.encode() for path, text in TEXTS.items()}})
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    whole = load_documents(dataset, "train")[0]
    parts = [replace(whole, tokens=whole.tokens[:300]), replace(whole, start=400, tokens=whole.tokens[400:])]
    composer = ContextComposer.build(parts, "training split", tokenizer)
    assert composer.paths == (whole.path,)
    assert composer.piece_starts[-1] == len(whole.tokens) - 101


def test_replaced_files_are_those_of_a_composer_that_is_made_anew(tokenizer, documents):
    composer = ContextComposer.build(documents.values(), "repository", tokenizer)
    changed = {"lib/zebra.py": TEXTS["app/parcel.py"] * 2, "lib/report.py": TEXTS["app/sensor.py"], "empty.py": ""}
    new = make_documents(changed, tokenizer)
    gone = {"app/sensor.py", "lib/report.py", "never/there.py"}
    replaced = composer.replace_files(gone, new)
    kept = [document for path, document in documents.items() if path not in gone]
    anew = ContextComposer.build([*kept, *new], "repository", tokenizer)
    assert {*replaced.paths} == {*anew.paths}
    for name in ("tokens", "words"):
        assert np.array_equal(np.sort(getattr(replaced, name)), np.sort(getattr(anew, name)))
    for document in (*kept, *new[:2]):
        for budget in (60, 200, 2000):
            shown = [each.extend_header(document.header, document.tokens, budget) for each in (replaced, anew)]
            assert sorted(shown[0].tolist()) == sorted(shown[1].tolist())
    back = replaced.replace_files({*changed}, [documents[path] for path in gone & documents.keys()])
    assert {*back.paths} == {*TEXTS}


def test_replacing_nothing_changes_nothing(tokenizer, documents):
    composer = ContextComposer.build(documents.values(), "repository", tokenizer)
    same = composer.replace_files(set(), [])
    for name in ("tokens", "piece_starts", "file_starts", "words", "word_pieces"):
        assert np.array_equal(getattr(same, name), getattr(composer, name))
    assert composer.replace_files({*TEXTS}, []).paths == ()
