# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host remembers from one scan to the next: which findings are known, and what is still to be told of them.

A finding's episode begins when it is seen first and ends when its scanner has looked everywhere and not seen it again.
One event tells the beginning, one the end, and reminders come between. Two kinds of findings have a beginning only:
those of severity info, and those that tell what once happened (HAPPENED). They are forgotten, without an event, when
they were not seen for as long as a reminder takes.

The order that makes every event reach the log once, wherever a run is killed::

    memory.update(…)                                      # adds to memory.pending
    memory.save(path)
    memory.log = alerts.append(log, memory.pending, …)    # leaves out what is in the log already
    memory.pending = []
    memory.save(path)
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Optional

from ..files import Name, StoreError, explain, new_file
from .errors import DetectionError
from .findings import Finding, Scan, found
from .rules import RULES, SEVERITIES

FORMAT = 1
MOST_KNOWN = 500
"""Findings of one severity that are remembered: a flood of lesser ones never pushes out a critical one."""
MOST_PENDING = 10_000
"""Events that wait for a log which cannot be written; with more, findings wait to become events."""
MOST_DAMAGED = 5
"""Damaged files that are kept."""
HAPPENED = frozenset({"log.tampered", "memory.damaged"})
"""Rules that tell what once happened: that it does not happen again does not undo it."""

_HEAD = b'{"memory":'
_TAIL = b',"sha256":"%s"}\n'

Event = dict[str, Any]


class Known(NamedTuple):
    """A finding's episode. Times are whole seconds since 1970, as the host's clock told them.

    Attributes:
        scanner: which scanner saw it last.
        episode: its beginning, and the number of the scan, which tells it from others when the clock went back.
        reminders: how many there were.
        quiet: it has a beginning only.
        state: what became of it in the last scan: new, ongoing or reminded.
    """

    scanner: str
    episode: str
    first_seen: int
    last_seen: int
    last_told: int
    reminders: int
    quiet: bool
    state: str
    finding: Finding


class Memory:
    """What a host remembers.

    Attributes:
        known: episodes under way, by fingerprint.
        pending: events that are not known to be in the log.
        delivery: what the delivery to webhooks remembers.
        last_run: the report of the last run.
        log: what alerts.append said of the log, for alerts.tampered.
        scans: how many there were.
        damage: what was wrong with the file, "" when nothing was. The next update tells it, the next save keeps it.
    """

    def __init__(self, damage: str = "") -> None:
        self.known: dict[str, Known] = {}
        self.pending: list[Event] = []
        self.delivery: dict[str, Any] = {}
        self.last_run: dict[str, Any] = {}
        self.log: dict[str, Any] = {}
        self.scans = 0
        self.damage = damage

    @classmethod
    def load(cls, path: Name) -> Memory:
        """What stands in a file, which is left as it is; an empty memory where there is none or it is damaged.

        Raises DetectionError where this user may not read it.
        """
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return cls()
        except PermissionError as error:
            raise DetectionError(f"Cannot read {path}: {explain(error)}. Run this as root.") from error
        except OSError as error:
            return cls(damage=explain(error))
        end = len(data) - len(_TAIL % bytes(64))
        digest = hashlib.sha256(memoryview(data)[len(_HEAD) : max(end, 0)])
        if not data.startswith(_HEAD) or data[end:] != _TAIL % digest.hexdigest().encode():
            return cls(damage="its checksum does not match")
        try:
            return cls._of(json.loads(data)["memory"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Another version has written it, or somebody who knows how to make the checksum.
            return cls(damage=f"it does not hold what belongs there, {type(error).__name__}: {error}")

    @classmethod
    def _of(cls, content: Mapping[str, Any]) -> Memory:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, this version reads {FORMAT}")
        memory = cls()
        memory.known = {name: _known(row) for name, row in content["known"].items()}
        memory.scans = content["scans"]
        memory.pending, memory.log = content["pending"], content["log"]
        memory.delivery, memory.last_run = content["delivery"], content["last_run"]
        return memory

    def save(self, path: Name, *, sync: bool = True) -> None:
        """Replaces the file, mode 0600; a damaged one is kept beside it. Raises StoreError.

        Without `sync` it is not waited for the disk: enough where nothing was found that is not on disk already.
        """
        if self.damage:
            _keep(os.fspath(path))
        digest = hashlib.sha256()
        with new_file(path, sync=sync) as file:
            file.write(_HEAD)
            for piece in self._pieces():
                digest.update(piece)
                file.write(piece)
            file.write(_TAIL % digest.hexdigest().encode())
        self.damage = ""

    def update(self, scans: Mapping[str, Scan], now: float, host: str, reminder: float) -> list[Event]:
        """Takes in what the scanners saw, and gives the events that follow, which are in `pending` too.

        Args:
            scans: by the scanner's name, of every scanner; one that is left out was not asked, and what it found
                before stays. The name "memory" is taken.
            now: seconds since 1970. May be before that of the last scan.
            host: this host's name, for whoever receives the events.
            reminder: seconds after which what is still there is told again; what became more severe is told at once.

        While MOST_PENDING events wait for the log, nothing is taken in and nothing is given: it is told later.
        """
        if len(self.pending) >= MOST_PENDING:
            return []
        second = int(now)
        self.scans += 1
        seen, whole = self._seen(scans)
        gone = self._gone(seen, whole, second - reminder)
        _limit(seen, self.known, gone)
        events: list[Event] = []
        for name in gone - seen.keys():
            known = self.known.pop(name)
            if not known.quiet:
                events.append(_event("resolved", known, second, host))
        events.sort(key=lambda event: str(event["fingerprint"]))
        for name, (scanner, finding) in seen.items():
            known = self._again(self.known.get(name), scanner, finding, second, reminder)
            self.known[name] = known
            if known.state != "ongoing":
                events.append(_event(known.state, known, second, host))
        self._settle(seen, second)
        self.pending += events
        return events

    def active(self) -> list[dict[str, Any]]:
        """The findings whose episode is under way, for the report: most severe first, then the newest.

        The fields are those of an event without its id, host and time; the state is new, ongoing or reminded.
        """
        order = sorted(self.known.values(), key=lambda one: (-SEVERITIES.index(one.finding.severity), -one.first_seen))
        return [{"state": one.state, **_fields(one)} for one in order]

    def _pieces(self) -> Iterator[bytes]:
        """The content as JSON, piece by piece: whole, with thousands of findings, it would take memory many times."""
        small = {
            "format": FORMAT,
            "scans": self.scans,
            "delivery": self.delivery,
            "last_run": self.last_run,
            "log": self.log,
        }
        yield _json(small)[:-1] + b',"pending":['
        for number, event in enumerate(self.pending):
            yield (b"," if number else b"") + _json(event)
        yield b'],"known":{'
        for number, (name, one) in enumerate(self.known.items()):
            row = {**one._asdict(), "finding": one.finding._asdict()}
            yield (b'%s"%s":' % (b"," if number else b"", name.encode())) + _json(row)
        yield b"}}"

    def _seen(self, scans: Mapping[str, Scan]) -> tuple[dict[str, tuple[str, Finding]], dict[str, bool]]:
        """What was found, most severe first, with its scanner; and of each scanner whether it looked everywhere.

        What a scanner was blind for is found by a scanner of its own, which is never blind.
        """
        all_scans = {"memory": Scan(self._own(), [])}
        for name, scan in scans.items():
            all_scans[name] = scan
            all_scans[f"blind:{name}"] = Scan([_blind(name, sentence) for sentence in scan.blind], [])
        seen: dict[str, tuple[str, Finding]] = {}
        for name, scan in all_scans.items():
            for finding in scan.findings:
                other = seen.get(finding.fingerprint)
                if other is None or _rank(finding) > _rank(other[1]):
                    seen[finding.fingerprint] = name, finding
        order = sorted(seen.items(), key=lambda item: -_rank(item[1][1]))
        return dict(order), {name: not scan.blind for name, scan in all_scans.items()}

    def _own(self) -> list[Finding]:
        if not self.damage:
            return []
        summary = f"What this host remembered of earlier scans was damaged: {self.damage}. It is kept beside the new."
        return [found("memory.damaged", "memory.json", summary, {}, [self.damage])]

    def _gone(self, seen: Mapping[str, object], whole: Mapping[str, bool], horizon: float) -> set[str]:
        """The fingerprints whose episodes end, seen from this scan; quiet ones when last seen before the horizon."""
        gone = set()
        for name, known in self.known.items():
            looked = whole.get(known.scanner, False)
            if name not in seen and looked and (not known.quiet or known.last_seen <= horizon):
                gone.add(name)
        return gone

    def _again(self, known: Optional[Known], scanner: str, finding: Finding, second: int, reminder: float) -> Known:
        """The episode after this scan has seen it, a new one where there is none."""
        if known is None:
            episode = f"{second}.{self.scans}"
            return Known(scanner, episode, second, second, second, 0, _quiet(finding), "new", finding)
        quiet = known.quiet and _quiet(finding)
        due = second - known.last_told >= reminder or _rank(finding) > _rank(known.finding)
        known = known._replace(scanner=scanner, last_seen=second, quiet=quiet, state="ongoing", finding=finding)
        if _quiet(finding) or not due:
            return known
        return known._replace(state="reminded", last_told=second, reminders=known.reminders + 1)

    def _settle(self, seen: Mapping[str, object], second: int) -> None:
        """What was not seen is news no more, and what lies in the future after the clock was set back lies there now:
        else nothing would be said of it until that time."""
        for name, known in self.known.items():
            if name not in seen or known.last_told > second:
                told, last = min(known.last_told, second), min(known.last_seen, second)
                state = known.state if name in seen else "ongoing"
                self.known[name] = known._replace(last_told=told, last_seen=last, state=state)


def utc(seconds: float) -> str:
    """A time as ISO 8601, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _limit(seen: dict[str, tuple[str, Finding]], known: Mapping[str, Known], gone: set[str]) -> None:
    """Takes out of `seen` the new ones that there is no room for, and puts one finding in their place."""
    room = dict.fromkeys(SEVERITIES, MOST_KNOWN)
    for name, one in known.items():
        room[one.finding.severity] -= 0 if name in gone else 1
    over: dict[str, int] = {}
    for name, (_scanner, finding) in list(seen.items()):
        if name in known:
            continue
        room[finding.severity] -= 1
        if room[finding.severity] < 0:
            del seen[name]
            over[finding.severity] = over.get(finding.severity, 0) + 1
    if over:
        counts = ", ".join(f"{count} {severity}" for severity, count in over.items())
        summary = (
            f"There are more findings than the {MOST_KNOWN} of a severity that are told one by one: {counts} more."
        )
        worst = max(over, key=SEVERITIES.index)
        flood = found("memory.full", "findings", summary, over, [], severity=worst)
        seen[flood.fingerprint] = "memory", flood


def _blind(scanner: str, sentence: str) -> Finding:
    return found("scan.blind", scanner, sentence, {}, [scanner, sentence])


def _quiet(finding: Finding) -> bool:
    return finding.severity == "info" or finding.rule in HAPPENED


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)


def _fields(known: Known) -> dict[str, Any]:
    finding = known.finding
    # Another version may have had a rule that this one has not.
    rule = RULES.get(finding.rule)
    return {
        "fingerprint": finding.fingerprint,
        "rule": finding.rule,
        "severity": finding.severity,
        "technique": rule.technique if rule else "",
        "subject": finding.subject,
        "summary": finding.summary,
        "evidence": finding.evidence,
        "advice": rule.advice if rule else "",
        "first_seen": utc(known.first_seen),
        "last_seen": utc(known.last_seen),
    }


def _event(state: str, known: Known, second: int, host: str) -> Event:
    which = [host, known.finding.fingerprint, known.episode, state, known.reminders if state == "reminded" else 0]
    number = hashlib.sha256(json.dumps(which).encode()).hexdigest()[:32]
    return {"id": number, "time": utc(second), "state": state, "host": host, **_fields(known)}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _known(row: Mapping[str, Any]) -> Known:
    finding = row["finding"]
    return Known(**{**row, "finding": Finding(**{**finding, "key": tuple(finding["key"])})})


def _keep(path: str) -> None:
    """Gives a damaged file a second name, which stays when the first is replaced; of many the last is given up."""
    names = [f"{path}.damaged.{number}" for number in range(1, MOST_DAMAGED + 1)]
    try:
        for name in names:
            if not os.path.exists(name):
                os.link(path, name)
                return
            if os.path.samefile(name, path):
                return
        os.unlink(names[-1])
        os.link(path, names[-1])
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"Cannot keep the damaged {path} beside itself: {explain(error)}. Move it away.") from error
