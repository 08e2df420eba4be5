"""What a training writes while it runs: checkpoints, a line of metrics per step and validation, and the loss curve.

Each checkpoint is complete or absent, and its files are verified by their digests when it is read.

The hidden folder `.NAME.training/` beside the model to come holds the newest two checkpoints as `step-N`, and the other
files that a training keeps until its model is published. Tensors are safetensors and everything else is JSON; nothing
is pickled. The manifest, with a digest of every file and of itself, is written last. Then everything is flushed to the
disk, and only then the folder gets its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from git_starcoder.errors import MissingExtraError, OutputError, as_machine_error
from git_starcoder.output.contents import GITIGNORE_NAME, OutputKind, hidden_path, write_gitignore
from git_starcoder.output.files import convert_os_errors, flush_folder, flush_to_disk
from git_starcoder.output.folder import exclusive_lock, hidden_files_folder, resolve_destination
from git_starcoder.user_paths import utf8_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping, Sequence

CHECKPOINT_SCHEMA = "git-starcoder/checkpoint/2"
CHECKPOINT_MANIFEST = "manifest.json"
STATE_FILE = "state.json"
CHECKPOINTS_KEPT = 2
"""The newest checkpoint, and one to fall back on if that is damaged."""
CHECKPOINT_NAME = re.compile(r"step-(\d{1,18})")
SHARD_PREFIX = "shard-"
"""Beginning of the name of a file with the parts of tensors that one of several processes has."""
PARTIAL_NAME = re.compile(r"\.step-\d{1,18}(\.old)?\.partial")
"""Name of a checkpoint that is being written or removed."""
TRAINING_KIND = OutputKind("training", "training", CHECKPOINT_MANIFEST, CHECKPOINT_SCHEMA)
LOCK_FILE = "lock"
METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
OTHER_FILES = {GITIGNORE_NAME, LOCK_FILE, METRICS_FILE, TENSORBOARD_FOLDER}
"""What the folder of a training has besides checkpoints."""
TENSORBOARD_TAGS = {
    "loss": "loss/training, bits per token",
    "held_out": "loss/held-out, bits per byte",
    "learning_rate": "learning rate",
    "norm": "norm of the gradient",
    "mfu": "MFU",
}
"""Tags in TensorBoard by the keys of `metrics.jsonl`."""
SMOOTHING_DIVISOR = 50
"""The loss curve is a moving average over this part of the steps: a fiftieth."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a training after a step."""

    step: int
    tensors: Mapping[str, Mapping[str, Any]]
    """Tensors by file and name; on the CPU after reading."""
    values: dict[str, Any]
    """Everything else, as values for JSON."""
    shards: Path | None = None
    """The folder that was read, if processes have written their parts of more tensors into it."""


class _DamagedError(Exception):
    """The reason why a folder is not a valid checkpoint."""


def checkpoint_folder(out: Path) -> Path:
    """The hidden folder with the checkpoints of the model that will be written to `out`."""
    out = resolve_destination(out, "model")
    return hidden_path(hidden_files_folder(out), out, "training")


@contextmanager
def locked_checkpoint_folder(out: Path, *, fresh: bool) -> Generator[Path]:
    """Create and lock the checkpoint folder of a model. At the end it is removed again if it has no checkpoint.

    With `fresh`, what an earlier training left is removed first.
    """
    with convert_os_errors(out):
        folder = checkpoint_folder(out)
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(out, TRAINING_KIND, folder / LOCK_FILE):
            if fresh:
                clear_folder(folder, except_names=(LOCK_FILE,))
            for entry in [*folder.iterdir()]:
                if PARTIAL_NAME.fullmatch(entry.name):
                    _discard(entry)
            write_gitignore(folder)
            try:
                yield folder
            finally:
                if folder.exists() and not _list_checkpoints(folder):
                    clear_folder(folder)


def clear_folder(folder: Path, except_names: Collection[str] = ()) -> None:
    """Remove everything that a training wrote into its folder, and the folder if no file of the user is in it."""
    for entry in [*folder.iterdir()]:
        if entry.name in except_names:
            continue
        if CHECKPOINT_NAME.fullmatch(entry.name) or PARTIAL_NAME.fullmatch(entry.name):
            _discard(entry)
        elif entry.name in OTHER_FILES:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    with suppress(OSError):  # files of the user are in it
        folder.rmdir()


def partial_folder(folder: Path, step: int) -> Path:
    """The folder in which the checkpoint of a step is written until it is complete."""
    return folder / f".step-{step}.partial"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, write_shards: Callable[[Path], None] | None = None) -> None:
    """Write a checkpoint into the folder of a training, and remove all but the newest two.

    `write_shards` writes parts of more tensors, together with other processes, into the `partial_folder`.

    Raises:
        OutputError: It cannot be written, for example because the disk is full. Earlier checkpoints stay.
    """
    from safetensors import SafetensorError
    from safetensors import torch as safetensors

    partial = partial_folder(folder, checkpoint.step)
    with convert_os_errors(folder):
        try:
            partial.mkdir()
            for name, tensors in checkpoint.tensors.items():
                contiguous = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
                cast("Any", safetensors).save_file(contiguous, partial / f"{name}.safetensors")
            if write_shards:
                write_shards(partial)
            _write_json(partial / STATE_FILE, checkpoint.values)
            files = {path.name: _describe_file(path) for path in sorted(partial.iterdir())}
            manifest = {"schema": CHECKPOINT_SCHEMA, "step": checkpoint.step, "files": files}
            _write_json(partial / CHECKPOINT_MANIFEST, {**manifest, "digest": _manifest_digest(manifest)})
            flush_folder(partial)
            # Checkpoints of this step or later ones were damaged and passed over when the training was resumed.
            for step, path in _list_checkpoints(folder):
                if step >= checkpoint.step:
                    _remove(path)
            partial.rename(folder / f"step-{checkpoint.step}")
            flush_to_disk(folder)
        except SafetensorError as error:  # is not an OSError, even if the disk is full
            raise OutputError(f"cannot write a checkpoint: {error}", where=str(folder)) from error
        finally:
            if partial.exists():
                shutil.rmtree(partial)
        for _, path in _list_checkpoints(folder)[CHECKPOINTS_KEPT:]:
            _remove(path)


def load_newest_checkpoint(folder: Path, report: Callable[[str], None]) -> Checkpoint | None:
    """Load the newest valid checkpoint. `report` gets a line for each damaged one that is passed over."""
    for step, path in _list_checkpoints(folder):
        try:
            return _read_checkpoint(path, step)
        except _DamagedError as error:
            report(f"the checkpoint of step {step:,} is passed over: {error}")
    return None


def load_checkpoint(folder: Path, step: int) -> Checkpoint:
    """Load the checkpoint of a step that another process found valid."""
    try:
        return _read_checkpoint(folder / f"step-{step}", step)
    except _DamagedError as error:
        raise OutputError(f"the checkpoint of step {step:,} cannot be read: {error}", where=str(folder)) from error


def random_state(torch: Any) -> dict[str, Any]:
    """The states of the random generators of Python, numpy, torch and this process's GPU, as tensors."""
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
        state["torch.cuda"] = torch.cuda.get_rng_state()  # not of all GPUs, which would take memory on each
    if torch.backends.mps.is_available():
        state["torch.mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(torch: Any, state: Mapping[str, Any]) -> None:
    """Restore what `random_state` returned, except for devices that this machine does not have."""
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


def _list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Steps and folders of all checkpoints, damaged ones too, newest first."""
    matches = ((CHECKPOINT_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def _remove(path: Path) -> None:
    """Remove a checkpoint. It is renamed first, so that an interrupted removal leaves nothing that looks like one."""
    aside = path.with_name(f".{path.name}.old.partial")
    if not aside.exists():  # else it has files of the user
        path = path.rename(aside)
    _discard(path)


def _discard(path: Path) -> None:
    """Remove the files of a complete or partial checkpoint, and its folder if no file of the user is in it."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    for entry in [*path.iterdir()]:
        if entry.name in {CHECKPOINT_MANIFEST, STATE_FILE} or entry.suffix == ".safetensors":
            entry.unlink()
    with suppress(OSError):
        path.rmdir()


def _read_checkpoint(folder: Path, step: int) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors import torch as safetensors

    try:
        manifest: Any = json.loads((folder / CHECKPOINT_MANIFEST).read_bytes())
        digest = manifest.pop("digest", None)
        if manifest.get("schema") != CHECKPOINT_SCHEMA:
            raise _DamagedError("it was written in another format")
        if digest != _manifest_digest(manifest) or manifest["step"] != step:
            raise _DamagedError(f"{CHECKPOINT_MANIFEST} is damaged")
        for name, recorded in manifest["files"].items():
            if not (folder / name).is_file():
                raise _DamagedError(f"{name} is missing")
            if _describe_file(folder / name) != recorded:
                raise _DamagedError(f"{name} is damaged")
        names = {name for name in manifest["files"] if name.endswith(".safetensors")}
        shards = {name for name in names if name.startswith(SHARD_PREFIX)}
        with utf8_path(folder) as place:
            whole = sorted(names - shards)
            tensors = {Path(name).stem: cast("Any", safetensors).load_file(place / name) for name in whole}
        values = json.loads((folder / STATE_FILE).read_bytes())
        return Checkpoint(step, tensors, values, folder if shards else None)
    except FileNotFoundError as error:
        raise _DamagedError(f"{Path(error.filename).name} is missing") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise _DamagedError(f"{CHECKPOINT_MANIFEST} is damaged") from error
    except (OSError, SafetensorError) as error:
        if limit := as_machine_error(error):
            raise limit from error
        raise _DamagedError(f"it cannot be read: {error}") from error


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _describe_file(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32))
    return {"size": path.stat().st_size, "blake2b": digest.hexdigest()}


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Digest of a manifest without its own digest."""
    return hashlib.blake2b(json.dumps(manifest, sort_keys=True).encode(), digest_size=32).hexdigest()


class MetricsLog:
    """The file `metrics.jsonl` of a training, and its TensorBoard files. Lines are appended as training runs."""

    def __init__(self, folder: Path, *, size: int, step: int, tensorboard: bool) -> None:
        """Open the log in `folder`, cut back to the checkpoint of `step`, when `metrics.jsonl` had `size` bytes."""
        self.folder = folder
        self.path = folder / METRICS_FILE
        with convert_os_errors(self.path):
            self.path.touch()
            os.truncate(self.path, min(size, self.path.stat().st_size))
            text = self.path.read_text(encoding="utf-8")
            self.lines: list[dict[str, float]] = [json.loads(line) for line in text.split("\n") if line]
            self.unwritten: list[dict[str, float]] = []
            self.tensorboard: Any = None
            if tensorboard:
                try:
                    writer = import_module("torch.utils.tensorboard").SummaryWriter
                except ImportError as error:
                    raise MissingExtraError.from_import_error(error, "tensorboard", "tensorboard") from error
                self.tensorboard = writer(str(folder / TENSORBOARD_FOLDER), purge_step=step + 1)

    def add(self, **values: float) -> None:
        """Add a line. One of its values is the `step`."""
        self.unwritten.append(values)
        if self.tensorboard is not None:
            for key, tag in TENSORBOARD_TAGS.items():
                if key in values:
                    self.tensorboard.add_scalar(tag, values[key], values["step"])

    def write(self) -> None:
        """Hand all lines to the operating system, which keeps them if this process is killed."""
        with convert_os_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in self.unwritten)
        self.lines += self.unwritten
        self.unwritten = []

    def sync(self) -> int:
        """Flush all lines to the disk and return the size of the file in bytes, for the checkpoint."""
        self.write()
        with convert_os_errors(self.path), self.path.open("rb") as file:
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        if self.tensorboard is not None:
            self.tensorboard.flush()
        return size

    def copy_to(self, folder: Path) -> None:
        """Copy everything into the folder of the model."""
        self.write()
        shutil.copyfile(self.path, folder / METRICS_FILE)
        if self.tensorboard is not None:
            self.tensorboard.close()
            shutil.copytree(self.folder / TENSORBOARD_FOLDER, folder / TENSORBOARD_FOLDER)


def draw_loss_curve(metrics: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the smoothed training loss in bits per token and the held-out bits per byte, over the tokens seen."""
    from matplotlib import style

    with style.context("default"):  # pyright: ignore[reportUnknownMemberType] - whatever the user's settings are
        _draw_loss_curve(metrics, path)


def _draw_loss_curve(metrics: Sequence[dict[str, float]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses = [line["loss"] for line in metrics if "loss" in line]
    tokens = {line["step"]: line["tokens"] for line in metrics if "loss" in line}
    held_out = [(tokens.get(line["step"], 0), line["held_out"]) for line in metrics if "held_out" in line]
    figure: Any = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = max(1, len(losses) // SMOOTHING_DIVISOR)
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    axes.plot([*tokens.values()][width - 1 :], smooth, color="tab:grey", label="training, bits per token")
    axes.set(xlabel="tokens seen", ylabel="bits per token")
    axes.set_ylim(bottom=0)
    if held_out:
        right = axes.twinx()
        right.plot(*zip(*held_out, strict=True), "o-", color="tab:blue", label="held-out, bits per byte")
        right.set_ylabel("bits per byte")
        right.set_ylim(bottom=0)
    figure.legend(loc="outside upper right")
    figure.savefig(path, dpi=120, metadata={"Software": None})
