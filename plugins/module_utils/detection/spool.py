# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alerts that wait for a receiver, and what each receiver was told before: a JSON value that the caller keeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .findings import Finding, found
from .receivers import Event
from .rules import SEVERITIES

LONGEST_EVENT = 16 * 1024
"""Bytes of an event's JSON; of a longer one the evidence stays in alerts.log."""
MOST_OPEN = 5000
"""Findings of which it is remembered that a destination has to be told of their end."""

Entry = dict[str, Any]


class Spool:
    """The queue and the state of each destination, in a value of this shape:

    queue: of {event, since (seconds since 1970), seq, acked: [names], rejected: [names]}; seq: the last number given;
    ready_since: when the log store became ready, or None; dropped: findings that nobody was told about yet;
    seen: ids of the last call's events; destinations: by name {failures, not_before, problem, refused, refused_status,
    open: {fingerprint: number of the last event that it took and that says the finding is there}}.

    Args:
        value: empty at first; it is what changes.
        names: of the destinations, in the order of preference.
        first: an event is done when one of them has it; else all of them have to.
    """

    def __init__(self, value: dict[str, Any], names: Sequence[str], *, first: bool) -> None:
        self.value = value
        self._names = names
        self._first = first
        self.sent: set[str] = set()
        self.refused: set[str] = set()
        self.dropped = 0
        """Ids of the events that were acknowledged or refused through this object, and how many it let go."""
        for name, empty in _EMPTY.items():
            value.setdefault(name, json.loads(json.dumps(empty)))
        states = value["destinations"]
        value["destinations"] = {name: states.get(name) or {**_UNTRIED, "open": {}} for name in names}
        self._tried: dict[str, set[bool]] = {name: set() for name in names}

    def state(self, name: str) -> dict[str, Any]:
        """What is known of a destination."""
        state: dict[str, Any] = self.value["destinations"][name]
        return state

    def enqueue(self, events: Iterable[Event], now: float, least: str) -> None:
        """Takes in what is new, of severity `least` or more, and the end of what was sent or is about to be."""
        queue, taken = self.value["queue"], []
        seen = {*self.value["seen"], *(entry["event"]["id"] for entry in queue)}
        for event in events:
            taken.append(event["id"])
            if event["id"] in seen or not self._matters(event, least):
                continue
            seen.add(event["id"])
            self.value["seq"] += 1
            since = min(_seconds(event["time"]), now)
            queue.append(
                {"event": _bounded(event), "since": since, "seq": self.value["seq"], "acked": [], "rejected": []}
            )
        if taken:
            self.value["seen"] = taken

    def _matters(self, event: Event, least: str) -> bool:
        fingerprint = event["fingerprint"]
        if event["state"] == "resolved":
            waiting = any(entry["event"]["fingerprint"] == fingerprint for entry in self.value["queue"])
            return waiting or any(fingerprint in state["open"] for state in self.value["destinations"].values())
        # That alerts were lost is news, whatever was to be sent.
        return _rank(event) >= SEVERITIES.index(least) or event["rule"].startswith("delivery.")

    def bound(self, most: int) -> None:
        """Lets go the least severe, of these the oldest. The news of it has a place of its own: it is one a day."""
        queue = self.value["queue"]
        loose = [entry for entry in queue if entry["event"]["rule"] != "delivery.dropped"]
        going = sorted(loose, key=lambda entry: (_rank(entry["event"]), entry["seq"]))[: max(0, len(loose) - most)]
        numbers = {entry["seq"] for entry in going}
        self.value["queue"] = [entry for entry in queue if entry["seq"] not in numbers]
        # What one of several destinations has is not lost.
        self.dropped = sum(not entry["acked"] for entry in going)
        self.value["dropped"] += self.dropped

    def hold(self, now: float, seconds: float, *, ready: bool) -> None:
        """Notes whether the log store is ready, and forgets what it had so much time to take without a break.

        Not forgotten is the end of what was sent: whoever was told that it began waits for it.
        """
        since = self.value["ready_since"]
        # A clock that was set back must not make it wait for years.
        self.value["ready_since"] = min(now, now if since is None else since) if ready else None
        if not ready:
            return
        kept = []
        for entry in self.value["queue"]:
            entry["since"] = min(entry["since"], now)
            if now - max(entry["since"], self.value["ready_since"]) < seconds or self._to_close(entry):
                kept.append(entry)
            else:
                self._told(entry)
        self.value["queue"] = kept

    def wanted(self, name: str) -> list[Entry]:
        """What a destination is to be told that began or goes on, the most severe first, of these the oldest."""
        wanted = [
            entry
            for entry in self.value["queue"]
            if name in self._candidates(entry) and not (self._first and entry["acked"])
        ]
        return sorted(wanted, key=lambda entry: (-_rank(entry["event"]), entry["seq"]))

    def closing(self, name: str) -> list[Entry]:
        """What a destination is to be told has ended: it was told that it began, and all since."""
        ahead: dict[str, int] = {}
        for entry in self.wanted(name):
            fingerprint = entry["event"]["fingerprint"]
            ahead[fingerprint] = min(entry["seq"], ahead.get(fingerprint, entry["seq"]))
        ended = [entry for entry in self.value["queue"] if self._closes(name, entry)]
        return [entry for entry in ended if ahead.get(entry["event"]["fingerprint"], entry["seq"]) >= entry["seq"]]

    def _candidates(self, entry: Entry) -> list[str]:
        """Who is to get an event, ends aside, and has neither taken nor refused it.

        That a destination refuses alerts is told to the others, if there are any.
        """
        event = entry["event"]
        if event["state"] == "resolved":
            return []
        about = event["subject"] if event["rule"] == "delivery.rejected" and len(self._names) > 1 else None
        return [name for name in self._names if name not in (*entry["acked"], *entry["rejected"], about)]

    def _closes(self, name: str, entry: Entry) -> bool:
        """Whether it is the end of what this destination was told. A finding that is back by now has not ended."""
        number = self.state(name)["open"].get(entry["event"]["fingerprint"])
        ended = entry["event"]["state"] == "resolved" and name not in entry["rejected"]
        return ended and number is not None and bool(number < entry["seq"])

    def _to_close(self, entry: Entry) -> bool:
        return any(self._closes(name, entry) for name in self._names)

    def acknowledge(self, name: str, entries: Iterable[Entry]) -> None:
        """A destination has taken these."""
        state = self.state(name)
        for entry in entries:
            event = entry["event"]
            entry["acked"].append(name)
            self.sent.add(event["id"])
            if event["state"] == "resolved":
                state["open"].pop(event["fingerprint"], None)
            else:
                state["open"][event["fingerprint"]] = max(entry["seq"], state["open"].get(event["fingerprint"], 0))
        while len(state["open"]) > MOST_OPEN:
            del state["open"][min(state["open"], key=state["open"].__getitem__)]
        self._tried[name].add(True)

    def refuse(self, name: str, entries: Iterable[Entry], status: int) -> None:
        """A destination does not want these: it gets none of them again."""
        state = self.state(name)
        for entry in entries:
            entry["rejected"].append(name)
            self.refused.add(entry["event"]["id"])
            state["refused"] += 1
        state["refused_status"] = status
        self._tried[name].add(False)

    def clear(self) -> None:
        """Removes what is done. A destination that took what it was sent, all of it, refuses no longer."""
        kept, waiting = [], {}
        for entry in self.value["queue"]:
            event = entry["event"]
            if event["state"] == "resolved":
                done = not self._to_close(entry) and event["fingerprint"] not in waiting
            else:
                done = not self._candidates(entry) or bool(self._first and entry["acked"])
            if not done:
                kept.append(entry)
                waiting[event["fingerprint"]] = entry["seq"]
            else:
                self._told(entry)
        self.value["queue"] = kept
        for name, results in self._tried.items():
            if results == {True}:
                self.state(name)["refused"] = 0

    def _told(self, entry: Entry) -> None:
        """An event leaves: if it says how many findings were dropped, so many are told."""
        event = entry["event"]
        if event["rule"] == "delivery.dropped" and event["state"] != "resolved":
            count = event["evidence"].get("dropped")
            self.value["dropped"] = max(0, self.value["dropped"] - (count if isinstance(count, int) else 0))


_EMPTY: dict[str, Any] = {"queue": [], "seq": 0, "ready_since": None, "dropped": 0, "seen": [], "destinations": {}}
_UNTRIED = {"failures": 0, "not_before": 0.0, "problem": None, "refused": 0, "refused_status": 0}


def findings(value: Mapping[str, Any]) -> list[Finding]:
    """What is to be found about delivery itself, from what the last one has left: for the next run to take up."""
    result = []
    for name, state in value.get("destinations", {}).items():
        count, status = state["refused"], state["refused_status"]
        if count:
            summary = f"The webhook {name} refused {count} alert{'s' if count > 1 else ''} (it answers {status})."
            evidence = {"destination": name, "status": status, "refused": count}
            result.append(found("delivery.rejected", name, summary, evidence, (name,)))
    count = value.get("dropped", 0)
    if count:
        summary = f"{count} finding{'s' if count > 1 else ''} dropped: no webhook took them and the spool was full."
        result.append(found("delivery.dropped", "spool", summary, {"dropped": count}, ("spool",)))
    return result


def _rank(event: Event) -> int:
    return SEVERITIES.index(event["severity"])


def _bounded(event: Event) -> dict[str, Any]:
    if len(json.dumps(event)) <= LONGEST_EVENT:
        return dict(event)
    return {**event, "evidence": {"cut": "too long to be sent, see alerts.log"}}


def _seconds(time: str) -> float:
    """Of an event's time, such as 2026-01-31T12:00:00Z. strptime would take 5 ms to load."""
    parts = [int(time[start : start + size]) for start, size in ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))]
    from datetime import datetime, timezone  # noqa: PLC0415 - only where a webhook is configured

    return datetime(*parts, tzinfo=timezone.utc).timestamp()  # type: ignore[misc,arg-type]  # six numbers
