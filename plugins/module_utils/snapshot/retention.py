# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshots of a place may go: by age and number and day, week and month, and never the last good one.

A good snapshot is one whose copy was verified in this place and that was not flagged. Only good ones are counted, so
that no row of empty or unproven snapshots can push the last useful one out. What calls itself younger than now is
never deleted and never counted: either it is new, or a clock was wrong, and nobody can tell which from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..files import StoreError
from .stores.base import Stored

_PERIODS: Mapping[str, Callable[[datetime], object]] = {
    "daily": lambda moment: moment.date(),
    "weekly": lambda moment: moment.isocalendar()[:2],
    "monthly": lambda moment: (moment.year, moment.month),
}


@dataclass(frozen=True)
class Retention:
    """What is kept. A snapshot goes only when every one of these lets it go.

    Attributes:
        max_age_days: days for which each snapshot is kept, good or not.
        min_count: how many good ones are kept whatever their age; 1 at least.
        daily: on how many days (UTC) that have a good one the newest of it is kept; days with none do not count.
        weekly: the same by ISO week.
        monthly: the same by month.
    """

    max_age_days: float
    min_count: int
    daily: int = 0
    weekly: int = 0
    monthly: int = 0

    def __post_init__(self) -> None:
        for name, least in (("max_age_days", 0), ("min_count", 1), ("daily", 0), ("weekly", 0), ("monthly", 0)):
            value = getattr(self, name)
            whole = name == "max_age_days" or isinstance(value, int)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not whole or not value >= least:
                raise StoreError(f"retention: {name} is {value!r} and has to be a number of {least} or more.")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Retention:
        """The rule as a destination's options give it. Raises StoreError."""
        given = {name: value for name, value in options.items() if value is not None}
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        lacking = sorted({"max_age_days", "min_count"} - set(given))
        if unknown or lacking:
            raise StoreError(
                f"retention {f'has no {unknown[0]}' if unknown else f'needs {lacking[0]}'}: it takes max_age_days and "
                "min_count, and daily, weekly and monthly if wanted."
            )
        return cls(**given)


def plan(entries: Iterable[Stored], now: datetime, rule: Retention, is_good: Callable[[Stored], bool]) -> list[Stored]:
    """What may be deleted, oldest first; nothing where there is no good one.

    Args:
        entries: all that the place has, in any order.
        now: UTC.
        is_good: whether a snapshot with a manifest is not flagged. Asked only where the answer matters, as each
            answer is a request to the place, and never twice for one.

    Raises:
        What is_good raises.
    """
    try:
        limit = now - timedelta(days=rule.max_age_days)
    except OverflowError:
        return []
    known = sorted((one for one in entries if one.taken_at <= now), key=lambda one: (one.taken_at, one.name))
    old = [one for one in known if one.taken_at < limit]
    if not old:
        return []
    kept = _kept([one for one in reversed(known) if one.has_manifest], rule, is_good)
    if not kept:
        return []
    newest = max(kept, key=lambda one: one.taken_at).taken_at
    # One that was never verified may be all that there is of its time: the newest good one has to be younger.
    return [one for one in old if one not in kept and one.taken_at < newest]


def _kept(verified: list[Stored], rule: Retention, is_good: Callable[[Stored], bool]) -> set[Stored]:
    """Those that min_count or a period keeps, of the verified ones, newest first."""
    kept: set[Stored] = set()
    filled: dict[str, set[object]] = {name: set() for name in _PERIODS}
    count = 0
    for one in verified:
        wanted = [
            name
            for name, period in _PERIODS.items()
            if len(filled[name]) < getattr(rule, name) and period(one.taken_at) not in filled[name]
        ]
        if (wanted or count < rule.min_count) and is_good(one):
            kept.add(one)
            count += 1
            for name in wanted:
                filled[name].add(_PERIODS[name](one.taken_at))
        if count >= rule.min_count and all(len(filled[name]) >= getattr(rule, name) for name in _PERIODS):
            break
    return kept
