"""Muon (Jordan et al., 2024): momentum whose matrix is made orthogonal, for the matrices between the layers."""

from __future__ import annotations

from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal

from git_starcoder.model.processes import ProcessGroup
from git_starcoder.model.sharding import exchange_rows, is_sharded, part_of, share_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOMENTUM = 0.95
RMS_OF_ADAMW = 0.2
"""Root mean square of an update of AdamW at learning rate 1. With it, both optimizers share a learning rate and weight
decay (Liu et al., 2025)."""
MAX_STACKED_NUMBERS = 1 << 22
"""Most numbers of the matrices in a stack, to limit the memory; a larger matrix is a stack of its own."""
POLYNOMIALS = (
    (8.1441, -23.0521, 16.4084),
    (3.8649, -2.7751, 0.5102),
    (3.2046, -2.3237, 0.4642),
    (2.2527, -1.5957, 0.3950),
)
"""Coefficients (a, b, c) of polynomials p(s) = as + bs³ + cs⁵. One after another, they map 0.005 to 1 to 0.88 to 1.12.
Each is the one of its degree that comes closest to 1 on the interval that the one before leaves (Amsel et al., 2025),
widened by 2 %: in bfloat16, a singular value of 1 may be rounded up, and beyond the interval they grow fast."""
MIN_NORM = 1e-7
"""Matrices of a smaller norm stay small, so that 0 stays 0."""


class Muon:
    """The optimizer, with what we use of the interface of `torch.optim`. The weight decay is decoupled.

    `torch.optim.Muon` computes the same, but always in bfloat16, which a CPU without instructions for it only emulates.
    Matrices of one shape are stacked: a GPU multiplies many small matrices faster together than one by one.

    Of several processes, each makes its share of the matrices orthogonal. Of sharded ones, the rows are sent to it and
    back; otherwise the result is sent to all.
    """

    def __init__(
        self, torch: Any, weights: Sequence[Any], precision: str, decay: float, processes: ProcessGroup | None = None
    ) -> None:
        """Prepare for weights of two dimensions. `precision` is the one of matrix products, such as `bfloat16`.

        `processes` have the same weights and gradients, or parts of them.
        """
        self.processes = processes or ProcessGroup()
        self.torch = torch
        self.dtype = getattr(torch, precision)
        self.decay = decay
        self.param_groups: list[dict[str, Any]] = [{"params": list(weights), "lr": 0.0}]
        self.state: dict[Any, dict[str, Any]] = {weight: {} for weight in weights}
        """The `momentum_buffer` of each weight that was ever moved."""

    def zero_grad(self, *, set_to_none: Literal[True]) -> None:  # noqa: ARG002
        """Remove the gradient."""
        for weight in self.state:
            weight.grad = None

    def step(self) -> None:
        """Move the weights that have a gradient."""
        torch = self.torch
        with torch.no_grad():
            rate = self.param_groups[0]["lr"]
            for weights in self._stacks():
                for weight in weights:
                    if not self.state[weight]:
                        self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
                momenta = [part_of(self.state[weight]["momentum_buffer"]) for weight in weights]
                nesterov = torch.stack([part_of(weight.grad) for weight in weights])
                torch._foreach_lerp_(momenta, nesterov.unbind(), 1 - MOMENTUM)
                torch._foreach_lerp_(nesterov.unbind(), momenta, MOMENTUM)
                updates = self._orthogonalize(nesterov, weights[0]).unbind()
                # A matrix of m rows and n columns with singular values of 1 has a root mean square of 1/√max(m, n).
                scale = RMS_OF_ADAMW * sqrt(max(weights[0].shape))
                parts = [part_of(weight) for weight in weights]
                torch._foreach_mul_(parts, 1 - rate * self.decay)
                torch._foreach_add_(parts, updates, alpha=-rate * scale)

    def _orthogonalize(self, parts: Any, weight: Any) -> Any:
        """Make matrices orthogonal of which this process has these parts; `weight` is one of the matrices."""
        function = partial(orthogonalize, self.torch, dtype=self.dtype)
        if not is_sharded(weight):
            is_alone = self.processes.world_size == 1
            return function(parts) if is_alone else share_out(self.torch, parts, function, self.processes)
        return exchange_rows(self.torch, parts, len(weight), function, weight.device_mesh.get_group())

    def _stacks(self) -> Iterator[list[Any]]:
        """The weights that have a gradient, in stacks of one shape."""
        by_shape: dict[Any, list[Any]] = {}
        for weight in self.state:
            if weight.grad is not None:
                by_shape.setdefault((weight.shape, weight.device), []).append(weight)
        for weights in by_shape.values():
            count = max(1, MAX_STACKED_NUMBERS // weights[0].numel())
            count *= self.processes.world_size  # a share for each process
            yield from (weights[begin : begin + count] for begin in range(0, len(weights), count))


def orthogonalize(torch: Any, matrices: Any, dtype: Any) -> Any:
    """Matrices with the same singular vectors and with singular values of about 1, by a Newton–Schulz iteration.

    A matrix X = U S V^T, divided by a norm, becomes U p(S) V^T = FX for each polynomial p, with the factor
    F = aI + b XX^T + c (XX^T)². Shape (matrices, rows, columns) and type stay; products are in `dtype`.

    The norm is (sum of s⁴)^(1/4). It is at least the largest singular value, as the usual (sum of s²)^(1/2) is, and
    closer to it: for 256 equal values, it is 4 times their size, and the other one 16 times. So small singular values
    are further from 0 at the start, and four polynomials do what otherwise takes five.

    Of a long matrix, only XX^T is multiplied by each F, because (FX)(FX)^T = F (XX^T) F, and X by their product. This
    is done in float32 only: rounded to bfloat16, the smallest singular values of XX^T would be lost.
    """
    rows, columns = matrices.shape[1:]
    wide = matrices.mT if rows > columns else matrices  # so that XX^T is the smaller product
    x = (wide / _norm(wide)).to(dtype)
    gram = torch.bmm(x, x.mT)
    norm = _norm(gram)  # the root of the sum of s⁴, since XX^T has the singular values s²
    gram, x = gram / norm, x / norm.sqrt()
    if dtype is torch.float32 and x.shape[2] >= 2 * x.shape[1]:
        x = torch.bmm(_product_of_factors(torch, gram), x)
    else:
        x = torch.bmm(_factor(torch, gram, POLYNOMIALS[0]), x)
        for polynomial in POLYNOMIALS[1:]:
            x = torch.bmm(_factor(torch, torch.bmm(x, x.mT), polynomial), x)
    x = x.to(matrices.dtype)
    return x.mT.contiguous() if rows > columns else x


def _factor(torch: Any, gram: Any, polynomial: tuple[float, float, float]) -> Any:
    """The factor aI + b XX^T + c (XX^T)² of a polynomial, given XX^T."""
    a, b, c = polynomial
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


def _product_of_factors(torch: Any, gram: Any) -> Any:
    """The product of the factors of all polynomials, given XX^T."""
    product = _factor(torch, gram, POLYNOMIALS[0])
    factor = product
    for polynomial in POLYNOMIALS[1:]:
        gram = torch.bmm(torch.bmm(factor, gram), factor)
        factor = _factor(torch, gram, polynomial)
        product = torch.bmm(product, factor)
    return product


def _norm(matrices: Any) -> Any:
    """The root of the sum of squares of each matrix, shape (matrices, 1, 1), and never 0."""
    return matrices.norm(dim=(1, 2), keepdim=True).clamp(min=MIN_NORM)
