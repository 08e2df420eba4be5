# ruff: noqa: TID253
"""The other trainers of train_speed.py: transformers' causal-LM example and TRL's SFT trainer, on the same rows.

What is kept of `examples/pytorch/language-modeling/run_clm.py` of transformers: `group_texts` (all texts of a batch of 1,000
behind one another, cut into blocks of `block_size`, the rest of each thousand dropped, labels are the tokens) and
`Trainer` with `default_data_collator`. Left out: its arguments, reading text files and tokenising, the evaluation.

TRL is not a library of this project: `pip install trl==1.16.0`. Its defaults of bfloat16 and of recomputing activations
are switched off: the precision is the same for all, and recomputing would only make it slower.
"""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, Any

import transformers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from datasets import Dataset

WARM = 2
"""Steps before the clock starts."""


class Clock(transformers.TrainerCallback):
    """When each step ended, by the wall and by the processors."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))

    def taken(self) -> dict[str, float]:
        """Seconds of the steps that are timed."""
        wall, processors = (last - first for first, last in zip(self.ends[WARM - 1], self.ends[-1], strict=True))
        return {"seconds": wall, "processor_seconds": processors}


def timed(trainer: Any) -> dict[str, float]:
    """Train to the end. Content and padded tokens of the steps that were timed, their seconds and number."""
    clock, counts = Clock(), []
    collate: Callable[..., dict[str, Any]] = trainer.data_collator

    def counting(examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = collate(examples)
        counts.append((sum(len(each["input_ids"]) for each in examples), batch["input_ids"].numel()))
        return batch

    trainer.data_collator = counting
    trainer.add_callback(clock)
    trainer.pop_callback(transformers.trainer_callback.PrinterCallback)
    trainer.train()
    used = counts[WARM : len(clock.ends)]
    return {
        **clock.taken(),
        "steps": len(used),
        "content": sum(content for content, _ in used),
        "computed": sum(computed for _, computed in used),
    }


def arguments(out: Path, rows: int, bf16: bool, **more: Any) -> dict[str, Any]:
    """The same optimiser for all: AdamW, fused, one rate."""
    return {
        "output_dir": str(out), "num_train_epochs": 1, "per_device_train_batch_size": rows, "learning_rate": 1e-3,
        "weight_decay": 0.1, "adam_beta2": 0.95, "max_grad_norm": 1.0, "optim": "adamw_torch_fused", "bf16": bf16,
        "train_sampling_strategy": "sequential", "save_strategy": "no", "report_to": [], "use_cpu": True, "disable_tqdm": True,
        "dataloader_pin_memory": False, "logging_steps": 10, "dataloader_drop_last": True, **more,
    }  # fmt: skip


def grouped(rows: Dataset, block_size: int) -> Dataset:
    """The blocks that the example makes of rows."""

    def group_texts(examples: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        concatenated = {key: list(chain(*examples[key])) for key in examples}
        total = len(concatenated["input_ids"]) // block_size * block_size
        result = {
            key: [tokens[at : at + block_size] for at in range(0, total, block_size)]
            for key, tokens in concatenated.items()
        }
        result["labels"] = result["input_ids"].copy()
        return result

    return rows.select_columns(["input_ids"]).map(group_texts, batched=True)


def example(network: Any, rows: Dataset, out: Path, block_size: int, batch: int, bf16: bool) -> dict[str, float]:
    """The essence of run_clm.py: blocks of `block_size`, `batch` blocks a step."""
    blocks = grouped(rows, block_size)
    trainer = transformers.Trainer(
        model=network,
        args=transformers.TrainingArguments(**arguments(out, batch, bf16)),
        train_dataset=blocks,
        data_collator=transformers.default_data_collator,
    )
    kept = len(blocks) * block_size
    return {**timed(trainer), "dropped": sum(map(len, rows["input_ids"])) - kept}


def sft(
    network: Any, tokenizer: Any, rows: Dataset, out: Path, length: int, batch: int, bf16: bool, packing: bool
) -> dict[str, float]:
    """TRL's SFTTrainer on rows of tokens with labels, padded, or packed best-fit decreasing into rows of `length`."""
    from trl import SFTConfig, SFTTrainer

    more = {"packing": packing, "packing_strategy": "bfd", "max_length": length, "gradient_checkpointing": False}
    trainer = SFTTrainer(
        model=network,
        args=SFTConfig(**arguments(out, batch, bf16, **more)),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    kept = sum(map(len, trainer.train_dataset["input_ids"]))
    return {**timed(trainer), "dropped": sum(map(len, rows["input_ids"])) - kept}
