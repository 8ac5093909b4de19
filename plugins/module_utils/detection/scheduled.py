# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs by schedule: cron, anacron, at, and systemd timers with what they start.

Sources: crontab(5) and cron(8) of Debian, cronie and SUSE; anacrontab(5); at(1) and atd(8); systemd.timer(5).
Not looked at: /var/spool/anacron, which holds the times of the last runs and no jobs.
"""

from __future__ import annotations

from . import accounts, units
from .inventory import Inventory, Reader, empty, merge

CRON_FILES = ("/etc/crontab", "/etc/anacrontab", "/etc/cron.allow", "/etc/cron.deny")
CRON_FOLDERS = (
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/etc/cron.yearly",
    "/var/spool/cron",
    "/var/spool/cron/crontabs",
    "/var/spool/cron/tabs",
)
AT_FILES = ("/etc/at.allow", "/etc/at.deny")
AT_FOLDERS = ("/var/spool/cron/atjobs", "/var/spool/atjobs", "/var/spool/at")


def scan(reader: Reader) -> Inventory:
    """Every job of this host, by its file."""
    into = empty()
    for path in CRON_FILES:
        reader.file(into, path, "schedule.cron")
    for path in CRON_FOLDERS:
        reader.folder(into, path, "schedule.cron")
    for path in AT_FILES:
        reader.file(into, path, "schedule.at")
    for path in AT_FOLDERS:
        reader.folder(into, path, "schedule.at", _is_at_job)
    every = reader.once(units.scan)
    timed = {path: item for path, item in every.items.items() if item.rule == units.TIMER}
    return merge(into, Inventory(timed, every.blind, every.unseen), reader.once(accounts.read).seen)


def _is_at_job(name: str) -> bool:
    """Whether atd could run it: not the counter, nor the "=" queue of what is running, which it never starts."""
    return name != ".SEQ" and not name.startswith("=")
