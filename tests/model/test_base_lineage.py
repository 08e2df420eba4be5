"""Training from a bundled base: its tokenizer, its defaults, what it has read, and what a model says about it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import shelf
from git_starcoder.bases.blobs import BlobFilter
from git_starcoder.dataset import Dataset, contamination
from git_starcoder.dataset.contamination import (
    BaseReading,
    drop_read,
    find_read_rows,
    have_comparable_ids,
    measure_contamination,
    text_bytes,
)
from git_starcoder.dataset.held_out import draw_rows, load_documents
from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.evals import load_evals
from git_starcoder.model import evaluate as evaluation
from git_starcoder.model import training
from git_starcoder.model.base_lineage import BaseLineage
from git_starcoder.model.building import build_network
from git_starcoder.model.complete import find_completion_example
from git_starcoder.model.config import (
    ADAPTER_DEFAULTS,
    BASE_MODEL_DEFAULTS,
    OWN_BASE_DEFAULTS,
    SCRATCH_DEFAULTS,
    TrainConfig,
    own_base_rate,
)
from git_starcoder.model.evaluate import NothingHeldOutError, evaluate, format_scores, held_out_blobs, save_scores
from git_starcoder.model.loading import read_training_record
from git_starcoder.model.loop import TrainingLoop
from git_starcoder.model.training import resolve_fim, train
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.report.model import ModelRecord, model_section
from git_starcoder.stages.window import resolve_sizes
from git_starcoder.text.tokenizer import load_tokenizer
from toy import code_base

CPU = {"device": "cpu", "precision": "float32"}


class Notes:
    def __init__(self):
        self.lines = []

    def begin(self, *_): ...
    def advance(self, *_): ...
    def end(self, *_): ...
    def note(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory, repo_maker, git):
    """A package with a base that was trained on a repository of 40 files."""
    repo = repo_maker(code_base(40))
    made = shelf.make(tmp_path_factory.mktemp("base"), repo, git(repo, "rev-parse", "HEAD").decode().strip())
    two = {key: function for key, function in load_evals().items() if key in {"bits_per_byte", "kinds"}}
    with pytest.MonkeyPatch.context() as patch:
        shelf.put(patch, tmp_path_factory.mktemp("package"), made.base.folder)
        patch.setattr(evaluation, "load_evals", lambda: two)  # the others see the same text, and take longer
        yield made


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, repo_maker):
    """Half of its files are those of the base's repository."""
    repo = repo_maker({**code_base(40), **{f"own/{path}": text for path, text in code_base(40, seed=1).items()}})
    recipe = Recipe.load(
        "natural", ("window.tokenizer=toy", "window.size=128", "split={train: 0.6, val: 0.2, test: 0.2}")
    )
    return build(repo, recipe, tmp_path_factory.mktemp("built") / "dataset")


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    notes = Notes()
    train(dataset, folder, TrainConfig(base="toy", steps=3, **CPU), progress=notes)
    return folder, notes.lines


@pytest.fixture(scope="module")
def scores(dataset, trained):
    return evaluate(trained[0], dataset)


def read_paths(dataset, split, blobs):
    return {row["source_file"] for row in dataset.row_metadata(split) if blobs.contains([row["blob"]])[0]}


def test_a_base_of_ours_has_defaults_of_its_own(package):
    assert config_of(TrainConfig()) == SCRATCH_DEFAULTS
    assert config_of(TrainConfig(base="toy")) == OWN_BASE_DEFAULTS
    assert config_of(TrainConfig(base=str(package.base.folder))) == OWN_BASE_DEFAULTS
    assert config_of(TrainConfig(base=str(package.model))) == BASE_MODEL_DEFAULTS
    assert config_of(TrainConfig(base="someone/else")) == BASE_MODEL_DEFAULTS
    assert config_of(TrainConfig(base="toy", tune="lora")) == ADAPTER_DEFAULTS
    assert TrainConfig(base="toy", learning_rate=0.5).learning_rate == 0.5
    rates = {tokens: own_base_rate(tokens) for tokens in (0, 100_000, 250_000, 333_333, 10**9)}
    assert rates == {0: 3e-4, 100_000: 4e-4, 250_000: 1e-3, 333_333: 1.3e-3, 10**9: 3e-3}


def config_of(config):
    return {key: getattr(config, key) for key in SCRATCH_DEFAULTS}


def test_gaps_are_learned_as_from_scratch(dataset, package):
    tokenizer = load_tokenizer("toy")
    for base in (None, "toy", str(package.model)):
        assert resolve_fim(TrainConfig(base=base), dataset, tokenizer).fim == 0.3


def test_a_dataset_depends_on_the_content_of_the_tokenizer_not_on_its_place(package, dataset, tmp_path, repo_maker):
    assert load_tokenizer(dataset.tokenizer_folder).digest == package.base.record["tokenizer"]
    assert yaml.safe_load((dataset.folder / "recipe.yaml").read_text())["window"]["tokenizer"] == "toy"
    repo = repo_maker(code_base(6))
    recipe = Recipe.load("natural", ("window.tokenizer=toy",))
    manifests = []
    for place, change in (("here", 0), ("there", 0), ("changed", 1)):
        (tmp_path / place).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            shelf.put(patch, tmp_path / place, package.base.folder)
            file = tmp_path / place / "bases/toy/tokenizer_config.json"
            config = json.loads(file.read_text())
            file.write_text(json.dumps(config | {"model_max_length": 10_000 + change}))
            manifests.append(build(repo, recipe, tmp_path / f"dataset-{place}").manifest)
    assert manifests[0]["fingerprint"] == manifests[1]["fingerprint"] != manifests[2]["fingerprint"]
    assert manifests[0]["digest"] == manifests[1]["digest"] != manifests[2]["digest"]


@pytest.mark.parametrize(("size", "resolved"), [("auto", 128), ("scales", (128,)), (64, 64), (512, 512)])
def test_rows_for_a_base_are_not_longer_than_those_that_it_knows(size, resolved):
    recipe = Recipe.load("natural", ("window.tokenizer=toy",))
    assert resolve_sizes(replace(recipe, window=replace(recipe.window, size=size))).window.size == resolved


def test_a_dataset_with_another_tokenizer_is_refused_with_the_command(package, tmp_path):
    config = TrainConfig(base="toy", steps=1, **CPU)
    other = build(
        package.repo, Recipe.load("natural", ("window.size=128", "window.vocab_size=512")), tmp_path / "other"
    )
    with pytest.raises(UsageError, match="the dataset was not made for 'toy'") as caught:
        train(other, tmp_path / "model", config)
    assert caught.value.hint == "git starcoder build --set window.tokenizer=toy"
    assert not (tmp_path / "model").exists()


def test_damaged_weights_are_refused(package, dataset, tmp_path):
    folder = tmp_path / "toy"
    shutil.copytree(package.base.folder, folder)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(DatasetError, match="is damaged: its weights are not those"):
        train(dataset, tmp_path / "model", TrainConfig(base=str(folder), steps=1, **CPU))


def test_a_model_starts_where_the_base_ended(package, trained):
    """Four steps of the base were enough to know more in the first step, on code like that of the base."""
    assert package.base.record["steps"] == 4
    started, scratch = (first_loss(folder) for folder in (trained[0], package.model))
    assert started < 0.9 * scratch


def first_loss(folder):
    return next(line["loss"] for line in metrics(folder) if "loss" in line)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_training_that_harms_the_base_gives_the_base(package, dataset, tmp_path):
    from safetensors.torch import load_file

    notes = Notes()
    config = TrainConfig(base="toy", steps=4, learning_rate=10.0, fim=0.0, **CPU)
    result = train(dataset, tmp_path / "model", config, progress=notes)
    first, *others = [line for line in metrics(tmp_path / "model") if "held_out" in line]
    assert first["step"] == 0
    assert result.held_out == first["held_out"] < min(line["held_out"] for line in others)
    ours, of_base = (load_file(folder / "model.safetensors") for folder in (tmp_path / "model", package.base.folder))
    assert all((tensor.float() == of_base[name].float()).all() for name, tensor in ours.items())
    assert notes.lines[-1].startswith("No step lowered the validation loss.")
    assert result.kept_step == read_training_record(tmp_path / "model")["result"]["kept_step"] == 0
    assert "No step lowered the validation loss" in (tmp_path / "model/README.md").read_text(encoding="utf-8")
    record = ModelRecord.open(tmp_path / "model")
    section = model_section(SimpleNamespace(dataset=dataset, model=record, scores={}))
    assert section.figures[0].table.rows[0] == ("0", "0", f"{first['held_out']:.4f}")


def test_the_record_and_the_card_name_the_base_and_its_sources(package, trained):
    folder, _ = trained
    record = read_training_record(folder)
    assert record["base"] == {"name": "toy", "of": "toy", "weights": package.base.weights_digest, "known": True}
    assert (folder / "base/base.json").read_bytes() == (package.base.folder / "base.json").read_bytes()
    assert {"README.md", "base/base.json", "base/blobs.npy"} <= record["files"].keys()
    card = (folder / "README.md").read_text(encoding="utf-8")
    (source,) = package.base.sources
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"
    assert "Training started from `toy` (weights" in card
    assert f"| origin | {source.commit[:12]} | 2023-11-14 | MIT | {source.files:,} | {source.bytes:,} |" in card


def test_the_card_of_a_model_from_scratch_says_so(package):
    card = (package.model / "README.md").read_text(encoding="utf-8")
    assert "The model was trained from scratch, on nothing else." in card
    assert read_training_record(package.model)["base"] is None


def test_the_record_has_the_learning_rate_that_suits_the_dataset(trained):
    assert read_training_record(trained[0])["config"]["learning_rate"] == 3e-4
    assert 0 < max(line["learning_rate"] for line in metrics(trained[0]) if "loss" in line) <= 3e-4


def test_files_that_the_base_has_read_choose_no_weights_and_train_no_gate(
    package, dataset, trained, tmp_path, monkeypatch
):
    blobs = package.base.read_blobs()
    read = read_paths(dataset, "val", blobs)
    files = {row["source_file"] for row in dataset.row_metadata("val")}
    assert 0 < len(read) < len(files)
    assert f"the base has read {len(read)} of {len(files)} val files, which are left out" in trained[1]
    from git_starcoder.model import training, with_memory

    drawn = []
    for module in (training, with_memory):
        draw = module.draw_documents
        monkeypatch.setattr(
            module,
            "draw_documents",
            lambda texts, limit, draw=draw: drawn.append({t.path for t in texts}) or draw(texts, limit),
        )
    train(dataset, tmp_path / "model", TrainConfig(base="toy", steps=1, **CPU))
    assert drawn == [files - read, files - read]


def test_scores_leave_out_what_the_base_has_read_and_count_it(package, dataset, scores):
    blobs = package.base.read_blobs()
    tokenizer = load_tokenizer("toy")
    for split in ("test", "val"):
        read = read_paths(dataset, split, blobs)
        found = scores.base.splits[split]
        texts = {document.path: text_bytes(document.tokens, tokenizer) for document in load_documents(dataset, split)}
        assert 0 < len(read) < len(texts)
        assert (found.files, found.kept, found.read) == (len(texts), len(texts) - len(read), len(read))
        assert found.kept + found.read == found.files
        assert (found.bytes, found.read_bytes) == (sum(texts.values()), sum(texts[path] for path in read))
        assert found.share == found.read_bytes / found.bytes
    read = read_paths(dataset, "test", blobs)
    assert scores.split == "test"
    assert {document.path for document in scores.documents}.isdisjoint(read)
    assert (scores.files, scores.split_files) == (scores.base.splits["test"].kept, scores.base.splits["test"].files)
    assert all(score.files <= scores.files for score in scores.scores)


def test_the_scores_say_it_in_one_line(scores, trained, dataset):
    test, val = scores.base.splits["test"], scores.base.splits["val"]
    line = (
        f"the base 'toy' has read {test.read} of {test.files} test files ({100 * test.share:.1f} % of the bytes) and "
        f"{val.read} of {val.files} val files ({100 * val.share:.1f} % of the bytes), which are left out of all scores"
    )
    assert line in format_scores(scores).splitlines()
    assert scores.as_values()["base"]["splits"]["test"] == {**test._asdict(), "share": round(test.share, 6)}
    save_scores(scores, trained[0])
    values = json.loads((trained[0] / "scores.json").read_text())
    section = model_section(SimpleNamespace(dataset=dataset, model=ModelRecord.open(trained[0]), scores=values))
    assert f"T{line[1:]}." in section.paragraphs
    assert BaseReading.from_values(BaseReading("x", None).as_values()) == BaseReading("x", None)


def test_a_model_is_scored_without_the_package_that_it_was_made_with(dataset, trained, scores, tmp_path, monkeypatch):
    shelf.put(monkeypatch, tmp_path)
    assert evaluate(trained[0], dataset).base == scores.base


def test_rows_of_files_that_were_read_are_not_drawn(package, dataset):
    blobs = package.base.read_blobs()
    left_out = find_read_rows(dataset, "test", blobs)
    read = read_paths(dataset, "test", blobs)
    rows = list(dataset.row_metadata("test"))
    assert {rows[index]["source_file"] for index in left_out} == read
    assert left_out == {index for index, row in enumerate(rows) if row["source_file"] in read}
    drawn = draw_rows(dataset, "test", 10**9, load_tokenizer("toy").end_id, left_out)
    assert len(drawn) == len(rows) - len(left_out)
    assert {row.path for row in drawn} == {row["source_file"] for row in rows} - read
    assert find_read_rows(dataset, "test", None) == set()


def test_an_older_version_of_a_file_that_was_read_is_left_out_with_it(monkeypatch):
    rows = [
        {"source_file": "a.py", "blob": "aa" * 20, "augmentation_type": "base"},
        {"source_file": "a.py", "blob": "bb" * 20, "augmentation_type": "git_diff"},
        {"source_file": "b.py", "blob": "cc" * 20, "augmentation_type": "base"},
        {"source_file": "b.py", "blob": "aa" * 20, "augmentation_type": "git_diff"},
        {"source_file": "c.py", "augmentation_type": "base"},
    ]
    monkeypatch.setattr(Dataset, "row_metadata", lambda *_: iter(rows))
    found = find_read_rows(Dataset("", {}, {}), "test", BlobFilter.build(["aa" * 20]))
    assert found == {0, 1, 3}


def test_all_held_out_files_read_is_one_clear_line(dataset, trained, monkeypatch):
    everything = BlobFilter.build(row["blob"] for split in ("val", "test") for row in dataset.row_metadata(split))
    with_everything(monkeypatch, everything)
    with pytest.raises(NothingHeldOutError) as caught:
        evaluate(trained[0], dataset)
    assert caught.value.what == "the base 'toy' has read all files that are held out, so the model cannot be scored"
    assert find_completion_example(dataset, 0, everything) is None


def with_everything(monkeypatch, blobs):
    of_model = BaseLineage.of_model
    monkeypatch.setattr(evaluation.BaseLineage, "of_model", lambda *values: replace(of_model(*values), blobs=blobs))


def test_val_is_scored_if_all_of_test_was_read(dataset, trained, monkeypatch):
    with_everything(monkeypatch, BlobFilter.build(row["blob"] for row in dataset.row_metadata("test")))
    found = evaluate(trained[0], dataset)
    assert (found.split, found.base.splits["test"].kept, found.base.splits["val"].read) == ("val", 0, 0)


def test_the_example_of_a_completion_was_not_read(package, dataset, trained):
    blobs = held_out_blobs(trained[0])
    assert np.array_equal(blobs.keys, package.base.read_blobs().keys)
    read = read_paths(dataset, "test", blobs) | read_paths(dataset, "val", blobs)
    seeds = range(30)
    assert {find_completion_example(dataset, seed).path for seed in seeds} & read
    assert not {find_completion_example(dataset, seed, blobs).path for seed in seeds} & read


def test_lineages(package, dataset, trained, tmp_path):
    """What is known of a base, of a model tuned from one, of a model from scratch, and of others."""
    known = package.base.read_blobs().keys

    def keys(lineage):
        return None if lineage.blobs is None else lineage.blobs.keys.tolist()

    assert keys(BaseLineage.trace("toy", dataset.digest)) == known.tolist()
    assert keys(BaseLineage.trace(str(package.base.folder), dataset.digest)) == known.tolist()
    assert keys(BaseLineage.trace(str(trained[0]), dataset.digest)) == known.tolist()
    assert keys(BaseLineage.trace(str(trained[0]), "of another dataset")) is None
    assert keys(BaseLineage.trace(str(package.model), package.dataset.digest)) == []
    assert keys(BaseLineage.trace(str(package.model), dataset.digest)) is None
    other = tmp_path / "other"
    shutil.copytree(package.base.folder, other)
    (other / "base.json").unlink()
    assert keys(BaseLineage.trace(str(other), dataset.digest)) is None
    with pytest.raises(UsageError, match="there is no folder"):
        BaseLineage.trace("/no/where", dataset.digest)


def test_a_model_tuned_twice_knows_its_base(dataset, trained, tmp_path):
    train(dataset, tmp_path / "again", TrainConfig(base=str(trained[0]), steps=1, **CPU))
    record = read_training_record(tmp_path / "again")
    assert (record["base"]["of"], record["base"]["known"]) == ("toy", True)
    assert "which goes back to the base `toy`" in (tmp_path / "again/README.md").read_text()
    assert evaluate(tmp_path / "again", dataset).base.splits["test"].read > 0


def test_what_another_base_has_read_is_said_to_be_unknown(package, dataset, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(package.base.folder, other)
    (other / "base.json").unlink()
    train(dataset, tmp_path / "model", TrainConfig(base=str(other), steps=1, **CPU))
    assert read_training_record(tmp_path / "model")["base"] == {"name": str(other), "known": False}
    assert "What that model was trained on is not known here." in (tmp_path / "model/README.md").read_text()
    found = evaluate(tmp_path / "model", dataset)
    assert found.base.splits is None
    said = f"what the base '{other}' has read is not known, so it may have seen these files"
    assert said in format_scores(found).splitlines()


def test_a_repository_with_other_ids_cannot_be_compared(dataset, trained, monkeypatch):
    documents = load_documents(dataset, "test")
    assert have_comparable_ids(documents)
    assert not have_comparable_ids([replace(documents[0], blob="ab" * 32)])
    monkeypatch.setattr(contamination, "have_comparable_ids", lambda _: False)
    assert evaluate(trained[0], dataset).base.splits is None


def test_control_tokens_are_no_bytes():
    tokenizer = load_tokenizer("toy")
    tokens = np.array([tokenizer.end_id, *tokenizer.encode([b"def"])[0], *tokenizer.fim_ids], dtype=np.int32)
    assert text_bytes(tokens, tokenizer) == 3


def test_without_a_filter_nothing_is_left_out(dataset):
    documents = load_documents(dataset, "test")
    assert drop_read(documents, None) == documents
    empty = BlobFilter(np.zeros(0, dtype=np.uint32))
    assert drop_read(documents, empty) == documents
    found = measure_contamination(documents, empty, load_tokenizer("toy"))
    assert (found.read, found.read_bytes, found.share) == (0, 0, 0.0)
    assert contamination.Contamination(0, 0, 0, 0, 0).share == 0


@pytest.fixture
def losses(monkeypatch):
    """Makes twelve validations of a training, and that before it, give these losses."""

    def give(*values):
        remaining = iter(values)
        monkeypatch.setattr(training, "VALIDATION_SHARE", 100)
        monkeypatch.setattr(TrainingLoop, "_held_out_bits_per_byte", lambda _: next(remaining))

    return give


def test_a_loss_that_falls_after_a_rise_does_not_end_training(dataset, tmp_path, losses):
    """At the highest learning rate the loss is above that of the base, and it falls below at the end."""
    losses(2.0, *(3.0 - 0.1 * number for number in range(10)), 1.5, 1.4)
    result = train(dataset, tmp_path / "model", TrainConfig(base="toy", steps=12, fim=0.0, **CPU))
    assert (result.steps, result.stopped, result.held_out, result.kept_step) == (12, "budget", 1.4, 12)


def test_overfitting_is_seen_although_the_base_is_better(dataset, tmp_path, losses):
    """Training returns to its own best weights, whose rate falls to zero; here that does not help."""
    losses(1.0, 2.0, 1.9, *[2.5] * 10)
    notes = Notes()
    config = TrainConfig(base="toy", steps=12, fim=0.0, patience=2, **CPU)
    result = train(dataset, tmp_path / "model", config, progress=notes)
    assert any("Going back to the weights of step 2" in line for line in notes.lines)
    assert result.steps < 12
    assert (result.held_out, result.kept_step) == (1.0, 0)


def test_dropout_of_a_base_of_ours_is_that_of_a_model_from_scratch(package, dataset, tmp_path):
    def weights(name, dropout):
        config = TrainConfig(base="toy", steps=1, fim=0.0, dropout=dropout, seed=3, **CPU)
        train(dataset, tmp_path / name, config)
        return (tmp_path / name / "model.safetensors").read_bytes()

    none, some, again = weights("none", 0.0), weights("some", 0.5), weights("again", 0.5)
    assert none != some == again
    network = build_network(TrainConfig(base="toy", dropout=0.5, **CPU), load_tokenizer(package.base.folder), 64)
    bits = [network.sequence_bits([np.arange(20, 60)], [0])[0] for _ in range(2)]
    assert (bits[0] == bits[1]).all()  # nothing is dropped when it predicts
