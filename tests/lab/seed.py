# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts into a fresh Vault what a real one has: secrets, policies, logins, leased database credentials."""

from __future__ import annotations

import base64
import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import hvac
import requests

from .postgres import Postgres
from .processes import LabError, wait_for
from .vault import VaultCluster

if TYPE_CHECKING:
    from .lab import Lab

_RECOVERY_POLICY = """
path "secret/data/dr/*" { capabilities = ["read"] }
path "kv1/dr/*" { capabilities = ["read"] }
path "database/creds/readonly" { capabilities = ["read"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/storage/raft/configuration" { capabilities = ["read"] }
path "sys/storage/raft/autopilot/state" { capabilities = ["read"] }
"""
_SNAPSHOT_POLICY = 'path "sys/storage/raft/snapshot" { capabilities = ["read"] }\n'
_CREATE_ROLE = (
    "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"
    ' GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";'
)


@dataclass(frozen=True)
class AppRole:
    """A login of the auth method `approle/`."""

    role_id: str
    secret_id: str


@dataclass(frozen=True)
class Seed:
    """What was put in, for a test to find again after a recovery.

    Attributes:
        dynamic_canaries: paths that issue credentials; empty where the server has no database engine.
    """

    recovery: AppRole
    snapshot: AppRole
    value: dict[str, str]
    user: str = "operator"
    password: str = field(default_factory=secrets.token_urlsafe)
    canary: str = "secret/dr/canary"
    canary_v1: str = "kv1/dr/canary"
    dynamic_canaries: tuple[str, ...] = ()


def seed(cluster: VaultCluster, lab: Lab | None = None) -> Seed:
    """Fill an initialized cluster, with a `database/` engine in the lab's PostgreSQL if the server has that engine."""
    client = cluster.client()
    seeded_value = {"value": os.urandom(8).hex()}
    client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    client.sys.enable_secrets_engine("kv", path="kv1", options={"version": "1"})
    _write_v2(client, "dr/canary", seeded_value)
    for name in ("app/api", "app/database", "team/pager"):
        _write_v2(client, name, {"token": os.urandom(16).hex()})
    client.secrets.kv.v1.create_or_update_secret("dr/canary", secret=seeded_value, mount_point="kv1")
    dynamic: tuple[str, ...] = ()
    if lab is not None and has_database(cluster):
        _enable_database(client, lab.postgres)
        dynamic = ("database/creds/readonly",)
    client.sys.enable_auth_method("approle")
    seeded = Seed(
        recovery=_approle(client, "recovery", "recovery-verify", _RECOVERY_POLICY),
        snapshot=_approle(client, "snapshot", "snapshot", _SNAPSHOT_POLICY),
        value=seeded_value,
        dynamic_canaries=dynamic,
    )
    client.sys.enable_auth_method("userpass")
    client.auth.userpass.create_or_update_user(seeded.user, seeded.password, policies="recovery-verify")
    return seeded


def has_database(cluster: VaultCluster) -> bool:
    """Return whether the server has the database engine, which the lab's build of Vault leaves out."""
    answer = cluster.leader().request("LIST", "sys/plugins/catalog/database", token=cluster.root_token)
    return answer.ok and "postgresql-database-plugin" in answer.json()["data"]["keys"]


def fill(cluster: VaultCluster, mib: int, value_kib: int = 512, *, threads: int = 8) -> None:
    """Write `mib` MiB that do not compress to `kv1/fill/…`, in values of `value_kib` KiB (Vault takes up to 1024)."""
    leader, local = cluster.leader(), threading.local()

    def write(number: int) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.trust_env = False
        answer = local.session.put(
            f"{leader.address}/v1/kv1/fill/{number}",
            json={"value": base64.b64encode(os.urandom(value_kib * 768)).decode()},
            headers={"X-Vault-Token": cluster.root_token},
            verify=str(cluster.ca_file),
            timeout=60,
        )
        if not answer.ok:
            raise LabError(f"kv1/fill/{number} was not written: {answer.status_code} {answer.text[:300]}")

    with ThreadPoolExecutor(max_workers=threads) as pool:
        for _unused in pool.map(write, range(mib * 1024 // value_kib)):
            pass


def _write_v2(client: hvac.Client, path: str, secret: dict[str, str]) -> None:
    # The upgrade of a new version 2 mount runs in the background; until it is done, writes get a 400 that says so.
    def written() -> bool:
        try:
            client.secrets.kv.v2.create_or_update_secret(path, secret=secret)
        except hvac.exceptions.InvalidRequest as error:
            if "Upgrading" not in str(error):
                raise
            return False
        return True

    wait_for("secret/ is upgraded to version 2", written)


def _approle(client: hvac.Client, name: str, policy: str, rules: str) -> AppRole:
    client.sys.create_or_update_policy(policy, rules)
    client.auth.approle.create_or_update_approle(name, token_policies=[policy], token_ttl="1h")
    return AppRole(
        role_id=client.auth.approle.read_role_id(name)["data"]["role_id"],
        secret_id=client.auth.approle.generate_secret_id(name)["data"]["secret_id"],
    )


def _enable_database(client: hvac.Client, postgres: Postgres) -> None:
    client.sys.enable_secrets_engine("database")
    client.secrets.database.configure(
        "postgres",
        plugin_name="postgresql-database-plugin",
        allowed_roles=["readonly"],
        connection_url=postgres.connection_url,
        username=postgres.user,
        password=postgres.password,
    )
    client.secrets.database.create_role(
        "readonly", db_name="postgres", creation_statements=[_CREATE_ROLE], default_ttl="1h", max_ttl="24h"
    )
