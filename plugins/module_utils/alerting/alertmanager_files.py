# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives a running Alertmanager a configuration: judged before, proven after, taken back when it is not taken.

Source: Alertmanager's documentation, "Management API"; config/coordinator.go of 0.25 for the metric
alertmanager_config_hash.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Optional
from urllib.parse import urlsplit

from ..files import StoreError, explain
from ..owned_files import Change, Content, put, read
from .errors import AlertingError
from .prometheus import Http

HEADER = (
    b"# Written by custodes.security_dr.alertmanager_config, which replaces it whole. What was here before: *.orig\n"
)
SECRETS = "alertmanager-secrets"
"""The folder beside the configuration."""
FILE_MODE = 0o640
FOLDER_MODE = 0o750
LONGEST = 1024 * 1024
"""Bytes of a configuration or a secret."""
PAUSE = 0.5
"""Seconds between two attempts to reach it."""


class Running:
    """An Alertmanager that runs.

    Args:
        url: its base, with the path of a proxy if there is one.
        ca_cert: a PEM file; None stands for the system's.
        patience: seconds for one that was just started to answer.

    Raises AlertingError.
    """

    def __init__(
        self,
        url: str,
        ca_cert: Optional[str] = None,
        patience: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url.rstrip("/")
        self._http = Http(url, ca_cert or "", what="Alertmanager")
        self._patience = patience
        self._sleep = sleep
        self._monotonic = monotonic

    def config_hash(self) -> int:
        """What stands for the configuration that it uses, as hash_of() has it. Raises AlertingError."""
        told = self._ask("/metrics", "GET")
        found = re.search(r"^alertmanager_config_hash (\S+)$", told, re.MULTILINE)
        if not found:
            raise AlertingError(f"{self.url}/metrics has no alertmanager_config_hash. Is this Alertmanager's address?")
        return int(float(found[1]))

    def reload(self) -> None:
        """Has it read its configuration anew; it answers when it has. Raises AlertingError."""
        self._ask("/-/reload", "POST")

    def _ask(self, path: str, method: str) -> str:
        end = self._monotonic() + self._patience
        while True:
            try:
                status, told = self._http(method, path)
                break
            except AlertingError as error:
                reason = getattr(error.__cause__, "reason", None)
                if not isinstance(reason, ConnectionRefusedError) or self._monotonic() >= end:
                    raise AlertingError(f"{error} With 'reload' false nothing is asked or proven.") from error
            self._sleep(PAUSE)
        if status != 200:
            raise AlertingError(f"Alertmanager at {self.url} answers {status} to {path}: {told[:1000].strip()}.")
        return told


def hash_of(data: bytes) -> int:
    """Alertmanager's metric for a configuration: the first 48 bits of its MD5, little end first."""
    return int.from_bytes(hashlib.md5(data, usedforsecurity=False).digest()[:6], "little")


def text_of(config: Mapping[str, Any]) -> bytes:
    """The file of a configuration. JSON is YAML."""
    return HEADER + json.dumps(config, indent=2).encode() + b"\n"


def shown(content: Optional[Content]) -> str:
    """A configuration for a diff: of a webhook's URL the host only, of somebody else's configuration nothing."""
    if content is None:
        return ""
    if not content.data.startswith(HEADER):
        return "(not written by this module, and not shown: it may hold secrets)\n"
    try:
        config = json.loads(content.data[len(HEADER) :])
        for receiver in config["receivers"]:
            for hook in receiver.get("webhook_configs", []):
                parts = urlsplit(hook["url"])
                hook["url"] = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/(not shown)"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "(changed by hand, and not shown: it may hold secrets)\n"
    return json.dumps(config, indent=2) + "\n"


class ConfigFiles:
    """The configuration, its secrets, and the Alertmanager that reads them.

    Args:
        dest: the configuration, which --config.file names.
        group: that Alertmanager runs as.
        check: runs amtool over a file; gives its exit code and what it said.
        running: to be reloaded and asked; None leaves that to somebody else.

    Raises AlertingError, as all of its methods, and StoreError where a file cannot be read or written.
    """

    def __init__(
        self, dest: str, group: str, check: Callable[[str], tuple[int, str]], running: Optional[Running]
    ) -> None:
        self.dest = dest
        self.secrets_folder = os.path.join(os.path.dirname(dest), SECRETS)
        self._original = f"{dest}.orig"
        self._check = check
        self._running = running
        if not os.path.isdir(os.path.dirname(dest)):
            raise AlertingError(f"There is no folder {os.path.dirname(dest)}. Install Alertmanager first.")
        try:
            self._gid = grp.getgrnam(group).gr_gid
        except KeyError:
            raise AlertingError(f"There is no group {group} here: name the one that Alertmanager runs as.") from None

    def wanted(self, config: bytes, secrets: Mapping[str, str]) -> list[Change]:
        """What is not as it should be: secrets first, the configuration, last what is to go."""
        now = read(self.dest, LONGEST)
        every = [self._file(os.path.join(self.secrets_folder, name), text.encode()) for name, text in secrets.items()]
        if now and not now.data.startswith(HEADER):
            every.append(Change(self._original, read(self._original, LONGEST), now))
        every.append(self._file(self.dest, config))
        every += self._secrets_gone(secrets)
        return [one for one in every if one.before != one.after]

    def unwanted(self) -> list[Change]:
        """What has to change so that all is as it was before the module came."""
        now, original = read(self.dest, LONGEST), read(self._original, LONGEST)
        if now is None or not now.data.startswith(HEADER):
            # A run that was killed has put it back and removed no more.
            left = [Change(self._original, original, None)] if original and original == now else []
            return [*left, *self._secrets_gone(())]
        if original is None:
            raise AlertingError(
                f"There was no configuration before {self.dest}, so there is none to go back to: write another one, or "
                "remove Alertmanager itself."
            )
        return [
            Change(self.dest, now, original),
            Change(self._original, original, None),
            *self._secrets_gone(()),
        ]

    def _file(self, path: str, data: bytes) -> Change:
        return Change(path, read(path, LONGEST), Content(data, FILE_MODE, os.geteuid(), self._gid))

    def _secrets_gone(self, kept: Sequence[str] | Mapping[str, str]) -> list[Change]:
        try:
            names = sorted(os.listdir(self.secrets_folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise AlertingError(f"Cannot read {self.secrets_folder}: {explain(error)}.") from error
        paths = [os.path.join(self.secrets_folder, name) for name in names if name not in kept]
        return [Change(path, read(path, LONGEST), None) for path in paths]

    def check(self, changes: Sequence[Change]) -> None:
        """Has amtool judge the configuration, under a name that Alertmanager does not read."""
        after = next((one.after for one in changes if one.path == self.dest), None)
        if after is None:
            return
        trial = f"{self.dest}.{os.getpid()}.trial"
        try:
            put(trial, after._replace(mode=0o600))
            code, said = self._check(trial)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(trial)
        if code != 0:
            said = said.replace(trial, self.dest).strip()[-1500:]
            raise AlertingError(f"amtool refuses {self.dest}: {said} Nothing was changed.")

    def stale(self, changes: Sequence[Change]) -> bool:
        """Whether Alertmanager uses another configuration than the file will be."""
        if self._running is None:
            return False
        after = next((one.after for one in changes if one.path == self.dest), None) or read(self.dest, LONGEST)
        return after is not None and self._running.config_hash() != hash_of(after.data)

    def apply(self, changes: Sequence[Change]) -> None:
        """Writes them, reloads and asks whether it uses them; else all is as it was."""
        there = os.path.isdir(self.secrets_folder)
        try:
            self._make_folder(changes)
            for one in changes:
                if one.after is not None:
                    put(one.path, one.after)
            self._reload()
        except (AlertingError, StoreError) as error:
            for one in changes:
                put(one.path, one.before)
            if not there:
                self._remove_folder()
            with suppress(AlertingError, StoreError):
                self._reload()
            raise AlertingError(f"{error} The files are as they were before.") from error
        # Nothing reads these any longer.
        for one in changes:
            if one.after is None:
                put(one.path, None)
        self._remove_folder()

    def _reload(self) -> None:
        if self._running is None:
            return
        now = read(self.dest, LONGEST)
        self._running.reload()
        if now is not None and self._running.config_hash() != hash_of(now.data):
            raise AlertingError(
                f"Alertmanager at {self._running.url} was reloaded and does not use {self.dest}: its --config.file "
                "names another file, or this is another Alertmanager."
            )

    def _make_folder(self, changes: Sequence[Change]) -> None:
        if not any(one.after and os.path.dirname(one.path) == self.secrets_folder for one in changes):
            return
        try:
            # Not what a link leads to, should the user of Alertmanager have put one there.
            if not os.path.islink(self.secrets_folder):
                os.makedirs(self.secrets_folder, exist_ok=True)
            handle = os.open(self.secrets_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchown(handle, -1, self._gid)
                os.fchmod(handle, FOLDER_MODE)
            finally:
                os.close(handle)
        except OSError as error:
            raise AlertingError(f"Cannot make {self.secrets_folder}: {explain(error)}.") from error

    def _remove_folder(self) -> None:
        # One that still holds secrets stays.
        with suppress(OSError):
            os.rmdir(self.secrets_folder)
