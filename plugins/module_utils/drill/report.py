# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report on all drills of a folder, for a manager and an auditor: one page of HTML that needs nothing else.

As Markdown, too. The newest drill comes first. Rehearsals measure nothing, so they are listed and stand in no trend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ..report import charts
from ..report.charts import Bar, duration
from ..report.page import Page, drawing
from .times import seconds

PARTS = {
    "vault": "Vault",
    "logs": "Logs",
    "certificates": "Certificates",
    "alerting": "Alerting",
    "host_detection": "Host detection",
    "watchers": "Watchers",
}
TRENDS = {"rto_seconds": "Recovery time of Vault (RTO)", "rpo_seconds": "Age of the snapshot (RPO)"}

Record = Mapping[str, Any]
Records = Sequence[tuple[str, Record]]


def html(records: Records, problems: Sequence[str], today: str) -> str:
    """The page.

    Args:
        records: name of the file and content, the oldest first.
        problems: what is wrong with their chain.
        today: a day as 2026-11-27, by which a finding is overdue.
    """
    drills = [record for _name, record in records if record["mode"] == "drill"]
    drill = drills[-1] if drills else None
    return PAGE.render(
        f"Disaster recovery drills, {today}",
        count=len(records),
        drill=drill,
        drills=drills,
        newest=records[-1][1] if records else None,
        newest_name=records[-1][0] if records else None,
        open_findings=_open(drill),
        problems=problems,
        rehearsals=[record for _name, record in records if record["mode"] != "drill"],
        timeline=drawing(timeline(drill)) if drill else None,
        today=today,
        took=seconds(drill["ended"]) - seconds(drill["started"]) if drill else None,
        trends=[(title, drawing(chart)) for title, chart in _trends(drills)],
    )


def timeline(record: Record) -> str:
    """Draw every phase of a drill, and within it the time for which its fault was in force."""
    began = seconds(record["started"])
    bars = []
    for phase in record["phases"]:
        begin, end = seconds(phase["started"]) - began, seconds(phase["ended"]) - began
        label = _part(phase["name"])
        tip = f"{label}: {duration(end - begin)}, {phase['verdict']}"
        bars.append(Bar(label, begin, end, phase["verdict"], tip, _in_force(phase, began)))
    whole = seconds(record["ended"]) - began
    return charts.timeline(bars, whole, f"Timeline of {len(bars)} phases over {duration(whole)}")


def _in_force(phase: Record, began: float) -> Optional[tuple[float, float, str]]:
    fault = phase.get("fault")
    if not fault or not fault.get("injected"):
        return None
    begin, end = seconds(fault["injected"]), seconds(fault["undone"] or phase["ended"])
    return begin - began, end - began, f"{fault['what']}: in force for {duration(end - begin)}"


def markdown(records: Records, problems: Sequence[str], today: str) -> str:
    """The same as Markdown, without the drawings; the arguments as `html` takes them."""
    drills = [record for _name, record in records if record["mode"] == "drill"]
    lines = ["# Disaster recovery drills", ""]
    lines += [f"**These records are not what they were.** {_plain(problem)}" for problem in problems]
    if drills:
        lines += _newest(drills[-1], today)
    lines += [
        "## All of them",
        "",
        "| when | mode | outcome | verdict | did not pass |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {_when(one)} | {one['mode']} | {one['outcome']} | {one['verdict']} | {_plain(_not_passed(one))} |"
        for _name, one in reversed(records)
    ]
    if records:
        lines += ["", f"Newest hash: `{records[-1][1].get('sha256')}`"]
    return "\n".join(lines) + "\n"


def _newest(drill: Record, today: str) -> list[str]:
    lines = [
        f"{_when(drill)} by {_plain(drill['operator'])}: **{drill['outcome']}, {drill['verdict']}**. "
        f"{_plain(drill['abort_reason'] or '')}".strip(),
        "",
        "| part | measured | at most | verdict |",
        "| --- | ---: | ---: | --- |",
    ]
    for phase in drill["phases"]:
        unit = phase["objective"]["unit"]
        measured, at_most = _value(phase["measured"], unit), _value(phase["objective"]["at_most"], unit)
        lines.append(f"| {_plain(phase['title'])} | {measured} | {at_most} | {phase['verdict']} |")
    lines += ["", "## Findings still open", ""]
    for one in _open(drill):
        due = f"due {one['due']}{', OVERDUE' if one['due'] < today else ''}"
        lines.append(f"- {one['id']} ({one['phase']}): {_plain(one['text'])} {_plain(one['owner'])}, {due}")
    return [*lines, *([] if _open(drill) else ["None."]), ""]


def _trends(drills: Sequence[Record]) -> list[tuple[str, str]]:
    told = []
    for name, title in TRENDS.items():
        phases = [(drill["started"][:10], one) for drill in drills for one in drill["phases"] if one["name"] == "vault"]
        points = [(day, one["measurements"].get(name), one["verdict"] == "passed") for day, one in phases]
        # What is allowed to be restored from is no objective of a drill.
        objective = phases[-1][1]["objective"]["at_most"] if phases and name == "rto_seconds" else None
        if any(value is not None for _day, value, _passed in points):
            told.append((title, charts.trend(points, objective, title)))
    return told


def _open(drill: Optional[Record]) -> list[Record]:
    return [one for one in drill["findings"] if one["status"] == "open"] if drill else []


def _part(name: str) -> str:
    return PARTS.get(name, name)


def _when(record: Record) -> str:
    return str(record["started"])[:16].replace("T", " ") + " UTC"


def _value(value: Optional[float], unit: str) -> str:
    if value is None:
        return "-"
    return duration(value) if unit == "s" else f"{value:g} {unit}"


def _not_passed(record: Record) -> str:
    told = [f"{one['name']} ({one['verdict']})" for one in record["phases"] if one["verdict"] != "passed"]
    return ", ".join(told) or "none"


def _evidence(phase: Record) -> list[str]:
    lines = [*phase["evidence"], *(f"Deviation: {text}" for text in phase["deviations"])]
    fault, measured = phase["fault"], sorted(phase["measurements"].items())
    if fault:
        seen = f"seen in force {fault['confirmed']}" if fault["confirmed"] else "not seen in force"
        undone = (
            f"undone {fault['undone']} by the {fault['undone_by']}" if fault["undone"] else "not undone by the drill"
        )
        lines.append(f"Fault: {fault['what']}, injected {fault['injected']}, {seen}, {undone}")
    return lines + [f"{name}: {value if isinstance(value, str) else round(value, 1)}" for name, value in measured]


def _plain(text: str) -> str:
    """On one line, and nothing in it that Markdown or HTML would take for theirs."""
    flat = " ".join(str(text).split())
    for sign in "\\`*_[]<>|#":
        flat = flat.replace(sign, f"\\{sign}")
    return flat


PAGE = Page(
    Path(__file__).with_name("report.html.j2"),
    duration=duration,
    evidence=_evidence,
    not_passed=_not_passed,
    part=_part,
    value=_value,
    when=_when,
)
