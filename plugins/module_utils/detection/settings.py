# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scan is told to do, checked before it begins."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from . import allowlist, delivery, infrastructure, listeners, persistence, processes
from .errors import DetectionError
from .findings import Finding
from .options import read

_OPTIONS: dict[str, Any] = {
    "state_directory": (str, "/var/lib/custodes/detection"),
    "log_directory": (str, "/var/log/security"),
    "metrics_file": (str, None),
    "reminder_hours": (float, 24.0),
    "log_max_bytes": (int, 10 * 1024 * 1024),
    "log_keep": (int, 5),
    "accept_package_changes": (bool, True),
    "allow": (list, []),
    "processes": (dict, {}),
    "listeners": (dict, {}),
    "persistence": (dict, {}),
    "infrastructure": (dict, {}),
    "delivery": (dict, {}),
}


class Settings(NamedTuple):
    """The configuration of one run.

    Attributes:
        state_directory: for the baseline, what is remembered between runs, and the lock.
        log_directory: for alerts.log and degraded-mode.log.
        metrics_file: for node_exporter's textfile collector; None writes none.
        reminder: seconds after which a finding that is still there is told again.
        log_max_bytes, log_keep: a log is rotated at that size, and so many rotated ones are kept.
        accept_package_changes: whether a file that is as its Debian package made it is no intruder's.
        allow: the general allowlist's entries that hold today.
        expired: a finding for each entry of an allowlist that does not hold any more.
    """

    state_directory: str
    log_directory: str
    metrics_file: Optional[str]
    reminder: float
    log_max_bytes: int
    log_keep: int
    accept_package_changes: bool
    allow: list[dict[str, Any]]
    expired: list[Finding]
    processes: processes.Options
    listeners: listeners.Options
    persistence: persistence.Options
    infrastructure: infrastructure.Options
    delivery: delivery.Options

    @property
    def baseline(self) -> str:
        """The baseline's file."""
        return os.path.join(self.state_directory, "baseline.json")

    @property
    def memory(self) -> str:
        """The file of what is remembered."""
        return os.path.join(self.state_directory, "memory.json")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], now: float, version: str = "") -> Settings:
        """Checks a configuration, whose allowlists end by the date of now. Raises DetectionError."""
        given = read(config, "file", _OPTIONS)
        # An operator's template may give none as an empty text.
        given["metrics_file"] = given["metrics_file"] or None
        for name in ("state_directory", "log_directory", "metrics_file"):
            if given[name] is not None and not given[name].startswith("/"):
                raise DetectionError(f"The configuration's {name} has to be a full path, and is {given[name]!r:.80}.")
        today = time.strftime("%Y-%m-%d", time.gmtime(now))
        allow, expired = allowlist.general(given["allow"], today)
        heard = listeners.Options.from_config(given["listeners"], today)
        return cls(
            given["state_directory"],
            given["log_directory"],
            given["metrics_file"],
            given["reminder_hours"] * 3600.0,
            given["log_max_bytes"],
            given["log_keep"],
            given["accept_package_changes"],
            allow,
            [*expired, *heard.expired],
            processes.Options.from_config(given["processes"]),
            heard,
            persistence.Options.from_config(given["persistence"]),
            infrastructure.Options.from_config(given["infrastructure"]),
            delivery.Options.from_config(given["delivery"], version),
        )
