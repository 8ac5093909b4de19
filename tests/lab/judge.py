# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges what a host's alerts.log and the webhooks hold against what was done to the host.

A folder keeps, for each host, how far its log was judged, and what is still owed to a webhook. A case is:

    host: its name                log: all of its alerts.log
    webhooks: {name: what GET /control/NAME of lab.receiver tells}
    state: new or resolved        expected: [{"rule", "technique", "names"}], each in one new line, with this state
    also: globs of rules that may be in new lines as well; "infrastructure.*" if not given
    delivered: once               all that is owed was acknowledged, each once
               later              what is new is owed from here on; of it no finding's beginning was acknowledged yet
               ends_later         as once, but for the ends of findings: they go to who was told that they began, and
                                  who did not answer is not asked again at once
               never              what is owed and what is new is not to arrive, not even later
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

SEVERITIES = ("info", "low", "medium", "high", "critical")
_FIELDS = {"id", "time", "state", "host", "fingerprint", "rule", "severity", "technique", "subject", "summary"}
_DELIVERED = ("once", "later", "ends_later", "never")

Event = Mapping[str, Any]


@dataclass
class Judged:
    """What is known of a host from before.

    Attributes:
        lines: of its log.
        owed: ids of events that a webhook has to acknowledge.
        silent: ids of events that no webhook may be sent.
    """

    lines: int = 0
    owed: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


def judge(case: Mapping[str, Any], before: Judged) -> tuple[list[str], Judged]:
    """What is wrong, a sentence each, and what is known afterwards."""
    wrong: list[str] = []
    everything = list(_parsed(case["log"], wrong))
    events = everything[before.lines :]
    wrong += [
        f"the log holds the id {name} {count} times" for name, count in _often(event["id"] for event in everything)
    ]
    wrong += _told(case, events)

    after = Judged(len(everything), list(before.owed), list(before.silent))
    for number, event in enumerate(everything[before.lines :], start=before.lines):
        quiet = _begun_in_silence(everything[:number], event, after.silent)
        (after.silent if quiet else after.owed).append(event["id"])
    delivered = case["delivered"]
    if delivered not in _DELIVERED:
        return [*wrong, f"delivered is {delivered!r}, and has to be one of {', '.join(_DELIVERED)}"], before
    if delivered == "never":
        after.silent, after.owed = [*after.silent, *after.owed], []
    wrong += _arrived(case["webhooks"], everything, after, delivered)
    if delivered == "once":
        after.owed = []
    if delivered == "ends_later":
        ended = {event["id"] for event in everything if event["state"] == "resolved"}
        after.owed = [one for one in after.owed if one in ended]
    return wrong, after


def _parsed(log: str, wrong: list[str]) -> Iterable[Event]:
    """Each line's event; what is no line of one JSON object, or holds what a terminal would act on, is wrong."""
    if log and not log.endswith("\n"):
        wrong.append("the log's last line has no end")
    for number, line in enumerate(log.split("\n")[:-1], start=1):
        try:
            event = json.loads(line)
        except ValueError:
            wrong.append(f"line {number} is no JSON: {line!r:.200}")
            continue
        if not isinstance(event, dict) or not event.keys() >= _FIELDS:
            wrong.append(f"line {number} is no whole event: {line!r:.200}")
            continue
        wrong += [f"line {number} holds what is not printable" for text in _texts(event) if not text.isprintable()]
        yield event


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _told(case: Mapping[str, Any], events: list[Event]) -> Iterable[str]:
    """Every expected finding is in exactly one of the events, and no other finding is."""
    state = case.get("state", "new")
    also = case.get("also", ["infrastructure.*"])
    left = list(events)
    for wanted in case["expected"]:
        matching = [event for event in events if event["state"] == state and _is(event, wanted)]
        if len(matching) != 1:
            yield f"{wanted['rule']} of {wanted['names']} is {state} in {len(matching)} lines instead of 1"
        left = [event for event in left if event not in matching]
    for event in left:
        if not any(fnmatchcase(event["rule"], glob) for glob in also):
            yield f"nobody expected this: {event['state']} {event['rule']}: {event['summary']}"
    for event in events:
        if event["host"] != case["host"]:
            yield f"{event['id']} is of the host {event['host']}"


def _is(event: Event, wanted: Mapping[str, str]) -> bool:
    if (event["rule"], event["technique"]) != (wanted["rule"], wanted["technique"]):
        return False
    return any(wanted["names"] in text for text in _texts([event["subject"], event["summary"], event.get("evidence")]))


def _begun_in_silence(earlier: list[Event], event: Event, silent: list[str]) -> bool:
    """Whether nobody is to be told: it is of little severity, or the end of what nobody was told of."""
    if event["state"] != "resolved":
        return SEVERITIES.index(event["severity"]) < SEVERITIES.index("medium")
    begun = [one for one in earlier if one["fingerprint"] == event["fingerprint"] and one["state"] == "new"]
    return not begun or begun[-1]["id"] in silent


def _arrived(webhooks: Mapping[str, Any], everything: list[Event], after: Judged, delivered: str) -> Iterable[str]:
    sent: Counter[str] = Counter()
    acknowledged: Counter[str] = Counter()
    for name, webhook in webhooks.items():
        if webhook["forgotten"]:
            yield f"the receiver has forgotten what {name} was sent: this cannot be judged"
        for arrival in webhook["arrived"]:
            ids = [event["id"] for event in (arrival["body"] or {}).get("events", [])]
            sent.update(ids)
            if arrival["status"] is not None and 200 <= arrival["status"] < 300:
                acknowledged.update(ids)
    ended = {event["id"] for event in everything if event["state"] == "resolved"}
    about = {
        event["id"]: f"{event['id']} ({event['state']} {event['rule']}: {event['subject']})" for event in everything
    }
    for one in after.silent:
        if sent[one]:
            yield f"{about[one]} was sent, and should not have been"
    for one, text in about.items():
        if acknowledged[one] > 1:
            yield f"{text} was acknowledged {acknowledged[one]} times"
    for one in after.owed:
        if not acknowledged[one] and (delivered == "once" or (delivered == "ends_later" and one not in ended)):
            yield f"{about[one]} was not delivered"
        if delivered == "later" and acknowledged[one] and one not in ended:
            yield f"{about[one]} was delivered already"


def _often(ids: Iterable[str]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in Counter(ids).items() if count > 1]


def judge_since(folder: Path, case: Mapping[str, Any]) -> list[str]:
    """Judge a case, and keep in `folder` how far that was; return a sentence for each thing that is wrong."""
    file = folder / f"judged-{case['host']}.json"
    before = Judged(**json.loads(file.read_text())) if file.exists() else Judged()
    wrong, after = judge(case, before)
    # Also after a failure: the next story is judged by itself.
    file.write_text(json.dumps(vars(after)))
    return wrong
