# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One drill from its first phase to its record: a lock, a journal on disk after every change, and what is left open.

The record's form: docs/schemas/drill-record.schema.json. "completed" says that the drill ran to its end, "passed" that
every objective was met.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

from .. import playbook_lock, textfile
from ..files import StoreError, explain, read_json, write_json
from . import chain
from .errors import DrillError
from .times import seconds, stamp

SCHEMA_VERSION = 1
JOURNAL = "open.json"
"""What is known of the drill that runs, or of one that was killed."""
WHAT = "drill"

PASSED, FAILED, SKIPPED, ABORTED = "passed", "failed", "skipped", "aborted"
DUE_DAYS = 30
"""Days until a finding is due, unless told otherwise."""
GIVEN_UP_DAYS = 200
"""A part that no record names any more, rehearsals included, for this long before the newest is no part of a drill."""

# What is another in each drill: the line that was looked for, the folder and the record of a recovery.
_VARIES = re.compile(r"\bmarker-[0-9a-f-]{8,}|\brecovery-\d{8}T[\w.-]+")

Json = dict[str, Any]


class Drill:
    """A folder of records, and the drill that runs.

    Args:
        folder: made with mode 0700 when it is missing.
        writes: False looks only, as check mode does.
    """

    def __init__(self, folder: Path, writes: bool = True) -> None:
        self.folder = folder
        self.writes = writes

    def begin(self, about: Mapping[str, Any], closed: Sequence[Mapping[str, Any]], now: datetime) -> Json:
        """Takes the lock and opens the journal. A drill that was killed gets its record first.

        Args:
            about: mode, scope, operator, reason, versions, environment and window.
            closed: findings that are closed now: id, by and text.

        Returns:
            drill, the journal; killed, the name of the record of a drill that was killed, or None.

        Raises:
            StoreError: another drill runs, or the folder cannot be used.
            DrillError: a record cannot be read, the chain is broken, or a finding to be closed is not open.
        """
        killed = None
        if self.writes:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"Cannot make {self.folder}: {explain(error)}. Name another folder.") from error
            playbook_lock.acquire(self.folder, playbook_lock.current_holder(), WHAT)
            left = self._left()
            if left is not None:
                killed = self._write(left, ABORTED, "The drill was killed, or its controller was lost.", now)
        records = chain.read(self.folder)
        told = chain.problems(records)
        if told:
            raise DrillError(
                f"The records in {self.folder} are not what they were: {' '.join(told)} Find out who did this; a new "
                "drill goes into an empty folder, and these are kept as they are."
            )
        findings = _carried(records, closed, now)
        if records and f"drill-{now.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}.json" <= records[-1][0]:
            raise DrillError(
                f"It is {stamp(now)} here, and {records[-1][0]} is not before that: the record would not be the "
                "newest. Set this machine's clock."
            )
        drill = {
            "schema_version": SCHEMA_VERSION,
            "id": f"{now.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}",
            "mode": about["mode"],
            "scope": list(about["scope"]),
            "operator": about["operator"],
            "reason": about.get("reason") or "",
            "versions": dict(about.get("versions") or {}),
            "environment": about.get("environment") or "",
            "window": about.get("window") or "",
            "started": stamp(now),
            "phases": [],
            "findings": findings,
        }
        self._note(drill)
        return {"changed": True, "drill": drill, "killed": killed}

    def begin_phase(self, name: str, title: str, objective: Mapping[str, Any], now: datetime) -> Json:
        """Notes that a phase begins, so that a killed drill tells where it was. Raises StoreError, DrillError."""
        drill = self._drill()
        drill["phases"].append(
            {
                "name": name,
                "title": title,
                "objective": dict(objective),
                "started": stamp(now),
                "ended": None,
                "measured": None,
                "measurements": {},
                "verdict": ABORTED,
                "fault": None,
                "evidence": [],
                "deviations": [],
            }
        )
        self._note(drill)
        return {"changed": True, "drill": drill}

    def end_phase(self, name: str, told: Mapping[str, Any], now: datetime) -> Json:
        """Notes what a phase has shown.

        Args:
            told: measured, measurements, fault, evidence, deviations, problem (why it failed), skipped (why it did not
                run), owner and due_days of the finding that a failure is.

        Raises StoreError, DrillError.
        """
        drill = self._drill()
        phase = next((one for one in drill["phases"] if one["name"] == name and one["ended"] is None), None)
        if phase is None and not self.writes:
            return {"changed": True, "drill": drill}
        if phase is None:
            raise DrillError(f"The phase {name} has not begun in {self.folder / JOURNAL}: begin_phase comes first.")
        phase.update(
            ended=stamp(now),
            measured=told.get("measured"),
            measurements=dict(told.get("measurements") or {}),
            fault=told.get("fault") or None,
            evidence=list(told.get("evidence") or []),
            deviations=list(told.get("deviations") or []),
        )
        problem = _problem(phase, told, drill["mode"])
        phase["verdict"] = SKIPPED if told.get("skipped") else FAILED if problem else PASSED
        if told.get("skipped"):
            phase["deviations"].append(f"Not run: {told['skipped']}")
        owner, days = told.get("owner") or drill["operator"], told.get("due_days") or DUE_DAYS
        for text in [problem, *(told.get("findings") or [])]:
            if text:
                _add_finding(drill, name, text, owner, (now + timedelta(days=days)).date().isoformat())
        self._note(drill)
        return {"changed": True, "drill": drill, "phase": phase}

    def end(self, problem: Optional[str], now: datetime) -> Json:
        """Writes the record and gives the lock back.

        Args:
            problem: why the drill was aborted; None when it ran to its end.

        Raises StoreError, DrillError.
        """
        drill = self._drill()
        name = self._write(drill, ABORTED if problem else "completed", problem, now)
        record = read_json(self.folder / name) if self.writes else drill
        if self.writes:
            playbook_lock.release(self.folder, playbook_lock.current_holder(), WHAT)
        return {"changed": True, "record": record, "record_file": str(self.folder / name)}

    def _write(self, drill: Mapping[str, Any], outcome: str, problem: Optional[str], now: datetime) -> str:
        ended = [{**phase, "ended": phase["ended"] or stamp(now)} for phase in drill["phases"]]
        whole_scope = {phase["name"] for phase in ended} == set(drill["scope"])
        passed = outcome == "completed" and whole_scope and all(phase["verdict"] == PASSED for phase in ended)
        whole = {
            **drill,
            "phases": ended,
            "ended": stamp(now),
            "outcome": outcome,
            "abort_reason": problem,
            "verdict": PASSED if passed else FAILED,
        }
        name = f"drill-{drill['id']}.json"
        if not self.writes:
            return name
        # Killed between the two, it has its record and its journal.
        if not (self.folder / name).exists():
            records = chain.read(self.folder)
            write_json(self.folder / name, {**chain.sealed(whole, records[-1] if records else None), "signature": None})
        (self.folder / JOURNAL).unlink(missing_ok=True)
        return name

    def _left(self) -> Optional[Json]:
        try:
            return read_json(self.folder / JOURNAL)
        except FileNotFoundError:
            return None

    def _drill(self) -> Json:
        drill = self._left()
        if drill is None and not self.writes:
            return {"id": "check", "mode": "rehearsal", "operator": "", "scope": [], "phases": [], "findings": []}
        if drill is None:
            raise DrillError(f"No drill has begun in {self.folder}: state 'begun' comes first.")
        return drill

    def _note(self, drill: Json) -> None:
        if self.writes:
            write_json(self.folder / JOURNAL, drill)


def _problem(phase: Mapping[str, Any], told: Mapping[str, Any], mode: str) -> Optional[str]:
    if told.get("problem"):
        return str(told["problem"])
    if told.get("skipped") or mode == "rehearsal":
        return None
    objective, measured = phase["objective"], phase["measured"]
    if measured is None:
        return f"Nothing was measured {objective['what']}."
    if measured > objective["at_most"]:
        # Without the value, which is another each time: it stands in the phase.
        return f"More than {objective['at_most']:g} {objective['unit']} {objective['what']}."
    return None


def _add_finding(drill: Json, phase: str, text: str, owner: str, due: str) -> None:
    known = next((one for one in drill["findings"] if one["phase"] == phase and _same(one["text"], text)), None)
    if known is not None:
        # Seen again: whoever closed it was wrong.
        known.update(status="open", closed=None, text=text)
        return
    number = 1 + sum(one["first_seen_in"] == drill["id"] for one in drill["findings"])
    drill["findings"].append(
        {
            "id": f"F-{drill['id']}-{number}",
            "phase": phase,
            "text": text,
            "owner": owner,
            "due": due,
            "status": "open",
            "closed": None,
            "first_seen_in": drill["id"],
        }
    )


def _same(one: str, other: str) -> bool:
    return _VARIES.sub("#", one) == _VARIES.sub("#", other)


def _carried(
    records: Sequence[tuple[str, Mapping[str, Any]]], closed: Sequence[Mapping[str, Any]], now: datetime
) -> list[Json]:
    """The findings of the newest record that are open, less those that are closed now, which stand in it once more."""
    newest = records[-1][1]["findings"] if records else []
    carried = [dict(one) for one in newest if one["status"] == "open"]
    by_id = {one["id"]: one for one in carried}
    earlier = [one for _name, record in records for one in record["findings"]]
    for closing in closed:
        finding = by_id.get(closing["id"])
        told = (closing["by"], closing["text"])
        if any(closing["id"] == one["id"] and one["closed"] and _told(one["closed"]) == told for one in earlier):
            # A line that is still in the operator's variables. What was seen again since takes another one.
            continue
        if finding is None:
            if any(closing["id"] == one["id"] for one in earlier):
                continue
            known = ", ".join(by_id) or "none"
            raise DrillError(f"There is no finding {closing['id']} to be closed. Open are: {known}.")
        finding.update(status="closed", closed={"by": closing["by"], "text": closing["text"], "on": stamp(now)})
    return carried


def _told(closed: Mapping[str, Any]) -> tuple[str, str]:
    return closed["by"], closed["text"]


def metrics(records: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """What Prometheus is told: when each part last passed, when a drill last ran (seconds since 1970), what is open.

    Nothing passes in a rehearsal, but the parts that it names are those that a drill has to pass.
    """
    ended = [(seconds(record["ended"]), record) for _name, record in records]
    drills = [(at, record) for at, record in ended if record["mode"] == "drill"]
    newest = max((at for at, _record in ended), default=0.0)
    parts = {name for at, record in ended if at > newest - GIVEN_UP_DAYS * 86400 for name in record["scope"]}
    passed = dict.fromkeys(sorted(parts), 0.0)
    for at, record in drills:
        for phase in record["phases"]:
            if phase["verdict"] == PASSED and phase["name"] in passed:
                passed[phase["name"]] = max(passed[phase["name"]], at)
    findings = [finding for finding in (drills[-1][1]["findings"] if drills else []) if finding["status"] == "open"]
    return textfile.gauges(
        "custodes_drill_",
        [
            (
                "last_passed_timestamp_seconds",
                "When the last drill ended in which the part passed.",
                [({"part": name}, at) for name, at in passed.items()] or [({}, 0)],
            ),
            (
                "last_run_timestamp_seconds",
                "When the last drill ended.",
                [({}, max((at for at, _record in drills), default=0))],
            ),
            ("open_findings", "Findings of the last drill that are open.", [({}, len(findings))]),
        ],
    )
