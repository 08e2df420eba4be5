"""Adapters of low rank over a base whose weights stay as they are (Hu et al., 2021), or stay in 4 bits (QLoRA)."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_starcoder.errors import MissingExtraError
from git_starcoder.model import base, load
from git_starcoder.user_paths import expand_user, utf8_path

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.network import Network


def library() -> Any:
    """Peft.

    Raises:
        MissingExtraError: it is not installed.

    """
    try:
        return import_module("peft")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "peft", "lora") from error


@contextmanager
def quiet() -> Generator[None]:
    """Within it no library warns: peft calls what transformers calls old, and says what it mends by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def adapted(model: Any, config: TrainConfig, fresh: list[int]) -> Any:
    """Put adapters into every linear layer of a model but its head; gives peft's model around it.

    `fresh` are ids of tokens that the base does not know: their embeddings are trained, too.
    """
    peft = library()
    rank = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        trainable_token_indices=fresh or None,
        task_type="CAUSAL_LM",
    )
    with quiet():
        if config.tune == "qlora":
            model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        found = peft.get_peft_model(model, rank)
    found.peft_config["default"].base_model_name_or_path = str(expand_user(str(config.base)))
    return found


def merge(network: Network, folder: Path) -> None:
    """Write the adapters into a folder as peft reads them, and merge them into the weights; training is over then."""
    adapter = network.adapter
    # No embeddings: of those that are trained peft writes the rows anyway, and to find out it may ask the hub.
    adapter.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a form that nobody filled in
    if getattr(network.model, "hf_quantizer", None) is not None:
        network.model = merged(adapter.peft_config["default"].base_model_name_or_path, folder, network.model)
    else:
        network.model = adapter.merge_and_unload()
    network.adapter = None


def merged(name: str, folder: Path, like: Any) -> Any:
    """A base with the adapters of a folder in its weights, read again: those in 4 bits would be rounded once more.

    `like` has as many tokens.
    """
    model = load.weights(base.find(name))
    rows = like.get_input_embeddings().weight.shape[0]
    if rows > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
    with quiet(), utf8_path(folder) as place:
        return library().PeftModel.from_pretrained(model, place).merge_and_unload()
