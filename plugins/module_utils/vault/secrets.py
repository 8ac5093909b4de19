# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof that a secret can be read: KV version 1 and 2, and paths that issue a lease."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from .client import VaultClient
from .errors import VaultApiError, VaultError, VaultPermissionError


@dataclass(frozen=True)
class SecretProof:
    """What was read.

    Attributes:
        path: as the operator named it.
        readable: whether values came back.
        problem: why not, else None.
        fields: names of the fields, sorted.
        values: the secret itself; only filled when asked for.
        kind: ``kv1``, ``kv2`` or ``dynamic``.
        lease_id: of a dynamic secret.
        lease_duration: seconds, of a dynamic secret.
        lease_revoked: whether the lease made for this proof was given back.
        version: of a KV version 2 secret.
    """

    path: str
    readable: bool
    problem: Optional[str] = None
    fields: list[str] = field(default_factory=list)
    values: Optional[Mapping[str, Any]] = field(default=None, repr=False)
    kind: Optional[str] = None
    lease_id: Optional[str] = None
    lease_duration: Optional[int] = None
    lease_revoked: Optional[bool] = None
    version: Optional[int] = None


def prove(client: VaultClient, path: str, values: bool = False, revoke_lease: bool = True) -> SecretProof:
    """Reads a path as an application would; a lease that this creates is revoked again.

    Args:
        path: as for ``vault kv get`` or ``vault read``: ``secret/app/db``, ``database/creds/readonly``.
        values: returns the values too.
        revoke_lease: False leaves a dynamic secret valid, for a caller that wants to use it.

    Returns:
        A proof; a missing secret and a refused one are answers, with the reason in `problem`.

    Raises:
        VaultError: the server cannot be asked at all (unreachable, sealed, token not valid).
    """
    path = path.strip("/")
    try:
        mount = _mount(client, path)
        kv2 = mount is not None and (mount.get("options") or {}).get("version") == "2"
        read_path = path
        if kv2 and mount is not None:
            prefix = str(mount["path"])
            inner = path[len(prefix) :]
            read_path = path if inner.startswith("data/") else f"{prefix}data/{inner}"
        answer = client.request("GET", read_path)
    except VaultPermissionError as error:
        return SecretProof(path, False, problem=str(error))
    except VaultApiError as error:
        if error.status == 307:
            # A standby that has no connection to the leader yet, as in the moments after its start.
            raise
        if error.status == 404:
            return SecretProof(path, False, problem=f"There is nothing at {path} in {client.connection.url}.")
        return SecretProof(path, False, problem=str(error))
    data = answer.get("data") or {}
    version = None
    if kv2:
        version = (data.get("metadata") or {}).get("version")
        data = data.get("data") or {}
    lease = answer.get("lease_id") or None
    revoked = _revoke(client, lease) if lease and revoke_lease else None
    return SecretProof(
        path,
        readable=bool(data),
        problem=None if data else f"{path} in {client.connection.url} holds no field: deleted, or empty.",
        fields=sorted(data),
        values=data if values else None,
        kind="kv2" if kv2 else ("dynamic" if lease else "kv1"),
        lease_id=lease,
        lease_duration=answer.get("lease_duration") if lease else None,
        lease_revoked=revoked,
        version=version,
    )


def _mount(client: VaultClient, path: str) -> Optional[dict[str, Any]]:
    """The mount a path lies in, as ``vault kv`` finds it; None where it is not told."""
    try:
        return client.request("GET", f"sys/internal/ui/mounts/{path}").get("data")
    except VaultPermissionError:
        # Vault says this, too, of a mount that is not there: let the read itself tell.
        return None


def _revoke(client: VaultClient, lease_id: str) -> bool:
    try:
        client.request("POST", "sys/leases/revoke", json={"lease_id": lease_id, "sync": True})
    except VaultError:
        return False
    return True
