# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server on loopback that treats each connection as a test says, badly if need be."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Optional, Union

Treatment = Callable[[socket.socket], None]


class Server:
    """Attributes: port; requests, the bytes of each that came; done, set at the end of the test."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.done = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]


def read_request(sock: socket.socket) -> bytes:
    """The head of a request and as much of a body as its Content-Length says."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            return data
        data += part
    head, body = data.split(b"\r\n\r\n", 1)
    size = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            size = int(line.split(b":")[1])
    while len(body) < size:
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def serving(treatment: Union[bytes, Treatment], tls: Optional[tuple[Path, Path]] = None) -> Iterator[Server]:
    """Answers each request with these bytes, or calls the treatment with each connection; over TLS, given its files."""
    server = Server()
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)

    def answer(sock: socket.socket) -> None:
        if callable(treatment):
            treatment(sock)
        else:
            server.requests.append(read_request(sock))
            sock.sendall(treatment)

    def treat(sock: socket.socket) -> None:
        with suppress(OSError), sock:
            if context is None:
                answer(sock)
            else:
                with context.wrap_socket(sock, server_side=True) as secured:
                    answer(secured)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _peer = server.listener.accept()
                sock.settimeout(10)
                threading.Thread(target=treat, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.done.set()
        with suppress(OSError):
            server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        thread.join(5)
