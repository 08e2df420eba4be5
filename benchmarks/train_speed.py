# ruff: noqa: TID253, ARG002
"""How fast is training beside others, with the same model, rows and precision, in turns in one process?

    pip install trl==1.16.0  # not a library of this project; without it its sides are left out
    python benchmarks/train_speed.py DATASET [--tokens 20000] [--rounds 3] [--precision float32] [--table]
    python benchmarks/train_speed.py DATASET --profile  # where the time of ours goes, by operations
    python benchmarks/train_speed.py DATASET --shares [--size small] [--dropout 0.1]  # the same, by parts of a step
    python benchmarks/train_speed.py DATASET --count [--tokens 2000000]  # no training: what is padded, dropped, cropped

Sides: `ours` (this project's step: pieces, gradient, optimiser) with AdamW as all others have it, and with Muon; `example`
(what transformers' run_clm.py does, see train_others.py) and `SFT` of TRL, padded and packed; `ours in a Trainer`, the same
pieces in transformers' Trainer, which shows what its loop costs. Rows are those of the first steps of the plan, in its
order; TRL's packing sorts them. Steps hold about as many tokens on all sides.

A JSON line for each side: tokens of content (not of padding) per second over the steps after the first two (least,
median, most of the rounds), the same per second of a processor (on a busy machine that is the figure to look at: run it
on one processor, as `taskset -c 0 python …`, so that no thread waits for another), the share of computed tokens that is padding, tokens of the rows that were dropped, and MFU:
6 floating point operations per token and parameter of a matrix, against the fastest product of matrices measured in the
same run. Preparing the data is not in the time of any side; what ours does in place of it, packing, is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import measure
import numpy as np
import torch
import train_others as others
import transformers

from git_starcoder.dataset import Dataset
from git_starcoder.model import architecture
from git_starcoder.model import optimizer as optimizers
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.network import Network
from git_starcoder.model.optimizer import StepRunner, learning_rate
from git_starcoder.model.packing import TILE_TOKENS, PackedRows, pack_step
from git_starcoder.model.plan import TrainingPlan
from git_starcoder.model.preflight import CPU_MICRO_BATCH_TOKENS
from git_starcoder.model.processes import ProcessGroup
from git_starcoder.text import tokenizer as tokenizers

BLOCK = 1024
"""`block_size` of the example."""


class Fed(transformers.Trainer):
    """Transformers' Trainer on our pieces: an item is a step of one piece."""

    network: Network

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        return self.network.token_losses(inputs["piece"]()).sum() / num_items_in_batch

    def floating_point_ops(self, inputs: Any) -> float:
        return 0.0


def item(piece: PackedRows) -> dict[str, Any]:
    """A piece so that Trainer leaves it alone, and its targets so that it counts them."""
    targets = torch.from_numpy(piece.targets)
    return {"piece": lambda: piece, "labels": targets, "shift_labels": targets}


class Sides:
    """All sides on one dataset."""

    def __init__(
        self, dataset: Dataset, tokens: int, precision: str, batch: int, scratch: Path, size: str = "tiny"
    ) -> None:
        self.name = size
        self.tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
        self.theirs = transformers.AutoTokenizer.from_pretrained(dataset.tokenizer_folder)
        self.corpus = Corpus.read(dataset, self.tokenizer)
        self.precision = precision
        self.scratch = scratch
        self.config = TrainConfig(
            order="shuffled", batch=batch, optimizer="adamw", learning_rate=1e-3, weight_decay=0.1, steps=10_000
        )
        self.plan = TrainingPlan.build(self.corpus, self.config, 10_000, is_curriculum=False)
        self.steps = []
        total = 0
        for step in self.plan.steps_from():
            self.steps.append(step)
            total += int(self.corpus.lengths[step.rows].sum())
            if total >= tokens:
                break
        places = np.concatenate([step.rows for step in self.steps])
        given = self.corpus.loss_starts
        rows = [self.corpus.input_tokens(place).astype(int).tolist() for place in places]
        labels = [[-100] * int(given[place]) + row[given[place] :] for place, row in zip(places, rows, strict=True)]
        self.rows = datasets.Dataset.from_dict({"input_ids": rows, "labels": labels})
        self.longest = max(map(len, rows))
        self.size = sum(map(len, rows)) // len(self.steps)
        self.rows_a_step = max(1, round(self.size / (sum(map(len, rows)) / len(rows))))
        self.first = architecture.new_network(size, self.tokenizer, max(self.longest, 2 * BLOCK), 0).model
        head = self.first.get_output_embeddings().weight
        inner = sum(weight.numel() for weight in self.first.parameters() if weight.ndim == 2 and weight is not head)
        self.per_token = 6 * (inner + head.numel())

    def model(self) -> Any:
        """The model as it was at first, as transformers has it."""
        fresh = transformers.AutoModelForCausalLM.from_config(
            self.first.config, dtype=torch.float32, attn_implementation="sdpa"
        )
        fresh.load_state_dict(self.first.state_dict())
        return fresh

    def ours(self, optimizer: str) -> dict[str, float]:
        network = Network(self.model(), self.tokenizer, precision=self.precision)
        learner = StepRunner(network, self.corpus, replace(self.config, optimizer=optimizer), ProcessGroup())
        learner.micro_batch_tokens = CPU_MICRO_BATCH_TOKENS
        clock, content, padded = others.Clock(), [], []
        for step in self.steps:
            learned = learner.run_step(
                self.plan, step, learning_rate(learner.config, step.number / self.plan.step_count)
            )
            float(learned.loss)  # as the metrics of a training ask for it
            clock.on_step_end()
        for step in self.steps[others.WARM :]:
            pieces = pack_step(self.corpus, self.plan, step, CPU_MICRO_BATCH_TOKENS, TILE_TOKENS)
            padded.append(sum(piece.padding_count for piece in pieces))
            content.append(sum(len(piece.tokens) - piece.padding_count + len(piece.row_indices) for piece in pieces))
        return {**clock.taken(), "steps": len(content), "content": sum(content),
                "computed": sum(content) + sum(padded), "dropped": 0}  # fmt: skip

    def shares(self, optimizer: str, dropout: float) -> dict[str, Any]:
        """Tokens per processor second of steps, and the share of their processor time in each part of a step."""
        config = replace(self.config, optimizer=optimizer, size=self.name, dropout=dropout)
        options: dict[str, Any] = {"device": "cpu", "precision": self.precision}
        network = architecture.new_network(self.name, self.tokenizer, self.longest, 0, dropout, **options)
        learner = StepRunner(network, self.corpus, config, ProcessGroup())
        learner.micro_batch_tokens = CPU_MICRO_BATCH_TOKENS
        spent: dict[str, float] = {}

        def time_calls(owner: Any, name: str, part: str) -> Any:
            function = getattr(owner, name)

            def timed(*values: Any, **named: Any) -> Any:
                begun = time.process_time()
                try:
                    return function(*values, **named)
                finally:
                    spent[part] = spent.get(part, 0.0) + time.process_time() - begun

            return mock.patch.object(owner, name, timed)

        with ExitStack() as stack:
            for owner, name, part in (
                (optimizers, "pack_step", "packing"),
                (network, "token_losses", "forward"),
                (torch.Tensor, "backward", "backward"),
                (learner.optimizer, "_clip_gradient", "clipping"),
                *((each, "step", type(each).__name__) for each in learner.optimizer.optimizers),
            ):
                stack.enter_context(time_calls(owner, name, part))
            tokens = 0
            for number, step in enumerate(self.steps):
                if number == others.WARM:
                    spent.clear()
                    begun, tokens = time.process_time(), 0
                rate = learning_rate(config, step.number / self.plan.step_count)
                tokens += learner.run_step(self.plan, step, rate).target_count
            seconds = time.process_time() - begun
        spent["rest"] = seconds - sum(spent.values())
        return {"optimizer": optimizer, "dropout": dropout, "tokens_per_processor_second": round(tokens / seconds),
                **{part: round(value / seconds, 3) for part, value in spent.items()}}  # fmt: skip

    def fed(self) -> dict[str, float]:
        network = Network(self.model(), self.tokenizer, precision=self.precision)
        pieces = [pack_step(self.corpus, self.plan, step, 1 << 30)[0] for step in self.steps]
        arguments = others.arguments(self.scratch, 1, self.precision == "bfloat16", remove_unused_columns=False)
        trainer = Fed(model=network.model, args=transformers.TrainingArguments(**arguments), train_dataset=[item(piece) for piece in pieces],
                      data_collator=lambda batch: batch[0])  # fmt: skip
        trainer.network = network
        clock = others.Clock()
        trainer.add_callback(clock)
        trainer.pop_callback(transformers.trainer_callback.PrinterCallback)
        trainer.train()
        content = sum(len(piece.tokens) + len(piece.row_indices) for piece in pieces[others.WARM :])
        return {**clock.taken(), "steps": len(pieces) - others.WARM,
                "content": content, "computed": content, "dropped": 0}  # fmt: skip

    def all(self) -> dict[str, Any]:
        half = self.precision == "bfloat16"
        sides: dict[str, Any] = {
            "ours, AdamW": partial(self.ours, "adamw"),
            "ours, Muon": partial(self.ours, "muon"),
            "ours in a Trainer": self.fed,
            f"run_clm, blocks of {BLOCK}": lambda: others.example(
                self.model(), self.rows, self.scratch, BLOCK, max(1, round(self.size / BLOCK)), half),
        }  # fmt: skip
        if find_spec("trl") is not None:
            sft = partial(
                others.sft, tokenizer=self.theirs, rows=self.rows, out=self.scratch, length=self.longest, bf16=half
            )
            sides["TRL SFT, padded"] = lambda: sft(self.model(), batch=self.rows_a_step, packing=False)
            sides["TRL SFT, packed (bfd)"] = lambda: sft(
                self.model(), batch=max(1, round(self.size / self.longest)), packing=True
            )
        return sides


def counted(sides: Sides, batch: int) -> dict[str, dict[str, float]]:
    """Of the rows of the steps: the share of computed tokens that is padding, and the share of tokens that is not learned
    from, because it was dropped or cropped. Of TRL with its own `max_length` of 1,024, and with one that holds all rows."""
    lengths = np.array([len(row) for row in sides.rows["input_ids"]])
    tokens = int(lengths.sum())
    found = {}
    pieces = [
        piece
        for step in sides.steps
        for piece in pack_step(sides.corpus, sides.plan, step, CPU_MICRO_BATCH_TOKENS, TILE_TOKENS)
    ]
    computed = sum(len(piece.tokens) + len(piece.row_indices) for piece in pieces)
    content = computed - sum(piece.padding_count for piece in pieces)
    found["ours"] = {"padded": 1 - content / computed, "lost": 1 - content / tokens}
    blocks = others.grouped(sides.rows, BLOCK)
    found[f"run_clm, blocks of {BLOCK}"] = {"padded": 0.0, "lost": 1 - len(blocks) * BLOCK / tokens}
    for limit in (BLOCK, sides.longest) if sides.longest > BLOCK else (BLOCK,):
        kept = np.minimum(lengths, limit)
        rows = max(2, round(batch / kept.mean()))
        groups = np.split(kept, range(rows, len(kept), rows))
        padded = sum(int(group.max()) * len(group) for group in groups)
        found[f"TRL SFT, padded, {rows} rows, max_length {limit}"] = {
            "padded": 1 - kept.sum() / padded,
            "lost": 1 - kept.sum() / tokens,
        }
        if find_spec("trl") is not None:
            from trl import pack_dataset

            bins = pack_dataset(sides.rows.with_format(None), limit, "bfd")
            got = sum(map(len, bins["input_ids"]))
            found[f"TRL SFT, packed (bfd), max_length {limit}"] = {"padded": 0.0, "lost": 1 - got / tokens}
    return found


def flops(precision: str) -> float:
    """The fastest product of square matrices, in operations per second."""
    best = 0.0
    for size in (512, 1024, 2048):
        left, right = (torch.ones(size, size, dtype=getattr(torch, precision)) for _ in range(2))
        for _ in range(8):
            begun = time.perf_counter()
            torch.mm(left, right)
            best = max(best, 2 * size**3 / (time.perf_counter() - begun))
    return best


def print_parts(sides: Sides, arguments: argparse.Namespace) -> bool:
    """Print what ours does instead of a comparison, if the arguments ask for that; whether they do."""
    if arguments.shares:
        for _ in range(arguments.rounds):
            for optimizer in ("muon", "adamw"):
                print(json.dumps(sides.shares(optimizer, arguments.dropout)))
        return True
    if arguments.count:
        print(json.dumps({"command": " ".join(sys.argv), "rows": len(sides.rows), "longest": sides.longest}))
        for name, found in counted(sides, arguments.batch).items():
            print(json.dumps({"side": name, **{what: round(share, 4) for what, share in found.items()}}))
        return True
    if arguments.profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            sides.ours("adamw")
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60))
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2048, help="tokens of a step")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--size", default="tiny", help="of the model")
    parser.add_argument("--shares", action="store_true", help="the parts of our steps, and nothing else")
    parser.add_argument("--dropout", type=float, default=0.0, help="for --shares")
    parser.add_argument("--sides", nargs="*", help="only those whose names begin so")
    parser.add_argument("--table", action="store_true", help="a Markdown table at the end")
    parser.add_argument("--count", action="store_true", help="what is padded and lost, and nothing else")
    parser.add_argument("--profile", action="store_true", help="where the time of ours goes, and nothing else")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    datasets.disable_caching()
    with tempfile.TemporaryDirectory(prefix="starcoder-bench-") as scratch:
        sides = Sides(
            Dataset.open(arguments.dataset),
            arguments.tokens,
            arguments.precision,
            arguments.batch,
            Path(scratch),
            arguments.size,
        )
        if print_parts(sides, arguments):
            return
        chosen = {
            name: side
            for name, side in sides.all().items()
            if not arguments.sides or any(name.startswith(each) for each in arguments.sides)
        }
        fastest = flops(arguments.precision)
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
        for _ in range(arguments.rounds):
            for name, side in chosen.items():
                runs[name].append(side())
            fastest = max(fastest, flops(arguments.precision))
    print(json.dumps({
        "machine": measure.machine(), "command": " ".join(sys.argv), "torch": torch.__version__, "threads": torch.get_num_threads(),
        "transformers": transformers.__version__, "precision": arguments.precision, "matmul_gflops": round(fastest / 1e9, 1),
        "rows": len(sides.rows), "longest": sides.longest, "tokens": sum(map(len, sides.rows["input_ids"])),
        "flops_per_token": sides.per_token,
    }))  # fmt: skip
    if arguments.table:
        table = [
            "| side | tokens of content/s | per processor second | tokens a step | padded | dropped | MFU |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
    for name, found in runs.items():
        speeds = [one["content"] / one["seconds"] for one in found]
        per_processor = [one["content"] / one["processor_seconds"] for one in found]
        one = found[0]
        line = {
            "side": name,
            "tokens_per_second": [round(rank(speeds)) for rank in (min, statistics.median, max)],
            "per_processor_second": [round(rank(per_processor)) for rank in (min, statistics.median, max)],
            "tokens_a_step": round(one["content"] / one["steps"]),
            "padded": round(1 - one["content"] / one["computed"], 4),
            "dropped": one["dropped"],
            "mfu": round(
                statistics.median(per_processor if torch.get_num_threads() == 1 else speeds)
                * sides.per_token
                / fastest,
                3,
            ),
        }
        print(json.dumps(line))
        if arguments.table:
            by_wall, by_processor = (
                ", ".join(f"{speed:,}" for speed in line[what])
                for what in ("tokens_per_second", "per_processor_second")
            )
            table.append(f"| {name} | {by_wall} | {by_processor} | {line['tokens_a_step']:,} | "
                         f"{line['padded']:.1%} | {line['dropped']:,} | {line['mfu']:.0%} |")  # fmt: skip
    if arguments.table:
        print("\n".join(table))


if __name__ == "__main__":
    main()
