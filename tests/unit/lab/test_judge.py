# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge of the Molecule scenario: what it lets pass, and that nothing wrong passes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab.judge import Judged, judge

CRON = {"rule": "schedule.cron", "technique": "T1053.003", "names": "/etc/cron.d/x"}


def event(number: int, state: str = "new", *, severity: str = "high", **other: Any) -> dict[str, Any]:
    return {
        "id": f"id-{number}",
        "time": "2026-01-31T12:00:00Z",
        "state": state,
        "host": "app-1",
        "fingerprint": "f1",
        "rule": "schedule.cron",
        "severity": severity,
        "technique": "T1053.003",
        "subject": "/etc/cron.d/x",
        "summary": "A cron file is new.",
        "evidence": {},
        **other,
    }


def arrival(*ids: int, status: int | None = 200) -> dict[str, Any]:
    return {"status": status, "body": {"events": [{"id": f"id-{number}"} for number in ids]}}


def case(events: list[dict[str, Any]], *arrived: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {
        "host": "app-1",
        "log": "".join(json.dumps(one) + "\n" for one in events),
        "webhooks": {"first": {"forgotten": 0, "arrived": list(arrived)}},
        "expected": [CRON],
        "delivered": "once",
        **other,
    }


def test_found_and_delivered_once_is_right() -> None:
    wrong, after = judge(case([event(1)], arrival(1, status=500), arrival(1, status=None), arrival(1)), Judged())

    assert (wrong, after) == ([], Judged(lines=1))


def test_what_comes_later_is_owed_until_it_was_delivered() -> None:
    wrong, after = judge(case([event(1)], delivered="later"), Judged())
    assert (wrong, after.owed) == ([], ["id-1"])

    lost, _unused = judge(case([event(1)], expected=[]), after)
    assert lost == ["id-1 (new schedule.cron: /etc/cron.d/x) was not delivered"]

    assert judge(case([event(1)], arrival(1), expected=[]), after) == ([], Judged(lines=1))


def test_what_is_silent_and_its_end_never_arrive() -> None:
    wrong, after = judge(case([event(1)], delivered="never"), Judged())
    assert (wrong, after) == ([], Judged(lines=1, silent=["id-1"]))

    ended = [event(1), event(2, "resolved")]
    assert judge(case(ended, state="resolved"), after) == ([], Judged(lines=2, silent=["id-1", "id-2"]))
    wrong, _unused = judge(case(ended, arrival(2), state="resolved"), after)
    assert wrong == ["id-2 (resolved schedule.cron: /etc/cron.d/x) was sent, and should not have been"]


def test_the_end_of_a_finding_may_wait_for_who_does_not_answer() -> None:
    events = [event(1), event(2, "resolved"), event(3, fingerprint="f2")]
    waiting = {"state": "resolved", "also": ["*"], "delivered": "ends_later"}

    wrong, after = judge(case(events, arrival(1), **waiting), Judged())

    assert wrong == ["id-3 (new schedule.cron: /etc/cron.d/x) was not delivered"]
    assert after.owed == ["id-2"]
    assert judge(case(events, arrival(1, 2), expected=[]), after)[0] == []


@pytest.mark.parametrize(
    ("judged", "told"),
    [
        (case([]), "schedule.cron of /etc/cron.d/x is new in 0 lines instead of 1"),
        (case([event(1), event(2)], arrival(1, 2)), "is new in 2 lines instead of 1"),
        (case([event(1, technique="T1")], arrival(1)), "is new in 0 lines instead of 1"),
        (case([event(1)]), "was not delivered"),
        (case([event(1)], arrival(1, status=429)), "was not delivered"),
        (case([event(1)], arrival(1), arrival(1)), "was acknowledged 2 times"),
        (case([event(1)], arrival(1), delivered="later"), "was delivered already"),
        (case([event(1)], arrival(1, status=500), delivered="never"), "should not have been"),
        (case([event(1, severity="low")], arrival(1)), "should not have been"),
        (case([event(1)], arrival(1), expected=[]), "nobody expected this: new schedule.cron"),
        (case([event(1), event(1)], arrival(1)), "the log holds the id id-1 2 times"),
        (case([event(1, host="other")], arrival(1)), "is of the host other"),
        (case([event(1, subject="/etc/cron.d/x\x1b[31m")], arrival(1)), "line 1 holds what is not printable"),
        ({**case([event(1)], arrival(1)), "log": json.dumps(event(1))}, "the log's last line has no end"),
        ({**case([event(1)], arrival(1)), "log": json.dumps(event(1)) + "\nred\n"}, "line 2 is no JSON: 'red'"),
    ],
)
def test_what_is_wrong_is_told(judged: dict[str, Any], told: str) -> None:
    wrong, _unused = judge(judged, Judged())

    assert told in "\n".join(wrong)


def test_other_rules_may_be_allowed() -> None:
    both = [event(1), event(2, rule="infrastructure.unreachable", technique="", fingerprint="f2")]

    assert judge(case(both, arrival(1, 2)), Judged())[0] == []
    assert judge(case(both, arrival(1, 2), also=[]), Judged())[0] == [
        "nobody expected this: new infrastructure.unreachable: A cron file is new."
    ]
