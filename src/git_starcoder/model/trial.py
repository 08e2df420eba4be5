"""A short trial before a training: how much goes through the network at once, and how many steps a time holds.

The weights and every random generator are as before afterwards, to the bit.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from git_starcoder.model import checkpoint
from git_starcoder.model.optimise import Optimiser, put
from git_starcoder.model.pack import longest, room
from git_starcoder.model.plan import STAGES, Plan

if TYPE_CHECKING:
    from git_starcoder.model.learner import Learner

PIECE = 8192
"""Tokens at once where there is no GPU whose units must be kept busy. More is not faster, and takes more memory."""
LEAST = 2048
"""Tokens at once that a GPU is tried with first."""
FASTER = 0.97
"""Of the time, what a piece of twice the size must not exceed to be worth its memory."""
STEPS = 12
"""That are timed at most,"""
SHARE = 0.03
"""and no more when this share of the budget is gone."""
KEPT = 0.9
"""Of the time that is left, what steps are planned for. The clock ends a training that got slower."""


def trial(learner: Learner, *, curriculum: bool, seconds: float | None) -> int | None:
    """Set the learner's `piece`; gives the steps that fit into `seconds`, the trial's own time included, if any."""
    weights = {name: weight.detach().to("cpu", copy=True) for name, weight in learner.weights.items()}
    state = checkpoint.random_state(learner.torch)
    plan = Plan.of(learner.corpus, learner.config, STEPS * STAGES, curriculum=curriculum)
    steps = None
    begun = time.perf_counter()
    try:
        learner.piece = _piece(learner, plan)
        if seconds is not None:
            per_step = _seconds(learner, plan, seconds * SHARE)
            left = seconds - (time.perf_counter() - begun)
            steps = max(1, int(KEPT * left / per_step))
    finally:
        put(learner.torch, learner.weights, weights)
        learner.optimiser = Optimiser(learner.network, learner.config)
        checkpoint.set_random_state(learner.torch, state)
        if learner.network.device == "cuda":
            learner.torch.cuda.empty_cache()
            learner.torch.compiler.reset()  # the graphs of other sizes, of which there may only be a few
    piece, planned = learner.processes.told([learner.piece, steps or 0])
    learner.piece = int(piece)
    return int(planned) or None


def _piece(learner: Learner, plan: Plan) -> int:
    """Tokens at once: what the config allows, or on a GPU the least that is as fast as twice as much.

    As many pieces hold a step as there are processes, or a multiple of that, so that all have the same to do.
    """
    world = learner.processes.world

    def of(count: int) -> int:
        return room(learner.corpus, plan, count)

    row = longest(learner.corpus, learner.config.fim)
    count = world
    if learner.config.piece or learner.network.device != "cuda":
        most = max(row, learner.config.piece or PIECE)
        while of(count) > most:
            count += world
        return of(count)
    while of(2 * count) > max(row, LEAST):
        count *= 2
    learner.piece = of(count)
    took = _timed(learner, plan, 0)
    while count > world:
        best, count = learner.piece, count // 2
        learner.piece = of(count)
        took, before = _timed(learner, plan, 0), took
        (fine,) = learner.processes.told([learner.piece > best and took <= FASTER * before])
        if not fine:
            return min(best, learner.piece)
    return learner.piece


def _seconds(learner: Learner, plan: Plan, most: float) -> float:
    """What a step takes, over steps of all stages, after one that warms up.

    Of each stage the fastest one counts: a machine that is busy for a moment is not slow, and the clock ends a training
    on one that stays busy.
    """
    _timed(learner, plan, plan.steps // 2)
    fastest: dict[int, float] = {}
    gone = 0.0
    for number in range(STEPS):
        # From all stages in turn: their rows differ in length.
        stage = number % STAGES
        took = _timed(learner, plan, stage * STEPS + number // STAGES, warm=False)
        fastest[stage] = min(took, fastest.get(stage, took))
        (gone,) = learner.processes.told([gone + took])
        if gone > most:
            break
    return sum(fastest.values()) / len(fastest)


def _timed(learner: Learner, plan: Plan, number: int, *, warm: bool = True) -> float:
    """Seconds of a step of the plan, made once before if it is to be `warm`."""
    step = plan.step(number)
    if warm:
        float(learner.learn(plan, step, 0.5).nats)
    begun = time.perf_counter()
    float(learner.learn(plan, step, 0.5).nats)  # which waits for the device
    return time.perf_counter() - begun
