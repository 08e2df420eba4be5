"""The optimiser, its schedule, and the moving average of the weights."""

from __future__ import annotations

from contextlib import contextmanager
from math import cos, pi
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.network import Network

BEGIN = 1e-3
"""Share of the budget that a warmup counts as gone before the first step, so that this has a rate, too."""
DECAY = 0.2
"""Share of the budget in which WSD falls to zero (Hägele et al., 2024)."""


def rate(config: TrainConfig, used: float) -> float:
    """The learning rate where this share of the budget is used."""
    rise = config.warmup
    if used < rise:
        share = min(1.0, (used + BEGIN) / rise)
    else:
        gone = min(1.0, (used - rise) / (1.0 - rise))
        shares = {"linear": 1.0 - gone, "cosine": (1.0 + cos(pi * gone)) / 2, "wsd": min(1.0, (1.0 - used) / DECAY)}
        share = max(0.0, shares[config.schedule])
    return config.learning_rate * share


class Optimiser:
    """AdamW (Loshchilov and Hutter, 2019), or Muon (Jordan et al., 2024) for the matrices between layers beside it."""

    def __init__(self, network: Network, config: TrainConfig) -> None:
        self.torch = torch = network.torch
        self.config = config
        self.weights = network.trained()
        # Matrices of which a step moves only some rows: those of words, which are often one for input and output.
        words = [each.weight for each in (network.model.get_input_embeddings(), network.model.get_output_embeddings())]
        inner: list[Any] = []
        matrices: list[Any] = []
        gains: list[Any] = []
        for name, weight in self.weights.items():
            of_words = any(weight is each for each in words) or "trainable_tokens" in name
            if weight.ndim < 2:
                gains.append(weight)
            elif weight.ndim == 2 and not of_words and config.optimizer == "muon":
                inner.append(weight)
            else:
                matrices.append(weight)
        peak, decay = config.learning_rate, config.weight_decay
        self.parts: list[Any] = []
        if inner:
            # Scaled so that both move weights equally fast: one learning rate serves both.
            self.parts.append(torch.optim.Muon(inner, lr=peak, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
        groups = [{"params": matrices, "weight_decay": decay}, {"params": gains, "weight_decay": 0.0}]
        if groups := [group for group in groups if group["params"]]:
            self.parts.append(torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95), fused=True))

    def clip(self) -> Any:
        """Scale the gradient down to the largest norm that is allowed; gives the norm that it had."""
        return self.torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self.config.clip)

    def step(self, used: float) -> float:
        """Move the weights along the gradient, at the rate for the share of the budget used, which is returned."""
        now = rate(self.config, used)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = now
            part.step()
        self.clear()
        return now

    def clear(self) -> None:
        """Forget the gradient."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """All that it remembers, by the weight's name and its own."""
        states = {weight: state for part in self.parts for weight, state in part.state.items()}
        return {
            f"{name}/{key}": tensor
            for name, weight in self.weights.items()
            for key, tensor in states.get(weight, {}).items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave."""
        homes = {weight: part for part in self.parts for group in part.param_groups for weight in group["params"]}
        for place, tensor in state.items():
            name, _, key = place.rpartition("/")
            weight = self.weights[name]
            homes[weight].state[weight][key] = tensor.to(weight.device, copy=True)


class Average:
    """The moving average of weights over the steps (Polyak and Juditsky, 1992)."""

    def __init__(self, torch: Any, weights: Mapping[str, Any], decay: float) -> None:
        self.torch = torch
        self.decay = decay
        self.weights = weights
        self.tensors = {name: weight.detach().clone() for name, weight in weights.items()}

    def follow(self, step: int) -> None:
        """Take in the weights after a step, from 1. The first ones count more, so that the random start goes."""
        decay = min(self.decay, step / (10 + step))
        with self.torch.no_grad():
            now = [weight.detach() for weight in self.weights.values()]
            self.torch._foreach_lerp_(list(self.tensors.values()), now, 1.0 - decay)

    @contextmanager
    def shown(self) -> Generator[None]:
        """Within it, the model has the average as its weights."""
        own = {name: weight.detach().clone() for name, weight in self.weights.items()}
        put(self.torch, self.weights, self.tensors)
        try:
            yield
        finally:
            put(self.torch, self.weights, own)


def put(torch: Any, weights: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Give weights their values in place."""
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(values[name])
