# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TLS server whose certificate is what its file holds at that moment, and a client as programs have one."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any


class TlsServer:
    """Serves what its file holds, a key and a chain, read again for each connection."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _address = self._listener.accept()
                with suppress(OSError), connection:
                    connection.settimeout(30)
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(self.file)
                    with context.wrap_socket(connection, server_side=True) as secure:
                        secure.recv(1)


def connect(bundle: Path, port: int) -> str:
    """Shake hands as a client that trusts this bundle; gives the issuer's common name. Raises ssl.SSLError."""
    context = ssl.create_default_context(cafile=str(bundle))
    with (
        socket.create_connection(("127.0.0.1", port), 30) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secure,
    ):
        told: Any = secure.getpeercert()
        return str(dict(pair[0] for pair in told["issuer"])["commonName"])
