# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root tokens from key shares, and which servers refuse them. No message, and no exception of this file, holds a key.

Sources: Vault's API documentation of sys/generate-root, the release notes of OpenBao 2.5.3 and of Vault 2.0. Both
refuse the requests without a token since CVE-2026-5807: OpenBao 2.6.2 answers 405 (tried), Vault 2 answers 403 (read).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Optional

from .client import VaultClient
from .errors import VaultApiError, VaultConfigError, VaultError, VaultPermissionError
from .operator import reason
from .versions import numbers

ATTEMPT = "sys/generate-root/attempt"

REFUSES_SINCE = {"OpenBao": (2, 5, 3), "Vault": (2, 0, 0)}
"""The first version of each product that refuses by default."""

REMEDY = (
    "Log in instead (vault_recovery_auth). Or allow it on every node and restart Vault there: in OpenBao's listener "
    'disable_unauthed_generate_root_endpoints = false, for Vault 2 enable_unauthenticated_access = ["generate-root"].'
)

TARGET_REMEDY = (
    "Give vault_recovery_target_token, a token of the cluster that is replaced which may take and force-restore "
    "snapshots and read the Raft configuration."
)


def is_allowed(client: VaultClient) -> Optional[bool]:
    """Return whether the node generates root tokens from key shares; None while it is sealed or has no leader.

    Raises:
        VaultError: the node cannot be asked.
    """
    status, _body = client.status(ATTEMPT)
    if status == 200:
        return True
    return False if status in (403, 405) else None


def refuses_by_default(product: Optional[str], version: Optional[str]) -> bool:
    """Return whether a server of this version refuses, unless its configuration allows it."""
    since = REFUSES_SINCE.get(product or "")
    return since is not None and numbers(version) >= since


def problem(
    nodes: Sequence[Mapping[str, Any]], allowed: Optional[bool], enabled: bool, remedy: str = REMEDY
) -> Optional[str]:
    """Return why no root token can be made of key shares, None if nothing is known against it.

    Args:
        nodes: as `NodeHealth.to_dict` gives them.
        allowed: what a node answered, as `is_allowed` returns it.
        enabled: the operator's word that the configuration of the nodes allows it.
        remedy: what to give instead of key shares.
    """
    if allowed or (enabled and allowed is None):
        return None
    for node in nodes:
        if allowed is False or refuses_by_default(node["product"], node["version"]):
            return (
                f"{node['url']} runs {node['product'] or 'Vault'} {node['version'] or ''}, which "
                f"{'refuses' if allowed is False else 'by default refuses'} to generate a root token from key shares, "
                f"and that token is needed. {remedy}"
                + ("" if allowed is False else " Then set vault_recovery_generate_root_enabled to true.")
            )
    return None


def generate_root(client: VaultClient, key_shares: Sequence[str], cancel_existing: bool = False) -> str:
    """Return a new root token, made of a quorum of unseal or recovery key shares. The caller revokes it.

    Args:
        cancel_existing: gives up an attempt that is under way, which may be another operator's.

    Raises:
        VaultConfigError: too few shares, wrong ones, or a server that refuses.
        VaultApiError: an attempt is under way already, among others.
    """
    try:
        attempt = client.request("GET", ATTEMPT)
    except (VaultPermissionError, VaultApiError) as error:
        if getattr(error, "status", 403) not in (403, 405):
            raise
        raise VaultConfigError(f"Cannot generate a root token of key shares: {error} {REMEDY}") from error
    if attempt.get("started"):
        if not cancel_existing:
            raise VaultApiError(
                f"A root token is already being generated at {client.connection.url} ({attempt.get('progress')} of "
                f"{attempt.get('required')} shares given). Find out who does that; cancel_existing gives it up.",
                400,
            )
        client.request("DELETE", ATTEMPT)
    attempt = client.request("PUT", ATTEMPT, json={})
    try:
        answer: dict[str, Any] = {}
        for number, share in enumerate(key_shares, 1):
            try:
                answer = client.request(
                    "PUT", "sys/generate-root/update", json={"key": share, "nonce": attempt.get("nonce")}
                )
            except VaultApiError as error:
                raise VaultConfigError(
                    f"{client.connection.url} refused key share {number} of {len(key_shares)} ({reason(error)}). "
                    "Check that they are the recovery shares (with an auto-unseal) or unseal shares (with Shamir)."
                ) from None
            if answer.get("complete"):
                break
        if not answer.get("complete"):
            raise VaultConfigError(
                f"{len(key_shares)} key shares are too few to generate a root token: {attempt.get('required')} are "
                "required."
            )
    except VaultError:
        # The attempt would block the next one.
        with suppress(VaultError):
            client.request("DELETE", ATTEMPT)
        raise
    encoded = answer.get("encoded_token") or answer.get("encoded_root_token") or ""
    return _decode(str(encoded), str(attempt.get("otp") or ""))


def _decode(encoded: str, otp: str) -> str:
    """The token is sent XORed with the one-time password, base64 without padding (vault/generate_root.go)."""
    raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    if len(raw) != len(otp):
        raise VaultConfigError("Vault's encoded root token does not have the length of its one-time password.")
    return bytes(one ^ two for one, two in zip(raw, otp.encode())).decode()
