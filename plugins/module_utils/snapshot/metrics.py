# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells Prometheus, as a file for node_exporter's textfile collector.

Source of the format: Prometheus' documentation, "Exposition formats".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import new_file

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
    lines: list[str] = []

    def add(name: str, text: str, samples: Sequence[tuple[str, Any]]) -> None:
        told = [(labels, value) for labels, value in samples if value is not None]
        if told:
            lines.extend((f"# HELP vault_snapshot_{name} {text}", f"# TYPE vault_snapshot_{name} gauge"))
            lines.extend(f"vault_snapshot_{name}{labels} {float(value):.17g}" for labels, value in told)

    for name, text in _SINGLE.items():
        add(name, text, [("", values.get(name))])
    last = [(f'{{result="{one}"}}', int(one == result)) for one in RESULTS]
    add("last_run_result", "1 for what the last run came to.", last)
    for name, text in _BY_DESTINATION.items():
        labelled = [(f'{{destination="{_escape(label)}"}}', given.get(name)) for label, given in destinations]
        add(name, text, labelled)
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Replaces the file, which the exporter's own user can read: it holds no secret. Raises StoreError."""
    with new_file(path) as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text.encode())


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
