"""Scales losses in float16 (Micikevicius et al., 2018): gradients below 6e-8 would be 0 otherwise.

`torch.amp.GradScaler` leaves a step out if a gradient overflows, and lets each optimizer decide by itself. Here such a
step is repeated with half the scale: no rows are lost, and all processes and optimizers do the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST_SCALE = 2.0**16
GROWTH_STEPS = 2000
"""Steps without an overflow after which the scale doubles. This and the first scale are those of `GradScaler`."""


class LossScale:
    """The scale of the losses of a training."""

    def __init__(self) -> None:
        self.value = FIRST_SCALE
        self.good_steps = 0
        """Steps since the scale changed."""

    def unscale(self, torch: Any, weights: Iterable[Any]) -> bool:
        """Divide gradients by the scale, and return whether they are finite.

        If they are not, the scale is halved, and the step is to be repeated. At a scale of 1 the loss itself is to
        blame, so the gradients count as they are.
        """
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_mul_(gradients, 1 / self.value)
        is_finite = bool(torch.stack(torch._foreach_norm(gradients)).isfinite().all())  # noqa: SLF001
        if not is_finite and self.value > 1:
            self.value, self.good_steps = self.value / 2, 0
            return False
        self.good_steps += 1
        if is_finite and self.good_steps == GROWTH_STEPS:
            self.value, self.good_steps = self.value * 2, 0
        return True
