"""The threshold is chosen on held-out lines, and stored with the model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from git_starcoder.cli import main
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.model.loading import SERVING_FILE
from git_starcoder.serve import confidence
from git_starcoder.serve.confidence import choose_threshold, first_word, held_out_places, read_serving, threshold_of
from git_starcoder.serve.words import WordEnd
from git_starcoder.text.tokenizer import load_tokenizer


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def test_it_is_the_lowest_one_that_is_right_often_enough():
    outcomes = [(number / 100, number >= 60 or number % 10 == 0) for number in range(100)]
    choice = threshold_of(outcomes)
    lower = [is_right for value, is_right in outcomes if value >= choice.threshold - 0.011]
    assert choice.precision == sum(right for value, right in outcomes if value >= choice.threshold) / choice.shown
    assert choice.precision >= confidence.WANTED_PRECISION > sum(lower) / len(lower)
    assert choice.places == 100


def test_where_none_is_right_often_enough_it_is_the_best_one():
    outcomes = [(number / 100, number >= 60 and number % 4 == 0) for number in range(100)]
    choice = threshold_of(outcomes)
    assert 0.55 <= choice.threshold <= 0.9
    assert choice.precision == pytest.approx(0.25, abs=0.05)
    assert choice.shown >= confidence.MIN_SHOWN


def test_equal_confidences_are_all_shown_or_none():
    choice = threshold_of([(0.9, True)] * 30 + [(0.5, False)] * 60)
    assert (choice.threshold, choice.shown, choice.precision) == (0.9, 30, 1)


def test_a_completion_counts_from_its_first_word_on():
    def found(text, *ends, confidence=0.1):
        return SimpleNamespace(text=text, ends=[WordEnd(*end) for end in ends], confidence=confidence)

    assert first_word(found("return size(x)", (6, 0.9), (12, 0.4)), "return None") == (0.9, True)
    assert first_word(found("return size(x)", (6, 0.9), (12, 0.4)), "returned") == (0.9, False)
    assert first_word(found("size", confidence=0.3), "size") == (0.3, True)
    assert first_word(found(""), "size") == (0.0, False)


def test_the_layout_that_saves_more_is_chosen(folder, dataset, monkeypatch):
    """An engine that is right only with, or only without the text after the cursor."""
    engine_type = __import__("git_starcoder.serve.engine", fromlist=["Engine"]).Engine
    right = {}

    def complete(self, cursor, _):
        text = right["lines"][cursor.prefix] if self.model.fills_gaps is right["reads_suffix"] else "wrong"
        return SimpleNamespace(text=text, ends=[], confidence=0.5, cut_at=lambda threshold: text * (threshold <= 0.5))

    monkeypatch.setattr(engine_type, "complete", complete)
    places = held_out_places(folder, dataset, load_tokenizer(folder))
    right["lines"] = {place.cursor.prefix: place.line for place in places}
    for right["reads_suffix"] in (True, False):
        choice = choose_threshold(folder, dataset)
        assert (choice.reads_suffix, choice.threshold) == (right["reads_suffix"], 0.5)
        assert read_serving(folder).reads_suffix is right["reads_suffix"]


def test_lines_that_training_knows_are_no_places(folder, dataset, monkeypatch):
    (document, *_) = load_documents(dataset, "val")
    tokenizer = load_tokenizer(folder)
    text = tokenizer.decode(document.tokens[:-1]).decode()
    half = len(text) // 2
    read = tokenizer.encode([text[:half].encode()])[0]
    scored = tokenizer.encode([text[half:].encode()])[0]
    tokens = np.concatenate((read, scored)).astype(np.int32)
    part = replace(document, tokens=tokens, context_length=len(read))
    monkeypatch.setattr(confidence, "load_documents", lambda *_: [part])
    places = list(held_out_places(folder, dataset, tokenizer))
    assert places
    assert all(place.cursor.prefix.count("\n") > text[:half].count("\n") for place in places)


def test_no_threshold_is_so_low_that_most_of_what_follows_the_first_word_is_wrong():
    outcomes = [(number / 1000, True) for number in range(1000)]
    assert threshold_of(outcomes).threshold == confidence.MIN_THRESHOLD
    assert threshold_of(outcomes[:50]).threshold == 0.04


def test_too_few_places_choose_nothing():
    assert threshold_of([(1.0, True)] * (confidence.MIN_SHOWN - 1)) is None


def test_places_are_in_the_val_split_and_hide_the_line(folder, dataset):
    tokenizer = load_tokenizer(folder)
    texts = {each.path: tokenizer.decode(each.tokens[:-1]).decode() for each in load_documents(dataset, "val")}
    places = list(held_out_places(folder, dataset, tokenizer))
    assert len(places) > confidence.MIN_SHOWN
    for place in places:
        text = texts[place.cursor.path]
        assert place.cursor.prefix + place.line + place.cursor.suffix == text
        assert place.line.strip()
        assert "\n" not in place.line
    assert {place.cursor.prefix[-1] in " \n" for place in places} == {True, False}
    assert places == list(held_out_places(folder, dataset, tokenizer))


def test_the_command_stores_what_the_server_uses(folder, dataset, capsys, monkeypatch):
    monkeypatch.setattr(confidence, "PLACES", 12)
    assert main(["serve", str(folder), "--calibrate", str(dataset.folder), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    stored = json.loads((folder / SERVING_FILE).read_text())
    assert stored["threshold"] == answer["threshold"] == read_serving(folder).threshold
    assert stored["reads_suffix"] is read_serving(folder).reads_suffix
    assert stored["places"] == 12
    assert stored["dataset"] == dataset.digest


def test_no_score_comes_from_the_memory_of_the_repository(folder, dataset, monkeypatch):
    held = []
    engine_type = __import__("git_starcoder.serve.engine", fromlist=["Engine"]).Engine
    complete = engine_type.complete

    def spy(self, *arguments, **options):
        held.append((self.model.memory.contents, self.model.network.composer.contents))
        return complete(self, *arguments, **options)

    monkeypatch.setattr(engine_type, "complete", spy)
    monkeypatch.setattr(confidence, "PLACES", 10)
    assert choose_threshold(folder, dataset) is not None
    assert {*held} == {("training split", "training split")}


def test_without_time_nothing_is_chosen(folder, dataset):
    assert choose_threshold(folder, dataset, seconds=0) is None
    assert not (folder / SERVING_FILE).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other/1", "threshold": 0.9}', '{"schema": "git-starcoder/serving/1"}',
                                  '{"schema": "git-starcoder/serving/1", "threshold": 7}'])  # fmt: skip
def test_a_file_that_is_not_ours_is_ignored(tmp_path, text):
    (tmp_path / SERVING_FILE).write_text(text)
    assert read_serving(tmp_path) == (confidence.DEFAULT_THRESHOLD, True)
