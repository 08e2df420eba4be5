"""Holds frozen weights in bfloat16 where that changes no result.

Under autocast, the matrices of linear layers are rounded to bfloat16 for each product, whether they are stored so or
not. A table of embeddings is only rounded if it loses nothing, because what is looked up in it is added up in float32.
That holds for bases whose files are in bfloat16, as those of all large bases are. Biases and norms are small and stay
in float32, and so do weights that are trained: a step of training is smaller than the distance of two bfloat16 numbers.
"""

from __future__ import annotations

from typing import Any

PRODUCT_LAYERS = ("Linear", "Conv1D")
"""Modules whose `weight` is used in matrix products only: those of torch, and of GPT-2 in transformers."""
NEW_TOKEN_WEIGHTS = "trainable_tokens"  # noqa: S105 - not a secret
"""Part of the names that peft gives to the embeddings of new tokens."""


def round_frozen_weights(torch: Any, model: Any, precision: str) -> None:
    """Round the frozen weights of a model of transformers to the precision of matrix products, in place.

    Weights that must not be rounded become float32, whatever they are loaded as. Tied weights stay tied.
    """
    if precision == "float32":
        return
    dtype = getattr(torch, precision)
    tables: dict[int, Any] = {}
    matrices: dict[int, Any] = {}
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.requires_grad or not weight.is_floating_point():
            continue  # trained, or stored in 4 bits
        if isinstance(module, torch.nn.Embedding):
            tables[id(weight)] = module
        elif type(module).__name__ in PRODUCT_LAYERS:
            matrices[id(weight)] = weight
    # The embeddings of new tokens are trained in float32, beside the table, and put into it for each step.
    has_new_tokens = any(NEW_TOKEN_WEIGHTS in name for name, _ in model.named_parameters())
    lossless = {key for key, module in tables.items() if not has_new_tokens and _is_representable(module.weight, dtype)}
    for key in lossless:
        tables[key].register_forward_hook(_to_float32)
    rounded = lossless | (matrices.keys() - tables.keys())
    for weight in model.parameters():
        if not weight.requires_grad and weight.is_floating_point():
            weight.data = weight.data.to(dtype if id(weight) in rounded else torch.float32)


def _is_representable(weight: Any, dtype: Any) -> bool:
    return weight.dtype == dtype or bool((weight.to(dtype) == weight).all())


def _to_float32(_: Any, __: Any, found: Any) -> Any:
    return found.float()
