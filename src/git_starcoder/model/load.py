"""A model's folder: safetensors, configuration and tokenizer, as transformers reads them; and fresh models by size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.errors import DatasetError, OutputError, UsageError
from git_starcoder.model.network import Network, libraries
from git_starcoder.shelf import nearest
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from git_starcoder.text.tokenizer import Tokenizer

SCHEMA = "git-starcoder/model/1"
TRAINING = "training.json"
"""What the model was trained on and how; a folder without it is not a model of ours."""
SIZES = {
    "tiny": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4},
    "small": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8},
}
"""`tiny` learns most in minutes on a CPU; `small` wants a GPU."""


def fresh(size: str, tokenizer: Tokenizer, context: int, seed: int) -> Network:
    """An untrained decoder of the Llama kind: rotary positions, SwiGLU, tied embeddings, no biases.

    Raises:
        UsageError: no such size.

    """
    if size not in SIZES:
        raise UsageError(f"size '{size}' is not known", where="--size", hint=nearest(size, list(SIZES)))
    _, transformers = libraries()
    config = transformers.LlamaConfig(
        **SIZES[size],
        # Whole tiles for matrix units. The added entries are never a target, so they only cost their share of memory.
        vocab_size=(tokenizer.vocab_size + 63) // 64 * 64,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.end,
        eos_token_id=tokenizer.end,
        pad_token_id=tokenizer.pad,
    )
    return _network(config, tokenizer, seed)


def again(folder: Path, tokenizer: Tokenizer, seed: int) -> Network:
    """An untrained model of the same architecture as the one in `folder`."""
    _, transformers = libraries()
    return _network(transformers.AutoConfig.from_pretrained(folder, local_files_only=True), tokenizer, seed)


def _network(config: Any, tokenizer: Tokenizer, seed: int) -> Network:
    torch, transformers = libraries()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return Network(model, tokenizer)


def load(folder: str | Path) -> tuple[Network, Tokenizer]:
    """The model in a folder and its tokenizer. Only safetensors are read, and no code of the folder is run.

    Raises:
        DatasetError: it is not a model folder, or it is damaged.

    """
    folder = Path(folder)
    if not (folder / TRAINING).is_file():
        what = f"'{folder}' is not a model: it has no {TRAINING}"
        raise DatasetError(what, where=str(folder), hint="`git starcoder train` makes one")
    torch, transformers = libraries()
    try:
        tokenizer = tokenizers.load(folder)
        options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    except Exception as error:  # whatever a damaged file makes the library raise
        raise DatasetError(f"'{folder}' is damaged", where=" ".join(str(error).split())[:200]) from error
    return Network(model, tokenizer), tokenizer


def record(folder: Path) -> dict[str, Any]:
    """`training.json` of a model folder."""
    return cast("dict[str, Any]", json.loads((folder / TRAINING).read_text(encoding="utf-8")))


def save(network: Network, tokenizer_folder: Path, folder: Path) -> None:
    """Write weights, configuration and tokenizer into `folder`.

    Transformers before version 5 reads the old names of two values, so they stand beside the new ones.

    Raises:
        OutputError: no space, or another reason why the weights cannot be written.

    """
    from safetensors import SafetensorError

    try:
        network.model.save_pretrained(folder)
    except SafetensorError as error:  # is not an OSError, even where the disk is full
        raise OutputError(f"cannot write the weights: {error}", where=str(folder)) from error
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    config["torch_dtype"] = config["dtype"]
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for file in sorted(tokenizer_folder.iterdir()):
        shutil.copyfile(file, folder / file.name)
