# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy in front of S3 that does to chosen requests what networks and overloaded services do."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

_ANSWERS = {
    "unavailable": (503, "ServiceUnavailable", "Service is unable to handle request."),
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
    "denied": (403, "AccessDenied", "Access Denied"),
    "locked": (403, "AccessDenied", "Access Denied because object protected by object lock."),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
}
KINDS = (*_ANSWERS, "hang", "cut", "lose_answer", "corrupt", "slow")
"""hang: nothing comes back, until `heal`. cut: the connection is reset in the middle of the body, of the request's if
it has one, else of the answer's. lose_answer: the service does it, and the client does not hear of it. corrupt: one
byte of the request's body is another one. slow: the body is taken at `FaultyS3.rate`."""

_BY_QUERY = {
    ("POST", "uploads"): "CreateMultipartUpload",
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "uploads"): "ListMultipartUploads",
}
_BY_METHOD = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}


@dataclass
class Fault:
    """What happens, to which requests, how often.

    Attributes:
        kind: one of KINDS.
        operation: as S3's API calls it, or ``*`` for all.
        part: number of the part, of UploadPart; None for any.
        times: how many requests it happens to; None for all.
    """

    kind: str
    operation: str = "*"
    part: int | None = None
    times: int | None = None


class FaultyS3:
    """Context manager: a proxy on a port of 127.0.0.1 in front of an S3 service.

    Attributes:
        endpoint: to give to the client instead of the service's own.
        seen: the operations that arrived, in order; of a part with its number, ``UploadPart 2``.
        rate: bytes per second, of `slow`.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self._faults: list[Fault] = []
        self._guard = threading.Lock()
        self._healed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.seen: list[str] = []
        self.rate = 2**20

    def __enter__(self) -> FaultyS3:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, kind: str, operation: str = "*", part: int | None = None, times: int | None = None) -> None:
        """From now on, this happens to these requests (see Fault)."""
        if kind not in KINDS:
            raise ValueError(f"{kind} is none of {', '.join(KINDS)}")
        with self._guard:
            self._healed.clear()
            self._faults.append(Fault(kind, operation, part, times))

    def heal(self) -> None:
        """From now on, every request is passed on. Those that hang end."""
        with self._guard:
            self._faults.clear()
            self._healed.set()

    def _take(self, operation: str, part: int | None) -> str | None:
        """Note a request, and tell what is to happen to it."""
        with self._guard:
            self.seen.append(operation if part is None else f"{operation} {part}")
            for fault in self._faults:
                if fault.operation in ("*", operation) and fault.part in (None, part) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault.kind
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do(self) -> None:
                # A client that gave up, or a connection that was cut, is what the tests are after.
                with suppress(OSError):
                    proxy._serve(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(request.path).query, keep_blank_values=True)
        named = (name for (method, key), name in _BY_QUERY.items() if method == request.command and key in query)
        operation = next(named, _BY_METHOD.get(request.command, request.command))
        part = int(query["partNumber"][0]) if operation == "UploadPart" else None
        fault = self._take(operation, part)
        length = int(request.headers.get("Content-Length") or 0)
        if fault == "hang":
            self._healed.wait()
            request.close_connection = True
            return
        if fault == "cut" and length:
            request.rfile.read(length // 2)
            _reset(request)
            return
        body = b"".join(self._body(request, length, slow=fault == "slow"))
        if fault in _ANSWERS:
            _answer(request, *_ANSWERS[fault])
            return
        if fault == "corrupt" and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        upstream = http.client.HTTPConnection(self._upstream, timeout=120)
        try:
            headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
            upstream.request(request.command, request.path, body or None, {**headers, "Connection": "close"})
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if fault == "lose_answer":
            _reset(request)
            return
        _relay(request, answer, content, cut=fault == "cut")

    def _body(self, request: BaseHTTPRequestHandler, length: int, *, slow: bool) -> Iterator[bytes]:
        while length:
            block = request.rfile.read(min(length, 16 * 1024))
            if not block:
                raise ConnectionResetError
            length -= len(block)
            if slow:
                time.sleep(len(block) / self.rate)
            yield block


def _answer(request: BaseHTTPRequestHandler, status: int, code: str, message: str) -> None:
    content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/xml")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)


def _relay(request: BaseHTTPRequestHandler, answer: http.client.HTTPResponse, content: bytes, *, cut: bool) -> None:
    request.send_response_only(answer.status, answer.reason)
    dropped = ("connection", "transfer-encoding", "content-length")
    for name, value in answer.getheaders():
        if name.lower() not in dropped:
            request.send_header(name, value)
    length = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(content))
    request.send_header("Content-Length", length or "0")
    request.end_headers()
    request.wfile.write(content[: len(content) // 2] if cut else content)
    if cut:
        _reset(request)


def _reset(request: BaseHTTPRequestHandler) -> None:
    """End the connection as a crash does, so that the client does not take it for an end of the message."""
    request.close_connection = True
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()
