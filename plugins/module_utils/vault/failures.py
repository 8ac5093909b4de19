# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns what `requests` raises and what Vault answers into this collection's errors, with the next step in words."""

from __future__ import annotations

import socket
from typing import Any, Union

from .errors import (
    VaultApiError,
    VaultAuthError,
    VaultConfigError,
    VaultError,
    VaultPermissionError,
    VaultSealedError,
    VaultUnreachableError,
)

try:
    from requests import Response, exceptions
    from urllib3 import exceptions as urllib3_exceptions
except ImportError:
    pass

Timeout = Union[float, tuple[float, float]]


def _causes(error: BaseException) -> list[BaseException]:
    """The exception and all that it wraps: requests and urllib3 nest the real reason several levels deep."""
    found: list[BaseException] = []
    queue: list[Any] = [error]
    while queue:
        item = queue.pop(0)
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            queue += [getattr(item, "reason", None), item.__cause__, item.__context__, *item.args]
    return found


def is_transient(error: BaseException) -> bool:
    """True for a failure that may be gone in a second; a timeout has already cost the time that was allowed."""
    return not any(_is_timeout(cause) for cause in _causes(error))


def _is_timeout(cause: BaseException) -> bool:
    # To urllib3 a connection that was refused is a kind of connect timeout.
    return isinstance(cause, (exceptions.Timeout, urllib3_exceptions.TimeoutError, TimeoutError)) and not isinstance(
        cause, urllib3_exceptions.NewConnectionError
    )


def from_exception(
    error: BaseException, method: str, base: str, path: str, timeout: Timeout, proxied: bool = False
) -> tuple[VaultError, bool]:
    """The error for a request that got no answer, and whether the request certainly never reached the server.

    Args:
        base: address of the server, and the proxy on the way there, for the message.
        timeout: seconds, or a pair of connect and read seconds, for the message.
        proxied: whether a proxy is on the way: it is the proxy, and not the server, that is resolved and connected to.
    """
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    causes = _causes(error)
    texts = " ".join(str(cause) for cause in causes)
    where = f"{method} {path.replace('/v1/', '', 1)} at {base}"

    if "CERTIFICATE_VERIFY_FAILED" in texts or "certificate verify failed" in texts:
        return VaultConfigError(f"{where}: {_certificate_problem(texts)}"), True
    if any(mark in texts for mark in ("invalid path:", "NO_CERTIFICATE_OR_CRL")):
        return VaultConfigError(f"{where}: the CA bundle holds no certificate in PEM form. Check ca_cert."), True
    if isinstance(error, exceptions.SSLError) or any(isinstance(c, urllib3_exceptions.SSLError) for c in causes):
        if any(mark in texts for mark in ("WRONG_VERSION_NUMBER", "record layer failure", "UNKNOWN_PROTOCOL")):
            return VaultConfigError(
                f"{where}: the server{' or the proxy' if proxied else ''} does not speak TLS on this port. Use http:// "
                "if that is meant, or the right port."
            ), True
        # It may have broken off with the request on its way: nothing tells this from a failed handshake.
        return VaultUnreachableError(f"{where}: the TLS connection failed ({_innermost(causes)})."), False
    if isinstance(error, (exceptions.InvalidURL, exceptions.MissingSchema, exceptions.InvalidSchema)):
        if proxied:
            socks = "SOCKS" in texts and ": PySocks, which it takes, is not installed here"
            return VaultConfigError(
                f"{where}: the proxy cannot be used{socks or ''}. Give its address as http://HOST:PORT, or set proxies "
                "to {} to connect without one."
            ), True
        return VaultConfigError(f"{where}: this is no valid address. Give url as https://HOST:PORT."), True
    if proxied and (problem := _proxy_problem(causes, connect)):
        return VaultUnreachableError(
            f"{where}: {problem}. Nothing was sent to Vault. Correct the address of the proxy, or connect without it: "
            "add Vault's host to NO_PROXY, or set proxies to {}."
        ), True
    if any(isinstance(cause, socket.gaierror) for cause in causes) or "NameResolution" in texts:
        return VaultUnreachableError(
            f"{where}: the host name cannot be resolved. Check DNS, or use an IP address."
        ), True
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return VaultUnreachableError(
            f"{where}: connection refused. Vault is not running there, or listens on another port."
        ), True
    if any(isinstance(cause, urllib3_exceptions.NewConnectionError) for cause in causes):
        return VaultUnreachableError(
            f"{where}: no connection ({_innermost(causes)}). Check that the host is up and can be reached from here."
        ), True
    if any(isinstance(cause, (exceptions.ConnectTimeout, urllib3_exceptions.ConnectTimeoutError)) for cause in causes):
        return VaultUnreachableError(
            f"{where}: no connection within {connect:g} s. Check that the host is up and no firewall drops the packets."
        ), True
    # The handshake has the time of the connect, though requests calls this a read timeout.
    if "handshake operation timed out" in texts:
        return VaultUnreachableError(
            f"{where}: connected, then no TLS handshake within {connect:g} s. The server hangs, or speaks no TLS on "
            "this port."
        ), True
    if any(_is_timeout(cause) for cause in causes):
        return VaultUnreachableError(
            f"{where}: connected, then no answer for {read:g} s. The server hangs or is overloaded; raise timeout if "
            "it is only slow."
        ), False
    return VaultUnreachableError(
        f"{where}: the connection broke off ({_innermost(causes)}). Look at the server's log for this moment."
    ), False


def _proxy_problem(causes: list[BaseException], connect: float) -> str:
    """Why there is no connection through the proxy, empty if there is one."""
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "the host name of the proxy cannot be resolved"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "the proxy refused the connection"
    # To urllib3 a connection that failed is a kind of connect timeout.
    if any(isinstance(cause, urllib3_exceptions.NewConnectionError) for cause in causes):
        return f"no connection to the proxy ({_innermost(causes)})"
    if any(isinstance(cause, (exceptions.ConnectTimeout, urllib3_exceptions.ConnectTimeoutError)) for cause in causes):
        return f"no connection to the proxy within {connect:g} s"
    tunnel = next((str(cause) for cause in causes if str(cause).startswith("Tunnel connection failed")), "")
    return f"the proxy does not connect to Vault ({tunnel})" if tunnel else ""


def _certificate_problem(texts: str) -> str:
    if "has expired" in texts:
        return "the server's certificate has expired. Renew it; until then nothing it says can be trusted."
    if "not yet valid" in texts:
        return "the server's certificate is not valid yet. Compare the clocks of both hosts."
    if "mismatch" in texts or "doesn't match" in texts or "not valid for" in texts:
        return "the server's certificate is for another host name. Use the name it was issued for."
    return (
        "the server's certificate is not signed by a CA that is trusted here. Give ca_cert (or VAULT_CACERT) the CA "
        "that issued it."
    )


def _innermost(causes: list[BaseException]) -> str:
    with_text = [cause for cause in causes if str(cause)]
    return str(with_text[-1]) if with_text else type(causes[-1]).__name__


def from_response(response: Response, method: str, base: str, path: str) -> VaultError:
    """The error for an answer that is none of 2xx. Only Vault's own messages are quoted."""
    status = response.status_code
    where = f"{method} {path.replace('/v1/', '', 1)} at {base}"
    try:
        body = response.json()
        errors = [str(item).strip() for item in body.get("errors") or []] if isinstance(body, dict) else []
    except ValueError:
        errors = []
        if status == 400 and "HTTP request to an HTTPS server" in response.text[:200]:
            return VaultConfigError(f"{where}: the server speaks TLS on this port. Use https:// in url.")
    said = "; ".join(" ".join(item.split()) for item in errors) or "no message"

    if status in (301, 302, 303, 307, 308):
        return VaultApiError(
            f"{where}: redirected (HTTP {status}) to {response.headers.get('Location', 'nowhere')}. Redirects are not "
            "followed, as the token would go along. Ask that node itself if it is yours.",
            status,
            errors,
        )
    if status == 407:
        return VaultUnreachableError(
            f"{where}: the proxy asks for a login (HTTP 407). Put user and password into the address of the proxy, or "
            "set proxies to {} to connect without it."
        )
    if status == 503 and "sealed" in said:
        return VaultSealedError(f"{where}: Vault is sealed. Unseal the node, or restore access to its KMS key.")
    if status == 403:
        if "invalid token" in said or "bad token" in said:
            return VaultAuthError(
                f"{where}: the token is not valid here (HTTP 403: {said}): mistyped, expired, revoked, or of another "
                "cluster. Log in again."
            )
        return VaultPermissionError(
            f"{where}: permission denied (HTTP 403: {said}). The token's policies do not allow this, or it has expired."
        )
    if status == 400 and "not initialized" in said:
        return VaultApiError(f"{where}: Vault is not initialised yet (HTTP 400: {said}).", status, errors)
    if "active cluster node not found" in said or "node not active" in said:
        return VaultUnreachableError(
            f"{where}: the node has no leader to turn to (HTTP {status}: {said}). The cluster is electing one, or has "
            "lost its quorum."
        )
    return VaultApiError(f"{where}: HTTP {status}: {said}.", status, errors)
