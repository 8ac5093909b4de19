# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask whether the cluster that a snapshot was taken of is alive. Standard library only: fresh nodes have no hvac."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer of sys/health that are read."""

PASSED, FAILED, NOT_CHECKED = "passed", "failed", "not checked"

_UNKNOWN = {"reachable": False, "cluster_id": None, "cluster_name": None, "sealed": None, "problem": None}


def ask(url: str, ca_pem: str | None, timeout: float) -> dict[str, Any]:
    """Ask one node for the ID of its cluster, without a token and without a proxy.

    A fresh node would reach the origin without a proxy, too. The answer counts whatever its status code is: a standby
    reports the ID with 429, a sealed node reports none with 503 (Vault's API documentation of sys/health).

    Args:
        url: scheme, host and port.
        ca_pem: certificates that vouch for the node; None trusts the system's.
        timeout: of each step of the request, in seconds.

    Returns:
        url, reachable, cluster_id, cluster_name and sealed (None where not reported), and problem (None without one).
    """
    answer: dict[str, Any] = {"url": url, **_UNKNOWN}
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return {**answer, "problem": "it is not an address"}
        context = ssl.create_default_context(cadata=ca_pem) if parts.scheme == "https" else None
        try:
            return {**answer, **_health(parts, context, timeout)}
        except ssl.SSLCertVerificationError as error:
            # An unverified server may say what it likes. No secret is sent, and its answer can only stop a recovery.
            unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
            found = _health(parts, unverified, timeout)
            return {**answer, **found, "problem": f"its certificate does not verify: {error.verify_message}"}
    except ssl.SSLError as error:
        return {**answer, "reachable": True, "problem": f"TLS fails: {error.reason or error}"}
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {**answer, "problem": str(error) or type(error).__name__}


def ask_all(urls: Sequence[str], ca_pem: str | None, timeout: float) -> list[dict[str, Any]]:
    """Ask all nodes simultaneously, as `ask` does. One that is not done after five timeouts counts as unknown.

    A server that sends a byte now and then stays within the timeout of each step, for hours.
    """
    late = {**_UNKNOWN, "reachable": True, "problem": "it does not end its answer"}
    answers: list[dict[str, Any]] = [{"url": url, **late} for url in urls]

    def work(number: int, url: str) -> None:
        answers[number] = ask(url, ca_pem, timeout)

    threads = [threading.Thread(target=work, args=one, daemon=True) for one in enumerate(urls)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5 * timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return list(answers)


def _health(parts: SplitResult, context: ssl.SSLContext | None, timeout: float) -> dict[str, Any]:
    connection: http.client.HTTPConnection
    if context is None:
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=timeout)
    else:
        connection = http.client.HTTPSConnection(
            str(parts.hostname), parts.port or 443, timeout=timeout, context=context
        )
    try:
        connection.connect()
        try:
            connection.request("GET", "/v1/sys/health")
            body = json.loads(connection.getresponse().read(LONGEST_ANSWER))
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            return {"reachable": True, "problem": str(error) or type(error).__name__}
    finally:
        connection.close()
    if not isinstance(body, dict):
        return {"reachable": True, "problem": "its answer is not that of a Vault server"}
    known = {name: str(body.get(name) or "") or None for name in ("cluster_id", "cluster_name")}
    return {"reachable": True, **known, "sealed": body.get("sealed") is True}


def judge(
    answers: Sequence[Mapping[str, Any]], asked: Sequence[str], cluster_id: str | None, isolated: bool
) -> tuple[str, str]:
    """Decide whether the origin may be alive, as a result (PASSED, FAILED or NOT_CHECKED) and a sentence.

    Args:
        answers: as `ask` returns them, each with `from`, the host that asked.
        asked: addresses of the origin that are not nodes of the target.
        cluster_id: the origin's, None where the manifest has none.
        isolated: the operator's word that the target cannot reach the origin, or that the origin may be alive.
    """
    alive = [one for one in answers if cluster_id and one["cluster_id"] == cluster_id]
    if alive:
        found = ", ".join(sorted({f"{one['url']} (asked from {one['from']})" for one in alive}))
        if isolated:
            return PASSED, f"The snapshot's origin is alive at {found}; vault_recovery_origin_isolated is set"
        return FAILED, (
            f"The cluster that the snapshot was taken of is alive: {found} reports its cluster ID {cluster_id}. A "
            "restored copy beside it would be a second cluster with that ID and older data: it would revoke leases "
            "that are in use, and the origin would remove every node that reaches it. If the origin works, do not "
            "recover it. If it has lost its quorum, use recover-vault-quorum.yml. If this is a copy, isolate its nodes "
            "from the origin and set vault_recovery_origin_isolated to true."
        )
    if not asked and not cluster_id:
        return (
            NOT_CHECKED,
            "Whether the snapshot's origin is alive is not known: the snapshot has no manifest with its ID",
        )
    if not asked:
        return PASSED, "The snapshot's origin has no known address but those of the target"
    if not answers:
        return NOT_CHECKED, f"{', '.join(asked)} could not be asked"
    unknown = [one for one in answers if one["reachable"] and (one["problem"] or not one["cluster_id"])]
    if unknown or not cluster_id:
        said = [
            f"{one['url']} {'is sealed' if one['sealed'] else one['problem'] or 'reports no ID'}" for one in unknown
        ]
        why = "; ".join(sorted(set(said))) or "the manifest has no cluster ID"
        return NOT_CHECKED, f"Whether the snapshot's origin is alive is not known: {why}"
    hosts = ", ".join(sorted({str(one["from"]) for one in answers}))
    return PASSED, f"No node of the origin's cluster answers at {', '.join(asked)} (asked from {hosts})"
