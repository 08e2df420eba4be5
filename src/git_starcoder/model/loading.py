"""Builds, loads and saves models: from scratch, from a base model, with adapters, and the model folder that we publish.

A model folder has weights, configuration and tokenizer as transformers reads them, and `training.json`. Only
safetensors are read, and code of a model is never run.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from git_starcoder import registry
from git_starcoder.bases import Base, find_base
from git_starcoder.errors import DatasetError, MissingExtraError, OutputError, UsageError, as_machine_error
from git_starcoder.model.config import DEFAULT_ROPE_BASE, named_parameters
from git_starcoder.model.frozen_weights import round_frozen_weights
from git_starcoder.model.network import Network, best_device, best_precision, has_varlen_kernel, import_libraries
from git_starcoder.model.sharding import ShardedModel
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.tokenizer import summarize_error
from git_starcoder.user_paths import expand_user, utf8_path

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.processes import ProcessGroup
    from git_starcoder.text.tokenizer import Tokenizer

MODEL_SCHEMA = "git-starcoder/model/1"
TRAINING_RECORD = "training.json"
"""File that says what a model was trained on and how. A folder without it is not a model of ours."""
SERVING_FILE = "serving.json"
"""File that says from which confidence a completion is shown, added after the training."""
SERVING_SCHEMA = "git-starcoder/serving/1"
ADAPTER_FOLDER = "adapter"
"""Folder of the adapters, inside the folder of the model."""
BASE_DIGEST_FILE = "base_weights.json"
"""File in the folder of adapters that tells the weights of their base from others."""
DIGEST_SAMPLE_BYTES = 1 << 20
"""Bytes at the end of a file of weights that its digest depends on, besides the names and shapes at its beginning."""
MODEL_CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
MERGE_HINT = "--merge writes a model that needs no base"
BITSANDBYTES_DEVICES = ("cuda", "cpu")
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
DOWNLOAD_PATTERNS = [
    *tokenizers.TOKENIZER_FILES, MODEL_CONFIG, "generation_config.json", "chat_template.jinja", "*.safetensors",
    "*.safetensors.index.json",
]  # fmt: skip
"""Files that are downloaded for a Hugging Face id."""
MODEL_HINT = "`git starcoder train` makes one"
BASE_HINT = (
    "give the folder of a model (`git starcoder run` writes starcoder_run/model), a name from `git starcoder base "
    "list`, or a Hugging Face id"
)
DROPOUT_KEY = re.compile(r"dropout$|_pdrop$")
"""Keys of a configuration that are dropout rates, such as `attention_dropout` and `resid_pdrop`."""
KERNEL_KEY_SUFFIX = "_implementation"
"""Keys of a configuration that end like this may name code of the hub."""
MAX_WIDTH = 16_384
"""Largest width of a model from scratch."""
HEAD_WIDTH = 64
"""Width of an attention head."""
DIMENSION_MULTIPLE = 64
"""Vocabulary and feed-forward width are multiples of this, because matrix units work in tiles."""


def layer_dimensions(width: int, depth: int) -> dict[str, int]:
    """Configuration of `depth` layers: attention heads of 64, and a feed-forward width of 11/4 of the width."""
    return {
        "hidden_size": width,
        "intermediate_size": -(-width * 11 // 4 // DIMENSION_MULTIPLE) * DIMENSION_MULTIPLE,
        "num_hidden_layers": depth,
        "num_attention_heads": width // HEAD_WIDTH,
    }


MODEL_SIZES = {
    "tiny": layer_dimensions(256, 4),
    "small": layer_dimensions(512, 8),
    "medium": layer_dimensions(768, 12),
    "large": layer_dimensions(1152, 21),
    "huge": layer_dimensions(1664, 29),
}
"""With a vocabulary of 4,096 they have 4M, 28M, 90M, 350M and 1B parameters. `tiny` learns most in minutes on a CPU;
the others want a GPU."""


def dimensions_for_size(size: str, vocab_size: int) -> dict[str, int]:
    """The configuration of a size: one of `MODEL_SIZES`, or the best one for a number of parameters.

    For each width in steps of 128, the depth that comes nearest to the number is a candidate. The best candidate has a
    ratio of width to depth nearest to 64; the loss depends on that ratio only slightly (Kaplan et al., 2020).
    """
    if size in MODEL_SIZES:
        return MODEL_SIZES[size]
    parameters = named_parameters(size)
    if parameters is None:
        hint = registry.suggest(size, list(MODEL_SIZES)) or "a number of parameters such as 124M works, too"
        raise UsageError(f"size '{size}' is not known", where="--size", hint=hint)
    candidates: list[tuple[float, int, int]] = []
    for width in range(128, MAX_WIDTH + 1, 128):
        layer = 4 * width**2 + 3 * width * layer_dimensions(width, 1)["intermediate_size"] + 2 * width
        depth = round((parameters - (vocab_size + 1) * width) / layer)
        if depth >= 1:
            candidates.append((abs(log(depth * HEAD_WIDTH / width)), width, depth))
    if not candidates:
        least = sum(layer_dimensions(128, 1).values()) * 128 + vocab_size * 128
        hint = f"a vocabulary of {vocab_size:,} entries and one layer need about {least / 1e6:.1f}M"
        raise UsageError(f"there is no model of {size} parameters", where="--size", hint=hint)
    _, width, depth = min(candidates)
    return layer_dimensions(width, depth)


def build_network(
    config: TrainConfig, tokenizer: Tokenizer, context: int, processes: ProcessGroup | None = None,
    start: Path | None = None,
) -> Network:  # fmt: skip
    """Build the network that a config describes, from scratch or on a base model, for rows of up to `context` tokens.

    With `start`, the folder of a model of ours, it is that model instead. With several processes, the config may want
    the weights to be divided among them; all have to call this together.

    Raises:
        UsageError: The size, base, device or way of tuning does not exist, or the base has another tokenizer.
        DatasetError: The base is damaged.
        MissingExtraError: torch, transformers, or a library that the way of tuning needs is not installed.
    """
    device = config.device or best_device()
    if config.compile and device != "cuda":
        raise UsageError(f"networks are compiled on CUDA only, and this is '{device}'", where="compile")
    precision = config.precision or best_precision(device)
    options: dict[str, Any] = {"device": device, "precision": precision}
    shards = processes if config.shard and processes and processes.world_size > 1 else None
    if config.compile and not has_varlen_kernel(device):
        raise UsageError("this GPU is too old for compiled networks", where="compile", hint="leave it out")
    options["is_compiled"] = has_varlen_kernel(device) and config.compile is not False and not shards
    if shards:
        torch, _ = import_libraries()
        with shards.in_turn():  # so that one whole model at a time is in the memory of a machine
            model, adapter = _build_model(config, tokenizer, context, options, start)
            round_frozen_weights(torch, model, precision)
            options["sharded_model"] = ShardedModel.divide(torch, model, shards, device, precision)
    else:
        model, adapter = _build_model(config, tokenizer, context, options, start)
    network = Network(model, tokenizer, adapter, **options)
    if start is not None and network.positions < context:
        what = f"the model reads {network.positions:,} tokens, and the rows have up to {context:,}"
        raise UsageError(what, where=str(start), hint="train a new model")
    return network


def _build_model(
    config: TrainConfig, tokenizer: Tokenizer, context: int, place: dict[str, Any], start: Path | None
) -> tuple[Any, Any]:
    """The model of transformers that a config describes, and the model of peft around it, if it has adapters.

    `place` has the device and the precision.
    """
    if start is not None:
        return _load_for_training(start, config), None
    if config.base is None:
        return _new_model(config.size, tokenizer, context, config.seed, config.dropout, config.rope_base), None
    torch, _ = import_libraries()
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model, new_tokens = load_base_model(config, tokenizer, context, place["device"], place["precision"])
        return model, None if config.tune == "full" else add_adapters(model, config, new_tokens)


def _load_for_training(folder: Path, config: TrainConfig) -> Any:
    """Load a model of ours to go on training it."""
    torch, _ = import_libraries()
    model = load_weights(folder)
    if config.dropout and config.base is None:
        _add_residual_dropout(torch, model, config.dropout)
    return model


def new_network(
    size: str,
    tokenizer: Tokenizer,
    context: int,
    seed: int,
    dropout: float = 0.0,
    rope_base: float = DEFAULT_ROPE_BASE,
    **options: Any,
) -> Network:
    """An untrained decoder of the Qwen3 architecture (Yang et al., 2025).

    It has rotary positions, SwiGLU, tied embeddings, no biases, and normalised queries and keys (Dehghani et al.,
    2023), which keep attention stable at high learning rates.

    `options` go to `Network`.
    """
    return Network(_new_model(size, tokenizer, context, seed, dropout, rope_base), tokenizer, **options)


def _new_model(size: str, tokenizer: Tokenizer, context: int, seed: int, dropout: float, rope_base: float) -> Any:
    _, transformers = import_libraries()
    # The added entries are never a target and never generated, so they only cost their share of memory.
    vocab_size = -(-tokenizer.vocab_size // DIMENSION_MULTIPLE) * DIMENSION_MULTIPLE
    dimensions = dimensions_for_size(size, vocab_size)
    config = transformers.Qwen3Config(
        **dimensions,
        num_key_value_heads=dimensions["num_attention_heads"],
        head_dim=dimensions["hidden_size"] // dimensions["num_attention_heads"],
        vocab_size=vocab_size,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": rope_base},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.end_id,
        eos_token_id=tokenizer.end_id,
        pad_token_id=tokenizer.pad_id,
    )
    return _model_from_config(config, seed, dropout)


class UntrainedNetwork:
    """The architecture of a network with fresh weights. It implements the protocol `LanguageModel`.

    While it is used, the weights of the network make room for the fresh ones: a device may have space for one model
    only. Afterwards they are read from the folder of the model again.
    """

    def __init__(self, network: Network, folder: Path, seed: int) -> None:
        self.network = network
        self.context = network.context
        self._folder = folder
        self._seed = seed

    def sequence_bits(
        self, sequences: Sequence[NDArray[Any]], first_scored: Sequence[int], *,
        headers: Sequence[NDArray[Any]] = (), parts: int = 4,
    ) -> list[NDArray[np.float32]]:  # fmt: skip
        """Compute the bits of sequences of any length. See `protocols.LanguageModel`."""
        with self._fresh_weights():
            return self.network.sequence_bits(sequences, first_scored, headers=headers, parts=parts)

    def generate(
        self, prompts: Sequence[NDArray[Any]], limit: int, *, stop: NDArray[np.bool_]
    ) -> list[NDArray[np.int32]]:
        """Continue each prompt. See `protocols.LanguageModel`."""
        with self._fresh_weights():
            return self.network.generate(prompts, limit, stop=stop)

    @contextmanager
    def _fresh_weights(self) -> Generator[None]:
        _, transformers = import_libraries()
        with utf8_path(self._folder) as place:
            config = transformers.AutoConfig.from_pretrained(place, local_files_only=True)
        self._replace_weights(partial(_model_from_config, config, self._seed))
        try:
            yield
        finally:
            self._replace_weights(partial(load_weights, self._folder, self.network.precision))

    def _replace_weights(self, make_model: Callable[[], Any]) -> None:
        """Give the network the weights of another model, which is made when its own are gone."""
        network = self.network
        weights = dict(network.model.named_parameters())
        for weight in weights.values():
            weight.data = network.torch.empty(0)
        model = make_model().requires_grad_(requires_grad=False)
        round_frozen_weights(network.torch, model, network.precision)
        for name, weight in model.named_parameters():
            weights[name].data = weight.data.to(network.device)


def _model_from_config(config: Any, seed: int, dropout: float = 0.0) -> Any:
    torch, transformers = import_libraries()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if dropout:
        _add_residual_dropout(torch, model, dropout)
    return model


def _add_residual_dropout(torch: Any, model: Any, share: float) -> None:
    """Drop this share of what attention and feed-forward layers of a Llama add to the residual stream, in training.

    Transformers has dropout of attention weights only for a Llama, which the fast kernels of attention do not offer.
    """

    def drop(module: Any, _: Any, output: Any) -> Any:
        return torch.nn.functional.dropout(output, share, module.training)

    for layer in model.model.layers:
        layer.self_attn.o_proj.register_forward_hook(drop)
        layer.mlp.down_proj.register_forward_hook(drop)


def require_model(folder: Path) -> None:
    """Check that a folder is that of a model that `train` wrote; otherwise raise a `DatasetError`."""
    if not (folder / TRAINING_RECORD).is_file():
        what = f"'{folder}' is not a model: it has no {TRAINING_RECORD}"
        raise DatasetError(what, where=str(folder), hint=hint_of_model_inside(folder) or MODEL_HINT)


def load_model(folder: str | Path) -> tuple[Network, Tokenizer]:
    """Load the model in a folder, which `train` wrote, and its tokenizer.

    Raises:
        DatasetError: It is not a model folder, or it is damaged.
    """
    folder = Path(folder)
    require_model(folder)
    try:
        tokenizer = tokenizers.load_tokenizer(folder)
    except UsageError as error:
        raise DatasetError(f"'{folder}' is damaged: {error.what}", where=str(folder)) from error
    return frozen_network(folder, tokenizer), tokenizer


def frozen_network(folder: Path, tokenizer: Tokenizer) -> Network:
    """The network of the model in a folder, for use without training: weights are rounded as products are."""
    device = best_device()
    precision = best_precision(device)
    model = load_weights(folder, precision).requires_grad_(requires_grad=False)
    return Network(model, tokenizer, device=device, precision=precision)


def load_weights(folder: Path, precision: str = "float32", **options: Any) -> Any:
    """Load the model of transformers in a folder, with adapters that it has instead of weights merged in memory.

    Weights are in float32, or in `precision` if the files have them so. `options` go to `from_pretrained`.

    Raises:
        DatasetError: Its files are damaged or incomplete, or it wants code of the hub to run. Or its base is not there,
            or has other weights than those that the adapters were trained for.
    """
    if not _has_weights(folder) and (folder / ADAPTER_FOLDER).is_dir():
        return _load_with_adapters(folder, precision)
    torch, transformers = import_libraries()
    safe = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False, "dtype": torch.float32}
    try:
        if precision == "bfloat16" and stored_number_types(folder) == {"BF16"}:
            safe["dtype"] = torch.bfloat16
        kernel = find_hub_kernel(json.loads((folder / MODEL_CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"'{folder}' is damaged", where=summarize_error(error)) from error
    if kernel:
        raise DatasetError(f"'{folder}' wants the code of {kernel}, which is never run", where=str(folder))
    options = {"output_loading_info": True, **safe, **options}
    try:
        with utf8_path(folder) as place:
            model, info = transformers.AutoModelForCausalLM.from_pretrained(place, **options)
    except Exception as error:  # the library may raise anything for a damaged file
        raise as_machine_error(error) or DatasetError(f"'{folder}' is damaged", where=summarize_error(error)) from error
    if missing := sorted(info["missing_keys"]):
        what = f"'{folder}' is damaged: {len(missing)} of its weights are missing, such as {missing[0]}"
        raise DatasetError(what, where=str(folder))
    return model


def _load_with_adapters(folder: Path, precision: str) -> Any:
    """Load the base of adapters, and merge them into its weights."""
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
    model = load_weights(base_folder, precision)
    tokenizer = tokenizers.load_tokenizer(folder)
    add_new_tokens(model, tokenizer, tokenizers.load_tokenizer(base_folder))
    _set_text_end(model, tokenizer)
    try:
        with no_warnings(), utf8_path(adapter) as place:
            return _import_peft().PeftModel.from_pretrained(model, place).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise as_machine_error(error) or DatasetError(
            f"'{adapter}' is damaged", where=summarize_error(error)
        ) from error


def stored_number_types(folder: Path) -> set[str]:
    """The number types of the weights in a folder by their names in safetensors, such as `F32` and `BF16`.

    Raises:
        OSError, ValueError: A file is damaged.
    """
    return {
        str(tensor["dtype"])
        for file in _weight_files(folder)
        for name, tensor in json.loads(_read_header(file)).items()
        if name != "__metadata__"
    }


def digest_weights(folder: Path) -> str:
    """A hash of the names, shapes and sizes of the weights in a folder, and of a sample of the weights.

    It tells one model from another in no time. It would not notice a few weights that were changed.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in _weight_files(folder):
        digest.update(_read_header(file))
        with file.open("rb") as content:
            content.seek(max(0, file.stat().st_size - DIGEST_SAMPLE_BYTES))
            digest.update(content.read())
    return digest.hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHT_FILES[0]).is_file():
        return [folder / WEIGHT_FILES[0]]
    places = json.loads((folder / WEIGHT_FILES[1]).read_text(encoding="utf-8"))["weight_map"]
    return [folder / name for name in sorted(set(places.values()))]


def _read_header(file: Path) -> bytes:
    """The JSON at the beginning of a file in the format safetensors."""
    with file.open("rb") as content:
        size = int.from_bytes(content.read(8), "little")
        if size > file.stat().st_size:
            raise ValueError(f"{file.name} is cut off")
        return content.read(size)


def find_hub_kernel(values: Any, key: str = "") -> str:
    """The first kernel of the hub that a configuration names, which transformers might download and run; "" if none."""
    is_choice = key.endswith(KERNEL_KEY_SUFFIX)
    if isinstance(values, dict):
        items = cast("dict[str, Any]", values).items()
        kernels = (find_hub_kernel(value, key if is_choice else name) for name, value in items)
        return next(filter(None, kernels), "")
    return values if isinstance(values, str) and is_choice and "/" in values else ""


def read_training_record(folder: Path) -> dict[str, Any]:
    """The content of `training.json` of a model folder."""
    return cast("dict[str, Any]", json.loads((folder / TRAINING_RECORD).read_text(encoding="utf-8")))


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
            _save_adapters(network, folder / ADAPTER_FOLDER)
            network.model.config.save_pretrained(folder)
            network.model.generation_config.save_pretrained(folder)
    except SafetensorError as error:  # is not an OSError, even if the disk is full
        raise OutputError(f"cannot write the weights: {error}", where=str(folder)) from error
    _complete_config(folder, number_type)
    for file in sorted(tokenizer_folder.iterdir()):
        shutil.copyfile(file, folder / file.name)


def saved_number_type(config: TrainConfig) -> str:
    """The type of the numbers with which the weights of a trained model are saved.

    A base in bfloat16 stays in it: what was trained is rounded once, as every product rounds it. Bases of ours are
    small and trained further by `update`, so they are saved in float32.
    """
    if config.saved_precision or config.base is None or find_base(config.base):
        return config.saved_precision or "float32"
    return "bfloat16" if stored_number_types(find_base_folder(config.base)) == {"BF16"} else "float32"


def save_weights(model: Any, folder: Path, number_type: str) -> None:
    """Write the weights of a model of transformers and its configuration, with the numbers of a type.

    Raises:
        SafetensorError: The disk is full.
    """
    torch, _ = import_libraries()
    dtype = getattr(torch, number_type)
    converted: dict[int, Any] = {}  # tied weights stay tied
    state = {
        name: converted.setdefault(tensor.data_ptr(), tensor.to(dtype) if tensor.is_floating_point() else tensor)
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=state)


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
        save_weights(load_weights(source, number_type), folder, number_type)
    except SafetensorError as error:
        raise OutputError(f"cannot write the weights: {error}", where=str(folder)) from error
    _complete_config(folder, number_type)


def _complete_config(folder: Path, number_type: str) -> None:
    """Say in a configuration of which type the weights are, and repeat values by their old names."""
    config_file = folder / MODEL_CONFIG
    config = json.loads(config_file.read_text(encoding="utf-8"))
    rotary: dict[str, Any] = config.get("rope_parameters") or {}
    if "rope_theta" in rotary:
        config["rope_theta"] = rotary["rope_theta"]
    config["torch_dtype"] = config["dtype"] = number_type
    config.pop("quantization_config", None)  # adapters and what they are merged into have all bits
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_base_model(
    config: TrainConfig, tokenizer: Tokenizer, context: int, device: str, precision: str
) -> tuple[Any, list[int]]:
    """Load the base model of a config, with embeddings for every token of the dataset's tokenizer.

    Weights that are not trained are in `precision` if the files have them so, else in float32.

    Returns the model, and the ids of control tokens that are new to it.
    """
    name = str(config.base)
    folder = find_base_folder(name)
    if base := find_base(name):
        _verify_weights(base)
    values = read_base_config(folder, name)
    require_positions(values, name, context)
    base_tokenizer = tokenizers.load_tokenizer(folder)
    if difference := tokenizer.find_difference(base_tokenizer):
        hint = f"git starcoder build --set window.tokenizer={shlex.quote(name)}"
        raise UsageError(f"the dataset was not made for '{name}': {difference}", where="base", hint=hint)
    dropout = {key: config.dropout for key, value in values.items() if DROPOUT_KEY.search(key) and value}
    quantization = _quantization_options(config, device, precision) if config.tune == "qlora" else {}
    model = load_weights(folder, "float32" if config.tune == "full" else precision, **dropout, **quantization)
    for module in model.modules() if quantization else ():
        # On a CPU with AVX512-BF16, bitsandbytes 0.50 packs the weights of a layer that is evaluated for a kernel
        # without a gradient, and leaves them so: training would go on without the gradients of all layers below.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    new_tokens = add_new_tokens(model, tokenizer, base_tokenizer)
    _set_text_end(model, tokenizer)
    return model, new_tokens


def _set_text_end(model: Any, tokenizer: Tokenizer) -> None:
    """Let a model end texts as the dataset does. A chat may end otherwise."""
    for settings in (model.config, model.generation_config):
        settings.eos_token_id, settings.pad_token_id = tokenizer.end_id, tokenizer.pad_id


def _verify_weights(base: Base) -> None:
    """Raise an error if the weights of a base are not those of its record."""
    with (base.folder / WEIGHT_FILES[0]).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != base.weights_digest:
        what = f"the base '{base.name}' is damaged: its weights are not those that it was made with"
        raise DatasetError(what, where=str(base.folder), hint="install git-starcoder again, or make the base again")


def find_base_folder(name: str) -> Path:
    """The folder of a model that has safetensors: a base of the package, or another folder.

    If `name` is neither, it is taken for a Hugging Face id, and the model is downloaded.
    """
    folder = registry.base_folder(name) or expand_user(name)
    if not folder.is_dir():
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
            raise UsageError(f"there is no folder '{name}'", where="base", hint=BASE_HINT)
        folder = _download(name)
    if not (folder / MODEL_CONFIG).is_file():
        what = f"'{name}' is not a model: it has no {MODEL_CONFIG}"
        raise UsageError(what, where=str(folder), hint=hint_of_model_inside(folder) or BASE_HINT)
    if not _has_weights(folder):
        if (folder / ADAPTER_FOLDER).is_dir():
            raise UsageError(f"'{name}' has adapters instead of weights", where="base", hint=MERGE_HINT)
        what = f"has no weights ({WEIGHT_FILES[0]})"
        if any(file.suffix in PICKLE_SUFFIXES for file in folder.iterdir()):
            what = "has its weights as pickles, which could run code"
        raise UsageError(f"'{name}' {what}", where="base", hint="only safetensors are read")
    return folder


def hint_of_model_inside(folder: Path) -> str:
    """Where the model is, if somebody has named the folder around it, as that of a run; otherwise empty."""
    inside = next(folder.glob(f"*/{MODEL_CONFIG}"), None)
    return "" if inside is None else f"the model is in {inside.parent}"


def _has_weights(folder: Path) -> bool:
    return any((folder / file).is_file() for file in WEIGHT_FILES)


def _download(name: str) -> Path:
    """The files of a Hugging Face id in the local cache, downloaded if they are not there."""
    import_libraries()
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()  # the user needs the outcome, not each retry
    snapshot: Any = partial(cast("Any", huggingface_hub).snapshot_download, name, allow_patterns=DOWNLOAD_PATTERNS)
    with suppress(OSError, ValueError):  # not in the cache
        folder = Path(snapshot(local_files_only=True))
        if (folder / MODEL_CONFIG).is_file() and _has_weights(folder):
            return folder
    try:
        return Path(snapshot())
    except (OSError, ValueError) as error:
        what = f"model '{name}' is not a folder, not in the Hugging Face cache, and cannot be downloaded"
        raise UsageError(what, where=summarize_error(error), hint=BASE_HINT) from error


def read_base_config(folder: Path, name: str) -> dict[str, Any]:
    """Read the configuration of a base: a causal language model without code of its own, which is not quantised.

    Raises:
        UsageError: It is another model, or the configuration cannot be read.
    """
    try:
        values = json.loads((folder / MODEL_CONFIG).read_text(encoding="utf-8"))
        kind = values["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"the {MODEL_CONFIG} of '{name}' cannot be read: {summarize_error(error)}"
        raise UsageError(what, where="base", hint=BASE_HINT) from error
    _, transformers = import_libraries()
    if kind not in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        own_code = "it needs code of its own, which is never run"
        reason = own_code if "auto_map" in values else "no causal language model"
        raise UsageError(f"'{name}' is of the kind {kind}: {reason}", where="base", hint=BASE_HINT)
    if values.get("is_encoder_decoder"):
        what = f"'{name}' is of the kind {kind}: it has an encoder, so it is no causal language model"
        raise UsageError(what, where="base", hint=BASE_HINT)
    if "quantization_config" in values:
        hint = "give the model that it was made from; tune: qlora quantizes it"
        raise UsageError(f"the weights of '{name}' are quantised", where="base", hint=hint)
    return cast("dict[str, Any]", values)


def position_count(values: dict[str, Any]) -> int | None:
    """The tokens that a model reads at once, by its configuration; None if it does not say."""
    text_values: dict[str, Any] = values.get("text_config") or values  # a model of images and text has two parts
    positions = text_values.get("max_position_embeddings", text_values.get("n_positions"))
    return positions if isinstance(positions, int) else None


def require_positions(values: dict[str, Any], name: str, context: int) -> None:
    """Check that a base, given by its configuration, reads rows of `context` tokens; otherwise raise a `UsageError`."""
    positions = position_count(values)
    if positions is not None and positions < context:
        what = f"'{name}' reads {positions:,} tokens, and the rows have up to {context:,}"
        hint = f"build the dataset with --set window.size={positions - positions % 64}"
        raise UsageError(what, where="base", hint=hint)


def _quantization_options(config: TrainConfig, device: str, precision: str) -> dict[str, Any]:
    """Options with which transformers loads weights in 4 bits, on the device of this process."""
    require_libraries(config, device)
    torch, transformers = import_libraries()
    dtypes = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": getattr(torch, precision)}
    quantization = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True, **dtypes)
    place = torch.cuda.current_device() if device == "cuda" else device
    return {"quantization_config": quantization, "device_map": {"": place}}


def require_libraries(config: TrainConfig, device: str) -> None:
    """Check that the libraries which a config needs besides torch are there and support the device.

    Raises:
        UsageError: bitsandbytes does not support the device.
        MissingExtraError: peft or bitsandbytes is not installed.
    """
    if config.tune != "full":
        _import_peft()
    if config.tune == "qlora":
        require_bitsandbytes(device, "tune: qlora", hint="use tune: lora")
    if config.optimizer == "adamw8bit":
        require_bitsandbytes(device, "optimizer: adamw8bit", hint="use optimizer: adamw")


def require_bitsandbytes(device: str, where: str, hint: str) -> Any:
    """Import bitsandbytes, which a training key needs.

    Raises:
        UsageError: It does not support the device.
        MissingExtraError: It is not installed.
    """
    if device not in BITSANDBYTES_DEVICES:
        raise UsageError(f"bitsandbytes cannot compute on '{device}'", where=where, hint=hint)
    try:
        with no_warnings():
            return import_module("bitsandbytes")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "bitsandbytes", "bitsandbytes") from error


def add_new_tokens(model: Any, tokenizer: Tokenizer, base_tokenizer: Tokenizer) -> list[int]:
    """Give a base embeddings for all tokens of a tokenizer. Return the ids that are new to the base.

    Its own tokenizer may have control tokens without an embedding, too, as that of the smallest Gemma 3 has.
    """
    known_size = int(model.get_input_embeddings().weight.shape[0])
    known = {number for number in base_tokenizer.vocabulary.values() if number < known_size}
    new_tokens = sorted(set(tokenizer.vocabulary.values()) - known)
    if new_tokens:
        _add_token_embeddings(model, tokenizer.vocab_size, new_tokens)
    return new_tokens


def load_base_network(name: str, tokenizer: Tokenizer) -> Network:
    """The base of a model as it was before tuning, for the tokenizer of the model.

    Raises:
        UsageError: There is no such model any more, or its tokenizer is another one.
        DatasetError: The base is damaged.
    """
    folder = find_base_folder(name)
    base_tokenizer = tokenizers.load_tokenizer(folder)
    if difference := tokenizer.find_difference(base_tokenizer):
        raise UsageError(f"'{name}' is another model than before: {difference}", where="base")
    device = best_device()
    precision = best_precision(device)
    model = load_weights(folder, precision)
    add_new_tokens(model, tokenizer, base_tokenizer)
    return Network(model.requires_grad_(requires_grad=False), tokenizer, device=device, precision=precision)


def _add_token_embeddings(model: Any, vocab_size: int, new_tokens: list[int]) -> None:
    """Give a model embeddings for `vocab_size` tokens. All that are new begin as the mean of the known ones."""
    torch, _ = import_libraries()
    known_size = model.get_input_embeddings().weight.shape[0]
    if vocab_size > known_size:
        model.resize_token_embeddings(vocab_size, pad_to_multiple_of=DIMENSION_MULTIPLE, mean_resizing=False)
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    with torch.no_grad():
        for weight in {id(layer.weight): layer.weight for layer in layers if layer is not None}.values():
            is_known = torch.ones(len(weight), dtype=torch.bool)
            is_known[known_size:] = False
            is_known[new_tokens] = False
            is_known = is_known.to(weight.device)
            weight[~is_known] = weight[is_known].mean(dim=0)


def _import_peft() -> Any:
    try:
        return import_module("peft")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "peft", "lora") from error


@contextmanager
def no_warnings() -> Generator[None]:
    """Silence warnings: peft uses deprecated functions of transformers, and reports what it corrects by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def add_adapters(model: Any, config: TrainConfig, new_tokens: list[int]) -> Any:
    """Put adapters (LoRA; Hu et al., 2021) into every linear layer of a model but its head.

    The embeddings of `new_tokens` are trained, too. Returns the model of peft around it.
    """
    peft = _import_peft()
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


def _save_adapters(network: Network, folder: Path) -> None:
    """Write the adapters of a network into a folder as peft reads them."""
    adapter = network.adapter
    # Without embeddings: peft writes the trained rows anyway, and to find out about the others it may ask the hub.
    adapter.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # an empty template
    base = find_base_folder(adapter.peft_config["default"].base_model_name_or_path)
    digest = json.dumps({"digest": digest_weights(base)}) + "\n"
    (folder / BASE_DIGEST_FILE).write_text(digest, encoding="utf-8")
