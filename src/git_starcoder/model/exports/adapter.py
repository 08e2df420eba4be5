"""The adapters of a model that was tuned with `--tune lora`, with its tokenizer, as PEFT reads them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.model.adapters import ADAPTER_CONFIG, BASE_DIGEST_FILE
from git_starcoder.model.weight_files import ADAPTER_FOLDER
from git_starcoder.text.tokenizer import TOKENIZER_FILES, summarize_error

if TYPE_CHECKING:
    from pathlib import Path

NUMBER_TYPES = ()


def write(model_folder: Path, folder: Path, number_type: str) -> list[str]:  # noqa: ARG001 - nothing is converted
    """Copy the adapters and the tokenizer: with new control tokens, PEFT enlarges the embeddings to fit.

    Raises:
        UsageError: The model has no adapters.
        DatasetError: Their configuration is damaged.
    """
    adapter = model_folder / ADAPTER_FOLDER
    if not adapter.is_dir():
        what = f"'{model_folder}' has no adapters: all of its weights were trained"
        raise UsageError(what, where="--to adapter", hint="train with --base MODEL --tune lora, or export as gguf")
    names = [model_folder / name for name in TOKENIZER_FILES if (model_folder / name).is_file()]
    for file in (*(file for file in sorted(adapter.iterdir()) if file.name != BASE_DIGEST_FILE), *names):
        shutil.copyfile(file, folder / file.name)
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"'{adapter}' is damaged: {summarize_error(error)}", where=ADAPTER_CONFIG) from error
    return [f"the adapters need the base '{base}', which {ADAPTER_CONFIG} names"]
