"""A finished dataset: a folder that was published whole, opened and read row by row."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from git_starcoder.errors import DatasetError, OutputError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from git_starcoder.recipe import Recipe
    from git_starcoder.rows import Split

SCHEMA = "git-starcoder/dataset/1"
"""Of `manifest.json`. The number grows when the bytes of a dataset change for the same commit and recipe."""
MANIFEST = "manifest.json"
METADATA = "dataset_metadata.json"


class Row(NamedTuple):
    """A line of a split file."""

    tokens: list[int]
    """Token ids, as many as the window, padded at the end."""
    metadata: dict[str, Any]


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

    def path(self, split: Split) -> Path:
        """The file of a split."""
        return self.folder / f"training_data_{split}.jsonl"

    def rows(self, split: Split) -> Iterator[Row]:
        """The rows of a split in file order, one in memory at a time.

        Raises:
            DatasetError: a line is not a row.

        """
        path = self.path(split)
        try:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    try:
                        row = orjson.loads(line)
                        yield Row(row["tokens"], row["metadata"])
                    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                        raise DatasetError(f"line {number} is not a row: {error}", where=path.name) from error
        except OSError as error:
            raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=str(self.folder)) from error


def _object(path: Path, folder: Path) -> dict[str, Any]:
    try:
        loaded = orjson.loads(path.read_bytes())
    except OSError as error:
        hint = "`git starcoder build` makes one"
        raise DatasetError(f"'{folder}' is not a finished dataset", where=f"no {path.name}", hint=hint) from error
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
    """Make a folder whole or not at all: built hidden beside `out`, made durable, renamed once.

    A lock (`flock`, freed by the kernel when its holder dies) keeps two builds of one folder apart; what a killed
    build left is cleared by the next. A folder that is not a dataset of ours is never touched.

    Raises:
        OutputError: locked, not writable, out of space, or something else is in the way.

    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link that the user put there on purpose
    partial, aside, lock = (out.parent / f".{out.name}.{end}" for end in ("partial", "old", "lock"))
    with _reported(out), _locked(out, lock):
        if aside.exists():  # killed between the two renames below
            shutil.rmtree(aside) if out.exists() else aside.rename(out)
        if partial.exists():
            shutil.rmtree(partial)
        finished = _finished(out)
        if finished is not None and finished.manifest.get("fingerprint") == fingerprint and not force:
            yield Target(partial, fingerprint, finished)
            return
        partial.mkdir()
        try:
            yield Target(partial, fingerprint, None)
            shutil.rmtree(partial / ".scratch", ignore_errors=True)
            make_durable(partial)
            if out.exists():
                out.rename(aside)
            partial.rename(out)
            sync(out.parent)
            shutil.rmtree(aside, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def make_durable(folder: Path) -> None:
    """Flush every file and folder below `folder` to the disk."""
    for base, _, names in os.walk(folder):
        for name in names:
            sync(Path(base) / name)
        sync(Path(base))


def sync(path: Path) -> None:
    """Flush one file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _reported(out: Path) -> Generator[None]:
    """An operating system's error about our own files, as one clear line."""
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else str(out)
        raise OutputError(f"cannot write '{out}': {error.strerror}", where=name) from error


@contextmanager
def _locked(out: Path, lock: Path) -> Generator[None]:
    out.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as held:
        if not _hold(held.fileno(), lock):
            raise OutputError(f"another build is writing '{out}'", where=str(lock), hint="wait for it to end")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _hold(handle: int, lock: Path) -> bool:
    """Take the lock without waiting, if it still has its name: its last holder may just have removed that."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except (BlockingIOError, FileNotFoundError):
        return False


def _finished(out: Path) -> Dataset | None:
    """The dataset at `out`, None if there is nothing yet or a damaged one of ours."""
    if not os.path.lexists(out):
        return None
    if out.is_dir() and not any(out.iterdir()):
        return None
    hint = "choose another folder with --out, or remove it yourself"
    if not out.is_dir() or not (out / MANIFEST).is_file():
        raise OutputError(f"'{out}' exists and is not a dataset of ours", where="--out", hint=hint)
    with contextlib.suppress(DatasetError):
        dataset = Dataset.open(out)
        files: dict[str, Any] = dataset.manifest["files"]
        if all((out / name).is_file() and (out / name).stat().st_size == file["bytes"] for name, file in files.items()):
            return dataset
    return None
