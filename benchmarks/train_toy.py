# ruff: noqa: TID253, ARG002
"""What the experiments of train_exact.py share: a toy plan, a toy model, a run of the Trainer, and processes apart."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import socket
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from collections.abc import Callable

ITEMS = 24
SAVE = 4
"""Items, and steps between two checkpoints."""
FORK = multiprocessing.get_context("fork")
MANIFEST = "manifest.json"


class Plan(torch.utils.data.Dataset):
    """Micro-batches of a whole run: three shapes of about as many tokens, some of which are only shown."""

    def __init__(self, items: int = ITEMS) -> None:
        chance = np.random.default_rng(0)
        self.items = []
        for number in range(items):
            rows = (1, 2, 4)[number % 3]
            tokens = torch.from_numpy(chance.integers(8, 256, (rows, 128 // rows)))
            labels = tokens.clone()
            labels[:, : int(chance.integers(0, 24))] = -100
            self.items.append({"input_ids": tokens, "labels": labels})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.items[index], "number": index}


def alone(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """An item is a micro-batch already."""
    return {name: value for name, value in batch[0].items() if name != "number"}


def model(dropout: float, hidden: int = 64) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, tie_word_embeddings=True, attention_dropout=dropout,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


class Losses(transformers.TrainerCallback):
    """The loss of every step, exactly."""

    def __init__(self) -> None:
        self.found: dict[int, str] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            self.found[state.global_step] = float(logs["loss"]).hex()


class Manifest(transformers.TrainerCallback):
    """A mend by public means: what a checkpoint must hold, durable, after everything else is."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        digests = {}
        for file in sorted(folder.iterdir()):
            with file.open("rb") as bytes_:
                digests[file.name] = hashlib.file_digest(bytes_, "sha256").hexdigest()
                os.fsync(bytes_.fileno())
        (folder / "manifest.tmp").write_text(json.dumps(digests))
        (folder / "manifest.tmp").replace(folder / MANIFEST)


def newest_valid(out: Path) -> str | None:
    """The newest checkpoint whose files are those of its manifest."""
    for folder in sorted(out.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2])):
        try:
            digests = json.loads((folder / MANIFEST).read_text())
            if all(
                hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in digests.items()
            ):
                return str(folder)
        except (OSError, ValueError):
            continue
    return None


def digest(network: Any) -> str:
    whole = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        whole.update(name.encode() + weight.detach().numpy().tobytes())
    return whole.hexdigest()[:16]


def train(
    out: Path,
    *,
    resume: str | bool | None = None,
    dropout: float = 0.1,
    hidden: int = 64,
    kind: type[transformers.Trainer] = transformers.Trainer,
    collate: Callable[..., Any] = alone,
    callbacks: tuple[Any, ...] = (),
    items: int = ITEMS,
    **arguments: Any,
) -> dict[str, Any]:
    """Run the Trainer to its end; gives its losses and the digest of its weights."""
    losses = Losses()
    values: dict[str, Any] = {
        "learning_rate": 1e-2, "num_train_epochs": 1, "per_device_train_batch_size": 1, "save_steps": SAVE,
        "logging_steps": 1, "train_sampling_strategy": "sequential", "remove_unused_columns": False, "use_cpu": True,
        "disable_tqdm": True, "report_to": [], "seed": 1, "save_total_limit": 2, "dataloader_pin_memory": False,
    } | arguments  # fmt: skip
    trainer = kind(
        model=model(dropout, hidden),
        args=transformers.TrainingArguments(output_dir=str(out), **values),
        train_dataset=Plan(items),
        data_collator=collate,
        callbacks=[losses, *callbacks],
    )
    trainer.pop_callback(transformers.trainer_callback.PrinterCallback)
    trainer.train(resume_from_checkpoint=resume)
    weights = {name: weight.detach().numpy().copy() for name, weight in trainer.model.state_dict().items()}
    more = getattr(trainer, "seen", None)
    return {"losses": losses.found, "weights": digest(trainer.model), "arrays": weights, "seen": more,
            "finite": all(np.isfinite(array).all() for array in weights.values())}  # fmt: skip


class Ordered(torch.utils.data.Sampler):
    """An order of its own for each epoch."""

    def __init__(self, count: int) -> None:
        self.count, self.epoch = count, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        return iter(np.random.default_rng(self.epoch).permutation(self.count).tolist())


class Sampled(transformers.Trainer):
    """A Trainer whose rows a sampler orders, by the public method for it. It notes which items it saw."""

    def get_train_dataloader(self) -> Any:
        self.seen: list[int] = []

        def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
            self.seen.append(int(batch[0]["number"]))
            return alone(batch)

        loader = DataLoader(
            self.train_dataset, batch_size=1, sampler=Ordered(len(self.train_dataset)), collate_fn=collate
        )
        return self.accelerator.prepare(loader)


class Noting(transformers.Trainer):
    """The plan as the dataset; it notes which items it saw."""

    def get_train_dataloader(self) -> Any:
        self.seen = []
        seen = self.seen
        inner = self.data_collator

        def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
            seen.append(int(batch[0]["number"]))
            return inner(batch)

        self.data_collator = collate
        return super().get_train_dataloader()


class Poison(transformers.TrainerCallback):
    """At one step a weight becomes not a number."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        if state.global_step == 6:
            with torch.no_grad():
                next(model.parameters())[9, 0] = float("nan")


class Refuse(transformers.TrainerCallback):
    """A mend by public means: stop before the optimiser moves."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        norm = sum(float(weight.grad.square().sum()) for weight in model.parameters() if weight.grad is not None)
        if not np.isfinite(norm):
            raise FloatingPointError(f"the gradient is {norm} at step {state.global_step + 1}")


class Pieces(transformers.Trainer):
    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        parts = inputs["pieces"]
        total = sum(int((part["labels"][:, 1:] != -100).sum()) for part in parts)
        loss = torch.zeros(())
        for part in parts:
            loss = loss + transformers.Trainer.training_step(self, model, dict(part), total)
        return loss

    def floating_point_ops(self, inputs: Any) -> float:
        return 0.0


def silence() -> None:
    """Send what this process and its libraries say nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def apart(work: Callable[[], Any], world: int = 1) -> Any:
    """The result of `work` in a process of its own, or in each of several that are joined by gloo (that of the first)."""

    def go(rank: int, port: int, pipe: Any) -> None:
        silence()
        if world > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world),
                              MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))  # fmt: skip
        try:
            pipe.send(work())
        except BaseException as error:  # noqa: BLE001 - that is the finding
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = re.sub(r"/\S+/run/", "", " ".join(str(error).split()))  # not the scratch folder
            pipe.send({"error": f"{type(error).__name__}: {text[:90]}",
                       "at": f"{Path(last.filename).name}:{last.name}"})  # fmt: skip
        pipe.close()
        os._exit(0)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found, processes = [], []
    for rank in range(world):
        here, there = FORK.Pipe(duplex=False)
        processes.append(FORK.Process(target=go, args=(rank, port, there)))
        processes[-1].start()
        there.close()
        found.append(here)
    results = []
    for pipe in found:
        try:
            results.append(pipe.recv())
        except EOFError:
            results.append({"error": "killed"})
    for process in processes:
        process.join()
    return results[0] if world == 1 else results


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a run that goes on from a checkpoint has the losses and the weights of the whole one."""
    if "error" in other:
        return False
    return one["weights"] == other["weights"] and all(
        one["losses"][step] == loss for step, loss in other["losses"].items()
    )
