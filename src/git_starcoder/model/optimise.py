"""The optimiser and its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from git_starcoder.model.network import Network


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model learns. The defaults did best in minutes on two cores; larger batches and models take longer."""

    batch: int = 2048
    """Tokens of a step, at least."""
    learning_rate: float = 1e-2
    """At its highest."""
    weight_decay: float = 1.0
    """Of matrices, per unit of learning rate."""
    warmup: float = 0.03
    """Share of the budget in which the learning rate rises; in the rest it falls to zero in a straight line."""
    clip: float = 1.0
    """Largest norm of the gradient."""


class Optimiser:
    """Muon for the matrices between layers, AdamW for embeddings and gains."""

    def __init__(self, network: Network, settings: Settings) -> None:
        torch = network.torch
        self.torch = torch
        self.settings = settings
        self.weights = list(network.model.parameters())
        embedding = network.model.get_input_embeddings().weight  # also the output's: they are tied
        inner = [weight for weight in self.weights if weight.ndim == 2 and weight is not embedding]
        gains = [weight for weight in self.weights if weight.ndim < 2]
        rate, decay = settings.learning_rate, settings.weight_decay
        others = [{"params": [embedding], "weight_decay": decay}, {"params": gains, "weight_decay": 0.0}]
        self.parts: list[Any] = [
            # Scaled so that both move weights equally fast: one learning rate serves both.
            torch.optim.Muon(inner, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), fused=True),
        ]

    def step(self, used: float) -> float:
        """Move the weights along the gradient, at the rate for the share of the budget used, which is returned."""
        rise = self.settings.warmup
        share = min(1.0, (used + 1e-3) / rise) if used < rise else (1.0 - used) / (1.0 - rise)
        rate = self.settings.learning_rate * max(share, 0.0)
        self.torch.nn.utils.clip_grad_norm_(self.weights, self.settings.clip)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)
        return rate
