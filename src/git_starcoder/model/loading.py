"""Saves and loads a model folder.

It has weights (or adapters), configuration and tokenizer as transformers reads them, and `training.json`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from git_starcoder.bases import find_base
from git_starcoder.errors import DatasetError, OutputError, UsageError
from git_starcoder.model.adapters import load_with_adapters, save_adapters
from git_starcoder.model.base_model import find_base_folder
from git_starcoder.model.devices import best_device, best_precision
from git_starcoder.model.lean_network import LeanNetwork
from git_starcoder.model.network import Network
from git_starcoder.model.weight_files import (
    ADAPTER_FOLDER,
    complete_config,
    has_weights,
    hint_of_model_inside,
    load_stored_weights,
    save_weights,
    stored_number_types,
)
from git_starcoder.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.text.tokenizer import Tokenizer

AnyNetwork: TypeAlias = Network | LeanNetwork
"""A network that reads and writes: by torch, or by numpy alone if it is small."""
MODEL_SCHEMA = "git-starcoder/model/1"
TRAINING_RECORD = "training.json"
"""File that says what a model was trained on and how. A folder without it is not a model of ours."""
SERVING_FILE = "serving.json"
"""File that says from which confidence a completion is shown, added after the training."""
SERVING_SCHEMA = "git-starcoder/serving/1"
MODEL_HINT = "`git starcoder train` makes one"


def require_model(folder: Path) -> None:
    """Check that a folder is that of a model that `train` wrote; otherwise raise a `DatasetError`."""
    if not (folder / TRAINING_RECORD).is_file():
        because = f"it has no {TRAINING_RECORD}" if folder.is_dir() else "there is no such folder"
        what = f"'{folder}' is not a model: {because}"
        raise DatasetError(what, where=str(folder), hint=hint_of_model_inside(folder) or MODEL_HINT)


def load_model(folder: str | Path) -> tuple[Network, Tokenizer]:
    """Load the model in a folder, which `train` wrote, and its tokenizer, for use without training.

    Raises:
        DatasetError: It is not a model folder, or it is damaged.
    """
    tokenizer = _load_tokenizer_of_model(Path(folder))
    return _load_network(Path(folder), tokenizer), tokenizer


def load_reader(folder: str | Path) -> tuple[AnyNetwork, Tokenizer]:
    """Load the model in a folder, which `train` wrote, for texts that come one at a time: without torch if it is small.

    Raises:
        DatasetError: It is not a model folder, or it is damaged.
    """
    tokenizer = _load_tokenizer_of_model(Path(folder))
    return LeanNetwork.open(Path(folder), tokenizer) or _load_network(Path(folder), tokenizer), tokenizer


def _load_tokenizer_of_model(folder: Path) -> Tokenizer:
    """The tokenizer in the folder of a model."""
    require_model(folder)
    try:
        return load_tokenizer(folder)
    except UsageError as error:
        raise DatasetError(f"'{folder}' is damaged: {error.what}", where=str(folder)) from error


def _load_network(folder: Path, tokenizer: Tokenizer) -> Network:
    """The network in the folder of a model, on the best device."""
    device = best_device()
    precision = best_precision(device)
    model = load_weights(folder, precision).requires_grad_(requires_grad=False)
    return Network(model, tokenizer, device=device, precision=precision)


def knows_suffix_first(config: Mapping[str, Any]) -> bool:
    """Whether a model with this training config has learned to write after a prompt with the suffix first.

    Our fill-in-the-middle rows have it in half of the cases, so models from scratch and from a bundled base know it.
    Other bases have mostly seen the prefix first.
    """
    base = config.get("base")
    return bool(config.get("fim")) if base is None else find_base(base) is not None


def load_weights(folder: Path, precision: str = "float32") -> Any:
    """Load the model of transformers in a folder, with adapters that it has instead of weights merged in memory.

    Weights are in float32, or in `precision` if the files have them so.

    Raises:
        DatasetError: See `load_stored_weights` and `load_with_adapters`.
    """
    if not has_weights(folder) and (folder / ADAPTER_FOLDER).is_dir():
        return load_with_adapters(folder, precision)
    return load_stored_weights(folder, precision)


def read_training_record(folder: Path) -> dict[str, Any]:
    """The content of `training.json` of a model folder.

    Raises:
        DatasetError: The file cannot be read, or is no such record.
    """
    try:
        record: Any = json.loads((folder / TRAINING_RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{TRAINING_RECORD} cannot be read: {error}", where=str(folder), hint=MODEL_HINT) from error
    if not isinstance(record, dict) or not record:
        raise DatasetError(f"{TRAINING_RECORD} is damaged", where=str(folder), hint=MODEL_HINT)
    return cast("dict[str, Any]", record)


def save_model(network: Network, tokenizer_folder: Path, folder: Path, number_type: str = "float32") -> None:
    """Write configuration and tokenizer into `folder`, and weights of a number type, or adapters into its `adapter/`.

    Transformers before version 5 reads two values of the configuration by their old names, so these are written, too.

    Raises:
        OutputError: The weights cannot be written, for example because the disk is full.
    """
    from safetensors import SafetensorError

    try:
        if network.adapter is None:
            save_weights(network.model, folder, number_type)
        else:
            save_adapters(network, folder / ADAPTER_FOLDER)
            network.model.config.save_pretrained(folder)
            network.model.generation_config.save_pretrained(folder)
    except SafetensorError as error:  # is not an OSError, even if the disk is full
        raise OutputError(f"cannot write the weights: {error}", where=str(folder)) from error
    complete_config(folder, number_type)
    for file in sorted(tokenizer_folder.iterdir()):
        shutil.copyfile(file, folder / file.name)


def saved_number_type(config: TrainConfig) -> str:
    """The type of the numbers with which the weights of a trained model are saved.

    A base in bfloat16 stays in it: what was trained is rounded once, as every product rounds it. Bundled bases are
    small and trained further by `update`, so they are saved in float32.
    """
    if config.saved_precision or config.base is None or find_base(config.base):
        return config.saved_precision or "float32"
    return "bfloat16" if stored_number_types(find_base_folder(config.base)) == {"BF16"} else "float32"
