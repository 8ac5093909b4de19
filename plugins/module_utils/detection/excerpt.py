# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of a file that has changed: enough to judge it, and nothing that may be a secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from . import commands

MOST_LINES = 10

_UNIT_LINE = re.compile(r"(?:Exec\w+|On\w+|Listen\w+|Path\w+|Unit|User|Group|WantedBy|EnvironmentFile)\s*=")
_ASSIGNMENT = re.compile(r"((?:export\s+)?[A-Za-z_]\w*\s*=).*", re.DOTALL)
_AT_PREAMBLE = re.compile(r"^cd .*\|\| \{\n(?:.*\n){2}\}\n(?:\$\{SHELL:-/bin/sh\} <<.*\n)?", re.MULTILINE)
_KEY_TYPE = re.compile(r"(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[\w@.-]+\Z")


def lines(rule: str, text: str) -> list[str]:
    """At most MOST_LINES lines that tell what the content does, none where it may hold secrets."""
    shown = _SHOWN.get(rule, _nothing)(text)
    if rule in _COMMANDS:
        told = [line if line.endswith("=…") else commands.masked(line) for line in shown[:MOST_LINES]]
        shown = told + shown[MOST_LINES:]
    return shown if len(shown) <= MOST_LINES else [*shown[:MOST_LINES], f"… {len(shown) - MOST_LINES} more lines"]


def _plain(text: str) -> list[str]:
    """Lines that are no comments; of assignments the name alone: cron's environment may hold a password."""
    stripped = (line.strip() for line in text.split("\n"))
    told = [line for line in stripped if line and (not line.startswith("#") or line.startswith(("#!", "#include")))]
    return [_ASSIGNMENT.sub(r"\1…", line) if _ASSIGNMENT.match(line) else line for line in told]


def _sudoers(text: str) -> list[str]:
    stripped = (line.strip() for line in text.split("\n"))
    return [line for line in stripped if line and (not line.startswith("#") or line.startswith("#include"))]


def _unit(text: str) -> list[str]:
    stripped = (line.strip() for line in text.split("\n"))
    return [line for line in stripped if _UNIT_LINE.match(line)]


def _at(text: str) -> list[str]:
    """What follows at's own preamble, which holds the whole environment of who called it."""
    start = _AT_PREAMBLE.search(text)
    return _plain(text[start.end() :]) if start else []


def _keys(text: str) -> list[str]:
    """Type, fingerprint as `ssh-keygen -l` has it, and comment of each key; no options: they may hold a secret.

    Of sshd_config what it says of keys.
    """
    told = []
    for line in text.split("\n"):
        words = line.split()
        if line.startswith("#"):
            continue
        if words and words[0].lower().startswith("authorizedkeys"):
            told.append(line.strip())
        for position, word in enumerate(words[:-1]):
            if _KEY_TYPE.match(word):
                try:
                    blob = base64.b64decode(words[position + 1], validate=True)
                except (binascii.Error, ValueError):
                    continue
                digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
                told.append(" ".join([word, f"SHA256:{digest}", *words[position + 2 :]]))
                break
    return told


def _nothing(_text: str) -> list[str]:
    return []


_SHOWN = {
    "schedule.cron": _plain,
    "schedule.at": _at,
    "schedule.timer": _unit,
    "persistence.unit": _unit,
    "persistence.authorized_keys": _keys,
    "persistence.ld_preload": _plain,
    "persistence.sudoers": _sudoers,
}
_COMMANDS = ("schedule.cron", "schedule.at", "schedule.timer", "persistence.unit")
"""Rules whose lines are command lines, in which passwords may stand."""
