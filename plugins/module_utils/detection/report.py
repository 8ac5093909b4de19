# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report for a person at a terminal: the worst first, what to do about it, and what nobody could look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .findings import one_line
from .rules import SEVERITIES

MOST_LINES = 40
"""Lines that findings take, whatever their number."""
MOST_OF_A_RULE = 5
MOST_BLIND = 5
_DELIVERY = ("sent", "waiting", "rejected", "dropped")
WIDEST = 160
"""Characters of a subject and of a summary."""


def text(report: Mapping[str, Any]) -> str:
    """The report, as docs/host-detection.md describes its JSON, in lines; what was cut is in the JSON whole."""
    findings = report.get("findings") or []
    lines = [*_heading(report, findings), *_findings(findings), *_blind(report.get("blind") or []), *_state(report)]
    return "".join(f"{one_line(line)}\n" for line in lines)


def _heading(report: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> list[str]:
    problem = report.get("problem")
    counts = dict.fromkeys(reversed(SEVERITIES), 0)
    for one in findings:
        counts[one["severity"]] += 1
    told = ", ".join(f"{count} {severity}" for severity, count in counts.items() if count) or "nothing found"
    blind = len(report.get("blind") or [])
    places = f", could not look at {blind} place{'s' if blind > 1 else ''}" if blind else ""
    took = f" in {report['duration']:.2f} s" if report.get("duration") is not None else ""
    first = f"{report.get('host')}: {told}{places}. Scanned {_when(report.get('started'))}{took}."
    return [first, *([f"THE RUN FAILED: {problem}"] if problem else [])]


def _findings(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of each rule, the most severe first, as long as there is room."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in findings:
        groups.setdefault((one["severity"], one["rule"]), []).append(one)
    order = sorted(groups.items(), key=lambda item: (-SEVERITIES.index(item[0][0]), item[0][1]))
    lines: list[str] = []
    left = len(findings)
    for (severity, rule), members in order:
        block = _group(severity, rule, members)
        if len(lines) + len(block) > MOST_LINES:
            break
        lines += block
        left -= len(members)
    return [*lines, "", f"{left} more findings: custodes detect --json"] if left else lines


def _group(severity: str, rule: str, members: Sequence[Mapping[str, Any]]) -> list[str]:
    technique = f" ({members[0]['technique']})" if members[0].get("technique") else ""
    lines = ["", f"{severity.upper()} {rule}{technique}"]
    for one in members[:MOST_OF_A_RULE]:
        since = f"since {_when(one.get('first_seen'))}" if one.get("state") != "new" else "new"
        lines += [f"  {_cut(one['subject'])}  [{since}]", f"    {_cut(one['summary'])}"]
    more = len(members) - MOST_OF_A_RULE
    lines += [f"  and {more} more: custodes detect --json"] if more > 0 else []
    return [*lines, f"  To do: {members[0]['advice']}"]


def _blind(sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    more = len(sentences) - MOST_BLIND
    rest = [f"  and {more} more: custodes detect --json"] if more > 0 else []
    return ["", "COULD NOT LOOK, so something may hide there:", *(f"  {one}" for one in sentences[:MOST_BLIND]), *rest]


def _state(report: Mapping[str, Any]) -> list[str]:
    baseline, delivery, store = report.get("baseline"), report.get("delivery"), report.get("log_store")
    lines = []
    if baseline:
        written = f" of {_when(baseline['written'])}, {baseline.get('items')} items" if baseline.get("written") else ""
        lines.append(f"Baseline{written}: {baseline['state']}.")
    if store:
        lines.append(f"Log store: {store}.")
    if delivery:
        told = ", ".join(f"{delivery[name]} {name}" for name in _DELIVERY if delivery.get(name))
        lines.append(f"Webhooks, in that run: {told or 'nothing sent, nothing waiting'}.")
        for name, one in (delivery.get("destinations") or {}).items():
            if one["problem"]:
                lines.append(f"  {name}: {one['problem']} Tried again in {one['retry_in']} s.")
    return ["", *lines] if lines else []


def _cut(value: str) -> str:
    return one_line(value, longest=WIDEST)


def _when(time: Any) -> str:
    """A time of a report as a person reads it."""
    return f"{str(time)[:16].replace('T', ' ')} UTC" if time else "at an unknown time"
