# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts of a host's /etc/passwd, and where their homes are.

Accounts of a directory (LDAP, SSSD) are not in that file: of those, the homes in /home are looked at.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from .inventory import HASHED, Inventory, Reader, empty

PASSWD = "/etc/passwd"  # noqa: S105 - holds no password
MOST_HOMES = 5_000
"""Homes that are looked at; each costs some 30 µs."""


_NUMBER = re.compile(r"\s*(?P<sign>[+-]?)(?P<digits>[0-9]+)")


class Account(NamedTuple):
    """Attributes: name; uid, as the C library reads it; home, a path, which need not be there."""

    name: str
    uid: int
    home: str


class Accounts(NamedTuple):
    """Attributes: accounts, in the file's order; homes, real paths that are there; seen, for what could not be read."""

    accounts: list[Account]
    homes: list[str]
    seen: Inventory


def read(reader: Reader) -> Accounts:
    """The accounts and homes of a host. To be called by `reader.once`."""
    seen = empty()
    text = reader.text(seen, PASSWD)
    if len(os.fsencode(text)) >= HASHED:
        seen.add_blind(PASSWD, f"{PASSWD} is longer than {HASHED} bytes; the accounts after them were not read.")
    accounts = parse(text)
    if seen.unseen:
        # Whose homes there are is not known then, and no file in one of them is gone.
        seen.unseen.add("/")
    homes: dict[str, None] = {}
    for path in dict.fromkeys(["/root", *(account.home for account in accounts), *_in_home(reader, seen)]):
        if len(homes) >= MOST_HOMES:
            seen.add_blind("/home", f"There are more than {MOST_HOMES} homes; the rest was not looked at.")
            break
        try:
            homes[reader.real(path)] = None
        except OSError as error:
            reader.failed(seen, path, error)
    return Accounts(accounts, list(homes), seen)


def parse(text: str) -> list[Account]:
    """The accounts in the text of a passwd file; lines that the C library passes over are passed over here.

    Source of the format: passwd(5). The number is read as strtoul(3) does: "00" and "+0" are 0 too. A line may end
    after the group's number: glibc takes what is missing as empty.
    """
    accounts = []
    for line in text.split("\n"):
        fields = line.split(":")
        number = _NUMBER.match(fields[2]) if len(fields) > 3 and not line.startswith("#") else None
        if number is None:
            continue
        # Python refuses to read thousands of digits, zeros among them; the C library does not.
        uid = int(number["sign"] + (number["digits"].lstrip("0")[:20] or "0")) % 2**32
        home = fields[5] if len(fields) > 5 else ""
        accounts.append(Account(fields[0], uid, home if home.startswith("/") and "\0" not in home else "/"))
    return accounts


def _in_home(reader: Reader, seen: Inventory) -> list[str]:
    place, entries = reader.entries(seen, "/home")
    return [f"{place}/{entry.name}" for entry in entries if entry.is_dir(follow_symlinks=False)]
