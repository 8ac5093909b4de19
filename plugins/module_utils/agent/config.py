# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command's configuration: one JSON file, and the secrets that it names but does not hold."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from typing import Any, Optional

from ..files import StoreError, explain, read_json

CREDENTIAL = "_credential"
SECRETS = frozenset(
    {"token", "secret_id", "password", "jwt", "aws_secret_key", "aws_security_token", "secret_key", "session_token"}
)
"""Options that are secret wherever they stand: those of Vault's logins and of the stores."""


class ConfigError(Exception):
    """The command cannot begin; the message says which file or option is at fault and what to do."""


def read_config(path: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The configuration in a file, each ``X_credential: NAME`` in it replaced by ``X`` with what the credential holds.

    Credentials are files: those of ``$CREDENTIALS_DIRECTORY``, where systemd puts them for the service, else those in
    the folder ``credentials`` beside the file, for a run by hand.

    Raises:
        ConfigError: a file is missing or damaged, or one that holds secrets can be read by everyone.
    """
    try:
        config = read_json(path)
        readable_by_all = bool(os.stat(path).st_mode & stat.S_IROTH)
    except FileNotFoundError as error:
        raise ConfigError(f"There is no {path}. Name the configuration with --config.") from error
    except StoreError as error:
        raise ConfigError(str(error)) from error
    inline = sorted(_inline_secrets(config))
    if inline and readable_by_all:
        raise ConfigError(
            f"{path} holds secrets ({', '.join(inline)}) and everyone on this host can read it. Give {inline[0]}"
            f"{CREDENTIAL} the name of a credential in its place, or: chmod o-r {path}. Then replace the secret."
        )
    folder = environ.get("CREDENTIALS_DIRECTORY") or os.path.join(os.path.dirname(path), "credentials")
    filled: dict[str, Any] = _filled(config, folder)
    return filled


def _inline_secrets(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        here = {name for name, item in value.items() if name in SECRETS and item}
        return here.union(*map(_inline_secrets, value.values()))
    return set().union(*map(_inline_secrets, value)) if isinstance(value, list) else set()


def _filled(value: Any, folder: str) -> Any:
    if isinstance(value, list):
        return [_filled(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    filled = {}
    for name, item in value.items():
        if name.endswith(CREDENTIAL):
            filled[name[: -len(CREDENTIAL)]] = _credential(folder, name, item)
        else:
            filled[name] = _filled(item, folder)
    return filled


def _credential(folder: str, option: str, name: Any) -> str:
    if not isinstance(name, str) or not name or "/" in name:
        raise ConfigError(f"{option} has to be the name of a file in {folder}, not a path and not the secret itself.")
    path = os.path.join(folder, name)
    try:
        with open(path, encoding="utf-8") as file:
            value = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = explain(error) if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"Cannot read {path}, which {option} names: {reason}. The service is given it by LoadCredential= "
            "in its unit; by hand, run this as root."
        ) from error
    if not value:
        raise ConfigError(f"{path}, which {option} names, is empty. Write the secret into it.")
    return value


def become_owner(folder: Optional[str]) -> None:
    """As root, becomes the user who owns this folder: a run by hand must leave no file that the service cannot write.

    Raises ConfigError where the owner has no name on this host.
    """
    if folder is None or os.geteuid() != 0 or not os.path.isdir(folder):
        return
    owner = os.stat(folder).st_uid
    if owner == 0:
        return
    try:
        user = pwd.getpwuid(owner)
    except KeyError as error:
        raise ConfigError(f"{folder} belongs to the user ID {owner}, which this host does not know.") from error
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
