"""Comparisons: one held-out text for all arms and seeds, nothing done twice, and nothing lost to a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from git_starcoder.comparison import compare
from git_starcoder.comparison.arms import ArmOptions
from git_starcoder.comparison.compare import compare_models, compare_recipes
from git_starcoder.comparison.show import format_comparison, render_comparison
from git_starcoder.comparison.work_folder import open_work_folder
from git_starcoder.dataset import Dataset
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import DatasetError, OutputError, UsageError
from git_starcoder.evals import BOTH, MEMORY, NETWORK
from git_starcoder.evals.bits_per_byte import document_bits
from git_starcoder.git.objects import Repo
from git_starcoder.many.storage import open_work_folder as open_build_folder
from git_starcoder.model.loading import load_model
from git_starcoder.model.training import train
from git_starcoder.pipeline import build
from git_starcoder.protocols import Progress
from git_starcoder.records import SPLITS
from shell import HUNG, environment
from toy import evolving

OPTIONS = ArmOptions(
    overrides=("window.vocab_size=600",), training=("batch=512", "device=cpu", "precision=float32", "micro_batch=1024"),
    tokens=4096, size="toy",
)  # fmt: skip


@pytest.fixture(scope="module")
def repository(repo_maker):
    return repo_maker(evolving(40, 8))


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(1) as workers:
        yield workers


@pytest.fixture
def compared(repository, engine, tmp_path):
    """Compare arms in one work folder."""

    def run(*arms, **options):
        with open_work_folder(tmp_path / "work") as work:
            return compare_recipes(Repo.open(repository), arms, work, engine=engine, **options)

    return run


@pytest.fixture
def faked(monkeypatch):
    """No model is trained. What would be is written down: the arm's dataset and config, and the texts scored."""
    told = SimpleNamespace(trained=[], texts=[], splits=[], files=[], rows=[], tokenizers=[], memories=[])

    def train(dataset, out, config, *, with_memory, **_):
        out.mkdir()
        told.memories.append(with_memory)
        record = {
            "parameters": 1, "device": "cpu", "precision": "float32", "dataset": dataset.digest, "seed": config.seed,
            "result": {"steps": 1, "tokens": 2, "seconds": 3.0, "stopped": "budget", "held_out": 1.0},
        }  # fmt: skip
        (out / "training.json").write_text(json.dumps(record))
        told.trained.append((Dataset.open(dataset.folder).metadata.get("recipe"), config.seed))
        told.splits.append({row["source_file"]: split for split in SPLITS for row in dataset.row_metadata(split)})
        files = [{row["source_file"] for row in dataset.row_metadata(split)} for split in SPLITS]
        told.files.append(dict(zip(SPLITS, files, strict=True)))
        told.rows.append(sum(1 for _ in dataset.row_metadata("train")))
        told.tokenizers.append((dataset.tokenizer_folder / "tokenizer.json").read_bytes())

    def score(*arguments):
        texts = arguments[-1]
        told.texts.append(texts)
        return {NETWORK: np.array([8.0 * len(text.scored) for text in texts])}

    monkeypatch.setattr(compare, "train", train)
    monkeypatch.setattr(compare, "score_texts", score)
    return told


def arm(name, recipe="natural", *overrides, **keys):
    return OPTIONS.make_arm(name, recipe, overrides, **keys)


def quick(name, *training):
    """An arm with short rows, so that steps are short."""
    return arm(name, "natural", "window.size=128", training=training)


SMALL_ELITE = ("window.size=[128, 512]", "read.changes=50", "augment.git_diff=1.0", "analyse.skip=[]")


def test_all_arms_and_seeds_have_one_held_out_text(compared, faked):
    arms = arm("natural"), arm("elite", "elite", *SMALL_ELITE), arm("effectiveness", "effectiveness", "window.size=128")
    comparison = compared(*arms, seeds=2)
    assert len(faked.trained) == 6
    assert all(texts == faked.texts[0] for texts in faked.texts)
    held_out = {path for path, split in faked.splits[0].items() if split != "train"}
    scored = {text.path for text in comparison.texts}
    assert scored
    assert scored <= held_out
    for splits in faked.splits:
        both = faked.splits[0].keys() & splits.keys()
        assert {path: splits[path] for path in both} == {path: faked.splits[0][path] for path in both}
        assert not scored & {path for path, split in splits.items() if split == "train"}
    assert len(set(faked.tokenizers)) == 1
    assert len(set(faked.rows)) > 1
    assert [len(each.bits[NETWORK]) for each in comparison.arms] == [2, 2, 2]
    assert [effect.ratio for effect in comparison.effects] == [1.0, 1.0]


def test_held_out_commits_leave_the_past_to_training_and_no_seed_moves_them(
    compared, faked, repository, engine, tmp_path
):
    options = ("split.holdout=commits", "split.commits=6")
    comparison = compared(arm("a", "natural", *options), arm("b", "natural", *options, "window.size=128"), seeds=3)
    recipe = arm("a", "natural", *options).recipe
    alone = build(Repo.open(repository), recipe, tmp_path / "alone", engine=engine)
    scored = {text.path for text in comparison.texts}
    assert all(texts == faked.texts[0] for texts in faked.texts)
    for files in faked.files:
        assert files["train"] == {row["source_file"] for row in alone.row_metadata("train")}
        assert scored <= files["test"]
        assert (files["val"], files["test"]) == (faked.files[0]["val"], faked.files[0]["test"])
    assert scored & faked.files[0]["train"]  # lines that were added to files of which training has the rest


def test_seeds_of_the_recipes_move_no_file(compared, faked):
    compared(arm("a"), replace(arm("b"), recipe=replace(arm("b").recipe, seed=99)), seeds=1)
    assert faked.splits[0] == faked.splits[1]


def test_a_comparison_is_not_done_twice(compared, faked, tmp_path):
    arms = arm("natural"), arm("short", "natural", "window.size=128")
    first = compared(*arms, seeds=2)
    assert len(faked.trained) == 4
    assert [each.name for each in (tmp_path / "work/datasets").iterdir()] == ["held-out"]
    assert not list((tmp_path / "work/models").iterdir())
    again = compared(*arms, seeds=2)
    assert again.as_values() == first.as_values()
    assert len(faked.trained) == 4
    compared(*arms, arm("renamed", "natural", "window.size=128"), seeds=3)  # the new name of the same arm
    assert len(faked.trained) == 6
    compared(arms[0], arm("other", "natural", training=("fim=0",)), seeds=1)
    assert len(faked.trained) == 7


def test_other_weights_of_the_base_and_another_number_type_are_other_trainings(
    compared, faked, repository, engine, tmp_path
):
    base, dataset = tmp_path / "base", build(Repo.open(repository), arm("a").recipe, tmp_path / "data", engine=engine)
    options = replace(OPTIONS, base=str(base), training=OPTIONS.training[1:])
    for seed, trainings in ((0, 2), (1, 4)):
        train(dataset, base, replace(arm("a").config, seed=seed, tokens=512), force=True)
        arms = (
            options.make_arm("a", "natural"),
            options.make_arm("b", "natural", training=("saved_precision=bfloat16",)),
        )
        for _ in range(2):
            compared(*arms, seeds=1)
            assert len(faked.trained) == trainings


def test_two_names_of_one_arm_leave_no_dataset(compared, faked, tmp_path):
    compared(arm("a"), arm("b"), seeds=1)
    assert len(faked.trained) == 1
    assert [each.name for each in (tmp_path / "work/datasets").iterdir()] == ["held-out"]


def test_networks_alone_have_results_of_their_own(compared, faked):
    arms = quick("natural"), quick("noisy", "noise=0.1")
    compared(*arms, seeds=1)
    compared(*arms, seeds=1, with_memory=False)
    compared(*arms, seeds=1, with_memory=False)
    assert faked.memories == [True, True, False, False]


def test_a_network_alone_has_no_memory_and_the_same_bits(compared, tmp_path):
    arms = quick("natural"), quick("noisy", "noise=0.1")
    both, alone = (compared(*arms, seeds=1, with_memory=with_memory) for with_memory in (True, False))
    for one, other in zip(both.arms, alone.arms, strict=True):
        assert set(one.bits) == {NETWORK, MEMORY, BOTH}
        assert set(other.bits) == {NETWORK}
        assert (one.bits[NETWORK] == other.bits[NETWORK]).all()
    assert [effect.subject for effect in both.effects] == [NETWORK, BOTH]
    assert [effect.subject for effect in alone.effects] == [NETWORK]
    assert "network and memory" not in render_comparison(alone, "toy")
    assert not list((tmp_path / "work/models").iterdir())


def test_a_damaged_result_is_measured_again(compared, faked, tmp_path):
    arms = arm("natural"), arm("short", "natural", "window.size=128")
    compared(*arms, seeds=1)
    for path, text in zip(sorted((tmp_path / "work/results").iterdir()), ("{", '{"schema": "x"}'), strict=True):
        path.write_text(text)
    compared(*arms, seeds=1)
    assert len(faked.trained) == 4


def test_a_model_that_was_not_scored_is_not_trained_again(compared, faked, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    arms = arm("natural"), arm("short", "natural", "window.size=128")
    with monkeypatch.context() as patch:
        patch.setattr(compare, "score_texts", die)
        with pytest.raises(KeyboardInterrupt):
            compared(*arms, seeds=1)
    compared(*arms, seeds=1)
    assert len(faked.trained) == 2


@pytest.mark.parametrize(
    ("arms", "what"),
    [
        ([arm("a"), arm("a")], "two arms are called 'a'"),
        ([arm("a"), arm("b", "natural", "split.near=0.6")], "'a' and 'b' hold out different files"),
    ],
)
def test_what_cannot_be_compared(compared, faked, arms, what):
    with pytest.raises(UsageError, match=what):
        compared(*arms)
    assert not faked.trained


def test_the_work_folder_is_ours_and_used_by_one(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("mine")
    with (
        pytest.raises(OutputError, match="is not the work folder of a comparison"),
        open_work_folder(tmp_path / "mine"),
    ):
        pass
    with (
        open_work_folder(tmp_path / "work"),
        pytest.raises(OutputError, match="another comparison is writing"),
        open_work_folder(tmp_path / "work"),
    ):
        pass
    with open_work_folder(tmp_path / "work"):
        pass
    open_build_folder(tmp_path / "of a build")
    with (
        pytest.raises(OutputError, match="is not the work folder of a comparison"),
        open_work_folder(tmp_path / "of a build"),
    ):
        pass


def test_only_datasets_of_ours_are_removed(tmp_path):
    keys = "a" * 32, "b" * 32
    with open_work_folder(tmp_path / "work") as work:
        for name in (*keys, f".{keys[1]}.partial", "mine"):
            work.dataset(name).mkdir()
        work.remove_datasets({keys[0]})
        assert {path.name for path in work.dataset("mine").parent.iterdir()} == {keys[0], "mine"}


class Ended(Progress):
    """Interrupts a training after some steps."""

    def __init__(self, steps):
        self.left = steps

    def advance(self, count):
        self.left -= count
        if self.left < 0:
            raise KeyboardInterrupt


def test_an_interrupted_training_goes_on(compared, monkeypatch, tmp_path):
    """With the weights, and so the bits, of a training that nothing happened to."""
    arms = quick("natural", "checkpoint_minutes=1e-9"), quick("plain", "fim=0")
    notes = []

    def begin_only(dataset, out, config, **options):
        return train(dataset, out, config, **{**options, "progress": Ended(5)})

    def go_on(dataset, out, config, **options):
        watch = Progress()
        watch.note = notes.append
        return train(dataset, out, config, **{**options, "progress": watch})

    monkeypatch.setattr(compare, "train", begin_only)
    with pytest.raises(KeyboardInterrupt):
        compared(*arms, seeds=1)
    monkeypatch.setattr(compare, "train", go_on)
    resumed = compared(*arms, seeds=1)
    assert any(note.startswith("resuming after step ") for note in notes)
    monkeypatch.setattr(compare, "train", train)
    (tmp_path / "work").rename(tmp_path / "first")
    whole = compared(*arms, seeds=1)
    for one, other in zip(resumed.arms, whole.arms, strict=True):
        assert one.bits[NETWORK].tolist() == other.bits[NETWORK].tolist()
        assert one.bits[BOTH].tolist() == other.bits[BOTH].tolist()


def test_a_planted_improvement_is_found(compared):
    """And shown: as text, as JSON and as a page."""
    arms = quick("slow", "learning_rate=1e-5"), quick("as usual")
    comparison = compared(*arms, seeds=2)
    effects = {effect.subject: effect for effect in comparison.effects}
    assert effects[NETWORK].verdict == "fewer bits"
    assert effects[NETWORK].ratio < 0.95
    text = format_comparison(comparison)
    assert "bits compared with 'slow'" in text
    assert "fewer bits" in text
    values = json.loads(json.dumps(comparison.as_values()))
    assert values["effects"][0]["verdict"] == "fewer bits"
    assert np.array(values["arms"][0]["bits"][NETWORK]).shape == (2, len(values["texts"]["path"]))
    html = render_comparison(comparison, "<b>place</b>")
    assert "&lt;b&gt;place&lt;/b&gt;" in html
    assert html.count("<svg") == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from git_starcoder.comparison import compare, work_folder
from git_starcoder.cli import main

train, finished = compare.train, 0

def train_once(*arguments, **options):
    global finished
    if finished == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    finished += 1
    return train(*arguments, **options)

compare.train = train_once
sys.exit(main(sys.argv[1:]))
"""


def test_a_kill_loses_no_finished_arm(repository, tmp_path):
    command = [
        "compare", "--repo", str(repository), "--without", "window.header", "--work", str(tmp_path / "work"), "-j", "1",
        "--size", "0.2M", "--tokens", "512", "--seeds", "2", "--train", "batch=512", "--set", "window.vocab_size=600",
        "--set", "window.size=256", "--json",
    ]  # fmt: skip
    options = {"env": environment(OMP_NUM_THREADS="1"), "timeout": HUNG, "check": False, "text": True, "cwd": tmp_path}
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], capture_output=True, **options)
    assert killed.returncode == -signal.SIGKILL
    kept = {path.name: path.read_bytes() for path in (tmp_path / "work/results").iterdir()}
    assert len(kept) == 2
    done = subprocess.run([sys.executable, "-m", "git_starcoder", *command], capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    results = {path.name: path.read_bytes() for path in (tmp_path / "work/results").iterdir()}
    assert len(results) == 4
    assert kept.items() <= results.items()
    values = json.loads(done.stdout)
    assert [each["name"] for each in values["arms"]] == ["natural", "without window.header"]
    again = subprocess.run([sys.executable, "-m", "git_starcoder", *command], capture_output=True, **options)
    assert json.loads(again.stdout) == values


def test_models_are_compared_on_the_test_split_of_a_dataset(tmp_path, repository, engine):
    dataset = build(repository, quick("a").recipe, tmp_path / "dataset", engine=engine)
    models = {}
    for name, tokens in (("short", 512), ("long", 4096)):
        models[name] = tmp_path / name
        train(dataset, models[name], replace(quick("a").config, tokens=tokens))
    with pytest.raises(DatasetError):
        compare_models({"none": tmp_path}, dataset)
    comparison = compare_models(models, dataset)
    for arm_of, folder in zip(comparison.arms, models.values(), strict=True):
        model, tokenizer = load_model(folder)
        bits = document_bits(model, load_documents(dataset, "test"), tokenizer.end_id)
        assert arm_of.bits[NETWORK][0].tolist() == pytest.approx(bits.tolist())
    [network, both] = comparison.effects
    assert (network.subject, both.subject) == (NETWORK, BOTH)
    assert network.ratio < 1
    assert not network.with_chance_of_training
    assert "do not include the chance in a training" in format_comparison(comparison)
