"""Reads and writes the weights of a model folder: safetensors alone, and code of a model is never run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.errors import DatasetError, as_machine_error
from git_starcoder.model.devices import import_libraries
from git_starcoder.text.tokenizer import summarize_error
from git_starcoder.user_paths import utf8_path

if TYPE_CHECKING:
    from pathlib import Path

MODEL_CONFIG = "config.json"
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
ADAPTER_FOLDER = "adapter"
"""Folder of the adapters, inside the folder of the model."""
KERNEL_KEY_SUFFIX = "_implementation"
"""Keys of a configuration that end like this may name code of the hub."""


def has_weights(folder: Path) -> bool:
    """Whether a folder has weights that are read."""
    return any((folder / file).is_file() for file in WEIGHT_FILES)


def hint_of_model_inside(folder: Path) -> str:
    """Where the model is, if somebody has named the folder around it, as that of a run; otherwise empty."""
    inside = next(folder.glob(f"*/{MODEL_CONFIG}"), None)
    return "" if inside is None else f"the model is in {inside.parent}"


def load_stored_weights(folder: Path, precision: str = "float32", **options: Any) -> Any:
    """Load the model of transformers whose weights are in a folder.

    Weights are in float32, or in `precision` if the files have them so. `options` go to `from_pretrained`.

    Raises:
        DatasetError: Its files are damaged or incomplete, or it wants code of the hub to run.
    """
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


def stored_number_types(folder: Path) -> set[str]:
    """The number types of the weights in a folder by their names in safetensors, such as `F32` and `BF16`.

    Raises:
        OSError, ValueError: A file is damaged.
    """
    return {
        str(tensor["dtype"])
        for file in weight_files(folder)
        for name, tensor in json.loads(read_header(file)).items()
        if name != "__metadata__"
    }


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a folder."""
    if (folder / WEIGHT_FILES[0]).is_file():
        return [folder / WEIGHT_FILES[0]]
    places = json.loads((folder / WEIGHT_FILES[1]).read_text(encoding="utf-8"))["weight_map"]
    return [folder / name for name in sorted(set(places.values()))]


def read_header(file: Path) -> bytes:
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


def complete_config(folder: Path, number_type: str) -> None:
    """Say in a configuration of which type the weights are, and repeat values by their old names."""
    config_file = folder / MODEL_CONFIG
    config = json.loads(config_file.read_text(encoding="utf-8"))
    rotary: dict[str, Any] = config.get("rope_parameters") or {}
    if "rope_theta" in rotary:
        config["rope_theta"] = rotary["rope_theta"]
    config["torch_dtype"] = config["dtype"] = number_type
    config.pop("quantization_config", None)  # adapters and what they are merged into have all bits
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
