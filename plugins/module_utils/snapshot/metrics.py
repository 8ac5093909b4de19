# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..textfile import Family, gauges

RESULTS = ("success", "failed", "flagged", "skipped")

_SINGLE = {
    "last_success_timestamp_seconds": "When a run last put a verified snapshot into every required destination.",
    "last_run_timestamp_seconds": "When the last run ended, however it did.",
    "duration_seconds": "How long the last run took.",
    "size_bytes": "Size of the last snapshot that was verified.",
    "index": "Raft index of the last snapshot that was verified.",
    "keys": "Number of storage keys in the last snapshot that was verified.",
}
_BY_DESTINATION = {
    "verified": "Whether the last run's snapshot was proven where it lies.",
    "destination_success": "Whether the last run did all it had to do in a destination.",
    "kept": "Number of snapshots in a destination.",
    "pruned": "Number of snapshots that the last run has deleted from a destination.",
}


def render(result: str, values: Mapping[str, Any], destinations: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The text of the file.

    Args:
        result: one of RESULTS.
        values: by the names of _SINGLE; what is None or absent is left out.
        destinations: each one's label and its values by the names of _BY_DESTINATION, the same rule.
    """
    families: list[Family] = [(name, text, [({}, values.get(name))]) for name, text in _SINGLE.items()]
    last = [({"result": one}, int(one == result)) for one in RESULTS]
    families.append(("last_run_result", "1 for what the last run came to.", last))
    for name, text in _BY_DESTINATION.items():
        families.append((name, text, [({"destination": label}, given.get(name)) for label, given in destinations]))
    return gauges("vault_snapshot_", families)
