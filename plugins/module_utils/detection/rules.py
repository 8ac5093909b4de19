# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules, each with its severity, its MITRE ATT&CK technique (Enterprise) and what to do when it fires.

The same table stands in docs/host-detection.md; a test holds the two together.
"""

from __future__ import annotations

from typing import NamedTuple

SEVERITIES = ("info", "low", "medium", "high", "critical")
"""In ascending order."""


class Rule(NamedTuple):
    """Attributes: severity, one of SEVERITIES; technique, "" where it is no attack; advice, one sentence or two."""

    severity: str
    technique: str
    advice: str


_LOOK = "Find out who started it and how before you kill it: /proc/PID/exe can still be copied while it runs."
_WHO = "Ask who changed it; if nobody did, keep a copy, remove it, and look for how they came in."
_REACH = "Look at that service and at the network between."

RULES = {
    "process.miner_name": Rule("critical", "T1496", _LOOK),
    "process.miner_arguments": Rule("critical", "T1496", _LOOK),
    "process.pool_connection": Rule("high", "T1496", _LOOK),
    "process.deleted_executable": Rule("medium", "T1070.004", f"After an update, restart it. Else: {_LOOK}"),
    "process.memfd_executable": Rule("critical", "T1620", _LOOK),
    "process.temporary_executable": Rule("high", "T1059", _LOOK),
    "process.kernel_thread_imitation": Rule("critical", "T1036.004", _LOOK),
    "process.hidden": Rule("critical", "T1564.013", "Unmount it, then look at the process that it covered. " + _LOOK),
    "listener.unexpected": Rule("high", "T1571", "Allow it with a reason, or find out who opened it."),
    "listener.unexpected_loopback": Rule("low", "T1571", "Allow it with a reason, or find out who opened it."),
    "schedule.cron": Rule("high", "T1053.003", _WHO),
    "schedule.at": Rule("high", "T1053.002", _WHO),
    "schedule.timer": Rule("high", "T1053.006", _WHO),
    "persistence.authorized_keys": Rule("high", "T1098.004", _WHO),
    "persistence.ld_preload": Rule("critical", "T1574.006", _WHO),
    "persistence.sudoers": Rule("high", "T1548.003", _WHO),
    "persistence.setuid": Rule("high", "T1548.001", _WHO),
    "persistence.unit": Rule("medium", "T1543.002", _WHO),
    "persistence.profile": Rule("medium", "T1546.004", _WHO),
    "persistence.uid0": Rule("critical", "T1136.001", _WHO),
    "package.changed": Rule("info", "", "Nothing: the package's own list of checksums has it so."),
    "infrastructure.unreachable": Rule("high", "", _REACH),
    "infrastructure.unhealthy": Rule("high", "", _REACH),
    "infrastructure.certificate": Rule("high", "", "Renew it, and find out why nothing renewed it."),
    "heartbeat.silent": Rule(
        "critical",
        "",
        "No alert may reach anybody now: look at Prometheus and Alertmanager, then at the network between.",
    ),
    "baseline.written": Rule("info", "", "Nothing, if you expected it: everything there was taken for good."),
    "baseline.missing": Rule("high", "T1070.004", "If nobody removed it, this host's state is not to be trusted."),
    "baseline.damaged": Rule("high", "T1565.001", "Keep it, look at what changed, then: custodes detect --rebaseline"),
    "allowlist.expired": Rule("low", "", "Decide again: renew the entry with its reason, or remove it."),
    "scan.blind": Rule("medium", "T1562.001", "Mend what it names: until then this host may hide something there."),
    "delivery.rejected": Rule("medium", "", "Mend that webhook's URL or token; what it refused is in alerts.log."),
    "delivery.dropped": Rule("medium", "", "They are in alerts.log; see why no webhook took them."),
    "memory.damaged": Rule("medium", "T1565.001", "Known findings are told anew. See what damaged the file."),
    "memory.full": Rule("high", "T1562.006", "Look at the host itself: somebody may be hiding one thing among many."),
    "log.tampered": Rule("high", "T1070.002", "If no administrator did it, trust the copy in the log store, not this."),
}
