# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times as the records of drills have them, in UTC."""

from __future__ import annotations

from datetime import datetime, timezone


def stamp(now: datetime) -> str:
    """A time as the record has it."""
    return now.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(time: str) -> float:
    """Seconds since 1970 of a time as the record has it."""
    # Python 3.9 reads no Z.
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
