"""Shows what a training would do, without training: preflight checks, token budget, and the rows of a step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from git_starcoder.errors import UsageError
from git_starcoder.model.devices import best_device
from git_starcoder.model.extras import require_libraries
from git_starcoder.model.optimizer import StepRunner
from git_starcoder.model.packing import fim_mask, input_rows, planned_budget, spm_mask
from git_starcoder.model.plan import TrainingPlan, budget_steps
from git_starcoder.model.preflight import check_certificate, choose_recomputation, run_preflight, search_batch_size
from git_starcoder.model.processes import ProcessGroup, connect_processes
from git_starcoder.model.training import (
    DEFAULT_MINUTES,
    VALIDATION_SHARE,
    build_network_for,
    follows_curriculum,
    read_corpus,
    resolve_fim,
    resolve_rates,
)
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.dataset import Dataset
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.network import Network
    from git_starcoder.model.packing import TokenBudget
    from git_starcoder.model.preflight import PreflightResult

MAX_MEASURED_SECONDS = 120.0
"""Longest time budget for which steps are measured; the steps of a longer one are extrapolated."""


class DryRun(NamedTuple):
    """What a training would be."""

    preflight: list[PreflightResult]
    budget: TokenBudget | None
    """The planned token budget; None if a preflight check is wrong."""
    is_measured: bool
    """Whether the number of steps is an estimate for a time budget, measured now."""
    epochs: float
    """Passes over the rows."""

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "preflight": [result._asdict() for result in self.preflight],
            "ledger": self.budget.as_values() if self.budget else None,
            "measured": self.is_measured,
            "epochs": self.epochs,
        }


class ExplainedRow(NamedTuple):
    """A row that a step trains on. The names are keys of the JSON output."""

    place: str
    """File and line in the dataset."""
    source_file: str
    technique: str
    """`base`, or the name of the augmentation."""
    tokens: int
    """Tokens that the model reads, with control tokens."""
    given: int
    """How many of them, at the beginning, are not in the loss."""
    weight: float
    draw: int
    """Which draw of the row this is in the run, from 1."""
    draws: int
    """How often the whole run draws the row."""
    fill: Literal["", "PSM", "SPM"]
    """The order of prefix, suffix and middle; empty if the row is not learned as fill-in-the-middle."""


@dataclass(frozen=True, slots=True)
class ExplainedStep:
    """The rows that a step trains on. Steps and stages count from 1. The names are keys of the JSON output."""

    step: int
    steps: int
    stage: int
    stages: int
    tokens: int
    """Tokens that the model reads."""
    rows: tuple[ExplainedRow, ...]
    """In the order of the plan."""

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "rows": [row._asdict() for row in self.rows]}


def preview_training(dataset: Dataset, out: Path, config: TrainConfig) -> DryRun:
    """Run all preflight checks, and count the tokens that a training would train on."""
    require_libraries(config, config.device or best_device())
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    is_curriculum = follows_curriculum(dataset, config)
    config = resolve_fim(config, dataset, tokenizer)
    corpus, _ = read_corpus(dataset, config, tokenizer)
    config = resolve_rates(config, corpus)
    network = build_network_for(dataset, config, tokenizer)
    choose_recomputation(corpus, network, config, ProcessGroup())
    preflight = [*run_preflight(dataset, corpus, network, tokenizer, config, out), check_certificate(dataset)]
    if any(result.result == "wrong" for result in preflight):
        return DryRun(preflight, None, is_measured=False, epochs=0.0)
    known_steps = budget_steps(config, corpus)
    steps = known_steps or _measure_steps(network, corpus, config, is_curriculum=is_curriculum)
    plan = TrainingPlan.build(corpus, config, steps, is_curriculum=is_curriculum)
    budget = planned_budget(plan, corpus)
    epochs = budget.drawn / float(corpus.weights @ corpus.lengths)
    return DryRun(preflight, budget, known_steps is None, epochs)


def _measure_steps(network: Network, corpus: Corpus, config: TrainConfig, *, is_curriculum: bool) -> int:
    """About how many steps the time budget of a config holds."""
    seconds = 60 * (config.minutes or DEFAULT_MINUTES)
    measured_seconds = min(seconds, MAX_MEASURED_SECONDS)
    with connect_processes(network.device) as processes:
        runner = StepRunner(network, corpus, config, processes)
        training_seconds = measured_seconds * (1 - VALIDATION_SHARE)
        steps = search_batch_size(runner, is_curriculum=is_curriculum, seconds=training_seconds)
    return max(1, round((steps or 1) * seconds / measured_seconds))


def explain_training_step(dataset: Dataset, config: TrainConfig, number: int) -> ExplainedStep:
    """List the rows that step `number` of a training, counted from 1, trains on. No model is built.

    Raises:
        UsageError: The training has no such step, or its budget is a time.
        DatasetError: There are no training rows, or the dataset is damaged.
    """
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    config = resolve_fim(config, dataset, tokenizer)
    corpus, _ = read_corpus(dataset, config, tokenizer)
    steps = budget_steps(config, corpus)
    if steps is None:
        hint = "use --steps N; the number of steps of a finished training is in its training.json"
        raise UsageError("a time budget becomes steps only when training starts", where="--explain-step", hint=hint)
    if number > steps:
        raise UsageError(f"the training has {steps:,} steps, not {number:,}", where="--explain-step")
    plan = TrainingPlan.build(corpus, config, steps, is_curriculum=follows_curriculum(dataset, config))
    return describe_step(plan, corpus, dataset, number - 1)


def describe_step(plan: TrainingPlan, corpus: Corpus, dataset: Dataset, number: int) -> ExplainedStep:
    """List the rows of a step of a plan, counted from 0."""
    step = plan.step(number)
    dataset_rows = corpus.dataset_rows[step.rows].tolist()
    wanted = set(dataset_rows)
    metadata = {row: values for row, values in enumerate(dataset.row_metadata("train")) if row in wanted}
    is_fim = fim_mask(corpus, plan, step.rows, step.draw_numbers).tolist()
    is_spm = spm_mask(plan, step.rows, step.draw_numbers).tolist()
    inputs = input_rows(corpus, plan, step)
    rows = tuple(
        ExplainedRow(
            place=dataset.row_location("train", dataset_row),
            source_file=metadata[dataset_row]["source_file"],
            technique=metadata[dataset_row]["augmentation_type"],
            tokens=len(tokens),
            given=int((corpus.fim_loss_starts if fim else corpus.loss_starts)[row]),
            weight=float(corpus.weights[row]),
            draw=draw + 1,
            draws=int(plan.draw_counts[row]),
            fill="" if not fim else "SPM" if spm else "PSM",
        )
        for row, dataset_row, draw, tokens, fim, spm in zip(
            step.rows.tolist(), dataset_rows, step.draw_numbers.tolist(), inputs, is_fim, is_spm, strict=True
        )
    )
    tokens = sum(row.tokens for row in rows)
    return ExplainedStep(number + 1, plan.step_count, step.stage + 1, len(plan.stages), tokens, rows)
