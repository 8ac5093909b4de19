# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before Loki, which has neither TLS nor tokens here: lets through who shows one of /etc/gate/tokens, a line each.

python3 gate.py ADDRESS PORT UPSTREAM_PORT
"""

from __future__ import annotations

import http.client
import ssl
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKENS, CERTIFICATE, KEY = Path("/etc/gate/tokens"), "/etc/gate/cert.pem", "/etc/gate/key.pem"


class Gate(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    upstream = 0
    timeout = 30

    def do_GET(self) -> None:
        """Pass the request on, and the answer back."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in TOKENS.read_text().split():
            self._answer(401, b"")
            return
        kept = {name: value for name, value in self.headers.items() if name.lower().startswith("content-")}
        loki = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=20)
        try:
            loki.request(self.command, self.path, body, kept)
            answer = loki.getresponse()
            self._answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException):
            self._answer(502, b"")
        finally:
            loki.close()

    do_POST = do_GET  # noqa: N815

    def _answer(self, status: int, body: bytes) -> None:
        # A client that went away will ask again.
        with suppress(OSError):
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A handshake that is broken off is the client's affair."""


if __name__ == "__main__":
    Gate.upstream = int(sys.argv[3])
    server = _Server((sys.argv[1], int(sys.argv[2])), Gate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE, KEY)
    # The handshake in the connection's own thread: one that hangs holds up no other.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()
