"""Muon against torch's own, which computes in bfloat16, and against a singular value decomposition."""

from __future__ import annotations

import pytest

from git_starcoder.model import muon
from git_starcoder.model.muon import Muon, orthogonalize

torch = pytest.importorskip("torch")
SHAPES = [(8, 24), (24, 8), (8, 24), (16, 16), (24, 8), (1, 5)]


def random_matrices(seed, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def orthogonalize_one(matrix, *_):
    """The orthogonal matrix as the muon of torch asks for it."""
    return orthogonalize(torch, matrix[None], matrix.dtype)[0]


SPECTRA = {
    "even": lambda count: torch.linspace(0.01, 1.0, count),
    "flat": torch.ones,
    "one": lambda count: (torch.arange(count) == 0).float(),
    "steep": lambda count: torch.logspace(0, -4, count),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(("rows", "columns"), [(16, 40), (40, 16), (24, 24), (1, 5)])
def test_singular_vectors_stay_and_singular_values_become_about_1(precision, spectrum, rows, columns):
    left, _, right = torch.linalg.svd(torch.stack(random_matrices(1, [(rows, columns)] * 3)), full_matrices=False)
    before = SPECTRA[spectrum](min(rows, columns))
    found = orthogonalize(torch, 1e3 * left * before @ right, getattr(torch, precision))
    after = left.mT @ found @ right.mT
    diagonal = after.diagonal(dim1=1, dim2=2)
    is_large = before >= 0.01
    assert 0.85 < float(diagonal[:, is_large].min()) < float(diagonal[:, is_large].max()) < 1.15
    assert -0.2 < float(diagonal.min()) < float(diagonal.max()) < 1.15
    assert float((after - torch.diag_embed(diagonal)).abs().max()) < (1e-3 if precision == "float32" else 0.2)


def test_zero_stays_zero():
    assert torch.equal(orthogonalize(torch, torch.zeros(2, 3, 4), torch.float32), torch.zeros(2, 3, 4))


@pytest.mark.parametrize("limit", [muon.MAX_STACKED_NUMBERS, 200, 1])
def test_it_moves_weights_as_the_muon_of_torch_does(monkeypatch, limit):
    monkeypatch.setattr(muon, "MAX_STACKED_NUMBERS", limit)
    # The muon of torch in float32 (its only conversion is this one), with our way to make matrices orthogonal.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", orthogonalize_one)
    ours, theirs = ([weight.requires_grad_() for weight in random_matrices(0)] for _ in range(2))
    unused = torch.ones(3, 3, requires_grad=True)
    optimizers = [
        Muon(torch, [*ours, unused], "float32", 0.3),
        torch.optim.Muon(theirs, lr=0.0, weight_decay=0.3, adjust_lr_fn="match_rms_adamw"),
    ]
    for step in range(6):
        for weights, optimizer in zip((ours, theirs), optimizers, strict=True):
            for weight, gradient in zip(weights, random_matrices(step + 1), strict=True):
                weight.grad = gradient * 10.0 ** (step - 3)
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            assert all(weight.grad is None for weight in weights)
    for found, expected, before in zip(ours, theirs, random_matrices(0), strict=True):
        assert float((found - expected).detach().abs().max()) < 1e-5
        assert float((found - before).detach().abs().max()) > 0.01
        momenta = (
            optimizer.state[weight]["momentum_buffer"]
            for optimizer, weight in zip(optimizers, (found, expected), strict=True)
        )
        assert torch.allclose(*momenta, rtol=1e-5, atol=1e-6)
    assert torch.equal(unused.detach(), torch.ones(3, 3))
