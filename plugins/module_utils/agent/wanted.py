# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be on a host for one command of the agent, what is there, and what of it may be shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ..files import StoreError, explain, new_file, read_json
from . import zipapp
from .config import CREDENTIAL, SECRETS
from .errors import ServiceError

CONFIG_FOLDER, UNITS_FOLDER = "/etc/custodes", "/etc/systemd/system"
MASK = "(hidden)"
PYTHON = "/usr/bin/python3"
"""What runs the agent where nothing else is said and none is installed."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


class Wanted(NamedTuple):
    """What is to be there.

    Attributes:
        command: of the agent, such as "detect".
        path: of the agent.
        interpreter: that runs it; None for that of the agent which is installed.
        config: content of the command's configuration file.
        credentials: secrets by name.
        units: content of the systemd units by name, exactly one of them a service and one a timer.
    """

    command: str
    path: str
    interpreter: Optional[str]
    config: Mapping[str, Any]
    credentials: Mapping[str, str]
    units: Mapping[str, str]

    @property
    def service(self) -> str:
        return self._unit(".service")

    @property
    def timer(self) -> str:
        return self._unit(".timer")

    @property
    def config_file(self) -> str:
        return f"{CONFIG_FOLDER}/{self.command}.json"

    def check(self) -> None:
        """Raises ServiceError for a name that is none, and for units that are not a service and its timer."""
        for name in (self.command, *self.credentials, *self.units):
            if not _NAME.match(name):
                raise ServiceError(f"{name!r:.100} cannot be a name: use letters, digits, '_', '.' and '-'.")
        kinds = sorted(name.rpartition(".")[2] for name in self.units)
        if kinds != ["service", "timer"]:
            raise ServiceError("units has to hold one service and one timer, by their names.")
        empty = sorted(name for name, value in self.credentials.items() if not str(value).strip())
        if empty:
            raise ServiceError(f"The credential {empty[0]} is empty. Give it its secret.")

    def _unit(self, kind: str) -> str:
        return next(name for name in self.units if name.endswith(kind))


class File(NamedTuple):
    """A file that is to be there, owned by whoever runs this, who is root.

    Attributes: path; content; mode; what it is, for the list of changes; before and after, as a diff may show them.
    """

    path: str
    content: bytes
    mode: int
    what: str
    before: str
    after: str


class Host:
    """The files of a host. `root` stands for "/"."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def path(self, path: str) -> Path:
        """Where a path of the host lies."""
        return Path(self.root, path.lstrip("/"))

    def read(self, path: str) -> bytes:
        """What a file holds, nothing where there is none. Raises ServiceError."""
        try:
            return self.path(path).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ServiceError(f"Cannot read {path}: {explain(error)}. This has to run as root (become).") from error

    def json(self, path: str) -> dict[str, Any]:
        """What a configuration holds, nothing where there is none or no JSON: the new one replaces it."""
        with suppress(FileNotFoundError, StoreError):
            return read_json(self.path(path))
        return {}

    def is_as(self, file: File) -> bool:
        """Whether a file is as it is to be, owner and mode included."""
        if self.read(file.path) != file.content:
            return False
        with suppress(FileNotFoundError):
            now = self.path(file.path).lstat()
            return now.st_mode == 0o100000 | file.mode and now.st_uid == os.geteuid()
        return False

    def write(self, file: File) -> None:
        """Puts the whole file there. Raises StoreError."""
        if file.mode == zipapp.MODE:
            zipapp.write(self.path(file.path), file.content)
            return
        with new_file(self.path(file.path)) as new:
            new.write(file.content)
            os.fchmod(new.fileno(), file.mode)

    def other_configs(self, command: str) -> list[str]:
        """The configurations of the agent's other commands."""
        return sorted(
            f"{CONFIG_FOLDER}/{path.name}"
            for path in self.path(CONFIG_FOLDER).glob("*.json")
            if path.name != f"{command}.json"
        )


def interpreter_of(agent: bytes) -> Optional[str]:
    """The Python that an installed agent names in its first line; None for what is no agent."""
    first = agent[:300].split(b"\n", 1)[0]
    found = re.match(rb"#!(/\S+) -IS?\Z", first)
    return os.fsdecode(found.group(1)) if found else None


def files(host: Host, wanted: Wanted, agent: bytes, interpreter: str) -> list[File]:
    """Every file that is to be there, in the order in which they are written: the units, which use the rest, last.

    A credential is among them even if it need not be written; its content is in no diff.
    """
    new = zipapp.build(interpreter)
    found = [File(wanted.path, new, zipapp.MODE, "agent", zipapp.describe(agent), zipapp.describe(new))]
    for name, value in sorted(wanted.credentials.items()):
        path = credential_path(name)
        there = MASK if host.path(path).exists() else ""
        found.append(File(path, str(value).encode(), 0o600, f"credential {name}", there, f"{MASK}, new"))
    config = (json.dumps(wanted.config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
    before = shown(host.json(wanted.config_file))
    found.append(File(wanted.config_file, config, 0o600, "configuration", before, shown(wanted.config)))
    for name, content in sorted(wanted.units.items()):
        path = f"{UNITS_FOLDER}/{name}"
        text = content if content.endswith("\n") else f"{content}\n"
        before = host.read(path).decode(errors="replace")
        found.append(File(path, text.encode(), 0o644, f"unit {name}", before, text))
    return found


def credential_path(name: str) -> str:
    """Where a credential lies."""
    return f"{CONFIG_FOLDER}/credentials/{name}"


def credential_names(config: Any) -> set[str]:
    """The credentials that a configuration names, ``X_credential: NAME``, whose name could be one."""
    if isinstance(config, list):
        return set().union(*map(credential_names, config))
    if not isinstance(config, Mapping):
        return set()
    here = {
        value
        for name, value in config.items()
        if name.endswith(CREDENTIAL) and isinstance(value, str) and _NAME.match(value)
    }
    return here.union(*map(credential_names, config.values()))


def orphans(host: Host, wanted: Wanted, kept: set[str]) -> list[str]:
    """Credentials of this command that it needs no longer, and no other one names: those that are there."""
    mine = credential_names(host.json(wanted.config_file)) | set(wanted.credentials)
    others = set().union(*(credential_names(host.json(path)) for path in host.other_configs(wanted.command)))
    return sorted(name for name in mine - kept - others if host.path(credential_path(name)).is_file())


def inline_secrets(config: Any, *, webhook: bool = False) -> Iterator[str]:
    """The secrets that stand in a configuration itself. A webhook's URL is one: many ask for no more."""
    if isinstance(config, list):
        for item in config:
            yield from inline_secrets(item, webhook=webhook)
    elif isinstance(config, Mapping):
        for name, value in config.items():
            if isinstance(value, str) and value and _is_secret(name, webhook=webhook):
                yield value
            else:
                yield from inline_secrets(value, webhook=webhook or name == "destinations")


def shown(config: Mapping[str, Any]) -> str:
    """A configuration as a diff may show it: JSON, without the secrets in it; "" for an empty one."""
    return json.dumps(_masked(config), indent=2, sort_keys=True, ensure_ascii=False) + "\n" if config else ""


def _is_secret(name: str, *, webhook: bool) -> bool:
    return name in SECRETS or (webhook and name in ("url", "proxy"))


def _masked(value: Any, *, webhook: bool = False) -> Any:
    if isinstance(value, list):
        return [_masked(item, webhook=webhook) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: MASK
        if item and isinstance(item, str) and _is_secret(name, webhook=webhook)
        else _masked(item, webhook=webhook or name == "destinations")
        for name, item in value.items()
    }
