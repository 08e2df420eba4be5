# ruff: noqa: TID253
"""Can transformers' Trainer train exactly? What public arguments give, and what only its private methods could.

    python benchmarks/train_exact.py [--kills 12] [--table]

A toy Llama (dropout on) and a plan of micro-batches of several shapes, fed as the dataset of the whole run: item i is the
i-th micro-batch, read in order, one epoch, no column removed. Every experiment runs in a process of its own. *Exact*
means: the losses of all steps and the SHA-256 of the final weights are those of the run that nothing interrupted, bit
for bit on one CPU thread. One JSON line each: `what`, `expected`, `seen`, `exact`, `where` in transformers or accelerate
the cause is, and `mend`: what mends it, and whether that is public. Mends were run too: the lines with `mended: true`.

`checkpoint states` are what a `kill -9` can leave: the files of a checkpoint in the order they are written, the last
one cut in the middle. `--kills` are real ones: half at random moments, half as soon as a folder of a checkpoint is there
and its last file is not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
import transformers
from train_toy import (
    FORK,
    ITEMS,
    MANIFEST,
    SAVE,
    Manifest,
    Noting,
    Pieces,
    Plan,
    Poison,
    Refuse,
    Sampled,
    alone,
    apart,
    model,
    newest_valid,
    same,
    silence,
    train,
)
from transformers.trainer_utils import get_last_checkpoint

LINES: list[dict[str, Any]] = []


def tell(
    what: str, expected: str, seen: str, exact: bool, where: str = "", mend: str = "", mended: bool = False
) -> None:
    LINES.append({"what": what, "expected": expected, "seen": seen, "exact": exact, "where": where, "mend": mend,
                  "mended": mended})  # fmt: skip
    print(json.dumps(LINES[-1]), flush=True)


def described(whole: dict[str, Any], found: dict[str, Any]) -> str:
    if "error" in found:
        return f"{found['error']} ({found['at']})"
    if same(whole, found):
        return f"goes on at step {min(found['losses'])}, exactly"
    wrong = [step for step, loss in found["losses"].items() if whole["losses"].get(step) != loss]
    first = f"losses differ from step {wrong[0]}" if wrong else "losses are the same, weights are not"
    return f"goes on at step {min(found['losses'])} without a word; {first}"


def keep(out: Path, step: int) -> Path:
    """A copy of a run's folder as it was when the checkpoint of `step` was the newest."""
    copy = Path(tempfile.mkdtemp(dir=out.parent)) / "run"
    copy.mkdir()
    for number in (step - SAVE, step):
        shutil.copytree(out / f"checkpoint-{number}", copy / f"checkpoint-{number}")
    return copy


def uninterrupted(scratch: Path) -> tuple[dict[str, Any], Path]:
    out = scratch / "whole"
    whole = apart(lambda: train(out, save_total_limit=None, callbacks=(Manifest(),)))
    if "error" in whole:
        raise RuntimeError(whole)
    again = apart(lambda: train(scratch / "again", save_strategy="no"))
    tell("two runs that nothing interrupts, with and without checkpoints", "the same bits",
         f"{len(whole['losses'])} losses and the weights are {'the same' if same(whole, again) else 'not the same'}",
         same(whole, again))  # fmt: skip
    found = apart(lambda: train(keep(out, 12), resume=True))
    tell("resumed from a whole checkpoint in mid-epoch, dropout on", "the same bits", described(whole, found),
         same(whole, found))  # fmt: skip
    return whole, out


def states(whole: dict[str, Any], out: Path) -> None:
    """Every state that a kill inside the writing of a checkpoint can leave."""
    order = ["config.json", "generation_config.json", "model.safetensors", "training_args.bin", "optimizer.pt",
             "scheduler.pt", "rng_state.pth", "trainer_state.json"]  # fmt: skip
    there = {file.name for file in (out / "checkpoint-12").iterdir()} - {MANIFEST}
    if there != set(order):
        raise RuntimeError(f"checkpoints hold other files than expected: {sorted(there)}")
    by_time = sorted(order, key=lambda name: (out / "checkpoint-12" / name).stat().st_mtime_ns)
    if by_time != order:
        raise RuntimeError(f"files are written in another order: {by_time}")
    valid: list[bool] = []
    for at, name in enumerate(order):
        for cut in ("missing", "half"):
            run = keep(out, 12)
            newest = run / "checkpoint-12"
            (newest / MANIFEST).unlink()
            for later in order[at + 1 :] if cut == "half" else order[at:]:
                (newest / later).unlink()
            if cut == "half":
                size = (newest / name).stat().st_size
                os.truncate(newest / name, size // 2)
            valid.append(newest_valid(run) == str(run / "checkpoint-8"))
            chosen = Path(get_last_checkpoint(str(run)) or "").name
            found = apart(lambda run=run: train(run, resume=True))
            tell(f"checkpoint state: {name} {cut}", "goes on from checkpoint-8, the newest whole one",
                 f"chooses {chosen}; {described(whole, found)}", same(whole, found),
                 "trainer.py:_save_checkpoint, trainer_utils.py:get_last_checkpoint",
                 "public: a manifest written in on_save, own choice of the newest valid folder")  # fmt: skip
    for name, harm in (
        (name, harm)
        for harm in ("lost", "one bit flipped")
        for name in order
        if name.endswith((".pt", ".pth", ".safetensors"))
    ):
        run = keep(out, 12)
        file = run / "checkpoint-12" / name
        if harm == "lost":
            file.unlink()
        else:
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 8
            file.write_bytes(data)
        valid.append(newest_valid(run) == str(run / "checkpoint-8"))
        found = apart(lambda run=run: train(run, resume=True))
        tell(
            f"{name} {harm}, all else is there",
            "one clear error, or checkpoint-8",
            described(whole, found),
            same(whole, found),
            "trainer.py:_load_optimizer_and_scheduler, _load_rng_state, _load_from_checkpoint",
            "public: the same manifest",
        )
    run = keep(out, 12)
    (run / "checkpoint-12" / "optimizer.pt").unlink()
    found = apart(lambda: train(run, resume=newest_valid(run)))
    tell("all of these, from the newest valid manifest", "goes on from checkpoint-8",
         f"chooses checkpoint-8 in {sum(valid)} of {len(valid)}; {described(whole, found)}", all(valid) and same(whole, found),
         "", "public: resume_from_checkpoint=PATH", True)  # fmt: skip


def kills(scratch: Path, count: int) -> None:
    """Real kills, resumed as documented and resumed by a manifest."""
    big = {"hidden": 256, "save_steps": 2, "items": 16}
    whole = apart(lambda: train(scratch / "big", **big))
    chance = random.Random(0)
    outcomes: dict[str, list[str]] = {"documented": [], "manifest": []}
    errors: set[str] = set()
    inside = 0
    for number in range(count):
        run = scratch / f"kill-{number}"
        process = FORK.Process(
            target=lambda run=run: (silence(), train(run, callbacks=(Manifest(),), **big), os._exit(0))
        )
        begun = time.monotonic()
        process.start()
        moment = begun + chance.uniform(0.3, 2.0)
        wanted = chance.randrange(4, 15, 2)
        while process.is_alive():
            if number % 2 and (run / f"checkpoint-{wanted}" / "optimizer.pt").exists():
                break
            if not number % 2 and time.monotonic() > moment and list(run.glob("checkpoint-*/trainer_state.json")):
                break
            time.sleep(0.0002)
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        inside += newest_valid(run) != get_last_checkpoint(str(run))
        copy = scratch / f"kill-{number}-copy"
        shutil.copytree(run, copy)
        for how, folder, resume in (("documented", run, True), ("manifest", copy, newest_valid(copy))):
            found = apart(lambda folder=folder, resume=resume: train(folder, resume=resume, **big))
            errors |= {found["error"].partition(":")[0]} if "error" in found else set()
            outcomes[how].append("exact" if same(whole, found) else "error" if "error" in found else "wrong")
    for how, mended in (("documented", False), ("manifest", True)):
        counts = {name: outcomes[how].count(name) for name in ("exact", "error", "wrong")}
        tell(f"{count} real kill -9, {inside} inside a checkpoint write, resumed {'by resume_from_checkpoint=True' if not mended else 'from the newest valid manifest'}",
             "all exact", ", ".join(f"{value} {name}" for name, value in counts.items()) + f" {' '.join(sorted(errors))}" * (not mended), counts["exact"] == count,
             "trainer.py:_save_checkpoint", "public: on_save callback and resume_from_checkpoint=PATH", mended)  # fmt: skip


def collators(scratch: Path) -> None:
    """Randomness in the collator, as fill-in-the-middle or masking would have it."""

    def drawn(batch: list[dict[str, Any]]) -> dict[str, Any]:
        one = alone(batch)
        return {**one, "input_ids": torch.where(torch.rand(one["input_ids"].shape) < 0.2, 1, one["input_ids"])}

    def by_number(batch: list[dict[str, Any]]) -> dict[str, Any]:
        one = alone(batch)
        own = torch.Generator().manual_seed(batch[0]["number"])
        return {
            **one,
            "input_ids": torch.where(torch.rand(one["input_ids"].shape, generator=own) < 0.2, 1, one["input_ids"]),
        }

    for name, collate, mended in (
        ("drawn from torch's generator", drawn, False),
        ("a function of the item's number", by_number, True),
    ):
        out = scratch / name.split()[0]
        whole = apart(lambda out=out, collate=collate: train(out, collate=collate, dropout=0.0, save_total_limit=None))
        found = apart(lambda out=out, collate=collate: train(keep(out, 12), resume=True, collate=collate, dropout=0.0))
        tell(f"masks in the collator, {name}; resumed in mid-epoch", "the same bits", described(whole, found), same(whole, found),
             "trainer.py:_run_epoch loads the RNG after the first fetch (get_batch_samples)",
             "public: no global generator in the collator", mended)  # fmt: skip


def samplers(scratch: Path) -> None:
    """A sampler with `set_epoch` in epoch 1, resumed after `skip_first_batches`."""
    for world in (1, 2):
        out = scratch / f"sampler-{world}"
        options = {"kind": Sampled, "num_train_epochs": 2, "save_total_limit": None, "dropout": 0.0}
        each = ITEMS // world
        step = each + SAVE if world == 1 else each + 4
        whole = apart(lambda out=out, options=options: train(out, **options), world)
        found = apart(
            lambda out=out, options=options, step=step: train(out, resume=str(out / f"checkpoint-{step}"), **options),
            world,
        )
        whole, found = (whole, found) if world > 1 else ([whole], [found])
        errors = [one["error"] for one in (*whole, *found) if "error" in one]
        if errors:
            raise RuntimeError(errors)
        expected = [one["seen"][-(each - (step - each)) :] for one in whole]
        seen = [one["seen"][: each - (step - each)] for one in found]
        first = [one["seen"][:each][step - each :] for one in whole]
        exact = expected == seen
        said = (
            "the rest of epoch 1" if exact else "the rest of epoch 0" if seen == first else f"neither epoch's: {seen}"
        )
        tell(f"a sampler with set_epoch, resumed in epoch 1, {world} process{'es' if world > 1 else ''}", "the rest of epoch 1", said, exact,
             "accelerate data_loader.py:set_epoch, skip_first_batches; trainer.py:_run_epoch",
             "public: the plan as the dataset of one epoch, no sampler")  # fmt: skip


def worlds(scratch: Path) -> None:
    """Processes that come and go, with the plan as the dataset."""
    options: dict[str, Any] = {"dropout": 0.0, "save_total_limit": None, "kind": Noting}
    one, two = {"gradient_accumulation_steps": 2}, {"gradient_accumulation_steps": 1}
    whole = apart(lambda: train(scratch / "one", **options, **one))
    pair = apart(lambda: train(scratch / "two", **options, **two), 2)
    resumed = apart(lambda: train(keep(scratch / "two", 8), resume=True, **options, **two), 2)
    exact = all(same(before, after) for before, after in zip(pair, resumed, strict=True))
    tell("2 processes, resumed at 2", "the same bits", described(pair[0], resumed[0]), exact)
    fixed = apart(lambda: train(scratch / "fixed", **options, **one, lr_scheduler_type="constant"))
    moving = scratch / "moving"
    constant = {"lr_scheduler_type": "constant"}
    apart(lambda: train(moving, **options, **one, **constant, max_steps=4))
    middle = apart(lambda: train(moving, resume=True, **options, **two, **constant, max_steps=8), 2)[0]
    last = apart(lambda: train(moving, resume=True, **options, **one, **constant, max_steps=12))
    furthest = max(float(np.abs(last["arrays"][name] - array).max()) for name, array in fixed["arrays"].items())
    begins = [min(found["losses"]) for found in (middle, last)]
    tell("1, 2, 1 processes, the same global batch, constant rate, no dropout", "weights within 1e-4",
         f"goes on at steps {begins[0]} and {begins[1]}; furthest weight {furthest:.1e} apart; items of the last 4 steps {'the same' if last['seen'][:8] == whole['seen'][16:24] else 'others'}",
         furthest < 1e-4, mend="public: gradient_accumulation_steps x processes held constant")  # fmt: skip


def nans(scratch: Path) -> None:
    for name, arguments, callbacks, mended in (
        ("defaults", {}, (), False),
        ("logging_nan_inf_filter=False", {"logging_nan_inf_filter": False}, (), False),
        ("and a callback in on_pre_optimizer_step", {"logging_nan_inf_filter": False}, (Refuse(),), True),
    ):
        out = scratch / f"nan-{len(LINES)}"
        found = apart(lambda out=out, a=arguments, c=callbacks: train(out, callbacks=(Poison(), *c), **a))
        if "error" in found:
            seen = f"{found['error']} ({found['at']})"
        else:
            shown = [float.fromhex(loss) for step, loss in found["losses"].items() if step > 6]
            hidden = sum(map(np.isfinite, shown))
            seen = f"trains all {len(found['losses'])} steps; {hidden} of {len(shown)} losses after it are shown as finite numbers; the weights saved are {'finite' if found['finite'] else 'not finite'}"
        tell(f"a weight is not a number at step 7, {name}", "one clear error", seen, "error" in found,
             "training_args.py:logging_nan_inf_filter, trainer.py:_run_epoch",
             "public: logging_nan_inf_filter=False and a callback", mended)  # fmt: skip


def normalised(scratch: Path) -> None:
    """Is a step's gradient that of the sum over its targets, divided by their number?"""
    for world, accumulate in ((1, 3), (2, 3)):
        items = accumulate * world
        torch.manual_seed(0)
        network = model(0.0).train()
        counted = 0
        for item in Plan(items).items:
            logits = network(item["input_ids"], use_cache=False).logits[:, :-1]
            targets = item["labels"][:, 1:]
            loss = torch.nn.functional.cross_entropy(
                logits.reshape(-1, 256), targets.reshape(-1), ignore_index=-100, reduction="sum"
            )
            loss.backward()
            counted += int((targets != -100).sum())
        want = {name: weight.grad.numpy() / counted for name, weight in network.named_parameters()}
        begin = {name: weight.detach().numpy().copy() for name, weight in network.named_parameters()}
        found = apart(lambda n=items, a=accumulate, w=world: train(
            scratch / f"norm-{w}", items=n, dropout=0.0, optim="sgd", learning_rate=1.0, max_grad_norm=0.0, warmup_steps=0,
            lr_scheduler_type="constant", gradient_accumulation_steps=a, save_strategy="no"), world)  # fmt: skip
        found = found if world == 1 else found[0]
        if "error" in found:
            raise RuntimeError(found)
        top = max(float(np.abs(array).max()) for array in want.values())
        off = (
            max(float(np.abs(begin[name] - found["arrays"][name] - array).max()) for name, array in want.items()) / top
        )
        tell(f"loss of a step of {accumulate} micro-batches of different targets, {world} process{'es' if world > 1 else ''}",
             "divided by the step's targets", f"gradient within {off:.0e} of that, relative to its largest entry", off < 1e-4,
             "trainer.py:_get_num_items_in_batch")  # fmt: skip


def logs(scratch: Path) -> None:
    out = scratch / "logs"
    whole = apart(lambda: train(out, logging_steps=5, save_total_limit=None))
    found = apart(lambda: train(keep(out, 12), logging_steps=5, resume=True))
    exact = same(whole, found)
    wrong = sorted(step for step, loss in found["losses"].items() if whole["losses"][step] != loss)
    tell("the mean loss that is logged, checkpoints between two logs", "the same bits",
         f"weights {'the same' if whole['weights'] == found['weights'] else 'differ'}; logged losses of steps {wrong} differ", exact,
         "trainer.py:_inner_training_loop sets _tr_loss to 0", "public: logging_steps=1, or one that divides save_steps")  # fmt: skip


def steps(scratch: Path) -> None:
    """A step that has as many micro-batches as its tokens need, and less memory for each when there is none."""

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        one = alone(batch)
        return {
            "pieces": [{name: value[row : row + 1] for name, value in one.items()} for row in range(len(one["labels"]))]
        }

    out = scratch / "pieces"
    plain = apart(lambda: train(scratch / "plain", dropout=0.0))
    whole = apart(lambda: train(out, dropout=0.0, kind=Pieces, collate=collate, save_total_limit=None))
    if "error" in whole:
        tell("steps of 1, 2 or 4 micro-batches", "the same as whole", whole["error"] + " " + whole["at"], False)
        return
    found = apart(lambda: train(keep(out, 12), dropout=0.0, kind=Pieces, collate=collate, resume=True))
    off = max(float(np.abs(plain["arrays"][name] - array).max()) for name, array in whole["arrays"].items())
    tell("steps of 1, 2 or 4 micro-batches, resumed", "the same bits as its own whole run, close to whole batches",
         f"{described(whole, found)}; {off:.0e} from whole batches", same(whole, found),
         "gradient_accumulation_steps is one number for all steps",
         "an item is a step; the public methods training_step and floating_point_ops overridden", True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--table", action="store_true", help="a Markdown table at the end")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)  # one thread, so that forks are safe and sums have one order
    import accelerate

    print(json.dumps({"machine": measure.machine(), "command": " ".join(sys.argv), "torch": torch.__version__,
                      "transformers": transformers.__version__, "accelerate": accelerate.__version__}))  # fmt: skip
    scratch = Path(tempfile.mkdtemp(prefix="starcoder-bench-"))
    try:
        whole, out = uninterrupted(scratch)
        states(whole, out)
        kills(scratch, arguments.kills)
        collators(scratch)
        samplers(scratch)
        worlds(scratch)
        nans(scratch)
        normalised(scratch)
        logs(scratch)
        steps(scratch)
    finally:
        shutil.rmtree(scratch)
    if arguments.table:
        print("| what | seen | exact |\n| --- | --- | --- |")
        for line in LINES:
            print(f"| {line['what']} | {line['seen']} | {'yes' if line['exact'] else 'no'} |")


if __name__ == "__main__":
    main()
