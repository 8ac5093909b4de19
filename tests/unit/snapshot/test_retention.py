# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What retention promises, for any store, any rule and any clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.retention import Retention, plan
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores.base import Stored
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def stored(hours: float, number: int = 0, manifest: bool = True) -> Stored:
    """A snapshot that was taken so many hours ago."""
    return Stored(f"prod-{number:06d}.snap", NOW - hours * HOUR, 10, manifest)


def good(entry: Stored) -> bool:
    """Every third by number is flagged."""
    return entry.has_manifest and int(entry.name[5:11]) % 3 != 0


def always(_entry: Stored) -> bool:
    return True


ENTRIES = st.lists(st.tuples(st.integers(-24 * 500, 24 * 900), st.booleans()), max_size=60).map(
    lambda drawn: [stored(hours, number, manifest) for number, (hours, manifest) in enumerate(drawn)]
)
RULES = st.builds(
    Retention,
    max_age_days=st.integers(0, 60) | st.floats(0, 400),
    min_count=st.integers(1, 10),
    daily=st.integers(0, 12),
    weekly=st.integers(0, 6),
    monthly=st.integers(0, 6),
)
CLOCKS = st.integers(-24 * 1000, 24 * 1000).map(lambda hours: NOW + hours * HOUR)


@given(ENTRIES, RULES, CLOCKS)
def test_what_is_never_deleted(entries: list[Stored], rule: Retention, now: datetime) -> None:
    going = plan(entries, now, rule, good)
    limit = now - timedelta(days=rule.max_age_days)
    assert all(entry.taken_at < limit for entry in going), "younger than max_age, or of the future"
    usable = [entry for entry in entries if good(entry)]
    if not usable:
        assert going == [], "nothing may go where nothing is good"
    else:
        newest = max(usable, key=lambda entry: (entry.taken_at, entry.name))
        assert newest not in going
        assert all(entry.taken_at < newest.taken_at for entry in going)
    left = [entry for entry in usable if entry not in going and entry.taken_at <= now]
    before = [entry for entry in usable if entry.taken_at <= now]
    assert len(left) >= min(rule.min_count, len(before))


@given(ENTRIES, RULES, CLOCKS)
def test_the_newest_of_each_period_stays(entries: list[Stored], rule: Retention, now: datetime) -> None:
    going = plan(entries, now, rule, good)
    usable = sorted((one for one in entries if good(one) and one.taken_at <= now), key=lambda one: one.taken_at)
    periods: dict[str, Callable[[datetime], Any]] = {
        "daily": lambda moment: moment.strftime("%Y-%j"),
        "weekly": lambda moment: moment.strftime("%G-%V"),
        "monthly": lambda moment: moment.strftime("%Y-%m"),
    }
    for name, period in periods.items():
        newest = {period(one.taken_at): one.taken_at for one in usable}
        for key in sorted(newest, reverse=True)[: getattr(rule, name)]:
            assert any(one.taken_at == newest[key] and one not in going for one in usable), (name, key)


@given(ENTRIES, RULES, CLOCKS)
def test_the_order_of_the_listing_does_not_matter(entries: list[Stored], rule: Retention, now: datetime) -> None:
    assert plan(list(reversed(entries)), now, rule, good) == plan(entries, now, rule, good)


@given(ENTRIES, RULES, CLOCKS)
def test_a_second_plan_has_nothing_to_do(entries: list[Stored], rule: Retention, now: datetime) -> None:
    going = plan(entries, now, rule, good)
    left = [entry for entry in entries if entry not in going]
    assert plan(left, now, rule, good) == []


@given(ENTRIES, RULES, CLOCKS, CLOCKS)
def test_a_clock_that_is_behind_deletes_no_more(
    entries: list[Stored], rule: Retention, now: datetime, other: datetime
) -> None:
    """What a clock that went back deletes was, by its own time, old already."""
    earlier, later = sorted((now, other))
    for entry in plan(entries, earlier, rule, good):
        assert entry.taken_at < later - timedelta(days=rule.max_age_days)


@given(ENTRIES, RULES, st.lists(st.integers(1, 24 * 2000), max_size=5))
def test_names_from_the_future_change_nothing(entries: list[Stored], rule: Retention, ahead: Sequence[int]) -> None:
    present = [entry for entry in entries if entry.taken_at <= NOW]
    future = [stored(-hours, 500 + number) for number, hours in enumerate(ahead)]
    assert plan([*present, *future], NOW, rule, good) == plan(present, NOW, rule, good)


@given(ENTRIES, RULES)
def test_it_is_asked_about_one_only_once_and_only_with_a_manifest(entries: list[Stored], rule: Retention) -> None:
    asked: list[Stored] = []

    def is_good(entry: Stored) -> bool:
        asked.append(entry)
        return good(entry)

    plan(entries, NOW, rule, is_good)
    assert len(asked) == len(set(asked))
    assert all(entry.has_manifest for entry in asked)


class TestByExample:
    def names(self, going: list[Stored]) -> list[int]:
        return [int(one.name[5:11]) for one in going]

    def test_age_and_number(self) -> None:
        nights = [stored(24 * day, day) for day in range(40)]
        assert self.names(plan(nights, NOW, Retention(30, 7), always)) == list(range(39, 30, -1))
        assert self.names(plan(nights[31:], NOW, Retention(30, 7), always)) == [39, 38]
        assert plan(nights[33:], NOW, Retention(30, 7), always) == []

    def test_days_weeks_and_months(self) -> None:
        nights = [stored(24 * day, day) for day in range(400)]
        going = plan(nights, NOW, Retention(7, 1, daily=10, weekly=4, monthly=3), always)
        kept = sorted(set(range(400)) - set(self.names(going)))
        # 24 November 2026 is a Tuesday: the weeks before end on the 22nd, 15th and 8th, the months on 31 and 30.
        assert kept == [*range(10), 16, 24, 55]

    def test_a_row_of_flagged_ones_does_not_push_the_last_good_one_out(self) -> None:
        good_ones, flagged = [stored(24 * 60, 1), stored(24 * 50, 2)], [stored(day, 3 * day) for day in range(1, 60)]
        assert plan([*good_ones, *flagged], NOW, Retention(30, 2), good) == []
        assert self.names(plan([*good_ones, *flagged], NOW, Retention(30, 1), good)) == [1]

    def test_one_without_a_manifest_stays_until_a_good_one_has_followed(self) -> None:
        unproven = stored(24 * 40, 1, manifest=False)
        assert plan([unproven, stored(24 * 50, 2)], NOW, Retention(30, 1), always) == []
        assert plan([unproven, stored(24 * 35, 2)], NOW, Retention(30, 1), always) == [unproven]

    def test_that_it_cannot_be_asked_comes_through(self) -> None:
        def unreachable(_entry: Stored) -> bool:
            raise StoreError("no answer")

        with pytest.raises(StoreError):
            plan([stored(24 * 50), stored(0, 1)], NOW, Retention(30, 1), unreachable)

    def test_nothing_is_asked_where_nothing_is_old(self) -> None:
        def never(_entry: Stored) -> bool:
            raise AssertionError

        assert plan([stored(24 * day, day) for day in range(30)], NOW, Retention(30, 1), never) == []

    def test_ten_thousand(self) -> None:
        hourly = [stored(hour, hour) for hour in range(10_000)]
        assert 9000 < len(plan(hourly, NOW, Retention(30, 7, 30, 8, 12), always)) < 9300


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_age_days": 30}, "needs min_count"),
        ({"min_count": 7}, "needs max_age_days"),
        ({"max_age_days": 30, "min_count": 0}, "min_count is 0"),
        ({"max_age_days": -1, "min_count": 1}, "max_age_days is -1"),
        ({"max_age_days": float("nan"), "min_count": 1}, "max_age_days is nan"),
        ({"max_age_days": 30, "min_count": 1.5}, "min_count is 1.5"),
        ({"max_age_days": 30, "min_count": True}, "min_count is True"),
        ({"max_age_days": "30", "min_count": 1}, "max_age_days is '30'"),
        ({"max_age_days": 30, "min_count": 1, "yearly": 1}, "has no yearly"),
    ],
)
def test_a_rule_that_says_nothing_sensible(options: dict[str, Any], said: str) -> None:
    with pytest.raises(StoreError, match=said):
        Retention.from_options(options)


def test_an_age_that_no_calendar_has_prunes_nothing() -> None:
    assert plan([stored(24 * 365 * 5), stored(1, 1)], NOW, Retention(10**9, 1), always) == []
