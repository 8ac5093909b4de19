# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery record as one HTML page, for the incident and the people who were not there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

from ..report import charts
from ..report.charts import Bar, duration
from ..report.page import Page, drawing
from .report import RECOVERED, verdict

REDUNDANT = "Survives the loss of a node"
"""The step that ends when autopilot tolerates the loss of a node."""

MOST = 200
"""Rows of a table, and columns of nodes: the record has all of them."""
_LABELS, _LABEL = 290, 38
"""Width of the timeline's labels, and their longest text."""

Record = Mapping[str, Any]


def html(record: Record, directory: str) -> str:
    """Return the page.

    Args:
        record: as `report.build_record` makes it.
        directory: folder of the recovery, which the next run needs.
    """
    manifest = record["snapshot"]["manifest"] or {}
    dynamic = [one for one in record["secrets"] if _is_dynamic(record, one)]
    cluster = manifest.get("cluster_name") or "a Vault cluster"
    warnings = _warnings(record, manifest)
    failed = record["status"] != RECOVERED
    return PAGE.render(
        f"Vault recovery of {cluster}, {_time(record['started_at'])}",
        cluster=cluster,
        directory=directory,
        dynamic=dynamic[:MOST],
        failed=failed,
        not_done=_not_done(record, dynamic),
        objectives=_objectives(record),
        record=record,
        snapshot=_snapshot(record, manifest),
        static=_matrix([one for one in record["secrets"] if one not in dynamic]),
        steps=_steps(record),
        stopped_after=record["steps"][-1]["name"] if record["steps"] else None,
        timeline=drawing(_timeline(record)) if record["steps"] else None,
        troubled=any(_problems(record)),
        took=_offset(record, record["finished_at"]),
        age=_age(record),
        verdict="failed" if failed else "aborted" if warnings else "passed",
        warnings=warnings,
    )


def _objectives(record: Record) -> list[dict[str, Any]]:
    rows = [
        (
            "Recovery time (RTO)",
            "from the start of the first run until every canary was readable at every node",
            "rto",
        ),
        (
            "Age of the snapshot (RPO)",
            "from the snapshot to the start of the recovery: changes of that time are lost",
            "rpo",
        ),
    ]
    table = [
        {
            "name": name,
            "what": what,
            "measured": record[f"{key}_seconds"],
            "at_most": record[f"{key}_objective_seconds"],
            "verdict": {True: "passed", False: "failed", None: "skipped"}[record[f"{key}_met"]],
            "text": verdict(record, key),
        }
        for name, what, key in rows
    ]
    when = [_ended(record, step) for step in record["steps"] if step["name"] == REDUNDANT]
    words = {True: ("passed", "yes"), False: ("aborted", "not yet"), None: ("skipped", "not known")}
    kind, text = words[record["redundant"]]
    measured = when[-1] if when and record["redundant"] else None
    what = "autopilot tolerates the loss of a node, from the start of the first run"
    row = {"name": REDUNDANT, "what": what, "measured": measured, "at_most": None, "verdict": kind, "text": text}
    return [*table, row]


def _age(record: Record) -> str:
    if record["rpo_seconds"] is not None:
        return f"The snapshot was {duration(record['rpo_seconds'])} old."
    said = verdict(record, "rpo")
    return f"The age of the snapshot is {said if said.startswith('not known') else 'not known'}."


def _warnings(record: Record, manifest: Mapping[str, Any]) -> list[str]:
    found = []
    if record["rto_met"] is False:
        found.append("The recovery time objective was missed.")
    if record["rpo_met"] is False:
        found.append("The snapshot was older than its objective allows. Check the job that takes snapshots.")
    if record["redundant"] is False:
        found.append("The cluster does not tolerate the loss of a node yet.")
    if record["status"] == RECOVERED and not record["secrets"]:
        found.append("No secret was read. Write a canary secret and name it in vault_recovery_canaries.")
    found += [f"Step '{step['name']}': {problem}" for step, problem in _problems(record)]
    if manifest.get("flagged"):
        found.append(f"The snapshot was flagged when it was taken: {manifest['flagged']}")
    found += [f"A newer snapshot could not be used: {_reason(one)}" for one in record["rejected_snapshots"]]
    found += [
        f"The lease of the credentials issued by {one['path']} was not revoked. Revoke it."
        for one in record["secrets"]
        if one.get("lease_revoked") is False
    ]
    return found[:MOST]


def _not_done(record: Record, dynamic: Sequence[Record]) -> list[str]:
    unchecked = [one for one in record["checks"] if one["result"] == "not checked"]
    found = [f"Not checked: {one['name']} ({one['detail']})" for one in unchecked]
    if not dynamic:
        found.append(_no_dynamic(record))
    if record["redundant"] is None:
        found.append("The playbook did not ask whether the cluster tolerates the loss of a node.")
    return found[:MOST]


def _no_dynamic(record: Record) -> str:
    if record["dynamic_canaries"]:
        return f"The dynamic canaries were not issued: {', '.join(map(str, record['dynamic_canaries']))}."
    if record["status"] == RECOVERED:
        return "No dynamic canary was issued (vault_recovery_dynamic_canaries)."
    # The playbook notes them once they were issued.
    return "The playbook stopped before the dynamic canaries, if any are named in vault_recovery_dynamic_canaries."


def _is_dynamic(record: Record, secret: Record) -> bool:
    # A read that failed has no kind.
    return secret.get("kind") == "dynamic" or secret["path"] in [path.strip("/") for path in record["dynamic_canaries"]]


def _problems(record: Record) -> Iterable[tuple[Record, str]]:
    return ((step, step["detail"]["problem"]) for step in record["steps"] if step["detail"].get("problem"))


def _reason(rejected: Record) -> str:
    return f"{rejected['path']}: {rejected['problem']}"


def _snapshot(record: Record, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    snapshot = record["snapshot"]
    if not snapshot["path"]:
        return []
    taken_by = manifest.get("taken_by")
    rows = [
        ("Name", os.path.basename(snapshot["path"])),
        ("Store", snapshot["store"]),
        ("Taken at", _time(snapshot["taken_at"]) if snapshot["taken_at"] else None),
        ("Taken by", f"{taken_by.get('user')} on {taken_by.get('host')}" if isinstance(taken_by, dict) else None),
        ("Cluster", manifest.get("cluster_name")),
        ("Server version", manifest.get("vault_version")),
        ("Seal", manifest.get("seal_type")),
        ("Raft index", snapshot["index"]),
        ("Size", f"{snapshot['size']} bytes" if snapshot["size"] else None),
        ("Verified SHA-256", snapshot["sha256"]),
        ("File on the controller", snapshot["path"]),
        ("Safety snapshot of the cluster that was replaced", record["safety_snapshot"]),
    ]
    return [(name, str(value)) for name, value in rows if value is not None]


def _matrix(secrets: Sequence[Record]) -> dict[str, Any]:
    """Return the static canaries as rows, with a cell for each node."""
    nodes = list(dict.fromkeys(one["node"] for one in secrets))
    by_path = {path: list(group) for path, group in groupby(sorted(secrets, key=_path), key=_path)}
    rows = []
    for path, group in list(by_path.items())[:MOST]:
        at = {one["node"]: one for one in group}
        about = [group[0].get("kind"), "fields: " + ", ".join(group[0]["fields"]) if group[0]["fields"] else None]
        rows.append(
            {
                "path": path,
                "about": ", ".join(str(text) for text in about if text),
                "cells": [at.get(node) for node in nodes[:MOST]],
            }
        )
    return {"nodes": nodes[:MOST], "rows": rows, "more": max(len(by_path), len(nodes)) > MOST}


def _path(secret: Record) -> str:
    return str(secret["path"])


def _steps(record: Record) -> list[dict[str, Any]]:
    return [
        {
            "name": step["name"],
            "run": step["run"],
            "began": _offset(record, step["started_at"]),
            "seconds": step["seconds"],
            "detail": ", ".join(
                f"{name.replace('_', ' ')} {_detail(value)}" for name, value in step["detail"].items() if value
            ),
        }
        for step in record["steps"][:MOST]
    ]


def _detail(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return duration(value) if isinstance(value, float) else str(value)


def _timeline(record: Record) -> str:
    bars, end, run = list[Bar](), 0.0, 1
    for step in record["steps"][:MOST]:
        begin = _offset(record, step["started_at"])
        if step["run"] != run:
            bars.append(_bar("Between two runs", end, begin, "skipped"))
        run, end = step["run"], begin + step["seconds"]
        name = step["name"] if record["runs"] == 1 else f"{run}: {step['name']}"
        bars.append(_bar(name, begin, end, "aborted" if step["detail"].get("problem") else "passed"))
    whole = _offset(record, record["finished_at"])
    if record["status"] != RECOVERED:
        bars.append(_bar(record["failed_task"] or "Stopped", end, whole, "failed"))
    readable = record["rto_seconds"]
    mark = None if readable is None else (readable, f"readable after {duration(readable)}")
    return charts.timeline(
        bars, whole, f"Timeline of {len(bars)} rows over {duration(whole)}", labels=_LABELS, mark=mark
    )


def _bar(name: str, begin: float, end: float, kind: str) -> Bar:
    label = name if len(name) <= _LABEL else f"{name[: _LABEL - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
    return Bar(label, begin, end, kind, f"{name}: {duration(end - begin)}")


def _offset(record: Record, moment: str) -> float:
    """Return the seconds from the start of the first run to a time of the record."""
    return (datetime.fromisoformat(moment) - datetime.fromisoformat(record["started_at"])).total_seconds()


def _ended(record: Record, step: Record) -> float:
    return _offset(record, step["started_at"]) + float(step["seconds"])


def _time(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


PAGE = Page(Path(__file__).with_name("recovery.html.j2"), duration=duration, time=_time)
