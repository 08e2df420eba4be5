"""How many more or fewer bits an arm needs than another, and how much of that may be chance.

Two things are chance: which files are held out, and which weights a training ends with. Both are in the interval.

- The files: a paired bootstrap over leak groups, with the mean bits of all trainings of an arm (`mean_over_groups`).
- The trainings: trainings of one arm that differ in nothing but the seed need a different number of bits. Their spread
  is assumed to be the same for all arms, so all arms together tell how large it is.

Both parts are computed for the logarithm of the ratio, and added as independent errors are: the half-width is the root
of the sum of their squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, hypot, log, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.evals import mean_over_groups, student_quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TrainedArm:
    """The bits of the models of an arm."""

    name: str
    keys: tuple[str, ...]
    """A hash of all that decides each training: equal keys are one training."""
    bits: dict[str, NDArray[np.float64]]
    """By subject (`network`, …), the bits of each text, shape (trainings, texts)."""
    about: tuple[dict[str, Any], ...] = ()
    """What is known about each training, such as its seed and its tokens."""


class Spread(NamedTuple):
    """How much trainings with different seeds differ."""

    deviation: float
    """The standard deviation of the logarithm of all bits."""
    degrees: int
    """Degrees of freedom; 0 if no arm has two trainings, so that nothing is known."""


class Effect(NamedTuple):
    """The bits of an arm as a share of those of the reference. The fields are JSON keys."""

    arm: str
    reference: str
    subject: str
    ratio: float
    """Below 1 if the arm needs fewer bits."""
    low: float | None
    """The 95 % confidence interval; None for a single leak group."""
    high: float | None
    groups: int
    """The number of leak groups of the texts."""
    trainings: int
    """Trainings of the arm."""
    with_chance_of_training: bool
    """Whether the interval includes the chance in a training. It cannot if there is one training of each arm."""

    @property
    def verdict(self) -> str:
        """What the interval says, in words."""
        if self.low is None or self.high is None:
            return "no interval"
        if self.low <= 1 <= self.high:
            return "no effect shown"
        return "fewer bits" if self.high < 1 else "more bits"


def measure_spread(arms: Iterable[TrainedArm], subject: str) -> Spread:
    """Return the spread of trainings that differ only in the seed, from all arms together.

    Arms of the same trainings count once.
    """
    distinct = {arm.keys: np.log(arm.bits[subject].sum(axis=1)) for arm in arms if subject in arm.bits}
    degrees = sum(len(logs) - 1 for logs in distinct.values())
    if not degrees:
        return Spread(0.0, 0)
    squares = sum(float(((logs - logs.mean()) ** 2).sum()) for logs in distinct.values())
    return Spread(sqrt(squares / degrees), degrees)


def measure_effects(arms: Sequence[TrainedArm], groups: Sequence[str], seed: int = 0) -> list[Effect]:
    """Return the effect of each arm but the first, compared with the first, for each subject that both have.

    `groups` names the leak group of each text. `seed` is that of the bootstrap.
    """
    reference, *others = arms
    effects: list[Effect] = []
    for subject, reference_bits in reference.bits.items():
        spread = measure_spread(arms, subject)
        for arm in others:
            if subject in arm.bits:
                bits = arm.bits[subject]
                found = mean_over_groups(groups, bits.mean(axis=0), reference_bits.mean(axis=0), seed)
                chance = 0.0
                if spread.degrees:
                    error = spread.deviation * sqrt(1 / len(bits) + 1 / len(reference_bits))
                    chance = student_quantile(spread.degrees) * error
                ends = _widen(found.value, found.low, found.high, chance)
                counts = found.groups, len(bits), spread.degrees > 0
                effects.append(Effect(arm.name, reference.name, subject, found.value, *ends, *counts))
    return effects


def _widen(ratio: float, low: float | None, high: float | None, chance: float) -> tuple[float | None, float | None]:
    """Return the ends of an interval with another error, which is a half-width of the logarithm.

    0.9 (0.8 to 1.0) and 0.1: the half-widths are log(0.9/0.8) = 0.118 and log(1/0.9) = 0.105, with the error 0.154 and
    0.145, and the new ends 0.9 / exp(0.154) = 0.771 and 0.9 * exp(0.145) = 1.041.
    """
    if low is None or high is None:
        return None, None
    below, above = (max(0.0, log(ratio / low)), max(0.0, log(high / ratio)))
    return ratio * exp(-hypot(below, chance)), ratio * exp(hypot(above, chance))
