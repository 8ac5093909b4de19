# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody has allowed, why, and until when. An entry that has expired allows nothing and says so."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import options
from .errors import DetectionError
from .findings import Finding, found

ENTRY: Mapping[str, tuple[options.Kind, Any]] = {"rule": (str, ...), "subject": (str, "*")}
"""What an entry of the general list takes: globs for a finding's rule and subject."""

_DATE = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")


def read(
    entries: Any, where: str, spec: Mapping[str, tuple[options.Kind, Any]], today: str
) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Check a list of entries.

    Args:
        entries: what stands in the configuration; None stands for an empty list.
        where: its name in the configuration, for messages, such as "listeners.allowed".
        spec: what an entry takes besides `reason`, which is required, and `expires`, the last day on which it
            allows (YYYY-MM-DD).
        today: YYYY-MM-DD, in UTC.

    Returns the entries that are live, and a finding for each that has expired. Raises DetectionError.
    """
    if not isinstance(entries, (list, type(None))):
        raise DetectionError(f"The configuration's {where} has to be a list, and is {entries!r:.80}.")
    live, expired = [], []
    for number, given in enumerate(entries or [], start=1):
        name = f"{where}, entry {number}"
        entry = options.read(given, name, {**spec, "reason": (str, ...), "expires": (str, None)})
        if not entry["reason"].strip():
            raise DetectionError(f"The configuration's {name} needs a reason that says why it is allowed.")
        if entry["expires"] is not None and not _DATE.fullmatch(entry["expires"]):
            raise DetectionError(
                f"The configuration's {name} expires on {entry['expires']!r:.80}, and takes a date: 2030-12-31."
            )
        if entry["expires"] is not None and entry["expires"] < today:
            expired.append(_expired(given, where))
        else:
            live.append(entry)
    return live, expired


def _expired(given: Mapping[str, Any], where: str) -> Finding:
    what = {name: value for name, value in given.items() if name not in ("reason", "expires") and value is not None}
    text = ", ".join(f"{name} {value}" for name, value in what.items())
    return found(
        "allowlist.expired",
        f"{where}: {text}",
        f"What {where} allowed until {given['expires']} is no longer allowed: {given['reason']}",
        dict(given),
        [where, json.dumps(what, sort_keys=True)],
    )


def general(entries: Any, today: str) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Check the general list, as `read` does. An entry that would allow everything is refused."""
    live, expired = read(entries, "allow", ENTRY, today)
    for entry in live:
        if not entry["rule"].strip("*") and not entry["subject"].strip("*"):
            raise DetectionError("The configuration's allow has an entry for every finding, which would find nothing.")
    return live, expired


def apply(findings: Iterable[Finding], entries: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """The findings that no entry of the general list allows."""
    return [
        finding
        for finding in findings
        if not any(
            fnmatch.fnmatchcase(finding.rule, entry["rule"]) and fnmatch.fnmatchcase(finding.subject, entry["subject"])
            for entry in entries
        )
    ]
