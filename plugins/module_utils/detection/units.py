# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd's units of the system and of users: their files, drop-ins and the links that enable them.

Sources: systemd.unit(5), "Unit File Load Path"; systemd.timer(5). Not looked at: what generators write at each boot
(/run/systemd/generator*), transient units other than timers and what these start: they are processes, not persistence.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from . import accounts
from .inventory import Inventory, Reader, empty

TIMER, UNIT = "schedule.timer", "persistence.unit"

SYSTEM = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
USER = (
    "/etc/systemd/user",
    "/etc/xdg/systemd/user",
    "/run/systemd/user",
    "/usr/local/share/systemd/user",
    "/usr/share/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
)
OF_A_HOME = (".config/systemd/user.control", ".config/systemd/user", ".local/share/systemd/user")
OF_A_SESSION = ("systemd/user.control", "systemd/transient", "systemd/user")

_LARGEST_TIMER = 64 * 2**10
"""Bytes in which the name of the unit is looked for that a timer starts; it decides on the rule alone."""

_TRANSIENT = re.compile(r"/run/(?:user/[^/]+/)?systemd/transient(?:/|\Z)")

_SUFFIX = re.compile(r"\.(?:service|socket|path|timer|mount|automount|target|slice|swap|device|scope)\Z")
_SUBFOLDER = re.compile(r"(?P<unit>.+)\.(?P<kind>d|wants|requires|upholds)\Z", re.DOTALL)
_UNIT = re.compile(r"^[ \t]*Unit[ \t]*=[ \t]*(\S+)", re.MULTILINE)


class _Found(NamedTuple):
    """Attributes: entry, in the folder `place`; unit, which it belongs to; follow, whether a link's content counts."""

    entry: os.DirEntry[str]
    place: str
    unit: str
    follow: bool


def scan(reader: Reader) -> Inventory:
    """Every unit, under TIMER if it is a timer or one starts it, else under UNIT. To be called by `reader.once`."""
    into = empty()
    found: list[_Found] = []
    visited: set[str] = set()
    for path in _places(reader):
        place, entries = reader.entries(into, path, visited)
        if place:
            reader.file(into, place, UNIT)
        for entry in entries:
            name = entry.name
            if _SUFFIX.search(name):
                found.append(_Found(entry, place, name, follow=True))
            elif part := _SUBFOLDER.match(name):
                found.extend(_in_subfolder(reader, into, f"{place}/{name}", part["unit"], part["kind"]))
    started = _started(reader, into, found)
    for one in found:
        is_timed = one.unit.endswith("timer") or one.unit in started or _template(one.unit) in started
        if is_timed or not _TRANSIENT.match(one.place):
            _add(reader, into, one, TIMER if is_timed else UNIT, visited)
    return into


def _places(reader: Reader) -> list[str]:
    homes = reader.once(accounts.read).homes
    sessions = [f"{path}/{name}" for path in _sessions(reader) for name in OF_A_SESSION]
    return [*SYSTEM, *USER, *(f"{home.rstrip('/')}/{name}" for home in homes for name in OF_A_HOME), *sessions]


def _sessions(reader: Reader) -> list[str]:
    """The folders of users who are logged in; what cannot be read there is told by what is looked for in them."""
    place, entries = reader.entries(empty(), "/run/user")
    return [f"{place}/{entry.name}" for entry in entries]


def _in_subfolder(reader: Reader, into: Inventory, path: str, unit: str, kind: str) -> list[_Found]:
    place, entries = reader.entries(into, path)
    if kind == "d":
        return [_Found(entry, place, unit, follow=True) for entry in entries if entry.name.endswith(".conf")]
    # systemd takes the name of such a link alone, and loads the unit of that name.
    return [_Found(entry, place, entry.name, follow=False) for entry in entries]


def _started(reader: Reader, into: Inventory, found: list[_Found]) -> set[str]:
    """Names of the units that timers start: those they name, and the service of the timer's own name."""
    started = set()
    for one in found:
        if not one.unit.endswith(".timer"):
            continue
        started.add(f"{one.unit[: -len('.timer')]}.service")
        if one.follow:
            started.update(_UNIT.findall(reader.text(into, f"{one.place}/{one.entry.name}", _LARGEST_TIMER)))
    return started | {_template(name) for name in started}


def _template(name: str) -> str:
    """Of an instance's name (`backup@daily.service`) its template's (`backup@.service`), of others their own."""
    before, at, after = name.partition("@")
    return f"{before}@.{after.rpartition('.')[2]}" if at else name


def _add(reader: Reader, into: Inventory, one: _Found, rule: str, units: set[str]) -> None:
    """Adds the item; a link to another unit has no content of its own: that unit is an item."""
    path, follow = f"{one.place}/{one.entry.name}", one.follow
    if follow and one.entry.is_symlink():
        try:
            folder = reader.real(path).rpartition("/")[0]
        except OSError:
            folder = ""
        follow = folder not in units
    reader.entry(into, path, one.entry, rule, follow=follow)
