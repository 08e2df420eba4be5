"""Checkpoints of a training: each is whole or not there, is known by its digests, and lies beside the model to come.

`.NAME.training/` holds the newest two as `step-N`, and whatever else a training keeps until its model is published.
Tensors are safetensors, everything else is JSON; nothing is pickled. The manifest, which has a digest of every file and
of itself, is written last; then all of it is flushed to the disk, and then the folder gets its name.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from git_starcoder.atomic_write import convert_os_errors, exclusive_lock, flush_folder, flush_to_disk
from git_starcoder.errors import OutputError, as_machine_error
from git_starcoder.model.metrics import METRICS, TENSORBOARD
from git_starcoder.output_folder import (
    GITIGNORE_NAME,
    OutputKind,
    hidden_files_folder,
    hidden_path,
    resolve_destination,
    write_gitignore,
)
from git_starcoder.user_paths import utf8_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping

SCHEMA = "git-starcoder/checkpoint/1"
MANIFEST = "manifest.json"
STATE = "state.json"
KEPT = 2
STEP = re.compile(r"step-(\d{1,18})")
"""The name of a checkpoint."""
LEFT = re.compile(r"\.step-\d{1,18}(\.old)?\.partial")
"""The name of one that is being written or removed."""
KIND = OutputKind("training", "training", MANIFEST, SCHEMA)
LOCK = "lock"
OURS = {GITIGNORE_NAME, LOCK, METRICS, TENSORBOARD}
"""What the folder of a training has besides checkpoints."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a training stands after a step."""

    step: int
    tensors: Mapping[str, Mapping[str, Any]]
    """By file and name. On the CPU when read."""
    values: dict[str, Any]
    """The rest, as JSON."""


class _DamagedError(Exception):
    """A folder that is no checkpoint, and why."""


def place(out: Path) -> Path:
    """The hidden folder where the training of a model keeps what it needs to go on."""
    out = resolve_destination(out, "model")
    return hidden_path(hidden_files_folder(out), out, "training")


@contextmanager
def kept(out: Path, *, fresh: bool) -> Generator[Path]:
    """The folder of a training, held by this process alone; with `fresh`, without what an earlier one left.

    It is cleared at the end if there is no checkpoint in it, and by whoever publishes the model.

    Raises:
        OutputError: another training has it, or it cannot be written.

    """
    with convert_os_errors(out):
        folder = place(out)
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(out, KIND, folder / LOCK):
            if fresh:
                clear(folder, but=(LOCK,))
            for entry in [*folder.iterdir()]:
                if LEFT.fullmatch(entry.name):
                    _discard(entry)
            write_gitignore(folder)
            try:
                yield folder
            finally:
                if folder.exists() and not _found(folder):
                    clear(folder)


def clear(folder: Path, but: Collection[str] = ()) -> None:
    """Remove what a training wrote into its folder, and the folder if nothing else is in it."""
    for entry in [*folder.iterdir()]:
        if entry.name in but:
            continue
        if STEP.fullmatch(entry.name) or LEFT.fullmatch(entry.name):
            _discard(entry)
        elif entry.name in OURS:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    with suppress(OSError):  # the user's files are in it
        folder.rmdir()


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into the folder of a training; all but the newest two go.

    Raises:
        OutputError: no space, or another reason why it cannot be written. What is there stays as it is.

    """
    from safetensors import SafetensorError
    from safetensors import torch as safetensors

    partial = folder / f".step-{checkpoint.step}.partial"
    final = folder / f"step-{checkpoint.step}"
    with convert_os_errors(folder):
        try:
            partial.mkdir()
            for name, tensors in checkpoint.tensors.items():
                whole = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
                cast("Any", safetensors).save_file(whole, partial / f"{name}.safetensors")
            _write(partial / STATE, checkpoint.values)
            names = sorted(file.name for file in partial.iterdir())
            files = {name: {"size": (partial / name).stat().st_size, "blake2b": _digest(partial / name)}
                     for name in names}  # fmt: skip
            manifest = {"schema": SCHEMA, "step": checkpoint.step, "files": files}
            _write(partial / MANIFEST, {**manifest, "digest": _own(manifest)})
            flush_folder(partial)
            # Whatever lies behind this step was passed over when the training went on from before it.
            behind = sorted((path for step, path in _found(folder) if step >= checkpoint.step), reverse=True)
            for path in behind:
                _remove(path)
            partial.rename(final)
            flush_to_disk(folder)
        except SafetensorError as error:  # is not an OSError, even where the disk is full
            raise OutputError(f"cannot write a checkpoint: {error}", where=str(folder)) from error
        finally:
            if partial.exists():
                shutil.rmtree(partial)
        for _, path in _found(folder)[KEPT:]:
            _remove(path)


def newest(folder: Path, tell: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint whose files are what its manifest says; `tell` is told of each that is passed over."""
    for step, path in _found(folder):
        try:
            return _read(path, step)
        except _DamagedError as error:
            tell(f"the checkpoint of step {step:,} is passed over: {error}")
    return None


def at(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of a step, which was found whole before.

    Raises:
        OutputError: it is not there, or damaged.

    """
    try:
        return _read(folder / f"step-{step}", step)
    except _DamagedError as error:
        raise OutputError(f"the checkpoint of step {step:,} cannot be read: {error}", where=str(folder)) from error


def random_state(torch: Any) -> dict[str, Any]:
    """The state of every random generator of this process as tensors: python, numpy, torch and its GPU."""
    version, numbers, gauss = random.getstate()
    _, keys, position, has_gauss, cached = cast("tuple[Any, ...]", np.random.get_state())
    state = {
        "python": torch.tensor([version, *numbers], dtype=torch.int64),
        "python.gauss": torch.tensor([float("nan") if gauss is None else gauss], dtype=torch.float64),
        "numpy": torch.tensor([*keys.tolist(), position, has_gauss], dtype=torch.int64),
        "numpy.gauss": torch.tensor([cached], dtype=torch.float64),
        "torch.cpu": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["torch.cuda"] = torch.cuda.get_rng_state()  # of all GPUs would take memory of each
    if torch.backends.mps.is_available():
        state["torch.mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(torch: Any, state: Mapping[str, Any]) -> None:
    """Put back what `random_state` gave, but for devices that are not here any more."""
    version, *numbers = state["python"].tolist()
    gauss = state["python.gauss"].item()
    random.setstate((version, tuple(numbers), None if np.isnan(gauss) else gauss))
    *keys, position, has_gauss = state["numpy"].tolist()
    cached = state["numpy.gauss"].item()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch.cpu"])
    if torch.cuda.is_available() and "torch.cuda" in state:
        torch.cuda.set_rng_state(state["torch.cuda"])
    if torch.backends.mps.is_available() and "torch.mps" in state:
        torch.mps.set_rng_state(state["torch.mps"])


def _discard(path: Path) -> None:
    """Remove a checkpoint, whole or not; files that are not part of one stay."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    for entry in [*path.iterdir()]:
        if entry.name in {MANIFEST, STATE} or entry.suffix == ".safetensors":
            entry.unlink()
    with suppress(OSError):
        path.rmdir()


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Steps and folders of all checkpoints, damaged ones too, newest first."""
    names = ((STEP.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(((int(name[1]), path) for name, path in names if name), reverse=True)


def _remove(path: Path) -> None:
    """Remove a checkpoint so that no part of it is ever taken for one."""
    aside = path.with_name(f".{path.name}.old.partial")
    if not aside.exists():  # else it has files of the user
        path = path.rename(aside)
    _discard(path)


def _read(folder: Path, step: int) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors import torch as safetensors

    try:
        manifest: Any = json.loads((folder / MANIFEST).read_bytes())
        digest = manifest.pop("digest", None)
        if manifest.get("schema") != SCHEMA:
            raise _DamagedError("it was written in another format")
        if digest != _own(manifest) or manifest["step"] != step:
            raise _DamagedError(f"{MANIFEST} is damaged")
        for name, said in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                raise _DamagedError(f"{name} is missing")
            if path.stat().st_size != said["size"] or _digest(path) != said["blake2b"]:
                raise _DamagedError(f"{name} is damaged")
        names = [name for name in manifest["files"] if name.endswith(".safetensors")]
        with utf8_path(folder) as place:
            tensors = {Path(name).stem: cast("Any", safetensors).load_file(place / name) for name in names}
        return Checkpoint(step, tensors, json.loads((folder / STATE).read_bytes()))
    except FileNotFoundError as error:
        raise _DamagedError(f"{Path(error.filename).name} is missing") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise _DamagedError(f"{MANIFEST} is damaged") from error
    except (OSError, SafetensorError) as error:
        if limit := as_machine_error(error):
            raise limit from error
        raise _DamagedError(f"it cannot be read: {error}") from error


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def _own(manifest: Mapping[str, Any]) -> str:
    """Digest of the rest of a manifest."""
    return hashlib.blake2b(json.dumps(manifest, sort_keys=True).encode(), digest_size=32).hexdigest()
