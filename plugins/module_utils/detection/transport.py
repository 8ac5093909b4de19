# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP request that ends by its deadline whatever the other side does, and whose errors tell no secret.

Certificates are always verified, redirects are answers, and nothing of the environment counts: no proxy, no CA
bundle, no key log. A URL's path is never in a message: webhooks keep their secret there.
"""

from __future__ import annotations

import errno
import io
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from ..files import read_regular
from .errors import DetectionError

if TYPE_CHECKING:
    import socket
    import ssl

LONGEST_BODY = 4096
"""Bytes of an answer to a POST that are read; no caller needs more than its beginning."""
LONGEST_FETCHED = 1024 * 1024
"""Bytes of an answer that is wanted for its body."""
LONGEST_PEM = 4 * 1024 * 1024
"""Bytes; a system's whole bundle of CA certificates has a tenth of it."""
LONGEST_LINE = 65536
"""Bytes within which an answer's first line has to end."""

_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?((?:[/?][!\"$-~]*)?)")
_STATUS = re.compile(rb"HTTP/1\.[01] ([2-5][0-9]{2})[ \r\n]")
_EXPIRED = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED."""


class HttpError(DetectionError):
    """No answer.

    Attributes:
        kind: dns, refused (no connection at all), timeout, tls, protocol (the connection broke or it was no HTTP), or
            ca: this host's own file of CA certificates cannot be used, so nothing is known of the other side.
        certificate: the other side's certificate is why.
        expired: it has expired, and nothing else was found wrong with it.
    """

    def __init__(self, kind: str, message: str, *, certificate: bool = False, expired: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.certificate = certificate
        self.expired = expired


class Url(NamedTuple):
    """Attributes: scheme, http or https; host, a name or an address without brackets; port; target, path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Url {self.scheme}://{self.address}>"


class Answer(NamedTuple):
    """Attributes: status; body, its first LONGEST_BODY bytes or less; retry_after, in seconds, or None."""

    status: int
    body: bytes = b""
    retry_after: Optional[float] = None


def parse_url(url: str, where: str) -> Url:
    """The parts of a URL: printable ASCII, no user, no fragment, a host name in its ASCII form.

    Raises DetectionError, which names `where` in the configuration it stands and not the URL.
    """
    match = _URL.fullmatch(url)
    port = int(match[3] or (443 if match[1] == "https" else 80)) if match else 0
    if match is None or not 0 < port < 65536:
        raise DetectionError(
            f"The configuration's {where} is no URL of the form https://host:port/path in plain ASCII, without user, "
            "password and fragment."
        )
    target = match[4] if match[4].startswith("/") else "/" + match[4]
    return Url(match[1], match[2].strip("[]"), port, target)


def get(url: str, ca_cert: Optional[str], timeout: float) -> Answer:
    """Asks for the status, and reads nothing after it. Raises HttpError.

    Args:
        url: parse_url() takes it.
        ca_cert: a PEM file; None stands for the system's.
        timeout: seconds for the whole exchange.
    """
    return _exchange(url, _asked, ca_cert, timeout, None)


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    ca_cert: Optional[str],
    timeout: float,
    proxy: Optional[str] = None,
) -> Answer:
    """Sends. As get(); `proxy` is the http:// URL of a proxy that takes CONNECT, for https only. Raises HttpError."""
    return _exchange(url, lambda sock, where: _answered(sock, where, "POST", body, headers), ca_cert, timeout, proxy)


def fetch(url: str, ca_cert: Optional[str], timeout: float) -> Answer:
    """As get(), with the body, of which LONGEST_FETCHED bytes are read. Raises HttpError."""
    return _exchange(url, lambda sock, where: _answered(sock, where, "GET", None, {}), ca_cert, timeout, None)


def peer_certificate(
    host: str, port: int, ca_cert: Optional[str], timeout: float, server_name: Optional[str] = None
) -> bytes:
    """The certificate, in DER, with which a server has proven its name. Raises HttpError."""
    where, deadline = Url("https", host, port, ""), time.monotonic() + timeout
    context = _context(ca_cert)
    sock = _secured(_connect(where, deadline), context, where, server_name or host, deadline)
    try:
        return sock.getpeercert(binary_form=True) or b""
    finally:
        sock.close()


def _exchange(
    url: str,
    talk: Callable[[_Timed, Url], Answer],
    ca_cert: Optional[str],
    timeout: float,
    proxy: Optional[str],
) -> Answer:
    import socket  # noqa: PLC0415

    deadline = time.monotonic() + timeout
    where = parse_url(url, "url")
    context = _context(ca_cert) if where.scheme == "https" else None
    sock = _through(proxy, where, deadline) if proxy else _connect(where, deadline)
    try:
        if context is not None:
            sock = _secured(sock, context, where, where.host, deadline)
        return talk(_Timed(sock, deadline), where)
    except socket.timeout as error:
        raise HttpError("timeout", f"{where.address} gave no whole answer within {timeout:g} seconds.") from error
    except (OSError, ValueError) as error:
        # What the other side sent may be in the error's text.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise HttpError("protocol", f"{where.address} broke off or gave no valid HTTP answer ({reason}).") from None
    finally:
        sock.close()


def _headers(where: Url) -> dict[str, str]:
    default = 443 if where.scheme == "https" else 80
    host = where.address if where.port != default else where.address.rpartition(":")[0]
    return {"Host": host, "User-Agent": "custodes", "Connection": "close"}


def _asked(sock: _Timed, where: Url) -> Answer:
    """The status of a GET. Not by http.client: most runs send nothing, and its import takes longer than the asking."""
    lines = [f"GET {where.target} HTTP/1.1", *(f"{name}: {value}" for name, value in _headers(where).items())]
    with suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    head, buffer = b"", bytearray(4096)
    while b"\n" not in head and len(head) < LONGEST_LINE and (size := sock.receive(buffer)):
        head += buffer[:size]
    status = _STATUS.match(head)
    if status is None:
        raise OSError(errno.EPROTO, "BadStatusLine")
    return Answer(int(status[1]))


def _answered(sock: _Timed, where: Url, method: str, body: Optional[bytes], headers: Mapping[str, str]) -> Answer:
    import http.client  # noqa: PLC0415

    connection = http.client.HTTPConnection(where.host, where.port)
    connection.sock = sock
    try:
        # Who refuses a request early closes while it is still being sent; the answer may have come before that.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, where.target, body, {**_headers(where), **headers})
        response = connection.getresponse()
    except http.client.HTTPException as error:
        raise OSError(errno.EPROTO, type(error).__name__) from None
    try:
        # The status is the answer: a body that never ends takes nothing back.
        told = response.read(LONGEST_BODY if method == "POST" else LONGEST_FETCHED)
    except (OSError, http.client.HTTPException, ValueError):
        told = b""
    return Answer(response.status, told, _seconds(response.getheader("Retry-After")))


def _seconds(value: Optional[str]) -> Optional[float]:
    """What Retry-After says, a number or a date (RFC 9110, 10.2.3)."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - http.client has it loaded

    if not value:
        return None
    if re.fullmatch("[0-9]{1,9}", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


class _Timed:
    """A socket for http.client that is done with by one deadline, however many calls that takes."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            self._set_timeout()
            left = left[self._sock.send(left) :]

    def receive(self, buffer: Any) -> int:
        self._set_timeout()
        return self._sock.recv_into(buffer)

    def makefile(self, *_arguments: Any) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Nothing: http.client closes before the body is read, and the socket is closed by who opened it."""

    def _set_timeout(self) -> None:
        self._sock.settimeout(_left(self._deadline))


class _Reader(io.RawIOBase):
    def __init__(self, sock: _Timed) -> None:
        super().__init__()
        self._timed = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._timed.receive(buffer)


def _ascii(name: str) -> bytes:
    """A host's name as it goes out; a str would be run through the tables of IDNA, which take 3 ms to import."""
    return name.encode("ascii" if name.isascii() else "idna")


def _left(deadline: float) -> float:
    import socket  # noqa: PLC0415

    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _connect(where: Url, deadline: float) -> socket.socket:
    import socket  # noqa: PLC0415

    addresses = _resolve(where, deadline)
    problem: Optional[OSError] = None
    for number, address in enumerate(addresses):
        sock = None
        try:
            sock = socket.socket(address[0], address[1], address[2])
            # One address that swallows everything leaves time for the others.
            sock.settimeout(_left(deadline) / (len(addresses) - number))
            sock.connect(address[4])
            return sock
        except OSError as error:
            problem = error
            if sock is not None:
                sock.close()
    if problem is None or isinstance(problem, socket.timeout):
        raise HttpError("timeout", f"{where.address} does not take the connection: no answer in time.") from problem
    raise HttpError("refused", f"No connection to {where.address}: {problem.strerror or problem}.") from problem


def _resolve(where: Url, deadline: float) -> list[Any]:
    """The addresses of a host. Nothing can end a look-up in the middle, so it is left behind in a thread of its own."""
    import socket  # noqa: PLC0415
    import threading  # noqa: PLC0415

    try:
        return socket.getaddrinfo(_ascii(where.host), where.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass
    result: list[Any] = []

    def look_up() -> None:
        try:
            result.append(socket.getaddrinfo(_ascii(where.host), where.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            result.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # No thread is to be had on a host that is being flooded: better a late look-up than none.
        look_up()
    else:
        thread.join(max(0.0, deadline - time.monotonic()))
    if not result:
        raise HttpError("dns", f"The name of {where.address} is not resolved: no name server answered in time.")
    if isinstance(result[0], Exception):
        reason = getattr(result[0], "strerror", None) or "it is no host name"
        raise HttpError("dns", f"The name of {where.address} is not resolved: {reason}.") from result[0]
    addresses: list[Any] = result[0]
    return addresses


def _through(proxy: str, where: Url, deadline: float) -> socket.socket:
    """A connection to a host through a proxy (CONNECT, RFC 9110, 9.3.6)."""
    import http.client  # noqa: PLC0415
    import socket  # noqa: PLC0415

    via = parse_url(proxy, "proxy")
    sock = _connect(via, deadline)
    try:
        timed = _Timed(sock, deadline)
        timed.sendall(f"CONNECT {where.address} HTTP/1.1\r\nHost: {where.address}\r\n\r\n".encode())
        response = http.client.HTTPResponse(timed, method="CONNECT")  # type: ignore[arg-type]
        response.begin()
    except (http.client.HTTPException, OSError, ValueError) as error:
        sock.close()
        kind = "timeout" if isinstance(error, socket.timeout) else "protocol"
        raise HttpError(kind, f"The proxy {via.address} gives no answer to CONNECT {where.address}.") from None
    if response.status != 200:
        sock.close()
        raise HttpError("refused", f"The proxy {via.address} answers {response.status} to CONNECT {where.address}.")
    return sock


def _context(ca_cert: Optional[str]) -> ssl.SSLContext:
    """Verifies as ssl.create_default_context does, without the environment that one looks at (SSL_CERT_FILE, …)."""
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_cert is not None:
            context.load_verify_locations(cadata=read_regular(ca_cert, LONGEST_PEM).decode("ascii", "ignore"))
            return context
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise HttpError("ca", f"Cannot use the CA certificates in {ca_cert}: {reason}.") from error
    paths = ssl.get_default_verify_paths()
    for option, path in (("cafile", paths.openssl_cafile), ("capath", paths.openssl_capath)):
        try:
            context.load_verify_locations(**{option: path})
        except OSError:
            continue
    return context


def _secured(
    sock: socket.socket, context: ssl.SSLContext, where: Url, server_name: str, deadline: float
) -> ssl.SSLSocket:
    import socket  # noqa: PLC0415
    import ssl  # noqa: PLC0415

    secured: Optional[ssl.SSLSocket] = None
    try:
        secured = context.wrap_socket(sock, server_hostname=_ascii(server_name), do_handshake_on_connect=False)
        secured.settimeout(_left(deadline))
        secured.do_handshake()
        return secured
    except (OSError, ValueError) as error:
        (secured or sock).close()
        if isinstance(error, ssl.SSLCertVerificationError):
            expired = error.verify_code == _EXPIRED
            text = f"The certificate of {where.address} is not accepted: {error.verify_message}."
            raise HttpError("tls", text, certificate=True, expired=expired) from error
        if isinstance(error, socket.timeout):
            raise HttpError("timeout", f"{where.address} does not finish the TLS handshake in time.") from error
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise HttpError("tls", f"TLS with {where.address} fails: {reason}.") from error
