# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy of the machine is not asked for servers on its own loopback interface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

NOWHERE = "http://127.0.0.1:9"
ASK = """
import json, sys, urllib.request
import lab, hvac, requests
url = sys.argv[1]
urllib.request.urlopen(url).close()
requests.get(url)
hvac.Client(url).sys.read_health_status(method="GET")
print(json.dumps(urllib.request.getproxies()))
"""


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "kept", "direct"),
    [
        ("no_proxy", "example.com", "example.com,localhost,127.0.0.1"),
        ("NO_PROXY", "example.com", "example.com,localhost,127.0.0.1"),
        ("no_proxy", "", "localhost,127.0.0.1"),
    ],
)
def test_loopback_is_asked_directly(name: str, kept: str, direct: str) -> None:
    proxies = {key: NOWHERE for scheme in ("http", "https") for key in (f"{scheme}_proxy", f"{scheme}_PROXY".upper())}
    own = {key: value for key, value in os.environ.items() if key.lower() != "no_proxy"}
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            done = subprocess.run(
                [sys.executable, "-c", ASK, f"http://127.0.0.1:{server.server_port}"],
                env={**own, **proxies, name: kept},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        finally:
            server.shutdown()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["https"], found["no"]) == (NOWHERE, direct)
