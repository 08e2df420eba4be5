"""A trained model, asked all there is to ask, and what is kept of its answers."""

from __future__ import annotations

import json
import shutil
from math import inf

import numpy as np
import pytest

import finished
from git_starcoder.errors import DatasetError
from git_starcoder.evals import MEASURE_UNITS, Score, bits_per_byte
from git_starcoder.evals.compressors import PPM, PPM_GOING_ON, XZ
from git_starcoder.model import architecture, loading
from git_starcoder.model import evaluate as evaluation
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.evaluate import Scores, evaluate, format_scores, save_scores
from git_starcoder.model.training import train

TOY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["whole", "filling"])
def trained(request, dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    values = {"size": "toy", "batch": 1024, "device": "cpu", "precision": "float32", "steps": 40}
    train(dataset, folder, TrainConfig(**values, fim=request.param))
    return folder


@pytest.fixture(scope="module")
def scores(dataset, trained):
    return evaluate(trained, dataset)


def filled(trained):
    return bool(loading.read_training_record(trained)["config"]["fim"])


def test_a_model_without_a_memory_is_scored_alone(dataset, trained, scores, tmp_path):
    alone = shutil.copytree(trained, tmp_path / "alone")
    shutil.rmtree(alone / "memory")
    found = evaluate(alone, dataset)
    without = [score for score in scores.scores if "memory" not in score.subject]
    assert [(score.subject, score.measure, score.value) for score in found.scores] == [
        (score.subject, score.measure, score.value) for score in without
    ]


def test_every_measure_has_its_references_and_its_files(trained, scores):
    wanted = (
        dict.fromkeys(MEASURE_UNITS) if filled(trained) else [name for name in MEASURE_UNITS if "middle" not in name]
    )
    for measure in wanted:
        of = [score for score in scores.scores if score.measure == measure and not score.by]
        assert of[0].subject == "network"
        assert len({score.over for score in of}) == 1
        models = ["network", "memory", "network and memory"]
        assert [score.subject for score in of][: len(models)] == models
        assert len(of) == len(models) + {"bits per byte": 4}.get(measure, 2 if "next" in measure else 1)
        assert {(score.files, score.groups) for score in of} == {(2, 2)}
    assert [measure for measure in MEASURE_UNITS if measure not in {score.measure for score in scores.scores}] == [
        name for name in MEASURE_UNITS if name not in wanted
    ]
    assert {(score.by, score.group) for score in scores.scores} == {
        ("", ""), ("kind", "base"), ("language", "python"), ("role", "core"),
    }  # fmt: skip
    value, group = (
        next(score for score in scores.scores if score.measure == "bits per byte" and score.by == by)
        for by in ("", "language")
    )
    assert (value.value, value.over) == (group.value, group.over)


def test_a_model_that_was_not_shown_how_is_not_asked_to_fill_in(trained, scores):
    assert list(scores.skipped) == ([] if filled(trained) else ["fill_in_the_middle"])
    assert ("no fill in the middle: the model was not trained to" in format_scores(scores)) != filled(trained)


def test_a_model_that_was_shown_how_is_asked(trained, scores):
    found = [score for score in scores.scores if score.eval == "fill_in_the_middle"]
    assert [score.over for score in found] == ([100] * 6 if filled(trained) else [])
    if found:  # these few steps teach it the form and hardly more
        exact, similar = found[:2]
        assert exact.value <= similar.value
        assert similar.value > 0.1


def test_the_table_has_a_part_for_each_measure_and_group(scores):
    text = format_scores(scores)
    heads = [line for line in text.splitlines() if not line.startswith("  ")]
    assert heads[0].startswith("bits per byte (lower is better; ")
    assert (
        f"per token of the tokenizer {scores.tokenizer['digest'][:8]} with {scores.tokenizer['entries']} entries, "
        in text
    )
    for by in ("kind of row", "language", "role"):
        assert f"bits per byte by {by} (network)" in heads
    assert "2 files, few" in text
    assert heads[-1].startswith("A to B: the 95 % confidence interval over groups of files")
    lines = text.splitlines()
    titles = [place for place, line in enumerate(lines) if line.startswith("bits as a share of those of")]
    references = [lines[place].split("'")[1] for place in titles]
    assert references == ["untrained network", XZ, PPM, PPM_GOING_ON, "network", "memory"]
    assert [lines[place + 1].split()[0] for place in titles[:4]] == ["network"] * 4
    assert max(map(len, text.splitlines())) < 150


def test_the_bits_of_each_file_are_kept_and_add_up(scores):
    documents = scores.as_values()["documents"]
    assert documents["path"] == ["src/file_23.py", "src/file_24.py"]
    assert documents["group"] == ["group of src/file_23.py", "group of src/file_24.py"]
    assert documents["start"] == [0, 0]
    for score in scores.scores:
        if score.measure == "bits per byte" and not score.by:
            bits = documents["bits"][score.subject]
            assert len(bits) == 2
            assert sum(bits) == pytest.approx(score.value * score.over, abs=0.2)
    for each in scores.comparisons:
        below, above = (sum(documents["bits"][name]) for name in (each.reference, each.subject))
        assert each.ratio == pytest.approx(above / below, rel=1e-3)
        assert each.low <= each.ratio <= each.high


def test_the_text_that_is_scored_does_not_depend_on_the_seed(dataset, trained, scores, monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_HELD_OUT_TOKENS", 1050)
    first, second = (evaluate(trained, dataset, seed=seed) for seed in (0, 1))
    assert first.as_values()["documents"]["tokens"] != scores.as_values()["documents"]["tokens"]
    keys = [key for key in first.as_values()["documents"] if key != "bits"]
    for key in keys:
        assert first.as_values()["documents"][key] == second.as_values()["documents"][key]
    values = [
        [(score.value, score.over) for score in each.scores if score.subject != "untrained network"]
        for each in (first, second)
    ]
    assert values[0] == values[1]
    assert [score.value for score in first.scores] != [score.value for score in second.scores]


def test_scores_are_kept_beside_the_model_whole_or_not_at_all(dataset, scores, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    assert not save_scores(scores, folder)
    assert list(folder.iterdir()) == []
    (folder / "training.json").write_text('{"schema": "git-starcoder/model/1"}')
    assert save_scores(scores, folder)
    values = json.loads((folder / "scores.json").read_text())
    assert values == json.loads(json.dumps({"schema": "git-starcoder/scores/2", **scores.as_values()}))
    assert values["dataset"] == dataset.digest
    assert (folder / "scores.json").stat().st_mode & 0o777 == folder.stat().st_mode & 0o666
    assert save_scores(scores, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["scores.json", "training.json"]
    (folder / "scores.json").unlink()
    (folder / "scores.json").mkdir()
    assert not save_scores(scores, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["scores.json", "training.json"]


def test_less_of_everything_is_asked_where_time_is_short(dataset, trained, scores, monkeypatch):
    monkeypatch.setattr(evaluation, "MIN_HELD_OUT_TOKENS", 300)
    ample, short = (evaluate(trained, dataset, seconds=seconds).scores for seconds in (1e6, 0.0))
    assert ample == scores.scores
    of = {(score.eval, score.by): score.over for score in short}
    every = {(score.eval, score.by): score.over for score in scores.scores}
    assert of["next_line", ""] == evaluation.MIN_TASKS < every["next_line", ""]
    assert of["kinds", "kind"] < every["kinds", "kind"]
    if filled(trained):
        assert of["fill_in_the_middle", ""] == evaluation.MIN_TASKS < every["fill_in_the_middle", ""]


def test_groups_with_few_files_are_shown_with_their_counts():
    score = Score("kinds", "bits per byte", "network", 2.0, None, None, 1, 1, 12_345, "1 of 9 rows", "kind", "git_diff")
    some = score._replace(low=1.5, high=2.5, files=7, groups=5, over=99_999, group="base")
    about = {"digest": "0" * 32, "entries": 9, "bytes_per_token": 2.0}
    lines = format_scores(Scores("test", 8, 8, True, "digest", about, (score, some), (), (), {})).splitlines()
    assert " ".join(lines[1].split()) == "base 2.000 1.500 to 2.500 99,999 bytes, 7 files, 1 of 9 rows"
    assert " ".join(lines[2].split()) == "git_diff 2.000 12,345 bytes, 1 file, few, 1 of 9 rows"


def test_predictions_that_are_not_numbers_are_one_line(dataset, trained, monkeypatch):
    bits = [np.array([inf]), np.array([1.0])]
    monkeypatch.setattr(bits_per_byte, "document_token_bits", lambda *_, **__: bits)
    monkeypatch.setattr(bits_per_byte, "identifier_shares", lambda _: None)
    with pytest.raises(DatasetError, match="not numbers"):
        evaluate(trained, dataset)


def test_an_untrained_network_borrows_the_memory_of_the_trained_one(trained, monkeypatch):
    network, _ = loading.load_model(trained)
    torch = network.torch
    before = {name: weight.detach().clone() for name, weight in network.model.named_parameters()}
    tokens = [np.arange(3, 60) * 5 % 400]
    own = network.sequence_bits(tokens, [1])[0]
    held = []
    load, make = architecture.load_weights, architecture._model_from_config

    def watch(function):
        def call(*given, **options):
            held.append(sum(weight.numel() for weight in network.model.parameters()))
            return function(*given, **options)

        return call

    monkeypatch.setattr(architecture, "load_weights", watch(load))
    monkeypatch.setattr(architecture, "_model_from_config", watch(make))
    untrained = architecture.UntrainedNetwork(network, trained, 0)
    found, again = (untrained.sequence_bits(tokens, [1])[0] for _ in range(2))
    assert held == [0] * 4  # whenever weights are made, the network has none
    assert np.array_equal(found, again)
    assert np.abs(found - np.log2(network.vocab_size)).mean() < 1 < np.abs(found - own).mean()
    assert all(torch.equal(weight, before[name]) for name, weight in network.model.named_parameters())
    assert np.array_equal(network.sequence_bits(tokens, [1])[0], own)
