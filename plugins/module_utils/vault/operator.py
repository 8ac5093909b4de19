# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's acts on a node: initialise, unseal, step down.

Keys come in and go out as values only; no message, and no exception of this file, ever holds one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Optional

from .client import VaultClient
from .errors import (
    VaultApiError,
    VaultAuthError,
    VaultConfigError,
    VaultPermissionError,
    VaultUnreachableError,
)
from .health import seal_type


def initialize(
    client: VaultClient,
    shares: int,
    threshold: int,
    pgp_keys: Optional[Sequence[str]] = None,
    root_token_pgp_key: Optional[str] = None,
) -> dict[str, Any]:
    """Initialises the cluster; the shares are recovery shares where the seal is not Shamir's.

    Returns:
        What ``vault operator init -format=json`` prints, less the hexadecimal copies of the keys.

    Raises:
        VaultConfigError: threshold and shares do not fit.
        VaultApiError: already initialised, among others.
    """
    if not 1 <= threshold <= shares or (shares > 1 and threshold == 1):
        raise VaultConfigError(
            f"{threshold} of {shares} key shares is no valid threshold: it lies between 2 and the number of shares, "
            "or both are 1."
        )
    if pgp_keys and len(pgp_keys) != shares:
        raise VaultConfigError(f"{len(pgp_keys)} PGP keys for {shares} key shares: give one for each share.")
    seal = client.request("GET", "sys/seal-status")
    kind = "secret" if seal_type(seal) == "shamir" else "recovery"
    body: dict[str, Any] = {f"{kind}_shares": shares, f"{kind}_threshold": threshold}
    if pgp_keys:
        body["pgp_keys" if kind == "secret" else "recovery_pgp_keys"] = list(pgp_keys)
    if root_token_pgp_key:
        body["root_token_pgp_key"] = root_token_pgp_key
    answer = client.request("PUT", "sys/init", json=body)
    given = answer.get("recovery_keys_base64") or answer.get("keys_base64") or []
    auto = bool(answer.get("recovery_keys_base64"))
    return {
        "unseal_keys_b64": [] if auto else given,
        "unseal_shares": 1 if auto else shares,
        "unseal_threshold": 1 if auto else threshold,
        "recovery_keys_b64": given if auto else [],
        "recovery_keys_shares": shares if auto else 0,
        "recovery_keys_threshold": threshold if auto else 0,
        "root_token": answer.get("root_token"),
    }


def is_initialized(client: VaultClient) -> bool:
    """Whether the node belongs to an initialised cluster. Raises VaultError."""
    return bool(client.request("GET", "sys/init").get("initialized"))


def wait_initialized(
    client: VaultClient,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Waits, at most timeout seconds, until a fresh node has been let in by its leader. Raises VaultError."""
    deadline = monotonic() + timeout
    while not is_initialized(client) and monotonic() < deadline:
        sleep(0.25)


def seal_status(client: VaultClient) -> dict[str, Any]:
    """Vault's seal status, less its nonce. Raises VaultError."""
    status = client.request("GET", "sys/seal-status")
    status.pop("nonce", None)
    return status


def unseal(
    client: VaultClient, key_shares: Sequence[str], migrate: bool = False, reset: bool = False
) -> dict[str, Any]:
    """Gives key shares until the node is unsealed or they run out.

    Args:
        key_shares: of Shamir's unseal keys, or with migrate the recovery keys of the seal that is left.
        migrate: answers a seal migration that the node's configuration has begun.
        reset: forgets the shares that were given before.

    Returns:
        Vault's last seal status.

    Raises:
        VaultConfigError: a share is none, or they do not belong to this node.
        VaultError: what a request can meet.
    """
    status = seal_status(client)
    if not status.get("sealed"):
        return status
    if not status.get("initialized"):
        raise VaultApiError(
            f"{client.connection.url} is not initialised: there is nothing to unseal yet. Initialise the cluster, or "
            "let this node join it first.",
            501,
        )
    if reset and status.get("progress"):
        client.request("PUT", "sys/unseal", json={"reset": True})
    for number, share in enumerate(key_shares, 1):
        try:
            status = client.request("PUT", "sys/unseal", json={"key": share, "migrate": migrate})
        except VaultApiError as error:
            raise VaultConfigError(
                f"{client.connection.url} refused key share {number} of {len(key_shares)} ({reason(error)}). Check "
                "that they are this cluster's, enough of them, each given once, and of the seal that the node has."
            ) from None
        # No progress after a share: enough were given. A node that joins with them is unsealed a second later, and one
        # share more would begin another round.
        if not status.get("sealed") or not status.get("progress"):
            break
    return seal_status(client)


def reason(error: VaultApiError) -> str:
    """Return Vault's own words for a refusal, in one line."""
    return "; ".join(" ".join(item.split()) for item in error.errors) or f"HTTP {error.status}"


def is_valid(client: VaultClient) -> bool:
    """Whether the client's token is valid. Raises VaultError when the server cannot be asked."""
    try:
        client.request("GET", "auth/token/lookup-self")
    except (VaultAuthError, VaultPermissionError):
        return False
    return True


def revoke(client: VaultClient) -> bool:
    """Revokes the client's own token. False when it was not valid any more."""
    try:
        client.request("POST", "auth/token/revoke-self")
    except (VaultAuthError, VaultPermissionError):
        return False
    return True


def is_leader(client: VaultClient) -> bool:
    """Whether the node is the active one. Raises VaultError."""
    return bool(client.request("GET", "sys/leader").get("is_self"))


def step_down(
    client: VaultClient,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> str:
    """Lets the leader hand over to another node, and waits until it knows who leads now.

    Args:
        timeout: seconds to wait for the new leader; Vault keeps the old one out of the election for 10.

    Returns:
        The new leader's address.

    Raises:
        VaultUnreachableError: nobody took over in time.
        VaultError: the token may not do that, among others.
    """
    # A listener that redacts addresses tells the leader only by a redirect, which may be of before for a moment.
    before = client.connection.url
    client.request("PUT", "sys/step-down")
    deadline = monotonic() + timeout
    while True:
        answer = client.request("GET", "sys/leader")
        if not answer.get("is_self"):
            address = str(answer.get("leader_address") or "") or client.redirected_leader()
            if address and address.rstrip("/") != before.rstrip("/"):
                return address
        if monotonic() >= deadline:
            raise VaultUnreachableError(
                f"{client.connection.url} was told to step down, and {timeout:g} s later no other node leads. Look at "
                "the logs of the other nodes: one of them has to be unsealed and a voter."
            )
        sleep(0.1)
