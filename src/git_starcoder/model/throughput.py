"""How much of a device's speed a training uses: MFU, the model's operations per second as a share of the peak."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_starcoder.model.network import Network
    from git_starcoder.model.packing import PackedRows

PEAK_TFLOPS = (
    ("B200", 2250.0), ("GH200", 989.4), ("H200 NVL", 835.5), ("H200", 989.4), ("H100 NVL", 835.5),
    ("H100 PCIe", 756.0), ("H100", 989.4), ("A100", 312.0), ("L40S", 362.0), ("L4", 121.0), ("A10", 125.0),
    ("A40", 149.7), ("RTX A6000", 154.8), ("RTX 4090", 165.2), ("RTX 3090", 71.0), ("V100-PCIE", 112.0),
    ("V100-SXM2", 125.0), ("T4", 65.0),
)  # fmt: skip
"""Peak of dense products of 16-bit matrices that add up in float32, in 10^12 operations per second, by a part of the
name. The figures are those of NVIDIA's data sheets and white papers, half of them where a sheet counts sparse ones."""
OPERATIONS_TRAINED = 6
"""Operations per token and number of a matrix that is trained: 2 each forward, for the gradient of its input, and for
its own gradient."""
OPERATIONS_FROZEN = 4
"""The same for a matrix without a gradient of its own."""
RECENT_INTERVALS = 8
"""Intervals between fetched losses over which the MFU is averaged."""


def peak_operations(device_name: str, precision: str) -> float | None:
    """Operations per second that a device of this name can do at most; None if it is not known."""
    # The peak of float32 depends on how much is rounded, and that of a laptop on its limit of power.
    if precision == "float32" or "Laptop" in device_name:
        return None
    words = f" {device_name.replace('Tesla ', '')} "
    for part, peak in PEAK_TFLOPS:
        # "A10" is neither "A100" nor "A10G", and "L4" is not "L40S".
        if any(f"{before}{part}{after}" in words for before in " -" for after in " -"):
            return peak * 1e12
    return None


class ModelOperations(NamedTuple):
    """Operations of a step by its tokens. Attention is not counted, so the MFU is rather too low."""

    per_input: float
    """For each token that goes through the layers."""
    per_target: float
    """For each token whose logits are computed."""

    @classmethod
    def of(cls, network: Network) -> ModelOperations:
        """Those of a network: of all its matrices, and only those that are trained have gradients.

        Of a mixture of experts, all experts are counted.
        """
        model: Any = network.model
        embeddings = [layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
        inner = sum(
            _operations(weight)
            for weight in model.parameters()
            if weight.ndim >= 2 and not any(weight is each for each in embeddings)
        )
        return cls(inner, _operations(embeddings[1]))

    def for_batches(self, micro_batches: Iterable[PackedRows]) -> float:
        """The operations for micro-batches, without those for padding."""
        return sum(
            self.per_input * (len(packed.tokens) - packed.padding_count) + self.per_target * packed.target_count
            for packed in micro_batches
        )


def _operations(weight: Any) -> float:
    numbers = weight.numel() * (2 if str(weight.dtype) == "torch.uint8" else 1)  # two numbers of 4 bits in a byte
    return numbers * (OPERATIONS_TRAINED if weight.requires_grad else OPERATIONS_FROZEN)


class Utilization:
    """The MFU of a training on one device while it runs."""

    def __init__(self, network: Network, peak: float | None) -> None:
        """Begin to count; `peak` is the peak of the device in operations per second, None if it is not known."""
        self.peak = peak
        self._operations = ModelOperations.of(network) if peak else None
        self._counted = 0.0
        self._intervals: deque[tuple[float, float]] = deque(maxlen=RECENT_INTERVALS)
        self._is_first = True

    def add(self, micro_batches: Iterable[PackedRows]) -> None:
        """Count the micro-batches of a step on this device."""
        if self._operations:
            self._counted += self._operations.for_batches(micro_batches)

    def end_interval(self, seconds: float) -> None:
        """Everything that was counted since the last interval took this long. The first may include compilation."""
        if not self._is_first:
            self._intervals.append((self._counted, seconds))
        self._is_first = False
        self._counted = 0.0

    @property
    def mfu(self) -> float | None:
        """The MFU of the last intervals; None if the peak is not known or nothing was measured yet."""
        if not self.peak or not self._intervals:
            return None
        operations, seconds = (sum(values) for values in zip(*self._intervals, strict=True))
        return operations / seconds / self.peak
