"""The rules of row weights: from which age text counts as recent or old, and the factors of age and role."""

from __future__ import annotations

REFERENCE_WEIGHT = 1000.0
"""A repository whose training rows have weights with this sum has the factor 1."""
DAY_SECONDS = 86_400
RECENT_DAYS = 60
"""Files and changes younger than this are recent; the recipe gives them a weight of their own."""
OLD_DAYS = 90
"""Files and changes of this age or older are old; the recipe gives them a weight of their own."""


def age_in_days(changed_at: int, newest: int) -> int:
    """Whole days from a change to the newest commit; both are committer times in seconds since 1970."""
    return max(0, newest - changed_at) // DAY_SECONDS


def age_factor(days: int, recent: float, old: float) -> float:
    """The factor by which age changes a weight: `recent` for recent text, `old` for old text, 1 between."""
    return recent if days < RECENT_DAYS else 1.0 if days < OLD_DAYS else old


def role_factor(role: str, core: float, utility: float, test: float) -> float:
    """The factor by which a role changes a weight: `core` and `test` have their own, all others count as utilities."""
    return {"core": core, "test": test}.get(role, utility)


def repository_factor(kind: str, temperature: float, weight_sum: float) -> float:
    """The factor of all rows of a repository whose training rows have weights with this sum.

    `kind` is the recipe's `repos.weights`.

    With the sums 2,000 and 500, `equal` gives the factors 0.5 and 2, and a `temperature` of 2 gives 0.71 and 1.41. It
    does not depend on other repositories: one that is added changes no row of theirs.
    """
    if kind == "size" or not weight_sum:
        return 1.0
    exponent = -1.0 if kind == "equal" else 1 / temperature - 1
    return (weight_sum / REFERENCE_WEIGHT) ** exponent
