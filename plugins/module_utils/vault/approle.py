# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nightly snapshot may do in Vault, and no more: one policy, and one AppRole that has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from .client import VaultClient
from .errors import VaultApiError

SNAPSHOT_POLICY = """\
# What a backup needs: the snapshot itself, and to revoke its own token. Everything else is refused.
path "sys/storage/raft/snapshot" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
"""

TOKEN_TTL, TOKEN_MAX_TTL = 3600, 4 * 3600
"""Seconds. The token is only asked about when a request begins; a run revokes its own when it ends."""


def _read(client: VaultClient, path: str) -> Optional[dict[str, Any]]:
    """The ``data`` of a path, None where there is nothing. Raises VaultError."""
    try:
        return dict(client.request("GET", path).get("data") or {})
    except VaultApiError as error:
        if error.status == 404:
            return None
        raise


def set_policy(client: VaultClient, name: str, text: str, write: bool) -> bool:
    """Gives the ACL policy this text; whether that is (with `write` False: would be) a change. Raises VaultError."""
    now = _read(client, f"sys/policies/acl/{name}")
    if now is not None and now.get("policy") == text:
        return False
    if write:
        client.request("PUT", f"sys/policies/acl/{name}", json={"policy": text})
    return True


def enable(client: VaultClient, mount: str, write: bool) -> bool:
    """Enables AppRole at this mount, where it is not; whether that is a change. Raises VaultError."""
    mounts = _read(client, "sys/auth") or {}
    if f"{mount.strip('/')}/" in mounts:
        return False
    if write:
        client.request("POST", f"sys/auth/{mount}", json={"type": "approle"})
    return True


def set_role(client: VaultClient, mount: str, name: str, wanted: Mapping[str, Any], write: bool) -> bool:
    """Gives the AppRole these settings, the others stay; whether that is a change. Raises VaultError."""
    now = _read(client, f"auth/{mount}/role/{name}")
    if now is not None and all(_same(now.get(option), value) for option, value in wanted.items()):
        return False
    if write:
        client.request("POST", f"auth/{mount}/role/{name}", json=dict(wanted))
    return True


def _same(now: Any, wanted: Any) -> bool:
    return sorted(now or []) == sorted(wanted) if isinstance(wanted, list) else now == wanted


def snapshot_role(policy: str, bound_cidrs: Sequence[str], secret_id_ttl: int) -> dict[str, Any]:
    """The settings of an AppRole that takes snapshots.

    Args:
        policy: the one policy of its tokens.
        bound_cidrs: where logins and their tokens may come from, as Vault tells it back; empty for anywhere.
        secret_id_ttl: seconds that a secret ID lives, 0 for ever.
    """
    return {
        "token_policies": [policy],
        "token_no_default_policy": True,
        "token_ttl": TOKEN_TTL,
        "token_max_ttl": TOKEN_MAX_TTL,
        "token_bound_cidrs": list(bound_cidrs),
        "secret_id_bound_cidrs": list(bound_cidrs),
        "secret_id_ttl": secret_id_ttl,
        "secret_id_num_uses": 0,
    }


def role_id(client: VaultClient, mount: str, name: str) -> Optional[str]:
    """The role ID, None where there is no such role. Raises VaultError."""
    found = _read(client, f"auth/{mount}/role/{name}/role-id")
    return str(found["role_id"]) if found else None


def new_secret_id(client: VaultClient, mount: str, name: str) -> str:
    """A new secret ID of the role. Raises VaultError."""
    answer = client.request("POST", f"auth/{mount}/role/{name}/secret-id")
    return str(answer["data"]["secret_id"])
