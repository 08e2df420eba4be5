from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from math import exp, log2

import numpy as np
import pytest

import finished
from git_starcoder.dataset import Dataset
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import DatasetError, MissingExtraError, OutputError, StarcoderError, UsageError
from git_starcoder.git.objects import Repo
from git_starcoder.installation import install_command
from git_starcoder.model import evaluate as evaluation
from git_starcoder.model import loading, training
from git_starcoder.model.complete import find_completion_example
from git_starcoder.model.config import TrainConfig, own_base_rate
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.evaluate import evaluate, format_scores
from git_starcoder.model.plan import budget_steps
from git_starcoder.model.training import train
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.text.tokenizer import load_tokenizer
from toy import code_base

TOY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


def toy(**values):
    return TrainConfig(**{"size": "toy", "batch": 1024, "device": "cpu", "precision": "float32", **values})


class Notes:
    def __init__(self):
        self.lines = []
        self.done = self.total = 0

    def begin(self, step, total):  # noqa: ARG002
        self.total = total

    def advance(self, count):
        self.done += count

    def end(self, step, seconds, seen, kept, dropped):  # noqa: ARG002
        self.ended = (step, seen, kept, dict(dropped))

    def note(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    watch = Notes()
    result = train(dataset, folder, toy(steps=48), progress=watch)
    return folder, result, watch


def test_a_trained_model_beats_the_untrained_one_and_tells_how_it_went(dataset, trained):
    folder, result, watch = trained
    found = evaluate(folder, dataset)
    scores = {score.eval: score for score in reversed(found.scores)}
    assert next(each for each in found.comparisons if each.reference == "untrained network").high < 0.5
    assert scores["bits_per_byte"].over == scores["compressors"].over
    assert scores["next_line"].over == scores["frequent_line"].over > 20
    assert scores["next_line"].value > 0.2
    assert result.steps == 48
    assert result.stopped == "budget"
    assert (watch.done, watch.total) == (48, 48)
    assert watch.ended == ("train", result.rows, result.rows, {})
    assert "validation" in watch.lines[-1]
    assert "tokens/s" in watch.lines[-1]


def test_the_folder_says_what_was_done(dataset, trained):
    folder, result, _ = trained
    record = json.loads((folder / "training.json").read_text())
    assert record["dataset"] == dataset.digest
    assert record["budget"] == {"steps": 48}
    assert record["result"]["held_out"] == result.held_out
    ledger = record["ledger"]
    assert (ledger["steps"], ledger["draws"], ledger["trained"]) == (48, result.rows, result.tokens)
    assert ledger["drawn"] + ledger["control"] == ledger["trained"] + ledger["shown"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    looks = [line["held_out"] for line in lines if "held_out" in line]
    assert [line["step"] for line in steps] == list(range(1, 49))
    assert steps[-1]["tokens"] == result.tokens
    assert result.held_out == min(looks)
    rates = [line["learning_rate"] for line in steps]
    assert rates.index(max(rates)) < 10
    assert 0 < rates[-1] < 0.1 * max(rates)
    assert (folder / "loss_curve.png").read_bytes().startswith(b"\x89PNG")


def test_steps_are_reproducible_to_the_bit_and_a_seed_matters(dataset, tmp_path):
    folders = [tmp_path / name for name in ("one", "again", "other")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        train(dataset, folder, toy(steps=3, seed=seed))
    one, again, other = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert one == again != other


def test_a_seed_does_not_change_the_validation_text(dataset, tmp_path, monkeypatch):
    drawn = []
    draw = training.draw_documents
    monkeypatch.setattr(training, "VALIDATION_TOKENS", 300)  # less than there is, so that there is a choice
    monkeypatch.setattr(training, "draw_documents", lambda *values: drawn.append(draw(*values)) or drawn[-1])
    for seed in (1, 2):
        train(dataset, tmp_path / f"{seed}", toy(steps=1, seed=seed))
    paths = [[(document.path, document.start, len(document.tokens)) for document in texts] for texts in drawn]
    assert paths[0] == paths[1]
    assert sum(len(document.scored) for document in drawn[0]) <= 300


def test_a_budget_of_time_ends(dataset, tmp_path):
    watch = Notes()
    result = train(dataset, tmp_path / "model", toy(minutes=0.02), progress=watch)
    assert result.steps >= 1
    assert watch.done == result.steps <= watch.total
    assert json.loads((tmp_path / "model" / "training.json").read_text())["budget"] == {"minutes": 0.02}


def test_without_held_out_text_it_trains_and_says_so(tmp_path):
    dataset = finished.write(tmp_path / "dataset", {"train": {"a.py": finished.source(1)}})
    watch = Notes()
    result = train(dataset, tmp_path / "model", toy(steps=2), progress=watch)
    assert result.held_out is None
    assert any("no held-out text" in line for line in watch.lines)
    with pytest.raises(DatasetError, match="nothing is held out"):
        evaluate(tmp_path / "model", dataset)
    assert find_completion_example(dataset) is None


def test_training_ends_when_the_held_out_loss_turns(tmp_path):
    texts = {"train": {"a.py": finished.source(1, 2)}, "val": {"b.py": b"totally = 'different'\n" * 30}}
    dataset = finished.write(tmp_path / "dataset", texts)
    watch = Notes()
    result = train(
        dataset,
        tmp_path / "model",
        toy(steps=96, batch=256, learning_rate=5e-3, weight_decay=0.0, schedule="wsd"),
        progress=watch,
    )
    assert result.stopped == "validation loss rose"
    lines = [json.loads(line) for line in (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()]
    looks = [line["held_out"] for line in lines if "held_out" in line]
    assert min(looks) == result.held_out
    assert sum("Held-out loss has risen since step" in line for line in watch.lines) == 1
    assert sum("Going back to the weights of step" in line for line in watch.lines) == 1
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    peak = rates.index(max(rates))
    assert rates[-1] < 0.5 * max(rates)  # it has fallen, although the schedule has not reached its last fifth
    assert sorted(rates[peak:], reverse=True) == rates[peak:]
    assert result.steps < 0.8 * 96
    network, tokenizer = loading.load_model(tmp_path / "model")
    kept = sum(bits.sum() for bits in network.token_bits([tokenizer.encode([texts["val"]["b.py"]])[0]]))
    assert kept < 660 * max(looks)


def test_a_curriculum_is_followed_unless_shuffled(tmp_path):
    texts = {"train": {f"{number}.py": finished.source(number, 1) for number in range(30)}}
    plain, thirds = (
        finished.write(tmp_path / strategy, texts, size=64, stride=64, strategy=strategy)
        for strategy in ("random", "curriculum")
    )
    shas = []
    for dataset, order in ((plain, None), (thirds, None), (thirds, "shuffled"), (thirds, "curriculum")):
        folder = dataset.folder / f"model_{order}"
        train(dataset, folder, toy(steps=1, order=order))
        record = json.loads((folder / "training.json").read_text())
        assert record["order"] == ("curriculum" if dataset is thirds and order != "shuffled" else "shuffled")
        shas.append(record["plan"])
    assert shas[0] == shas[2] != shas[1] == shas[3]
    with pytest.raises(UsageError, match="has no curriculum"):
        train(plain, tmp_path / "none", toy(steps=1, order="curriculum"))


def test_the_table_names_every_subject(dataset, trained):
    folder, _, _ = trained
    scores = evaluate(folder, dataset)
    text = format_scores(scores)
    for subject in ("network", "untrained network", "xz", "PPMd", "most frequent next line", "2 test files"):
        assert subject in text
    assert "another dataset" not in text
    json.dumps(scores.as_values())


def test_less_is_asked_where_time_is_short(dataset, trained, monkeypatch):
    monkeypatch.setattr(evaluation, "MIN_HELD_OUT_TOKENS", 300)
    monkeypatch.setattr(evaluation, "MIN_COMPRESSOR_BYTES", 2000)
    whole, ample, short = (evaluate(trained[0], dataset, seconds=seconds).scores for seconds in (None, 1e6, 0.0))
    assert [score.over for score in ample] == [score.over for score in whole]
    for much, little in zip(whole, short, strict=True):
        assert 0 < little.over < much.over
    assert {score.eval: score.over for score in short}["next_line"] == evaluation.MIN_TASKS
    assert [bool(score.note) for score in short if score.eval == "compressors"] == [True] * 3


def test_another_dataset_is_said_or_refused(trained, tmp_path):
    folder, _, _ = trained
    other = finished.toy(tmp_path / "other", weights={"src/file_3.py": 2.0})
    assert "another dataset" in format_scores(evaluate(folder, other))
    third = finished.toy(tmp_path / "third", vocab_size=300)
    with pytest.raises(DatasetError, match="different tokenizers"):
        evaluate(folder, third)


def test_no_training_rows(tmp_path):
    dataset = finished.write(tmp_path / "dataset", {"train": {}, "val": {"a.py": b"x = 1\n"}})
    with pytest.raises(DatasetError, match="no rows to train on"):
        train(dataset, tmp_path / "model", toy(steps=1))
    assert not (tmp_path / "model").exists()


def test_usage(dataset, tmp_path):
    with pytest.raises(UsageError, match="tinny"):
        train(dataset, tmp_path / "model", toy(size="tinny", steps=1))
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_is_an_error_and_leaves_nothing(dataset, tmp_path):
    with pytest.raises(StarcoderError, match=r"the (loss|norm of the gradient) is (nan|inf) at step [2-9]"):
        train(dataset, tmp_path / "model", toy(steps=20, batch=256, learning_rate=1e30, warmup=0.0))
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_the_way_is_not_touched(dataset, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(OutputError, match="not a git-starcoder model"):
            train(dataset, tmp_path / "mine", toy(steps=1), force=force)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    train(dataset, tmp_path / "model", toy(steps=1))
    with pytest.raises(OutputError, match="holds a model"):
        train(dataset, tmp_path / "model", toy(steps=2))
    train(dataset, tmp_path / "model", toy(steps=2), force=True)
    assert json.loads((tmp_path / "model" / "training.json").read_text())["budget"] == {"steps": 2}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine", "model"]


def test_what_a_killed_training_left_is_cleared(dataset, tmp_path):
    code = f"""
import os, signal
from git_starcoder.dataset import Dataset
from git_starcoder.model import architecture
from git_starcoder.model import training
from git_starcoder.model.config import TrainConfig, own_base_rate
architecture.MODEL_SIZES["toy"] = {TOY!r}
class Watch:
    def note(self, text): pass
    def begin(self, step, total): os.kill(os.getpid(), signal.SIGKILL)
config = TrainConfig(size="toy", steps=1)
training.train(Dataset.open({str(dataset.folder)!r}), {str(tmp_path / "model")!r}, config, progress=Watch())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment)
    assert done.returncode == -signal.SIGKILL
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".model.lock", ".model.partial", ".model.training"]
    train(dataset, tmp_path / "model", toy(steps=1))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_two_trainings_of_one_folder_are_kept_apart(dataset, tmp_path):
    class Second(Notes):
        def begin(self, step, total):
            super().begin(step, total)
            with pytest.raises(OutputError, match="another training is writing"):
                train(dataset, tmp_path / "model", toy(steps=1), force=True)
            self.refused = True

    watch = Second()
    train(dataset, tmp_path / "model", toy(steps=1), progress=watch)
    assert watch.refused
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_a_missing_extra_is_one_line(dataset, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=library) as caught:
        train(dataset, tmp_path / "model", toy(steps=1))
    assert caught.value.hint == install_command("train")


def test_an_untrained_model_knows_nothing(dataset, trained):
    folder, _, _ = trained
    scores = evaluate(folder, Dataset.open(dataset.folder)).scores
    untrained = next(score for score in scores if score.subject == "untrained network")
    tokens = sum(row.metadata["length"] for row in dataset.rows("test") if row.metadata["token_start"] % 128 == 0)
    even = log2(512) * tokens / untrained.over
    assert untrained.value == pytest.approx(even, rel=0.15)


def test_a_full_disk_is_an_error_and_leaves_nothing(dataset, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot write"):
            train(dataset, tmp_path / "model", toy(steps=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_tokens_that_the_tokenizer_does_not_have(tmp_path):
    dataset = finished.write(tmp_path / "dataset", {"train": {"a.py": finished.source(1)}})
    path = dataset.files("train")[0]
    path.write_text(path.read_text().replace('{"tokens": [', '{"tokens": [99999, ', 1))
    with pytest.raises(DatasetError, match="does not have"):
        train(dataset, tmp_path / "model", toy(steps=1))


def test_decay_in_epochs_becomes_a_decay_per_step(dataset):
    corpus = Corpus.read(dataset, load_tokenizer(dataset.tokenizer_folder))
    config = toy(decay_epochs=2.0, learning_rate=1e-2, epochs=1.0)
    steps = budget_steps(config, corpus)
    resolved = training.resolve_rates(config, corpus)
    left = (1 - resolved.learning_rate * resolved.weight_decay) ** (2 * steps)
    assert left == pytest.approx(exp(-1), rel=0.05)
    assert training.resolve_rates(toy(weight_decay=0.3), corpus).weight_decay == 0.3


@pytest.mark.parametrize(("weight", "text", "size"), [(1, 1.0, 1.0), (3, 0.5, 0.5), (0.1, 1.0, 0.1), (3, 0, 3)])
def test_the_rate_of_a_base_follows_text_that_is_read_once(dataset, weight, text, size):
    """Overlapping windows and weights above 1 make no dataset larger; a share of the rows makes it smaller."""
    corpus = Corpus.read(dataset, load_tokenizer(dataset.tokenizer_folder))
    lengths = corpus.lengths * 400  # some hundred thousand tokens, between the lowest rate and the highest
    offsets = np.append(0, np.cumsum(lengths))
    weights = np.full(len(lengths), weight)
    total = lengths.sum()
    larger = replace(corpus, offsets=offsets, weights=weights, text_token_count=round(text * total))
    resolved = training.resolve_rates(TrainConfig(base="polyglot-5m", device="cpu"), larger)
    assert resolved.learning_rate == own_base_rate(size * total)


def test_windows_that_overlap_are_no_larger_text(repo_maker, tmp_path):
    repo = Repo.open(repo_maker(code_base(20)))
    counts = []
    with LocalEngine(1) as engine:
        for overlap in (0, 0.75):
            values = ("window.vocab_size=600", "window.size=64", f"window.overlap={overlap}", "window.header=null")
            folder = tmp_path / f"{overlap}"
            dataset = build(repo, Recipe.load("natural", values), folder, engine=engine)
            corpus = Corpus.read(dataset, load_tokenizer(dataset.tokenizer_folder))
            counts.append((corpus.text_token_count, int(corpus.lengths.sum())))
    (text, read), (same_text, read_again) = counts
    assert text == pytest.approx(same_text, rel=0.01)  # windows that are too short are dropped at other places
    assert text == pytest.approx(read, rel=0.01)
    assert read_again > 2 * read


def test_validations_cost_a_share_of_every_budget(dataset, tmp_path, monkeypatch):
    """For example, 12 steps of 1,024 tokens cost as much as reading 36,864, and 15 % of these are two of 2,000 tokens."""
    monkeypatch.setattr(training, "VALIDATION_TOKENS", 2000)
    size = sum(len(text.tokens) for text in training.draw_documents(load_documents(dataset, "val"), 2000))
    expected = int(0.15 * 3 * 12 * 1024 / size)
    assert 1 < expected < 12
    train(dataset, tmp_path / "model", toy(steps=12))
    lines = [json.loads(line) for line in (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()]
    assert sum("held_out" in line for line in lines) == expected


def test_rows_with_headers_are_filled_in_unless_the_config_says_otherwise(dataset):
    tokenizer = load_tokenizer(dataset.tokenizer_folder)
    natural = replace(dataset, metadata={**dataset.metadata, "repository": "project"})
    shares = [training.resolve_fim(toy(**values), data, tokenizer).fim for data, values in (
        (dataset, {}), (natural, {}), (natural, {"fim": 0.0}), (dataset, {"fim": 0.5}),
        (natural, {"base": "model"}),
    )]  # fmt: skip
    assert shares == [0.0, 0.3, 0.0, 0.5, 0.3]
