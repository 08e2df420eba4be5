"""Adapters (LoRA; Hu et al., 2021): adds them to a base, saves, loads and merges them."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

from git_starcoder.bases import find_base
from git_starcoder.errors import DatasetError, OutputError, UsageError, as_machine_error
from git_starcoder.model.base_model import MERGE_HINT, find_base_folder
from git_starcoder.model.base_weights import load_extended_base
from git_starcoder.model.extras import import_peft, no_warnings
from git_starcoder.model.weight_files import (
    ADAPTER_FOLDER,
    complete_config,
    read_header,
    save_weights,
    weight_files,
)
from git_starcoder.text.tokenizer import load_tokenizer, summarize_error
from git_starcoder.user_paths import expand_user, utf8_path

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.network import Network

ADAPTER_CONFIG = "adapter_config.json"
BASE_DIGEST_FILE = "base_weights.json"
"""File in the folder of adapters that tells the weights of their base from others."""
DIGEST_SAMPLE_BYTES = 1 << 20
"""Bytes at the end of a file of weights that its digest depends on, besides the names and shapes at its beginning."""


def add_adapters(model: Any, config: TrainConfig, new_tokens: list[int]) -> Any:
    """Put adapters into every linear layer of a model but its head.

    The embeddings of `new_tokens` are trained, too. Returns the model of peft around it.
    """
    peft = import_peft()
    lora = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        trainable_token_indices=new_tokens or None,
        task_type="CAUSAL_LM",
    )
    with no_warnings():
        if config.tune == "qlora":
            model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        adapter = peft.get_peft_model(model, lora)
    base = expand_user(str(config.base))
    is_folder = find_base(str(config.base)) is None and base.is_dir()
    adapter.peft_config["default"].base_model_name_or_path = str(base.resolve() if is_folder else base)
    return adapter


def save_adapters(network: Network, folder: Path) -> None:
    """Write the adapters of a network into a folder as peft reads them."""
    adapter = network.adapter
    # Without embeddings: peft writes the trained rows anyway, and to find out about the others it may ask the hub.
    adapter.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # an empty template
    base = find_base_folder(adapter.peft_config["default"].base_model_name_or_path)
    digest = json.dumps({"digest": digest_weights(base)}) + "\n"
    (folder / BASE_DIGEST_FILE).write_text(digest, encoding="utf-8")


def load_with_adapters(folder: Path, precision: str) -> Any:
    """Load the base of adapters, and merge them into its weights.

    Raises:
        DatasetError: A file is damaged, or the base is not there, or has other weights than those that the adapters
            were trained for.
    """
    adapter = folder / ADAPTER_FOLDER
    try:
        base = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
        expected = json.loads((adapter / BASE_DIGEST_FILE).read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"'{folder}' is damaged", where=summarize_error(error)) from error
    try:
        base_folder = find_base_folder(base)
    except UsageError as error:
        what = f"the model in '{folder}' is adapters for the base '{base}', which cannot be read: {error.what}"
        raise DatasetError(what, where=f"{adapter / ADAPTER_CONFIG}", hint=MERGE_HINT) from error
    if digest_weights(base_folder) != expected:
        what = f"the base '{base}' has other weights than those that the adapters in '{folder}' were trained for"
        raise DatasetError(what, where=str(base_folder), hint=MERGE_HINT)
    model, _ = load_extended_base(base_folder, load_tokenizer(folder), precision)
    try:
        with no_warnings(), utf8_path(adapter) as place:
            return import_peft().PeftModel.from_pretrained(model, place).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise as_machine_error(error) or DatasetError(
            f"'{adapter}' is damaged", where=summarize_error(error)
        ) from error


def merge_published_adapters(source: Path, folder: Path, number_type: str) -> None:
    """Write a copy of a model that has adapters instead of weights into `folder`, with both.

    The adapters are read from the disk, so what was trained is safe if this fails.

    Raises:
        OutputError: The weights cannot be written, for example because the disk is full.
        DatasetError: The base is not there, or has changed.
    """
    from safetensors import SafetensorError

    shutil.copytree(source, folder, dirs_exist_ok=True)
    try:
        save_weights(load_with_adapters(source, number_type), folder, number_type)
    except SafetensorError as error:
        raise OutputError(f"cannot write the weights: {error}", where=str(folder)) from error
    complete_config(folder, number_type)


def digest_weights(folder: Path) -> str:
    """A hash of the names, shapes and sizes of the weights in a folder, and of a sample of the weights.

    It tells one model from another in no time. It would not notice a few weights that were changed.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in weight_files(folder):
        digest.update(read_header(file))
        with file.open("rb") as content:
            content.seek(max(0, file.stat().st_size - DIGEST_SAMPLE_BYTES))
            digest.update(content.read())
    return digest.hexdigest()
