"""Builds one dataset from many repositories. The parts and joins are described in `docs/architecture.md`."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson

from git_starcoder.build_state import BuildState, StepCounts, TextStore
from git_starcoder.dataset import CARD_FILE, METADATA_FILE, Dataset, dataset_fingerprint, publish_dataset, write_card
from git_starcoder.dataset.folder import REPOSITORIES_FILE, shard_name
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import MachineError, RecipeError, RepositoryError
from git_starcoder.git.objects import Repo
from git_starcoder.many import storage, tasks
from git_starcoder.many.repositories import LeftOut, Named, choose_repositories, failed, require_some
from git_starcoder.many.storage import ReadRecords, ShardRecords
from git_starcoder.many.tasks import CacheFolder, Problem, ReadTask, RepositorySource, RowsTask, ShardTask
from git_starcoder.output.folder import require_apart
from git_starcoder.protocols import NO_PROGRESS, Engine, Failure, Progress
from git_starcoder.records import CONTENT_ID, SPLITS, RepositoryLabel, content_id
from git_starcoder.row_layout import STEPS
from git_starcoder.stages import dedup, split, window, write
from git_starcoder.stages.learn_tokenizer import LearningSource, choose_sample
from git_starcoder.text.licences import licence_type
from git_starcoder.user_paths import offer_temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Sequence

    from git_starcoder.recipe import Recipe

S = TypeVar("S")
T = TypeVar("T")

JOINED_METADATA = (
    "total_sequences", "train_sequences", "val_sequences", "test_sequences", "source_files", "source_files_scanned",
    "base_sequences", "augmented_sequences", "git_diffs", "git_commits_analyzed", "function_signatures",
    "dependency_graph_nodes", "dependency_graph_edges", "total_tokens",
)  # fmt: skip
"""Keys of `dataset_metadata.json` whose values are added up."""
COMMON_FIGURES = ("vocab_size",)
"""Figures of steps that are equal in all repositories; other numbers are added up."""


class ReadRepository(NamedTuple):
    """A repository whose part `read` is done."""

    named: Named
    folder: Path


class RowsOfRepository(NamedTuple):
    """A repository whose part `rows` is done."""

    read: ReadRepository
    folder: Path
    tokenizer: Path
    recipe: Recipe


class Shard(NamedTuple):
    """A repository whose part `shard` is done."""

    rows: RowsOfRepository
    folder: Path
    label: RepositoryLabel
    records: ShardRecords


def build_many(
    sources: Sequence[RepositorySource],
    recipe: Recipe,
    out: str | Path,
    *,
    engine: Engine | None = None,
    progress: Progress = NO_PROGRESS,
    cache: CacheFolder | None = None,
    work: Path | None = None,
    strict: bool = False,
    force: bool = False,
) -> Dataset:
    """Build one dataset from many repositories.

    The bytes of the dataset depend neither on the order of `sources`, nor on what is in the cache and in the work
    folder. A repository that cannot be read is left out and counted.

    Args:
        sources: The repositories.
        recipe: The settings of the dataset.
        out: The folder of the new dataset.
        engine: Runs the parts. The default is a worker process per CPU.
        progress: Receives the progress of the build.
        cache: The folder of the cache. By default, there is no cache.
        work: A folder that keeps what parts hand on, so that a later build runs only those whose input changed. By
            default, a temporary folder.
        strict: Whether a repository that cannot be read ends the build.
        force: Whether to build again, and to replace files of an existing dataset that were edited.

    Raises:
        RepositoryError: No repository can be used, or one cannot and `strict` is set.
        RecipeError: The recipe holds out commits, which come after one another in one repository only.
        UsageError: The tokenizer or the embedding model of the recipe cannot be read.
        OutputError: A folder cannot be written, is locked by another build, or holds something else; or one of `out`
            and `work` contains the other.
    """
    out = Path(out)
    require_buildable(recipe, out, work)
    offer_temporary_folder(out)
    recipe = window.resolve_sizes(recipe)
    with nullcontext(engine) if engine else LocalEngine() as workers:
        chosen, left_out = find_repositories(sources, recipe, workers, progress, strict=strict)
        commits = content_id(*(part for name, facts in chosen for part in (name, facts.commit)))
        inputs = [part for _, facts in chosen for part in facts.shallow_boundary]
        inputs += [f"{each.name} {each.commit} {each.reason}" for each in left_out]
        fingerprint = dataset_fingerprint(recipe, commits, *window.external_digests(recipe), *inputs)
        with publish_dataset(out, fingerprint, force=force) as target:
            if target.up_to_date is not None:
                progress.note(f"{out} is up to date")
                return target.up_to_date
            with BuildState(target.folder, recipe.seed, workers, progress) as state:
                folder = state.scratch / "work" if work is None else storage.open_work_folder(work)
                many = ManyBuild(state, recipe, folder, cache, left_out, ("read", "rows"), strict=strict)
                repositories = many.read(chosen)
                require_some([each.named for each in repositories], many.left_out)
                shards = many.write(many.make_rows(repositories))
                require_some([shard.rows.read.named for shard in shards], many.left_out)
                many.finish(shards, fingerprint, commits)
    return Dataset.open(out)


def require_buildable(recipe: Recipe, out: Path, work: Path | None) -> None:
    """Raise the error for what no build of many repositories can do, before any of them is read; see `build_many`."""
    if recipe.split.holdout == "commits":
        hint = "use split.holdout=files, or build a dataset of one repository"
        raise RecipeError("the commits of several repositories cannot be held out", where="split.holdout", hint=hint)
    if work is not None:
        require_apart(work, out)
    window.external_digests(recipe)  # a tokenizer or an embedding model may be missing


def find_repositories(
    sources: Sequence[RepositorySource], recipe: Recipe, engine: Engine, progress: Progress, *, strict: bool
) -> tuple[list[Named], list[LeftOut]]:
    """The repositories to read, by name, and those that are left out; see `build_many`."""
    found = _run(engine, progress, "find", tasks.inspect_repository, sources)
    chosen, left_out = choose_repositories(sources, found, recipe.repos)
    _report_left_out(progress, left_out, strict=strict)
    require_some(chosen, left_out)
    return chosen, left_out


@dataclass(frozen=True, slots=True)
class Share:
    """The repositories that one of several processes works on: every `count`-th, from the `number`-th on."""

    number: int = 1
    """From 1 to `count`."""
    count: int = 1

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """The items that belong to this share: of [a, b, c, d, e], the second of two has [b, d]."""
        return items[self.number - 1 :: self.count]


ALL = Share()


class ManyBuild:
    """One build in progress: its parts and joins, in the order in which they are called."""

    def __init__(
        self,
        state: BuildState,
        recipe: Recipe,
        work: Path,
        cache: CacheFolder | None,
        left_out: list[LeftOut],
        retried: Collection[str],
        *,
        strict: bool,
    ) -> None:
        self._state, self._recipe, self._work, self._cache, self._strict = state, recipe, work, cache, strict
        self.left_out = left_out
        self._retried = retried
        """The parts that are done again for repositories in which something could not be read or computed."""
        self._used: set[Path] = set()
        """Folders and files of the work folder that this build needs."""
        self._joined: dict[str, StepCounts] = {}
        """The figures of the joins by step."""

    def read(self, chosen: Sequence[Named], share: Share = ALL) -> list[ReadRepository]:
        """Run the part `read` of each repository of the share. The result is in the order of `chosen`."""
        recipe = self._recipe
        settings = (
            recipe.read, recipe.analyse, recipe.augment, recipe.window.sizes, recipe.window.overlap, recipe.seed,
        )  # fmt: skip
        repositories: list[ReadRepository] = []
        for each in chosen:
            key = storage.key_of("read", each.facts.commit, repr(settings), *each.facts.shallow_boundary)
            repositories.append(ReadRepository(each, self._folder("read", key)))
        retries = "read" in self._retried
        jobs = [
            ReadTask(each.folder, each.named.facts.path, each.named.facts.commit, recipe, self._cache, retries)
            for each in repositories
        ]
        jobs, repositories = list(share.of(jobs)), list(share.of(repositories))
        return self._run_parts("read", tasks.read_part, jobs, repositories, lambda each: each.named)

    def make_rows(self, repositories: Sequence[ReadRepository], share: Share = ALL) -> list[RowsOfRepository]:
        """Join the tables of files of all repositories, and run the part `rows` of each one of the share.

        The result is in the order in which repositories keep what several of them have.
        """
        repositories, decisions = self._join_files(repositories)
        stored = [storage.store_once(self._folder("decisions"), each) for each in decisions]
        self._used |= {path for path, _ in stored}
        tokenizer, digest = self._provide_tokenizer(repositories, decisions)
        outside = window.external_digests(self._recipe)
        rows: list[RowsOfRepository] = []
        jobs: list[RowsTask] = []
        for each, (path, decided) in zip(repositories, stored, strict=True):
            recipe = tasks.with_header(self._recipe, each.named.name)
            settings = repr((recipe.augment, recipe.window, recipe.dedup))
            key = storage.key_of("rows", storage.folder_digest(each.folder), decided, digest, settings, *outside)
            folder = self._folder("rows", key)
            rows.append(RowsOfRepository(each, folder, tokenizer, recipe))
            jobs.append(RowsTask(folder, each.folder, path, tokenizer, recipe, self._cache, "rows" in self._retried))
        jobs, rows = list(share.of(jobs)), list(share.of(rows))
        return self._run_parts("window", tasks.rows_part, jobs, rows, lambda each: each.read.named)

    def write(self, repositories: Sequence[RowsOfRepository], share: Share = ALL) -> list[Shard]:
        """Join the tables of rows of all repositories, and run the part `shard` of each one of the share.

        The result is ordered by name.
        """
        decisions = self._join_rows(repositories)
        library = version("pyarrow") if self._recipe.write.format == "parquet" else ""
        shards: list[tuple[RowsOfRepository, Path, RepositoryLabel]] = []
        jobs: list[ShardTask] = []
        for each, decided in zip(repositories, decisions, strict=True):
            values = (decided.rows.tolist(), decided.reasons, decided.details)
            path, digest = storage.store_once(self._folder("decisions"), values)
            self._used.add(path)
            named, recipe = each.read.named, each.recipe
            label = RepositoryLabel(named.name, named.facts.licences)
            settings = repr((recipe.weigh, recipe.order, recipe.write, recipe.repos, recipe.name))
            inputs = (storage.folder_digest(each.folder), digest, repr(label), settings, library)
            folder = self._folder("shard", storage.key_of("shard", *inputs))
            shards.append((each, folder, label))
            jobs.append(
                ShardTask(
                    folder, each.read.folder, each.folder, path, each.tokenizer, named.facts.path, named.facts.commit,
                    label, recipe,
                )
            )  # fmt: skip
        jobs, shards = list(share.of(jobs)), list(share.of(shards))
        done = self._run_parts("write", tasks.shard_part, jobs, shards, lambda shard: shard[0].read.named)
        return [
            Shard(each, folder, label, storage.load(folder / storage.RECORDS_FILE, ShardRecords))
            for each, folder, label in sorted(done, key=lambda shard: shard[0].read.named.name)
        ]

    def finish(self, shards: Sequence[Shard], fingerprint: str, commits: str) -> None:
        """Make the dataset of all shards."""
        out = self._state.folder
        files: dict[str, dict[str, int | str]] = {}
        for shard in shards:
            for name, entry in shard.records.files.items():
                if entry["rows"]:
                    target = shard_name(name, shard.label.name)
                    storage.link_or_copy(shard.folder / name, out / target)
                    files[target] = entry
        for name in tasks.JOINED_FILES:
            with (out / name).open("wb") as joined:
                for shard in shards:
                    with (shard.folder / name).open("rb") as part:
                        shutil.copyfileobj(part, joined)
        (out / "tokenizer").mkdir()
        for path in shards[0].rows.tokenizer.iterdir():
            if path.name != storage.SEAL_FILE:
                shutil.copy(path, out / "tokenizer")
        (out / "recipe.yaml").write_text(self._recipe.to_yaml(), encoding="utf-8")
        metadata = self._metadata(shards, commits)
        (out / METADATA_FILE).write_bytes(write.indented_json(metadata))
        self._write_repositories(shards)
        licences = {licence for shard in shards for licence in shard.label.licences or ("unknown",)}
        licence = write_card.hub_licence(licences.pop()) if len(licences) == 1 else "other"
        card = write_card.render_card(metadata, shards[0].records.features, licence)
        (out / CARD_FILE).write_text(card, encoding="utf-8")
        histories = [self._history(shard) for shard in shards]
        origin: dict[str, Any] = {
            "commit": commits,
            "shallow": any(history.is_shallow or history.is_incomplete for history in histories),
            **({"unsure_renames": True} if any(history.has_uncertain_renames for history in histories) else {}),
            "repositories": {
                "seen": len(shards) + len(self.left_out),
                "kept": len(shards),
                "dropped": dict(sorted(Counter(each.reason for each in self.left_out).items())),
            },
        }
        folders = [folder for shard in shards for folder in (shard.rows.read.folder, shard.rows.folder)]
        self._state.has_faults |= any((folder / storage.FAULTS_FILE).exists() for folder in folders)
        write.write_manifest(self._state, fingerprint, origin, self._join_steps(shards), files)
        self._remove_unused()

    def _join_files(
        self, repositories: Sequence[ReadRepository]
    ) -> tuple[list[ReadRepository], list[split.FileDecisions]]:
        tables = [(each, storage.load_file_table(each.folder, each.named.name)) for each in repositories]
        tables.sort(key=lambda pair: (-pair[1].size, pair[1].name))
        with self._joining("split", sum(len(table.paths) for _, table in tables)) as step:
            decisions = split.join_files(self._state, step, self._recipe, [table for _, table in tables])
        return [each for each, _ in tables], decisions

    def _join_rows(self, repositories: Sequence[RowsOfRepository]) -> list[dedup.RowDecisions]:
        tables = [storage.load_row_table(each.folder, each.read.named.name) for each in repositories]
        with self._joining("dedup", sum(len(table.rows.size) for table in tables)) as step:
            return dedup.join_rows(self._state, step, self._recipe.dedup, tables)

    def _provide_tokenizer(
        self, repositories: Sequence[ReadRepository], decisions: Sequence[split.FileDecisions]
    ) -> tuple[Path, str]:
        """The folder of the tokenizer of all repositories, and its digest."""
        sources: list[LearningSource] = []
        if self._recipe.window.tokenizer == "learn":
            sample = choose_sample([each.named.name for each in repositories])
            for each, decided in zip(repositories, decisions, strict=True):
                if each.named.name in sample:
                    sources.append(self._learning_source(each, decided))
        tokenizer = window.load_or_learn_tokenizer(self._state, self._recipe, sources)
        for source in sources:
            source.texts.close()
        folder = self._folder("tokenizer", tokenizer.digest)
        if not storage.has_folder(folder):
            with storage.new_folder(folder) as partial:
                tokenizer.save(partial)
        return folder, tokenizer.digest

    def _learning_source(self, each: ReadRepository, decided: split.FileDecisions) -> LearningSource:
        records = storage.load(each.folder / storage.RECORDS_FILE, ReadRecords)
        units = split.with_splits(storage.load_units(records.units), decided)
        facts = each.named.facts
        texts = TextStore((self._state.scratch / "no_texts").open("w+b", buffering=0), [each.folder / "texts"])
        return LearningSource(Repo.open(facts.path, facts.commit), units, texts, each.named.name)

    def _run_parts(
        self,
        name: str,
        function: Callable[[Any], Problem | None],
        jobs: Sequence[Any],
        results: Sequence[T],
        named: Callable[[T], Named],
    ) -> list[T]:
        """Run a part of each repository; the results of those that succeed."""
        problems = _run(self._state.engine, self._state.progress, name, function, jobs)
        failures: list[LeftOut] = []
        done: list[T] = []
        for result, problem in zip(results, problems, strict=True):
            if problem is None:
                done.append(result)
            else:
                facts = named(result).facts
                failures.append(failed(named(result).name, facts.commit, facts.path, problem))
        _report_left_out(self._state.progress, failures, strict=self._strict)
        self.left_out += failures
        self._state.has_faults |= bool(failures)
        return done

    @contextmanager
    def _joining(self, name: str, count: int) -> Generator[StepCounts]:
        """Time and report a join of so many files or rows, whose figures the manifest has."""
        step = self._joined[name] = StepCounts(name, self._state.progress, [])
        self._state.progress.begin(name, None)
        start = time.perf_counter()
        yield step
        self._state.progress.end(name, time.perf_counter() - start, count, count, {})

    def _folder(self, kind: str, key: str = "") -> Path:
        """A folder of the work folder, which is kept if it has a key."""
        folder = self._work / kind / key if key else self._work / kind
        if key:
            self._used.add(folder)
        return folder

    def _remove_unused(self) -> None:
        """Delete what only earlier builds needed. Nothing else has such names."""
        for kind in storage.KINDS:
            for path in (self._work / kind).iterdir():
                if path not in self._used and CONTENT_ID.fullmatch(path.name):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _history(self, shard: Shard) -> storage.HistoryFacts:
        return storage.load(shard.rows.read.folder / storage.HISTORY_FILE, storage.HistoryFacts)

    def _metadata(self, shards: Sequence[Shard], commits: str) -> dict[str, Any]:
        """The content of `dataset_metadata.json`: of all repositories together."""
        parts = [shard.records.metadata for shard in shards]
        joined = dict(parts[0])
        for key in JOINED_METADATA:
            joined[key] = sum(part[key] for part in parts)
        techniques: list[dict[str, int]] = [part["augmentation_techniques"] for part in parts]
        joined["augmentation_techniques"] = {key: sum(part[key] for part in techniques) for key in techniques[0]}
        joined["avg_tokens_per_sequence"] = round(joined["total_tokens"] / max(1, joined["total_sequences"]), 1)
        joined["creation_date"] = max(part["creation_date"] for part in parts)
        joined["source_repo"] = f"git:{commits}"
        if "repository" in joined:
            joined["repository"] = None  # every row has its own
        return joined | {"repositories": len(shards)}

    def _write_repositories(self, shards: Sequence[Shard]) -> None:
        """Write `repositories.jsonl`: every repository that was given, and what became of it."""
        lines: list[dict[str, Any]] = []
        for shard in shards:
            facts, metadata = shard.rows.read.named.facts, shard.records.metadata
            lines.append(
                {
                    "repository": shard.label.name,
                    "commit": facts.commit,
                    "licenses": shard.label.licences,
                    "license_type": licence_type(shard.label.licences),
                    "result": "kept",
                    "files": metadata["source_files"],
                    **{split: metadata[f"{split}_sequences"] for split in SPLITS},
                    "tokens": metadata["total_tokens"],
                    "weight": shard.records.weight,
                }
            )
        for each in self.left_out:
            about = {"repository": each.name, "commit": each.commit, "licenses": each.licences, "result": each.reason}
            # The message of a failure may have the path of a folder of the user.
            lines.append(about if each.reason == "failed" else about | {"because": each.because})
        lines.sort(key=lambda line: (line["repository"], line["commit"]))
        with (self._state.folder / REPOSITORIES_FILE).open("wb") as file:
            file.writelines(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)

    def _join_steps(self, shards: Sequence[Shard]) -> list[StepCounts]:
        """The counts of each step, of all repositories together."""
        joined: list[StepCounts] = []
        for name in STEPS:
            records = [record for shard in shards for record in shard.records.steps if record.name == name]
            step = StepCounts(name, NO_PROGRESS, [])
            step.seen, step.kept = sum(record.seen for record in records), sum(record.kept for record in records)
            for record in records:
                step.dropped.update(record.dropped)
            step.figures = dict(self._joined[name].figures) if name in self._joined else {}
            step.figures |= _join_figures([record.figures for record in records])
            joined.append(step)
        return joined


def _join_figures(parts: Sequence[dict[str, int | float | str]]) -> dict[str, int | float | str]:
    """Numbers are added up. Texts, and what is equal for all, stay."""
    joined: dict[str, int | float | str] = {}
    for part in parts:
        for key, value in part.items():
            known = joined.get(key)
            if known is None or key in COMMON_FIGURES or isinstance(value, str):
                joined[key] = value
            elif not isinstance(known, str):
                joined[key] = known + value
    return joined


def _run(
    engine: Engine, progress: Progress, name: str, function: Callable[[S], T | Problem], jobs: Sequence[S]
) -> list[T | Problem]:
    """Apply a part to all repositories. A crash or a bug is a problem of the repository that it happens at."""
    progress.begin(name, len(jobs))
    start = time.perf_counter()
    results: list[T | Problem] = []
    for result in engine.map(function, jobs, limit=tasks.TASK_SECONDS):
        problem = Problem(f"worker {result.kind}", result.detail) if isinstance(result, Failure) else result
        if isinstance(problem, Problem) and problem.is_of_machine:
            raise MachineError(problem.what, where=problem.where, hint=problem.hint)
        results.append(problem)
        progress.advance(1)
    failures = sum(isinstance(result, Problem) for result in results)
    dropped = {"failed": failures} if failures else {}
    progress.end(name, time.perf_counter() - start, len(jobs), len(jobs) - failures, dropped)
    return results


def _report_left_out(progress: Progress, left_out: Iterable[LeftOut], *, strict: bool) -> None:
    """A note for each repository that is left out, or an error for the first that failed."""
    for each in left_out:
        title = f"{each.name or 'a repository'} ({each.path})"
        if strict and each.reason == "failed":
            what = f"{title} cannot be used: {each.because}"
            raise RepositoryError(what, where=str(each.path), hint="without --strict, it is left out")
        progress.note(f"left out: {title}: {each.because}")
