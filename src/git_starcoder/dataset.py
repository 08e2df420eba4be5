"""A finished dataset: a folder that was published whole, opened and read row by row."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from git_starcoder import parquet
from git_starcoder.atomic_write import atomic_folder
from git_starcoder.errors import DatasetError
from git_starcoder.output_folder import OutputKind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Split

SCHEMA = "git-starcoder/dataset/2"
"""Of `manifest.json`. The number grows when the bytes of a dataset change for the same commit and recipe."""
MANIFEST = "manifest.json"
METADATA = "dataset_metadata.json"
CARD = "README.md"
NAMES = (
    METADATA, MANIFEST, "recipe.yaml", "drops.jsonl", "imports.jsonl", "signatures.jsonl", "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json", CARD,
)  # fmt: skip
"""What every dataset has besides its rows."""
KIND = OutputKind("dataset", "build", MANIFEST, "git-starcoder/dataset/", frozenset(NAMES))


class Row(NamedTuple):
    """A line of a split file."""

    tokens: list[int]
    """Token ids, as many as the window, padded at the end."""
    metadata: dict[str, Any]

    @property
    def uncounted(self) -> int:
        """How many tokens at the beginning do not count for the loss.

        A head of context does not. Of a masked row all do, prefix and suffix, too (Bavarian et al., 2022, section 3).
        """
        return self.metadata.get("context", 0)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A finished dataset folder."""

    folder: Path
    metadata: dict[str, Any]
    """`dataset_metadata.json`: what people read."""
    manifest: dict[str, Any]
    """`manifest.json`: fingerprint, counts of every step, and the digest of every file."""

    @classmethod
    def open(cls, folder: str | Path) -> Dataset:
        """Open a finished folder.

        Raises:
            DatasetError: it is not one.

        """
        folder = Path(folder)
        manifest = _object(folder / MANIFEST, folder)
        if manifest.get("schema") != SCHEMA:
            raise DatasetError(f"'{folder}' was written in another format", where=MANIFEST, hint=f"this is {SCHEMA}")
        return cls(folder, _object(folder / METADATA, folder), manifest)

    @property
    def digest(self) -> str:
        """Hash of the digests of all files: two datasets with one digest have the same bytes."""
        return self.manifest["digest"]

    @property
    def tokenizer_folder(self) -> Path:
        """A Hugging Face tokenizer."""
        return self.folder / "tokenizer"

    def files(self, split: Split) -> list[Path]:
        """The files of a split, in the order of their rows.

        Raises:
            DatasetError: the manifest names none.

        """
        if self.metadata.get("format", "jsonl") == "jsonl":
            return [self.folder / f"training_data_{split}.jsonl"]
        begin = f"data/{parquet.NAMES[split]}-"
        found = [self.folder / name for name in sorted(self.manifest.get("files", {})) if name.startswith(begin)]
        if not found:
            raise DatasetError(f"'{self.folder}' is damaged: no files of {split}", where=MANIFEST)
        return found

    def rows(self, split: Split) -> Iterator[Row]:
        """The rows of a split in file order, few of them in memory at a time.

        Raises:
            DatasetError: a line is not a row.
            MissingExtraError: the rows are in Parquet, and pyarrow is not installed.

        """
        return (row for row, _ in self.labelled(split))

    def labelled(self, split: Split) -> Iterator[tuple[Row, dict[str, Any]]]:
        """The rows of a split as `rows`, each with its `input_ids`, `attention_mask` and `labels` if it has them."""
        for path in self.files(split):
            yield from of_parquet(path) if path.suffix == ".parquet" else _of_jsonl(path)

    def about(self, split: Split) -> Iterator[dict[str, Any]]:
        """The metadata of the rows of a split in file order, as `rows`, but much faster: tokens are passed over."""
        for path in self.files(split):
            if path.suffix == ".parquet":
                yield from parquet.records(path, without=("tokens", *parquet.LABELS))
            else:
                yield from (_about(path, number, line) for number, line in _lines(path))

    def shown(self, split: Split) -> Iterator[dict[str, Any]]:
        """What else the files of a split say of each row for programs of others: `parquet.SHOWN`, none in JSONL."""
        for path in self.files(split):
            if path.suffix == ".parquet":
                yield from parquet.shown(path)

    def select(self, split: Split, wanted: Callable[[int, dict[str, Any]], bool]) -> Iterator[Row]:
        """The rows of a split that are wanted by their number, from 0, and metadata; of others no tokens are read."""
        before = 0
        for path in self.files(split):
            if path.suffix == ".parquet":
                for number, about in enumerate(parquet.records(path, without=("tokens", *parquet.LABELS))):
                    if wanted(before + number, about):
                        yield next(of_parquet(path, number))[0]
            else:
                for number, line in _lines(path):
                    if wanted(before + number - 1, _about(path, number, line)):
                        yield parse(path, number, line)[0]
            before += _rows_of(path)

    def count(self, split: Split) -> int:
        """How many rows the files of a split have."""
        return sum(map(_rows_of, self.files(split)))

    def place(self, split: Split, number: int) -> str:
        """Where row `number` of a split, from 0, lies: file and line, or file and row."""
        files = self.files(split)
        for path in files[:-1]:
            rows = int(self.manifest["files"][path.relative_to(self.folder).as_posix()]["rows"])
            if number < rows:
                return f"{path.relative_to(self.folder)}:{number + 1}"
            number -= rows
        return f"{files[-1].relative_to(self.folder)}:{number + 1}"


def _of_jsonl(path: Path) -> Iterator[tuple[Row, dict[str, Any]]]:
    return (parse(path, number, line) for number, line in _lines(path))


def of_parquet(path: Path, first: int = 0) -> Iterator[tuple[Row, dict[str, Any]]]:
    """The rows of a Parquet file from one on, each with what else it has.

    Raises:
        DatasetError: it cannot be read, or a row has no tokens.
        MissingExtraError: pyarrow is not installed.
    """
    for number, values in enumerate(parquet.records(path, first), first + 1):
        labels = {name: values.pop(name) for name in parquet.LABELS if name in values}
        tokens: Any = values.pop("tokens", None)
        if not isinstance(tokens, list):
            raise DatasetError(f"row {number} has no tokens", where=path.name)
        yield Row(cast("list[int]", tokens), values), labels


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as lines:
            yield from enumerate(lines, 1)
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=str(path.parent)) from error


def parse(path: Path, number: int, line: bytes) -> tuple[Row, dict[str, Any]]:
    """The row on a line of a file, by its number from 1, and what else the line has.

    Raises:
        DatasetError: it is none.
    """
    try:
        values = orjson.loads(line)
        return Row(values.pop("tokens"), values.pop("metadata")), values
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"line {number} is not a row: {error}", where=path.name) from error


def _about(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """The metadata of the row on a line."""
    # Before it there are only numbers, and inside a text a quote has a backslash.
    begin = line.find(b',"metadata":')
    if begin < 0:
        return parse(path, number, line)[0].metadata
    return parse(path, number, b'{"tokens":[]' + line[begin:])[0].metadata


def _rows_of(path: Path) -> int:
    if path.suffix == ".parquet":
        return parquet.count(path)
    return sum(1 for _ in _lines(path))


def _object(path: Path, folder: Path) -> dict[str, Any]:
    try:
        loaded = orjson.loads(path.read_bytes())
    except OSError as error:
        hint = "`git starcoder build` makes one"
        what = f"'{folder}' is not a finished dataset"
        raise DatasetError(f"{what}: {error.strerror}", where=path.name, hint=hint) from error
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"'{folder}' is damaged", where=f"{path.name}: {error}") from error
    if not isinstance(loaded, dict):
        raise DatasetError(f"'{folder}' is damaged", where=f"{path.name} is not an object")
    return cast("dict[str, Any]", loaded)


def fingerprint(recipe: Recipe, commit: str, *inputs: str) -> str:
    """What decides the bytes of a dataset: the format, the recipe, the commit, and any outside file's digest."""
    parts = (SCHEMA, recipe.fingerprint(), commit, *inputs)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a build writes."""

    folder: Path
    """A hidden folder beside the output, renamed to it at the end."""
    fingerprint: str
    finished: Dataset | None
    """The output itself, where it is already there with the same fingerprint."""


@contextmanager
def publish(out: Path, fingerprint: str, *, force: bool = False) -> Generator[Target]:
    """Make a dataset's folder whole or not at all (`atomic_write.atomic_folder`). One with the same fingerprint stays.

    Raises:
        OutputError: locked, not writable, out of space, or something else is in the way.

    """

    def finished(folder: Path) -> Dataset | None:
        dataset = _undamaged(folder)
        same = dataset is not None and dataset.manifest.get("fingerprint") == fingerprint
        return dataset if same and not force else None

    with atomic_folder(out, KIND, finished, force=force) as (partial, found):
        yield Target(partial, fingerprint, found)
        if found is None:
            shutil.rmtree(partial / ".scratch", ignore_errors=True)


def _undamaged(folder: Path) -> Dataset | None:
    """The dataset in a folder of ours, None if it cannot be opened or a file has another size."""
    with contextlib.suppress(DatasetError):
        dataset = Dataset.open(folder)
        files: dict[str, Any] = dataset.manifest["files"]
        sizes = {folder / name: file["bytes"] for name, file in files.items()}
        if all(path.is_file() and path.stat().st_size == size for path, size in sizes.items()):
            return dataset
    return None
