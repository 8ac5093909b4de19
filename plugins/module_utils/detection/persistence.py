# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an intruder stays: keys, preloaded libraries, rights, units, start scripts, accounts.

Left out, because they are rare, large or change all the time: /etc/pam.d, udev rules, lists of kernel modules, file
capabilities, /etc/ld.so.conf.d, NetworkManager's dispatcher, hooks of apt and dnf, polkit rules, autostart of desktops.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import accounts, units
from .errors import DetectionError
from .inventory import Inventory, Item, Reader, empty, merge
from .options import read

KEYS, PRELOAD, SUDOERS = "persistence.authorized_keys", "persistence.ld_preload", "persistence.sudoers"
SETUID, PROFILE, UID0 = "persistence.setuid", "persistence.profile", "persistence.uid0"

LD_PRELOAD = "/etc/ld.so.preload"
SSHD_CONFIG, SSHD_FOLDER = "/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d"

FILES = {
    LD_PRELOAD: PRELOAD,
    SSHD_CONFIG: KEYS,
    "/etc/ssh/sshrc": PROFILE,
    "/etc/sudoers": SUDOERS,
    "/etc/rc.local": units.UNIT,
    "/etc/rc.d/rc.local": units.UNIT,
    **dict.fromkeys(
        (
            "/etc/profile",
            "/etc/bash.bashrc",
            "/etc/bashrc",
            "/etc/environment",
            "/etc/zshenv",
            "/etc/zshrc",
            "/etc/zprofile",
            "/etc/zlogin",
            "/etc/zlogout",
            "/etc/bash.bash_logout",
            "/etc/ksh.kshrc",
            "/etc/csh.cshrc",
            "/etc/csh.login",
        ),
        PROFILE,
    ),
}
FOLDERS = {
    SSHD_FOLDER: KEYS,
    "/etc/ssh/authorized_keys.d": KEYS,
    "/etc/sudoers.d": SUDOERS,
    "/etc/init.d": units.UNIT,
    "/etc/systemd/system-generators": units.UNIT,
    "/usr/local/lib/systemd/system-generators": units.UNIT,
    "/etc/profile.d": PROFILE,
    "/etc/update-motd.d": PROFILE,
    "/etc/zsh": PROFILE,
}
OF_A_HOME = (
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".bash_aliases",
    ".profile",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".zlogin",
    ".zlogout",
    ".kshrc",
    ".cshrc",
    ".tcshrc",
)
SETUID_FOLDERS = (
    "/bin",
    "/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/lib/openssh",
    "/usr/lib/dbus-1.0",
    "/usr/lib/polkit-1",
    "/usr/libexec",
    "/tmp",  # noqa: S108 - is looked at, not used
    "/var/tmp",  # noqa: S108
    "/dev/shm",  # noqa: S108
)
"""With the folders right within each. Not all of /usr/lib: there can be ten thousand folders in it."""
MOST_FOLDERS = 1_000
"""Folders within one of them that are looked into."""


class Options(NamedTuple):
    """Attributes: setuid_folders; skip_folders, which the Reader is to be told, for homes on a network for example."""

    setuid_folders: tuple[str, ...] = SETUID_FOLDERS
    skip_folders: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: Any) -> Options:
        """Checks the section "persistence". Raises DetectionError."""
        given = read(config, "persistence", {"setuid_folders": (list, None), "skip_folders": (list, None)})
        return cls(**{name: _paths(name, value) for name, value in given.items() if value is not None})


def _paths(name: str, value: list[Any]) -> tuple[str, ...]:
    for path in value:
        if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
            raise DetectionError(f"The configuration's persistence.{name} has to hold full paths, not {path!r:.80}.")
    return tuple(value)


def scan(reader: Reader, options: Options) -> Inventory:
    """Everything of that kind on this host."""
    into = empty()
    known = reader.once(accounts.read)
    for path, rule in FILES.items():
        reader.file(into, path, rule)
    for path, rule in FOLDERS.items():
        reader.folder(into, path, rule)
    for home in known.homes:
        _home(reader, into, home.rstrip("/"))
    _keys_elsewhere(reader, into, known.accounts)
    visited: set[str] = set()
    # One that lies in another has its own folders looked into as well: it comes first.
    for path in sorted(options.setuid_folders, key=lambda one: _holds_another(one, options.setuid_folders)):
        _setuid(reader, into, path, visited)
    _accounts(into, known.accounts)
    every = reader.once(units.scan)
    others = {path: item for path, item in every.items.items() if item.rule == units.UNIT}
    return merge(into, Inventory(others, every.blind, every.unseen), known.seen)


def _home(reader: Reader, into: Inventory, home: str) -> None:
    place, entries = reader.entries(into, f"{home}/.ssh")
    for entry in entries:
        if entry.name in ("authorized_keys", "authorized_keys2"):
            reader.entry(into, f"{place}/{entry.name}", entry, KEYS)
        elif entry.name == "rc":
            reader.entry(into, f"{place}/{entry.name}", entry, PROFILE)
    for name in OF_A_HOME:
        reader.file(into, f"{home}/{name}", PROFILE)


def _keys_elsewhere(reader: Reader, into: Inventory, known: list[accounts.Account]) -> None:
    """Where sshd_config says that keys are; source: sshd_config(5), AuthorizedKeysFile and TOKENS."""
    files = [SSHD_CONFIG, *(path for path in into.items if path.startswith(f"{SSHD_FOLDER}/"))]
    patterns = [pattern for path in files for pattern in key_patterns(reader.text(into, path))]
    for pattern in dict.fromkeys(patterns):
        folder, _slash, name = pattern.rpartition("/")
        if pattern.startswith("/") and "%" not in folder and "%" in name:
            reader.folder(into, folder, KEYS)
            continue
        for path in {_expanded(pattern, account) for account in known}:
            reader.file(into, path, KEYS)


def key_patterns(text: str) -> list[str]:
    """What AuthorizedKeysFile names in the text of an sshd_config, but for the usual places."""
    lines = re.findall(r"^[ \t]*AuthorizedKeysFile(?:[ \t]*=[ \t]*|[ \t]+)(.+)$", text, re.MULTILINE | re.IGNORECASE)
    names = [name.strip('"') for line in lines for name in line.split()]
    usual = re.compile(r"(%h/)?\.ssh/authorized_keys2?\Z|none\Z", re.IGNORECASE)
    return [name for name in names if name and not usual.match(name) and "\0" not in name]


def _expanded(pattern: str, account: accounts.Account) -> str:
    tokens = {"%%": "%", "%h": account.home, "%u": account.name, "%U": str(account.uid)}
    path = re.sub("%[%huU]", lambda token: tokens[token.group()], pattern)
    return path if path.startswith("/") else f"{account.home.rstrip('/')}/{path}"


def _holds_another(folder: str, folders: Sequence[str]) -> bool:
    return any(one.startswith(f"{folder.rstrip('/')}/") and one.rstrip("/") != folder.rstrip("/") for one in folders)


def _setuid(reader: Reader, into: Inventory, path: str, visited: set[str], *, below: bool = True) -> None:
    """Adds the setuid and setgid files of a folder and of the folders right within it."""
    place, entries = reader.entries(into, path, visited)
    inner = 0
    for entry in entries:
        try:
            if entry.is_file(follow_symlinks=False):
                if entry.stat(follow_symlinks=False).st_mode & (stat.S_ISUID | stat.S_ISGID):
                    reader.entry(into, f"{place}/{entry.name}", entry, SETUID)
            elif below and entry.is_dir(follow_symlinks=False):
                inner += 1
                if inner <= MOST_FOLDERS:
                    _setuid(reader, into, f"{place}/{entry.name}", visited, below=False)
        except OSError as error:
            reader.failed(into, f"{place}/{entry.name}", error)
    if inner > MOST_FOLDERS:
        into.add_blind(place, f"{place} holds more than {MOST_FOLDERS} folders; the rest was not looked into.")


def _accounts(into: Inventory, known: list[accounts.Account]) -> None:
    for account in known:
        if account.uid == 0:
            into.items[f"{accounts.PASSWD}:{account.name}"] = Item(UID0, "account", "", 0, 0, 0)
