"""Peaks by the names of devices, operations by the weights, and the MFU of the last intervals."""

from __future__ import annotations

import numpy as np
import pytest

import bases
from git_starcoder.model import architecture
from git_starcoder.model.packing import pack_rows
from git_starcoder.model.throughput import ModelOperations, Utilization, peak_operations

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989.4), ("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H100 PCIe", 756), ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA A100-SXM4-40GB", 312), ("NVIDIA A100 80GB PCIe", 312), ("NVIDIA A10", 125), ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362), ("Tesla T4", 65), ("Tesla V100-SXM2-16GB", 125), ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA A10G", None), ("NVIDIA L40", None), ("NVIDIA GeForce RTX 4090 Laptop GPU", None), ("", None),
    ],
)  # fmt: skip
def test_peaks_are_those_of_the_device_and_no_other(name, peak):
    assert peak_operations(name, "bfloat16") == (None if peak is None else peak * 1e12)
    assert peak_operations(name, "float32") is None


@pytest.fixture
def network():
    tokenizer = bases.learn([b"nothing"], 300)
    return architecture.new_network("200K", tokenizer, 64, 0, device="cpu", precision="float32")


def test_operations_are_six_per_number_of_a_matrix_and_fewer_without_its_gradient(network):
    width, inner, depth = 128, 384, network.model.config.num_hidden_layers
    matrices = depth * (4 * width * width + 3 * width * inner)
    vocabulary = network.vocab_size * width
    found = ModelOperations.of(network)
    assert found == (6 * matrices, 6 * vocabulary)
    packed = pack_rows([np.arange(10), np.arange(20)], np.array([5, 1]), multiple=64)
    assert found.for_batches([packed, packed]) == 2 * (28 * 6 * matrices + (5 + 19) * 6 * vocabulary)
    network.model.model.layers[0].mlp.requires_grad_(requires_grad=False)
    assert ModelOperations.of(network).per_input == 6 * matrices - 2 * 3 * width * inner


def test_mfu_leaves_out_the_first_interval(network):
    packed = [pack_rows([np.arange(30)])]
    operations = ModelOperations.of(network).for_batches(packed)
    used = Utilization(network, 100.0 * operations)
    used.add(packed)
    used.end_interval(1000.0)  # with compilation
    assert used.mfu is None
    for _ in range(2):
        used.add(packed)
        used.add(packed)
        used.end_interval(0.1)
    assert used.mfu == pytest.approx(0.2)
    unknown = Utilization(network, None)
    for _ in range(2):
        unknown.add(packed)
        unknown.end_interval(1.0)
    assert unknown.mfu is None
