"""A training without training: whether it can work, how long it would be, and where every token of it would go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.errors import UsageError
from git_starcoder.model import explain, ledger
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.distributed import joined
from git_starcoder.model.learner import Learner
from git_starcoder.model.plan import Plan, steps_of
from git_starcoder.model.preflight import Line, certified, examine
from git_starcoder.model.train import LOOKING, MINUTES, curriculum, made
from git_starcoder.model.trial import trial
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.dataset import Dataset
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.explain import Explained
    from git_starcoder.model.ledger import Ledger
    from git_starcoder.model.network import Network

TRIED = 120.0
"""Seconds of a budget of time for which steps are measured; a longer one is so many times as many."""


class Rehearsal(NamedTuple):
    """What a training would be."""

    lines: list[Line]
    """Of the preflight."""
    ledger: Ledger | None
    """None where something is wrong."""
    measured: bool
    """Whether the number of steps is what would fit into a budget of time now."""
    epochs: float
    """Passes over the rows."""

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        lines = [line._asdict() for line in self.lines]
        found = self.ledger.as_values() if self.ledger else None
        return {"preflight": lines, "ledger": found, "measured": self.measured, "epochs": self.epochs}


def rehearse(dataset: Dataset, out: Path, config: TrainConfig) -> Rehearsal:
    """Look at everything that is looked at before a training, and count what its plan would train on.

    Raises:
        UsageError, DatasetError, MissingExtraError: as `train.train`.

    """
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    ordered = curriculum(dataset, config)
    corpus = Corpus.read(dataset, tokenizer)
    network = made(dataset, config, tokenizer)
    lines = [*examine(dataset, corpus, network, tokenizer, config, out), certified(dataset)]
    if any(line.result == "wrong" for line in lines):
        return Rehearsal(lines, None, measured=False, epochs=0.0)
    known = steps_of(config, corpus)
    steps = known or _measured(network, corpus, config, ordered=ordered)
    found = ledger.of_lengths(Plan.of(corpus, config, steps, curriculum=ordered), corpus)
    epochs = found.drawn / float(corpus.weights @ corpus.lengths)
    return Rehearsal(lines, found, known is None, epochs)


def explained(dataset: Dataset, config: TrainConfig, number: int) -> Explained:
    """What step `number` of a training, from 1, trains on. No model is made.

    Raises:
        UsageError: the training has no such step, or its budget is one of time.
        DatasetError: no training rows, or a damaged dataset.

    """
    corpus = Corpus.read(dataset, tokenizers.load_tokenizer(dataset.tokenizer_folder))
    steps = steps_of(config, corpus)
    if steps is None:
        hint = "--steps N: a finished training has them in its training.json"
        raise UsageError("how many steps a time holds is only known when it begins", where="--explain-step", hint=hint)
    if number > steps:
        raise UsageError(f"the training has {steps:,} steps, not {number:,}", where="--explain-step")
    plan = Plan.of(corpus, config, steps, curriculum=curriculum(dataset, config))
    return explain.explain(plan, corpus, dataset, number - 1)


def _measured(network: Network, corpus: Corpus, config: TrainConfig, *, ordered: bool) -> int:
    """The steps that a budget of time holds, about."""
    seconds = 60 * (config.minutes or MINUTES)
    tried = min(seconds, TRIED)
    with joined(network.device) as processes:
        learner = Learner(network, corpus, config, processes)
        steps = trial(learner, curriculum=ordered, seconds=tried * (1 - LOOKING))
    return max(1, round((steps or 1) * seconds / tried))
