"""A step of the optimiser: its rows in pieces through the network, their gradients added up, the weights moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.errors import StarcoderError
from git_starcoder.model.optimise import Optimiser
from git_starcoder.model.pack import TILE, longest, packed
from git_starcoder.records import content_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.distributed import Processes
    from git_starcoder.model.network import Network
    from git_starcoder.model.pack import Packed
    from git_starcoder.model.plan import Plan, Step


class Learned(NamedTuple):
    """A step that was made. Its figures may still be on the device."""

    step: Step
    nats: Any
    """Per token."""
    norm: Any
    """Of the gradient, before it was clipped."""
    rate: float
    targets: int
    """Tokens that were predicted."""
    pieces: Sequence[Packed]
    """In which it went through the network, in all processes."""


class Learner:
    """A network and the optimiser that moves it.

    What a step does is a function of the weights, the optimiser's state and the step alone: dropout, too, is drawn from
    the step's number.
    """

    def __init__(self, network: Network, corpus: Corpus, config: TrainConfig, processes: Processes) -> None:
        self.network = network
        self.torch = network.torch
        self.corpus = corpus
        self.config = config
        self.processes = processes
        self.weights = network.trained()
        self.optimiser = Optimiser(network, config)
        self.piece = 0
        """Tokens that go through the network at once, at most, unless a row alone has more."""

    def learn(self, plan: Plan, step: Step, used: float) -> Learned:
        """Make a step where this share of the budget is used.

        Raises:
            StarcoderError: memory does not even suffice for the longest row, or another process has ended.

        """
        while True:
            try:
                nats, pieces = self._gradient(plan, step)
                break
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self.shrink(error)
        norm = self.optimiser.clip()
        rate = self.optimiser.step(used)
        targets = sum(each.asked for each in pieces)
        return Learned(step, nats, norm, rate, targets, pieces)

    def shrink(self, error: RuntimeError) -> None:
        """After the memory did not suffice: take smaller pieces from now on, if there are any.

        Raises:
            StarcoderError: there are none.

        """
        self.optimiser.clear()
        if self.network.device == "cuda":
            self.torch.cuda.empty_cache()
        least = longest(self.corpus, self.config.fim)
        if self.piece <= least or self.processes.world > 1:
            what = f"the memory of '{self.network.device}' does not suffice for pieces of {self.piece:,} tokens"
            hint = "a smaller `piece`, a smaller model, or a dataset of smaller windows"
            raise StarcoderError(what, where="train", hint=hint) from error
        self.piece = max(least, self.piece // 2)

    def _gradient(self, plan: Plan, step: Step) -> tuple[Any, Sequence[Packed]]:
        """Add up the gradient of a step over all processes; gives its loss in nats per token, and its pieces."""
        torch = self.torch
        size = self.piece if self.network.fixed else TILE
        pieces = packed(self.corpus, plan, step, self.piece, size, self.config.attend)
        targets = sum(each.asked for each in pieces)
        self.network.model.train()
        nats = torch.zeros((), device=self.network.device)
        for number in range(self.processes.rank, len(pieces), self.processes.world):
            torch.manual_seed(int(content_id(self.config.seed, step.number, number)[:15], 16))
            loss = self.network.nats(pieces[number]).sum() / max(1, targets)
            loss.backward()
            nats += loss.detach()
        if self.processes.world > 1:
            for weight in self.weights.values():
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
            self.processes.add([nats, *(weight.grad for weight in self.weights.values())])
        return nats, pieces


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is torch's way of saying that there is no memory left, on whatever device."""
    return "out of memory" in str(error) or "can't allocate memory" in str(error)
