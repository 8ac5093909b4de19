# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches the certificates that servers present, thousands side by side with a bound, and those that lie in files."""

from __future__ import annotations

import ipaddress
import select
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Optional

from .chain import Bundle, Verdict, judge, parse
from .errors import TlsError

# Whoever calls looks at IMPORT_ERROR of .chain.
with suppress(ImportError):
    from cryptography import x509
    from OpenSSL import SSL


@dataclass(frozen=True)
class Endpoint:
    """Attributes: host, a name or an address; port; server_name, asked for and looked for instead of the host."""

    host: str
    port: int
    server_name: Optional[str] = None

    @property
    def title(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Seen:
    """Attributes: title, of the endpoint or the path; verdict, None where there was nothing to judge; problem, why."""

    title: str
    verdict: Optional[Verdict]
    problem: str = ""

    def to_dict(self, min_days: float) -> dict[str, Any]:
        """Plain values: `name`, `good`, `why`, and all of the verdict.

        Args:
            min_days: what ends sooner is not good.
        """
        if self.verdict is None:
            return {"name": self.title, "good": False, "why": self.problem}
        told, why = self.verdict.to_dict(), self.verdict.why
        if not why and self.verdict.days_left < min_days:
            why = f"It ends in {self.verdict.days_left:g} days, before the {min_days:g} that are asked for. Renew it."
        return {**told, "name": self.title, "good": not why, "why": why}


Fetch = Callable[[Endpoint, float], Sequence[Any]]
"""Gives the certificates that an endpoint presents, within so many seconds."""


def fetch(endpoint: Endpoint, timeout: float) -> list[x509.Certificate]:
    """The chain as the server presents it; nothing is verified, and nothing but a handshake is sent.

    Raises OSError, or SSL.Error where there is no handshake that gets as far as its certificate.
    """
    deadline = time.monotonic() + timeout
    with socket.create_connection((endpoint.host, endpoint.port), timeout) as raw:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_verify(SSL.VERIFY_NONE)
        connection = SSL.Connection(context, raw)
        name = endpoint.server_name or endpoint.host
        if not _is_address(name):
            connection.set_tlsext_host_name(name.encode("idna"))
        connection.set_connect_state()
        raw.setblocking(False)
        refusal = None
        try:
            _handshake(connection, raw, deadline)
        except SSL.Error as error:
            # In TLS 1.2, who demands a client's certificate has shown its own by then. What this side refuses, such as
            # parameters that are too weak for it, would be refused by clients as well.
            if not _by_server(error):
                raise
            refusal = error
        chain = [one.to_cryptography() for one in connection.get_peer_cert_chain() or ()]
        if refusal and not chain:
            raise refusal
        return chain


def look(
    endpoints: Sequence[Endpoint],
    files: Sequence[str],
    bundle: Bundle,
    timeout: float = 10.0,
    parallel: int = 64,
    ask: Fetch = fetch,
) -> list[Seen]:
    """Judges all of them: the endpoints in the order given, then the files.

    Args:
        timeout: seconds for one endpoint.
        parallel: how many are asked at once.
    """
    with ThreadPoolExecutor(max_workers=max(1, min(parallel, len(endpoints) or 1))) as pool:
        asked = list(pool.map(lambda one: _endpoint(one, bundle, timeout, ask), endpoints))
    return asked + [_file(path, bundle) for path in files]


def _endpoint(endpoint: Endpoint, bundle: Bundle, timeout: float, ask: Fetch) -> Seen:
    try:
        chain = ask(endpoint, timeout)
    except TimeoutError:
        return Seen(endpoint.title, None, f"{endpoint.title} does not answer within {timeout:g} s.")
    except SSL.Error as error:
        return Seen(endpoint.title, None, f"{endpoint.title} makes no TLS handshake: {_words(error)}.")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Seen(endpoint.title, None, f"{endpoint.title} cannot be reached: {reason}.")
    if not chain:
        return Seen(endpoint.title, None, f"{endpoint.title} presents no certificate.")
    return Seen(endpoint.title, judge(chain, bundle, endpoint.server_name or endpoint.host))


def _file(path: str, bundle: Bundle) -> Seen:
    try:
        with open(path, "rb") as file:
            chain = parse(file.read(), path)
    except OSError as error:
        return Seen(path, None, f"{path} cannot be read: {error.strerror}.")
    except TlsError as error:
        return Seen(path, None, str(error))
    if not chain:
        return Seen(path, None, f"{path} has no certificate in PEM.")
    return Seen(path, judge(chain, bundle))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _handshake(connection: SSL.Connection, raw: socket.socket, deadline: float) -> None:
    """pyOpenSSL knows no time limit: each step is waited for here. Raises TimeoutError, SSL.Error."""
    while True:
        try:
            connection.do_handshake()
            return
        except SSL.WantReadError:
            wanted = select.POLLIN
        except SSL.WantWriteError:
            wanted = select.POLLOUT
        # Not select(): it takes no descriptor above 1023.
        poll = select.poll()
        poll.register(raw, wanted)
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise TimeoutError


def _by_server(error: Exception) -> bool:
    """Whether it is the server that ended the handshake, with an alert or by hanging up."""
    said = _words(error).lower()
    return isinstance(error, SSL.SysCallError) or "alert" in said or "eof" in said


def _words(error: Exception) -> str:
    """OpenSSL's last words."""
    told = error.args[0] if error.args else ""
    if isinstance(told, list) and told:
        return str(told[-1][-1])
    return str(error.args[-1]) if error.args else "the connection was closed"
