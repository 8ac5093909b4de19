# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the log store, the receivers and the power do: no alert is lost silently, and none is taken twice."""

from __future__ import annotations

from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.detection import spool
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.detection.deliveries import Crashed, World

HOLD = 600
SEVERE = ("medium", "high", "critical")


def _odd(ids: list[str]) -> int:
    return 400 if any(int(one[1:]) % 2 for one in ids) else 200


replies = st.sampled_from([200, 200, 200, 500, 429, 400, 401, "hang", "refuse", _odd])
step = st.fixed_dictionaries(
    {
        "store": st.sampled_from(["ready", "ready", "unready", "unreachable", "blind"]),
        "a": replies,
        "b": replies,
        "begin": st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["low", *SEVERE])), max_size=4),
        "end": st.lists(st.integers(0, 5), max_size=3),
        "crash": st.none() | st.tuples(st.integers(1, 6), st.booleans()),
        "later": st.sampled_from([1, 300, 300, 4000]),
    }
)


class Host:
    """What the rest of the detector does around delivery: its events until a run has ended, its findings."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.world = World(("a", "b"), hold_seconds=HOLD, **config)
        self.events: dict[str, dict[str, Any]] = {}
        self.begun: dict[int, dict[str, Any]] = {}
        self.known: dict[str, dict[str, Any]] = {}
        self.pending: list[dict[str, Any]] = []
        self.rejected: dict[str, set[str]] = {}
        self.covered: set[str] = set()
        self.ready_since: float | None = None
        self.dropped_told = 0

    def add(self, **options: Any) -> dict[str, Any]:
        event = self.world.event(**options)
        self.events[event["id"]] = event
        self.pending.append(event)
        return event

    def about_delivery(self) -> None:
        found = {finding.fingerprint: finding for finding in spool.findings(self.world.disk)}
        for name in set(self.known) - set(found):
            self.add(**{**self.known.pop(name), "state": "resolved"})
        for name in set(found) - set(self.known):
            one = found[name]
            self.known[name] = {"severity": one.severity, "rule": one.rule, "subject": one.subject, "finding": name}
            self.add(**self.known[name], evidence=dict(one.evidence))
            self.dropped_told += one.evidence.get("dropped", 0)

    def step(self, what: dict[str, Any]) -> None:
        world = self.world
        self.about_delivery()
        for number in what["end"]:
            if number in self.begun:
                self.add(**{**self.begun.pop(number), "state": "resolved"})
        for number, severity in what["begin"]:
            state = "reminded" if number in self.begun else "new"
            self.begun.setdefault(number, {"severity": severity, "finding": f"finding {number}"})
            self.add(**{**self.begun[number], "state": state})
        world.replies = {"a": what["a"], "b": what["b"]}
        world.crash_at, world.crash_saved = what["crash"] or (None, False)
        started, crashed = world.now, False
        try:
            world.run(*self.pending, store=what["store"], later=what["later"])
            self.pending = []
        except Crashed:
            crashed = True
        self.note_store(what["store"], started, saved=world.saves > 1 or not crashed or world.crash_saved)
        for (name, ids), status in zip(world.calls, world.statuses):
            if status == 401 or (status == 400 and len(ids) == 1):
                for one in ids:
                    self.rejected.setdefault(one, set()).add(name)
                if not crashed:
                    assert name in [finding.subject for finding in world.findings]
            if what["store"] == "ready" and world.config["when"] == "degraded":
                assert all(self.events[one]["state"] == "resolved" for one in ids)

    def note_store(self, store: str, now: float, *, saved: bool) -> None:
        if not saved:
            return
        if store != "ready":
            self.ready_since = None
            return
        self.ready_since = now if self.ready_since is None else self.ready_since
        if self.world.config["when"] == "degraded":
            gone = set(self.events) - {entry["event"]["id"] for entry in self.world.disk["queue"]}
            self.covered |= {one for one in gone if now - max(self.ready_since, self.began(one)) >= HOLD - 2}

    def began(self, one: str) -> float:
        return spool._seconds(self.events[one]["time"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(step, min_size=1, max_size=12),
    st.sampled_from(["first", "all"]),
    st.sampled_from(["degraded", "always"]),
    st.sampled_from([3, 1000]),
)
def test_every_alert_is_taken_or_told_and_none_is_taken_twice(
    steps: list[dict[str, Any]], to: str, when: str, spool_max: int
) -> None:
    host = Host({"to": to, "when": when, "spool_max": spool_max})
    world = host.world
    well = {"store": "blind", "a": 200, "b": 200, "begin": [], "end": [], "crash": None, "later": 4000}
    for one in steps:
        host.step(one)
    for _time in range(4):
        host.step(well)
    assert world.disk["queue"] == []

    taken = {name: set(ids) for name, ids in world.took.items()}
    lost = []
    for one, event in host.events.items():
        if event["state"] == "resolved" or (event["severity"] not in SEVERE):
            continue
        who = {"a", "b"} - ({event["subject"]} if event["rule"] == "delivery.rejected" else set())
        enough = [name for name in who if one in taken[name] or name in host.rejected.get(one, ())]
        done = any(one in ids for ids in taken.values()) if to == "first" else len(enough) == len(who)
        if not (done or len(enough) == len(who) or one in host.covered):
            lost.append(one)
    if to == "all":
        # What was dropped after one of them had it is not counted: it was not lost.
        lost = [one for one in lost if not any(one in ids for ids in taken.values())] if spool_max == 3 else lost
    assert len(lost) <= host.dropped_told + world.disk["dropped"]
    assert spool_max == 3 or not lost

    for name, ids in world.took.items():
        for one in set(ids):
            assert ids.count(one) == 1 or (name, one) in world.unsure
        told: set[str] = set()
        for one in ids:
            event = host.events[one]
            assert event["state"] != "resolved" or event["fingerprint"] in told or (name, one) in world.unsure
            told.add(event["fingerprint"])
