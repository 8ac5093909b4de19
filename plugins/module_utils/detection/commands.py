# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command lines as the kernel tells them: split into arguments, and shown without the passwords that stand in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

HIDDEN = "***"
READ = 2 * 1024 * 1024
"""Bytes that are read of one: as much as the kernel lets a program be started with by default."""
MOST = 10_000
"""Arguments that are looked at of one. Each costs microseconds, and whoever chooses them must not choose how long."""
SHOWN = 4096
"""Bytes of a command line that are shown; what comes after is counted only."""

_CONFIDENTIAL = (
    r"(?:pass(?!ive|enger|through|-through)|pwd|secret|token|credential|api[_-]?key|access[_-]?key|"
    r"private[_-]?key|authori[sz]ation)"
)
_VALUE = r"""["']?(?:(?:bearer|basic|token)\s{1,3})?[^\s&;"',]+"""
# Every repetition has a bound: whoever chooses the text must not choose how long this takes.
# Compiled when they are first needed, which on most hosts is never.
_OPTION = rf"(?i)-{{1,2}}(?:[\w.-]{{0,40}}{_CONFIDENTIAL}[\w.-]{{0,40}}|(?:[\w-]{{0,40}}-)?(?:pass|auth|key)|p)"
_NAMED = rf"""(?i)({_CONFIDENTIAL}[\w.-]{{0,40}}["']?\s{{0,3}}[=:]\s{{0,3}}){_VALUE}"""
_FOLLOWED = rf"(?i)(-{_CONFIDENTIAL}[\w.-]{{0,40}}\s{{1,3}}|(?<!\S)--?pass[=:\s]){_VALUE}"
# curl -u, and the like of it; two numbers are a user and a group.
_USER = r"((?<!\S)(?:-u|-U|--user|--proxy-user)[\s=]?[^\s:=@/]{1,100}[:%])(?!\d+(?:\s|$))[^\s\"']+"
_ACCOUNT = ("-u", "-U", "--user", "--proxy-user")
_GLUED = r"((?<!\S)-p)(?!(?:ools?|orts?|id|idfile|ath|refix|rofile|ass)\b)[^\s=/-][^\s]*"
_IN_URL = r"(?i)\b([a-z][\w+.-]{0,30}://[^\s/@:]*):[^\s/@]+@"
_ALONE_IN_URL = r"(?i)\b(https?://)[^\s/@:]+(?=@)"


def arguments(command: bytes) -> Iterator[str]:
    """The arguments of a command line, up to MOST; a title, which is one text, is taken apart at its spaces."""
    text = command.rstrip(b"\0")
    for argument in text.split(b"\0", MOST)[:MOST] if b"\0" in text else text.split(None, MOST)[:MOST]:
        yield os.fsdecode(argument)


def too_long(command: bytes) -> bool:
    """Whether there is more of it than is looked at."""
    if len(command) <= MOST:
        return False
    return len(command) >= READ or max(command.rstrip(b"\0").count(b"\0"), command.count(b" ")) >= MOST


def shown(command: bytes) -> str:
    """The beginning of a command line for a person, each password, token and key in it as ``***``."""
    parts: list[str] = []
    secret, before = False, ""
    for argument in command[:SHOWN].rstrip(b"\0").split(b"\0"):
        text = os.fsdecode(argument)
        if secret and not text.startswith("/"):
            parts.append(HIDDEN)
        elif before in _ACCOUNT:
            parts.append(masked(f"{before} {text}")[len(before) + 1 :])
        else:
            parts.append(masked(text))
        before = text
        secret = bool(re.fullmatch(_OPTION, text))
    if len(command) > SHOWN:
        parts.append(f"…({len(command) - SHOWN} more bytes)")
    return " ".join(parts)


def masked(argument: str) -> str:
    """One argument, what in it looks like a secret as ``***``: values of passwords and tokens, credentials in URLs."""
    text = re.sub(_IN_URL, rf"\1:{HIDDEN}@", argument)
    for pattern in (_ALONE_IN_URL, _NAMED, _FOLLOWED, _USER, _GLUED):
        text = re.sub(pattern, rf"\1{HIDDEN}", text)
    return text
