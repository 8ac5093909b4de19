# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the results of a part's tasks come to: measured, measurements, evidence and findings, for its phase's record.

The filter drill_told calls it. Every time is of one clock, the controller's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Told = dict[str, Any]


def vault(record: Mapping[str, Any], file: str, tried: int) -> Told:
    """Of a recovery's record.

    Args:
        file: where it lies.
        tried: how many connections to production were tried from the DR cluster.
    """
    snapshot, canaries = record["snapshot"], record["secrets"]
    readable = sum(bool(one["readable"]) for one in canaries)
    measured = {name: record[name] for name in ("rto_seconds", "rpo_seconds") if record[name] is not None}
    return {
        "measured": record["rto_seconds"],
        "measurements": measured,
        "evidence": [
            f"snapshot {os.path.basename(snapshot['path'])} of {snapshot['taken_at']}, SHA-256 {snapshot['sha256']}",
            f"{readable} of {len(canaries)} reads of canaries succeeded",
            f"{tried} connections to production tried from the DR cluster, none was made",
            f"record of the recovery {os.path.basename(file)}",
        ],
        "findings": [
            f"A snapshot could not be used: {os.path.basename(one['path'])}: {one['problem']}"
            for one in record["rejected_snapshots"]
        ],
    }


def logs(markers: Sequence[Mapping[str, Any]], seen: Sequence[Mapping[str, Any]], name: str) -> Told:
    """Of the markers that were logged, one a host, and of what the backend of this name said of each."""
    took = [one["backends"][name]["age"] for one in seen]
    return {
        "measured": max(took),
        "evidence": [
            f"{marker['item']}: {marker['marker']} in {name} after {after:g} s" for marker, after in zip(markers, took)
        ],
    }


def certificates(
    before: Sequence[Mapping[str, Any]],
    refused: Mapping[str, Any],
    after: Sequence[Mapping[str, Any]],
    seconds: float,
) -> Told:
    """Of the endpoints' certificates before and after, the renewal that was refused, and the time that one took."""
    new = {one["serial"] for one in after} - {one["serial"] for one in before}
    return {
        "measured": round(seconds, 3),
        "evidence": [
            f"{len(before)} endpoints good with the CA away",
            f"renewal without the CA ended with status {refused['rc']}",
            f"new serial {', '.join(sorted(new))}",
        ],
    }


def alert(since: float, arrived: Mapping[str, Any], what: str) -> Told:
    """Of an alert at its receiver.

    Args:
        since: seconds since 1970 when its cause began.
        what: it was, for the evidence.
    """
    return {"measured": round(arrived["arrived_at"] - since, 3), "evidence": [f"{what}: {arrived['alert_id']}"]}


PARTS: dict[str, Callable[..., Told]] = {
    "vault": vault,
    "logs": logs,
    "certificates": certificates,
    "alert": alert,
}
