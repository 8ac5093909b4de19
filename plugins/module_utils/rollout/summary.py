# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a roll-out of host detection, batch by batch: a table, a file for machines, and what is left to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ..files import StoreError, explain, new_file, read_json, write_json

SUMMARY, UNFINISHED = "summary.json", "unfinished"
ROWS = 40
"""Hosts in the table, those with trouble first; the file has them all."""
SEVERITIES = ("critical", "high", "medium", "low", "info")

_TROUBLE = ("failed", "unreachable")
_HEADS = ("HOST", "STATE", "VERSION", "BASELINE", *(name.upper() for name in SEVERITIES), "BLIND")

Hosts = dict[str, dict[str, Any]]


class Batch(NamedTuple):
    """Attributes: hosts, in the batch; every, host of the play, in its order; results, of the batch, by host."""

    hosts: Sequence[str]
    every: Sequence[str]
    results: Mapping[str, Optional[Mapping[str, Any]]]

    @property
    def first(self) -> bool:
        """Whether it is the first batch: then nothing that is on file is of this roll-out."""
        return bool(set(self.every[:1]) & set(self.hosts))


def outcome(result: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """What is kept of a host's task: `state` is changed, unchanged, or failed or unreachable with a `reason`."""
    if result is None:
        return {"state": "failed", "reason": "The task has not run."}
    if result.get("unreachable"):
        return {"state": "unreachable", "reason": _first_line(result.get("msg"))}
    if result.get("failed"):
        return {"state": "failed", "reason": _first_line(result.get("msg"))}
    kept = ("version", "baseline", "counts", "findings", "blind", "log_store", "changes")
    return {
        "state": "changed" if result.get("changed") else "unchanged",
        **{name: result.get(name) for name in kept},
    }


def add(folder: Path, batch: Batch, now: datetime, *, write: bool = True) -> dict[str, Any]:
    """Adds a batch to the summary on file; gives `table`, its lines, and `reasons`, by host of the batch that failed.

    A folder that cannot be written is said in the table, and stops no roll-out.
    """
    of_batch = {host: outcome(batch.results.get(host)) for host in batch.hosts}
    hosts: Hosts = {}
    if not batch.first:
        with suppress(FileNotFoundError, StoreError):
            hosts = dict(read_json(folder / SUMMARY).get("hosts") or {})
    hosts.update(of_batch)
    unfinished = [host for host in batch.every if hosts.get(host, {}).get("state", "failed") in _TROUBLE]
    lines = table(hosts, [host for host in batch.every if host not in hosts])
    if write:
        try:
            _write(folder, hosts, unfinished, now)
            lines += ["", f"All of it: {folder / SUMMARY}"]
            lines += [f"The rest: --limit @{folder / UNFINISHED}"] if unfinished else []
        except StoreError as error:
            lines += ["", f"This is not on file. {error}"]
    failed = {host: one["reason"] for host, one in of_batch.items() if one["state"] in _TROUBLE}
    return {"table": lines, "reasons": failed}


def table(hosts: Mapping[str, Mapping[str, Any]], waiting: Sequence[str]) -> list[str]:
    """The lines of the table, and a line of sums. `waiting` are the hosts that no batch has had yet."""
    order = sorted(hosts, key=lambda host: (_rank(hosts[host]), host))
    rows = [_row(host, hosts[host]) for host in order[:ROWS]]
    widths = [max(len(row[column]) for row in [_HEADS, *rows]) for column in range(len(_HEADS))]
    lines = [_line(_HEADS, widths), *(_line(row, widths) + _reason(hosts[row[0]]) for row in rows)]
    if len(order) > ROWS:
        lines.append(f"and {len(order) - ROWS} more, none of them in a worse state")
    states = [one["state"] for one in hosts.values()]
    done = len(states) - sum(states.count(state) for state in _TROUBLE)
    sums = {name: sum((one.get("counts") or {}).get(name, 0) for one in hosts.values()) for name in SEVERITIES}
    found = ", ".join(f"{count} {name}" for name, count in sums.items() if count) or "none"
    told = f"{done} done ({states.count('changed')} changed), " + ", ".join(
        f"{states.count(state)} {state}" for state in _TROUBLE
    )
    return [*lines, "", f"{len(hosts) + len(waiting)} hosts: {told}, {len(waiting)} not tried yet. Findings: {found}."]


def _write(folder: Path, hosts: Hosts, unfinished: Iterable[str], now: datetime) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Cannot make {folder}: {explain(error)}. Name a folder that you may write.") from error
    write_json(folder / SUMMARY, {"updated": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "hosts": hosts})
    with new_file(folder / UNFINISHED) as file:
        file.write("".join(f"{host}\n" for host in unfinished).encode())


def _rank(one: Mapping[str, Any]) -> tuple[int, ...]:
    counts = one.get("counts") or {}
    trouble = _TROUBLE.index(one["state"]) if one["state"] in _TROUBLE else len(_TROUBLE)
    return (trouble, *(-counts.get(name, 0) for name in SEVERITIES[:-1]), -len(one.get("blind") or []))


def _row(host: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    counts, baseline = one.get("counts") or {}, one.get("baseline") or {}
    scanned = one.get("version") is not None
    numbers = [str(counts.get(name, 0)) if scanned else "-" for name in SEVERITIES]
    blind = str(len(one.get("blind") or [])) if scanned else "-"
    return (host, one["state"], one.get("version") or "-", baseline.get("state") or "-", *numbers, blind)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()


def _reason(one: Mapping[str, Any]) -> str:
    return f"  {one['reason']}" if one.get("reason") else ""


def _first_line(text: Any) -> str:
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    return lines[0][:300] if lines else "It gave no reason."
