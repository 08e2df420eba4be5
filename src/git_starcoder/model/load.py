"""A model's folder: safetensors, configuration and tokenizer, as transformers reads them; and models to train."""

from __future__ import annotations

import json
import re
import shutil
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from git_starcoder.errors import DatasetError, OutputError, UsageError, as_machine_error
from git_starcoder.model.network import Network, device, libraries
from git_starcoder.registry import suggest
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.tokenizer import summarize_error
from git_starcoder.user_paths import utf8_path

if TYPE_CHECKING:
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.text.tokenizer import Tokenizer

SCHEMA = "git-starcoder/model/1"
TRAINING = "training.json"
"""What the model was trained on and how; a folder without it is not a model of ours."""
ADAPTER = "adapter"
"""Folder of the adapters beside the weights that they are merged into."""
CHOICE = "_implementation"
"""How keys of a configuration end that may name code."""
LARGEST = 16_384
"""Width of a model from scratch."""
HEAD = 64
"""Width of a head of attention."""
TILE = 64
"""Vocabulary and feed-forward are multiples of it: whole tiles for matrix units."""
NUMBER = re.compile(r"(\d+(?:\.\d+)?)([KMB]?)", re.IGNORECASE)
"""A number of parameters, such as 124M."""
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9}


def shape(width: int, depth: int) -> dict[str, int]:
    """The configuration of `depth` layers of a width: heads of 64, feed-forward of 11/4 widths in whole tiles."""
    return {
        "hidden_size": width,
        "intermediate_size": -(-width * 11 // 4 // TILE) * TILE,
        "num_hidden_layers": depth,
        "num_attention_heads": width // HEAD,
    }


SIZES = {
    "tiny": shape(256, 4),
    "small": shape(512, 8),
    "medium": shape(768, 12),
    "large": shape(1152, 21),
    "huge": shape(1664, 29),
}
"""4M, 28M, 90M, 350M and 1B parameters with a vocabulary of 4,096. `tiny` learns most in minutes on a CPU; the others
want a GPU."""


def sized(size: str, vocabulary: int) -> dict[str, int]:
    """The configuration of a size: one of `SIZES`, or the one that comes nearest to a number of parameters.

    Of all widths in steps of 128, with the depth that then comes nearest, it is the one where width / depth is nearest
    to 64. (Kaplan et al., 2020: over a wide range the loss depends on it only slightly.)

    Raises:
        UsageError: no such size, or the vocabulary alone has more parameters.

    """
    if size in SIZES:
        return SIZES[size]
    number = NUMBER.fullmatch(size)
    if not number:
        hint = suggest(size, list(SIZES)) or "a number of parameters such as 124M will do, too"
        raise UsageError(f"size '{size}' is not known", where="--size", hint=hint)
    wanted = float(number[1]) * UNITS[number[2].upper()]
    found: list[tuple[float, int, int]] = []
    for width in range(128, LARGEST + 1, 128):
        layer = 4 * width**2 + 3 * width * shape(width, 1)["intermediate_size"] + 2 * width
        depth = round((wanted - (vocabulary + 1) * width) / layer)
        if depth >= 1:
            found.append((abs(log(depth * HEAD / width)), width, depth))
    if not found:
        least = sum(shape(128, 1).values()) * 128 + vocabulary * 128
        hint = f"words of {vocabulary:,} kinds and one layer need about {least / 1e6:.1f}M"
        raise UsageError(f"there is no model of {size} parameters", where="--size", hint=hint)
    _, width, depth = min(found)
    return shape(width, depth)


def network(config: TrainConfig, tokenizer: Tokenizer, context: int) -> Network:
    """The model that a config says, for rows of at most `context` tokens: from scratch, or on a base.

    Raises:
        UsageError: a size, base, device or way of tuning that cannot be; or a base with another tokenizer.
        MissingExtraError: torch, transformers, or a library that the way of tuning needs is not installed.

    """
    where = config.device or device()
    if config.compile and where != "cuda":
        raise UsageError(f"networks are compiled on CUDA only, and this is '{where}'", where="compile")
    options = Options(where, config.precision, where == "cuda" and config.compile is not False)
    if config.base is None:
        return fresh(config.size, tokenizer, context, config.seed, config.dropout, options)
    from git_starcoder.model import adapt, base

    torch, _ = libraries()
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        found = base.read(config, tokenizer, context, where)
        if config.tune == "full":
            return _on(found.model, tokenizer, options)
        adapter = adapt.adapted(found.model, config, found.fresh)
    return _on(found.model, tokenizer, options, adapter)


class Options(NamedTuple):
    """Where and how a network computes; the best there is, unless given."""

    where: str | None = None
    precise: str | None = None
    compiled: bool = False


def fresh(
    size: str, tokenizer: Tokenizer, context: int, seed: int, dropout: float = 0.0, options: Options | None = None
) -> Network:
    """An untrained decoder of the Llama kind: rotary positions, SwiGLU, tied embeddings, no biases.

    Raises:
        UsageError: no such size.

    """
    _, transformers = libraries()
    # The added entries are never a target and never written, so they only cost their share of memory.
    vocabulary = -(-tokenizer.vocab_size // TILE) * TILE
    config = transformers.LlamaConfig(
        **sized(size, vocabulary),
        vocab_size=vocabulary,
        max_position_embeddings=context,
        attention_dropout=dropout,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.end_id,
        eos_token_id=tokenizer.end_id,
        pad_token_id=tokenizer.pad_id,
    )
    return _untrained(config, tokenizer, seed, options or Options())


def again(folder: Path, tokenizer: Tokenizer, seed: int) -> Network:
    """An untrained model of the same architecture as the one in `folder`."""
    _, transformers = libraries()
    with utf8_path(folder) as place:
        config = transformers.AutoConfig.from_pretrained(place, local_files_only=True)
    return _untrained(config, tokenizer, seed, Options())


def _untrained(config: Any, tokenizer: Tokenizer, seed: int, options: Options) -> Network:
    torch, transformers = libraries()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return _on(model, tokenizer, options)


def _on(model: Any, tokenizer: Tokenizer, options: Options, adapter: Any = None) -> Network:
    return Network(model, tokenizer, adapter, **options._asdict())


def load(folder: str | Path) -> tuple[Network, Tokenizer]:
    """The model in a folder and its tokenizer. Only safetensors are read, and no code of the folder is run.

    Raises:
        DatasetError: it is not a model folder, or it is damaged.

    """
    folder = Path(folder)
    if not (folder / TRAINING).is_file():
        what = f"'{folder}' is not a model: it has no {TRAINING}"
        raise DatasetError(what, where=str(folder), hint="`git starcoder train` makes one")
    try:
        tokenizer = tokenizers.load_tokenizer(folder)
    except UsageError as error:
        raise DatasetError(f"'{folder}' is damaged: {error.what}", where=str(folder)) from error
    return Network(weights(folder), tokenizer), tokenizer


def weights(folder: Path, **options: Any) -> Any:
    """The transformers model in a folder, in float32. `options` go to `from_pretrained`.

    Raises:
        DatasetError: its files are damaged, some are missing, or it names code that it wants run.

    """
    torch, transformers = libraries()
    safe = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False, "dtype": torch.float32}
    try:
        kernel = foreign(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"'{folder}' is damaged", where=summarize_error(error)) from error
    if kernel:
        raise DatasetError(f"'{folder}' wants the code of {kernel}, and none is run", where=str(folder))
    try:
        with utf8_path(folder) as place:
            model, found = transformers.AutoModelForCausalLM.from_pretrained(
                place, output_loading_info=True, **{**safe, **options}
            )
    except Exception as error:  # whatever a damaged file makes the library raise
        raise as_machine_error(error) or DatasetError(f"'{folder}' is damaged", where=summarize_error(error)) from error
    if missing := sorted(found["missing_keys"]):
        what = f"'{folder}' is damaged: {len(missing)} of its weights are missing, such as {missing[0]}"
        raise DatasetError(what, where=str(folder))
    return model


def foreign(values: Any, name: str = "") -> str:
    """What a configuration names as a kernel of the hub, which transformers may download and run; "" if nothing."""
    if isinstance(values, dict):
        within = name.endswith(CHOICE)
        found = (foreign(each, name if within else key) for key, each in cast("dict[str, Any]", values).items())
        return next(filter(None, found), "")
    return values if isinstance(values, str) and name.endswith(CHOICE) and "/" in values else ""


def record(folder: Path) -> dict[str, Any]:
    """`training.json` of a model folder."""
    return cast("dict[str, Any]", json.loads((folder / TRAINING).read_text(encoding="utf-8")))


def save(network: Network, tokenizer_folder: Path, folder: Path) -> None:
    """Write weights, configuration and tokenizer into `folder`, and adapters beside them into `adapter/`.

    Adapters are merged into the weights for that, and the network has none any more: training is over.
    Transformers before version 5 reads the old names of two values, so they stand beside the new ones.

    Raises:
        OutputError: no space, or another reason why the weights cannot be written.

    """
    from safetensors import SafetensorError

    try:
        if network.adapter is not None:
            from git_starcoder.model import adapt

            adapt.merge(network, folder / ADAPTER)
        network.model.save_pretrained(folder)
    except SafetensorError as error:  # is not an OSError, even where the disk is full
        raise OutputError(f"cannot write the weights: {error}", where=str(folder)) from error
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    rotary: dict[str, Any] = config.get("rope_parameters") or {}
    if "rope_theta" in rotary:
        config["rope_theta"] = rotary["rope_theta"]
    config["torch_dtype"] = config["dtype"]
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for file in sorted(tokenizer_folder.iterdir()):
        shutil.copyfile(file, folder / file.name)
