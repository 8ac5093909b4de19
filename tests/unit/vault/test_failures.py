# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each failure by its name. The exceptions are nested as requests 2.34 and urllib3 2.8 were seen to nest them."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Any

import pytest
import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import errors as ours
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.failures import (
    from_exception,
    from_response,
    is_transient,
)
from unit.vault.fake import Answer, chained, errors, refused, reset, response, silent
from urllib3 import exceptions as lower

CONFIG, UNREACHABLE = ours.VaultConfigError, ours.VaultUnreachableError


def tls(text: str) -> BaseException:
    inner = lower.SSLError(ssl.SSLError(1, text))
    most = lower.MaxRetryError(None, "/v1/x", inner)  # type: ignore[arg-type]
    return chained(requests.exceptions.SSLError(most), most, inner, ssl.SSLError(1, text))


def certificate(reason: str) -> BaseException:
    return tls(f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {reason} (_ssl.c:1006)")


def unconnected(inner: BaseException, *system: BaseException) -> BaseException:
    most = lower.MaxRetryError(None, "/v1/x", inner)  # type: ignore[arg-type]
    return chained(requests.ConnectionError(most), most, inner, *system)


def new_connection(system: OSError) -> BaseException:
    text = f"Failed to establish a new connection: {system}"
    return unconnected(lower.NewConnectionError(None, text), system)  # type: ignore[arg-type]


def unresolved() -> BaseException:
    system = socket.gaierror(-2, "Name or service not known")
    return unconnected(lower.NameResolutionError("vault-1", None, system), system)  # type: ignore[arg-type]


def unanswered() -> BaseException:
    inner = lower.ConnectTimeoutError(None, "Connection to vault-1 timed out. (connect timeout=5)")
    most = lower.MaxRetryError(None, "/v1/x", inner)  # type: ignore[arg-type]
    return chained(requests.ConnectTimeout(most), most, inner, TimeoutError("timed out"))


def proxy_refused() -> BaseException:
    system = ConnectionRefusedError(111, "Connection refused")
    new = lower.NewConnectionError(None, f"Failed to establish a new connection: {system}")  # type: ignore[arg-type]
    inner = lower.ProxyError("Unable to connect to proxy", new)
    most = lower.MaxRetryError(None, "/v1/x", inner)  # type: ignore[arg-type]
    return chained(requests.exceptions.ProxyError(most), most, inner, new, system)


def unsent() -> BaseException:
    system = TimeoutError("timed out")
    inner = lower.ProtocolError("Connection aborted.", system)
    return chained(requests.ConnectionError(inner), inner, system)


def hung_up() -> BaseException:
    system = http.client.RemoteDisconnected("Remote end closed connection without response")
    inner = lower.ProtocolError("Connection aborted.", system)
    return chained(requests.ConnectionError(inner), inner, system)


def cut_short() -> BaseException:
    system = http.client.IncompleteRead(b"ab", 3)
    inner = lower.ProtocolError(f"Connection broken: {system!r}", system)
    return chained(requests.exceptions.ChunkedEncodingError(inner), inner, system)


NO_CA = OSError("Could not find a suitable TLS CA certificate bundle, invalid path: /no/ca.pem")

EXCEPTIONS = {
    "expired": (certificate("certificate has expired"), CONFIG, "certificate has expired. Renew it", True, True),
    "too early": (certificate("certificate is not yet valid"), CONFIG, "Compare the clocks", True, True),
    "other host": (
        certificate("Hostname mismatch, certificate is not valid for 'vault-1'."),
        CONFIG,
        "is for another host name",
        True,
        True,
    ),
    "other address": (certificate("IP address mismatch"), CONFIG, "is for another host name", True, True),
    "other CA": (certificate("unable to get local issuer certificate"), CONFIG, "Give ca_cert", True, True),
    "self-signed": (certificate("self-signed certificate in certificate chain"), CONFIG, "Give ca_cert", True, True),
    "no TLS": (tls("[SSL: WRONG_VERSION_NUMBER] wrong version number"), CONFIG, "does not speak TLS", True, True),
    "no TLS, newer OpenSSL": (tls("[SSL] record layer failure"), CONFIG, "does not speak TLS", True, True),
    "CA file without a CA": (
        tls("[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found"),
        CONFIG,
        "holds no certificate in PEM form. Check ca_cert",
        True,
        True,
    ),
    "no CA file": (NO_CA, CONFIG, "Check ca_cert", True, True),
    "TLS broken": (
        tls("[SSL] EOF occurred in violation of protocol"),
        UNREACHABLE,
        "TLS connection failed",
        False,
        True,
    ),
    "TLS refused": (tls("[SSL] sslv3 alert bad certificate"), UNREACHABLE, "alert bad certificate", False, True),
    "bad address": (requests.exceptions.InvalidURL("bad"), CONFIG, "no valid address", True, True),
    "name": (unresolved(), UNREACHABLE, "cannot be resolved. Check DNS", True, True),
    "refused": (refused(), UNREACHABLE, "connection refused. Vault is not running there", True, True),
    "proxy": (proxy_refused(), UNREACHABLE, "connection refused", True, True),
    "no route": (new_connection(OSError(113, "No route to host")), UNREACHABLE, "No route to host", True, True),
    "connect": (unanswered(), UNREACHABLE, "no connection within 5 s", True, False),
    "read": (silent(), UNREACHABLE, "connected, then no answer for 30 s", False, False),
    "write": (unsent(), UNREACHABLE, "connected, then no answer for 30 s", False, False),
    "reset": (reset(), UNREACHABLE, "broke off ([Errno 104] Connection reset by peer)", False, True),
    "hung up": (hung_up(), UNREACHABLE, "broke off (Remote end closed connection", False, True),
    "cut short": (cut_short(), UNREACHABLE, "broke off (IncompleteRead(2 bytes read, 3 more expected))", False, True),
    "of no text": (requests.ConnectionError(), UNREACHABLE, "broke off (ConnectionError)", False, True),
}


@pytest.mark.parametrize(
    ("raised", "kind", "said", "never_sent", "transient"), list(EXCEPTIONS.values()), ids=list(EXCEPTIONS)
)
def test_no_answer(raised: BaseException, kind: type[Exception], said: str, never_sent: bool, transient: bool) -> None:
    error, unsent = from_exception(raised, "GET", "https://vault-1:8200", "/v1/sys/leader", (5.0, 30.0))
    assert error.__class__ is kind
    assert str(error).startswith("GET sys/leader at https://vault-1:8200: ")
    assert said in str(error)
    assert unsent is never_sent
    if kind is UNREACHABLE:
        assert is_transient(raised) is transient


def test_what_stops_at_the_proxy_is_not_the_fault_of_vault() -> None:
    tunnel = OSError("Tunnel connection failed: 403 Forbidden")
    for raised, said in (
        (proxy_refused(), "the proxy refused the connection. Nothing was sent to Vault"),
        (unresolved(), "the host name of the proxy cannot be resolved. "),
        (unanswered(), "no connection to the proxy within 5 s. "),
        (
            new_connection(OSError(113, "No route to host")),
            "no connection to the proxy ([Errno 113] No route to host). ",
        ),
        (unconnected(lower.ProxyError("Unable to connect to proxy", tunnel), tunnel), "(Tunnel connection failed: 403"),
    ):
        error, unsent = from_exception(raised, "POST", "https://v through …", "/v1/x", (5.0, 30.0), proxied=True)
        assert error.__class__ is UNREACHABLE
        assert said in str(error)
        assert "set proxies to {}" in str(error)
        assert unsent is True


def test_a_proxy_that_cannot_be_used() -> None:
    for raised in (requests.exceptions.InvalidProxyURL("http://u:secret@"), requests.exceptions.InvalidSchema("SOCKS")):
        error, _unsent = from_exception(raised, "GET", "https://v", "/v1/x", 5.0, proxied=True)
        assert error.__class__ is CONFIG
        assert "the proxy cannot be used" in str(error)
        assert "secret" not in str(error)


def test_a_request_that_broke_off_behind_a_proxy_may_have_arrived() -> None:
    for raised in (hung_up(), silent(), reset()):
        _error, unsent = from_exception(raised, "POST", "http://v", "/v1/x", 5.0, proxied=True)
        assert unsent is False


def test_one_timeout_for_both() -> None:
    assert "no connection within 7 s" in str(from_exception(unanswered(), "GET", "https://v", "/v1/x", 7.0)[0])


ANSWERS = {
    "redirect": (Answer(307, b"", {"Location": "https://v2/v1/x"}), ours.VaultApiError, "HTTP 307) to https://v2/v1/x"),
    "redirect to nowhere": (Answer(301), ours.VaultApiError, "to nowhere"),
    "sealed": (Answer(503, errors("Vault is sealed")), ours.VaultSealedError, "Unseal the node"),
    "a load balancer's page": (
        Answer(503, b"<html>No server is available"),
        ours.VaultApiError,
        "HTTP 503: no message",
    ),
    "busy": (Answer(503, errors("overloaded")), ours.VaultApiError, "HTTP 503: overloaded"),
    "token": (
        Answer(403, errors("2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")),
        ours.VaultAuthError,
        "not valid here (HTTP 403: 2 errors occurred: * permission denied * invalid token): mistyped",
    ),
    "token, older Vault": (Answer(403, errors("bad token")), ours.VaultAuthError, "Log in again"),
    "policy": (Answer(403, errors("permission denied")), ours.VaultPermissionError, "policies do not allow this"),
    "not initialised": (Answer(400, errors("Vault is not initialized")), ours.VaultApiError, "not initialised yet"),
    "http to https": (
        Answer(400, b"Client sent an HTTP request to an HTTPS server.\n"),
        CONFIG,
        "speaks TLS on this port. Use https://",
    ),
    "no leader": (
        Answer(500, errors("local node not active but active cluster node not found")),
        UNREACHABLE,
        "no leader to turn to (HTTP 500",
    ),
    "missing": (Answer(404, errors()), ours.VaultApiError, "HTTP 404: no message"),
    "errors that are none": (Answer(500, {"errors": None}), ours.VaultApiError, "HTTP 500: no message"),
    "a list": (Answer(500, ["errors"]), ours.VaultApiError, "HTTP 500: no message"),
    "two": (Answer(400, errors(" one\n", "two")), ours.VaultApiError, "HTTP 400: one; two"),
}


@pytest.mark.parametrize(("answer", "kind", "said"), list(ANSWERS.values()), ids=list(ANSWERS))
def test_an_answer(answer: Answer, kind: type[Exception], said: str) -> None:
    error = from_response(response(answer), "PUT", "https://vault-1:8200", "/v1/sys/init")
    assert error.__class__ is kind
    assert str(error).startswith("PUT sys/init at https://vault-1:8200: ")
    assert said in str(error)
    if isinstance(error, ours.VaultApiError):
        assert error.status == answer.status


def test_a_page_is_not_quoted() -> None:
    page: Any = Answer(502, b"<html>internal host db-7.corp</html>")
    assert "db-7" not in str(from_response(response(page), "GET", "https://v", "/v1/x"))
