# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run is told to do, checked before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import StoreError
from ..vault.client import Connection
from .backup import Destination
from .retention import Retention
from .stores import open_store

_FROM_ENVIRONMENT = {"url": "VAULT_ADDR", "ca_cert": "VAULT_CACERT", "namespace": "VAULT_NAMESPACE"}
_NUMBERS = {
    "first_byte_timeout": (600.0, 0.0),
    "max_key_loss_percent": (50.0, 0.0),
    "read_back_every": (7, 0),
    "min_interval": (0.0, 0.0),
}
"""Each option's default and least value."""

_KNOWN = {
    "vault",
    "destinations",
    "state_directory",
    "metrics_file",
    "only_on_leader",
    "accept_flagged",
    "seal_key_id",
    *_NUMBERS,
}


@dataclass(frozen=True)
class Settings:
    """The config of one run.

    Attributes:
        vault: options of the connection and the login, by the modules' names.
        state_directory: for the lock and what is remembered between runs.
        metrics_file: for node_exporter; None writes none.
        only_on_leader: does nothing unless the node at vault.url leads.
        first_byte_timeout: seconds for which the leader may be silent.
        max_key_loss_percent: so much of the keys may go from one snapshot to the next.
        read_back_every: every so many runs all copies are read back in full; 0 trusts checksums where there are some.
        min_interval: seconds; with a good snapshot that is younger in every required destination nothing is done.
        accept_flagged: takes a snapshot that would be flagged for a good one, for once.
        seal_key_id: key of Vault's seal, for the manifest: Vault does not tell.
    """

    vault: Mapping[str, Any]
    connection: Connection
    destinations: list[Destination]
    state_directory: Path
    metrics_file: Path | None
    only_on_leader: bool
    first_byte_timeout: float
    max_key_loss_percent: float
    read_back_every: int
    min_interval: float
    accept_flagged: bool
    seal_key_id: str | None

    @classmethod
    def from_config(cls, config: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
        """Checks a config. Raises StoreError or VaultConfigError, which say what is wrong with it."""
        unknown = sorted(set(config) - _KNOWN)
        if unknown:
            raise StoreError(f"The config has no option {unknown[0]}: it takes {', '.join(sorted(_KNOWN))}.")
        for name in ("only_on_leader", "accept_flagged"):
            if not isinstance(config.get(name), (bool, type(None))):
                raise StoreError(f"The config's {name} is {config[name]!r} and has to be true or false.")
        if not config.get("state_directory"):
            raise StoreError("The config needs state_directory, a folder for the lock and what is remembered.")
        vault = dict(config.get("vault") or {})
        for name, variable in _FROM_ENVIRONMENT.items():
            vault[name] = vault.get(name) or environ.get(variable)
        return cls(
            vault=vault,
            connection=Connection.from_options(vault),
            destinations=_destinations(config.get("destinations")),
            state_directory=Path(config["state_directory"]),
            metrics_file=cls.metrics_path(config),
            only_on_leader=bool(config.get("only_on_leader")),
            accept_flagged=bool(config.get("accept_flagged")),
            seal_key_id=config.get("seal_key_id"),
            **{name: _number(config, name) for name in _NUMBERS},
        )

    @staticmethod
    def metrics_path(config: Mapping[str, Any]) -> Path | None:
        """Where metrics go, also when the rest of the config is wrong."""
        return Path(config["metrics_file"]) if config.get("metrics_file") else None


def _number(config: Mapping[str, Any], name: str) -> Any:
    default, least = _NUMBERS[name]
    value = default if config.get(name) is None else config[name]
    if isinstance(value, bool) or not isinstance(value, (int, type(default))) or not value >= least:
        raise StoreError(f"The config's {name} is {value!r} and has to be a number of {least:g} or more.")
    return value


def _destinations(given: Any) -> list[Destination]:
    if not given:
        raise StoreError("The config names no destination: give destinations one or more, each with its type.")
    found = []
    for options in given:
        store_options = {name: value for name, value in options.items() if name not in ("required", "retention")}
        rule = options.get("retention")
        found.append(
            Destination(
                store=open_store(store_options),
                required=options.get("required") is not False,
                retention=Retention.from_options(rule) if rule else None,
            )
        )
    labels = [destination.store.label for destination in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise StoreError(f"The config names the destination {twice[0]} twice.")
    return found
