# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery record: JSON for machines, Markdown for people, lines for the terminal."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..user import user_name
from .journal import Journal

RECOVERED, FAILED = "recovered", "failed"
SNAPSHOT = ("path", "store", "taken_at", "index", "sha256", "size", "manifest")
"""What the record has of the snapshot."""


@dataclass(frozen=True)
class Ending:
    """How a run of the recovery ended, from the playbook.

    Attributes:
        status: RECOVERED or FAILED.
        objective: recovery time objective in seconds.
        rpo_objective: the highest age of the snapshot in seconds, None for no objective.
        problem: the reason for the failure.
        failed_task: the name of the task that failed.
        versions: of Ansible and other programs, by name.
    """

    status: str
    objective: float
    rpo_objective: float | None = None
    problem: str | None = None
    failed_task: str | None = None
    versions: Mapping[str, Any] = field(default_factory=dict)


def build_record(journal: Journal, ending: Ending, now: datetime) -> dict[str, Any]:
    """Return the record of a recovery whose run ends now."""
    data = journal.data
    started = datetime.fromisoformat(data["started_at"])
    # The one that was restored; before that, the one that was chosen.
    snapshot = data.get("snapshot") or data.get("chosen") or {}
    recovered = ending.status == RECOVERED
    # Of a recovery that failed, a later run or a dynamic canary may have failed where static canaries were readable.
    readable = data.get("readable_at") if recovered else None
    rto = (datetime.fromisoformat(readable) - started).total_seconds() if readable else None
    late = (now - started).total_seconds() > ending.objective
    rpo = (started - datetime.fromisoformat(snapshot["taken_at"])).total_seconds() if snapshot.get("taken_at") else None
    rpo = None if rpo is not None and rpo < 0 else rpo
    rpo_objective = ending.rpo_objective
    restored = recovered or journal.restore == "done"
    server = ", ".join(data.get("server_versions") or [])
    return {
        "format": 1,
        "status": ending.status,
        "problem": ending.problem,
        "failed_task": ending.failed_task,
        "started_at": data["started_at"],
        "finished_at": now.isoformat(timespec="milliseconds"),
        "nodes": data["nodes"],
        "runs": data["runs"],
        "operator": f"{user_name()}@{platform.node()}",
        "versions": {**ending.versions, **({"server": server} if server else {})},
        "snapshot": {name: snapshot.get(name) for name in SNAPSHOT},
        "rejected_snapshots": [_rejected(one) for one in snapshot.get("rejected") or []],
        "safety_snapshot": data.get("safety_snapshot"),
        "restore": journal.restore,
        "rpo_seconds": None if rpo is None else round(rpo, 3),
        "rpo_objective_seconds": rpo_objective,
        "rpo_met": None if not restored or rpo is None or rpo_objective is None else rpo <= rpo_objective,
        "rto_seconds": None if rto is None else round(rto, 3),
        "rto_objective_seconds": ending.objective,
        "rto_met": rto <= ending.objective if rto is not None else False if late and not recovered else None,
        "redundant": data.get("redundant"),
        "checks": data.get("checks") or [],
        "secrets": data.get("secrets") or [],
        "dynamic_canaries": data.get("dynamic_canaries") or [],
        "steps": data["steps"],
    }


def _rejected(one: Mapping[str, Any]) -> dict[str, str]:
    """A snapshot that was passed over in a folder or, by its name, in a store."""
    return {"path": one.get("path") or f"{one['store']}/{one['name']}", "problem": one["problem"]}


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them."""
    if seconds is None:
        return "not known"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _troubled(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps that were noted with a problem and gone on from."""
    return [step for step in record["steps"] if step["detail"].get("problem")]


def verdict(record: Mapping[str, Any], name: str) -> str:
    """Return the verdict on an objective, ``rto`` or ``rpo``, as every form of the record words it."""
    measured, met = record[f"{name}_seconds"], record[f"{name}_met"]
    if met is not None:
        return "met" if met else "missed" if measured is not None else "missed, not readable yet"
    snapshot = record["snapshot"]
    if name == "rto" or not snapshot["path"]:
        return "not measured"
    if measured is None:
        return "not known: the clocks differ" if snapshot["taken_at"] else "not known"
    return "no objective" if record["rpo_objective_seconds"] is None else "not restored"


def _measured(record: Mapping[str, Any], name: str) -> str:
    """A time, its objective and the verdict."""
    measured, objective = record[f"{name}_seconds"], record[f"{name}_objective_seconds"]
    said = verdict(record, name).replace("missed", "MISSED")
    limit = "" if objective is None else f"objective {duration(objective)}"
    if measured is None:
        return f"{said} ({limit})" if limit else said
    return f"{duration(measured)} ({limit}, {said})" if limit else duration(measured)


def _verdicts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    snapshot = record["snapshot"]
    rows = [
        ("Status", record["status"] + (f": {record['problem']}" if record["problem"] else "")),
        ("Snapshot", "{path}, taken {taken_at}".format(**snapshot) if snapshot["path"] else "none was chosen"),
        ("Data lost at most (RPO)", _measured(record, "rpo")),
        ("Time to readable (RTO)", _measured(record, "rto")),
    ]
    not_yet = ": ".join(["NOT YET", *(step["detail"]["problem"] for step in _troubled(record)[-1:])])
    redundant = {None: "not known", True: "yes", False: not_yet}[record["redundant"]]
    rows.append(("Survives the loss of a node", redundant))
    if not record["secrets"]:
        rows.append(("Secrets read back", "NONE: name some in vault_recovery_canaries"))
    if record["safety_snapshot"]:
        rows.append(("Safety snapshot of what was there", record["safety_snapshot"]))
    rows += [(f"Not used: {item['path']}", item["problem"]) for item in record["rejected_snapshots"]]
    return rows


def summary_lines(record: Mapping[str, Any]) -> list[str]:
    """The record as a table for the terminal."""
    lines = [f"{'Step':<42} {'seconds':>8}"]
    for step in record["steps"]:
        name = step["name"] if record["runs"] == 1 else f"{step['name']} (run {step['run']})"
        lines.append(f"{name:<42} {step['seconds']:>8.1f}")
    lines.append("")
    for secret in record["secrets"]:
        state = "readable" if secret["readable"] else f"NOT READABLE: {secret['problem']}"
        lines.append(f"{secret['path']} at {secret['node']}: {state}")
    lines.append("")
    lines += [f"{name}: {value}" for name, value in _verdicts(record)]
    return lines


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def markdown(record: Mapping[str, Any]) -> str:
    """The record as a page for the incident's file."""
    lines = [f"# Vault recovery of {record['started_at']}", "", "| | |", "| --- | --- |"]
    rows = [*_verdicts(record), ("Operator", record["operator"]), ("Runs", record["runs"])]
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    lines += ["", "## Steps", "", "| step | began | seconds | detail |", "| --- | --- | ---: | --- |"]
    for step in record["steps"]:
        detail = ", ".join(f"{name} {value}" for name, value in step["detail"].items())
        lines.append(f"| {_cell(step['name'])} | {step['started_at']} | {step['seconds']:.1f} | {_cell(detail)} |")
    lines += [
        "",
        "## Secrets read back",
        "",
        "| path | node | readable | fields | problem |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {_cell(item['path'])} | {item['node']} | {'yes' if item['readable'] else 'NO'} | "
        f"{_cell(', '.join(item['fields']))} | {_cell(item['problem'] or '')} |"
        for item in record["secrets"]
    ]
    lines += ["", "## Preflight", "", "| check | result | detail |", "| --- | --- | --- |"]
    lines += [f"| {_cell(item['name'])} | {item['result']} | {_cell(item['detail'])} |" for item in record["checks"]]
    return "\n".join(lines) + "\n"
