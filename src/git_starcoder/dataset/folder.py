"""Opens finished dataset folders, and publishes new ones: a folder appears complete or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson

from git_starcoder.dataset import read_rows
from git_starcoder.errors import DatasetError
from git_starcoder.output.contents import OutputKind
from git_starcoder.output.folder import atomic_folder
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from git_starcoder.dataset.read_rows import Labels, Row
    from git_starcoder.records import Split

DATASET_SCHEMA = "git-starcoder/dataset/2"
"""The format, in `manifest.json`. The number grows when the same commit and recipe give other bytes than before."""
MANIFEST_FILE = "manifest.json"
METADATA_FILE = "dataset_metadata.json"
RECIPE_FILE = "recipe.yaml"
CARD_FILE = "README.md"
REPOSITORIES_FILE = "repositories.jsonl"
"""Says which repositories a dataset is made from, if it is made from many."""
FIXED_FILES = (
    METADATA_FILE, MANIFEST_FILE, RECIPE_FILE, "drops.jsonl", "imports.jsonl", "signatures.jsonl",
    "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", CARD_FILE,
)  # fmt: skip
"""The files that every dataset has besides those of its rows."""
DATASET_FOLDER = OutputKind("dataset", "build", MANIFEST_FILE, "git-starcoder/dataset/", frozenset(FIXED_FILES))
"""How a dataset folder is recognised as ours, so that a build replaces nothing else."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A finished dataset folder.

    >>> dataset = Dataset.open("out")  # doctest: +SKIP
    >>> [len(row.tokens) for row in dataset.rows("train")]  # doctest: +SKIP
    """

    folder: Path
    metadata: dict[str, Any]
    """The content of `dataset_metadata.json`: counts and settings for readers."""
    manifest: dict[str, Any]
    """The content of `manifest.json`: the fingerprint, the counts of every step, and the digest of every file."""

    @classmethod
    def open(cls, folder: str | Path) -> Dataset:
        """Open a finished folder.

        Raises:
            DatasetError: The folder is not a finished dataset, or has another format.
        """
        folder = Path(folder)
        manifest = _read_object(folder / MANIFEST_FILE, folder)
        if manifest.get("schema") != DATASET_SCHEMA:
            what = f"'{folder}' was written in another format"
            raise DatasetError(what, where=MANIFEST_FILE, hint=f"this is {DATASET_SCHEMA}")
        return cls(folder, _read_object(folder / METADATA_FILE, folder), manifest)

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The counts of every step of the build.

        Raises:
            DatasetError: Somebody edited them.
        """
        try:
            for step in self.manifest["steps"]:  # the sum verifies the types, too
                _ = step["step"], step["seen"] + step["kept"] + sum(step["dropped"].values()), step["figures"].get
        except (KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"'{self.folder}' is damaged: {error}", where=MANIFEST_FILE) from error
        return self.manifest["steps"]

    def load_recipe(self) -> Recipe:
        """Load the recipe that the dataset was built with.

        Raises:
            RecipeError: The file cannot be read, or is no recipe.
        """
        return Recipe.load(self.folder / RECIPE_FILE)

    @property
    def digest(self) -> str:
        """A hash of the digests of all files: two datasets with the same digest have the same bytes."""
        return self.manifest["digest"]

    @property
    def training_commit(self) -> str | None:
        """The commit that training sees; None if the dataset is made from many repositories, or if it is not known."""
        return None if self.is_of_many else self.manifest.get("past_commit") or self.manifest.get("commit")

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of the dataset's Hugging Face tokenizer."""
        return self.folder / "tokenizer"

    @property
    def is_of_many(self) -> bool:
        """Whether the dataset is made from many repositories, and has files for the rows of each."""
        return "repositories" in self.manifest

    def begins_repository(self, path: Path) -> bool:
        """Whether a file of rows is the first of one of many repositories, so that `seq_id` begins with 0."""
        return self.is_of_many and (path.suffix == ".jsonl" or "-00000-of-" in path.name)

    def repository_factors(self) -> dict[str, float]:
        """Return the factor of the weights of each of many repositories, by its name; of one repository none.

        Raises:
            DatasetError: The file of the repositories is damaged.
        """
        factors: dict[str, float] = {}
        path = self.folder / REPOSITORIES_FILE
        for number, line in read_rows.numbered_lines(path) if self.is_of_many else ():
            try:
                values = orjson.loads(line)
                if "weight" in values:  # a repository that was left out has none
                    factors[str(values["repository"])] = float(values["weight"])
            except (KeyError, TypeError, ValueError) as error:
                raise DatasetError(f"line {number} is not a repository: {error}", where=path.name) from error
        return factors

    def files(self, split: Split) -> list[Path]:
        """Return the files of a split, in the order of their rows."""
        if self.is_of_many:
            prefix = f"data/{read_rows.SPLIT_FILE_NAMES[split]}/"
            return [self.folder / name for name in sorted(self.manifest.get("files", {})) if name.startswith(prefix)]
        if self.metadata.get("format", "jsonl") == "jsonl":
            return [self.folder / f"training_data_{split}.jsonl"]
        prefix = f"data/{read_rows.SPLIT_FILE_NAMES[split]}-"
        names = [name for name in sorted(self.manifest.get("files", {})) if name.startswith(prefix)]
        if not names:
            raise DatasetError(f"'{self.folder}' is damaged: no files of {split}", where=MANIFEST_FILE)
        return [self.folder / name for name in names]

    def rows(self, split: Split) -> Iterator[Row]:
        """Yield the rows of a split in file order. Only a few of them are in memory at a time.

        Raises:
            DatasetError: A file cannot be read, or something in it is not a row.
            MissingExtraError: The rows are in Parquet, and pyarrow is not installed.
        """
        return (row for row, _ in self.rows_with_labels(split))

    def rows_with_labels(self, split: Split) -> Iterator[tuple[Row, Labels]]:
        """Yield rows like `rows`, each with its `input_ids`, `attention_mask` and `labels` if the dataset has them."""
        for path in self.files(split):
            yield from read_rows.read_rows(path)

    def row_metadata(self, split: Split) -> Iterator[dict[str, Any]]:
        """Yield the metadata of each row of a split in file order. Much faster than `rows`: tokens are skipped."""
        for path in self.files(split):
            yield from read_rows.read_metadata(path)

    def splits_of_files(self) -> dict[str, Split]:
        """Return the split of each file that has rows, by its printable path."""
        return {str(row["source_file"]): split for split in SPLITS for row in self.row_metadata(split)}

    def compatibility_columns(self, split: Split) -> Iterator[dict[str, Any]]:
        """Yield the values of `read_rows.COMPATIBILITY_COLUMNS` of each row; JSON lines have none."""
        for path in self.files(split):
            yield from read_rows.read_compatibility_columns(path)

    def select(self, split: Split, wanted: Callable[[int, dict[str, Any]], bool]) -> Iterator[Row]:
        """Yield the rows for which `wanted(index, metadata)` holds; `index` counts the rows of the split from 0.

        The tokens of other rows are not read.
        """
        first = 0  # index of the file's first row

        def is_wanted(index: int, metadata: dict[str, Any]) -> bool:
            return wanted(first + index, metadata)

        for path in self.files(split):
            yield from read_rows.select_rows(path, is_wanted)
            first += read_rows.count_rows(path)

    def count(self, split: Split) -> int:
        """Return the number of rows in the files of a split."""
        return sum(map(read_rows.count_rows, self.files(split)))

    def row_location(self, split: Split, index: int) -> str:
        """Return where row `index` of a split, counted from 0, is stored, such as `training_data_val.jsonl:18`."""
        files = self.files(split)
        for path in files[:-1]:
            rows = int(self.manifest["files"][path.relative_to(self.folder).as_posix()]["rows"])
            if index < rows:
                return f"{path.relative_to(self.folder)}:{index + 1}"
            index -= rows
        return f"{files[-1].relative_to(self.folder)}:{index + 1}"


def shard_name(name: str, repository: str) -> str:
    """The name of a file of rows in a dataset of many repositories, from its name in a dataset of this one.

    >>> shard_name("training_data_val.jsonl", "flask"), shard_name("data/test-00000-of-00001.parquet", "flask")
    ('data/validation/flask.jsonl', 'data/test/flask-00000-of-00001.parquet')
    """
    if name.startswith("data/"):
        split, _, number = name.removeprefix("data/").partition("-")
        return f"data/{split}/{repository}-{number}"
    split = name.removeprefix("training_data_").removesuffix(".jsonl")
    return f"data/{read_rows.SPLIT_FILE_NAMES[cast('Split', split)]}/{repository}.jsonl"


def path_in_repository(metadata: Mapping[str, Any]) -> str:
    """The path of a row's file in its repository, as `printable_path` prints it."""
    path = str(metadata["source_file"])
    return path.removeprefix(f"{metadata['repository']}/") if "repository" in metadata else path


def _read_object(path: Path, folder: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a dataset folder."""
    try:
        loaded = orjson.loads(path.read_bytes())
    except OSError as error:
        what = f"'{folder}' is not a finished dataset: {error.strerror}"
        raise DatasetError(what, where=path.name, hint="`git starcoder build` makes one") from error
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"'{folder}' is damaged", where=f"{path.name}: {error}") from error
    if not isinstance(loaded, dict):
        raise DatasetError(f"'{folder}' is damaged", where=f"{path.name} is not an object")
    return cast("dict[str, Any]", loaded)


def dataset_fingerprint(recipe: Recipe, commit: str, *inputs: str) -> str:
    """Return a hash of all that determines a dataset's bytes: format, recipe, commit, digests of outside files."""
    parts = (DATASET_SCHEMA, recipe.fingerprint(), commit, *inputs)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class BuildTarget:
    """Where a build writes."""

    folder: Path
    """A hidden folder next to the output folder; it takes the output folder's place at the end."""
    fingerprint: str
    up_to_date: Dataset | None
    """The output itself, if a dataset with the same fingerprint is already there."""


@contextmanager
def publish_dataset(out: Path, fingerprint: str, *, force: bool = False) -> Generator[BuildTarget]:
    """Give a build a folder to write to, and move it to `out` when the build ends without an error.

    An undamaged dataset with the same fingerprint is left as it is, unless `force` is set, or another build may find
    what this one lacks (`build_state.FAULTS`). See `atomic_folder`.
    """

    def find_up_to_date(folder: Path) -> Dataset | None:
        """The dataset in a folder, if it has the fingerprint, no faults, and all its files their recorded sizes."""
        with contextlib.suppress(DatasetError):
            dataset = Dataset.open(folder)
            sizes = {folder / name: file["bytes"] for name, file in dataset.manifest["files"].items()}
            intact = all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())
            is_same = dataset.manifest.get("fingerprint") == fingerprint and not dataset.manifest.get("faults")
            return dataset if intact and is_same and not force else None
        return None

    with atomic_folder(out, DATASET_FOLDER, find_up_to_date, force=force) as (partial, up_to_date):
        yield BuildTarget(partial, fingerprint, up_to_date)
        if up_to_date is None:
            shutil.rmtree(partial / ".scratch", ignore_errors=True)
