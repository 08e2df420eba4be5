"""The optimiser and its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from git_starcoder.model.network import Network


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model learns. The defaults are from the sweep in docs/training.md."""

    batch: int = 4096
    """Tokens of a step, at least."""
    learning_rate: float = 3e-3
    """At its highest."""
    weight_decay: float = 0.5
    """Of matrices, per unit of learning rate."""
    warmup: float = 0.03
    """Share of the budget in which the learning rate rises; in the rest it falls to zero in a straight line."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    muon: bool = True


class Optimiser:
    """Muon for the matrices between layers, AdamW for embeddings and gains."""

    def __init__(self, network: Network, settings: Settings) -> None:
        torch = network.torch
        self.torch = torch
        self.settings = settings
        self.weights = list(network.model.parameters())
        inner = [
            w for n, w in network.model.named_parameters() if w.ndim == 2 and "embed" not in n and "lm_head" not in n
        ]
        known = {id(weight) for weight in inner}
        others = [weight for weight in self.weights if id(weight) not in known]
        rate, decay = settings.learning_rate, settings.weight_decay
        groups: list[Any] = [
            {"params": [weight for weight in others if weight.ndim == 2], "weight_decay": decay},
            {"params": [weight for weight in others if weight.ndim < 2], "weight_decay": 0.0},
        ]
        self.parts: list[Any] = []
        if settings.muon:
            self.parts.append(torch.optim.Muon(inner, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
        else:
            groups.append({"params": inner, "weight_decay": decay})
        self.parts.append(torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True))

    def step(self, used: float) -> float:
        """Move the weights along the gradient, at the rate for the share of the budget used, which is returned."""
        rise = self.settings.warmup
        factor = min(1.0, (used + 1e-3) / rise) if used < rise else (1.0 - used) / (1.0 - rise)
        self.torch.nn.utils.clip_grad_norm_(self.weights, self.settings.clip)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.settings.learning_rate * max(factor, 0.0)
            part.step()
            part.zero_grad(set_to_none=True)
        return self.settings.learning_rate * max(factor, 0.0)
