"""Compares arms: trains each with several seeds on the same number of tokens, and scores all on one held-out text.

The held-out text is chosen once, from the files of the repository as they are, by the default recipe with its own seed.
All datasets take over its splits (`Pins`), so no recipe and no seed moves a file, and no model learns from it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.build_state import Pins
from git_starcoder.comparison.effects import Effect, TrainedArm, measure_effects
from git_starcoder.dataset import Dataset, dataset_fingerprint
from git_starcoder.dataset.contamination import drop_read
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.engine.cache import code_digest
from git_starcoder.errors import UsageError
from git_starcoder.evals import BOTH, NETWORK
from git_starcoder.model.adapters import digest_weights
from git_starcoder.model.base_lineage import BaseLineage
from git_starcoder.model.base_model import find_base_folder
from git_starcoder.model.devices import best_device
from git_starcoder.model.evaluate import MAX_HELD_OUT_TOKENS, NothingHeldOutError, held_out_blobs
from git_starcoder.model.held_out_text import digest_texts, draw_texts, score_texts
from git_starcoder.model.loading import TRAINING_RECORD, read_training_record, require_model
from git_starcoder.model.training import train
from git_starcoder.pipeline import build
from git_starcoder.protocols import NO_CACHE, NO_PROGRESS, Cache, Engine, Progress
from git_starcoder.recipe import Recipe
from git_starcoder.records import content_id
from git_starcoder.stages import window
from git_starcoder.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from git_starcoder.bases.blobs import BlobFilter
    from git_starcoder.comparison.arms import Arm
    from git_starcoder.comparison.work_folder import WorkFolder
    from git_starcoder.git.objects import Repo
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.held_out_text import HeldOutText
    from git_starcoder.records import Split

REFERENCE_DATASET = "held-out"
"""The name of the dataset of the held-out text in the work folder."""
SUBJECTS = (NETWORK, BOTH)
"""The subjects that effects are shown of: the memory alone is the same with most recipes."""
RESULT_LIBRARIES = ("torch", "transformers")
"""Libraries that results of trainings depend on, besides those that `code_digest` counts."""


@dataclass(frozen=True, slots=True, eq=False)
class ArmComparison:
    """Arms on one held-out text. The first arm is the one that the others are compared with."""

    arms: tuple[TrainedArm, ...]
    effects: tuple[Effect, ...]
    texts: tuple[HeldOutText, ...]
    """The held-out text."""
    about: Mapping[str, Any]
    """What was compared, as values for JSON."""
    notes: tuple[str, ...] = ()
    """What a reader must know."""

    @property
    def byte_counts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The bytes of each text that are scored, shape (texts,)."""
        return np.array([len(text.scored) for text in self.texts], dtype=np.int64)

    def bits_per_byte(self, arm: TrainedArm, subject: str) -> list[float]:
        """The bits per byte of each training of an arm."""
        return (arm.bits[subject].sum(axis=1) / self.byte_counts.sum()).tolist()

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        arms = [
            {
                "name": arm.name,
                "bits_per_byte": {subject: self.bits_per_byte(arm, subject) for subject in arm.bits},
                "trainings": list(arm.about),
                "bits": {subject: np.round(values, 1).tolist() for subject, values in arm.bits.items()},
            }
            for arm in self.arms
        ]
        texts = {
            "path": [text.path for text in self.texts],
            "group": [text.group for text in self.texts],
            "bytes": self.byte_counts.tolist(),
            "read": [len(text.read) for text in self.texts],
        }
        effects = [{**effect._asdict(), "verdict": effect.verdict} for effect in self.effects]
        return {**self.about, "arms": arms, "effects": effects, "texts": texts, "notes": list(self.notes)}


def compare_recipes(
    repo: Repo, arms: Sequence[Arm], work: WorkFolder, *, seeds: int = 3, engine: Engine, cache: Cache = NO_CACHE,
    progress: Progress = NO_PROGRESS, with_memory: bool = True,
) -> ArmComparison:  # fmt: skip
    """Train every arm with several seeds, and compare all with the first one.

    `with_memory` says whether models get a memory, and are scored with it, too.

    What is in the work folder is not done again, so an interrupted comparison goes on.

    Raises:
        UsageError: Arms have one name, or differ in how files are held out.
        DatasetError: Nothing is held out that the bases of the arms have not read.
        StarcoderError: As `build` and `train`.
    """
    if twice := [name for name, count in Counter(arm.name for arm in arms).items() if count > 1]:
        hint = "give arms names of their own in a file, with --arms"
        raise UsageError(f"two arms are called '{twice[0]}'", where="compare", hint=hint)
    bases = {arm.config.base for arm in arms if arm.config.base is not None}
    held_out = _HeldOut.choose(repo, arms, bases, work, engine, cache)
    weights = {None: "", **{base: digest_weights(find_base_folder(base)) for base in bases}}
    jobs = [
        _Job.make(repo, arm, number, held_out, weights[arm.config.base], with_memory=with_memory)
        for number in range(seeds)
        for arm in arms
    ]
    found = {job.key: work.read_result(job.key) for job in jobs}
    waiting = Counter(job.dataset_key for job in {job.key: job for job in jobs}.values() if found[job.key] is None)
    progress.begin("compare", len(jobs))
    start = perf_counter()
    for index, job in enumerate(jobs, 1):
        values = found[job.key]
        if values is None:
            values = found[job.key] = _run(repo, job, work, held_out, engine, cache)
            waiting[job.dataset_key] -= 1
            work.remove_datasets({REFERENCE_DATASET, *+waiting})
        total = sum(values["bits"][NETWORK]) / max(1, held_out.byte_count)
        progress.note(f"{index} of {len(jobs)}: {job.arm.name}, seed {job.config.seed}: {total:.4f} bits per byte")
        progress.advance(1)
    progress.end("compare", perf_counter() - start, len(jobs), len(jobs), {})
    trained = tuple(_join([(job, found[job.key] or {}) for job in jobs if job.arm is arm]) for arm in arms)
    about = {
        "kind": "recipes", "commit": repo.commit, "seeds": seeds, "tokens": arms[0].config.tokens,
        "split": held_out.split, "text": held_out.digest,
    }  # fmt: skip
    return _finish(trained, held_out.texts, about, _notes(trained, held_out.notes))


def compare_models(models: Mapping[str, Path], dataset: Dataset) -> ArmComparison:
    """Compare trained models by name, all with the first one, on the test split of a dataset.

    Raises:
        DatasetError: A folder is not a model, it is damaged, or nothing is held out that no base has read.
    """
    for folder in models.values():
        require_model(folder)
    documents = load_documents(dataset, "test")
    unread = _drop_read(documents, [held_out_blobs(folder) for folder in models.values()])
    tokenizer = load_tokenizer(dataset.tokenizer_folder)
    texts = draw_texts(unread, MAX_HELD_OUT_TOKENS, tokenizer)
    if not texts:
        raise NothingHeldOutError("no held-out text is left to score", where=str(dataset.folder))
    notes: list[str] = []
    arms: list[TrainedArm] = []
    for name, folder in models.items():
        record = read_training_record(folder)
        if record["dataset"] != dataset.digest:
            notes.append(f"'{name}' was trained on another dataset, so it may have seen these files")
        bits = {subject: values[None] for subject, values in score_texts(folder, dataset, texts).items()}
        about = {"seed": record["seed"], **record["result"]}
        arms.append(TrainedArm(name, (content_id(str(folder.resolve())),), bits, (about,)))
    about = {"kind": "models", "dataset": dataset.digest, "split": "test", "text": digest_texts(texts)}
    return _finish(tuple(arms), tuple(texts), about, tuple(notes))


def _finish(
    arms: tuple[TrainedArm, ...], texts: tuple[HeldOutText, ...], about: Mapping[str, Any], notes: tuple[str, ...]
) -> ArmComparison:
    effects = measure_effects(arms, [text.group for text in texts])
    shown = tuple(effect for subject in SUBJECTS for effect in effects if effect.subject == subject)
    return ArmComparison(arms, shown, texts, about, notes)


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """The held-out text of a comparison, and what all datasets take over."""

    texts: tuple[HeldOutText, ...]
    splits: Mapping[str, Split]
    """The split of each file."""
    tokenizer: Path
    """The folder of the tokenizer of all arms that learn one."""
    vocab_size: int
    digest: str
    split: Split = "test"
    notes: tuple[str, ...] = ()

    @property
    def byte_count(self) -> int:
        return sum(len(text.scored) for text in self.texts)

    @classmethod
    def choose(
        cls, repo: Repo, arms: Sequence[Arm], bases: Iterable[str], work: WorkFolder, engine: Engine, cache: Cache
    ) -> _HeldOut:
        """Choose the held-out text: the files that the default recipe holds out, with the split options of the arms."""
        options = arms[0].recipe.split
        for arm in arms:
            if arm.recipe.split != options:
                what = f"'{arms[0].name}' and '{arm.name}' hold out different files: a comparison has one held-out text"
                raise UsageError(what, where="split", hint="set the keys of the section `split` for all arms")
        natural = Recipe.load()
        vocab_size = arms[0].recipe.window.vocab_size
        recipe = replace(natural, split=options, window=replace(natural.window, vocab_size=vocab_size))
        dataset = build(repo, recipe, work.dataset(REFERENCE_DATASET), engine=engine, cache=cache, force=False)
        lineages = [BaseLineage.trace(base, dataset.digest) for base in sorted(bases)]
        notes = [
            f"it is not known what '{lineage.name}' has read: it may have seen the held-out text"
            for lineage in lineages
            if lineage.blobs is None
        ]
        documents = load_documents(dataset, "test")
        unread = _drop_read(documents, [lineage.blobs for lineage in lineages])
        if len(unread) < len(documents):
            count, kept = (len({document.path for document in each}) for each in (documents, unread))
            notes.append(f"{count - kept} of {count} held-out files are not scored, because a base has read them")
        texts = draw_texts(unread, MAX_HELD_OUT_TOKENS, load_tokenizer(dataset.tokenizer_folder))
        if not texts:
            raise NothingHeldOutError("no held-out text is left to score", where=str(repo.path))
        digest = digest_texts(texts)
        return cls(
            tuple(texts), dataset.splits_of_files(), dataset.tokenizer_folder, vocab_size, digest, notes=tuple(notes)
        )

    def pins_for(self, recipe: Recipe) -> Pins:
        """Return what a dataset takes over: the splits, and the tokenizer if the recipe would learn one as large."""
        learns_the_same = recipe.window.tokenizer == "learn" and recipe.window.vocab_size == self.vocab_size
        return Pins(self.splits, self.tokenizer if learns_the_same else None)


@dataclass(frozen=True, slots=True)
class _Job:
    """One training."""

    arm: Arm
    recipe: Recipe
    config: TrainConfig
    dataset_key: str
    key: str
    with_memory: bool

    @classmethod
    def make(
        cls, repo: Repo, arm: Arm, number: int, held_out: _HeldOut, base_weights: str, *, with_memory: bool
    ) -> _Job:
        """A training; `base_weights` is the digest of the weights that it starts from."""
        recipe, config = arm.with_seed(number)
        recipe = window.resolve_header(window.resolve_sizes(recipe), repo)
        inputs = (
            *window.external_digests(recipe),
            *sorted(repo.shallow_boundary),
            *held_out.pins_for(recipe).digests(),
        )
        code = (code_digest().hex(), *(f"{name} {version(name)}" for name in RESULT_LIBRARIES))
        dataset_key = content_id(dataset_fingerprint(recipe, repo.commit, *inputs), *code)
        device = config.device or best_device()
        saved = (config.saved_precision or "", int(config.merge))  # what is scored is the model that was saved
        inputs = (config.fingerprint(), base_weights, *saved, held_out.digest, device, int(with_memory))
        key = content_id(dataset_key, *inputs)
        return cls(arm, recipe, config, dataset_key, key, with_memory)


def _run(repo: Repo, job: _Job, work: WorkFolder, held_out: _HeldOut, engine: Engine, cache: Cache) -> dict[str, Any]:
    """Build the dataset, train the model and score it, as far as that is not done; return and keep the result."""
    pins = held_out.pins_for(job.recipe)
    dataset = build(repo, job.recipe, work.dataset(job.dataset_key), engine=engine, cache=cache, pins=pins)
    model = work.model(job.key)
    if not (model / TRAINING_RECORD).is_file():  # else it was trained, and the process ended before it was scored
        train(dataset, model, job.config, force=True, with_memory=job.with_memory)
    record = read_training_record(model)
    bits = score_texts(model, dataset, held_out.texts)
    result = record["result"]
    values = {
        "arm": job.arm.name, "seed": job.config.seed, "dataset": dataset.digest, "parameters": record["parameters"],
        "device": record["device"], "precision": record["precision"], "validation": result["held_out"],
        **{key: result[key] for key in ("steps", "tokens", "seconds", "stopped")},
        "bits": {subject: each.tolist() for subject, each in bits.items()},
    }  # fmt: skip
    work.write_result(job.key, values)
    return values


def _join(results: list[tuple[_Job, dict[str, Any]]]) -> TrainedArm:
    """Return the trainings of one arm."""
    values = [each for _, each in results]
    bits = {subject: np.array([each["bits"][subject] for each in values]) for subject in values[0]["bits"]}
    about = tuple(
        {key: value for key, value in each.items() if key not in {"schema", "arm", "bits"}} for each in values
    )
    return TrainedArm(results[0][0].arm.name, tuple(job.key for job, _ in results), bits, about)


def _notes(arms: Iterable[TrainedArm], notes: tuple[str, ...]) -> tuple[str, ...]:
    early = [
        f"'{arm.name}' ended {count} of {len(arm.about)} trainings early, because the validation loss rose"
        for arm in arms
        if (count := sum(each["stopped"] != "budget" for each in arm.about))
    ]
    return (*notes, *early)


def _drop_read(documents: list[Any], filters: Iterable[BlobFilter | None]) -> list[Any]:
    """Return the documents that no base has read."""
    for blobs in filters:
        documents = drop_read(documents, blobs)
    return documents
