"""The rules of row weights: from which age text counts as recent or old, and the factors of age and role."""

from __future__ import annotations

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
