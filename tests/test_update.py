"""Updates after new commits: the memory that one from nothing would be, nothing trained on what was held out, and all
or nothing replaced.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from git_starcoder import update as updates
from git_starcoder.build_state import Pins
from git_starcoder.checks import check
from git_starcoder.cli import main
from git_starcoder.dataset import Dataset
from git_starcoder.dataset.held_out import load_documents, load_repository
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import DatasetError, OutputError, RepositoryError, UsageError
from git_starcoder.evals import BOTH, NETWORK
from git_starcoder.git.objects import Repo
from git_starcoder.memory.contexts import ARRAYS
from git_starcoder.memory.repository_memory import RepositoryMemory
from git_starcoder.model import architecture, network
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.continuation import MAX_NEW_FACTOR, MAX_RATE, Continuation
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.evaluate import evaluate
from git_starcoder.model.loading import read_training_record
from git_starcoder.model.training import train
from git_starcoder.pipeline import build
from git_starcoder.protocols import Progress
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS
from git_starcoder.text.tokenizer import load_tokenizer
from git_starcoder.update import KEPT, NEW, update
from toy import code_base, evolving

SETTINGS = ("window.vocab_size=600", "window.size=128")
RECIPE = Recipe.load("natural", SETTINGS)
CONFIG = TrainConfig(size="toy", batch=512, micro_batch=1024, tokens=2048, device="cpu", precision="float32", fim=0.0,
                     checkpoint_minutes=1e-9)  # fmt: skip
ADDED = {f"added/{path}": text for path, text in code_base(30, seed=5).items()}
COMMITS = [*evolving(40, 12), ADDED]
OLD = "main~9"


@pytest.fixture(scope="module", autouse=True)
def toy_size():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "limit_library_threads", lambda: 1)
        patch.setitem(architecture.MODEL_SIZES, "toy", sizes)
        yield


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(1) as workers:
        yield workers


@pytest.fixture(scope="module")
def repository(repo_maker):
    return repo_maker(COMMITS)


@pytest.fixture(scope="module")
def trained(repository, engine, tmp_path_factory):
    """A model and its dataset, of an old commit."""
    folder = tmp_path_factory.mktemp("trained")
    dataset = build(Repo.open(repository, OLD), RECIPE, folder / "dataset", engine=engine)
    train(dataset, folder / "model", CONFIG)
    return folder


@pytest.fixture
def place(trained, tmp_path):
    """A copy of both."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def updated(place, repository, engine):
    def run(**options):
        return update(place / "model", place / "dataset", Repo.open(repository), engine=engine, **options)

    return run


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def build_anew(old, repository, folder, engine):
    """The dataset of the new commit, as an update builds it."""
    pins = Pins(old.splits_of_files(), old.tokenizer_folder)
    return build(Repo.open(repository), RECIPE, folder, engine=engine, pins=pins)


def test_the_memory_is_that_from_nothing(updated, place):
    result = updated(scored=False)
    dataset = Dataset.open(place / "dataset")
    tokenizer = load_tokenizer(place / "model")
    documents = [document.tokens for split in SPLITS for document in load_documents(dataset, split)]
    anew = RepositoryMemory.build(documents, "repository", tokenizer)
    stored = RepositoryMemory.open(place / "model" / "memory")
    assert stored.contents == "repository"
    for name in ARRAYS:
        assert np.array_equal(getattr(stored.index, name), getattr(anew.index, name)), name
    assert result.memory_tokens == len(anew.index.places)
    assert not result.scores


def test_the_network_stays_and_everything_fits_together(updated, place, trained, repository):
    result = updated(scored=False)
    old, new = files(trained / "model"), files(place / "model")
    changed = {name for name in old if old[name] != new.get(name)}
    assert {name.partition("/")[0] for name in changed} == {"memory", "training.json", "README.md"}
    assert result.old_commit == Repo.open(repository, OLD).commit
    assert result.new_commit == Dataset.open(place / "dataset").manifest["commit"] == Repo.open(repository).commit
    record = read_training_record(place / "model")
    assert record["dataset"] == Dataset.open(place / "dataset").digest
    assert record["updates"] == [{"tokens": 0}]
    assert evaluate(place / "model", Dataset.open(place / "dataset"), seconds=1).is_own_dataset
    assert not list(place.glob(".*.update"))
    assert not updated(scored=False).is_changed


def test_what_was_held_out_stays_held_out(updated, place, trained):
    updated(scored=False)
    before, after = (Dataset.open(folder / "dataset").splits_of_files() for folder in (trained, place))
    both = before.keys() & after.keys()
    assert len(both) > 30
    assert {path: before[path] for path in both} == {path: after[path] for path in both}
    assert {after[path] for path in after.keys() - before.keys()} == set(SPLITS)
    assert (trained / "dataset/tokenizer/tokenizer.json").read_bytes() == (
        place / "dataset/tokenizer/tokenizer.json"
    ).read_bytes()


def test_scores_before_and_after_are_of_the_same_files(updated, place, trained):
    result = updated()
    before, after = (Dataset.open(folder / "dataset").splits_of_files() for folder in (trained, place))
    kinds = {score.text: score for score in result.scores if score.subject == NETWORK}
    kept = {path for path, split in after.items() if split == "test" and before.get(path) == "test"}
    new = {path for path, split in after.items() if split == "test" and path not in before}
    assert (kinds[KEPT].files, kinds[NEW].files) == (len(kept), len(new))
    for score in result.scores:
        if score.subject == NETWORK:
            assert score.before == score.after
        assert score.ratio == pytest.approx(score.after / score.before)
    assert {score.subject for score in result.scores} >= {NETWORK, BOTH}
    memory = {score.text: score for score in result.scores if score.subject == "memory"}
    assert memory[NEW].before != memory[NEW].after


def test_held_out_commits_train_once_later_ones_are_held_out(repository, engine, tmp_path):
    recipe = Recipe.load("natural", (*SETTINGS, "split.holdout=commits", "split.commits=3"))
    old = build(Repo.open(repository, OLD), recipe, tmp_path / "dataset", engine=engine)
    train(old, tmp_path / "model", CONFIG)
    held_out = {document.path for split in ("val", "test") for document in load_documents(old, split)}
    result = update(tmp_path / "model", tmp_path / "dataset", Repo.open(repository), engine=engine)
    dataset = Dataset.open(tmp_path / "dataset")
    assert held_out <= {document.path for document in load_documents(dataset, "train")}
    assert not any(outcome.findings for outcome in check(dataset, Repo.open(repository)))
    assert {score.text for score in result.scores} >= {NEW}
    tokenizer = load_tokenizer(tmp_path / "model")
    anew = RepositoryMemory.build([each.tokens for each in load_repository(dataset)], "repository", tokenizer)
    stored = RepositoryMemory.open(tmp_path / "model" / "memory")
    for name in ARRAYS:
        assert np.array_equal(getattr(stored.index, name), getattr(anew.index, name)), name


def test_the_network_learns_new_rows_and_replays_old_ones(updated, place, monkeypatch):
    weighed, weigh = [], Continuation.weigh
    monkeypatch.setattr(Continuation, "weigh", lambda *given: weighed.append(given) or weigh(*given))
    before = files(place / "model")["model.safetensors"]
    result = updated(budget={"tokens": 2048})
    assert result.training is not None
    assert 0 < result.new_rows < result.rows
    assert weighed
    assert files(place / "model")["model.safetensors"] != before
    record = read_training_record(place / "model")
    assert record["config"]["learning_rate"] == MAX_RATE
    assert record["config"]["base"] is None
    assert record["updates"] == [{"tokens": result.training.tokens}]
    kept = next(score for score in result.scores if (score.text, score.subject) == (KEPT, NETWORK))
    assert kept.after < kept.before  # it had learned for four steps only
    assert evaluate(place / "model", Dataset.open(place / "dataset"), seconds=1).is_own_dataset


class Watch(Progress):
    """Notes what is said, and interrupts the training after some steps."""

    def __init__(self, steps):
        self.notes, self.left, self.step = [], steps, ""

    def begin(self, step, total):  # noqa: ARG002 - the protocol's name
        self.step = step

    def advance(self, count):
        if self.step == "train":
            self.left -= count
            if self.left < 0:
                raise KeyboardInterrupt

    def note(self, text):
        self.notes.append(text)


def test_an_interrupted_training_goes_on(updated, place):
    before = files(place / "model")
    with pytest.raises(KeyboardInterrupt):
        updated(budget={"tokens": 2048}, scored=False, progress=Watch(2))
    assert files(place / "model") == before
    watch = Watch(99)
    updated(budget={"tokens": 2048}, scored=False, progress=watch)
    assert any(note.startswith("resuming after step ") for note in watch.notes)
    assert not list(place.glob(".*"))


def test_an_interrupted_training_is_given_up_for_another_budget(updated, place):
    with pytest.raises(KeyboardInterrupt):
        updated(budget={"tokens": 2048}, scored=False, progress=Watch(2))
    watch = Watch(99)
    updated(budget={"tokens": 1024}, scored=False, progress=watch)
    assert "checkpoints of another update are removed: its config differs" in watch.notes
    assert not any(note.startswith("resuming") for note in watch.notes)
    assert not list(place.glob(".*"))


def test_the_training_begins_with_the_model(place, trained, repository, engine):
    """A step of no size would leave the weights as they are."""
    old = Dataset.open(trained / "dataset")
    new = build_anew(old, repository, place / "new", engine)
    continuation = Continuation.of_model(place / "model", old)
    config = CONFIG.load(None, (), **{**read_training_record(place / "model")["config"], "learning_rate": 1e-30})
    train(new, place / "other", config, continuation=continuation)
    from safetensors.numpy import load_file

    weights = [load_file(folder / "model.safetensors") for folder in (place / "model", place / "other")]
    assert all(np.allclose(weights[0][name], weights[1][name], atol=1e-6) for name in weights[0])


def test_new_rows_have_half_of_the_tokens_but_are_not_drawn_too_often(trained, place, repository, engine):
    old = Dataset.open(trained / "dataset")
    new = build_anew(old, repository, place / "new", engine)
    tokenizer = load_tokenizer(new.tokenizer_folder)
    corpus = Corpus.read(new, tokenizer)
    ids = [row["row_id"] for row in new.row_metadata("train")]

    def shares(known):
        weighed = Continuation(place / "model", {}, frozenset(known)).weigh(corpus, new)
        is_known = np.array([row in known for row in ids])
        masses = weighed.weights * weighed.lengths
        return masses[~is_known].sum() / masses.sum(), weighed.weights[~is_known].max() / weighed.weights[
            is_known
        ].min()

    known = {row["row_id"] for row in old.row_metadata("train")} & set(ids)
    assert known
    few = set(ids[: len(ids) // 4])
    assert shares(set(ids) - few)[0] == pytest.approx(0.5)
    assert shares(few)[1] == 1.0  # most are new: they are drawn as they come
    share, factor = shares(set(ids[1:]))
    assert factor == pytest.approx(MAX_NEW_FACTOR)
    assert share < 0.5
    with pytest.raises(UsageError, match="no training row is new"):
        shares(set(ids))


def test_nothing_changes_if_an_update_fails(updated, place, monkeypatch):
    before = files(place)

    def fail(*_):
        raise KeyboardInterrupt

    for name in ("score_texts", "describe_files"):
        with monkeypatch.context() as patch:
            patch.setattr(updates, name, fail)
            with pytest.raises(KeyboardInterrupt):
                updated()
        now = files(place)
        assert {name: now.get(name) for name in before} == before
    assert updated(scored=False).is_changed


def test_an_update_that_was_killed_between_model_and_dataset_is_finished(updated, place, monkeypatch):
    def die(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(updates._UpdateRun, "_publish_dataset", die)
        with pytest.raises(KeyboardInterrupt):
            updated(scored=False)
    digest = read_training_record(place / "model")["dataset"]
    assert Dataset.open(place / "dataset").digest != digest
    assert not updated(scored=False).is_changed
    assert Dataset.open(place / "dataset").digest == digest
    assert not list(place.glob(".*.update"))


def test_edited_files_are_replaced_only_with_force(updated, place):
    config = place / "model" / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(OutputError, match="were changed after they were written"):
        updated(scored=False)
    assert updated(scored=False, force=True).is_changed


def test_scores_of_the_old_model_are_removed(updated, place):
    (place / "model" / "scores.json").write_text('{"schema": "git-starcoder/scores/2"}')
    (place / "model" / "notes.txt").write_text("mine")
    updated(scored=False)
    assert not (place / "model" / "scores.json").exists()
    assert (place / "model" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("budget", [None, {"steps": 1}])
def test_what_was_chosen_for_editors_stays(updated, place, budget):
    chosen = '{"schema": "git-starcoder/serving/1", "min_confidence": 0.4, "reads_suffix": false}'
    (place / "model" / "serving.json").write_text(chosen)
    updated(scored=False, budget=budget)
    assert (place / "model" / "serving.json").read_text() == chosen
    updated(scored=False)


def test_without_new_rows_the_network_stays_and_the_rest_is_updated(place, repo_maker, engine):
    repository = repo_maker([*COMMITS, {"logo.png": "\0"}])
    notes = []
    progress = Progress()
    progress.note = notes.append
    options = {"engine": engine, "scored": False, "progress": progress}
    for revision in ("HEAD~1", "HEAD"):
        before = (place / "model" / "model.safetensors").read_bytes()
        repo = Repo.open(repository, revision)
        result = update(place / "model", place / "dataset", repo, budget={"steps": 2}, **options)
    assert (result.new_rows, result.training) == (0, None)
    assert "No training row is new, so the network stays as it is." in notes
    assert (place / "model" / "model.safetensors").read_bytes() == before
    assert Dataset.open(place / "dataset").manifest["commit"] == Repo.open(repository).commit


def test_what_cannot_be_updated(place, repo_maker, engine, tmp_path):
    other = Repo.open(repo_maker(code_base(20, seed=9)))
    with pytest.raises(RepositoryError, match="does not have the commit"):
        update(place / "model", place / "dataset", other, engine=engine)
    with pytest.raises(DatasetError, match="is not a model"):
        update(tmp_path, place / "dataset", other, engine=engine)
    manifest = place / "dataset" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "digest": "other"}))
    with pytest.raises(DatasetError, match="was not trained on the dataset"):
        update(place / "model", place / "dataset", other, engine=engine)


def test_adapters_are_not_trained_further(place):
    record = read_training_record(place / "model")
    record["config"]["tune"] = "lora"
    with pytest.raises(UsageError, match="adapters"):
        Continuation(place / "model", record, frozenset()).config(tokens=10)


def test_the_command_says_what_it_did(place, repository, capsys):
    command = ["update", str(place / "model"), str(repository), "-j", "1", "-q"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "training rows" in out
    assert "held out before and now: " in out
    assert main(command) == 0
    assert "is up to date with" in capsys.readouterr().out
    assert main([*command, "--minutes", "1", "--tokens", "1"]) == 2
    shutil.rmtree(place / "dataset")
    assert main(command) == 2
    assert "name the dataset of the model with --dataset" in capsys.readouterr().err


def test_the_command_says_what_is_no_model(repository, tmp_path, capsys):
    assert main(["update", str(tmp_path / "missing"), str(repository)]) == 2
    assert "is not a model" in capsys.readouterr().err


def test_pins_are_part_of_the_fingerprint(repository, engine, tmp_path):
    plain = build(Repo.open(repository, OLD), RECIPE, tmp_path / "plain", engine=engine)
    turned = {
        path: "train" if split == "test" else "test"
        for path, split in plain.splits_of_files().items()
        if split != "val"
    }
    pinned = build(Repo.open(repository, OLD), RECIPE, tmp_path / "pinned", engine=engine, pins=Pins(turned))
    assert pinned.manifest["fingerprint"] != plain.manifest["fingerprint"]
    found = pinned.splits_of_files()
    assert {path: found[path] for path in turned if path in found} == {
        path: turned[path] for path in turned if path in found
    }
