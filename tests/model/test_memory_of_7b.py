"""The arithmetic of docs/how-to/gpu.md: the memory of Qwen2.5-Coder-7B, by the functions of the preflight check.

Tensors are fake: they have shapes and types, and no numbers. So the shapes are the real ones, and nothing is computed.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from git_starcoder.model import adapters, attention, devices, network, peak_memory
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.frozen_weights import round_frozen_weights

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "gpu.md"
SHAPE = {
    "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32_768,
    "tie_word_embeddings": False, "rms_norm_eps": 1e-6,
}  # fmt: skip
"""The configuration of Qwen/Qwen2.5-Coder-7B."""
FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in 4 bits: a factor of 8 bits for each 64 weights, and one in float32 for each 256 of these."""
TOKENS = 2048


class Fake:
    """A network of the first layers whose tensors have no numbers."""

    def __init__(self, layers: int, tune: str) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        transformers = devices.import_libraries()[1]
        transformers.AttentionInterface.register(attention.ATTENTION_NAME, attention.attend)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        config = transformers.Qwen2Config(**{**SHAPE, "num_hidden_layers": layers})
        made = object.__new__(network.Network)
        made.torch, made.device, made.precision, made.sharded_model = torch, "cpu", "bfloat16", None
        made.is_compiled = made.recomputes_activations = False
        made._measured_length, made._has_kernel = 0, False
        made.vocab_size, made.context = config.vocab_size, config.max_position_embeddings
        with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
            dtype = torch.float32 if tune == "full" else torch.bfloat16
            made.model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
            if tune != "full":
                adapters.add_adapters(made.model, TrainConfig(base="x", tune="lora"), [])
            patch.setattr("git_starcoder.model.frozen_weights._is_representable", lambda *_: True)
            round_frozen_weights(torch, made.model, "bfloat16")
        for module in made.model.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update({name: self.fake(tensor) for name, tensor in tensors.items() if tensor is not None})
        body, head = made.model.get_decoder(), made.model.get_output_embeddings()
        made._forward_path = network.ForwardPath(body, head, is_packed=True)
        self.network = made

    def fake(self, tensor):
        with self.mode:
            made = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        is_weight = isinstance(tensor, torch.nn.Parameter)
        return torch.nn.Parameter(made, requires_grad=tensor.requires_grad) if is_weight else made

    def peak_bytes(self, *, recompute: bool, is_training: bool = True, tokens: int = TOKENS) -> int:
        self.network.set_recomputation(is_on=recompute)
        with self.mode:
            return self.network.peak_bytes([np.arange(tokens + 1)], is_training=is_training)


def of_all_layers(tune, few=2, **options):
    """What 28 layers need follows from what two and three need."""
    less, more = (Fake(layers, tune).peak_bytes(**options) for layers in (few, few + 1))
    return less + (SHAPE["num_hidden_layers"] - few) * (more - less)


@pytest.fixture(scope="module")
def whole():
    """All 28 layers with adapters, in bfloat16 and in float32."""
    return {tune: Fake(SHAPE["num_hidden_layers"], tune).network for tune in ("lora", "full")}


def figures(whole):
    lora, full = whole["lora"], whole["full"]
    weights = list(lora.model.parameters())
    frozen = [weight for weight in weights if not weight.requires_grad]
    tables = [lora.model.get_input_embeddings().weight, lora.model.get_output_embeddings().weight]
    matrices = sum(weight.numel() for weight in frozen) - sum(table.numel() for table in tables)
    in_four_bits = int(FOUR_BITS * matrices) + peak_memory.weight_bytes(tables)
    adapters = list(lora.trainable_weights().values())
    adamw, eight_bit = (TrainConfig(base="x", optimizer=kind) for kind in ("adamw", "adamw8bit"))
    heads = SHAPE["hidden_size"] // SHAPE["num_attention_heads"]
    return {
        "frozen weights in bfloat16": peak_memory.weight_bytes(frozen),
        "frozen weights in 4 bits": in_four_bits,
        "adapters": peak_memory.weight_bytes(adapters),
        "gradients of adapters": peak_memory.part_bytes(adapters),
        "AdamW of adapters": peak_memory.optimizer_bytes(lora, adamw),
        "weights in float32": peak_memory.weight_bytes(list(full.model.parameters())),
        "gradients in float32": peak_memory.weight_bytes(list(full.model.parameters())),
        "AdamW": peak_memory.optimizer_bytes(full, adamw),
        "8-bit AdamW": peak_memory.optimizer_bytes(full, eight_bit),
        "activations, LoRA": of_all_layers("lora", recompute=False),
        "activations, LoRA, recomputed": of_all_layers("lora", recompute=True),
        "activations, full, recomputed": of_all_layers("full", recompute=True),
        "activations of 8,192 held-out tokens": Fake(2, "lora").peak_bytes(
            recompute=False, is_training=False, tokens=8192
        ),
        "logits, LoRA": peak_memory.training_logit_bytes(lora, TOKENS),
        "logits and gradient of the output layer, full": peak_memory.training_logit_bytes(full, TOKENS),
        "logits of held-out text": peak_memory.inference_logit_bytes(lora),
        "cache of 4,096 tokens": 2 * 2 * SHAPE["num_hidden_layers"] * SHAPE["num_key_value_heads"] * heads * 4096,
    }


def test_the_page_has_the_figures_of_the_preflight_check(whole):
    found = {name: f"{size / 2**30:.2f}" for name, size in figures(whole).items()}
    rows = re.findall(r"^\| ([^|]+?) \| ([\d.]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {name: figure for name, figure in rows if name in found}
    assert told == found


def test_the_sums_of_the_page():
    """In each table, the last line is the sum of those above."""
    text = PAGE.read_text(encoding="utf-8")
    tables = [part.split("\n\n")[0] for part in re.split(r"^\| \| ", text, flags=re.MULTILINE)[1:]]
    assert len(tables) == 2
    for table in tables:
        *rows, last = [line.strip("|").split("|")[1:] for line in table.splitlines()[2:] if line.startswith("|")]
        for column, total in enumerate(last):
            figures = [float(row[column]) for row in rows if row[column].strip() != "–"]
            assert sum(figures) == pytest.approx(float(total.strip(" *")), abs=0.011)
