# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells Prometheus, as a file for node_exporter's textfile collector.

Source of the format: Prometheus' documentation, "Exposition formats".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .files import Name, new_file

Family = tuple[str, str, Sequence[tuple[Mapping[str, str], Any]]]
"""Name without prefix, help, and each sample's labels and value; a value of None is left out."""


def gauges(prefix: str, families: Iterable[Family]) -> str:
    """The text of the file. A family without a value is left out."""
    lines: list[str] = []
    for name, text, samples in families:
        told = [
            f"{prefix}{name}{_labels(labels)} {float(value):.17g}" for labels, value in samples if value is not None
        ]
        if told:
            lines += [f"# HELP {prefix}{name} {text}", f"# TYPE {prefix}{name} gauge", *told]
    return "\n".join(lines) + "\n"


def write(path: Name, text: str) -> None:
    """Replaces the file, which the exporter's own user can read: it holds no secret, and the next run writes it anew.

    Raises StoreError.
    """
    with new_file(path, sync=False) as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text.encode())


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
